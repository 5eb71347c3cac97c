"""Windows as tasks of Slurm's job arrays; the nodes need nothing but this package.

All that passes between this process and the tasks are files in the folder of the windows: a job
script with a list of windows, and the records that the tasks keep in the windows themselves.  Which
tasks live, ``squeue`` says.  So the process that has submitted may end: the tasks go on, and who
comes later (``openmm-cgan windows --collect``) finds them by the names of their jobs.

A task that was preempted or lost its node is put back into the queue by Slurm (--requeue), and goes
on from its checkpoint.  Before its walltime ends it is sent SIGTERM, and saves its window.
"""

from __future__ import annotations

import getpass
import hashlib
import logging
import shlex
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import BrokenExecutor, Executor, Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from openmm_cgan.atomic_files import write_atomically
from openmm_cgan.json_files import read_json, write_json
from openmm_cgan.windows.cluster import Cluster
from openmm_cgan.windows.run_files import is_finished, read_record
from openmm_cgan.windows.worker import run_window

logger = logging.getLogger("openmm_cgan")

FOLDER = "slurm"  # in that of the windows
POLL = 10.0  # s between two looks at the queue
GATHER = 0.2  # s in which nothing more is submitted: what came becomes one array
LARGEST_ARRAY = 1000  # tasks; Slurm's MaxArraySize is 1001 unless a site says otherwise
SUBMISSIONS = 30  # tries, one each POLL, where sbatch refuses: a queue may be full
ABSENCES = 2  # looks at the queue, one after another, without a task that has left no result
PATIENCE = 120.0  # s in which a command of Slurm has to answer
SILENCE = 24 * 3600.0  # s that squeue may fail, once it has answered: a cluster is mended
GRACE = 120  # s before the end of the walltime


@dataclass
class _Task:
    """A window that was given to the array; `attempts` are those before it."""

    future: Future[Any]
    window: Path
    machine: tuple[str | None, int | None]
    attempts: int = 0
    place: tuple[str, int] | None = None  # name of its job, index in the array
    absences: int = 0


class SlurmArray(Executor):
    """An executor of `run_window` alone, whose jobs are tasks of job arrays.

    Parameters
    ----------
    cluster : Cluster
    root : Path
        The folder of the windows, which all nodes must see.
    poll : float, optional
        Seconds between two looks at the queue, by default `POLL`.

    Raises
    ------
    FileNotFoundError
        If there is no sbatch or squeue.
    """

    def __init__(self, cluster: Cluster, root: Path, poll: float | None = None) -> None:
        _require_slurm()
        self._cluster, self._root = cluster, root.resolve()
        self._poll = POLL if poll is None else poll
        self._new: list[_Task] = []
        self._tasks: list[_Task] = []
        self._refused = 0
        self._broken: Exception | None = None
        self._lock, self._ends = threading.Lock(), threading.Event()
        self._thread: threading.Thread | None = None

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Have a task run a window; those that come together become one array."""
        if fn is not run_window or kwargs:
            raise ValueError("tasks of an array run windows (run_window), nothing else")
        folder, platform, threads = args
        record = read_record(Path(folder))
        task = _Task(Future(), Path(folder), (platform, threads), record["attempts"])
        task.future.set_running_or_notify_cancel()
        with self._lock:
            if self._broken is not None:  # nobody would look at it
                raise BrokenExecutor(f"{type(self._broken).__name__}: {self._broken}")
            self._new.append(task)
            if self._thread is None:
                self._thread = threading.Thread(target=self._watch, daemon=True, name="squeue")
                self._thread.start()
        return task.future

    def stop(self) -> None:
        """Look no more; tasks that were submitted go on without this process."""
        self._ends.set()

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Look no more; tasks that were submitted go on without this process."""
        self._ends.set()
        if wait and self._thread is not None:
            self._thread.join()

    def _watch(self) -> None:
        seen = 0
        while not self._ends.wait(GATHER) and len(self._new) > seen:
            seen = len(self._new)
        heard: float | None = None
        try:
            while not self._ends.is_set():
                if (alive := living()) is not None:
                    heard = time.monotonic()
                    self._look(alive)
                elif heard is None or time.monotonic() > heard + SILENCE:
                    raise RuntimeError("squeue does not say what is in the queue: try again later")
                self._ends.wait(self._poll)
        except Exception as error:  # a full disk: who waits for a result has to hear of it
            with self._lock:
                self._broken = error
                left = [task for task in self._tasks + self._new if not task.future.done()]
            for task in left:
                task.future.set_exception(error)

    def _look(self, alive: set[tuple[str, int]]) -> None:
        """Take what the tasks have left, and submit what has no place yet."""
        self._tasks = [task for task in self._tasks if not _has_ended(task, alive)]
        with self._lock:
            self._tasks += self._new
            self._new = []
        _adopt(self._tasks, self._root, alive)
        self._tasks = [task for task in self._tasks if not _was_ended(task)]
        error = _submit(self._cluster, self._root, _without_place(self._tasks))
        left = _without_place(self._tasks)
        self._refused = self._refused + 1 if error else 0
        if error and self._refused < SUBMISSIONS:  # a queue may be full
            logger.warning("sbatch refused %d windows (%s): again later", len(left), error)
        elif error:
            self._tasks = [task for task in self._tasks if task.place is not None]
            for task in left:
                task.future.set_exception(RuntimeError(f"sbatch: {error}"))


def _without_place(tasks: Iterable[_Task]) -> list[_Task]:
    return [task for task in tasks if task.place is None]


def _adopt(tasks: Iterable[_Task], root: Path, alive: set[tuple[str, int]]) -> None:
    """Find the places of windows that tasks of an earlier process have, or are to have."""
    if not (left := _without_place(tasks)):
        return
    places: dict[Path, tuple[tuple[str, int], int]] = {}
    for path in sorted((root / FOLDER).glob("*.json")):
        for index, (name, attempts) in enumerate(listed(path)):
            if (path.stem, index) in alive:
                places[root / name] = (path.stem, index), attempts
    for task in left:
        if task.window in places:
            task.place, task.attempts = places[task.window]
            logger.info("%s is in the queue already", task.window)


def _was_ended(task: _Task) -> bool:
    """Whether a window without a place is done: a task of an earlier process left the queue."""
    if task.place is not None or not is_finished(record := read_record(task.window)):
        return False
    task.future.set_result(record)
    return True


def _has_ended(task: _Task, alive: set[tuple[str, int]]) -> bool:
    """Whether a task is no more; its future then has what it left."""
    if task.place is None or task.place in alive:
        task.absences = 0
        return False
    try:
        record = read_record(task.window)
    except (OSError, ValueError) as error:  # a file server may be late
        record = {"status": f"unknown ({error})", "attempts": 0, "step": 0}
    if is_finished(record) or (record["status"] == "failed" and record["attempts"] > task.attempts):
        task.future.set_result(record)
        return True
    task.absences += 1
    if task.absences < ABSENCES:  # its last file may not have come here yet
        return False
    job, index = task.place
    task.future.set_exception(RuntimeError(
        f"task {index} of {job} ended before its window did, which is {record['status']} "
        f"at step {record['step']:,}; see "
        f"{task.window.parent / FOLDER / job}-{index}.out"
    ))  # fmt: skip
    return True


def submit_windows(
    cluster: Cluster,
    root: Path,
    folders: Sequence[str | Path],
    machine: tuple[str | None, int | None],
) -> int:
    """Submit windows, and come back; those that are done or in the queue are passed over.

    Parameters
    ----------
    cluster : Cluster
    root : Path
        The folder of the windows, which all nodes must see.
    folders : sequence of str or Path
        Of windows that are prepared.
    machine : tuple
        Platform, None for what OpenMM chooses, and threads.

    Returns
    -------
    int
        How many were submitted.

    Raises
    ------
    FileNotFoundError
        If there is no sbatch or squeue.
    RuntimeError
        If Slurm refuses them.
    """
    _require_slurm()
    root, alive = root.resolve(), living()
    if alive is None:
        raise RuntimeError("squeue does not say what is in the queue: try again later")
    tasks = []
    for folder in map(Path, folders):
        record = read_record(folder)
        if not is_finished(record):
            tasks.append(_Task(Future(), folder.resolve(), machine, record["attempts"]))
    _adopt(tasks, root, alive)
    left = _without_place(tasks)
    if error := _submit(cluster, root, left):
        raise RuntimeError(f"sbatch: {error}")
    return len(left)


def _require_slurm() -> None:
    for command in ("sbatch", "squeue"):
        if shutil.which(command) is None:
            raise FileNotFoundError(
                f"there is no {command} here: slurm-array is for a login node of a cluster "
                "that runs Slurm; elsewhere take the executor local or parsl"
            )


def _submit(cluster: Cluster, root: Path, tasks: Sequence[_Task]) -> str:
    """Submit arrays of tasks; why one was refused, or nothing."""
    for begin in range(0, len(tasks), LARGEST_ARRAY):
        some = tasks[begin : begin + LARGEST_ARRAY]
        windows = {task.window: task.attempts for task in some}
        job = write_job(cluster, root, windows, some[0].machine)
        if error := submit_job(job):
            return error
        for index, task in enumerate(some):
            task.place = job.stem, index
    return ""


def write_job(
    cluster: Cluster,
    root: Path,
    windows: dict[Path, int],
    machine: tuple[str | None, int | None],
) -> Path:
    """Write a job script and the list of its windows.

    Parameters
    ----------
    cluster : Cluster
    root : Path
        The folder of the windows.
    windows : dict of Path to int
        Folders of the windows, and how often each was begun before.
    machine : tuple
        Platform, None for what OpenMM chooses, and threads.

    Returns
    -------
    Path
        The script; the list has the same name and ends in .json.
    """
    folder = root / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    who = hashlib.sha256(str(root).encode()).hexdigest()[:8]  # of which folder, in the queue
    number = 1 + max((int(p.stem[-4:]) for p in folder.glob("cgan-*.json")), default=-1)
    script = folder / f"cgan-{who}-{number:04d}.sh"
    rows = [[str(window.relative_to(root)), attempts] for window, attempts in windows.items()]
    write_json(script.with_suffix(".json"), {"windows": rows, "machine": list(machine)})
    write_atomically(script, job_script(cluster, script, len(rows)))
    return script


def listed(path: Path) -> list[tuple[str, int]]:
    """The windows of a job, and how often each was begun before it.

    Raises
    ------
    ValueError
        If the list is damaged.
    """
    try:
        return [(str(name), int(attempts)) for name, attempts in read_json(path)["windows"]]
    except (LookupError, TypeError, ValueError) as error:
        raise ValueError(f"{path} lists no windows, or is damaged: {error!r}") from None


def job_script(cluster: Cluster, script: Path, number: int) -> str:
    """The text of a job script for so many windows, listed beside it.

    Its last command is exec'd: SIGTERM then comes to the process that can save the window.
    """
    grace = min(GRACE, cluster.seconds // 10)
    options = {
        "job-name": script.stem,
        "array": f"0-{number - 1}%{cluster.max_blocks}",
        "time": cluster.walltime,
        "ntasks": 1,
        "cpus-per-task": cluster.cpus,
        "gres": "gpu:1" if cluster.gpus_per_node else None,
        "partition": cluster.partition,
        "account": cluster.account,
        "signal": f"B:TERM@{grace}",
        "open-mode": "append",
        "output": f"{script.with_suffix('')}-%a.out",
    }
    listed = shlex.quote(str(script.with_suffix(".json")))
    python = "python" if cluster.worker_init else shlex.quote(sys.executable)
    return "\n".join([
        "#!/bin/bash",
        *(f"#SBATCH --{name}={value}" for name, value in options.items() if value is not None),
        "#SBATCH --requeue",
        *cluster.scheduler_options.splitlines(),
        *cluster.worker_init.splitlines(),
        f"export OMP_NUM_THREADS={cluster.cpus}",
        f"exec {python} -m openmm_cgan.windows.array_task {listed} \"$SLURM_ARRAY_TASK_ID\"",
        "",
    ])  # fmt: skip


def submit_job(script: Path) -> str:
    """Submit a job script; what sbatch says against it, or nothing."""
    done = _told(["sbatch", "--parsable", str(script)])
    if done.returncode == 0:
        logger.info("%s is job %s", script, done.stdout.strip())
        return ""
    script.with_suffix(".json").unlink()  # nobody is to look for it in the queue
    return done.stderr.strip() or f"exit code {done.returncode}"


def _told(words: list[str]) -> subprocess.CompletedProcess[str]:
    """What a command of Slurm says; one that hangs, as where slurmctld is down, has failed."""
    try:
        return subprocess.run(
            words, capture_output=True, text=True, check=False, timeout=PATIENCE,
            stdin=subprocess.DEVNULL,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return subprocess.CompletedProcess(words, 1, "", f"no answer in {PATIENCE:.0f} s")


def living() -> set[tuple[str, int]] | None:
    """Tasks of the user's arrays that wait or run, by job name and index; None if none can say."""
    words = ["squeue", "--noheader", "--array", "--format=%i|%j", f"--user={getpass.getuser()}"]
    done = _told(words)
    if done.returncode != 0:
        logger.warning("squeue: %s", done.stderr.strip() or f"exit code {done.returncode}")
        return None
    found = set()
    for line in done.stdout.splitlines():
        number, _, name = line.strip().partition("|")
        index = number.partition("_")[2]
        if index.isdigit():
            found.add((name, int(index)))
    return found
