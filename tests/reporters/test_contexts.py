"""Contexts beside a running one, and what is put into it."""

import numpy as np
import openmm
import pytest
from openmm import app, unit

from openmm_cgan.potentials import system_without
from openmm_cgan.reporters.contexts import (
    context_like,
    inject,
    settle_steps_of,
    temperature_of,
)
from openmm_cgan.testsystems import alanine_dipeptide


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
