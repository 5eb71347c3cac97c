"""One hill: PLUMED's "stretched" Gaussian, which is cut and brought to zero where it is cut.

With x the half of its squared distance from the centre, in sigmas, a hill of height 1 is
``STRETCH exp(-x) + SHIFT`` below x = CUTOFF, and zero beyond.
"""

from __future__ import annotations

import math

CUTOFF = 6.25
STRETCH = 1.0 / (1.0 - math.exp(-CUTOFF))
SHIFT = 1.0 - STRETCH


def reach_of(sigma: float) -> float:
    """How far a hill goes."""
    return math.sqrt(2 * CUTOFF) * sigma


def within(interval: tuple[float, float], centre: float, reach: float) -> bool:
    """Whether a hill lies in an interval with all its reach."""
    return interval[0] <= centre - reach and centre + reach <= interval[1]
