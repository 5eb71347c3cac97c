"""ECV_MULTITHERMAL and ECV_LINEAR: states whose reduced energies are multiples of one value.

How many there are is chosen from how fast the effective sample size falls with the factor:
Invernizzi, Piaggi, Parrinello, doi 10.1103/PhysRevX.10.041034.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from openmm_cgan.plumed.actions.action import Given, Keyword
from openmm_cgan.plumed.actions.expanded.expansions import (
    EXPANSION_KEYWORDS,
    MAX_STATES,
    Expansion,
)

log = logging.getLogger("openmm_cgan")

KB_PLUMED = 0.0083144621  # kJ/mol/K, as PLUMED turns temperatures into energies
TOLERANCE = 1e-4  # of half the sample size, in what is chosen


class LinearExpansion(Expansion):
    """States ``u_k = factor_k * value``.

    Attributes
    ----------
    word : str
        What the keywords begin with.
    geometric : bool
        Whether the states are spaced evenly in the logarithm.
    """

    word = ""
    geometric: bool

    def __init__(self, given: Given) -> None:
        super().__init__(given)
        if len(self.arguments) != 1:
            raise self.error("ARG", "expected one value")
        options, word = given.options, self.word
        self._all: tuple[float, ...] | None = options[f"{word}_SET_ALL"]
        self._ends: list[float | None] = [options[f"{word}_MIN"], options[f"{word}_MAX"]]
        self._number: int = options[f"{word}_STEPS"] or 0
        if self._all is not None:
            if self._number or self._ends != [None, None]:
                raise self.error(f"{word}_SET_ALL", f"is given with {word}_MIN, _MAX or _STEPS")
            if len(self._all) < 2 or list(self._all) != sorted(self._all):
                raise self.error(f"{word}_SET_ALL", "expected two numbers or more, ascending")
        if not 0 <= self._number <= MAX_STATES:
            raise self.error(f"{word}_STEPS", f"expected 1 to {MAX_STATES}")
        self._factors: np.ndarray | None = None
        self._limits = (math.nan, math.nan)

    def _parameters(self, kt: float) -> tuple[float, float]:
        """What a state is told by in the run itself, and in a state that has no interaction."""
        raise NotImplementedError

    def _factor(self, number: float) -> float:
        """The factor of the state that a number of the input tells."""
        raise NotImplementedError

    def _name(self, factor: float) -> float:
        """The number that tells a state."""
        raise NotImplementedError

    def _settle(self, lowest: float, highest: float, shift: float) -> None:
        """Fix the states, or between which factors they are to be chosen.

        Parameters
        ----------
        lowest, highest : float
            Where no limits are given.
        shift : float
            Added to the factors where they are spaced evenly in the logarithm.
        """
        self._shift, self._factors = shift, None
        if self._all is not None:
            self._factors = np.array([self._factor(x) for x in self._all])
            return
        ends = [
            default if x is None else x
            for x, default in zip(self._ends, (lowest, highest), strict=True)
        ]
        if ends[0] > ends[1]:
            raise ValueError(self._told(f"{self.word}_MAX is below {self.word}_MIN"))
        self._limits = self._factor(ends[0]), self._factor(ends[1])
        if self._number or ends[0] == ends[1]:
            self._factors = self._spaced(self._number or 1)

    def _told(self, what: str) -> str:
        return f"{self.statement.location}: {self.name} {self.label}: {what}"

    def _spaced(self, number: int) -> np.ndarray:
        shift = self._shift if self.geometric else None
        return spaced(*self._limits, number, shift, self._told(""))

    @property
    def names(self) -> list[str] | None:
        return None if self._factors is None else [f"{self._name(x):g}" for x in self._factors]

    def choose(self, observed: np.ndarray) -> None:
        if self._factors is None:
            number = number_of_states(*self._limits, observed[:, 0], self._told(""))
            self._factors = self._spaced(min(number, MAX_STATES))
            log.info("%s", self._told(f"{len(self._factors)} states"))

    def choose_number(self, number: int) -> None:
        if self._factors is None:
            self._factors = self._spaced(number)

    def reduced(self, arguments: Sequence[Any]) -> list[Any]:
        assert self._factors is not None
        return [np.asarray(arguments[0], dtype=float)[..., None] * self._factors]

    def reduced_slopes(self, arguments: Sequence[float]) -> list[np.ndarray]:
        assert self._factors is not None
        return [self._factors]


class EcvMultithermal(LinearExpansion):
    """Temperatures: the factor of the potential energy is ``1 / kT_k - 1 / kT``."""

    name = "ECV_MULTITHERMAL"
    summary = "temperatures, for OPES_EXPANDED"
    word = "TEMP"
    keywords = (
        *EXPANSION_KEYWORDS,
        Keyword("TEMP_MIN", "real", "lowest temperature in K; that of the run if absent"),
        Keyword("TEMP_MAX", "real", "highest temperature in K; that of the run if absent"),
        Keyword("TEMP_STEPS", "integer", "how many; as many as are needed if absent"),
        Keyword("TEMP_SET_ALL", "numbers", "all temperatures"),
        Keyword("NO_GEOM_SPACING", "flag", "evenly in the inverse, not in the logarithm"),
    )

    def __init__(self, given: Given) -> None:
        super().__init__(given)
        self.geometric = not given.options["NO_GEOM_SPACING"]
        if self._all is None and self._ends == [None, None]:
            raise self.error("TEMP_MIN", "give TEMP_MIN, TEMP_MAX or both, or TEMP_SET_ALL")
        if any(x is not None and x <= 0 for x in (*self._ends, *(self._all or ()))):
            raise self.error("TEMP_MIN", "temperatures must be positive")

    def start(self, kt: float) -> None:
        k = self.units.energy if self.units.natural else KB_PLUMED
        self._kt, self._temp = kt, kt * self.units.energy / k
        self._settle(self._temp, self._temp, 1 / kt)
        known = [x for x in (*self._ends, *(self._all or ())) if x is not None]
        if not 0.999 * min(known) <= self._temp <= 1.001 * max(known) and len(known) > 1:
            log.warning("%s", self._told(f"the run's {self._temp:g} K is outside its temperatures"))

    def _factor(self, number: float) -> float:
        return (self._temp / number - 1) / self._kt

    def _name(self, factor: float) -> float:
        return self._temp / (factor * self._kt + 1)


class EcvLinear(LinearExpansion):
    """Multiples of a difference of energies: the factor is ``(lambda_k - lambda) / kT``."""

    name = "ECV_LINEAR"
    summary = "multiples of a value, for OPES_EXPANDED"
    word = "LAMBDA"
    keywords = (
        *EXPANSION_KEYWORDS,
        Keyword("LAMBDA", "real", "that of the run", default=0.0),
        Keyword("LAMBDA_MIN", "real", "the least; 0 if absent"),
        Keyword("LAMBDA_MAX", "real", "the largest; 1 if absent"),
        Keyword("LAMBDA_STEPS", "integer", "how many; as many as are needed if absent"),
        Keyword("LAMBDA_SET_ALL", "numbers", "all"),
        Keyword("DIMENSIONLESS", "flag", "the value is no energy, and not over kT"),
        Keyword("GEOM_SPACING", "flag", "evenly in the logarithm"),
    )

    def __init__(self, given: Given) -> None:
        super().__init__(given)
        self.geometric = given.options["GEOM_SPACING"]
        self._own: float = given.options["LAMBDA"]
        self._is_plain: bool = given.options["DIMENSIONLESS"]

    def start(self, kt: float) -> None:
        self._beta = 1.0 if self._is_plain else 1 / kt
        self._settle(0.0, 1.0, self._beta * self._own)

    def _factor(self, number: float) -> float:
        return self._beta * (number - self._own)

    def _name(self, factor: float) -> float:
        return factor / self._beta + self._own


def spaced(first: float, last: float, number: int, shift: float | None, who: str) -> np.ndarray:
    """Numbers from one to another.

    Parameters
    ----------
    first, last : float
    number : int
        Of them; one alone is in the middle.
    shift : float or None
        Added to them where they are even in the logarithm; None where they are even.
    who : str
        For messages.

    Returns
    -------
    ndarray, shape (number,)
    """
    if number == 1:
        log.warning("%sone state only", who)
        return np.array([(first + last) / 2])
    if first == last:
        raise ValueError(f"{who}several steps between equal limits")
    if shift is None:
        return np.array([first + k * (last - first) / (number - 1) for k in range(number)])
    if min(first, last) + shift <= 0:
        raise ValueError(f"{who}its limits can not be spaced geometrically")
    low, high = (math.log(x + shift) for x in (first, last))
    steps = (low + k * (high - low) / (number - 1) for k in range(number))
    return np.array([math.exp(x) - shift for x in steps])


def number_of_states(first: float, last: float, observed: np.ndarray, who: str) -> int:
    """How many states between two factors have enough frames in common.

    Parameters
    ----------
    first, last : float
        The factors.
    observed : ndarray, shape (n,)
        The value that they multiply, in a run with factor 0.
    who : str
        For messages.

    Returns
    -------
    int
    """
    left, right = (0.0 if side == 0 else _half_width(side, observed) for side in (first, last))
    if left == 0:
        right *= 2
    if right == 0:
        left *= 2
    spacing = left + right
    number = math.ceil(abs(last - first) / spacing) if spacing else 2
    if number < 2:
        log.warning("%sits range is narrow: its limits are the only states", who)
    return max(number, 2)


def _half_width(side: float, observed: np.ndarray) -> float:
    """The factor at which half of the frames count, towards `side`; 0 where more do there."""

    def above_half(factor: float) -> float:
        shift = observed.max() if factor < 0 else observed.min()
        weights = np.exp(-factor * (observed - shift))
        return float(weights.sum() ** 2 / (weights * weights).sum() / len(observed) - 0.5)

    a, f_a, b, f_b = 0.0, 0.5, side, above_half(side)
    if f_b >= 0:
        return 0.0
    if b < 0:
        a, f_a, b, f_b = b, f_b, a, f_a
    c, f_c = a, f_a
    while abs(f_c) > TOLERANCE:  # regula falsi, as PLUMED has it: the number is to be the same
        if f_a * f_c > 0:
            a, f_a = c, f_c
        else:
            b, f_b = c, f_c
        c = (a * f_b - b * f_a) / (f_b - f_a)
        f_c = above_half(c)
    return abs(c)
