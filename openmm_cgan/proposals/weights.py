r"""Importance weights of proposals whose density is known.

A generator proposes x at a condition c drawn from a known density g(c), with the density q(x \| c)
over Cartesian coordinates (the rigid body left out). Against the density of the run,

    log w = -(U + V_bias)/kT + 1/2 log|H| - log q(x|c) - log g(c) [+ log k(c|xi(x))],

where |H|^(1/2) is Fixman's factor of constraints. A CV that is a coordinate of the generator has
the value asked for, c = xi(x). Any other is only near it, and c is an auxiliary variable with the
density k(c|xi(x)), normal about the CV (wrapped where periodic).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from openmm_cgan.short_reprs import short_repr

if TYPE_CHECKING:
    from openmm_cgan.collective_variable import CollectiveVariable

SIGMAS = 8.0  # of a wrapped normal that are summed over: beyond them 1e-15 of it


@dataclass(frozen=True, repr=False)
class LogWeights:
    """The terms of log importance weights, each of shape (n,).

    Attributes
    ----------
    reduced_energy : ndarray
        (U + V_bias) / kT.
    fixman : ndarray or float
        1/2 log|H|, 0 without constraints.
    log_prob : ndarray
        log q(x|c).
    log_density : ndarray
        log g(c).
    log_noise : ndarray or float
        log k(c|xi(x)), 0 where all CVs are coordinates of the generator.
    """

    reduced_energy: NDArray[np.float64]
    log_prob: NDArray[np.float64]
    log_density: NDArray[np.float64]
    fixman: NDArray[np.float64] | float = 0.0
    log_noise: NDArray[np.float64] | float = 0.0

    __repr__ = short_repr

    def total(self) -> NDArray[np.float64]:
        """Log weights (n,): -inf, weight zero, wherever a term is not finite.

        Such configurations are never moved to, and one that is there never moved from: that is
        exact, too.
        """
        # one by one: of two infinities the sum would be NaN, and warn
        terms = np.broadcast_arrays(
            -self.reduced_energy, self.fixman, -self.log_prob, -self.log_density, self.log_noise
        )
        finite = np.isfinite(terms).all(axis=0)
        return np.where(finite, np.where(finite, terms, 0.0).sum(axis=0), -np.inf)


def noisy_conditions(
    cvs: NDArray[np.float64],
    noise: NDArray[np.float64],
    variables: Sequence[CollectiveVariable],
    rng: np.random.Generator,
) -> NDArray[np.float64]:
    """Draw the conditions of configurations from k(c|xi), given their CVs.

    Parameters
    ----------
    cvs : ndarray, shape (n, n_cvs)
        [CV units]
    noise : ndarray, shape (n_cvs,)
        Standard deviations [CV units]; a CV whose noise is zero is its own condition.
    variables : sequence of CollectiveVariable
    rng : numpy Generator

    Returns
    -------
    ndarray, shape (n, n_cvs)
        Of periodic CVs within their domains.
    """
    drawn = cvs + noise * rng.standard_normal(cvs.shape)
    for k, variable in enumerate(variables):
        if noise[k] > 0:
            drawn[:, k] = variable.in_domain(drawn[:, k])
    return drawn


def log_condition_noise(
    conditions: NDArray[np.float64],
    cvs: NDArray[np.float64],
    noise: NDArray[np.float64],
    variables: Sequence[CollectiveVariable],
) -> NDArray[np.float64]:
    """log k(c|xi) over the CVs whose noise is not zero: normal, wrapped where periodic.

    Parameters
    ----------
    conditions, cvs : ndarray, shape (n, n_cvs)
        c and xi [CV units].
    noise : ndarray, shape (n_cvs,)
        Standard deviations [CV units].
    variables : sequence of CollectiveVariable

    Returns
    -------
    ndarray, shape (n,)
        Per CV units.
    """
    total = np.zeros(len(cvs))
    for k, variable in enumerate(variables):
        if not noise[k] > 0:
            continue
        away = variable.difference(cvs[:, k], conditions[:, k])
        turns = 0 if variable.period is None else int(np.ceil(SIGMAS * noise[k] / variable.period))
        images = away[:, None] + (variable.period or 0.0) * np.arange(-turns, turns + 1)
        exponents = -0.5 * (images / noise[k]) ** 2
        largest = exponents.max(axis=1)
        total += largest + np.log(np.exp(exponents - largest[:, None]).sum(axis=1))
        total -= np.log(noise[k] * np.sqrt(2 * np.pi))
    return total


def kish_effective_sample_size(log_weights: ArrayLike) -> float:
    """Kish's effective sample size, (sum w)^2 / sum w^2.

    Parameters
    ----------
    log_weights : array_like, shape (n,)
        Logarithms of the weights; a constant may be added. -inf is weight zero.

    Returns
    -------
    float
        From 1 (one weight has all) to n (equal weights); 0 if all weights are zero.

    Raises
    ------
    ValueError
        If a logarithm is NaN or +inf.

    Examples
    --------
    >>> kish_effective_sample_size([-1000.0, -1000.0])
    2.0
    >>> kish_effective_sample_size([0.0, -np.inf])
    1.0
    """
    logs = np.asarray(log_weights, dtype=float)
    if np.isnan(logs).any() or np.isposinf(logs).any():
        raise ValueError("log_weights holds NaN or +inf; give refused configurations -inf")
    if logs.size == 0 or np.isneginf(logs).all():
        return 0.0
    weights = np.exp(logs - logs.max())
    return float(weights.sum() ** 2 / (weights**2).sum())
