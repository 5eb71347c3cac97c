"""Configurations that a flow generates in a second, with their log densities, in batches of 1000.

A FlowGenerator of the default size for alanine dipeptide, fitted for a few steps (its speed does
not depend on how well). Median over rounds, one torch thread.

    python benchmarks/generator_rate.py [--rounds N] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from pathlib import Path

import numpy as np
import torch
from alanine import Umbrella, umbrella_frames

from openmm_cgan import ConditionalGAN
from openmm_cgan.cgan import TrainingSettings
from openmm_cgan.proposals.conditions import UniformConditions
from openmm_cgan.testsystems import alanine_dipeptide

BATCH = 1000
TARGET = 5000


def rates(rounds: int) -> dict[str, float]:
    """Median rates [1/s]: made with log_prob, and log_prob of what is there."""
    frames = umbrella_frames(Umbrella(n_side=6, steps=500, stride=25, seed=1))
    topology = alanine_dipeptide("C7eq").topology
    settings = TrainingSettings(generator="FlowGenerator", steps=20)
    gan = ConditionalGAN.fit(frames, topology, settings)
    conditions = UniformConditions(gan.cv_range, gan.variables)
    found: list[tuple[float, float, float]] = []
    for turn in range(rounds + 1):  # the first is not counted
        cvs = conditions.draw(BATCH, np.random.default_rng(turn))
        start, processor = time.perf_counter(), time.process_time()
        x, _ = gan.sample_with_log_prob(cvs, seed=turn)
        middle, processor = time.perf_counter(), time.process_time() - processor
        gan.log_prob(x, cvs)
        end = time.perf_counter()
        if turn:
            found.append((BATCH / (middle - start), BATCH / processor, BATCH / (end - middle)))
    names = ("made with log_prob", "per second of processor time", "log_prob of configurations")
    medians = (statistics.median(column) for column in zip(*found, strict=True))
    return dict(zip(names, medians, strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--json", type=Path, help="write the rows to this file")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    found = {name: round(rate) for name, rate in rates(arguments.rounds).items()}
    made = found.pop("made with log_prob")
    row = {
        "name": f"generated with log_prob per second, batch {BATCH}, one thread",
        "value": made,
        "unit": "1/s",
        "target": f">= {TARGET}",
        "met": made >= TARGET,
        "peers": found,
        "command": f"python {' '.join(sys.argv)}",
    }
    print(f"{row['name']:65s} {made}  {found}")
    if arguments.json:
        arguments.json.write_text(json.dumps([row], indent=1) + "\n")


if __name__ == "__main__":
    main()
