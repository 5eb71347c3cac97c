"""Free energies by exact weights: from the generator alone, and from exact moves in unbiased MD.

With the generator of conditional_ess.py (trained here, or given):
* 40,000 configurations, one energy each, a fifth of them at (phi, psi) uniform and the others where
  those found them likely; basin free energy of 0 < phi < 2.3 rad with bootstrap errors.
* unbiased Langevin dynamics with an exact move (100 candidates, near the marginal density) every
  500 steps: moves accepted, basin changes in 1,000 moves, and the basin free energy of its frames.

    python benchmarks/exact_moves.py [--model FILE] [--energies N] [--moves N] [--seed N]
                                     [--platform WORD] [--json FILE]
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from alanine import (
    KT,
    TEMPERATURE,
    Weigher,
    biased_simulation,
    free_bias,
    in_basin,
    umbrella_frames,
)
from conditional_ess import DATA, train
from numpy.typing import NDArray

from openmm_cgan import ConditionalGAN, FrameReporter, ProposalReporter
from openmm_cgan.cli.shipped import read_reference
from openmm_cgan.frames import read_frames
from openmm_cgan.free_energy import Estimate, basin_difference
from openmm_cgan.free_energy.importance import GeneratedFrames, reweight_generated
from openmm_cgan.free_energy.samples import statistical_inefficiency
from openmm_cgan.proposals.conditions import GridConditions, UniformConditions
from openmm_cgan.reporters.settings import ProposalSettings
from openmm_cgan.testsystems import alanine_dipeptide

ENERGIES = 40_000  # of the generator alone, a fifth of them at uniform CVs
INTERVAL, CANDIDATES = 500, 100


def generator_alone(gan: ConditionalGAN, energies: int) -> dict[str, object]:
    """Basin free energy from so many energies."""
    start = time.perf_counter()
    n_uniform = energies // 5
    rng = np.random.default_rng(0)
    weigher = Weigher(gan, free_bias(alanine_dipeptide("C7eq")))
    uniform = UniformConditions(gan.cv_range, gan.variables)
    first = uniform.draw(n_uniform, rng)
    own = weigher.log_weights(first, seed=1)
    log_weights = own - uniform.log_density(first)
    likely = GridConditions.from_weights(
        first, log_weights, gan.cv_range, gan.variables, bins=18, power=0.5
    )
    second = likely.draw(energies - n_uniform, rng)
    cvs = np.concatenate([first, second])
    own = np.concatenate([own, weigher.log_weights(second, seed=2)])
    # all are weighted by the mixture that they were drawn from
    shares = np.log([n_uniform, energies - n_uniform])
    mixture = np.logaddexp(
        uniform.log_density(cvs) + shares[0], likely.log_density(cvs) + shares[1]
    )
    made = GeneratedFrames(cvs, own - mixture, TEMPERATURE, gan.variables)
    samples = reweight_generated(made, seed=0)
    estimate = basin_difference(samples, lambda x: in_basin(x[:, 0]))
    reference = read_reference().difference
    error = float(np.hypot(estimate.error, reference.error))
    off = estimate.value - reference.value
    return {
        "name": f"free energy from the generator alone, {energies:,} energies: standard error",
        "value": round(estimate.error, 3),
        "unit": "kJ/mol",
        "target": "<= 0.10, within 2 standard errors of the reference",
        "met": bool(estimate.error <= 0.10 and abs(off) <= 2 * error),
        "peers": {
            "dF": round(estimate.value, 3),
            "reference": f"{reference.value} +- {reference.error}",
            "off, in standard errors": round(off / error, 2),
            "effective samples": round(samples.effective_samples),
            "seconds": round(time.perf_counter() - start, 1),
        },
    }


@dataclass(frozen=True)
class MovedRun:
    """What unbiased dynamics with exact moves gave.

    Attributes
    ----------
    phi : ndarray, shape (n_frames,)
        Of the frames [rad].
    moves, accepted : int
    seconds : float
    """

    phi: NDArray[np.float64]
    moves: int
    accepted: int
    seconds: float


def moved_run(gan: ConditionalGAN, moves: int, seed: int, platform: str) -> MovedRun:
    """Unbiased dynamics with an exact move every INTERVAL steps."""
    molecule = alanine_dipeptide("C7eq")
    bias = free_bias(molecule)
    simulation = biased_simulation(molecule, bias, seed, platform)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        frames = FrameReporter(folder / "frames", 50, bias)
        simulation.reporters.append(frames)
        proposals = ProposalReporter(
            folder / "moves.csv", INTERVAL, gan, bias, mode="exact", seed=seed,
            settings=ProposalSettings(candidates=CANDIDATES),
        )  # fmt: skip
        simulation.reporters.append(proposals)
        start = time.perf_counter()
        simulation.step(moves * INTERVAL)
        seconds = time.perf_counter() - start
        frames.close()
        phi = read_frames(folder / "frames").cvs[:, 0]
        with (folder / "moves.csv").open() as file:
            table = list(csv.DictReader(file))
    return MovedRun(phi, len(table), proposals.counts()["accepted"], seconds)


def basin_estimate(inside: NDArray[np.bool_]) -> Estimate:
    """Free energy of the basin from frames (n,) in it or not [kJ/mol].

    Visits are rare and short: their number says more of the error than the spread of blocks.
    """
    mean = inside.mean()
    effective = len(inside) / statistical_inefficiency(inside[:, None].astype(float))
    value = float(-KT * np.log(mean / (1 - mean)))
    return Estimate(value, float(KT / np.sqrt(effective * mean * (1 - mean))))


def unbiased_with_moves(
    gan: ConditionalGAN, moves: int, seed: int, platform: str = "Reference"
) -> list[dict[str, object]]:
    """Exact moves in unbiased dynamics."""
    run = moved_run(gan, moves, seed, platform)
    inside = in_basin(run.phi)
    changes = int((inside[1:] != inside[:-1]).sum())
    mean, estimate, reference = inside.mean(), basin_estimate(inside), read_reference().difference
    both = float(np.hypot(estimate.error, reference.error))
    off = estimate.value - reference.value
    common = {"moves": run.moves, "seconds": round(run.seconds)}
    return [
        {
            "name": "exact move in unbiased MD, N = 100, every 500 steps: accepted",
            "value": round(run.accepted / run.moves, 3),
            "target": "> 0.75",
            "met": run.accepted / run.moves > 0.75,
            "peers": common,
        },
        {
            "name": "exact move in unbiased MD: basin changes in 1,000 moves",
            "value": round(1000 * changes / run.moves, 1),
            "target": "> 17",
            "met": 1000 * changes / run.moves > 17,
            "peers": {
                **common,
                "of independent samples with these populations": round(
                    float(2000 * mean * (1 - mean)), 1
                ),
            },
        },
        {
            "name": "exact move in unbiased MD: dF of its frames, off the reference",
            "value": round(float(off / both), 2),
            "unit": "standard errors",
            "target": "within 2",
            "met": bool(abs(off) <= 2 * both),
            "peers": {**common, "dF": f"{estimate.value:.2f} +- {estimate.error:.2f}"},
        },
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, help="a generator that conditional_ess.py saved")
    parser.add_argument("--energies", type=int, default=ENERGIES, help="of the generator alone")
    parser.add_argument("--moves", type=int, default=6000)
    parser.add_argument("--seed", type=int, default=1, help="of the dynamics and the moves")
    parser.add_argument("--platform", default="Reference", help="of the dynamics: OpenCL, say")
    parser.add_argument("--json", type=Path, help="write the rows to this file")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    gan = ConditionalGAN.load(arguments.model) if arguments.model else None
    if gan is None:
        gan, _ = train(umbrella_frames(DATA))
    rows = [generator_alone(gan, arguments.energies)]
    rows += unbiased_with_moves(gan, arguments.moves, arguments.seed, arguments.platform)
    for row in rows:
        row["command"] = f"python {' '.join(sys.argv)}"
        print(f"{row['name']:70s} {row['value']:8} {row['target']}  {row['peers']}")
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
