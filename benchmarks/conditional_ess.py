"""How good the flow is: conditional effective sample size, and marginals against held-out MD.

A FlowGenerator is trained on frames of umbrella windows of alanine dipeptide in vacuum (at most
20 ns) and refined on the energy, 10 minutes in all at most. Then 1000 configurations are made in
the middle of each cell of a 12 x 12 grid of (phi, psi) and weighted: Kish's effective sample size
over 1000, where the free energy (which the weights give as well) is below 60 kJ/mol. And every
torsion, angle and bond of configurations made at the CVs of held-out frames is compared with those
frames, beside the same distance between two halves of the held-out MD.

    python benchmarks/conditional_ess.py [--json FILE] [--save MODEL]
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

import numpy as np
import torch
from alanine import KT, Umbrella, Weigher, free_bias, grid_centres, umbrella_frames
from numpy.typing import NDArray

from openmm_cgan import ConditionalGAN
from openmm_cgan.cgan import RefiningSettings, TrainingSettings, refine
from openmm_cgan.frames import Frames
from openmm_cgan.metrics import kish_effective_sample_size, marginal_distances
from openmm_cgan.proposals.conditions import UniformConditions
from openmm_cgan.rotors import exchange_hydrogens, find_rotors
from openmm_cgan.testsystems import alanine_dipeptide

DATA = Umbrella(n_side=18, steps=29_500, stride=50, seed=1)  # 19.4 ns
HELD_OUT = [Umbrella(n_side=18, steps=2_000, stride=50, seed=seed) for seed in (101, 201)]
TRAINING = TrainingSettings(generator="FlowGenerator", steps=4000, batch=512, seed=0)
REFINING = RefiningSettings(steps=1200, batch=256, learning_rate=1e-3)
N = 1000
LIMIT = 60.0  # kJ/mol


def train(frames: Frames) -> tuple[ConditionalGAN, dict[str, float]]:
    """The trained and refined generator, and what it cost."""
    molecule = alanine_dipeptide("C7eq")
    start = time.perf_counter()
    gan = ConditionalGAN.fit(frames, molecule.topology, TRAINING)
    trained = time.perf_counter()
    bias = free_bias(molecule)
    conditions = UniformConditions(gan.cv_range, gan.variables)
    drawn = conditions.draw(50_000, np.random.default_rng(0))
    refined, history = refine(gan, Weigher(gan, bias).potential, drawn, REFINING)
    end = time.perf_counter()
    return refined, {
        "training, s": round(trained - start),
        "refining, s": round(end - trained),
        "energies for refining": history[-1]["energies"],
        "held-out log-likelihood": round(gan.history[-1]["log_likelihood"], 3),
    }


def effective_sizes(gan: ConditionalGAN, n: int = N) -> tuple[NDArray, NDArray]:
    """Kish/n and free energy [kJ/mol] in the middle of each cell, both (144,)."""
    weigher = Weigher(gan, free_bias(alanine_dipeptide("C7eq")))
    sizes, free_energies = [], []
    for k, centre in enumerate(grid_centres()):
        log_w = weigher.log_weights(np.tile(centre, (n, 1)), seed=k)
        sizes.append(kish_effective_sample_size(log_w) / n)
        top = log_w.max()
        free_energies.append(-KT * (top + np.log(np.exp(log_w - top).mean())))
    found = np.array(free_energies)
    return np.array(sizes), found - found.min()


def marginals(gan: ConditionalGAN) -> dict[str, NDArray]:
    """Jensen-Shannon distances and floors of all coordinates that vary, by kind."""
    topology = alanine_dipeptide("C7eq").topology
    md = Frames.concatenate([umbrella_frames(umbrella) for umbrella in HELD_OUT])
    rng = np.random.default_rng(0)
    x_md = exchange_hydrogens(md.positions, find_rotors(topology), rng).astype(float)
    z_matrix = gan.features.z_matrix
    made = z_matrix.to_internal(torch.from_numpy(gan.sample(md.cvs, seed=1)))
    real = z_matrix.to_internal(torch.from_numpy(x_md))
    varying = set(range(len(gan.features.centre))) - set(gan.features.constant)
    varying -= {z_matrix.coordinate_of(v).column + 2 * 22 - 3 for v in gan.variables}
    first, found = 0, {}
    for kind, a, b in zip(("bonds", "angles", "torsions"), made, real, strict=True):
        columns = [k for k in range(a.shape[1]) if first + k in varying]
        first += a.shape[1]
        domain = (-np.pi, np.pi) if kind == "torsions" else None
        distances = marginal_distances(a.numpy()[:, columns], b.numpy()[:, columns], domain)
        found[kind] = np.stack([distances.distance, distances.floor])
    return found


def rows(gan: ConditionalGAN, cost: dict[str, float]) -> list[dict[str, object]]:
    """The rows of the table."""
    sizes, free_energies = effective_sizes(gan)
    low = sizes[free_energies < LIMIT]
    found = marginals(gan)
    distance, floor = np.concatenate(list(found.values()), axis=1)
    command = f"python {' '.join(sys.argv)}"
    made = []
    for name, value, target in (
        ("median", np.median(low), 0.65),
        ("10th percentile", np.quantile(low, 0.1), 0.35),
    ):
        made.append(
            {
                "name": f"conditional effective sample size, {name} of {len(low)} cells",
                "value": round(float(value), 3),
                "unit": "of n",
                "target": f">= {target}",
                "met": bool(value >= target),
                "peers": {**cost, "frames, ns": round(DATA.nanoseconds, 1)},
                "command": command,
            }
        )
    for name, value, bound in (
        ("worst", distance.max(), floor.max()),
        ("mean", distance.mean(), floor.mean()),
    ):
        made.append(
            {
                "name": f"Jensen-Shannon distance of {len(floor)} coordinates, {name}",
                "value": round(float(value), 4),
                "unit": "",
                "target": f"<= {1.5 * bound:.4f} (1.5 of the floor)",
                "met": bool(value <= 1.5 * bound),
                "peers": {
                    "floor": round(float(bound), 4),
                    **{k: round(float(v[0].max()), 4) for k, v in found.items()},
                },
                "command": command,
            }
        )
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, help="write the rows to this file")
    parser.add_argument("--save", type=Path, help="write the generator to this file")
    arguments = parser.parse_args()
    torch.set_num_threads(1)  # as fast as two on networks this small
    gan, cost = train(umbrella_frames(DATA))
    if arguments.save:
        gan.save(arguments.save)
    made = rows(gan, cost)
    for row in made:
        print(f"{row['name']:65s} {row['value']:8} {row['target']}  {row['peers']}")
    if arguments.json:
        arguments.json.write_text(json.dumps(made, indent=1) + "\n")


if __name__ == "__main__":
    main()
