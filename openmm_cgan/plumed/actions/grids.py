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
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import numpy as np

from openmm_cgan.plumed.actions.action import Value

# PLUMED's "stretched" Gaussian, cut at half its squared distance CUTOFF and brought to zero there
CUTOFF = 6.25
STRETCH = 1.0 / (1.0 - math.exp(-CUTOFF))
SHIFT = 1.0 - STRETCH
FLAT = 1e-7  # PLUMED takes a node's slopes as zero where its value is below this
BORDER = 2  # nodes beyond the last cell in the table: its far corners, and one for rounding


@dataclass(frozen=True)
class Axis:
    """One axis of a grid, over a value from `lower` to `upper` in `cells` equal steps."""

    value: Value
    lower: float
    upper: float
    cells: int
    texts: tuple[str, str] = ("", "")  # lower and upper as they were written

    @cached_property
    def step(self) -> float:
        """Distance of two nodes."""
        return (self.upper - self.lower) / self.cells

    @cached_property
    def periodic(self) -> bool:
        """Whether the last node is the first again."""
        return self.value.domain is not None

    @cached_property
    def nodes(self) -> int:
        """Number of nodes; the last of a periodic axis is the first again."""
        return self.cells + (not self.periodic)

    def goes_round(self, reach: float) -> bool:
        """Whether nodes within `reach` go more than once round, where PLUMED may stop."""
        return self.periodic and math.ceil(reach / self.step) >= self.cells

    def position(self, s: np.ndarray) -> np.ndarray:
        """Distance from `lower` in cells."""
        return (self.value.wrap(s) - self.lower) / self.step

    def inside(self, s: Any) -> Any:
        """Whether a value is on the grid; always, where periodic. PLUMED goes one step too far."""
        if self.periodic:
            return abs(s) < math.inf
        return (s >= self.lower) & (s < self.upper + self.step)

    def nearby(self, s: float, reach: float) -> tuple[range, np.ndarray, np.ndarray | None]:
        """Nodes within `reach` of a value, their distances, and counts if some count twice.

        The range runs beyond the ends of a periodic axis, but never more than once round it.
        PLUMED goes on, and adds a hill again to the nodes where it comes round.
        """
        position = (s - self.lower) / self.step
        if self.periodic:
            position -= self.cells * math.floor(position / self.cells)
        centre, width = math.floor(position), math.ceil(reach / self.step)
        if not self.periodic:
            width = min(width, self.cells + 1)
            near = range(max(centre - width, 0), min(centre + width, self.cells) + 1)
            part = slice(near.start - centre + width, near.stop - centre + width)
            return near, _offsets(width, self.step)[part] - self.step * (position - centre), None
        if 2 * width + 1 <= self.cells:
            near = range(centre - width, centre + width + 1)
            return near, _offsets(width, self.step) - self.step * (position - centre), None
        met = np.arange(centre - width, centre + width + 1) % self.cells
        distances = self.value.difference(s, self.lower + self.step * np.arange(self.cells))
        counts = np.bincount(met, minlength=self.cells).astype(float)
        return range(self.cells), distances, counts

    def pieces(self, near: range) -> list[tuple[slice, slice]]:
        """Slices of the nodes, and of `near`, that belong together."""
        found, start = [], near.start
        while start < near.stop:
            turn = start // self.nodes * self.nodes
            stop = min(near.stop, turn + self.nodes)
            node = slice(start - turn, stop - turn)
            found.append((node, slice(start - near.start, stop - near.start)))
            start = stop
        return found


class HillGrid:
    """The sum of Gaussian hills on a grid.

    Parameters
    ----------
    axes : sequence of Axis
        At most three.
    spline : bool
        Whether the bias between nodes is interpolated. If not, it is that of the node below, and
        so is the force, which is no slope of it then.

    Attributes
    ----------
    nodes : ndarray, shape (1 + n_axes, *nodes)
        Value, and for each axis the slope times the step of the axis.
    table : ndarray, shape (*(nodes and BORDER), 1 + n_axes)
        Value, and for each axis the slope times the step, where there is a spline over the value.
        Periodic axes go on for BORDER nodes, so that the corners of a cell always follow each
        other.
    """

    def __init__(self, axes: Sequence[Axis], spline: bool = True) -> None:
        self.axes = tuple(axes)
        self.spline = spline
        self.nodes = np.zeros((1 + len(axes), *(axis.nodes for axis in axes)))
        self.table = np.zeros((*(axis.cells + BORDER for axis in axes), 1 + len(axes)))

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
        near, hill = self._hill(centre, sigma, height, interval)
        pieces = [axis.pieces(n) for axis, n in zip(self.axes, near, strict=True)]
        for piece in itertools.product(*pieces):
            block = tuple(node for node, _ in piece)
            nodes = self.nodes[(slice(None), *block)]
            nodes += hill[(slice(None), *(part for _, part in piece))]
            self._tabulate(block)
        self._close(pieces)

    def _hill(
        self,
        centre: Sequence[float],
        sigma: Sequence[float],
        height: float,
        interval: tuple[float, float] | None,
    ) -> tuple[list[range], np.ndarray]:
        """What a hill adds to the nodes, and to which."""
        near, exponents, slopes, counts = [], [], [], []
        for i, axis in enumerate(self.axes):
            reach = reach_of(sigma[i])
            if interval is not None and not within(interval, centre[i], reach):
                reach = axis.upper - axis.lower
            indices, delta, count = axis.nearby(centre[i], reach)
            scale = 1.0 / sigma[i]
            slope = delta * (-axis.step * scale * scale)
            if interval is not None:
                nodes = axis.lower + np.arange(indices.start, indices.stop) * axis.step
                slope[(nodes < interval[0]) | (nodes > interval[1])] = 0.0
                delta = np.clip(nodes, *interval) - centre[i]
            delta = delta * scale
            along = (slice(None),) + (None,) * (len(self.axes) - 1 - i)
            exponents.append((-0.5 * delta * delta)[along])
            slopes.append(slope[along])
            near.append(indices)
            if count is not None:
                counts.append(count[along])
        return near, _bumps(exponents, slopes, counts, height)

    def _tabulate(self, block: tuple[slice, ...]) -> None:
        nodes = self.nodes[(slice(None), *block)]
        if not self.spline:
            self.table[block] = np.moveaxis(nodes, 0, -1)
            return
        value, slopes = nodes[0], nodes[1:]
        over = 1.0 / np.where(np.abs(value) >= FLAT, value, np.inf)
        entries = self.table[block]
        entries[..., 0] = value
        for k, slope in enumerate(slopes):
            np.multiply(slope, over, out=entries[..., 1 + k])

    def _close(self, pieces: Sequence[Sequence[tuple[slice, slice]]]) -> None:
        """Carry the first nodes of periodic axes on beyond their last, where they have changed."""
        for i, axis in enumerate(self.axes):
            if axis.periodic and any(node.start < BORDER for node, _ in pieces[i]):
                table = np.moveaxis(self.table, i, 0)
                for extra in range(BORDER):
                    table[axis.cells + extra] = table[extra % axis.cells]

    def refresh(self) -> None:
        """Make the table from nodes that were set from outside."""
        everything = [slice(0, axis.nodes) for axis in self.axes]
        self._tabulate(tuple(everything))
        self._close([[(node, node)] for node in everything])

    def saved(self) -> dict[str, np.ndarray]:
        """What there is to be saved with a checkpoint."""
        return {"nodes": self.nodes}

    def restore_saved(self, nodes: np.ndarray) -> None:
        """Take over nodes that `saved` gave."""
        self.nodes[...] = nodes
        self.refresh()

    # ---- values

    def maximum(self) -> float:
        """Largest value at a node, or zero where all are below."""
        return max(float(self.nodes[0].max()), 0.0)

    def at(self, arguments: Sequence[float]) -> float:
        """Interpolated bias at one point, quickly; zero off a grid that is not periodic."""
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
        corners = self.table[tuple(cells)].reshape(-1, 1 + len(self.axes)).tolist()
        total = 0.0
        for (term, *slopes), sides in zip(corners, _SIDES[len(self.axes)], strict=True):
            for slope, side, (w, v) in zip(slopes, sides, factors, strict=True):
                term *= w[side] + slope * v[side]
            total += term
        return total

    def value(self, arguments: Sequence[np.ndarray]) -> np.ndarray:
        """Interpolated bias.

        Parameters
        ----------
        arguments : list of ndarray, shape (...)
            Values on each axis; zero is returned off a grid that is not periodic.
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
        for sides in _SIDES[len(self.axes)]:
            corner = tuple(c + side for c, side in zip(cells, sides, strict=True))
            entries = self.table[corner]
            product = entries[..., 0]
            for i, (side, (w, v)) in enumerate(zip(sides, factors, strict=True)):
                product = product * (w[side] + entries[..., 1 + i] * v[side])
            total = total + product
        return np.where(inside, total, 0.0)

    # ---- for OpenMM

    def expression(self, arguments: Sequence[str], wrapped: Sequence[bool], table: str) -> str:
        """The interpolation as an expression of OpenMM's over a Discrete1DFunction `table`.

        Parameters
        ----------
        arguments : sequence of str
            Expressions of the values.
        wrapped : sequence of bool
            Whether each is in its domain always, as OpenMM's torsions are.
        table : str
            Name of the function that holds `table`, flattened.
        """
        n = len(self.axes)
        strides = [stride // self.table.itemsize for stride in self.table.strides]
        terms = []
        if not self.spline:  # what the force takes the slope of is nothing as a number
            rests = [f"(u{i}-floor(u{i}*{_FINE})/{_FINE})" for i in range(n)]
            terms = [f"{table}(k)", *(f"{table}(k+{1 + i})*{r}" for i, r in enumerate(rests))]
        for sides in _SIDES[n] if self.spline else ():
            first = sum(side * stride for side, stride in zip(sides, strides, strict=False))
            factors = [f"{table}(k+{first})"]
            for i, side in enumerate(sides):
                factors.append(f"(w{side}{i}+s{side}{i}*{table}(k+{first + 1 + i}))")
            terms.append("*".join(factors))
        index = "+".join(f"n{i}*{strides[i]}" for i in range(n))
        definitions = [f"k={index}"]
        for i, (argument, known) in enumerate(zip(arguments, wrapped, strict=True)):
            definitions += self._definitions(i, argument, known)
        return ";".join(["+".join(terms), *definitions])

    def _definitions(self, i: int, argument: str, wrapped: bool) -> list[str]:
        axis = self.axes[i]
        u = f"(({argument})-({axis.lower!r}))*{1 / axis.step!r}"
        if not axis.periodic:
            cell, places = f"min(max(floor(u{i}),0),{axis.cells})", [f"u{i}={u}"]
        elif wrapped:
            cell, places = f"floor(u{i})", [f"u{i}={u}"]
        else:
            cell = f"floor(u{i})"
            places = [f"u{i}=t{i}-{axis.cells}*floor(t{i}*{1 / axis.cells!r})", f"t{i}={u}"]
        return [
            f"w0{i}=1-w1{i}",
            f"w1{i}=x{i}*x{i}*(3-2*x{i})",
            f"s0{i}=x{i}*y{i}*y{i}",
            f"s1{i}=-x{i}*x{i}*y{i}",
            f"y{i}=1-x{i}",
            f"x{i}=u{i}-n{i}",
            f"n{i}={cell}",
            *places,
        ]


def reach_of(sigma: float) -> float:
    """How far a hill goes."""
    return math.sqrt(2 * CUTOFF) * sigma


def within(interval: tuple[float, float], centre: float, reach: float) -> bool:
    """Whether a hill lies in an interval with all its reach."""
    return interval[0] <= centre - reach and centre + reach <= interval[1]


_FINE = 2.0**40


@lru_cache(maxsize=64)
def _offsets(width: int, step: float) -> np.ndarray:
    return step * np.arange(-width, width + 1)


def _bumps(
    exponents: list[np.ndarray], slopes: list[np.ndarray], counts: list[np.ndarray], height: float
) -> np.ndarray:
    """Values and slopes of a hill from the exponents and slopes along each axis."""
    total, bump = exponents[0], np.exp(exponents[0]) * (height * STRETCH)
    for exponent in exponents[1:]:
        total, bump = total + exponent, bump * np.exp(exponent)
    inside = total > -CUTOFF
    bump *= inside
    hill = np.empty((1 + len(slopes), *bump.shape))
    np.multiply(inside, height * SHIFT, out=hill[0])
    hill[0] += bump
    for k, slope in enumerate(slopes):
        np.multiply(bump, slope, out=hill[1 + k])
    for count in counts:
        hill *= count
    return hill


_SIDES = {n: tuple(itertools.product((0, 1), repeat=n)) for n in (1, 2, 3)}


def _factors(x: Any) -> tuple[tuple[Any, Any], tuple[Any, Any]]:
    """Weights of value and slope for the near and the far corner, `x` cells from the near one."""
    far, rest = x * x * (3 - 2 * x), 1 - x
    return (1 - far, far), (x * rest * rest, -x * x * rest)
