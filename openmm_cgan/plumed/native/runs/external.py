"""An EXTERNAL during a run: it stops where a value leaves the grid."""

from __future__ import annotations

from openmm_cgan.plumed.actions.external import External
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
