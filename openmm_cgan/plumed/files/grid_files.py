"""Grids on disk, as PLUMED writes and reads them: a value and its derivatives at each node."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from openmm_cgan.plumed.files.fields import read_fields
from openmm_cgan.plumed.files.tables import FieldTable

log = logging.getLogger("openmm_cgan")

GRID_FORMAT = " %14.9f"
OFF_NODES = 0.1  # of a step: places that are written with few digits


@dataclass(frozen=True)
class GridAxis:
    """One axis of a grid, as its file tells it.

    Attributes
    ----------
    name : str
        Of the value along it.
    limits : (str, str)
        Lower and upper, as they were written.
    lower, step : float
        The first node, and the distance of two.
    nodes : int
    periodic : bool
    """

    name: str
    limits: tuple[str, str]
    lower: float
    step: float
    nodes: int
    periodic: bool

    @property
    def constants(self) -> dict[str, str]:
        """The ``#! SET`` lines of the axis."""
        lower, upper = self.limits
        return {
            f"min_{self.name}": lower,
            f"max_{self.name}": upper,
            f"nbins_{self.name}": str(self.nodes),
            f"periodic_{self.name}": "true" if self.periodic else "false",
        }

    def places(self, table: FieldTable) -> np.ndarray:
        """Where the rows (n,) of a file lie, in steps from the first node."""
        return np.asarray((table.columns[self.name] - self.lower) / self.step)


def grid_lines(label: str, axes: Sequence[GridAxis], bias: np.ndarray) -> list[str]:
    """The lines of a grid file: the first value changes fastest.

    Parameters
    ----------
    label : str
        Of the METAD.
    axes : sequence of GridAxis
    bias : ndarray, shape (1 + n_axes, *nodes)
        Value, and its derivative along each axis.
    """
    names = [axis.name for axis in axes]
    lines = [f"#! FIELDS {' '.join([*names, f'{label}.bias', *(f'der_{n}' for n in names)])}\n"]
    for axis in axes:
        for key, text in axis.constants.items():
            space = "  " if key.startswith("nbins_") else " "  # as PLUMED
            lines.append(f"#! SET {key}{space}{text}\n")
    places = [axis.lower + np.arange(axis.nodes) * axis.step for axis in axes]
    columns = [p.ravel(order="F") for p in np.meshgrid(*places, indexing="ij")]
    columns += [plane.ravel(order="F") for plane in bias]
    form = GRID_FORMAT * len(columns) + "\n"
    shape = [axis.nodes for axis in axes]
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


def read_grid(path: Path, label: str, axes: Sequence[GridAxis]) -> np.ndarray:
    """Read a grid that PLUMED or `grid_lines` wrote.

    Parameters
    ----------
    path : Path
    label : str
        Of the METAD.
    axes : sequence of GridAxis
        What the file must have.

    Returns
    -------
    ndarray, shape (1 + n_axes, *nodes)
        Value, and its derivative along each axis; zero at nodes without a row.

    Raises
    ------
    FileNotFoundError, ValueError
        If it is missing, or of another grid.
    """
    table = read_fields(path)
    bias = grid_of(table, label, axes)
    warn_of_rows_between_nodes(table, axes)
    return bias


def grid_of(table: FieldTable, label: str, axes: Sequence[GridAxis]) -> np.ndarray:
    """The same of a file that has been read; parameters, result and errors as of `read_grid`."""
    path = table.source
    names = [axis.name for axis in axes]
    needed = [*names, f"{label}.bias", *(f"der_{name}" for name in names)]
    table.require_columns(needed)
    table.require_finite(needed)
    index = []
    for axis in axes:
        words, wanted = list(axis.constants), tuple(axis.constants.values())
        found = tuple(table.constants.get(word, "nothing") for word in words)
        if any(not _alike(a, b) for a, b in zip(found, wanted, strict=True)):
            raise ValueError(f"{path}: {words} are {found}, but METAD {label} has {wanted}")
        place = axis.places(table)
        nearest = np.floor(place + 0.5)
        if len(nearest) and not 0 <= nearest.min() <= nearest.max() < axis.nodes:
            raise ValueError(f"{path}: {axis.name} has values outside the grid of METAD {label}")
        index.append(nearest.astype(int))
    bias = np.zeros((1 + len(axes), *(axis.nodes for axis in axes)))
    for plane, name in zip(bias, needed[len(names) :], strict=True):
        plane[tuple(index)] = table.columns[name]
    return bias


def warn_of_rows_between_nodes(table: FieldTable, axes: Sequence[GridAxis]) -> None:
    """Say so where rows of a grid are not at nodes: PLUMED takes each at the nearest, and so it is.

    Usually ``nbins`` of the header is one short.
    """
    for axis in axes:
        place = axis.places(table)
        off = np.abs(place - np.floor(place + 0.5))
        if not len(off) or off.max() <= OFF_NODES:
            continue
        remedy = "" if axis.periodic else f"; nbins_{axis.name} counts nodes, both ends among them"
        log.warning(
            "%s: %s = %g lies between two nodes of the grid that the header tells of (%d from %s in"
            " steps of %g), and is taken for the nearer, as PLUMED does%s",
            table.source, axis.name, table.columns[axis.name][int(off.argmax())], axis.nodes,
            axis.limits[0], axis.step, remedy,
        )  # fmt: skip


def _alike(found: str, wanted: str) -> bool:
    """Whether two words of a header are the same, or whole numbers that are: 500.000000 is 500."""
    try:
        return found == wanted or (wanted.isdigit() and float(found) == float(wanted))
    except ValueError:
        return False
