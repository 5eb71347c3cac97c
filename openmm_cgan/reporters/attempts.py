"""What was tried: one row of a CSV file for each configuration proposed to a simulation."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from openmm_cgan.plumed.colvar import CollectiveVariable

ACCEPTED = "accepted"


@dataclass(frozen=True)
class Attempt:
    """One proposal, from its target to its end.

    Attributes
    ----------
    target, generated, healed : ndarray, shape (n_cvs,)
        CVs asked for, of the candidate that was chosen, and of what healing made of it; NaN where
        it did not come so far.
    energy_before, energy_after : float
        Potential energy without the bias, before and after healing [kJ/mol], or NaN.
    reason : str
        Why it was refused, empty if it passed.
    positions : ndarray, shape (n_atoms, 3), or None
        The whole system, healed [nm], if it passed.
    """

    target: NDArray
    generated: NDArray
    healed: NDArray
    energy_before: float = np.nan
    energy_after: float = np.nan
    reason: str = ""
    positions: NDArray | None = None


class AttemptTable:
    """A CSV file of attempts, each row on disk at once.

    Columns: step, time [ps], the CVs asked for, generated and healed (``phi_target`` ...), the
    energies before and after healing [kJ/mol], accepted (0 or 1), reason, seed, mode, and the
    number of the segment that the frames after the attempt belong to.

    Parameters
    ----------
    path : str or Path
    variables : sequence of CollectiveVariable
    append : bool
        Add to an earlier file, which must have the same columns.

    Raises
    ------
    ValueError
        If the earlier file has other columns.
    """

    def __init__(
        self, path: str | Path, variables: Sequence[CollectiveVariable], append: bool = False
    ) -> None:
        path = Path(path)
        stages = ("target", "generated", "healed")
        columns = ["step", "time"]
        columns += [f"{variable.name}_{stage}" for stage in stages for variable in variables]
        columns += ["energy_before", "energy_after", ACCEPTED, "reason", "seed", "mode", "segment"]
        begun = append and path.exists() and path.stat().st_size > 0
        if begun:
            _require_columns(path, ",".join(columns))
        self._file = path.open("a" if append else "w", newline="")
        self._rows = csv.writer(self._file, lineterminator="\n")
        if not begun:
            self._rows.writerow(columns)
            self._file.flush()

    def __del__(self) -> None:
        if hasattr(self, "_file"):
            self._file.close()

    def write(
        self, step: int, time: float, attempt: Attempt, seed: int, mode: str, segment: int
    ) -> None:
        """Add a row."""
        numbers = [time, *attempt.target, *attempt.generated, *attempt.healed]
        numbers += [attempt.energy_before, attempt.energy_after]
        row = [step, *(repr(float(number)) for number in numbers)]
        row += [int(not attempt.reason), attempt.reason, seed, mode, segment]
        self._rows.writerow(row)
        self._file.flush()


def _require_columns(path: Path, expected: str) -> None:
    with path.open() as file:
        found = file.readline().rstrip("\n")
    if found != expected:
        raise ValueError(
            f"{path} has the columns {found}; expected {expected} to append to it: give another "
            "file, or append=False to overwrite it"
        )
