"""One recipe for many molecules: the same settings for all, and what came of it for each.

Capped amino acids and small organic molecules (small_molecules.py) in vacuum or OBC2: frames of
metadynamics on the named torsions, a FlowGenerator trained and refined in so many steps, or as many
as a time allows. For each, before and after refining:
* Kish's effective sample size over n in the middle of each cell of a 12^d grid of the CVs, where
  the free energy is below 60 kJ/mol: median and 10th percentile;
* unbiased dynamics with an exact move (100 candidates) every 500 steps: share accepted.
With them goes the processor time of training and refining. Then populations of the thirds of each
torsion, CVs and hidden ones, from the generator alone and from the frames of the metadynamics: how
many standard errors apart, or "not enough".

Frames and generators are kept in --data and rows in --json, so that a run goes on where it stopped;
with nothing left to do the table is printed. --again reads the generators that are kept and makes
the live moves and the populations of all rows again, by the present code.

    python benchmarks/molecules.py VAL SER --solvent vacuum
    python benchmarks/molecules.py butane --steps 100000 --train-steps 200 --refine-steps 200
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from molecule_runs import KT, TEMPERATURE, Run, biased_run, simulation_of, torsion_lines, torsions
from numpy.typing import NDArray
from provenance import in_words, provenance
from small_molecules import RECIPES, Built, build

from openmm_cgan import ConditionalGAN, PlumedBias, ProposalReporter
from openmm_cgan.atomic_files import write_atomically
from openmm_cgan.cgan import RefiningSettings, TrainingSettings, refine, rows_for
from openmm_cgan.collective_variable import CollectiveVariable
from openmm_cgan.free_energy.biased_runs import BiasedRun
from openmm_cgan.free_energy.importance import GeneratedFrames, reweight_generated
from openmm_cgan.free_energy.reweighting import reweight
from openmm_cgan.free_energy.samples import BiasedFrames, WeightedSamples, unbiased
from openmm_cgan.metrics import kish_effective_sample_size
from openmm_cgan.potentials import Potential
from openmm_cgan.proposals import Screen, ScreenSettings
from openmm_cgan.proposals.conditions import GridConditions, UniformConditions
from openmm_cgan.reporters.moves import ExactMove
from openmm_cgan.reporters.settings import ProposalSettings

RESULTS = Path(__file__).parent / "results" / "molecules.json"
SIDE = 12  # cells along each CV
EACH = 500  # configurations in the middle of a cell
LIMIT = 60.0  # kJ/mol
INTERVAL, CANDIDATES = 500, 100
ALONE = 20_000  # configurations for populations, a fifth of them at uniform CVs
SKIPPED = 0.2  # of a metadynamics, while its bias still grows fast
# ends of the thirds of a torsion [rad]: gauche -, gauche +, and what is left
THIRDS = {"g-": (-2 * np.pi / 3, 0.0), "g+": (0.0, 2 * np.pi / 3)}


@dataclass(frozen=True)
class Recipe:
    """The settings, the same for all molecules; seconds end what steps would go on with."""

    steps: int
    train_seconds: float | None
    refine_seconds: float | None
    seed: int
    moves: int
    train_steps: int = 4000
    refine_steps: int = 4000

    def training(self) -> TrainingSettings:
        """Of the flow, by likelihood."""
        return TrainingSettings(
            generator="FlowGenerator",
            batch=512,
            steps=self.train_steps,
            max_seconds=self.train_seconds,
            seed=self.seed,
        )

    def model(self, folder: Path, stage: str, commit: str) -> Path:
        """Where the generator of a stage is kept."""
        steps, seconds = f"{self.train_steps}-{self.refine_steps}", ""
        if self.train_seconds is not None and self.refine_seconds is not None:
            steps, seconds = "", f"{self.train_seconds:g}-{self.refine_seconds:g}"
        return folder / f"{stage}-{steps}{seconds}-{commit}.npz"

    def refining(self) -> RefiningSettings:
        """On the energy."""
        return RefiningSettings(
            steps=self.refine_steps, max_seconds=self.refine_seconds, seed=self.seed
        )


class Judge:
    """What weighs the configurations of a generator of one molecule."""

    def __init__(self, built: Built, solvent: str, gan: ConditionalGAN) -> None:
        self.built, self.solvent, self.gan = built, solvent, gan
        text = f"{torsion_lines(built)}PRINT ARG={','.join(built.cvs)}\n"
        molecule = built.molecule
        self.bias = PlumedBias(text, molecule.topology, temperature=TEMPERATURE)
        settings = ScreenSettings(clash_fraction=0.0, bond_tolerance=np.inf)
        screen = Screen(molecule.topology, molecule.positions, settings=settings)
        self.uniform = UniformConditions(gan.cv_range, gan.variables)
        potential = Potential(molecule.system)
        self.move = ExactMove(gan, self.bias, potential, screen, KT, conditions=self.uniform)

    def weigh(self, cvs: NDArray, seed: int) -> tuple[NDArray, NDArray]:
        """Configurations at CVs (n, n_cvs), and log of exp(-u) |J| |H|^(1/2) / q (n,)."""
        x, log_prob = self.gan.sample_with_log_prob(cvs, seed=seed)
        log_weights = self.move.weigh(x, cvs, log_prob).log_weights
        return x, log_weights + self.uniform.log_density(cvs)

    def effective_sizes(self) -> tuple[NDArray, NDArray]:
        """Kish/n, and free energy [kJ/mol], of the cells."""
        centres = [(np.arange(SIDE) + 0.5) / SIDE * (b - a) + a for a, b in self.uniform.cv_range]
        cells = np.stack(np.meshgrid(*centres, indexing="ij"), axis=-1).reshape(-1, len(centres))
        sizes, free_energies = np.zeros(len(cells)), np.full(len(cells), np.inf)
        for k, centre in enumerate(cells):
            _, log_w = self.weigh(np.tile(centre, (EACH, 1)), seed=k)
            if np.isfinite(log_w).any():
                sizes[k] = kish_effective_sample_size(log_w) / EACH
                top = log_w.max()
                free_energies[k] = -KT * (top + np.log(np.exp(log_w - top).mean()))
        return sizes, free_energies - free_energies.min()

    def accepted(self, moves: int, seed: int) -> float:
        """Share of exact moves in unbiased dynamics that are accepted."""
        bias = PlumedBias(self.bias.text, self.built.molecule.topology, temperature=TEMPERATURE)
        simulation = simulation_of(self.built, bias, self.solvent, seed)
        with tempfile.TemporaryDirectory() as folder:
            reporter = ProposalReporter(
                Path(folder) / "moves.csv", INTERVAL, self.gan, bias, mode="exact", seed=seed,
                settings=ProposalSettings(candidates=CANDIDATES),
            )  # fmt: skip
            simulation.reporters.append(reporter)
            simulation.step(moves * INTERVAL)
            return reporter.counts()["accepted"] / moves

    def alone(self) -> tuple[NDArray, WeightedSamples]:
        """Weighted configurations, most of them where the first found the CVs likely."""
        rng, first = np.random.default_rng(0), ALONE // 5
        drawn = self.uniform.draw(first, rng)
        x, own = self.weigh(drawn, seed=1)
        likely = GridConditions.from_weights(
            drawn, own - self.uniform.log_density(drawn), self.gan.cv_range, self.gan.variables,
            bins=18, power=0.5,
        )  # fmt: skip
        more = likely.draw(ALONE - first, rng)
        x2, own2 = self.weigh(more, seed=2)
        cvs, own = np.concatenate([drawn, more]), np.concatenate([own, own2])
        shares = np.log([first / ALONE, 1 - first / ALONE])
        mixture = np.logaddexp(
            self.uniform.log_density(cvs) + shares[0], likely.log_density(cvs) + shares[1]
        )
        made = GeneratedFrames(cvs, own - mixture, TEMPERATURE, self.gan.variables)
        samples = reweight_generated(made)
        return np.concatenate([x, x2])[samples.frame], samples


def figures(judge: Judge, moves: int, seed: int) -> dict[str, Any]:
    """Effective sizes and accepted moves."""
    sizes, free_energies = judge.effective_sizes()
    low = sizes[free_energies < LIMIT]
    return {
        "median": round(float(np.median(low)), 3),
        "10th percentile": round(float(np.quantile(low, 0.1)), 3),
        "cells": len(low),
        "accepted": round(judge.accepted(moves, seed), 3),
    }


def weighted_frames(run: BiasedRun, built: Built) -> tuple[NDArray, WeightedSamples]:
    """Frames of a metadynamics; hidden torsions count for how correlated they are."""
    frames = run.frames
    late = slice(round(SKIPPED * len(frames)), None)
    x = frames.positions[late]
    hidden = [torsions(x, atoms) for atoms in built.hidden.values()]
    angles = np.stack([*frames.cvs[late].T, *hidden], axis=1)
    added = [
        CollectiveVariable(name, "rad", (-np.pi, np.pi), atoms=atoms)
        for name, atoms in built.hidden.items()
    ]
    variables = (*frames.variables, *added)
    window = BiasedFrames(angles, unbiased, TEMPERATURE, variables, "METAD")
    samples = reweight([window], [run.log_weights()[late]])
    return x[samples.frame], samples


def populations(
    built: Built, ours: tuple[NDArray, WeightedSamples], theirs: tuple[NDArray, WeightedSamples]
) -> list[dict[str, Any]]:
    """Of the thirds of each torsion, from the generator alone and from metadynamics."""
    rows = []
    for name, atoms in (built.cvs | built.hidden).items():
        for third, (low, high) in THIRDS.items():
            found = []
            for x, samples in (ours, theirs):
                angle = torsions(x, atoms)
                found.append(samples.average((angle > low) & (angle < high)))
            made, md = found
            off = (made.value - md.value) / np.hypot(made.error, md.error)
            rows.append(
                {
                    "third": f"{name} {third}",
                    "generator": _said(made),
                    "METAD": _said(md),
                    "off": round(float(off), 2) if np.isfinite(off) else None,
                }
            )
    return rows


def _said(estimate: Any) -> str:
    if not np.isfinite(estimate.error):
        return "not enough"
    return f"{estimate.value:.4f} +- {estimate.error:.4f}"


def measured(name: str, solvent: str, recipe: Recipe, data: Path) -> dict[str, Any]:
    """The row of one molecule."""
    made = provenance()
    built = build(name, solvent)
    run = biased_run(Run(name, solvent, recipe.steps, recipe.seed), data)
    topology, settings = built.molecule.topology, recipe.training()
    kept = Run(name, solvent, recipe.steps, recipe.seed).folder(data)
    models = [recipe.model(kept, stage, made["commit"]) for stage in ("trained", "refined")]
    began = time.process_time()
    if models[0].exists():
        trained = ConditionalGAN.load(models[0], topology)
    else:
        trained = ConditionalGAN.fit(run.frames, topology, settings)
        trained.save(models[0])
    if models[1].exists():
        refined = ConditionalGAN.load(models[1], topology)
    else:
        rows = rows_for(trained, run.frames, topology)
        energy = Potential(built.molecule.system)
        refined, _ = refine(trained, energy, None, recipe.refining(), frames=rows)
        refined.save(models[1])
    seconds = time.process_time() - began
    judge = Judge(built, solvent, refined)
    shares = populations(built, judge.alone(), weighted_frames(run, built))
    return {
        "molecule": name,
        "solvent": solvent,
        "atoms": topology.getNumAtoms(),
        "recipe": vars(recipe),
        "processor seconds of training and refining": round(seconds),
        "trained": figures(Judge(built, solvent, trained), recipe.moves, recipe.seed),
        "refined": figures(judge, recipe.moves, recipe.seed),
        "populations": shares,
        "made": made,
        "command": f"python {' '.join(sys.argv)}",
    }


def told_again(row: dict[str, Any], data: Path) -> None:
    """Live moves and populations of a row by the present code, with what is kept."""
    name, solvent, recipe = row["molecule"], row["solvent"], Recipe(**row["recipe"])
    built, run = build(name, solvent), Run(name, solvent, recipe.steps, recipe.seed)
    for stage in ("trained", "refined"):
        model = recipe.model(run.folder(data), stage, row["made"]["commit"])
        judge = Judge(built, solvent, ConditionalGAN.load(model, built.molecule.topology))
        row[stage]["accepted"] = round(judge.accepted(recipe.moves, recipe.seed), 3)
    theirs = weighted_frames(biased_run(run, data), built)
    row["populations"] = populations(built, judge.alone(), theirs)
    row["told again"] = provenance()


def printed(rows: list[dict[str, Any]]) -> None:
    """The table."""
    print(f"{'molecule':24s} {'trained: median, 10 %, accepted':34s} refined")
    for row in rows:
        label = f"{row['molecule']} {row['solvent']}, {row['atoms']}"
        parts = [
            f"{row[k]['median']:.2f} {row[k]['10th percentile']:.2f} {row[k]['accepted']:.2f}"
            for k in ("trained", "refined")
        ]
        print(f"{label:24s} {parts[0]:34s} {parts[1]}   {in_words(row['made'])}")
        for share in row["populations"]:
            off = "" if share["off"] is None else f"{share['off']:+.1f} standard errors"
            print(f"    {share['third']:12s} {share['generator']:20s} {share['METAD']:20s} {off}")
    if rows:
        names = ("median", "10th percentile", "accepted")
        table = np.array(
            [[[row[k][f] for f in names] for k in ("trained", "refined")] for row in rows]
        )
        for label, found in (("median molecule", np.median(table, 0)), ("worst", table.min(0))):
            trained, refined = (" ".join(f"{x:.2f}" for x in stage) for stage in found)
            print(f"{label:24s} {trained:34s} {refined}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", default=list(RECIPES), help="all if omitted")
    parser.add_argument("--solvent", nargs="*", default=["vacuum", "obc2"])
    parser.add_argument("--steps", type=int, default=1_500_000, help="of 4 fs")
    parser.add_argument("--train-steps", type=int, default=1500)
    parser.add_argument("--refine-steps", type=int, default=2500)
    parser.add_argument("--train-seconds", type=float, help="at most; else all steps")
    parser.add_argument("--refine-seconds", type=float, help="at most; else all steps")
    parser.add_argument("--moves", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--data", type=Path, default=Path("molecules-data"))
    parser.add_argument("--json", type=Path, default=RESULTS, help="rows, old and new")
    parser.add_argument("--again", action="store_true", help="make moves and populations again")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    recipe = Recipe(
        arguments.steps, arguments.train_seconds, arguments.refine_seconds, arguments.seed,
        arguments.moves, arguments.train_steps, arguments.refine_steps,
    )  # fmt: skip
    rows = json.loads(arguments.json.read_text()) if arguments.json.exists() else []
    asked = [(name, solvent) for solvent in arguments.solvent for name in arguments.names]
    for name, solvent in asked:
        if not any(_is_of(row, name, solvent, recipe) for row in rows):
            rows.append(measured(name, solvent, recipe, arguments.data))
            write_atomically(arguments.json, (json.dumps(rows, indent=1) + "\n").encode())
    found = [row for row in rows for one in asked if _is_of(row, *one, recipe)]
    for row in found if arguments.again else ():
        told_again(row, arguments.data)
        write_atomically(arguments.json, (json.dumps(rows, indent=1) + "\n").encode())
    printed(found)


def _is_of(row: dict[str, Any], name: str, solvent: str, recipe: Recipe) -> bool:
    return (row["molecule"], row["solvent"]) == (name, solvent) and (
        Recipe(**row["recipe"]) == recipe
    )


if __name__ == "__main__":
    main()
