"""The text files with named columns that PLUMED keeps: COLVAR, HILLS, KERNELS.

The files are written as PLUMED writes them (``#! FIELDS`` and ``#! SET`` lines, the same number
formats, ``bck.N.name`` backups), so that ``plumed sum_hills`` and the usual scripts read them.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

import numpy as np

MAX_BACKUPS = 100
FLUSH_SECONDS = 1.0
MAX_FILE_BYTES = 4 * 1024**3


@dataclass(frozen=True)
class FieldTable:
    """Columns of a PLUMED file with their constants.

    Attributes
    ----------
    columns : dict of str to ndarray, shape (n_rows,)
        Values by field name; of a name that stands twice, the first.
    constants : dict of str to str
        The ``#! SET`` lines, as text.
    fields : tuple of str
        All names in the order of the header, a name that stands twice included: CVs ``x`` and
        ``sigma_x`` of HILLS.
    values : ndarray, shape (n_rows, n_fields), optional
        All columns in that order.
    """

    columns: dict[str, np.ndarray]
    constants: dict[str, str]
    fields: tuple[str, ...] = ()
    values: np.ndarray | None = None

    def taken(self, names: Sequence[str]) -> np.ndarray:
        """Columns by their places, see `places_of`; shape (n_rows, n_names)."""
        if self.values is None:
            places_of(list(self.columns), names)
            return np.stack([self.columns[name] for name in names], axis=-1)
        return self.values[:, places_of(self.fields, names)]

    def header(self) -> list[str]:
        """All names in the order of the file."""
        return list(self.fields or self.columns)

    def __len__(self) -> int:
        return len(next(iter(self.columns.values()), ()) if self.values is None else self.values)

    def domain(self, name: str) -> tuple[float, float] | None:
        """Periodic domain of a column by its ``min_`` and ``max_`` constants."""
        lower, upper = self.constants.get(f"min_{name}"), self.constants.get(f"max_{name}")
        if lower is None or upper is None:
            return None
        return _number(lower), _number(upper)


def places_of(fields: Sequence[str], names: Sequence[str]) -> list[int]:
    """Places of columns in a header, for names in the order in which the file should have them.

    A name that is asked for twice is that of two columns: the first is taken first.

    Parameters
    ----------
    fields : sequence of str
        The header.
    names : sequence of str
        The columns.

    Returns
    -------
    list of int

    Raises
    ------
    ValueError
        If columns are missing, naming them.

    Examples
    --------
    >>> places_of(["time", "x", "sigma_x", "sigma_x"], ["x", "sigma_x", "sigma_x"])
    [1, 2, 3]
    """
    places, missing = [], []
    for i, name in enumerate(names):
        found = [place for place, field in enumerate(fields) if field == name]
        before = list(names[:i]).count(name)
        if before < len(found):
            places.append(found[before])
        else:
            missing.append(name)
    if missing:
        raise ValueError(
            f"it has no column {', '.join(missing)}; its columns are {', '.join(fields)}"
        )
    return places


def kernel_variables(table: FieldTable, kind: str, last: Sequence[str]) -> list[str]:
    """Names of the CVs of a file of Gaussians: time, the CVs, a ``sigma_`` for each, and the last.

    They are found by their places, for a CV may be called ``sigma_1`` or ``height`` as well.

    Parameters
    ----------
    table : FieldTable
    kind : str
        What the file is, for messages.
    last : sequence of str
        The columns behind the widths; walkers' files end with ``clock``.

    Raises
    ------
    ValueError
        If the columns are not these.
    """
    header = table.header()
    inner = header[1 : len(header) - header[-1:].count("clock") - len(last)]
    names = inner[: len(inner) // 2]
    expected = ["time", *names, *(f"sigma_{name}" for name in names), *last]
    if not names or header[: len(expected)] != expected or len(inner) != 2 * len(names):
        raise ValueError(
            f"columns {header} are not those of a {kind} file with diagonal Gaussians: "
            f"time, the CVs, a sigma_ for each, {', '.join(last)}"
        )
    return names


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
    return _table(first.fields, constants, np.concatenate([t.values for t in tables]))


def read_tables(path: str | Path) -> list[FieldTable]:
    """Read a file with ``#! FIELDS``, each such line beginning a table: STATE of OPES.

    Raises
    ------
    FileNotFoundError, ValueError
        As `read_fields`.
    """
    path = Path(path)
    if path.stat().st_size > MAX_FILE_BYTES:
        raise ValueError(f"{path} is larger than {MAX_FILE_BYTES} bytes; split it first")
    found: list[tuple[list[str], dict[str, str], list[list[float]]]] = []
    lines = path.read_text().split("\n")
    complete = len(lines) - 1  # what follows the last newline is a row cut short
    for number, line in enumerate(lines[:complete], start=1):
        words = line.split()
        if words[:2] == ["#!", "FIELDS"] and len(words) > 2:  # COMMITTOR ends with an empty one
            found.append((words[2:], {}, []))
        elif found and words[:2] == ["#!", "SET"] and len(words) == 4:
            found[-1][1][words[2]] = words[3]
        elif words and not words[0].startswith("#"):
            row = _row(path, number, words, found[-1][0] if found else None)
            found[-1][2].append(row)
    if not found:
        raise ValueError(f"{path} has no '#! FIELDS' line: it is not a PLUMED file")
    tables = []
    for fields, constants, rows in found:
        values = np.array(rows, dtype=float).reshape(len(rows), len(fields))
        tables.append(_table(tuple(fields), constants, values))
    return tables


def _table(fields: tuple[str, ...], constants: dict[str, str], values: np.ndarray) -> FieldTable:
    columns: dict[str, np.ndarray] = {}
    for name, column in zip(fields, values.T, strict=True):
        columns.setdefault(name, column)
    return FieldTable(columns, constants, fields, values)


def _row(path: Path, number: int, words: list[str], fields: list[str] | None) -> list[float]:
    if fields is None or len(words) != len(fields):
        expected = "a '#! FIELDS' line first" if fields is None else f"{len(fields)} values"
        raise ValueError(f"{path}:{number}: found {len(words)} values, expected {expected}")
    try:
        return [float(word) for word in words]
    except ValueError as error:
        raise ValueError(f"{path}:{number}: {error}") from None


def _number(text: str) -> float:
    constants = {"pi": np.pi, "+pi": np.pi, "-pi": -np.pi}
    return constants[text] if text in constants else float(text)


def back_up(path: Path) -> None:
    """Rename an existing file to ``bck.N.name``, as PLUMED does before it writes a new one."""
    if not path.exists():
        return
    for n in range(MAX_BACKUPS):
        backup = path.with_name(f"bck.{n}.{path.name}")
        if not backup.exists():
            os.replace(path, backup)
            return
    raise FileExistsError(f"{path} has {MAX_BACKUPS} backups bck.N.{path.name}: move them away")


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
        Write the header now; not where a file goes on as if the run had never stopped.
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
        if not append:
            back_up(path)
        self.path = path
        self._file: TextIO = open(path, "a")  # noqa: SIM115  held open for the whole run
        self._header = _header_lines(fields, constants)
        self._ended = False
        if header:
            self._write_header()
        self.flush()

    def write(self, formatted: Iterable[str]) -> None:
        """Write one row of formatted values."""
        if self._ended:
            self._write_header()
            self._ended = False
        self._file.write("".join(formatted) + "\n")
        if time.monotonic() - self._flushed > FLUSH_SECONDS:
            self.flush()

    def end(self, remark: str) -> None:
        """Close the table with a remark, as COMMITTOR does."""
        lines = ["#! FIELDS", *self._header[1:], f"#! SET {remark} ", ""]
        self._file.write("".join(f"{line}\n" for line in lines))
        self._ended = True
        self.flush()

    def change_header(
        self, fields: Sequence[str], constants: Iterable[tuple[str, str]] = ()
    ) -> None:
        """Begin a table of other columns."""
        self._header = _header_lines(fields, constants)
        self._write_header()

    def _write_header(self) -> None:
        self._file.write("".join(f"{line}\n" for line in self._header))

    def truncate(self, size: int) -> None:
        """Go on behind the first `size` bytes."""
        self._file.flush()
        self._file.truncate(size)

    def flush(self) -> None:
        """Hand everything to the operating system: a killed run loses nothing before this."""
        self._file.flush()
        self._flushed = time.monotonic()

    def close(self) -> None:
        """Flush and close the file."""
        self._file.close()

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
