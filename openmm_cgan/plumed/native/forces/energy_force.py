"""The potential energy of a System as a force: what a bias on ENERGY acts on.

OpenMM tells no force the energy of the others, so that they are evaluated once more, in a copy: a
step costs as much again.
"""

from __future__ import annotations

import copy

import openmm

from openmm_cgan.platforms import properties_of
from openmm_cgan.plumed.native.forces.leaf_forces import sum_of_forces
from openmm_cgan.thermostats import WITHOUT_ENERGY

TOLERANCE = 1e-4  # of an energy in single precision
ROUNDING = 0.02  # kJ/mol: of large terms in single precision that add up to nothing


def energetic_forces(system: openmm.System) -> list[openmm.Force]:
    """The forces of a System that have an energy, but for those of biases."""
    forces = [force for force in system.getForces() if not isinstance(force, WITHOUT_ENERGY)]
    return [force for force in forces if not force.getName().startswith("PLUMED")]


def energy_force(system: openmm.System) -> openmm.Force:
    """A force whose energy is that of all forces of a System now [kJ/mol]."""
    copies = []
    for force in energetic_forces(system):
        made = copy.deepcopy(force)
        if isinstance(made, openmm.NonbondedForce):
            made.setReciprocalSpaceForceGroup(-1)  # a CustomCVForce takes one group of each
        copies.append(made)
    return sum_of_forces(copies) if copies else openmm.CustomCVForce("0")


def require_same_energy(force: openmm.Force, context: openmm.Context, told: float) -> None:
    """Check that what a bias acts on is the potential energy of a Simulation.

    Parameters
    ----------
    force : openmm.Force
        Made by `energy_force`.
    context : openmm.Context
        Of the Simulation.
    told : float
        Its potential energy without the biases, where it stands [kJ/mol].

    Raises
    ------
    RuntimeError
        If the two differ: forces were added or changed since the bias was.
    """
    system = openmm.System()
    for _ in range(context.getSystem().getNumParticles()):
        system.addParticle(1.0)
    system.addForce(copy.deepcopy(force))
    integrator, platform = openmm.VerletIntegrator(0.001), context.getPlatform()
    inner = openmm.Context(system, integrator, platform, properties_of(context))
    state = context.getState(positions=True, parameters=True)
    inner.setPeriodicBoxVectors(*state.getPeriodicBoxVectors())
    known = dict(inner.getParameters())
    for name, number in state.getParameters().items():
        if name in known:
            inner.setParameter(name, number)
    inner.setPositions(state.getPositions())
    found = inner.getState(energy=True).getPotentialEnergy()._value
    if not abs(found - told) <= ROUNDING + TOLERANCE * abs(told):
        raise RuntimeError(
            f"the bias acts on a potential energy of {found:.6g} kJ/mol, that of the Simulation "
            f"is {told:.6g}: its forces are others than when bias.add_to(system) was called, or "
            "another bias is among them; add this bias last, and before Simulation(...)"
        )
