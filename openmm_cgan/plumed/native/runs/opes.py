"""An OPES during a run: its KERNELS and STATE files, and when it lays a kernel."""

from __future__ import annotations

import logging
import math
from collections.abc import Collection
from pathlib import Path

import numpy as np

from openmm_cgan.atomic_files import write_atomically
from openmm_cgan.plumed.actions.opes.opes import Opes
from openmm_cgan.plumed.files.contents import append_rows, packed
from openmm_cgan.plumed.files.fields import (
    FieldWriter,
    begin_file,
    domain_constants,
    keep_last,
    read_fields,
    read_tables,
)
from openmm_cgan.plumed.files.tables import FieldTable
from openmm_cgan.plumed.native.runs.run import ActionRun, RunSettings, Step, kt_of, require_left

log = logging.getLogger("openmm_cgan")


class OpesRun(ActionRun):
    """An OPES with its KERNELS and STATE files."""

    acts_last = True
    is_static = False

    def __init__(self, action: Opes, settings: RunSettings) -> None:
        self.action: Opes = action
        self._files = settings.files
        self._appends = False
        if (kt := kt_of(action, settings.temperature, needed=False)) is not None:
            action.start(kt)  # values are asked for before a run

    # ---- what it needs and when

    @property
    def strides(self) -> list[int]:
        """When it needs the bias too, or writes."""
        return [s for s in (self.action.options.pace, self.action.options.state.stride) if s > 0]

    @property
    def own_strides(self) -> Collection[int]:
        return (self.action.stride,) if self.needs_arguments else ()

    @property
    def needs_arguments(self) -> bool:
        return self.action.options.sigma.measured or self.action.neighbours is not None

    def settle(self, timestep: float, temperature: float | None) -> None:
        kt = kt_of(self.action, temperature, needed=True)
        assert kt is not None
        self.action.start(kt)

    # ---- a beginning

    @property
    def reads_bias(self) -> bool:
        return self._files.continues(self.action.options.restarts)

    def read(self) -> bool:
        """Read the kernels or the state that an earlier run has left."""
        self._appends = self._files.continues(self.action.options.restarts)
        if self._appends:
            self._restart()
        return True

    def begin(self) -> None:
        """Begin KERNELS and STATE."""
        state = self.action.options.state
        if state.written is not None:
            path = self._files.path(state.written)
            begin_file(path, self._appends)
            if self._appends and state.read is None:
                self._write_state(0.0)  # PLUMED turns kernels into a state at once
        self.go_on()

    def go_on(self) -> None:
        self._writer()
        state = self.action.options.state
        if state.keeps_all:
            self._files.watch(str(state.written))

    def _restart(self) -> None:
        action = self.action
        name = action.options.state.read or action.options.file
        path = self._files.path(name)
        require_left(path, f"{action.name} {action.label}")
        if action.options.state.read is None:
            table = read_fields(path)
            self._check(table, path, "kernels")
            weights = table.taken([*_fields(action), "logweight"])[:, -1]
            action.restore_kernels(*_columns(action, table), weights)
        else:
            tables = read_tables(path)
            if len(tables) != 1:
                raise ValueError(f"{path} holds {len(tables)} states; expected one, the last")
            self._check(tables[0], path, "state")
            restore_state(action, tables[0])
        log.info("%s %s: restarted from %s", action.name, action.label, path)

    def _check(self, table: FieldTable, path: Path, kind: str) -> None:
        action, constants = self.action, table.constants
        expected = f"{action.name}_{kind}"
        if constants.get("action") != expected:
            raise ValueError(f"{path} is of {constants.get('action')}; expected {expected}")
        arguments = [value.name for value in action.arguments]
        weights = ["logweight"] if kind == "kernels" else []
        table.require_columns([*_fields(action), *weights])
        table.require_finite([*arguments, "height", *weights])
        table.require_positive([f"sigma_{name}" for name in arguments])
        for key, now in _settings(action):
            before = table.constant(key)
            if before != now and not abs(before - now) <= 1e-6 * now:
                log.warning("%s: %s was %g while now it is %g", path, key, before, now)
        for value in action.arguments:
            limits = tuple(constants.get(f"{end}_{value.name}") for end in ("min", "max"))
            if limits != (value.domain_text or (None, None)):
                raise ValueError(f"{path}: the domain of {value.name} is {limits} there")

    def _writer(self) -> FieldWriter:
        action = self.action
        header = [*_fields(action), "logweight"], _constants(action, "kernels")
        return self._files.writer(action.label, action.options.file, lambda: header, self._appends)

    def _write_state(self, time: float) -> None:
        action = self.action
        assert action.options.state.written is not None
        path = self._files.path(action.options.state.written)
        kernels = action.kernels
        lines = [f"#! FIELDS {' '.join(_fields(action))}"]
        lines += [f"#! SET {name} {text}" for name, text in _constants(action, "state")]
        for centre, sigma, height in zip(
            kernels.centres, kernels.sigmas, kernels.heights, strict=True
        ):
            lines.append("".join(action.options.fmt % x for x in (time, *centre, *sigma, height)))
        text = "".join(f"{line}\n" for line in lines) if len(kernels) else ""
        if not action.options.state.keeps_all:
            keep_last(path)
            write_atomically(path, packed(text, path))  # no reader sees a part of a state
            return
        append_rows(path, text)

    # ---- a step

    def act(self, step: Step) -> bool:
        """Renew the list, lay the kernel of the step, write the state."""
        action = self.action
        if step.number % action.stride:
            return False
        if action.neighbours is not None:
            action.update_list(step.at(action))
        due = step.number % action.options.pace == 0
        writes = self._writes_state(step.number)
        if step.first or not (action.options.sigma.measured or due or writes):
            return False
        arguments = step.at(action)
        if not action.accumulate_widths(arguments):
            return False
        if due := due and not any(float(step.values[v.name]) for v in action.options.excluded):
            extra = sum(float(step.values[value.name]) for value in action.options.extra)
            self._lay(step, arguments, extra)
        if writes:
            self._write_state(step.time_for(action))
        return due

    def _lay(self, step: Step, arguments: list[float], extra: float) -> None:
        action = self.action
        bias = float(step.values[f"{action.label}.bias"])
        kernel = action.deposit(arguments, bias, extra)
        writer = self._writer()
        writer.write(action.options.fmt % number for number in (step.time_for(action), *kernel))
        writer.flush()
        names = (value.name for value in action.outputs[1:])
        step.values.update(zip(names, action.other_outputs(), strict=True))

    def _writes_state(self, number: int) -> bool:
        stride = self.action.options.state.stride
        return stride > 0 and number % stride == 0

    def look_back(self, step: Step) -> None:
        if self.action.neighbours is not None:
            self.action.update_list(step.at(self.action))


def _fields(action: Opes) -> list[str]:
    names = [value.name for value in action.arguments]
    return ["time", *names, *(f"sigma_{name}" for name in names), "height"]


def _settings(action: Opes) -> list[tuple[str, float]]:
    kernels = action.kernels
    return [
        ("biasfactor", action.settled.bias_factor),
        ("epsilon", action.settled.epsilon),
        ("kernel_cutoff", math.sqrt(kernels.cutoff2)),
        ("compression_threshold", math.sqrt(kernels.threshold2)),
    ]


def _constants(action: Opes, kind: str) -> list[tuple[str, str]]:
    """The ``#! SET`` lines of a KERNELS or STATE file."""
    numbers = _settings(action)
    counts: list[tuple[str, str]] = []
    if kind == "state":
        numbers += [
            ("zed", action.zed),
            ("sum_weights", action.sum_weights),
            ("sum_weights2", action.sum_weights2),
        ]
        counts = [("counter", f" {action.counter}")]
        if action.options.sigma.measured:
            counts.append(("adaptive_counter", f" {action.widths.counter}"))
            for i, value in enumerate(action.arguments):
                now = action.widths
                widths = zip(WIDTHS, (now.sigma0, now.mean, now.square), strict=True)
                counts += [(f"{key}_{value.name}", action.options.fmt % x[i]) for key, x in widths]
    names = [value.name for value in action.arguments]
    return [
        ("action", f"{action.name}_{kind}"),
        *((name, action.options.fmt % number) for name, number in numbers),
        *counts,
        *domain_constants(names, [value.domain_text for value in action.arguments]),
    ]


WIDTHS = ("sigma0", "av_cv", "av_M2")


def _columns(action: Opes, table: FieldTable) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    values, n = table.taken(_fields(action)), len(action.arguments)
    return values[:, 1 : 1 + n], values[:, 1 + n : -1], values[:, -1]


def restore_state(action: Opes, table: FieldTable) -> None:
    """Take over the state of an earlier run.

    Raises
    ------
    ValueError
        If a constant is missing, or no number.
    """
    for name in ("zed", "sum_weights", "sum_weights2"):
        setattr(action, name, table.constant(name))
    action.counter = int(table.constant("counter"))
    if action.options.sigma.measured:
        action.widths.counter = int(table.constant("adaptive_counter"))
        widths = action.widths
        for key, array in zip(WIDTHS, (widths.sigma0, widths.mean, widths.square), strict=True):
            array[:] = [table.constant(f"{key}_{value.name}") for value in action.arguments]
    action.kernels.put(*_columns(action, table))
    action.normalize()
