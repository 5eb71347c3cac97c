"""A run that was stopped anywhere and goes on from its checkpoint is the run that never was."""

import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import openmm
import pytest
from numpy.typing import NDArray

from openmm_cgan import restore_run, save_run
from openmm_cgan.checkpoints import read_run
from openmm_cgan.frames import read_frames, read_segments
from openmm_cgan.plumed.bias import PlumedBias
from openmm_cgan.plumed.bias.reporters import BiasCheckpointReporter
from openmm_cgan.proposals.targets import LeastVisited, least_visited_targets
from openmm_cgan.reporters import FrameReporter, ProposalReporter, RunCheckpointReporter
from openmm_cgan.reporters.attempts import AttemptTable
from openmm_cgan.reporters.moves import ExactMove
from openmm_cgan.reporters.settings import ProposalSettings
from openmm_cgan.testsystems import Chain
from tests.cases.chain_end import ChainEnd
from tests.cases.chain_flow import chain_flow
from tests.cases.chain_sampler import INPUTS, ChainSampler
from tests.cases.exact_runs import CHAIN, FEW, T

METAD = INPUTS["theta"] + (
    "METAD ARG=theta SIGMA=0.1 HEIGHT=0.5 PACE=30 GRID_MIN=0 GRID_MAX=pi GRID_BIN=200\n"
    "PRINT ARG=theta STRIDE=10 FILE=COLVAR\n"
)
SEEDS = ProposalSettings(batch=2, settle_steps=25, minimise_iterations=20, heal_steps=20)


MEASURED = replace(SEEDS, settle_steps=None)  # the settle window is measured


def begin(
    folder: Path,
    mode: str,
    steps: int,
    chain: Chain = CHAIN,
    seeds: ProposalSettings = SEEDS,
) -> dict[str, Any]:
    """Begin or go on with a run in a folder, to a step."""
    folder.mkdir(parents=True, exist_ok=True)
    bias = PlumedBias(METAD, chain.topology(), temperature=T, directory=folder)
    system = chain.system()
    bias.add_to(system)
    integrator = openmm.LangevinMiddleIntegrator(T, 5.0, 0.001)
    integrator.setRandomNumberSeed(11)
    platform = openmm.Platform.getPlatformByName("Reference")
    simulation = openmm.app.Simulation(chain.topology(), system, integrator, platform)
    simulation.context.setPositions(chain.sample(1, T, seed=1)[0])
    simulation.context.setVelocitiesToTemperature(T, 12)
    goes_on = (folder / "run.chk").exists()
    kind = ChainEnd if mode == "local" else ChainSampler
    sampler: Any = kind(chain, bias.variables)
    if mode in ("annealed", "steered"):
        sampler = chain_flow(chain, bias.variables)
    frames = FrameReporter(folder / "frames", 7, bias, append=goes_on)
    proposals = ProposalReporter(
        folder / "proposals.csv",
        20,
        sampler,
        bias,
        targets="least_visited" if mode == "seed" else "uniform",
        mode=mode,
        append=goes_on,
        settings=seeds if mode == "seed" else replace(FEW, annealing_steps=2),
    )
    keepers = {"bias": bias, "frames": frames, "proposals": proposals}
    if goes_on:
        restore_run(folder / "run.chk", simulation, keepers)
    else:
        bias.attach(simulation)
        simulation.reporters += [frames, proposals]
    simulation.reporters.append(RunCheckpointReporter(folder / "run.chk", 60, keepers))
    simulation.step(steps - simulation.currentStep)
    frames.flush()
    state = simulation.context.getState(positions=True, velocities=True)
    return {
        "simulation": simulation,
        "keepers": keepers,
        "frames": frames,
        "bias": bias,
        "proposals": proposals,
        "x": state.getPositions(asNumpy=True)._value,
        "v": state.getVelocities(asNumpy=True)._value,
    }


def leave(run: dict[str, Any]) -> None:
    """As if the process had ended: what is in memory is lost but for what was written."""
    run["frames"].close()
    run["bias"].close()


def columns(folder: Path) -> dict[str, NDArray]:
    found = read_frames(folder / "frames", settling=True)
    names = ("positions", "cvs", "bias", "segment", "settling", "step")
    return {name: np.asarray(getattr(found, name)) for name in names}


def test_a_script_may_change_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Relative paths are those of the folder where the objects were made."""
    other = tmp_path / "other"
    other.mkdir()
    monkeypatch.chdir(tmp_path)
    more = "DUMPATOMS ATOMS=1-3 FILE=d.xyz STRIDE=30\n"
    monkeypatch.setitem(globals(), "METAD", METAD + more)
    run = begin(Path("run"), "exact", 0)
    monkeypatch.chdir(other)
    run["simulation"].step(61)
    monkeypatch.chdir(tmp_path)
    run["simulation"].step(60)
    leave(run)
    assert not list(other.iterdir())
    assert columns(tmp_path / "run")["step"].tolist() == list(range(7, 121, 7))
    lengths = {name: len(Path("run", name).read_text().splitlines()) for name in ("d.xyz", "HILLS")}
    assert lengths == {"d.xyz": 5 * 5, "HILLS": 4 + 3}
    assert read_run(Path("run/run.chk")).step == 120


@pytest.fixture(scope="module")
def whole_runs(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[Path, dict]]:
    """Folder and end of a run in a mode that was never stopped, made once."""

    @cache
    def made(mode: str) -> tuple[Path, dict[str, Any]]:
        folder = tmp_path_factory.mktemp("whole")
        run = begin(folder, mode, 240)
        leave(run)
        return folder, run

    return made


@pytest.mark.parametrize(
    ("mode", "killed_at"),
    [(mode, step) for mode in ("seed", "exact") for step in (61, 119, 120, 158)]
    + [("local", 61), ("local", 158), ("annealed", 119), ("steered", 119)],
)
def test_a_run_goes_on_as_if_it_had_never_stopped(
    mode: str, killed_at: int, tmp_path: Path, whole_runs: Callable[[str], tuple[Path, dict]]
) -> None:
    folder, whole = whole_runs(mode)
    leave(begin(tmp_path / "cut", mode, killed_at))
    with (tmp_path / "cut" / "proposals.csv").open("a") as file:
        file.write("160,0.1")  # half a row, as a kill may leave it
    cut = begin(tmp_path / "cut", mode, 240)
    np.testing.assert_array_equal(cut["x"], whole["x"])
    np.testing.assert_array_equal(cut["v"], whole["v"])
    leave(cut)
    for name in ("HILLS", "COLVAR", "proposals.csv"):
        assert (tmp_path / "cut" / name).read_bytes() == (folder / name).read_bytes(), name
    frames = [columns(own) for own in (folder, tmp_path / "cut")]
    assert len(frames[0]["step"]) == 34
    for name, array in frames[0].items():
        np.testing.assert_array_equal(frames[1][name], array, err_msg=name)
    assert cut["proposals"].counts() == whole["proposals"].counts()
    assert cut["proposals"].candidate_counts() == whole["proposals"].candidate_counts()


def test_a_state_that_is_refused_leaves_the_table_of_proposals(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a move refuses is found late; rows after the checkpoint are still there then."""
    leave(begin(tmp_path, "exact", 101))
    before = (tmp_path / "proposals.csv").read_bytes()
    assert b"\n100," in before, "later than the checkpoint at step 60"

    def refuse(*_: Any) -> None:
        raise ValueError("of another kind")

    monkeypatch.setattr(ExactMove, "restore_saved", refuse)
    with pytest.raises(ValueError, match="of another kind"):
        begin(tmp_path, "exact", 240)
    assert (tmp_path / "proposals.csv").read_bytes() == before


@pytest.mark.parametrize("mode", ["exact", "annealed"])
def test_what_a_pilot_has_found_is_not_looked_for_again(
    mode: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    leave(begin(tmp_path, mode, 61))
    for name in ("exact.found_marginal", "annealed.best_plan"):
        monkeypatch.setattr(f"openmm_cgan.reporters.moves.{name}", lambda *given: 1 / 0)
    leave(begin(tmp_path, mode, 90))


def test_a_settle_window_is_measured_as_if_the_run_had_never_stopped(tmp_path: Path) -> None:
    whole = begin(tmp_path / "whole", "seed", 740, seeds=MEASURED)
    leave(whole)
    for killed_at in (71, 413):
        leave(begin(tmp_path / "cut", "seed", killed_at, seeds=MEASURED))
    cut = begin(tmp_path / "cut", "seed", 740, seeds=MEASURED)
    leave(cut)
    np.testing.assert_array_equal(cut["x"], whole["x"])
    found = [read_frames(tmp_path / name / "frames", settling=True) for name in ("whole", "cut")]
    np.testing.assert_array_equal(found[0].settling, found[1].settling)
    folders = [tmp_path / name / "frames" for name in ("whole", "cut")]
    told = [read_segments(folder)[1:] for folder in folders]
    assert told[0] == told[1]
    how = [row["origin"]["settle"] for row in told[0]]
    assert how[:20] == ["assumed"] * 20
    assert set(how[20:]) == {"measured"}
    windows = {row["settled"] - row["step"] for row in told[0][:20]}
    assert windows == {200}, "1 / (5 / ps) in steps of 1 fs"
    [measured] = {row["settled"] - row["step"] for row in told[0][-5:]}
    assert 0 <= measured <= 20, "no longer than between two attempts"
    for ours, theirs in zip(
        cut["proposals"].weighed_candidates(), whole["proposals"].weighed_candidates(), strict=True
    ):
        np.testing.assert_array_equal(ours, theirs)


def test_another_force_field_temperature_or_time_step_is_refused(tmp_path: Path) -> None:
    leave(begin(tmp_path, "exact", 61))
    for other, what in (
        (CHAIN, "integrator"),
        (Chain(barrier=61.0, tilt=1.5), "System"),
    ):
        bias = PlumedBias(METAD, other.topology(), temperature=T, directory=tmp_path)
        system = other.system()
        bias.add_to(system)
        step = 0.002 if what == "integrator" else 0.001
        integrator = openmm.LangevinMiddleIntegrator(T, 5.0, step)
        platform = openmm.Platform.getPlatformByName("Reference")
        simulation = openmm.app.Simulation(other.topology(), system, integrator, platform)
        before = (tmp_path / "COLVAR").read_bytes()
        with pytest.raises(ValueError, match=f"another {what}"):
            restore_run(tmp_path / "run.chk", simulation, {"bias": bias})
        assert (tmp_path / "COLVAR").read_bytes() == before
    restore_run(str(tmp_path / "run.chk"), simulation, {"bias": bias}, unlike=["System"])
    assert simulation.currentStep == 60


def test_what_is_not_finite_is_never_saved_and_the_last_good_one_stays(tmp_path: Path) -> None:
    run = begin(tmp_path, "exact", 61)
    before = (tmp_path / "run.chk").read_bytes()
    x = run["x"].copy()
    x[0] = np.nan
    run["simulation"].context.setPositions(x)
    with pytest.raises(RuntimeError, match="not finite at step 61"):
        save_run(tmp_path / "run.chk", run["simulation"], run["keepers"])
    assert (tmp_path / "run.chk").read_bytes() == before
    leave(run)


def test_one_older_checkpoint_is_kept(tmp_path: Path) -> None:
    leave(begin(tmp_path, "exact", 130))
    assert read_run(tmp_path / "run.chk").step == 120
    assert read_run(tmp_path / "run.chk.old").step == 60


def test_a_checkpoint_due_at_the_last_step_of_the_first_call_is_written(tmp_path: Path) -> None:
    """The reporter learns of the Simulation within that call."""
    leave(begin(tmp_path, "exact", 60))
    assert read_run(tmp_path / "run.chk").step == 60


def test_frames_that_are_gone_are_noticed(tmp_path: Path) -> None:
    leave(begin(tmp_path, "exact", 61))
    shutil.rmtree(tmp_path / "frames")
    with pytest.raises(ValueError, match=r"frames up to step -1; the saved run had them up to 56"):
        begin(tmp_path, "exact", 120)


def test_without_a_checkpoint_rows_later_than_the_step_are_set_aside(tmp_path: Path) -> None:
    """append=True after a kill, from a state of OpenMM's that is older than the last rows."""
    run = begin(tmp_path, "exact", 50)
    leave(run)
    path = tmp_path / "proposals.csv"
    rows = path.read_text().splitlines(keepends=True)
    assert len(rows) == 3
    again = begin(tmp_path / "again", "exact", 1)
    simulation, bias = again["simulation"], again["bias"]
    sampler = ChainSampler(CHAIN, bias.variables)
    added = ProposalReporter(path, 20, sampler, bias, mode="exact", append=True, settings=FEW)
    simulation.reporters[-2] = added
    simulation.currentStep = simulation.currentStep + 29
    simulation.step(1)
    assert path.read_text() == "".join(rows[:2])
    assert (tmp_path / "later.proposals.csv").read_text() == "".join(rows)
    leave(again)


def test_an_earlier_table_is_backed_up_and_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "proposals.csv").write_text("an earlier run\n")
    leave(begin(tmp_path, "exact", 1))
    assert (tmp_path / "bck.0.proposals.csv").read_text() == "an earlier run\n"


def test_least_visited_targets_are_the_same_when_visits_are_counted_once() -> None:
    rng = np.random.default_rng(3)
    visited = rng.normal(0.5, 0.3, size=(300, 2))
    strategy = LeastVisited(np.array([[0.0, 1.0], [0.0, 1.0]]))
    for n in (1, 10, 11, 200, 300, 5):  # the last of another run
        drawn = strategy(visited[:n], np.random.default_rng(n))
        expected = least_visited_targets(
            np.array([[0.0, 1.0], [0.0, 1.0]]), visited[:n], 1, np.random.default_rng(n)
        )
        np.testing.assert_array_equal(drawn, expected[0])


def test_where_nothing_may_be_written_is_told_when_reporters_are_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not at the first checkpoint, hours later; root may write everywhere."""
    may = os.access
    monkeypatch.setattr(os, "access", lambda path, how: Path(path) != tmp_path and may(path, how))
    bias = PlumedBias("phi: TORSION ATOMS=5,7,9,15\nPRINT ARG=phi\n", temperature=300.0)
    made: list[Callable[[], Any]] = [
        lambda: FrameReporter(tmp_path / "frames", 10, bias),
        lambda: RunCheckpointReporter(tmp_path / "run.chk", 10_000, {"bias": bias}),
        lambda: BiasCheckpointReporter(tmp_path / "bias.chk", 10_000, bias),
        lambda: AttemptTable(tmp_path / "new" / "proposals.csv", bias.variables),
    ]
    for make in made:
        with pytest.raises(PermissionError, match=f"may not write to {tmp_path}. Give another"):
            make()
    assert not list(tmp_path.iterdir())
