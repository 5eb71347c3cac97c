"""Biases with state along frames of eight atoms, and in runs of alanine dipeptide."""

import openmm
from openmm import app

from benchmarks.eight_atoms import make_system
from openmm_cgan.plumed.bias import PlumedBias
from openmm_cgan.testsystems import alanine_dipeptide

PHI_PSI = "phi: TORSION ATOMS=5,7,9,15\npsi: TORSION ATOMS=7,9,15,17\n"
VARIABLES = (
    "t: TORSION ATOMS=1,3,4,6\na: ANGLE ATOMS=2,4,7\nd: DISTANCE ATOMS=5,8\n"
    "c: COMBINE ARG=t,d COEFFICIENTS=1.5,-2 PERIODIC=NO\n"
    "k: COORDINATION GROUPA=1-3 GROUPB=5-7 R_0=0.3\n"
)


def run_frames(text, backend, box, folder, frames, restart=False, first=0):
    """A bias in a Context, updated at each of the frames, every five steps."""
    bias = PlumedBias(text, temperature=300.0, backend=backend, directory=folder, restart=restart)
    system = make_system(box)
    bias.add_to(system)
    platform = openmm.Platform.getPlatformByName("Reference")
    context = openmm.Context(system, openmm.VerletIntegrator(0.001), platform)
    bias._engine.start(0.002)
    for i, frame in enumerate(frames, start=first):
        bias._engine.update(frame, box, 5 * i)
        bias._engine.upload(context)
    return bias, context


def energy_and_forces(bias, context, frame):
    context.setPositions(frame)
    state = context.getState(energy=True, forces=True, groups=bias.force_groups())
    return state.getPotentialEnergy()._value, state.getForces(asNumpy=True)._value


def simulated(text, backend, folder, integrator=None, restart=False):
    molecule = alanine_dipeptide("C7eq")
    bias = PlumedBias(text, temperature=300.0, backend=backend, directory=folder, restart=restart)
    bias.add_to(molecule.system)
    simulation = app.Simulation(
        molecule.topology,
        molecule.system,
        integrator or openmm.VerletIntegrator(0.001),
        openmm.Platform.getPlatformByName("Reference"),
    )
    simulation.context.setPositions(molecule.positions)
    simulation.context.setVelocitiesToTemperature(300, 5)
    bias.attach(simulation)
    return bias, simulation
