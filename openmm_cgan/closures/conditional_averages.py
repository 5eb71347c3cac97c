"""Averages over p(x | xi = z): the closures of whatever is asked of the fast variables.

`WeightedSamples` say how much each frame counts, whether frames of biased runs joined by MBAR, or
generated configurations with importance weights, or both; errors come from their replicates, which
know of correlation in time.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from tqdm.auto import tqdm

from openmm_cgan.closures.local_polynomial import (
    LEAST_EFFECTIVE,
    Neighbourhood,
    fitted_at,
    levelled,
    n_coefficients,
    neighbourhood,
)
from openmm_cgan.closures.slow_values import widening
from openmm_cgan.free_energy.samples import WeightedSamples, spread
from openmm_cgan.quantities import numbers_of
from openmm_cgan.short_reprs import short_repr

logger = logging.getLogger("openmm_cgan")

NARROWEST, WIDEST, STEPS = 0.005, 0.25, 12  # bandwidths that are tried, parts of the range of CVs
KNOWN = 0.9  # of the values that the widest bandwidth knows, a narrower one must
NARROWER = 2**-0.5  # bandwidth with which what is left of smearing is measured
AGREEMENT = 2.5  # standard errors of the difference by which a wider bandwidth may differ
NORMAL_MEDIAN = 0.4549  # of the square of a standard normal number
DEGREES = (0, 1, 2, 3)  # of the local polynomial
ENOUGH_REPLICATES = 40  # to choose a bandwidth by
ENOUGH_VALUES = 25  # of one CV, likewise
MOST_VALUES = 64  # likewise: more would cost time and tell little


@dataclass(frozen=True)
class ConditionalAverage:
    """An average at values of the CVs, with its error.

    Attributes
    ----------
    at : ndarray, shape (m, k)
        Values of the CVs [CV unit].
    value, error : ndarray, shape (m, ...)
        NaN where too few frames are near, or fewer than five effective ones on one side of the
        value along a CV: nothing is extrapolated.
    smearing : ndarray, shape (m, ...)
        What the width of the kernel may have left, beyond what is noise: from the change to a
        narrower one, root mean square over values within two bandwidths. It is part of the error.
    replicates : ndarray, shape (n_bootstrap, m, ...)
        The value from each replicate of the frames, moved at random by the smearing: for errors of
        what is made of it.
    effective_samples : ndarray, shape (m,)
        Kish's number of frames that an average comes from, correlated ones counted once, by
        `WeightedSamples.inefficiencies`.
    bandwidth : ndarray, shape (k,)
        Frames as far as this from a value count for it [CV unit].
    """

    at: NDArray[np.float64]
    value: NDArray[np.float64]
    error: NDArray[np.float64]
    smearing: NDArray[np.float64]
    replicates: NDArray[np.float64]
    effective_samples: NDArray[np.float64]
    bandwidth: NDArray[np.float64]

    __repr__ = short_repr

    @property
    def unknown(self) -> int:
        """Number of values of the CVs at which nothing is known."""
        return int(np.isnan(self.value.reshape(len(self.value), -1)).any(1).sum())


def conditional_average(
    samples: WeightedSamples,
    values: ArrayLike,
    at: ArrayLike,
    bandwidth: ArrayLike | None = None,
    degree: int = 2,
    seed: int = 0,
) -> ConditionalAverage:
    """Average of a quantity over the configurations at values of the CVs.

    Parameters
    ----------
    samples : WeightedSamples
        From `reweight_windows`, `reweight`, `reweight_generated` or `reweight_with_generated`.
    values : array_like, shape (n, ...)
        The quantity at each sample (``samples.window`` and ``samples.frame`` say which frames
        those are; `of_samples` takes them from windows).
    at : array_like, shape (m, k) or (m,) for one CV
        Values of the CVs [CV unit].
    bandwidth : array_like, shape (k,) or a number, optional
        Frames as far as this count [CV unit]; if omitted, see `choose_bandwidth`.
    degree : int
        Of the local polynomial: 0 is an average in a window, 1 local-linear, 2 local-quadratic.
    seed : int
        Of how smearing moves the replicates: another for each of several quantities of the same
        samples, whose errors of that kind are then independent.

    Returns
    -------
    ConditionalAverage

    Raises
    ------
    ValueError
        If shapes do not fit, values are not finite, or the samples say nothing (`unknown`).
    """
    values, at = _checked_values(samples, values), checked_points(samples, at)
    _require_degree(degree)
    flat = values.reshape(len(values), -1)
    if bandwidth is None:
        bandwidth = choose_bandwidth(samples, values, at, degree)
    widths = checked_widths(samples, bandwidth)
    relative = relative_weights(samples)
    rows, effective = _averages(samples, relative, flat, at, widths, degree, last=True)
    few = relative[: 1 + ENOUGH_REPLICATES]
    narrow, _ = _averages(samples, few, flat, at, NARROWER * widths, degree)
    left = _smearing(samples, rows[: len(narrow)] - narrow, at, widths, degree)
    replicates = rows[1:] + left * _random_fields(samples, at, widths, rows[1:].shape, seed)
    error = np.array([[spread(r) for r in column] for column in replicates.transpose(1, 2, 0)])
    shape = (len(at), *values.shape[1:])
    found = ConditionalAverage(
        at,
        rows[0].reshape(shape),
        error.reshape(shape),
        left.reshape(shape),
        replicates.reshape(-1, *shape),
        effective,
        widths,
    )
    if found.unknown:
        logger.warning(
            "nothing is said at %d of %d values of the CVs: fewer than %g effective frames within "
            "%s of them, fewer than %g on one side, or from windows that do not overlap",
            found.unknown, len(at), LEAST_EFFECTIVE * n_coefficients(at.shape[1], degree),
            widths.round(4).tolist(), LEAST_EFFECTIVE
        )  # fmt: skip
    return found


def choose_bandwidth(
    samples: WeightedSamples, values: ArrayLike, at: ArrayLike, degree: int = 2
) -> NDArray[np.float64]:
    """The widest bandwidth that is free of bias as far as the frames can tell.

    Widths from 0.5 to 25 % of each CV's range over `at` are tried, or of the samples' range where
    so little is too narrow to know anything, from the narrowest on that knows nine in ten of the
    values that the widest knows. The widest is taken whose averages, and those
    of all narrower ones, differ from each narrower one by no more than 2.5 standard errors of the
    difference, as the median over values (64 of them at most) and quantities has it (O. Lepski's
    rule: Theory Probab. Appl. 35, 454 (1991), doi 10.1137/1135065); and one step less.

    Parameters
    ----------
    samples, values, at, degree
        As of `conditional_average`.

    Returns
    -------
    ndarray, shape (k,)
        [CV unit]

    Raises
    ------
    ValueError
        As of `conditional_average`; if no width finds enough frames anywhere.
    """
    values, at = _checked_values(samples, values), checked_points(samples, at)
    _require_degree(degree)
    flat = values.reshape(len(values), -1)
    period = [v.period for v in samples.variables]
    extent = np.array([p or np.ptp(c) for p, c in zip(period, at.T, strict=True)])
    extent[extent == 0] = np.array([np.ptp(c) for c in samples.cvs.T])[extent == 0]
    if not (extent > 0).all():
        raise ValueError("all samples have the same value of a CV: there is nothing around it")
    if at.shape[1] == 1 and len(at) < ENOUGH_VALUES:
        at = np.linspace(at.min(), at.min() + extent, ENOUGH_VALUES)
    if len(at) > MOST_VALUES:
        at = at[np.sort(np.random.default_rng(0).permutation(len(at))[:MOST_VALUES])]
    parts = np.geomspace(NARROWEST, WIDEST, STEPS)
    relative = relative_weights(samples)[: 1 + ENOUGH_REPLICATES]
    own, whole = extent, np.maximum(extent, np.ptp(samples.cvs, axis=0))
    for extent in (own, whole):
        tried = [_averages(samples, relative, flat, at, part * extent, degree)[0] for part in parts]
        known = np.array([np.isfinite(rows[0]).all(-1).sum() for rows in tried])
        if known[-1] > 0:
            break
    else:
        raise ValueError(
            f"no bandwidth up to {WIDEST * whole} finds enough frames near any of the {len(at)} "
            "values of the CVs; ask where frames are, or give more frames"
        )
    first = int(np.argmax(known >= KNOWN * known[-1]))
    best = first
    for wider in range(first + 1, STEPS):
        if any(_disagreement(tried[wider], rows) > AGREEMENT for rows in tried[first:wider]):
            break
        best = wider
    return np.asarray(extent * parts[max(first, best - 1)])


def _smearing(
    samples: WeightedSamples, change: NDArray, at: NDArray, widths: NDArray, degree: int
) -> NDArray[np.float64]:
    """What smearing leaves (m, n_values), from the change to a narrower kernel and its replicates.

    It grows with the second power of the width above the degree where that is even.
    """
    errors = change[1:].std(axis=0, ddof=1) if len(change) > 2 else np.zeros(change.shape[1:])
    beyond = change[0] ** 2 - errors**2
    far = np.stack([v.difference(at[:, None, i], at[None, :, i]) / widths[i]
                    for i, v in enumerate(samples.variables)])  # fmt: skip
    near = (np.abs(far) <= 2.0).all(0)
    known = np.isfinite(beyond)
    pooled = near @ np.where(known, beyond, 0.0) / np.maximum(near @ known.astype(float), 1.0)
    share = 1.0 - NARROWER ** (degree + 2 - degree % 2)
    return np.sqrt(np.maximum(pooled, 0.0)) / share


def _random_fields(
    samples: WeightedSamples, at: NDArray, widths: NDArray, shape: tuple[int, ...], seed: int
) -> NDArray[np.float64]:
    """Gaussian fields of variance 1 on values of the CVs, shape (n_bootstrap, m, n_values).

    They change over two bandwidths and are second derivatives, as what smearing leaves is: a
    symmetric kernel flattens what is curved and keeps what is averaged over more than its width,
    so that nothing adds up where they are integrated.
    """
    k = at.shape[1]
    far = sum(
        (v.difference(at[:, None, i], at[None, :, i]) / (2.0 * widths[i])) ** 2
        for i, v in enumerate(samples.variables)
    )
    # of the Laplacian of a field whose correlation is that exponential alone
    likeness = (1.0 - 2.0 * far / k + far**2 / (k * (k + 2))) * np.exp(-0.5 * far)
    strengths, modes = np.linalg.eigh(likeness)
    # the symmetric root, which has no choice of signs as the modes have
    roots = modes * np.sqrt(np.maximum(strengths, 0.0)) @ modes.T
    normal = np.random.default_rng(seed).normal(size=(shape[0], shape[2], shape[1]))
    return np.asarray((normal @ roots.T).transpose(0, 2, 1))


def relative_weights(samples: WeightedSamples) -> NDArray[np.float64]:
    """Weight of each sample in each replicate over its own, (1 + n_bootstrap, n); ones first.

    Those of one sample lie together in memory, as `weights_near` takes them.
    """
    own = np.where(np.isfinite(samples.log_weights), samples.log_weights, 0.0)
    rows = np.concatenate([np.ones((1, len(own))), np.exp(samples.replicates - own)])
    return np.asfortranarray(rows)


def weights_near(
    samples: WeightedSamples, relative: NDArray[np.float64], rows: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Weights of some samples in all replicates, (1 + n_bootstrap, n_rows), up to one factor."""
    logs = samples.log_weights[rows]
    found = relative.T[rows]
    found *= np.exp(logs - logs.max())[:, None]
    return found.T


def median_in_errors(differences: NDArray, errors: NDArray) -> float:
    """Root mean square of differences (n,) in their standard errors (n,), as the median has it.

    Few that are far off, where errors are known badly, do not count more than others.
    """
    return float(np.sqrt(np.median((differences / errors) ** 2) / NORMAL_MEDIAN))


def _disagreement(rows: NDArray, narrower: NDArray) -> float:
    """Difference of two estimates in standard errors of the difference: median over all values."""
    difference = rows - narrower
    known = np.isfinite(difference).all(0)
    if len(rows) < 3 or not known.any():
        return 0.0
    errors = difference[1:, known].std(axis=0, ddof=1)
    told = errors > 0
    return median_in_errors(difference[0, known][told], errors[told]) if told.any() else 0.0


def _averages(
    samples: WeightedSamples,
    relative: NDArray[np.float64],
    flat: NDArray[np.float64],
    at: NDArray[np.float64],
    widths: NDArray[np.float64],
    degree: int,
    last: bool = False,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Averages (1 + n_bootstrap, m, n_values), replicates last, and effective numbers (m,).

    The last ones know how fast the values forget, which takes time.
    """
    needed = LEAST_EFFECTIVE * n_coefficients(at.shape[1], degree)
    rows = np.full((len(relative), len(at), flat.shape[1]), np.nan)
    effective = np.zeros(len(at))
    points = tqdm(at, desc="conditional averages", disable=None, leave=False)
    for j, z in enumerate(points):
        near = neighbourhood(samples.cvs, samples.variables, z, widths)
        if not (near.surrounds and of_one_part(samples, near)):
            continue
        weights = levelled(near, weights_near(samples, relative, near.rows))
        effective[j] = _effective(samples, near, weights[0])
        if effective[j] >= needed and _between(samples, near, weights[0]):
            rows[:, j] = fitted_at(near, flat[near.rows], weights, degree)
            if last:
                own = widening(samples, near, flat[near.rows], weights)
                rows[1:, j] = rows[0, j] + own * (rows[1:, j] - rows[0, j])
    return rows, effective


def _effective(samples: WeightedSamples, near: Neighbourhood, weights: NDArray) -> float:
    own = weights * near.kernel
    squares = (own**2 * samples.inefficiencies[samples.window[near.rows]]).sum()
    return float(own.sum() ** 2 / squares) if squares > 0 else 0.0


def _between(samples: WeightedSamples, near: Neighbourhood, weights: NDArray) -> bool:
    """Whether enough frames lie on either side along each CV: a fit to others extrapolates."""
    found = (_effective(samples, near, weights * side) for side in near.sides)
    return all(number >= LEAST_EFFECTIVE for number in found)


def of_one_part(samples: WeightedSamples, near: Neighbourhood) -> bool:
    """Whether the weights of frames near a value are known relative to each other."""
    return samples.parts is None or int(np.ptp(samples.sample_parts[near.rows])) == 0


def checked_points(samples: WeightedSamples, at: ArrayLike) -> NDArray[np.float64]:
    """Values of the CVs at which samples are asked, shape (m, k).

    Raises
    ------
    ValueError
        If they have another shape, are not finite, or the samples say nothing.
    """
    if samples.unknown:
        raise ValueError(f"{samples.unknown}: no average can be told")
    points, k = numbers_of(at, "values of the CVs"), samples.cvs.shape[1]
    if points.ndim == 1 and k == 1:
        points = points[:, None]
    if points.ndim != 2 or points.shape[1] != k or len(points) == 0:
        raise ValueError(f"values of the CVs have shape {points.shape}; expected (m, {k})")
    if not np.isfinite(points).all():
        row = int(np.flatnonzero(~np.isfinite(points).all(1))[0])
        raise ValueError(f"value {row} of the CVs is {points[row].tolist()}; expected numbers")
    return points


def checked_widths(samples: WeightedSamples, bandwidth: ArrayLike) -> NDArray[np.float64]:
    """A width along each CV, shape (k,).

    Raises
    ------
    ValueError
        If there are others than one or k, or they are not positive.
    """
    k = samples.cvs.shape[1]
    widths = numbers_of(bandwidth, "bandwidth")
    if widths.shape not in ((), (1,), (k,)) or not (np.isfinite(widths) & (widths > 0)).all():
        raise ValueError(
            f"the bandwidth is {widths.tolist()}; expected {k} positive widths, or one"
        )
    return np.broadcast_to(widths, (k,)).copy()


def _require_degree(degree: int) -> None:
    if degree not in DEGREES:
        raise ValueError(f"degree is {degree}; expected one of {DEGREES}")


def _checked_values(samples: WeightedSamples, values: ArrayLike) -> NDArray[np.float64]:
    rows, n = np.asarray(values, dtype=float), len(samples.cvs)
    if rows.ndim == 0 or len(rows) != n or rows.size == 0:
        raise ValueError(
            f"the quantity has shape {rows.shape}; expected (n, ...), one for each of {n} samples "
            "(`of_samples` takes them from those of all frames)"
        )
    finite = np.isfinite(rows.reshape(n, -1)).all(1)
    if not finite.all():
        row = int(np.flatnonzero(~finite)[0])
        raise ValueError(
            f"the quantity is not finite in {int((~finite).sum())} of {n} samples, first in sample "
            f"{row}: frame {samples.frame[row]} of window {samples.window[row]}"
        )
    return rows
