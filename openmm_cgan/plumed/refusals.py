"""What is refused of an input though each of its actions is known: combinations without a force."""

from __future__ import annotations

from openmm_cgan.plumed.actions import REMEDY, Action
from openmm_cgan.plumed.actions.biases import Bias
from openmm_cgan.plumed.actions.centers import VirtualAtom
from openmm_cgan.plumed.actions.opes import Opes
from openmm_cgan.plumed.actions.setup import WholeMolecules
from openmm_cgan.plumed.actions.surroundings import Observed
from openmm_cgan.plumed.actions.variables import BoxKind, Variable
from openmm_cgan.plumed.language import Problem

Owners = dict[str, Action]  # the action that gives each value


def depends_on(kind: type[Action], name: str, owners: Owners) -> bool:
    """Whether a value comes from an action of a kind, directly or through functions."""
    owner = owners[name]
    return isinstance(owner, kind) or any(
        depends_on(kind, value.name, owners) for value in owner.arguments
    )


def forceless(actions: list[Action], owners: Owners) -> list[Problem]:
    """Combinations of actions that have no OpenMM force in any System."""
    problems = []

    def complain(action: Action, word: str, what: str) -> None:
        problems.append(Problem(action.statement.location, word, f"{what}; {REMEDY}"))

    made_whole = any(isinstance(action, WholeMolecules) for action in actions)
    hidden = {n for a in actions if isinstance(a, Opes) for n in a.hidden_names}
    for action in actions:
        if made_whole and isinstance(action, Variable | VirtualAtom) and not action.periodic:
            complain(action, "NOPBC", "NOPBC after WHOLEMOLECULES is not native")
        for value in action.arguments:
            if value.name in hidden:
                complain(action, value.name, "natively there is no neighbour list")
            if not isinstance(action, Bias):
                continue
            if depends_on(Bias, value.name, owners):
                complain(action, value.name, "a bias acting on the value of a bias is not native")
            if depends_on(Observed, value.name, owners):
                complain(action, value.name, "a bias acting on TIME or ENERGY is not native")
    return problems


def wandering(actions: list[Action], owners: Owners, box: BoxKind) -> list[Problem]:
    """Biased variables whose values depend on the periodic image that a molecule is in.

    OpenMM moves whole molecules between images: its forces would not be those of the value.
    """
    found: dict[str, Variable] = {}
    biases = [action for action in actions if isinstance(action, Bias)]
    names = [value.name for bias in biases for value in bias.arguments]
    while names:
        owner = owners[names.pop()]
        if isinstance(owner, Variable):
            found[owner.label] = owner
        names += [value.name for value in owner.arguments]
    message = f"biasing what depends on the periodic image is not native; {REMEDY}"
    return [
        Problem(variable.statement.location, f"{variable.name} {variable.label}", message)
        for variable in found.values()
        if box.periodic and variable.wanders(box)
    ]
