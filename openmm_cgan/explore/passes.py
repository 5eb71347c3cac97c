"""How high the pass between two states is along a CV, by a free energy that is roughly known."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from openmm_cgan.free_energy import FreeEnergy
from openmm_cgan.free_energy.differences import StateDifference


def height_of_pass(profile: FreeEnergy, difference: StateDifference) -> float:
    """The lowest level below which bins lead from the bottom of one state to that of the other.

    Parameters
    ----------
    profile : FreeEnergy
        Along the CV of the difference; what is not known (NaN) is no way.
    difference : StateDifference

    Returns
    -------
    float
        [kJ/mol]; infinite where no way is known, or a state has no bin that is.
    """
    values, centres = profile.free_energy, profile.centres[0]
    sides = difference.sides(centres[:, None], profile.variables)
    bottoms = []
    for side in (0, 1):
        inside = np.flatnonzero((sides == side) & np.isfinite(values))
        if not len(inside):
            return float("inf")
        bottoms.append(int(inside[values[inside].argmin()]))
    periodic = profile.variables[0].domain is not None
    for level in np.unique(values[np.isfinite(values)]):
        if level >= max(values[bottoms]) and _joined(values <= level, bottoms, periodic):
            return float(level)
    return float("inf")


def _joined(low: NDArray[np.bool_], ends: list[int], periodic: bool) -> bool:
    """Whether the bins between two are low, one way or, where periodic, the other."""
    first, last = sorted(ends)
    within = bool(low[first : last + 1].all())
    around = periodic and bool(low[last:].all() and low[: first + 1].all())
    return within or around
