r"""Drift and diffusion from trajectories: least squares over lagged pairs, without bins.

Kramers and Moyal's coefficients of the CVs at a lag tau,

    b(z) = E[z(t + tau) - z(t) | z(t) = z] / tau,    sigma^2(z) = Cov[z(t + tau) | z(t) = z] / tau,

are those of the reduced dynamics where tau is long against what is fast and short against what is
slow. Shorter, molecular dynamics is ballistic and fast coordinates still drive the CVs; longer, z
leaves the place. Between them is the plateau, the first three lags in a row that tell the same (see
`plateau`; ``str(KramersMoyal)`` says how nearly, in errors and in per cent, so that large errors do
not pass for agreement). The
averages are those of `conditional_average`: local polynomials fitted to all pairs around z. Errors
come from resampling whole runs, so that correlated pairs do not pass for independent ones.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from openmm_cgan.closures.bursts import Trajectories
from openmm_cgan.closures.conditional_averages import ConditionalAverage, conditional_average
from openmm_cgan.closures.lag_plateau import plateau, plateau_in_words, say_whether_flat
from openmm_cgan.closures.pair_blocks import checked_lags, pair_blocks, pairs_of
from openmm_cgan.free_energy.samples import WeightedSamples, normalised, spread
from openmm_cgan.quantities import positive
from openmm_cgan.short_reprs import short_repr


@dataclass(frozen=True)
class KramersMoyal:
    """Drift and diffusion at several lags.

    Attributes
    ----------
    lags : ndarray, shape (n_lags,)
        [ps]
    drift : tuple of ConditionalAverage of shape (m, k), one for each lag
        [CV unit/ps]
    diffusion : tuple of ConditionalAverage of shape (m, k, k), one for each lag
        [CV unit^2/ps]
    chosen : int
        Number of the lag that `plateau` takes.
    flat : bool
        Whether there is a plateau; else the chosen lag is the one where the estimates change least.
    changes : ndarray, shape (n_lags - 2, 2)
        Of drift and diffusion from each lag to the two after it, the larger: median over values of
        the CVs, in standard errors of the difference; 0 where it is below 5 % of their sizes.
    """

    lags: NDArray[np.float64]
    drift: tuple[ConditionalAverage, ...]
    diffusion: tuple[ConditionalAverage, ...]
    chosen: int
    flat: bool
    changes: NDArray[np.float64]

    __repr__ = short_repr

    def __str__(self) -> str:
        spans = np.stack([self.lags, self.lags], 1)
        return plateau_in_words(
            spans, self.drift, self.diffusion, (self.chosen, self.flat, self.changes)
        )

    def plot(self, axes: Any, point: int = 0) -> Any:
        """Draw drift and diffusion of the first CV against the lag, the chosen one marked.

        Parameters
        ----------
        axes : pair of matplotlib.axes.Axes
        point : int
            Number of the value of the CVs.
        """
        for ax, averages, name in zip(
            axes, (self.drift, self.diffusion), ("drift", "diffusion"), strict=True
        ):
            values = [a.value[point].flat[0] for a in averages]
            errors = [a.error[point].flat[0] for a in averages]
            ax.errorbar(self.lags, values, errors, marker="o")
            ax.axvline(self.lags[self.chosen], linestyle=":")
            ax.set(xscale="log", xlabel="lag [ps]", ylabel=name)
        return axes


def kramers_moyal(
    trajectories: Trajectories,
    at: ArrayLike,
    lags: Sequence[int],
    *,
    bias_slope: Callable[[NDArray], NDArray] | None = None,
    kT: float = float("nan"),
    bandwidth: ArrayLike | None = None,
    n_bootstrap: int = 100,
    seed: int = 0,
) -> KramersMoyal:
    """Drift and diffusion at values of the CVs from all pairs of frames at some lags.

    Parameters
    ----------
    trajectories : Trajectories
        Bursts, healed (`Trajectories.after`), or long runs.
    at : array_like, shape (m, k) or (m,)
        Values of the CVs [CV unit].
    lags : sequence of int
        In intervals of the trajectories, increasing; each about twice the last shows the plateau,
        which takes three or more.
    bias_slope : callable, optional
        Slope (n, k) [kJ/mol/CV unit] of a bias on the CVs (n, k) that acted in the runs, whose
        effect on the drift, -sigma^2 bias' / 2kT, is taken off.
    kT : float
        Thermal energy, needed with a bias [kJ/mol].
    bandwidth : array_like, optional
        Of `conditional_average`; chosen at the first lag if omitted.
    n_bootstrap, seed : int
        Replicates for the errors.

    Returns
    -------
    KramersMoyal

    Raises
    ------
    ValueError
        If a lag is longer than every run, lags do not increase, or as of `conditional_average`.
    """
    lags = checked_lags(lags, first=1, least=1)
    if bias_slope is not None:
        kT = positive(kT, "kJ/mol", "kT, which a bias needs,")
    if bandwidth is None:  # one for all lags, which are then compared alike
        first, _ = _at_lag(trajectories, at, lags[0], bias_slope, kT, None, n_bootstrap, seed)
        bandwidth = first.bandwidth
    pairs = [
        _at_lag(trajectories, at, lag, bias_slope, kT, bandwidth, n_bootstrap, seed) for lag in lags
    ]
    drift, diffusion = (tuple(own) for own in zip(*pairs, strict=True))
    times = np.array(lags) * trajectories.interval
    chosen, flat, changes = plateau([*zip(drift, diffusion, strict=True)])
    found = KramersMoyal(times, drift, diffusion, chosen, flat, changes)
    say_whether_flat(found, len(times), flat)
    return found


def drift_without_bias(
    drift: NDArray, diffusion: NDArray, slope: NDArray, kT: float
) -> NDArray[np.float64]:
    """Drift (..., m, k) less that by a bias on the CVs, -sigma^2 slope / 2kT, slope (m, k)."""
    return np.asarray(drift + 0.5 * (diffusion @ slope[..., None])[..., 0] / kT)


def _at_lag(
    trajectories: Trajectories,
    at: ArrayLike,
    lag: int,
    bias_slope: Callable[[NDArray], NDArray] | None,
    kT: float,
    bandwidth: ArrayLike | None,
    n_bootstrap: int,
    seed: int,
) -> tuple[ConditionalAverage, ConditionalAverage]:
    samples, moved = _pairs(trajectories, lag, n_bootstrap, seed)
    tau = lag * trajectories.interval
    k = moved.shape[1]
    squares = moved[:, :, None] * moved[:, None]
    columns = np.concatenate([moved, squares.reshape(len(moved), -1)], 1) / tau
    joint = conditional_average(samples, columns, at, bandwidth)

    def parts(rows: NDArray) -> tuple[NDArray, NDArray]:
        drift = rows[..., :k]
        square = rows[..., k:].reshape(*rows.shape[:-1], k, k)
        return drift, square - tau * drift[..., :, None] * drift[..., None, :]

    drift, diffusion = parts(joint.value)
    drifts, diffusions = parts(joint.replicates)
    if bias_slope is not None:
        slope = np.asarray(bias_slope(joint.at), dtype=float).reshape(joint.at.shape)
        drift = drift_without_bias(drift, diffusion, slope, kT)
        drifts = drift_without_bias(drifts, diffusions, slope, kT)
    left = joint.smearing

    def average(value: NDArray, rows: NDArray, smearing: NDArray) -> ConditionalAverage:
        error = np.apply_along_axis(spread, 0, rows)
        return replace(joint, value=value, error=error, smearing=smearing, replicates=rows)

    return (
        average(drift, drifts, left[..., :k]),
        average(diffusion, diffusions, left[..., k:].reshape(diffusion.shape)),
    )


def _pairs(
    trajectories: Trajectories, lag: int, n_bootstrap: int, seed: int
) -> tuple[WeightedSamples, NDArray[np.float64]]:
    """Pairs at a lag as samples of equal weight, and how far each moved, shape (n, k)."""
    pairs, variables = pairs_of(trajectories, lag), trajectories.variables
    starts, ends = pairs.after(0), pairs.after(lag)
    moved = np.column_stack(
        [v.difference(starts[:, i], ends[:, i]) for i, v in enumerate(variables)]
    )
    blocks = pair_blocks(pairs, variables, n_bootstrap, seed)
    with np.errstate(divide="ignore"):
        replicates = np.log(blocks.counts[:, blocks.block], dtype=float)
    samples = WeightedSamples(
        starts,
        normalised(np.zeros(len(starts))),
        normalised(replicates),
        float("nan"),
        variables,
        pairs.run,
        np.concatenate([np.arange(size) for size in pairs.sizes]),
        blocks.inefficiencies,
        np.eye(1),
    )
    return samples, moved
