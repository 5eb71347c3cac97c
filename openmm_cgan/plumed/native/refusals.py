"""What is refused of an input though each of its actions is known: combinations without a force."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np

from openmm_cgan.plumed.actions import Action, Print
from openmm_cgan.plumed.actions.action import uncovered
from openmm_cgan.plumed.actions.biases.bias import Bias, SeparableBias
from openmm_cgan.plumed.actions.biases.moving import MovingRestraint
from openmm_cgan.plumed.actions.metad.metad import Metad
from openmm_cgan.plumed.actions.opes.opes import Opes
from openmm_cgan.plumed.actions.pbmetad.pbmetad import Pbmetad
from openmm_cgan.plumed.actions.setup import WholeMolecules
from openmm_cgan.plumed.actions.variables.centers import Centroid, FixedAtom, VirtualAtom
from openmm_cgan.plumed.actions.variables.components import VectorVariable
from openmm_cgan.plumed.actions.variables.displacements import Displacement
from openmm_cgan.plumed.actions.variables.moved import FitToTemplate, Moved
from openmm_cgan.plumed.actions.variables.shapes import GroupVariable
from openmm_cgan.plumed.actions.variables.variable import BoxKind, Site, Variable
from openmm_cgan.plumed.geometry.lattices import BoxForm, form_of_box
from openmm_cgan.plumed.input.language import Problem
from openmm_cgan.plumed.native.dependence import (
    depending,
    is_listed,
    is_listed_function,
    is_time,
    written_lengths,
)

MAX_WRITTEN = 2_000_000  # characters of one expression: OpenMM parses them in some seconds

Owners = dict[str, Action]  # the action that gives each value


def forceless(actions: list[Action]) -> list[Problem]:
    """Combinations of actions that have no OpenMM force in any System."""
    problems = []
    whole = [action for action in actions if isinstance(action, WholeMolecules)]
    listed, timed = (depending(actions, holds) for holds in (is_listed, is_time))
    displaced = depending(actions, _is_displacement)
    listed_functions = depending(actions, is_listed_function)
    lengths = written_lengths(actions)
    fitted = depending(actions, lambda a, _: isinstance(a, FitToTemplate))
    stiff = depending(actions, lambda a, name: isinstance(a, Bias) and not _known_slopes(a, name))

    def complain(action: Action, word: str, what: str) -> None:
        problems.append(uncovered(action.statement, word, what))

    for action in actions:
        if isinstance(action, Variable | VirtualAtom) and (what := _badly_whole(action, whole)):
            complain(action, "NOPBC", f"NOPBC after WHOLEMOLECULES is not native {what}")
        for value in action.arguments:
            if isinstance(action, Print) and action.rotate and value.name in listed:
                complain(action, "_ROTATE", "a list of models not always used is not native")
            if not isinstance(action, Bias):
                continue
            if value.name in stiff:
                what = "a bias acting on that value of that bias is not native"
                complain(action, value.name, what)
            if lengths.get(value.name, 0) > MAX_WRITTEN:
                what = f"its functions, written out, have more than {MAX_WRITTEN} characters"
                complain(action, value.name, what)
            if value.name in fitted:
                complain(action, value.name, "a bias acting on FIT_TO_TEMPLATE is not native")
            if value.name in displaced:
                complain(action, value.name, "a bias on displacements is not native")
            if value.name in listed_functions:
                complain(action, value.name, "a bias on FUNCPATHMSD with NEIGH_SIZE is not native")
            if value.name in timed:
                complain(action, value.name, "a bias acting on TIME is not native")
    return problems + _looked_at_between(actions)


def _is_displacement(action: Action, name: str) -> bool:
    """Whether a value is one of the displacements of an RMSD."""
    shown = action.inner if isinstance(action, Moved) else action
    return isinstance(shown, Displacement) and name != shown.outputs[0].name


def _looked_at_between(actions: list[Action]) -> list[Problem]:
    """OPES with STRIDE that measures widths, and the work of a MOVINGRESTRAINT with STRIDE.

    PLUMED measures both also where they are printed between.
    """
    problems = []
    for opes in (a for a in actions if isinstance(a, Opes) and a.stride > 1):
        names = {value.name for value in opes.outputs}
        users = [a for a in actions if not names.isdisjoint(v.name for v in a.arguments)]
        if opes.options.sigma.measured and any(
            getattr(a, "stride", 1) % opes.stride for a in users
        ):
            what = "with an adaptive SIGMA natively where PRINT has a multiple of it"
            problems.append(uncovered(opes.statement, "STRIDE", what))
    for moving in (a for a in actions if isinstance(a, MovingRestraint) and a.stride > 1):
        users = [a for a in actions if any(v.name in moving.work_names for v in a.arguments)]
        if any(getattr(a, "stride", 1) % moving.stride for a in users):
            what = "natively the work is read at multiples of it only"
            problems.append(uncovered(moving.statement, "STRIDE", what))
    return problems


def _known_slopes(bias: Action, name: str) -> bool:
    """Whether a value is the energy of a bias that another can act on."""
    free = isinstance(bias, Pbmetad) or (isinstance(bias, Metad) and bias.applied)
    return (free or isinstance(bias, SeparableBias)) and name == bias.outputs[0].name


def scales_by_box(action: Action) -> bool:
    """Whether an action works with coordinates along the box vectors."""
    if isinstance(action, VectorVariable):
        return action.form == "scaled"
    if isinstance(action, Centroid):
        return action.phases
    return isinstance(action, FixedAtom) and action.scaled


def _badly_whole(action: Variable | VirtualAtom, whole: list[WholeMolecules]) -> str:
    """Why what WHOLEMOLECULES leaves for NOPBC is not known natively; empty where it is."""
    sites = action.sites if isinstance(action, Variable) else ()
    torn = [site for site in sites if isinstance(site, Centroid) and not site.periodic]
    if any(site.entities_above != action.entities_above for site in torn):
        return "with a virtual atom from above the latter"
    if not action.entities_above or (action.periodic and not torn):
        return ""
    if isinstance(action, Variable) and not action.periodic and not _all_real(sites):
        return "with virtual atoms"
    if any(a.stride != 1 for a in whole):
        return "with STRIDE"
    atoms = [atom for entity in action.entities_above for atom in entity.atoms]
    if not _all_real(atoms):
        return "where entities have virtual atoms"
    return ""


def _all_real(sites: Iterable[Site]) -> bool:
    return all(isinstance(site, int) for site in sites)


def kept_together(actions: list[Action], box: BoxKind) -> list[tuple[int, ...]]:
    """Groups of atoms that the forces take as they are, each to be in one periodic image."""
    taken = [a for a in actions if isinstance(a, Centroid | GroupVariable) and a.periodic]
    groups = [a.atoms for a in taken if not (isinstance(a, Centroid) and a.phases)]
    groups = [group for group in groups if not box.in_several_molecules(group)]
    for entity in (e for a in actions if isinstance(a, Variable) for e in a.whole_entities):
        groups += entity.groups
    return groups


def wandering(actions: list[Action], owners: Owners, box: BoxKind) -> list[Problem]:
    """Biased variables whose forces in this box would not be PLUMED's.

    The values of some depend on the periodic image that a molecule is in: OpenMM moves whole
    molecules between images, and its forces would not be those of the value.
    """
    found: dict[str, Variable] = {}
    biases = [action for action in actions if isinstance(action, Bias)]
    names = [value.name for bias in biases for value in bias.arguments]
    while names:
        owner = owners[names.pop()]
        if isinstance(owner, Variable):
            found[owner.label] = owner
        names += [value.name for value in owner.arguments]
    if not box.periodic:
        return []
    problems = []
    for variable in found.values():
        what = ""
        entities = [entity.atoms for entity in variable.whole_entities]
        if variable.depends_on_image(box) or any(map(box.in_several_molecules, entities)):
            what = "biasing what depends on the periodic image is not native"
        elif box.triclinic and any(isinstance(s, Centroid) and s.phases for s in variable.sites):
            what = "PLUMED's forces of PHASES are not the slope of the bias in a triclinic box"
        if what:
            word = f"{variable.name} {variable.label}"
            problems.append(uncovered(variable.statement, word, what))
    return problems


def check_atoms(actions: list[Action], n_atoms: int) -> None:
    """Raise if an action names an atom that a system of `n_atoms` does not have.

    Raises
    ------
    PlumedInputError
    """
    for action in actions:
        if isinstance(action, Variable | VirtualAtom):
            last = max((atom for atom in action.sites if isinstance(atom, int)), default=-1)
            if last >= n_atoms:
                message = f"atom {last + 1} is beyond the last atom {n_atoms}"
                raise action.error("ATOMS", message)


def check_box(made_for: BoxKind, box: np.ndarray | None) -> None:
    """Raise if a box of shape (3, 3) is of a more general kind than the forces are made for.

    Raises
    ------
    ValueError
    """
    if box is None or made_for.triclinic or not made_for.periodic:
        return
    if form_of_box(box) is BoxForm.GENERAL:  # of a frame: OpenMM's boxes are reduced
        return
    if box[1, 0] != 0 or box[2, 0] != 0 or box[2, 1] != 0:
        raise ValueError(
            "the box is triclinic now, but was rectangular in the System that the bias was "
            "added to: give that System the triclinic box by setDefaultPeriodicBoxVectors"
        )


def check_finite(positions: np.ndarray, step: int) -> None:
    """Raise if a coordinate is NaN or infinite: no row and no hill is made of it.

    Parameters
    ----------
    positions : ndarray, shape (n_atoms, 3)
        [nm]
    step : int

    Raises
    ------
    ValueError
    """
    flat = positions.reshape(-1)
    if not math.isfinite(flat.dot(flat)):
        raise ValueError(
            f"a position is not finite at step {step}: nothing is written or laid for it; go on "
            "from the last checkpoint with a smaller time step or a gentler bias"
        )
