"""A METAD during a run: its hills in files, those of other walkers, and the grid on disk."""

from __future__ import annotations

import logging
import os
import time as clock
from functools import partial

import numpy as np

from openmm_cgan.checkpoints import saved_array
from openmm_cgan.plumed.actions.metad.metad import Metad
from openmm_cgan.plumed.files.fields import FieldWriter, begin_file
from openmm_cgan.plumed.geometry.lattices import BoxForm, form_of_box
from openmm_cgan.plumed.native.forces.compiler import Compiler
from openmm_cgan.plumed.native.forces.frame_values import FrameValues
from openmm_cgan.plumed.native.runs.hills_files import (
    HillsReader,
    hills_header,
    take_grid,
    write_grid,
)
from openmm_cgan.plumed.native.runs.run import ActionRun, RunSettings, Step, kt_of

log = logging.getLogger("openmm_cgan")


class MetadRun(ActionRun):
    """A METAD with its hills, those of other walkers, and its grid."""

    acts_last = True
    is_static = False

    def __init__(self, action: Metad, settings: RunSettings) -> None:
        self.action: Metad = action
        self._files = settings.files
        walkers = range(action.options.walkers.number)
        self._readers = [HillsReader(self._files.path(self._file(k)), action) for k in walkers]
        self._appends = False
        self._gradients: FrameValues | None = None

    def _file(self, walker: int) -> str:
        action = self.action
        if action.options.walkers.number == 1:
            return action.options.file
        return os.path.join(action.options.walkers.folder, f"{action.options.file}.{walker}")

    # ---- what it needs and when

    @property
    def strides(self) -> set[int]:
        return self.action.strides

    @property
    def own_strides(self) -> tuple[int, ...]:
        return (1,) if self.needs_arguments else ()

    @property
    def needs_arguments(self) -> bool:
        return self.action.needs_every_step

    def settle(self, timestep: float, temperature: float | None) -> None:
        kt = kt_of(self.action, temperature, self.action.needs_temperature)
        self.action.start(kt, timestep)

    def take_gradients(self, compiler: Compiler) -> None:
        if self.action.needs_gradients:
            self._gradients = compiler.frame_values(self.action)

    # ---- a beginning

    @property
    def reads_bias(self) -> bool:
        options = self.action.options
        others = options.walkers.number > 1 or options.grid_files.read is not None
        return others or self._files.continues(options.restarts)

    def read(self) -> bool:
        """Read hills and grids that an earlier run or PLUMED has left."""
        action = self.action
        self._appends = self._files.continues(action.options.restarts)
        reads_grid = action.options.grid_files.read is not None
        if reads_grid:
            self._read_grid()
        reads_hills = self._appends and not reads_grid
        for reader in self._readers:
            if reads_hills and not reader.path.exists():
                raise FileNotFoundError(
                    f"restart: {reader.path} with the hills of METAD {action.label} is not there"
                )
            if reader.path.exists():
                reader.is_open = True
                if reads_hills:
                    log.info("METAD %s: %d hills from %s", action.label, reader.read(), reader.path)
        if self._appends:
            action.update_totals()
        if action.acceleration is not None:
            action.acceleration.begin(self._files.path(""), action.label)
        return reads_hills or reads_grid

    def begin(self) -> None:
        """Make the files that are there from the beginning: a run may end before its first hill."""
        self._writer()
        files = self.action.options.grid_files
        if files.written and not (self._appends and files.keeps_all):
            begin_file(self._files.path(files.written), self._appends)
        self._watch_grids()

    def _watch_grids(self) -> None:
        files = self.action.options.grid_files
        if files.written and files.keeps_all:
            self._files.watch(files.written)

    def _writer(self) -> FieldWriter:
        name = self._file(self.action.options.walkers.index)
        action = self.action
        shared = action.options.walkers.number > 1
        fmt, interval = action.options.fmt, action.options.interval
        header = partial(hills_header, action, fmt, interval, shared)
        return self._files.writer(self.action.label, name, header, self._appends)

    # ---- a step

    def move_to(self, number: int) -> None:
        if self.action.acceleration is not None:
            self.action.acceleration.step = number

    def check(self, step: Step) -> None:
        """Refuse what has left the grid; measure the gradients that ADAPTIVE=GEOM lays hills by."""
        action = self.action
        if self._gradients is not None and step.number % action.pace == 0:
            if step.box is not None and form_of_box(step.box) is BoxForm.GENERAL:
                where = action.statement.location
                raise ValueError(f"{where}: ADAPTIVE=GEOM in this box needs --backend kernel")
            metric = self._gradients.products(step.positions, step.box)
            action.take_metric(metric * action.units.length**2)
        action.check_inside([step.values[value.name] for value in action.arguments])

    def act(self, step: Step) -> bool:
        """Count the step, lay the hill, write the grid, read the hills of other walkers."""
        action, first, changed = self.action, step.first, False
        if action.needs_every_step:
            action.accumulate(step.values, step.number, step.time_for(action), first)
        if action.window is not None:
            if not action.window.is_open:
                return False
            first = action.window.first
        if step.number % action.pace == 0 and not first:
            self._lay(step)
            changed = True
        stride = action.options.grid_files.stride
        if stride and step.number % stride == 0:
            self._write_grid()
        if (walkers := action.options.walkers).number > 1 and step.number % walkers.stride == 0:
            for walker, reader in enumerate(self._readers):
                if walker != walkers.index:
                    reader.read_on()
            changed = True
        if changed:
            action.update_totals(step.number)
            step.values.update(action.outputs_after_hill())
        if action.pacing is not None and step.number % action.pacing.every == 0:
            action.update_pace(step.values)
        return changed

    def _lay(self, step: Step) -> None:
        action = self.action
        hill = action.deposit(step.at(action), float(step.values[f"{action.label}.bias"]))
        row = [action.options.fmt % number for number in (step.time_for(action), *hill)]
        if action.options.walkers.number > 1:
            row.append(f" {int(clock.time())}")
        writer = self._writer()
        writer.write(row)
        if action.options.walkers.number > 1:  # which read it
            writer.flush()

    # ---- the grid on disk

    def _read_grid(self) -> None:
        action = self.action
        assert action.grid is not None
        path = self._files.path(str(action.options.grid_files.read))
        take_grid(action.grid, path, action.label)

    def _write_grid(self) -> None:
        action, files = self.action, self.action.options.grid_files
        assert action.grid is not None
        path = self._files.path(str(files.written))
        write_grid(action.grid, path, action.label, files.keeps_all)

    # ---- with a checkpoint

    def saved(self) -> dict[str, np.ndarray]:
        """What the METAD has gathered, and how far the hills of other walkers are read."""
        return self.action.saved() | {
            "positions": np.array([reader.position for reader in self._readers]),
            "are_open": np.array([int(reader.is_open) for reader in self._readers]),
        }

    def restore_saved(self, arrays: dict[str, np.ndarray]) -> None:
        self.action.restore_saved(arrays)
        shape = (len(self._readers),)
        positions, are_open = (
            saved_array(arrays, name, shape) for name in ("positions", "are_open")
        )
        for reader, position, is_open in zip(self._readers, positions, are_open, strict=True):
            reader.go_on(int(position), bool(is_open))

    def go_on(self) -> None:
        self._appends = True
        self._writer()
        self._watch_grids()
