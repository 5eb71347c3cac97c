"""Multiscale systems in OpenMM: V as a force of particles, the dynamics as a CustomIntegrator.

The coordinates of a configuration are x1, y1, z1, x2, ... of as many particles as hold them; what
is left of the last particle is held at 0 by a spring.
"""

from __future__ import annotations

from collections.abc import Sequence

import openmm
from openmm import app

PADDING = 100.0  # kJ/mol/nm^2
MASS = 40.0  # dalton, for integrators with velocities


def coordinate_names(n: int) -> list[str]:
    """Names of the first n coordinates in an expression: x1, y1, z1, x2, ..."""
    return [f"{'xyz'[k % 3]}{k // 3 + 1}" for k in range(n)]


def particles_in(expression: str, n_dims: int) -> openmm.System:
    """Particles with an energy [kJ/mol] of the first n_dims coordinates [nm]."""
    n_particles = -(-n_dims // 3)
    padding = coordinate_names(3 * n_particles)[n_dims:]
    springs = "".join(f" + {PADDING / 2}*{name}^2" for name in padding)
    energy, *definitions = expression.split(";")
    force = openmm.CustomCompoundBondForce(n_particles, ";".join([energy + springs, *definitions]))
    force.addBond(list(range(n_particles)))
    system = openmm.System()
    for _ in range(n_particles):
        system.addParticle(MASS)
    system.addForce(force)
    return system


def argon_atoms(n: int) -> app.Topology:
    """Topology of n argon atoms."""
    topology = app.Topology()
    chain = topology.addChain()
    for _ in range(n):
        topology.addAtom("AR", app.element.argon, topology.addResidue("AR", chain))
    return topology


def vectors(values: Sequence[float]) -> list[openmm.Vec3]:
    """One number of each coordinate as vectors of particles, filled up with 0."""
    filled = [*map(float, values), 0.0, 0.0]
    return [openmm.Vec3(*filled[i : i + 3]) for i in range(0, len(values), 3)]


def overdamped(dt: float, kT: float, mobility: Sequence[float]) -> openmm.CustomIntegrator:
    """An integrator with the variables of an overdamped step, and no step yet.

    Parameters
    ----------
    dt : float
        [ps]
    kT : float
        [kJ/mol]
    mobility : sequence of float
        Of the coordinates [nm^2/ps/(kJ/mol)]; what fills up the last particle has 0 and stays.
    """
    integrator = openmm.CustomIntegrator(dt)
    integrator.addGlobalVariable("kT", kT)
    for name in ("mobility", "before", "noise"):
        integrator.addPerDofVariable(name, 0)
    integrator.setPerDofVariableByName("mobility", vectors(mobility))
    return integrator


def draw_noise(
    integrator: openmm.CustomIntegrator, noise: str = "sqrt(0.5*kT*dt*mobility)*gaussian"
) -> None:
    """Half the noise of this step, beside that of the step before.

    Noise averaged over two steps: see `ReversibleDiffusion.simulate`.
    """
    integrator.addUpdateContextState()
    integrator.addComputePerDof("before", "noise")
    integrator.addComputePerDof("noise", noise)


def diagonal(dt: float, kT: float, mobility: Sequence[float]) -> openmm.CustomIntegrator:
    """Overdamped steps of coordinates that are hidden ones."""
    integrator = overdamped(dt, kT, mobility)
    draw_noise(integrator)
    integrator.addComputePerDof("x", "x + dt*mobility*f + before + noise")
    return integrator


def transformed(
    dt: float, kT: float, mobility: Sequence[float], *, hidden: str, push: str, observed: str
) -> openmm.CustomIntegrator:
    """Overdamped steps of one particle in hidden coordinates u.

    Parameters
    ----------
    dt : float
        [ps]
    kT : float
        [kJ/mol]
    mobility : sequence of float
        Of the hidden coordinates [nm^2/ps/(kJ/mol)].
    hidden, push, observed : str
        Vector expressions: u of positions x; the force on u of positions x and all forces f, those
        of biases among them; and x of u.
    """
    integrator = overdamped(dt, kT, mobility)
    integrator.addPerDofVariable("u", 0)
    integrator.addPerDofVariable("push", 0)
    draw_noise(integrator)
    integrator.addComputePerDof("u", hidden)
    integrator.addComputePerDof("push", push)
    integrator.addComputePerDof("u", "u + dt*mobility*push + before + noise")
    integrator.addComputePerDof("x", observed)
    return integrator
