"""The virial of the biases on one frame: their slopes along the variables, times strains of these.

Only functions and biases on a grid, which are cheap, are differentiated by differences.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from openmm_cgan.plumed.actions import Action, Metad
from openmm_cgan.plumed.actions.biases.bias import Bias
from openmm_cgan.plumed.actions.external import External
from openmm_cgan.plumed.actions.functions import Function
from openmm_cgan.plumed.actions.variables.variable import Variable
from openmm_cgan.plumed.native.derivatives import slope


def virial(
    actions: list[Action],
    found: dict[str, NDArray],
    positions: NDArray,
    box: NDArray | None,
    step: int,
) -> NDArray:
    """Derivative of the sum of the biases by a strain of positions and box.

    Parameters
    ----------
    actions : list of Action
    found : dict of str to float
        All values of the frame.
    positions : ndarray, shape (n_atoms, 3)
        [nm]
    box : ndarray, shape (3, 3), or None
        Box vectors as rows [nm].
    step : int

    Returns
    -------
    ndarray, shape (3, 3)
        Sum of ``x_a dE/dx_b`` [kJ/mol].
    """
    slopes: dict[str, float] = {}
    total = np.zeros((3, 3))
    for action in reversed(actions):
        outer = [slopes.get(value.name, 0.0) for value in action.outputs]
        if isinstance(action, Bias):
            outer[0] += action.units.energy
        if not any(outer):
            continue
        if isinstance(action, Variable):
            seen = action.whole_positions(positions, box)
            for index, factor in enumerate(outer):
                if factor:
                    total += factor * action.strain_slope(index, seen, box)
        elif isinstance(action, Bias | Function):
            arguments = [float(found[value.name]) for value in action.arguments]
            inner = _slopes(action, arguments, outer, step)
            for value, factor in zip(action.arguments, inner, strict=True):
                slopes[value.name] = slopes.get(value.name, 0.0) + factor
    return total


def _slopes(
    action: Bias | Function, arguments: list[float], outer: list[float], step: int
) -> list[float]:
    """Slopes along the arguments of the sum of its outputs times `outer`."""
    on_grid = isinstance(action, Metad | External) and action.grid is not None
    acts = not isinstance(action, Metad) or action.applied
    if isinstance(action, Bias) and not on_grid and not any(outer[1:]):
        if not acts:
            return [0.0] * len(arguments)
        return [outer[0] * s for s in action.energy_and_slopes(arguments, step)[1]]

    def total(at: list[float]) -> float:
        values = action.values(at)
        return float(sum(x * float(y) for x, y in zip(outer, values, strict=True) if x))

    return [slope(total, arguments, i) for i in range(len(arguments))]
