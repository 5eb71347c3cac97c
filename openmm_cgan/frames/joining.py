"""What frames share that are to be taken together, and what each of them keeps."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

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


def require_own_frames(parts: Sequence[Any], names: Sequence[str | Path]) -> None:
    """Refuse Frames that stand twice: those of a copy of a file, or of a run gone on with twice.

    Raises
    ------
    ValueError
        Naming both. Of one frame nothing is said, nor where no number differs between frames.
    """
    found: dict[bytes, str | Path] = {}
    for part, name in zip(parts, names, strict=True):
        values = np.column_stack([part.cvs, part.bias])
        if len(part) < 2 or (values == values[0]).all():
            continue
        one = found.setdefault(part.step.tobytes() + values.tobytes(), name)
        if one != name:
            raise ValueError(
                f"{one} and {name} hold the same {len(part)} frames, of a run that was copied or "
                "gone on with twice: they would count twice; give one of them"
            )


def require_alike(first: Any, other: Any) -> None:
    """Raise ValueError where two Frames differ in what those of one array share."""
    pairs = {
        "CVs": (first.variables, other.variables),
        "atoms": (first.atoms.tolist(), other.atoms.tolist()),
        "temperature": (first.temperature, other.temperature),
        "topology": (first.topology_hash, other.topology_hash),
        "periodicity": (first.box is None, other.box is None),
    }
    for what, (one, two) in pairs.items():
        if one != two:
            apart = "read them apart"
            if what == "temperature":
                kelvins = two if one is None else one
                apart += (
                    f": read_frames(..., temperature={kelvins:g}), or --temperature {kelvins:g} of "
                    "train, free-energy and windows"
                )
            raise ValueError(f"the frames differ in {what}: {one} and {two}; {apart}")


def joined_timesteps(
    parts: Sequence[tuple[int, float | NDArray[np.float64] | None]],
) -> float | NDArray[np.float64] | None:
    """The time step of parts, each a number of frames and its own: of each frame where they differ.

    It is NaN for frames of a part that does not know it.
    """
    known = [(n, np.nan if step is None else step) for n, step in parts]
    steps = np.concatenate([np.broadcast_to(step, n) for n, step in known])
    if len(steps) == 0 or np.isnan(steps).all():
        return None
    return float(steps[0]) if (steps == steps[0]).all() else steps
