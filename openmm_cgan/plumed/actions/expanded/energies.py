"""ECV_CUSTOM: states whose reduced energies are values of the input."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from openmm_cgan.plumed.actions.action import Given, Keyword
from openmm_cgan.plumed.actions.expanded.expansions import EXPANSION_KEYWORDS, Expansion


class EcvCustom(Expansion):
    """A state for each value: its energy less that of the run, over kT.

    Without ADD_P0 PLUMED adds the first value to the other states too; so does this.
    """

    name = "ECV_CUSTOM"
    summary = "differences of energies as they are, for OPES_EXPANDED"
    keywords = (
        *EXPANSION_KEYWORDS,
        Keyword("BARRIER", "real", "guess of the free-energy barrier"),
        Keyword("ADD_P0", "flag", "the run itself is a state too"),
        Keyword("DIMENSIONLESS", "flag", "the values are not over kT"),
    )

    def __init__(self, given: Given) -> None:
        super().__init__(given)
        barrier = given.options["BARRIER"]
        self._barrier: float = math.inf if barrier is None else barrier
        self._plain = int(given.options["ADD_P0"])
        self._is_plain: bool = given.options["DIMENSIONLESS"]
        n = len(self.arguments)
        own = np.eye(n, n + self._plain, self._plain)
        if not self._plain:
            own[0] = 1.0
        self._own = list(own)  # of which states each value is
        self._beta = math.nan

    @property
    def names(self) -> list[str]:
        words = [value.name for value in self.arguments]
        plain = ["_".join(["P0"] * len(words))] * self._plain
        return plain + ["_".join(x if x == own else "NaN" for x in words) for own in words]

    def start(self, kt: float) -> None:
        self._beta = 1.0 if self._is_plain else 1 / kt

    def reduced(self, arguments: Sequence[Any]) -> list[Any]:
        values = (self._beta * np.asarray(x, dtype=float)[..., None] for x in arguments)
        return [x * own for x, own in zip(values, self._own, strict=True)]

    def reduced_slopes(self, arguments: Sequence[float]) -> list[np.ndarray]:
        return [self._beta * own for own in self._own]

    def guessed(self, arguments: Sequence[float]) -> np.ndarray:
        limit = self._barrier * self._beta
        values = (min(limit, self._beta * float(x)) for x in arguments)
        return np.sum([x * own for x, own in zip(values, self._own, strict=True)], axis=0)
