"""What actions do between the steps of a run.

run        a step, and what an action does at it
model, path, committor, external, moving, abmd, metad, pbmetad, opes,
           opes_expanded, print, dumps, dumped_rows
           the actions that do something
`RUNS`     which class runs which action; a new one is its file and its row here
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from openmm_cgan.plumed.actions import Action
from openmm_cgan.plumed.actions.biases.abmd import Abmd
from openmm_cgan.plumed.actions.biases.moving import MovingRestraint
from openmm_cgan.plumed.actions.committor import Committor
from openmm_cgan.plumed.actions.dumps import (
    DumpAtoms,
    DumpDerivatives,
    DumpForces,
    DumpMassCharge,
    DumpProjections,
)
from openmm_cgan.plumed.actions.expanded.opes_expanded import OpesExpanded
from openmm_cgan.plumed.actions.external import External
from openmm_cgan.plumed.actions.function_path import FuncPathMsd
from openmm_cgan.plumed.actions.funnel import Funnel
from openmm_cgan.plumed.actions.metad.metad import Metad
from openmm_cgan.plumed.actions.opes.opes import Opes
from openmm_cgan.plumed.actions.output import Flush, Print
from openmm_cgan.plumed.actions.pbmetad.pbmetad import Pbmetad
from openmm_cgan.plumed.actions.pytorch_model import PytorchModel, PytorchPositions
from openmm_cgan.plumed.actions.variables.paths import PathMsd
from openmm_cgan.plumed.native.runs.abmd import AbmdRun
from openmm_cgan.plumed.native.runs.committor import CommittorRun
from openmm_cgan.plumed.native.runs.dumped_rows import (
    DumpDerivativesRun,
    DumpForcesRun,
    DumpMassChargeRun,
    DumpProjectionsRun,
)
from openmm_cgan.plumed.native.runs.dumps import DumpAtomsRun
from openmm_cgan.plumed.native.runs.external import ExternalRun, FunnelRun
from openmm_cgan.plumed.native.runs.metad import MetadRun
from openmm_cgan.plumed.native.runs.model import ModelRun
from openmm_cgan.plumed.native.runs.moving import MovingRun
from openmm_cgan.plumed.native.runs.opes import OpesRun
from openmm_cgan.plumed.native.runs.opes_expanded import OpesExpandedRun
from openmm_cgan.plumed.native.runs.path import FunctionPathRun, PathRun
from openmm_cgan.plumed.native.runs.pbmetad import PbmetadRun
from openmm_cgan.plumed.native.runs.print import FlushRun, PrintRun
from openmm_cgan.plumed.native.runs.run import ActionRun, RunSettings

RUNS: dict[type[Action], Callable[[Any, RunSettings], ActionRun]] = {
    PytorchModel: ModelRun,
    PytorchPositions: ModelRun,
    PathMsd: PathRun,
    FuncPathMsd: FunctionPathRun,
    Committor: CommittorRun,
    MovingRestraint: MovingRun,
    Abmd: AbmdRun,
    Metad: MetadRun,
    Pbmetad: PbmetadRun,
    Opes: OpesRun,
    OpesExpanded: OpesExpandedRun,
    External: ExternalRun,
    Funnel: FunnelRun,
    Print: PrintRun,
    DumpAtoms: DumpAtomsRun,
    DumpDerivatives: DumpDerivativesRun,
    DumpForces: DumpForcesRun,
    DumpProjections: DumpProjectionsRun,
    DumpMassCharge: DumpMassChargeRun,
    Flush: FlushRun,
}


def runs_of(settings: RunSettings) -> list[ActionRun]:
    """What runs the actions of an input between steps, in PLUMED's order.

    That is the input's, but first those that PLUMED calculates, then those that it updates.
    """
    runs: list[ActionRun] = []
    for action in settings.actions:
        kinds = [RUNS[kind] for kind in type(action).__mro__ if kind in RUNS]
        runs += [kind(action, settings) for kind in kinds[:1]]
    return sorted(runs, key=lambda run: run.acts_last)
