"""METAD between steps: its hills in files, those of other walkers, and the grid on disk."""

from __future__ import annotations

import logging
import os
import time as clock
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from openmm_cgan.atomic_files import replacing
from openmm_cgan.checkpoints import saved_array
from openmm_cgan.plumed.actions.metad.hill_grid import HillGrid
from openmm_cgan.plumed.actions.metad.metad import Metad
from openmm_cgan.plumed.files.fields import FieldWriter, back_up, domain_constants, read_fields
from openmm_cgan.plumed.files.output_files import OutputFiles
from openmm_cgan.plumed.input.language import lines_of

log = logging.getLogger("openmm_cgan")

GRID_FORMAT = " %14.9f"


class MetadRun:
    """One METAD in a run.

    Parameters
    ----------
    action : Metad
    directory : Path
        Where its files are.
    files : OutputFiles
    """

    def __init__(self, action: Metad, directory: Path, files: OutputFiles) -> None:
        self.action = action
        self._directory, self._files = directory, files
        paths = [directory / self._file(walker) for walker in range(action.options.walkers.number)]
        self._readers = [HillsReader(path, action) for path in paths]
        self._appends = False
        self._writer: FieldWriter | None = None
        self._hills_path = directory / self._file(action.options.walkers.index)

    def start(self, restart: bool) -> bool:
        """Read what an earlier run left, and open the files; return whether there are hills.

        Raises
        ------
        FileNotFoundError, ValueError
            If a file to begin with is missing, or is not of this METAD.
        """
        action = self.action
        self._appends = restart if action.options.restarts is None else action.options.restarts
        if action.options.grid_files.read:
            assert action.grid is not None
            read_grid(self._directory / action.options.grid_files.read, action.label, action.grid)
        reads_hills = self._appends and not action.options.grid_files.read
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
            action.update_sums()
        if action.acceleration is not None:
            action.acceleration.begin(self._directory, action.label)
        self._hills_writer()  # there from the beginning: a run may end before its first hill
        files = action.options.grid_files
        if files.written and not (self._appends and files.keeps_all):
            path = self._directory / files.written
            if not self._appends:
                back_up(path)
            path.touch()
        self._watch_grids()
        return reads_hills or bool(action.options.grid_files.read)

    def _file(self, walker: int) -> str:
        action = self.action
        if action.options.walkers.number == 1:
            return action.options.file
        return os.path.join(action.options.walkers.folder, f"{action.options.file}.{walker}")

    def _watch_grids(self) -> None:
        if self.action.options.grid_files.written and self.action.options.grid_files.keeps_all:
            self._files.watch(self._directory / self.action.options.grid_files.written)

    def saved(self) -> dict[str, np.ndarray]:
        """How far the hills of other walkers are read, to be saved with a checkpoint."""
        return {
            "positions": np.array([reader.position for reader in self._readers]),
            "are_open": np.array([int(reader.is_open) for reader in self._readers]),
        }

    def go_on(self, arrays: dict[str, np.ndarray]) -> None:
        """Go on from what `saved` gave, in place of `start`."""
        shape = (len(self._readers),)
        positions, are_open = (
            saved_array(arrays, name, shape) for name in ("positions", "are_open")
        )
        for reader, position, is_open in zip(self._readers, positions, are_open, strict=True):
            reader.go_on(int(position), bool(is_open))
        self._appends = True
        self._hills_writer()
        self._watch_grids()

    def tick(self, found: dict[str, Any], step: int, time: float, first: bool) -> bool:
        """What the action does at the end of a step; return whether the bias has changed.

        Parameters
        ----------
        found : dict
            Values by name; those that PLUMED prints as after this are brought up to date.
        step, time : int, float
            [time unit of the input]
        first : bool
            Whether it is the first step of a run, at which PLUMED lays no hill.
        """
        action = self.action
        lays = step % action.pace == 0 and not first
        reads = action.options.walkers.number > 1 and step % action.options.walkers.stride == 0
        if lays:
            self._lay(found, time)
        if action.options.grid_files.stride and step % action.options.grid_files.stride == 0:
            self.write_grid()
        if reads:
            for walker, reader in enumerate(self._readers):
                if walker != action.options.walkers.index:
                    reader.follow()
        if lays or reads:
            action.update_sums(step)
            found.update(action.changed_outputs())
        return lays or reads

    def _lay(self, found: dict[str, Any], time: float) -> None:
        action = self.action
        arguments = [float(found[value.name]) for value in action.arguments]
        hill = action.deposit(arguments, float(found[f"{action.label}.bias"]))
        row = [action.options.fmt % number for number in (time, *hill)]
        if action.options.walkers.number > 1:
            row.append(f" {int(clock.time())}")
        writer = self._writer or self._hills_writer()
        writer.write(row)
        if action.options.walkers.number > 1:  # which read it
            writer.flush()

    def _hills_writer(self) -> FieldWriter:
        header = partial(_hills_header, self.action)
        self._writer = self._files.writer(
            self.action.label, self._hills_path, header, self._appends
        )
        return self._writer

    def write_grid(self) -> None:
        """Write the grid to its file, in place of the one before or behind it."""
        action = self.action
        assert action.grid is not None
        assert action.options.grid_files.written is not None
        path = self._directory / action.options.grid_files.written
        lines = grid_lines(action.label, action.grid)
        if action.options.grid_files.keeps_all:
            with path.open("a") as file:
                file.writelines(lines)
            return
        with replacing(path) as made:
            with made.open("w") as file:
                file.writelines(lines)
            if path.exists():
                os.replace(path, path.with_name(f"bck.last.{path.name}"))  # as PLUMED


class HillsReader:
    """The hills of one file, also while another process writes it.

    Attributes
    ----------
    position : int
        Up to where it is read, in bytes.
    is_open : bool
        Whether the file has been seen; PLUMED reads it from the next time on.
    """

    def __init__(self, path: Path, action: Metad) -> None:
        self.path, self._action = path, action
        self.position = 0
        self._fields: list[str] = []
        self.is_open = False

    def go_on(self, position: int, is_open: bool) -> None:
        """Take what is before a position as read."""
        self.position, self.is_open = position, is_open
        if position:
            with self.path.open("rb") as file:
                lines = lines_of(file.read(position).decode())
            for line in lines:
                self._row(line)

    def follow(self) -> None:
        """Add what has been written since; the first time, only see that the file is there."""
        if self.is_open:
            count = self.read()
            log.debug("METAD %s: %d hills from %s", self._action.label, count, self.path)
        else:
            self.is_open = self.path.exists()

    def read(self) -> int:
        """Add the hills behind the place reached; return how many."""
        with self.path.open("rb") as file:
            file.seek(self.position)
            text = file.read()
        complete = text[: text.rfind(b"\n") + 1]  # a line may be half written yet
        self.position += len(complete)
        rows = [row for line in lines_of(complete.decode()) if (row := self._row(line))]
        if not rows:
            return 0
        columns = dict(zip(self._fields, np.array(rows, dtype=float).T, strict=True))
        names = [value.name for value in self._action.arguments]
        self._action.add_hills(
            np.stack([columns[name] for name in names], axis=-1),
            np.stack([columns[name] for name in self._action.sigma_names], axis=-1),
            columns["height"],
        )
        return len(rows)

    def _row(self, line: str) -> list[str]:
        words = line.split()
        if words[:2] == ["#!", "FIELDS"]:
            names = [value.name for value in self._action.arguments]
            needed = {*names, *self._action.sigma_names, "height"}
            if missing := needed - set(words[2:]):
                raise ValueError(
                    f"{self.path} is not of METAD {self._action.label}: it has no column "
                    + ", ".join(sorted(missing))
                )
            self._fields = words[2:]
        elif words[:2] == ["#!", "SET"] and len(words) == 4:
            self._check_constant(words[2], words[3])
        elif words and not words[0].startswith("#"):
            if len(words) != len(self._fields):
                raise ValueError(
                    f"{self.path}: {len(words)} values in a row, expected {len(self._fields)}"
                )
            return words
        return []

    def _check_constant(self, name: str, text: str) -> None:
        for value in self._action.arguments:
            for side, limit in zip(("min", "max"), value.domain_text or (None, None), strict=True):
                if name == f"{side}_{value.name}" and text != limit:
                    raise ValueError(
                        f"{self.path}: {name} is {text}, but {value.name} of METAD "
                        f"{self._action.label} has {limit or 'no period'}"
                    )
        adapts = self._action.widths is not None
        if name == "multivariate" and text != str(adapts).lower():
            raise ValueError(
                f"{self.path}: multivariate is {text}: METAD {self._action.label} "
                f"{'has' if adapts else 'lacks'} ADAPTIVE, and other hills are not read natively"
            )


def _hills_header(metad: Metad) -> tuple[list[str], list[tuple[str, str]]]:
    names = [value.name for value in metad.arguments]
    fields = ["time", *names, *metad.sigma_names, "height", "biasf"]
    if metad.options.walkers.number > 1:
        fields.append("clock")
    multivariate = "false" if metad.widths is None else "true"
    constants = [("multivariate", multivariate), ("kerneltype", "stretched-gaussian")]
    if metad.options.interval is not None:
        limits = zip(("lower_int", "upper_int"), metad.options.interval, strict=True)
        constants += [(name, metad.options.fmt % limit) for name, limit in limits]
    domains = [value.domain_text for value in metad.arguments]
    return fields, constants + domain_constants(names, domains)


# ---- grids on disk


def grid_lines(label: str, grid: HillGrid) -> list[str]:
    """A grid as PLUMED writes it: the first value changes fastest.

    Parameters
    ----------
    label : str
        Of the METAD.
    grid : HillGrid
    """
    names = [axis.value.name for axis in grid.axes]
    lines = [f"#! FIELDS {' '.join([*names, f'{label}.bias', *(f'der_{n}' for n in names)])}\n"]
    for axis, name in zip(grid.axes, names, strict=True):
        lines.append(f"#! SET min_{name} {axis.texts[0]}\n")
        lines.append(f"#! SET max_{name} {axis.texts[1]}\n")
        lines.append(f"#! SET nbins_{name}  {axis.nodes}\n")
        lines.append(f"#! SET periodic_{name} {'true' if axis.periodic else 'false'}\n")
    steps = np.array([axis.step for axis in grid.axes])
    places = [axis.lower + np.arange(axis.nodes) * axis.step for axis in grid.axes]
    columns = [p.ravel(order="F") for p in np.meshgrid(*places, indexing="ij")]
    columns.append(grid.nodes[0].ravel(order="F"))
    columns += [grid.nodes[1 + i].ravel(order="F") / steps[i] for i in range(len(steps))]
    form = GRID_FORMAT * len(columns) + "\n"
    shape = [axis.nodes for axis in grid.axes]
    for i, row in enumerate(np.stack(columns, axis=-1).tolist()):
        if i and len(shape) > 1 and _begins_block(i, shape):
            lines.append("\n")
        lines.append(form % tuple(row))
    return lines


def _begins_block(i: int, shape: list[int]) -> bool:
    """Whether PLUMED writes a blank line before row `i`: where its last index but one is zero."""
    for nodes in shape[:-2]:
        i //= nodes
    return i % shape[-2] == 0


def read_grid(path: Path, label: str, grid: HillGrid) -> None:
    """Fill a grid from a file that PLUMED or `grid_lines` wrote.

    Raises
    ------
    FileNotFoundError, ValueError
        If it is missing, or of another grid.
    """
    table = read_fields(path)
    names = [axis.value.name for axis in grid.axes]
    needed = [*names, f"{label}.bias", *(f"der_{name}" for name in names)]
    if missing := [name for name in needed if name not in table.columns]:
        raise ValueError(f"{path} has no column {', '.join(missing)}")
    index = []
    for axis, name in zip(grid.axes, names, strict=True):
        wanted = (*axis.texts, str(axis.nodes), "true" if axis.periodic else "false")
        words = [f"{word}_{name}" for word in ("min", "max", "nbins", "periodic")]
        found = tuple(table.constants.get(word, "nothing") for word in words)
        if found != wanted:
            raise ValueError(f"{path}: {words} are {found}, but METAD {label} has {wanted}")
        index.append(axis.nearest(table.columns[name]))
    for k, column in enumerate(needed[len(names) :]):
        scale = 1.0 if k == 0 else grid.axes[k - 1].step
        grid.nodes[k][tuple(index)] = table.columns[column] * scale
    grid.refresh()
