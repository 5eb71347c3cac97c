"""Of which Systems frames are that are to be taken together."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

logger = logging.getLogger("openmm_cgan")


class OfSystem(Protocol):
    """What says of which System it is, as Frames do; empty where that is not known."""

    @property
    def topology_hash(self) -> str:
        """Of the whole topology."""

    @property
    def system_hash(self) -> str:
        """Of the System, its biases apart."""


def tell_of_systems(parts: Sequence[OfSystem], names: Sequence[str | Path]) -> None:
    """Warn where what is to be taken together is known to be of more than one System.

    Windows that were solvated one by one may be joined all the same; runs of two molecules, or of
    two force fields, together tell of neither.

    Parameters
    ----------
    parts : sequence of Frames
    names : sequence of str or Path
        What each is called.
    """
    kinds = {
        "topologies": [part.topology_hash for part in parts],
        "Systems": [part.system_hash for part in parts],
    }
    for what, hashes in kinds.items():
        # by how hashes were made: one way says nothing of another
        made: dict[str, dict[str, str | Path]] = {}
        for own, name in zip(hashes, names, strict=True):
            if own:
                made.setdefault(own.rpartition(":")[0], {}).setdefault(own, name)
        first = max(made.values(), key=len, default={})
        if len(first) > 1:
            one, two = list(first.values())[:2]
            logger.warning(
                "frames of %d %s are taken together (of %s, %s%s): where molecules, force fields, "
                "constraints or barostats differ, what is made of them belongs to none",
                len(first), what, one, two, " ..." if len(first) > 2 else "",
            )  # fmt: skip
            return
