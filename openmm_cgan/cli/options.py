"""Options that several commands share: their types, and what is read from their text."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
NEW = click.Path(path_type=Path)
THERE = click.Path(exists=True, path_type=Path)
CONSTRAINTS = click.Choice(["None", "HBonds", "AllBonds", "HAngles"])
BACKENDS = click.Choice(["auto", "native", "kernel", "plugin"])


def read_pdb(path: Path) -> Any:
    """A PDB file as OpenMM reads it."""
    from openmm.app import PDBFile

    return PDBFile(str(path))


def set_threads(number: int) -> None:
    """Threads of torch: in networks this small they mostly wait for each other."""
    import torch

    torch.set_num_threads(number)


def require_parent(*paths: Path | None) -> None:
    """Fail before the work is done, not after it."""
    for path in paths:
        if path is not None and not path.absolute().parent.is_dir():
            raise FileNotFoundError(f"{path}: there is no folder {path.absolute().parent}")


def cv_values(text: str, names: Sequence[str]) -> list[float]:
    """Read ``phi=1.0,psi=-0.5`` into the order of the names."""
    try:
        given = {k.strip(): float(v) for k, v in (word.split("=") for word in text.split(","))}
    except ValueError:
        given = {}
    if sorted(given) != sorted(names):
        example = ",".join(f"{name}=1.0" for name in names)
        raise ValueError(f"--at {text!r}: expected a number for each CV, such as {example}")
    return [given[name] for name in names]


def interval(text: str) -> tuple[float, float]:
    """Read ``0,2.3``: both ends of an interval."""
    try:
        lower, upper = (float(word) for word in text.split(","))
    except ValueError:
        raise ValueError(f"--basin {text!r}: expected LOWER,UPPER, such as 0,2.3") from None
    return lower, upper
