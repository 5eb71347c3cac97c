"""What the forces of a bias must know of the System that they are made for."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
import openmm
from openmm import unit

from openmm_cgan.plumed.actions.variables.variable import BoxKind
from openmm_cgan.states import default_box

LARGE = 500  # particles, beyond which a CustomCVForce costs more than what it saves
MARKER = "PLUMED marker"  # name of the empty force of a bias that has no other to be known by
BAROSTAT = "MonteCarloTemperature"  # ends the name of a parameter of each that OpenMM has
MEASURES = "PLUMED values"  # of the force of an input that PLUMED runs, and that biases nothing


def has_barostat(parameters: Iterable[str]) -> bool:
    """Whether there is a Monte Carlo barostat, by the names of a Context's parameters."""
    return any(name.endswith(BAROSTAT) for name in parameters)


def kind_of_box(system: openmm.System) -> BoxKind:
    """What expressions must know of the box of a System."""
    large = system.getNumParticles() > LARGE
    if not system.usesPeriodicBoundaryConditions():
        return BoxKind(large=large)
    vectors = default_box(system).tolist()
    bent = any(vectors[i][j] != 0 for i, j in ((1, 0), (2, 0), (2, 1)))
    bends = any(
        isinstance(force, openmm.MonteCarloFlexibleBarostat) for force in system.getForces()
    )
    safe = 0.45 * min(vectors[i][i] for i in range(3))  # with room for a barostat
    return BoxKind(True, bent or bends, safe, large, lambda: molecules(system))


def masses_and_charges(system: openmm.System) -> tuple[np.ndarray, np.ndarray]:
    """Masses [dalton] and charges [e] of all particles, shape (n_particles,) each.

    Charges are those of its only NonbondedForce, NaN where it has none or several.
    """
    n = system.getNumParticles()
    masses = np.array([system.getParticleMass(i)._value for i in range(n)], dtype=float)
    charged = [f for f in system.getForces() if isinstance(f, openmm.NonbondedForce)]
    if len(charged) != 1:
        return masses, np.full(n, np.nan)
    charges = [charged[0].getParticleParameters(i)[0]._value for i in range(n)]
    return masses, np.array(charges, dtype=float)


class KnownAtoms(NamedTuple):
    """What is known of atoms before a bias is in their System.

    Attributes
    ----------
    masses : ndarray, shape (n_atoms,)
        [dalton]
    charges : ndarray, shape (n_atoms,)
        [e]; NaN where not known.
    guessed : bool
        Masses are those of the elements.
    """

    masses: np.ndarray
    charges: np.ndarray
    guessed: bool = False


def known_atoms(topology: Any, given: Any) -> KnownAtoms:
    """Masses and charges of the System of what a topology is given as; else masses by element.

    Parameters
    ----------
    topology : openmm.app.Topology
    given : Simulation, Molecule, or what else has ``topology`` and ``system``; or anything
    """
    elements = [atom.element for atom in topology.atoms()]
    system = getattr(given, "system", None)
    if isinstance(system, openmm.System) and system.getNumParticles() == len(elements):
        return KnownAtoms(*masses_and_charges(system))
    masses = [0.0 if e is None else e.mass.value_in_unit(unit.dalton) for e in elements]
    return KnownAtoms(np.array(masses), np.full(len(elements), np.nan), guessed=True)


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


def biases_beside(system: openmm.System, groups: set[int]) -> list[str]:
    """Names of the forces of biases in a System that are in other force groups than these."""
    return [
        force.getName()
        for force in system.getForces()
        if force.getName().startswith("PLUMED")
        and force.getName() not in (MARKER, MEASURES)
        and force.getForceGroup() not in groups
    ]


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
