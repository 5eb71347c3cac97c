"""EXTERNAL: a bias from a grid in a file."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from openmm_cgan.plumed.actions.action import Given, Keyword
from openmm_cgan.plumed.actions.biases.bias import ARG, STRIDE, Bias
from openmm_cgan.plumed.actions.metad.axis import MAX_GRID_POINTS, Axis, require_inside
from openmm_cgan.plumed.actions.metad.hill_grid import HillGrid
from openmm_cgan.plumed.actions.values import Value
from openmm_cgan.plumed.files.fields import read_fields
from openmm_cgan.plumed.files.grid_files import GridAxis, grid_of, warn_of_rows_between_nodes
from openmm_cgan.plumed.files.tables import FieldTable
from openmm_cgan.plumed.input.words import read_integer, read_real

MAX_DIMENSIONS = 3


class External(Bias):
    """A bias that is read from a grid file and interpolated as PLUMED does.

    Attributes
    ----------
    grid : HillGrid
        SCALE times the file's.
    has_rows_at_nodes : bool
        Whether rows of a file elsewhere than at its nodes are worth a warning.
    """

    name = "EXTERNAL"
    summary = "a bias from a grid file, to 3-D"
    keywords: ClassVar[tuple[Keyword, ...]] = (
        ARG,
        Keyword("FILE", "text", "the grid file", compulsory=True),
        Keyword("NOSPLINE", "flag", "no interpolation between nodes"),
        Keyword("SPARSE", "flag", "accepted: the grid is kept whole"),
        Keyword("SCALE", "real", "multiplies the bias", default=1.0),
        STRIDE,
    )
    has_rows_at_nodes: ClassVar[bool] = True

    def __init__(self, given: Given) -> None:
        super().__init__(given)
        options = given.options
        if len(self.arguments) > MAX_DIMENSIONS:
            raise self.not_native("ARG", f"natively {MAX_DIMENSIONS} arguments at most")
        self.file: str = options["FILE"]
        path = given.folder / self.file
        try:
            table = self._table(path, given)
            axes = [_axis(table, value) for value in self.arguments]
            if np.prod([float(axis.nodes) for axis in axes]) > MAX_GRID_POINTS:
                raise ValueError(f"{path} has more than {MAX_GRID_POINTS} nodes")
            self.grid = HillGrid(axes, not options["NOSPLINE"])
            described = [
                GridAxis(a.value.name, a.texts, a.lower, a.step, a.nodes, a.periodic) for a in axes
            ]
            self.grid.take(options["SCALE"] * grid_of(table, self.label, described))
            if self.has_rows_at_nodes:
                warn_of_rows_between_nodes(table, described)
        except (OSError, ValueError) as error:
            raise self.error(f"FILE={options['FILE']}", str(error)) from None

    def _table(self, path: Path, given: Given) -> FieldTable:
        """The grid as it stands in the file."""
        return read_fields(path)

    def energy(self, arguments: list[Any]) -> Any:
        if all(isinstance(x, float) for x in arguments):
            return self.grid.at(arguments)
        return self.grid.value([np.asarray(x, dtype=float) for x in arguments])

    def energy_and_slopes(self, arguments: list[float], step: int = 0) -> tuple[float, list[float]]:
        """Energy and slopes of one point, as `Bias` has them."""
        return self.grid.value_and_slopes(arguments)

    def check_inside(self, arguments: list[Any]) -> None:
        """Raise as PLUMED does when a value has left the grid.

        Parameters
        ----------
        arguments : list of float, or of ndarray, shape (...)

        Raises
        ------
        RuntimeError
        """
        remedy = "use a wider grid, or add walls inside it"
        require_inside(self, self.grid.axes, arguments, remedy)


def _axis(table: FieldTable, value: Value) -> Axis:
    """The axis of a value, as the header of a grid file has it.

    Raises
    ------
    ValueError
        If it is not there, or does not fit the value.
    """
    known = table.constants
    words = [f"{kind}_{value.name}" for kind in ("min", "max", "nbins", "periodic")]
    if missing := [word for word in words if word not in known]:
        raise ValueError(f"{table.source} has no line '#! SET {missing[0]} ...'")
    lower, upper, nodes, periodic = (known[word] for word in words)
    if (periodic == "true") != (value.domain is not None):
        raise ValueError(f"{table.source}: {words[3]} is {periodic}, unlike the argument's")
    ends = read_real(lower), read_real(upper)
    if value.domain is not None and ends != value.domain:
        raise ValueError(f"{table.source}: {value.name} has another domain, {lower} to {upper}")
    cells = read_integer(nodes) - (value.domain is None)
    if not ends[0] < ends[1] or cells < 1:
        raise ValueError(f"{table.source}: {value.name} has {nodes} bins from {lower} to {upper}")
    return Axis(value, *ends, cells, (lower, upper))
