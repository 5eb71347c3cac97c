"""Weights that undo the bias of frames, and bootstrap replicates of them that know of time.

Every route ends in one record, `WeightedSamples`: frames with the logarithms of the weights that
undo their bias, and replicates of those weights.  A free energy or an average is a sum over
frames, and its error the spread of the same sum over the replicates.

The replicates resample whole blocks of consecutive frames inside each window.  A block is five
statistical inefficiencies long where the window is long enough, so that correlated frames do not
pass for independent ones.  What no frame shows (a slow coordinate that stayed where it was in every
window) no bootstrap can show either: compare windows of different origin.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import logsumexp

from openmm_cgan.free_energy.hills import GAS_CONSTANT
from openmm_cgan.free_energy.mbar import (
    overlap_matrix,
    pymbar_quietly,
    resampled_log_weights,
    solve_mbar,
    weakest_link,
)
from openmm_cgan.plumed.colvar import CollectiveVariable

logger = logging.getLogger("openmm_cgan")

LEAST_OVERLAP = 0.03  # Klimovich, Shirts, Mobley, doi 10.1007/s10822-015-9840-9
BLOCK_INEFFICIENCIES = 5
LEAST_BLOCKS = 5
PROBES = 200  # CV values at which two biases must be equal to be one
LEAST_INDEPENDENT = 10  # frames of a window, below which its mean is hardly known

BiasFunction = Callable[[NDArray], NDArray]


@dataclass(frozen=True)
class BiasedFrames:
    """The frames of one window in the order of time, with the bias they were made under.

    Parameters
    ----------
    cvs : ndarray, shape (n_frames, n_cvs)
        CV values [CV unit].
    bias : callable
        CV values (n, n_cvs) to bias energies (n,) [kJ/mol].
    temperature : float
        Temperature [K].
    variables : tuple of CollectiveVariable
        The CVs; their domains say which are periodic.
    name : str
        Folder or name of the window, for messages.
    """

    cvs: NDArray[np.float64]
    bias: BiasFunction
    temperature: float
    variables: tuple[CollectiveVariable, ...]
    name: str = ""

    def part(self, start: float, stop: float) -> BiasedFrames:
        """The frames between two fractions of the window's time."""
        n = len(self.cvs)
        cvs = self.cvs[round(start * n) : round(stop * n)]
        return BiasedFrames(cvs, self.bias, self.temperature, self.variables, self.name)


class Estimate(NamedTuple):
    """A value with its standard error."""

    value: float
    error: float


@dataclass(frozen=True)
class WeightedSamples:
    """Frames with the weights that undo their bias.

    Attributes
    ----------
    cvs : ndarray, shape (n, n_cvs)
        CV values of the frames kept [CV unit].
    log_weights : ndarray, shape (n,)
        Logarithms of the weights, which add up to 1.
    replicates : ndarray, shape (n_bootstrap, n)
        The same for each bootstrap replicate, -inf where a frame was not drawn.
    temperature : float
        Temperature [K].
    variables : tuple of CollectiveVariable
        The CVs.
    window, frame : ndarray of int, shape (n,)
        Number of the window, and of the frame within it, that each sample is.
    inefficiencies : ndarray, shape (n_windows,)
        Statistical inefficiency of each window's samples as kept (1: independent).
    overlap : ndarray, shape (n_states, n_states)
        MBAR's overlap matrix of the distinct biases; rows add up to 1.
    """

    cvs: NDArray[np.float64]
    log_weights: NDArray[np.float64]
    replicates: NDArray[np.float64]
    temperature: float
    variables: tuple[CollectiveVariable, ...]
    window: NDArray[np.int64]
    frame: NDArray[np.int64]
    inefficiencies: NDArray[np.float64]
    overlap: NDArray[np.float64]

    @property
    def kT(self) -> float:
        """Thermal energy [kJ/mol]."""
        return GAS_CONSTANT * self.temperature

    @property
    def effective_samples(self) -> float:
        """Kish's effective number of samples, correlated frames counted by their inefficiency."""
        weights = np.exp(self.log_weights)
        return float(1.0 / (weights**2 * self.inefficiencies[self.window]).sum())

    def average(self, values: ArrayLike) -> Estimate:
        """Unbiased average of a quantity given for each sample, shape (n,)."""
        values = np.asarray(values, dtype=float)
        means = np.exp(self.replicates) @ values
        return Estimate(float(np.exp(self.log_weights) @ values), spread(means))

    def column(self, variable: int | str) -> int:
        """Position of a CV given by its name or its position."""
        if isinstance(variable, str):
            names = [v.name for v in self.variables]
            if variable not in names:
                raise ValueError(f"no CV {variable!r} among {names}")
            return names.index(variable)
        if not 0 <= variable < self.cvs.shape[1]:
            raise ValueError(f"CV number {variable} of {self.cvs.shape[1]} (counted from 0)")
        return variable


def statistical_inefficiency(cvs: NDArray, variables: Sequence[CollectiveVariable] = ()) -> float:
    """Number of consecutive frames worth one independent frame: that of the slowest CV.

    Parameters
    ----------
    cvs : ndarray, shape (n_frames, n_cvs)
        CV values in the order of time [CV unit].
    variables : sequence of CollectiveVariable
        Says which are periodic (their sine and cosine are then looked at).

    Returns
    -------
    float
        1 or more; 1 for a constant series.

    References
    ----------
    Chodera et al., doi 10.1021/ct0502864.
    """
    series = cv_series(cvs, variables)
    timeseries = pymbar_quietly().timeseries
    moving = [s for s in series if len(s) > 3 and np.ptp(s) > 1e-12 * (1.0 + np.abs(s).max())]
    return max([1.0, *(float(timeseries.statistical_inefficiency(s)) for s in moving)])


def cv_series(cvs: NDArray, variables: Sequence[CollectiveVariable]) -> list[NDArray[np.float64]]:
    """One series for each CV; its cosine and its sine where it is periodic."""
    series = []
    for i, values in enumerate(np.asarray(cvs, dtype=float).T):
        period = variables[i].period if i < len(variables) else None
        angle = None if period is None else 2.0 * np.pi * values / period
        series += [values] if angle is None else [np.cos(angle), np.sin(angle)]
    return series


def reweight_windows(
    windows: Sequence[BiasedFrames],
    *,
    n_bootstrap: int = 100,
    max_samples: int = 100_000,
    seed: int = 0,
) -> WeightedSamples:
    """Join windows by MBAR into samples weighted for the unbiased ensemble.

    Each window is thinned to two samples per statistical inefficiency (keeping every frame would
    add little), and further if all windows together exceed `max_samples`; windows with the same
    bias count as one state.

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
    _check_windows(windows)
    kT = GAS_CONSTANT * windows[0].temperature
    inefficiencies = np.array([statistical_inefficiency(w.cvs, w.variables) for w in windows])
    _warn_of_slow_windows(windows, inefficiencies)
    strides = _strides([len(w.cvs) for w in windows], inefficiencies, max_samples)
    kept = [np.arange(0, len(w.cvs), s) for w, s in zip(windows, strides, strict=True)]
    inefficiencies = np.maximum(1.0, inefficiencies / strides)
    cvs = np.concatenate([w.cvs[k] for w, k in zip(windows, kept, strict=True)])
    first, state = _distinct_biases(windows, cvs)
    sizes = np.array([len(k) for k in kept])
    states = np.repeat(state, sizes)
    weights_nk, log_weights = solve_mbar(
        lambda rows: np.stack([_reduced_bias(windows[i], cvs[rows], kT) for i in first]), states
    )
    overlap = overlap_matrix(weights_nk, states)
    _warn_of_gaps(overlap, [windows[i].name for i in first])
    drawn = _draws(_blocks(sizes, inefficiencies), inefficiencies, n_bootstrap, seed)
    changes = resampled_log_weights(weights_nk, states, drawn)
    return WeightedSamples(
        cvs,
        _normalised(log_weights),
        _reweighted(changes, log_weights),
        windows[0].temperature,
        windows[0].variables,
        np.repeat(np.arange(len(windows)), sizes),
        np.concatenate(kept),
        inefficiencies,
        overlap,
    )


def unbiased(cvs: NDArray) -> NDArray[np.float64]:
    """Return the bias of a run without bias: zeros, shape (n,)."""
    return np.zeros(len(cvs))


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
    _check_windows(runs)
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
    logs = [_normalised(np.asarray(w, float)[k]) for w, k in zip(log_weights, kept, strict=True)]
    joined = np.concatenate(logs) + np.log(np.repeat(sizes, sizes))
    if np.isnan(joined).any():
        raise ValueError("log_weights has values that are not a number")
    with np.errstate(divide="ignore"):
        drawn = _draws(_blocks(sizes, inefficiencies), inefficiencies, n_bootstrap, seed)
        changes = np.log(drawn, dtype=float)
    return WeightedSamples(
        np.concatenate([run.cvs[k] for run, k in zip(runs, kept, strict=True)]),
        _normalised(joined),
        _reweighted(changes, joined),
        runs[0].temperature,
        runs[0].variables,
        np.repeat(np.arange(len(runs)), sizes),
        np.concatenate(kept),
        inefficiencies,
        np.eye(len(runs)),
    )


def _check_windows(windows: Sequence[BiasedFrames]) -> None:
    if not windows:
        raise ValueError("no window to reweigh")
    first = windows[0]
    for window in windows:
        if window.cvs.ndim != 2 or len(window.cvs) == 0:
            raise ValueError(
                f"window {window.name!r} has CVs of shape {window.cvs.shape}, "
                "expected (n_frames, n_cvs) with at least one frame"
            )
        if not np.isfinite(window.cvs).all():
            raise ValueError(f"window {window.name!r} has CV values that are not finite")
        names = [v.name for v in window.variables]
        if names != [v.name for v in first.variables] or len(names) != window.cvs.shape[1]:
            raise ValueError(
                f"window {window.name!r} has the CVs {names} in {window.cvs.shape[1]} columns, "
                f"the first one {[v.name for v in first.variables]}"
            )
        if abs(window.temperature - first.temperature) > 1e-6:
            raise ValueError(
                f"window {window.name!r} is at {window.temperature} K, the first at "
                f"{first.temperature} K; join windows of one temperature"
            )


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


def _distinct_biases(
    windows: Sequence[BiasedFrames], cvs: NDArray
) -> tuple[list[int], NDArray[np.int64]]:
    """First window of each distinct bias, and the number of the distinct bias of each window."""
    probes = cvs[:: max(1, len(cvs) // PROBES)]
    numbers: dict[bytes, int] = {}
    first, state = [], []
    for i, window in enumerate(windows):
        energies = np.asarray(window.bias(probes), dtype=float).tobytes()
        if energies not in numbers:
            numbers[energies] = len(numbers)
            first.append(i)
        state.append(numbers[energies])
    return first, np.array(state)


def _blocks(sizes: NDArray, inefficiencies: NDArray) -> list[NDArray[np.int64]]:
    """Edges of the blocks of each window, in samples counted from its first."""
    lengths = np.ceil(BLOCK_INEFFICIENCIES * inefficiencies)
    numbers = np.clip(sizes // lengths, np.minimum(LEAST_BLOCKS, sizes), None).astype(np.int64)
    return [
        np.linspace(0, n, m + 1).round().astype(np.int64)
        for n, m in zip(sizes, numbers, strict=True)
    ]


def _draws(
    blocks: Sequence[NDArray[np.int64]], inefficiencies: NDArray, n_bootstrap: int, seed: int
) -> NDArray[np.uint16]:
    """How often each bootstrap replicate draws each sample, shape (n_bootstrap, N).

    Of the m blocks of a window fewer than m are drawn, with replacement: m - 1 make the variance
    of a mean over few blocks right (Rao and Wu, doi 10.1080/01621459.1988.10478591), and a factor
    1 - g / 2L makes up for the correlation between neighbouring blocks of length L, which a
    series that forgets exponentially has at inefficiency g.
    """
    rng = np.random.default_rng(seed)
    draws = np.empty((n_bootstrap, sum(int(edges[-1]) for edges in blocks)), dtype=np.uint16)
    for draw in draws:
        counts = []
        for edges, g in zip(blocks, inefficiencies, strict=True):
            m = len(edges) - 1
            number = (m - 1) * max(0.5, 1.0 - 0.5 * (g - 1.0 / g) * m / edges[-1])
            drawn = rng.integers(0, m, max(1, int(number + rng.random())))
            counts.append(np.repeat(np.bincount(drawn, minlength=m), np.diff(edges)))
        draw[:] = np.concatenate(counts)
    return draws


def _warn_of_gaps(overlap: NDArray, names: list[str]) -> None:
    least, group = weakest_link(overlap)
    if least < LEAST_OVERLAP:
        some = ", ".join(names[i] for i in group[:5]) + (" ..." if len(group) > 5 else "")
        logger.warning(
            "%d of %d windows (%s) overlap with the others by %.2g only, less than %g: the free "
            "energy between them is a guess; add windows there or soften the restraints",
            len(group), len(overlap), some, least, LEAST_OVERLAP,
        )  # fmt: skip


def spread(values: NDArray) -> float:
    """Standard deviation of replicates; NaN where a tenth or more of them found nothing."""
    finite = values[np.isfinite(values)]
    if len(finite) < 2 or len(finite) < 0.9 * len(values):
        return float("nan")
    return float(finite.std(ddof=1))


def _warn_of_slow_windows(windows: Sequence[BiasedFrames], inefficiencies: NDArray) -> None:
    independent = np.array([len(w.cvs) for w in windows]) / inefficiencies
    slow = np.flatnonzero(independent < LEAST_INDEPENDENT)
    if len(slow):
        some = ", ".join(windows[i].name for i in slow[:5]) + (" ..." if len(slow) > 5 else "")
        logger.warning(
            "%d of %d windows (%s) hold fewer than %d independent frames: they are short, or hop "
            "across a barrier that is steeper than the restraint; stiffen it or run longer",
            len(slow), len(windows), some, LEAST_INDEPENDENT,
        )  # fmt: skip


def _reweighted(changes: NDArray, log_weights: NDArray) -> NDArray[np.float64]:
    """Log weights of the replicates, in the place of their changes: these arrays are large."""
    for change in changes:
        change[:] = _normalised(change + log_weights)
    return changes


def _normalised(log_weights: NDArray) -> NDArray[np.float64]:
    """Log weights, along the last axis, of weights that add up to 1."""
    return log_weights - logsumexp(log_weights, axis=-1, keepdims=True)
