"""What an OPES works with once its temperature is known."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from openmm_cgan.plumed.actions.opes.options import OpesOptions
from openmm_cgan.plumed.input.language import PlumedInputError


@dataclass(frozen=True)
class OpesSettings:
    """What follows from options and temperature.

    Attributes
    ----------
    kt : float
        [energy unit of the input]
    bias_factor : float
        Above 1; infinite for a uniform target.
    prefactor : float
        Of ``kT log(...)``.
    epsilon : float
        Regularization.
    cutoff, threshold : float
        Where kernels end, and below which distance they are merged, in sigmas.
    """

    kt: float
    bias_factor: float
    prefactor: float
    epsilon: float
    cutoff: float
    threshold: float


def settings_at(
    kt: float,
    options: OpesOptions,
    explore: bool,
    error: Callable[[str, str], PlumedInputError],
) -> OpesSettings:
    """The settings at a temperature.

    Parameters
    ----------
    kt : float
        [energy unit of the input]
    options : OpesOptions
    explore : bool
        Whether it estimates the sampled distribution.
    error : callable
        Builds the error for what is wrong with a keyword.

    Raises
    ------
    PlumedInputError
        If barrier and temperature leave no bias factor above 1, and the like.
    """
    factor = options.barrier / kt if options.bias_factor is None else options.bias_factor
    if not factor > 1:
        raise error("BIASFACTOR", f"is {factor:g}; must be above 1 (BARRIER/kT if absent)")
    if math.isinf(factor) and (explore or options.sigma.measured):
        raise error("BIASFACTOR", "inf neither with EXPLORE nor with an adaptive SIGMA")
    prefactor = factor - 1 if explore else 1 - 1 / factor
    epsilon, cutoff = options.epsilon, options.cutoff
    if epsilon is None:
        epsilon = math.exp(-options.barrier / prefactor / kt)
    if not epsilon > 0:
        raise error("EPSILON", "is zero: is BARRIER too high?")
    if cutoff is None:
        cutoff = math.sqrt(2 * options.barrier / kt / (1 if explore else prefactor))
    if not 0 <= options.threshold < cutoff:
        raise error("COMPRESSION_THRESHOLD", "must be below KERNEL_CUTOFF")
    return OpesSettings(kt, factor, prefactor, epsilon, cutoff, options.threshold)
