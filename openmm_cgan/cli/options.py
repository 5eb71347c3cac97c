"""Options that several commands share: their types, and what is read from their text."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import click

FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
NEW = click.Path(path_type=Path)
THERE = click.Path(exists=True, path_type=Path)
ATOMS = "A selection of MDAnalysis ('protein', 'resname LIG', 'all'), the atoms to"
CONSTRAINTS = click.Choice(["None", "HBonds", "AllBonds", "HAngles"])
BACKENDS = click.Choice(["auto", "native", "kernel", "plugin"])


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
        words = [word.split("=") for word in text.split(",")]
        given = [(name.strip(), float(value)) for name, value in words]
    except ValueError:
        given = []
    # sorted, not as a dict: of a CV that is given twice neither value counts
    if sorted(name for name, _ in given) != sorted(names):
        example = ",".join(f"{name}=1.0" for name in names)
        raise ValueError(f"--at {text!r}: expected one number for each CV, such as {example}")
    return [dict(given)[name] for name in names]


def cv_names(text: str) -> list[str]:
    """Read ``phi`` or ``phi,psi``: one or two CVs."""
    names = [name.strip() for name in text.split(",")]
    if not all(names) or len(set(names)) != len(names) or len(names) > 2:
        raise ValueError(f"--cv {text!r}: expected one name, or two different ones as in phi,psi")
    return names


def interval(text: str) -> tuple[float, float]:
    """Read ``0,2.3``: both ends of an interval."""
    try:
        lower, upper = (float(word) for word in text.split(","))
    except ValueError:
        lower = upper = math.nan
    if not lower < upper:
        raise ValueError(f"--basin {text!r}: expected LOWER,UPPER, such as 0,2.3")
    return lower, upper
