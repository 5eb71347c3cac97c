"""The Context of a running simulation: given a configuration, or copied to work in beside it.

On the Reference platform all Contexts of a process share one stream of random numbers: a second
Context with a Langevin integrator, even its making, would change the running one. So copies have a
Verlet integrator, and neither thermostats nor barostats.
"""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import openmm
from numpy.typing import NDArray
from openmm import app, unit

# What moves the box or the velocities of a run by itself has no place in a healing.
LEFT_OUT = (
    openmm.AndersenThermostat,
    openmm.CMMotionRemover,
    openmm.MonteCarloAnisotropicBarostat,
    openmm.MonteCarloBarostat,
    openmm.MonteCarloFlexibleBarostat,
    openmm.MonteCarloMembraneBarostat,
)


def system_without(system: openmm.System, groups: set[int]) -> openmm.System:
    """Copy a System, leaving out the forces of some groups, barostats and thermostats.

    Part by part: the XML copy of a whole System fails where a Python force cannot be pickled.
    """
    made = openmm.System()
    made.setDefaultPeriodicBoxVectors(*system.getDefaultPeriodicBoxVectors())
    for particle in range(system.getNumParticles()):
        made.addParticle(system.getParticleMass(particle))
    for particle in range(system.getNumParticles()):
        if system.isVirtualSite(particle):
            made.setVirtualSite(particle, _copied_site(system.getVirtualSite(particle)))
    for constraint in range(system.getNumConstraints()):
        made.addConstraint(*system.getConstraintParameters(constraint))
    for force in system.getForces():
        if force.getForceGroup() not in groups and not isinstance(force, LEFT_OUT):
            made.addForce(copy.deepcopy(force))
    return made


def _copied_site(site: Any) -> Any:
    particles = [site.getParticle(i) for i in range(site.getNumParticles())]
    if isinstance(site, openmm.TwoParticleAverageSite | openmm.ThreeParticleAverageSite):
        return type(site)(*particles, *(site.getWeight(i) for i in range(len(particles))))
    if isinstance(site, openmm.OutOfPlaneSite):
        weights = site.getWeight12(), site.getWeight13(), site.getWeightCross()
        return openmm.OutOfPlaneSite(*particles, *weights)
    if isinstance(site, openmm.LocalCoordinatesSite):
        weights = site.getOriginWeights(), site.getXWeights(), site.getYWeights()
        return openmm.LocalCoordinatesSite(particles, *weights, site.getLocalPosition())
    raise TypeError(
        f"virtual sites of type {type(site).__name__} cannot be copied; expected two- or "
        "three-particle averages, out-of-plane or local-coordinates sites"
    )


def global_parameters(system: openmm.System) -> set[str]:
    """Names of the Context parameters that the forces of a System define."""
    return {
        force.getGlobalParameterName(i)
        for force in system.getForces()
        if hasattr(force, "getNumGlobalParameters")
        for i in range(force.getNumGlobalParameters())
    }


def context_like(simulation: app.Simulation, system: openmm.System) -> openmm.Context:
    """Make a Context on the platform of a simulation, with its platform properties.

    Its integrator is Verlet's: it draws no random numbers (see the module).
    """
    running = simulation.context
    platform = running.getPlatform()
    integrator = openmm.VerletIntegrator(simulation.integrator.getStepSize())
    integrator.setConstraintTolerance(simulation.integrator.getConstraintTolerance())
    properties = {
        name: platform.getPropertyValue(running, name) for name in platform.getPropertyNames()
    }
    return openmm.Context(system, integrator, platform, properties)


def degrees_of_freedom(system: openmm.System) -> int:
    """Three for each massive particle less the constraints."""
    masses = [
        system.getParticleMass(i).value_in_unit(unit.dalton)
        for i in range(system.getNumParticles())
    ]
    constraints = (system.getConstraintParameters(i) for i in range(system.getNumConstraints()))
    held = sum(masses[i] > 0 or masses[j] > 0 for i, j, _ in constraints)
    return 3 * sum(mass > 0 for mass in masses) - held


def inject(
    simulation: app.Simulation, positions: NDArray[np.float64], temperature: float, seed: int
) -> None:
    """Let a simulation go on from other positions, at its step, time and box.

    Constraints are applied, virtual sites computed, and velocities redrawn from the
    Maxwell-Boltzmann distribution.

    Parameters
    ----------
    simulation : openmm.app.Simulation
    positions : ndarray, shape (n_atoms, 3)
        [nm]
    temperature : float
        [K]
    seed : int
        Of the velocities.
    """
    context, tolerance = simulation.context, simulation.integrator.getConstraintTolerance()
    # PLUMED deposits and prints at the first evaluation of a step: let it be of the frame that was
    # there. And not by Context.setState, which would rewind step and time.
    context.getState(energy=True)
    context.setPositions(positions)
    context.applyConstraints(tolerance)
    context.setVelocitiesToTemperature(temperature, seed)
    context.applyVelocityConstraints(tolerance)


def temperature_of(integrator: openmm.Integrator, given: float | unit.Quantity | None) -> float:
    """Temperature of velocities [K]: the one given, else that of the integrator.

    Raises
    ------
    ValueError
        If there is neither.
    """
    if given is None and not hasattr(integrator, "getTemperature"):
        raise ValueError(
            f"{type(integrator).__name__} has no temperature to draw velocities at; give one: "
            "ProposalReporter(..., settings=ProposalSettings(temperature=300))"
        )
    temperature: Any = integrator.getTemperature() if given is None else given
    if unit.is_quantity(temperature):
        temperature = temperature.value_in_unit(unit.kelvin)
    if not (np.isfinite(temperature) and temperature > 0):
        raise ValueError(f"the temperature is {temperature} K; expected a positive number")
    return float(temperature)


def settle_steps_of(integrator: openmm.Integrator, given: int | None) -> int:
    """Steps in 1/friction, the time that velocities remember; in 1 ps without friction."""
    if given is not None:
        return int(given)
    friction = 0.0
    if hasattr(integrator, "getFriction"):
        friction = integrator.getFriction().value_in_unit(unit.picosecond**-1)
    step = integrator.getStepSize().value_in_unit(unit.picosecond)
    return int(np.ceil((1 / friction if friction > 0 else 1.0) / step))
