"""Coordinates learned from the frames of a biased run, and a bias along them.

Metadynamics on two torsions of alanine dipeptide makes frames; a diffusion map of its four backbone
torsions, with the weights of that run, gives two coordinates; metadynamics goes on along these.

    python examples/alanine_diffusion_map.py [STEPS]
"""

import sys
from math import pi
from pathlib import Path

import numpy as np
from openmm import LangevinMiddleIntegrator, Platform
from openmm.app import Simulation
from openmm.unit import kelvin, picosecond, picoseconds

from openmm_cgan import GAS_CONSTANT, PlumedBias
from openmm_cgan.diffusion_maps import DiffusionMapSettings
from openmm_cgan.diffusion_maps.plots import plot_map
from openmm_cgan.learned_variable import Inputs, learn_variable
from openmm_cgan.plumed.files.fields import read_fields
from openmm_cgan.testsystems import alanine_dipeptide

STEPS = 500_000
TORSIONS = """phi: TORSION ATOMS=5,7,9,15
psi: TORSION ATOMS=7,9,15,17
left: TORSION ATOMS=2,5,7,9
right: TORSION ATOMS=9,15,17,19
"""
NAMES = ("phi", "psi", "left", "right")
HILLS = "HEIGHT=1.2 PACE=250 BIASFACTOR=10"


def run(text: str, folder: Path, steps: int) -> None:
    """Simulate alanine dipeptide from C7eq under an input."""
    molecule = alanine_dipeptide("C7eq")
    bias = PlumedBias(text, temperature=300 * kelvin, directory=folder)
    bias.add_to(molecule.system)
    integrator = LangevinMiddleIntegrator(300 * kelvin, 1 / picosecond, 0.002 * picoseconds)
    platform = Platform.getPlatformByName("Reference")
    simulation = Simulation(molecule.topology, molecule.system, integrator, platform)
    simulation.context.setPositions(molecule.positions)
    simulation.context.setVelocitiesToTemperature(300 * kelvin)
    bias.attach(simulation)
    simulation.step(steps)
    bias.close()


def main(steps: int = STEPS, n_landmarks: int = 400) -> None:
    """Frames, map, bias along it."""
    known, learnt = Path("known"), Path("learned")
    for folder in (known, learnt):
        folder.mkdir(exist_ok=True)
    hills = f"m: METAD ARG=phi,psi SIGMA=0.3,0.3 {HILLS} FILE=HILLS\n"
    shown = f"PRINT ARG={','.join(NAMES)},m.bias STRIDE=100 FILE=COLVAR\n"
    run(TORSIONS + hills + shown, known, steps)

    columns = read_fields(known / "COLVAR").columns
    table = np.stack([columns[name] for name in NAMES], axis=1)
    bias = columns["m.bias"]  # of each frame as it was: good enough to learn from
    weights = np.exp((bias - bias.max()) / (GAS_CONSTANT * 300))
    settings = DiffusionMapSettings(n_coordinates=2, alpha=1.0, max_landmarks=n_landmarks)
    inputs = Inputs(TORSIONS, NAMES, (2 * pi,) * 4)
    variable = learn_variable(inputs, table, weights, settings)
    plot_map(variable.found, "diffusion_map.png")

    path = variable.save(learnt / "learned.ptc").absolute()
    widths = ",".join(f"{(high - low) / 15:.4f}" for low, high in variable.values_range)
    hills = f"METAD ARG=cv.node-0,cv.node-1 SIGMA={widths} {HILLS} FILE=HILLS\n"
    shown = "PRINT ARG=phi,psi,cv.* STRIDE=100 FILE=COLVAR\n"
    run(variable.plumed_lines(path, "cv") + hills + shown, learnt, steps)


if __name__ == "__main__":
    main(*(int(argument) for argument in sys.argv[1:]))
