"""Proposals generated and screened in a second, in batches of 1000.

A ConditionalGAN is fitted for a few steps (its speed does not depend on how well) to short
metadynamics of alanine dipeptide in vacuum, from both basins. Then batches of 1000 configurations
are asked for at targets uniform over the range, and screened: finite, bond lengths, clashes,
chirality, cis/trans, and the CVs of what was made against those asked for. Median over rounds,
with one torch thread and with one for each core in turn.

    python benchmarks/proposal_rate.py [--rounds N] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import openmm
import torch
from openmm import app

from openmm_cgan import ConditionalGAN, FrameReporter, PlumedBias
from openmm_cgan.cgan import TrainingSettings
from openmm_cgan.proposals import Screen, propose
from openmm_cgan.proposals.targets import uniform_targets
from openmm_cgan.testsystems import alanine_dipeptide

BATCH = 1000
TARGET = 20_000
INPUT = Path(__file__).parent.parent / "plumed_inputs" / "alanine_phi_psi_metad.dat"


def make_frames(folder: Path, basin: str, steps: int) -> None:
    """Frames of a short biased run from one basin."""
    molecule = alanine_dipeptide(basin)
    folder.mkdir()
    bias = PlumedBias(INPUT, molecule.topology, temperature=300.0, directory=folder)
    bias.add_to(molecule.system)
    integrator = openmm.LangevinMiddleIntegrator(300.0, 1.0, 0.002)
    integrator.setRandomNumberSeed(1)
    platform = openmm.Platform.getPlatformByName("Reference")
    simulation = app.Simulation(molecule.topology, molecule.system, integrator, platform)
    simulation.context.setPositions(molecule.positions)
    bias.attach(simulation)
    frames = FrameReporter(folder / "frames", 20, bias)
    simulation.reporters.append(frames)
    simulation.step(steps)
    frames.close()
    bias.close()


def make_generator(folder: Path) -> tuple[ConditionalGAN, Screen]:
    """A generator fitted for a few steps, and the screen of its molecule."""
    paths = []
    for basin in ("C7eq", "C7ax"):
        make_frames(folder / basin, basin, 20_000)
        paths.append(folder / basin / "frames")
    molecule = alanine_dipeptide("C7eq")
    gan = ConditionalGAN.fit(paths, molecule.topology, TrainingSettings(steps=100))
    bias = PlumedBias(INPUT, molecule.topology, temperature=300.0, directory=folder)
    return gan, Screen(molecule.topology, molecule.positions, bias)


def measure(rounds: int, threads: list[int]) -> dict[int, dict[str, float]]:
    """Median rates by number of torch threads, and the share that passed the screen."""
    with tempfile.TemporaryDirectory() as folder:
        gan, screen = make_generator(Path(folder))
    found: dict[int, list[tuple[float, ...]]] = {count: [] for count in threads}
    for turn in range(rounds + 1):  # the first is not counted
        for count in threads:
            torch.set_num_threads(count)
            rng = np.random.default_rng(turn)
            targets = uniform_targets(gan.cv_range, BATCH, rng)
            start, processor = time.perf_counter(), time.process_time()
            proposals = propose(gan, targets, screen, seed=turn)
            middle, processor = time.perf_counter(), time.process_time() - processor
            gan.sample(targets, seed=turn)
            end = time.perf_counter()
            rates = (BATCH / (middle - start), BATCH / processor, BATCH / (end - middle))
            if turn:
                found[count].append((*rates, float(proposals.accepted.mean())))
    names = ("proposals", "processor", "generated", "passed")
    return {
        count: {
            name: statistics.median(column)
            for name, column in zip(names, zip(*rows, strict=True), strict=True)
        }
        for count, rows in found.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--json", type=Path, help="write the rows to this file")
    arguments = parser.parse_args()
    threads = sorted({1, os.cpu_count() or 1})
    rows = []
    for count, rates in measure(arguments.rounds, threads).items():
        name = f"proposals per second, generated and screened, batch {BATCH}, {count} torch thread"
        rows.append(
            {
                "name": name + "s" * (count > 1),
                "value": round(rates["proposals"]),
                "unit": "1/s",
                "target": f">= {TARGET}" if count == 1 else None,
                "met": rates["proposals"] >= TARGET if count == 1 else None,
                "peers": {
                    # what a core of its own would give, on a machine that others use as well
                    "per second of processor time": round(rates["processor"]),
                    "generated alone, 1/s": round(rates["generated"]),
                    "share that passed the screen": round(rates["passed"], 3),
                },
                "command": f"python {' '.join(sys.argv)}",
            }
        )
        print(f"{rows[-1]['name']:75s} {rows[-1]['value']}")
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
