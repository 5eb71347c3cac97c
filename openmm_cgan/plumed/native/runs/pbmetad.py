"""A PBMETAD during a run: its hills in files, those of other walkers, and the grids on disk."""

from __future__ import annotations

import logging
import os
import time as clock
from functools import partial

import numpy as np

from openmm_cgan.checkpoints import saved_array
from openmm_cgan.plumed.actions.pbmetad.family import Family
from openmm_cgan.plumed.actions.pbmetad.pbmetad import Pbmetad
from openmm_cgan.plumed.files.fields import FieldWriter
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


class PbmetadRun(ActionRun):
    """A PBMETAD with its hills, those of other walkers, and its grids."""

    acts_last = True
    is_static = False

    def __init__(self, action: Pbmetad, settings: RunSettings) -> None:
        self.action: Pbmetad = action
        self._files = settings.files
        action.kt = kt_of(action, settings.temperature, needed=False)
        self._readers = [
            [
                HillsReader(self._files.path(self._file(family, k)), family)
                for family in action.families
            ]
            for k in range(action.options.walkers.number)
        ]
        self._appends = False
        self._gradients: FrameValues | None = None

    def _file(self, family: Family, walker: int) -> str:
        walkers = self.action.options.walkers
        if walkers.number == 1:
            return family.options.file
        return os.path.join(walkers.folder, f"{family.options.file}.{walker}")

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
        self.action.start(kt_of(self.action, temperature, needed=True), timestep)

    def take_gradients(self, compiler: Compiler) -> None:
        if self.action.needs_gradients:
            self._gradients = compiler.frame_values(self.action)

    # ---- a beginning

    @property
    def reads_bias(self) -> bool:
        options, families = self.action.options, self.action.families
        others = options.walkers.number > 1 or any(f.options.grid_read for f in families)
        return others or self._files.continues(options.restarts)

    def read(self) -> bool:
        """Read hills and grids that an earlier run or PLUMED has left."""
        self._appends = self._files.continues(self.action.options.restarts)
        reads_grids = False
        for family in self.action.families:
            if (name := family.options.grid_read) is not None:
                assert family.grid is not None
                take_grid(family.grid, self._files.path(name), self.action.label)
                reads_grids = True
        for reader in (reader for readers in self._readers for reader in readers):
            reads_hills = self._appends and not reads_grids
            if reads_hills and not reader.path.exists():
                raise FileNotFoundError(
                    f"restart: {reader.path} with hills of PBMETAD {self.action.label} is not there"
                )
            if reader.path.exists():
                reader.is_open = True
                if reads_hills:
                    label, path = self.action.label, reader.path
                    log.info("PBMETAD %s: %d hills from %s", label, reader.read(), path)
        return True  # the forces are to be told kT

    def begin(self) -> None:
        """Make the files that are there from the beginning."""
        for family in self.action.families:
            self._writer(family)

    def _writer(self, family: Family) -> FieldWriter:
        action, options = self.action, family.options
        walkers = action.options.walkers
        fmt, interval = action.options.fmt, options.interval
        header = partial(hills_header, family, fmt, interval, walkers.number > 1)
        key = f"{action.label} {options.file}"
        return self._files.writer(key, self._file(family, walkers.index), header, self._appends)

    # ---- a step

    def check(self, step: Step) -> None:
        """Refuse what has left a grid; measure the gradients that ADAPTIVE=GEOM lays hills by."""
        action = self.action
        if self._gradients is not None and step.number % action.options.pace == 0:
            if step.box is not None and form_of_box(step.box) is BoxForm.GENERAL:
                where = action.statement.location
                raise ValueError(f"{where}: ADAPTIVE=GEOM in this box needs --backend kernel")
            metric = self._gradients.products(step.positions, step.box)
            action.take_metric(metric * action.units.length**2)
        action.check_inside([step.values[value.name] for value in action.arguments])

    def act(self, step: Step) -> bool:
        """Count the step, lay hills, write the grids, read the hills of other walkers."""
        action, options, first, changed = self.action, self.action.options, step.first, False
        if action.needs_every_step:
            action.accumulate(step.at(action), step.number, step.time_for(action), first)
        if action.window is not None:
            if not action.window.is_open:
                return False
            first = action.window.first
        if step.number % options.pace == 0 and not first:
            self._lay(step)
            changed = True
        if options.grid_stride and step.number % options.grid_stride == 0:
            for family in action.families:
                assert family.grid is not None
                path = self._files.path(str(family.options.grid_written))
                write_grid(family.grid, path, action.label, keeps_all=False)
        if options.walkers.number > 1 and step.number % options.walkers.stride == 0:
            for walker, readers in enumerate(self._readers):
                for reader in readers if walker != options.walkers.index else ():
                    reader.read_on()
            changed = True
        return changed

    def _lay(self, step: Step) -> None:
        action, options = self.action, self.action.options
        factor = options.heights.bias_factor or 1.0
        hills = action.deposit(step.at(action))
        for family, (centre, sigma, height) in zip(action.own_families, hills, strict=True):
            numbers = (step.time_for(action), centre, sigma, height, factor)
            row = [options.fmt % number for number in numbers]
            if options.walkers.number > 1:
                row.append(f" {int(clock.time())}")
            self._writer(family).write(row)
        if options.walkers.number > 1:  # which read it
            for family in action.families:
                self._writer(family).flush()

    # ---- with a checkpoint

    def saved(self) -> dict[str, np.ndarray]:
        """What it has gathered, and how far the hills of other walkers are read."""
        places = [[reader.position for reader in readers] for readers in self._readers]
        are_open = [[int(reader.is_open) for reader in readers] for readers in self._readers]
        own = {"positions": np.array(places), "are_open": np.array(are_open)}
        return self.action.saved() | own

    def restore_saved(self, arrays: dict[str, np.ndarray]) -> None:
        self.action.restore_saved(arrays)
        shape = (len(self._readers), len(self.action.families))
        positions, are_open = (
            saved_array(arrays, name, shape) for name in ("positions", "are_open")
        )
        for k, readers in enumerate(self._readers):
            for i, reader in enumerate(readers):
                reader.go_on(int(positions[k, i]), bool(are_open[k, i]))

    def go_on(self) -> None:
        self._appends = True
        for family in self.action.families:
            self._writer(family)
