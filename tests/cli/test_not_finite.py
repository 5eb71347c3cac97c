"""A run that comes to NaN stops with a State that opens, or goes back so often as it may."""

import logging
from pathlib import Path
from typing import Any

import numpy as np
import openmm
import pytest
from openmm import app

from openmm_cgan.checkpoints import read_run, to_go_back_to
from openmm_cgan.cli.run_records import RunSettings
from openmm_cgan.cli.simulations import run_biased
from openmm_cgan.frames import read_frames
from openmm_cgan.plumed.files.fields import read_fields
from openmm_cgan.states import NotFiniteError
from openmm_cgan.testsystems import alanine_dipeptide
from openmm_cgan.windows import Window, WindowSettings, run_windows

TEXT = """phi: TORSION ATOMS=5,7,9,15
METAD ARG=phi SIGMA=0.3 HEIGHT=1.2 PACE=20 GRID_MIN=-pi GRID_MAX=pi
PRINT ARG=phi STRIDE=10 FILE=COLVAR
"""


@pytest.fixture
def spoiled(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Steps at which runs come to NaN, one after the other."""
    steps: list[int] = []
    step = app.Simulation.step

    def spoil(simulation: app.Simulation, n: int) -> None:
        if steps and simulation.currentStep + n > steps[0]:
            step(simulation, steps.pop(0) - simulation.currentStep)
            x = simulation.context.getState(positions=True).getPositions(asNumpy=True)._value
            x[3] = np.nan
            simulation.context.setPositions(x)
        step(simulation, max(0, n))

    monkeypatch.setattr(app.Simulation, "step", spoil)
    return steps


def run(folder: Path, retries: int, plumed: str = TEXT) -> Any:
    settings = RunSettings(
        platform="Reference", frames_every=25, checkpoint_every=100, retries=retries, timestep=0.001
    )
    return run_biased(alanine_dipeptide(), plumed, 400, folder, settings)


def test_it_stops_and_leaves_a_state_that_opens(tmp_path: Path, spoiled: list[int]) -> None:
    spoiled.append(230)
    with pytest.raises(NotFiniteError, match=r"not finite .*not_finite.xml.*--retries"):
        run(tmp_path, retries=0)
    state = openmm.XmlSerializer.deserialize((tmp_path / "not_finite.xml").read_text())
    assert np.isnan(state.getPositions(asNumpy=True)._value).any()
    assert read_run(tmp_path / "run.chk").step == 200
    assert np.isfinite(read_frames(tmp_path / "frames").positions).all()
    assert "nan" not in (tmp_path / "HILLS").read_text()


def test_it_goes_back_with_new_velocities(
    tmp_path: Path, spoiled: list[int], caplog: pytest.LogCaptureFixture
) -> None:
    run(tmp_path / "whole", retries=0)
    spoiled += [230, 230]
    with caplog.at_level(logging.WARNING, "openmm_cgan"):
        run(tmp_path / "run", retries=2)
    assert sum("goes back" in record.message for record in caplog.records) == 2
    frames, whole = (read_frames(tmp_path / name / "frames") for name in ("run", "whole"))
    np.testing.assert_array_equal(frames.step, np.arange(25, 401, 25))
    # the second time it has gone back to the checkpoint before the last
    early = frames.step <= 100
    np.testing.assert_array_equal(frames.positions[early], whole.positions[early])
    assert np.abs(frames.positions[~early] - whole.positions[~early]).max(axis=(1, 2)).min() > 0
    for name, n in (("HILLS", 20), ("COLVAR", 41)):
        assert len(read_fields(tmp_path / "run" / name)) == n, name


def test_it_goes_back_no_oftener_than_it_may(tmp_path: Path, spoiled: list[int]) -> None:
    spoiled += [230, 230]
    with pytest.raises(NotFiniteError):
        run(tmp_path, retries=1)
    assert spoiled == []


def test_windows_go_back_too(tmp_path: Path, spoiled: list[int]) -> None:
    molecule = alanine_dipeptide()

    def window(name: str, retries: int) -> Any:
        settings = WindowSettings(
            300.0, 400, 50, report_interval=25, checkpoint_interval=100, retries=retries
        )
        made = Window(tmp_path / name / "w", TEXT, molecule.positions, {}, "given", 3, settings)
        [result] = run_windows([made], molecule.system, molecule.topology, platform="Reference")
        return result

    spoiled.append(230)
    failed = window("a", 0)
    assert failed.status == "failed"
    assert "not finite at step" in failed.error
    assert window("a", 0).status == "finished"  # called again it goes on
    spoiled.append(230)
    assert window("b", 1).status == "finished"
    frames = read_frames(tmp_path / "b" / "w" / "frames", settling=True)
    np.testing.assert_array_equal(frames.step, np.arange(25, 401, 25))


def test_the_checkpoint_before_comes_every_second_time(tmp_path: Path) -> None:
    path = tmp_path / "run.chk"
    assert to_go_back_to(path, 2) == path, "there is none before"
    (tmp_path / "run.chk.old").touch()
    names = [to_go_back_to(path, retry).name for retry in range(5)]
    assert names == ["run.chk", "run.chk", "run.chk.old", "run.chk", "run.chk.old"]
