"""Iterated sampling-importance-resampling: the current configuration or one of fresh candidates.

The current configuration and N independent candidates, one chosen with probability proportional to
its importance weight: this leaves the density of the run unchanged for every N >= 1 and any
proposal density that covers it [1]_ [2]_. N = 1 is Barker's acceptance of independent proposals.

References
----------
.. [1] C. Andrieu, A. Lee, M. Vihola, Bernoulli 24, 842 (2018), doi 10.3150/15-BEJ785.
.. [2] H. Tjelmeland, Using all Metropolis-Hastings proposals to estimate mean values, Norwegian
   University of Science and Technology, Statistics preprint 4/2004.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

CURRENT = -1  # the choice of the configuration that is there
NONE = -1  # the draw of nothing


def choose(
    log_current: ArrayLike, log_candidates: ArrayLike, rng: np.random.Generator
) -> NDArray[np.int64]:
    """Choose the current configuration or a candidate, in proportion to their weights.

    Parameters
    ----------
    log_current : array_like, shape (...)
        Log weights of the current configurations; -inf where its weight is not known (outside what
        is proposed): no candidate may come from there, so none may lead away, and it stays.
    log_candidates : array_like, shape (..., n)
        Log weights of the candidates of each; -inf is weight zero.
    rng : numpy Generator

    Returns
    -------
    ndarray of int, shape (...)
        Number of the candidate, or -1 for the current configuration.

    Raises
    ------
    ValueError
        If a logarithm is NaN or +inf.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> choose(np.zeros(3), [[-np.inf, -np.inf], [-np.inf, 800.0], [800.0, 0.0]], rng)
    array([-1,  1,  0])
    """
    current = np.asarray(log_current, dtype=float)
    logs = np.concatenate([current[..., None], np.asarray(log_candidates, dtype=float)], axis=-1)
    if np.isnan(logs).any() or np.isposinf(logs).any():
        raise ValueError("log weights hold NaN or +inf; give refused configurations -inf")
    return np.where(np.isneginf(current), CURRENT, drawn(logs, rng) - 1)


def drawn(log_weights: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.int64]:
    """Draw one of each row in proportion to its weights.

    Parameters
    ----------
    log_weights : ndarray, shape (..., n)
        -inf is weight zero.
    rng : numpy Generator

    Returns
    -------
    ndarray of int, shape (...)
        Number in the row, or -1 where all have weight zero.
    """
    # the largest of log w plus Gumbel noise is a draw in proportion to w, without any overflow
    best = (log_weights + rng.gumbel(size=log_weights.shape)).argmax(axis=-1)
    return np.where(np.isneginf(log_weights).all(axis=-1), NONE, best)
