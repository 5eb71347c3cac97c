"""Diffusion maps against known slow variables: multiscale systems, alanine dipeptide, and cost.

    python benchmarks/diffusion_map.py [--part sde|alanine|size] [--seeds 6] [--json]

* sde: the coordinate of a map of 1,000 frames against the known slow variable, from frames at
  equilibrium and from biased ones (70 % of the free energy taken out, weights in the kernel), in
  Mahalanobis distances whose covariances are those of bursts of 200 short runs from each frame.
  Spearman's coefficient; for an angle its like on the circle, the mean resultant length of ranks of
  the angle between coordinates 1 and 2 against ranks of it, of which 1 is perfect.
* alanine: frames of metadynamics on phi and psi; maps (alpha = 1) of four backbone torsions and of
  superposed heavy atoms; (cos, sin) of phi and psi predicted from two coordinates by k nearest
  neighbours on frames held out. Of all frames, which go round in both angles, two coordinates can
  not tell everything: a torus does not lie in the plane.
* size: 50,000 frames of 60 features.
"""

from __future__ import annotations

import argparse
import itertools
import json
import resource
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import openmm
import torch
from numpy.typing import NDArray
from openmm import app
from provenance import provenance
from scipy.spatial import cKDTree
from scipy.stats import rankdata, spearmanr

from openmm_cgan import GAS_CONSTANT
from openmm_cgan.diffusion_maps import (
    DiffusionMap,
    DiffusionMapSettings,
    diffusion_map,
    feature_distances,
    mahalanobis_distances,
    superposed_distances,
    with_local_metric,
)
from openmm_cgan.plumed.bias import PlumedBias
from openmm_cgan.testsystems import alanine_dipeptide
from openmm_cgan.testsystems.multiscale import (
    AngleRadius,
    CoupledDoubleWell,
    HalfMoon,
    LinearPair,
    MultiscaleSystem,
    RotatedMuellerBrown,
)

SYSTEMS = (LinearPair, HalfMoon, AngleRadius, RotatedMuellerBrown, CoupledDoubleWell)
COMMAND = "python benchmarks/diffusion_map.py"
BACKBONE = ("5,7,9,15", "7,9,15,17", "2,5,7,9", "9,15,17,19")
BIASFACTOR = 10.0
HEAVY = (4, 5, 6, 8, 10, 14, 15, 16, 18)  # of alanine dipeptide, the first carbon left out
METAD = """phi: TORSION ATOMS=5,7,9,15
psi: TORSION ATOMS=7,9,15,17
metad: METAD ARG=phi,psi SIGMA=0.3,0.3 HEIGHT=1.0 BIASFACTOR=10 PACE=500 FILE=HILLS \
GRID_MIN=-pi,-pi GRID_MAX=pi,pi GRID_BIN=120,120
"""


def row(name: str, value: float, unit: str, target: float, part: str, least: bool = True) -> dict:
    """One line of the table."""
    met = value >= target if least else value <= target
    return {"name": name, "value": round(value, 4), "unit": unit, "target": target, "met": met,
            "peers": {}, "command": f"{COMMAND} --part {part}"}  # fmt: skip


# ---- multiscale systems


def slow_frames(
    system: MultiscaleSystem, n: int, flattened: float, seed: int
) -> tuple[NDArray, NDArray, NDArray]:
    """Exact frames under a bias of minus a share of A, their slow variables, their weights."""
    rng = np.random.default_rng(seed)
    grid = np.linspace(*system.slow_range, 2001)
    energy = system.free_energy(grid[:, None])
    energy -= energy.min()
    share = np.cumsum(np.exp(-(1 - flattened) * energy / system.kT))
    z = np.interp(rng.random(n), share / share[-1], grid)
    frames = system.sample_conditional(z[:, None], 1, rng)[:, 0]
    return frames, z, np.exp(-flattened * np.interp(z, grid, energy) / system.kT)


def burst_covariances(
    system: MultiscaleSystem, frames: NDArray, n_runs: int = 200, seed: int = 1
) -> NDArray:
    """Covariance of the ends of short runs from each frame, shape (n, d, d)."""
    dt = system.eps / 2000
    start = torch.tensor(np.repeat(frames, n_runs, axis=0))
    ends = system.simulate(start, 10, dt, 10, seed)[-1].reshape(len(frames), n_runs, -1)
    ends = ends - ends.mean(axis=1, keepdims=True)
    return np.einsum("nra,nrb->nab", ends, ends) / (n_runs * 10 * dt)


def likeness(system: MultiscaleSystem, found: DiffusionMap, z: NDArray) -> float:
    """How well the first coordinate, or the angle of the first two, tells the slow variable."""
    if system.period is None:
        return float(abs(spearmanr(found.coordinates[:, 0], z).statistic))
    angle = np.arctan2(found.coordinates[:, 1], found.coordinates[:, 0])
    turned, known = (2 * np.pi * rankdata(a) / len(a) for a in (angle, z))
    return max(float(abs(np.mean(np.exp(1j * (turned - s * known))))) for s in (1, -1))


def sde_rows(
    eps: float, n: int, only: str = "", n_seeds: int = 1, first: int = 0
) -> list[dict[str, Any]]:
    """The coordinate against the slow variable, for each system and each seed of its frames."""
    rows = []
    for make in [s for s in SYSTEMS if only in ("", s.__name__)]:
        system = make(eps=eps)
        for flattened, seed in itertools.product((0.0, 0.7), range(first, first + n_seeds)):
            frames, z, weights = slow_frames(system, n, flattened, seed)
            seen = with_local_metric(frames, burst_covariances(system, frames, seed=seed + 1))
            settings = DiffusionMapSettings(n_coordinates=3)
            found = diffusion_map(seen, weights, settings, square_distances=mahalanobis_distances)
            kind = "biased" if flattened else "equilibrium"
            name = f"{make.__name__}, 1/eps {1 / eps:g}, {kind}, seed {seed}: slow variable"
            rows.append(row(name, likeness(system, found, z), "Spearman", 0.99, "sde"))
            print(rows[-1]["name"], rows[-1]["value"], found.eigenvalues.round(4), flush=True)
    return rows


# ---- alanine dipeptide


def alanine_frames(n: int, seed: int = 1) -> tuple[NDArray, NDArray, NDArray]:
    """Positions, (phi, psi) and bias at the end, of n frames of metadynamics, every 0.4 ps."""
    molecule = alanine_dipeptide("C7eq")
    with tempfile.TemporaryDirectory() as folder:
        bias = PlumedBias(METAD, temperature=300.0, backend="native", directory=folder)
        bias.add_to(molecule.system)
        integrator = openmm.LangevinMiddleIntegrator(300, 1, 0.002)
        integrator.setRandomNumberSeed(seed)
        platform = openmm.Platform.getPlatformByName("Reference")
        simulation = app.Simulation(molecule.topology, molecule.system, integrator, platform)
        simulation.context.setPositions(molecule.positions)
        simulation.context.setVelocitiesToTemperature(300, seed)
        bias.attach(simulation)
        frames, cvs = [], []
        for _ in range(n):
            simulation.step(200)
            state = simulation.context.getState(positions=True)
            frames.append(state.getPositions(asNumpy=True)._value)
            cvs.append(bias._engine.cv_values(frames[-1], None))
        energies = bias._engine.bias_of_cvs(np.array(cvs), 200 * n)
        bias.close()
    return np.array(frames), np.array(cvs), energies


def predicted(train: NDArray, known: NDArray, test: NDArray, k: int = 10) -> NDArray:
    """Means over the k nearest neighbours."""
    _, near = cKDTree(train).query(test, k)
    return known[near].mean(axis=1)


def torsions(frames: NDArray) -> NDArray:
    """Sines and cosines of the four backbone torsions, shape (n, 8)."""
    lines = "".join(f"t{i}: TORSION ATOMS={atoms}\n" for i, atoms in enumerate(BACKBONE))
    names = tuple(f"t{i}" for i in range(len(BACKBONE)))
    angles = PlumedBias(lines, cvs=names, backend="native")._engine.cv_values(frames, None)
    return np.concatenate([np.cos(angles), np.sin(angles)], axis=1)


def alanine_rows(frames: NDArray, cvs: NDArray, energies: NDArray) -> list[dict[str, Any]]:
    """R^2 of (cos, sin) of phi and psi from two coordinates, on frames held out."""
    free_energy = (energies.max() - energies) * BIASFACTOR / (BIASFACTOR - 1)
    every = np.arange(len(frames)) >= len(frames) // 10  # the first hills are the crudest
    low = every & (free_energy < 30.0)
    weights = np.exp((energies - energies.max()) / (GAS_CONSTANT * 300))
    table, heavy = torsions(frames), frames[:, HEAVY]
    cases = [
        ("torsions, within 30 kJ/mol", table, low, None, feature_distances),
        ("torsions, within 30 kJ/mol, weighted", table, low, weights, feature_distances),
        ("torsions, all frames", table, every, None, feature_distances),
        ("superposed heavy atoms, within 30 kJ/mol", heavy, low, None, superposed_distances),
    ]
    rows = []
    for name, seen, kept, used, distances in cases:
        settings = DiffusionMapSettings(n_coordinates=4, alpha=1.0, max_landmarks=700)
        given = None if used is None else used[kept]
        found = diffusion_map(seen[kept], given, settings, square_distances=distances)
        some = np.random.default_rng(0).permutation(np.flatnonzero(kept))[:3000]
        coordinates = found.extend(seen[some])
        circle = np.concatenate([np.cos(cvs[some]), np.sin(cvs[some])], axis=1)
        shares = {
            pair: explained(coordinates[:, pair], circle)
            for pair in itertools.combinations(range(4), 2)
        }
        best = max(shares, key=lambda pair: shares[pair])
        print(name, "eigenvalues", found.eigenvalues.round(4), flush=True)
        for which, pair in (("the first two", (0, 1)), (f"the best two, {best}", best)):
            title = f"alanine dipeptide, {name}: cos, sin of phi, psi from {which}"
            rows.append(row(title, shares[pair], "R^2", 0.9, "alanine"))
    return rows


def explained(coordinates: NDArray, circle: NDArray) -> float:
    """R^2 of the second half of the frames, predicted from the first."""
    half = len(circle) // 2
    guess = predicted(coordinates[:half], circle[:half], coordinates[half:])
    return 1 - ((circle[half:] - guess) ** 2).mean() / circle[half:].var(axis=0).mean()


# ---- cost


def size_rows(n: int = 50_000, n_features: int = 60) -> list[dict[str, Any]]:
    """Time and memory of a map of many frames, all of them placed on it."""
    frames = np.random.default_rng(0).normal(size=(n, n_features))
    frames[:, :2] *= (5, 2)
    start, cpu = time.perf_counter(), time.process_time()
    found = diffusion_map(frames, settings=DiffusionMapSettings(alpha=1.0))
    found.extend(frames)
    wall, cpu = time.perf_counter() - start, time.process_time() - cpu
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2
    name = f"{n} frames x {n_features} features: map and all coordinates"
    return [
        row(name, wall, "s", 60.0, "size", least=False),
        row(f"{name}, CPU time over all threads", cpu, "s", 120.0, "size", least=False),
        row(f"{name}, peak memory", peak, "GiB", 4.0, "size", least=False),
    ]


def main() -> None:
    """Run the parts asked for; print a table, or rows as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--part", choices=("sde", "alanine", "size"), action="append")
    parser.add_argument("--eps", type=float, default=0.01)
    parser.add_argument("--system", default="", help="only this one of the multiscale systems")
    parser.add_argument("--seeds", type=int, default=1, help="of the multiscale systems")
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--frames", type=int, default=10_000, help="of alanine dipeptide")
    parser.add_argument("--json", type=Path, help="where the rows go as well")
    arguments = parser.parse_args()
    made = provenance()
    parts = arguments.part or ["size", "sde", "alanine"]  # the peak of memory is of all so far
    rows: list[dict[str, Any]] = []
    if "size" in parts:
        rows += size_rows()
    if "sde" in parts:
        seeds = arguments.seeds, arguments.first_seed
        rows += sde_rows(arguments.eps, 1000, arguments.system, *seeds)
    if "alanine" in parts:
        rows += alanine_rows(*alanine_frames(arguments.frames))
    for line in rows:
        print(f"{line['name']:88s} {line['value']:10.4g} {line['unit']:10s} "
              f"{'met' if line['met'] else 'MISSED'} ({line['target']:g})")  # fmt: skip
    if arguments.json:
        arguments.json.write_text(json.dumps([line | made for line in rows], indent=1) + "\n")


if __name__ == "__main__":
    main()
