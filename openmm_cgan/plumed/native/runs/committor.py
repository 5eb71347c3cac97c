"""A COMMITTOR during a run: its file, and the end of the run."""

from __future__ import annotations

import logging

from openmm_cgan.plumed.actions.committor import Committor, StopRunError
from openmm_cgan.plumed.files.fields import FieldWriter, domain_constants
from openmm_cgan.plumed.native.runs.run import ActionRun, RunSettings, Step

log = logging.getLogger("openmm_cgan")


class CommittorRun(ActionRun):
    """A COMMITTOR with its file."""

    needs_arguments = True

    def __init__(self, action: Committor, settings: RunSettings) -> None:
        self.action: Committor = action
        self._files = settings.files

    @property
    def own_strides(self) -> tuple[int, ...]:
        return (self.action.stride,)

    def begin(self) -> None:
        self._writer(self._files.continues(self.action.restarts))

    def go_on(self) -> None:
        self._writer(append=True)

    def _writer(self, append: bool = True) -> FieldWriter | None:
        """The writer of the file; None where there is none."""
        action = self.action
        if action.file is None:
            return None
        names = [value.name for value in action.arguments]
        constants = domain_constants(names, [v.domain_text for v in action.arguments])
        header = (["time", *names, "basin"], constants)
        return self._files.writer(action.label, action.file, lambda: header, append)

    def act(self, step: Step) -> bool:
        """Write a row where a basin is entered, and stop the run in it."""
        action = self.action
        if step.number % action.stride:
            return False
        arguments = step.at(action)
        inside, entered = action.enter_basin(arguments)
        numbers = (action.fmt % x for x in arguments)
        row = [f" {step.time_for(action):f}", *(f" {text}" for text in numbers), f" {action.basin}"]
        writer = self._writer()
        if entered and writer is not None:
            writer.write(row)
        elif entered:
            log.info("COMMITTOR%s", "".join(row))
        if inside and action.stops:
            if writer is not None:
                writer.end(f"COMMITTED TO BASIN {action.basin}")
            raise StopRunError(
                f"{action.statement.location}: COMMITTOR {action.label} asks the run to stop: "
                f"committed to basin {action.basin} at step {step.number}"
            )
        return False
