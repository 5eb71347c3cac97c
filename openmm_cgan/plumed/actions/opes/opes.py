"""OPES_METAD and OPES_METAD_EXPLORE: on-the-fly probability enhanced sampling.

The bias is the logarithm of a sum of kernels, ``V = kT p log(P(s)/Z + epsilon)``, taken exactly and
not on a grid. Invernizzi and Parrinello, doi 10.1021/acs.jpclett.0c00497 and
10.1021/acs.jctc.2c00152.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar

import numpy as np

from openmm_cgan.checkpoints import saved_array
from openmm_cgan.plumed.actions.action import Given, Keyword
from openmm_cgan.plumed.actions.biases.bias import Bias
from openmm_cgan.plumed.actions.opes.kernels import Kernels
from openmm_cgan.plumed.actions.opes.neighbours import Neighbours
from openmm_cgan.plumed.actions.opes.options import EXTRA_BIAS, OPES_KEYWORDS, read_opes
from openmm_cgan.plumed.actions.opes.settings import OpesSettings, settings_at
from openmm_cgan.plumed.actions.opes.widths import KernelWidths
from openmm_cgan.plumed.actions.values import Value
from openmm_cgan.plumed.input.expressions import namespace

# What is summed up during a run, besides the kernels
_SUMS = ("counter", "sum_weights", "sum_weights2", "zed", "norm", "work")


class Opes(Bias):
    """OPES with a well-tempered or uniform target.

    Attributes
    ----------
    options : OpesOptions
        What the input says.
    settings : OpesSettings or None
        What follows from that at a temperature; None before `start`, like all below.
    kernels : Kernels
    neighbours : Neighbours or None
        With NLIST.
    widths : KernelWidths
    counter : int
        Kernels laid, and one.
    sum_weights, sum_weights2 : float
        Of the frames that kernels were laid at: sums of weights and of their squares.
    zed, norm : float
        Z, and what the sum of the kernels is divided by.
    work : float
        Done by laying kernels [energy unit of the input].
    """

    in_python = True
    name = "OPES_METAD"
    summary = "on-the-fly probability enhanced sampling, exact kernels"
    keywords: ClassVar[tuple[Keyword, ...]] = (*OPES_KEYWORDS, EXTRA_BIAS)
    explore: ClassVar[bool] = False

    def __init__(self, given: Given) -> None:
        super().__init__(given)
        self.options = read_opes(given)
        self.settings: OpesSettings | None = None
        self.neighbours = self._no_neighbours()

    def _no_neighbours(self) -> Neighbours | None:
        """The neighbour list as a run begins with it; None without one."""
        options, n = self.options.neighbours, len(self.arguments)
        if options is None:
            return None
        nowhere = np.zeros(0, dtype=int), np.zeros(n), np.zeros(n)
        return Neighbours(options.reach, options.patience, *nowhere)

    @property
    def needs_temperature(self) -> bool:
        """Whether kT is not given by TEMP."""
        return self.options.temp is None

    def start(self, kt: float) -> None:
        """Begin anew at a temperature: kT in the energy unit of the input.

        Raises
        ------
        PlumedInputError
            If BARRIER and the temperature leave no bias factor above 1, and the like.
        """
        options, values = self.options, self.arguments
        self.settings = settings = settings_at(kt, options, self.explore, self.error)
        cutoff2 = settings.cutoff * settings.cutoff
        threshold2 = settings.threshold * settings.threshold
        self.kernels = Kernels(values, cutoff2, threshold2, options.recursive)
        self.widths = KernelWidths(
            values, options.sigma, settings.bias_factor, self.explore, self.label
        )
        if self.widths.too_narrow:
            raise self.error("SIGMA_MIN", "must not be above SIGMA")
        self.counter, self.zed, self.work = 1, 1.0, 0.0
        # as if there were a frame of weight exp(V0/kT) already
        self.sum_weights = settings.epsilon**settings.prefactor if options.normalized else 1.0
        self.sum_weights2 = self.sum_weights * self.sum_weights
        self.neighbours = self._no_neighbours()
        self.use_list()
        self.normalize()

    def normalize(self) -> None:
        """Take the norm of the kernels from the sums."""
        self.norm: float = self.counter if self.explore else self.sum_weights

    # ---- the bias

    @property
    def outputs(self) -> tuple[Value, ...]:
        names = ["rct", "zed", "neff", "nker"]
        names += ["work"] if self.options.calc_work else []
        names += ["nlker", "nlsteps"] if self.neighbours else []
        return (*super().outputs, *(Value(f"{self.label}.{name}") for name in names))

    @property
    def effective_size(self) -> float:
        """Effective number of frames."""
        return (1 + self.sum_weights) ** 2 / (1 + self.sum_weights2)

    def other_outputs(self, neighbours: Neighbours | None = None) -> list[float]:
        """The outputs besides the bias, as they stand after the last kernel.

        Parameters
        ----------
        neighbours : Neighbours, optional
            In place of the present list.

        Returns
        -------
        list of float, length n_outputs - 1
        """
        rct = self.settled.kt * math.log(self.sum_weights / self.counter)
        shown = [rct, self.zed, self.effective_size, float(len(self.kernels))]
        shown += [self.work] if self.options.calc_work else []
        listed = neighbours or self.neighbours
        return shown + ([float(listed.shown_size), float(listed.shown_steps)] if listed else [])

    @property
    def settled(self) -> OpesSettings:
        """The settings; ValueError where there is no temperature."""
        if self.settings is None:
            raise ValueError(
                f"{self.statement.location}: {self.name} {self.label} needs a temperature: give "
                "PlumedBias(..., temperature=300*kelvin) or TEMP= in the input"
            )
        return self.settings

    def _energy(self, total: Any) -> Any:
        settings = self.settled
        inside = total / self.norm / self.zed + settings.epsilon
        return settings.kt * settings.prefactor * namespace(inside).log(inside)

    def energy(self, arguments: list[Any]) -> Any:
        if self.settings is None:
            return self._energy(0.0)  # which tells what is missing
        if self.neighbours is not None and _is_point(arguments):
            return self.energy_and_slopes(arguments)[0]
        return self._energy(self.kernels.sum(arguments))  # of many points: no list

    def values(self, arguments: list[Any]) -> tuple[Any, ...]:
        return (self.energy(arguments), *self.other_outputs(self._next_list(arguments)))

    def _next_list(self, arguments: list[Any]) -> Neighbours | None:
        """The neighbour list as it will be at a point."""
        if self.neighbours is None or not _is_point(arguments):
            return self.neighbours
        return self.neighbours.after_step(arguments, self.kernels)

    def energy_and_slopes(self, arguments: list[float], step: int = 0) -> tuple[float, list[float]]:
        """Bias of one point and its slopes as PLUMED takes them (see `Kernels`).

        Parameters
        ----------
        arguments : list of float, length n_arguments
        step : int, optional
            Plays no part.

        Returns
        -------
        float
            [energy unit of the input]
        list of float, length n_arguments
            [energy unit over units of the arguments]

        Raises
        ------
        ValueError
            If there is no temperature.
        """
        settings = self.settled
        there = self._next_list(arguments)
        if there is None or self.neighbours is None or there.index is self.neighbours.index:
            total, slopes = self.kernels.sum_and_slopes(arguments)
        else:
            total, slopes = self.kernels.sum_and_slopes_of(there.index, arguments)
        inside = total / self.norm / self.zed + settings.epsilon
        scale = settings.kt * settings.prefactor
        factor = scale / (inside * self.norm * self.zed)
        return scale * math.log(inside), (factor * slopes).tolist()

    # ---- between steps

    def use_list(self) -> None:
        """Sum and merge the kernels that the neighbour list has."""
        self.kernels.list_only(None if self.neighbours is None else self.neighbours.index)

    def update_list(self, arguments: list[float]) -> None:
        """Renew the neighbour list where that is due at arguments of length n_arguments."""
        there = self._next_list(arguments)
        if there is not None and self.neighbours is not None:
            moved = there.index is not self.neighbours.index
            self.neighbours = there
            if moved:
                self.use_list()

    def accumulate_widths(self, arguments: list[float]) -> bool:
        """Take one step into an adaptive width; False while it is too early for a kernel.

        Parameters
        ----------
        arguments : list of float, length n_arguments
        """
        self.widths.accumulate(arguments)
        return self.widths.known or self.counter != 1

    def deposit(self, arguments: list[float], bias: float, extra: float = 0.0) -> tuple[float, ...]:
        """Add the kernel of this step.

        Parameters
        ----------
        arguments : list of float, length n_arguments
            Its centre.
        bias, extra : float
            This bias there, and the sum of the others [energy unit of the input].

        Returns
        -------
        tuple of float
            Centre, sigma, height and logarithm of the weight.
        """
        settings, kernels = self.settled, self.kernels
        old_norm, old_count = self.norm, len(kernels)
        kernels.changes.clear()
        log_weight = bias / settings.kt + extra / settings.kt
        weight = math.exp(log_weight)
        self.counter += 1
        self.sum_weights += weight
        self.sum_weights2 += weight * weight
        self.normalize()
        size = self.counter if self.explore else self.effective_size
        try:
            sigma = self.widths.of_kernel(self.counter == 2, size)
        except ValueError as error:
            where = f"{self.statement.location}: {self.name} {self.label}"
            raise RuntimeError(f"{where}: {error}") from None
        height = 1.0 if self.explore else weight
        for initial, now in zip(self.widths.sigma0, sigma, strict=True):
            height *= float(initial / now)
        kernels.add(height, np.array(arguments), sigma)
        self._update_zed(old_norm, old_count)
        if self.options.calc_work:
            inside = kernels.sum_and_slopes(arguments)[0] / self.norm / self.zed + settings.epsilon
            self.work += settings.kt * settings.prefactor * math.log(inside) - bias
        if self.neighbours is not None and self.options.neighbours is not None:
            reset = self.options.neighbours.reset
            self.neighbours = self.neighbours.after_kernel(kernels, reset)
        return (*arguments, *sigma.tolist(), height, log_weight)

    def _update_zed(self, old_norm: float, old_count: int) -> None:
        if not self.options.normalized:
            return
        n, changed = len(self.kernels), len(self.kernels.changes)
        if n * n < 3 * n * changed + 2 * changed * changed + 100:
            total = self.kernels.sum_over_centres()
        else:  # only what has changed
            total = self.zed * old_norm * old_count + self.kernels.sum_of_changes()
        self.zed = total / self.norm / n

    # ---- from files and with a checkpoint

    def restore_kernels(
        self, centres: np.ndarray, sigmas: np.ndarray, heights: np.ndarray, logs: np.ndarray
    ) -> None:
        """Add the kernels of an earlier run, as its KERNELS file has them.

        Parameters
        ----------
        centres, sigmas : ndarray, shape (n_kernels, n_arguments)
        heights, logs : ndarray, shape (n_kernels,)
            Logarithms of the weights of their frames.
        """
        self.kernels.list_only(None)
        for centre, sigma, height, log_weight in zip(centres, sigmas, heights, logs, strict=True):
            if self.counter == 1 and self.widths.measured:
                self.widths.sigma0 = sigma.copy()
            self.kernels.add(float(height), centre, sigma)
            weight = math.exp(log_weight)
            self.sum_weights += weight
            self.sum_weights2 += weight * weight
            self.counter += 1
        self.normalize()
        if self.options.normalized and len(self.kernels):
            self.zed = self.kernels.sum_over_centres() / self.norm / len(self.kernels)
        self.use_list()

    def saved(self) -> dict[str, np.ndarray]:
        kernels = self.kernels
        arrays = {"centres": kernels.centres, "sigmas": kernels.sigmas, "heights": kernels.heights}
        arrays |= self.widths.saved()
        arrays |= {} if self.neighbours is None else self.neighbours.saved()
        return arrays | {name: np.array(vars(self)[name]) for name in _SUMS}

    def restore_saved(self, arrays: dict[str, np.ndarray]) -> None:
        n = len(self.arguments)
        heights = saved_array(arrays, "heights", (None,), finite=True)
        shape = (len(heights), n)
        self.kernels.list_only(None)
        self.kernels.put(
            saved_array(arrays, "centres", shape, finite=True),
            saved_array(arrays, "sigmas", shape, finite=True),
            heights,
        )
        if self.neighbours is not None:
            self.neighbours = self.neighbours.restored(arrays, len(heights))
            self.use_list()
        self.widths.restore_saved(arrays)
        for name in _SUMS:
            setattr(self, name, saved_array(arrays, name, (), finite=True).item())


def _is_point(arguments: list[Any]) -> bool:
    """Whether arguments are plain numbers, of one frame."""
    return all(
        isinstance(x, float | int) or (isinstance(x, np.ndarray) and x.ndim == 0) for x in arguments
    )


class OpesExplore(Opes):
    """OPES that estimates the sampled distribution: quicker to explore."""

    name = "OPES_METAD_EXPLORE"
    summary = "OPES in exploration mode"
    keywords = OPES_KEYWORDS
    explore = True
