"""Windows on workers that die: none is lost, none is run twice, and the frames are the same."""

import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import BrokenExecutor, Executor, Future
from dataclasses import fields
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from openmm_cgan.cli.molecules import runs_in
from openmm_cgan.frames import read_frames
from openmm_cgan.testsystems import Molecule, alanine_dipeptide
from openmm_cgan.windows import (
    Cluster,
    Window,
    WindowSettings,
    executor_of,
    run_prepared,
    run_window,
    run_windows,
    slurm_array,
    umbrella_windows,
)
from openmm_cgan.windows.local_workers import LocalWorkers
from openmm_cgan.windows.run_files import read_record
from openmm_cgan.windows.runs import folders_of, prepare_windows
from openmm_cgan.windows.slurm_array import SlurmArray, job_script, submit_windows
from openmm_cgan.windows.worker import WindowTakenError
from tests.cases import ROOT
from tests.cases.other_processes import (
    PATIENCE,
    loopback_answers,
    never_ending,
    next_line,
)

TEMPLATE = """
phi: TORSION ATOMS=5,7,9,15
RESTRAINT ARG=phi AT=${phi} KAPPA=100.0
PRINT ARG=phi STRIDE=100 FILE=COLVAR
"""
SHORT = WindowSettings(300.0, steps=400, settle_steps=100, report_interval=10,
                       checkpoint_interval=100, seed=5)  # fmt: skip
ARRAY = Cluster("slurm-array", max_blocks=3)


@pytest.fixture(scope="module")
def alanine() -> Molecule:
    return alanine_dipeptide("C7eq")


def some_windows(molecule: Molecule, folder: Path, number: int = 3) -> list[Window]:
    starts = np.repeat(molecule.positions[None], number, axis=0)
    centres = np.linspace(-1.5, -1.2, number)[:, None]
    return umbrella_windows(TEMPLATE, centres, starts, SHORT, folder, "given")


def prepared(molecule: Molecule, folder: Path, number: int = 3) -> list[Path]:
    windows = some_windows(molecule, folder, number)
    prepare_windows(windows, molecule.system, molecule.topology)
    return folders_of(folder)


@pytest.fixture(scope="module")
def alone(alanine: Molecule, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The same windows, run here one after the other."""
    folder = tmp_path_factory.mktemp("alone")
    results = run_windows(
        some_windows(alanine, folder), alanine.system, alanine.topology, platform="Reference"
    )
    return [result.folder for result in results]


def require_equal(folders: list[Path], alone: list[Path]) -> None:
    """Frames and printed values to the last bit, and each step once."""
    for one, other in zip(folders, alone, strict=True):
        ours, theirs = (read_frames(f / "frames", settling=True) for f in (one, other))
        assert ours.step.tolist() == list(range(10, 401, 10))
        for name in ("positions", "cvs", "bias", "step", "settling", "segment"):
            np.testing.assert_array_equal(getattr(ours, name), getattr(theirs, name))
        assert (one / "COLVAR").read_bytes() == (other / "COLVAR").read_bytes()


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A Slurm whose nodes are processes here."""
    folder = tmp_path / "slurm"
    folder.mkdir()
    commands = ROOT / "tests" / "cases" / "fake_slurm"
    monkeypatch.setenv("PATH", f"{commands}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("FAKE_SLURM", str(folder))
    monkeypatch.setattr(slurm_array, "POLL", 0.05)
    yield folder
    until = time.monotonic() + PATIENCE
    while any(folder.glob("[0-9]*_[0-9]*")) and time.monotonic() < until:
        time.sleep(0.05)


def submissions(slurm: Path) -> int:
    return len(list(slurm.glob("submitted-*")))


def test_tasks_of_an_array_that_are_killed_end_as_the_serial_run(
    alanine: Molecule, alone: list[Path], slurm: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """A third of all attempts die; a full queue refuses the first array."""
    for name, value in {"KILL": 0.34, "SECONDS": 0.2, "SEED": 3, "REFUSE": 1}.items():
        monkeypatch.setenv(f"FAKE_SLURM_{name}", str(value))
    folders = prepared(alanine, tmp_path / "windows")
    with SlurmArray(ARRAY, tmp_path / "windows", poll=0.05) as array:
        results = run_prepared(folders, folders[0].parent, array, platform="Reference")
    assert [result.status for result in results] == ["finished"] * 3
    kills = len((slurm / "kills").read_text().split())
    assert kills > 0
    assert sum(read_record(folder)["attempts"] for folder in folders) <= 3 + kills
    require_equal(folders, alone)
    begun = submissions(slurm)
    assert submit_windows(ARRAY, folders[0].parent, folders, ("Reference", 1)) == 0
    assert submissions(slurm) == begun


def test_who_comes_later_finds_the_tasks_in_the_queue(
    alanine: Molecule, alone: list[Path], slurm: Path, tmp_path: Path
) -> None:
    folders = prepared(alanine, tmp_path / "windows")[:1]
    root = folders[0].parent
    assert submit_windows(ARRAY, root, folders, ("Reference", 1)) == 1
    assert submit_windows(ARRAY, root, folders, ("Reference", 1)) == 0
    with SlurmArray(ARRAY, root, poll=0.05) as array:
        results = run_prepared(folders, root, array, platform="Reference")
    assert [result.status for result in results] == ["finished"]
    assert submissions(slurm) == 1
    assert read_record(folders[0])["attempts"] == 1
    require_equal(folders, alone[:1])


def test_a_window_whose_task_has_left_the_queue_is_not_submitted_again(
    alanine: Molecule, slurm: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was in the queue when it was handed over, and ends before the queue is asked."""
    [folder] = prepared(alanine, tmp_path / "windows", 1)

    def asked_late() -> set[tuple[str, int]]:
        run_window(str(folder), "Reference", 1)
        return set()

    monkeypatch.setattr(slurm_array, "living", asked_late)
    with SlurmArray(ARRAY, folder.parent, poll=0.05) as array:
        found = array.submit(run_window, str(folder), "Reference", 1).result(PATIENCE)
    assert found["status"] == "finished"
    assert submissions(slurm) == 0


def test_a_window_that_always_loses_its_worker_is_given_up(
    alanine: Molecule, slurm: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_SLURM_KILL", "1")
    monkeypatch.setenv("FAKE_SLURM_SECONDS", "0")
    folders = prepared(alanine, tmp_path / "windows", 1)
    with SlurmArray(ARRAY, folders[0].parent, poll=0.05) as array:
        [result] = run_prepared(
            folders, folders[0].parent, array, platform="Reference", max_losses=0
        )
    assert result.status == "failed"
    assert "ended before its window did" in result.error
    assert read_record(folders[0])["attempts"] == 1


def test_the_job_script_says_what_was_asked_for(tmp_path: Path) -> None:
    cluster = Cluster(
        "slurm-array", partition="gpu", account="chem", walltime="12:00:00", gpus_per_node=4,
        cpus=2, max_blocks=20, worker_init="module load cuda\nsource env/bin/activate",
        scheduler_options="#SBATCH --qos=long",
    )  # fmt: skip
    lines = job_script(cluster, tmp_path / "a folder" / "cgan.sh", 50).splitlines()
    for line in (
        "--array=0-49%20", "--time=12:00:00", "--partition=gpu", "--account=chem", "--gres=gpu:1",
        "--cpus-per-task=2", "--signal=B:TERM@120", "--requeue", "--qos=long",
    ):  # fmt: skip
        assert f"#SBATCH {line}" in lines
    assert lines[-3:-1] == ["source env/bin/activate", "export OMP_NUM_THREADS=2"]
    assert lines[-1].startswith("exec python -m openmm_cgan.windows.array_task '")
    last = max(i for i, line in enumerate(lines) if line.startswith("#SBATCH"))
    assert not any(line and not line.startswith("#") for line in lines[:last])


def test_slurm_is_told_to_be_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with (
        pytest.raises(FileNotFoundError, match=r"no sbatch here: .* local or parsl"),
        executor_of(ARRAY, tmp_path),
    ):
        pass


def test_a_full_disk_is_heard_of(
    alanine: Molecule, slurm: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr(slurm_array, "write_job", full)
    [folder] = prepared(alanine, tmp_path / "windows", 1)
    with SlurmArray(ARRAY, folder.parent, poll=0.05) as array:
        future = array.submit(run_window, str(folder), None, 1)
        with pytest.raises(OSError, match="No space left"):
            future.result(PATIENCE)
        with pytest.raises(BrokenExecutor, match="No space left"):
            array.submit(run_window, str(folder), None, 1)
        with pytest.raises(ValueError, match="nothing else"):
            array.submit(print, "anything")


def test_a_local_worker_that_dies_takes_no_other_with_it() -> None:
    with LocalWorkers(2, devices=["3", "5"]) as workers:
        futures = [workers.submit(os._exit, 9)]
        futures += [workers.submit(os.getenv, "CUDA_VISIBLE_DEVICES") for _ in range(4)]
        assert isinstance(futures[0].exception(PATIENCE), BrokenExecutor)
        assert {future.result(PATIENCE) for future in futures[1:]} <= {"3", "5"}
    assert "CUDA_VISIBLE_DEVICES" not in os.environ
    with pytest.raises(RuntimeError, match="shut down"):
        workers.submit(os.getpid)


def test_each_local_worker_sees_a_device_of_its_own_for_all_its_life() -> None:
    with LocalWorkers(devices=["3", "5"]) as workers:
        sleeping = [workers.submit(time.sleep, 0.5) for _ in range(2)]
        for future in sleeping:
            future.result(PATIENCE)
        asked = [workers.submit(os.getenv, "CUDA_VISIBLE_DEVICES") for _ in range(20)]
        assert {future.result(PATIENCE) for future in asked} <= {"3", "5"}
        assert len(workers._workers) == 2


def test_a_local_worker_that_does_not_end_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("openmm_cgan.windows.local_workers.PATIENCE", 0.2)
    with LocalWorkers(1) as workers:
        number = workers.submit(never_ending).result(PATIENCE)
        [pool] = [worker._pool for worker in workers._workers]
        [process] = pool._processes.values()
        assert process.pid == number
    until = time.monotonic() + PATIENCE
    while process.exitcode is None and time.monotonic() < until:  # a thread of the pool reaps it
        time.sleep(0.01)
    assert process.exitcode == -signal.SIGKILL


def test_a_slurm_that_does_not_answer_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for command in ("squeue", "sbatch"):
        (tmp_path / command).write_text(f"#!{sys.executable}\nimport time\ntime.sleep(600)\n")
        (tmp_path / command).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr(slurm_array, "PATIENCE", 0.2)
    assert slurm_array.living() is None
    (tmp_path / "job.json").touch()
    assert "no answer" in slurm_array.submit_job(tmp_path / "job.sh")
    assert not (tmp_path / "job.json").exists()


def test_who_waits_for_an_array_that_breaks_hears_of_it_beside_what_has_ended(
    alanine: Molecule, slurm: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A look at the queue gives a result, and fails before it has put the task aside."""

    def breaking(task: Any, alive: Any) -> bool:
        if task.window.name.endswith("0"):
            task.future.set_result({})
            return True
        raise OSError("stale file handle")

    monkeypatch.setattr(slurm_array, "_has_ended", breaking)
    monkeypatch.setattr(slurm_array, "living", set)
    monkeypatch.setattr(slurm_array, "_submit", lambda *_: "")
    folders = prepared(alanine, tmp_path / "windows", 2)
    with SlurmArray(ARRAY, folders[0].parent, poll=0.05) as array:
        futures = [array.submit(run_window, str(folder), None, 1) for folder in folders]
        assert futures[0].result(PATIENCE) == {}
        with pytest.raises(OSError, match="stale"):
            futures[1].result(PATIENCE)


@pytest.mark.parametrize("answers", [0, 2])
def test_a_queue_that_says_nothing_is_not_waited_for(
    answers: int, alanine: Molecule, slurm: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the beginning, or for longer than a cluster is mended."""
    said: list[set | None] = [set()] * answers
    monkeypatch.setattr(slurm_array, "living", lambda: said.pop() if said else None)
    monkeypatch.setattr(slurm_array, "_submit", lambda *_: "")
    monkeypatch.setattr(slurm_array, "SILENCE", 0.1)
    [folder] = prepared(alanine, tmp_path / "windows", 1)
    with SlurmArray(ARRAY, folder.parent, poll=0.05) as array:
        future = array.submit(run_window, str(folder), None, 1)
        with pytest.raises(RuntimeError, match="squeue does not say"):
            future.result(PATIENCE)
    assert not said


TAKES = """
import fcntl, sys
file = open(sys.argv[1], "r+")
fcntl.flock(file, fcntl.LOCK_EX)
print("taken", flush=True)
sys.stdin.read()
"""


def test_a_window_that_another_process_runs_is_left_to_it(
    alanine: Molecule, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after a node that was given up and lives: its record stays its own."""
    monkeypatch.setattr("openmm_cgan.claims.PATIENCE", 0.1)
    [folder] = prepared(alanine, tmp_path, 1)
    before = (folder / "window.json").read_bytes()
    lock = folder / "window.lock"
    lock.touch()
    other = subprocess.Popen(
        [sys.executable, "-c", TAKES, lock], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert next_line(other) == b"taken\n"
    with pytest.raises(WindowTakenError, match="another process"):
        run_window(str(folder), "Reference")
    [result] = run_prepared([folder], tmp_path, platform="Reference")
    assert (result.status, "another process" in result.error) == ("failed", True)
    assert (folder / "window.json").read_bytes() == before
    other.communicate(timeout=PATIENCE)
    [result] = run_prepared([folder], tmp_path, platform="Reference")
    assert result.status == "finished"


class Losing(Executor):
    """Loses its worker at each call, after some steps or none."""

    def __init__(self, steps: list[int]) -> None:
        self.steps, self.calls = steps, 0

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future:
        path = Path(args[0]) / "window.json"
        record = json.loads(path.read_text())
        record["step"] += self.steps[self.calls] if self.calls < len(self.steps) else 0
        path.write_text(json.dumps(record))
        self.calls += 1
        future: Future = Future()
        future.set_exception(RuntimeError("ManagerLost"))
        return future


def test_losses_count_only_where_a_window_came_no_further(
    alanine: Molecule, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    [folder] = prepared(alanine, tmp_path, 1)
    losing = Losing([0, 10, 0, 10, 10])
    with caplog.at_level(logging.CRITICAL, "openmm_cgan"):
        [result] = run_prepared([folder], tmp_path, losing, platform="Reference", max_losses=2)
    assert result.status == "failed"
    assert "ManagerLost" in result.error
    assert losing.calls == 7  # two of them after the last step


def test_windows_are_judged_on_as_runs_are(alanine: Molecule, tmp_path: Path) -> None:
    folders = prepared(alanine, tmp_path / "windows")
    for asked in ([tmp_path / "windows"], folders):
        molecule, found = runs_in(asked)
        assert found == folders
        assert molecule.system.getNumParticles() == 22
        np.testing.assert_array_equal(molecule.positions, alanine.positions)
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match="give the folder of a run"):
        runs_in([tmp_path / "empty"])


def test_windows_that_have_ended_are_given_to_no_worker(
    alone: list[Path], slurm: Path, tmp_path: Path
) -> None:
    """Their tasks would wait in a queue to be told so."""
    with SlurmArray(ARRAY, alone[0].parent, poll=0.05) as array:
        results = run_prepared(alone, alone[0].parent, array, platform="Reference")
    assert [result.status for result in results] == ["finished"] * 3
    assert submissions(slurm) == 0


class Telling(Executor):
    """Says what platform its workers are told."""

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future:
        future: Future = Future()
        future.set_exception(RuntimeError(f"told {args[1]}"))
        return future


def test_platforms_of_other_machines_are_known_by_name(alanine: Molecule, tmp_path: Path) -> None:
    """Who submits may have no GPU."""
    [folder] = prepared(alanine, tmp_path, 1)
    for named, told in (("cuda", "CUDA"), ("reference", "Reference"), ("any", "None")):
        [result] = run_prepared([folder], tmp_path, Telling(), platform=named, max_losses=0)
        assert f"told {told}" in result.error


@pytest.mark.parametrize("executor", [None, Telling()], ids=["here", "elsewhere"])
def test_a_platform_that_nobody_has_is_refused_before_anything_is_written(
    executor: Executor | None, alanine: Molecule, tmp_path: Path
) -> None:
    windows = some_windows(alanine, tmp_path / "windows", 1)
    with pytest.raises(ValueError, match="platform 'cudda': OpenMM has none of that name"):
        run_windows(windows, alanine.system, alanine.topology, executor, platform="cudda")
    assert not (tmp_path / "windows").exists()


def kill_the_worker_of(folder: Path, killed: list[int]) -> None:
    """SIGKILL for the process that runs a window, once it has begun."""
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        record = read_record(folder)
        if record["status"] == "running":
            killed.append(int(record["worker"].partition(":")[2]))
            os.kill(killed[0], signal.SIGKILL)
            return
        time.sleep(0.01)


needs_parsl = pytest.mark.skipif(find_spec("parsl") is None, reason="needs Parsl")


@needs_parsl
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")
def test_parsl_that_does_not_start_leaves_no_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])

    class Unreachable:
        def __init__(self, config: Any) -> None:
            config.executors[0].interchange_proc = begun
            raise OSError("Interchange failed to start")

    monkeypatch.setattr("parsl.DataFlowKernel", Unreachable)
    with (
        pytest.raises(RuntimeError, match=r"Parsl did not start \(Interchange failed"),
        executor_of(Cluster("parsl", scheduler="local", workers=1), tmp_path),
    ):
        pass
    assert begun.poll() is not None


@needs_parsl
@pytest.mark.skipif(not loopback_answers(), reason="no process here reaches 127.0.0.1")
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")
def test_parsl_runs_a_window_again_whose_worker_died(
    alanine: Molecule, alone: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folders, killed = prepared(alanine, tmp_path), []
    killer = threading.Thread(target=kill_the_worker_of, args=(folders[0], killed))
    killer.start()
    with executor_of(Cluster("parsl", scheduler="local", workers=1), tmp_path) as workers:
        handlers = logging.getLogger("parsl").handlers
        [told] = [handler for handler in handlers if isinstance(handler, logging.FileHandler)]
        results = run_prepared(folders, tmp_path, workers, platform="Reference")
    killer.join(PATIENCE)
    assert told not in handlers
    assert told.stream is None or told.stream.closed  # collected as garbage it would complain
    assert "Starting DataFlowKernel" in (tmp_path / "parsl" / "parsl.log").read_text()
    assert len(killed) == 1
    assert [result.status for result in results] == ["finished"] * 3
    assert [read_record(folder)["attempts"] for folder in folders] == [2, 1, 1]
    require_equal(folders, alone)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"executor": "cloud"}, "executor is 'cloud', expected one of local, parsl, slurm-array"),
        ({"scheduler": "sge"}, "scheduler is 'sge'"),
        ({"walltime": "1h"}, "walltime is '1h', expected H:MM:SS"),
        ({"walltime": "0:00:00"}, "walltime"),
        ({"max_blocks": 0}, "max_blocks is 0, expected 1 or more"),
        ({"executor": "parsl", "workers": 0}, "workers is 0, which the executor parsl"),
    ],
)
def test_a_cluster_that_makes_no_sense_is_refused(wrong: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Cluster(**wrong)
    assert {f.name for f in fields(Cluster)} >= set(wrong)
