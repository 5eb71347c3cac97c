"""Free energies of weighted frames: profiles, surfaces, basins, and whether they have converged.

A free energy needs `WeightedSamples`: of umbrella windows (`openmm_cgan.windows.read_windows` reads
them) by `reweight_windows`, of one run that reaches everywhere by `reweight`, of generated
configurations by `reweight_generated`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import logsumexp

from openmm_cgan.collective_variable import CollectiveVariable
from openmm_cgan.free_energy.reweighting import reweight_windows
from openmm_cgan.free_energy.samples import (
    BiasedFrames,
    Estimate,
    WeightedSamples,
    cv_series,
    spread,
    statistical_inefficiency,
    terms_of_log_ratio,
)
from openmm_cgan.notebooks import free_energy_html
from openmm_cgan.quantities import numbers_of
from openmm_cgan.short_reprs import short_repr


@dataclass(frozen=True, repr=False)
class FreeEnergy:
    """A free energy on bins, its minimum at zero, NaN where there is no frame.

    Attributes
    ----------
    variables : tuple of CollectiveVariable
        One for a profile, two for a surface.
    centres : tuple of ndarray, shape (n_bins,)
        Bin centres along each variable [CV unit].
    free_energy, error : ndarray, shape (n_bins,) or (n_bins, n_bins)
        -kT ln of the probability density [kJ/mol] and its standard error, of bins of equal or
        unequal width.  The error is that of
        the logarithm of the probability itself, so it does not depend on where the zero lies. It
        is NaN where it is not known (a bin of one sample), and infinite in other parts than that
        of the zero.
    effective_samples : ndarray of the same shape, optional
        Kish's effective number of samples in each bin, over `WeightedSamples.inefficiencies`.
    part : ndarray of int of the same shape, optional
        Connected part of the windows that the frames of each bin come from, -1 where they come
        from several or there are none: differences inside a part hold, those across do not.
    """

    variables: tuple[CollectiveVariable, ...]
    centres: tuple[NDArray[np.float64], ...]
    free_energy: NDArray[np.float64]
    error: NDArray[np.float64]
    effective_samples: NDArray[np.float64] | None = None
    part: NDArray[np.int64] | None = None
    _repr_html_ = free_energy_html

    def __repr__(self) -> str:
        known = self.free_energy[np.isfinite(self.free_energy)]
        over = ", ".join(
            f"{v.name} {c[0]:.3g} to {c[-1]:.3g} {v.unit}".rstrip()
            for v, c in zip(self.variables, self.centres, strict=True)
        )
        height = f"up to {known.max():.3g} kJ/mol" if known.size else "nothing known"
        return f"FreeEnergy({over}; {height} in {known.size} of {self.free_energy.size} bins)"


@dataclass(frozen=True, repr=False)
class Convergence:
    """A quantity from the first and from the last part of every window.

    Attributes
    ----------
    fractions, forward, backward : ndarray, shape (n,)
        Fraction of the frames used; the value from the first and from the last of them.
    """

    fractions: NDArray[np.float64]
    forward: NDArray[np.float64]
    backward: NDArray[np.float64]

    __repr__ = short_repr


def free_energy_profile(
    samples: WeightedSamples, variable: int | str = 0, bins: int | ArrayLike = 72
) -> FreeEnergy:
    """Free energy along one CV.

    Parameters
    ----------
    samples : WeightedSamples
        From `reweight_windows` or `reweight`.
    variable : int or str
        Position or name of the CV.
    bins : int or array_like, shape (n_bins + 1,)
        Number of bins over the period (over the range of the frames where not periodic), or their
        edges [CV unit].

    Returns
    -------
    FreeEnergy
        Arrays of shape (n_bins,).

    Raises
    ------
    ValueError
        If there is no such CV, edges do not increase, exceed a period or hold no frame, or all
        frames have one value.
    """
    return _free_energy(samples, [samples.column(variable)], bins)


def free_energy_surface(
    samples: WeightedSamples,
    variables: Sequence[int | str] = (0, 1),
    bins: int | ArrayLike = 36,
) -> FreeEnergy:
    """Free energy over two CVs.

    Parameters
    ----------
    samples : WeightedSamples
        From `reweight_windows` or `reweight`.
    variables : sequence of int or str
        Positions or names of the two CVs.
    bins : int or array_like, shape (n_bins + 1,)
        For both CVs, as for `free_energy_profile`.

    Returns
    -------
    FreeEnergy
        Arrays of shape (n_bins, n_bins), the first CV along the first axis.

    Raises
    ------
    ValueError
        If these are not two CVs, or as for `free_energy_profile`.
    """
    if len(variables) != 2:
        raise ValueError(f"a surface needs 2 CVs, got {len(variables)}")
    return _free_energy(samples, [samples.column(v) for v in variables], bins)


def basin_difference(
    samples: WeightedSamples, in_basin: NDArray[np.bool_] | Callable[[NDArray], NDArray[np.bool_]]
) -> Estimate:
    """Free energy of a basin over that of the rest, -kT ln(P_in / P_out) [kJ/mol].

    Parameters
    ----------
    samples : WeightedSamples
        From `reweight_windows` or `reweight`.
    in_basin : callable or ndarray of bool, shape (n,)
        Which samples lie in the basin; a callable is given the CVs (n, n_cvs).

    Raises
    ------
    ValueError
        If shapes do not fit or all samples lie on one side.
    """
    inside = np.asarray(in_basin(samples.cvs) if callable(in_basin) else in_basin, dtype=bool)
    if inside.shape != samples.log_weights.shape:
        raise ValueError(f"in_basin has shape {inside.shape}, expected {samples.log_weights.shape}")
    if inside.all() or not inside.any():
        raise ValueError("all samples lie on one side of the basin's border; sample both")
    value = -samples.kT * _log_odds(samples.log_weights[None], inside)[0]
    error = samples.widened(
        spread(samples.kT * _log_odds(samples.replicates, inside)),
        samples.kT * terms_of_log_ratio(samples.log_weights, inside, ~inside),
    )
    return samples.judged(Estimate(float(value), error))


def convergence(
    windows: Sequence[BiasedFrames],
    observable: Callable[[WeightedSamples], float],
    fractions: Sequence[float] = (0.25, 0.5, 0.75, 1.0),
    max_samples: int = 100_000,
) -> Convergence:
    """An MBAR result from the first and from the last part of every window.

    Agreement at 0.5 is the check by halves; a trend with the fraction is relaxation not over.

    Parameters
    ----------
    windows : sequence of BiasedFrames
    observable : callable
        `WeightedSamples` to a number, such as ``lambda s: basin_difference(s, basin).value``.
    fractions : sequence of float
        Parts of the windows' time.
    max_samples : int
        As for `reweight_windows`.

    Returns
    -------
    Convergence
        Arrays of shape (n_fractions,).
    """
    values = np.array(
        [
            [
                observable(
                    reweight_windows(
                        [w.part(*part) for w in windows], n_bootstrap=0, max_samples=max_samples
                    )
                )
                for part in ((0.0, fraction), (1.0 - fraction, 1.0))
            ]
            for fraction in fractions
        ]
    )
    return Convergence(np.asarray(fractions, dtype=float), values[:, 0], values[:, 1])


def start_disagreement(
    first: Sequence[BiasedFrames], second: Sequence[BiasedFrames]
) -> NDArray[np.float64]:
    """How far the same windows differ when started from different places, in standard errors.

    Errors and halves can not show a coordinate that stayed where it began; another start can.
    More than about 5 means that a window has not forgotten its start: run it longer, stiffen its
    restraint, or leave it out.

    Parameters
    ----------
    first, second : sequence of BiasedFrames
        The windows from either start, in the same order.

    Returns
    -------
    ndarray, shape (n_windows,)
        Largest difference between the means of a CV (of its sine or cosine, where periodic).
    """
    differences = []
    for pair in zip(first, second, strict=True):
        means, variances = [], []
        for window in pair:
            series = np.stack(cv_series(window.cvs, window.variables))
            g = statistical_inefficiency(window.cvs, window.variables)
            means.append(series.mean(axis=1))
            variances.append(series.var(axis=1) * g / len(window.cvs))
        error = np.sqrt(variances[0] + variances[1])
        differences.append(np.max(np.abs(means[0] - means[1]) / np.maximum(error, 1e-12)))
    return np.array(differences)


def _free_energy(samples: WeightedSamples, columns: list[int], bins: int | ArrayLike) -> FreeEnergy:
    variables = tuple(samples.variables[c] for c in columns)
    edges = [_edges(samples.cvs[:, c], v, bins) for c, v in zip(columns, variables, strict=True)]
    shape = tuple(len(e) - 1 for e in edges)
    flat = np.zeros(len(samples.cvs), dtype=np.int64)
    inside = np.ones(len(samples.cvs), dtype=bool)
    for column, variable, edge, n in zip(columns, variables, edges, shape, strict=True):
        values = samples.cvs[:, column]
        if variable.period is not None:
            values = edge[0] + np.mod(values - edge[0], variable.period)
        index = np.searchsorted(edge, values, side="right") - 1
        index[values == edge[-1]] = n - 1
        inside &= (index >= 0) & (index < n)
        flat = flat * n + np.clip(index, 0, n - 1)
    if not inside.any():
        names = " and ".join(variable.name for variable in variables)
        raise ValueError(f"no frame lies within the bins of {names}: give edges in its unit")
    n_bins = int(np.prod(shape))
    flat = np.where(inside, flat, n_bins)  # outside: one bin more, which is dropped
    logs = _log_histogram(samples.log_weights[None], flat, n_bins)[0]
    kT = samples.kT
    part = _parts_of_bins(samples.sample_parts, flat, n_bins)
    densities = logs - _log_volumes(edges)
    zero = part[int(densities.argmax())]
    free_energy = np.where(np.isfinite(logs), kT * (densities.max() - densities), np.nan)
    error = kT * _spread_of_bins(samples, flat, part == zero)
    error[np.bincount(flat, minlength=n_bins + 1)[:-1] < 2] = np.nan  # one sample tells none
    if np.ptp(samples.sample_parts) > 0:
        error[(part != zero) | (part < 0)] = np.inf
    if samples.unknown:
        free_energy, error = np.full((2, n_bins), np.nan)
    centres = tuple(0.5 * (e[1:] + e[:-1]) for e in edges)
    squares = 2.0 * samples.log_weights + np.log(samples.inefficiencies[samples.window])
    squared = _log_histogram(squares[None], flat, n_bins)[0]
    effective = np.exp(2.0 * logs - np.where(np.isfinite(squared), squared, 0.0))
    return FreeEnergy(
        variables,
        centres,
        free_energy.reshape(shape),
        error.reshape(shape),
        effective.reshape(shape),
        part.reshape(shape),
    )


def _edges(values: NDArray, variable: CollectiveVariable, bins: int | ArrayLike) -> NDArray:
    if np.ndim(bins) > 0:
        edges = numbers_of(bins, "bins")
        if edges.ndim != 1 or len(edges) < 2 or not (np.diff(edges) > 0).all():
            raise ValueError("bin edges must increase and be 2 or more")
        if variable.period is not None and np.ptp(edges) > variable.period * (1 + 1e-6):
            raise ValueError(
                f"bin edges from {edges[0]:g} to {edges[-1]:g} are more than the period of "
                f"{variable.name}, {variable.period:.4g} {variable.unit}: give them in its unit"
            )
        return edges
    if not isinstance(bins, int | np.integer) or bins < 1:
        raise ValueError(f"bins is {bins!r}, expected a number of bins, 1 or more, or their edges")
    lower, upper = variable.domain or (float(values.min()), float(values.max()))
    if not upper > lower:
        raise ValueError(f"{variable.name} has the one value {lower}; give bin edges")
    return np.linspace(lower, upper, int(bins) + 1)


def _log_volumes(edges: Sequence[NDArray]) -> NDArray[np.float64]:
    """Logarithm of each bin's width or area over that of the largest, shape (n_bins,)."""
    logs = [np.log(np.diff(edge)) for edge in edges]
    whole = logs[0] if len(logs) == 1 else np.add.outer(*logs).ravel()
    return np.asarray(whole - whole.max())


def _parts_of_bins(parts: NDArray, flat: NDArray, n_bins: int) -> NDArray[np.int64]:
    """Connected part of the samples of each bin, -1 where there are several or none."""
    lowest = np.full(n_bins + 1, parts.max() + 1)
    highest = np.full(n_bins + 1, -1)
    np.minimum.at(lowest, flat, parts)
    np.maximum.at(highest, flat, parts)
    return np.where(lowest == highest, lowest, -1)[:-1]


def _spread_of_bins(samples: WeightedSamples, flat: NDArray, of_zero: NDArray) -> NDArray:
    """Spread of the logarithm of each bin's probability within the part of the zero, (n_bins,)."""
    replicates, n_bins = samples.replicates, len(of_zero)
    if np.ptp(samples.sample_parts) > 0:
        whole = logsumexp(replicates[:, np.append(of_zero, False)[flat]], axis=1, keepdims=True)
        with np.errstate(invalid="ignore"):  # a replicate that drew nothing of the part
            replicates = replicates - whole
    logs = _log_histogram(replicates, flat, n_bins)
    errors, weights = np.array([spread(column) for column in logs.T]), np.exp(samples.log_weights)
    probabilities = np.bincount(flat, weights, n_bins + 1)
    for i in np.flatnonzero(np.isfinite(errors) & (probabilities[:-1] > 0)):
        inside = flat == i
        around = np.bincount(samples.window, inside)[samples.window] > 0
        terms = np.where(around, weights * (inside / probabilities[i] - 1.0), 0.0)
        errors[i] = samples.widened(errors[i], terms)
    return errors


def _log_histogram(log_weights: NDArray, flat: NDArray, n_bins: int) -> NDArray[np.float64]:
    """Logarithm of each bin's weight, one row for each row of log weights.

    Each bin is measured from its largest weight, so that none vanishes beside another's.
    """
    order = np.argsort(flat, kind="stable")
    starts = np.flatnonzero(np.diff(flat[order], prepend=-1))
    lengths = np.diff(np.append(starts, len(flat)))
    logs = np.full((len(log_weights), n_bins + 1), -np.inf)
    with np.errstate(divide="ignore", invalid="ignore"):
        for found, row in zip(logs, log_weights, strict=True):
            largest = np.maximum.reduceat(row[order], starts)
            largest = np.where(np.isneginf(largest), 0.0, largest)
            sums = np.add.reduceat(np.exp(row[order] - np.repeat(largest, lengths)), starts)
            found[flat[order][starts]] = largest + np.log(sums)
    return logs[:, :-1]


def _log_odds(log_weights: NDArray, inside: NDArray) -> NDArray[np.float64]:
    """ln(P_in / P_out) of each row; not finite where a replicate drew one side only."""
    within, without = (logsumexp(log_weights[:, side], axis=1) for side in (inside, ~inside))
    with np.errstate(invalid="ignore"):
        return np.asarray(within - without)
