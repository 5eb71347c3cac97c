"""Alanine dipeptide in TIP3P: the alpha region of psi by steered moves, metadynamics and plain MD.

The smallest legal box (628 particles), AMBER ff96, from C7eq; F(psi in [-2, 1)) less the rest.

    plain     dynamics: the reference
    metad     metadynamics of phi and psi, by the weights of its frames
    steered   moves of 8 ps between stretches of 1 ps, phi and psi led, to places where a
              metadynamics of 0.4 ns in OBC2 found them likely

Each goes on for so many force evaluations, those of switches included, the metadynamics in
OBC2 left aside. What a folder holds so far is read by `--read`.

    python benchmarks/steered_water.py plain metad steered --data FOLDER [--steps N] [--read]
        [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from provenance import in_words, provenance
from steered import METAD, PLAIN, add_to, flow_of, metadynamics, molecule_in, run_of, settings_of

from openmm_cgan import FrameReporter, ProposalReporter
from openmm_cgan.frames import read_frames
from openmm_cgan.free_energy.biased_runs import BiasedRun, reweight_runs
from openmm_cgan.free_energy.differences import StateDifference

ALPHA = StateDifference.of("psi:-2..1")
BETWEEN, SWITCH, STRIDE = 500, 4000, 50  # steps between moves, of one, and between frames
KINDS = ("plain", "metad", "steered")
IN_OBC2 = 200_000  # steps of the metadynamics that says where to lead to


def simulate(kind: str, folder: Path, steps: int, seed: int) -> None:
    """Run one kind for so many force evaluations, into a folder of its own."""
    folder.mkdir(parents=True)
    text = METAD if kind == "metad" else PLAIN
    run = run_of(molecule_in("water"), text, folder, seed)
    (folder / "plumed.dat").write_text(text)
    run.simulation.reporters.append(FrameReporter(folder / "frames", STRIDE, run.bias))
    if kind == "steered":
        settings = settings_of(run, *metadynamics("obc2", IN_OBC2, seed + 2), SWITCH)
        moves = ProposalReporter(
            folder / "moves.csv", BETWEEN, flow_of(), run.bias, mode="steered", settings=settings
        )
        run.simulation.reporters.append(moves)
        steps = steps // (BETWEEN + SWITCH + 2) * BETWEEN
    run.simulation.step(steps)
    run.bias.close()


def told_by(kind: str, folder: Path) -> dict[str, Any]:
    """What the frames of a folder tell so far."""
    frames = read_frames(folder / "frames")
    samples = reweight_runs([BiasedRun.of(frames, folder / "plumed.dat", folder)])
    estimate = ALPHA.estimate(samples)
    inside = ALPHA.sides(frames.cvs, frames.variables) == 1
    steps = int(frames.step[-1])
    moves = steps // BETWEEN if kind == "steered" else 0
    return {
        "kind": kind, "difference": estimate.value, "its error": estimate.error,
        "in words": str(estimate), "evaluations": steps + moves * (SWITCH + 2),
        "changes of region": int(np.count_nonzero(np.diff(inside))), "frames": len(frames),
    } | ({"accepted": _accepted(folder / "moves.csv")} if moves else {})  # fmt: skip


def _accepted(table: Path) -> float:
    rows = np.genfromtxt(table, delimiter=",", names=True, dtype=None, encoding="utf-8")
    return float(np.mean(rows["accepted"]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("kinds", nargs="+", choices=KINDS)
    parser.add_argument("--data", type=Path, required=True, help="folder of the runs")
    parser.add_argument("--steps", type=int, default=300_000, help="force evaluations of each")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--read", action="store_true", help="what is there already, no more")
    parser.add_argument("--json", type=Path, help="add the rows to this file")
    given = parser.parse_args()
    made, rows = provenance(), []
    print(in_words(made))
    for kind in given.kinds:
        folder = given.data / f"{kind}-{given.seed}"
        if not given.read:
            simulate(kind, folder, given.steps, given.seed)
        rows.append(told_by(kind, folder))
        print(json.dumps(rows[-1], default=float), flush=True)
    if given.json:
        add_to(given.json, {**made, "command": " ".join(sys.argv[1:]), "rows": rows})


if __name__ == "__main__":
    main()
