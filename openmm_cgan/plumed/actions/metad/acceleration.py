"""METAD's ACCELERATION: how much faster than without bias the run goes, by its own bias.

Tiwary, Parrinello, doi 10.1103/PhysRevLett.111.230602. FREQUENCY_ADAPTIVE: Wang, Valsson, Tiwary,
Parrinello, Lindorff-Larsen, doi 10.1063/1.5024679.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from openmm_cgan.checkpoints import saved_array
from openmm_cgan.plumed.actions.action import Given, Keyword
from openmm_cgan.plumed.files.fields import read_tables

ACCELERATION_KEYWORDS = (
    Keyword("ACCELERATION", "flag", "mean of exp(bias / kT) over all steps as acc"),
    Keyword("ACCELERATION_RFILE", "text", "a COLVAR file whose last row has acc so far"),
    Keyword(
        "FREQUENCY_ADAPTIVE", "flag", "hills rarer as acc grows, every PACE * acc / least steps"
    ),
    Keyword("FA_UPDATE_FREQUENCY", "integer", "steps between looking at acc; by default PACE"),
    Keyword("FA_MAX_PACE", "integer", "most steps between hills"),
    Keyword("FA_MIN_ACCELERATION", "real", "least acc from which on hills get rarer; by default 1"),
)
_LARGEST = 709.0  # whose exponential is a number
_MOST_TIMES = 1e6  # that PACE grows


@dataclass(frozen=True)
class PaceOptions:
    """How hills get rarer.

    Attributes
    ----------
    pace : int
        Steps between hills at first.
    every : int
        Steps between looking at the acceleration.
    highest : int
        Most steps between hills; 0 for no limit.
    least : float
        Acceleration from which on they get rarer.
    """

    pace: int
    every: int
    highest: int
    least: float


@dataclass(frozen=True)
class AccelerationOptions:
    """What a METAD says about its acceleration.

    Attributes
    ----------
    file : str or None
        A COLVAR file whose last row has the acceleration so far.
    pacing : PaceOptions or None
        With FREQUENCY_ADAPTIVE.
    """

    file: str | None
    pacing: PaceOptions | None


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
        rows[-1].require_finite([name])
        self._mean = self._before = float(rows[-1].columns[name][-1])

    def value(self, bias: Any, kt: float | None) -> Any:
        """The mean with this step's bias.

        Parameters
        ----------
        bias : float or ndarray, shape (...)
            [energy unit of the input]; a batch has no step, and is given the mean as it is.
        kt : float or None
            [energy unit of the input]

        Returns
        -------
        float or ndarray, shape (...)
        """
        if self._sum is None or self.step <= self._counted or not isinstance(bias, float):
            return self._mean + 0 * bias
        assert kt is not None
        return (self._sum + _boost(bias, kt)) / self.step

    @property
    def so_far(self) -> float:
        """The mean as it is counted, which is nothing at first."""
        return (self._sum or 0.0) / self.step if self.step else 0.0

    def accumulate(self, bias: float, kt: float, first: bool) -> bool:
        """Count this step, but not the first of a run; return whether it goes on from a file."""
        goes_on = self._before > 0 and (first or self._sum is None)
        if first:
            self._sum = self._before * self.step
        else:
            earlier = self._before * (self.step - 1) if self._sum is None else self._sum
            self._sum = earlier + _boost(bias, kt)
            self._mean = self._sum / self.step
        self._counted = self.step
        return goes_on

    def saved(self) -> dict[str, np.ndarray]:
        """For a checkpoint: ``acceleration``, shape (4,).

        The mean as it is shown, that of an earlier run, the sum over the steps (NaN where none is
        begun) and the last step in it.
        """
        total = math.nan if self._sum is None else self._sum
        numbers = (self._mean, self._before, total, self._counted)
        return {"acceleration": np.array(numbers, dtype=float)}

    def restore_saved(self, arrays: dict[str, np.ndarray]) -> None:
        """Take over what `saved` gave, of shape (4,)."""
        numbers = saved_array(arrays, "acceleration", (4,)).tolist()
        self._mean, self._before, total, counted = numbers
        self._sum, self._counted = None if math.isnan(total) else total, int(counted)


def _boost(bias: float, kt: float) -> float:
    return math.exp(bias / kt) if bias < _LARGEST * kt else math.inf


class AdaptivePace:
    """Steps between hills, which grow with the acceleration.

    Attributes
    ----------
    pace : int
        Now.
    every : int
        Steps between looking at the acceleration.
    """

    def __init__(self, options: PaceOptions) -> None:
        self.pace, self.every = options.pace, options.every
        self._options = options

    def update(self, mean: float) -> None:
        """Take an acceleration."""
        times = math.floor(min(mean / self._options.least, _MOST_TIMES) + 0.5)
        self.pace = max(self.pace, self._options.pace * times)
        if self._options.highest:
            self.pace = min(self.pace, self._options.highest)

    def saved(self) -> dict[str, np.ndarray]:
        """For a checkpoint: ``pace``, shape () [steps]."""
        return {"pace": np.array(self.pace)}

    def restore_saved(self, arrays: dict[str, np.ndarray]) -> None:
        """Take over what `saved` gave, of shape ()."""
        self.pace = max(1, int(saved_array(arrays, "pace", ())))


def read_acceleration(given: Given) -> AccelerationOptions | None:
    """What a METAD says about its acceleration; None where it says nothing.

    Raises
    ------
    PlumedInputError
        If a number is wrong, or the keywords do not go together.
    """
    options = given.options
    words = ("FA_UPDATE_FREQUENCY", "FA_MAX_PACE", "FA_MIN_ACCELERATION")
    if not options["FREQUENCY_ADAPTIVE"]:
        for word in (word for word in words if options[word] is not None):
            raise given.error(word, "needs FREQUENCY_ADAPTIVE")
    if not options["ACCELERATION"]:
        for word in ("ACCELERATION_RFILE", "FREQUENCY_ADAPTIVE"):
            if options[word]:
                raise given.error(word, "needs ACCELERATION")
        return None
    file = options["ACCELERATION_RFILE"]
    if not options["FREQUENCY_ADAPTIVE"]:
        return AccelerationOptions(file, None)
    if options["ADAPTIVE"] == "GEOM":
        raise given.not_native("FREQUENCY_ADAPTIVE", "with ADAPTIVE=GEOM is not native")
    every, highest, least = (options[word] for word in words)
    for word, number in zip(words, (every, highest, least), strict=True):
        if number is not None and not number > 0:
            raise given.error(word, "must be positive")
    pace = options["PACE"]
    pacing = PaceOptions(pace, every or pace, highest or 0, 1.0 if least is None else least)
    return AccelerationOptions(file, pacing)
