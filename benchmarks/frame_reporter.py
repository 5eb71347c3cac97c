"""What FrameReporter costs: MD rate with it and with OpenMM's XTCReporter, over MD without.

Alanine dipeptide in vacuum on the Reference platform, where a step takes some 20 us and a report
weighs most. All three runs carry the same native phi, psi restraint, so that only the reporter
differs. Blocks of each run are alternated with blocks of the run without reporter; each ratio is
the median over rounds of a block's rate over the mean rate of its two neighbours. The last rows of
a block, which FrameReporter would write a second later, are written inside its block.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path

import openmm
from openmm import app

from openmm_cgan import FrameReporter, PlumedBias
from openmm_cgan.testsystems import alanine_dipeptide

INPUT = """phi: TORSION ATOMS=5,7,9,15
psi: TORSION ATOMS=7,9,15,17
RESTRAINT ARG=phi,psi AT=-1.33,1.22 KAPPA=20,20
"""
INTERVAL = 100


def make_run(reporter: str, folder: Path) -> app.Simulation:
    """A biased simulation with one reporter, or with none ("")."""
    molecule = alanine_dipeptide("C7eq")
    bias = PlumedBias(INPUT, molecule.topology, temperature=300.0, backend="native")
    bias.add_to(molecule.system)
    integrator = openmm.LangevinMiddleIntegrator(300.0, 1.0, 0.002)
    platform = openmm.Platform.getPlatformByName("Reference")
    simulation = app.Simulation(molecule.topology, molecule.system, integrator, platform)
    bias.attach(simulation)
    simulation.context.setPositions(molecule.positions)
    if reporter == "FrameReporter":
        simulation.reporters.append(FrameReporter(folder / "frames", INTERVAL, bias))
    elif reporter == "XTCReporter":
        simulation.reporters.append(app.XTCReporter(str(folder / "frames.xtc"), INTERVAL))
    return simulation


def rate(simulation: app.Simulation, steps: int) -> float:
    """Steps a second of one block."""
    start = time.perf_counter()
    simulation.step(steps)
    for reporter in simulation.reporters:
        if isinstance(reporter, FrameReporter):
            reporter.flush()
    return steps / (time.perf_counter() - start)


def measure(rounds: int, steps: int) -> dict[str, float]:
    """Median ratio to the run without reporter, and that run's rate."""
    names = ("FrameReporter", "XTCReporter")
    ratios: dict[str, list[float]] = {name: [] for name in names}
    plain_rates: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        plain = make_run("", Path(folder))
        runs = {name: make_run(name, Path(folder)) for name in names}
        for run in (plain, *runs.values()):
            rate(run, steps // 5)
        before = rate(plain, steps)
        for turn in range(rounds):
            for name in names if turn % 2 else reversed(names):
                block = rate(runs[name], steps)
                after = rate(plain, steps)
                ratios[name].append(2 * block / (before + after))
                plain_rates.append(after)
                before = after
        for run in runs.values():
            for reporter in run.reporters:
                if isinstance(reporter, FrameReporter):
                    reporter.close()
    medians = {name: statistics.median(values) for name, values in ratios.items()}
    return medians | {"plain": statistics.median(plain_rates)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--steps", type=int, default=50_000, help="steps of a block")
    parser.add_argument("--json", type=Path, help="write the rows to this file")
    arguments = parser.parse_args()
    found = measure(arguments.rounds, arguments.steps)
    ours, xtc = found["FrameReporter"], found["XTCReporter"]
    rows = [
        {
            "name": f"MD rate with FrameReporter every {INTERVAL} steps over MD without",
            "value": round(ours, 4),
            "unit": "ratio",
            "target": f">= XTCReporter in the same run ({xtc:.3f})",
            "met": ours >= xtc,
            "peers": {
                f"openmm.app.XTCReporter every {INTERVAL} steps": round(xtc, 4),
                "steps per second without reporter": round(found["plain"]),
            },
            "command": f"python {' '.join(sys.argv)}",
        }
    ]
    for label, value in ((rows[0]["name"], ours), ("the same with XTCReporter", xtc)):
        print(f"{label:60s} {value:.3f}")
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
