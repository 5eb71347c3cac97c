"""The tail of importance weights: Pareto's k, and weights with that tail made smooth.

References
----------
Vehtari, Simpson, Gelman, Yao, Gabry, arXiv 1507.02646; the fit is that of Zhang and Stephens, doi
10.1198/tech.2009.08017.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

LARGEST_K = 0.7  # above it no number of samples at hand is enough (Vehtari et al.)
LIGHT_K = 0.5  # above it weights have no variance, and the error that is told is too small
LEAST_TAIL = 5  # weights that a tail is fitted to


def pareto_smoothed(
    log_weights: ArrayLike, inefficiency: float = 1.0
) -> tuple[NDArray[np.float64], float]:
    """Smooth the largest weights by the generalised Pareto distribution fitted to them.

    Parameters
    ----------
    log_weights : array_like, shape (n,)
        Up to a constant; -inf for weight zero.
    inefficiency : float
        Statistical inefficiency of the samples, which lengthens the tail.

    Returns
    -------
    log_weights : ndarray, shape (n,)
        Normalised; as given where no tail can be fitted.
    k_hat : float
        The shape: the weights have 1/k moments. -inf where all weights that are not zero are equal,
        inf where the tail holds fewer than `LEAST_TAIL` weights that differ from the rest.
    """
    logs = np.asarray(log_weights, dtype=float)
    logs = logs - logs.max()
    order = np.argsort(logs, kind="stable")
    finite = logs[np.isfinite(logs)]
    if np.ptp(finite) < 1e-12:
        return _normalised(logs), -np.inf
    size = int(np.ceil(min(0.2 * len(logs), 3.0 * np.sqrt(len(logs) * inefficiency))))
    tail = order[-size:]
    cutoff = np.exp(logs[order[-size - 1]]) if size < len(logs) else 0.0
    excess = np.exp(logs[tail]) - cutoff
    if (excess > 0.0).sum() < LEAST_TAIL:
        return _normalised(logs), np.inf
    k, sigma = fit_pareto(excess[excess > 0.0])
    chances = (np.arange(size) + 0.5) / size
    quantiles = sigma * (np.expm1(-k * np.log1p(-chances)) / k if k else -np.log1p(-chances))
    smoothed = logs.copy()
    smoothed[tail] = np.minimum(np.log(cutoff + quantiles), 0.0)
    return _normalised(smoothed), k


def pareto_k(log_weights: ArrayLike, inefficiency: float = 1.0) -> float:
    """Pareto's k of the largest weights, see `pareto_smoothed`."""
    return pareto_smoothed(log_weights, inefficiency)[1]


def fit_pareto(excess: NDArray) -> tuple[float, float]:
    """Shape and scale of a generalised Pareto distribution.

    Parameters
    ----------
    excess : ndarray, shape (n,)
        Positive, increasing.

    Returns
    -------
    k, sigma : float
        k is drawn to 0.5 as if ten more samples said so, for few samples say little.
    """
    n = len(excess)
    number = 30 + int(np.sqrt(n))
    theta = 1.0 / excess[-1] + (1.0 - np.sqrt(number / (np.arange(number) + 0.5))) / (
        3.0 * excess[int(n / 4 + 0.5) - 1]
    )
    k = np.log1p(-theta[:, None] * excess).mean(axis=1)
    log_likelihood = n * (np.log(-theta / k) - k - 1.0)
    chances = np.exp(log_likelihood - log_likelihood.max())
    best = float(theta @ chances / chances.sum())
    shape = float(np.log1p(-best * excess).mean())
    return (n * shape + 5.0) / (n + 10.0), -shape / best


def _normalised(logs: NDArray) -> NDArray[np.float64]:
    return logs - np.log(np.exp(logs).sum())
