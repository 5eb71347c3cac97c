"""Windows on workers of which a third are killed at random: is all done, none twice, and the same?

Umbrella windows of alanine dipeptide on the Reference platform, once one after the other in one
process and then on each executor, where every attempt is killed (SIGKILL) with a chance of a third,
at a random moment of the time that a whole window takes. Counted: windows that finished; attempts;
windows that a worker would begin after their end (none may be); windows whose frames and printed
values are not those of the serial run, bit for bit.

    python benchmarks/cluster.py [--windows N] [--steps N] [--executor NAME ...] [--json FILE]

Slurm is the stand-in of the tests (tests/cases/fake_slurm), whose nodes are processes here; Parsl
is its own HighThroughputExecutor with local blocks, where it is installed.
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
from importlib.util import find_spec
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))
from kill_resume import contents, differences
from provenance import in_words, provenance

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
CLUSTERS = {
    "local": Cluster("local", workers=4),
    "slurm-array": Cluster("slurm-array"),
    "parsl": Cluster("parsl", scheduler="local", workers=4),
}


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
        self._folders, self._ends = folders, threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Killer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ends.set()
        self._thread.join()

    def _watch(self) -> None:
        seen: dict[Path, int] = {}
        due: list[tuple[float, Path, int]] = []
        left = list(self._folders)
        while not self._ends.wait(POLL):
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


@contextlib.contextmanager
def fake_slurm(folder: Path) -> Iterator[None]:
    """A Slurm in the path whose nodes are processes of this machine, four at a time."""
    folder.mkdir()
    before = dict(os.environ)
    os.environ |= {"PATH": f"{FAKE_SLURM}{os.pathsep}{before['PATH']}", "FAKE_SLURM": str(folder)}
    os.environ.setdefault("FAKE_SLURM_NODES", "4")
    slurm_array.POLL = 0.2
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def attempts_after_the_end(folders: list[Path]) -> int:
    """Windows that a worker wrote to after they had finished: their records say how often begun."""
    before = [read_record(folder)["attempts"] for folder in folders]
    run_prepared(folders, folders[0].parent, platform="Reference")
    return sum(b != read_record(f)["attempts"] for b, f in zip(before, folders, strict=True))


def on(
    name: str, folder: Path, number: int, steps: int, serial: tuple[dict[str, str], float]
) -> dict[str, object]:
    """One executor: what became of the windows. `serial`: their contents, and seconds of each."""
    whole, usual = serial
    folders = prepare(folder, number, steps)
    began = time.monotonic()
    with contextlib.ExitStack() as stack:
        if name == "slurm-array":
            stack.enter_context(fake_slurm(folder.with_suffix(".slurm")))
        workers = stack.enter_context(executor_of(CLUSTERS[name], folder))
        killer = stack.enter_context(Killer(folders, usual, seed=number))
        results = run_prepared(folders, folder, workers, platform="Reference", max_losses=20)
    seconds = time.monotonic() - began
    records = [read_record(f) for f in folders]
    ours = {k: v for k, v in contents(folder).items() if k.startswith("window-")}
    wrong = {difference.split("/")[0] for difference in differences(ours, whole)}
    return {
        "executor": name, "windows": number, "steps": steps, "kills": killer.kills,
        "finished": sum(r.status == "finished" for r in results),
        "attempts": sum(r["attempts"] for r in records),
        "begun after their end": attempts_after_the_end(folders),
        "not as the serial run": len(wrong), "seconds": round(seconds, 1),
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--windows", type=int, default=50)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--executor", nargs="+", choices=list(CLUSTERS), default=list(CLUSTERS))
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    made = provenance()
    print(f"{in_words(made)}, every attempt killed with a chance of 1/3", flush=True)
    rows = []
    with tempfile.TemporaryDirectory() as temporary:
        serial = Path(temporary) / "serial"
        folders = prepare(serial, args.windows, args.steps)
        began = time.monotonic()
        run_prepared(folders, serial, platform="Reference")
        seconds = time.monotonic() - began
        print(f"serial: {seconds:.1f} s", flush=True)
        whole = {k: v for k, v in contents(serial).items() if k.startswith("window-")}
        for name in args.executor:
            if name == "parsl" and find_spec("parsl") is None:
                print("parsl is not installed")
                continue
            folder, alone = Path(temporary) / name, (whole, seconds / args.windows)
            rows.append(on(name, folder, args.windows, args.steps, alone))
            print(", ".join(f"{key} {value}" for key, value in rows[-1].items()), flush=True)
    if args.json:
        args.json.write_text(json.dumps(made | {"rows": rows}, indent=1) + "\n")
    sys.exit(any(
        row["finished"] < row["windows"] or row["not as the serial run"]
        or row["begun after their end"] for row in rows
    ))  # fmt: skip


if __name__ == "__main__":
    main()
