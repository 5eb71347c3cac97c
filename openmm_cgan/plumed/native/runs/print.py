"""A PRINT during a run: its file, and whose turn it is where only one value is shown at a time."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np

from openmm_cgan.checkpoints import saved_array
from openmm_cgan.plumed.actions.action import Value
from openmm_cgan.plumed.actions.output import Print
from openmm_cgan.plumed.files.fields import FieldWriter, domain_constants
from openmm_cgan.plumed.files.output_files import Header, OutputFiles

log = logging.getLogger("openmm_cgan")


class PrintRun:
    """A PRINT with its file.

    Parameters
    ----------
    action : Print
    directory : Path
    files : OutputFiles
    append : bool
        Go on in a file that is there.
    """

    def __init__(self, action: Print, directory: Path, files: OutputFiles, append: bool) -> None:
        self.action = action
        self._directory, self._files, self._append = directory, files, append
        self._rows = 0

    @property
    def stride(self) -> int:
        """At which multiples of the step there is a row."""
        return self.action.stride

    def write(self, found: dict[str, Any], time: float) -> None:
        """Write a row of values at a time [time unit of the input]."""
        action, before = self.action, self._shown()
        self._rows += 1
        shown = self._shown()
        row = [f" {time:f}", *(" " + action.fmt % found[value.name] for value in shown)]
        if action.file is None:
            log.info("PRINT%s", "".join(row))
            return
        writer = self.open()
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

    def open(self) -> FieldWriter:
        """The writer of the file."""
        path = self._directory / str(self.action.file)
        return self._files.writer(self.action.label, path, self._header, self._append)

    # ---- with a checkpoint

    def saved(self) -> dict[str, np.ndarray]:
        """What a checkpoint keeps."""
        return {"rows": np.array(self._rows)} if self.action.rotate else {}

    def go_on(self, arrays: dict[str, np.ndarray], files: dict[str, int]) -> None:
        """Go on where a saved run was, with files of these lengths."""
        if self.action.rotate:
            self._rows = int(saved_array(arrays, "rows", ()).item())
        if self.action.file in files:
            self.open()
