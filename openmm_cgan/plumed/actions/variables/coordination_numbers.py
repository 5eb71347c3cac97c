"""COORDINATIONNUMBER: numbers made of the coordination numbers of many atoms."""

from __future__ import annotations

import math
from functools import cached_property, partial
from typing import Any

import numpy as np

from openmm_cgan.plumed.actions.action import Given, Keyword, Scope
from openmm_cgan.plumed.actions.variables.contacts import MOST_PAIRS, switch_of
from openmm_cgan.plumed.actions.variables.many import EACH, ManyVariable, lengths_of
from openmm_cgan.plumed.actions.variables.reductions import (
    REDUCTION_KEYWORDS,
    Reduction,
    read_reductions,
)
from openmm_cgan.plumed.actions.variables.variable import Site, one_by_one
from openmm_cgan.plumed.geometry.pair_blocks import NearVectors, PointPairs
from openmm_cgan.plumed.input.expressions import namespace

MAX_PAIRS = 500_000  # all at once


class CoordinationNumber(ManyVariable):
    """Mean, moments, counts ... of how many neighbours each atom has."""

    name = "COORDINATIONNUMBER"
    summary = "mean, moments, counts ... of the coordination numbers of many atoms"
    keywords = (
        Keyword("SPECIES", "atoms", "the atoms, and their neighbours"),
        Keyword("SPECIESA", "atoms", "the atoms"),
        Keyword("SPECIESB", "atoms", "their neighbours"),
        Keyword("SWITCH", "text", "the switching function"),
        Keyword("R_0", "real", "its length, if SWITCH is not given"),
        Keyword("D_0", "real", "where it begins", default=0.0),
        Keyword("NN", "integer", "its first exponent", default=6),
        Keyword("MM", "integer", "its second exponent, 2 NN if 0", default=0),
        Keyword("MOMENTS", "numbers", "central moments: 2,3"),
        *REDUCTION_KEYWORDS,
    )

    def __init__(self, given: Given) -> None:
        super().__init__(given)
        options = given.options
        single, a, b = (options[word] for word in ("SPECIES", "SPECIESA", "SPECIESB"))
        if (single is None) == (a is None) or (a is None) != (b is None):
            raise self.error(self.name, "give SPECIES, or SPECIESA and SPECIESB")
        atoms, others = (single, single) if a is None else (a, b)
        self.switch = switch_of(self, options)
        most = MOST_PAIRS if math.isfinite(self.switch.d_max) else MAX_PAIRS
        self._count = len(atoms) * len(others)
        if self._count > most:
            raise self.not_native("SPECIES", f"more than {most} pairs")
        moments = [_moment(self, number) for number in options["MOMENTS"] or ()]
        self.reductions = (*moments, *read_reductions(self, given))
        self._species, self._others = tuple(atoms), tuple(others)

    @cached_property
    def arrows(self) -> list[list[tuple[Site, Site]]]:  # type: ignore[override]
        if self._count > MAX_PAIRS:
            raise ValueError(
                f"{self.statement.location}: {self.name} {self.label}: of its {self._count} pairs "
                f"too many are near, or are asked for all at once; {MAX_PAIRS} at most"
            )
        return [[(x, y) for y in self._others] for x in self._species]

    @property
    def n_elements(self) -> int:
        return len(self._species)

    @cached_property
    def sites(self) -> tuple[Site, ...]:
        first, *rest = self._species
        return tuple(dict.fromkeys([first, *self._others, *rest]))

    def enter(self, scope: Scope) -> None:
        """Tell its atoms too, which PLUMED takes its label for as a group."""
        scope.groups[self.label] = scope.groups[f"{self.label}_grp"] = self._species
        super().enter(scope)

    @property
    def count_in_plumed(self) -> int:
        moments = any(made.name.startswith("moment") for made in self.reductions)
        return 8 + moments + sum(made.n_actions for made in self.reductions)

    @property
    def unit(self) -> str:
        return ""

    @cached_property
    def _counted(self) -> np.ndarray:
        """Which pairs are not an atom and itself, shape (n_elements, n_vectors)."""
        return self._ends[..., 0] != self._ends[..., 1]

    def elements(self, vectors: Any, rows: slice = EACH) -> Any:
        r = lengths_of(vectors) / self.units.length
        xp = namespace(vectors)
        return xp.where(xp.asarray(self._counted[rows]), self.switch.value(r), r * 0).sum(-1)

    def element_slopes(self, vectors: np.ndarray, rows: slice = EACH) -> np.ndarray:
        unit = self.units.length**2
        squared = (vectors * vectors).sum(-1) / unit
        slopes = np.where(self._counted[rows], self.switch.with_slopes(squared)[1], 0.0)
        return slopes[..., None] * vectors / unit

    # ---- of one frame, where few pairs are near

    @cached_property
    def _pairs(self) -> PointPairs:
        row = {site: i for i, site in enumerate(self.sites)}
        first, second = ([row[s] for s in group] for group in (self._species, self._others))
        return PointPairs(np.array(first, dtype=np.intp), np.array(second, dtype=np.intp), False)

    def _near(self, positions: Any, box: Any) -> NearVectors | None:
        """The near pairs of one frame; None where all pairs are as quick, and of many frames."""
        if not isinstance(positions, np.ndarray) or positions.ndim > 2:
            return None
        points, pairs = self._points(positions, box), self._pairs
        reach = self.switch.d_max * self.units.length
        ends = points[pairs.first], points[pairs.second]
        box = box if self.periodic else None
        return None if pairs.is_dense(*ends, box, reach) else pairs.near(*ends, box, reach)

    def _counts(self, near: NearVectors) -> tuple[np.ndarray, np.ndarray]:
        """The coordination numbers, and the slopes of the pairs over their distance [1/nm^2]."""
        unit = self.units.length**2
        values, slopes = self.switch.with_slopes(near.squared / unit)
        return np.bincount(near.first, values, len(self._species)), slopes / unit

    def values(self, positions: Any, box: Any = None) -> tuple[Any, ...]:
        if isinstance(positions, np.ndarray) and positions.ndim > 2 and not self._pairs.are_few:
            return self._values_of_frames(positions, box)
        if (near := self._near(positions, box)) is None:
            return super().values(positions, box)
        return self._outputs_of(self._counts(near)[0])

    def _values_of_frames(self, positions: np.ndarray, box: np.ndarray | None) -> tuple[Any, ...]:
        shape = positions.shape[:-2]
        rows = [self.values(*frame) for frame in one_by_one(positions, box)]
        return tuple(np.array(column).reshape(shape) for column in zip(*rows, strict=True))

    def _listed_pulls(
        self, index: int, near: NearVectors
    ) -> tuple[float, np.ndarray, tuple[np.ndarray, np.ndarray]]:
        """An output, its gradient by the near vectors (n_near, 3), and their sites."""
        counts, strengths = self._counts(near)
        weights = np.zeros(len(counts))
        if (row := index - len(self.reductions)) >= 0:
            weights[row] = 1.0
        else:
            weights = self.reductions[index].slopes(counts)
        pulls = (weights[near.first] * strengths)[:, None] * np.transpose(near.vectors)
        sites = self._pairs.first[near.first], self._pairs.second[near.second]
        return float(self._outputs_of(counts)[index]), pulls, sites

    def gradient(
        self, index: int, positions: np.ndarray, box: np.ndarray | None
    ) -> tuple[float, np.ndarray]:
        if (near := self._near(positions, box)) is None:
            return super().gradient(index, positions, box)
        value, pulls, sites = self._listed_pulls(index, near)
        n = len(self.sites)
        columns = [
            np.bincount(sites[1], pull, n) - np.bincount(sites[0], pull, n) for pull in pulls.T
        ]
        return value, np.stack(columns, -1)

    def strain_slope(self, index: int, positions: np.ndarray, box: np.ndarray | None) -> np.ndarray:
        near = self._near(positions, box)
        if near is None or not self.strains_evenly:
            return super().strain_slope(index, positions, box)
        return np.array(near.vectors) @ self._listed_pulls(index, near)[1]


def _moment(action: CoordinationNumber, number: float) -> Reduction:
    order = int(number)
    if order != number or order < 2:
        raise action.error("MOMENTS", "expected integers from 2 on")
    return Reduction(f"moment-{order}", partial(_about_mean, order), partial(_pulled, order))


def _about_mean(order: int, x: Any) -> Any:
    return ((x - x.mean(-1)[..., None]) ** order).mean(-1)


def _pulled(order: int, x: np.ndarray) -> np.ndarray:
    powers = order * (x - x.mean()) ** (order - 1) / len(x)
    return powers - powers.mean()
