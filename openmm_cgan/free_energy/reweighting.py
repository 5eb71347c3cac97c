"""Weights that undo the bias of frames, and bootstrap replicates of them that know of time.

The replicates of `WeightedSamples` resample whole blocks of consecutive frames inside each window.
A block is five statistical inefficiencies long where the window is long enough, so that correlated
frames do not pass for independent ones.  What no frame shows (a slow coordinate that stayed where
it was in every window) these blocks can not show either: run windows from several starts, which are
then resampled whole (`draws_of_windows`), or compare windows of different origin.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from openmm_cgan import GAS_CONSTANT
from openmm_cgan.free_energy.agreement import runs_disagree
from openmm_cgan.free_energy.bootstrap import (
    blocks_of,
    draws_of,
    draws_of_runs,
    draws_of_windows,
)
from openmm_cgan.free_energy.doubts import (
    warn_of_disagreement,
    warn_of_gaps,
    warn_of_one_frame,
    warn_of_slow_windows,
    why_unknown,
    without_error,
)
from openmm_cgan.free_energy.mbar import ReducedBias, resampled_log_weights, solve_mbar
from openmm_cgan.free_energy.overlap import connected_parts, overlap_matrix
from openmm_cgan.free_energy.pareto import pareto_k
from openmm_cgan.free_energy.samples import (
    BiasedFrames,
    WeightedSamples,
    check_windows,
    normalised,
    statistical_inefficiency,
    titles_of,
)
from openmm_cgan.free_energy.worth import worth_in_time
from openmm_cgan.short_reprs import short_repr

logger = logging.getLogger("openmm_cgan")

PROBES = 200  # CV values at which two biases must be equal to be one


def window_inefficiencies(windows: Sequence[BiasedFrames]) -> NDArray[np.float64]:
    """Statistical inefficiency of each window, see `statistical_inefficiency`.

    Returns
    -------
    ndarray, shape (n_windows,)
        1 or more.
    """
    return np.array([statistical_inefficiency(w.cvs, w.variables) for w in windows])


def reweight_windows(
    windows: Sequence[BiasedFrames],
    *,
    n_bootstrap: int = 100,
    max_samples: int = 100_000,
    seed: int = 0,
) -> WeightedSamples:
    """Join windows by MBAR into samples weighted for the unbiased ensemble.

    Each window is thinned to two samples per statistical inefficiency (keeping every frame would
    add little), and further if all windows together exceed `max_samples`. Windows with the same
    bias are runs of one window, one state of MBAR: its frames are theirs together, and its error is
    by how far they are apart (`openmm_cgan.free_energy.bootstrap.draws_of_windows`).

    Parameters
    ----------
    windows : sequence of BiasedFrames
        All of the same CVs and temperature.
    n_bootstrap : int
        Replicates for the errors; 0 for none.
    max_samples : int
        Bounds memory and time: 2 * n_bootstrap * max_samples numbers are held.
    seed : int
        Of the bootstrap.

    Returns
    -------
    WeightedSamples

    Raises
    ------
    ValueError
        If windows disagree, are empty, or a bias is not finite.
    RuntimeError
        If MBAR does not converge.

    References
    ----------
    Shirts and Chodera, doi 10.1063/1.2978177.
    """
    check_windows(windows)
    inefficiencies = window_inefficiencies(windows)
    joined = JoinedWindows.thinned(windows, inefficiencies, max_samples)
    biases = DistinctBiases.of(windows, joined.cvs)
    warn_of_slow_windows(windows, inefficiencies, biases.state)
    return joined.weighted(
        lambda rows: biases.reduced(joined.cvs[rows]),
        biases.state,
        [titles_of(windows)[i] for i in biases.first],
        n_bootstrap=n_bootstrap,
        seed=seed,
    )


@dataclass(frozen=True, repr=False)
class JoinedWindows:
    """The frames kept of windows, one window after another.

    Attributes
    ----------
    windows : sequence of BiasedFrames
    kept : list of ndarray of int, shape (n_kept,)
        Numbers of the frames kept of each window.
    inefficiencies : ndarray, shape (n_windows,)
        Statistical inefficiency of the frames kept.
    cvs : ndarray, shape (n, n_cvs)
        Of all frames kept.
    """

    windows: Sequence[BiasedFrames]
    kept: list[NDArray[np.int64]]
    inefficiencies: NDArray[np.float64]
    cvs: NDArray[np.float64]

    __repr__ = short_repr

    @classmethod
    def thinned(
        cls, windows: Sequence[BiasedFrames], inefficiencies: NDArray, max_samples: int
    ) -> JoinedWindows:
        """Keep two frames per statistical inefficiency, and no more than `max_samples` in all.

        Parameters
        ----------
        windows : sequence of BiasedFrames
        inefficiencies : ndarray, shape (n_windows,)
            Of all their frames, from `window_inefficiencies`.
        max_samples : int
        """
        strides = _strides([len(w.cvs) for w in windows], inefficiencies, max_samples)
        kept = [np.arange(0, len(w.cvs), s) for w, s in zip(windows, strides, strict=True)]
        cvs = np.concatenate([w.cvs[k] for w, k in zip(windows, kept, strict=True)])
        return cls(windows, kept, np.maximum(1.0, inefficiencies / strides), cvs)

    def weighted(
        self,
        reduced_bias: ReducedBias,
        state: NDArray[np.int64],
        names: list[str],
        *,
        n_bootstrap: int,
        seed: int,
    ) -> WeightedSamples:
        """Weigh the frames by MBAR.

        Parameters
        ----------
        reduced_bias : callable
            As for `solve_mbar`: numbers of kept frames (m,) to reduced biases, shape (n_states, m).
        state : ndarray of int, shape (n_windows,)
            State of each window.
        names : list of str
            Of the states, for messages.
        n_bootstrap, seed : int
            As for `reweight_windows`.

        Raises
        ------
        RuntimeError
            If MBAR does not converge.
        """
        sizes = np.array([len(k) for k in self.kept])
        states = np.repeat(state, sizes)
        weights_nk, log_weights = solve_mbar(reduced_bias, states)
        overlap = overlap_matrix(weights_nk, states)
        window = np.repeat(np.arange(len(sizes)), sizes)
        parts = connected_parts(weights_nk, states, self.inefficiencies[window])
        warn_of_gaps(overlap, parts, names)
        drawn = draws_of_windows(sizes, self.inefficiencies, state, n_bootstrap, seed)
        changes = resampled_log_weights(weights_nk, states, drawn)
        titles = titles_of(self.windows)
        changes[:, without_error(sizes, parts[state], titles)[window]] = np.nan
        samples = WeightedSamples(
            self.cvs,
            normalised(log_weights),
            _reweighted(changes, log_weights),
            self.windows[0].temperature,
            self.windows[0].variables,
            window,
            np.concatenate(self.kept),
            self.inefficiencies,
            overlap,
            parts[state],
        )
        warn_of_one_frame(samples, titles)
        return samples


def reweight(
    runs: Sequence[BiasedFrames],
    log_weights: Sequence[ArrayLike] | None = None,
    *,
    n_bootstrap: int = 100,
    max_samples: int = 100_000,
    seed: int = 0,
) -> WeightedSamples:
    """Weigh runs that each reach everywhere: metadynamics walkers, importance sampling, plain MD.

    Runs count by their number of frames; the constant in a run's log weights is of no account.
    Where they differ by more than the error of each tells, errors are those of whole runs.

    Parameters
    ----------
    runs : sequence of BiasedFrames
        Each run's frames with its static bias.  The final bias of metadynamics serves, by the
        weight exp(V(s, t_final) / kT) of Branduardi, Bussi and Parrinello (doi 10.1021/ct3002464),
        where its shape has long stopped changing; give `log_weights` where it has not.
    log_weights : sequence of ndarray, shape (n_frames,), optional
        In place of bias / kT, such as `openmm_cgan.free_energy.hills.tiwary_log_weights`.
    n_bootstrap, max_samples, seed : int
        As for windows; the frames are thinned only to keep to `max_samples`.

    Raises
    ------
    ValueError
        If runs disagree, are empty, or there is not one log weight to a frame.
    """
    check_windows(runs)
    kT = GAS_CONSTANT * runs[0].temperature
    if log_weights is None:
        log_weights = [_reduced_bias(run, run.cvs, kT) for run in runs]
    if [np.shape(logs) for logs in log_weights] != [(len(run.cvs),) for run in runs]:
        raise ValueError("log_weights needs one number for each frame of each run")
    inefficiencies = np.array([statistical_inefficiency(r.cvs, r.variables) for r in runs])
    strides = _strides([len(r.cvs) for r in runs], np.ones(len(runs)), max_samples)
    kept = [np.arange(0, len(r.cvs), s) for r, s in zip(runs, strides, strict=True)]
    inefficiencies = np.maximum(1.0, inefficiencies / strides)
    sizes = np.array([len(k) for k in kept])
    logs = [normalised(np.asarray(w, float)[k]) for w, k in zip(log_weights, kept, strict=True)]
    joined = np.concatenate(logs) + np.log(np.repeat(sizes, sizes))
    if np.isnan(joined).any():
        raise ValueError("log_weights has values that are not a number")
    joined = normalised(joined)
    rows = [run.cvs[k] for run, k in zip(runs, kept, strict=True)]
    names = titles_of(runs)
    if apart := runs_disagree(rows, joined, runs[0].variables):
        warn_of_disagreement(names)
    changes = _changes(sizes, None if apart else inefficiencies, n_bootstrap, seed)
    if without_error(sizes, np.zeros(len(runs), dtype=np.int64), names).any():
        changes[:] = np.nan
    samples = WeightedSamples(
        np.concatenate(rows),
        joined,
        _reweighted(changes, joined),
        runs[0].temperature,
        runs[0].variables,
        np.repeat(np.arange(len(runs)), sizes),
        np.concatenate(kept),
        inefficiencies,
        np.eye(len(runs)),
        k_hat=pareto_k(joined, float((inefficiencies * sizes).sum() / sizes.sum())),
        worth=worth_in_time(rows, joined, runs[0].variables),
    )
    warn_of_one_frame(samples, names)
    what = f"{len(joined)} frames ({', '.join(names)})"
    forgotten = float((sizes / inefficiencies).sum())
    if why := why_unknown(samples.k_hat, samples.effective_samples, what, forgotten):
        logger.warning(
            "%s: averages and free energies are NaN. Take frames from where the bias hardly "
            "changes any more, run longer, or make the bias act on what is slow", why
        )  # fmt: skip
    return replace(samples, unknown=why)


def _changes(
    sizes: NDArray[np.int64], inefficiencies: NDArray | None, n_bootstrap: int, seed: int
) -> NDArray[np.float64]:
    """Logarithms of how often replicates draw each sample; of whole runs without inefficiencies."""
    if inefficiencies is None:
        drawn = draws_of_runs(sizes, n_bootstrap, seed)
    else:
        drawn = draws_of(blocks_of(sizes, inefficiencies), inefficiencies, n_bootstrap, seed)
    with np.errstate(divide="ignore"):
        return np.log(drawn, dtype=float)


def _strides(
    lengths: Sequence[int], inefficiencies: NDArray, max_samples: int
) -> NDArray[np.int64]:
    """Two samples per statistical inefficiency, fewer where that would exceed `max_samples`."""
    strides = np.floor(np.maximum(1.0, inefficiencies / 2.0))
    excess = float((np.asarray(lengths) / strides).sum()) / max_samples
    return np.ceil(strides * max(1.0, excess)).astype(np.int64)


def _reduced_bias(window: BiasedFrames, cvs: NDArray, kT: float) -> NDArray[np.float64]:
    reduced = np.asarray(window.bias(cvs), dtype=float) / kT
    if reduced.shape != (len(cvs),) or not np.isfinite(reduced).all():
        raise ValueError(
            f"the bias of window {window.name!r} gives shape {reduced.shape} or values that are "
            f"not finite, expected ({len(cvs)},) finite energies"
        )
    return reduced


@dataclass(frozen=True, repr=False)
class DistinctBiases:
    """The biases of windows, equal ones counted once.

    Attributes
    ----------
    windows : sequence of BiasedFrames
    first : list of int
        First window of each distinct bias.
    state : ndarray of int, shape (n_windows,)
        Number of the distinct bias of each window.
    """

    windows: Sequence[BiasedFrames]
    first: list[int]
    state: NDArray[np.int64]

    __repr__ = short_repr

    @classmethod
    def of(cls, windows: Sequence[BiasedFrames], cvs: NDArray) -> DistinctBiases:
        """Compare the biases at some CV values.

        Parameters
        ----------
        windows : sequence of BiasedFrames
        cvs : ndarray, shape (n, n_cvs)
            At `PROBES` of these two equal biases agree to the last bit [CV unit].
        """
        probes = cvs[:: max(1, len(cvs) // PROBES)]
        numbers: dict[bytes, int] = {}
        first, state = [], []
        for i, window in enumerate(windows):
            energies = np.asarray(window.bias(probes), dtype=float).tobytes()
            if energies not in numbers:
                numbers[energies] = len(numbers)
                first.append(i)
            state.append(numbers[energies])
        return cls(windows, first, np.array(state))

    def reduced(self, cvs: NDArray) -> NDArray[np.float64]:
        """Reduced bias of each state at CV values.

        Parameters
        ----------
        cvs : ndarray, shape (n, n_cvs)
            [CV unit]

        Returns
        -------
        ndarray, shape (n_states, n)
            In units of kT.

        Raises
        ------
        ValueError
            If a bias gives another shape or an energy that is not finite.
        """
        kT = GAS_CONSTANT * self.windows[0].temperature
        return np.stack([_reduced_bias(self.windows[i], cvs, kT) for i in self.first])


def _reweighted(changes: NDArray, log_weights: NDArray) -> NDArray[np.float64]:
    """Log weights of the replicates, in the place of their changes: these arrays are large."""
    for change in changes:
        change[:] = normalised(change + log_weights)
    return changes
