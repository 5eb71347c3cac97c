"""A loop of a protein: learned from a run, then put into it in other shapes, the rest left alone.

Residues 20 to 28 of villin headpiece (582 atoms, from a file that OpenMM installs) in implicit
solvent; replace the first block by the setup of your own protein, in water or not. Frames hold the
whole protein. The loop is made among the rest, which stays where it is: `AlignedFeatures.of_part`.
What is generated is put where the rest stands at that moment, bonded to it at both ends, and
screened with it.

    python examples/protein_loop.py [STEPS]
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from openmm import LangevinMiddleIntegrator, app
from openmm.app import ForceField, HBonds, Modeller, NoCutoff, PDBFile, Simulation
from openmm.unit import dalton, kelvin, picosecond, picoseconds

from openmm_cgan import ConditionalGAN, FrameReporter, PlumedBias, ProposalReporter
from openmm_cgan.cgan import TrainingSettings
from openmm_cgan.features import AlignedFeatures
from openmm_cgan.reporters import ProposalSettings

STEPS = 500_000
LOOP = "resid 20:28"


def main(
    steps: int = STEPS,
    training: TrainingSettings | None = None,
    every: int = 2000,
    settings: ProposalSettings | None = None,
    solvent: Sequence[str] = ("implicit/obc2.xml",),
) -> ConditionalGAN:
    """Run, learn the loop, and run on with proposals of it."""
    pdb = PDBFile(str(Path(app.__file__).parent / "data" / "test.pdb"))
    modeller = Modeller(pdb.topology, pdb.positions)
    modeller.deleteWater()
    modeller.delete([a for a in modeller.topology.atoms() if a.residue.name in ("Cl", "Na")])
    topology = modeller.topology
    system = ForceField("amber14/protein.ff14SB.xml", *solvent).createSystem(
        topology, nonbondedMethod=NoCutoff, constraints=HBonds, hydrogenMass=3 * dalton
    )
    integrator = LangevinMiddleIntegrator(300 * kelvin, 1 / picosecond, 0.004 * picoseconds)

    # how far the middle of the loop is from the core
    alpha = {a.residue.index: a.index + 1 for a in topology.atoms() if a.name == "CA"}
    bias = PlumedBias(
        f"d: DISTANCE ATOMS={alpha[23]},{alpha[5]}\n"
        "METAD ARG=d SIGMA=0.05 HEIGHT=1 BIASFACTOR=6 PACE=500 GRID_MIN=0 GRID_MAX=6 FILE=HILLS\n",
        topology,
        temperature=300 * kelvin,
    )
    bias.add_to(system)  # before the Simulation is made
    simulation = Simulation(topology, system, integrator)
    simulation.context.setPositions(modeller.positions)
    simulation.minimizeEnergy(maxIterations=200)
    simulation.context.setVelocitiesToTemperature(300 * kelvin)
    bias.attach(simulation)
    simulation.reporters.append(FrameReporter("frames", max(1, every // 40), bias))
    simulation.step(steps)

    featurize = AlignedFeatures.of_part(LOOP)
    gan = ConditionalGAN.fit("frames", topology, training, featurize=featurize)
    gan.save("loop.npz")
    proposals = ProposalReporter("proposals.csv", every, gan, bias, settings=settings)
    simulation.reporters.append(proposals)
    simulation.step(steps)
    print(proposals.summary())
    return gan


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
