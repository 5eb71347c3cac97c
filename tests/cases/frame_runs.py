"""Runs whose frames are written: alanine dipeptide, and a bias without a force."""

import numpy as np
import openmm
from openmm import app

from openmm_cgan.collective_variable import CollectiveVariable
from openmm_cgan.testsystems import (
    PHI_ATOMS,
    PSI_ATOMS,
    alanine_dipeptide,
    torsion,
)


class PhiPsi:
    """A bias without a force: FrameReporter's side of PlumedBias and nothing else."""

    static = False
    variables = tuple(
        CollectiveVariable(name, "rad", (-np.pi, np.pi), "TORSION", atoms)
        for name, atoms in (("phi", PHI_ATOMS), ("psi", PSI_ATOMS))
    )
    temperature = 300.0
    backend = "none"
    text = "# nothing\n"

    def require_acting(self, simulation):
        pass

    def values(self, simulation, state):
        positions = state.getPositions(asNumpy=True)._value
        cvs = np.array([torsion(positions, atoms) for atoms in (PHI_ATOMS, PSI_ATOMS)])
        return cvs, float(simulation.currentStep)


def make_alanine(bias=None, seed=1):
    molecule = alanine_dipeptide("C7eq")
    if bias is not None:
        bias.add_to(molecule.system)
    integrator = openmm.LangevinMiddleIntegrator(300, 1, 0.002)
    integrator.setRandomNumberSeed(seed)
    platform = openmm.Platform.getPlatformByName("Reference")
    simulation = app.Simulation(molecule.topology, molecule.system, integrator, platform)
    if bias is not None:
        bias.attach(simulation)
    simulation.context.setPositions(molecule.positions)
    simulation.context.setVelocitiesToTemperature(300, seed)
    return simulation
