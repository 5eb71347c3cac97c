"""Variables of many values at once, each of a few vectors between points."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np

from openmm_cgan.plumed.actions.action import Scope, Value
from openmm_cgan.plumed.actions.variables.reductions import Reduction
from openmm_cgan.plumed.actions.variables.variable import (
    BoxKind,
    Site,
    Variable,
    site_position,
)
from openmm_cgan.plumed.geometry.vectors import shortest_image
from openmm_cgan.plumed.input.expressions import namespace

MAX_VECTORS = 2_000_000


class ManyVariable(Variable):
    """Numbers made of many elements, each a function of as many vectors as the others.

    Attributes
    ----------
    arrows : list of list of (Site, Site)
        Where the vectors of each element begin and end, shape (n_elements, n_vectors).
    reductions : tuple of Reduction
        One for each output.
    """

    arrows: list[list[tuple[Site, Site]]]
    reductions: tuple[Reduction, ...]

    def enter(self, scope: Scope) -> None:
        """Tell its other names, and those of vectors, which are not native."""
        super().enter(scope)
        scope.vectors.add(self.label)
        for value in self.outputs:
            scope.other_names[value.name.replace(f"{self.label}_", f"{self.label}.", 1)] = value

    @cached_property
    def sites(self) -> tuple[Site, ...]:
        return tuple(dict.fromkeys(s for group in self.arrows for pair in group for s in pair))

    @property
    def unit(self) -> str:
        """Unit of the elements."""
        return self.units.length_name

    @property
    def outputs(self) -> tuple[Value, ...]:
        units = (self.unit if reduction.is_kept else "" for reduction in self.reductions)
        names = (reduction.name for reduction in self.reductions)
        return tuple(Value(f"{self.label}_{x}", u) for x, u in zip(names, units, strict=True))

    # ---- the elements

    def elements(self, vectors: Any) -> Any:
        """The elements, shape (..., n_elements), of vectors (..., n_elements, n_vectors, 3) [nm].

        In the units of the input.
        """
        raise NotImplementedError

    def element_slopes(self, vectors: np.ndarray) -> np.ndarray:
        """Gradient of each element by its vectors, shape (n_elements, n_vectors, 3) [unit / nm]."""
        raise NotImplementedError

    @cached_property
    def _ends(self) -> np.ndarray:
        """Where the vectors begin and end among the sites, shape (n_elements, n_vectors, 2)."""
        row = {site: i for i, site in enumerate(self.sites)}
        return np.array([[[row[a], row[b]] for a, b in group] for group in self.arrows])

    @cached_property
    def _atoms(self) -> np.ndarray | None:
        real = all(isinstance(site, int) for site in self.sites)
        return np.array(self.sites, dtype=np.intp) if real else None

    def _vectors(self, positions: Any, box: Any) -> Any:
        """The vectors, shape (..., n_elements, n_vectors, 3) [nm]."""
        xp = namespace(positions)
        if self._atoms is not None:
            points = positions[..., self._atoms, :]
        else:
            placed = [site_position(site, positions, box) for site in self.sites]
            points = xp.stack([xp.stack([xp.asarray(c) for c in p], -1) for p in placed], -2)
        v = points[..., self._ends[..., 1], :] - points[..., self._ends[..., 0], :]
        if box is None or not self.periodic:
            return v
        edges = box if box.ndim == 2 else box[..., None, None, :, :]
        return xp.stack(list(shortest_image((v[..., 0], v[..., 1], v[..., 2]), edges)), -1)

    # ---- values and gradients

    def values(self, positions: Any, box: Any = None) -> tuple[Any, ...]:
        elements = self.elements(self._vectors(positions, box))
        return tuple(reduction.value(elements) for reduction in self.reductions)

    def _pulls(
        self, index: int, positions: np.ndarray, box: np.ndarray | None
    ) -> tuple[float, np.ndarray, np.ndarray]:
        """An output, the vectors, and its gradient by these; shapes (n_elements, n_vectors, 3)."""
        vectors = self._vectors(positions, box)
        elements, reduction = self.elements(vectors), self.reductions[index]
        slopes = reduction.slopes(elements)[:, None, None] * self.element_slopes(vectors)
        return float(reduction.value(elements)), vectors, slopes

    def gradient(
        self, index: int, positions: np.ndarray, box: np.ndarray | None
    ) -> tuple[float, np.ndarray]:
        value, _, slopes = self._pulls(index, positions, box)
        total, n = np.zeros((len(self.sites), 3)), len(self.sites)
        for end, sign in ((0, -1.0), (1, 1.0)):
            rows = self._ends[..., end].ravel()
            for axis in range(3):
                total[:, axis] += np.bincount(rows, sign * slopes[..., axis].ravel(), n)
        return value, total

    def strain_slope(self, index: int, positions: np.ndarray, box: np.ndarray | None) -> np.ndarray:
        if not self.strains_evenly:
            return super().strain_slope(index, positions, box)
        _, vectors, slopes = self._pulls(index, positions, box)
        return vectors.reshape(-1, 3).T @ slopes.reshape(-1, 3)

    def depends_on_image(self, box: BoxKind) -> bool:
        return self.leaves_fixed_point or super().depends_on_image(box)


def lengths_of(vectors: Any) -> Any:
    """Lengths of vectors, shape (..., 3) to (...); 0 without a slope where two points are one."""
    xp = namespace(vectors)
    squared = (vectors * vectors).sum(-1)
    apart = squared > 0
    return xp.where(apart, xp.sqrt(xp.where(apart, squared, squared * 0 + 1.0)), squared * 0)


def directions_of(vectors: np.ndarray) -> np.ndarray:
    """Unit vectors, shape (..., 3); zero where there is no length."""
    length = np.sqrt((vectors * vectors).sum(-1, keepdims=True))
    return vectors / np.where(length > 0, length, 1.0)
