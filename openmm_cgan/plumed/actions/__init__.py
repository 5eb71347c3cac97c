"""The PLUMED actions that are known natively, each written once.

`action` holds what they share and how a statement becomes one; `setup`, `variables`, `functions`,
`biases`, `metad` and `output` hold the actions. `read_actions` turns an input into a list of them.
"""

from __future__ import annotations

from openmm_cgan.plumed.actions.action import REMEDY, Action, Scope, read_action
from openmm_cgan.plumed.actions.biases import LowerWalls, Restraint, UpperWalls
from openmm_cgan.plumed.actions.functions import Combine
from openmm_cgan.plumed.actions.metad import Metad
from openmm_cgan.plumed.actions.output import Flush, Print
from openmm_cgan.plumed.actions.setup import Group, Units
from openmm_cgan.plumed.actions.variables import Angle, Distance, Torsion
from openmm_cgan.plumed.language import PlumedInputError, Problem, Statement

ACTIONS: dict[str, type[Action]] = {
    cls.name: cls
    for cls in (
        Units,
        Group,
        Distance,
        Angle,
        Torsion,
        Combine,
        Restraint,
        UpperWalls,
        LowerWalls,
        Metad,
        Print,
        Flush,
    )
}


def read_actions(statements: list[Statement], n_atoms: int | None = None) -> list[Action]:
    """Turn statements into actions, in order.

    Parameters
    ----------
    statements : list of Statement
    n_atoms : int, optional
        Atoms of the system; serials beyond are refused.

    Returns
    -------
    list of Action

    Raises
    ------
    PlumedInputError
        With everything in the input that is wrong or not covered natively.
    """
    scope = Scope(n_atoms=n_atoms)
    problems: list[Problem] = []
    for statement in statements:
        cls = ACTIONS.get(statement.action)
        if cls is None:
            message = f"this action is not known natively; {REMEDY}"
            problems.append(Problem(statement.location, statement.action, message))
            scope.broken.add(statement.label)
            continue
        try:
            _add(read_action(cls, statement, scope), scope)
        except PlumedInputError as error:
            problems += error.problems
            scope.broken.add(statement.label)
    if problems:
        raise PlumedInputError(problems)
    return list(scope.actions.values())


def _add(action: Action, scope: Scope) -> None:
    if isinstance(action, Units):
        if scope.actions:
            raise action.error("UNITS", "must stand before all other actions")
        scope.units = action.system
    elif isinstance(action, Group):
        scope.groups[action.label] = action.atoms
    scope.actions[action.label] = action
