"""Windows on workers of which a third are killed at random: is all done, none twice, and the same?

Umbrella windows of alanine dipeptide on the Reference platform, once one after the other in one
process and then on each executor, where every attempt is killed (SIGKILL) with a chance of a third,
at a random moment of the time that a whole window takes. Counted: windows that finished; attempts;
windows that a worker would begin after their end (none may be); windows whose frames and printed
values are not those of the serial run, bit for bit.

    python benchmarks/cluster.py [--windows N] [--steps N] [--executor NAME ...] [--json FILE]

Of those that are named:

* local: processes; parsl: its HighThroughputExecutor with local blocks, where it is installed;
* slurm-stand-in: job arrays of the tests' stand-in (tests/cases/fake_slurm), whose nodes are
  processes here;
* slurm, parsl-slurm: job arrays and Parsl's jobs of a real Slurm of one node, which slurm_here.py
  starts where it is installed;
* slurm-node: no worker is killed but the whole node of that Slurm, once, which then comes back;
* slurm-walltime: a window that takes longer than the minute that each of its tasks may.

``make test-cluster`` runs the last four.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))
from kill_resume import contents, differences
from provenance import in_words, provenance
from slurm_here import Slurm, missing, slurm_here

from openmm_cgan.testsystems import alanine_dipeptide
from openmm_cgan.windows import (
    Cluster,
    WindowSettings,
    executor_of,
    run_prepared,
    slurm_array,
    umbrella_windows,
)
from openmm_cgan.windows.run_files import read_record
from openmm_cgan.windows.runs import folders_of, prepare_windows

ROOT = Path(__file__).parents[1]
FAKE_SLURM = ROOT / "tests" / "cases" / "fake_slurm"
TEMPLATE = """
phi: TORSION ATOMS=5,7,9,15
psi: TORSION ATOMS=7,9,15,17
RESTRAINT ARG=phi,psi AT=${phi},${psi} KAPPA=200,20
PRINT ARG=phi,psi STRIDE=100 FILE=COLVAR
"""
KILLED = 1 / 3  # of all attempts
POLL = 0.1  # s: a killer that looks without rest would take the time of those who work
POLLS = {"slurm-stand-in": 0.2, "slurm": 1.0}  # s between two looks at the queue


@dataclass(frozen=True)
class Case:
    """Workers, and what befalls them; windows and steps where not those that were asked for."""

    cluster: Cluster
    slurm: str = ""  # key of POLLS
    trouble: str = "kills"
    windows: int | None = None
    steps: int | None = None


CASES = {
    "local": Case(Cluster("local", workers=4)),
    "slurm-stand-in": Case(Cluster("slurm-array"), "slurm-stand-in"),
    "parsl": Case(Cluster("parsl", scheduler="local", workers=4)),
    "slurm": Case(Cluster("slurm-array"), "slurm"),
    "parsl-slurm": Case(Cluster("parsl", scheduler="slurm", workers=4, max_blocks=1), "slurm"),
    "slurm-node": Case(Cluster("slurm-array"), "slurm", "node", windows=8),
    "slurm-walltime": Case(
        Cluster("slurm-array", walltime="0:01:00"), "slurm", "walltime", windows=1, steps=200_000
    ),
}
EVERYWHERE = ["local", "slurm-stand-in", "parsl"]


def prepare(folder: Path, number: int, steps: int) -> list[Path]:
    """Folders of windows along phi from -2.5 to -0.5."""
    molecule = alanine_dipeptide("C7eq")
    settings = WindowSettings(
        300.0, steps, steps // 5, 50, checkpoint_interval=max(1, steps // 4), seed=1
    )
    centres = np.stack([np.linspace(-2.5, -0.5, number), np.full(number, 1.0)], axis=1)
    starts = np.repeat(molecule.positions[None], number, axis=0)
    windows = umbrella_windows(TEMPLATE, centres, starts, settings, folder, "given")
    prepare_windows(windows, molecule.system, molecule.topology)
    return folders_of(folder)


class Killer:
    """Kills a third of all attempts, by the process that the record of a window names."""

    def __init__(self, folders: list[Path], usual: float, seed: int) -> None:
        self._usual = usual  # s that a window takes
        self.kills, self._rng = 0, random.Random(seed)
        self._folders = folders

    def watch(self, ends: threading.Event) -> None:
        """Kill until that is set."""
        seen: dict[Path, int] = {}
        due: list[tuple[float, Path, int]] = []
        left = list(self._folders)
        while not ends.wait(POLL):
            records = {folder: read_record(folder) for folder in left}
            left = [folder for folder in left if records[folder]["status"] != "finished"]
            for folder, record in records.items():
                attempt = record["attempts"]
                if record["status"] == "running" and seen.get(folder) != attempt:
                    seen[folder] = attempt
                    if self._rng.random() < KILLED:
                        moment = time.monotonic() + self._rng.uniform(0.0, self._usual)
                        due.append((moment, folder, attempt))
            for plan in [plan for plan in due if time.monotonic() > plan[0]]:
                due.remove(plan)
                record = read_record(plan[1])
                if record["status"] == "running" and record["attempts"] == plan[2]:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(int(record["worker"].partition(":")[2]), signal.SIGKILL)
                        self.kills += 1


class NodeKiller:
    """Kills the node of a Slurm once, when windows run on it, and has it come back."""

    def __init__(self, folders: list[Path], slurm: Slurm) -> None:
        self.kills = 0
        self._folders, self._slurm = folders, slurm

    def watch(self, ends: threading.Event) -> None:
        """Wait for a window to run, until that is set."""
        while not ends.wait(POLL):
            if any(read_record(folder)["status"] == "running" for folder in self._folders):
                self._slurm.kill_node()
                self.kills = 1
                self._slurm.start_node()
                return


@contextlib.contextmanager
def fake_slurm(folder: Path) -> Iterator[None]:
    """A Slurm in the path whose nodes are processes of this machine, four at a time."""
    folder.mkdir()
    before = dict(os.environ)
    os.environ |= {"PATH": f"{FAKE_SLURM}{os.pathsep}{before['PATH']}", "FAKE_SLURM": str(folder)}
    os.environ.setdefault("FAKE_SLURM_NODES", "4")
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


@contextlib.contextmanager
def beside(killer: Killer | NodeKiller) -> Iterator[Killer | NodeKiller]:
    """Have it watch in a thread as long as the block lasts."""
    ends = threading.Event()
    thread = threading.Thread(target=killer.watch, args=(ends,), daemon=True)
    thread.start()
    try:
        yield killer
    finally:
        ends.set()
        thread.join()


@contextlib.contextmanager
def troubled(
    case: Case, folder: Path, folders: list[Path], usual: float
) -> Iterator[Killer | NodeKiller | None]:
    """The Slurm of a case, and what kills in it."""
    with contextlib.ExitStack() as stack:
        slurm = None
        if case.slurm:
            slurm_array.POLL = POLLS[case.slurm]
        if case.slurm == "slurm-stand-in":
            stack.enter_context(fake_slurm(folder.with_suffix(".slurm")))
        elif case.slurm:
            slurm = stack.enter_context(slurm_here())
        if case.trouble == "kills":
            yield stack.enter_context(beside(Killer(folders, usual, seed=len(folders))))
        elif case.trouble == "node":
            assert slurm is not None
            yield stack.enter_context(beside(NodeKiller(folders, slurm)))
        else:
            yield None


def attempts_after_the_end(folders: list[Path]) -> int:
    """Windows that a worker wrote to after they had finished: their records say how often begun."""
    before = [read_record(folder)["attempts"] for folder in folders]
    run_prepared(folders, folders[0].parent, platform="Reference")
    return sum(b != read_record(f)["attempts"] for b, f in zip(before, folders, strict=True))


def serial_run(folder: Path, number: int, steps: int) -> tuple[dict[str, str], float]:
    """Contents of the windows of one process, and the seconds of each."""
    folders = prepare(folder, number, steps)
    began = time.monotonic()
    run_prepared(folders, folder, platform="Reference")
    seconds = time.monotonic() - began
    print(f"serial, {number} windows of {steps:,} steps: {seconds:.1f} s", flush=True)
    whole = {k: v for k, v in contents(folder).items() if k.startswith("window-")}
    return whole, seconds / number


def on(
    name: str, folder: Path, number: int, steps: int, serial: tuple[dict[str, str], float]
) -> dict[str, object]:
    """One executor: what became of the windows."""
    whole, usual = serial
    case, folders = CASES[name], prepare(folder, number, steps)
    began = time.monotonic()
    with (
        troubled(case, folder, folders, usual) as killer,
        executor_of(case.cluster, folder) as workers,
    ):
        results = run_prepared(folders, folder, workers, platform="Reference", max_losses=20)
        seconds = time.monotonic() - began
    records = [read_record(f) for f in folders]
    ours = {k: v for k, v in contents(folder).items() if k.startswith("window-")}
    wrong = {difference.split("/")[0] for difference in differences(ours, whole)}
    return {
        "executor": name, "windows": number, "steps": steps,
        "kills": 0 if killer is None else killer.kills,
        "finished": sum(r.status == "finished" for r in results),
        "attempts": sum(r["attempts"] for r in records),
        "begun after their end": attempts_after_the_end(folders),
        "not as the serial run": len(wrong), "seconds": round(seconds, 1),
    }  # fmt: skip


def absent(name: str) -> str:
    """What a case needs that is not here; nothing where all is."""
    case = CASES[name]
    if case.cluster.executor == "parsl" and find_spec("parsl") is None:
        return "Parsl is not installed (pip install 'openmm_cgan[parsl]')"
    if case.slurm == "slurm" and (commands := missing()):
        return f"no {', '.join(commands)} here (Debian: apt-get install slurm-wlm munge)"
    return ""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--windows", type=int, default=50)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--executor", nargs="+", choices=list(CASES), default=EVERYWHERE)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    made = provenance()
    print(f"{in_words(made)}, every attempt killed with a chance of 1/3", flush=True)
    rows: list[dict[str, object]] = []
    serial: dict[tuple[int, int], tuple[dict[str, str], float]] = {}
    with tempfile.TemporaryDirectory() as temporary:
        for name in args.executor:
            if why := absent(name):
                print(f"{name} skipped: {why}", flush=True)
                continue
            size = CASES[name].windows or args.windows, CASES[name].steps or args.steps
            if size not in serial:
                serial[size] = serial_run(Path(temporary) / f"serial-{len(serial)}", *size)
            rows.append(on(name, Path(temporary) / name, *size, serial[size]))
            print(", ".join(f"{key} {value}" for key, value in rows[-1].items()), flush=True)
            if args.json:
                found = made | {"command": f"python {' '.join(sys.argv)}", "rows": rows}
                args.json.write_text(json.dumps(found, indent=1) + "\n")
    sys.exit(any(
        row["finished"] != row["windows"] or row["not as the serial run"]
        or row["begun after their end"] for row in rows
    ))  # fmt: skip


if __name__ == "__main__":
    main()
