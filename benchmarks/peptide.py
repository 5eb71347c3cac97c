"""A flow for a capped pentapeptide in implicit solvent: everything from MD to figures, good or bad.

ACE-ALA5-NME (62 atoms, AMBER ff14SB, OBC2): well-tempered metadynamics on phi and psi of the
middle alanine, a FlowGenerator trained on the first three quarters of its frames, refined on the
energy. What it makes at the CV values of the last quarter, which it never saw, is compared with the
frames there; the floor is one half of those frames against the other.

    python benchmarks/peptide.py [--steps N] [--train-seconds S] [--refine-seconds S] [--json FILE]
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
import openmm
import torch
from numpy.typing import NDArray
from openmm import app

from openmm_cgan import GAS_CONSTANT, ConditionalGAN, FrameReporter, PlumedBias
from openmm_cgan.cgan import RefiningSettings, TrainingSettings, refine, rows_for
from openmm_cgan.frames import Frames, read_frames
from openmm_cgan.metrics import kish_effective_sample_size, marginal_distances
from openmm_cgan.potentials import Potential
from openmm_cgan.proposals import Screen, ScreenSettings
from openmm_cgan.proposals.conditions import UniformConditions
from openmm_cgan.reporters.moves import ExactMove
from openmm_cgan.testsystems import MIDDLE_ATOMS, Molecule, alanine_pentapeptide

TEMPERATURE = 300.0
KT = GAS_CONSTANT * TEMPERATURE
TIMESTEP = 0.004  # ps
FRAMES_EVERY = 25
AT = {"alpha": (-1.1, -0.7), "beta": (-2.4, 2.6), "PPII": (-1.2, 2.5), "left": (1.0, 0.7)}
EACH = 500  # configurations at each of those
# Contexts of one thread: twice as fast on CPU as on Reference, with 62 atoms and implicit solvent
PLATFORM = "CPU"


def plumed_input() -> str:
    """Metadynamics on two torsions."""
    phi, psi = (",".join(str(atom + 1) for atom in atoms) for atoms in MIDDLE_ATOMS)
    return (
        f"phi: TORSION ATOMS={phi}\npsi: TORSION ATOMS={psi}\n"
        "METAD ARG=phi,psi SIGMA=0.35,0.35 HEIGHT=1.0 BIASFACTOR=8 PACE=250"
        " GRID_MIN=-pi,-pi GRID_MAX=pi,pi FILE=HILLS\n"
    )


def biased_md(molecule: Molecule, steps: int, folder: Path) -> tuple[Frames, PlumedBias]:
    """Frames of metadynamics."""
    bias = PlumedBias(plumed_input(), molecule.topology, temperature=TEMPERATURE, directory=folder)
    bias.add_to(molecule.system)
    integrator = openmm.LangevinMiddleIntegrator(TEMPERATURE, 1.0, TIMESTEP)
    integrator.setRandomNumberSeed(1)
    platform = openmm.Platform.getPlatformByName(PLATFORM)
    simulation = app.Simulation(
        molecule.topology, molecule.system, integrator, platform, {"Threads": "1"}
    )
    simulation.context.setPositions(molecule.positions)
    simulation.context.setVelocitiesToTemperature(TEMPERATURE, 1)
    bias.attach(simulation)
    reporter = FrameReporter(folder / "frames", FRAMES_EVERY, bias)
    simulation.reporters.append(reporter)
    simulation.step(steps)
    reporter.close()
    bias.close()
    return read_frames(folder / "frames"), bias


def internal_distances(gan: ConditionalGAN, made: NDArray, md: NDArray) -> dict[str, Any]:
    """Jensen-Shannon distances by kind of coordinate, of those that vary and are no CVs.

    Both sets of positions are of shape (n, n_atoms, 3) [nm].
    """
    z_matrix = gan.features.z_matrix
    ours, theirs = (
        torch.cat(z_matrix.to_internal(torch.from_numpy(x.astype(float))), dim=1).numpy()
        for x in (made, md)
    )
    varies = np.array(sorted({*gan.features.linear.tolist(), *gan.features.wide.tolist()}))
    n = z_matrix.n_atoms
    edges = {"bonds": (0, n - 1), "angles": (n - 1, 2 * n - 3), "torsions": (2 * n - 3, 3 * n - 6)}
    found = {}
    for kind, (low, high) in edges.items():
        columns = varies[(varies >= low) & (varies < high)]
        domain = (-np.pi, np.pi) if kind == "torsions" else None
        found[kind] = marginal_distances(ours[:, columns], theirs[:, columns], domain, bins=50)
    return found


def evaluate(
    gan: ConditionalGAN, molecule: Molecule, bias: PlumedBias, held: Frames
) -> dict[str, Any]:
    """All figures of one generator."""
    result: dict[str, Any] = {}
    begun = time.perf_counter()
    made, _ = gan.sample_with_log_prob(held.cvs, seed=1)
    result["per second"] = len(made) / (time.perf_counter() - begun)
    strict = Screen(molecule.topology, molecule.positions)
    result["passed"] = float((strict.check(made) == "").mean())
    potential = Potential(molecule.system, leave_out=bias.force_groups(), platform=PLATFORM)
    energies, theirs = potential.energies(made), potential.energies(held.positions)
    result["dU"] = float(np.median(energies) - np.median(theirs))
    result["spread of U"] = float(np.subtract(*np.percentile(theirs, [75, 25])))
    log_prob = gan.log_prob(held.positions, held.cvs)
    result["log_prob"] = float(np.median(log_prob))
    result["distances"] = internal_distances(gan, made, held.positions)
    loose = ScreenSettings(clash_fraction=0.0, bond_tolerance=np.inf)
    free = bias.restrained(gan.cv_range.mean(axis=1), 0.0)  # its CVs, and no bias
    move = ExactMove(
        gan,
        free,
        potential,
        Screen(molecule.topology, molecule.positions, None, loose),
        KT,
        conditions=UniformConditions(gan.cv_range, gan.variables),
    )
    result["kish"] = {}
    for name, cvs in AT.items():
        asked = np.tile(cvs, (EACH, 1))
        x, log_q = gan.sample_with_log_prob(asked, seed=2)
        weights = move.weigh(x, asked, log_q).log_weights
        result["kish"][name] = kish_effective_sample_size(weights) / EACH
    return result


def rows_of(label: str, found: dict[str, Any], seconds: float) -> list[dict[str, Any]]:
    """Rows of the table; there is no target but to be shown."""
    kish = found["kish"]
    measured = [
        ("generated that pass all screens", found["passed"], "", {}),
        (
            "median energy, generated minus MD",
            found["dU"],
            "kJ/mol",
            {"quartiles of MD apart": found["spread of U"]},
        ),
        ("effective samples (Kish/n) at fixed phi, psi: median of four", float(np.median(list(
            kish.values()))), "", kish),
        ("median log density of unseen frames", found["log_prob"], "", {}),
        ("generated with log density, one core", found["per second"], "1/s", {}),
    ]  # fmt: skip
    for kind, distances in found["distances"].items():
        ratio = distances.distance.mean() / distances.floor.mean()
        peers = {
            "mean": float(distances.distance.mean()),
            "floor": float(distances.floor.mean()),
            "worst": float(distances.distance.max()),
            "its floor": float(distances.floor[distances.distance.argmax()]),
        }
        measured.append((f"Jensen-Shannon distance of {kind}, times its floor", ratio, "", peers))
    command = f"python {' '.join(sys.argv)}"
    return [
        {
            "name": f"pentapeptide, 62 atoms, {label} ({seconds:.0f} s so far): {name}",
            "value": float(value),
            "unit": unit,
            "target": None,
            "met": None,
            "peers": {key: round(number, 4) for key, number in peers.items()},
            "command": command,
        }
        for name, value, unit, peers in measured
    ]


def measure(steps: int, train_seconds: float, refine_seconds: float) -> list[dict[str, Any]]:
    """Rows after training and after refining."""
    begun = time.perf_counter()
    molecule = alanine_pentapeptide()
    with tempfile.TemporaryDirectory() as folder:
        frames, bias = biased_md(molecule, steps, Path(folder))
        return figures(molecule, frames, bias, train_seconds, refine_seconds, begun)


def figures(
    molecule: Molecule,
    frames: Frames,
    bias: PlumedBias,
    train_seconds: float,
    refine_seconds: float,
    begun: float,
) -> list[dict[str, Any]]:
    """Train, evaluate, refine, evaluate."""
    print(f"{len(frames)} frames after {time.perf_counter() - begun:.0f} s", flush=True)
    split = 3 * len(frames) // 4
    seen, unseen = frames.select(slice(0, split)), frames.select(slice(split, None))
    settings = TrainingSettings(
        generator="FlowGenerator",
        batch=512,
        steps=500,
        report_every=25,
        max_seconds=train_seconds,
    )
    gan = ConditionalGAN.fit(seen, molecule.topology, settings)
    label = "flow by likelihood"
    rows = rows_of(label, evaluate(gan, molecule, bias, unseen), time.perf_counter() - begun)
    if refine_seconds > 0:
        potential = Potential(molecule.system, leave_out=bias.force_groups(), platform=PLATFORM)
        refining = RefiningSettings(steps=300, batch=128, max_seconds=refine_seconds)
        rows_seen = rows_for(gan, seen, molecule.topology)
        gan, _ = refine(gan, potential, settings=refining, frames=rows_seen)
        label = "refined on energy and frames"
        rows += rows_of(label, evaluate(gan, molecule, bias, unseen), time.perf_counter() - begun)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=300_000, help="of 4 fs")
    parser.add_argument("--train-seconds", type=float, default=100.0)
    parser.add_argument("--refine-seconds", type=float, default=80.0)
    parser.add_argument("--json", type=Path, help="write the rows to this file")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rows = measure(arguments.steps, arguments.train_seconds, arguments.refine_seconds)
    for row in rows:
        print(f"{row['name']:110s} {row['value']:9.4g} {row['unit']} {row['peers'] or ''}")
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
