"""METAD's ACCELERATION: how much faster than without bias the run goes, by its own bias.

Tiwary, Parrinello, doi 10.1103/PhysRevLett.111.230602.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np

from openmm_cgan.plumed.actions.action import Keyword
from openmm_cgan.plumed.actions.biases import take
from openmm_cgan.plumed.colvar import read_tables

ACCELERATION_KEYWORDS = (
    Keyword("ACCELERATION", "flag", "mean of exp(bias / kT) over all steps as acc"),
    Keyword("ACCELERATION_RFILE", "text", "a COLVAR file whose last row has acc so far"),
)
_LARGEST = 709.0  # whose exponential is a number


class Acceleration:
    """The mean of ``exp(bias / kT)`` over all steps from the first.

    Attributes
    ----------
    step : int
        Where the run is.
    """

    def __init__(self, file: str | None) -> None:
        self.file = file
        self.step = 0
        self._mean = 1.0  # as it is shown
        self._before = 0.0  # that an earlier run has left
        self._sum: float | None = None  # over the steps before
        self._counted = -1  # the last step in the sum

    def begin(self, directory: Path, label: str) -> None:
        """Read what an earlier run has left, if there is a file to.

        Raises
        ------
        FileNotFoundError, ValueError
            If it is not there, or has no such column.
        """
        if self.file is None:
            return
        path, name = directory / self.file, f"{label}.acc"
        rows = [t for t in read_tables(path) if len(t)]
        if not rows or name not in rows[-1].columns:
            raise ValueError(f"{path} has no row with {name} for ACCELERATION_RFILE")
        self._mean = self._before = float(rows[-1].columns[name][-1])

    def value(self, bias: Any, kt: float | None) -> Any:
        """The mean with this step's bias."""
        if self._sum is None or self.step <= self._counted or not isinstance(bias, float):
            return self._mean + 0 * bias
        assert kt is not None
        return (self._sum + _boost(bias, kt)) / self.step

    def follow(self, bias: float, kt: float, first: bool) -> None:
        """Count this step; the first of a run is not counted."""
        if first:
            self._sum = self._before * self.step
        else:
            earlier = self._before * (self.step - 1) if self._sum is None else self._sum
            self._sum = earlier + _boost(bias, kt)
            self._mean = self._sum / self.step
        self._counted = self.step

    def saved(self) -> dict[str, np.ndarray]:
        """What there is to be saved with a checkpoint."""
        total = math.nan if self._sum is None else self._sum
        numbers = (self._mean, self._before, total, self._counted)
        return {"acceleration": np.array(numbers, dtype=float)}

    def restore_saved(self, arrays: dict[str, np.ndarray]) -> None:
        """Take over what `saved` gave."""
        numbers = take(arrays, "acceleration", (4,)).tolist()
        self._mean, self._before, total, counted = numbers
        self._sum, self._counted = None if math.isnan(total) else total, int(counted)


def _boost(bias: float, kt: float) -> float:
    return math.exp(bias / kt) if bias < _LARGEST * kt else math.inf
