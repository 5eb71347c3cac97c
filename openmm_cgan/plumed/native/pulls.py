"""How hard biases pull: the slopes of their sum, or of a value, along the values it is of."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from openmm_cgan.plumed.actions import Action, Metad
from openmm_cgan.plumed.actions.biases.bias import Bias
from openmm_cgan.plumed.actions.functions import Function
from openmm_cgan.plumed.actions.variables.centers import Centroid
from openmm_cgan.plumed.actions.variables.variable import Variable
from openmm_cgan.plumed.native.derivatives import slope


def own_slopes(actions: Sequence[Action], step: int) -> dict[str, float]:
    """Slopes of the energy that acts at a step [kJ/mol] along the bias of each action."""
    biases = [action for action in actions if isinstance(action, Bias)]
    return {bias.outputs[0].name: bias.units.energy * bias.weight(step) for bias in biases}


def slopes_below(
    actions: Sequence[Action], found: Mapping[str, Any], outer: Mapping[str, float], step: int
) -> dict[str, float]:
    """Slopes along all values of what has the slopes `outer` along some of them.

    Parameters
    ----------
    actions : sequence of Action
    found : mapping of str to float
        All values of the frame.
    outer : mapping of str to float
    step : int

    Returns
    -------
    dict of str to float
        By the names of values; those that are missing have none.
    """
    slopes = dict(outer)
    for action in reversed(actions):
        above = [slopes.get(value.name, 0.0) for value in action.outputs]
        if not any(above) or not isinstance(action, Bias | Function):
            continue
        arguments = [float(found[value.name]) for value in action.arguments]
        inner = _inner_slopes(action, arguments, above, step)
        for value, factor in zip(action.arguments, inner, strict=True):
            slopes[value.name] = slopes.get(value.name, 0.0) + factor
    return slopes


def _inner_slopes(
    action: Bias | Function, arguments: list[float], above: list[float], step: int
) -> list[float]:
    """Slopes along the arguments of the sum of its outputs times `above`."""
    total = np.zeros(len(arguments))
    if isinstance(action, Function):
        for index, factor in enumerate(above):
            if factor:
                total += factor * np.array(action.slopes(index, arguments))
        return total.tolist()
    if not any(above[1:]):
        if isinstance(action, Metad) and not action.applied:
            return [0.0] * len(arguments)
        return [above[0] * s for s in action.energy_and_slopes(arguments, step)[1]]

    def weighted(at: list[float]) -> float:
        values = action.values(at)
        return float(sum(x * float(y) for x, y in zip(above, values, strict=True) if x))

    return [slope(weighted, arguments, i) for i in range(len(arguments))]


def pulled_variables(
    actions: Sequence[Action], slopes: Mapping[str, float]
) -> Iterator[tuple[Variable, int, float]]:
    """The outputs of variables that have a slope: of which, the how manieth, and the slope."""
    for action in actions:
        if isinstance(action, Variable):
            for index, value in enumerate(action.outputs):
                if slopes.get(value.name):
                    yield action, index, slopes[value.name]


def pull_on_atoms(
    actions: Sequence[Action],
    slopes: Mapping[str, float],
    positions: NDArray[np.float64],
    box: NDArray[np.float64] | None,
) -> NDArray[np.float64]:
    """Gradient by the positions of what has these slopes along variables.

    Parameters
    ----------
    actions : sequence of Action
    slopes : mapping of str to float
    positions : ndarray, shape (n_atoms, 3)
        [nm]
    box : ndarray, shape (3, 3), or None
        Box vectors as rows [nm].

    Returns
    -------
    ndarray, shape (n_atoms, 3)
        [unit / nm]
    """
    total = np.zeros_like(positions)
    for variable, index, factor in pulled_variables(actions, slopes):
        seen = variable.whole_positions(positions, box)
        gradient = variable.gradient(index, seen, box)[1] if variable.sites else ()
        for site, along in zip(variable.sites, gradient, strict=True):
            if isinstance(site, Centroid):
                spread = site.spread_gradient(along, seen, box)
                np.add.at(total, list(site.atoms), factor * spread)
            elif isinstance(site, int):
                total[site] += factor * along
    return total
