"""What was tried: one row of a CSV file for each configuration proposed to a simulation."""

from __future__ import annotations

import csv
import io
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

import numpy as np
from numpy.typing import NDArray

from openmm_cgan.atomic_files import (
    WholeWrites,
    flush_to_disk,
    open_special,
    replaceable,
    require_writable,
)
from openmm_cgan.checkpoints import cut_to
from openmm_cgan.claims import Claim
from openmm_cgan.plumed.files.contents import cut_half_row
from openmm_cgan.plumed.files.fields import back_up
from openmm_cgan.short_reprs import short_repr

if TYPE_CHECKING:
    from openmm_cgan.collective_variable import CollectiveVariable

log = logging.getLogger("openmm_cgan")

ACCEPTED = "accepted"
ENERGY_NOT_FINITE = "energy not finite"


@dataclass(frozen=True)
class Candidates:
    """The configurations among which an attempt chose.

    Attributes
    ----------
    generated : int
        How many there were.
    refused : dict of str to int
        Those refused, by reason.
    energies : int
        Potential energies evaluated, of annealed moves with forces; of local moves those of the
        whole System, where a quick one weighs. Healing is not counted.
    effective_sample_size : float
        Kish's, of their importance weights; NaN where they have none (seeds).
    largest_weight : float
        The largest of these weights over their sum.
    """

    generated: int = 0
    refused: dict[str, int] = field(default_factory=dict)
    energies: int = 0
    effective_sample_size: float = np.nan
    largest_weight: float = np.nan


@dataclass(frozen=True, repr=False)
class Attempt:
    """One proposal, from its target to its end.

    Attributes
    ----------
    target, generated, healed : ndarray, shape (n_cvs,)
        CVs asked for, of the configuration that was chosen, and of what healing made of it; NaN
        where it did not come so far. An exact move heals nothing, and may choose the current
        configuration.
    energy_before, energy_after : float
        Potential energy of it without the bias, before and after healing [kJ/mol], or NaN.
    reason : str
        Why it was refused, empty if it passed.
    positions : ndarray, shape (n_atoms, 3), or None
        The whole system, healed [nm], if it passed.
    candidates : Candidates
    velocities : ndarray, shape (n_atoms, 3), or None
        Those that belong to the positions [nm/ps]; None: to be drawn for all atoms.
    """

    target: NDArray
    generated: NDArray
    healed: NDArray
    energy_before: float = np.nan
    energy_after: float = np.nan
    reason: str = ""
    positions: NDArray | None = None
    candidates: Candidates = Candidates()
    velocities: NDArray | None = None

    __repr__ = short_repr


class AttemptTable:
    """A CSV file of attempts, each row on disk at once.

    Columns: step, time [ps], the CVs asked for, generated and healed (``phi_target`` ...), the
    energies before and after healing [kJ/mol], accepted (0 or 1), reason, seed, mode, the
    number of the segment that the frames after the attempt belong to, and of its candidates how
    many were generated and ``refused`` ("chirality 2; clash 1"), the energies evaluated, the
    effective sample size and the largest of their weights (NaN in mode seed).

    Parameters
    ----------
    path : str or Path
    variables : sequence of CollectiveVariable
    append : bool
        Add to an earlier file, which must have the same columns; a half row at its end, which a
        kill leaves, is cut off. If False, a file that is there becomes ``bck.N.name``.

    Raises
    ------
    ValueError
        If the earlier file has other columns.
    RuntimeError
        If another process is writing to it.
    """

    _file: TextIO | None = None  # until it is open

    def __init__(
        self, path: str | Path, variables: Sequence[CollectiveVariable], append: bool = False
    ) -> None:
        self.path = path = Path(path).absolute()  # a script may change its folder
        require_writable(path)
        stages = ("target", "generated", "healed")
        columns = ["step", "time"]
        columns += [f"{variable.name}_{stage}" for stage in stages for variable in variables]
        columns += ["energy_before", "energy_after", ACCEPTED, "reason", "seed", "mode", "segment"]
        columns += ["candidates", "refused", "energies", "effective_sample_size", "largest_weight"]
        before = Claim(path)  # neither cut nor renamed while another process writes to it
        begun = append and path.exists() and path.stat().st_size > 0
        if begun:
            _require_columns(path, ",".join(columns))
            cut_half_row(path)
        elif not append:
            back_up(path)
        self._file = file = (
            io.TextIOWrapper(WholeWrites(path, "ab"), newline="")
            if replaceable(path)
            else io.TextIOWrapper(open_special(path), newline="")
        )
        self._claim = Claim(path)
        before.release()
        self._rows, self._flush = csv.writer(file, lineterminator="\n"), file.flush
        if not begun:
            self._rows.writerow(columns)
            self._flush()

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()
            self._claim.release()

    __del__ = close

    def write(
        self, step: int, time: float, attempt: Attempt, seed: int, mode: str, segment: int
    ) -> None:
        """Add a row."""
        numbers = [time, *attempt.target, *attempt.generated, *attempt.healed]
        numbers += [attempt.energy_before, attempt.energy_after]
        row = [step, *(repr(float(number)) for number in numbers)]
        row += [int(not attempt.reason), attempt.reason, seed, mode, segment]
        made = attempt.candidates
        refused = "; ".join(f"{reason} {n}" for reason, n in sorted(made.refused.items()))
        row += [made.generated, refused, made.energies]
        row += [f"{made.effective_sample_size:.4g}", f"{made.largest_weight:.4g}"]
        self._rows.writerow(row)
        self._flush()

    def length(self) -> int:
        """Its bytes, all on the disk."""
        self._flush()
        return flush_to_disk(self.path)

    def cut(self, length: int) -> None:
        """Leave out what is behind a length [bytes]."""
        self._flush()
        cut_to(self.path, length)

    def cut_after(self, step: int) -> None:
        """Set rows aside that are later than a step: a run goes on from an earlier one."""
        self._flush()
        with self.path.open("rb") as file:
            lines = file.readlines()
        steps = [self._step_of(n, line) for n, line in enumerate(lines[1:], start=2)]
        kept = lines[:1] + [line for n, line in zip(steps, lines[1:], strict=True) if n <= step]
        if len(kept) == len(lines):
            return
        copy = self.path.with_name(f"later.{self.path.name}")
        back_up(copy)
        copy.write_bytes(b"".join(lines))
        self.cut(len(b"".join(kept)))
        log.warning(
            "%s: %d rows later than step %d are left out, all are in %s",
            self.path, len(lines) - len(kept), step, copy,
        )  # fmt: skip

    def _step_of(self, number: int, line: bytes) -> int:
        """The step of a row, given the number of its line."""
        word = line.split(b",")[0]
        if not word.isdigit():
            raise ValueError(f"{self.path}:{number}: {word!r} is no step: mend or move the file")
        return int(word)


def _require_columns(path: Path, expected: str) -> None:
    with path.open(encoding="utf-8", errors="replace") as file:
        found = file.readline().rstrip("\n")
    if found != expected:
        raise ValueError(
            f"{path} has the columns {found}; expected {expected} to append to it: give another "
            "file, or append=False to overwrite it"
        )
