"""The hills of a bias in files, its own and those of other walkers, and its grid on disk."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from openmm_cgan.atomic_files import replacing
from openmm_cgan.plumed.actions.metad.hill_grid import HillGrid
from openmm_cgan.plumed.actions.values import Value
from openmm_cgan.plumed.files.contents import append_rows, packed, rows_of
from openmm_cgan.plumed.files.fields import domain_constants, keep_last, row_of
from openmm_cgan.plumed.files.grid_files import GridAxis, grid_lines, read_grid
from openmm_cgan.plumed.files.tables import FieldTable
from openmm_cgan.plumed.input.language import lines_of

log = logging.getLogger("openmm_cgan")

HILLS_EXTRA = ("time", "biasf", "clock")  # columns that may be there besides


class Hilly(Protocol):
    """What has hills of some values in a file: a METAD, or a family of a PBMETAD.

    Attributes
    ----------
    name, label : str
        Of the action.
    arguments : sequence of Value
    widths : object or None
        None where hills have one width for each argument.
    """

    label: str

    @property
    def name(self) -> str: ...

    @property
    def arguments(self) -> Sequence[Value]: ...

    @property
    def widths(self) -> Any: ...

    @property
    def sigma_names(self) -> list[str]:
        """The columns with the widths."""
        ...

    @property
    def widths_of_hills(self) -> list[str]:
        """Those of them that are above zero in every hill."""
        ...

    def add_hills(self, centres: np.ndarray, sigmas: np.ndarray, written: np.ndarray) -> None:
        """Add hills of a file: see `Metad.add_hills`."""
        ...


class HillsReader:
    """The hills of one file, also while another process writes it.

    Attributes
    ----------
    position : int
        Up to where it is read, in bytes.
    is_open : bool
        Whether the file has been seen; PLUMED reads it from the next time on.
    """

    def __init__(self, path: Path, action: Hilly) -> None:
        self.path, self._action = path, action
        self._who = f"{action.name} {action.label}"
        self.position = 0
        self._fields: list[str] = []
        self._line = 0  # how many are read
        self.is_open = False

    def go_on(self, position: int, is_open: bool) -> None:
        """Take what is before a position as read."""
        self.position, self.is_open = position, is_open
        if position:
            self._rows(rows_of(self.path)[:position])

    def read_on(self) -> None:
        """Add what has been written since; the first time, only see that the file is there."""
        if self.is_open:
            count = self.read()
            log.debug("%s: %d hills from %s", self._who, count, self.path)
        else:
            self.is_open = self.path.exists()

    def read(self) -> int:
        """Add the hills behind the place reached; return how many.

        Raises
        ------
        ValueError
            With the line of a row that is no hill.
        """
        text = rows_of(self.path, self.position)
        complete = text[: text.rfind(b"\n") + 1]  # a line may be half written yet
        self.position += len(complete)
        rows, lines = self._rows(complete)
        if not rows:
            return 0
        numbers = np.array(rows, dtype=float)
        hills = FieldTable.from_values(self._fields, {}, numbers, str(self.path), tuple(lines))
        needed = self._needed
        hills.require_finite(needed)
        hills.require_positive(self._action.widths_of_hills)
        values, n = hills.taken(needed)[:, 1:], len(self._action.arguments)
        self._action.add_hills(values[:, :n], values[:, n:-1], values[:, -1])
        return len(rows)

    @property
    def _needed(self) -> list[str]:
        """Columns in the order of the file."""
        names = [value.name for value in self._action.arguments]
        return ["time", *names, *self._action.sigma_names, "height"]

    def _rows(self, complete: bytes) -> tuple[list[list[float]], list[int]]:
        """Rows of numbers, and the line of each."""
        rows, lines = [], []
        for line in lines_of(complete.decode(errors="replace"))[:-1]:
            self._line += 1
            if row := self._row(line):
                rows.append(row)
                lines.append(self._line)
        return rows, lines

    def _row(self, line: str) -> list[float]:
        words = line.split()
        if words[:2] == ["#!", "FIELDS"]:
            try:
                header = FieldTable.from_values(words[2:], {}, np.empty((0, len(words) - 2)))
                header.require_columns(self._needed, HILLS_EXTRA)
            except ValueError as error:
                what = f"{self.path}:{self._line} is not of {self._who}"
                raise ValueError(f"{what}: {error}") from None
            self._fields = words[2:]
        elif words[:2] == ["#!", "SET"] and len(words) == 4:
            self._check_constant(words[2], words[3])
        elif words and not words[0].startswith("#"):
            return row_of(self.path, self._line, words, self._fields or None)
        return []

    def _check_constant(self, name: str, text: str) -> None:
        for value in self._action.arguments:
            for side, limit in zip(("min", "max"), value.domain_text or (None, None), strict=True):
                if name == f"{side}_{value.name}" and text != limit:
                    raise ValueError(
                        f"{self.path}: {name} is {text}, but {value.name} of {self._who} "
                        f"has {limit or 'no period'}"
                    )
        adapts = self._action.widths is not None
        if name == "multivariate" and text != str(adapts).lower():
            raise ValueError(
                f"{self.path}: multivariate is {text}: {self._who} "
                f"{'has' if adapts else 'lacks'} ADAPTIVE, and other hills are not read natively"
            )


def hills_header(
    hilly: Hilly, fmt: str, interval: tuple[float, float] | None, shared: bool
) -> tuple[list[str], list[tuple[str, str]]]:
    """Fields and constants of a file of hills.

    Parameters
    ----------
    hilly : Hilly
    fmt : str
        Of its numbers.
    interval : (float, float), optional
    shared : bool
        Whether other walkers read it.
    """
    names = [value.name for value in hilly.arguments]
    fields = ["time", *names, *hilly.sigma_names, "height", "biasf"]
    if shared:
        fields.append("clock")
    multivariate = "false" if hilly.widths is None else "true"
    constants = [("multivariate", multivariate), ("kerneltype", "stretched-gaussian")]
    if interval is not None:
        limits = zip(("lower_int", "upper_int"), interval, strict=True)
        constants += [(name, fmt % limit) for name, limit in limits]
    domains = [value.domain_text for value in hilly.arguments]
    return fields, constants + domain_constants(names, domains)


def take_grid(grid: HillGrid, path: Path, label: str) -> None:
    """Begin with the bias of a grid file.

    Raises
    ------
    FileNotFoundError, ValueError
        If it is not there, or of another grid.
    """
    grid.take(read_grid(path, label, _axes(grid)))


def write_grid(grid: HillGrid, path: Path, label: str, keeps_all: bool) -> None:
    """Write a grid to its file, in place of the one before or behind it."""
    lines = grid_lines(label, _axes(grid), grid.with_derivatives())
    if keeps_all:
        append_rows(path, "".join(lines))
        return
    with replacing(path) as made:
        made.write_bytes(packed("".join(lines), path))
        keep_last(path)


def _axes(grid: HillGrid) -> list[GridAxis]:
    return [
        GridAxis(a.value.name, a.texts, a.lower, a.step, a.nodes, a.periodic) for a in grid.axes
    ]
