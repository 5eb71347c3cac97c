"""A setup run from its first step through proposals and a checkpoint, as people would."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
from openmm import app

from openmm_cgan import FrameReporter, PlumedBias, ProposalReporter, restore_run, save_run
from openmm_cgan.checkpoints import Keeper
from openmm_cgan.reporters.settings import ProposalSettings
from tests.cases.setups import Library, Setup, library_frames

TARGETS = np.array([[-1.4], [-1.2], [-1.0]])
HALF = 100
# few steps of healing: that it works is asked here, not how well
SETTINGS = ProposalSettings(
    batch=4, heal_steps=25, minimise_iterations=30, max_energy=50.0, settle_steps=20
)


def begun(
    setup: Setup, folder: Path, append: bool = False
) -> tuple[app.Simulation, dict[str, Keeper]]:
    """A simulation of a setup with its keepers; no positions yet."""
    atoms = ",".join(str(atom + 1) for atom in setup.torsion)
    text = f"t: TORSION ATOMS={atoms}\nRESTRAINT ARG=t AT=-1.2 KAPPA=100\n"
    bias = PlumedBias(text, setup.topology, directory=folder)
    bias.add_to(setup.system)
    simulation = setup.simulation()
    frames = FrameReporter(folder / "frames", 20, bias, append=append)
    solute = "alanine" if len(setup.solute) > 14 else "butane"
    library = Library(setup, library_frames(solute), bias.variables)
    proposals = ProposalReporter(
        folder / "proposals.csv", HALF, library, bias, TARGETS, "seed", append, settings=SETTINGS
    )
    return simulation, {"bias": bias, "frames": frames, "proposals": proposals}


def run(make: Callable[[], Setup], folder: Path) -> tuple[app.Simulation, Setup]:
    """200 steps of a setup; what was saved after half of them is in half/."""
    setup = make()
    simulation, keepers = begun(setup, folder)
    simulation.context.setPositions(setup.positions)
    simulation.context.applyConstraints(1e-6)
    simulation.minimizeEnergy(maxIterations=30)
    simulation.context.setVelocitiesToTemperature(300, 1)
    keepers["bias"].attach(simulation)
    simulation.reporters += [keepers["frames"], keepers["proposals"]]
    simulation.step(HALF)
    save_run(folder / "run.chk", simulation, keepers)
    half = folder.with_name("half")
    shutil.copytree(folder, half)
    simulation.step(HALF)
    keepers["frames"].close()
    return simulation, setup


def gone_on(make: Callable[[], Setup], folder: Path) -> app.Simulation:
    simulation, keepers = begun(make(), folder, append=True)
    restore_run(folder / "run.chk", simulation, keepers)
    simulation.step(HALF)
    keepers["frames"].close()
    return simulation
