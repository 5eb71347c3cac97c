"""What a METAD needs at every step: widths that adapt, ACCELERATION, NLIST, UPDATE_FROM."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from openmm_cgan.plumed.actions.metad import Metad
from openmm_cgan.plumed.metad_run import MetadRun
from openmm_cgan.plumed.output_files import OutputFiles


class MetadSteps:
    """A METAD that is called at every step, besides its `MetadRun` at those of its hills."""

    every_step = True
    strides = (1,)

    def __init__(self, action: Metad) -> None:
        self.action = action

    def move_to(self, step: int) -> None:
        """Bring what depends on the step to it."""
        if self.action.acceleration is not None:
            self.action.acceleration.step = step

    def tick(self, found: dict[str, Any], step: int, time: float, first: bool) -> None:
        """Count a step, before its hill."""
        self.action.follow(found, step, time / self.action.units.time, first)


class WindowedRun(MetadRun):
    """A METAD that is updated between UPDATE_FROM and UPDATE_UNTIL only."""

    def tick(self, found: dict[str, Any], step: int, time: float, first: bool) -> bool:
        window = self.action.window
        assert window is not None
        return window.is_open and super().tick(found, step, time, window.first)


def metad_run(action: Metad, directory: Path, files: OutputFiles) -> MetadRun:
    """What runs a METAD between steps."""
    kind = MetadRun if action.window is None else WindowedRun
    return kind(action, directory, files)
