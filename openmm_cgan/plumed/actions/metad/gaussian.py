"""One hill: PLUMED's "stretched" Gaussian, which is cut and brought to zero where it is cut.

With x the half of its squared distance from the centre, in sigmas, a hill of height 1 is
``stretch exp(-x) + shift`` below x = CUTOFF, and zero beyond.
"""

from __future__ import annotations

import math
from typing import NamedTuple

CUTOFF = 6.25


class Kernel(NamedTuple):
    """What a hill is of its Gaussian: ``stretch exp(-x) + shift`` below the cut."""

    stretch: float
    shift: float


STRETCH = 1.0 / (1.0 - math.exp(-CUTOFF))
STRETCHED = Kernel(STRETCH, 1.0 - STRETCH)
CUT = Kernel(1.0, 0.0)  # PBMETAD's, though its files say otherwise


def reach_of(sigma: float) -> float:
    """How far a hill goes."""
    return math.sqrt(2 * CUTOFF) * sigma


def within(interval: tuple[float, float], centre: float, reach: float) -> bool:
    """Whether a hill lies in an interval with all its reach."""
    return interval[0] <= centre - reach and centre + reach <= interval[1]
