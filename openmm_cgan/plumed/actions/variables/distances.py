"""DISTANCES: numbers made of many distances; XDISTANCES and so on, of their components."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from openmm_cgan.plumed.actions.action import Given, Keyword
from openmm_cgan.plumed.actions.variables.many import (
    MAX_VECTORS,
    ManyVariable,
    directions_of,
    lengths_of,
)
from openmm_cgan.plumed.actions.variables.reductions import REDUCTION_KEYWORDS, read_reductions
from openmm_cgan.plumed.actions.variables.variable import Site

_KEYWORDS = (
    Keyword("GROUP", "atoms", "all pairs of these"),
    Keyword("GROUPA", "atoms", "each of these with each of GROUPB"),
    Keyword("GROUPB", "atoms", "the other group"),
    Keyword("ATOMS", "atoms", "pairs of atoms, one by one", first=1),
    Keyword("ATOMS", "atoms", "atoms whose distances from ORIGIN are meant"),
    Keyword("ORIGIN", "atoms", "the point that the distances go from"),
    *REDUCTION_KEYWORDS,
    Keyword("NOPBC", "flag", "ignore the periodic box"),
)


class Distances(ManyVariable):
    """Numbers made of many distances."""

    name = "DISTANCES"
    summary = "smallest, largest, mean ... of many distances"
    keywords: ClassVar[tuple[Keyword, ...]] = _KEYWORDS
    makes_whole = True

    def __init__(self, given: Given) -> None:
        super().__init__(given)
        self.arrows = [[pair] for pair in self._pairs(given.options)]
        self.reductions = read_reductions(self, given)
        if not self.reductions:
            raise self.not_native(self.name, "a vector is not native; MIN=, MEAN and others are")
        if any(a == b for [(a, b)] in self.arrows):
            raise self.not_native(self.name, "the distance of an atom from itself")

    def _pairs(self, options: dict[str, Any]) -> list[tuple[Site, Site]]:
        group, a, b = (options[word] for word in ("GROUP", "GROUPA", "GROUPB"))
        single, origin, several = options["ATOMS"], options["ORIGIN"], options["ATOMSi"]
        ways = [group is not None, a is not None or b is not None, bool(several)]
        if ways.count(True) + (single is not None or origin is not None) != 1:
            raise self.error(self.name, "give one of GROUP, GROUPA and GROUPB, ATOMSi, ORIGIN")
        if single is not None or origin is not None:
            if single is None or origin is None or len(origin) != 1:
                raise self.error("ORIGIN", "expected ATOMS= and one atom as ORIGIN=")
            return [(origin[0], atom) for atom in single]
        if several:
            if any(len(pair) != 2 for pair in several):
                raise self.error("ATOMS", "expected two atoms for each distance")
            return [(pair[0], pair[1]) for pair in several]
        if group is not None:
            self._limit(len(group) ** 2 // 2, "GROUP")
            return [(group[i], group[j]) for i in range(1, len(group)) for j in range(i)]
        if a is None or b is None:
            raise self.error("GROUPB", "GROUPA and GROUPB belong together")
        self._limit(len(a) * len(b), "GROUPA")
        return [(x, y) for x in a for y in b]

    def _limit(self, count: int, word: str) -> None:
        if count > MAX_VECTORS:
            raise self.not_native(word, f"{count} pairs, natively {MAX_VECTORS} at most")

    def elements(self, vectors: Any) -> Any:
        return lengths_of(vectors[..., 0, :]) / self.units.length

    def element_slopes(self, vectors: np.ndarray) -> np.ndarray:
        return directions_of(vectors) / self.units.length


class _Components(Distances):
    axis: ClassVar[int]

    @property
    def is_rigid(self) -> bool:
        return False

    def elements(self, vectors: Any) -> Any:
        return vectors[..., 0, self.axis] / self.units.length

    def element_slopes(self, vectors: np.ndarray) -> np.ndarray:
        return np.broadcast_to(np.eye(3)[self.axis] / self.units.length, vectors.shape)


class XDistances(_Components):
    """Numbers made of many distances along x."""

    name, axis = "XDISTANCES", 0
    summary = "the same of distances along x"


class YDistances(_Components):
    """Numbers made of many distances along y."""

    name, axis = "YDISTANCES", 1
    summary = "the same of distances along y"


class ZDistances(_Components):
    """Numbers made of many distances along z."""

    name, axis = "ZDISTANCES", 2
    summary = "the same of distances along z"
