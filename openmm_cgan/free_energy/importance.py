r"""Free energies from generated configurations: no windows, and no dynamics at all.

A generator whose density is known makes configurations x at CV values c drawn from a density g(c).
Against the Boltzmann distribution pi(x) each has the importance weight

    log w = -U/kT + 1/2 log|H| - log q(x|c) - log g(c) [+ log k(c|xi(x))],

and A(xi) = -kT ln E[w delta(xi(x) - xi)]: whatever the generator learned wrongly, the weights put
right, as long as it leaves nothing out.

Together with biased MD the generator is one more state of MBAR, with the reduced potential log w
over the unbiased one, for its density is proportional to pi(x) / w(x). Each sample must be
evaluated in each state: generated ones in the biases, which are functions of the CVs, and MD frames
under the generator, by the log weight that they would have had as a candidate.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import logsumexp

from openmm_cgan.free_energy.bootstrap import draws_of_neighbours
from openmm_cgan.free_energy.doubts import (
    listed,
    warn_of_heavy_weights,
    warn_of_one_frame,
    warn_of_slow_windows,
    why_unknown,
)
from openmm_cgan.free_energy.generated import GeneratedFrames
from openmm_cgan.free_energy.pareto import pareto_k, pareto_smoothed
from openmm_cgan.free_energy.reweighting import (
    DistinctBiases,
    JoinedWindows,
    window_inefficiencies,
)
from openmm_cgan.free_energy.samples import (
    BiasedFrames,
    WeightedSamples,
    check_windows,
    normalised,
    spread,
)
from openmm_cgan.quantities import positive
from openmm_cgan.short_reprs import short_repr

logger = logging.getLogger("openmm_cgan")

REMEDY = (
    "Train longer or refine, draw the CVs nearer to where the free energy is low, make more "
    "configurations, or join them with umbrella windows"
)
FARTHEST = 700.0  # kT: exp of more than that is no number


def reweight_generated(
    generated: GeneratedFrames, *, n_bootstrap: int = 100, seed: int = 0, smooth: bool = False
) -> WeightedSamples:
    """Weigh generated configurations for the unbiased ensemble.

    Configurations are independent, so that the bootstrap draws them one by one, or among the
    neighbours of each where they were drawn evenly; those without weight are drawn as well and are
    then left out of the record.

    Parameters
    ----------
    generated : GeneratedFrames
    n_bootstrap : int
        Replicates for the errors; 0 for none.
    seed : int
        Of the bootstrap.
    smooth : bool
        Make the largest weights smooth by the Pareto distribution fitted to them: less noise for a
        little bias.

    Returns
    -------
    WeightedSamples
        Of the configurations that have a weight; its ``effective_samples`` is Kish's, its ``k_hat``
        Pareto's. Where k is above 0.7, or fewer than 100 samples are left of weights that differ,
        a warning is logged and what is computed of it is NaN: ``unknown`` says why.

    Raises
    ------
    ValueError
        If shapes do not fit, a CV is not finite, or no configuration has a weight.

    Examples
    --------
    >>> from openmm_cgan.collective_variable import CollectiveVariable
    >>> d = CollectiveVariable("d", "nm")
    >>> made = GeneratedFrames(np.array([[0.1], [0.2], [0.3]]), np.log([1, 2, 1]), 300.0, (d,))
    >>> np.exp(reweight_generated(made).log_weights)
    array([0.25, 0.5 , 0.25])
    """
    rows = generated.weighted_rows()
    window = generated.as_window(rows)
    check_windows([window])
    smoothed, k_hat = pareto_smoothed(generated.log_weights)
    k_hat = k_hat if len(rows) > 1 else np.inf  # weights do not differ, but nothing tells an error
    log_weights = smoothed if smooth else np.asarray(generated.log_weights, dtype=float)
    log_weights = normalised(log_weights[rows])
    replicates = np.full((n_bootstrap, len(rows)), np.nan)
    # one that has drawn none of those with a weight stays NaN
    with np.errstate(divide="ignore", invalid="ignore"):
        if len(generated.cvs) > 1 and n_bootstrap:
            drawn = np.log(_draws(generated, n_bootstrap, seed)[:, rows])
            replicates = normalised(drawn + log_weights)
    samples = WeightedSamples(
        window.cvs,
        log_weights,
        replicates,
        generated.temperature,
        generated.variables,
        np.zeros(len(rows), dtype=np.int64),
        rows,
        np.ones(1),
        np.ones((1, 1)),
        k_hat=k_hat,
        timeless=(0,),
    )
    warn_of_one_frame(samples, [window.name])
    what = f"{len(rows)} generated configurations"
    if why := why_unknown(k_hat, samples.effective_samples, what):
        logger.warning("%s: nothing is said of them. %s", why, REMEDY)
    else:
        warn_of_heavy_weights(k_hat, what, REMEDY)
    return replace(samples, unknown=why and f"{why}. {REMEDY}")


def _draws(generated: GeneratedFrames, n_bootstrap: int, seed: int) -> NDArray:
    """How often each replicate has each configuration, (n_bootstrap, n)."""
    if generated.neighbours is not None:
        return draws_of_neighbours(generated.neighbours, n_bootstrap, seed)
    n, rng = len(generated.cvs), np.random.default_rng(seed)
    draws = np.empty((n_bootstrap, n), dtype=np.uint16)
    for draw in draws:
        draw[:] = np.bincount(rng.integers(0, n, n), minlength=n)
    return draws


def reweight_with_generated(
    windows: Sequence[BiasedFrames],
    window_log_weights: Sequence[ArrayLike],
    generated: GeneratedFrames,
    *,
    n_bootstrap: int = 100,
    max_samples: int = 100_000,
    seed: int = 0,
) -> WeightedSamples:
    """Join biased MD and generated configurations by MBAR.

    Parameters
    ----------
    windows : sequence of BiasedFrames
        MD under static biases (none is a bias, too).
    window_log_weights : sequence of array_like, shape (n_frames,)
        Log weight of each frame of each window as a candidate of the same generator: the same
        formula with the same constant as for the generated ones, c = xi(x), or c drawn from
        k(c|xi(x)) where CVs are no coordinates of the generator. -inf where it cannot make it.
    generated : GeneratedFrames
        Those without weight are left out: what they are is no part of the ensemble.
    n_bootstrap, max_samples, seed : int
        As for `reweight_windows`.

    Returns
    -------
    WeightedSamples
        Windows first, in their order; the last one is the generator. ``k_hat`` is that of its own
        weights: MBAR's are bounded by the windows, and where nothing joins them to the generator
        errors are infinite.

    Raises
    ------
    ValueError
        If windows and configurations disagree or shapes do not fit.
    RuntimeError
        If MBAR does not converge.

    References
    ----------
    Shirts and Chodera, doi 10.1063/1.2978177.
    """
    rows = generated.weighted_rows()
    states = [*windows, generated.as_window(rows)]
    check_windows(states)
    logs = [np.asarray(w, dtype=float) for w in window_log_weights]
    if [w.shape for w in logs] != [(len(w.cvs),) for w in windows]:
        raise ValueError("window_log_weights needs one number for each frame of each window")
    logs.append(np.asarray(generated.log_weights, dtype=float)[rows])
    inefficiencies = np.append(window_inefficiencies(windows), 1.0)
    joined = JoinedWindows.thinned(states, inefficiencies, max_samples)
    biases = DistinctBiases.of(windows, joined.cvs)
    warn_of_slow_windows(windows, inefficiencies[:-1], biases.state)
    u_generator = _reduced_potential([w[k] for w, k in zip(logs, joined.kept, strict=True)])
    n_states = len(biases.first)
    samples = joined.weighted(
        lambda rows: np.vstack([biases.reduced(joined.cvs[rows]), u_generator[rows]]),
        np.append(biases.state, n_states),
        [*(windows[i].name for i in biases.first), "generated configurations"],
        n_bootstrap=n_bootstrap,
        seed=seed,
    )
    return replace(samples, k_hat=pareto_k(generated.log_weights), timeless=(len(windows),))


def _reduced_potential(log_weights: Sequence[NDArray]) -> NDArray[np.float64]:
    """Reduced potential of the generator over the unbiased one, of all samples (n,).

    Measured from the log of the mean weight of what it made (the last), and cut at `FARTHEST`:
    what it cannot make (-inf) it makes as rarely as a number can say.
    """
    joined = np.concatenate(log_weights)
    if np.isnan(joined).any() or np.isposinf(joined).any():
        raise ValueError(
            "window_log_weights holds NaN or +inf; give -inf where there is no density"
        )
    made = log_weights[-1]
    reduced = joined - (logsumexp(made) - np.log(len(made)))
    reduced[np.isneginf(joined)] = np.inf
    return np.clip(reduced, -FARTHEST, FARTHEST)


@dataclass(frozen=True, repr=False)
class FreeEnergyAtPoints:
    """Free energies at CV values, their minimum at zero, NaN where weights do not tell them.

    Attributes
    ----------
    free_energy, error : ndarray, shape (m,)
        -kT ln of the density of the CVs [kJ/mol] and its standard error; errors of different points
        are independent.
    effective_samples : ndarray, shape (m,)
        Kish's effective number of samples at each point.
    k_hat : ndarray, shape (m,)
        Pareto's k of the weights at each point.
    """

    free_energy: NDArray[np.float64]
    error: NDArray[np.float64]
    effective_samples: NDArray[np.float64]
    k_hat: NDArray[np.float64]

    __repr__ = short_repr


def free_energy_at_points(
    log_weights: ArrayLike, kT: float, *, n_bootstrap: int = 100, seed: int = 0
) -> FreeEnergyAtPoints:
    """Free energies at CV values where many configurations were made: no bins are needed.

    For CVs that are coordinates of the generator, so that all configurations of a point have its
    CV values.

    Parameters
    ----------
    log_weights : array_like, shape (m, n)
        Log weights of n configurations at each of m points, without log g(c) (a sum over given
        points, not an average over drawn ones); -inf for those that failed.
    kT : float
        Thermal energy [kJ/mol].
    n_bootstrap : int
        Replicates for the errors.
    seed : int
        Of the bootstrap.

    Returns
    -------
    FreeEnergyAtPoints
        NaN, with a warning, at points whose weights are dominated by a few, by the rule of
        `reweight_generated`.

    Examples
    --------
    >>> at = free_energy_at_points(np.log([[1.0, 1.0], [2.0, 2.0]]), kT=2.5)
    >>> at.free_energy.round(3), at.effective_samples
    (array([1.733, 0.   ]), array([2., 2.]))
    """
    logs = np.asarray(log_weights, dtype=float)
    if logs.ndim != 2 or logs.size == 0 or np.isnan(logs).any() or np.isposinf(logs).any():
        raise ValueError(
            f"log_weights has shape {logs.shape}: expected (m, n) numbers, -inf for failed ones"
        )
    kT = positive(kT, "kJ/mol", "kT")
    n, rng = logs.shape[1], np.random.default_rng(seed)
    largest = logs.max(axis=1, keepdims=True)
    weights = np.exp(logs - np.where(np.isfinite(largest), largest, 0.0))
    counts = rng.multinomial(n, np.full(n, 1.0 / n), size=n_bootstrap)
    with np.errstate(divide="ignore", invalid="ignore"):
        values = -kT * (largest[:, 0] + np.log(weights.mean(axis=1)))
        values[np.isinf(values)] = np.nan
        errors = np.array([spread(kT * np.log(counts @ row)) for row in weights])
        effective = weights.sum(axis=1) ** 2 / (weights**2).sum(axis=1)
    k_hat = np.array([pareto_k(row) if np.isfinite(row).any() else np.nan for row in logs])
    effective = np.nan_to_num(effective)
    pairs = zip(k_hat, effective, strict=True)
    few = np.array([bool(why_unknown(*pair, "a point")) for pair in pairs]) & np.isfinite(values)
    if few.any():
        logger.warning(
            "at %d of %d points (%s) the weights are dominated by a few: nothing is said of these "
            "points. Make more configurations there, train longer or refine",
            few.sum(), len(logs), listed([f"point {i}" for i in np.flatnonzero(few)]),
        )  # fmt: skip
        values, errors = np.where(few, np.nan, values), np.where(few, np.nan, errors)
    lowest = np.nanmin(values) if np.isfinite(values).any() else np.nan
    return FreeEnergyAtPoints(values - lowest, errors, effective, k_hat)
