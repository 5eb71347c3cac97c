"""Frames with a bias, and frames with the weights that undo it: the records of free energies.

Every route ends in one record, `WeightedSamples`: frames with the logarithms of the weights that
undo their bias, and replicates of those weights.  A free energy or an average is a sum over
frames, and its error the spread of the same sum over the replicates.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import logsumexp

from openmm_cgan import GAS_CONSTANT
from openmm_cgan.collective_variable import (
    CollectiveVariable,
    require_own_names,
    why_other_cvs,
)
from openmm_cgan.free_energy.in_time import series_inefficiency, variance_of_slow
from openmm_cgan.quantities import numbers_of, positive
from openmm_cgan.short_reprs import cv_ranges

BiasFunction = Callable[[NDArray], NDArray]  # CVs (n, n_cvs) to bias energies (n,) [kJ/mol]


@dataclass(frozen=True, repr=False)
class BiasedFrames:
    """The frames of one window in the order of time, with the bias they were made under.

    Parameters
    ----------
    cvs : ndarray, shape (n_frames, n_cvs)
        CV values [CV unit].
    bias : callable
        CV values (n, n_cvs) to bias energies (n,) [kJ/mol].
    temperature : float or Quantity
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

    def __post_init__(self) -> None:
        object.__setattr__(self, "temperature", positive(self.temperature, "K", "temperature"))
        object.__setattr__(self, "cvs", numbers_of(self.cvs, "cvs"))
        require_own_names(self.variables)

    def __repr__(self) -> str:
        cvs = cv_ranges(self.variables, self.cvs)
        name = f"{self.name}: " if self.name else ""
        return f"BiasedFrames({name}{len(self.cvs)} frames; {cvs}; {self.temperature:g} K)"

    def part(self, start: float, stop: float) -> BiasedFrames:
        """The frames between two fractions of the window's time."""
        n = len(self.cvs)
        cvs = self.cvs[round(start * n) : round(stop * n)]
        return BiasedFrames(cvs, self.bias, self.temperature, self.variables, self.name)


class Estimate(NamedTuple):
    """A value with its standard error."""

    value: float
    error: float


@dataclass(frozen=True, repr=False)
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
        Statistical inefficiency of each window's samples as kept (1: independent), of their CVs as
        they came, whatever they weigh. Numbers of effective samples of a bin or near a value divide
        by it: under a growing bias they are too few rather than too many (`worth_in_time`).
    overlap : ndarray, shape (n_states, n_states)
        MBAR's overlap matrix of the distinct biases; rows add up to 1.
    parts : ndarray of int, shape (n_windows,), optional
        Connected part that each window belongs to; one part if omitted. The weight of one part
        over another is not known: errors across are infinite.
    k_hat : float
        Pareto's k of importance weights; NaN where there are none (windows alone).
    unknown : str
        Why these weights tell no number: averages and free energies are then NaN; else empty.
    worth : float
        Effective number of samples where it was looked at in time (`worth_in_time`); else NaN.
    timeless : tuple of int
        Windows whose samples have no order in time: generated ones.
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
    parts: NDArray[np.int64] | None = None
    k_hat: float = float("nan")
    unknown: str = ""
    worth: float = float("nan")
    timeless: tuple[int, ...] = ()

    def __repr__(self) -> str:
        worth = self.unknown or f"worth {self.effective_samples:.3g}"
        cvs, windows = cv_ranges(self.variables, self.cvs), len(self.inefficiencies)
        size = f"{len(self.cvs)} of {windows} windows, {worth}"
        return f"WeightedSamples({size}; {cvs}; {self.temperature:g} K)"

    @property
    def sample_parts(self) -> NDArray[np.int64]:
        """Connected part of each sample, shape (n,)."""
        parts = np.zeros(len(self.inefficiencies), dtype=np.int64)
        return (parts if self.parts is None else self.parts)[self.window]

    def judged(self, estimate: Estimate) -> Estimate:
        """An estimate from all samples: NaN where unknown, of infinite error across a gap."""
        if self.unknown:
            return Estimate(float("nan"), float("nan"))
        if self.parts is not None and np.ptp(self.parts) > 0:
            return Estimate(estimate.value, float("inf"))
        return estimate

    @property
    def kT(self) -> float:
        """Thermal energy [kJ/mol]."""
        return GAS_CONSTANT * self.temperature

    @property
    def effective_samples(self) -> float:
        """Effective number of samples: `worth`, or Kish's over the inefficiencies of windows."""
        if np.isfinite(self.worth):
            return self.worth
        weights = np.exp(self.log_weights)
        return float(1.0 / (weights**2 * self.inefficiencies[self.window]).sum())

    def select(self, rows: NDArray[np.intp]) -> WeightedSamples:
        """Some of the samples; weights add up to 1 again, NaN in a replicate that drew none."""
        with np.errstate(invalid="ignore"):  # -inf less -inf
            replicates = normalised(self.replicates[:, rows])
        return replace(
            self,
            cvs=self.cvs[rows],
            log_weights=normalised(self.log_weights[rows]),
            replicates=replicates,
            window=self.window[rows],
            frame=self.frame[rows],
            worth=float("nan"),
        )

    def average(self, values: ArrayLike) -> Estimate:
        """Unbiased average of a quantity.

        Parameters
        ----------
        values : array_like, shape (n,)
            The quantity of each sample [any unit].

        Returns
        -------
        Estimate
            [the same unit]; see `judged` and `widened`.
        """
        values, weights = np.asarray(values, dtype=float), np.exp(self.log_weights)
        mean, means = float(weights @ values), np.exp(self.replicates) @ values
        error = self.widened(spread(means), weights * (values - mean))
        return self.judged(Estimate(mean, error))

    def widened(self, error: float, terms: NDArray[np.float64]) -> float:
        """An error that is no less than what a sum that forgets more slowly than the CVs has.

        Parameters
        ----------
        error : float
            The spread of its replicates.
        terms : ndarray, shape (n,)
            How much each sample moves the result, weights included.
        """
        slow = variance_of_slow(terms, self.window, self.inefficiencies, self.timeless)
        return float(np.maximum(error, np.sqrt(slow)))  # NaN stays

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


def unbiased(cvs: NDArray) -> NDArray[np.float64]:
    """Bias of a run without bias: zeros [kJ/mol], shape (n,), at CV values of shape (n, n_cvs)."""
    return np.zeros(len(cvs))


def cv_series(cvs: NDArray, variables: Sequence[CollectiveVariable]) -> list[NDArray[np.float64]]:
    """One series for each CV; its cosine and its sine where it is periodic.

    Parameters
    ----------
    cvs : ndarray, shape (n_frames, n_cvs)
        In the order of time [CV unit].
    variables : sequence of CollectiveVariable
        Say which are periodic; those not given are not.

    Returns
    -------
    list of ndarray, shape (n_frames,)
    """
    series = []
    for i, values in enumerate(np.asarray(cvs, dtype=float).T):
        period = variables[i].period if i < len(variables) else None
        angle = None if period is None else 2.0 * np.pi * values / period
        series += [values] if angle is None else [np.cos(angle), np.sin(angle)]
    return series


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
    return max([1.0, *map(series_inefficiency, cv_series(cvs, variables))])


def spread(values: NDArray) -> float:
    """Standard deviation of replicates; NaN where a tenth or more of them found nothing.

    Parameters
    ----------
    values : ndarray, shape (n_bootstrap,)
        One for each replicate, not finite where it found nothing.
    """
    finite = values[np.isfinite(values)]
    if len(finite) < 2 or len(finite) < 0.9 * len(values):
        return float("nan")
    return float(finite.std(ddof=1))


def normalised(log_weights: NDArray) -> NDArray[np.float64]:
    """Log weights of weights that add up to 1.

    Parameters
    ----------
    log_weights : ndarray, shape (..., n)
        Up to a constant along the last axis; one of them finite at least.

    Returns
    -------
    ndarray, the same shape
    """
    return log_weights - logsumexp(log_weights, axis=-1, keepdims=True)


def terms_of_log_ratio(log_weights: NDArray, first: NDArray, second: NDArray) -> NDArray:
    """How much each sample (n,) moves ln(P_first / P_second) of two masks of samples."""
    return np.asarray(
        sum(
            sign * np.where(side, np.exp(log_weights - logsumexp(log_weights[side])), 0.0)
            for sign, side in ((1.0, first), (-1.0, second))
        )
    )


def titles_of(windows: Sequence[BiasedFrames]) -> list[str]:
    """Names of windows for messages; the number, from 0, of one that has none."""
    return [window.name or f"number {i}" for i, window in enumerate(windows)]


def check_windows(windows: Sequence[BiasedFrames]) -> None:
    """Refuse windows that do not belong together or are empty.

    Raises
    ------
    ValueError
        If there is none, CVs are not of shape (n_frames, n_cvs) with a frame at least and all of
        them finite, or names, units or periods of CVs or temperatures differ; if two are the same
        frames.
    """
    if not windows:
        raise ValueError("no window to reweigh")
    first = windows[0]
    for title, window in zip(titles_of(windows), windows, strict=True):
        if window.cvs.ndim != 2 or len(window.cvs) == 0:
            raise ValueError(
                f"window {title!r} has CVs of shape {window.cvs.shape}, "
                "expected (n_frames, n_cvs) with at least one frame"
            )
        if not np.isfinite(window.cvs).all():
            raise ValueError(f"window {title!r} has CV values that are not finite")
        names = [v.name for v in window.variables]
        if names != [v.name for v in first.variables] or len(names) != window.cvs.shape[1]:
            raise ValueError(
                f"window {title!r} has the CVs {names} in {window.cvs.shape[1]} columns, "
                f"the first one {[v.name for v in first.variables]}"
            )
        if why := why_other_cvs(first.variables, window.variables):
            raise ValueError(f"window {title!r} has another CV than the first one: {why}")
        _require_same_cvs(first, window, title)
        if abs(window.temperature - first.temperature) > 1e-6:
            raise ValueError(
                f"window {title!r} is at {window.temperature} K, the first at "
                f"{first.temperature} K; join windows of one temperature"
            )
    _require_own_frames(windows)


def _require_own_frames(windows: Sequence[BiasedFrames]) -> None:
    """Refuse frames that stand twice, by another name: a copy tells nothing new."""
    found: dict[bytes, int] = {}
    titles = titles_of(windows)
    for i, window in enumerate(windows):
        one = found.setdefault(window.cvs.tobytes(), i)
        if one < i and (window.cvs != window.cvs[0]).any():
            raise ValueError(
                f"windows {titles[one]!r} and {titles[i]!r} are the same {len(window.cvs)} frames, "
                "which would count twice: give one of them, or the second a seed of its own"
            )


def _require_same_cvs(first: BiasedFrames, window: BiasedFrames, title: str) -> None:
    """Refuse CVs of one name in other units, or with another period: nm and A, rad and degrees."""
    for one, two in zip(first.variables, window.variables, strict=True):
        apart = one.unit != two.unit if one.unit and two.unit else False
        if one.period is None or two.period is None:
            apart |= one.period != two.period
        else:
            apart |= abs(one.period - two.period) > 1e-4 * one.period
        if apart:
            told = [
                f"{v.unit or 'no unit'}, " + ("not periodic" if v.period is None else
                f"period {v.period:.6g}") for v in (one, two)
            ]  # fmt: skip
            raise ValueError(
                f"window {title!r} has {one.name} in another way ({told[1]}) than the first one "
                f"({told[0]}): give all in one unit and domain"
            )
