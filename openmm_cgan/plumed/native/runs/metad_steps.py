"""What some METADs need at every step: ADAPTIVE=DIFF, ACCELERATION, NLIST, UPDATE_FROM."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from openmm_cgan.plumed.actions.metad.metad import Metad
from openmm_cgan.plumed.files.output_files import OutputFiles
from openmm_cgan.plumed.native.runs.metad import MetadRun


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


class WatchedRun(MetadRun):
    """A METAD that is not updated always, or whose hills get rarer."""

    def tick(self, found: dict[str, Any], step: int, time: float, first: bool) -> bool:
        window, pacing = self.action.window, self.action.pacing
        if window is not None:
            if not window.is_open:
                return False
            first = window.first
        changed = super().tick(found, step, time, first)
        if pacing is not None and step % pacing.every == 0:
            self.action.change_pace(found)
        return changed


def metad_run(action: Metad, directory: Path, files: OutputFiles) -> MetadRun:
    """What runs a METAD between steps."""
    is_plain = action.window is None and action.pacing is None
    return (MetadRun if is_plain else WatchedRun)(action, directory, files)
