"""PBMETAD: parallel-bias metadynamics, hills along each of many values by itself.

Pfaendtner, Bonomi, doi 10.1021/acs.jctc.5b00846; families of values of one kind: Prakash, Fu,
Bonomi, Pfaendtner, doi 10.1021/acs.jctc.8b00448. With V_i the sum of hills along value i of n, the
bias is ``-kT log(sum_i exp(-V_i / kT) / n)``.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from openmm_cgan.plumed.actions.action import Given
from openmm_cgan.plumed.actions.biases.bias import Bias
from openmm_cgan.plumed.actions.metad.axis import require_inside
from openmm_cgan.plumed.actions.pbmetad.family import Family
from openmm_cgan.plumed.actions.pbmetad.options import PBMETAD_KEYWORDS, read_pbmetad
from openmm_cgan.plumed.actions.update_window import UpdateWindow


class Pbmetad(Bias):
    """Hills along each of many values.

    Attributes
    ----------
    options : PbmetadOptions
        What the input says.
    families : list of Family
        The hills.
    window : UpdateWindow or None
    kt, height : float or None
        kT and the height of the first hill [energy unit of the input], once they are known.
    """

    name = "PBMETAD"
    summary = "parallel-bias metadynamics: well-tempered, adaptive, on grids or without, walkers"
    keywords = PBMETAD_KEYWORDS

    def __init__(self, given: Given) -> None:
        super().__init__(given)
        self.options = options = read_pbmetad(given)
        self.families = [Family(self.name, self.label, one, options) for one in options.families]
        self.window = None if options.window is None else UpdateWindow(*options.window)
        self.kt: float | None = None
        self.height = options.heights.height

    @property
    def own_families(self) -> list[Family]:
        """The family of each argument."""
        return [self.families[k] for k in self.options.family_of]

    @property
    def on_grids(self) -> bool:
        """Whether its hills are on grids."""
        return self.families[0].grid is not None

    @property
    def has_ends(self) -> bool:
        """Whether there is something off a grid."""
        axes = [family.options.axis for family in self.families]
        return any(axis is not None and not axis.periodic for axis in axes)

    @property
    def needs_gradients(self) -> bool:
        """Whether its hills are as wide as the gradients of its arguments say."""
        return self.options.widths is not None and self.options.widths.geometric

    @property
    def needs_every_step(self) -> bool:
        """Whether it needs its arguments at every step: call `accumulate` there."""
        diffuses = self.options.widths is not None and not self.options.widths.geometric
        return diffuses or self.window is not None

    @property
    def strides(self) -> set[int]:
        """At which multiples of the step something happens to it."""
        strides = {self.options.pace}
        if self.options.grid_stride:
            strides.add(self.options.grid_stride)
        if self.options.walkers.number > 1:
            strides.add(self.options.walkers.stride)
        return strides

    # ---- what depends on the run

    def start(self, kt: float | None, timestep: float) -> None:
        """Fix what depends on the run: kT [energy unit of the input] and the time step [ps]."""
        self.kt = kt
        time = timestep * self.options.pace / self.units.time
        self.height = self.options.heights.first(kt, time)

    def take_metric(self, metric: np.ndarray) -> None:
        """Take the products of the gradients of its arguments, shape (n_arguments, n_arguments)."""
        for i, family in enumerate(self.own_families):
            assert family.widths is not None
            family.widths.take_metric(metric[i : i + 1, i : i + 1])

    def accumulate(self, arguments: list[float], step: int, time: float, first: bool) -> None:
        """Count a step, once, before its hills.

        Parameters
        ----------
        arguments : list of float, length n_arguments
        step, time : int, float
            [time unit of the input]
        first : bool
            Whether it is the first step of a run.
        """
        if self.window is not None:
            self.window.move_to(step, time, first)
            if not self.window.is_open:
                return
        if self.options.widths is not None and not self.options.widths.geometric:
            for family, s in zip(self.own_families, arguments, strict=True):
                assert family.widths is not None
                family.widths.accumulate([s])

    # ---- values

    def energy(self, arguments: list[Any]) -> Any:
        assert self.kt is not None
        sums: list[Any]
        if all(isinstance(x, float) for x in arguments):
            sums = [f.hills.at([x]) for f, x in zip(self.own_families, arguments, strict=True)]
        else:
            points = [np.asarray(x, dtype=float) for x in arguments]
            sums = [f.hills.value([x]) for f, x in zip(self.own_families, points, strict=True)]
        least, total = self._least_and_total(sums)
        return -self.kt * (np.log(total) - math.log(len(sums))) + least

    def _least_and_total(self, sums: list[Any]) -> tuple[Any, Any]:
        """The least of the sums of hills, and the sum of ``exp(-(V - least) / kT)``."""
        least = np.minimum.reduce(sums)
        return least, sum(np.exp((least - v) / self.kt) for v in sums)

    def energy_and_slopes(self, arguments: list[float], step: int = 0) -> tuple[float, list[float]]:
        """Energy of one point and its slopes, as `Bias` has them."""
        assert self.kt is not None
        pairs = zip(self.own_families, arguments, strict=True)
        found = [family.hills.value_and_slopes([x]) for family, x in pairs]
        least, total = self._least_and_total([v for v, _ in found])
        slopes = [float(np.exp((least - v) / self.kt) / total) * slope for v, (slope,) in found]
        return float(-self.kt * (np.log(total) - math.log(len(found))) + least), slopes

    def check_inside(self, arguments: list[Any]) -> None:
        """Raise as PLUMED does when a value has left its grid.

        Parameters
        ----------
        arguments : list of float, or of ndarray, shape (...)

        Raises
        ------
        RuntimeError
        """
        remedy = "widen GRID_MIN and GRID_MAX, or add walls inside them"
        for family, argument in zip(self.own_families, arguments, strict=True):
            if family.grid is not None:
                require_inside(self, family.grid.axes, [argument], remedy)

    # ---- hills

    def deposit(self, arguments: list[float]) -> list[tuple[float, float, float]]:
        """Add the hills of this step.

        Parameters
        ----------
        arguments : list of float, length n_arguments
            Their centres.

        Returns
        -------
        list of (float, float, float), length n_arguments
            Of each: centre, width and height as they are written.

        Raises
        ------
        RuntimeError
            If ADAPTIVE has no hill for here.
        """
        assert self.kt is not None
        assert self.height is not None
        families, heights = self.own_families, self.options.heights
        sums = [f.hills.at([x]) for f, x in zip(families, arguments, strict=True)]
        least, total = self._least_and_total(sums)
        try:
            shapes = [family.width() for family in families]
            written = []
            for family, x, v, (shape, sigma) in zip(families, arguments, sums, shapes, strict=True):
                height = self.height / total * math.exp((least - v) / self.kt)
                height = float(heights.tempered_height(height, v, self.kt, None, None))
                family.add(x, shape, height)
                written.append((x, sigma, heights.written(height)))
        except ValueError as error:
            where = f"{self.statement.location}: {self.name} {self.label}"
            raise RuntimeError(f"{where}: {error}") from None
        return written

    def saved(self) -> dict[str, np.ndarray]:
        arrays = {} if self.window is None else self.window.saved()
        for k, family in enumerate(self.families):
            arrays |= {f"family{k}_{name}": x for name, x in family.saved().items()}
        return arrays

    def restore_saved(self, arrays: dict[str, np.ndarray]) -> None:
        if self.window is not None:
            self.window.restore_saved(arrays)
        for k, family in enumerate(self.families):
            mark = f"family{k}_"
            own = {n.removeprefix(mark): x for n, x in arrays.items() if n.startswith(mark)}
            family.restore_saved(own)
