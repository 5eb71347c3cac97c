r"""Drift and diffusion in a basis from lagged pairs, free of the bias of a finite lag.

Kramers and Moyal divide what moved by the lag, and are off by the first order of the lag however
many frames there are. What is used here instead holds at every lag. With :math:`y_t = z_t - z_0`
and any function f of the CVs, Ito's formula and an average give (Dynkin's formula)

.. math::

    \frac{d}{dt} \langle f(z_0) \, y_t \rangle &= \langle f(z_0) \, b(z_t) \rangle \\
    \frac{d}{dt} \langle f(z_0) \, y_t y_t^T \rangle
        &= \langle f(z_0) \, (y_t b^T + b y_t^T + \sigma^2)(z_t) \rangle

for starts of any density. Both are integrated from one lag to another, and f runs through the basis
in which b and :math:`\sigma^2` are written: linear equations, whose coefficients are means over
pairs; two-stage least squares, as econometrics calls them. Nothing before the first lag enters, so
that what forgets faster than it (momenta, fast coordinates) leaves no trace, while Kramers and
Moyal's estimate keeps its displacement, divided by the lag. That is ``by="moments"``.

In equilibrium more is known. The transition density p(z_t | z_0) obeys the backward equation in
z_0, and integrating by parts once brings in its logarithm's gradient, the conditional score s,

.. math::

    \frac{d}{dt} \langle f(z_0) g(z_t) \rangle = -\tfrac12
        \langle g(z_t) \, s(z_t | z_0) \cdot \sigma^2(z_0) \nabla f(z_0) \rangle,
    \qquad b = \tfrac12 \nabla \cdot \sigma^2 + \tfrac12 \sigma^2 \nabla \ln \rho

with the density :math:`\rho` of z, where detailed balance holds; L. T. Giorgini, "Conditional
Score-Based Modeling of Effective Langevin Dynamics", arXiv:2604.23952 (2026), has it for dynamics
with a current as well (its abstract and its code were read; the derivation is ours). There networks
learn s. In a basis none is needed: for any vector field h integration by parts gives

.. math::

    \langle g(z_t) \, s(z_t | z_0) \cdot h(z_0) \rangle =
        - \langle g(z_t) \, (\nabla \cdot h + h \cdot \nabla \ln \rho)(z_0) \rangle,

the normal equations of score matching (A. Hyvarinen, J. Mach. Learn. Res. 6, 695 (2005)), so that a
conditional score fitted by least squares would give back just the right side. With h of the
identity above this is :math:`\langle (L f)(z_0) g(z_t) \rangle`, L the generator whose drift is
tied to the diffusion and to the score of the density; read backward in time it is Dynkin's formula.
So ``by="score"`` solves the second equation above for :math:`\sigma^2` alone, with

.. math::

    \langle b_a f \rangle = -\tfrac12 \sum_b \langle \sigma^2_{ab} \, \partial_b f \rangle,
    \qquad \langle \partial_a \ln \rho \, f \rangle = - \langle \partial_a f \rangle

for the f of the basis. The density is kept by construction, and the drift, which needs long runs
when it is read from what moved, comes from where the frames lie. It asks for runs in equilibrium
that are not cut off by walls inside the range of the CVs; bursts are none.

A bias on the CVs that stays as it is makes another drift, b - sigma^2 bias' / 2kT, and another
density; both are taken back at the end. Runs under different biases are read one by one.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import ArrayLike, NDArray

from openmm_cgan.closures.bursts import Trajectories
from openmm_cgan.closures.conditional_averages import ConditionalAverage
from openmm_cgan.closures.drift_and_diffusion import Closure
from openmm_cgan.closures.kramers_moyal_coefficients import drift_without_bias
from openmm_cgan.closures.lag_plateau import plateau, plateau_in_words, say_whether_flat
from openmm_cgan.closures.lagged_fits import LaggedFit, fit_of_moments, fit_of_score
from openmm_cgan.closures.lagged_moments import (
    LaggedMoments,
    LaggedPairs,
    lagged_moments,
    lagged_pairs_between,
)
from openmm_cgan.closures.local_polynomial import (
    LEAST_EFFECTIVE,
    LEAST_WEIGHT,
    n_coefficients,
    neighbourhood,
)
from openmm_cgan.closures.pair_blocks import checked_lags
from openmm_cgan.closures.spline_basis import SplineBasis
from openmm_cgan.collective_variable import CollectiveVariable
from openmm_cgan.free_energy.samples import spread
from openmm_cgan.quantities import numbers_of, positive
from openmm_cgan.short_reprs import short_repr

logger = logging.getLogger("openmm_cgan")

INTERVALS = {1: 20, 2: 7}  # of the basis along each of so many CVs
LEAST_INTERVALS = 4
FITS = {"moments": fit_of_moments, "score": fit_of_score}


@dataclass(frozen=True)
class LaggedRegression:
    """Drift, diffusion and mean force from lagged pairs, between each lag and the next.

    Attributes
    ----------
    lags : ndarray, shape (n, 2)
        From which lag to which each estimate is [ps].
    closures : tuple of Closure
        One for each.
    chosen : int
        Number of the one that `plateau` takes.
    flat : bool
        Whether there is a plateau; else the chosen one is where the estimates change least.
    changes : ndarray, shape (n - 2, 2)
        Of drift and diffusion to the two next, the larger, as of `KramersMoyal`.
    intervals : int
        Of the basis along each CV.
    """

    lags: NDArray[np.float64]
    closures: tuple[Closure, ...]
    chosen: int
    flat: bool
    changes: NDArray[np.float64]
    intervals: int

    __repr__ = short_repr

    @property
    def closure(self) -> Closure:
        """The chosen one."""
        return self.closures[self.chosen]

    def __str__(self) -> str:
        words = plateau_in_words(
            self.lags,
            [c.drift for c in self.closures],
            [c.diffusion for c in self.closures],
            (self.chosen, self.flat, self.changes),
        )
        return f"{words}; {self.intervals} intervals of a cubic spline along each CV"


def lagged_regression(
    trajectories: Trajectories,
    at: ArrayLike,
    lags: Sequence[int],
    *,
    kT: float,
    by: str = "moments",
    bias_slope: Callable[[NDArray], NDArray] | None = None,
    intervals: int | None = None,
    n_bootstrap: int = 100,
    seed: int = 0,
) -> LaggedRegression:
    """Drift, diffusion and mean force at values of the CVs from pairs of frames at some lags.

    Parameters
    ----------
    trajectories : Trajectories
        Long runs, or bursts (not by score), of one or two CVs. They need not be healed: what they
        do before the first lag is left out.
    at : array_like, shape (m, k) or (m,)
        Values of the CVs [CV unit].
    lags : sequence of int
        In intervals of the trajectories, from 0 or later, increasing; estimates are those between
        each and the next, of which the plateau takes three.
    kT : float
        Thermal energy [kJ/mol].
    by : {"moments", "score"}
        Drift from what moved, for any starts; or from the score of the density, for runs in
        equilibrium.
    bias_slope : callable, optional
        Slope (n, k) [kJ/mol/CV unit] of a bias on the CVs (n, k) that acted in all runs.
    intervals : int, optional
        Of the spline along each CV, 4 or more; 20, or 7 for two CVs, if omitted. How smooth it is
        the pairs decide (`lagged_fits`): this only bounds what it can resolve.
    n_bootstrap, seed : int
        Replicates for the errors.

    Returns
    -------
    LaggedRegression
        NaN where too few pairs start, or hardly any on one side. The mean force is kT sigma^-2 (div
        sigma^2 - 2 b), or by score the slope of the frames' density.

    Raises
    ------
    ValueError
        If a lag is longer than every run, lags do not increase, or a choice is not known.
    """
    spans, at = _checked(trajectories, at, lags, by, intervals)
    kT = positive(kT, "kJ/mol", "kT")
    pairs = [lagged_pairs_between(trajectories, *span, n_bootstrap, seed) for span in spans]
    asked = _Question(trajectories.variables, at, kT, FITS[by], by == "score", bias_slope)
    n = intervals or INTERVALS[at.shape[1]]
    closures = tuple(_closure(asked, own, n, seed) for own in pairs)
    found = LaggedRegression(
        np.array(spans) * trajectories.interval,
        closures,
        *plateau([(c.drift, c.diffusion) for c in closures]),
        n,
    )
    say_whether_flat(found, len(spans), found.flat)
    return found


@dataclass(frozen=True)
class _Question:
    variables: tuple[CollectiveVariable, ...]
    at: NDArray[np.float64]
    kT: float
    fit: Callable[[LaggedMoments, SplineBasis, np.random.Generator], LaggedFit]
    by_score: bool
    bias_slope: Callable[[NDArray], NDArray] | None

    def answered(self, pairs: LaggedPairs, basis: SplineBasis, seed: int) -> dict[str, NDArray]:
        """Drift, diffusion and mean force, rows (m, ...) as of `LaggedFit`."""
        counts = pairs.blocks.counts
        once = np.ones((1, counts.shape[1]))
        moments = lagged_moments(pairs, basis).drawn(np.concatenate([once, counts, once]))
        fit = self.fit(moments, basis, np.random.default_rng(seed))
        functions = basis.values(self.at).toarray()
        drift = np.einsum("pm,ram->rpa", functions, fit.drift)
        diffusion = np.einsum("pm,rabm->rpab", functions, fit.diffusion)
        if self.by_score:
            mean_force = -self.kT * np.einsum("pm,ram->rpa", functions, fit.density_slope)
        else:
            slopes = [basis.values(self.at, b).toarray() for b in range(self.at.shape[1])]
            divergence = np.einsum("bpm,rabm->rpa", np.stack(slopes), fit.diffusion)
            right = (divergence - 2.0 * drift)[..., None]
            mean_force = self.kT * np.linalg.solve(diffusion, right)[..., 0]
        if self.bias_slope is not None:
            slope = np.asarray(self.bias_slope(self.at), dtype=float).reshape(self.at.shape)
            drift = drift_without_bias(drift, diffusion, slope, self.kT)
            mean_force = mean_force - slope
        return {"drift": drift, "diffusion": diffusion, "mean_force": mean_force}


def _closure(asked: _Question, pairs: LaggedPairs, n: int, seed: int) -> Closure:
    basis = SplineBasis.over(asked.variables, pairs.starts, n)
    effective = _effective(asked, pairs, basis.spacing)
    unknown = effective < LEAST_EFFECTIVE * n_coefficients(asked.at.shape[1], 2)
    if unknown.any():
        logger.warning(
            "nothing is said at %d of %d values of the CVs: fewer than %g independent pairs start "
            "within %s of them, or fewer than %g on one side",
            unknown.sum(), len(unknown), LEAST_EFFECTIVE * n_coefficients(asked.at.shape[1], 2),
            basis.spacing.round(4).tolist(), LEAST_EFFECTIVE,
        )  # fmt: skip
    averages = {}
    for name, rows in asked.answered(pairs, basis, seed).items():
        rows[:, unknown] = np.nan
        own, drawn = rows[0], rows[1:-1]
        error, left = np.apply_along_axis(spread, 0, drawn), np.abs(rows[-1] - own)
        averages[name] = ConditionalAverage(
            asked.at, own, error, left, drawn, effective, basis.spacing
        )
    return Closure(asked.variables, asked.kT, asked.at, **averages)


def _effective(
    asked: _Question, pairs: LaggedPairs, spacing: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Kish's number of independent pairs that start within an interval's length of each value.

    It is 0 where fewer than `LEAST_EFFECTIVE` of them start on one side: beyond is no data.
    """
    found = np.zeros(len(asked.at))
    for j, z in enumerate(asked.at):
        near = neighbourhood(pairs.starts, asked.variables, z, spacing)
        own = near.kernel**2 * pairs.blocks.inefficiencies[pairs.window[near.rows]]
        parts = [near.kernel[side].sum() ** 2 / max(own[side].sum(), LEAST_WEIGHT)
                 for side in near.sides]  # fmt: skip
        if min(parts) >= LEAST_EFFECTIVE:
            found[j] = near.kernel.sum() ** 2 / own.sum()
    return found


def _checked(
    trajectories: Trajectories,
    at: ArrayLike,
    lags: Sequence[int],
    by: str,
    intervals: int | None,
) -> tuple[list[tuple[int, int]], NDArray[np.float64]]:
    """Spans of lags, and values of the CVs as rows."""
    lags, k = checked_lags(lags, first=0, least=2), len(trajectories.variables)
    if by not in FITS:
        raise ValueError(f"by is {by!r}; expected one of {[*FITS]}")
    if k > 2:
        raise ValueError(f"there are {k} CVs; expected one or two")
    if intervals is not None and (intervals != int(intervals) or intervals < LEAST_INTERVALS):
        raise ValueError(f"intervals is {intervals}; expected a whole number from 4 on")
    points = numbers_of(at, "values of the CVs")
    points = points[:, None] if points.ndim == 1 and k == 1 else points
    if points.ndim != 2 or points.shape[1] != k or not np.isfinite(points).all():
        raise ValueError(f"values of the CVs have shape {points.shape}; expected numbers (m, {k})")
    return [*pairwise(lags)], points
