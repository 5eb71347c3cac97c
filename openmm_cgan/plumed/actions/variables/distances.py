"""DISTANCES: numbers made of many distances; XDISTANCES and so on, of their components."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar

import numpy as np

from openmm_cgan.plumed.actions.action import Given, Keyword, Scope
from openmm_cgan.plumed.actions.variables.centers import Center
from openmm_cgan.plumed.actions.variables.many import (
    EACH,
    MAX_VECTORS,
    ManyVariable,
    directions_of,
    lengths_of,
)
from openmm_cgan.plumed.actions.variables.reductions import REDUCTION_KEYWORDS, read_reductions
from openmm_cgan.plumed.actions.variables.variable import BoxKind, CalledBack, Name, Site, Term
from openmm_cgan.plumed.input.language import PlumedInputError

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
        if any(a == b for [(a, b)] in self.arrows):
            raise self.not_native(self.name, "the distance of an atom from itself")
        self._given, self._has_centres = given, bool(given.options["ATOMSi"])

    def enter(self, scope: Scope) -> None:
        """Make the centres of the pairs of ATOMSi, which PLUMED takes its label for as a group."""
        if self._has_centres:
            try:
                centres = [self._centre(k, pair) for k, [pair] in enumerate(self.arrows, start=1)]
            except PlumedInputError:
                scope.unplaced.add(self.label)
                scope.count += 2 * len(self.arrows)
            else:
                for centre in centres:
                    centre.enter(scope)
                scope.groups[self.label] = scope.groups[f"{self.label}_grp"] = tuple(centres)
        super().enter(scope)

    @property
    def count_in_plumed(self) -> int:
        return 3 + self._has_centres + sum(made.n_actions for made in self.reductions)

    def _centre(self, number: int, pair: tuple[Site, Site]) -> Center:
        given, label = self._given, f"{self.label}_vatom{number}"
        statement = replace(given.statement, action=Center.name, label=label)
        absent = {"WEIGHTS": None, "SET_MASS": None, "SET_CHARGE": None}
        options = absent | {"ATOMS": pair, "MASS": False, "PHASES": False, "NOPBC": False}
        return Center(replace(given, label=label, statement=statement, options=options))

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

    def expression(self, index: int, name: Name, box: BoxKind) -> str:
        row = index - len(self.reductions)
        if row < 0:
            return super().expression(index, name, box)
        [pair] = self.arrows[row]
        if (self.periodic and box.takes_other_images(pair)) or box.cannot_place(pair):
            return super().expression(index, name, box)
        return self._near_expression(name, Term(pair, "distance", periodic=self._near(box)))

    def _near(self, box: BoxKind) -> bool:
        """Whether OpenMM takes nearest images."""
        return self.periodic and box.periodic

    def _near_expression(self, name: Name, term: Term) -> str:
        r = name(term)
        return r if self.units.length == 1 else f"({r}*{1 / self.units.length!r})"

    def elements(self, vectors: Any, rows: slice = EACH) -> Any:
        return lengths_of(vectors[..., 0, :]) / self.units.length

    def element_slopes(self, vectors: np.ndarray, rows: slice = EACH) -> np.ndarray:
        return directions_of(vectors) / self.units.length


class _Components(Distances):
    def enter(self, scope: Scope) -> None:
        super().enter(scope)
        if not self.reductions:  # then label.* is the vectors along all three axes
            scope.shortcuts[self.label].add("*")

    axis: ClassVar[int]

    @property
    def is_rigid(self) -> bool:
        return False

    def expression(self, index: int, name: Name, box: BoxKind) -> str:
        return name(CalledBack(self, index))

    def elements(self, vectors: Any, rows: slice = EACH) -> Any:
        return vectors[..., 0, self.axis] / self.units.length

    def element_slopes(self, vectors: np.ndarray, rows: slice = EACH) -> np.ndarray:
        return np.broadcast_to(np.eye(3)[self.axis] / self.units.length, vectors.shape)


class XDistances(_Components):
    """Numbers made of many distances along x."""

    name, axis = "XDISTANCES", 0
    vector_name = "{label}.x"
    summary = "the same of distances along x"


class YDistances(_Components):
    """Numbers made of many distances along y."""

    name, axis = "YDISTANCES", 1
    vector_name = "{label}.y"
    summary = "the same of distances along y"


class ZDistances(_Components):
    """Numbers made of many distances along z."""

    name, axis = "ZDISTANCES", 2
    vector_name = "{label}.z"
    summary = "the same of distances along z"
