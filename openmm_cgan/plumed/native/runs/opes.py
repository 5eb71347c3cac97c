"""An OPES during a run: its KERNELS and STATE files, and when it lays a kernel."""

from __future__ import annotations

import logging
import math
import os
from pathlib import Path
from typing import Any

import numpy as np

from openmm_cgan.plumed.actions.opes.opes import Opes
from openmm_cgan.plumed.files.fields import (
    FieldTable,
    FieldWriter,
    back_up,
    domain_constants,
    read_fields,
    read_tables,
)
from openmm_cgan.plumed.files.output_files import OutputFiles

log = logging.getLogger("openmm_cgan")


class OpesRun:
    """An OPES with its KERNELS and STATE files.

    Parameters
    ----------
    action : Opes
    directory : Path
    files : OutputFiles
    """

    def __init__(self, action: Opes, directory: Path, files: OutputFiles) -> None:
        self.action = action
        self._directory, self._files = directory, files

    @property
    def every_step(self) -> bool:
        """Whether it needs its arguments at every step that it is called at."""
        return self.action.options.sigma.measured or self.action.neighbours is not None

    @property
    def strides(self) -> list[int]:
        return [1] if self.every_step else self.rare_strides

    @property
    def rare_strides(self) -> list[int]:
        """When it needs the bias too, or writes."""
        return [s for s in (self.action.options.pace, self.action.options.state.stride) if s > 0]

    # ---- files

    def start(self, restart: bool) -> None:
        """Read what an earlier run has left, and begin the files.

        Raises
        ------
        FileNotFoundError, ValueError
            If there is nothing to restart from, or it is of another bias.
        """
        action = self.action
        restart = self._restarts(restart)
        if restart:
            self._restart()
        if action.options.state.written is None:
            return
        path = self._directory / action.options.state.written
        if not restart:
            back_up(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        if restart and action.options.state.read is None:
            self._write_state(0.0)  # PLUMED turns kernels into a state at once

    def _restarts(self, restart: bool) -> bool:
        return restart if self.action.options.restarts is None else self.action.options.restarts

    def open(self, append: bool) -> None:
        """Open the files that grow."""
        self._writer(self._restarts(append))
        if self.action.options.state.keeps_all:
            self._files.watch(self._directory / str(self.action.options.state.written))

    def _restart(self) -> None:
        action = self.action
        name = action.options.state.read or action.options.file
        path = self._directory / name
        if not path.exists():
            raise FileNotFoundError(f"restart: {path} of {action.name} {action.label} is not there")
        if action.options.state.read is None:
            table = read_fields(path)
            self._check(table, path, "kernels")
            action.restore_kernels(*_columns(action, table), table.columns["logweight"])
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
        for key, now in _settings(action):
            before = float(constants[key])
            if before != now and not abs(before - now) <= 1e-6 * now:
                log.warning("%s: %s was %g while now it is %g", path, key, before, now)
        for value in action.arguments:
            limits = tuple(constants.get(f"{end}_{value.name}") for end in ("min", "max"))
            if limits != (value.domain_text or (None, None)):
                raise ValueError(f"{path}: the domain of {value.name} is {limits} there")

    def _writer(self, append: bool = True) -> FieldWriter:
        action = self.action
        header = [*_fields(action), "logweight"], _constants(action, "kernels")
        path = self._directory / action.options.file
        return self._files.writer(action.label, path, lambda: header, append)

    def _write_state(self, time: float) -> None:
        action = self.action
        assert action.options.state.written is not None
        path = self._directory / action.options.state.written
        kernels = action.kernels
        lines = [f"#! FIELDS {' '.join(_fields(action))}"]
        lines += [f"#! SET {name} {text}" for name, text in _constants(action, "state")]
        for centre, sigma, height in zip(
            kernels.centres, kernels.sigmas, kernels.heights, strict=True
        ):
            lines.append("".join(action.options.fmt % x for x in (time, *centre, *sigma, height)))
        text = "".join(f"{line}\n" for line in lines) if len(kernels) else ""
        if not action.options.state.keeps_all and path.exists():
            os.replace(path, path.with_name(f"bck.last.{path.name}"))
        with open(path, "a") as file:
            file.write(text)

    # ---- between steps

    def follow(self, found: dict[str, Any]) -> None:
        """Take one step into the neighbour list."""
        if self.action.neighbours is not None:
            self.action.follow([float(found[value.name]) for value in self.action.arguments])

    def tick(self, found: dict[str, Any], step: int, time: float) -> bool:
        """Lay the kernel of this step and write the state; say whether the bias has changed."""
        action = self.action
        due = step % action.options.pace == 0
        if not (action.options.sigma.measured or due or self._writes_state(step)):
            return False
        arguments = [float(found[value.name]) for value in action.arguments]
        if not action.measure(arguments):
            return False
        if due := due and all(float(found[value.name]) == 0 for value in action.options.excluded):
            extra = sum(float(found[value.name]) for value in action.options.extra)
            kernel = action.deposit(arguments, float(found[f"{action.label}.bias"]), extra)
            writer = self._writer()
            writer.write(action.options.fmt % number for number in (time, *kernel))
            writer.flush()
            found.update(zip((v.name for v in action.outputs[1:]), action.sums(), strict=True))
        if self._writes_state(step):
            self._write_state(time)
        return due

    def _writes_state(self, step: int) -> bool:
        stride = self.action.options.state.stride
        return stride > 0 and step % stride == 0


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
    names = [value.name for value in action.arguments]
    centres = np.stack([table.columns[name] for name in names], axis=-1)
    sigmas = np.stack([table.columns[f"sigma_{name}"] for name in names], axis=-1)
    return centres, sigmas, table.columns["height"]


def restore_state(action: Opes, table: FieldTable) -> None:
    """Take over the state of an earlier run."""
    constants = table.constants
    for name in ("zed", "sum_weights", "sum_weights2"):
        setattr(action, name, float(constants[name]))
    action.counter = int(constants["counter"])
    if action.options.sigma.measured:
        action.widths.counter = int(constants["adaptive_counter"])
        widths = action.widths
        for key, array in zip(WIDTHS, (widths.sigma0, widths.mean, widths.square), strict=True):
            array[:] = [float(constants[f"{key}_{value.name}"]) for value in action.arguments]
    action.kernels.put(*_columns(action, table))
    action.normalize()
