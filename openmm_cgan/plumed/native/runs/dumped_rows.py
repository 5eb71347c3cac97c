"""DUMPDERIVATIVES, DUMPFORCES, DUMPPROJECTIONS and DUMPMASSCHARGE during a run."""

from __future__ import annotations

from typing import Any

import numpy as np

from openmm_cgan.plumed.actions.biases.bias import Bias
from openmm_cgan.plumed.actions.dumps import (
    DumpDerivatives,
    DumpForces,
    DumpMassCharge,
    DumpProjections,
    DumpRows,
)
from openmm_cgan.plumed.actions.function_path import FuncPathMsd
from openmm_cgan.plumed.actions.functions import Function
from openmm_cgan.plumed.files.fields import FieldWriter
from openmm_cgan.plumed.native.derivatives import by_positions
from openmm_cgan.plumed.native.pulls import own_slopes, pull_on_atoms, slopes_below
from openmm_cgan.plumed.native.runs.dumps import DumpRun
from openmm_cgan.plumed.native.runs.run import ActionRun, RunSettings, Step


class _RowsRun(DumpRun):
    """Rows in a file."""

    action: DumpRows

    def __init__(self, action: Any, settings: RunSettings) -> None:
        super().__init__(action, settings)
        self._all = settings.actions

    def begin(self) -> None:
        self._writer()

    def go_on(self) -> None:
        if self._files.goes_on_in(self.action.file):
            self._writer()

    def _columns(self) -> list[str]:
        """Names of what is in a row behind the time."""
        raise NotImplementedError

    def check(self, step: Step) -> None:
        """Take what is written before anything is laid at this step."""
        if self._is_due(step):
            self._rows = self._numbers(step)

    def _numbers(self, step: Step) -> list[list[float]]:
        """The rows of a step."""
        raise NotImplementedError

    def _write(self, step: Step) -> None:
        for row in self._rows:
            texts = (f" {self.action.fmt % number}" for number in row)
            self._writer().write([f" {step.time_for(self.action):f}", *texts])

    def _writer(self) -> FieldWriter:
        action = self.action
        header = ["time", *self._columns()], list[tuple[str, str]]()
        return self._files.writer(action.label, action.file, lambda: header, action.restarts)


class DumpDerivativesRun(_RowsRun):
    """A DUMPDERIVATIVES with its file."""

    action: DumpDerivatives

    def _columns(self) -> list[str]:
        return ["parameter", *(value.name for value in self.action.arguments)]

    def _numbers(self, step: Step) -> list[list[float]]:
        action, columns = self.action, []
        for value, owner in zip(action.arguments, action.owners, strict=True):
            index = [output.name for output in owner.outputs].index(value.name)
            if isinstance(owner, FuncPathMsd):
                columns.append(np.array(owner.dumped_slopes(index, step.at(owner), step.number)))
            elif isinstance(owner, Function):
                columns.append(np.array(owner.slopes(index, step.at(owner))))
            elif isinstance(owner, Bias):
                below = slopes_below([owner], step.values, {value.name: 1.0}, step.number)
                columns.append(np.array([below.get(v.name, 0.0) for v in owner.arguments]))
            else:
                columns.append(by_positions(owner, index, step.positions, step.box))
        if len({len(column) for column in columns}) > 1:
            raise ValueError(
                f"{action.statement.location}: DUMPDERIVATIVES: its values do not depend on the "
                "same number of coordinates; give each a DUMPDERIVATIVES of its own"
            )
        return np.array(columns).T.tolist()

    def _write(self, step: Step) -> None:
        for parameter, row in enumerate(self._rows):
            texts = (f" {self.action.fmt % number}" for number in row)
            time = f" {step.time_for(self.action):f}"
            self._writer().write([time, f" {parameter}", *texts])


class DumpForcesRun(_RowsRun):
    """A DUMPFORCES with its file."""

    action: DumpForces

    def _columns(self) -> list[str]:
        return [value.name for value in self.action.arguments]

    def _numbers(self, step: Step) -> list[list[float]]:
        own = own_slopes(self._all, step.number)
        slopes = slopes_below(self._all, step.values, own, step.number)
        unit = self.action.units.energy
        pulls = (slopes.get(v.name, 0.0) - own.get(v.name, 0.0) for v in self.action.arguments)
        return [[0.0 - pull / unit for pull in pulls]]  # zeros are written without a sign


class DumpProjectionsRun(_RowsRun):
    """A DUMPPROJECTIONS with its file."""

    action: DumpProjections

    def _columns(self) -> list[str]:
        names = [value.name for value in self.action.arguments]
        return [f"{one}-{other}" for one in names for other in names]

    def _numbers(self, step: Step) -> list[list[float]]:
        gradients = []
        for value in self.action.arguments:
            below = slopes_below(self._all, step.values, {value.name: 1.0}, step.number)
            pull = pull_on_atoms(self._all, below, step.positions, step.box)
            gradients.append(pull.ravel() * self.action.units.length)
        return [[float(a @ b) for a in gradients for b in gradients]]


class DumpMassChargeRun(ActionRun):
    """A DUMPMASSCHARGE, which is written at the first step that is updated."""

    action: DumpMassCharge
    acts_last = True

    def __init__(self, action: DumpMassCharge, settings: RunSettings) -> None:
        self.action, self._files = action, settings.files
        self._is_done = False

    @property
    def own_strides(self) -> tuple[int, ...]:
        return () if self._is_done else (1,)

    def act(self, step: Step) -> bool:
        """Write the file."""
        action = self.action
        if not self._is_done:
            shown = {"mass": action.shows_masses, "charge": action.shows_charges}
            fields = ["index", *(name for name in shown if shown[name])]
            writer = self._files.writer(action.label, action.file, lambda: (fields, []))
            for index, mass, charge in action.rows():
                numbers = {"mass": mass, "charge": charge}
                texts = (f"{numbers[name]:23.16g}" for name in fields[1:])
                writer.write([f" {index}", *texts])
            writer.flush()
        self._is_done = True
        return False

    def go_on(self) -> None:
        self._is_done = True
