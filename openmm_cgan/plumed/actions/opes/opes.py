"""OPES_METAD and OPES_METAD_EXPLORE: on-the-fly probability enhanced sampling.

The bias is the logarithm of a sum of kernels, ``V = kT p log(P(s)/Z + epsilon)``, taken exactly and
not on a grid. Invernizzi and Parrinello, doi 10.1021/acs.jpclett.0c00497 and
10.1021/acs.jctc.2c00152.
"""

from __future__ import annotations

import logging
import math
from typing import Any, ClassVar

import numpy as np

from openmm_cgan.checkpoints import saved_array
from openmm_cgan.plumed.actions.action import Given, Keyword, Value
from openmm_cgan.plumed.actions.biases.bias import Bias, restarts_itself
from openmm_cgan.plumed.actions.opes.kernels import Kernels
from openmm_cgan.plumed.actions.opes.neighbours import PATIENCE, REACH, Neighbours, largest_patience
from openmm_cgan.plumed.input.expressions import namespace
from openmm_cgan.plumed.input.language import is_number_format, read_real

log = logging.getLogger("openmm_cgan")

SMALLEST_SIGMA = 1e-6
# What is summed up during a run, besides the kernels
SUMS = ("counter", "sum_weights", "sum_weights2", "zed", "norm", "work", "adaptive_counter")

_KEYWORDS = (
    Keyword("ARG", "arguments", "the values to bias", compulsory=True),
    Keyword("PACE", "integer", "steps between kernels", compulsory=True),
    Keyword("BARRIER", "real", "free-energy barrier to be overcome", compulsory=True),
    Keyword("TEMP", "real", "temperature in K, if not that of the run"),
    Keyword("SIGMA", "text", "initial width for each argument, or ADAPTIVE", default="ADAPTIVE"),
    Keyword("ADAPTIVE_SIGMA_STRIDE", "integer", "steps that an adaptive width is measured in"),
    Keyword("SIGMA_MIN", "reals", "smallest width for each argument"),
    Keyword("BIASFACTOR", "text", "bias factor, or inf; BARRIER/kT if absent"),
    Keyword("EPSILON", "real", "regularization; from BARRIER if absent"),
    Keyword("KERNEL_CUTOFF", "real", "where kernels end, in sigmas; from BARRIER if absent"),
    Keyword("COMPRESSION_THRESHOLD", "real", "merge kernels closer, in sigmas", default=1.0),
    Keyword("FIXED_SIGMA", "flag", "do not let the widths shrink"),
    Keyword("RECURSIVE_MERGE_OFF", "flag", "merge once for each new kernel"),
    Keyword("NO_ZED", "flag", "do not normalize over what was explored"),
    Keyword("NLIST", "flag", "sum only the kernels around, listed anew where the values move on"),
    Keyword("NLIST_PACE_RESET", "flag", "list anew at each PACE too; implies NLIST"),
    Keyword("NLIST_PARAMETERS", "numbers", "reach and patience of the list; implies NLIST"),
    Keyword("SERIAL", "flag", "without effect"),
    Keyword("CALC_WORK", "flag", "sum up the work done by changing the bias"),
    Keyword("EXCLUDED_REGION", "arguments", "a value; kernels are only laid where it is zero"),
    Keyword("FILE", "text", "where the kernels are written", default="KERNELS"),
    Keyword("FMT", "text", "number format of the files"),
    Keyword("STATE_RFILE", "text", "state to restart from, in place of the kernels"),
    Keyword("STATE_WFILE", "text", "where the state is written"),
    Keyword("STATE_WSTRIDE", "integer", "steps between states"),
    Keyword("STORE_STATES", "flag", "append states to the file in place of overwriting it"),
    Keyword("RESTART", "text", "YES or NO, if not as the whole input"),
)


class Opes(Bias):
    """OPES with a well-tempered or uniform target."""

    name = "OPES_METAD"
    summary = "on-the-fly probability enhanced sampling, exact kernels"
    keywords: ClassVar[tuple[Keyword, ...]] = (
        *_KEYWORDS,
        Keyword("EXTRA_BIAS", "arguments", "other biases that frames are weighed by too"),
    )
    explore: ClassVar[bool] = False

    def __init__(self, given: Given) -> None:
        super().__init__(given)
        self._options = options = given.options
        self.pace: int = options["PACE"]
        self.temp: float | None = options["TEMP"] if (options["TEMP"] or 0) > 0 else None
        self.barrier: float = options["BARRIER"]
        self.file: str = options["FILE"]
        self.fmt: str = f" {options['FMT']}" if options["FMT"] else "%23.16g"
        self.state_file: str | None = options["STATE_WFILE"]
        self.state_stride: int = options["STATE_WSTRIDE"] or 0
        self.store_states: bool = options["STORE_STATES"]
        self.restart_file: str | None = options["STATE_RFILE"]
        self.calc_work: bool = options["CALC_WORK"]
        self.neighbours = self._read_list()
        self.excluded: tuple[Value, ...] = options["EXCLUDED_REGION"]
        self.extra: tuple[Value, ...] = options.get("EXTRA_BIAS", ())
        self.restarts = restarts_itself(self, options["RESTART"])
        self._check()
        self._read_sigma()
        self.kt: float | None = None

    # ---- what the input says

    def _check(self) -> None:
        options = self._options
        if self.pace <= 0:
            raise self.error("PACE", "must be positive")
        if self.barrier < 0:
            raise self.error("BARRIER", "must not be negative")
        for word in ("EPSILON", "KERNEL_CUTOFF"):
            if options[word] is not None and not options[word] > 0:
                raise self.error(word, "must be positive")
        if len(self.excluded) > 1:
            raise self.error("EXCLUDED_REGION", f"{len(self.excluded)} values; expected one")
        if options["FMT"] and not is_number_format(options["FMT"]):
            raise self.error("FMT", "expected a format such as %14.9f")
        if (self.state_stride or self.store_states) and self.state_file is None:
            raise self.error("STATE_WSTRIDE", "needs STATE_WFILE=")
        if self.state_stride and self.state_stride < self.pace:
            raise self.error("STATE_WSTRIDE", "must not be less than PACE")

    def _read_list(self) -> Neighbours | None:
        """The neighbour list as a run begins with it; None without one."""
        options, n = self._options, len(self.arguments)
        numbers: tuple[float, ...] | None = options["NLIST_PARAMETERS"]
        if not (options["NLIST"] or options["NLIST_PACE_RESET"] or numbers is not None):
            return None
        if numbers is not None and len(numbers) != 2:
            raise self.error("NLIST_PARAMETERS", f"{len(numbers)} numbers; expected two")
        reach, patience = (REACH, PATIENCE) if numbers is None else numbers
        if not reach > 1:
            raise self.error("NLIST_PARAMETERS", f"the first is {reach:g}; must be above 1")
        if not 0 < patience <= largest_patience(reach):
            limit = f"above 0 and at most {largest_patience(reach):g} = 1.16 - 1/sqrt({reach:g})"
            raise self.error("NLIST_PARAMETERS", f"the second is {patience:g}; must be {limit}")
        return Neighbours(reach, patience, np.zeros(0, dtype=int), np.zeros(n), np.zeros(n))

    def _read_sigma(self) -> None:
        options, n = self._options, len(self.arguments)
        stride: int | None = options["ADAPTIVE_SIGMA_STRIDE"]
        words = options["SIGMA"].split(",")
        self.adaptive = words in (["ADAPTIVE"], ["adaptive"])
        self.adaptive_stride = 0
        if self.adaptive:
            self.adaptive_stride = stride or 10 * self.pace
            if self.adaptive_stride < self.pace:
                raise self.error("ADAPTIVE_SIGMA_STRIDE", "must not be less than PACE")
            self._given_sigma = np.zeros(n)
        else:
            if stride:
                raise self.error("ADAPTIVE_SIGMA_STRIDE", "only with SIGMA=ADAPTIVE")
            try:
                self._given_sigma = np.array([read_real(word) for word in words])
            except ValueError as error:
                raise self.error("SIGMA", str(error)) from None
            if len(words) != n:
                raise self.error("SIGMA", f"{len(words)} numbers for {n} arguments in ARG")
            if not np.all(self._given_sigma > 0):
                raise self.error("SIGMA", "must be positive")
        least = options["SIGMA_MIN"]
        self.sigma_min = None if least is None else np.array(least)

    @property
    def needs_temperature(self) -> bool:
        """Whether kT is not given by TEMP."""
        return self.temp is None

    def _read_factor(self, kt: float) -> float:
        text = self._options["BIASFACTOR"]
        factor = self.barrier / kt
        if text is not None:
            try:
                factor = math.inf if text.lower() == "inf" else read_real(text)
            except ValueError as error:
                raise self.error("BIASFACTOR", str(error)) from None
        if not factor > 1:
            raise self.error("BIASFACTOR", f"is {factor:g}; must be above 1 (BARRIER/kT if absent)")
        if math.isinf(factor) and (self.explore or self.adaptive):
            raise self.error("BIASFACTOR", "inf neither with EXPLORE nor with an adaptive SIGMA")
        return factor

    def start(self, kt: float) -> None:
        """Begin anew at a temperature: kT in the energy unit of the input.

        Raises
        ------
        PlumedInputError
            If BARRIER and the temperature leave no bias factor above 1, and the like.
        """
        options, n = self._options, len(self.arguments)
        self.kt = kt
        self.bias_factor = self._read_factor(kt)
        self.prefactor = self.bias_factor - 1 if self.explore else 1 - 1 / self.bias_factor
        self.epsilon = options["EPSILON"]
        if self.epsilon is None:
            self.epsilon = math.exp(-self.barrier / self.prefactor / kt)
        if not self.epsilon > 0:
            raise self.error("EPSILON", "is zero: is BARRIER too high?")
        cutoff: float | None = options["KERNEL_CUTOFF"]
        if cutoff is None:
            cutoff = math.sqrt(2 * self.barrier / kt / (1 if self.explore else self.prefactor))
        threshold = options["COMPRESSION_THRESHOLD"]
        if not 0 <= threshold < cutoff:
            raise self.error("COMPRESSION_THRESHOLD", "must be below KERNEL_CUTOFF")
        recursive = not options["RECURSIVE_MERGE_OFF"]
        self.kernels = Kernels(self.arguments, cutoff * cutoff, threshold * threshold, recursive)
        self.sigma0 = self._given_sigma * (math.sqrt(self.bias_factor) if self.explore else 1)
        if not self.adaptive and self.sigma_min is not None and any(self.sigma_min > self.sigma0):
            raise self.error("SIGMA_MIN", "must not be above SIGMA")
        self.counter, self.adaptive_counter, self.zed, self.work = 1, 0, 1.0, 0.0
        # as if there were a frame of weight exp(V0/kT) already
        self.sum_weights = 1.0 if options["NO_ZED"] else self.epsilon**self.prefactor
        self.sum_weights2 = self.sum_weights * self.sum_weights
        self.mean, self.square = np.zeros(n), np.zeros(n)  # of an adaptive width
        self.neighbours = self._read_list()
        self.use_list()
        self.normalize()

    def normalize(self) -> None:
        """Take the norm of the kernels from the sums."""
        self.norm: float = self.counter if self.explore else self.sum_weights

    # ---- the bias

    @property
    def outputs(self) -> tuple[Value, ...]:
        names = ["rct", "zed", "neff", "nker"]
        names += ["work"] if self.calc_work else []
        names += ["nlker", "nlsteps"] if self.neighbours else []
        return (*super().outputs, *(Value(f"{self.label}.{name}") for name in names))

    @property
    def effective_size(self) -> float:
        """Effective number of frames."""
        return (1 + self.sum_weights) ** 2 / (1 + self.sum_weights2)

    def sums(self, neighbours: Neighbours | None = None) -> list[float]:
        """The outputs besides the bias, as they stand after the last kernel, with that list."""
        assert self.kt is not None
        rct = self.kt * math.log(self.sum_weights / self.counter)
        found = [rct, self.zed, self.effective_size, float(len(self.kernels))]
        found += [self.work] if self.calc_work else []
        shown = neighbours or self.neighbours
        return found + ([float(shown.shown_size), float(shown.shown_steps)] if shown else [])

    def _energy(self, total: Any) -> Any:
        if self.kt is None:
            raise ValueError(
                f"{self.statement.location}: {self.name} {self.label} needs a temperature: give "
                "PlumedBias(..., temperature=300*kelvin) or TEMP= in the input"
            )
        inside = total / self.norm / self.zed + self.epsilon
        return self.kt * self.prefactor * namespace(inside).log(inside)

    def energy(self, arguments: list[Any]) -> Any:
        if self.kt is None:
            return self._energy(0.0)
        if self.neighbours is not None and _is_point(arguments):
            return self.energy_and_slopes(arguments)[0]
        return self._energy(self.kernels.sum(arguments))  # of many points: no list

    def values(self, arguments: list[Any]) -> tuple[Any, ...]:
        return (self.energy(arguments), *self.sums(self._next_list(arguments)))

    def _next_list(self, arguments: list[Any]) -> Neighbours | None:
        """The neighbour list as it will be at a point."""
        if self.neighbours is None or not _is_point(arguments):
            return self.neighbours
        return self.neighbours.followed(arguments, self.kernels)

    def energy_and_slopes(self, arguments: list[float], step: int = 0) -> tuple[float, list[float]]:
        """Bias of one point and its slopes as PLUMED takes them (see `Kernels`), at any step."""
        if self.kt is None:
            self._energy(0.0)
        there = self._next_list(arguments)
        if there is None or self.neighbours is None or there.index is self.neighbours.index:
            total, slopes = self.kernels.sum_and_slopes(arguments)
        else:
            total, slopes = self.kernels.sum_and_slopes_of(there.index, arguments)
        inside = total / self.norm / self.zed + self.epsilon
        assert self.kt is not None
        factor = self.kt * self.prefactor / (inside * self.norm * self.zed)
        return self.kt * self.prefactor * math.log(inside), (factor * slopes).tolist()

    # ---- between steps

    def use_list(self) -> None:
        """Sum and merge the kernels that the neighbour list has."""
        self.kernels.list_only(None if self.neighbours is None else self.neighbours.index)

    def follow(self, arguments: list[float]) -> None:
        """Renew the neighbour list where that is due at this step."""
        there = self._next_list(arguments)
        if there is not None and self.neighbours is not None:
            moved = there.index is not self.neighbours.index
            self.neighbours = there
            if moved:
                self.use_list()

    def measure(self, arguments: list[float]) -> bool:
        """Take one step into an adaptive width; False while it is too early for a kernel."""
        if not self.adaptive:
            return True
        self.adaptive_counter += 1
        tau = min(self.adaptive_counter, self.adaptive_stride)
        for i, value in enumerate(self.arguments):
            mean = float(self.mean[i])
            before = value.difference(mean, arguments[i])
            mean += before / tau
            self.mean[i] = mean
            self.square[i] += before * value.difference(mean, arguments[i])
        return self.adaptive_counter >= self.adaptive_stride or self.counter != 1

    def deposit(self, arguments: list[float], bias: float, extra: float = 0.0) -> tuple[float, ...]:
        """Add the kernel of this step, where this bias is `bias` and the others are `extra`.

        Returns
        -------
        tuple of float
            Centre, sigma, height and logarithm of the weight.
        """
        assert self.kt is not None
        kernels = self.kernels
        old_norm, old_count = self.norm, len(kernels)
        kernels.changes.clear()
        log_weight = bias / self.kt + extra / self.kt
        weight = math.exp(log_weight)
        self.counter += 1
        self.sum_weights += weight
        self.sum_weights2 += weight * weight
        self.normalize()
        sigma = self._new_sigma()
        height = 1.0 if self.explore else weight
        for initial, now in zip(self.sigma0, sigma, strict=True):
            height *= float(initial / now)
        kernels.add(height, np.array(arguments), sigma)
        self._update_zed(old_norm, old_count)
        if self.calc_work:
            inside = kernels.sum_and_slopes(arguments)[0] / self.norm / self.zed + self.epsilon
            self.work += self.kt * self.prefactor * math.log(inside) - bias
        if self.neighbours is not None:
            reset = self._options["NLIST_PACE_RESET"]
            self.neighbours = self.neighbours.after_kernel(kernels, reset)
        return (*arguments, *sigma.tolist(), height, log_weight)

    def _new_sigma(self) -> np.ndarray:
        n = len(self.arguments)
        sigma = self._measured_sigma() if self.adaptive else self.sigma0.copy()
        if self._options["FIXED_SIGMA"]:
            return sigma
        size = self.counter if self.explore else self.effective_size
        sigma *= (size * (n + 2.0) / 4.0) ** (-1.0 / (4 + n))
        return sigma if self.sigma_min is None else np.maximum(sigma, self.sigma_min)

    def _measured_sigma(self) -> np.ndarray:
        factor = 1.0 if self.explore else self.bias_factor
        if self.counter == 2:  # measured without bias, which is narrower than with
            self.square *= self.bias_factor
            self.sigma0 = np.sqrt(self.square / self.adaptive_counter / factor)
            if self.sigma_min is not None:
                self.sigma0 = np.maximum(self.sigma0, self.sigma_min)
            elif np.any(self.sigma0 <= SMALLEST_SIGMA):
                raise RuntimeError(
                    f"{self.statement.location}: {self.name} {self.label}: the adaptive SIGMA is "
                    f"{self.sigma0}: give SIGMA, or a safe SIGMA_MIN"
                )
        sigma = np.sqrt(self.square / self.adaptive_counter / factor)
        if self.sigma_min is None and np.any(sigma < SMALLEST_SIGMA):
            log.warning("%s: the adaptive SIGMA is small; set SIGMA_MIN", self.label)
            self.sigma_min = np.full(len(sigma), SMALLEST_SIGMA)
        return sigma if self.sigma_min is None else np.maximum(sigma, self.sigma_min)

    def _update_zed(self, old_norm: float, old_count: int) -> None:
        if self._options["NO_ZED"]:
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
        """Add the kernels of an earlier run, as its KERNELS file has them."""
        self.kernels.list_only(None)
        for centre, sigma, height, log_weight in zip(centres, sigmas, heights, logs, strict=True):
            if self.counter == 1 and self.adaptive:
                self.sigma0 = sigma.copy()
            self.kernels.add(float(height), centre, sigma)
            weight = math.exp(log_weight)
            self.sum_weights += weight
            self.sum_weights2 += weight * weight
            self.counter += 1
        self.normalize()
        if not self._options["NO_ZED"] and len(self.kernels):
            self.zed = self.kernels.sum_over_centres() / self.norm / len(self.kernels)
        self.use_list()

    def saved(self) -> dict[str, np.ndarray]:
        kernels = self.kernels
        arrays = {"centres": kernels.centres, "sigmas": kernels.sigmas, "heights": kernels.heights}
        arrays |= {"sigma0": self.sigma0, "mean": self.mean, "square": self.square}
        arrays |= {} if self.sigma_min is None else {"sigma_min": self.sigma_min}
        arrays |= {} if self.neighbours is None else self.neighbours.saved()
        return arrays | {name: np.array(getattr(self, name)) for name in SUMS}

    def restore_saved(self, arrays: dict[str, np.ndarray]) -> None:
        n = len(self.arguments)
        heights = saved_array(arrays, "heights", (None,))
        shape = (len(heights), n)
        self.kernels.list_only(None)
        self.kernels.put(
            saved_array(arrays, "centres", shape), saved_array(arrays, "sigmas", shape), heights
        )
        if self.neighbours is not None:
            self.neighbours = self.neighbours.restored(arrays, len(heights))
            self.use_list()
        for name in ("sigma0", "mean", "square"):
            setattr(self, name, saved_array(arrays, name, (n,)).copy())
        if "sigma_min" in arrays:
            self.sigma_min = saved_array(arrays, "sigma_min", (n,)).copy()
        for name in SUMS:
            setattr(self, name, saved_array(arrays, name, ()).item())


def _is_point(arguments: list[Any]) -> bool:
    """Whether arguments are plain numbers, of one frame."""
    return all(
        isinstance(x, float | int) or (isinstance(x, np.ndarray) and x.ndim == 0) for x in arguments
    )


class OpesExplore(Opes):
    """OPES that estimates the sampled distribution: quicker to explore."""

    name = "OPES_METAD_EXPLORE"
    summary = "OPES in exploration mode"
    keywords = _KEYWORDS
    explore = True
