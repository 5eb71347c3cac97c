"""A regular grid of values of one or two CVs: where closures are asked for, cells of dynamics."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from openmm_cgan.collective_variable import CollectiveVariable
from openmm_cgan.quantities import number_of_steps, numbers_of
from openmm_cgan.short_reprs import short_repr


@dataclass(frozen=True)
class Grid:
    """The centres of equal cells along each CV.

    Attributes
    ----------
    variables : tuple of CollectiveVariable
        One or two; a periodic one is covered whole.
    axes : tuple of ndarray, shape (n_cells,)
        Centres along each CV, increasing [CV unit].
    """

    variables: tuple[CollectiveVariable, ...]
    axes: tuple[NDArray[np.float64], ...]

    __repr__ = short_repr

    @classmethod
    def over(
        cls,
        variables: Sequence[CollectiveVariable],
        cells: int | Sequence[int],
        bounds: Sequence[ArrayLike | None] = (),
    ) -> Grid:
        """Divide a range of each CV into cells.

        Parameters
        ----------
        variables : sequence of CollectiveVariable
        cells : int or sequence of int
            Along each CV, 3 or more.
        bounds : sequence of (float, float) or None
            Range of each CV [CV unit]; the domain where the CV is periodic.

        Raises
        ------
        ValueError
            If a CV that is not periodic has no bounds, or they are those of no range.
        """
        if len(variables) not in (1, 2):
            raise ValueError(f"a grid takes 1 or 2 CVs, got {len(variables)}")
        counts = [cells] * len(variables) if not isinstance(cells, Sequence) else list(cells)
        if len(counts) != len(variables) or len(bounds) > len(variables):
            raise ValueError(
                f"{len(counts)} numbers of cells and {len(bounds)} bounds for {len(variables)} CVs"
            )
        given = [*bounds, *[None] * (len(variables) - len(bounds))]
        axes = []
        for variable, n, own in zip(variables, counts, given, strict=True):
            lower, upper = _range(variable, own)
            n = number_of_steps(n, f"cells along {variable.name}", 3, "a whole number")
            axes.append(lower + (upper - lower) * (np.arange(n) + 0.5) / n)
        return cls(tuple(variables), tuple(axes))

    @property
    def shape(self) -> tuple[int, ...]:
        """Number of cells along each CV."""
        return tuple(len(axis) for axis in self.axes)

    @property
    def widths(self) -> NDArray[np.float64]:
        """Width of the cells along each CV, shape (k,) [CV unit]."""
        return np.array([(axis[-1] - axis[0]) / (len(axis) - 1) for axis in self.axes])

    @property
    def periodic(self) -> tuple[bool, ...]:
        """Whether the last cell along each CV is beside the first."""
        return tuple(v.period is not None for v in self.variables)

    @property
    def points(self) -> NDArray[np.float64]:
        """All centres, shape (m, k), those of the last CV next to each other [CV unit]."""
        return np.stack(np.meshgrid(*self.axes, indexing="ij"), -1).reshape(-1, len(self.axes))

    def refined(self, times: int) -> Grid:
        """The same range in cells that are `times` smaller along each CV."""
        axes = []
        for axis, width in zip(self.axes, self.widths, strict=True):
            n = len(axis) * times
            axes.append(axis[0] - 0.5 * width + width / times * (np.arange(n) + 0.5))
        return Grid(self.variables, tuple(axes))

    def edges(self, axis: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Flat numbers of the cells on either side of each inner face along an axis."""
        numbers = np.arange(int(np.prod(self.shape))).reshape(self.shape)
        left = numbers if self.periodic[axis] else np.delete(numbers, -1, axis)
        right = np.roll(numbers, -1, axis)
        right = right if self.periodic[axis] else np.delete(right, -1, axis)
        return left.ravel(), right.ravel()


def _range(variable: CollectiveVariable, given: ArrayLike | None) -> tuple[float, float]:
    if variable.domain is not None:
        if given is not None and not np.allclose(numbers_of(given, "bounds"), variable.domain):
            raise ValueError(f"{variable.name} is periodic: leave its bounds out")
        return variable.domain
    if given is None:
        raise ValueError(f"{variable.name} is not periodic: give its bounds")
    lower, upper = (float(x) for x in numbers_of(given, f"bounds of {variable.name}"))
    if not lower < upper:
        raise ValueError(f"the bounds of {variable.name} are {lower}, {upper}; expected a range")
    return lower, upper
