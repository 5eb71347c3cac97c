"""The PLUMED actions that are known natively, each written once.

units            the units that an input's numbers are in
values           numbers that actions give, elements of vectors, their domains
names            names of values, as patterns and in messages
action           what actions share: keywords, values, what stands above a statement
statements       how a statement becomes an action
help             what there is, as text
run_keywords     keywords that several actions have: RESTART, TEMP, FILE, FMT
update_window    UPDATE_FROM, UPDATE_UNTIL
neighbour_lists  NLIST of METAD and OPES
setup, output    UNITS, RESTART, MOLINFO, WHOLEMOLECULES, GROUP; PRINT, FLUSH
ignored          DEBUG, RANDOM_EXCHANGES
variables        virtual atoms and collective variables
functions, sort  COMBINE, CUSTOM, CONSTANT; SORT
function_path    FUNCPATHMSD
pytorch_model    PYTORCH_MODEL
biases           RESTRAINT, walls, BIASVALUE, MOVINGRESTRAINT, ABMD
opes, metad      OPES; METAD
pbmetad          PBMETAD
expanded         OPES_EXPANDED and the ECV_ actions
external, funnel EXTERNAL; FUNNEL
committor        COMMITTOR
dumps            DUMPATOMS, DUMPDERIVATIVES, DUMPFORCES, DUMPPROJECTIONS, DUMPMASSCHARGE

`read_actions` turns an input into a list of them. A new action is its class, in a file of its room,
and its name in `ACTIONS`.
"""

from __future__ import annotations

from pathlib import Path

from openmm_cgan.plumed.actions.action import Action, Scope, uncovered
from openmm_cgan.plumed.actions.biases.abmd import Abmd
from openmm_cgan.plumed.actions.biases.bias_value import BiasValue
from openmm_cgan.plumed.actions.biases.moving import MovingRestraint
from openmm_cgan.plumed.actions.biases.restraint import Restraint
from openmm_cgan.plumed.actions.biases.walls import LowerWalls, UpperWalls
from openmm_cgan.plumed.actions.committor import Committor
from openmm_cgan.plumed.actions.dumps import (
    DumpAtoms,
    DumpDerivatives,
    DumpForces,
    DumpMassCharge,
    DumpProjections,
)
from openmm_cgan.plumed.actions.expanded.energies import EcvCustom
from openmm_cgan.plumed.actions.expanded.linear import EcvLinear, EcvMultithermal
from openmm_cgan.plumed.actions.expanded.multibaric import EcvMultithermalMultibaric
from openmm_cgan.plumed.actions.expanded.opes_expanded import OpesExpanded
from openmm_cgan.plumed.actions.expanded.umbrellas import EcvUmbrellasFile, EcvUmbrellasLine
from openmm_cgan.plumed.actions.external import External
from openmm_cgan.plumed.actions.function_path import FuncPathMsd
from openmm_cgan.plumed.actions.functions import Combine, Constant, Custom, Matheval
from openmm_cgan.plumed.actions.funnel import Funnel
from openmm_cgan.plumed.actions.help import action_help, help_text
from openmm_cgan.plumed.actions.ignored import Debug, RandomExchanges
from openmm_cgan.plumed.actions.metad.metad import Metad
from openmm_cgan.plumed.actions.opes.opes import Opes, OpesExplore
from openmm_cgan.plumed.actions.output import Flush, Print
from openmm_cgan.plumed.actions.pbmetad.pbmetad import Pbmetad
from openmm_cgan.plumed.actions.pytorch_model import PytorchModel
from openmm_cgan.plumed.actions.setup import Group, MolInfoAction, Restart, Units, WholeMolecules
from openmm_cgan.plumed.actions.sort import Sort
from openmm_cgan.plumed.actions.statements import read_action
from openmm_cgan.plumed.actions.variables.alpha_beta import AlphaBeta
from openmm_cgan.plumed.actions.variables.centers import Center, Com, FixedAtom
from openmm_cgan.plumed.actions.variables.chains import Angle, Distance, Torsion
from openmm_cgan.plumed.actions.variables.components import Position
from openmm_cgan.plumed.actions.variables.contact_maps import ContactMap
from openmm_cgan.plumed.actions.variables.contacts import Coordination
from openmm_cgan.plumed.actions.variables.coordination_numbers import CoordinationNumber
from openmm_cgan.plumed.actions.variables.displacements import RmsdOrDisplacement
from openmm_cgan.plumed.actions.variables.distance_deviations import Drmsd
from openmm_cgan.plumed.actions.variables.distances import (
    Distances,
    XDistances,
    YDistances,
    ZDistances,
)
from openmm_cgan.plumed.actions.variables.ermsd import Ermsd
from openmm_cgan.plumed.actions.variables.funnel_place import FunnelPlace
from openmm_cgan.plumed.actions.variables.moved import FitToTemplate, WrapAround, as_moved
from openmm_cgan.plumed.actions.variables.paths import PathMsd, PropertyMap
from openmm_cgan.plumed.actions.variables.projection import ProjectionOnAxis
from openmm_cgan.plumed.actions.variables.puckering import Puckering
from openmm_cgan.plumed.actions.variables.secondary import (
    AlphaRmsd,
    AntibetaRmsd,
    ParabetaRmsd,
)
from openmm_cgan.plumed.actions.variables.shapes import Gyration
from openmm_cgan.plumed.actions.variables.surroundings import Cell, Energy, Time, Volume
from openmm_cgan.plumed.input.language import PlumedInputError, Problem, Statement

ACTIONS: dict[str, type[Action]] = {
    cls.name: cls
    for cls in (
        Units,
        Restart,
        MolInfoAction,
        WholeMolecules,
        FitToTemplate,
        WrapAround,
        Group,
        Com,
        Center,
        FixedAtom,
        Distance,
        Angle,
        Torsion,
        Position,
        Coordination,
        ContactMap,
        Distances,
        XDistances,
        YDistances,
        ZDistances,
        AlphaBeta,
        CoordinationNumber,
        Puckering,
        ProjectionOnAxis,
        FunnelPlace,
        Gyration,
        RmsdOrDisplacement,
        Drmsd,
        Ermsd,
        PathMsd,
        PropertyMap,
        AlphaRmsd,
        AntibetaRmsd,
        ParabetaRmsd,
        Volume,
        Cell,
        Time,
        Energy,
        Combine,
        Custom,
        Matheval,
        Constant,
        Sort,
        FuncPathMsd,
        PytorchModel,
        Restraint,
        MovingRestraint,
        Abmd,
        UpperWalls,
        LowerWalls,
        BiasValue,
        Metad,
        Pbmetad,
        Opes,
        OpesExplore,
        EcvMultithermal,
        EcvLinear,
        EcvMultithermalMultibaric,
        EcvUmbrellasLine,
        EcvUmbrellasFile,
        EcvCustom,
        OpesExpanded,
        External,
        Funnel,
        Committor,
        Print,
        DumpAtoms,
        DumpDerivatives,
        DumpForces,
        DumpProjections,
        DumpMassCharge,
        Flush,
        Debug,
        RandomExchanges,
    )
}


def actions_help(name: str | None = None) -> str:
    """What the native backend knows: every action with its keywords, types and defaults, as text.

    Parameters
    ----------
    name : str, optional
        Only this action.

    Raises
    ------
    ValueError
        If there is none of that name.
    """
    if name is None:
        return help_text(ACTIONS.values())
    if name.upper() not in ACTIONS:
        raise ValueError(f"no action '{name}' is known natively; there are: {', '.join(ACTIONS)}")
    return action_help(ACTIONS[name.upper()])


def read_actions(
    statements: list[Statement], n_atoms: int | None = None, folder: Path | None = None
) -> list[Action]:
    """Turn statements into actions, in order.

    Parameters
    ----------
    statements : list of Statement
    n_atoms : int, optional
        Atoms of the system; serials beyond are refused.
    folder : Path, optional
        The working folder of the input, which names of files are relative to.

    Returns
    -------
    list of Action

    Raises
    ------
    PlumedInputError
        With everything in the input that is wrong or not covered natively.
    """
    actions, problems = read_known(statements, n_atoms, folder)
    if problems:
        raise PlumedInputError(problems)
    return actions


def read_known(
    statements: list[Statement], n_atoms: int | None = None, folder: Path | None = None
) -> tuple[list[Action], list[Problem]]:
    """The actions that can be read, and what is wrong with the others: as `read_actions`."""
    scope = Scope(n_atoms=n_atoms, folder=folder or Path())
    problems: list[Problem] = []
    for statement in statements:
        cls = ACTIONS.get(statement.action)
        if cls is None:
            message = "this action is not known natively"
            problems.append(uncovered(statement, statement.action, message))
            scope.broken.add(statement.label)
            continue
        try:
            as_moved(read_action(cls, statement, scope), scope).enter(scope)
        except PlumedInputError as error:
            problems += error.problems
            scope.broken.add(statement.label)
            scope.molinfo_broken = scope.molinfo_broken or cls is MolInfoAction
    return list(scope.actions.values()), problems
