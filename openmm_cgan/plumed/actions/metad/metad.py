"""METAD: metadynamics, as PLUMED sums, tempers and interpolates it.

What it may have besides stands in files of its own: `adaptive`, `tempering`, `acceleration`,
`hill_lists`, `update_window`; its keywords in `metad_keywords`.

Metadynamics: Laio, Parrinello, doi 10.1073/pnas.202427399. Well-tempered: Barducci, Bussi,
Parrinello, doi 10.1103/PhysRevLett.100.020603. c(t): Tiwary, Parrinello, doi 10.1021/jp504920s.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import Any

import numpy as np

from openmm_cgan.checkpoints import saved_array
from openmm_cgan.plumed.actions.action import Given, Value
from openmm_cgan.plumed.actions.biases.bias import Bias, restarts_itself
from openmm_cgan.plumed.actions.metad.acceleration import read_acceleration
from openmm_cgan.plumed.actions.metad.adaptive import (
    WideHillSum,
    add_wide,
    from_columns,
    read_widths,
    to_columns,
    wide_names,
)
from openmm_cgan.plumed.actions.metad.hill_grid import HillGrid
from openmm_cgan.plumed.actions.metad.hill_lists import ListedHillSum, read_list
from openmm_cgan.plumed.actions.metad.hill_sums import HillSum
from openmm_cgan.plumed.actions.metad.options import (
    METAD_KEYWORDS,
    check_grid,
    check_options,
    read_axes,
    read_interval,
)
from openmm_cgan.plumed.actions.metad.tempering import (
    check_tempering,
    read_target,
    read_transition,
)
from openmm_cgan.plumed.actions.metad.update_window import read_window


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
    summary = "metadynamics: well-tempered, adaptive, on a grid to 3-D or without, walkers"
    keywords = METAD_KEYWORDS

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
        self.interval = read_interval(self, options["INTERVAL"])
        self.kt: float | None = None
        self.rct = self.max_bias = self.work = 0.0
        check_options(self)
        self.widths = read_widths(self, options)
        axes = read_axes(self, options)
        listed = read_list(self, options)
        self.hills: HillGrid | HillSum
        if axes:
            self.hills = HillGrid(axes, spline=not options["GRID_NOSPLINE"])
        elif self.widths is not None:
            self.hills = WideHillSum(self.arguments)
        elif listed is not None:
            self.hills = ListedHillSum(self.arguments, self.interval, *listed)
        else:
            self.hills = HillSum(self.arguments, self.interval)
        self._read_more(given)
        check_grid(self)

    def _read_more(self, given: Given) -> None:
        options = given.options
        self.transition = read_transition(self, options)
        self.target = None
        if (file := options["TARGET"]) is not None:
            self.target = read_target(self, given.folder / file)
        self.acceleration, self.pacing = read_acceleration(self, options)
        self.window = read_window(options)
        temperings = {
            "BIASFACTOR": (self.bias_factor and self.bias_factor - 1, 1.0),
            "DAMPFACTOR": (self.damp_factor or None, 1.0),
        }
        if (wells := self.transition) is not None and wells.factor is not None:
            temperings["TTBIASFACTOR"] = (wells.factor - 1, wells.alpha)
        check_tempering(self, temperings)

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
        given = {
            "bias": True,
            "nlker": self.near_hills is not None,
            "nlsteps": self.near_hills is not None,
            "rbias": self.calc_rct,
            "rct": self.calc_rct,
            "work": self.calc_work,
            "acc": self.acceleration is not None,
            "maxbias": self.calc_max_bias,
            "transbias": self.transition is not None,
            "pace": self.pacing is not None,
        }
        names = [name for name, is_given in given.items() if is_given]
        numbers = ("nlker", "nlsteps", "acc", "pace")  # no energies
        return tuple(Value(f"{self.label}.{n}", "" if n in numbers else "energy") for n in names)

    @property
    def near_hills(self) -> ListedHillSum | None:
        """With NLIST, the hills."""
        return self.hills if isinstance(self.hills, ListedHillSum) else None

    @property
    def needs_gradients(self) -> bool:
        """Whether its hills are as wide as the gradients of its arguments say."""
        return self.widths is not None and self.widths.geometric

    def measure(self, metric: np.ndarray) -> None:
        """Take the products of those gradients, in the units of the input."""
        assert self.widths is not None
        self.widths.measure(metric)

    @property
    def follows(self) -> bool:
        """Whether it needs its arguments at every step: call `follow` there."""
        diffuses = self.widths is not None and not self.widths.geometric
        parts = (self.acceleration, self.near_hills, self.window)
        return diffuses or any(part is not None for part in parts)

    @property
    def strides(self) -> set[int]:
        """At which multiples of the step something happens to it."""
        strides = {self.pace if self.pacing is None else 1}
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
        tempered |= self.transition is not None and self.transition.factor is not None
        tempered |= self.target is not None or self.acceleration is not None
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
        if self.acceleration is not None:
            found["acc"] = self.acceleration.value(bias, self.kt)
        if self.pacing is not None:
            found["pace"] = self.pace + 0 * bias
        if self.transition is not None:
            found["transbias"] = self.transition.bias + 0 * bias
        if self.near_hills is not None:
            counts = self.near_hills.counts(arguments)
            found |= zip(("nlker", "nlsteps"), (x + 0 * bias for x in counts), strict=True)
        return tuple(found[value.name.rpartition(".")[2]] for value in self.outputs)

    def follow(self, found: dict[str, Any], step: int, time: float, first: bool) -> None:
        """Count a step, once, before its hill.

        Parameters
        ----------
        found : dict
            Values by name, of which those counted here are brought up to date.
        step, time : int, float
            [time unit of the input]
        first : bool
            Whether it is the first step of a run.
        """
        arguments = [float(found[value.name]) for value in self.arguments]
        if self.window is not None:
            self.window.move_to(step, time, first)
            first = self.window.first
        if self.acceleration is not None:
            assert self.kt is not None
            bias = found.get(f"{self.label}.bias")
            self.acceleration.step = step
            bias = self.energy(arguments) if bias is None else float(bias)
            goes_on = self.acceleration.follow(bias, self.kt, first)
            found[f"{self.label}.acc"] = self.acceleration.value(bias, self.kt)
            if goes_on and self.pacing is not None:
                self.change_pace(found)
        if self.near_hills is not None:
            self.near_hills.follow(arguments)
        updated = self.window is None or self.window.is_open
        if updated and self.widths is not None and not self.widths.geometric:
            self.widths.follow(arguments)

    def change_pace(self, found: dict[str, Any]) -> None:
        """With FREQUENCY_ADAPTIVE, look at the acceleration of this step."""
        assert self.pacing is not None
        assert self.acceleration is not None
        self.pacing.update(self.acceleration.so_far)
        self.pace = self.pacing.pace
        found[f"{self.label}.pace"] = float(self.pace)

    def changed_outputs(self) -> dict[str, float]:
        """Outputs that PLUMED prints as they are after the hill of the step, not before."""
        found = {}
        if self.calc_rct:
            found[f"{self.label}.rct"] = self.rct
        if self.calc_max_bias:
            found[f"{self.label}.maxbias"] = self.max_bias
        if self.transition is not None:
            found[f"{self.label}.transbias"] = self.transition.bias
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

        Raises
        ------
        RuntimeError
            If ADAPTIVE or TARGET have no hill for here.
        """
        if not self.applied:
            v = self.hills.at(arguments)  # which has no force, but tempers
        height = self._tempered(v)
        if self.target is None and self.widths is None:
            shape: Any = self.sigma
            sigma: Sequence[float] = self.sigma
        else:
            shape, sigma, factor = self._adapted(arguments)
            height *= factor
        written = height
        if self.bias_factor is not None and self.bias_factor > 1:
            written = height * (self.bias_factor / (self.bias_factor - 1))
        self._add(arguments, shape, height)
        if self.calc_work:
            self.work += self.hills.at(arguments) - v
        factor = -1.0 if self.bias_factor is None else self.bias_factor
        return (*arguments, *sigma, written, factor)

    def _adapted(self, arguments: list[float]) -> tuple[Any, Sequence[float], float]:
        """Shape of a hill, how it is written, and what the height is multiplied with."""
        shape: Any = self.sigma
        sigma: Sequence[float] = self.sigma
        factor = 1.0
        with self._telling_where():
            if self.widths is not None:
                shape = self.widths.inverse()
                sigma = to_columns(shape)
            if self.target is not None:
                assert self.kt is not None
                factor = self.target.factor(arguments, self.kt)
        return shape, sigma, factor

    @contextmanager
    def _telling_where(self) -> Iterator[None]:
        try:
            yield
        except ValueError as error:
            where = f"{self.statement.location}: METAD {self.label}"
            raise RuntimeError(f"{where}: {error}") from None

    @property
    def sigma_names(self) -> list[str]:
        """The columns of a hills file with the widths."""
        if self.widths is not None:
            return wide_names(self.arguments)
        return [f"sigma_{value.name}" for value in self.arguments]

    @property
    def _parts(self) -> list[Any]:
        """What else has something to be saved."""
        parts = (self.widths, self.transition, self.acceleration, self.pacing, self.window)
        return [part for part in parts if part is not None]

    def saved(self) -> dict[str, np.ndarray]:
        sums = {name: np.array(getattr(self, name)) for name in ("rct", "max_bias", "work")}
        for part in self._parts:
            sums |= part.saved()
        return sums | self.hills.saved()

    def restore_saved(self, arrays: dict[str, np.ndarray]) -> None:
        for name in ("rct", "max_bias", "work"):
            setattr(self, name, float(saved_array(arrays, name, ())))
        for part in self._parts:
            part.restore_saved(arrays)
        self.pace = self.pace if self.pacing is None else self.pacing.pace
        if self.grid is not None:
            self.grid.restore_saved(saved_array(arrays, "nodes", self.grid.nodes.shape))
            return
        assert isinstance(self.hills, HillSum)
        self.hills.restore_saved(arrays)

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
        if self.transition is not None and self.transition.factor is not None:
            assert self.kt is not None
            height = self.transition.tempered(height, self.kt)
        return height

    def _add(self, centre: Sequence[float], shape: Any, height: float) -> None:
        if not isinstance(self.hills, HillGrid):
            self.hills.add(centre, shape, height)
        elif self.widths is None:
            self.hills.add(centre, shape, height, self.interval)
        else:
            with self._telling_where():
                add_wide(self.hills, centre, shape, height)

    def add_hills(self, centres: np.ndarray, sigmas: np.ndarray, written: np.ndarray) -> None:
        """Add hills of a file, heights as the file has them."""
        scale = 1.0
        if self.bias_factor is not None and self.bias_factor > 1:
            scale = (self.bias_factor - 1) / self.bias_factor
        for centre, sigma, height in zip(centres, sigmas, written, strict=True):
            shape: Any = sigma.tolist()
            if self.widths is not None:
                shape = from_columns(shape, len(self.arguments))
            self._add(centre.tolist(), shape, float(height) * scale)

    def update_sums(self, step: int | None = None) -> None:
        """Bring c(t) and the largest bias up to date, c(t) only at the steps that it is due."""
        if isinstance(self.hills, HillSum):
            self.hills.changed()
        if self.grid is None:
            return
        if self.calc_max_bias:
            self.max_bias = self.grid.maximum()
        if self.transition is not None:
            self.transition.update(self.grid)
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
