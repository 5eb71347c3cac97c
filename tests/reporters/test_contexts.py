"""Contexts beside a running one, and what is put into it."""

import numpy as np
import openmm
import pytest
from openmm import app, unit

from openmm_cgan import GAS_CONSTANT
from openmm_cgan.potentials import system_without
from openmm_cgan.reporters.contexts import (
    context_like,
    inject,
    settle_steps_of,
    velocity_temperature,
)
from openmm_cgan.testsystems import alanine_dipeptide
from openmm_cgan.thermostats import temperature_of


def test_a_second_context_leaves_the_noise_of_the_first_alone() -> None:
    def run(disturb: bool) -> np.ndarray:
        molecule = alanine_dipeptide("C7eq")
        integrator = openmm.LangevinMiddleIntegrator(300, 1, 0.002)
        integrator.setRandomNumberSeed(4)
        platform = openmm.Platform.getPlatformByName("Reference")
        simulation = app.Simulation(molecule.topology, molecule.system, integrator, platform)
        simulation.context.setPositions(molecule.positions)
        simulation.step(10)
        if disturb:
            second = context_like(simulation, system_without(molecule.system, set()))
            second.setPositions(molecule.positions)
            second.setVelocitiesToTemperature(300, 1)
            second.getIntegrator().step(10)
            openmm.LocalEnergyMinimizer.minimize(second, 10, 10)
        simulation.step(10)
        return simulation.context.getState(positions=True).getPositions(asNumpy=True)._value

    np.testing.assert_array_equal(run(disturb=True), run(disturb=False))


def test_injected_positions_and_velocities_obey_the_constraints() -> None:
    molecule = alanine_dipeptide("C7eq")
    integrator = openmm.LangevinMiddleIntegrator(300, 1, 0.002)
    platform = openmm.Platform.getPlatformByName("Reference")
    simulation = app.Simulation(molecule.topology, molecule.system, integrator, platform)
    simulation.context.setPositions(molecule.positions)
    simulation.step(7)
    rough = molecule.positions + 0.003 * np.random.default_rng(2).standard_normal((22, 3))
    inject(simulation, rough, 300.0, seed=9)
    state = simulation.context.getState(positions=True, velocities=True)
    x, v = state.getPositions(asNumpy=True)._value, state.getVelocities(asNumpy=True)._value
    assert np.abs(x - rough).max() < 0.02
    for k in range(molecule.system.getNumConstraints()):
        i, j, length = molecule.system.getConstraintParameters(k)
        assert np.linalg.norm(x[i] - x[j]) == pytest.approx(length._value, rel=1e-5)
        assert abs((v[i] - v[j]) @ (x[i] - x[j])) < 1e-6
    assert (simulation.currentStep, state.getTime()._value) == (7, pytest.approx(0.014))
    inject(simulation, x, 300.0, seed=10, velocities=v / 2)
    given = simulation.context.getState(velocities=True).getVelocities(asNumpy=True)._value
    np.testing.assert_allclose(given, v / 2, atol=1e-5)


def held_at(integrator: openmm.Integrator, *forces: openmm.Force) -> app.Simulation:
    """A particle that is held at a temperature somehow."""
    system = openmm.System()
    system.addParticle(1.0)
    for force in forces:
        system.addForce(force)
    topology = app.Topology()
    residue = topology.addResidue("A", topology.addChain())
    topology.addAtom("A", app.Element.getBySymbol("C"), residue)
    platform = openmm.Platform.getPlatformByName("Reference")
    return app.Simulation(topology, system, integrator, platform)


def knowing(name: str, value: float) -> openmm.Integrator:
    """A CustomIntegrator with a global variable."""
    integrator = openmm.CustomIntegrator(0.001)
    integrator.addGlobalVariable("temp", 5.0)  # what something else may be called
    integrator.addGlobalVariable(name, value)
    return integrator


def test_variables_of_other_names_are_no_temperature() -> None:
    for name in ("T", "beta", "kTotal"):
        assert temperature_of(held_at(knowing(name, 290))) is None


def test_temperature_is_the_one_given_or_that_which_the_simulation_is_held_at() -> None:
    langevin = held_at(openmm.LangevinMiddleIntegrator(310, 2.0, 0.002))
    assert velocity_temperature(langevin, None) == 310
    assert velocity_temperature(langevin, 280) == 280
    langevin.integrator.setTemperature(320)
    assert velocity_temperature(langevin, None) == 320
    verlet = held_at(openmm.VerletIntegrator(0.001))
    assert velocity_temperature(verlet, 280 * unit.kelvin) == 280
    with pytest.raises(ValueError, match="VerletIntegrator has no temperature"):
        velocity_temperature(verlet, None)
    for wrong in (0, -1.0, float("nan")):
        with pytest.raises(ValueError, match="expected a positive number"):
            velocity_temperature(langevin, wrong)


@pytest.mark.parametrize(
    "simulation",
    [
        held_at(openmm.VerletIntegrator(0.001), openmm.AndersenThermostat(290, 1)),
        held_at(openmm.VariableVerletIntegrator(0.001), openmm.AndersenThermostat(290, 1)),
        held_at(openmm.MTSLangevinIntegrator(290, 1, 0.004, [(0, 1), (1, 2)])),
        held_at(openmm.NoseHooverIntegrator(290, 1, 0.001)),
        held_at(openmm.NoseHooverIntegrator(0.001), openmm.AndersenThermostat(290, 1)),
        held_at(openmm.VariableLangevinIntegrator(290, 1, 0.001)),
        held_at(openmm.BrownianIntegrator(290, 1, 0.001)),
        *(held_at(knowing(name, 290 * GAS_CONSTANT)) for name in ("kT", "kbT", "kB_T")),
        *(held_at(knowing(name, 290)) for name in ("temperature", "Temperature")),
    ],
    ids=[
        "Andersen",
        "variable Andersen",
        "MTS",
        "NoseHoover",
        "no chain, Andersen",
        "variable Langevin",
        "Brownian",
        *("kT", "kbT", "kB_T", "temperature", "Temperature"),
    ],
)
def test_a_temperature_is_found_wherever_openmm_keeps_it(simulation: app.Simulation) -> None:
    assert velocity_temperature(simulation, None) == pytest.approx(290, rel=1e-9)
    assert settle_steps_of(simulation.integrator, None) > 0


@pytest.mark.parametrize(
    "barostat",
    [
        openmm.MonteCarloBarostat(1, 290, 25),
        openmm.MonteCarloAnisotropicBarostat((1, 1, 1), 290),
        openmm.MonteCarloMembraneBarostat(
            1, 0, 290, openmm.MonteCarloMembraneBarostat.XYIsotropic,
            openmm.MonteCarloMembraneBarostat.ZFree,
        ),
        openmm.MonteCarloFlexibleBarostat(1, 290),
    ],
    ids=lambda force: type(force).__name__,
)  # fmt: skip
def test_a_temperature_that_only_a_barostat_knows_is_found(barostat: openmm.Force) -> None:
    periodic = openmm.NonbondedForce()
    periodic.setNonbondedMethod(periodic.CutoffPeriodic)
    periodic.setCutoffDistance(0.5)
    periodic.addParticle(0.0, 0.3, 0.1)
    simulation = held_at(
        openmm.VerletIntegrator(0.001), periodic, openmm.XmlSerializer.clone(barostat)
    )
    assert temperature_of(simulation) == pytest.approx(290)


def test_settle_window_is_what_velocities_remember() -> None:
    assert settle_steps_of(openmm.LangevinMiddleIntegrator(300, 2.0, 0.004), None) == 125
    assert settle_steps_of(openmm.VerletIntegrator(0.002), None) == 500
    assert settle_steps_of(openmm.LangevinMiddleIntegrator(300, 2.0, 0.004), 7) == 7
