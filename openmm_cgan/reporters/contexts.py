"""The Context of a running simulation: given a configuration, or copied to work in beside it.

Copies have a Verlet integrator and neither thermostats nor barostats, for the reason that stands in
`potentials`.
"""

from __future__ import annotations

from collections.abc import Sequence, Set
from typing import Any, Protocol, runtime_checkable

import numpy as np
import openmm
from numpy.typing import NDArray
from openmm import app, unit

from openmm_cgan.platforms import properties_of
from openmm_cgan.quantities import kelvin
from openmm_cgan.states import positions_and_box
from openmm_cgan.thermostats import has_several_temperatures, temperature_of

USUAL_STEP = 0.001  # ps, of an integrator with variable steps that has made none yet


@runtime_checkable
class Frictional(Protocol):
    """An integrator with friction."""

    def getFriction(self) -> unit.Quantity:
        """Friction coefficient [1/time]."""
        ...


def context_like(simulation: app.Simulation, system: openmm.System) -> openmm.Context:
    """Make a Context on the platform of a simulation, with its platform properties.

    Its integrator is Verlet's: it draws no random numbers (see the module).
    """
    running = simulation.context
    integrator = openmm.VerletIntegrator(verlet_step(simulation.integrator))
    integrator.setConstraintTolerance(simulation.integrator.getConstraintTolerance())
    return openmm.Context(system, integrator, running.getPlatform(), properties_of(running))


def follow_parameters(names: Set[str], running: openmm.Context, own: openmm.Context) -> None:
    """Give a Context of ours the values that some parameters have in the running one.

    Parameters
    ----------
    names : set of str
        Parameters of ours; those that the running Context lacks are passed over.
    running, own : openmm.Context
    """
    values = dict(running.getParameters())
    for name in names & values.keys():
        own.setParameter(name, values[name])


def energy_without(context: openmm.Context, groups: Set[int]) -> float:
    """Potential energy [kJ/mol] in a Context, some force groups left out."""
    state = context.getState(energy=True, groups=set(range(32)) - groups)
    return float(state.getPotentialEnergy()._value)


def verlet_step(integrator: openmm.Integrator) -> float:
    """A time step [ps] for Verlet's integrator of what another one integrates.

    That one's own; but the outer of several steps is too long, and a variable one may be anything.
    """
    others = (
        openmm.CustomIntegrator,
        openmm.CompoundIntegrator,
        openmm.VariableLangevinIntegrator,
        openmm.VariableVerletIntegrator,
    )
    step = integrator.getStepSize().value_in_unit(unit.picosecond)
    return USUAL_STEP if isinstance(integrator, others) or step <= 0 else step


def degrees_of_freedom(system: openmm.System, atoms: Sequence[int]) -> int:
    """Three for each massive one of some atoms less the constraints among them."""
    masses = {i: system.getParticleMass(i).value_in_unit(unit.dalton) for i in atoms}
    constraints = (system.getConstraintParameters(i) for i in range(system.getNumConstraints()))
    held = sum(masses.get(i, 0) > 0 and masses.get(j, 0) > 0 for i, j, _ in constraints)
    return 3 * sum(mass > 0 for mass in masses.values()) - held


def inject(
    simulation: app.Simulation,
    positions: NDArray[np.float64],
    temperature: float,
    seed: int,
    velocities: NDArray[np.float64] | None = None,
) -> None:
    """Let a simulation go on from other positions, at its step, time and box.

    Constraints are applied, virtual sites computed, and velocities redrawn from the
    Maxwell-Boltzmann distribution where none are given.

    Parameters
    ----------
    simulation : openmm.app.Simulation
    positions : ndarray, shape (n_atoms, 3)
        [nm]
    temperature : float
        [K]
    seed : int
        Of the velocities.
    velocities : ndarray, shape (n_atoms, 3), optional
        [nm/ps]
    """
    context, tolerance = simulation.context, simulation.integrator.getConstraintTolerance()
    # PLUMED deposits and prints at the first evaluation of a step: let it be of the frame that was
    # there. And not by Context.setState, which would rewind step and time.
    context.getState(energy=True)
    context.setPositions(positions)
    context.applyConstraints(tolerance)
    if velocities is None:
        context.setVelocitiesToTemperature(temperature, seed)
    else:
        context.setVelocities(velocities)
    context.applyVelocityConstraints(tolerance)


def velocity_temperature(
    simulation: app.Simulation,
    given: float | unit.Quantity | None,
    otherwise: float | None = None,
) -> float:
    """Temperature to draw velocities at [K].

    The one given, else that the Simulation is held at, else another, such as that of a bias.

    Raises
    ------
    ValueError
        If there is none.
    """
    temperature = temperature_of(simulation) if given is None else kelvin(given)
    temperature = otherwise if temperature is None else temperature
    if temperature is None:
        several = has_several_temperatures(simulation.integrator)
        has = "holds parts at different temperatures, and has no" if several else "has no"
        raise ValueError(
            f"{type(simulation.integrator).__name__} {has} temperature to draw velocities at; "
            "give one: ProposalReporter(..., settings=ProposalSettings(temperature=300))"
        )
    return temperature


def settle_steps_of(integrator: openmm.Integrator, given: int | None) -> int:
    """Steps in 1/friction, the time that velocities remember; in 1 ps without friction."""
    if given is not None:
        return int(given)
    friction = 0.0
    if isinstance(integrator, Frictional):
        friction = integrator.getFriction().value_in_unit(unit.picosecond**-1)
    step = integrator.getStepSize().value_in_unit(unit.picosecond) or USUAL_STEP
    return int(np.ceil((1 / friction if friction > 0 else 1.0) / step))


def present_of(
    simulation: app.Simulation,
) -> tuple[NDArray[np.float64], NDArray[np.float64] | None]:
    """Positions of a Simulation and, of a periodic one, its box [nm]."""
    state = simulation.context.getState(positions=True)
    return positions_and_box(state, simulation.system.usesPeriodicBoundaryConditions())


def asks_for_positions(reporter: Any, simulation: app.Simulation) -> bool:
    """Whether a reporter wants positions at its next report, by OpenMM's reporter protocol.

    A reporter that wants none (energies, checkpoints) reads none that an injection has replaced.
    """
    next_report = reporter.describeNextReport(simulation)
    if isinstance(next_report, tuple):  # as before OpenMM 8.1: steps, positions, velocities, ...
        return bool(next_report[1])
    return "positions" in next_report["include"]
