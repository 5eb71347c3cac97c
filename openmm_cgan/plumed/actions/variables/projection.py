"""PROJECTION_ON_AXIS: where an atom is along an axis through two others, and how far from it."""

from __future__ import annotations

from typing import Any

import numpy as np

from openmm_cgan.plumed.actions.action import Given, Keyword
from openmm_cgan.plumed.actions.values import Value
from openmm_cgan.plumed.actions.variables.variable import (
    BoxKind,
    Site,
    Variable,
    checked_points,
    refuse_immobile,
    site_position,
)
from openmm_cgan.plumed.geometry.vectors import dot, subtract
from openmm_cgan.plumed.input.expressions import namespace


class ProjectionOnAxis(Variable):
    """``.proj`` along the axis from its first atom, ``.ext`` across it."""

    name = "PROJECTION_ON_AXIS"
    summary = "place of an atom along an axis, and distance from it"
    keywords = (
        Keyword("AXIS_ATOMS", "atoms", "the two atoms of the axis", compulsory=True),
        Keyword("ATOM", "atoms", "the atom", compulsory=True),
        Keyword("NOPBC", "flag", "ignore the periodic box"),
    )

    def __init__(self, given: Given) -> None:
        super().__init__(given)
        both = (*given.options["AXIS_ATOMS"], *given.options["ATOM"])
        checked_points(given, "ATOM", given.options["ATOM"], 1)
        self._sites = checked_points(given, "AXIS_ATOMS", both, 3)
        refuse_immobile(given, self._sites)

    @property
    def sites(self) -> tuple[Site, ...]:
        return self._sites

    @property
    def outputs(self) -> tuple[Value, ...]:
        names = (f"{self.label}.proj", f"{self.label}.ext")
        return tuple(Value(name, self.units.length_name) for name in names)

    def depends_on_image(self, box: BoxKind) -> bool:
        return self.leaves_fixed_point or super().depends_on_image(box)

    def _vectors(self, positions: Any, box: Any) -> tuple[Any, Any]:
        """From the atom to the first and the second of the axis [nm]."""
        first, second, atom = (site_position(site, positions, box) for site in self._sites)
        near = (self._nearest(subtract(point, atom), box) for point in (first, second))
        a, b = near
        return a, b

    def values(self, positions: Any, box: Any = None) -> tuple[Any, ...]:
        a, b = self._vectors(positions, box)
        xp = namespace(positions)
        axis = subtract(b, a)
        along = -dot(a, axis) / xp.sqrt(dot(axis, axis))
        square = dot(a, a) - along * along
        across = xp.sqrt(xp.where(square > 0, square, square * 0))
        return along / self.units.length, across / self.units.length

    def _slopes(self, a: np.ndarray, b: np.ndarray, index: int) -> np.ndarray:
        """Gradient by the two vectors, shape (2, 3)."""
        axis = b - a
        length = np.linalg.norm(axis)
        n = axis / length
        along = -(a @ n)
        turn = (-a - along * n) / length
        slopes = np.array([-n - turn, turn])
        if index == 1:
            across = max(np.sqrt(max(a @ a - along**2, 0.0)), 1e-12)
            slopes = (np.array([a, np.zeros(3)]) - along * slopes) / across
        return slopes / self.units.length

    def gradient(
        self, index: int, positions: np.ndarray, box: np.ndarray | None
    ) -> tuple[float, np.ndarray]:
        a, b = (np.array(vector) for vector in self._vectors(positions, box))
        slopes = self._slopes(a, b, index)
        total = np.array([*slopes, -slopes.sum(axis=0)])
        return float(self.values(positions, box)[index]), total

    def strain_slope(self, index: int, positions: np.ndarray, box: np.ndarray | None) -> np.ndarray:
        if not self.strains_evenly:
            return super().strain_slope(index, positions, box)
        vectors = np.array([np.array(vector) for vector in self._vectors(positions, box)])
        return vectors.T @ self._slopes(vectors[0], vectors[1], index)
