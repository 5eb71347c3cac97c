"""Virial and forces of the biases on one frame, by their slopes along the variables.

Only functions, which are cheap, are differentiated by differences.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from openmm_cgan.plumed.actions import Action, Metad
from openmm_cgan.plumed.actions.biases.bias import Bias
from openmm_cgan.plumed.actions.functions import Function
from openmm_cgan.plumed.actions.variables.centers import Centroid
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
    total = np.zeros((3, 3))
    for variable, index, pull in _pulled(actions, found, step):
        total += pull * variable.strain_slope(index, variable.whole_positions(positions, box), box)
    return total


def forces(
    actions: list[Action],
    found: dict[str, NDArray],
    positions: NDArray,
    box: NDArray | None,
    step: int,
) -> NDArray:
    """Forces of the biases, without OpenMM; parameters as of `virial`.

    Returns
    -------
    ndarray, shape (n_atoms, 3)
        [kJ/mol/nm]
    """
    total = np.zeros_like(positions)
    for variable, index, pull in _pulled(actions, found, step):
        seen = variable.whole_positions(positions, box)
        gradient = variable.gradient(index, seen, box)[1] if variable.sites else ()
        for site, along in zip(variable.sites, gradient, strict=True):
            if isinstance(site, Centroid):
                spread = site.spread_gradient(along, seen, box)
                np.subtract.at(total, list(site.atoms), pull * spread)
            elif isinstance(site, int):
                total[site] -= pull * along
    return total


def _pulled(
    actions: list[Action], found: dict[str, NDArray], step: int
) -> Iterator[tuple[Variable, int, float]]:
    """Outputs of variables that biases act on: which, and the slope of the biases [kJ/mol]."""
    slopes: dict[str, float] = {}
    for action in reversed(actions):
        outer = [slopes.get(value.name, 0.0) for value in action.outputs]
        if isinstance(action, Bias):
            outer[0] += action.units.energy * action.weight(step)
        if not any(outer):
            continue
        if isinstance(action, Variable):
            yield from ((action, i, factor) for i, factor in enumerate(outer) if factor)
        elif isinstance(action, Bias | Function):
            arguments = [float(found[value.name]) for value in action.arguments]
            inner = _slopes(action, arguments, outer, step)
            for value, factor in zip(action.arguments, inner, strict=True):
                slopes[value.name] = slopes.get(value.name, 0.0) + factor


def _slopes(
    action: Bias | Function, arguments: list[float], outer: list[float], step: int
) -> list[float]:
    """Slopes along the arguments of the sum of its outputs times `outer`."""
    acts = not isinstance(action, Metad) or action.applied
    if isinstance(action, Bias) and not any(outer[1:]):
        if not acts:
            return [0.0] * len(arguments)
        return [outer[0] * s for s in action.energy_and_slopes(arguments, step)[1]]

    def total(at: list[float]) -> float:
        values = action.values(at)
        return float(sum(x * float(y) for x, y in zip(outer, values, strict=True) if x))

    return [slope(total, arguments, i) for i in range(len(arguments))]
