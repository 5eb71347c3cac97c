"""Whether error bars of importance estimates cover: many seeds of a flow that is poor.

A FlowGenerator of alanine dipeptide in vacuum is trained for a few steps only, so that few of its
configurations count. For each seed some thousand are made at uniform (phi, psi) and weighed as
`openmm-cgan free-energy --model` weighs them: the basin free energy of 0 < phi < 2.3, its bootstrap
error, or "not enough" where Pareto's k is above 0.7 or fewer than 100 samples are left. Printed:
how many of the seeds that gave a number have the reference within one of their errors (and its
own); the root mean square of (estimate - reference)/error, 1 if errors are right; and the spread of
the estimates over the mean error.

    python benchmarks/error_bars.py [--seeds 20] [--energies 1000 4000] [--steps 60 250]
                                    [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from alanine import TEMPERATURE, Umbrella, Weigher, free_bias, in_basin, umbrella_frames
from provenance import in_words, provenance

from openmm_cgan import ConditionalGAN
from openmm_cgan.atomic_files import write_atomically
from openmm_cgan.cgan import TrainingSettings
from openmm_cgan.cli.shipped import read_reference
from openmm_cgan.frames import Frames
from openmm_cgan.free_energy import Estimate, basin_difference
from openmm_cgan.free_energy.importance import GeneratedFrames, reweight_generated
from openmm_cgan.proposals.conditions import UniformConditions
from openmm_cgan.testsystems import alanine_dipeptide

DATA = Umbrella(n_side=12, steps=1000, stride=50, seed=1)


def flow_of(frames: Frames, steps: int) -> ConditionalGAN:
    settings = TrainingSettings(generator="FlowGenerator", steps=steps, batch=256)
    return ConditionalGAN.fit(frames, alanine_dipeptide("C7eq").topology, settings)


def estimated(gan: ConditionalGAN, energies: int, seed: int) -> tuple[Estimate, float, float]:
    """The basin free energy from so many energies, the effective samples and Pareto's k."""
    uniform = UniformConditions(gan.cv_range, gan.variables)
    cvs = uniform.draw(energies, np.random.default_rng(seed))
    weigher = Weigher(gan, free_bias(alanine_dipeptide("C7eq")))
    log_weights = weigher.log_weights(cvs, seed=seed + 1) - uniform.log_density(cvs)
    made = GeneratedFrames(cvs, log_weights, TEMPERATURE, gan.variables)
    samples = reweight_generated(made, seed=seed)
    estimate = basin_difference(samples, lambda x: in_basin(x[:, 0]))
    return estimate, samples.effective_samples, samples.k_hat


def covered(gan: ConditionalGAN, energies: int, seeds: int, steps: int) -> dict[str, Any]:
    """One row of the table."""
    begun, reference = time.process_time(), read_reference().difference
    found = [estimated(gan, energies, 1000 * seed) for seed in range(seeds)]
    known = [one for one, _, _ in found if np.isfinite(one.value) and np.isfinite(one.error)]
    values = np.array([one.value for one in known])
    errors = np.array([one.error for one in known])
    scaled = (values - reference.value) / np.hypot(errors, reference.error)
    return {
        "training steps": steps, "energies": energies, "seeds": seeds, "not enough":
        seeds - len(known), "effective samples": float(np.median([n for _, n, _ in found])),
        "k": float(np.median([k for _, _, k in found])),
        "covered": float(np.mean(np.abs(scaled) < 1)) if known else None,
        "rms of errors": float(np.sqrt(np.mean(scaled**2))) if known else None,
        "mean": float(values.mean()) if known else None,
        "mean error": float(errors.mean()) if known else None,
        "spread": float(values.std(ddof=1)) if len(known) > 1 else None,
        "reference": reference.value, "seconds": time.process_time() - begun,
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--energies", type=int, nargs="+", default=[1000, 4000])
    parser.add_argument("--steps", type=int, nargs="+", default=[60, 250], help="of training")
    parser.add_argument("--json", type=Path, help="write the rows to this file")
    given = parser.parse_args()
    made = provenance()
    print(in_words(made))
    logging.getLogger("openmm_cgan").setLevel(logging.ERROR)  # "not enough" is counted
    frames, rows = umbrella_frames(DATA), []
    for steps in given.steps:
        gan = flow_of(frames, steps)
        for energies in given.energies:
            rows.append(covered(gan, energies, given.seeds, steps))
            print(json.dumps(rows[-1]), flush=True)
    if given.json:
        record = {**made, "command": " ".join(sys.argv[1:]), "rows": rows}
        write_atomically(given.json, json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
