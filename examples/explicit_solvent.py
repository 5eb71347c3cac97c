"""Metadynamics in explicit water, a GAN of the solute learned from it, seeds put into the water.

Alanine dipeptide in TIP3P at constant pressure; replace the first block by the setup of your own
molecule. Frames hold the solute alone, and the GAN makes the solute alone: what it proposes is
pushed to its place through the water, which makes room at temperature. How long the run takes to
settle is measured on the first 20 to 160 seeds; frames of that time are marked, and analysis leaves
them out.

    python examples/explicit_solvent.py [STEPS]
"""

import sys
from pathlib import Path

from openmm import LangevinMiddleIntegrator, MonteCarloBarostat
from openmm.app import PME, ForceField, HBonds, Modeller, PDBFile, Simulation
from openmm.unit import atmosphere, kelvin, nanometers, picosecond, picoseconds

import openmm_cgan
from openmm_cgan import ConditionalGAN, FrameReporter, PlumedBias, ProposalReporter
from openmm_cgan.cgan import TrainingSettings
from openmm_cgan.frames import read_segments

STEPS = 2_500_000
PLUMED_INPUT = Path(__file__).parent.parent / "plumed_inputs" / "alanine_phi_psi_metad.dat"
STRUCTURE = Path(openmm_cgan.__file__).parent / "data" / "alanine_dipeptide.pdb"


def main(
    steps: int = STEPS,
    training: TrainingSettings | None = None,
    box: float = 3.0,
    every: int = 1000,
) -> None:
    """Run, learn, and run on with proposals."""
    pdb = PDBFile(str(STRUCTURE))
    forcefield = ForceField("amber14/protein.ff14SB.xml", "amber14/tip3p.xml")
    modeller = Modeller(pdb.topology, pdb.positions)
    modeller.addSolvent(forcefield, boxSize=(box, box, box) * nanometers)
    topology = modeller.topology
    system = forcefield.createSystem(
        topology,
        nonbondedMethod=PME,
        nonbondedCutoff=min(0.9, 0.4 * box) * nanometers,
        constraints=HBonds,
    )
    system.addForce(MonteCarloBarostat(1 * atmosphere, 300 * kelvin))
    integrator = LangevinMiddleIntegrator(300 * kelvin, 1 / picosecond, 0.002 * picoseconds)

    bias = PlumedBias(PLUMED_INPUT, topology, temperature=300 * kelvin)
    bias.add_to(system)  # before the Simulation is made
    simulation = Simulation(topology, system, integrator)
    simulation.context.setPositions(modeller.positions)
    simulation.minimizeEnergy(maxIterations=200)
    simulation.context.setVelocitiesToTemperature(300 * kelvin)
    simulation.step(steps // 10)  # until the water has the density that it wants
    bias.attach(simulation)  # hills, COLVAR
    simulation.reporters.append(FrameReporter("frames", every // 10, bias))  # of the solute
    simulation.step(steps)

    gan = ConditionalGAN.fit("frames", topology, training or TrainingSettings())
    gan.save("model.npz")
    proposals = ProposalReporter("proposals.csv", every, gan, bias)
    simulation.reporters.append(proposals)
    simulation.step(steps)
    print(proposals.summary())
    last = read_segments("frames")[-1]
    print(f"settle window {last['settled'] - last['step']} steps, {last['origin'].get('settle')}")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
