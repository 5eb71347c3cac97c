"""CHARMM files: metadynamics of butane in vacuum, a GAN learned from its frames, proposals.

python examples/from_charmm.py [STEPS]
"""

import sys
from pathlib import Path

from openmm import LangevinMiddleIntegrator, Platform
from openmm.app import CharmmParameterSet, CharmmPsfFile, HBonds, NoCutoff, PDBFile, Simulation
from openmm.unit import kelvin, picosecond, picoseconds

from openmm_cgan import ConditionalGAN, FrameReporter, PlumedBias, ProposalReporter
from openmm_cgan.cgan import TrainingSettings

DATA = Path(__file__).parent / "data"
PLUMED_INPUT = """
t: TORSION ATOMS=1,5,8,11
METAD ARG=t SIGMA=0.3 HEIGHT=1 PACE=500 BIASFACTOR=5 GRID_MIN=-pi GRID_MAX=pi FILE=HILLS
PRINT ARG=t STRIDE=500 FILE=COLVAR
"""


def main(steps: int = 200_000, training: TrainingSettings | None = None, every: int = 100) -> None:
    """Run, learn, and run on with proposals."""
    # an ordinary script
    psf = CharmmPsfFile(str(DATA / "butane.psf"))
    pdb = PDBFile(str(DATA / "butane.pdb"))
    parameters = CharmmParameterSet(str(DATA / "butane.prm"))
    system = psf.createSystem(parameters, nonbondedMethod=NoCutoff, constraints=HBonds)
    integrator = LangevinMiddleIntegrator(300 * kelvin, 1 / picosecond, 0.002 * picoseconds)

    bias = PlumedBias(PLUMED_INPUT, psf, temperature=300 * kelvin)  # ours
    bias.add_to(system)  # ours: before the Simulation is made

    platform = Platform.getPlatformByName("Reference")  # the quickest for so few atoms
    simulation = Simulation(psf.topology, system, integrator, platform)
    simulation.context.setPositions(pdb.positions)
    simulation.minimizeEnergy()
    simulation.context.setVelocitiesToTemperature(300 * kelvin)

    bias.attach(simulation)  # ours, and all that follows
    simulation.reporters.append(FrameReporter("frames", every, bias))
    simulation.step(steps)

    gan = ConditionalGAN.fit("frames", psf, training)
    gan.save("model.npz")
    simulation.reporters.append(ProposalReporter("proposals.csv", 10 * every, gan, bias))
    simulation.step(steps)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
