"""Alanine dipeptide in vacuum under a PLUMED input, as several tests run it."""

import numpy as np
import openmm
from openmm import app

from openmm_cgan import claims
from openmm_cgan.plumed.bias import PlumedBias
from openmm_cgan.testsystems import alanine_dipeptide


def biased_alanine(text, folder, backend="native", *, seed=11, restart=False, checkpoint=None):
    """The bias and a Langevin Simulation that stands at its first step, or at a checkpoint."""
    molecule = alanine_dipeptide("C7eq")
    bias = PlumedBias(text, temperature=300.0, backend=backend, directory=folder, restart=restart)
    bias.add_to(molecule.system)
    simulation = langevin(molecule.topology, molecule.system, seed)
    if checkpoint is None:
        simulation.context.setPositions(molecule.positions)
        simulation.context.setVelocitiesToTemperature(300, 5)
    bias.attach(simulation, checkpoint=checkpoint)
    return bias, simulation


def gone_on(text, folder, checkpoint, until, out):
    """Go on from a checkpoint to a step and write the phase point there."""
    bias, simulation = biased_alanine(text, folder, checkpoint=checkpoint)
    simulation.step(until - simulation.currentStep)
    bias.close()
    np.save(out, phase_point(simulation))


def refused_alanine(text, folder, checkpoint, said):
    """Begin a run that is refused, without waiting for its files, and write what is said."""
    claims.PATIENCE = 0.1
    try:
        biased_alanine(text, folder, checkpoint=checkpoint)
    except RuntimeError as error:
        said.write_text(str(error))


def langevin(topology, system, seed):
    """Langevin dynamics at 300 K on the Reference platform."""
    integrator = openmm.LangevinMiddleIntegrator(300, 1, 0.001)
    integrator.setRandomNumberSeed(seed)
    platform = openmm.Platform.getPlatformByName("Reference")
    return app.Simulation(topology, system, integrator, platform)


def phase_point(simulation):
    """Positions and velocities, shape (2, n_atoms, 3)."""
    state = simulation.context.getState(positions=True, velocities=True)
    return np.stack([state.getPositions(asNumpy=True), state.getVelocities(asNumpy=True)])
