"""What the values of an input depend on."""

from __future__ import annotations

import re
from collections.abc import Callable

from openmm_cgan.plumed.actions import Action, Print
from openmm_cgan.plumed.actions.biases.bias import Bias
from openmm_cgan.plumed.actions.function_path import FuncPathMsd
from openmm_cgan.plumed.actions.functions import Function
from openmm_cgan.plumed.actions.pytorch_model import PytorchModel
from openmm_cgan.plumed.actions.variables.paths import PathMsd
from openmm_cgan.plumed.actions.variables.surroundings import Observed, Time


def depending(actions: list[Action], holds: Callable[[Action, str], bool]) -> set[str]:
    """Names of the values for which something holds, or that depend on one of those.

    Parameters
    ----------
    actions : list of Action
        In the order of the input: each depends on those above it.
    holds : callable
        Of an action and the name of one of its values.
    """
    found: set[str] = set()
    for action in actions:
        below = any(value.name in found for value in action.arguments)
        found.update(v.name for v in action.outputs if below or holds(action, v.name))
    return found


def written_lengths(actions: list[Action]) -> dict[str, int]:
    """How many characters the functions under each value have where each is written out.

    A function of functions is one expression in OpenMM: forty of them, each naming the one above it
    twice, are longer than any memory.
    """
    lengths: dict[str, int] = {}
    for action in actions:
        if not isinstance(action, Function) or isinstance(action, PytorchModel):
            continue
        places = [f"argument{i}#" for i in range(len(action.arguments))]
        for index, value in enumerate(action.outputs):
            text = action.expression(places, index)
            named = (action.arguments[int(i)] for i in re.findall(r"argument(\d+)#", text))
            lengths[value.name] = len(text) + sum(lengths.get(v.name, 1) for v in named)
    return lengths


def is_listed(action: Action, _: str = "") -> bool:
    """Whether it is a PATHMSD with a list of nearest models."""
    return isinstance(action, PathMsd) and action.nearest is not None


def is_listed_function(action: Action, _: str = "") -> bool:
    """Whether it is a FUNCPATHMSD with a list of the nearest."""
    return isinstance(action, FuncPathMsd) and action.is_listed


def is_time(action: Action, _: str = "") -> bool:
    """Whether it is the time of the run."""
    return isinstance(action, Time)


def is_observed(action: Action, _: str = "") -> bool:
    """Whether it is a value that the positions do not tell: TIME or ENERGY."""
    return isinstance(action, Observed)


def default_variables(actions: list[Action]) -> tuple[str, ...]:
    """Arguments of the biases, each once, in order; of PRINT where there is no bias.

    The elements of vectors, which PLUMED knows no names of, are left out.
    """
    for kind in (Bias, Print):
        users = [action for action in actions if isinstance(action, kind)]
        values = [value for action in users for value in action.arguments]
        if names := dict.fromkeys(value.name for value in values if not value.vector):
            break
    of_run = depending(actions, lambda a, _: isinstance(a, Bias) or is_observed(a))
    return tuple(name for name in names if name not in of_run)
