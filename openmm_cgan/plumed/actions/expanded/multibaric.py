"""ECV_MULTITHERMAL_MULTIBARIC: temperatures and pressures, for runs whose volume changes.

State k has ``u_k = (1 / kT_k - 1 / kT) E + (p_k / kT_k - p / kT) V``: Piaggi, Parrinello, doi
10.1103/PhysRevLett.122.050601; Invernizzi, Piaggi, Parrinello, doi 10.1103/PhysRevX.10.041034.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from openmm_cgan.plumed.actions.action import Given, Keyword
from openmm_cgan.plumed.actions.expanded.expansions import (
    EXPANSION_KEYWORDS,
    MAX_STATES,
    Expansion,
)
from openmm_cgan.plumed.actions.expanded.linear import KB_PLUMED, number_of_states, spaced
from openmm_cgan.plumed.input.words import read_real

_NUMBERS = ("TEMP_MIN", "TEMP_MAX", "PRESSURE_MIN", "PRESSURE_MAX")
_COUNTS = ("TEMP_STEPS", "PRESSURE_STEPS", "TEMP_SET_ALL", "PRESSURE_SET_ALL")
_CHOICES = (*_NUMBERS, *_COUNTS, "CUT_CORNER")


class EcvMultithermalMultibaric(Expansion):
    """A grid of temperatures and pressures, without a corner if asked, or points of both."""

    name = "ECV_MULTITHERMAL_MULTIBARIC"
    summary = "temperatures and pressures, for OPES_EXPANDED"
    keywords = (
        *EXPANSION_KEYWORDS,
        Keyword("PRESSURE", "real", "that of the run, energy over volume", compulsory=True),
        Keyword("TEMP_MIN", "real", "lowest temperature in K; that of the run if absent"),
        Keyword("TEMP_MAX", "real", "highest temperature in K; that of the run if absent"),
        Keyword("TEMP_STEPS", "integer", "how many; as many as are needed if absent"),
        Keyword("TEMP_SET_ALL", "numbers", "all temperatures"),
        Keyword("NO_GEOM_SPACING", "flag", "evenly in the inverse, not in the logarithm"),
        Keyword("PRESSURE_MIN", "real", "lowest pressure; that of the run if absent"),
        Keyword("PRESSURE_MAX", "real", "highest pressure; that of the run if absent"),
        Keyword("PRESSURE_STEPS", "integer", "how many; as many as are needed if absent"),
        Keyword("PRESSURE_SET_ALL", "numbers", "all pressures"),
        Keyword("CUT_CORNER", "numbers", "T1,p1,T2,p2: without what is hot and thin of that line"),
        Keyword("SET_ALL_TEMP_PRESSURE", "text", "all points: T_p,T_p,..."),
    )
    n_counts = 2

    def __init__(self, given: Given) -> None:
        super().__init__(given)
        options = self._options = given.options
        if len(self.arguments) != 2:
            raise self.error("ARG", "expected the energy and the volume")
        self._pressure: float = options["PRESSURE"]
        self._factors: np.ndarray | None = None  # 1 / kT_k - 1 / kT
        self._pressures: np.ndarray | None = None
        self._slopes: list[np.ndarray] = []  # of the states, once they are known
        text = options["SET_ALL_TEMP_PRESSURE"]
        self._points = None if text is None else self._read_points(text)
        if self._points is None:
            self._check()
        elif others := [word for word in _CHOICES if options[word] is not None]:
            raise self.error("SET_ALL_TEMP_PRESSURE", f"is given with {', '.join(others)}")

    def _read_points(self, text: str) -> list[tuple[str, float, float]]:
        found = []
        for word in re.split(r"[,\s]+", text.strip()):
            temperature, _, pressure = word.partition("_")
            try:
                found.append((word, read_real(temperature), read_real(pressure)))
            except ValueError:
                message = f"'{word}': expected a temperature and a pressure, 300_0.06"
                raise self.error("SET_ALL_TEMP_PRESSURE", message) from None
        if any(temperature <= 0 for _, temperature, _ in found) or len(found) > MAX_STATES:
            raise self.error("SET_ALL_TEMP_PRESSURE", "temperatures must be positive")
        return found

    def _check(self) -> None:
        options = self._options
        for word in ("TEMP", "PRESSURE"):
            chosen, number = options[f"{word}_SET_ALL"], options[f"{word}_STEPS"]
            ends = [options[f"{word}_MIN"], options[f"{word}_MAX"]]
            if chosen is not None and (number or ends != [None, None]):
                raise self.error(f"{word}_SET_ALL", f"is given with {word}_MIN, _MAX or _STEPS")
            if chosen is not None and (len(chosen) < 2 or list(chosen) != sorted(chosen)):
                raise self.error(f"{word}_SET_ALL", "expected two numbers or more, ascending")
            if number is not None and not 1 <= number <= MAX_STATES:
                raise self.error(f"{word}_STEPS", f"expected 1 to {MAX_STATES}")
        temperatures = (*(options["TEMP_SET_ALL"] or ()), options["TEMP_MIN"], options["TEMP_MAX"])
        if any(x is not None and x <= 0 for x in temperatures):
            raise self.error("TEMP_MIN", "temperatures must be positive")
        corner = options["CUT_CORNER"]
        if corner is not None and (
            len(corner) != 4 or not (corner[0] < corner[2] and corner[1] < corner[3])
        ):
            raise self.error("CUT_CORNER", "expected T1,p1,T2,p2 with T1 below T2, p1 below p2")

    # ---- the states

    def start(self, kt: float) -> None:
        self._k = (1.0 if self.units.natural else KB_PLUMED) / self.units.energy
        self._kt, self._temp = kt, kt / self._k
        self._factors, self._pressures, self._slopes = None, None, []
        if self._points is not None:
            self._factors = np.array([self._factor(t) for _, t, _ in self._points])
            return
        self._limits = {word: self._range(word) for word in ("TEMP", "PRESSURE")}
        self._take("TEMP", self._options["TEMP_STEPS"])
        self._take("PRESSURE", self._options["PRESSURE_STEPS"])
        self._require_corner_inside()

    def _factor(self, temperature: float) -> float:
        return (self._temp / temperature - 1) / self._kt

    def _range(self, word: str) -> tuple[float, float]:
        """The lowest and the highest temperature or pressure."""
        if (chosen := self._options[f"{word}_SET_ALL"]) is not None:
            return chosen[0], chosen[-1]
        own = self._temp if word == "TEMP" else self._pressure
        low, high = (self._options[f"{word}_{end}"] for end in ("MIN", "MAX"))
        low, high = own if low is None else low, own if high is None else high
        if low > high:
            raise ValueError(self._told(f"{word}_MAX is below {word}_MIN"))
        return low, high

    def _told(self, what: str) -> str:
        return f"{self.statement.location}: {self.name} {self.label}: {what}"

    def _take(self, word: str, number: int | None) -> None:
        """Take all temperatures or pressures, where it is known how many there are."""
        chosen, limits = self._options[f"{word}_SET_ALL"], self._limits[word]
        if word == "TEMP":
            factors = [self._factor(t) for t in chosen or limits]
            shift = None if self._options["NO_GEOM_SPACING"] else 1 / self._kt
        if chosen is None and limits[0] == limits[1] and not number:
            number = 1
        if chosen is None and not number:
            return
        if word == "PRESSURE":
            given = spaced(*limits, number or 0, None, self._told("")) if chosen is None else chosen
            self._pressures = np.array(given, dtype=float)
        elif chosen is not None:
            self._factors = np.array(factors)
        else:
            self._factors = spaced(factors[0], factors[1], number or 0, shift, self._told(""))

    def _require_corner_inside(self) -> None:
        if (corner := self._options["CUT_CORNER"]) is None:
            return
        (t0, t1), (p0, p1) = self._limits["TEMP"], self._limits["PRESSURE"]
        inside = t0 <= corner[0] and corner[2] <= t1 and p0 <= corner[1] and corner[3] <= p1
        if not inside or p1 < self._line(self._k * t1):
            raise ValueError(self._told("CUT_CORNER is not inside the temperatures and pressures"))

    def _line(self, kt: float) -> float:
        """The pressure that states of a temperature must have."""
        t1, p1, t2, p2 = self._options["CUT_CORNER"]
        below = (t2 - p1) / 1e4  # as PLUMED has it, so that the highest pressure is in
        return (p2 - p1) / (t2 - t1) / self._k * (kt - self._k * t1) + p1 - below

    def _states(self) -> list[tuple[str, float, float]]:
        """Name, factor of the energy, and factor of the volume of each."""
        assert self._factors is not None
        if self._points is not None:
            rows = zip(self._points, self._factors.tolist(), strict=True)
            return [
                (n, x, (self._temp / t * p - self._pressure) / self._kt) for (n, t, p), x in rows
            ]
        assert self._pressures is not None
        if math.prod(self.counts) > MAX_STATES:
            raise ValueError(self._told(f"more than {MAX_STATES} states; give fewer steps"))
        found = []
        for factor in self._factors.tolist():
            kt = self._kt / (factor * self._kt + 1)
            least = -math.inf if self._options["CUT_CORNER"] is None else self._line(kt)
            for p in self._pressures.tolist():
                if p >= least:
                    name = f"{kt / self._k:g}_{p:g}"
                    found.append((name, factor, p / kt - self._pressure / self._kt))
        return found

    @property
    def _is_chosen(self) -> bool:
        return self._factors is not None and (
            self._points is not None or self._pressures is not None
        )

    @property
    def names(self) -> list[str] | None:
        return [name for name, *_ in self._states()] if self._is_chosen else None

    @property
    def counts(self) -> list[int]:
        pressures = 0 if self._pressures is None else len(self._pressures)
        return [0 if self._factors is None else len(self._factors), pressures]

    def choose(self, observed: np.ndarray) -> None:
        if self._is_chosen:
            return
        energy, volume = observed[:, 0], observed[:, 1]
        if self._factors is None:
            ends = [self._factor(t) for t in self._limits["TEMP"]]
            enthalpy = energy + self._pressure * volume
            number = number_of_states(ends[0], ends[1], enthalpy, self._told(""))
            self._take("TEMP", min(number, MAX_STATES))
        if self._pressures is None:
            ends = [(p - self._pressure) / self._kt for p in self._limits["PRESSURE"]]
            number = number_of_states(ends[0], ends[1], volume, self._told(""))
            self._take("PRESSURE", min(number, MAX_STATES))

    def choose_number(self, number: int, pressures: int = 0) -> None:
        if self._is_chosen:
            return
        if self._factors is None:
            self._take("TEMP", number)
        if self._pressures is None:
            self._take("PRESSURE", pressures)

    def choose_like(self, names: list[str]) -> None:
        if self._is_chosen:
            return
        pressures = [name.partition("_")[2] for name in names]
        n = pressures[1:].index(pressures[0]) + 1 if pressures[0] in pressures[1:] else len(names)
        if self._pressures is not None:
            n = len(self._pressures)
        highest = pressures[n - 1]  # all temperatures have it, where a corner is cut too
        self.choose_number(pressures.count(highest), n)

    def reduced(self, arguments: Sequence[Any]) -> list[Any]:
        columns = zip(arguments, self.reduced_slopes(arguments), strict=True)
        return [np.asarray(x, dtype=float)[..., None] * factors for x, factors in columns]

    def reduced_slopes(self, arguments: Sequence[float]) -> list[np.ndarray]:
        if not self._slopes:
            states = self._states()
            self._slopes = [np.array([state[k] for state in states]) for k in (1, 2)]
        return self._slopes
