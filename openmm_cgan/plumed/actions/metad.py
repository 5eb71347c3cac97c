"""METAD: well-tempered metadynamics on a grid, as PLUMED sums and interpolates it.

The grid holds the bias and its slopes at the nodes. Between nodes it is the product of cubic
Hermite factors that PLUMED uses, which in one cell is a polynomial: OpenMM's force is given the
coefficients of all cells as a table, so that it and PLUMED agree to rounding.

Well-tempered metadynamics: Barducci, Bussi, Parrinello, doi 10.1103/PhysRevLett.100.020603.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from openmm_cgan.plumed.actions.action import REMEDY, Given, Keyword
from openmm_cgan.plumed.actions.biases import Bias
from openmm_cgan.plumed.actions.grids import Axis, HillGrid
from openmm_cgan.plumed.language import is_number_format, read_real

MAX_GRID_POINTS = 20_000_000


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
        self.sigma: tuple[float, ...] = options["SIGMA"]
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
        if not all(sigma > 0 for sigma in self.sigma):
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
            spacing = [0.2 * sigma for sigma in self.sigma]
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
        if all(isinstance(x, float) for x in arguments):
            return self.grid.at(arguments)  # type: ignore[return-value]
        return self.grid.value([np.asarray(x, dtype=float) for x in arguments])

    def check_inside(self, arguments: list[Any]) -> None:
        """Raise as PLUMED does when a value has left the grid.

        Raises
        ------
        RuntimeError
        """
        for axis, s in zip(self.grid.axes, arguments, strict=True):
            if not (axis.inside(s) if isinstance(s, float) else np.all(axis.inside(s))):
                raise RuntimeError(
                    f"{self.statement.location}: METAD {self.label}: {axis.value.name} = {s} is "
                    f"outside the grid from {axis.lower} to {axis.upper}: widen GRID_MIN and "
                    "GRID_MAX, or add walls inside them"
                )

    def deposit(self, arguments: list[float], v: float) -> tuple[float, ...]:
        """Add the hill of this step; return centre, sigma, written height and bias factor."""
        assert self.height is not None
        height, written = self.height, self.height
        if self.bias_factor is not None and self.kt is not None:
            height = self.height * math.exp(-v / (self.kt * (self.bias_factor - 1)))
            written = height * self.bias_factor / (self.bias_factor - 1)
        self.grid.add(arguments, self.sigma, height)
        factor = -1.0 if self.bias_factor is None else self.bias_factor
        return (*arguments, *self.sigma, written, factor)

    def restore(self, centres: np.ndarray, sigmas: np.ndarray, written: np.ndarray) -> None:
        """Add the hills of an earlier run, heights as the file has them."""
        scale = 1.0
        if self.bias_factor is not None:
            scale = (self.bias_factor - 1) / self.bias_factor
        for centre, sigma, height in zip(centres, sigmas, written, strict=True):
            self.grid.add(centre, sigma, float(height) * scale)
