"""Windows run several times each: folders of their own, gone on with alone, read as one state."""

from pathlib import Path

import numpy as np
import pytest
from openmm import app

from openmm_cgan.frames import read_frames
from openmm_cgan.free_energy import reweight_windows
from openmm_cgan.testsystems import Molecule, alanine_dipeptide
from openmm_cgan.windows import (
    Window,
    WindowSettings,
    read_windows,
    run_windows,
    umbrella_windows,
)

TEMPLATE = """
phi: TORSION ATOMS=5,7,9,15
restraint: RESTRAINT ARG=phi AT=${phi} KAPPA=100.0
PRINT ARG=phi,restraint.bias STRIDE=100 FILE=COLVAR
"""
SHORT = WindowSettings(300.0, steps=200, settle_steps=50, report_interval=10,
                       checkpoint_interval=100, seed=5)  # fmt: skip
CENTRES = np.array([[-1.4], [-1.2]])
NAMES = ["window-000-0", "window-000-1", "window-001-0", "window-001-1"]


@pytest.fixture(scope="module")
def alanine() -> Molecule:
    return alanine_dipeptide("C7eq")


def windows_in(molecule: Molecule, folder: Path, each: int = 2) -> list[Window]:
    starts = np.broadcast_to(molecule.positions, (2, each, 22, 3))
    return umbrella_windows(TEMPLATE, CENTRES, starts, SHORT, folder, "given")


def run(molecule: Molecule, windows: list[Window]) -> list:
    return run_windows(windows, molecule.system, molecule.topology, platform="Reference")


def test_each_run_is_a_window_with_the_input_of_all(alanine: Molecule, tmp_path: Path) -> None:
    windows = windows_in(alanine, tmp_path)
    assert [w.folder.name for w in windows] == NAMES
    assert [w.centre["phi"] for w in windows] == [-1.4, -1.4, -1.2, -1.2]
    assert windows[0].plumed == windows[1].plumed != windows[2].plumed
    assert len({w.seed for w in windows}) == 4
    [last] = windows_in(alanine, tmp_path, 11)[-1:]
    assert last.folder.name == "window-001-10"
    assert windows_in(alanine, tmp_path, 11)[11].folder.name == "window-001-00"


def test_one_start_a_window_is_a_window_as_ever(alanine: Molecule, tmp_path: Path) -> None:
    one = windows_in(alanine, tmp_path, 1)
    starts = np.repeat(alanine.positions[None], 2, axis=0)
    ever = umbrella_windows(TEMPLATE, CENTRES, starts, SHORT, tmp_path, "given")
    assert [w.folder.name for w in one] == ["window-000", "window-001"]
    for a, b in zip(one, ever, strict=True):
        assert (a.folder, a.plumed, a.seed, a.centre) == (b.folder, b.plumed, b.seed, b.centre)
        np.testing.assert_array_equal(a.positions, b.positions)


def test_starts_of_another_shape_are_refused() -> None:
    for shape in ((3, 2, 22, 3), (2, 2, 2, 22, 3), (2, 2, 22, 2)):
        with pytest.raises(ValueError, match=r"or \(2, k, n_atoms, 3\) for k runs"):
            umbrella_windows(TEMPLATE, CENTRES, np.zeros(shape), SHORT, "unused", "given")
    with pytest.raises(ValueError, match="expected 1 start or more"):
        umbrella_windows(TEMPLATE, CENTRES, np.zeros((2, 0, 22, 3)), SHORT, "unused", "given")


def test_runs_of_a_window_are_one_state_and_print_into_files_of_their_own(
    alanine: Molecule, tmp_path: Path
) -> None:
    results = run(alanine, windows_in(alanine, tmp_path))
    assert [(r.folder.name, r.status) for r in results] == [(n, "finished") for n in NAMES]
    tables = [(r.folder / "COLVAR").read_text() for r in results]
    assert len(set(tables)) == 4
    rows = [[row for row in table.splitlines() if row[:2] != "#!"] for table in tables]
    assert [len(own) for own in rows] == [3] * 4, "of the steps 0, 100 and 200"
    samples = reweight_windows(read_windows([r.folder for r in results]), n_bootstrap=5)
    assert samples.overlap.shape == (2, 2)
    assert set(samples.window) == {0, 1, 2, 3}
    ways = [read_frames(r.folder / "frames").positions for r in results]
    assert not np.array_equal(ways[0], ways[1]), "the same start, other velocities and noise"


class Killed(BaseException):
    """Stands for SIGKILL: no `except Exception` sees it."""


def test_a_killed_run_goes_on_alone(
    alanine: Molecule, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The others are as they were, and all end as the unkilled."""
    whole = run(alanine, windows_in(alanine, tmp_path / "whole"))
    step, begun = app.Simulation.step, []

    def killed_in_the_second(simulation: app.Simulation, steps: int) -> None:
        begun.append(simulation.currentStep)
        if simulation.currentStep == 100 and begun.count(100) == 2:
            step(simulation, 50)
            raise Killed
        step(simulation, steps)

    windows = windows_in(alanine, tmp_path / "cut")
    with monkeypatch.context() as patch:
        patch.setattr(app.Simulation, "step", killed_in_the_second)
        with pytest.raises(Killed):
            run(alanine, windows)
    made: list[int] = []

    def counted(simulation: app.Simulation, steps: int) -> None:
        made.append(steps)
        step(simulation, steps)

    monkeypatch.setattr(app.Simulation, "step", counted)
    cut = run(alanine, windows)
    assert sum(made) == 100 + 2 * 200  # the rest of the second, and the other window
    for a, b in zip(whole, cut, strict=True):
        assert (a.status, b.status) == ("finished", "finished")
        one, other = (read_frames(r.folder / "frames", settling=True) for r in (a, b))
        for name in ("positions", "cvs", "bias", "step", "settling"):
            np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
        assert (a.folder / "COLVAR").read_text() == (b.folder / "COLVAR").read_text()


def test_a_run_that_fails_leaves_its_window_to_the_others(
    alanine: Molecule, tmp_path: Path
) -> None:
    starts = np.array(np.broadcast_to(alanine.positions, (2, 2, 22, 3)))
    starts[0, 1, :, 0] *= -1  # its mirror image
    windows = umbrella_windows(TEMPLATE, CENTRES, starts, SHORT, tmp_path, "given")
    results = run(alanine, windows)
    assert [r.status for r in results] == ["finished", "failed", "finished", "finished"]
    samples = reweight_windows(read_windows([r.folder for r in results]), n_bootstrap=5)
    assert samples.overlap.shape == (2, 2)
    assert set(samples.window) == {0, 1, 2}
