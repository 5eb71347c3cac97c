"""From biases to OpenMM forces.

Each term of a bias goes into the cheapest force that can hold it. A restraint or wall whose value
is an expression in one `Term` (a torsion, a distance, the component of one, of atoms or of virtual
atoms) is a plain ``Custom*Force`` with the bias in its energy (measured: as fast as no bias).
Whatever else, couples variables or has a table is a ``CustomCVForce`` over one force for each
`Leaf`, which are a PythonForce where there is no expression.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import openmm

from openmm_cgan.plumed.actions import Action, Metad
from openmm_cgan.plumed.actions.action import uncovered
from openmm_cgan.plumed.actions.biases.bias import Bias, SeparableBias
from openmm_cgan.plumed.actions.external import External
from openmm_cgan.plumed.actions.functions import Function
from openmm_cgan.plumed.actions.metad.grid_texts import interpolation_text, symbols_written_out
from openmm_cgan.plumed.actions.metad.hill_grid import HillGrid
from openmm_cgan.plumed.actions.pbmetad.pbmetad import Pbmetad
from openmm_cgan.plumed.actions.pytorch_model import PytorchModel
from openmm_cgan.plumed.actions.variables.chains import ChainVariable, Torsion
from openmm_cgan.plumed.actions.variables.surroundings import Energy
from openmm_cgan.plumed.actions.variables.variable import CalledBack, Term, Variable
from openmm_cgan.plumed.input.language import PlumedInputError
from openmm_cgan.plumed.native.forces.bias_forces import (
    BiasForce,
    CoupledTerm,
    GridTable,
    GridTables,
    PlainTerm,
    PythonBias,
)
from openmm_cgan.plumed.native.forces.energy_force import energy_force
from openmm_cgan.plumed.native.forces.frame_values import FrameValues
from openmm_cgan.plumed.native.forces.input_functions import InputFunction
from openmm_cgan.plumed.native.forces.leaf_forces import (
    MAX_VARIABLES,
    Form,
    GradientFunction,
    form_of,
    leaf_force,
)
from openmm_cgan.plumed.native.forces.model_functions import (
    ModelFunction,
    NodeForce,
    NodeFunction,
    encoding_of,
)
from openmm_cgan.plumed.native.forces.python_force import BiasFunction
from openmm_cgan.plumed.native.forces.system_box import bias_number, kind_of_box

# Variables under a table: OpenMM takes some tenths of a second for the slopes along each
MAX_UNDER_TABLES = 8
MAX_UNDER_SUMS = 16  # variables of sums of tables, each under one: a second for all of them
# Symbols of an energy, all definitions written out, times its variables: OpenMM differentiates
# some 20,000 of them a second
MAX_SYMBOLS = 200_000


@dataclass(frozen=True)
class BiasEnergy:
    """The energy of a bias [kJ/mol] as a value that another acts on."""

    bias: Metad | Pbmetad | SeparableBias


@dataclass(frozen=True)
class ModelNode:
    """An output of a model of other values."""

    model: PytorchModel
    index: int


@dataclass(frozen=True)
class PotentialEnergy:
    """The energy of the System without its biases [kJ/mol]."""


class Compiler:
    """Makes the forces of one input for one System.

    Parameters
    ----------
    owners : dict of str to Action
        The action that gives each value.
    system : openmm.System
        The forces are not put into it.
    """

    def __init__(self, owners: dict[str, Action], system: openmm.System) -> None:
        self._owners = owners
        self._system = system
        self._box = kind_of_box(system)
        self._periodic: bool = system.usesPeriodicBoundaryConditions()
        # a Context's parameters are shared by all forces, and are named in saved States
        self._prefix = f"plumed{bias_number(system)}"
        self._plain: dict[tuple[Any, ...], Any] = {}  # forces that hold terms of a kind
        self._n_coupled = 0
        self._inner: list[PythonBias | NodeForce] = []  # in other forces; kept alive for copies
        self._models: dict[str, ModelFunction] = {}
        self.energy: openmm.Force | None = None  # what a bias on ENERGY acts on

    def forces(self, parts: list[BiasForce]) -> list[openmm.Force]:
        """The forces that these parts are in, each once: the plain ones, then the others."""
        plain = self._plain.values()
        return [*plain, *(part.force for part in parts if part.force not in plain)]

    def compile(self, bias: Bias) -> list[BiasForce]:
        """Make the forces of a bias; none where it does not act."""
        if isinstance(bias, Metad):
            if not bias.applied:
                return []
            return [self._in_python(bias) if bias.grid is None else self._on_grid(bias, bias.grid)]
        if bias.stride > 1:
            return [self._in_python(bias)]
        if isinstance(bias, External):
            return [self._on_grid(bias, bias.grid)]
        if isinstance(bias, Pbmetad):
            return [self._on_grids(bias) if bias.on_grids else self._in_python(bias)]
        if bias.in_python:
            return [self._in_python(bias)]
        assert isinstance(bias, SeparableBias)
        if self._all_in_python(bias):
            return [self._in_python(bias)]
        return [self._term(bias, i) for i in range(len(bias.arguments))]

    # ---- the kinds of forces

    def _term(self, bias: SeparableBias, i: int) -> PlainTerm | CoupledTerm:
        """The term of one argument in the cheapest force."""
        leaves: dict[Any, str] = {}
        x = self._expression(bias.arguments[i].name, leaves)
        if form := self._plain_form(leaves):
            return self._plain_term(bias, i, form, x)
        return self._coupled_term(bias, i, leaves, x)

    def _plain_form(self, leaves: dict[Any, str]) -> Form | None:
        """The plain force that holds all leaves, if there is one and it is the cheapest.

        On the Reference platform, for small molecules, a CustomCVForce over several plain forces is
        quicker than one CustomCompoundBondForce; on others it is much slower, for it evaluates a
        System of its own (measured: 260 against 25 us for 9000 particles on the CPU platform).
        """
        terms = [leaf for leaf in leaves if isinstance(leaf, Term)]
        if len(terms) != len(leaves) or not terms:
            return None
        if len(terms) > 1 and not self._box.large:
            return None
        return form_of(terms)

    def _plain_term(self, bias: SeparableBias, i: int, form: Form, x: str) -> PlainTerm:
        energy = _energy_text(bias, bias.term_expression(i, x))
        text = ";".join([energy, *(f"v{k}={text}" for k, text in enumerate(form.texts))])
        parameters = bias.term_parameters(i)
        key = (form.make, text, form.periodic, *parameters)
        if key not in self._plain:
            self._plain[key] = form.force(text, tuple(parameters))
            owner = self._owners[bias.arguments[i].name]
            self._plain[key].setName(f"PLUMED {bias.name} {owner.name}")
        index = form.add(self._plain[key], list(parameters.values()))
        return PlainTerm(bias, i, self._plain[key], form, index)

    def _coupled_term(
        self, bias: SeparableBias, i: int, leaves: dict[Any, str], x: str
    ) -> CoupledTerm:
        text = _energy_text(bias, bias.term_expression(i, x))
        force = openmm.CustomCVForce("")
        names = {}
        for name, number in bias.term_parameters(i).items():
            names[name] = f"{self._prefix}_{self._n_coupled}_{name}"
            force.addGlobalParameter(names[name], number)
        self._n_coupled += 1
        force.setEnergyFunction(";".join([text, *(f"{n}={g}" for n, g in names.items())]))
        self._add_leaves(force, leaves)
        force.setName(f"PLUMED {bias.name} {bias.label}")
        return CoupledTerm(bias, i, force, names)

    def _on_grid(self, bias: Metad | External, grid: HillGrid) -> GridTable | PythonBias:
        leaves: dict[Any, str] = {}
        arguments = [self._expression(value.name, leaves) for value in bias.arguments]
        if len(leaves) > MAX_UNDER_TABLES:
            return self._in_python(bias)
        owners = [self._owners[value.name] for value in bias.arguments]
        wrapped = [isinstance(owner, Torsion) and not owner.cosine for owner in owners]
        text = interpolation_text(grid, arguments, wrapped, "bias")
        if symbols_written_out(text) * len(leaves) > MAX_SYMBOLS:
            return self._in_python(bias)
        energy, _, definitions = text.partition(";")
        force = openmm.CustomCVForce(f"{bias.units.energy!r}*({energy});{definitions}")
        self._add_leaves(force, leaves)
        force.addTabulatedFunction("bias", openmm.Discrete1DFunction(grid.table.ravel()))
        force.setName(f"PLUMED {bias.name} {bias.label}")
        return GridTable(grid, force)

    def _on_grids(self, bias: Pbmetad) -> GridTables | PythonBias:
        leaves: dict[Any, str] = {}
        sums, definitions = [], []
        for i, value in enumerate(bias.arguments):
            family, owner = bias.options.family_of[i], self._owners[value.name]
            wrapped = isinstance(owner, Torsion) and not owner.cosine
            grid = bias.families[family].grid
            assert grid is not None
            x = self._expression(value.name, leaves)
            own, *inner = interpolation_text(grid, [x], [wrapped], f"bias{family}", i).split(";")
            sums.append(f"h{i}")
            definitions += [f"h{i}={own}", *inner]
        if len(leaves) > MAX_UNDER_SUMS:
            return self._in_python(bias)
        kt, level = (f"{self._prefix}_{bias.label}_{name}" for name in ("kt", "level"))
        total = "+".join(f"exp(({level}-{name})/{kt})" for name in sums)
        energy = f"{bias.units.energy!r}*({level}-{kt}*log(({total})/{len(sums)}))"
        text = ";".join([energy, *definitions])
        if symbols_written_out(text) * len(leaves) > MAX_SYMBOLS:
            return self._in_python(bias)
        force = openmm.CustomCVForce(text)
        force.addGlobalParameter(kt, 1.0 if bias.kt is None else bias.kt)
        force.addGlobalParameter(level, 0.0)
        self._add_leaves(force, leaves)
        for k, one in enumerate(bias.families):
            assert one.grid is not None
            table = openmm.Discrete1DFunction(one.grid.table.ravel())
            force.addTabulatedFunction(f"bias{k}", table)
        force.setName(f"PLUMED {bias.name} {bias.label}")
        return GridTables(bias, force, kt, level)

    def _in_python(self, bias: Bias) -> PythonBias:
        function = BiasFunction(bias, self.frame_values(bias), self._periodic)
        return PythonBias(function, f"{self._prefix}_{bias.label}_changed")

    def _all_in_python(self, bias: SeparableBias) -> bool:
        """Whether a PythonForce of the whole bias is cheaper than one inside a CustomCVForce."""
        functions = [self._function(value.name) for value in bias.arguments]
        if any(isinstance(function, InputFunction) for function in functions):
            return True
        if bias.of_vectors and None not in functions:
            return True
        modelled = any(isinstance(function, NodeFunction) for function in functions)
        known = any(isinstance(function, GradientFunction) for function in functions)
        return self._box.large and (modelled or (known and None not in functions))

    # ---- the values that biases act on

    def frame_values(self, bias: Bias) -> FrameValues:
        """The arguments of a bias with their gradients."""
        return self._frame_values([value.name for value in bias.arguments])

    def _frame_values(self, names: Iterable[str]) -> FrameValues:
        functions: list[Any] = []
        is_dear = False
        for name in names:
            function = self._function(name)
            if function is None:
                leaves: dict[Any, str] = {}
                function = openmm.CustomCVForce(self._expression(name, leaves))
                self._add_leaves(function, leaves)
                is_dear |= PotentialEnergy() in leaves
            functions.append(function)
        return FrameValues(functions, self._system, is_dear and self._box.large)

    def _function(self, name: str) -> Any:
        """What gives a value and its gradient without OpenMM, if there is something."""
        owner, leaves = self._owners[name], dict[Any, str]()
        text = self._expression(name, leaves)
        if len(leaves) > MAX_VARIABLES:
            return self._too_many(name, leaves)
        leaf = next(iter(leaves), None)
        if isinstance(leaf, CalledBack) and text == leaves[leaf]:
            return GradientFunction(leaf.variable, leaf.index, self._periodic)
        if isinstance(leaf, ModelNode) and text == leaves[leaf]:
            return self._node(leaf)
        return owner if isinstance(owner, ChainVariable) and owner.real_chain else None

    def _too_many(self, name: str, leaves: dict[Any, str]) -> InputFunction:
        """What gives a value of more variables than a CustomCVForce holds.

        Raises
        ------
        PlumedInputError
            If energies or models are among them.
        """
        if any(isinstance(x, PotentialEnergy | BiasEnergy | ModelNode) for x in leaves):
            statement = self._owners[name].statement
            what = f"{name} is of {len(leaves)} values, some of them energies or of models"
            problem = uncovered(statement, name, f"{what}: natively {MAX_VARIABLES} at most")
            raise PlumedInputError([problem])
        return InputFunction(name, self._owners)

    def _node(self, node: ModelNode) -> NodeFunction:
        label = node.model.label
        if label not in self._models:
            encoding, names = encoding_of(node.model, self._owners)
            self._models[label] = ModelFunction(node.model, self._frame_values(names), encoding)
        return self._models[label].use(node.index)

    def _expression(self, name: str, leaves: dict[Any, str]) -> str:
        """Expression of a value in its leaves, which are added under ``v0``, ``v1`` ..."""
        owner = self._owners[name]
        index = [value.name for value in owner.outputs].index(name)
        if isinstance(owner, Variable):
            return owner.expression(
                index, lambda leaf: leaves.setdefault(leaf, f"v{len(leaves)}"), self._box
            )
        if isinstance(owner, Energy):
            energy = leaves.setdefault(PotentialEnergy(), f"v{len(leaves)}")
            return f"({energy}/{owner.units.energy!r})"
        if isinstance(owner, PytorchModel):
            return leaves.setdefault(ModelNode(owner, index), f"v{len(leaves)}")
        if isinstance(owner, Metad | Pbmetad | SeparableBias):
            energy = leaves.setdefault(BiasEnergy(owner), f"v{len(leaves)}")
            return f"({energy}*{1 / owner.units.energy!r})"
        assert isinstance(owner, Function)
        return owner.expression([self._expression(v.name, leaves) for v in owner.arguments], index)

    def _add_leaves(self, force: openmm.CustomCVForce, leaves: dict[Any, str]) -> None:
        n_atoms = self._system.getNumParticles()
        for leaf, name in leaves.items():
            if isinstance(leaf, PotentialEnergy):
                force.addCollectiveVariable(name, energy_force(self._system))
                self.energy = energy_force(self._system)
            elif isinstance(leaf, BiasEnergy):
                inner = self._in_python(leaf.bias)
                self._inner.append(inner)
                force.addCollectiveVariable(name, inner.force)
            elif isinstance(leaf, ModelNode):
                called = NodeForce(self._node(leaf), self._periodic)
                self._inner.append(called)
                force.addCollectiveVariable(name, called.make_force())
            else:
                force.addCollectiveVariable(name, leaf_force(leaf, self._periodic, n_atoms))


def _energy_text(bias: Bias, text: str) -> str:
    return text if bias.units.energy == 1 else f"{bias.units.energy!r}*({text})"
