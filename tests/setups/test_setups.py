"""Each setup that people have: frames, proposals, a checkpoint, and going on from it."""

import csv
import shutil
from pathlib import Path

import numpy as np
import pytest
from openmm import app

from openmm_cgan import FrameReporter, PlumedBias, ProposalReporter, restore_run, save_run
from openmm_cgan.frames import read_frames
from openmm_cgan.reporters.settings import ProposalSettings
from openmm_cgan.states import positions_of
from openmm_cgan.thermostats import temperature_of
from tests.cases.setups import SETUPS, Library, Setup, library_frames

TARGETS = np.array([[-1.4], [-1.2], [-1.0]])
HALF = 100
# few steps of healing: that it works is asked here, not how well
SETTINGS = ProposalSettings(heal_steps=25, minimise_iterations=30, max_energy=50.0, settle_steps=20)


def begun(setup: Setup, folder: Path, append: bool = False):
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
        folder / "proposals.csv", 50, library, bias, TARGETS, "seed", append, settings=SETTINGS
    )
    return simulation, {"bias": bias, "frames": frames, "proposals": proposals}


def run(make, folder: Path) -> tuple[app.Simulation, Setup]:
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


def gone_on(make, folder: Path) -> app.Simulation:
    simulation, keepers = begun(make(), folder, append=True)
    restore_run(folder / "run.chk", simulation, keepers)
    simulation.step(HALF)
    keepers["frames"].close()
    return simulation


def rows_of(table: Path) -> list[dict[str, str]]:
    with table.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("name", SETUPS)
def test_a_setup_works(name: str, tmp_path: Path) -> None:
    make = SETUPS[name]
    simulation, setup = run(make, tmp_path / "run")
    frames = read_frames(tmp_path / "run" / "frames", settling=True)
    assert frames.step.tolist() == list(range(20, 201, 20))
    np.testing.assert_array_equal(frames.atoms, setup.solute)
    assert np.isfinite(frames.positions).all()
    rows = rows_of(tmp_path / "run" / "proposals.csv")
    assert len(rows) == 4
    accepted = [row for row in rows if row["accepted"] == "1"]
    assert accepted, [row["reason"] for row in rows]
    assert temperature_of(simulation) == pytest.approx(300)

    again = gone_on(make, tmp_path / "half")
    assert rows_of(tmp_path / "half" / "proposals.csv") == rows
    other = read_frames(tmp_path / "half" / "frames", settling=True)
    np.testing.assert_array_equal(other.step, frames.step)
    ends = [positions_of(s.context.getState(positions=True)) for s in (simulation, again)]
    np.testing.assert_array_equal(*ends)
