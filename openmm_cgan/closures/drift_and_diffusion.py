r"""The closure of the reduced dynamics: drift, diffusion and mean force at values of the CVs.

In equilibrium three of its parts must agree, b = -sigma^2 A' / 2kT + (sigma^2)' / 2, sigma^2 the
growth of the variance of the CV (twice the diffusion coefficient) and A the free energy. That is
the free test of any generator, and of any sampling: it needs no reference.

`identity` tests it without a derivative of an estimate and without bins. For any smooth function f
of the CVs equilibrium averages L f to zero, L f = b . grad f + sigma^2 : grad grad f / 2; with a
kernel K about z in the place of grad f,

    < b_a K > + 1/2 sum_b < sigma^2_ab d_b K > = 0,

which is the identity smoothed by K, and is exact for every width of K.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from openmm_cgan import GAS_CONSTANT
from openmm_cgan.closures.conditional_averages import (
    ConditionalAverage,
    checked_points,
    checked_widths,
    conditional_average,
    of_one_part,
    relative_weights,
    weights_near,
)
from openmm_cgan.closures.local_polynomial import LEAST_EFFECTIVE, Neighbourhood, neighbourhood
from openmm_cgan.closures.local_quantities import LocalDynamics
from openmm_cgan.collective_variable import CollectiveVariable
from openmm_cgan.free_energy.samples import WeightedSamples, spread
from openmm_cgan.short_reprs import short_repr

SAME_KT = 1e-3  # part of kT by which two may differ: constants have digits
GAP = 3.0  # mean distances between frames that the end of a kernel may be empty: by chance, 5 %
SMALL_GAP = 0.05  # of the kernel's width: what it is there is a tenth of what it is inside
WIDTH = 0.1  # of the range of values: of the kernel by which the identity is tested


@dataclass(frozen=True)
class Closure:
    """Drift, diffusion and mean force of CVs, with errors and replicates.

    Attributes
    ----------
    variables : tuple of CollectiveVariable
        The k CVs.
    kT : float
        Thermal energy [kJ/mol].
    at : ndarray, shape (m, k)
        Values of the CVs [CV unit].
    drift : ConditionalAverage of shape (m, k)
        b, in dz = b dt + sigma dW [CV unit/ps].
    diffusion : ConditionalAverage of shape (m, k, k)
        sigma^2, the growth of the covariance [CV unit^2/ps].
    mean_force : ConditionalAverage of shape (m, k)
        A', the slope of the free energy [kJ/mol/CV unit].
    """

    variables: tuple[CollectiveVariable, ...]
    kT: float
    at: NDArray[np.float64]
    drift: ConditionalAverage
    diffusion: ConditionalAverage
    mean_force: ConditionalAverage

    __repr__ = short_repr


@dataclass(frozen=True)
class Identity:
    """How far b = -sigma^2 A' / 2kT + (sigma^2)' / 2 is from true, with A of the frames' density.

    Attributes
    ----------
    at : ndarray, shape (m, k)
        Values of the CVs [CV unit].
    residual, error : ndarray, shape (m, k)
        b + sigma^2 A' / 2kT - (sigma^2)' / 2 and its standard error [CV unit/ps]; NaN where there
        are too few frames, or the kernel reaches beyond what was sampled.
    scale : float
        Root mean square of the terms that cancel [CV unit/ps].
    """

    at: NDArray[np.float64]
    residual: NDArray[np.float64]
    error: NDArray[np.float64]
    scale: float

    __repr__ = short_repr

    @property
    def z_scores(self) -> NDArray[np.float64]:
        """Residuals in standard errors, those that are known."""
        z = self.residual / self.error
        return z[np.isfinite(z)]

    def holds(self, errors: float = 2.0, part: float = 0.9) -> bool:
        """Whether at least a part of the residuals is within some standard errors."""
        z = self.z_scores
        return len(z) > 0 and bool((np.abs(z) <= errors).mean() >= part)

    def __str__(self) -> str:
        z = np.abs(self.z_scores)
        if len(z) == 0:
            return "identity b = -sigma^2 A'/2kT + (sigma^2)'/2: too few frames to tell"
        return (
            "identity b = -sigma^2 A'/2kT + (sigma^2)'/2: within 2 standard errors at "
            f"{(z <= 2).mean():.0%} of {len(z)} values, residual "
            f"{np.sqrt(np.nanmean(self.residual**2)) / self.scale:.1%} of its terms"
        )


def closure(
    samples: WeightedSamples,
    local: LocalDynamics,
    at: ArrayLike,
    bandwidth: ArrayLike | None = None,
    degree: int = 2,
) -> Closure:
    """Average the local dynamics of samples at values of the CVs.

    Parameters
    ----------
    samples : WeightedSamples
        See `conditional_average`.
    local : LocalDynamics
        Of each sample.
    at : array_like, shape (m, k) or (m,)
        Values of the CVs [CV unit].
    bandwidth, degree
        As of `conditional_average`; if omitted, one bandwidth is chosen for each quantity.

    Raises
    ------
    ValueError
        If the samples' CVs and those of `local` differ, or as of `conditional_average`.
    """
    _require_same(samples, local)
    drift, diffusion, mean_force = (
        conditional_average(samples, values, at, bandwidth, degree, seed)
        for seed, values in enumerate((local.drift, local.diffusion, local.mean_force))
    )
    return Closure(samples.variables, samples.kT, drift.at, drift, diffusion, mean_force)


def identity(
    samples: WeightedSamples,
    local: LocalDynamics,
    at: ArrayLike,
    bandwidth: ArrayLike | None = None,
) -> Identity:
    """Test drift, diffusion and the samples' density against each other.

    Parameters
    ----------
    samples, local, at
        As of `closure`.
    bandwidth : array_like, optional
        Width of the kernel [CV unit]; any is right, a wide one has small errors and little
        resolution. If omitted, a tenth of the range of `at`, or of the samples' where that is 0.

    Raises
    ------
    ValueError
        As of `closure`.
    """
    _require_same(samples, local)
    at = checked_points(samples, at)
    if bandwidth is None:
        extent, own = np.ptp(at, axis=0), np.ptp(samples.cvs, axis=0)
        bandwidth = WIDTH * np.where(extent > 0, extent, own)
    widths = checked_widths(samples, bandwidth)
    relative = relative_weights(samples)
    residual, error, size = (np.full(at.shape, np.nan) for _ in range(3))
    for j, z in enumerate(at):
        near = neighbourhood(samples.cvs, samples.variables, z, widths)
        if not (near.surrounds and _reached(near) and of_one_part(samples, near)):
            continue
        slopes = near.kernel[:, None] * (-2.0 * near.offsets / (1.0 - near.offsets**2)) / widths
        terms = local.drift[near.rows] * near.kernel[:, None]
        others = 0.5 * (local.diffusion[near.rows] @ slopes[:, :, None])[..., 0]
        weights = weights_near(samples, relative, near.rows)
        own = weights[0] * near.kernel
        inefficiencies = samples.inefficiencies[samples.window[near.rows]]
        if own.sum() ** 2 < LEAST_EFFECTIVE * (own**2 * inefficiencies).sum():
            continue
        with np.errstate(invalid="ignore", divide="ignore"):
            rows = (weights @ (terms + others)) / (weights @ near.kernel)[:, None]
            sizes = np.abs([weights[0] @ terms, weights[0] @ others]) / own.sum()
        residual[j], size[j] = rows[0], sizes.max(axis=0)
        moves = np.zeros((len(samples.cvs), at.shape[1]))
        moves[near.rows] = weights[0][:, None] * (terms + others - near.kernel[:, None] * rows[0])
        moves /= own.sum()
        pairs = zip(rows[1:].T, moves.T, strict=True)
        error[j] = [samples.widened(spread(column), own) for column, own in pairs]
    scale = np.sqrt(np.nanmean(size**2)) if np.isfinite(size).any() else np.nan
    return Identity(at, residual, error, float(scale))


def _reached(near: Neighbourhood) -> bool:
    """Whether frames reach the ends of a kernel: cut off by an end of the data, it is off."""
    gap = max(SMALL_GAP, GAP * 2.0 / len(near.rows))
    low, high = near.offsets.min(0), near.offsets.max(0)
    return bool(((low <= gap - 1.0) & (high >= 1.0 - gap)).all())


def _require_same(samples: WeightedSamples, local: LocalDynamics) -> None:
    if local.cvs.shape != samples.cvs.shape:
        raise ValueError(
            f"the local dynamics has CVs of shape {local.cvs.shape}, the samples "
            f"{samples.cvs.shape}; expected those of the same samples"
        )
    if local.kT is not None and abs(local.kT - samples.kT) > SAME_KT * samples.kT:
        raise ValueError(
            f"the local dynamics is at {local.kT / GAS_CONSTANT:.1f} K, the samples are weighed "
            f"for {samples.kT / GAS_CONSTANT:.1f} K; expected one temperature"
        )
    for column, variable in enumerate(samples.variables):
        own, other = samples.cvs[:, column], local.cvs[:, column]
        far = np.abs(variable.difference(own, other)) > 1e-3 * max(np.ptp(own), 1e-12)
        if far.any():
            row = int(np.flatnonzero(far)[0])
            raise ValueError(
                f"{variable.name} of sample {row} is {own[row]:.6g}, that of its local dynamics "
                f"{other[row]:.6g}; expected those of the same samples in the same order"
            )
