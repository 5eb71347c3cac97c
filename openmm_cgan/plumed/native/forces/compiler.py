"""From actions to OpenMM forces.

Each term of a bias goes into the cheapest force that can hold it. A restraint or wall whose value
is an expression in one `Term` (a torsion, a distance, the component of one, of atoms or of virtual
atoms) is a plain ``Custom*Force`` with the bias in its energy (measured: as fast as no bias).
Whatever else, couples variables or has a table is a ``CustomCVForce`` over one force for each
`Leaf`, which are a PythonForce where there is no expression.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import openmm

from openmm_cgan.plumed.actions import Action, Metad
from openmm_cgan.plumed.actions.biases.bias import Bias, SeparableBias
from openmm_cgan.plumed.actions.biases.moving import MovingRestraint
from openmm_cgan.plumed.actions.functions import Function
from openmm_cgan.plumed.actions.metad.hill_grid import HillGrid
from openmm_cgan.plumed.actions.metad.hill_sums import HillSum
from openmm_cgan.plumed.actions.opes.opes import Opes
from openmm_cgan.plumed.actions.variables.chains import ChainVariable, Torsion
from openmm_cgan.plumed.actions.variables.variable import (
    BoxKind,
    CalledBack,
    Term,
    Variable,
)
from openmm_cgan.plumed.geometry.lattices import BoxForm, form_of_box
from openmm_cgan.plumed.native.forces.frame_values import FrameValues
from openmm_cgan.plumed.native.forces.leaf_forces import (
    Form,
    GradientFunction,
    form_of,
    leaf_force,
    set_numbers,
)
from openmm_cgan.plumed.native.forces.python_force import BiasForce

LARGE = 500  # particles, beyond which a CustomCVForce costs more than what it saves
MARKER = "PLUMED marker"  # name of the empty force of a bias that has no other to be known by


@dataclass(frozen=True)
class BiasEnergy:
    """The energy of a bias [kJ/mol] as a value that another acts on."""

    bias: Metad | SeparableBias


class Lowering:
    """The forces of one input, and how to change what they hold.

    Parameters
    ----------
    owner : dict of str to Action
        The action that gives each value.
    """

    def __init__(self, owner: dict[str, Action]) -> None:
        self._owner = owner
        # of each METAD on a grid: the force, its function, and the numbers that this is given
        self._tables: dict[str, tuple[openmm.CustomCVForce, Any, np.ndarray]] = {}
        self._terms: dict[tuple[str, int], tuple[Any, int]] = {}
        self._moved: dict[str, int] = {}  # how often biases in Python were given other parameters
        self._made: list[BiasForce] = []  # kept alive for copies of the System
        self._global_terms: dict[tuple[str, int], dict[str, str]] = {}
        self._geometric: list[tuple[Metad, FrameValues]] = []  # ADAPTIVE=GEOM
        self.box = BoxKind()  # that the forces are made for

    def forces(self, biases: list[Bias], system: openmm.System) -> list[openmm.Force]:
        """The forces of the biases, not yet in the system."""
        self.box = kind_of_box(system)
        # a Context's parameters are shared by all forces, and are named in saved States
        self._prefix = f"plumed{bias_number(system)}"
        plain: dict[tuple[Any, ...], openmm.Force] = {}
        coupled: list[openmm.Force] = []
        geometric = [b for b in biases if isinstance(b, Metad) and b.needs_gradients]
        self._geometric = [(bias, self._frame_values(bias, system)) for bias in geometric]
        for bias in biases:
            if isinstance(bias, Opes | MovingRestraint):
                coupled.append(self._python_force(bias, system))
                continue
            if isinstance(bias, Metad):
                if bias.grid is not None and bias.applied:
                    coupled.append(self._metad_force(bias, bias.grid, system))
                elif bias.applied:
                    coupled.append(self._python_force(bias, system))
                continue
            assert isinstance(bias, SeparableBias)
            if self._all_in_python(bias, system):
                coupled.append(self._python_force(bias, system))
                self._moved[bias.label] = 0
                continue
            for i, value in enumerate(bias.arguments):
                leaves: dict[Any, str] = {}
                x = self._expression(value.name, leaves)
                if form := self._plain_form(leaves):
                    self._add_plain_term(plain, bias, i, form, x)
                else:
                    coupled.append(self._coupled_term(bias, i, system))
        return [*plain.values(), *coupled]

    def _plain_form(self, leaves: dict[Any, str]) -> Form | None:
        """The plain force that holds all leaves, if there is one and it is the cheapest.

        On the Reference platform, for small molecules, a CustomCVForce over several plain forces is
        quicker than one CustomCompoundBondForce; on others it is much slower, for it evaluates a
        System of its own (measured: 260 against 25 us for 9000 particles on the CPU platform).
        """
        terms = [leaf for leaf in leaves if isinstance(leaf, Term)]
        if len(terms) != len(leaves) or not terms:
            return None
        if len(terms) > 1 and not self.box.large:
            return None
        return form_of(terms)

    def _add_plain_term(
        self,
        plain: dict[tuple[Any, ...], openmm.Force],
        bias: SeparableBias,
        i: int,
        form: Form,
        x: str,
    ) -> None:
        energy = _energy_text(bias, bias.term_expression(i, x))
        text = ";".join([energy, *(f"v{k}={text}" for k, text in enumerate(form.texts))])
        parameters = bias.term_parameters(i)
        key = (form.make, text, form.periodic, *parameters)
        if key not in plain:
            plain[key] = form.force(text, tuple(parameters))
            plain[key].setName(f"PLUMED {bias.name} {self._owner[bias.arguments[i].name].name}")
        index = form.add(plain[key], list(parameters.values()))
        self._terms[bias.label, i] = (plain[key], index)

    def _coupled_term(self, bias: SeparableBias, i: int, system: openmm.System) -> openmm.Force:
        leaves: dict[Any, str] = {}
        x = self._expression(bias.arguments[i].name, leaves)
        text = _energy_text(bias, bias.term_expression(i, x))
        force = openmm.CustomCVForce("")
        names = {}
        for name, number in bias.term_parameters(i).items():
            names[name] = f"{self._prefix}_{len(self._global_terms)}_{name}"
            force.addGlobalParameter(names[name], number)
        force.setEnergyFunction(";".join([text, *(f"{n}={g}" for n, g in names.items())]))
        self._global_terms[bias.label, i] = names
        self._add_leaves(force, leaves, system)
        force.setName(f"PLUMED {bias.name} {bias.label}")
        return force

    def _metad_force(
        self, metad: Metad, grid: HillGrid, system: openmm.System
    ) -> openmm.CustomCVForce:
        leaves: dict[Any, str] = {}
        arguments = [self._expression(value.name, leaves) for value in metad.arguments]
        owners = [self._owner[value.name] for value in metad.arguments]
        wrapped = [isinstance(owner, Torsion) and not owner.cosine for owner in owners]
        text = grid.expression(arguments, wrapped, "bias")
        energy, _, definitions = text.partition(";")
        force = openmm.CustomCVForce(f"{metad.units.energy!r}*({energy});{definitions}")
        self._add_leaves(force, leaves, system)
        force.addTabulatedFunction("bias", openmm.Discrete1DFunction(grid.table.ravel()))
        force.setName(f"PLUMED METAD {metad.label}")
        self._tables[metad.label] = (force, force.getTabulatedFunction(0), grid.table.reshape(-1))
        return force

    def _python_force(
        self, bias: Metad | Opes | MovingRestraint | SeparableBias, system: openmm.System
    ) -> openmm.PythonForce:
        periodic = system.usesPeriodicBoundaryConditions()
        made = BiasForce(bias, self._frame_values(bias, system), periodic)
        self._made.append(made)
        return made.make(self._changed_parameter(bias))

    def _frame_values(self, bias: Bias, system: openmm.System) -> FrameValues:
        """The arguments of a bias with their gradients."""
        functions: list[Any] = []
        for value in bias.arguments:
            function = self._function(value.name, system)
            if function is None:
                leaves: dict[Any, str] = {}
                function = openmm.CustomCVForce(self._expression(value.name, leaves))
                self._add_leaves(function, leaves, system)
            functions.append(function)
        return FrameValues(functions, system)

    def _function(self, name: str, system: openmm.System) -> Any:
        """What gives a value and its gradient without OpenMM, if there is something."""
        owner, leaves = self._owner[name], dict[Any, str]()
        text = self._expression(name, leaves)
        leaf = next(iter(leaves), None)
        if isinstance(leaf, CalledBack) and text == leaves[leaf]:
            periodic = system.usesPeriodicBoundaryConditions()
            return GradientFunction(leaf.variable, leaf.index, periodic)
        return owner if isinstance(owner, ChainVariable) and owner.chain else None

    def _all_in_python(self, bias: SeparableBias, system: openmm.System) -> bool:
        """Whether a PythonForce of the whole bias is cheaper than one inside a CustomCVForce."""
        functions = [self._function(value.name, system) for value in bias.arguments]
        known = any(isinstance(function, GradientFunction) for function in functions)
        return self.box.large and known and None not in functions

    def _changed_parameter(self, bias: Bias) -> str:
        return f"{self._prefix}_{bias.label}_changed"

    def _expression(self, name: str, leaves: dict[Any, str]) -> str:
        """Expression of a value in its leaves, which are added under ``v0``, ``v1`` ..."""
        owner = self._owner[name]
        index = [value.name for value in owner.outputs].index(name)
        if isinstance(owner, Variable):
            return owner.expression(
                index, lambda leaf: leaves.setdefault(leaf, f"v{len(leaves)}"), self.box
            )
        if isinstance(owner, Metad | SeparableBias):
            energy = leaves.setdefault(BiasEnergy(owner), f"v{len(leaves)}")
            return f"({energy}*{1 / owner.units.energy!r})"
        assert isinstance(owner, Function)
        return owner.expression([self._expression(v.name, leaves) for v in owner.arguments], index)

    def _add_leaves(
        self, force: openmm.CustomCVForce, leaves: dict[Any, str], system: openmm.System
    ) -> None:
        periodic, n_atoms = system.usesPeriodicBoundaryConditions(), system.getNumParticles()
        for leaf, name in leaves.items():
            if isinstance(leaf, BiasEnergy):
                force.addCollectiveVariable(name, self._python_force(leaf.bias, system))
            else:
                force.addCollectiveVariable(name, leaf_force(leaf, periodic, n_atoms))

    # ---- while a simulation runs

    def measure(self, positions: np.ndarray, box: np.ndarray | None, step: int) -> None:
        """Give the gradients of their values to the METADs that lay a hill by them at a step."""
        for metad, values in self._geometric:
            if step % metad.pace == 0:
                if box is not None and form_of_box(box) is BoxForm.GENERAL:
                    where = metad.statement.location
                    raise ValueError(f"{where}: ADAPTIVE=GEOM in this box needs --backend kernel")
                metric = values.products(positions, box) * metad.units.length**2
                metad.measure(metric)

    def refresh_hills(self, metad: Metad, context: openmm.Context) -> None:
        """Give the hills of a METAD to a running Context."""
        if isinstance(metad.hills, HillSum):
            if metad.applied:
                context.setParameter(self._changed_parameter(metad), float(len(metad.hills)))
        elif metad.label in self._tables:
            force, function, table = self._tables[metad.label]
            function.setFunctionParameters(table)
            force.updateParametersInContext(context)

    def refresh_kernels(self, opes: Opes, context: openmm.Context) -> None:
        """Tell a running Context that the bias has changed."""
        context.setParameter(self._changed_parameter(opes), float(opes.counter))

    def refresh(self, bias: SeparableBias, context: openmm.Context) -> None:
        """Give the parameters of a bias, as they are now, to a running Context."""
        if bias.label in self._moved:
            self._moved[bias.label] += 1
            context.setParameter(self._changed_parameter(bias), float(self._moved[bias.label]))
            return
        touched = set()
        for i in range(len(bias.arguments)):
            parameters = bias.term_parameters(i)
            if (bias.label, i) in self._global_terms:
                for name, parameter in self._global_terms[bias.label, i].items():
                    context.setParameter(parameter, parameters[name])
                continue
            force, index = self._terms[bias.label, i]
            set_numbers(force, index, list(parameters.values()))
            touched.add(force)
        for force in touched:
            force.updateParametersInContext(context)


def _energy_text(bias: Bias, text: str) -> str:
    return text if bias.units.energy == 1 else f"{bias.units.energy!r}*({text})"


def kind_of_box(system: openmm.System) -> BoxKind:
    """What expressions must know of the box of a System."""
    large = system.getNumParticles() > LARGE
    if not system.usesPeriodicBoundaryConditions():
        return BoxKind(large=large)
    vectors = [v._value for v in system.getDefaultPeriodicBoxVectors()]
    bent = any(vectors[i][j] != 0 for i, j in ((1, 0), (2, 0), (2, 1)))
    bends = any(
        isinstance(force, openmm.MonteCarloFlexibleBarostat) for force in system.getForces()
    )
    safe = 0.45 * min(vectors[i][i] for i in range(3))  # with room for a barostat
    return BoxKind(True, bent or bends, safe, large, lambda: molecules(system))


def marker_force(name: str) -> openmm.CustomExternalForce:
    """A force that does nothing, and shows a Context that it is there by a parameter.

    It costs half a microsecond a step.
    """
    force = openmm.CustomExternalForce(f"0*{name}*x")
    force.addGlobalParameter(name, 0.0)
    force.setName(MARKER)
    return force


def bias_number(system: openmm.System) -> int:
    """How many biases are in a System already; the same whenever the same System is made."""
    ours = [force for force in system.getForces() if force.getName().startswith("PLUMED")]
    return len({force.getForceGroup() for force in ours})  # each bias has a group of its own


def molecules(system: openmm.System) -> list[int]:
    """Number of the molecule that each particle is in, by bonds, constraints and exceptions."""
    parent = list(range(system.getNumParticles()))

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    pairs = [system.getConstraintParameters(k)[:2] for k in range(system.getNumConstraints())]
    for force in system.getForces():
        if isinstance(force, openmm.HarmonicBondForce):
            pairs += [force.getBondParameters(k)[:2] for k in range(force.getNumBonds())]
        elif isinstance(force, openmm.NonbondedForce):
            pairs += [force.getExceptionParameters(k)[:2] for k in range(force.getNumExceptions())]
    for i, j in pairs:
        parent[root(i)] = root(j)
    return [root(i) for i in range(len(parent))]
