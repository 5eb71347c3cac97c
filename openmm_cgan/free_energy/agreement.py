"""Whether runs that each should have reached everywhere tell the same.

Errors inside a run are of what it has seen. Two walkers that each stayed in a well of their own say
of the free energy between these wells only how many frames each of them has.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.special import fdtri

from openmm_cgan.collective_variable import CollectiveVariable
from openmm_cgan.free_energy.in_time import series_inefficiency
from openmm_cgan.free_energy.samples import cv_series

SURE = 1e-3  # the chance that runs of one ensemble are taken for others, for each series


def runs_disagree(
    runs: Sequence[NDArray], log_weights: NDArray, variables: Sequence[CollectiveVariable]
) -> bool:
    """Whether the weighted means of a CV differ between runs by more than their errors tell.

    Cochran's Q, the sum over runs of the squared distance of their means in standard errors, held
    against an F distribution, because the errors are themselves of few independent frames.

    Parameters
    ----------
    runs : sequence of ndarray, shape (n_frames, n_cvs)
        CVs in the order of time [CV unit]. Runs of fewer than three frames are left aside.
    log_weights : ndarray, shape (n,)
        Of all frames, one run after another.
    variables : sequence of CollectiveVariable
        Say which are periodic; their sine and cosine are looked at.

    References
    ----------
    Cochran, doi 10.2307/3001666; Welch, doi 10.1093/biomet/38.3-4.330.
    """
    ends = np.cumsum([len(run) for run in runs])[:-1]
    parts = zip(runs, np.split(log_weights, ends), strict=True)
    told = [(run, np.exp(logs - logs.max())) for run, logs in parts if len(run) > 2]
    if len(told) < 2:
        return False
    of_runs = [[_mean(x, w) for x in cv_series(run, variables)] for run, w in told]
    return any(_differ(np.array(means)) for means in zip(*of_runs, strict=True))


def _mean(x: NDArray, weights: NDArray) -> tuple[float, float, float]:
    """Weighted mean of a series, its variance, and how many independent frames tell that."""
    weights = weights / weights.sum()
    mean = float(weights @ x)
    terms = weights * (x - mean)
    g = series_inefficiency(terms)
    return mean, g * float(terms @ terms), len(x) / g


def _differ(found: NDArray) -> bool:
    """Whether means differ; rows of `_mean`."""
    means, variances, independent = found.T
    exact = variances <= 1e-24 * (means**2 + variances)
    if exact.any():  # constant in a run: no error is known there, and none is thought of
        means, variances, independent = found[~exact].T
    if len(means) < 2:
        return False
    weights = 1 / variances
    q = float(weights @ (means - weights @ means / weights.sum()) ** 2)
    others = len(means) - 1
    freedom = max(1.0, float((independent - 1).min()) * len(means))
    return q / others > float(fdtri(others, freedom, 1 - SURE))
