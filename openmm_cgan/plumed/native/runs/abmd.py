"""An ABMD during a run: the least distance from the target so far."""

from __future__ import annotations

from openmm_cgan.plumed.actions.biases.abmd import Abmd
from openmm_cgan.plumed.native.runs.run import ActionRun, RunSettings, Step


class AbmdRun(ActionRun):
    """An ABMD, which looks at each step."""

    is_static = False
    needs_arguments = True
    own_strides = (1,)

    def __init__(self, action: Abmd, settings: RunSettings) -> None:
        self.action: Abmd = action

    def act(self, step: Step) -> bool:
        """Take note of the step; its own force does not change by that."""
        self.action.accumulate(step.at(self.action))
        return False
