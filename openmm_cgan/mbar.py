"""MBAR on arrays: its solution by pymbar and Newton, that of resampled data, and the overlap.

Notation of Shirts and Chodera, doi 10.1063/1.2978177: K states, N samples of all of them, u_kn the
reduced bias of sample n in state k, n_k the number of samples made in state k, f_k reduced free
energies, W_kn the weight of sample n in state k.
"""

from __future__ import annotations

import logging
from types import ModuleType

import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp

MAX_ITERATIONS = 200  # ten to twenty do where windows overlap
FEW = 20  # samples of each state, on average, that pymbar solves for


def solve_mbar(u_kn: NDArray, states: NDArray) -> tuple[NDArray, NDArray]:
    """Solve MBAR's equations: by pymbar for some samples of each state, by Newton for all.

    pymbar alone takes minutes for hundreds of states and tens of thousands of samples; from the
    solution for a few samples of each state it is a few products of a matrix and a vector.

    Parameters
    ----------
    u_kn : ndarray, shape (K, N)
        Reduced bias of every sample in every state.
    states : ndarray of int, shape (N,)
        State that each sample was made in; each state has one at least.

    Returns
    -------
    weights_kn : ndarray, shape (K, N)
        Weight of each sample in each state; rows add up to 1.
    log_weights : ndarray, shape (N,)
        Unbiased log weights, not normalised.

    Raises
    ------
    RuntimeError
        If the weights of a state do not add up to 1.
    """
    n_k = np.bincount(states, minlength=len(u_kn)).astype(float)
    f_k = _few_samples_free_energies(u_kn, states, int(n_k.sum()) // (FEW * len(u_kn)))
    weights_kn, log_weights = _weights(u_kn, n_k, f_k)
    counts = np.ones(u_kn.shape[1])
    inverse = _inverse_hessian(n_k[:, None] * weights_kn, counts)
    f_k += _resampled_free_energies(weights_kn, counts, n_k, inverse)
    weights_kn, log_weights = _weights(u_kn, n_k, f_k)
    worst = np.abs(weights_kn.sum(axis=1) - 1.0).max()
    if not worst < 1e-4:
        raise RuntimeError(
            f"MBAR did not converge: the weights of a state add up to 1 within {worst:.1g} only; "
            "look for windows that overlap with no other"
        )
    return weights_kn, log_weights


def _few_samples_free_energies(u_kn: NDArray, states: NDArray, stride: int) -> NDArray[np.float64]:
    """pymbar's f_k for every so many samples of each state."""
    if len(u_kn) == 1:
        return np.zeros(1)
    number = np.empty(len(states), dtype=np.int64)  # of each sample within its state
    order = np.argsort(states, kind="stable")
    first = np.searchsorted(states[order], states[order])
    number[order] = np.arange(len(states)) - first
    few = number % max(1, stride) == 0
    mbar = pymbar_quietly().MBAR(
        u_kn[:, few],
        np.bincount(states[few], minlength=len(u_kn)),
        solver_protocol=({"method": "adaptive", "options": {"min_sc_iter": 0}},),
        relative_tolerance=1e-7,
        maximum_iterations=MAX_ITERATIONS,
    )
    return np.array(mbar.f_k, dtype=float)


def _weights(u_kn: NDArray, n_k: NDArray, f_k: NDArray) -> tuple[NDArray, NDArray]:
    """Weights W_kn and the unbiased log weights, for given free energies."""
    log_weights = -logsumexp(f_k[:, None] - u_kn, axis=0, b=n_k[:, None])
    return np.exp(f_k[:, None] - u_kn + log_weights), log_weights


def resampled_log_weights(
    weights_kn: NDArray, states: NDArray, drawn: NDArray
) -> NDArray[np.float64]:
    """Change of the log weights when samples are counted as often as they were drawn.

    Parameters
    ----------
    weights_kn : ndarray, shape (K, N)
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
    inverse = _inverse_hessian(n_k[:, None] * weights_kn, np.ones(weights_kn.shape[1]))
    changes = np.empty(drawn.shape)
    with np.errstate(divide="ignore"):
        for change, counts in zip(changes, drawn, strict=True):
            n_k = np.bincount(states, weights=counts)
            f_k = _resampled_free_energies(weights_kn, counts, n_k, inverse)
            change[:] = np.log(counts) - np.log((n_k * np.exp(f_k)) @ weights_kn)
    return changes


def _resampled_free_energies(
    weights_kn: NDArray, counts: NDArray, n_k: NDArray, inverse: NDArray
) -> NDArray[np.float64]:
    """MBAR's equations for samples counted `counts` times, from the solution for all of them.

    Newton's method with the inverse Hessian of the whole data as long as it serves: two products
    of a matrix and a vector a step, where a solution from nothing takes seconds.
    """
    f_k, previous = np.zeros(len(n_k)), np.inf
    inverse = inverse * (weights_kn.shape[1] / counts.sum())
    for _ in range(MAX_ITERATIONS):
        a_k = n_k * np.exp(f_k)
        drawn = counts / (a_k @ weights_kn)
        gradient = a_k * (weights_kn @ drawn) - n_k
        size = float(np.abs(gradient / n_k).max())
        if size < 1e-6:
            return f_k
        if size > 0.5 * previous:
            p_kn = a_k[:, None] * weights_kn
            inverse = _inverse_hessian(p_kn / p_kn.sum(axis=0), counts)
        step = inverse @ gradient
        f_k = f_k - step * min(1.0, 2.0 / (np.abs(step).max() + 1e-300))
        previous = size
    raise RuntimeError(
        "MBAR did not converge (for all samples, or for a bootstrap replicate): look for windows "
        "that overlap with no other"
    )


def _inverse_hessian(p_kn: NDArray, counts: NDArray) -> NDArray[np.float64]:
    """Inverse second derivatives of MBAR's objective; `p_kn` add up to 1 over the states."""
    hessian = np.diag(p_kn @ counts) - (p_kn * counts) @ p_kn.T
    return np.linalg.pinv(hessian, rcond=1e-12, hermitian=True)


def weakest_link(overlap: NDArray) -> tuple[float, list[int]]:
    """Overlap that joins the two worst joined groups of states, and the members of one group.

    Along a line of windows this is the least overlap between neighbours; for windows on a grid it
    is the least one that can not be gone round.

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
