import json
import logging
import multiprocessing
import os
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import openmm
import pytest
from openmm import app, unit

from openmm_cgan.frames import Frames, read_frames, topology_hash
from openmm_cgan.free_energy import free_energy_profile, reweight_windows
from openmm_cgan.plumed.bias import PlumedBias
from openmm_cgan.testsystems import Molecule, alanine_dipeptide
from openmm_cgan.topology_records import read_topology, topology_of, topology_record
from openmm_cgan.windows import (
    DragSettings,
    Window,
    WindowSettings,
    drag,
    platforms,
    read_windows,
    run_window,
    run_windows,
    umbrella_windows,
)
from openmm_cgan.windows.platforms import fastest_platform

TEMPLATE = """
phi: TORSION ATOMS=5,7,9,15   # ${this} is a comment
psi: TORSION ATOMS=7,9,15,17
restraint: RESTRAINT ARG=phi,psi AT=${phi},${psi} KAPPA=100.0,100.0
PRINT ARG=phi,psi,restraint.bias STRIDE=100 FILE=COLVAR
"""
SHORT = WindowSettings(300.0, steps=400, settle_steps=100, report_interval=10,
                       checkpoint_interval=200, seed=5)  # fmt: skip
CENTRES = np.array([[-1.4, 1.2], [-1.2, 1.0]])


@pytest.fixture(scope="module")
def alanine() -> Molecule:
    return alanine_dipeptide("C7eq")


def two_windows(molecule: Molecule, folder: Path, settings: WindowSettings = SHORT) -> list[Window]:
    starts = np.repeat(molecule.positions[None], 2, axis=0)
    return umbrella_windows(TEMPLATE, CENTRES, starts, settings, folder, "given")


def run(molecule: Molecule, windows: list[Window], executor: Executor | None = None) -> list:
    return run_windows(windows, molecule.system, molecule.topology, executor, platform="Reference")


class Killed(BaseException):
    """Stands for SIGKILL: no `except Exception` sees it."""


def test_a_template_becomes_one_input_for_each_centre(alanine: Molecule, tmp_path: Path) -> None:
    windows = two_windows(alanine, tmp_path)
    assert [w.folder.name for w in windows] == ["window-000", "window-001"]
    assert "AT=-1.2,1.0 KAPPA=100.0" in windows[1].plumed
    assert windows[1].centre == {"phi": -1.2, "psi": 1.0}
    assert windows[0].seed != windows[1].seed
    for window, centre in zip(windows, CENTRES, strict=True):
        bias = PlumedBias(window.plumed)
        assert bias.bias_of_cvs(centre[None])[0] == pytest.approx(0.0, abs=1e-12)
        assert bias.bias_of_cvs(centre[None] + [[0.1, 0.0]])[0] == pytest.approx(0.5)


def test_windows_are_run_and_read_back(alanine: Molecule, tmp_path: Path) -> None:
    results = run(alanine, two_windows(alanine, tmp_path))
    assert [(r.status, r.step, r.error) for r in results] == [("finished", 400, "")] * 2
    for result in results:
        everything = read_frames(result.folder / "frames", settling=True)
        kept = read_frames(result.folder / "frames")
        assert everything.step.tolist() == list(range(10, 401, 10))
        assert kept.step.tolist() == list(range(100, 401, 10))
        assert everything.topology_hash == topology_hash(alanine.topology)
        bias = PlumedBias(result.folder / "plumed.dat")
        np.testing.assert_allclose(bias.bias_of_cvs(kept.cvs), kept.bias, atol=1e-6)
        rows = (result.folder / "COLVAR").read_text().splitlines()
        assert [float(row.split()[0]) for row in rows if row[1] != "!"] == pytest.approx(
            [0.0, 0.2, 0.4, 0.6, 0.8]
        )
    windows = read_windows([r.folder for r in results])
    assert [len(w.cvs) for w in windows] == [31, 31]
    samples = reweight_windows(windows, n_bootstrap=5)
    profile = free_energy_profile(samples, "phi", bins=18)
    assert np.isfinite(profile.free_energy).sum() >= 2


def test_windows_follow_their_restraints(alanine: Molecule, tmp_path: Path) -> None:
    stiff = TEMPLATE.replace("100.0,100.0", "2000.0,2000.0")
    settings = replace(SHORT, steps=1500, settle_steps=500)
    starts = np.repeat(alanine.positions[None], 2, axis=0)
    windows = umbrella_windows(stiff, CENTRES, starts, settings, tmp_path, "given")
    for result, centre in zip(run(alanine, windows), CENTRES, strict=True):
        cvs = read_frames(result.folder / "frames").cvs
        spread = np.sqrt(8.314e-3 * 300 / 2000)
        assert (np.abs(cvs.mean(axis=0) - centre) < 3 * spread).all()


def test_an_executor_gives_what_a_run_here_gives(alanine: Molecule, tmp_path: Path) -> None:
    here = run(alanine, two_windows(alanine, tmp_path / "here"))
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        there = run(alanine, two_windows(alanine, tmp_path / "there"), pool)
    for one, other in zip(here, there, strict=True):
        assert other.status == "finished"
        a, b = (read_frames(r.folder / "frames", settling=True) for r in (one, other))
        np.testing.assert_array_equal(a.positions, b.positions)


def test_an_executor_that_forks_is_refused_before_anything_is_written(
    alanine: Molecule, tmp_path: Path
) -> None:
    """Copies without its threads may wait for ever for what one of those held."""
    windows = two_windows(alanine, tmp_path)
    fork = multiprocessing.get_context("fork")
    with (
        ProcessPoolExecutor(1, mp_context=fork) as pool,
        pytest.raises(ValueError, match="LocalWorkers"),
    ):
        run(alanine, windows, pool)
    assert not any(tmp_path.iterdir())


def test_a_killed_window_goes_on_from_its_checkpoint(
    alanine: Molecule, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    windows = two_windows(alanine, tmp_path)
    steps_done: list[int] = []
    step = app.Simulation.step

    def killed_at_300(simulation: app.Simulation, steps: int) -> None:
        if simulation.currentStep == 200:
            step(simulation, 100)
            raise Killed
        step(simulation, steps)

    with monkeypatch.context() as patch:
        patch.setattr(app.Simulation, "step", killed_at_300)
        with pytest.raises(Killed):
            run(alanine, windows)

    def counted(simulation: app.Simulation, steps: int) -> None:
        steps_done.append(steps)
        step(simulation, steps)

    before = read_frames(windows[0].folder / "frames", settling=True)
    monkeypatch.setattr(app.Simulation, "step", counted)
    results = run(alanine, windows)
    assert [r.status for r in results] == ["finished", "finished"]
    assert sum(steps_done) == 600  # 200 of the killed one, the whole second
    frames = read_frames(results[0].folder / "frames", settling=True)
    assert frames.step.tolist() == list(range(10, 401, 10))
    assert frames.settling.sum() == 9
    early = frames.step <= 200
    np.testing.assert_array_equal(frames.positions[early], before.positions[before.step <= 200])
    np.testing.assert_allclose(frames.time, frames.step * 0.002)
    steps_done.clear()
    assert [r.status for r in run(alanine, windows)] == ["finished", "finished"]
    assert steps_done == []


METAD = (
    "phi: TORSION ATOMS=5,7,9,15\npsi: TORSION ATOMS=7,9,15,17\n"
    "METAD ARG=phi SIGMA=0.3 HEIGHT=1 PACE=30 GRID_MIN=-pi GRID_MAX=pi\n"
    "RESTRAINT ARG=psi AT=1 KAPPA=100\nPRINT ARG=phi,psi STRIDE=10 FILE=COLVAR\n"
)


def test_a_killed_window_with_a_bias_that_grows_ends_as_the_unkilled(
    alanine: Molecule, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """HILLS and COLVAR as well: none is doubled, none lost."""

    def window(folder: Path) -> list[Window]:
        return [Window(folder / "window-000", METAD, alanine.positions, {}, "given", 3, SHORT)]

    run(alanine, window(tmp_path / "whole"))
    step = app.Simulation.step

    def killed_at_300(simulation: app.Simulation, steps: int) -> None:
        if simulation.currentStep == 200:
            step(simulation, 100)
            raise Killed
        step(simulation, steps)

    with monkeypatch.context() as patch:
        patch.setattr(app.Simulation, "step", killed_at_300)
        with pytest.raises(Killed):
            run(alanine, window(tmp_path / "cut"))
    [result] = run(alanine, window(tmp_path / "cut"))
    assert result.status == "finished"
    folders = [tmp_path / name / "window-000" for name in ("whole", "cut")]
    for name in ("HILLS", "COLVAR"):
        assert len({(folder / name).read_bytes() for folder in folders}) == 1, name
    whole, cut = (read_frames(folder / "frames", settling=True) for folder in folders)
    for name in ("positions", "cvs", "bias", "step", "settling"):
        np.testing.assert_array_equal(getattr(cut, name), getattr(whole, name))


def dies_once(folder: str, platform: str | None, threads: int | None) -> dict[str, Any]:
    """A worker that is killed at its first window, by the queue or for want of memory."""
    flag = Path(folder).parent / "has died"
    if folder.endswith("000") and not flag.exists():
        flag.touch()
        os._exit(9)
    return run_window(folder, platform, threads)


def test_a_dead_worker_costs_no_window(
    alanine: Molecule, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("openmm_cgan.windows.jobs.run_window", dies_once)
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        results = run(alanine, two_windows(alanine, tmp_path), pool)
    assert (tmp_path / "has died").exists()
    assert [result.status for result in results] == ["finished", "finished"]


def test_finished_windows_become_longer_when_asked(alanine: Molecule, tmp_path: Path) -> None:
    run(alanine, two_windows(alanine, tmp_path))
    longer = two_windows(alanine, tmp_path, replace(SHORT, steps=600))
    results = run(alanine, longer)
    assert [r.step for r in results] == [600, 600]
    assert read_frames(results[0].folder / "frames").step.tolist() == list(range(100, 601, 10))


def test_a_window_that_fails_does_not_lose_the_others(
    alanine: Molecule, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    windows = two_windows(alanine, tmp_path)
    mirrored = replace(windows[0], positions=windows[0].positions * [-1.0, 1.0, 1.0])
    windows = [windows[1], mirrored]
    with caplog.at_level(logging.WARNING, "openmm_cgan"):
        good, bad = run(alanine, windows)
    assert good.status == "finished"
    assert bad.status == "failed"
    assert "chirality" in bad.error
    assert str(bad.folder) in caplog.text
    caplog.clear()
    with caplog.at_level(logging.WARNING, "openmm_cgan"):
        assert [w.name for w in read_windows([good.folder, bad.folder])] == [str(good.folder)]
    assert f"{bad.folder} is left out" in caplog.text


def test_a_window_that_blows_up_is_reported(
    alanine: Molecule, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    windows = two_windows(alanine, tmp_path)
    step = app.Simulation.step

    def blown_up(simulation: app.Simulation, steps: int) -> None:
        if simulation.currentStep == 200:
            simulation.context.setVelocities(np.full((22, 3), np.nan))
        step(simulation, steps)

    monkeypatch.setattr(app.Simulation, "step", blown_up)
    results = run(alanine, windows)
    assert [(r.status, r.step) for r in results] == [("failed", 200)] * 2
    assert "not finite at step 210" in results[0].error
    assert read_frames(results[0].folder / "frames", settling=True).step[-1] == 200
    with pytest.raises(ValueError, match="no window with frames"):
        read_windows([r.folder for r in results])


def test_a_molecule_that_changed_on_the_way_is_not_used(
    alanine: Molecule, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def mirrored_after_200(folder: Path, settling: bool = False) -> Frames:
        frames = read_frames(folder, settling=settling)
        positions = frames.positions.copy()
        positions[frames.step > 200, :, 0] *= -1.0
        return replace(frames, positions=positions)

    monkeypatch.setattr("openmm_cgan.windows.worker.read_frames", mirrored_after_200)
    [result] = run(alanine, two_windows(alanine, tmp_path)[:1])
    assert result.status == "failed"
    assert "changed at step 210 (chirality), 20 of 40 frames" in result.error


class LostWorkers(Executor):
    """An executor whose workers die."""

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future:
        future: Future = Future()
        future.set_exception(RuntimeError("the node went down"))
        return future


def test_a_lost_worker_is_a_failed_window(alanine: Molecule, tmp_path: Path) -> None:
    windows = two_windows(alanine, tmp_path)
    results = run(alanine, windows, LostWorkers())
    assert [r.status for r in results] == ["failed", "failed"]
    assert "the node went down" in results[0].error
    assert [r.status for r in run(alanine, windows)] == ["finished", "finished"]


def test_the_start_is_healed_before_the_run(alanine: Molecule, tmp_path: Path) -> None:
    windows = two_windows(alanine, tmp_path)[:1]
    rough = alanine.positions + np.random.default_rng(0).normal(scale=0.015, size=(22, 3))
    [result] = run(alanine, [replace(windows[0], positions=rough)])
    assert result.status == "finished"
    first = read_frames(result.folder / "frames", settling=True).positions[0].astype(float)
    context = openmm.Context(alanine.system, openmm.VerletIntegrator(0.001),
                             openmm.Platform.getPlatformByName("Reference"))  # fmt: skip
    energies = []
    for positions in (rough, first, alanine.positions):
        context.setPositions(positions)
        energies.append(context.getState(energy=True).getPotentialEnergy()._value)
    assert energies[0] > energies[2] + 300.0
    assert energies[1] < energies[2] + 150.0


def test_dragged_starts_arrive_at_their_centres(alanine: Molecule) -> None:
    bias = PlumedBias(TEMPLATE.replace("${phi},${psi}", "0,0"))
    centres = [[-1.4, 1.2], [-1.4, 1.8], [-2.6, 2.6], [3.0, -3.0]]
    settings = DragSettings(300.0, kappa=500.0, steps=1000, platform="Reference")
    with pytest.raises(ValueError, match=r"centres: psi = 120 rad; .* not in degrees"):
        drag(bias, alanine.system, alanine.positions, [[-1.4, 120]], settings)
    starts = drag(bias, alanine.system, alanine.positions, centres, settings)
    assert starts.shape == (4, 22, 3)
    cvs = bias.cv_values(starts)
    for i, variable in enumerate(bias.variables):
        assert np.abs(variable.difference(np.array(centres)[:, i], cvs[:, i])).max() < 0.35


def test_a_drag_begins_where_the_cv_is_in_the_box() -> None:
    """Through the wall of the box the atoms are 0.2 nm apart, and 1.8 nm without it."""
    system = openmm.System()
    for _ in range(2):
        system.addParticle(1000.0)
    system.setDefaultPeriodicBoxVectors(*(2.0 * np.eye(3)))
    force = openmm.CustomNonbondedForce("0")
    force.setNonbondedMethod(openmm.CustomNonbondedForce.CutoffPeriodic)
    for _ in range(2):
        force.addParticle([])
    system.addForce(force)
    bias = PlumedBias("d: DISTANCE ATOMS=1,2\nPRINT ARG=d\n")
    settings = DragSettings(300.0, kappa=1e4, steps=10, stages=1, platform="Reference")
    [start] = drag(bias, system, [[0.1, 1, 1], [1.9, 1, 1]], [[0.2]], settings)
    assert abs(bias.cv_values(start, 2.0 * np.eye(3))[0] - 0.2) < 0.05


def test_the_topology_survives_its_file(alanine: Molecule, tmp_path: Path) -> None:
    box = np.diag([2.0, 3.0, 4.0])
    alanine.topology.setPeriodicBoxVectors(box * unit.nanometer)
    try:
        copied = topology_of(json.loads(json.dumps(topology_record(alanine.topology))))
    finally:
        alanine.topology.setPeriodicBoxVectors(None)
    assert topology_hash(copied) == topology_hash(alanine.topology)
    np.testing.assert_array_equal(copied.getPeriodicBoxVectors()._value, box)
    names = [[r.name, r.id, r.chain.id] for r in copied.residues()]
    assert names == [[r.name, r.id, r.chain.id] for r in alanine.topology.residues()]


def test_the_fastest_platform_is_measured_once(
    alanine: Molecule, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(platforms, "_FASTEST", {})  # whatever this process has measured before
    with caplog.at_level(logging.INFO, "openmm_cgan"):
        first = fastest_platform(alanine.system, alanine.positions)
        assert fastest_platform(alanine.system, alanine.positions) == first
    assert first in {openmm.Platform.getPlatform(i).getName() for i in
                     range(openmm.Platform.getNumPlatforms())}  # fmt: skip
    assert caplog.text.count("steps/s") == 1


def test_a_window_runs_by_the_name_of_its_folder(alanine: Molecule, tmp_path: Path) -> None:
    windows = two_windows(alanine, tmp_path)
    run(alanine, windows, LostWorkers())  # prepares the folders
    record = run_window(str(windows[1].folder), "CPU", 1)
    assert (record["status"], record["step"]) == ("finished", 400)
    assert read_topology(tmp_path).getNumAtoms() == 22


@pytest.mark.parametrize(
    ("template", "centres", "n_starts", "message"),
    [
        (TEMPLATE.replace("$", ""), CENTRES, 2, "no placeholder"),
        (TEMPLATE, CENTRES[:, :1], 2, r"expected \(n, 2\): one column for each .* phi, psi"),
        (TEMPLATE, CENTRES, 3, r"expected \(2, n_atoms, 3\)"),
    ],
)
def test_windows_that_make_no_sense_are_refused(
    alanine: Molecule, template: str, centres: np.ndarray, n_starts: int, message: str
) -> None:
    starts = np.repeat(alanine.positions[None], n_starts, axis=0)
    with pytest.raises(ValueError, match=message):
        umbrella_windows(template, centres, starts, SHORT, "unused", "given")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"steps": 100}, "settle_steps is 100 and steps 100"),
        ({"temperature": -1.0}, "temperature is -1.0; expected a positive number"),
        ({"report_interval": 0}, "report_interval is 0"),
    ],
)
def test_settings_that_make_no_sense_are_refused(change: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(SHORT, **change)


def test_settings_take_quantities() -> None:
    settings = WindowSettings(
        300 * unit.kelvin, 10, 5, timestep=2 * unit.femtosecond, friction=1 / unit.picosecond
    )
    assert (settings.temperature, settings.timestep, settings.friction) == (300.0, 0.002, 1.0)


def test_a_folder_of_another_run_is_not_overwritten(alanine: Molecule, tmp_path: Path) -> None:
    windows = two_windows(alanine, tmp_path)
    run(alanine, windows)
    other = [replace(w, centre={"phi": 0.0, "psi": 0.0}) for w in windows]
    with pytest.raises(ValueError, match="holds another window: its centre is"):
        run(alanine, other)
    system = alanine_dipeptide(constraints=None).system
    with pytest.raises(ValueError, match="is that of another system"):
        run_windows(windows, system, alanine.topology, platform="Reference")
    with pytest.raises(ValueError, match="a folder each"):
        run(alanine, [windows[0], windows[0]])
    with pytest.raises(ValueError, match="expected finite ones of shape"):
        run(alanine, [replace(windows[0], positions=np.zeros((3, 3)))])
    assert read_frames(windows[0].folder / "frames").step[-1] == 400


def test_windows_run_on_a_platform_with_properties(alanine: Molecule, tmp_path: Path) -> None:
    windows = two_windows(alanine, tmp_path)[:1]
    how = "cpu:Threads=1,DeterministicForces=true"
    [result] = run_windows(windows, alanine.system, alanine.topology, platform=how)
    assert result.status == "finished"
    with pytest.raises(ValueError, match="CPU has no property 'Precision'"):
        run_windows(windows, alanine.system, alanine.topology, platform="CPU:Precision=mixed")


def test_the_right_molecule_may_be_another_than_the_first_start(
    alanine: Molecule, tmp_path: Path
) -> None:
    [window] = two_windows(alanine, tmp_path)[:1]
    mirror = np.array([-1.0, 1.0, 1.0])
    right = replace(window, centre={}, plumed=window.plumed.replace("AT=-1.4,1.2", "AT=1.4,-1.2"),
                    positions=alanine.positions * mirror)  # fmt: skip
    for reference, status in ((alanine.positions, "failed"), (right.positions, "finished")):
        [result] = run_windows(
            [replace(right, folder=tmp_path / status / "window-000")],
            alanine.system,
            alanine.topology,
            platform="Reference",
            reference=reference,
        )
        assert result.status == status


def test_a_system_without_stereocentres_runs_too(tmp_path: Path) -> None:
    topology = app.Topology()
    residue = topology.addResidue("AR", topology.addChain())
    for name in ("A", "B"):
        topology.addAtom(name, app.element.argon, residue)
    system = openmm.System()
    for _ in range(2):
        system.addParticle(39.9)
    text = "d: DISTANCE ATOMS=1,2\nRESTRAINT ARG=d AT=${d} KAPPA=1000\n"
    starts = np.array([[[0.0, 0.0, 0.0], [0.0, 0.0, 0.5]]])
    windows = umbrella_windows(text, [[0.5]], starts, SHORT, tmp_path, "given")
    [result] = run_windows(windows, system, topology)
    assert result.status == "finished"
    assert read_frames(result.folder / "frames").cvs.mean() == pytest.approx(0.5, abs=0.2)


def test_molecules_that_are_not_whole_are_not_watched(
    alanine: Molecule, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    windows = two_windows(alanine, tmp_path)[:1]
    broken = alanine.positions.copy()
    broken[8:] += 3.0
    with caplog.at_level(logging.WARNING, "openmm_cgan"):
        run_windows(
            windows, alanine.system, alanine.topology, LostWorkers(), platform="Reference",
            reference=broken,
        )  # fmt: skip
    assert "not watched for a change of chirality" in caplog.text
