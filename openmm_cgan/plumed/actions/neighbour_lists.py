"""NLIST of METAD and OPES: how far the near hills or kernels go, and when they are found anew."""

from __future__ import annotations

import math

REACH, PATIENCE = 3.0, 0.5  # as of `Neighbours`; what NLIST_PARAMETERS are if absent


def largest_patience(reach: float) -> float:
    """The largest patience of a list of that reach, beyond which hills would be missed.

    Parameters
    ----------
    reach : float
        Squared distance of the farthest hill that is listed, in that at which hills end.

    Returns
    -------
    float
        Squared way after which the list is made anew, in the mean square distance of its hills.
    """
    return 1.16 - 1 / math.sqrt(reach)
