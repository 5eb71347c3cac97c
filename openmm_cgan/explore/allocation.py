"""Which windows are run longer: those that the error of the difference comes from.

By umbrella integration the difference is the mean force added up over the way between the states:
a window with the force constant k, the spacing d and n independent frames of the variance s^2 adds
(k d)^2 s^2 / n to the variance of the sum (J. Kaestner and W. Thiel, doi 10.1063/1.2206775). Of
all ways to spend so many steps the variance is least where lengths go as the square roots of what a
window would add in one step (Neyman's allocation).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from openmm_cgan.free_energy import BiasedFrames
from openmm_cgan.free_energy.samples import statistical_inefficiency

LEAST = 0.02  # of the largest square root: windows off the way are of some use, too


def error_of_windows(
    windows: Sequence[BiasedFrames], column: int, on_the_way: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """Variance that each window adds to a difference, up to a factor that is the same for all.

    Parameters
    ----------
    windows : sequence of BiasedFrames
        With one force constant and evenly spaced.
    column : int
        Of the CV that is restrained.
    on_the_way : ndarray of bool, shape (n_windows,)
        Whether a window stands between the states; others add nothing.

    Returns
    -------
    ndarray, shape (n_windows,)
        [CV unit squared]
    """
    found = []
    for window in windows:
        variable = window.variables[column]
        values = variable.difference(window.cvs[0, column], window.cvs[:, column])
        inefficiency = statistical_inefficiency(values[:, None])
        found.append(values.var() * inefficiency / len(values))
    return np.where(on_the_way, found, 0.0)


def longer_windows(
    lengths: NDArray[np.int64], variances: NDArray[np.float64], more: int
) -> NDArray[np.int64]:
    """Lengths that make the sum of variances least with so many steps more.

    Parameters
    ----------
    lengths : ndarray of int, shape (n_windows,)
        As they are [steps].
    variances : ndarray, shape (n_windows,)
        That each adds at this length.
    more : int
        Steps to give out.

    Returns
    -------
    ndarray of int, shape (n_windows,)
        None is shorter than it was; together they are longer by ``more``, but for rounding.

    Examples
    --------
    >>> longer_windows(np.array([100, 100]), np.array([4.0, 1.0]), 100)
    array([200, 100])
    """
    rates = np.sqrt(np.asarray(variances, dtype=float) * lengths)
    rates = np.maximum(rates, LEAST * rates.max()) if rates.max() > 0 else np.ones(len(lengths))
    longer = np.ones(len(lengths), dtype=bool)
    total = lengths.sum() + more
    while True:
        share = total - lengths[~longer].sum()
        wanted = np.where(longer, rates * share / rates[longer].sum(), lengths)
        shorter = longer & (wanted < lengths)
        if not shorter.any():
            return np.round(wanted).astype(np.int64)
        longer &= ~shorter


def between(
    centres: NDArray[np.float64], ends: tuple[float, float], period: float | None
) -> NDArray[np.bool_]:
    """Which windows stand on the way between two values of a CV where windows stand densest.

    Parameters
    ----------
    centres : ndarray, shape (n_windows,)
        [CV units]
    ends : (float, float)
        The bottoms of the two states.
    period : float or None
        Of a periodic CV both ways are looked at: the one without the larger gap is taken.
    """
    low, high = sorted(ends)
    within = (centres >= low) & (centres <= high)
    if period is None:
        return np.asarray(within)
    ways = [within, ~within | (centres == low) | (centres == high)]
    gaps = [_largest_gap(centres[way], low, high, period, k) for k, way in enumerate(ways)]
    return np.asarray(ways[int(np.argmin(gaps))])


def _largest_gap(
    centres: NDArray[np.float64], low: float, high: float, period: float, around: int
) -> float:
    start, length = (high, period - (high - low)) if around else (low, high - low)
    places = np.sort(np.mod(centres - start, period))
    return float(np.diff(np.concatenate([[0.0], places[places <= length], [length]])).max())
