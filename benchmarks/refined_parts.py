"""A side chain among the rest: how good its flow is before and after refining on the energy.

Molecules of small_molecules.py: a flow of what is beyond CB, given phi and psi, trained on frames
of metadynamics (molecule_runs.py) and refined among the rest of these frames. Before and after:
* Kish's effective sample size over n of what is made at rests that nothing was trained on, the
  frame itself among it: geometric and arithmetic mean over rests, with standard errors, and of the
  difference, for both are made at the same rests;
* dynamics without a bias and a local move every 100 steps: share accepted, Kish's n of the
  candidates in the mean, changes of chi1 from a third of the circle to another in accepted moves.
Processor seconds of training and refining are told.

    python benchmarks/refined_parts.py VAL SER --data FOLDER [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from molecule_runs import KT, TEMPERATURE, Run, biased_run, simulation_of, torsion_lines, torsions
from numpy.typing import NDArray
from provenance import in_words, provenance
from small_molecules import Built, build

from openmm_cgan import ConditionalGAN, PlumedBias, ProposalReporter
from openmm_cgan.atomic_files import write_atomically
from openmm_cgan.cgan import RefiningSettings, TrainingSettings, refine, rows_for
from openmm_cgan.cgan.training_data import TrainingData
from openmm_cgan.features import ZMatrixFeatures
from openmm_cgan.metrics import kish_effective_sample_size
from openmm_cgan.potentials import Potential
from openmm_cgan.reporters.settings import ProposalSettings

UP_TO_CB = {"N", "H", "CA", "HA", "C", "O", "CB"}
EACH = 100  # configurations at a rest
INTERVAL, CANDIDATES = 100, 20
CENTRES = np.radians([-60.0, 60.0, 180.0])


def side_chain(built: Built) -> list[int]:
    """What is beyond CB of the middle residue."""
    residue = list(built.molecule.topology.residues())[1]
    return [atom.index for atom in residue.atoms() if atom.name not in UP_TO_CB]


def shares(gan: ConditionalGAN, built: Built, rows: TrainingData, rests: int) -> NDArray:
    """Kish/n at rests that were held out, (n_rests,)."""
    potential = Potential(built.molecule.system)
    rng, found = np.random.default_rng(0), []
    for row in rng.permutation(len(rows.held_cvs))[:rests]:
        seen = rows.rests.positions[rows.rests.held_frame[row]].astype(float)
        cvs, here = rows.held_cvs[row].numpy(), gan.among(seen[gan.rest])
        made, log_q = here.sample_with_log_prob(cvs, n=EACH, seed=int(row))
        own = seen[None, gan.atoms]
        log_q = np.append(log_q, here.log_prob(own, cvs[None]))
        whole = np.repeat(seen[None], EACH + 1, axis=0)
        whole[:, gan.atoms] = np.concatenate([made, own])
        logs = -potential.energies(whole) / KT + potential.half_log_det(whole) - log_q
        logs = np.where(np.isfinite(logs), logs, -np.inf)
        found.append(kish_effective_sample_size(logs) / (EACH + 1))
    return np.maximum(found, 1 / (EACH + 1))


def live(
    gan: ConditionalGAN, built: Built, moves: int, seed: int, torsion: tuple[int, ...]
) -> dict[str, float]:
    """Local moves in dynamics without a bias."""
    text = f"{torsion_lines(built)}PRINT ARG={','.join(built.cvs)} FILE=COLVAR STRIDE=100000\n"
    with tempfile.TemporaryDirectory() as folder:
        bias = PlumedBias(
            text, built.molecule.topology, temperature=TEMPERATURE, directory=Path(folder)
        )
        simulation = simulation_of(built, bias, "vacuum", seed)
        settings = ProposalSettings(candidates=CANDIDATES)
        table = Path(folder) / "moves.csv"
        simulation.reporters.append(
            ProposalReporter(table, INTERVAL, gan, bias, mode="local", seed=seed, settings=settings)
        )
        at = []
        for _ in range(moves):
            at.append(_third(simulation, torsion, INTERVAL - 1))
            at.append(_third(simulation, torsion, 1))
        rows = np.genfromtxt(table, delimiter=",", names=True, dtype=None, encoding=None)
    thirds = np.array(at).reshape(-1, 2)
    return {
        "accepted": float(rows["accepted"].mean()),
        "error of accepted": float(rows["accepted"].std() / np.sqrt(len(rows))),
        "effective of candidates": float(rows["effective_sample_size"].mean()),
        "changes of chi1": int((thirds[:, 0] != thirds[:, 1]).sum()),
    }


def _third(simulation: Any, torsion: tuple[int, ...], steps: int) -> int:
    """Which third of the circle a torsion is in, after some steps."""
    simulation.step(steps)
    x = simulation.context.getState(positions=True).getPositions(asNumpy=True)._value[None]
    away = (torsions(x, torsion) - CENTRES + np.pi) % (2 * np.pi) - np.pi
    return int(np.abs(away).argmin())


def in_mean(found: NDArray) -> dict[str, list[float]]:
    """Geometric and arithmetic mean over rests, with standard errors."""
    logs, root = np.log(found), np.sqrt(len(found))
    middle = float(np.exp(logs.mean()))
    return {
        "Kish/n, geometric mean": [middle, float(middle * logs.std() / root)],
        "Kish/n, mean": [float(found.mean()), float(found.std() / root)],
    }


def measured(name: str, options: argparse.Namespace) -> dict[str, Any]:
    """All of one molecule."""
    built = build(name)
    run = biased_run(Run(name, "vacuum", options.steps, 1), options.data)
    topology, part = built.molecule.topology, side_chain(built)
    settings = TrainingSettings(
        generator="FlowGenerator", steps=options.train_steps, batch=512, seed=options.seed
    )
    begun = time.process_time()
    trained = ConditionalGAN.fit(
        run.frames, topology, settings, featurize=ZMatrixFeatures.of_part(part)
    )
    trained_in = time.process_time() - begun
    rows = rows_for(trained, run.frames, topology)
    begun = time.process_time()
    refining = RefiningSettings(steps=options.refine_steps, seed=options.seed)
    refined, history = refine(
        trained, Potential(built.molecule.system), None, refining, frames=rows
    )
    refined_in = time.process_time() - begun
    stages, found = {"trained": trained, "refined": refined}, {}
    kish = {stage: shares(gan, built, rows, options.rests) for stage, gan in stages.items()}
    for stage, gan in stages.items():
        moved = live(gan, built, options.moves, options.seed, built.hidden["chi1"])
        found[stage] = in_mean(kish[stage]) | moved
    gain = np.log(kish["refined"] / kish["trained"])
    return found | {
        "log of the gain of Kish/n": [float(gain.mean()), float(gain.std() / np.sqrt(len(gain)))],
        "atoms of the part": len(part),
        "processor seconds": {"training": trained_in, "refining": refined_in},
        "energies of the refining": history[-1]["energies"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="+")
    parser.add_argument("--data", type=Path, required=True, help="frames are kept here")
    parser.add_argument("--steps", type=int, default=1_000_000, help="of the metadynamics")
    parser.add_argument("--train-steps", type=int, default=1500)
    parser.add_argument("--refine-steps", type=int, default=400)
    parser.add_argument("--rests", type=int, default=200)
    parser.add_argument("--moves", type=int, default=500)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    made = provenance()
    print(in_words(made))
    known = json.loads(options.json.read_text()) if options.json and options.json.exists() else {}
    for name in options.names:
        known[name] = {**measured(name, options), **made, "command": " ".join(sys.argv[1:])}
        print(json.dumps({name: known[name]}, indent=1), flush=True)
        if options.json:
            write_atomically(options.json, json.dumps(known, indent=1) + "\n")


if __name__ == "__main__":
    main()
