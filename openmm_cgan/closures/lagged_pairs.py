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

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from openmm_cgan.closures.bursts import Trajectories
from openmm_cgan.closures.conditional_averages import (
    ConditionalAverage,
    conditional_average,
    median_in_errors,
)
from openmm_cgan.free_energy.bootstrap import blocks_of, draws_of
from openmm_cgan.free_energy.samples import (
    WeightedSamples,
    normalised,
    spread,
    statistical_inefficiency,
)

logger = logging.getLogger("openmm_cgan")

AGREEMENT = 1.5  # standard errors by which lags of a plateau may differ, as the median has it
FLAT = 0.05  # or this part of the quantity's size
MAX_PAIRS = 100_000  # bounds memory and time
PAIRS_A_LAG = 4  # more in the time of one lag tell little more
LAGS_OF_PLATEAU = 3


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

    def __str__(self) -> str:
        if len(self.lags) < LAGS_OF_PLATEAU:
            return f"{len(self.lags)} lags: a plateau takes {LAGS_OF_PLATEAU}"
        start, end = self.lags[self.chosen], self.lags[self.chosen + LAGS_OF_PLATEAU - 1]
        words = "plateau" if self.flat else "no plateau; the least change is"
        parts = []
        for name, averages, change in zip(
            ("drift", "diffusion"), (self.drift, self.diffusion),
            self.changes[self.chosen], strict=True,
        ):  # fmt: skip
            own = averages[self.chosen]
            share = np.nanmedian(own.error / _sizes(own.value))
            parts.append(
                f"{name} within {change:.1f} standard errors of the change (its own error is "
                f"{share:.0%} of its size)"
            )
        return f"{words} from {start:g} to {end:g} ps: {', '.join(parts)}"

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
    lags = list(lags)
    whole = all(isinstance(lag, int | np.integer) for lag in lags)
    if not lags or not whole or lags[0] < 1 or any(b <= a for a, b in pairwise(lags)):
        raise ValueError(f"lags are {lags}; expected whole numbers from 1 on that increase")
    if bias_slope is not None and not kT > 0:
        raise ValueError("a bias needs kT, the thermal energy [kJ/mol]")
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
    if len(times) < LAGS_OF_PLATEAU:
        logger.warning("%s; the shortest is chosen, unseen what longer ones would give", found)
    elif not flat:
        logger.warning(
            "%s: the CVs miss something slow, or the lags are too short or too long", found
        )
    else:
        logger.info("%s", found)
    return found


def plateau(
    averages: Sequence[tuple[ConditionalAverage, ...]],
) -> tuple[int, bool, NDArray[np.float64]]:
    """The first lag from which on drift and diffusion stay the same for two lags more.

    They stay the same where the median over values of the CVs of the change, of either, to both
    later lags, is no more than 1.5 standard errors of the change (from the replicates, which share
    the runs they draw, so that what lags have in common cancels), or 5 % of the quantity's root
    mean square at the first, each CV by itself. Lags that tell little agree, too: look at the
    errors.

    Parameters
    ----------
    averages : sequence of tuple of ConditionalAverage
        Of one lag each, the shortest first; same values of the CVs and replicates in all.

    Returns
    -------
    int
        Number of the lag; if there is no plateau that after which the change is least.
    bool
        Whether there is one.
    ndarray, shape (n_lags - 2, n_averages)
        The changes from each lag on.
    """
    n, own = len(averages) - LAGS_OF_PLATEAU + 1, len(averages[0])
    if n < 1:
        return 0, False, np.empty((0, own))
    changes = np.array(
        [
            [
                max(_change(averages[i][a], averages[i + later][a])
                    for later in range(1, LAGS_OF_PLATEAU))
                for a in range(own)
            ]
            for i in range(n)
        ]
    )  # fmt: skip
    agree = (changes <= AGREEMENT).all(1)
    if agree.any():
        return int(agree.argmax()), True, changes
    return int(changes.max(1).argmin()), False, changes


def _change(first: ConditionalAverage, second: ConditionalAverage) -> float:
    difference = (second.value - first.value).ravel()
    replicates = (second.replicates - first.replicates).reshape(len(first.replicates), -1)
    errors = np.array([spread(column) for column in replicates.T])
    known = np.isfinite(difference) & (errors > 0)
    if not known.any():
        return float("inf")
    beyond = np.abs(second.value - first.value) - FLAT * _sizes(first.value)
    if (np.nanmedian(beyond, axis=0) <= 0.0).all():  # of each CV, whose units may differ
        return 0.0
    return median_in_errors(difference[known], errors[known])


def _sizes(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Root mean squares of drifts (m, k) or diffusions (m, k, k) over values: (k,) or (k, k)."""
    sizes = np.sqrt(np.nanmean(values**2, axis=0))
    if sizes.ndim == 1:
        return np.asarray(sizes)
    own = np.sqrt(sizes.diagonal())
    return np.asarray(own[:, None] * own)  # what mixes two CVs may be zero


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
        drift = drift + 0.5 * (diffusion @ slope[..., None])[..., 0] / kT
        drifts = drifts + 0.5 * (diffusions @ slope[..., None])[..., 0] / kT
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
    runs = [run for run in trajectories.cvs if len(run) > lag]
    if not runs:
        longest = max(map(len, trajectories.cvs))
        raise ValueError(f"the lag is {lag} intervals, the longest run has {longest} frames")
    variables = trajectories.variables
    wanted = sum(-(-(len(run) - lag) // max(1, lag // PAIRS_A_LAG)) for run in runs)
    stride = max(1, lag // PAIRS_A_LAG) * -(-wanted // MAX_PAIRS)
    starts = np.concatenate([run[:-lag:stride] for run in runs])
    ends = np.concatenate([run[lag::stride] for run in runs])
    moved = np.column_stack(
        [v.difference(starts[:, i], ends[:, i]) for i, v in enumerate(variables)]
    )
    sizes = np.array([-(-(len(run) - lag) // stride) for run in runs])
    window = np.repeat(np.arange(len(runs)), sizes)
    inefficiencies, draws = _resampled(runs, sizes, lag / stride, trajectories, n_bootstrap, seed)
    with np.errstate(divide="ignore"):
        replicates = np.log(draws, dtype=float)
    samples = WeightedSamples(
        starts,
        normalised(np.zeros(len(starts))),
        normalised(replicates),
        float("nan"),
        variables,
        window,
        np.concatenate([np.arange(size) for size in sizes]),
        inefficiencies,
        np.eye(1),
    )
    return samples, moved


def _resampled(
    runs: Sequence[NDArray],
    sizes: NDArray,
    lag: float,
    trajectories: Trajectories,
    n_bootstrap: int,
    seed: int,
) -> tuple[NDArray[np.float64], NDArray]:
    """Inefficiency of each run's pairs, and how often each replicate draws each pair.

    Many runs are drawn whole. A few long ones are cut into blocks, which are long against the lag
    (counted in pairs) and the time in which the CVs forget.
    """
    if len(runs) >= 50:
        rng = np.random.default_rng(seed)
        drawn = rng.integers(0, len(runs), (n_bootstrap, len(runs)))
        counts = np.stack([np.bincount(row, minlength=len(runs)) for row in drawn])
        return np.clip(sizes, 1.0, max(lag, 1.0)), np.repeat(counts, sizes, axis=1)
    own = [
        statistical_inefficiency(run, trajectories.variables) * size / len(run)
        for run, size in zip(runs, sizes, strict=True)
    ]
    inefficiencies = np.minimum(np.maximum(own, max(lag, 1.0)), sizes)
    blocks = blocks_of(sizes, inefficiencies)
    return inefficiencies, draws_of(blocks, inefficiencies, n_bootstrap, seed)
