"""What a bias becomes in OpenMM, and how it is kept up to date in a running Context.

Each has the `forces` that it is in, and `upload`, which gives them the bias as it is now. A new
kind of force is a class here, which the compiler chooses.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import openmm

from openmm_cgan.plumed.actions.biases.bias import SeparableBias
from openmm_cgan.plumed.actions.metad.hill_grid import HillGrid
from openmm_cgan.plumed.actions.pbmetad.pbmetad import Pbmetad
from openmm_cgan.plumed.native.forces.leaf_forces import Form
from openmm_cgan.plumed.native.forces.python_force import BiasFunction


class BiasForce(Protocol):
    """A part of a bias in OpenMM."""

    @property
    def force(self) -> openmm.Force:
        """The force that it is in."""
        ...

    def upload(self, context: openmm.Context) -> None:
        """Give a Context the bias as it is now."""
        ...


@dataclass(frozen=True)
class PlainTerm:
    """One term of a restraint or wall in a ``Custom*Force``, which may hold others.

    Attributes
    ----------
    bias : SeparableBias
    argument : int
        Whose term it is.
    force : openmm.Force
    form : Form
        How the force is written.
    index : int
        Of the term in the force.
    """

    bias: SeparableBias
    argument: int
    force: Any
    form: Form
    index: int

    def upload(self, context: openmm.Context) -> None:
        numbers = list(self.bias.term_parameters(self.argument).values())
        self.form.change(self.force, self.index, numbers)
        self.force.updateParametersInContext(context)


@dataclass(frozen=True)
class CoupledTerm:
    """One term of a restraint or wall in a CustomCVForce of its own.

    Attributes
    ----------
    bias : SeparableBias
    argument : int
        Whose term it is.
    force : openmm.CustomCVForce
    names : dict of str to str
        For each parameter of the term, that of the Context.
    """

    bias: SeparableBias
    argument: int
    force: openmm.CustomCVForce
    names: dict[str, str]

    def upload(self, context: openmm.Context) -> None:
        numbers = self.bias.term_parameters(self.argument)
        for name, parameter in self.names.items():
            context.setParameter(parameter, numbers[name])


class GridTable:
    """A METAD on a grid: the table of a CustomCVForce.

    Parameters
    ----------
    grid : HillGrid
    force : openmm.CustomCVForce
        Whose only function is the table.
    """

    def __init__(self, grid: HillGrid, force: openmm.CustomCVForce) -> None:
        self.force = force
        self._function: Any = force.getTabulatedFunction(0)
        self._table = grid.table.reshape(-1)  # a view: it is always the grid as it is

    def upload(self, context: openmm.Context) -> None:
        self._function.setFunctionParameters(self._table)
        self.force.updateParametersInContext(context)


MOST = 1300  # kT; exponentials of half of it, either way, are numbers


class GridTables:
    """A PBMETAD on grids: the tables of a CustomCVForce, kT and a level as parameters.

    The bias is -kT log of the mean of exp(-V/kT) over its sums of hills V. It is the same whatever
    level V is counted from, which keeps the exponentials within what numbers hold. The least of the
    sums at each place would, too, but names every sum again in each term: OpenMM took 8 s to
    differentiate that of eight.

    Parameters
    ----------
    bias : Pbmetad
    force : openmm.CustomCVForce
        Whose functions are the tables, in the order of the families.
    kt, level : str
        Parameters of the Context.
    """

    def __init__(self, bias: Pbmetad, force: openmm.CustomCVForce, kt: str, level: str) -> None:
        self.force = force
        self._bias, self._kt, self._level = bias, kt, level
        self._functions: list[Any] = [
            force.getTabulatedFunction(k) for k in range(len(bias.families))
        ]

    def upload(self, context: openmm.Context) -> None:
        for function, family in zip(self._functions, self._bias.families, strict=True):
            assert family.grid is not None
            function.setFunctionParameters(family.grid.table.reshape(-1))
        self.force.updateParametersInContext(context)
        if self._bias.kt is not None:
            context.setParameter(self._kt, self._bias.kt)
            context.setParameter(self._level, self._level_for(self._bias.kt))

    def _level_for(self, kt: float) -> float:
        """Midway between the least that a sum of hills is and the most that their least can be.

        Raises
        ------
        ValueError
            If these are so far apart that no level does.
        """
        grids = [family.grid.table[0] for family in self._bias.families if family.grid is not None]
        low = min(0.0, *(float(grid.min()) for grid in grids))  # 0 is that off a grid
        high = max(0.0, min(float(grid.max()) for grid in grids))
        if high - low > MOST * kt:
            raise ValueError(
                f"{self._bias.name} {self._bias.label}: all of its biases have come to {high:.4g} "
                f"above {low:.4g}, more than {MOST} kT, which natively is too much for its "
                "exponentials: lower HEIGHT, or take backend='kernel'"
            )
        return (low + high) / 2


class PythonBias:
    """A bias that OpenMM calls back.

    Parameters
    ----------
    function : BiasFunction
    parameter : str
        Of the Context, which tells it that the bias has changed.
    """

    def __init__(self, function: BiasFunction, parameter: str) -> None:
        self.force = function.make_force(parameter)
        self._function = function  # kept alive for copies of the System
        self._parameter = parameter

    def upload(self, context: openmm.Context) -> None:
        context.setParameter(self._parameter, context.getParameter(self._parameter) + 1)
