"""METAD: metadynamics, as PLUMED sums, tempers and interpolates it.

Metadynamics: Laio, Parrinello, doi 10.1073/pnas.202427399. Well-tempered: Barducci, Bussi,
Parrinello, doi 10.1103/PhysRevLett.100.020603. c(t): Tiwary, Parrinello, doi 10.1021/jp504920s.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np

from openmm_cgan.plumed.actions.action import REMEDY, Given, Keyword, Value
from openmm_cgan.plumed.actions.biases import Bias, restarts_itself, take
from openmm_cgan.plumed.actions.grids import Axis, HillGrid, reach_of
from openmm_cgan.plumed.actions.hill_sums import HillSum
from openmm_cgan.plumed.language import is_number_format, read_real

MAX_GRID_POINTS = 8_000_000
MAX_AXES = 3  # of a grid
MAX_WALKERS = 10_000

_GRID_KEYWORDS = (
    Keyword("GRID_MIN", "texts", "lower limits of the grid; without a grid hills are summed"),
    Keyword("GRID_MAX", "texts", "upper limits of the grid"),
    Keyword("GRID_BIN", "integers", "cells of the grid"),
    Keyword("GRID_SPACING", "reals", "largest distance of two nodes"),
    Keyword("GRID_SPARSE", "flag", "taken as an ordinary grid"),
    Keyword("GRID_NOSPLINE", "flag", "take the bias and force of the node below"),
    Keyword("GRID_WFILE", "text", "where the grid is written"),
    Keyword("GRID_WSTRIDE", "integer", "steps between writing the grid"),
    Keyword("STORE_GRIDS", "flag", "keep all grids that are written, not only the last"),
    Keyword("GRID_RFILE", "text", "a grid to begin with"),
)
_WALKER_KEYWORDS = (
    Keyword("WALKERS_N", "integer", "how many walkers share their hills by files", default=1),
    Keyword("WALKERS_ID", "integer", "which of them this is, from 0", default=0),
    Keyword("WALKERS_DIR", "text", "folder of their hills files", default=""),
    Keyword("WALKERS_RSTRIDE", "integer", "steps between reading their hills", default=1),
)


class Metad(Bias):
    """Metadynamics, plain, well-tempered or damped, with or without a grid.

    Attributes
    ----------
    hills : HillGrid or HillSum
        The bias.
    rct, max_bias, work : float
        c(t), the largest bias on the grid, and what the hills have added where they were laid
        [energy unit of the input].
    """

    name = "METAD"
    summary = "metadynamics: well-tempered, on a grid to 3-D or without, walkers"
    keywords = (
        Keyword("ARG", "arguments", "the values", compulsory=True),
        Keyword("SIGMA", "reals", "width of the hills for each argument", compulsory=True),
        Keyword("PACE", "integer", "steps between hills", compulsory=True),
        Keyword("HEIGHT", "real", "height of the hills, if TAU is not given"),
        Keyword("TAU", "real", "time scale that sets the height, with BIASFACTOR or DAMPFACTOR"),
        Keyword("BIASFACTOR", "real", "bias factor of well-tempered metadynamics"),
        Keyword("DAMPFACTOR", "real", "damp by the largest bias: exp(-max / (kT DAMPFACTOR))"),
        Keyword("TEMP", "real", "temperature in K, if not that of the run"),
        Keyword("FILE", "text", "where the hills are written", default="HILLS"),
        Keyword("FMT", "text", "number format of the hills file"),
        Keyword("RESTART", "text", "YES or NO, if not as the whole input"),
        Keyword("INTERVAL", "numbers", "limits outside which one value feels no force"),
        Keyword("CALC_RCT", "flag", "c(t), and the bias less c(t), as rct and rbias"),
        Keyword("RCT_USTRIDE", "integer", "hills between updates of c(t)", default=1),
        Keyword("CALC_MAX_BIAS", "flag", "the largest bias on the grid as maxbias"),
        Keyword("CALC_WORK", "flag", "work done by laying hills as work"),
        *_GRID_KEYWORDS,
        *_WALKER_KEYWORDS,
    )

    def __init__(self, given: Given) -> None:
        super().__init__(given)
        options = given.options
        self.sigma: tuple[float, ...] = options["SIGMA"]
        self.pace: int = options["PACE"]
        self.bias_factor: float | None = options["BIASFACTOR"]
        self.damp_factor: float = options["DAMPFACTOR"] or 0.0
        self.temp: float | None = options["TEMP"]
        self.tau: float = options["TAU"] or 0.0
        self.height: float | None = options["HEIGHT"]
        self.file: str = options["FILE"]
        self.fmt: str = options["FMT"] or "%23.16g"
        self.restarts = restarts_itself(self, options["RESTART"])
        self.calc_rct: bool = options["CALC_RCT"]
        self.rct_stride: int = options["RCT_USTRIDE"] * self.pace
        self.calc_max_bias: bool = options["CALC_MAX_BIAS"]
        self.calc_work: bool = options["CALC_WORK"]
        self.grid_read: str | None = options["GRID_RFILE"]
        self.grid_file: str | None = options["GRID_WFILE"]
        self.grid_stride: int = options["GRID_WSTRIDE"] or 0
        self.store_grids: bool = options["STORE_GRIDS"]
        self.walkers: int = options["WALKERS_N"]
        self.walker: int = options["WALKERS_ID"]
        self.walkers_folder: str = options["WALKERS_DIR"]
        self.read_stride: int = options["WALKERS_RSTRIDE"]
        self.interval = _interval(self, options["INTERVAL"])
        self.kt: float | None = None
        self.rct = self.max_bias = self.work = 0.0
        _check(self)
        axes = _read_axes(self, options)
        self.hills: HillGrid | HillSum
        if axes:
            self.hills = HillGrid(axes, spline=not options["GRID_NOSPLINE"])
        else:
            self.hills = HillSum(self.arguments, self.interval)
        _check_grid(self)

    @property
    def grid(self) -> HillGrid | None:
        """Where the bias is on a grid, the grid."""
        return self.hills if isinstance(self.hills, HillGrid) else None

    @property
    def applied(self) -> bool:
        """Whether the hills act; with BIASFACTOR=1 they are only written."""
        return self.bias_factor != 1.0

    @cached_property
    def outputs(self) -> tuple[Value, ...]:
        names = ["bias"]
        if self.calc_rct:
            names += ["rbias", "rct"]
        if self.calc_work:
            names.append("work")
        if self.calc_max_bias:
            names.append("maxbias")
        return tuple(Value(f"{self.label}.{name}", "energy") for name in names)

    @property
    def strides(self) -> set[int]:
        """At which multiples of the step something happens to it."""
        strides = {self.pace}
        if self.grid_stride:
            strides.add(self.grid_stride)
        if self.walkers > 1:
            strides.add(self.read_stride)
        return strides

    # ---- what depends on the run

    @property
    def needs_temperature(self) -> bool:
        """Whether it depends on a temperature that TEMP does not give."""
        tempered = self.bias_factor is not None or self.damp_factor > 0 or self.calc_rct
        return tempered and self.temp is None

    def start(self, kt: float | None, timestep: float) -> None:
        """Fix what depends on the run: kT [energy unit of the input] and the time step [ps]."""
        self.kt = kt
        if self.tau:
            assert kt is not None
            time = timestep * self.pace / self.units.time
            factor = self.damp_factor
            if self.bias_factor is not None:
                factor = self.bias_factor - 1 if self.bias_factor > 1 else 1.0
            self.height = kt * factor / self.tau * time

    # ---- values

    def energy(self, arguments: list[Any]) -> Any:
        if not self.applied:
            return arguments[0] * arguments[0] * 0.0  # not -0
        if all(isinstance(x, float) for x in arguments):
            return self.hills.at(arguments)
        return self.hills.value([np.asarray(x, dtype=float) for x in arguments])

    def values(self, arguments: list[Any]) -> tuple[Any, ...]:
        bias = self.energy(arguments)
        if len(self.outputs) == 1:
            return (bias,)
        found = {
            "bias": bias,
            "rbias": bias - self.rct,
            "rct": self.rct + 0 * bias,
            "work": self.work + 0 * bias,
            "maxbias": self.max_bias + 0 * bias,
        }
        return tuple(found[value.name.rpartition(".")[2]] for value in self.outputs)

    def changed_outputs(self) -> dict[str, float]:
        """Outputs that PLUMED prints as they are after the hill of the step, not before."""
        found = {}
        if self.calc_rct:
            found[f"{self.label}.rct"] = self.rct
        if self.calc_max_bias:
            found[f"{self.label}.maxbias"] = self.max_bias
        return found

    def energy_and_slopes(self, arguments: list[float], step: int = 0) -> tuple[float, list[float]]:
        """Energy of a METAD without grid, and its slope along each argument."""
        assert isinstance(self.hills, HillSum)
        return self.hills.value_and_slopes(arguments)

    def check_inside(self, arguments: list[Any]) -> None:
        """Raise as PLUMED does when a value has left the grid.

        Raises
        ------
        RuntimeError
        """
        for axis, s in zip(self.grid.axes if self.grid else (), arguments, strict=False):
            if not (axis.inside(s) if isinstance(s, float) else np.all(axis.inside(s))):
                raise RuntimeError(
                    f"{self.statement.location}: METAD {self.label}: {axis.value.name} = {s} is "
                    f"outside the grid from {axis.lower} to {axis.upper}: widen GRID_MIN and "
                    "GRID_MAX, or add walls inside them"
                )

    # ---- hills

    def deposit(self, arguments: list[float], v: float) -> tuple[float, ...]:
        """Add the hill of this step, where the bias is `v`.

        Returns
        -------
        tuple of float
            Centre, sigma, height as it is written, bias factor.
        """
        if not self.applied:
            v = self.hills.at(arguments)  # which has no force, but tempers
        height = written = self._tempered(v)
        if self.bias_factor is not None and self.bias_factor > 1:
            written = height * (self.bias_factor / (self.bias_factor - 1))
        self._add(arguments, self.sigma, height)
        if self.calc_work:
            self.work += self.hills.at(arguments) - v
        factor = -1.0 if self.bias_factor is None else self.bias_factor
        return (*arguments, *self.sigma, written, factor)

    def saved(self) -> dict[str, np.ndarray]:
        sums = {name: np.array(getattr(self, name)) for name in ("rct", "max_bias", "work")}
        return sums | self.hills.saved()

    def restore_saved(self, arrays: dict[str, np.ndarray]) -> None:
        for name in ("rct", "max_bias", "work"):
            setattr(self, name, float(take(arrays, name, ())))
        if self.grid is not None:
            self.grid.restore_saved(take(arrays, "nodes", self.grid.nodes.shape))
            return
        assert isinstance(self.hills, HillSum)
        centres = take(arrays, "centres", (len(self.arguments), None))
        over_sigma = take(arrays, "over_sigma", centres.shape)
        self.hills.restore_saved(centres, over_sigma, take(arrays, "heights", centres.shape[1:]))

    def _tempered(self, v: float) -> float:
        assert self.height is not None
        height = self.height
        if self.bias_factor is not None:
            assert self.kt is not None
            factor = self.bias_factor - 1 if self.bias_factor > 1 else 1.0
            height *= math.exp(-v / (self.kt * factor))
        if self.damp_factor:
            assert self.grid is not None
            assert self.kt is not None
            height *= math.exp(-self.grid.maximum() / (self.kt * self.damp_factor))
        return height

    def _add(self, centre: Sequence[float], sigma: Sequence[float], height: float) -> None:
        if isinstance(self.hills, HillGrid):
            self.hills.add(centre, sigma, height, self.interval)
        else:
            self.hills.add(centre, sigma, height)

    def add_hills(self, centres: np.ndarray, sigmas: np.ndarray, written: np.ndarray) -> None:
        """Add hills of a file, heights as the file has them."""
        scale = 1.0
        if self.bias_factor is not None and self.bias_factor > 1:
            scale = (self.bias_factor - 1) / self.bias_factor
        for centre, sigma, height in zip(centres, sigmas, written, strict=True):
            self._add(centre.tolist(), sigma.tolist(), float(height) * scale)

    def update_sums(self, step: int | None = None) -> None:
        """Bring c(t) and the largest bias up to date, c(t) only at the steps that it is due."""
        if self.grid is None:
            return
        if self.calc_max_bias:
            self.max_bias = self.grid.maximum()
        if not (self.calc_rct and self.applied and (step is None or step % self.rct_stride == 0)):
            return
        assert self.kt is not None
        highest = self.grid.maximum()
        below = self.grid.nodes[0] - highest
        minus_f, minus_f_plus_v = 1 / self.kt, 0.0
        if self.bias_factor is not None:
            minus_f = self.bias_factor / (self.bias_factor - 1) / self.kt
            minus_f_plus_v = 1 / (self.bias_factor - 1) / self.kt
        ratio = np.exp(minus_f * below).sum() / np.exp(minus_f_plus_v * below).sum()
        self.rct = self.kt * math.log(ratio) + highest


def _interval(metad: Metad, limits: tuple[float, ...] | None) -> tuple[float, float] | None:
    if limits is None:
        return None
    if len(metad.arguments) != 1 or metad.arguments[0].domain is not None:
        raise metad.error("INTERVAL", "works for one argument that is not periodic")
    if len(limits) != 2:
        raise metad.error("INTERVAL", f"{len(limits)} numbers; expected lower,upper")
    lower, upper = limits
    if upper < lower:
        raise metad.error("INTERVAL", "the upper limit is below the lower one")
    return lower, upper


def _check(metad: Metad) -> None:
    if not metad.arguments:
        raise metad.error("ARG", "no argument is given")
    if not all(sigma > 0 for sigma in metad.sigma):
        raise metad.error("SIGMA", "must be positive")
    if metad.pace <= 0:
        raise metad.error("PACE", "must be positive")
    if metad.rct_stride <= 0:
        raise metad.error("RCT_USTRIDE", "must be positive")
    if metad.bias_factor is not None and metad.bias_factor < 1:
        raise metad.error("BIASFACTOR", "must be 1 or more")
    if (metad.height is None) == (metad.tau == 0):
        raise metad.error("HEIGHT", "give either HEIGHT, or TAU with BIASFACTOR or DAMPFACTOR")
    if metad.tau and metad.bias_factor is None and not metad.damp_factor:
        raise metad.error("TAU", "needs BIASFACTOR or DAMPFACTOR")
    if metad.damp_factor < 0:
        raise metad.error("DAMPFACTOR", "must be positive")
    if not is_number_format(metad.fmt):
        raise metad.error("FMT", "expected a format such as %14.9f")
    if not 1 <= metad.walkers <= MAX_WALKERS:
        raise metad.error("WALKERS_N", f"must be from 1 to {MAX_WALKERS}")
    if not 0 <= metad.walker < metad.walkers:
        raise metad.error("WALKERS_ID", f"must be from 0 to {metad.walkers - 1}: WALKERS_N - 1")
    if metad.read_stride <= 0:
        raise metad.error("WALKERS_RSTRIDE", "must be positive")


def _check_grid(metad: Metad) -> None:
    if metad.grid is None:
        needs = {
            "CALC_RCT": metad.calc_rct,
            "CALC_MAX_BIAS": metad.calc_max_bias,
            "DAMPFACTOR": metad.damp_factor,
            "GRID_WFILE": metad.grid_file,
            "GRID_RFILE": metad.grid_read,
        }
        for word in (word for word, given in needs.items() if given):
            raise metad.error(word, "needs a grid: add GRID_MIN= and GRID_MAX=")
    if bool(metad.grid_file) != bool(metad.grid_stride) or metad.grid_stride < 0:
        raise metad.error("GRID_WFILE", "give GRID_WFILE together with GRID_WSTRIDE > 0")


def _read_axes(metad: Metad, options: dict[str, Any]) -> list[Axis]:
    if options["GRID_MIN"] is None and options["GRID_MAX"] is None:
        for word in ("GRID_BIN", "GRID_SPACING"):
            if options[word] is not None:
                raise metad.error(word, "needs GRID_MIN and GRID_MAX")
        return []
    if options["GRID_MIN"] is None or options["GRID_MAX"] is None:
        raise metad.error("GRID_MIN", "give GRID_MIN and GRID_MAX, or none of them")
    if len(metad.arguments) > MAX_AXES:
        message = f"a grid of {len(metad.arguments)} arguments; natively {MAX_AXES}; {REMEDY}"
        raise metad.error("ARG", message)
    if options["GRID_SPARSE"] and (options["CALC_RCT"] or options["GRID_WFILE"]):
        raise metad.error("GRID_SPARSE", f"with CALC_RCT or GRID_WFILE is not native; {REMEDY}")
    axes = [_read_axis(metad, i, options) for i in range(len(metad.arguments))]
    if math.prod(axis.nodes for axis in axes) > MAX_GRID_POINTS:
        raise metad.error("GRID_BIN", f"the grid has more than {MAX_GRID_POINTS} points; {REMEDY}")
    return axes


def _read_axis(metad: Metad, i: int, options: dict[str, Any]) -> Axis:
    value = metad.arguments[i]
    texts = (options["GRID_MIN"][i], options["GRID_MAX"][i])
    try:
        lower, upper = (read_real(text) for text in texts)
    except ValueError as error:
        raise metad.error("GRID_MIN", str(error)) from None
    if lower >= upper:
        raise metad.error("GRID_MIN", f"must be below GRID_MAX for {value.name}")
    if value.domain is not None and (lower, upper) != value.domain:
        message = f"the grid of the periodic {value.name} must be its whole domain"
        raise metad.error("GRID_MIN", message)
    bins, spacing = options["GRID_BIN"], options["GRID_SPACING"]
    if bins is None and spacing is None:
        spacing = [0.2 * sigma for sigma in metad.sigma]
    cells = bins[i] if bins is not None else 1
    if spacing is not None:
        if not spacing[i] > 0:
            raise metad.error("GRID_SPACING", "must be positive")
        cells = max(cells, math.ceil((upper - lower) / spacing[i]))
    if not 1 <= cells <= MAX_GRID_POINTS:
        raise metad.error("GRID_BIN", f"{cells} cells for {value.name}: expected at least 1")
    axis = Axis(value, lower, upper, cells, value.domain_text or texts)
    if axis.goes_round(reach_of(metad.sigma[i])):
        message = f"the hills are wider than {value.name}'s whole domain; {REMEDY}"
        raise metad.error("SIGMA", message)
    return axis
