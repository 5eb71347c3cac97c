"""Windows that begin from what was drawn of the ensemble begin warm; strained starts are healed."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import openmm
import pytest
from numpy.typing import NDArray
from openmm import app

from openmm_cgan.frames import read_frames
from openmm_cgan.potentials import Potential
from openmm_cgan.states import positions_of
from openmm_cgan.testsystems import Molecule, alanine_dipeptide
from openmm_cgan.windows import Window, WindowSettings, run_windows, umbrella_windows
from openmm_cgan.windows.run_files import read_record, write_record
from openmm_cgan.windows.runs import prepare_windows

TEMPLATE = """
phi: TORSION ATOMS=5,7,9,15
RESTRAINT ARG=phi AT=${phi} KAPPA=10.0
"""
BRIEF = WindowSettings(300.0, steps=2, settle_steps=0, report_interval=1, seed=5)


@pytest.fixture(scope="module")
def alanine() -> Molecule:
    return alanine_dipeptide("C7eq")


@pytest.fixture(scope="module")
def warm(alanine: Molecule) -> NDArray[np.float64]:
    """Configurations at 300 K."""
    integrator = openmm.LangevinMiddleIntegrator(300.0, 5.0, 0.002)
    integrator.setRandomNumberSeed(3)
    platform = openmm.Platform.getPlatformByName("Reference")
    simulation = app.Simulation(alanine.topology, alanine.system, integrator, platform)
    simulation.context.setPositions(alanine.positions)
    simulation.context.setVelocitiesToTemperature(300.0, 4)
    found = []
    for _ in range(8):
        simulation.step(500)
        found.append(positions_of(simulation.context.getState(positions=True)))
    return np.array(found)


def windows_from(
    starts: NDArray[np.float64], alanine: Molecule, folder: Path, heal: bool
) -> list[Window]:
    centres = np.full((len(starts), 1), -1.4)
    made = umbrella_windows(TEMPLATE, centres, starts, BRIEF, folder, "given")
    windows = [replace(window, heal=heal) for window in made]
    run_windows(windows, alanine.system, alanine.topology, platform="Reference")
    return windows


def began(windows: list[Window]) -> NDArray[np.float64]:
    """The first frame of each (n, n_atoms, 3)."""
    return np.array([read_frames(w.folder / "frames").positions[0] for w in windows], dtype=float)


@pytest.mark.parametrize("heal", [True, False])
def test_what_was_drawn_at_the_temperature_begins_as_warm(
    alanine: Molecule, warm: NDArray[np.float64], tmp_path: Path, heal: bool
) -> None:
    windows = windows_from(warm, alanine, tmp_path, heal)
    potential = Potential(alanine.system)
    change = potential.energies(began(windows)) - potential.energies(warm)
    if heal:
        assert change.mean() < -30.0  # kJ/mol; kT/2 for each of 48 ways to move are 60
    else:
        assert abs(change.mean()) < 10.0
        assert np.abs(began(windows) - warm).max() < 0.02  # nm, one step


def test_what_pushes_far_harder_than_heat_is_healed_whatever_is_said(
    alanine: Molecule, warm: NDArray[np.float64], tmp_path: Path
) -> None:
    potential = Potential(alanine.system)
    strained = warm[:1].copy()
    strained[0, 5] += [0.05, 0.0, 0.0]  # an oxygen: its double bond is a third too long or short
    off = potential.energies(strained) - potential.energies(warm[:1])
    assert off[0] > 100.0
    windows = windows_from(strained, alanine, tmp_path, heal=False)
    assert potential.energies(began(windows))[0] < potential.energies(warm[:1])[0]


def test_a_window_goes_on_however_its_start_would_be_treated_today(
    alanine: Molecule, warm: NDArray[np.float64], tmp_path: Path
) -> None:
    windows = windows_from(warm[:1], alanine, tmp_path, heal=True)
    settings = replace(BRIEF, steps=4)
    longer = [replace(window, heal=False, settings=settings) for window in windows]
    [result] = run_windows(longer, alanine.system, alanine.topology, platform="Reference")
    assert (result.status, result.step) == ("finished", 4)


def test_a_window_that_was_prepared_before_starts_were_told_apart_is_healed(
    alanine: Molecule, warm: NDArray[np.float64], tmp_path: Path
) -> None:
    made = umbrella_windows(TEMPLATE, np.full((len(warm), 1), -1.4), warm, BRIEF, tmp_path, "given")
    windows = [replace(window, heal=False) for window in made]
    prepare_windows(windows, alanine.system, alanine.topology)
    for window in windows:
        record = read_record(window.folder)
        del record["heal"]
        write_record(window.folder, record)
    run_windows(windows, alanine.system, alanine.topology, platform="Reference")
    potential = Potential(alanine.system)
    change = potential.energies(began(windows)) - potential.energies(warm)
    assert change.mean() < -30.0
