"""METAD: metadynamics, as PLUMED sums, tempers and interpolates it.

What it is told stands in `options`; what it is made of, in files of their own.

Metadynamics: Laio, Parrinello, doi 10.1073/pnas.202427399.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import Any

import numpy as np

from openmm_cgan.checkpoints import saved_array
from openmm_cgan.plumed.actions.action import Given
from openmm_cgan.plumed.actions.biases.bias import Bias
from openmm_cgan.plumed.actions.metad.acceleration import Acceleration, AdaptivePace
from openmm_cgan.plumed.actions.metad.adaptive import (
    Widths,
    add_wide,
    from_columns,
    to_columns,
    wide_names,
)
from openmm_cgan.plumed.actions.metad.axis import require_inside
from openmm_cgan.plumed.actions.metad.hill_grid import HillGrid
from openmm_cgan.plumed.actions.metad.hill_lists import ListedHillSum
from openmm_cgan.plumed.actions.metad.hill_sums import HillSum
from openmm_cgan.plumed.actions.metad.hills import MANY_HILLS, advise_grid, no_hills
from openmm_cgan.plumed.actions.metad.options import (
    METAD_KEYWORDS,
    metad_outputs,
    read_metad,
)
from openmm_cgan.plumed.actions.metad.tempering import Transition
from openmm_cgan.plumed.actions.metad.totals import HillTotals, rct_of
from openmm_cgan.plumed.actions.update_window import UpdateWindow
from openmm_cgan.plumed.actions.values import Value


class Metad(Bias):
    """Metadynamics, plain, well-tempered or damped, with or without a grid.

    Attributes
    ----------
    options : MetadOptions
        What the input says.
    hills : HillGrid or HillSum
        The bias.
    totals : HillTotals
    widths, transition, acceleration, pacing, window : or None
        What it may have besides.
    kt, height : float or None
        kT and the height of the first hill [energy unit of the input], once a run has begun.
    """

    name = "METAD"
    summary = "metadynamics: well-tempered, adaptive, on a grid to 3-D or without, walkers"
    keywords = METAD_KEYWORDS

    def __init__(self, given: Given) -> None:
        super().__init__(given)
        self.options = options = read_metad(given)
        self.hills = no_hills(self.arguments, options)
        self.totals = HillTotals()
        widths, wells, fast = options.widths, options.transition, options.acceleration
        pacing = None if fast is None else fast.pacing
        self.widths = None if widths is None else Widths(self.arguments, widths)
        self.transition = None if wells is None else Transition(wells)
        self.acceleration = None if fast is None else Acceleration(fast.file)
        self.pacing = None if pacing is None else AdaptivePace(pacing)
        self.window = None if options.window is None else UpdateWindow(*options.window)
        self.kt: float | None = None
        self.height = options.heights.height

    @property
    def grid(self) -> HillGrid | None:
        """Where the bias is on a grid, the grid."""
        return self.hills if isinstance(self.hills, HillGrid) else None

    @property
    def has_ends(self) -> bool:
        """Whether there is something off its grid."""
        return self.grid is not None and not all(axis.periodic for axis in self.grid.axes)

    @property
    def applied(self) -> bool:
        """Whether the hills act; with BIASFACTOR=1 they are only written."""
        return self.options.heights.bias_factor != 1.0

    @cached_property
    def outputs(self) -> tuple[Value, ...]:
        return metad_outputs(self.label, self.options)

    @property
    def pace(self) -> int:
        """Steps between hills now."""
        return self.options.pace if self.pacing is None else self.pacing.pace

    @property
    def near_hills(self) -> ListedHillSum | None:
        """With NLIST, the hills."""
        return self.hills if isinstance(self.hills, ListedHillSum) else None

    @property
    def needs_gradients(self) -> bool:
        """Whether its hills are as wide as the gradients of its arguments say."""
        return self.widths is not None and self.widths.geometric

    def take_metric(self, metric: np.ndarray) -> None:
        """Take the products of those gradients.

        Parameters
        ----------
        metric : ndarray, shape (n_arguments, n_arguments)
            [units of the arguments per length unit of the input, squared]
        """
        assert self.widths is not None
        self.widths.take_metric(metric)

    @property
    def needs_every_step(self) -> bool:
        """Whether it needs its arguments at every step: call `accumulate` there."""
        diffuses = self.widths is not None and not self.widths.geometric
        parts = (self.acceleration, self.near_hills, self.window)
        return diffuses or any(part is not None for part in parts)

    @property
    def strides(self) -> set[int]:
        """At which multiples of the step something happens to it."""
        strides = {self.pace if self.pacing is None else 1}
        if self.options.grid_files.stride:
            strides.add(self.options.grid_files.stride)
        if self.options.walkers.number > 1:
            strides.add(self.options.walkers.stride)
        return strides

    # ---- what depends on the run

    @property
    def needs_temperature(self) -> bool:
        """Whether it depends on a temperature that TEMP does not give."""
        return self.options.needs_kt and self.options.temp is None

    def start(self, kt: float | None, timestep: float) -> None:
        """Fix what depends on the run: kT [energy unit of the input] and the time step [ps]."""
        self.kt = kt
        time = timestep * self.pace / self.units.time
        self.height = self.options.heights.first(kt, time)

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
        totals = self.totals
        by_name = {
            "bias": bias,
            "rbias": bias - totals.rct,
            "rct": totals.rct + 0 * bias,
            "work": totals.work + 0 * bias,
            "maxbias": totals.max_bias + 0 * bias,
        }
        if self.acceleration is not None:
            by_name["acc"] = self.acceleration.value(bias, self.kt)
        if self.pacing is not None:
            by_name["pace"] = self.pace + 0 * bias
        if self.transition is not None:
            by_name["transbias"] = self.transition.bias + 0 * bias
        if self.near_hills is not None:
            counts = self.near_hills.counts(arguments)
            by_name |= zip(("nlker", "nlsteps"), (x + 0 * bias for x in counts), strict=True)
        return tuple(by_name[value.name.rpartition(".")[2]] for value in self.outputs)

    def accumulate(self, values: dict[str, Any], step: int, time: float, first: bool) -> None:
        """Count a step, once, before its hill.

        Parameters
        ----------
        values : dict
            Values by name, of which those counted here are brought up to date.
        step, time : int, float
            [time unit of the input]
        first : bool
            Whether it is the first step of a run.
        """
        arguments = [float(values[value.name]) for value in self.arguments]
        if self.window is not None:
            self.window.move_to(step, time, first)
            first = self.window.first
        if self.acceleration is not None:
            assert self.kt is not None
            bias = values.get(f"{self.label}.bias")
            self.acceleration.step = step
            bias = self.energy(arguments) if bias is None else float(bias)
            goes_on = self.acceleration.accumulate(bias, self.kt, first)
            values[f"{self.label}.acc"] = self.acceleration.value(bias, self.kt)
            if goes_on and self.pacing is not None:
                self.update_pace(values)
        if self.near_hills is not None:
            self.near_hills.update(arguments)
        updated = self.window is None or self.window.is_open
        if updated and self.widths is not None and not self.widths.geometric:
            self.widths.accumulate(arguments)

    def update_pace(self, values: dict[str, Any]) -> None:
        """With FREQUENCY_ADAPTIVE, look at the acceleration of this step."""
        assert self.pacing is not None
        assert self.acceleration is not None
        self.pacing.update(self.acceleration.so_far)
        values[f"{self.label}.pace"] = float(self.pace)

    def outputs_after_hill(self) -> dict[str, float]:
        """Outputs that PLUMED prints as they are after the hill of the step, not before."""
        changed = {}
        if self.options.calc_rct:
            changed[f"{self.label}.rct"] = self.totals.rct
        if self.options.calc_max_bias:
            changed[f"{self.label}.maxbias"] = self.totals.max_bias
        if self.transition is not None:
            changed[f"{self.label}.transbias"] = self.transition.bias
        return changed

    def energy_and_slopes(self, arguments: list[float], step: int = 0) -> tuple[float, list[float]]:
        """Energy of one point and its slopes, as `Bias` has them."""
        return self.hills.value_and_slopes(arguments)

    def check_inside(self, arguments: list[Any]) -> None:
        """Raise as PLUMED does when a value has left the grid.

        Parameters
        ----------
        arguments : list of float, or of ndarray, shape (...)

        Raises
        ------
        RuntimeError
        """
        if self.grid is None:
            return
        remedy = "widen GRID_MIN and GRID_MAX, or add walls inside them"
        require_inside(self, self.grid.axes, arguments, remedy)

    # ---- hills

    def deposit(self, arguments: list[float], v: float) -> tuple[float, ...]:
        """Add the hill of this step.

        Parameters
        ----------
        arguments : list of float, length n_arguments
            Its centre.
        v : float
            The bias there [energy unit of the input].

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
        assert self.height is not None
        options = self.options
        heights = options.heights
        shape: Any = options.sigma
        sigma: Sequence[float] = options.sigma
        height = heights.tempered_height(self.height, v, self.kt, self.grid, self.transition)
        if options.target is not None or self.widths is not None:
            shape, sigma, factor = self._adapted(arguments)
            height *= factor
        self._add(arguments, shape, height)
        if options.calc_work:
            self.totals.work += self.hills.at(arguments) - v
        factor = -1.0 if heights.bias_factor is None else heights.bias_factor
        return (*arguments, *sigma, heights.written(height), factor)

    def _adapted(self, arguments: list[float]) -> tuple[Any, Sequence[float], float]:
        """Shape of a hill, how it is written, and what the height is multiplied with."""
        shape: Any = self.options.sigma
        sigma: Sequence[float] = self.options.sigma
        factor = 1.0
        with self._telling_where():
            if self.widths is not None:
                shape = self.widths.inverse()
                sigma = to_columns(shape)
            if self.options.target is not None:
                assert self.kt is not None
                factor = self.options.target.factor(arguments, self.kt)
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
    def widths_of_hills(self) -> list[str]:
        """Those of them that are above zero in every hill."""
        names = [value.name for value in self.arguments]
        if self.widths is not None:
            return [f"sigma_{name}_{name}" for name in names]
        return [f"sigma_{name}" for name in names]

    @property
    def _parts(self) -> list[Any]:
        """What else has something to be saved."""
        optional = (self.widths, self.transition, self.acceleration, self.pacing, self.window)
        return [self.totals, *(part for part in optional if part is not None)]

    def saved(self) -> dict[str, np.ndarray]:
        arrays: dict[str, np.ndarray] = {}
        for part in self._parts:
            arrays |= part.saved()
        return arrays | self.hills.saved()

    def restore_saved(self, arrays: dict[str, np.ndarray]) -> None:
        for part in self._parts:
            part.restore_saved(arrays)
        if self.grid is not None:
            self.grid.restore_saved(
                saved_array(arrays, "nodes", self.grid.nodes.shape, finite=True)
            )
            return
        assert isinstance(self.hills, HillSum)
        self.hills.restore_saved(arrays)

    def _add(self, centre: Sequence[float], shape: Any, height: float) -> None:
        if not isinstance(self.hills, HillGrid):
            self.hills.add(centre, shape, height)
            if len(self.hills) == MANY_HILLS and self.near_hills is None:
                advise_grid(f"{self.statement.location}: METAD {self.label}")
        elif self.widths is None:
            self.hills.add(centre, shape, height, self.options.interval)
        else:
            with self._telling_where():
                add_wide(self.hills, centre, shape, height)

    def add_hills(self, centres: np.ndarray, sigmas: np.ndarray, written: np.ndarray) -> None:
        """Add hills of a file.

        Parameters
        ----------
        centres : ndarray, shape (n_hills, n_arguments)
        sigmas : ndarray, shape (n_hills, n_widths)
            As the columns of `sigma_names` have them.
        written : ndarray, shape (n_hills,)
            Heights as the file has them [energy unit of the input].
        """
        for centre, sigma, height in zip(centres, sigmas, written, strict=True):
            shape: Any = sigma.tolist()
            if self.widths is not None:
                shape = from_columns(shape, len(self.arguments))
            self._add(centre.tolist(), shape, self.options.heights.read(float(height)))

    def update_totals(self, step: int | None = None) -> None:
        """Bring c(t) and the largest bias up to date, c(t) only at the steps that it is due."""
        if isinstance(self.hills, HillSum):
            self.hills.changed()
        if self.grid is None:
            return
        options = self.options
        if options.calc_max_bias:
            self.totals.max_bias = self.grid.maximum()
        if self.transition is not None:
            self.transition.update(self.grid)
        due = step is None or step % options.rct_stride == 0
        if options.calc_rct and self.applied and due:
            assert self.kt is not None
            self.totals.rct = rct_of(self.grid, self.kt, options.heights.bias_factor)
