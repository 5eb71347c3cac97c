"""Basins of every residue of ACE-ALA5-NME in OBC2: a flow's weights against replica exchange.

The flow is told phi and psi of the middle residue and was trained on 4 ns of metadynamics on them;
the torsions of the other four are hidden, and its weights are to put them right. The reference is
replica exchange in temperature (OpenMM's own), all replicas started from the run of metadynamics.
For each residue: F(alpha) - F(beta), with phi < 0, alpha being -120 < psi < 50 degrees; and F(phi >
0) - F(phi < 0). Errors: of the flow by the bootstrap, of the replica exchange by blocks.

    python benchmarks/peptide_basins.py --data FOLDER --model FILE [--iterations N] [--energies N]

FOLDER is that of `benchmarks/molecules.py ALA5 --solvent obc2`, FILE a generator there. A replica
exchange that is there already goes on. Results go to results/peptide_basins.json beside this file.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import MDAnalysis
import numpy as np
import openmm
import torch
from molecule_runs import KT, TEMPERATURE, TIME_STEP, Run, biased_run, torsions
from molecules import Judge
from numpy.typing import NDArray
from openmm import app
from provenance import provenance
from small_molecules import Built, build
from tqdm import tqdm

from openmm_cgan import ConditionalGAN
from openmm_cgan.atomic_files import write_atomically
from openmm_cgan.free_energy import reweight_generated
from openmm_cgan.free_energy.rounds import generate_in_rounds

RESULTS = Path(__file__).parent / "results" / "peptide_basins.json"
TEMPERATURES = np.geomspace(TEMPERATURE, 520.0, 7)
ITERATION, EVERY = 250, 2  # steps between exchanges, and exchanges between frames
SKIPPED = 0.1  # of the replica exchange
BLOCKS = 10
ALPHA = np.radians([-120.0, 50.0])  # of psi


def all_torsions(built: Built, x: NDArray) -> NDArray[np.float64]:
    """Phi and psi (n, 5, 2) of the residues, in their order."""
    named = built.cvs | built.hidden
    ends = ["1", "2", "", "4", "5"]
    return np.stack(
        [np.stack([torsions(x, named[f"{name}{end}"]) for name in ("phi", "psi")], -1)
         for end in ends],
        axis=1,
    )  # fmt: skip


def basins(angles: NDArray) -> dict[str, tuple[NDArray, NDArray]]:
    """Of phi, psi (n, 5, 2) which are in the second and in the first state of each difference."""
    phi, psi = angles[..., 0], angles[..., 1]
    alpha = (psi > ALPHA[0]) & (psi < ALPHA[1])
    return {
        "alpha - beta": ((phi < 0) & alpha, (phi < 0) & ~alpha),
        "phi > 0 - phi < 0": (phi > 0, phi < 0),
    }


def exchanged(built: Built, folder: Path, iterations: int, start: NDArray) -> NDArray[np.float64]:
    """Phi and psi (n, 5, 2) of the frames at 300 K; begun from one frame a replica [nm]."""
    integrator = openmm.LangevinMiddleIntegrator(TEMPERATURE, 1.0, TIME_STEP)
    integrator.setRandomNumberSeed(1)
    molecule = built.molecule
    platform = openmm.Platform.getPlatformByName("CPU")
    simulation = app.Simulation(
        molecule.topology, molecule.system, integrator, platform, {"Threads": "1"}
    )
    states = []
    for x in start:
        simulation.context.setPositions(x)
        simulation.context.setVelocitiesToTemperature(TEMPERATURE, 1)
        states.append(simulation.context.getState(positions=True, velocities=True))
    at = [{"temperature": float(t)} for t in TEMPERATURES]
    sampler = app.ReplicaExchangeSampler(at, simulation, ITERATION)
    sampler.replicaConformation = states
    sampler.reporters.append(
        app.ReplicaExchangeReporter(
            str(folder), EVERY, sampler, trajectoryPerState=True, checkpoints=True,
            resume=(folder / "log.csv").exists(),
        )
    )  # fmt: skip
    for _ in tqdm(range(sampler.currentIteration, iterations), "exchange", disable=None):
        sampler.simulate(1)
    universe = MDAnalysis.Universe(molecule.topology, str(folder / "state_0.xtc"))
    x = np.array([universe.atoms.positions / 10 for _ in universe.trajectory])
    return all_torsions(built, x[round(SKIPPED * len(x)) :])


def told_by_frames(angles: NDArray) -> dict[str, list[list[float]]]:
    """Each difference of each residue with its error by blocks [kJ/mol]."""
    found = {}
    for name, (second, first) in basins(angles).items():
        parts = [
            _difference(s.sum(axis=0), f.sum(axis=0))
            for s, f in zip(
                np.array_split(second, BLOCKS), np.array_split(first, BLOCKS), strict=True
            )
        ]
        whole = _difference(second.sum(axis=0), first.sum(axis=0))
        shares = np.array([np.exp(-part / KT) for part in parts])
        relative = shares.std(axis=0, ddof=1) / shares.mean(axis=0) / np.sqrt(BLOCKS)
        found[name] = np.stack([whole, KT * relative], axis=-1).round(3).tolist()
    return found


def _difference(second: NDArray, first: NDArray) -> NDArray[np.float64]:
    with np.errstate(divide="ignore"):
        return -KT * (np.log(second) - np.log(first))


def told_by_weights(
    judge: Judge, energies: int, seed: int
) -> tuple[dict[str, list[list[float]]], float]:
    """The same of a generator's weights; and what they are worth."""
    kept: list[NDArray] = []
    weigh = judge.move.weigh

    def weighed(x: NDArray, conditions: NDArray, log_prob: NDArray) -> Any:
        kept.append(all_torsions(judge.built, x))
        return weigh(x, conditions, log_prob)

    judge.move.weigh = weighed  # type: ignore[method-assign]
    made = generate_in_rounds(judge.move, energies, judge.gan.cv_range, seed)
    samples = reweight_generated(made, seed=seed)
    if samples.unknown:
        print(samples.unknown)
    angles = np.concatenate(kept)[samples.frame]
    found = {}
    for name, (second, first) in basins(angles).items():
        rows = []
        for k in range(second.shape[1]):
            logs = np.vstack([samples.log_weights, samples.replicates])
            w = np.exp(logs)
            values = _difference(w[:, second[:, k]].sum(axis=1), w[:, first[:, k]].sum(axis=1))
            rows.append([round(float(values[0]), 3), round(float(values[1:].std(ddof=1)), 3)])
        found[name] = rows
    return found, samples.effective_samples


def main() -> None:
    """Run what is missing, and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=1_000_000, help="of the metadynamics")
    parser.add_argument("--iterations", type=int, default=4000, help="of the replica exchange")
    parser.add_argument("--energies", type=int, default=100_000, help="of the flow")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    made, built = provenance(), build("ALA5", "obc2")
    run = Run("ALA5", "obc2", arguments.steps, 1)
    frames = biased_run(run, arguments.data).frames
    start = frames.positions[np.linspace(0, len(frames) - 1, len(TEMPERATURES)).astype(int)]
    theirs = told_by_frames(
        exchanged(built, arguments.data / "ALA5-exchange", arguments.iterations, start)
    )
    gan = ConditionalGAN.load(arguments.model, built.molecule.topology)
    judge = Judge(built, "obc2", gan)
    ours, effective = told_by_weights(judge, arguments.energies, arguments.seed)
    print(f"{arguments.energies} configurations are worth {effective:.0f}")
    for name in ours:
        print(f"{name} [kJ/mol]: residue, flow, replica exchange, off in errors of both")
        for k, (a, b) in enumerate(zip(ours[name], theirs[name], strict=True), start=1):
            off = (a[0] - b[0]) / np.hypot(a[1], b[1])
            print(f"  {k}  {a[0]:6.2f} +- {a[1]:.2f}  {b[0]:6.2f} +- {b[1]:.2f}  {off:+.1f}")
    kept = {
        "flow": ours, "replica exchange": theirs, "worth": round(effective),
        "energies": arguments.energies, "iterations": arguments.iterations, "made": made,
        "command": f"python {' '.join(Path(word).name for word in sys.argv)}",
    }  # fmt: skip
    write_atomically(RESULTS, (json.dumps(kept, indent=1) + "\n").encode())


if __name__ == "__main__":
    main()
