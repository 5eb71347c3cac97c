"""Metadynamics by a PLUMED input, a GAN learned from its frames, proposals given back to the run.

Alanine dipeptide in vacuum; replace the first block by the setup of your own molecule.

    python examples/alanine_dipeptide.py [STEPS]
"""

import sys
from pathlib import Path

from openmm import LangevinMiddleIntegrator, Platform
from openmm.app import ForceField, HBonds, PDBFile, Simulation
from openmm.unit import kelvin, picosecond, picoseconds

import openmm_cgan
from openmm_cgan import ConditionalGAN, FrameReporter, PlumedBias, ProposalReporter
from openmm_cgan.cgan import TrainingSettings

STEPS = 500_000
PLUMED_INPUT = Path(__file__).parent.parent / "plumed_inputs" / "alanine_phi_psi_metad.dat"
STRUCTURE = Path(openmm_cgan.__file__).parent / "data" / "alanine_dipeptide.pdb"


def main(steps: int = STEPS, training: TrainingSettings | None = None) -> None:
    """Run, learn, and run on with proposals."""
    pdb = PDBFile(str(STRUCTURE))
    topology = pdb.topology
    system = ForceField("amber96.xml").createSystem(topology, constraints=HBonds)
    integrator = LangevinMiddleIntegrator(300 * kelvin, 1 / picosecond, 0.002 * picoseconds)

    bias = PlumedBias(PLUMED_INPUT, topology, temperature=300 * kelvin)
    bias.add_to(system)  # before the Simulation is made
    simulation = Simulation(topology, system, integrator, Platform.getPlatformByName("Reference"))
    simulation.context.setPositions(pdb.positions)
    simulation.minimizeEnergy()
    bias.attach(simulation)  # hills, COLVAR
    simulation.reporters.append(FrameReporter("frames", 100, bias))
    simulation.step(steps)

    gan = ConditionalGAN.fit("frames", topology, training or TrainingSettings())
    gan.save("model.npz")
    simulation.reporters.append(ProposalReporter("proposals.csv", 1000, gan, bias))
    simulation.step(steps)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
