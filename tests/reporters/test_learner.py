"""A generator that learns beside a run: who takes over, what a failure leaves, nothing waits."""

import dataclasses
import logging
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import openmm
import pytest
from openmm import app

from openmm_cgan import restore_run, save_run
from openmm_cgan.cgan import ConditionalGAN
from openmm_cgan.cgan.settings import TrainingSettings
from openmm_cgan.plumed.bias import PlumedBias
from openmm_cgan.reporters import FrameReporter, Learner, ProposalReporter
from tests.cases import ROOT
from tests.cases.chain_sampler import ChainSampler
from tests.cases.exact_runs import CHAIN, HELD, PLAIN, Run, T, make_run, propose
from tests.cases.other_processes import PATIENCE

SHORT = TrainingSettings(generator="FlowGenerator", steps=10, batch=32, width=16, report_every=10)


EAGER = (
    "from openmm_cgan.reporters import learner; learner.NICENESS = 0; learner.train_from_stdin()"
)


@pytest.fixture(autouse=True)
def eager_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where tests fill all cores, a worker that lets everybody go first waits for minutes."""
    monkeypatch.setattr("openmm_cgan.reporters.learner.WORKER", EAGER)


@dataclasses.dataclass
class Learning:
    run: Run
    proposals: ProposalReporter
    learner: Learner

    def until_trained(self) -> None:
        """Run until a training has begun, wait for its end, and look."""
        while self.learner._worker is None:
            self.run.simulation.step(10)
        self.learner._worker.wait(PATIENCE)
        self.run.simulation.step(10)


def learning(folder: Path, settings: TrainingSettings = SHORT, first: int = 2000) -> Learning:
    run = make_run(folder)
    proposals = ProposalReporter(folder / "p.csv", 100, run.sampler, run.bias, mode="exact")
    run.simulation.reporters.append(FrameReporter(folder / "frames", 10, run.bias))
    learner = Learner(folder / "made", 10, proposals, folder / "frames", settings, first)
    run.simulation.reporters += [learner, proposals]
    return Learning(run, proposals, learner)


def test_a_failed_training_is_told_and_the_old_generator_stays(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing = "import sys; sys.stdin.buffer.read(); sys.exit('there are 5 frames')"
    monkeypatch.setattr("openmm_cgan.reporters.learner.WORKER", failing)
    made = learning(tmp_path, first=50)
    with caplog.at_level(logging.WARNING, "openmm_cgan"):
        made.until_trained()
    assert (made.learner.replaced, made.learner.failed) == (0, 1)
    assert made.proposals.sampler is made.run.sampler
    told = [record.message for record in caplog.records if "training beside" in record.message]
    assert len(told) == 1
    assert "there are 5 frames" in told[0]
    assert "generator-0001.log" in told[0]


def test_the_run_does_not_wait_and_ends_what_it_has_begun(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "openmm_cgan.reporters.learner.WORKER",
        "import sys, time; sys.stdin.read(); time.sleep(600)",
    )
    made = learning(tmp_path, first=20)
    made.run.simulation.step(500)
    worker = made.learner._worker
    if sys.platform != "win32":  # a Ctrl-C that the script survives does not reach it
        assert os.getpgid(worker.pid) == worker.pid
    assert isinstance(worker, subprocess.Popen)
    assert worker.poll() is None, "still at it, and the run has gone on"
    made.learner.close()
    assert worker.poll() is not None


def test_a_worker_does_not_run_the_users_script_again(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "import pickle, sys, subprocess, types\n"
        "from openmm_cgan.cgan import TrainingSettings\n"
        "open('times', 'a').write('x')\n"
        "from openmm_cgan.reporters import learner\n"
        "learner.WORKER = 'pass'\n"
        "sampler = types.SimpleNamespace(atoms=[0, 1])\n"
        "proposals = types.SimpleNamespace(mode='seed', sampler=sampler)\n"
        "made = learner.Learner('made', 1, proposals, 'frames', TrainingSettings(), 1)\n"
        "made._start(None, 1)\n"
        "made._worker.wait(60)\n"
    )
    root = str(ROOT)
    environment = {**os.environ, "PYTHONPATH": root}
    subprocess.run(
        [sys.executable, str(script)], cwd=tmp_path, check=True, env=environment, timeout=PATIENCE
    )
    assert (tmp_path / "times").read_text() == "x"


def test_a_sampler_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    reporter = propose(run, tmp_path / "p.csv")
    run.simulation.step(20)
    for spoil, message in (
        ({"atoms": np.arange(3)}, "other atoms"),
        ({"has_density": False}, "no known density"),
        ({"constant_others": ["angle 1-2-3"]}, "does not vary angle"),
        ({"constant_bonds": np.array([[0, 1]])}, "holds other bonds"),
        ({"variables": ()}, "trained on the CVs"),
    ):
        other = ChainSampler(CHAIN, run.bias.variables)
        for name, value in spoil.items():
            setattr(other, name, value)
        with pytest.raises(ValueError, match=message):
            reporter.sampler = other
        assert reporter.sampler is run.sampler


def test_a_sampler_with_other_lengths_is_not_taken(tmp_path: Path, caplog) -> None:
    run = make_run(tmp_path, chain=HELD)
    reporter = propose(run, tmp_path / "p.csv")
    run.simulation.step(20)
    longer = dataclasses.replace(HELD, bond=0.16)
    reporter.sampler = ChainSampler(longer, run.bias.variables)
    with caplog.at_level(logging.WARNING, "openmm_cgan"):
        run.simulation.step(20)
    assert "the old one stays" in caplog.text
    assert reporter.sampler is run.sampler


def test_a_generator_without_density_is_refused_before_it_is_trained(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    reporter = propose(run, tmp_path / "p.csv")
    with pytest.raises(ValueError, match="whose density is not known"):
        Learner(tmp_path, 10, reporter, tmp_path, TrainingSettings(), 10)


def test_intervals_that_do_not_grow_are_refused(tmp_path: Path) -> None:
    for wrong in ({"growth": 1.0}, {"first": 0}, {"threads": 0}):
        arguments = {"first": 10, **wrong}
        with pytest.raises(ValueError, match=r"adaptation must diminish|first is 0"):
            Learner(tmp_path, 10, None, tmp_path, SHORT, **arguments)


def test_the_frames_of_the_present_temperature_are_learned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where a saved run goes on: the training under way has those that it began with."""
    showing = "import pickle, sys; print(pickle.load(sys.stdin.buffer).temperature); sys.exit(1)"
    monkeypatch.setattr("openmm_cgan.reporters.learner.WORKER", showing)
    made = learning(tmp_path, first=50)
    made.run.simulation.step(40)
    made.run.simulation.integrator.setTemperature(T + 50)
    made.run.simulation.step(10)
    assert made.learner._worker is not None
    made.learner._worker.wait(PATIENCE)
    assert (tmp_path / "made/generator-0001.log").read_text() == f"{T + 50}\n"
    other = Learner(tmp_path / "made", 10, made.proposals, tmp_path / "frames", SHORT, 50)
    other.restore_saved(made.learner.saved(), made.run.simulation)
    assert other._temperature == T + 50


def require_taken_over(made: Learning, folder: Path) -> None:
    """A generator was trained from the frames so far, and proposes from the next attempt on."""
    assert (made.learner.replaced, made.learner.failed) == (1, 0)
    assert made.learner._due == made.run.simulation.currentStep + 4000
    new = made.proposals.sampler
    assert isinstance(new, ConditionalGAN)
    assert isinstance(made.proposals._move.sampler, ChainSampler), "not within an attempt"
    kept = ConditionalGAN.load(folder / "made/generator-0001.npz", CHAIN.topology())
    cvs = np.array([[1.9]])
    np.testing.assert_array_equal(kept.sample(cvs), new.sample(cvs))
    made.run.simulation.step(200)
    assert made.proposals._move.sampler is new
    assert made.proposals.counts()["accepted"] + made.proposals.counts().get("kept current", 0) > 0


def test_a_trained_generator_takes_over_and_goes_on_with_a_saved_run(tmp_path: Path) -> None:
    """The generator that had taken over proposes again, and what is remembered is its."""
    made = learning(tmp_path)
    made.run.simulation.step(1990)
    time.sleep(1.1)  # frames are on disk a second after they are made
    made.until_trained()
    require_taken_over(made, tmp_path)
    [frames] = [r for r in made.run.simulation.reporters if isinstance(r, FrameReporter)]
    keepers = {"bias": made.run.bias, "frames": frames}
    keepers |= {"learner": made.learner, "proposals": made.proposals}
    save_run(tmp_path / "run.chk", made.run.simulation, keepers)
    remembered = made.proposals.weighed_candidates()
    step, due = made.run.simulation.currentStep, made.learner._due
    frames.close()
    made.run.bias.close()

    system = CHAIN.system()
    bias = PlumedBias(PLAIN, CHAIN.topology(), temperature=T, directory=tmp_path)
    bias.add_to(system)
    integrator = openmm.LangevinMiddleIntegrator(T, 5.0, 0.001)
    platform = openmm.Platform.getPlatformByName("Reference")
    simulation = app.Simulation(CHAIN.topology(), system, integrator, platform)
    sampler = ChainSampler(CHAIN, bias.variables)
    proposals = ProposalReporter(tmp_path / "p.csv", 100, sampler, bias, mode="exact", append=True)
    learner = Learner(tmp_path / "made", 10, proposals, tmp_path / "frames", SHORT, 2000)
    frames = FrameReporter(tmp_path / "frames", 10, bias, append=True)
    keepers = {"bias": bias, "frames": frames, "learner": learner, "proposals": proposals}
    restore_run(tmp_path / "run.chk", simulation, keepers)
    assert simulation.currentStep == step
    assert (learner.replaced, learner.failed, learner._due) == (1, 0, due)
    assert isinstance(proposals.sampler, ConditionalGAN)
    for ours, theirs in zip(proposals.weighed_candidates(), remembered, strict=True):
        assert len(ours) > 0
        np.testing.assert_array_equal(ours, theirs)
    simulation.step(200)
    frames.close()
    (tmp_path / "made/generator-0001.npz").unlink()
    other = Learner(tmp_path / "made", 10, proposals, tmp_path / "frames", SHORT, 2000)
    with pytest.raises(ValueError, match="which the saved run proposed from, is gone"):
        other.check_saved(learner.saved(), simulation, tmp_path / "run.chk")


# a worker that imports nothing: what it makes is there already
STUB = """
import shutil, sys, time
sys.stdin.buffer.read()
time.sleep(0.2)
shutil.copy({0!r} + "/model.npz", {0!r} + "/made/generator-0001.npz")
"""


def test_a_run_with_a_learner_that_was_killed_ends_as_the_one_that_was_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The generator takes over at a step of its own, whenever it is ready."""
    first = make_run(tmp_path / "frames of a model")
    reporter = FrameReporter(tmp_path / "f", 5, first.bias)
    first.simulation.reporters.append(reporter)
    first.simulation.step(1000)
    reporter.close()
    made = ConditionalGAN.fit(tmp_path / "f", CHAIN.topology(), SHORT)

    def run(folder: Path, steps: int) -> tuple[np.ndarray, ProposalReporter]:
        goes_on = (folder / "run.chk").exists()
        folder.mkdir(exist_ok=True)
        made.save(folder / "model.npz")
        stub = STUB.format(str(folder))
        monkeypatch.setattr("openmm_cgan.reporters.learner.WORKER", stub)
        system = CHAIN.system()
        bias = PlumedBias(PLAIN, CHAIN.topology(), temperature=T, directory=folder)
        bias.add_to(system)
        integrator = openmm.LangevinMiddleIntegrator(T, 5.0, 0.001)
        integrator.setRandomNumberSeed(3)
        platform = openmm.Platform.getPlatformByName("Reference")
        simulation = app.Simulation(CHAIN.topology(), system, integrator, platform)
        simulation.context.setPositions(CHAIN.sample(1, T, seed=1)[0])
        simulation.context.setVelocitiesToTemperature(T, 12)
        sampler = ChainSampler(CHAIN, bias.variables)
        proposals = ProposalReporter(folder / "p.csv", 20, sampler, bias, "uniform", "exact", True)
        frames = FrameReporter(folder / "frames", 10, bias, append=True)
        learner = Learner(
            folder / "made", 20, proposals, folder / "frames", SHORT, 60, takes_over_after=70
        )
        keepers = {"bias": bias, "frames": frames, "learner": learner, "proposals": proposals}
        if goes_on:
            restore_run(folder / "run.chk", simulation, keepers)
        else:
            bias.attach(simulation)
            simulation.reporters += [frames, learner, proposals]
        simulation.step(steps - simulation.currentStep)
        if not goes_on:
            save_run(folder / "run.chk", simulation, keepers)
        learner.close()
        frames.close()
        bias.close()
        state = simulation.context.getState(positions=True)
        return state.getPositions(asNumpy=True)._value, proposals

    whole, proposals = run(tmp_path / "whole", 240)
    assert isinstance(proposals.sampler, ConditionalGAN)
    run(tmp_path / "cut", 90)  # begun at 60, to take over at 140
    cut, _ = run(tmp_path / "cut", 240)
    np.testing.assert_array_equal(cut, whole)
    tables = [(tmp_path / name / "p.csv").read_bytes() for name in ("whole", "cut")]
    assert tables[0] == tables[1]
