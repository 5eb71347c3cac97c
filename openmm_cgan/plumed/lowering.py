"""From actions to OpenMM forces.

Each term of a bias goes into the cheapest force that can hold it. A restraint or wall on one
torsion, angle or distance of real atoms is a plain ``Custom*Force`` with the bias in its energy
(measured: as fast as no bias). Whatever else, couples variables or has a table is a
``CustomCVForce`` over one force for each variable.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import openmm

from openmm_cgan.plumed.actions import Action, Angle, Distance, Metad, Torsion
from openmm_cgan.plumed.actions.biases import Bias, SeparableBias
from openmm_cgan.plumed.actions.centers import VirtualAtom
from openmm_cgan.plumed.actions.contacts import PairSum
from openmm_cgan.plumed.actions.functions import Function
from openmm_cgan.plumed.actions.grids import HillGrid
from openmm_cgan.plumed.actions.hill_sums import HillSum
from openmm_cgan.plumed.actions.moving import MovingRestraint
from openmm_cgan.plumed.actions.opes import Opes
from openmm_cgan.plumed.actions.shapes import Gyration, Rmsd
from openmm_cgan.plumed.actions.variables import ChainVariable, Site, Variable
from openmm_cgan.plumed.gradients import FrameValues
from openmm_cgan.plumed.python_force import BiasForce

# How a variable becomes a force of its own: the force, its adders for a term and a parameter
_PLAIN: dict[type, tuple[type, str, str]] = {
    Torsion: (openmm.CustomTorsionForce, "addTorsion", "addPerTorsionParameter"),
    Angle: (openmm.CustomAngleForce, "addAngle", "addPerAngleParameter"),
    Distance: (openmm.CustomBondForce, "addBond", "addPerBondParameter"),
}
MAX_VARIABLES = 32  # that a CustomCVForce holds
MARKER = "PLUMED marker"  # name of the empty force of a bias that has no other to be known by


class Lowering:
    """The forces of one input, and how to change what they hold.

    Parameters
    ----------
    owner : dict of str to Action
        The action that gives each value.
    """

    def __init__(self, owner: dict[str, Action]) -> None:
        self._owner = owner
        self._tables: dict[str, openmm.CustomCVForce] = {}
        self._terms: dict[tuple[str, int], tuple[Any, int]] = {}
        self._made: list[BiasForce] = []  # kept alive for copies of the System
        self._global_terms: dict[tuple[str, int], dict[str, str]] = {}

    def forces(self, biases: list[Bias], system: openmm.System) -> list[openmm.Force]:
        """The forces of the biases, not yet in the system."""
        periodic = system.usesPeriodicBoundaryConditions()
        # a Context's parameters are shared by all forces, and are named in saved States
        self._prefix = f"plumed{bias_number(system)}"
        plain: dict[tuple[Any, ...], openmm.Force] = {}
        coupled: list[openmm.Force] = []
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
            for i, value in enumerate(bias.arguments):
                owner = self._owner[value.name]
                if isinstance(owner, ChainVariable) and owner.chain:
                    self._add_plain_term(plain, bias, i, owner, periodic)
                else:
                    coupled.append(self._coupled_term(bias, i, system))
        return [*plain.values(), *coupled]

    def _add_plain_term(
        self,
        plain: dict[tuple[Any, ...], openmm.Force],
        bias: SeparableBias,
        i: int,
        variable: ChainVariable,
        periodic: bool,
    ) -> None:
        make, add_term, add_parameter = _PLAIN[type(variable)]
        text = _energy_text(bias, bias.term_expression(i, _scaled(variable, variable.symbol)))
        parameters = bias.term_parameters(i)
        wrapped = periodic and variable.periodic
        key = (type(variable), text, wrapped, *parameters)
        if key not in plain:
            force = make(text)
            for name in parameters:
                getattr(force, add_parameter)(name)
            force.setUsesPeriodicBoundaryConditions(wrapped)
            force.setName(f"PLUMED {bias.name} {variable.name}")
            plain[key] = force
        index = getattr(plain[key], add_term)(*variable.chain, list(parameters.values()))
        self._terms[bias.label, i] = (plain[key], index)

    def _coupled_term(self, bias: SeparableBias, i: int, system: openmm.System) -> openmm.Force:
        leaves: dict[str, Variable] = {}
        x = self._expression(bias.arguments[i].name, leaves)
        text = _energy_text(bias, bias.term_expression(i, x))
        force = openmm.CustomCVForce("")
        names = {}
        for name, number in bias.term_parameters(i).items():
            names[name] = f"{self._prefix}_{len(self._global_terms)}_{name}"
            force.addGlobalParameter(names[name], number)
        force.setEnergyFunction(";".join([text, *(f"{n}={g}" for n, g in names.items())]))
        self._global_terms[bias.label, i] = names
        _add_leaves(force, leaves, system)
        force.setName(f"PLUMED {bias.name} {bias.label}")
        return force

    def _metad_force(
        self, metad: Metad, grid: HillGrid, system: openmm.System
    ) -> openmm.CustomCVForce:
        leaves: dict[str, Variable] = {}
        arguments = [self._expression(value.name, leaves) for value in metad.arguments]
        wrapped = [isinstance(self._owner[value.name], Torsion) for value in metad.arguments]
        text = grid.expression(arguments, wrapped, "bias")
        energy, _, definitions = text.partition(";")
        force = openmm.CustomCVForce(f"{metad.units.energy!r}*({energy});{definitions}")
        _add_leaves(force, leaves, system)
        table = openmm.Discrete1DFunction(grid.table.ravel())
        force.addTabulatedFunction("bias", table)
        force.setName(f"PLUMED METAD {metad.label}")
        self._tables[metad.label] = force
        return force

    def _python_force(
        self, bias: Metad | Opes | MovingRestraint, system: openmm.System
    ) -> openmm.PythonForce:
        owners = [self._owner[value.name] for value in bias.arguments]

        def value_force(i: int) -> openmm.Force:
            leaves: dict[str, Variable] = {}
            force = openmm.CustomCVForce(self._expression(bias.arguments[i].name, leaves))
            _add_leaves(force, leaves, system)
            return force

        values = FrameValues(owners, value_force, system)
        made = BiasForce(bias, values, system.usesPeriodicBoundaryConditions())
        self._made.append(made)
        return made.make(self._changed_parameter(bias))

    def _changed_parameter(self, bias: Bias) -> str:
        return f"{self._prefix}_{bias.label}_changed"

    def _expression(self, name: str, leaves: dict[str, Variable]) -> str:
        """Expression of a value in the variables ``v0``, ``v1`` ..., which are added to leaves."""
        owner = self._owner[name]
        if isinstance(owner, Variable):
            leaves.setdefault(owner.label, owner)
            return _scaled(owner, f"v{list(leaves).index(owner.label)}")
        assert isinstance(owner, Function)
        return owner.expression([self._expression(v.name, leaves) for v in owner.arguments])

    # ---- while a simulation runs

    def refresh_hills(self, metad: Metad, context: openmm.Context) -> None:
        """Give the hills of a METAD to a running Context."""
        if isinstance(metad.hills, HillSum):
            if metad.applied:
                context.setParameter(self._changed_parameter(metad), float(len(metad.hills)))
        elif metad.label in self._tables:
            force = self._tables[metad.label]
            force.getTabulatedFunction(0).setFunctionParameters(metad.hills.table.ravel())
            force.updateParametersInContext(context)

    def refresh_kernels(self, opes: Opes, context: openmm.Context) -> None:
        """Tell a running Context that the bias has changed."""
        context.setParameter(self._changed_parameter(opes), float(opes.counter))

    def refresh(self, bias: SeparableBias, context: openmm.Context) -> None:
        """Give the parameters of a bias, as they are now, to a running Context."""
        touched = set()
        for i, value in enumerate(bias.arguments):
            parameters = bias.term_parameters(i)
            if (bias.label, i) in self._global_terms:
                for name, parameter in self._global_terms[bias.label, i].items():
                    context.setParameter(parameter, parameters[name])
                continue
            force, index = self._terms[bias.label, i]
            variable = self._owner[value.name]
            assert isinstance(variable, ChainVariable)
            setter = _PLAIN[type(variable)][1].replace("add", "set") + "Parameters"
            getattr(force, setter)(index, *variable.chain, list(parameters.values()))
            touched.add(force)
        for force in touched:
            force.updateParametersInContext(context)


def _energy_text(bias: Bias, text: str) -> str:
    return text if bias.units.energy == 1 else f"{bias.units.energy!r}*({text})"


def _scaled(variable: Variable, symbol: str) -> str:
    if isinstance(variable, Gyration):
        symbol = f"sqrt({symbol})"  # its force is the square
    if isinstance(variable, Rmsd) and variable.squared:
        symbol = f"({symbol}^2)"
    return symbol if variable.scale == 1 else f"({symbol}*{variable.scale!r})"


def _add_leaves(
    force: openmm.CustomCVForce, leaves: dict[str, Variable], system: openmm.System
) -> None:
    periodic, n_atoms = system.usesPeriodicBoundaryConditions(), system.getNumParticles()
    for i, variable in enumerate(leaves.values()):
        inner = _variable_force(variable, periodic and variable.periodic, n_atoms)
        force.addCollectiveVariable(f"v{i}", inner)


def _variable_force(variable: Variable, periodic: bool, n_atoms: int) -> openmm.Force:
    """A force whose energy is the variable, before `_scaled`."""
    if isinstance(variable, Rmsd):
        reference = np.zeros((n_atoms, 3))
        reference[list(variable.atoms)] = variable.reference
        return openmm.RMSDForce(reference, list(variable.atoms))
    if isinstance(variable, PairSum):
        return _pair_force(variable, periodic)
    force = _gyration_force(variable) if isinstance(variable, Gyration) else _chain_force(variable)
    force.setUsesPeriodicBoundaryConditions(periodic)
    return force


def _chain_force(variable: Variable) -> openmm.Force:
    assert isinstance(variable, ChainVariable)
    if variable.chain:
        make, add_term, _ = _PLAIN[type(variable)]
        force = make(variable.symbol)
        getattr(force, add_term)(*variable.chain, [])
        return force
    groups = ",".join(f"g{k + 1}" for k in range(variable.n_atoms))
    force = openmm.CustomCentroidBondForce(variable.n_atoms, f"{variable.function}({groups})")
    force.addBond([_add_group(force, site) for site in variable.atoms], [])
    return force


def _pair_force(variable: PairSum, periodic: bool) -> openmm.Force:
    """One force for the pairs of each expression; their sum if there are several."""
    virtual = any(isinstance(site, VirtualAtom) for site in variable.sites)
    symbol = "distance(g1,g2)" if virtual else "r"
    by_text: dict[str, list[int]] = {}
    for k in range(len(variable.pairs)):
        by_text.setdefault(variable.pair_expression(k, symbol), []).append(k)
    forces = [_same_pairs(variable, text, pairs, virtual) for text, pairs in by_text.items()]
    for force in forces:
        force.setUsesPeriodicBoundaryConditions(periodic)
    return _sum(forces)


def _same_pairs(variable: PairSum, text: str, pairs: list[int], virtual: bool) -> openmm.Force:
    force = openmm.CustomCentroidBondForce(2, text) if virtual else openmm.CustomBondForce(text)
    for name in variable.pair_parameters(pairs[0]):
        force.addPerBondParameter(name)
    groups: dict[Site, int] = {}
    for k in pairs:
        numbers = list(variable.pair_parameters(k).values())
        if not virtual:
            force.addBond(*variable.pairs[k], numbers)
            continue
        for site in variable.pairs[k]:
            if site not in groups:
                groups[site] = _add_group(force, site)
        force.addBond([groups[site] for site in variable.pairs[k]], numbers)
    return force


def _sum(forces: list[openmm.Force]) -> openmm.Force:
    """One force that is the sum of many; a CustomCVForce holds 32 at most."""
    while len(forces) > 1:
        sums = []
        for start in range(0, len(forces), MAX_VARIABLES):
            part = forces[start : start + MAX_VARIABLES]
            force = openmm.CustomCVForce("+".join(f"c{i}" for i in range(len(part))))
            for i, inner in enumerate(part):
                force.addCollectiveVariable(f"c{i}", inner)
            sums.append(force)
        forces = sums
    return forces[0]


def _gyration_force(variable: Gyration) -> openmm.Force:
    force = openmm.CustomCentroidBondForce(2, "weight*distance(g1,g2)^2")
    force.addPerBondParameter("weight")
    weights = [float(weight) for weight in variable.normalized_weights]
    centre = force.addGroup(list(variable.atoms), weights)
    for atom, weight in zip(variable.atoms, weights, strict=True):
        force.addBond([centre, force.addGroup([atom], [1.0])], [weight])
    return force


def _add_group(force: openmm.CustomCentroidBondForce, site: Site) -> int:
    if isinstance(site, VirtualAtom):
        return force.addGroup(list(site.atoms), [float(w) for w in site.normalized_weights])
    return force.addGroup([site], [1.0])


def bias_number(system: openmm.System) -> int:
    """How many biases are in a System already; the same whenever the same System is made."""
    ours = [force for force in system.getForces() if force.getName().startswith("PLUMED")]
    return len({force.getForceGroup() for force in ours})  # each bias has a group of its own


def marker_force(name: str) -> openmm.CustomExternalForce:
    """A force that does nothing, and shows a Context that it is there by a parameter.

    It costs half a microsecond a step.
    """
    force = openmm.CustomExternalForce(f"0*{name}*x")
    force.addGlobalParameter(name, 0.0)
    force.setName(MARKER)
    return force


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
