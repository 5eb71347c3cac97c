"""How much weighted frames are worth, by how their weighted mean wanders in time."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from openmm_cgan.collective_variable import CollectiveVariable
from openmm_cgan.free_energy.in_time import series_inefficiency
from openmm_cgan.free_energy.samples import cv_series


def worth_in_time(
    runs: Sequence[NDArray], log_weights: NDArray, variables: Sequence[CollectiveVariable]
) -> float:
    """How many independent samples weighted frames are worth: for the mean of the worst known CV.

    The variance of a weighted mean m of x is that of the sum of w (x - m), a series in time whose
    own inefficiency g counts: the worth is the variance of x under the weights over the sum of
    g w^2 (x - m)^2. With equal weights that is n / g, for independent frames about Kish's number.
    Kish's number over the inefficiency of x, which knows nothing of the weights, is far less where
    a bias spreads frames over what weighs nothing: a metadynamics forgets where it was in the basin
    that counts much sooner than where it was on the whole.

    Parameters
    ----------
    runs : sequence of ndarray, shape (n_frames, n_cvs)
        CVs in the order of time [CV unit].
    log_weights : ndarray, shape (n,)
        Of all frames, one run after another; weights that add up to 1.
    variables : sequence of CollectiveVariable
        Say which are periodic; their sine and cosine are looked at.

    References
    ----------
    The delta method for a ratio of means, as in Geyer, doi 10.1214/ss/1177011137.
    """
    weights = np.exp(log_weights)
    ends = np.cumsum([len(run) for run in runs])[:-1]
    found = []
    for x in cv_series(np.concatenate(runs), variables):
        off = x - weights @ x
        squares = [series_inefficiency(y) * (y @ y) for y in np.split(weights * off, ends)]
        if sum(squares) > 0:
            found.append(weights @ off**2 / sum(squares))
    return float(min(found, default=1.0 / (weights @ weights)))
