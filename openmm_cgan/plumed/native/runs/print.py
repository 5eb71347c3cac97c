"""PRINT and FLUSH during a run: the rows of a file, and whose turn it is in them."""

from __future__ import annotations

import logging

import numpy as np

from openmm_cgan.checkpoints import saved_array
from openmm_cgan.plumed.actions.output import Flush, Print
from openmm_cgan.plumed.actions.values import Value
from openmm_cgan.plumed.files.fields import FieldWriter, domain_constants
from openmm_cgan.plumed.files.output_files import Header
from openmm_cgan.plumed.native.runs.run import ActionRun, RunSettings, Step

log = logging.getLogger("openmm_cgan")


class PrintRun(ActionRun):
    """A PRINT with its file, which begins with the first row."""

    acts_last = True

    def __init__(self, action: Print, settings: RunSettings) -> None:
        self.action: Print = action
        self._files = settings.files
        self._rows = 0

    @property
    def strides(self) -> tuple[int, ...]:
        return (self.action.stride,)

    def act(self, step: Step) -> bool:
        """Write a row."""
        since, until = self.action.window
        if step.number % self.action.stride == 0 and since <= step.time_for(self.action) < until:
            self._write(step)
        return False

    def _write(self, step: Step) -> None:
        action, before = self.action, self._shown()
        self._rows += 1
        shown = self._shown()
        numbers = (action.fmt % step.values[value.name] for value in shown)
        row = [f" {step.time_for(action):f}", *(f" {text}" for text in numbers)]
        if action.file is None:
            log.info("PRINT%s", "".join(row))
            return
        writer = self._writer()
        if shown != before and self._rows > 1:
            writer.change_header(*self._header())
        writer.write(row)

    def _turns(self) -> list[int]:
        """Which values had their turn in each span of rows, the present one last."""
        n, rotate = len(self.action.arguments), self.action.rotate
        return [turn % n for turn in range(1 // rotate, max(self._rows, 1) // rotate + 1)]

    def _shown(self) -> tuple[Value, ...]:
        values = self.action.arguments
        return (values[self._turns()[-1]],) if self.action.rotate else values

    def _header(self) -> Header:
        values = self.action.arguments
        constants = domain_constants([v.name for v in values], [v.domain_text for v in values])
        if self.action.rotate:  # PLUMED knows the domain of a value once it has had its turn
            known = {f"{end}_{values[k].name}" for k in self._turns() for end in ("min", "max")}
            constants = [(name, text if name in known else "") for name, text in constants]
        return ["time", *(value.name for value in self._shown())], constants

    def _writer(self) -> FieldWriter:
        action = self.action
        name, append = str(action.file), action.restarts
        return self._files.writer(action.label, name, self._header, append)

    # ---- with a checkpoint

    def saved(self) -> dict[str, np.ndarray]:
        return {"rows": np.array(self._rows)} if self.action.rotate else {}

    def restore_saved(self, arrays: dict[str, np.ndarray]) -> None:
        if self.action.rotate:
            self._rows = int(saved_array(arrays, "rows", ()).item())

    def go_on(self) -> None:
        if self.action.file is not None and self._files.goes_on_in(self.action.file):
            self._writer()


class FlushRun(ActionRun):
    """A FLUSH."""

    acts_last = True

    def __init__(self, action: Flush, settings: RunSettings) -> None:
        self.action: Flush = action
        self._files = settings.files

    @property
    def strides(self) -> tuple[int, ...]:
        return (self.action.stride,)

    def act(self, step: Step) -> bool:
        """Hand all files to the operating system."""
        if step.number % self.action.stride == 0:
            self._files.flush()
        return False
