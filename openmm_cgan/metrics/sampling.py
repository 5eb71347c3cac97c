"""What weighted configurations and several runs have sampled: effective sizes and R-hat."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtri

from openmm_cgan.metrics.coordinates import Domain, coordinate_table, one_coordinate, thinned
from openmm_cgan.proposals.weights import kish_effective_sample_size
from openmm_cgan.short_reprs import short_repr


@dataclass(frozen=True, repr=False)
class RegionSizes:
    """Effective sample sizes in the cells of a grid over CVs.

    Attributes
    ----------
    share : ndarray, shape (bins, bins, ...)
        Kish's effective sample size over the number of configurations, NaN where there are none.
    counts : ndarray of int, shape (bins, bins, ...)
        Configurations, those of weight zero included.
    edges : list of ndarray, shape (bins + 1,)
        Of the cells along each CV [CV units].
    """

    share: NDArray[np.float64]
    counts: NDArray[np.int64]
    edges: list[NDArray[np.float64]]

    __repr__ = short_repr


def effective_sample_sizes(
    cvs: ArrayLike, log_weights: ArrayLike, cv_range: ArrayLike, bins: int = 12
) -> RegionSizes:
    """Kish effective sample size per configuration, region by region of the CVs.

    Where it is small the generator is poor: train on frames from there.

    Parameters
    ----------
    cvs : array_like, shape (n, n_cvs)
        CVs of weighted configurations, for instance ``reporter.weighed_candidates()``; those
        outside the range are left out.
    log_weights : array_like, shape (n,)
        -inf is weight zero.
    cv_range : array_like, shape (n_cvs, 2)
    bins : int
        Cells along each CV.

    Returns
    -------
    RegionSizes

    Examples
    --------
    >>> sizes = effective_sample_sizes([[0.1], [0.2], [0.7]], [0.0, -np.inf, 3.0], [[0, 1]], bins=2)
    >>> sizes.share
    array([0.5, 1. ])
    """
    cvs, logs = coordinate_table(cvs, "cvs"), np.asarray(log_weights, dtype=float)
    if logs.shape != (len(cvs),):
        raise ValueError(f"log_weights has shape {logs.shape}, expected ({len(cvs)},)")
    low, high = np.asarray(cv_range, dtype=float).T
    edges = [np.linspace(a, b, bins + 1) for a, b in zip(low, high, strict=True)]
    inside = ((cvs >= low) & (cvs <= high)).all(axis=1)
    places = np.minimum((bins * (cvs[inside] - low) / (high - low)).astype(int), bins - 1)
    shape = (bins,) * len(low)
    cells = np.ravel_multi_index(tuple(places.T), shape)
    counts = np.bincount(cells, minlength=bins ** len(low))
    share = np.full(len(counts), np.nan)
    order = np.argsort(cells, kind="stable")
    for part in np.split(order, np.cumsum(counts)[:-1]):
        if len(part):
            size = kish_effective_sample_size(logs[inside][part])
            share[cells[part[0]]] = size / len(part)
    return RegionSizes(share.reshape(shape), counts.reshape(shape), edges)


def r_hat(runs: Sequence[ArrayLike], domain: Domain | None = None) -> float:
    """Rank-normalised split R-hat: whether runs from different starts have come together.

    The larger of R-hat of the values and of their distances from the median [1]_, each run split
    into halves. Below 1.01 the runs cannot be told apart; far above, they sample different places,
    and their averages are not yet those of the system.

    Parameters
    ----------
    runs : sequence of array_like, shapes (n_i,)
        One coordinate (a CV, say) in runs or segments started in different basins, in their order
        in time. Longer ones are thinned to the shortest.
    domain : (float, float), optional
        Of a periodic coordinate: the largest R-hat of its cosine and sine is given.

    Returns
    -------
    float
        1 for equal distributions; infinite where no run varies and they differ.

    Raises
    ------
    ValueError
        If there are fewer than 4 values in a run, or they are not finite.

    References
    ----------
    .. [1] A. Vehtari, A. Gelman, D. Simpson, B. Carpenter, P.-C. Buerkner, Bayesian Anal. 16, 667
       (2021), doi 10.1214/20-BA1221.

    Examples
    --------
    >>> left, right = np.sin(np.arange(200.0)), np.sin(np.arange(100.0)) + 9
    >>> bool(r_hat([left, left]) < 1.02), bool(r_hat([left, right]) > 1.5)
    (True, True)
    """
    samples = [one_coordinate(run, f"run {k}") for k, run in enumerate(runs)]
    shortest = min((len(sample) for sample in samples), default=0)
    if shortest < 4:
        raise ValueError(f"the shortest of {len(samples)} runs has {shortest} values, 4 are needed")
    half = shortest // 2
    halves = np.stack([thinned(s, 2 * half).reshape(2, half) for s in samples]).reshape(-1, half)
    if domain is not None:
        angles = 2 * np.pi * (halves - domain[0]) / (domain[1] - domain[0])
        return max(_largest_r_hat(np.cos(angles)), _largest_r_hat(np.sin(angles)))
    return _largest_r_hat(halves)


def _largest_r_hat(chains: NDArray[np.float64]) -> float:
    """R-hat of values and of distances from the median, ranks made normal; (n_chains, n)."""
    from scipy.stats import rankdata  # 0.7 s, which only this needs

    found = []
    for values in (chains, np.abs(chains - np.median(chains))):
        ranks = rankdata(values).reshape(values.shape)
        normal = ndtri((ranks - 3 / 8) / (values.size + 1 / 4))
        within, n = normal.var(axis=1, ddof=1).mean(), values.shape[1]
        between = normal.mean(axis=1).var(ddof=1)
        if within > 0:
            found.append(np.sqrt((n - 1) / n + between / within))
        else:
            found.append(np.inf if between > 0 else 1.0)
    return float(max(found))
