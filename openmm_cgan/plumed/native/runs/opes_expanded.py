"""An OPES_EXPANDED during a run: its updates, and its DELTAFS and STATE files."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np

from openmm_cgan.atomic_files import write_atomically
from openmm_cgan.plumed.actions.expanded.opes_expanded import OpesExpanded
from openmm_cgan.plumed.files.contents import append_rows, packed, text_of_rows
from openmm_cgan.plumed.files.fields import FieldWriter, begin_file, keep_last, read_tables
from openmm_cgan.plumed.native.runs.run import ActionRun, RunSettings, Step, kt_of, require_left

log = logging.getLogger("openmm_cgan")


class OpesExpandedRun(ActionRun):
    """An OPES_EXPANDED with its files."""

    acts_last = True
    is_static = False

    def __init__(self, action: OpesExpanded, settings: RunSettings) -> None:
        self.action: OpesExpanded = action
        self._files = settings.files
        self._appends = False

    @property
    def strides(self) -> list[int]:
        return [s for s in (self.action.options.pace, self.action.options.state.stride) if s > 0]

    def settle(self, timestep: float, temperature: float | None) -> None:
        found = {kt_of(e, temperature, needed=True) for e in self.action.expansions}
        kts = [kt for kt in found if kt is not None]
        if max(kts) - min(kts) > 1e-4:
            where = f"{self.action.statement.location}: {self.action.name} {self.action.label}"
            raise ValueError(f"{where}: its ECV_ actions have different temperatures")
        self.action.start(kts[0])

    # ---- a beginning

    @property
    def reads_bias(self) -> bool:
        return self._files.continues(self.action.options.restarts)

    def read(self) -> bool:
        """Read the free energies or the state that an earlier run has left."""
        action = self.action
        self._appends = self._files.continues(action.options.restarts)
        state = action.options.state.read
        if not self._appends:
            if state is not None:
                log.warning("%s %s: STATE_RFILE is for a restart", action.name, action.label)
            return False
        path = self._files.path(state or action.options.file)
        require_left(path, f"{action.name} {action.label}")
        (self._read_free_energies if state is None else self._read_state)(path)
        log.info("%s %s: restarted from %s", action.name, action.label, path)
        return True

    def _read_free_energies(self, path: Path) -> None:
        action, tables = self.action, [table for table in read_tables(path) if len(table)]
        if not tables:
            raise ValueError(f"{path} has no rows to restart from")
        fields = [name for name in tables[0].fields if name.startswith("DeltaF_")]
        counter = 1 - int(tables[0].constant("print_stride"))
        for table in tables:
            table.require_columns(["time", "rct", *fields])
            table.require_finite(["rct", *fields])
            counter += len(table) * int(table.constant("print_stride"))
        last = tables[-1].taken(["rct", *fields])[-1]
        names = [self._split(field.removeprefix("DeltaF_"), path) for field in fields]
        action.go_on_with(names, last[1:], str(path))
        action.rct, action.counter = float(last[0]), counter

    def _split(self, name: str, path: Path) -> tuple[str, ...]:
        """What the name of a state says of each expansion."""
        words, parts = name.split("_"), []
        for expansion in self.action.expansions:
            n = len(expansion.arguments)
            parts.append("_".join(words[:n]))
            words = words[n:]
        if words:
            raise ValueError(f"{path} has states of other values than {self.action.label}")
        return tuple(parts)

    def _read_state(self, path: Path) -> None:
        """The last of a file of states, whose names of states are read as they stand."""
        action = self.action
        rows: list[list[str]] = []
        constants: dict[str, str] = {}
        fields = [*(value.name for value in action.arguments), "DeltaF"]
        for number, line in enumerate(text_of_rows(path).splitlines(), start=1):
            words = line.split()
            if words[:2] == ["#!", "FIELDS"]:
                if words[2:] != fields:
                    raise ValueError(f"{path}:{number}: expected the fields {' '.join(fields)}")
                rows = []
            elif words[:2] == ["#!", "SET"] and len(words) == 4:
                constants[words[2]] = words[3]
            elif words:
                if len(words) != len(fields):
                    raise ValueError(f"{path}:{number}: expected {len(fields)} words")
                rows.append(words)
        try:
            numbers = np.array([float(row[-1]) for row in rows])
            counter, rct = int(constants["counter"]), float(constants["rct"])
        except (KeyError, ValueError) as error:
            raise ValueError(f"{path} is no state of {action.name}: {error}") from None
        if not (np.isfinite(numbers).all() and np.isfinite(rct)) or counter < 1:
            raise ValueError(f"{path} is no state of {action.name}: its numbers are not finite")
        names = [self._split("_".join(row[:-1]), path) for row in rows]
        action.go_on_with(names, numbers, str(path))
        action.counter, action.rct = counter, rct

    def begin(self) -> None:
        """Begin DELTAFS and STATE; the columns of the first are known later."""
        begin_file(self._files.path(self.action.options.file), self._appends)
        if (written := self.action.options.state.written) is not None:
            begin_file(self._files.path(written), self._appends)
        self._watch()

    def go_on(self) -> None:
        self._appends = True
        self._watch()

    def _watch(self) -> None:
        self._files.watch(self.action.options.file)
        if self.action.options.state.keeps_all:
            self._files.watch(str(self.action.options.state.written))

    def _writer(self) -> FieldWriter:
        action = self.action
        names = ["DeltaF_" + "_".join(name) for name in action.state_names]
        constants = [("print_stride", f" {action.options.print_stride}")]
        header = ["time", "rct", *names], constants
        return self._files.writer(action.label, action.options.file, lambda: header, True)

    # ---- a step

    def act(self, step: Step) -> bool:
        """Observe or update, and write what is due."""
        action, options = self.action, self.action.options
        skipped = step.first and options.observations != 1
        changed = False
        if not skipped and step.number % options.pace == 0:
            if not len(action.free_energies):
                changed = action.observe(step.at(action))
                if changed:
                    self._write_row(step)
                return changed
            if not step.first:
                action.update(step.at(action), float(step.values[f"{action.label}.bias"]))
                changed = True
                if options.calc_work:
                    step.values[f"{action.label}.work"] = action.work
                if (action.counter - 1) % options.print_stride == 0:
                    self._write_row(step)
        if not skipped and options.state.stride and step.number % options.state.stride == 0:
            self._write_state(step)
        return changed

    def _write_row(self, step: Step) -> None:
        action = self.action
        numbers = (step.time_for(action), action.rct, *action.free_energies)
        writer = self._writer()
        writer.write(action.options.fmt % number for number in numbers)
        writer.flush()

    def _write_state(self, step: Step) -> None:
        action, fmt = self.action, self.action.options.fmt
        path = self._files.path(str(action.options.state.written))
        lines = [f"#! FIELDS {' '.join(value.name for value in action.arguments)} DeltaF"]
        lines.append(f"#! SET time {fmt % step.time_for(action)}")
        lines.append(f"#! SET counter  {action.counter}")
        lines.append(f"#! SET rct {fmt % action.rct}")
        for names, number in zip(action.state_names, action.free_energies, strict=True):
            words = "_".join(names).split("_")
            lines.append("".join(f"  {word}" for word in words) + fmt % number)
        text = "".join(f"{line}\n" for line in lines) if len(action.free_energies) else ""
        if not action.options.state.keeps_all:
            keep_last(path)
            write_atomically(path, packed(text, path))  # no reader sees a part of a state
            return
        append_rows(path, text)
