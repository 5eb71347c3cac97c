"""Derivatives of values, in the order of PLUMED's parameters."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from openmm_cgan.plumed.actions.variables.chains import ChainVariable
from openmm_cgan.plumed.actions.variables.contact_maps import ContactMap
from openmm_cgan.plumed.actions.variables.contacts import Coordination
from openmm_cgan.plumed.actions.variables.funnel_place import FunnelPlace
from openmm_cgan.plumed.actions.variables.variable import Variable

# Steps of central differences. The first has less rounding; the second is taken where they differ
# by more than its rounding, as beside the knot of a spline. Both are in units of the argument.
_STEP, _SMALL_STEP = 1e-6, 1e-7
_ROUNDING = 1e-7  # of the second, relative to 1 + the value


def slope(function: Callable[[list[float]], float], at: list[float], i: int) -> float:
    """Derivative of a function of numbers by number `i`, from central differences."""
    size = max(abs(at[i]), 1.0)
    found = []
    for step in (_STEP * size, _SMALL_STEP * size):
        ends = [function([*at[:i], at[i] + s, *at[i + 1 :]]) for s in (step, -step)]
        found.append((ends[0] - ends[1]) / (2 * step))
    rounding = _ROUNDING * (1 + abs(function(at))) / size
    return found[0] if abs(found[0] - found[1]) <= rounding else found[1]


def by_positions(
    variable: Variable, index: int, positions: np.ndarray, box: np.ndarray | None
) -> np.ndarray:
    """Derivative of an output by the positions of its atoms, and by the box.

    Atoms come as often as PLUMED has them, for the points of each vector of a torsion; then minus
    the derivative by strains.

    Parameters
    ----------
    variable : Variable
    index : int
        Which output.
    positions : ndarray, shape (n_atoms, 3)
        [nm]
    box : ndarray, shape (3, 3), or None
        [nm]

    Returns
    -------
    ndarray, shape (3 n_parameters + 9,)
        [unit over the unit of length of the input; unit]
    """
    seen = variable.whole_positions(positions, box)
    rows = np.zeros((0, 3))
    if isinstance(variable, ChainVariable):
        rows = variable.gradient_of_ends(seen, box)
    elif isinstance(variable, ContactMap | Coordination | FunnelPlace):
        rows = variable.gradient_of_ends(index, seen, box)
    elif variable.sites:
        rows = variable.gradient(index, seen, box)[1]
    virial = 0.0 - variable.strain_slope(index, seen, box)  # zeros are written without a sign
    return np.concatenate([rows.ravel() * variable.units.length, virial.ravel()])
