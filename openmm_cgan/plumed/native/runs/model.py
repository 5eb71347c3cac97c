"""A PYTORCH_MODEL during a run: a checkpoint tells whether its file has changed."""

from __future__ import annotations

from openmm_cgan.plumed.actions.pytorch_model import PytorchModel, PytorchPositions
from openmm_cgan.plumed.native.runs.run import ActionRun, RunSettings


class ModelRun(ActionRun):
    """A model, which does nothing between steps."""

    def __init__(self, action: PytorchModel | PytorchPositions, settings: RunSettings) -> None:
        self.action: PytorchModel | PytorchPositions = action
