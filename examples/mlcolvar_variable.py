"""A model that mlcolvar has exported, biased natively: no libtorch to build.

A DeepTDA model of two torsions' sines and cosines is trained for a moment on made-up states (take
yours in its place), exported by mlcolvar's own ``to_torchscript``, and named in a PLUMED input.

    pip install mlcolvar
    python examples/mlcolvar_variable.py [STEPS]
"""

import sys
from pathlib import Path

import torch
from mlcolvar.cvs import DeepTDA
from openmm import LangevinMiddleIntegrator, Platform
from openmm.app import Simulation
from openmm.unit import kelvin, picosecond, picoseconds

from openmm_cgan import PlumedBias
from openmm_cgan.testsystems import alanine_dipeptide

STEPS = 50_000
INPUT = """phi: TORSION ATOMS=5,7,9,15
psi: TORSION ATOMS=7,9,15,17
sphi: CUSTOM ARG=phi FUNC=sin(x) PERIODIC=NO
cphi: CUSTOM ARG=phi FUNC=cos(x) PERIODIC=NO
spsi: CUSTOM ARG=psi FUNC=sin(x) PERIODIC=NO
cpsi: CUSTOM ARG=psi FUNC=cos(x) PERIODIC=NO
cv: PYTORCH_MODEL FILE=deep_tda.ptc ARG=sphi,cphi,spsi,cpsi
METAD ARG=cv.node-0 SIGMA=0.5 HEIGHT=1.2 PACE=250 BIASFACTOR=10 FILE=HILLS
PRINT ARG=phi,psi,cv.node-0 STRIDE=250 FILE=COLVAR
"""


def train() -> DeepTDA:
    """A model that tells phi near -75 degrees from phi near 60 degrees."""
    torch.manual_seed(0)
    angles = torch.tensor([[-1.3, 1.1], [1.05, -0.8]]).repeat_interleave(500, dim=0)
    angles = angles + 0.25 * torch.randn(1000, 2)
    inputs = torch.stack([f(a) for a in angles.T for f in (torch.sin, torch.cos)], dim=1)
    labels = torch.arange(2.0).repeat_interleave(500)
    model = DeepTDA(
        n_states=2, n_cvs=1, target_centers=[-7, 7], target_sigmas=[0.2, 0.2], layers=[4, 12, 1]
    )
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(300):
        loss = model.loss_fn(model.forward_cv(inputs), labels)
        loss = loss[0] if isinstance(loss, tuple) else loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model.eval()


def main(steps: int = STEPS) -> None:
    """Train, export, bias."""
    train().to_torchscript("deep_tda.ptc", method="trace")
    Path("plumed.dat").write_text(INPUT)
    molecule = alanine_dipeptide("C7eq")
    bias = PlumedBias("plumed.dat", molecule.topology, temperature=300 * kelvin)
    bias.add_to(molecule.system)
    integrator = LangevinMiddleIntegrator(300 * kelvin, 1 / picosecond, 0.002 * picoseconds)
    platform = Platform.getPlatformByName("Reference")
    simulation = Simulation(molecule.topology, molecule.system, integrator, platform)
    simulation.context.setPositions(molecule.positions)
    simulation.context.setVelocitiesToTemperature(300 * kelvin)
    bias.attach(simulation)
    simulation.step(steps)
    bias.close()


if __name__ == "__main__":
    main(*(int(argument) for argument in sys.argv[1:]))
