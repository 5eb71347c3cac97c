"""A MOVINGRESTRAINT during a run: its work is summed at every step, if anybody reads it."""

from __future__ import annotations

from openmm_cgan.plumed.actions.biases.moving import MovingRestraint
from openmm_cgan.plumed.native.runs.run import ActionRun, RunSettings, Step


class MovingRun(ActionRun):
    """A MOVINGRESTRAINT."""

    is_static = False

    def __init__(self, action: MovingRestraint, settings: RunSettings) -> None:
        self.action: MovingRestraint = action
        read = {value.name for other in settings.actions for value in other.arguments}
        self._is_read = not read.isdisjoint(action.work_names)

    @property
    def own_strides(self) -> tuple[int, ...]:
        moves = self._is_read and not self.action.has_arrived
        return (self.action.stride,) if moves else ()

    @property
    def needs_arguments(self) -> bool:
        return self._is_read

    def move_to(self, number: int) -> None:
        self.action.move_to(number)

    def act(self, step: Step) -> bool:
        """Add the work since the last step at which it acts."""
        if self._is_read and step.number % self.action.stride == 0:
            self.action.accumulate_work([step.values[v.name] for v in self.action.arguments])
        return False
