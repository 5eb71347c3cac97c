"""The sum of Gaussian hills on a grid, as PLUMED adds and interpolates it.

Nodes hold the bias and its slopes. Between nodes it is the sum over the corners of the cell of the
value times one cubic Hermite factor for each axis, which takes the slope over the value there.
OpenMM's force is given value and slopes over value as a table, so that it and PLUMED agree to
rounding.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from openmm_cgan.plumed.actions.metad.axis import Axis
from openmm_cgan.plumed.actions.metad.gaussian import CUTOFF, STRETCHED, Kernel, reach_of, within

FLAT = 1e-7  # PLUMED takes a node's slopes as zero where its value is below this
BORDER = 2  # nodes beyond the last cell in the table: its far corners, and one for rounding


class HillGrid:
    """The sum of Gaussian hills on a grid.

    Parameters
    ----------
    axes : sequence of Axis
        At most three.
    spline : bool
        Whether the bias between nodes is interpolated. If not, it is that of the node below, and
        so is the force, which is no slope of it then.
    kernel : Kernel, optional

    Attributes
    ----------
    nodes : ndarray, shape (1 + n_axes, *nodes)
        Value, and for each axis the slope times the step of the axis.
    table : ndarray, shape (1 + n_axes, *(cells + BORDER))
        Value, and for each axis the slope times the step, where there is a spline over the value.
        Periodic axes go on for BORDER nodes, so that the corners of a cell always follow each
        other.
    """

    def __init__(
        self, axes: Sequence[Axis], spline: bool = True, kernel: Kernel = STRETCHED
    ) -> None:
        self.axes = tuple(axes)
        self.spline, self.kernel = spline, kernel
        n = len(axes)
        # slopes of the last to the first axis, value, slopes over value of the first to the last:
        # the value stands in nodes and table at once, and is never copied
        planes = np.zeros((2 * n + 1, *(axis.cells + BORDER for axis in axes)))
        self._sums, self.table = planes[: n + 1], planes[n:]
        self._slopes = planes[:n][::-1]
        self.nodes = self._sums[(slice(None, None, -1), *(slice(axis.nodes) for axis in axes))]
        self._borders = [self._border(i) for i in range(n)]

    def _border(self, i: int) -> list[tuple[np.ndarray, np.ndarray]]:
        """What repeats what in the table along one axis."""
        axis, table = self.axes[i], np.moveaxis(self.table, 1 + i, 0)
        if not axis.periodic:
            return []
        if axis.cells >= BORDER:
            return [(table[axis.cells :], table[:BORDER])]
        return [(table[axis.cells + k], table[k % axis.cells]) for k in range(BORDER)]

    def add(
        self,
        centre: Sequence[float],
        sigma: Sequence[float],
        height: float,
        interval: tuple[float, float] | None = None,
    ) -> None:
        """Add one hill.

        Parameters
        ----------
        centre, sigma : sequence of float, length n_axes
        height : float
        interval : (float, float), optional
            Of the only axis: the hill is level outside, at its height on the limit.
        """
        pieces, sides = [], []
        for axis, c, width in zip(self.axes, centre, sigma, strict=True):
            near, side = _side(axis, c, width, interval)
            pieces.append(axis.pieces(near))
            sides.append(side)
        self.lay(pieces, _bumps(sides, height, self.kernel))

    def lay(self, pieces: Sequence[Sequence[tuple[slice, slice]]], hill: np.ndarray) -> None:
        """Add numbers at nodes.

        Parameters
        ----------
        pieces : sequence of list of (slice, slice)
            For each axis what `Axis.pieces` gives: which nodes, and which part of the hill there.
        hill : ndarray, shape (n_axes + 1, ...)
            Slopes times the step of the axis, from the last axis to the first, and the value.
        """
        for piece in itertools.product(*pieces):
            block = (slice(None), *[node for node, _ in piece])
            sums = self._sums[block]
            sums += hill[(slice(None), *[part for _, part in piece])]
            self._tabulate(block)
        for border, along in zip(self._borders, pieces, strict=True):
            if border and min(along[0][0].start, along[-1][0].start) < BORDER:
                _carry(border)

    def _tabulate(self, block: tuple[Any, ...]) -> None:
        ratios, slopes = self.table[1:][block], self._slopes[block]
        if not self.spline:
            ratios[...] = slopes
            return
        value = self.table[(0, *block[1:])]
        np.divide(slopes, np.where(np.abs(value) >= FLAT, value, np.inf), out=ratios)

    def with_derivatives(self) -> np.ndarray:
        """Value and derivative along each axis at the nodes, shape (1 + n_axes, *nodes)."""
        shape = (-1, *(1 for _ in self.axes))
        return self.nodes / np.array([1.0, *(axis.step for axis in self.axes)]).reshape(shape)

    def take(self, bias: np.ndarray) -> None:
        """Take over what another grid's `with_derivatives` gave, shape (1 + n_axes, *nodes)."""
        shape = (-1, *(1 for _ in self.axes))
        self.nodes[...] = bias * np.array([1.0, *(a.step for a in self.axes)]).reshape(shape)
        self.refresh()

    def refresh(self) -> None:
        """Make the table from nodes that were set from outside."""
        self._tabulate((slice(None), *(slice(axis.nodes) for axis in self.axes)))
        for border in self._borders:
            _carry(border)

    def saved(self) -> dict[str, np.ndarray]:
        """For a checkpoint: ``nodes``, in the shape of `nodes`."""
        return {"nodes": self.nodes}

    def restore_saved(self, nodes: np.ndarray) -> None:
        """Take over nodes that `saved` gave, shape (1 + n_axes, *nodes)."""
        self.nodes[...] = nodes
        self.refresh()

    # ---- values

    def maximum(self) -> float:
        """Largest value at a node, or zero where all are below."""
        return max(float(self.nodes[0].max()), 0.0)

    def at(self, arguments: Sequence[float]) -> float:
        """Interpolated bias at one point, quickly; zero off a grid that is not periodic.

        Parameters
        ----------
        arguments : sequence of float, length n_axes
        """
        cells, factors = [], []
        for axis, s in zip(self.axes, arguments, strict=True):
            if not axis.inside(s):
                return 0.0
            u = (s - axis.lower) / axis.step
            if axis.periodic:
                u -= axis.cells * math.floor(u / axis.cells)
            cell = min(math.floor(u), axis.cells)
            cells.append(slice(cell, cell + 2))
            factors.append(_factors(u - cell))
        if not self.spline:
            return float(self.nodes[0][tuple(cell.start for cell in cells)])
        corners = self.table[(slice(None), *cells)].reshape(1 + len(self.axes), -1).tolist()
        total = 0.0
        for term, *slopes, sides in zip(*corners, SIDES[len(self.axes)], strict=True):
            for slope, side, (w, v) in zip(slopes, sides, factors, strict=True):
                term *= w[side] + slope * v[side]
            total += term
        return total

    def value_and_slopes(self, arguments: Sequence[float]) -> tuple[float, list[float]]:
        """Interpolated bias at one point and its slopes, all zero where `at` is.

        Parameters
        ----------
        arguments : sequence of float, length n_axes

        Returns
        -------
        float
            [energy unit of the input]
        list of float, length n_axes
            [energy unit over units of the values]
        """
        n = len(self.axes)
        cells, places = [], []
        for axis, s in zip(self.axes, arguments, strict=True):
            if not axis.inside(s):
                return 0.0, [0.0] * n
            u = (s - axis.lower) / axis.step
            if axis.periodic:
                u -= axis.cells * math.floor(u / axis.cells)
            cell = min(math.floor(u), axis.cells)
            cells.append(slice(cell, cell + 2))
            places.append(u - cell)
        steps = [axis.step for axis in self.axes]
        if not self.spline:  # the force is that of the node, and no slope
            node: tuple[Any, ...] = (slice(None), *(cell.start for cell in cells))
            value, *slopes = self.table[node].tolist()
            return value, [slope / step for slope, step in zip(slopes, steps, strict=True)]
        corners = self.table[(slice(None), *cells)].reshape(1 + n, -1).tolist()
        value, slopes = _blended(corners, places)
        return value, [slope / step for slope, step in zip(slopes, steps, strict=True)]

    def value(self, arguments: Sequence[np.ndarray]) -> np.ndarray:
        """Interpolated bias.

        Parameters
        ----------
        arguments : list of ndarray, shape (...)
            Values on each axis; zero is returned off a grid that is not periodic.

        Returns
        -------
        ndarray, shape (...)
            [energy unit of the input]
        """
        inside = np.ones(np.shape(arguments[0]), dtype=bool)
        cells, factors = [], []
        for axis, s in zip(self.axes, arguments, strict=True):
            inside = inside & axis.inside(np.asarray(s))
            u = np.where(inside, axis.position(np.asarray(s, dtype=float)), 0.0)
            cell = np.clip(np.floor(u).astype(int), 0, axis.cells)
            cells.append(cell)
            factors.append(_factors(u - cell))
        if not self.spline:
            return np.where(inside, self.nodes[0][tuple(cells)], 0.0)
        total = np.zeros(inside.shape)
        for sides in SIDES[len(self.axes)]:
            corner = tuple(c + side for c, side in zip(cells, sides, strict=True))
            product, *slopes = self.table[(slice(None), *corner)]
            for slope, side, (w, v) in zip(slopes, sides, factors, strict=True):
                product = product * (w[side] + slope * v[side])
            total = total + product
        return np.where(inside, total, 0.0)


class _Side(NamedTuple):
    """A hill along one axis."""

    exponent: np.ndarray  # (n_near,), minus half the squared distance over sigma squared
    slope: np.ndarray  # (n_near,), of the logarithm, times the step
    times: np.ndarray | None  # (n_near,), where PLUMED adds it to a node more than once


def _side(
    axis: Axis, centre: float, sigma: float, interval: tuple[float, float] | None
) -> tuple[range, _Side]:
    """The nodes near a hill along one axis, and the hill there."""
    reach = reach_of(sigma)
    if interval is not None and not within(interval, centre, reach):
        reach = axis.upper - axis.lower
    near, distance, count = axis.nearby(centre, reach)
    slope = distance * (-axis.step / (sigma * sigma))
    if interval is not None:
        nodes = axis.lower + np.arange(near.start, near.stop) * axis.step
        slope[(nodes < interval[0]) | (nodes > interval[1])] = 0.0
        distance = np.clip(nodes, *interval) - centre
    exponent = distance * distance
    exponent *= -0.5 / (sigma * sigma)
    return near, _Side(exponent, slope, count)


def _bumps(sides: list[_Side], height: float, kernel: Kernel) -> np.ndarray:
    """What a hill adds to slopes, of the last to the first axis, and value of the nodes."""
    first, *others = sides
    total, bump = first.exponent, np.exp(first.exponent) * (height * kernel.stretch)
    for side in others:
        total = np.add.outer(total, side.exponent)
        bump = np.multiply.outer(bump, np.exp(side.exponent))
    inside = total > -CUTOFF
    bump *= inside
    n = len(sides)
    hill = np.empty((n + 1, *bump.shape))
    for k, side in enumerate(sides):
        np.multiply(bump, side.slope.reshape(_ALONG[n][k]), out=hill[n - 1 - k])
    np.multiply(inside, height * kernel.shift, out=hill[n])
    hill[n] += bump
    for k, side in enumerate(sides):
        if side.times is not None:
            hill *= side.times.reshape(_ALONG[n][k])
    return hill


def _carry(border: list[tuple[np.ndarray, np.ndarray]]) -> None:
    """Carry the first nodes of a periodic axis on beyond its last."""
    for beyond, nodes in border:
        beyond[...] = nodes


SIDES = {n: tuple(itertools.product((0, 1), repeat=n)) for n in (1, 2, 3)}
_ALONG = {n: tuple((-1,) + (1,) * (n - 1 - k) for k in range(n)) for n in (1, 2, 3)}  # shapes


def _factors(x: Any) -> tuple[tuple[Any, Any], tuple[Any, Any]]:
    """Weights of value and slope for the near and the far corner, `x` cells from the near one."""
    far, rest = x * x * (3 - 2 * x), 1 - x
    return (1 - far, far), (x * rest * rest, -x * x * rest)


def _factor_slopes(x: float) -> tuple[tuple[float, float], tuple[float, float]]:
    """How `_factors` change along `x`."""
    far, rest = 6 * x * (1 - x), 1 - x
    return (-far, far), (rest * (1 - 3 * x), x * (3 * x - 2))


def _blended(corners: list[list[float]], places: list[float]) -> tuple[float, list[float]]:
    """Value and its slopes over the steps, in a cell.

    Parameters
    ----------
    corners : list of list of float, lengths 1 + n_axes and 2**n_axes
        Planes of the table at the corners of the cell.
    places : list of float, length n_axes
        How far along the cell.
    """
    n = len(places)
    factors = [_factors(x) for x in places]
    changes = [_factor_slopes(x) for x in places]
    total, along = 0.0, [0.0] * n
    for value, *ratios, sides in zip(*corners, SIDES[n], strict=True):
        here = [
            w[side] + r * v[side] for r, side, (w, v) in zip(ratios, sides, factors, strict=True)
        ]
        total += value * math.prod(here)
        for i, (r, side, (w, v)) in enumerate(zip(ratios, sides, changes, strict=True)):
            others = math.prod(here[:i] + here[i + 1 :])
            along[i] += value * (w[side] + r * v[side]) * others
    return total, along
