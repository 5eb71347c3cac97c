"""Which setups work, and what the bias and FrameReporter cost over plain MD in each.

Each setup of tests/cases/setups.py (force fields, boxes, constraints, integrators, of 22 to 500
atoms) runs 200 steps with frames every 20 and proposals every 100, is saved after half of them and
gone on with; what cannot be is told in the words of its error. Costs are ratios of processor time
in blocks that alternate with blocks of plain MD, the median over rounds; frames are taken every 100
steps.

    python benchmarks/setups.py [--rounds 5] [--only WORD]
"""

from __future__ import annotations

import argparse
import csv
import json
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

import openmm
from openmm import app
from provenance import in_words, provenance

from openmm_cgan import FrameReporter, PlumedBias
from tests.cases.setup_runs import begun, gone_on, run
from tests.cases.setups import SETUPS, Setup, drude, vacuum

INTERVAL = 100
REFUSED: dict[str, Callable[[], Setup]] = {
    "Drude": drude,
    "RPMD": lambda: vacuum(openmm.RPMDIntegrator(2, 300, 1, 0.0005), constraints=None),
}


def outcome(make: Callable[[], Setup]) -> str:
    """ "works" with the share of proposals accepted, or why it is refused."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            run(make, Path(folder) / "run")
            gone_on(make, Path(folder) / "half")
        except ValueError as error:
            return f"refused: {error}"
        with (Path(folder) / "run" / "proposals.csv").open(newline="") as file:
            rows = list(csv.DictReader(file))
    accepted = sum(row["accepted"] == "1" for row in rows)
    return f"works, {accepted} of {len(rows)} seeds accepted"


def started(make: Callable[[], Setup], kind: str, folder: Path) -> app.Simulation:
    """A simulation of a setup: "plain", with its "bias", or with "frames" as well."""
    setup = make()
    if kind == "plain":
        simulation = setup.simulation()
    else:
        simulation, keepers = begun(setup, folder)
        bias = keepers["bias"]
        assert isinstance(bias, PlumedBias)
    simulation.context.setPositions(setup.positions)
    simulation.minimizeEnergy(maxIterations=30)
    simulation.context.setVelocitiesToTemperature(300, 1)
    if kind != "plain":
        bias.attach(simulation)
    if kind == "frames":
        simulation.reporters.append(FrameReporter(folder / "timed", INTERVAL, bias))
    return simulation


def seconds(simulation: app.Simulation, steps: int) -> float:
    """Processor seconds of a block, its frames written."""
    start = time.process_time()
    simulation.step(steps)
    for reporter in simulation.reporters:
        if isinstance(reporter, FrameReporter):
            reporter.flush()
    return time.process_time() - start


def costs(make: Callable[[], Setup], rounds: int) -> dict[str, float]:
    """Rate with the bias, and with frames as well, over plain MD."""
    ratios: dict[str, list[float]] = {"bias": [], "frames": []}
    with tempfile.TemporaryDirectory() as folder:
        plain = started(make, "plain", Path(folder))
        others = {kind: started(make, kind, Path(folder) / kind) for kind in ratios}
        a_step = seconds(plain, 20) / 20
        steps = max(100, int(0.3 / max(a_step, 1e-6)) // 100 * 100)
        for simulation in others.values():
            seconds(simulation, 20)
        before = seconds(plain, steps)
        for turn in range(rounds):
            for kind in list(others)[:: 1 if turn % 2 else -1]:
                block = seconds(others[kind], steps)
                after = seconds(plain, steps)
                ratios[kind].append((before + after) / 2 / block)
                before = after
    return {kind: statistics.median(values) for kind, values in ratios.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5, help="of timing; 0: none")
    parser.add_argument("--only", default="", help="setups with this word in their names")
    parser.add_argument("--json", type=Path, help="write the rows to this file")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    made = provenance()
    print(in_words(made))
    print(f"{'setup':30s} {'bias':>6s} {'frames':>6s}  outcome (rates over plain MD)")
    rows = []
    for name, make in {**SETUPS, **REFUSED}.items():
        if arguments.only not in name:
            continue
        told = outcome(make)
        works = told.startswith("works")
        found = costs(make, arguments.rounds) if works and arguments.rounds else {}
        numbers = " ".join(f"{found[k]:6.2f}" if found else "     -" for k in ("bias", "frames"))
        print(f"{name:30s} {numbers}  {told}", flush=True)
        rows.append({"name": name, "outcome": told, **found})
    n_working = sum(row["outcome"].startswith("works") for row in rows)
    print(f"{n_working} of {len(rows)} work, {len(rows) - n_working} refused")
    if arguments.json:
        row = {
            "name": "setups that work or are refused in words, of those tried",
            "value": len(rows),
            "unit": f"of {len(rows)}",
            "target": "all",
            "met": True,
            "peers": {str(row["name"]): row["outcome"] for row in rows},
            "command": f"python {' '.join(sys.argv)}",
        }
        arguments.json.write_text(json.dumps([row | made], indent=1) + "\n")


if __name__ == "__main__":
    main()
