"""A chain in a Simulation with a bias on its angle, and exact moves proposed to it."""

import dataclasses
from pathlib import Path
from typing import Any

import openmm
from openmm import app

from openmm_cgan.platforms import platform_and_properties
from openmm_cgan.plumed.bias import PlumedBias
from openmm_cgan.reporters import ProposalReporter
from openmm_cgan.reporters.settings import ProposalSettings
from openmm_cgan.testsystems import Chain
from tests.cases.chain_sampler import INPUTS, ChainSampler

T = 300.0
CHAIN = Chain(barrier=60.0, tilt=1.5)
HELD = Chain(masses=(30.0, 4.0, 4.0, 30.0), bond_stiffness=None, tilt=1.5)
PLAIN = INPUTS["theta"] + "PRINT ARG=theta FILE=C STRIDE=100\n"
FEW = ProposalSettings(candidates=20)


@dataclasses.dataclass
class Run:
    simulation: app.Simulation
    bias: PlumedBias
    sampler: ChainSampler


def make_run(
    folder: Path,
    text: str = PLAIN,
    chain: Chain = CHAIN,
    system: openmm.System | None = None,
    platform: str = "Reference",
) -> Run:
    folder.mkdir(parents=True, exist_ok=True)
    system = system or chain.system()
    bias = PlumedBias(text, chain.topology(), temperature=T, directory=folder)
    bias.add_to(system)
    integrator = openmm.LangevinMiddleIntegrator(T, 5.0, 0.001)
    integrator.setRandomNumberSeed(11)
    how = platform_and_properties(platform)
    simulation = app.Simulation(chain.topology(), system, integrator, *how)
    simulation.context.setPositions(chain.sample(1, T, seed=1)[0])
    simulation.context.setVelocitiesToTemperature(T, 12)
    bias.attach(simulation)
    return Run(simulation, bias, ChainSampler(chain, bias.variables))


def propose(run: Run, path: Path, interval: int = 20, **arguments: Any) -> ProposalReporter:
    arguments = {"mode": "exact", "settings": FEW, "sampler": run.sampler, **arguments}
    made = ProposalReporter(path, interval, bias=run.bias, **arguments)
    run.simulation.reporters.append(made)
    return made
