"""MBAR for biases that are functions of a few CVs: many states, many samples, sparse weights.

Notation of Shirts and Chodera, doi 10.1063/1.2978177: K states, N samples of all of them, u_kn the
reduced bias of sample n in state k, n_k the number of samples made in state k, f_k reduced free
energies, W_nk the weight of sample n in state k.

A few samples of each state give free energies to start from, all of them those that are returned.
A sample weighs something in the few states around it only, so W_nk is kept sparse, and what is left
out is looked at again with every new set of free energies: the solution is one of the full
equations. Where Newton's method does not find it, pymbar is asked before anything gives up.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from types import ModuleType
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from openmm_cgan.free_energy.newton import REACH, Objective, minimise

# numbers of samples (m,) to their reduced bias energies in all states (K, m)
ReducedBias = Callable[[NDArray[np.int64]], NDArray[np.float64]]

TOLERANCE = 1e-9  # of the sum of the weights of a state
MAX_PASSES = 100  # over all u_kn; two where windows overlap
STANDSTILL = 1e-3  # kT; less in a pass that mended nothing is rounding
FEW = 20  # samples of each state to start from, at least
FEW_NUMBERS = 2**22, 2**26  # of u_kn to start from, and to go on with
SELF_CONSISTENT = 5  # steps before Newton's, from no idea at all
LEAST_SHARE = 1e-16  # of a state in the mixture at a sample: less is lost in rounding
REPLICATE_TOLERANCE = 1e-6  # of the same in a replicate, whose spread is larger by far
REPLICATE_SHARE = 1e-10  # of a state in the mixture at a sample, for replicates
CHUNK = 2**21  # numbers of u_kn held at once
START_CHUNK = 2**25  # the same in the steps before Newton's: larger, for each asks all biases anew
PYMBAR_NUMBERS = 2**26  # of u_kn that pymbar is given, which holds several copies


class Solution(NamedTuple):
    """Free energies with the weights that follow from them.

    Attributes
    ----------
    f_k : ndarray, shape (K,)
    weights_nk : sparse array, shape (N, K)
    log_weights : ndarray, shape (N,)
        Unbiased, not normalised.
    error : float
        By how much the weights of a state miss 1 at most.
    """

    f_k: NDArray[np.float64]
    weights_nk: sparse.csr_array
    log_weights: NDArray[np.float64]
    error: float


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
        Weight of each sample in each state; columns add up to 1 within `TOLERANCE`.
    log_weights : ndarray, shape (N,)
        Unbiased log weights, not normalised.

    Raises
    ------
    RuntimeError
        If neither Newton's method nor pymbar solves them.
    """
    n_k = np.bincount(states).astype(float)
    few, more = (_few_of_each(states, max(FEW, n // len(n_k) ** 2)) for n in FEW_NUMBERS)
    f_k = _start(lambda rows: reduced_bias(few[rows]), states[few])
    if len(few) < len(more) < len(states):
        f_k = _refined(lambda rows: reduced_bias(more[rows]), np.bincount(states[more]), f_k).f_k
    found = _refined(reduced_bias, n_k, f_k)
    if found.error >= TOLERANCE:
        some = _few_of_each(states, max(FEW, PYMBAR_NUMBERS // len(n_k) ** 2))
        f_k = _pymbar_free_energies(reduced_bias(some), states[some])
        found = _refined(reduced_bias, n_k, f_k)
    if found.error >= TOLERANCE:
        worst = int(np.abs(found.weights_nk.sum(axis=0) - 1.0).argmax())
        raise RuntimeError(
            "MBAR did not converge, neither here nor with pymbar: the weights of state "
            f"{worst} (of {len(n_k)}, counted from 0) add up to 1 within {found.error:.1g} only, "
            f"expected {TOLERANCE:g}; look at the bias and the frames of that window"
        )
    return found.weights_nk, found.log_weights


def _few_of_each(states: NDArray, number: int) -> NDArray[np.int64]:
    """Numbers of some samples of each state, evenly taken."""
    n_k = np.bincount(states)
    order = np.argsort(states, kind="stable")
    first = np.concatenate([[0], np.cumsum(n_k)[:-1]])
    few = [
        order[begin + np.unique(np.linspace(0, n - 1, min(n, number)).astype(np.int64))]
        for begin, n in zip(first, n_k, strict=True)
    ]
    return np.concatenate(few)


def _start(reduced_bias: ReducedBias, states: NDArray) -> NDArray[np.float64]:
    """Free energies of a few samples: some steps of self-consistency, then Newton's."""
    n_k = np.bincount(states).astype(float)
    f_k = np.zeros(len(n_k))
    for _ in range(SELF_CONSISTENT):
        f_k = _self_consistent(reduced_bias, n_k, f_k)
        f_k = f_k - f_k[0]
    return _refined(reduced_bias, n_k, f_k).f_k


def _self_consistent(reduced_bias: ReducedBias, n_k: NDArray, f_k: NDArray) -> NDArray[np.float64]:
    """One step of self-consistency; few samples of thousands of states are many numbers still."""
    n_samples, step = int(n_k.sum()), max(1, START_CHUNK // len(n_k))
    logs_k = (f_k + np.log(n_k))[:, None]
    sums = np.full(len(n_k), -np.inf)
    for begin in range(0, n_samples, step):
        u_kn = reduced_bias(np.arange(begin, min(begin + step, n_samples)))
        log_mixture = _log_sum(logs_k - u_kn, axis=0)
        sums = np.logaddexp(sums, _log_sum(-u_kn - log_mixture, axis=1))
    return -sums


def _log_sum(logs: NDArray, axis: int) -> NDArray[np.float64]:
    """ln sum exp along an axis, in place: scipy's takes ten times as long."""
    largest = logs.max(axis=axis, keepdims=True)
    logs -= largest
    np.exp(logs, out=logs)
    return np.asarray(largest.squeeze(axis) + np.log(logs.sum(axis=axis)))


def _pymbar_free_energies(u_kn: NDArray, states: NDArray) -> NDArray[np.float64]:
    """pymbar's f_k, by the solvers that it calls robust; zeros where it fails."""
    try:
        mbar = pymbar_quietly().MBAR(u_kn, np.bincount(states), solver_protocol="robust")
    except Exception as error:  # whatever stops pymbar: the caller says that neither did it
        logging.getLogger("openmm_cgan").warning("pymbar failed: %s", error)
        return np.zeros(len(u_kn))
    f_k = np.array(mbar.f_k, dtype=float)
    return f_k if np.isfinite(f_k).all() else np.zeros(len(u_kn))


def _refined(reduced_bias: ReducedBias, n_k: NDArray, f_k: NDArray) -> Solution:
    """Newton's method, with the weights made anew from all u_kn until these equations hold.

    A weight left out was less than `LEAST_SHARE` of its sample, and is less than exp(ptp f) times
    that after a change f: where even all of them together are too little to count, the equations
    hold in full and need not be summed once more.
    """
    best, counts = np.inf, np.ones(int(n_k.sum()))
    for _ in range(MAX_PASSES):
        weights_nk, log_weights = _sparse_weights(reduced_bias, n_k, f_k)
        error = _missed(weights_nk)
        if error < TOLERANCE:
            break
        change = minimise(Objective(weights_nk, counts, n_k), 0.1 * TOLERANCE)
        moved = float(np.ptp(change.f_k))
        if error > 0.99 * best and moved < STANDSTILL:
            break
        best, f_k = min(best, error), f_k + change.f_k
        left_out = LEAST_SHARE * np.exp(moved) * len(counts) / n_k.min()
        if change.error + left_out < TOLERANCE:
            log_weights -= np.log(_reweighted(weights_nk, n_k, change.f_k))
            error = _missed(weights_nk) + left_out
            break
    return Solution(f_k, weights_nk, log_weights, error)


def _missed(weights_nk: sparse.csr_array) -> float:
    """By how much the weights of a state miss 1 at most; summed without a copy of them."""
    return float(np.abs(weights_nk.T @ np.ones(weights_nk.shape[0]) - 1.0).max())


def _reweighted(weights_nk: sparse.csr_array, n_k: NDArray, f_k: NDArray) -> NDArray[np.float64]:
    """Change free energies in weights, in place; what each sample was divided by, shape (N,)."""
    mixture = weights_nk @ (n_k * np.exp(f_k))
    starts = weights_nk.indptr
    for begin in range(0, len(mixture), CHUNK // 16):
        rows = slice(begin, begin + CHUNK // 16)
        numbers = slice(starts[begin], starts[min(rows.stop, len(mixture))])
        factor = np.exp(f_k)[weights_nk.indices[numbers]]
        factor /= np.repeat(mixture[rows], np.diff(starts[begin : rows.stop + 1]))
        weights_nk.data[numbers] *= factor
    return mixture


def _sparse_weights(
    reduced_bias: ReducedBias, n_k: NDArray, f_k: NDArray
) -> tuple[sparse.csr_array, NDArray[np.float64]]:
    """W_nk and the unbiased log weights for given free energies.

    Arrays grow in place, for two copies of them would fill the memory.
    """
    n_samples = int(n_k.sum())
    step = max(1, CHUNK // len(n_k))
    logs_k = (f_k + np.log(n_k))[:, None]
    log_weights, starts = np.empty(n_samples), np.zeros(n_samples + 1, dtype=np.int64)
    data, indices, filled = np.empty(CHUNK), np.empty(CHUNK, dtype=np.int32), 0
    for start in range(0, n_samples, step):
        rows = np.arange(start, min(start + step, n_samples))
        shares = logs_k - reduced_bias(rows)  # logarithms, to the largest of each sample
        largest = shares.max(axis=0)
        shares -= largest
        kept = np.flatnonzero(shares > np.log(LEAST_SHARE))
        state, sample = np.divmod(kept, len(rows))
        share = np.exp(shares.ravel()[kept])
        total = np.bincount(sample, weights=share)
        log_weights[rows] = -(largest + np.log(total))
        share /= total[sample] * n_k[state]
        order = np.argsort(sample, kind="stable")
        if filled + len(order) > len(data):  # to what all samples need, should they go on so
            foreseen = (filled + len(order)) * n_samples / (rows[-1] + 1)
            data.resize(int(1.02 * max(foreseen, filled + len(order))), refcheck=False)
            indices.resize(len(data), refcheck=False)
        data[filled : filled + len(order)] = share[order]
        indices[filled : filled + len(order)] = state[order]
        starts[rows + 1] = filled + np.cumsum(np.bincount(sample))
        filled += len(order)
    weights = (data[:filled], indices[:filled], starts.astype(np.int32 if filled < 2**31 else int))
    return sparse.csr_array(weights, (n_samples, len(n_k))), log_weights


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
        To be added to the log weights; -inf for samples not drawn. NaN for a replicate whose
        equations have no solution near that of all samples: it lost what joins its states.
    """
    n_k = np.bincount(states).astype(float)
    weights_nk = weights_nk.copy()
    weights_nk.data[weights_nk.data * n_k[weights_nk.indices] < REPLICATE_SHARE] = 0.0
    weights_nk.eliminate_zeros()
    inverse = Objective(weights_nk, np.ones(len(states)), n_k).inverse_hessian(np.zeros(len(n_k)))
    changes = np.empty(drawn.shape)
    with np.errstate(divide="ignore"):
        for change, draw in zip(changes, drawn, strict=True):
            counts = draw.astype(float)
            n_k = np.bincount(states, weights=counts)
            found = minimise(
                Objective(weights_nk, counts, n_k), REPLICATE_TOLERANCE,
                inverse * (len(counts) / counts.sum()),
            )  # fmt: skip
            if found.error < REPLICATE_TOLERANCE and np.ptp(found.f_k) <= REACH:
                change[:] = np.log(counts) - np.log(weights_nk @ (n_k * np.exp(found.f_k)))
            else:
                change[:] = np.nan
    return changes


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
