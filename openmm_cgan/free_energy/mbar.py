"""MBAR for biases that are functions of a few CVs: many states, many samples, sparse weights.

Notation of Shirts and Chodera, doi 10.1063/1.2978177: K states, N samples of all of them, u_kn the
reduced bias of sample n in state k, n_k the number of samples made in state k, f_k reduced free
energies, W_nk the weight of sample n in state k.

pymbar solves for a few samples of each state; Newton's method goes on from there with all of them.
A sample weighs something in the few states around it only, so W_nk is kept sparse: 360 windows and
200,000 samples take seconds and some 100 MB.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from types import ModuleType

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.special import logsumexp

# numbers of samples (m,) to their reduced bias energies in all states (K, m)
ReducedBias = Callable[[NDArray[np.int64]], NDArray[np.float64]]

MAX_ITERATIONS = 200  # ten to twenty do where windows overlap
FEW = 20  # samples of each state that pymbar solves for
LEAST_SHARE = 1e-10  # of a state in the mixture at a sample, below which it is left out
CHUNK = 2**21  # numbers of u_kn held at once


def solve_mbar(
    reduced_bias: ReducedBias, states: NDArray[np.int64]
) -> tuple[sparse.csr_array, NDArray[np.float64]]:
    """Solve MBAR's equations.

    Parameters
    ----------
    reduced_bias : callable
        Numbers of samples (m,) to u_kn of those samples, shape (K, m).
    states : ndarray of int, shape (N,)
        State that each sample was made in; each state has one at least.

    Returns
    -------
    weights_nk : sparse array, shape (N, K)
        Weight of each sample in each state; columns add up to 1.
    log_weights : ndarray, shape (N,)
        Unbiased log weights, not normalised.

    Raises
    ------
    RuntimeError
        If it does not converge.
    """
    n_k = np.bincount(states).astype(float)
    f_k = _few_samples_free_energies(reduced_bias, states)
    weights_nk, log_weights = _sparse_weights(reduced_bias, n_k, f_k)
    counts = np.ones(len(states))
    inverse = _inverse_hessian(weights_nk @ sparse.diags_array(n_k), counts)
    a_k = np.exp(_resampled_free_energies(weights_nk, counts, n_k, inverse))
    mixture = weights_nk @ (n_k * a_k)
    weights_nk = sparse.diags_array(1.0 / mixture) @ weights_nk @ sparse.diags_array(a_k)
    return weights_nk.tocsr(), log_weights - np.log(mixture)


def _few_samples_free_energies(reduced_bias: ReducedBias, states: NDArray) -> NDArray[np.float64]:
    """pymbar's f_k for a few samples of each state, evenly taken."""
    n_k = np.bincount(states)
    if len(n_k) == 1:
        return np.zeros(1)
    order = np.argsort(states, kind="stable")
    first = np.concatenate([[0], np.cumsum(n_k)[:-1]])
    few = [
        order[begin + np.unique(np.linspace(0, n - 1, FEW).astype(np.int64))]
        for begin, n in zip(first, n_k, strict=True)
    ]
    mbar = pymbar_quietly().MBAR(
        reduced_bias(np.concatenate(few)),
        np.array([len(rows) for rows in few]),
        solver_protocol=({"method": "adaptive", "options": {"min_sc_iter": 0}},),
        relative_tolerance=1e-6,
        maximum_iterations=MAX_ITERATIONS,
    )
    return np.array(mbar.f_k, dtype=float)


def _sparse_weights(
    reduced_bias: ReducedBias, n_k: NDArray, f_k: NDArray
) -> tuple[sparse.csr_array, NDArray[np.float64]]:
    """W_nk and the unbiased log weights for given free energies."""
    n_samples, parts, log_weights = int(n_k.sum()), [], []
    step = max(1, CHUNK // len(n_k))
    for start in range(0, n_samples, step):
        u_kn = reduced_bias(np.arange(start, min(start + step, n_samples)))
        logs = -logsumexp(f_k[:, None] - u_kn, axis=0, b=n_k[:, None])
        weights_kn = np.exp(f_k[:, None] - u_kn + logs)
        weights_kn[n_k[:, None] * weights_kn < LEAST_SHARE] = 0.0
        parts.append(sparse.csr_array(weights_kn.T))
        log_weights.append(logs)
    return sparse.vstack(parts, format="csr"), np.concatenate(log_weights)


def resampled_log_weights(
    weights_nk: sparse.csr_array, states: NDArray, drawn: NDArray
) -> NDArray[np.float64]:
    """Change of the log weights when samples are counted as often as they were drawn.

    Parameters
    ----------
    weights_nk : sparse array, shape (N, K)
        The solution for all samples, from `solve_mbar`.
    states : ndarray of int, shape (N,)
        State that each sample was made in.
    drawn : ndarray, shape (n_bootstrap, N)
        How often each replicate drew each sample; every state at least once.

    Returns
    -------
    ndarray, shape (n_bootstrap, N)
        To be added to the log weights; -inf for samples not drawn.

    Raises
    ------
    RuntimeError
        If the equations of a replicate are not solved.
    """
    n_k = np.bincount(states).astype(float)
    inverse = _inverse_hessian(weights_nk @ sparse.diags_array(n_k), np.ones(len(states)))
    changes = np.empty(drawn.shape)
    with np.errstate(divide="ignore"):
        for change, draw in zip(changes, drawn, strict=True):
            counts = draw.astype(float)
            n_k = np.bincount(states, weights=counts)
            f_k = _resampled_free_energies(weights_nk, counts, n_k, inverse)
            change[:] = np.log(counts) - np.log(weights_nk @ (n_k * np.exp(f_k)))
    return changes


def _resampled_free_energies(
    weights_nk: sparse.csr_array, counts: NDArray, n_k: NDArray, inverse: NDArray
) -> NDArray[np.float64]:
    """MBAR's equations for samples counted `counts` times, as changes of the f_k behind W_nk.

    Newton's method with the given inverse Hessian as long as it serves: two products of a matrix
    and a vector a step.
    """
    f_k, previous = np.zeros(len(n_k)), np.inf
    inverse = inverse * (len(counts) / counts.sum())
    transposed = weights_nk.T
    for _ in range(MAX_ITERATIONS):
        a_k = n_k * np.exp(f_k)
        mixture = weights_nk @ a_k
        gradient = a_k * (transposed @ (counts / mixture)) - n_k
        size = float(np.abs(gradient / n_k).max())
        if size < 1e-6:
            return f_k
        if size > 0.5 * previous:
            p_nk = sparse.diags_array(1.0 / mixture) @ weights_nk @ sparse.diags_array(a_k)
            inverse = _inverse_hessian(p_nk, counts)
        step = inverse @ gradient
        f_k = f_k - step * min(1.0, 2.0 / (np.abs(step).max() + 1e-300))
        previous = size
    raise RuntimeError(
        "MBAR did not converge: the weights of a state add up to 1 within "
        f"{size:.1g} only; look for windows that overlap with no other"
    )


def _inverse_hessian(p_nk: sparse.csr_array, counts: NDArray) -> NDArray[np.float64]:
    """Inverse second derivatives of MBAR's objective; `p_nk` add up to 1 over the states."""
    products = (p_nk.T @ (sparse.diags_array(counts) @ p_nk)).toarray()
    return np.linalg.pinv(np.diag(p_nk.T @ counts) - products, rcond=1e-12, hermitian=True)


def overlap_matrix(weights_nk: sparse.csr_array, states: NDArray) -> NDArray[np.float64]:
    """Overlap O_ij = n_j sum_n W_ni W_nj of the states.

    Parameters
    ----------
    weights_nk : sparse array, shape (N, K)
        From `solve_mbar`.
    states : ndarray of int, shape (N,)
        State that each sample was made in.

    Returns
    -------
    ndarray, shape (K, K)
        Rows add up to 1.

    References
    ----------
    Klimovich, Shirts, Mobley, doi 10.1007/s10822-015-9840-9.
    """
    return (weights_nk.T @ weights_nk).toarray() * np.bincount(states)


def weakest_link(overlap: NDArray) -> tuple[float, list[int]]:
    """Overlap that joins the two worst joined groups of states, and the members of one group.

    Along a line of windows this is the least overlap between neighbours; for windows on a grid it
    is the least one that can not be gone round.  It is the lightest edge of the maximum spanning
    tree (Prim).

    Parameters
    ----------
    overlap : ndarray, shape (K, K)
        From `overlap_matrix`.

    Returns
    -------
    overlap : float
        1 for a single state.
    group : list of int
        Numbers of the states on one side of the link; empty for a single state.

    Examples
    --------
    >>> weakest_link(np.array([[0.7, 0.3, 0.0], [0.3, 0.69, 0.01], [0.0, 0.01, 0.99]]))
    (0.01, [2])
    """
    link = np.minimum(overlap, overlap.T)
    states = len(link)
    best, reached = link[0].copy(), np.zeros(states, dtype=bool)
    reached[0] = True
    order, joints = [0], [np.inf]
    while not reached.all():  # Prim's maximum spanning tree
        state = int(np.argmax(np.where(reached, -np.inf, best)))
        order.append(state)
        joints.append(float(best[state]))
        reached[state] = True
        best = np.maximum(best, link[state])
    cut = int(np.argmin(joints))
    group = _joined(link, order[cut], joints[cut]) if states > 1 else []
    return min(1.0, joints[cut]), group


def _joined(link: NDArray, start: int, threshold: float) -> list[int]:
    """States reached from one by overlaps above a threshold."""
    group, frontier = {start}, [start]
    while frontier:
        found = set(np.flatnonzero(link[frontier.pop()] > threshold).tolist()) - group
        group |= found
        frontier += found
    return sorted(group)


class _Advertisement(logging.Filter):
    """Stops what pymbar logs whenever it is imported; what concerns the user's data passes."""

    def filter(self, record: logging.LogRecord) -> bool:
        text = record.getMessage()
        return not ("JAX NOT FOUND" in text or text.startswith("Warning on use of the timeseries"))


def pymbar_quietly() -> ModuleType:
    """pymbar, imported when first needed: that takes seconds and prints a banner about JAX."""
    for name in ("pymbar.mbar_solvers", "pymbar.timeseries"):
        source = logging.getLogger(name)
        if not any(isinstance(f, _Advertisement) for f in source.filters):
            source.addFilter(_Advertisement())
    import pymbar

    return pymbar
