"""Newton's method for MBAR's objective, with a line search: the objective is convex, so it ends.

With W_nk the weights at some free energies, f_k their changes and sample n counted c_n times,

    L(f) = sum_n c_n ln sum_k n_k W_nk exp(f_k) - sum_k n_k f_k,

whose gradient is zero where the weights of each state add up to 1.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

MAX_ITERATIONS = 200  # ten do where states overlap
REACH = 30.0  # kT: farther, and weights that were too small to be kept may count
LEAST_CURVATURE = 1e-14  # of one that all frames tell: what is flatter is as good as flat
SEARCHES = 40  # halvings and doublings of a step
HESSIAN_NUMBERS = 4_000_000  # numbers W_nk that second derivatives are first taken from
LEAST_FULL = 0.05  # of numbers that are not zero, above which full matrices are multiplied faster


class Change(NamedTuple):
    """Changes of free energies.

    Attributes
    ----------
    f_k : ndarray, shape (K,)
        [kT]
    error : float
        By how much the weights of a state miss 1 at most.
    """

    f_k: NDArray[np.float64]
    error: float


class Objective:
    """MBAR's objective over sparse weights.

    Parameters
    ----------
    weights_nk : sparse array, shape (N, K)
        At the free energies that changes count from.
    counts : ndarray, shape (N,)
        How often each sample counts.
    n_k : ndarray, shape (K,)
        Samples made in each state, counted so.
    """

    def __init__(self, weights_nk: sparse.csr_array, counts: NDArray, n_k: NDArray) -> None:
        self.weights_nk, self.counts, self.n_k = weights_nk, counts, n_k
        self._transposed = weights_nk.T

    def gradient(self, f_k: NDArray) -> NDArray[np.float64]:
        """First derivatives, shape (K,)."""
        a_k = self.n_k * np.exp(f_k)
        return a_k * (self._transposed @ (self.counts / (self.weights_nk @ a_k))) - self.n_k

    def inverse_hessian(self, f_k: NDArray, thinned: int = 1) -> NDArray[np.float64]:
        """Inverse second derivatives from every so-manieth sample, shape (K, K).

        They are a graph's Laplacian, whose links are frames shared by two states: its diagonal
        is summed from the links, so that weak ones are not lost in differences of strong ones.
        """
        links = shared_frames(self.weights_nk[::thinned], self.n_k * np.exp(f_k),
                              self.counts[::thinned])  # fmt: skip
        links *= self.counts.sum() / max(1.0, self.counts[::thinned].sum())
        laplacian = np.diag(links.sum(axis=1)) - links
        root = np.sqrt(self.n_k)
        constant = root / np.linalg.norm(root)  # all free energies alike: nothing tells
        scaled = laplacian / (root[:, None] * root) + constant[:, None] * constant
        curvature, modes = np.linalg.eigh(scaled)
        curvature = np.maximum(curvature, LEAST_CURVATURE)
        modes = modes / root[:, None]
        return (modes / curvature) @ modes.T


def shared_frames(weights_nk: sparse.csr_array, a_k: NDArray, counts: NDArray) -> NDArray:
    """Frames that states share, sum_n c_n p_ni p_nj with p_n the shares of the states in sample n.

    A sample that two states make equally counts a quarter, one that only one makes nothing.

    Parameters
    ----------
    weights_nk : sparse array, shape (N, K)
    a_k : ndarray, shape (K,)
        n_k exp(f_k).
    counts : ndarray, shape (N,)

    Returns
    -------
    ndarray, shape (K, K)
        Symmetric, zero on the diagonal.
    """
    shared = products(weights_nk, counts / (weights_nk @ a_k) ** 2) * a_k * a_k[:, None]
    np.fill_diagonal(shared, 0.0)
    return shared


def products(weights_nk: sparse.csr_array, counts: NDArray) -> NDArray[np.float64]:
    """Sums over the samples of products of the weights of two states, sum_n c_n W_ni W_nj.

    Parameters
    ----------
    weights_nk : sparse array, shape (N, K)
    counts : ndarray, shape (N,)

    Returns
    -------
    ndarray, shape (K, K)
    """
    n_samples, n_states = weights_nk.shape
    total = np.zeros((n_states, n_states))
    full = weights_nk.nnz > LEAST_FULL * n_samples * n_states
    step = max(1, HESSIAN_NUMBERS // n_states)
    for start in range(0, n_samples, step):
        part = weights_nk[start : start + step]
        scaled = sparse.diags_array(counts[start : start + step]) @ part
        if full:
            total += part.toarray().T @ scaled.toarray()
        else:
            total += (part.T @ scaled).toarray()
    return total


def minimise(objective: Objective, tolerance: float, inverse: NDArray | None = None) -> Change:
    """Find where the weights of each state add up to 1.

    Parameters
    ----------
    objective : Objective
    tolerance : float
        Of the sum of the weights of a state.
    inverse : ndarray, shape (K, K), optional
        Inverse second derivatives near the minimum, taken as long as they serve: a step is two
        products of a matrix and a vector.

    Returns
    -------
    Change
        Unfinished where it would go beyond `REACH`; its ``error`` says so.
    """
    f_k, previous = np.zeros(len(objective.n_k)), np.inf
    thinned = max(1, objective.weights_nk.nnz // HESSIAN_NUMBERS)
    gradient = objective.gradient(f_k)
    for _ in range(MAX_ITERATIONS):
        size = float(np.abs(gradient / objective.n_k).max())
        if size < tolerance or np.ptp(f_k) > REACH:
            break
        if inverse is None or size > 0.5 * previous:
            inverse = objective.inverse_hessian(f_k, thinned)
            thinned = max(1, thinned // 4)  # should these not serve either
        step = -inverse @ gradient
        step *= min(1.0, 0.5 * REACH / np.ptp(step)) if np.ptp(step) > 0 else 1.0
        f_k, gradient = _searched(objective, f_k, gradient, step)
        previous = size
    return Change(f_k, float(np.abs(gradient / objective.n_k).max()))


def _searched(
    objective: Objective, f_k: NDArray, gradient: NDArray, step: NDArray
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Free energies and gradient where the slope along a step has halved at least."""
    slope = float(gradient @ step)
    if not slope < 0.0:
        return f_k, gradient
    least, most, length = 0.0, np.inf, 1.0
    for _ in range(SEARCHES):
        there = f_k + length * step
        found = objective.gradient(there)
        now = float(found @ step)
        if abs(now) <= 0.5 * abs(slope) or (now < 0.0 and np.ptp(there) > REACH):
            break
        least, most = (least, length) if not now < 0.0 else (length, most)
        length = 2.0 * length if np.isinf(most) else 0.5 * (least + most)
    return there, found
