"""GROMACS files: butane in water under pressure, a GAN learned from the solute's frames, seeds.

python examples/from_gromacs.py [STEPS]
"""

import sys
from pathlib import Path

from openmm import LangevinMiddleIntegrator, MonteCarloBarostat
from openmm.app import PME, GromacsGroFile, GromacsTopFile, HBonds, Simulation
from openmm.unit import bar, kelvin, nanometer, picosecond, picoseconds

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
    gro = GromacsGroFile(str(DATA / "butane_water.gro"))
    box = gro.getPeriodicBoxVectors()
    top = GromacsTopFile(str(DATA / "butane_water.top"), periodicBoxVectors=box)
    system = top.createSystem(
        nonbondedMethod=PME, nonbondedCutoff=0.8 * nanometer, constraints=HBonds
    )
    system.addForce(MonteCarloBarostat(1 * bar, 300 * kelvin))
    integrator = LangevinMiddleIntegrator(300 * kelvin, 1 / picosecond, 0.002 * picoseconds)

    bias = PlumedBias(PLUMED_INPUT, top, temperature=300 * kelvin)  # ours
    bias.add_to(system)  # ours: before the Simulation is made

    simulation = Simulation(top.topology, system, integrator)
    simulation.context.setPositions(gro.positions)
    simulation.minimizeEnergy()
    simulation.context.setVelocitiesToTemperature(300 * kelvin)

    bias.attach(simulation)  # ours, and all that follows
    # of a periodic system the solute is written, and learned; atoms="all" would write the water too
    simulation.reporters.append(FrameReporter("frames", every, bias))
    simulation.step(steps)

    gan = ConditionalGAN.fit("frames", top, training, atoms="resname BUT")
    gan.save("model.npz")
    simulation.reporters.append(ProposalReporter("proposals.csv", 10 * every, gan, bias))
    simulation.step(steps)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
