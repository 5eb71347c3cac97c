"""METAD: well-tempered metadynamics on a grid, as PLUMED sums and interpolates it.

The grid holds the bias and its slopes at the nodes. Between nodes it is the product of cubic
Hermite factors that PLUMED uses, which in one cell is a polynomial: OpenMM's force is given the
coefficients of all cells as a table, so that it and PLUMED agree to rounding.

Well-tempered metadynamics: Barducci, Bussi, Parrinello, doi 10.1103/PhysRevLett.100.020603.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from openmm_cgan.plumed.actions.action import REMEDY, Given, Keyword, Value
from openmm_cgan.plumed.actions.biases import Bias, take
from openmm_cgan.plumed.language import is_number_format, read_real

# PLUMED's "stretched" Gaussian, cut at half its squared distance CUTOFF and brought to zero there
CUTOFF = 6.25
STRETCH = 1.0 / (1.0 - math.exp(-CUTOFF))
SHIFT = 1.0 - STRETCH
FLAT = 1e-7  # PLUMED takes a node's slopes as zero where its value is below this

MAX_GRID_POINTS = 20_000_000


@dataclass(frozen=True)
class Axis:
    """One axis of a grid, over a value from `lower` to `upper` in `cells` equal steps."""

    value: Value
    lower: float
    upper: float
    cells: int

    @property
    def step(self) -> float:
        """Distance of two nodes."""
        return (self.upper - self.lower) / self.cells

    @property
    def nodes(self) -> int:
        """Number of nodes; the last of a periodic axis is the first again."""
        return self.cells + (self.value.domain is None)

    def position(self, s: np.ndarray) -> np.ndarray:
        """Distance from `lower` in cells."""
        return (self.value.wrap(s) - self.lower) / self.step

    def inside(self, s: np.ndarray) -> np.ndarray:
        """Whether a value is on the grid; always, where periodic."""
        if self.value.domain is not None:
            return np.isfinite(s)
        return (s >= self.lower) & (s <= self.upper)

    def nearby(self, s: float, reach: float) -> np.ndarray:
        """Indices of the nodes within `reach` of a value, each once."""
        centre = math.floor(float(self.position(np.asarray(s))))
        width = math.ceil(reach / self.step)
        if self.value.domain is None:
            return np.arange(max(centre - width, 0), min(centre + width, self.cells) + 1)
        if 2 * width + 1 >= self.cells:
            return np.arange(self.cells)
        return np.arange(centre - width, centre + width + 1) % self.cells


class HillGrid:
    """The sum of Gaussian hills on a grid.

    `table` holds for each node the numbers that the interpolation multiplies: the value, and for
    each axis the slope times the step; for two axes also their product over the value.

    Parameters
    ----------
    axes : tuple of Axis
        One or two.
    """

    def __init__(self, axes: tuple[Axis, ...]) -> None:
        self.axes = axes
        shape = tuple(axis.nodes for axis in axes)
        self.heights = np.zeros(shape)
        self.slopes = np.zeros((len(axes), *shape))  # times the step of the axis
        self.table = np.zeros((*shape, 2 ** len(axes)))

    def add(self, centre: np.ndarray, sigma: np.ndarray, height: float) -> None:
        """Add one hill.

        Parameters
        ----------
        centre, sigma : ndarray, shape (n_axes,)
        height : float
        """
        reach = math.sqrt(2 * CUTOFF) * sigma
        near = [axis.nearby(centre[i], reach[i]) for i, axis in enumerate(self.axes)]
        deltas = np.ix_(
            *(
                axis.value.difference(centre[i], axis.lower + near[i] * axis.step) / sigma[i]
                for i, axis in enumerate(self.axes)
            )
        )
        half = 0.5 * sum(delta * delta for delta in deltas)
        bump = np.where(half < CUTOFF, height * STRETCH * np.exp(-half), 0.0)
        patch = np.ix_(*near)
        self.heights[patch] += np.where(half < CUTOFF, bump + height * SHIFT, 0.0)
        for i, delta in enumerate(deltas):
            self.slopes[i][patch] -= bump * (delta * (self.axes[i].step / sigma[i]))
        self._tabulate(patch)

    def take_over(self, heights: np.ndarray, slopes: np.ndarray) -> None:
        """Replace the sum of hills."""
        self.heights[...], self.slopes[...] = heights, slopes
        self._tabulate(np.ix_(*(np.arange(n) for n in heights.shape)))

    def _tabulate(self, patch: tuple[np.ndarray, ...]) -> None:
        height = self.heights[patch]
        steep = np.abs(height) >= FLAT
        slopes = [np.where(steep, slope[patch], 0.0) for slope in self.slopes]
        entries = [height, *slopes]
        if len(slopes) == 2:
            entries.append(slopes[0] * slopes[1] / np.where(steep, height, 1.0))
        self.table[patch] = np.stack(entries, axis=-1)

    def value(self, arguments: list[np.ndarray]) -> np.ndarray:
        """Interpolated bias.

        Parameters
        ----------
        arguments : list of ndarray, shape (...)
            Values on each axis; zero is returned off a grid that is not periodic.
        """
        inside = np.ones(np.shape(arguments[0]), dtype=bool)
        nodes, weights = [], []
        for axis, s in zip(self.axes, arguments, strict=True):
            inside = inside & axis.inside(np.asarray(s))
            u = np.where(inside, axis.position(np.asarray(s, dtype=float)), 0.0)
            cell = np.clip(np.floor(u).astype(int), 0, axis.cells - 1)
            x = u - cell
            nodes.append((cell, (cell + 1) % axis.nodes))
            weights.append((_value_weights(x), _slope_weights(x)))
        total = np.zeros(inside.shape)
        for corner in itertools.product((0, 1), repeat=len(self.axes)):
            entries = self.table[tuple(n[side] for n, side in zip(nodes, corner, strict=True))]
            for k, sloped in enumerate(SLOPED[len(self.axes)]):
                weight = entries[..., k]
                for w, use, side in zip(weights, sloped, corner, strict=True):
                    weight = weight * w[use][side]
                total = total + weight
        return np.where(inside, total, 0.0)

    def expression(self, arguments: list[str], table: str) -> str:
        """The interpolation as an expression of OpenMM's over a Discrete1DFunction `table`."""
        n = len(self.axes)
        terms = []
        for corner in itertools.product((0, 1), repeat=n):
            node = "0"
            for i, side in enumerate(corner):
                node = f"{node}*{self.axes[i].nodes}+n{side}{i}" if i else f"n{side}{i}"
            for k, sloped in enumerate(SLOPED[n]):
                factors = [
                    f"{'s' if use else 'w'}{side}{i}"
                    for i, (use, side) in enumerate(zip(sloped, corner, strict=True))
                ]
                terms.append("*".join([*factors, f"{table}({2**n}*({node})+{k})"]))
        definitions = [d for i, s in enumerate(arguments) for d in self._definitions(i, s)]
        return ";".join(["+".join(terms), *definitions])

    def _definitions(self, i: int, argument: str) -> list[str]:
        axis = self.axes[i]
        if axis.value.domain is None:
            cell, upper = f"min(max(floor(u{i}),0),{axis.cells - 1})", f"n0{i}+1"
        else:
            cell = f"floor(u{i})-{axis.cells}*floor(u{i}/{axis.cells})"
            upper = f"select(n0{i}-{axis.cells - 1},n0{i}+1,0)"
        origin = "n0" if axis.value.domain is None else "f"
        return [
            f"w0{i}=1-w1{i}",
            f"w1{i}=x{i}*x{i}*(3-2*x{i})",
            f"s0{i}=x{i}*(1-x{i})^2",
            f"s1{i}=-x{i}^2*(1-x{i})",
            f"x{i}=u{i}-{origin}{i}",
            f"n1{i}={upper}",
            f"n0{i}={cell}",
            f"f{i}=floor(u{i})",
            f"u{i}=(({argument})-({axis.lower!r}))*{1 / axis.step!r}",
        ]


# Which axes an entry of the table takes the slope of, in the order of the entries
SLOPED = {1: ((0,), (1,)), 2: ((0, 0), (1, 0), (0, 1), (1, 1))}


def _value_weights(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    upper = x * x * (3 - 2 * x)
    return 1 - upper, upper


def _slope_weights(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return x * (1 - x) ** 2, -(x**2) * (1 - x)


class Metad(Bias):
    """Metadynamics in one or two dimensions on a grid, plain or well-tempered."""

    name = "METAD"
    summary = "metadynamics, 1-D and 2-D, well-tempered, GRID"
    keywords = (
        Keyword("ARG", "arguments", "one or two values", compulsory=True),
        Keyword("SIGMA", "reals", "width of the hills for each argument", compulsory=True),
        Keyword("PACE", "integer", "steps between hills", compulsory=True),
        Keyword("HEIGHT", "real", "height of the hills, if TAU is not given"),
        Keyword("TAU", "real", "time scale that sets the height, with BIASFACTOR"),
        Keyword("BIASFACTOR", "real", "bias factor of well-tempered metadynamics"),
        Keyword("TEMP", "real", "temperature in K, if not that of the run"),
        Keyword("FILE", "text", "where the hills are written", default="HILLS"),
        Keyword("FMT", "text", "number format of the hills file"),
        Keyword("GRID_MIN", "texts", "lower limits of the grid"),
        Keyword("GRID_MAX", "texts", "upper limits of the grid"),
        Keyword("GRID_BIN", "integers", "cells of the grid"),
        Keyword("GRID_SPACING", "reals", "largest distance of two nodes"),
    )

    def __init__(self, given: Given) -> None:
        super().__init__(given)
        options = given.options
        self.sigma = np.array(options["SIGMA"], dtype=float)
        self.pace: int = options["PACE"]
        self.bias_factor: float | None = options["BIASFACTOR"]
        self.temp: float | None = options["TEMP"]
        self.tau: float | None = options["TAU"]
        self.height: float | None = options["HEIGHT"]
        self.file: str = options["FILE"]
        self.fmt: str = options["FMT"] or "%23.16g"
        self._check(options)
        self.grid = HillGrid(tuple(self._axis(i, options) for i in range(len(self.arguments))))
        if math.prod(axis.nodes for axis in self.grid.axes) > MAX_GRID_POINTS:
            raise self.error("GRID_BIN", f"the grid has more than {MAX_GRID_POINTS} points")
        self.hills: list[tuple[float, ...]] = []

    def _check(self, options: dict[str, Any]) -> None:
        if not 1 <= len(self.arguments) <= 2:
            raise self.error("ARG", f"{len(self.arguments)} arguments; natively 1 or 2; {REMEDY}")
        if not np.all(self.sigma > 0):
            raise self.error("SIGMA", "must be positive")
        if self.pace <= 0:
            raise self.error("PACE", "must be positive")
        if self.bias_factor is not None and self.bias_factor <= 1:
            raise self.error("BIASFACTOR", f"must be above 1 natively; {REMEDY}")
        if (self.height is None) == (self.tau is None):
            raise self.error("HEIGHT", "give either HEIGHT, or TAU with BIASFACTOR")
        if self.tau is not None and self.bias_factor is None:
            raise self.error("TAU", "needs BIASFACTOR")
        if options["GRID_MIN"] is None or options["GRID_MAX"] is None:
            message = f"natively METAD needs a grid: add GRID_MIN= and GRID_MAX=, or {REMEDY}"
            raise self.error("METAD", message)
        if not is_number_format(self.fmt):
            raise self.error("FMT", "expected a format such as %14.9f")

    def _axis(self, i: int, options: dict[str, Any]) -> Axis:
        value = self.arguments[i]
        try:
            lower = read_real(options["GRID_MIN"][i])
            upper = read_real(options["GRID_MAX"][i])
        except ValueError as error:
            raise self.error("GRID_MIN", str(error)) from None
        if lower >= upper:
            raise self.error("GRID_MIN", f"must be below GRID_MAX for {value.name}")
        if value.domain is not None and (lower, upper) != value.domain:
            raise self.error(
                "GRID_MIN", f"the grid of the periodic {value.name} must be its whole domain"
            )
        bins, spacing = options["GRID_BIN"], options["GRID_SPACING"]
        if bins is None and spacing is None:
            spacing = self.sigma / 5
        cells = bins[i] if bins is not None else 0
        if spacing is not None:
            if not spacing[i] > 0:
                raise self.error("GRID_SPACING", "must be positive")
            cells = max(cells, math.ceil((upper - lower) / spacing[i]))
        if not 1 <= cells <= MAX_GRID_POINTS:
            raise self.error("GRID_BIN", f"{cells} cells for {value.name}: expected at least 1")
        return Axis(value, lower, upper, cells)

    @property
    def needs_temperature(self) -> bool:
        """Whether the height of the hills depends on a temperature that TEMP does not give."""
        return self.bias_factor is not None and self.temp is None

    def start(self, kt: float | None, timestep: float) -> None:
        """Fix what depends on the run: kT [energy unit of the input] and the time step [ps]."""
        self.kt = kt
        if self.tau is not None:
            assert self.bias_factor is not None
            assert kt is not None
            time = timestep * self.pace / self.units.time
            self.height = kt * (self.bias_factor - 1) / self.tau * time

    def energy(self, arguments: list[Any]) -> np.ndarray:
        return self.grid.value([np.asarray(x, dtype=float) for x in arguments])

    def check_inside(self, arguments: list[Any]) -> None:
        """Raise as PLUMED does when a value has left the grid.

        Raises
        ------
        RuntimeError
        """
        for axis, s in zip(self.grid.axes, arguments, strict=True):
            if not np.all(axis.inside(np.asarray(s))):
                raise RuntimeError(
                    f"{self.statement.location}: METAD {self.label}: {axis.value.name} = {s} is "
                    f"outside the grid from {axis.lower} to {axis.upper}: widen GRID_MIN and "
                    "GRID_MAX, or add walls inside them"
                )

    def deposit(self, arguments: list[float]) -> tuple[float, ...]:
        """Add the hill of this step; return centre, sigma, written height and bias factor."""
        assert self.height is not None
        height, written = self.height, self.height
        if self.bias_factor is not None and self.kt is not None:
            v = float(self.energy(list(arguments)))
            height = self.height * math.exp(-v / (self.kt * (self.bias_factor - 1)))
            written = height * self.bias_factor / (self.bias_factor - 1)
        centre = np.array(arguments, dtype=float)
        self.grid.add(centre, self.sigma, height)
        factor = -1.0 if self.bias_factor is None else self.bias_factor
        return (*centre, *self.sigma, written, factor)

    def saved(self) -> dict[str, np.ndarray]:
        return {"heights": self.grid.heights, "slopes": self.grid.slopes}

    def restore_saved(self, arrays: dict[str, np.ndarray]) -> None:
        self.grid.take_over(
            take(arrays, "heights", self.grid.heights.shape),
            take(arrays, "slopes", self.grid.slopes.shape),
        )

    def restore(self, centres: np.ndarray, sigmas: np.ndarray, written: np.ndarray) -> None:
        """Add the hills of an earlier run, heights as the file has them."""
        scale = 1.0
        if self.bias_factor is not None:
            scale = (self.bias_factor - 1) / self.bias_factor
        for centre, sigma, height in zip(centres, sigmas, written, strict=True):
            self.grid.add(centre, sigma, float(height) * scale)
