"""The virial of the biases on one frame: their slopes along variables times strains of these."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from openmm_cgan.plumed.actions import Action
from openmm_cgan.plumed.native.pulls import pulled_variables


def virial(
    actions: Sequence[Action],
    slopes: Mapping[str, float],
    positions: NDArray[np.float64],
    box: NDArray[np.float64] | None,
) -> NDArray[np.float64]:
    """Derivative of the sum of the biases by a strain of positions and box.

    Parameters
    ----------
    actions : sequence of Action
    slopes : mapping of str to float
        Of that sum along values [kJ/mol].
    positions : ndarray, shape (n_atoms, 3)
        [nm]
    box : ndarray, shape (3, 3), or None
        Box vectors as rows [nm].

    Returns
    -------
    ndarray, shape (3, 3)
        Sum of ``x_a dE/dx_b`` [kJ/mol].
    """
    total = np.zeros((3, 3))
    for variable, index, pull in pulled_variables(actions, slopes):
        total += pull * variable.strain_slope(index, variable.whole_positions(positions, box), box)
    return total
