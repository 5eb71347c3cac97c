"""Copies of Systems against their originals; what an injection keeps is in the reporters' tests."""

import numpy as np
import openmm
import pytest
from openmm import app, unit

from openmm_cgan.reporters.contexts import (
    context_like,
    degrees_of_freedom,
    global_parameters,
    inject,
    settle_steps_of,
    system_without,
    temperature_of,
)
from openmm_cgan.testsystems import alanine_dipeptide


def sites() -> openmm.System:
    """Three atoms and one virtual site of each kind, all held by springs to the origin."""
    system = openmm.System()
    springs = openmm.CustomExternalForce("k*(x^2 + 2*y^2 + 3*z^2)")
    springs.addGlobalParameter("k", 2.0)
    system.addForce(springs)
    for mass in (12.0, 14.0, 16.0, 0.0, 0.0, 0.0, 0.0):
        springs.addParticle(system.addParticle(mass))
    system.setVirtualSite(3, openmm.TwoParticleAverageSite(0, 1, 0.3, 0.7))
    system.setVirtualSite(4, openmm.ThreeParticleAverageSite(0, 1, 2, 0.2, 0.3, 0.5))
    system.setVirtualSite(5, openmm.OutOfPlaneSite(0, 1, 2, 0.2, 0.3, 0.4))
    local = openmm.LocalCoordinatesSite(
        [0, 1, 2], [0.5, 0.25, 0.25], [-1, 1, 0], [-1, 0, 1], openmm.Vec3(0.1, 0.2, 0.3)
    )
    system.setVirtualSite(6, local)
    system.addConstraint(0, 1, 0.1)
    return system


def positions_and_energy(system: openmm.System) -> tuple[np.ndarray, float]:
    platform = openmm.Platform.getPlatformByName("Reference")
    context = openmm.Context(system, openmm.VerletIntegrator(0.001), platform)
    context.setPositions(np.random.default_rng(3).normal(size=(system.getNumParticles(), 3)))
    context.computeVirtualSites()
    state = context.getState(positions=True, energy=True)
    return state.getPositions(asNumpy=True)._value, state.getPotentialEnergy()._value


def test_a_copy_has_the_same_sites_constraints_and_energy() -> None:
    system = sites()
    made = system_without(system, set())
    (x, energy), (y, same) = positions_and_energy(system), positions_and_energy(made)
    np.testing.assert_array_equal(x, y)
    assert energy == same
    assert made.getConstraintParameters(0) == system.getConstraintParameters(0)
    assert degrees_of_freedom(made) == 3 * 3 - 1
    assert global_parameters(made) == {"k"}


def test_other_virtual_sites_are_refused() -> None:
    system = openmm.System()
    for mass in (12.0, 0.0):
        system.addParticle(mass)
    one = openmm.Vec3(1, 0, 0), openmm.Vec3(0, 1, 0), openmm.Vec3(0, 0, 1)
    system.setVirtualSite(1, openmm.SymmetrySite(0, *one, openmm.Vec3(0, 0, 0), False))
    with pytest.raises(TypeError, match="cannot be copied; expected two- or"):
        system_without(system, set())


def test_a_copy_leaves_out_groups_barostats_and_thermostats() -> None:
    system = alanine_dipeptide().system
    bias = openmm.PythonForce(lambda state: (0.0, np.zeros((22, 3))))  # cannot be pickled
    bias.setForceGroup(7)
    system.addForce(bias)
    system.addForce(openmm.MonteCarloBarostat(1.0, 300))
    system.addForce(openmm.AndersenThermostat(300, 1.0))
    made = system_without(system, {7})
    left = {type(force).__name__ for force in made.getForces()}
    assert left == {
        "HarmonicBondForce",
        "HarmonicAngleForce",
        "PeriodicTorsionForce",
        "NonbondedForce",
    }


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


def test_temperature_is_the_one_given_or_the_integrators() -> None:
    langevin = openmm.LangevinMiddleIntegrator(310, 2.0, 0.002)
    assert temperature_of(langevin, None) == 310
    assert temperature_of(langevin, 280) == 280
    assert temperature_of(openmm.VerletIntegrator(0.001), 280 * unit.kelvin) == 280
    for wrong in (0, -1.0, float("nan")):
        with pytest.raises(ValueError, match="expected a positive number"):
            temperature_of(langevin, wrong)


def test_settle_window_is_what_velocities_remember() -> None:
    assert settle_steps_of(openmm.LangevinMiddleIntegrator(300, 2.0, 0.004), None) == 125
    assert settle_steps_of(openmm.VerletIntegrator(0.002), None) == 500
    assert settle_steps_of(openmm.LangevinMiddleIntegrator(300, 2.0, 0.004), 7) == 7
