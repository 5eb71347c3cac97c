"""Tables of named columns, as the files of PLUMED hold them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

LARGEST = 1e150  # squares of larger numbers are not finite


@dataclass(frozen=True)
class FieldTable:
    """Columns of a PLUMED file with their constants.

    Attributes
    ----------
    columns : dict of str to ndarray, shape (n_rows,)
        Values by field name; of a name that stands twice, the first.
    constants : dict of str to str
        The ``#! SET`` lines, as text.
    source : str
        The file.
    lines : tuple of int, length n_rows
        Where each row stands in it, from 1.
    fields : tuple of str
        All names in the order of the header, a name that stands twice included: CVs ``x`` and
        ``sigma_x`` of HILLS.
    values : ndarray, shape (n_rows, n_fields), optional
        All columns in that order.
    """

    columns: dict[str, np.ndarray]
    constants: dict[str, str]
    source: str = "the table"
    lines: tuple[int, ...] = ()
    fields: tuple[str, ...] = ()
    values: np.ndarray | None = None

    @classmethod
    def from_values(
        cls,
        fields: Sequence[str],
        constants: dict[str, str],
        values: np.ndarray,
        source: str = "the table",
        lines: tuple[int, ...] = (),
    ) -> FieldTable:
        """A table of all its columns, ``values`` (n_rows, n_fields) in the order of the header."""
        columns: dict[str, np.ndarray] = {}
        for name, column in zip(fields, values.T, strict=True):
            columns.setdefault(name, column)
        return cls(columns, constants, source, lines, tuple(fields), values)

    def taken(self, names: Sequence[str]) -> np.ndarray:
        """Columns by their places, see `places_of`; shape (n_rows, n_names)."""
        if self.values is None:
            places_of(list(self.columns), names)
            return np.stack([self.columns[name] for name in names], axis=-1)
        return self.values[:, places_of(self.fields, names)]

    def first(self, n: int) -> FieldTable:
        """Its first rows."""
        columns = {name: column[:n] for name, column in self.columns.items()}
        values = None if self.values is None else self.values[:n]
        return replace(self, columns=columns, lines=self.lines[:n], values=values)

    def header(self) -> list[str]:
        """All names in the order of the file."""
        return list(self.fields or self.columns)

    def _all_called(self, name: str) -> list[np.ndarray]:
        """The columns of a name, each (n_rows,), in their order."""
        if self.values is None:
            return [self.columns[name]]
        return [self.values[:, i] for i, field in enumerate(self.fields) if field == name]

    def __len__(self) -> int:
        return len(next(iter(self.columns.values()), ()) if self.values is None else self.values)

    def domain(self, name: str) -> tuple[float, float] | None:
        """Periodic domain of a column by its ``min_`` and ``max_`` constants.

        Raises
        ------
        ValueError
            If these are not two numbers, the smaller one first.
        """
        texts = self.constants.get(f"min_{name}"), self.constants.get(f"max_{name}")
        if texts[0] is None or texts[1] is None:
            return None
        lower, upper = self.constant(f"min_{name}"), self.constant(f"max_{name}")
        if not lower < upper:
            raise ValueError(f"{self.source}: {name} is periodic from {texts[0]} to {texts[1]}")
        return lower, upper

    def require_finite(self, names: Iterable[str]) -> None:
        """Refuse columns with NaN or infinite numbers, or such as have no finite square.

        Raises
        ------
        ValueError
            With the line of the first.
        """
        for name in names:
            for column in self._all_called(name):
                self._refuse(name, column, ~(np.abs(column) < LARGEST), "a finite number")

    def require_positive(self, names: Iterable[str]) -> None:
        """Refuse columns with numbers that are not above zero, such as widths of hills.

        Where a CV is called as the width of another, the width stands behind it, and is meant.

        Raises
        ------
        ValueError
            With the line of the first.
        """
        for name in names:
            column = self._all_called(name)[-1]
            self._refuse(name, column, ~(np.abs(column) < LARGEST), "a finite number")
            self._refuse(name, column, column < 1 / LARGEST, "a positive number")

    def _refuse(self, name: str, column: np.ndarray, wrong: np.ndarray, expected: str) -> None:
        if wrong.any():
            row = int(np.argmax(wrong))
            where = f"{self.source}:{self.lines[row]}" if self.lines else f"row {row + 1}"
            raise ValueError(f"{where}: {name} is {column[row]}, expected {expected}")

    def require_columns(self, needed: Sequence[str], known: Iterable[str] = ()) -> None:
        """Refuse a table without a needed column, or with one that nothing would read.

        Parameters
        ----------
        needed : sequence of str
        known : iterable of str
            What else may be there.

        Raises
        ------
        ValueError
            With the names: hills of other arguments would be read as what they are not.
        """
        try:
            places_of(self.header(), needed)
        except ValueError as error:
            raise ValueError(f"{self.source}: {error}") from None
        if strange := [name for name in self.header() if name not in {*needed, *known}]:
            raise ValueError(
                f"{self.source} has the column {', '.join(strange)}, which would not be read: it "
                f"is of other arguments; expected {', '.join(needed)}"
            )

    def constant(self, name: str) -> float:
        """The number of a ``#! SET`` line.

        Raises
        ------
        ValueError
            If there is none, or it is no number; the bias factor alone may be infinite.
        """
        if name not in self.constants:
            raise ValueError(f"{self.source} has no line '#! SET {name}'")
        text = self.constants[name]
        try:
            number = _number(text)
        except ValueError:
            number = np.nan
        if not (np.isfinite(number) or (name == "biasfactor" and number == np.inf)):
            raise ValueError(f"{self.source}: '#! SET {name} {text}', expected a finite number")
        return number


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


def _number(text: str) -> float:
    constants = {"pi": np.pi, "+pi": np.pi, "-pi": -np.pi}
    return constants[text] if text in constants else plain_number(text)


def plain_number(text: str) -> float:
    """A number as C reads it: Python also takes 1_000 and the digits of other scripts.

    Raises
    ------
    ValueError
        If it is none.
    """
    if "_" in text or not text.isascii():
        raise ValueError(f"{text!r} is no number")
    return float(text)
