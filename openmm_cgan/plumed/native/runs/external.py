"""An EXTERNAL during a run: it stops where a value leaves the grid."""

from __future__ import annotations

from openmm_cgan.plumed.actions.external import External
from openmm_cgan.plumed.actions.funnel import Funnel
from openmm_cgan.plumed.native.runs.run import ActionRun, RunSettings, Step

PATIENCE = 10  # steps; PLUMED looks at each, which would ask a GPU for the positions at each


class ExternalRun(ActionRun):
    """An EXTERNAL, whose values are looked at every few steps and whenever all are known."""

    needs_arguments = True
    own_strides = (PATIENCE,)

    def __init__(self, action: External, settings: RunSettings) -> None:
        self.action: External = action

    def check(self, step: Step) -> None:
        self.action.check_inside(step.at(self.action))

    def act(self, step: Step) -> bool:
        """Raise where a value has left the grid.

        Raises
        ------
        RuntimeError
        """
        self.check(step)
        return False


class FunnelRun(ExternalRun):
    """A FUNNEL, which writes its file where there is none."""

    action: Funnel

    def __init__(self, action: Funnel, settings: RunSettings) -> None:
        super().__init__(action, settings)
        self._files = settings.files

    def begin(self) -> None:
        self.action.write(self._files.path(self.action.file))
