"""Is another state of the package as quick as this one? Rows of both, alternated in one run.

    python benchmarks/old_and_new.py OLD_CHECKOUT [--only TEXT] [--rounds N] [--pairs N]

For each row two processes are made, one with the package of OLD_CHECKOUT and one with that beside
this script; both run the same lines (biased_md.py, frame_reporter.py), which use public names
alone. One works while the other waits: old, new, old, new ... Each block of the new one is divided
by the mean of its two neighbours, in CPU time. A process may be some percent faster than its twin
by the places that its memory happens to have, so each row is measured with several pairs. Printed
are the medians of both [us], the median ratio over the pairs with its error from their spread, and
the ratio of each pair.

It ends with exit code 1 if a row is slower by more than MOST and by more than twice its error. One
that is slower by more than MOST within its error is undecided: more pairs decide it.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import biased_md
import openmm
from biased_md import CALLED_BACK, METAD, PACE, RESTRAINT, SOLVATED, Step, microseconds
from frame_reporter import make_run, rate

import openmm_cgan

MOST = 0.02  # slower than before
VERDICTS = {True: "", False: "  SLOWER", None: "  undecided"}
HILL_PACE = 50


@dataclass(frozen=True)
class Row:
    """One thing to measure: what makes it, and how many steps a block has."""

    make: Callable[[Path], Step]
    steps: int


def dynamics(text: str, backend: str, place: str, platform: str) -> Callable[[Path], Step]:
    """Dynamics in a place of biased_md, "vacuum" or "solvated"."""
    molecule = {"vacuum": biased_md.vacuum, "solvated": biased_md.solvated}[place]
    return lambda folder: biased_md.biased(text, backend, molecule(), platform)


def evaluation(text: str) -> Callable[[Path], Step]:
    """Evaluations of the bias alone in explicit water."""
    return lambda folder: biased_md.evaluated(
        text.format(pdb=biased_md.write_solute(folder)), "native", biased_md.solvated(), "CPU"
    )


def reported(reporter: str) -> Callable[[Path], Step]:
    """Dynamics with a reporter of frame_reporter.py, whose last rows are written in the block."""
    return lambda folder: functools.partial(rate, make_run(reporter, folder))


def rows() -> dict[str, Row]:
    """All rows by name."""
    inputs = {
        "RESTRAINT": RESTRAINT,
        "METAD": METAD.format(pace=PACE),
        f"METAD, PACE={HILL_PACE}": METAD.format(pace=HILL_PACE),
        **CALLED_BACK,
    }
    found = {
        f"{name}, vacuum, Reference": Row(dynamics(text, "native", "vacuum", "Reference"), 3000)
        for name, text in inputs.items()
    }
    for name in ("RESTRAINT", "METAD"):
        found[f"{name}, water, CPU"] = Row(dynamics(inputs[name], "native", "solvated", "CPU"), 40)
    kernel = dynamics(RESTRAINT, "kernel", "vacuum", "Reference")
    found["RESTRAINT, libplumed, vacuum, Reference"] = Row(kernel, 2000)
    for name, text in SOLVATED.items():
        found[f"evaluation, water: {name}"] = Row(evaluation(text), 1000)
    found["FrameReporter every 100 steps"] = Row(reported("FrameReporter"), 20_000)
    return found


# ---- the process that works


def work(name: str, checkout: Path) -> None:
    """Make a row's run with the package of a checkout; a block for each line of input."""
    home = Path(openmm_cgan.__file__).resolve().parent.parent
    if home != checkout:
        raise RuntimeError(f"the package of {checkout} was asked for, that of {home} is here")
    row = rows()[name]
    openmm.LangevinMiddleIntegrator = functools.partial(_seeded, openmm.LangevinMiddleIntegrator)
    with tempfile.TemporaryDirectory() as folder:
        run = row.make(Path(folder))
        run(max(row.steps // 5, 10))
        print("ready", flush=True)
        for _ in sys.stdin:
            print(microseconds(run, row.steps), flush=True)


def _seeded(kind: type, *arguments: float) -> Any:
    """Both processes go the same way, so that what grows on it grows alike."""
    integrator = kind(*arguments)
    integrator.setRandomNumberSeed(1)
    return integrator


class Worker:
    """A process that runs blocks of one row with the package of one checkout."""

    def __init__(self, name: str, checkout: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, __file__, str(checkout), "--work", name],
            env=os.environ | {"PYTHONPATH": str(checkout), "PYTHONHASHSEED": "0"},
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        self._answer()

    def block(self) -> float:
        """Microseconds a step."""
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        return float(self._answer())

    def close(self) -> None:
        """End the process."""
        self._process.communicate()

    def _answer(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self._process.args} ended with {self._process.wait()}")
        return line


# ---- comparing


@dataclass(frozen=True)
class Compared:
    """Blocks of one pair of processes: median times [us] and median ratio of new over old."""

    old: float
    new: float
    ratio: float


def compared(name: str, old: Path, new: Path, rounds: int) -> Compared:
    """Blocks of both alternated; each of the new against its two neighbours."""
    workers = [Worker(name, old), Worker(name, new)]
    olds, news = [workers[0].block()], []
    for _ in range(rounds):
        news.append(workers[1].block())
        olds.append(workers[0].block())
    for worker in workers:
        worker.close()
    ratios = [2 * b / (a + c) for a, b, c in zip(olds, news, olds[1:], strict=False)]
    return Compared(statistics.median(olds), statistics.median(news), statistics.median(ratios))


def record(name: str, pairs: list[Compared]) -> dict[str, Any]:
    """A row of the table."""
    ratios = [pair.ratio for pair in pairs]
    middle = statistics.median(ratios)
    spread = statistics.stdev(ratios) if len(ratios) > 1 else 0.0
    error = 1.25 * spread / len(ratios) ** 0.5  # of a median, were they normal
    slower = middle - 1.0
    return {
        "name": f"new over old, {name}",
        "value": round(middle, 4),
        "unit": "times the time",
        "target": f"<= {1 + MOST}",
        "met": True if slower <= MOST else False if slower > 2 * error else None,
        "peers": {
            "error": round(error, 4),
            "pairs": [round(ratio, 4) for ratio in sorted(ratios)],
            "old, us": round(statistics.median(pair.old for pair in pairs), 2),
            "new, us": round(statistics.median(pair.new for pair in pairs), 2),
        },
        "command": f"python {' '.join(sys.argv)}",
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("old", type=Path, help="a checkout of the project")
    parser.add_argument("--only", default="", help="rows whose name contains this")
    parser.add_argument("--rounds", type=int, default=15, help="blocks of each process")
    parser.add_argument("--pairs", type=int, default=4, help="pairs of processes of each row")
    parser.add_argument("--json", type=Path, help="write the rows to this file")
    parser.add_argument("--work", help=argparse.SUPPRESS)  # the name of a row: this is a worker
    options = parser.parse_args()
    old, new = options.old.resolve(), Path(__file__).resolve().parent.parent
    if options.work:
        work(options.work, old)
        return
    if not (old / "openmm_cgan").is_dir():
        parser.error(f"{old} is no checkout of the project: it has no openmm_cgan")
    found = []
    for name in rows():
        if options.only in name:
            pairs = [compared(name, old, new, options.rounds) for _ in range(options.pairs)]
            found.append(record(name, pairs))
            beside = found[-1]["peers"]
            print(f"{name:58s} {beside['old, us']:9.2f} {beside['new, us']:9.2f} us   "
                  f"{found[-1]['value']:.3f} +- {beside['error']:.3f}  {beside['pairs']}"
                  f"{VERDICTS[found[-1]['met']]}", flush=True)  # fmt: skip
    if options.json:
        options.json.write_text(json.dumps(found, indent=1) + "\n")
    sys.exit(any(row["met"] is False for row in found))


if __name__ == "__main__":
    main()
