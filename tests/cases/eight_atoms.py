"""Files and runs of the eight atoms of benchmarks/eight_atoms.py."""

import numpy as np
import openmm
from openmm import app

from benchmarks.eight_atoms import N_ATOMS, random_frames
from openmm_cgan.plumed.bias import PlumedBias
from openmm_cgan.plumed.files.fields import read_fields
from tests.cases.biased_runs import langevin


def header(text):
    return [line for line in text.splitlines() if line.startswith("#")]


def compare_tables(folder, file, tolerance):
    ours, plumeds = (read_fields(folder / b / file) for b in ("native", "kernel"))
    assert list(ours.columns) == list(plumeds.columns)
    assert ours.constants == plumeds.constants
    for name, column in plumeds.columns.items():
        np.testing.assert_allclose(ours.columns[name], column, atol=tolerance, rtol=tolerance)


def chain_simulation(text, folder, checkpoint=None, restart=False):
    """Eight carbon atoms in a chain, along a path."""
    topology, system = app.Topology(), openmm.System()
    residue = topology.addResidue("MOL", topology.addChain())
    bonds = openmm.HarmonicBondForce()
    for i in range(N_ATOMS):
        topology.addAtom("C", app.element.carbon, residue)
        system.addParticle(12.0)
        if i:
            bonds.addBond(i - 1, i, 0.15, 3e4)
    system.addForce(bonds)
    bias = PlumedBias(text, temperature=300.0, directory=folder, restart=restart)
    assert bias.backend == "native"
    bias.add_to(system)
    simulation = langevin(topology, system, seed=4)
    if isinstance(checkpoint, bytes):  # OpenMM's, without the bias
        simulation.context.loadCheckpoint(checkpoint)
        checkpoint = None
    elif checkpoint is None:
        simulation.context.setPositions(random_frames(None, np.random.default_rng(9), 5)[0])
        simulation.context.setVelocitiesToTemperature(300, 5)
    bias.attach(simulation, checkpoint=checkpoint)
    return bias, simulation
