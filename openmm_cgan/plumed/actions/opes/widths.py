"""How wide a kernel of OPES is: as given, or as far as the arguments fluctuate.

The widths shrink with the number of kernels by Silverman's rule, doi 10.1201/9781315140919.
"""

from __future__ import annotations

import logging
import math

import numpy as np

from openmm_cgan.checkpoints import saved_array
from openmm_cgan.plumed.actions.opes.options import SigmaOptions
from openmm_cgan.plumed.actions.values import Value

log = logging.getLogger("openmm_cgan")

SMALLEST_SIGMA = 1e-6


class KernelWidths:
    """The widths of the next kernel.

    Parameters
    ----------
    arguments : tuple of Value
    options : SigmaOptions
    bias_factor : float
    explore : bool
        Whether kernels are of the sampled distribution, which is wider by the root of
        `bias_factor`.
    label : str
        Of the OPES, for the log.

    Attributes
    ----------
    sigma0 : ndarray, shape (n_arguments,)
        Of the first kernel.
    least : ndarray, shape (n_arguments,), or None
        Below which they are not taken.
    mean, square : ndarray, shape (n_arguments,)
        Of a measured width: running average, and sum of squared deviations.
    counter : int
        Steps that they were measured in.
    measured : bool
        Whether they are not given.
    """

    def __init__(
        self,
        arguments: tuple[Value, ...],
        options: SigmaOptions,
        bias_factor: float,
        explore: bool,
        label: str,
    ) -> None:
        n = len(arguments)
        self._arguments, self._options, self._label = arguments, options, label
        self._bias_factor, self._explore = bias_factor, explore
        given = np.zeros(n) if options.given is None else np.array(options.given)
        self.sigma0 = given * (math.sqrt(bias_factor) if explore else 1)
        self.least = None if options.least is None else np.array(options.least)
        self.mean, self.square = np.zeros(n), np.zeros(n)
        self.counter = 0
        self.measured = options.measured

    @property
    def known(self) -> bool:
        """Whether they are given, or were measured long enough for a first kernel."""
        return not self.measured or self.counter >= self._options.stride

    @property
    def too_narrow(self) -> bool:
        """Whether the given ones are below the least."""
        return not self.measured and self.least is not None and any(self.least > self.sigma0)

    def accumulate(self, arguments: list[float]) -> None:
        """Take a step into the measured widths; arguments of shape (n_arguments,)."""
        if not self.measured:
            return
        self.counter += 1
        tau = min(self.counter, self._options.stride)
        for i, value in enumerate(self._arguments):
            mean = float(self.mean[i])
            before = value.difference(mean, arguments[i])
            mean += before / tau
            self.mean[i] = mean
            self.square[i] += before * value.difference(mean, arguments[i])

    def of_kernel(self, first: bool, size: float) -> np.ndarray:
        """The widths of a new kernel.

        Parameters
        ----------
        first : bool
            Whether there was none before.
        size : float
            (Effective) number of kernels.

        Returns
        -------
        ndarray, shape (n_arguments,)

        Raises
        ------
        ValueError
            If a measured width is nothing.
        """
        n = len(self._arguments)
        sigma = self._measured_now(first) if self.measured else self.sigma0.copy()
        if self._options.fixed:
            return sigma
        sigma *= (size * (n + 2.0) / 4.0) ** (-1.0 / (4 + n))
        return sigma if self.least is None else np.maximum(sigma, self.least)

    def _measured_now(self, first: bool) -> np.ndarray:
        factor = 1.0 if self._explore else self._bias_factor
        if first:  # measured without bias, which is narrower than with
            self.square *= self._bias_factor
            self.sigma0 = np.sqrt(self.square / self.counter / factor)
            if self.least is not None:
                self.sigma0 = np.maximum(self.sigma0, self.least)
            elif np.any(self.sigma0 <= SMALLEST_SIGMA):
                raise ValueError(
                    f"the adaptive SIGMA is {self.sigma0}: give SIGMA, or a safe SIGMA_MIN"
                )
        sigma = np.sqrt(self.square / self.counter / factor)
        if self.least is None and np.any(sigma < SMALLEST_SIGMA):
            log.warning("%s: the adaptive SIGMA is small; set SIGMA_MIN", self._label)
            self.least = np.full(len(sigma), SMALLEST_SIGMA)
        return sigma if self.least is None else np.maximum(sigma, self.least)

    def saved(self) -> dict[str, np.ndarray]:
        """What a checkpoint keeps.

        ``sigma0``, ``mean`` and where there is one ``sigma_min`` (n_arguments,) [units of the
        arguments], ``square`` (n_arguments,) [their squares], ``adaptive_counter`` of shape ().
        """
        arrays = {"sigma0": self.sigma0, "mean": self.mean, "square": self.square}
        arrays |= {} if self.least is None else {"sigma_min": self.least}
        return arrays | {"adaptive_counter": np.array(self.counter)}

    def restore_saved(self, arrays: dict[str, np.ndarray]) -> None:
        """Take over what `saved` gave, in the same shapes."""
        shape = self.sigma0.shape
        self.sigma0, self.mean, self.square = (
            saved_array(arrays, name, shape).copy() for name in ("sigma0", "mean", "square")
        )
        if "sigma_min" in arrays:
            self.least = saved_array(arrays, "sigma_min", shape).copy()
        self.counter = saved_array(arrays, "adaptive_counter", ()).item()
