"""The text files with named columns that PLUMED keeps: COLVAR, HILLS, KERNELS.

The files are written as PLUMED writes them (``#! FIELDS`` and ``#! SET`` lines, the same number
formats, ``bck.N.name`` backups), so that ``plumed sum_hills`` and the usual scripts read them.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from openmm_cgan.atomic_files import replaceable
from openmm_cgan.claims import Claim
from openmm_cgan.plumed.files.contents import PackedWrites, cut_half_row, open_rows, text_of_rows
from openmm_cgan.plumed.files.tables import FieldTable, plain_number

MAX_BACKUPS = 100
FLUSH_SECONDS = 1.0
FLUSH_ROWS = 1000


def read_fields(path: str | Path) -> FieldTable:
    """Read a file with ``#! FIELDS``: COLVAR, HILLS, KERNELS.

    A header that is printed again (after a restart) is accepted when its fields are the same. A
    last line cut short by a killed run is left out.

    Parameters
    ----------
    path : str or Path

    Returns
    -------
    FieldTable

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is no such file, naming the line.
    """
    tables = read_tables(path)
    first = tables[0]
    constants: dict[str, str] = {}
    for table in tables:
        if table.fields != first.fields:
            fields = [list(t.fields) for t in (first, table)]
            raise ValueError(f"{path}: the fields change from {fields[0]} to {fields[1]}")
        constants |= table.constants
    values = np.concatenate([t.values for t in tables if t.values is not None])
    lines = tuple(line for table in tables for line in table.lines)
    return FieldTable.from_values(first.fields, constants, values, str(path), lines)


def read_tables(path: str | Path) -> list[FieldTable]:
    """Read a file with ``#! FIELDS``, each such line beginning a table: STATE of OPES.

    Raises
    ------
    FileNotFoundError, ValueError
        As `read_fields`.
    """
    path = Path(path)
    found: list[tuple[list[str], dict[str, str], list[list[float]], list[int]]] = []
    text = text_of_rows(path)
    for number, line in enumerate(text.split("\n"), start=1):
        words = line.split()
        if words[:2] == ["#!", "FIELDS"] and len(words) > 2:  # COMMITTOR ends with an empty one
            found.append((words[2:], {}, [], []))
        elif found and words[:2] == ["#!", "SET"] and len(words) == 4:
            found[-1][1][words[2]] = words[3]
        elif words and not words[0].startswith("#"):
            row = row_of(path, number, words, found[-1][0] if found else None)
            found[-1][2].append(row)
            found[-1][3].append(number)
    if not text.strip():
        raise ValueError(f"{path} is empty: the run that began it has written no row")
    if not found:
        raise ValueError(f"{path} has no '#! FIELDS' line: it is not a PLUMED file")
    tables = []
    for fields, constants, rows, numbers in found:
        values = np.array(rows, dtype=float).reshape(len(rows), len(fields))
        made = FieldTable.from_values(fields, constants, values, str(path), tuple(numbers))
        tables.append(made)
    return tables


def row_of(path: Path, number: int, words: list[str], fields: list[str] | None) -> list[float]:
    """The numbers of a row.

    Parameters
    ----------
    path : Path
    number : int
        Of the line.
    words : list of str
    fields : list of str, optional
        The columns, where there were any yet.

    Raises
    ------
    ValueError
        If it is no row of these columns, naming the line.
    """
    if fields is None or len(words) != len(fields):
        expected = "a '#! FIELDS' line first" if fields is None else f"{len(fields)} values"
        raise ValueError(
            f"{path}:{number}: found {len(words)} values in a row, expected {expected}"
        )
    try:
        return [plain_number(word) for word in words]
    except ValueError as error:
        raise ValueError(f"{path}:{number}: {error}") from None


def back_up(path: Path) -> None:
    """Rename an existing file to ``bck.N.name``, as PLUMED does before it writes a new one.

    Raises
    ------
    OSError
        If there are too many backups, or `path` can not be written to: see `replaceable`.
    """
    if not replaceable(path) or not path.exists():
        return
    for n in range(MAX_BACKUPS):
        backup = path.with_name(f"bck.{n}.{path.name}")
        if not backup.exists():
            os.replace(path, backup)
            return
    raise FileExistsError(f"{path} has {MAX_BACKUPS} backups bck.N.{path.name}: move them away")


def begin_file(path: Path, append: bool) -> None:
    """Have a file to write to, and its folder; what it held is backed up unless it goes on."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if not append:
        back_up(path)
    path.touch()


def keep_last(path: Path) -> None:
    """Rename a file to ``bck.last.name``, as PLUMED does with snapshots that follow each other."""
    if replaceable(path) and path.exists():
        os.replace(path, path.with_name(f"bck.last.{path.name}"))


class FieldWriter:
    """A PLUMED file being written: the header whenever the fields change, then rows.

    Parameters
    ----------
    path : Path
        An existing file is backed up, unless `append`.
    fields : sequence of str
        Names of the columns.
    constants : sequence of (str, str)
        The ``#! SET`` lines.
    append : bool
        Continue the file, as after PLUMED's RESTART.
    header : bool
        Write the header, with the first row; not where a file goes on as if the run had never
        stopped.

    Raises
    ------
    OSError
        If the path is a folder, or a pipe that nobody reads.
    RuntimeError
        If another process is writing to it.
    """

    def __init__(
        self,
        path: Path,
        fields: Sequence[str],
        constants: Iterable[tuple[str, str]] = (),
        append: bool = False,
        header: bool = True,
    ) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        before = Claim(path)  # neither cut nor renamed while another process writes to it
        if append:
            cut_half_row(path)
        else:
            back_up(path)
        self._is_regular = replaceable(path)
        self.path = path
        self._file = open_rows(path)
        self._waiting: list[str] = []  # not in the file yet
        self._claim = Claim(path)
        before.release()
        self._header = _header_lines(fields, constants)
        self._ended = header  # it comes with the first row, as in PLUMED
        self.flush()

    def write(self, formatted: Iterable[str]) -> None:
        """Write one row of formatted values."""
        if self._ended:
            self._write_header()
            self._ended = False
        self._append("".join(formatted) + "\n")
        late = time.monotonic() - self._flushed > FLUSH_SECONDS
        if late or len(self._waiting) > FLUSH_ROWS:
            self.flush()

    def end(self, remark: str) -> None:
        """Close the table with a remark, as COMMITTOR does."""
        lines = ["#! FIELDS", *self._header[1:], f"#! SET {remark} ", ""]
        self._append("".join(f"{line}\n" for line in lines))
        self._ended = True
        self.flush()

    def change_header(
        self, fields: Sequence[str], constants: Iterable[tuple[str, str]] = ()
    ) -> None:
        """Begin a table of other columns."""
        self._header = _header_lines(fields, constants)
        self._write_header()

    def _write_header(self) -> None:
        self._append("".join(f"{line}\n" for line in self._header))

    def _append(self, text: str) -> None:
        if self._file.closed:
            self._file = open_rows(self.path)
        self._waiting.append(text)

    def flush(self) -> None:
        """Hand everything to the operating system: a killed run loses nothing before this.

        Raises
        ------
        OSError
            If that fails, as on a full disk. Rows then wait for the next time.
        """
        if not self._file.closed:
            rows = "".join(self._waiting)
            if not self._is_regular:  # some may be written already
                self._waiting.clear()
            self._file.write(rows)
            self._file.flush()
            self._waiting.clear()
        self._flushed = time.monotonic()

    def complete(self) -> None:
        """Bring the file to a length that it can be cut to later: a gzip file ends a member."""
        self.flush()
        if isinstance(packed := self._file.buffer, PackedWrites):
            packed.end_member()

    def close(self) -> None:
        """Flush and close the file."""
        try:
            self.flush()
        finally:
            self._file.close()
            self._claim.release()

    def __del__(self) -> None:
        with contextlib.suppress(Exception):
            self.close()


def _header_lines(fields: Sequence[str], constants: Iterable[tuple[str, str]]) -> list[str]:
    lines = [f"#! FIELDS {' '.join(fields)}"]
    return lines + [f"#! SET {name} {value}" for name, value in constants]


def domain_constants(
    names: Sequence[str], domains: Sequence[tuple[str, str] | None]
) -> list[tuple[str, str]]:
    """Return the ``SET min_x``, ``SET max_x`` constants of the periodic columns, in order."""
    constants = []
    for name, domain in zip(names, domains, strict=True):
        if domain is not None:
            constants += [(f"min_{name}", domain[0]), (f"max_{name}", domain[1])]
    return constants
