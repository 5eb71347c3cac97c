"""The plateau of drift and diffusion over lags: the rule that chooses one, and what it tells."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from openmm_cgan.closures.conditional_averages import ConditionalAverage, median_in_errors
from openmm_cgan.free_energy.samples import spread

logger = logging.getLogger("openmm_cgan")

AGREEMENT = 1.5  # standard errors by which lags of a plateau may differ, as the median has it
FLAT = 0.05  # or this part of the quantity's size
LAGS_OF_PLATEAU = 3


def plateau(
    averages: Sequence[tuple[ConditionalAverage, ...]],
) -> tuple[int, bool, NDArray[np.float64]]:
    """The first lag from which on drift and diffusion stay the same for two lags more.

    They stay the same where the median over values of the CVs of the change, of either, to both
    later lags, is no more than 1.5 standard errors of the change (from the replicates, which share
    the runs they draw, so that what lags have in common cancels), or 5 % of the quantity's root
    mean square at the first, each CV by itself. Lags that tell little agree, too: look at the
    errors.

    Parameters
    ----------
    averages : sequence of tuple of ConditionalAverage
        Of one lag each, the shortest first; same values of the CVs and replicates in all.

    Returns
    -------
    int
        Number of the lag; if there is no plateau that after which the change is least.
    bool
        Whether there is one.
    ndarray, shape (n_lags - 2, n_averages)
        The changes from each lag on.
    """
    n, own = len(averages) - LAGS_OF_PLATEAU + 1, len(averages[0])
    if n < 1:
        return 0, False, np.empty((0, own))
    changes = np.array(
        [
            [
                max(_change(averages[i][a], averages[i + later][a])
                    for later in range(1, LAGS_OF_PLATEAU))
                for a in range(own)
            ]
            for i in range(n)
        ]
    )  # fmt: skip
    agree = (changes <= AGREEMENT).all(1)
    if agree.any():
        return int(agree.argmax()), True, changes
    return int(changes.max(1).argmin()), False, changes


def say_whether_flat(found: Any, n_lags: int, flat: bool) -> None:
    """Log estimates at n lags in words: as a warning where they show no plateau."""
    if n_lags < LAGS_OF_PLATEAU:
        logger.warning("%s; the shortest is chosen, unseen what longer ones would give", found)
    elif not flat:
        logger.warning(
            "%s: the CVs miss something slow, or the lags are too short or too long", found
        )
    else:
        logger.info("%s", found)


def plateau_in_words(
    spans: NDArray[np.float64],
    drift: Sequence[ConditionalAverage],
    diffusion: Sequence[ConditionalAverage],
    found: tuple[int, bool, NDArray[np.float64]],
) -> str:
    """Where a plateau is, and how nearly drift and diffusion stay the same on it.

    Parameters
    ----------
    spans : ndarray, shape (n_lags, 2)
        From which lag to which each estimate is [ps].
    drift, diffusion : sequence of ConditionalAverage
        At each.
    found : tuple
        As `plateau` gives it.
    """
    if len(spans) < LAGS_OF_PLATEAU:
        return f"{len(spans)} lags: a plateau takes {LAGS_OF_PLATEAU}"
    chosen, flat, changes = found
    start, end = spans[chosen, 0], spans[chosen + LAGS_OF_PLATEAU - 1, 1]
    words = "plateau" if flat else "no plateau; the least change is"
    parts = []
    for name, averages, change in zip(
        ("drift", "diffusion"), (drift, diffusion), changes[chosen], strict=True
    ):
        own = averages[chosen]
        share = np.nanmedian(own.error / _sizes(own.value))
        parts.append(
            f"{name} within {change:.1f} standard errors of the change (its own error is "
            f"{share:.0%} of its size)"
        )
    return f"{words} from {start:g} to {end:g} ps: {', '.join(parts)}"


def _change(first: ConditionalAverage, second: ConditionalAverage) -> float:
    difference = (second.value - first.value).ravel()
    replicates = (second.replicates - first.replicates).reshape(len(first.replicates), -1)
    errors = np.array([spread(column) for column in replicates.T])
    known = np.isfinite(difference) & (errors > 0)
    if not known.any():
        return float("inf")
    beyond = np.abs(second.value - first.value) - FLAT * _sizes(first.value)
    if (np.nanmedian(beyond, axis=0) <= 0.0).all():  # of each CV, whose units may differ
        return 0.0
    return median_in_errors(difference[known], errors[known])


def _sizes(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Root mean squares of drifts (m, k) or diffusions (m, k, k) over values: (k,) or (k, k)."""
    sizes = np.sqrt(np.nanmean(values**2, axis=0))
    if sizes.ndim == 1:
        return np.asarray(sizes)
    own = np.sqrt(sizes.diagonal())
    return np.asarray(own[:, None] * own)  # what mixes two CVs may be zero
