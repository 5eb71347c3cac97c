"""AMBER files in implicit solvent: metadynamics, a flow learned from its frames, exact proposals.

The files are openmmtools' (``pip install openmmtools``); give your own prmtop and inpcrd instead.

    python examples/from_amber.py [STEPS [PRMTOP INPCRD]]
"""

import sys
from pathlib import Path

from openmm import LangevinMiddleIntegrator
from openmm.app import OBC2, AmberInpcrdFile, AmberPrmtopFile, HBonds, Simulation
from openmm.unit import amu, kelvin, picosecond, picoseconds

from openmm_cgan import ConditionalGAN, FrameReporter, PlumedBias, ProposalReporter
from openmm_cgan.cgan import TrainingSettings

PLUMED_INPUT = Path(__file__).parent.parent / "plumed_inputs" / "alanine_phi_psi_metad.dat"
LEARNED = TrainingSettings(generator="FlowGenerator", steps=4000, batch=512)


def files_of_openmmtools() -> tuple[str, str]:
    """A prmtop and an inpcrd of alanine dipeptide."""
    from openmmtools.testsystems import get_data_filename

    name = "data/alanine-dipeptide-gbsa/alanine-dipeptide"
    return get_data_filename(f"{name}.prmtop"), get_data_filename(f"{name}.crd")


def main(
    steps: int = 500_000,
    files: tuple[str, str] | None = None,
    training: TrainingSettings = LEARNED,
    every: int = 100,
) -> None:
    """Run, learn, and run on with proposals."""
    # an ordinary script: heavy hydrogens, steps of 4 fs
    prmtop_file, inpcrd_file = files or files_of_openmmtools()
    prmtop, inpcrd = AmberPrmtopFile(prmtop_file), AmberInpcrdFile(inpcrd_file)
    system = prmtop.createSystem(implicitSolvent=OBC2, constraints=HBonds, hydrogenMass=3 * amu)
    integrator = LangevinMiddleIntegrator(300 * kelvin, 1 / picosecond, 0.004 * picoseconds)

    bias = PlumedBias(PLUMED_INPUT, prmtop, temperature=300 * kelvin)  # ours
    bias.add_to(system)  # ours: before the Simulation is made

    simulation = Simulation(prmtop.topology, system, integrator)
    simulation.context.setPositions(inpcrd.positions)
    simulation.minimizeEnergy()
    simulation.context.setVelocitiesToTemperature(300 * kelvin)

    bias.attach(simulation)  # ours, and all that follows
    simulation.reporters.append(FrameReporter("frames", every, bias))
    simulation.step(steps)

    flow = ConditionalGAN.fit("frames", prmtop, training)
    flow.save("model.npz")
    simulation.reporters.append(ProposalReporter("proposals.csv", 5 * every, flow, bias))
    simulation.step(steps)


if __name__ == "__main__":
    given = sys.argv[1:]
    main(int(given[0]) if given else 500_000, (given[1], given[2]) if given[2:] else None)
