"""Variables of many values at once, each of a few vectors between points."""

from __future__ import annotations

from functools import cached_property
from typing import Any, ClassVar

import numpy as np

from openmm_cgan.plumed.actions.action import Scope
from openmm_cgan.plumed.actions.values import Value, elements_of
from openmm_cgan.plumed.actions.variables.reductions import Reduction
from openmm_cgan.plumed.actions.variables.variable import (
    BoxKind,
    Site,
    Variable,
    site_position,
)
from openmm_cgan.plumed.geometry.vectors import shortest_image
from openmm_cgan.plumed.input.expressions import namespace
from openmm_cgan.plumed.input.words import NotNativeError

MAX_VECTORS = 2_000_000
EACH = slice(None)  # of the elements
MAX_ELEMENTS = 1000  # that others may take one by one


class ManyVariable(Variable):
    """Numbers made of many elements, each a function of as many vectors as the others.

    Attributes
    ----------
    arrows : list of list of (Site, Site)
        Where the vectors of each element begin and end, shape (n_elements, n_vectors).
    reductions : tuple of Reduction
        One for each output.
    is_vector : bool
        Whether its elements are outputs too, behind the others: something takes them.
    """

    arrows: list[list[tuple[Site, Site]]]
    reductions: tuple[Reduction, ...]
    is_vector = False
    vector_name: ClassVar[str] = "{label}"  # empty where PLUMED makes none

    def enter(self, scope: Scope) -> None:
        """Tell its other names, and that of the vector of its elements."""
        super().enter(scope)
        scope.shortcuts[self.label] = {"x", "y", "z"}
        if name := self.vector_name.format(label=self.label):
            scope.vectors[name] = self
        for value in self.outputs:
            scope.other_names[value.name.replace(f"{self.label}_", f"{self.label}.", 1)] = value

    def vector(self, name: str) -> tuple[Value, ...]:
        """The elements, under PLUMED's names, which are outputs from now on.

        Raises
        ------
        ValueError
            If they are too many.
        """
        if self.n_elements > MAX_ELEMENTS:
            message = f"'{name}' has {self.n_elements} elements, natively {MAX_ELEMENTS} at most"
            raise NotNativeError(message)
        self.is_vector = True
        return self._element_values

    @property
    def n_elements(self) -> int:
        """How many elements there are."""
        return len(self.arrows)

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
        made = tuple(Value(f"{self.label}_{x}", u) for x, u in zip(names, units, strict=True))
        return (*made, *self._element_values) if self.is_vector else made

    @cached_property
    def _element_values(self) -> tuple[Value, ...]:
        name = self.vector_name.format(label=self.label)
        return elements_of(name, self.unit, self.n_elements)

    # ---- the elements

    def elements(self, vectors: Any, rows: slice = EACH) -> Any:
        """The elements, shape (..., n_elements), of vectors (..., n_elements, n_vectors, 3) [nm].

        In the units of the input; `rows` tells which elements the vectors are of.
        """
        raise NotImplementedError

    def element_slopes(self, vectors: np.ndarray, rows: slice = EACH) -> np.ndarray:
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

    def _points(self, positions: Any, box: Any) -> Any:
        """Positions of the sites, shape (..., n_sites, 3) [nm]."""
        if self._atoms is not None:
            return positions[..., self._atoms, :]
        xp = namespace(positions)
        placed = [site_position(site, positions, box) for site in self.sites]
        return xp.stack([xp.stack([xp.asarray(c) for c in p], -1) for p in placed], -2)

    def _vectors(self, positions: Any, box: Any, rows: slice = EACH) -> Any:
        """The vectors of some elements, shape (..., n_elements, n_vectors, 3) [nm]."""
        xp, points = namespace(positions), self._points(positions, box)
        ends = self._ends[rows]
        v = points[..., ends[..., 1], :] - points[..., ends[..., 0], :]
        if box is None or not self.periodic:
            return v
        edges = box if box.ndim == 2 else box[..., None, None, :, :]
        return xp.stack(list(shortest_image((v[..., 0], v[..., 1], v[..., 2]), edges)), -1)

    # ---- values and gradients

    def values(self, positions: Any, box: Any = None) -> tuple[Any, ...]:
        return self._outputs_of(self.elements(self._vectors(positions, box)))

    def _outputs_of(self, elements: Any) -> tuple[Any, ...]:
        """All outputs, of the elements (..., n_elements)."""
        made = tuple(reduction.value(elements) for reduction in self.reductions)
        if not self.is_vector:
            return made
        return (*made, *(elements[..., k] for k in range(self.n_elements)))

    def _pulls(
        self, index: int, positions: np.ndarray, box: np.ndarray | None
    ) -> tuple[float, np.ndarray, np.ndarray]:
        """An output, its vectors, and its gradient by these; shapes (n_elements, n_vectors, 3)."""
        if index >= len(self.reductions):
            row = self._row(index)
            vectors = self._vectors(positions, box, row)
            slopes = self.element_slopes(vectors, row)
            return float(self.elements(vectors, row)[0]), vectors, slopes
        vectors = self._vectors(positions, box)
        elements, reduction = self.elements(vectors), self.reductions[index]
        slopes = reduction.slopes(elements)[:, None, None] * self.element_slopes(vectors)
        return float(reduction.value(elements)), vectors, slopes

    def _row(self, index: int) -> slice:
        """Which elements an output is of."""
        row = index - len(self.reductions)
        return EACH if row < 0 else slice(row, row + 1)

    def gradient(
        self, index: int, positions: np.ndarray, box: np.ndarray | None
    ) -> tuple[float, np.ndarray]:
        value, _, slopes = self._pulls(index, positions, box)
        total, n = np.zeros((len(self.sites), 3)), len(self.sites)
        for end, sign in ((0, -1.0), (1, 1.0)):
            rows = self._ends[self._row(index), :, end].ravel()
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
