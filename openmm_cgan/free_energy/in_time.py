"""How fast a series forgets, and errors of what forgets more slowly than the CVs do.

Replicates draw blocks of frames that are long beside the memory of the CVs. A quantity that
remembers longer, as one of a hidden coordinate does, would pass for known much better than it is.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from openmm_cgan.free_energy.mbar import pymbar_quietly

SLOWER = 1.5  # times the inefficiency of the CVs: less is how far such numbers scatter


def series_inefficiency(series: NDArray[np.float64]) -> float:
    """Of one series in the order of time, shape (n,); 1 where it is constant or very short."""
    if len(series) <= 3 or np.ptp(series) <= 1e-12 * np.abs(series).max():
        return 1.0
    return float(pymbar_quietly().timeseries.statistical_inefficiency(series))


def variance_of_slow(
    terms: NDArray[np.float64],
    window: NDArray[np.int64],
    inefficiencies: NDArray[np.float64],
    timeless: Sequence[int] = (),
) -> float:
    """What windows in which a sum forgets more slowly than the CVs do have of its variance.

    Parameters
    ----------
    terms : ndarray, shape (n,)
        Of the sum, one of each sample, those of a window in the order of time.
    window : ndarray of int, shape (n,)
        Window of each.
    inefficiencies : ndarray, shape (n_windows,)
        Statistical inefficiency of each window's CVs.
    timeless : sequence of int
        Windows whose samples have no order in time.

    Returns
    -------
    float
        Sum over these windows of g n var(terms), g being the inefficiency of the terms; 0 where
        there is none, for replicates tell the variance then.
    """
    order = np.argsort(window, kind="stable")
    edges = np.flatnonzero(np.diff(window[order])) + 1
    total = 0.0
    for own in np.split(order, edges):
        number = int(window[own[0]])
        if number in timeless or not terms[own].any():
            continue
        g = series_inefficiency(terms[own])
        if g > SLOWER * inefficiencies[number]:
            total += g * len(own) * float(terms[own].var())
    return total
