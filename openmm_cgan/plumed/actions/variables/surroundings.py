"""Values that do not come from the atoms' positions: TIME, ENERGY, VOLUME, CELL."""

from __future__ import annotations

from typing import Any

import numpy as np

from openmm_cgan.plumed.actions.action import Action
from openmm_cgan.plumed.actions.values import Value
from openmm_cgan.plumed.actions.variables.variable import BoxEdge, BoxKind, Name, Variable
from openmm_cgan.plumed.input.expressions import namespace

# Of a bias that acts on the potential energy, where PLUMED itself runs the input
NO_FORCE_OF_ENERGY = (
    "a bias acts on it, which only backend='native' can do: OpenMM tells PLUMED no potential "
    "energy; leave out what native refuses, or print the energy and reweight"
)

_EDGES = ("ax", "ay", "az", "bx", "by", "bz", "cx", "cy", "cz")


class Volume(Variable):
    """The volume of the periodic box; zero without one."""

    name = "VOLUME"
    summary = "volume of the periodic box"

    @property
    def outputs(self) -> tuple[Value, ...]:
        return (Value(self.label, f"{self.units.length_name}^3"),)

    def value(self, positions: Any, box: Any = None) -> Any:
        zero = positions[..., 0, 0] * 0
        if box is None:
            return zero
        return zero + namespace(box).linalg.det(box) / self.units.length**3

    def expression(self, index: int, name: Name, box: BoxKind) -> str:
        if not box.periodic:
            return "0"
        return f"({name(BoxEdge('v'))}*{1 / self.units.length**3!r})"

    def strain_slope(self, index: int, positions: np.ndarray, box: np.ndarray | None) -> np.ndarray:
        return float(self.value(positions, box)) * np.eye(3)


class Cell(Variable):
    """The components of the box vectors; zero without a box."""

    name = "CELL"
    summary = "components of the box vectors"

    @property
    def is_rigid(self) -> bool:
        return False

    @property
    def outputs(self) -> tuple[Value, ...]:
        return tuple(Value(f"{self.label}.{edge}", self.units.length_name) for edge in _EDGES)

    def values(self, positions: Any, box: Any = None) -> tuple[Any, ...]:
        zero = positions[..., 0, 0] * 0
        if box is None:
            return (zero,) * 9
        return tuple(zero + box[..., k // 3, k % 3] / self.units.length for k in range(9))

    def expression(self, index: int, name: Name, box: BoxKind) -> str:
        edge = _EDGES[index]
        if not box.periodic or edge in ("ay", "az", "bz"):
            return "0"
        return f"({name(BoxEdge(edge))}*{1 / self.units.length!r})"

    def strain_slope(self, index: int, positions: np.ndarray, box: np.ndarray | None) -> np.ndarray:
        slope = np.zeros((3, 3))
        if box is not None:
            row, column = divmod(index, 3)
            slope[:, column] = box[row] / self.units.length
        return slope


class Observed(Action):
    """A value of the run that the positions do not tell."""

    unit = ""

    @property
    def outputs(self) -> tuple[Value, ...]:
        return (Value(self.label, self.unit),)


class Time(Observed):
    """The time of the run."""

    name = "TIME"
    summary = "time of the run; for PRINT and functions"
    unit = "time"


class Energy(Observed):
    """The potential energy without the biases of the input."""

    name = "ENERGY"
    summary = "potential energy without the biases of this input"
    unit = "energy"

    @property
    def count_in_plumed(self) -> int:
        return 0  # it is there from the beginning
