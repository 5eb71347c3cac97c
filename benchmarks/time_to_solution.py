"""Force evaluations until the basin free energy of phi is known, bias on phi and psi.

Ours: one short and rough metadynamics (high hills, laid fast) whose frames are only training data,
a FlowGenerator, then importance sampling: every force evaluation counts, those of the frames and of
candidates. (Refining on the energy costs more than it saves here, now that CV values are drawn
evenly.) Beside it well-tempered metadynamics and OPES (native METAD and OPES_METAD, which equal
PLUMED's; and the package openmm-opes, as its README runs it), read out by their bias and by
reweighted frames, whichever settles earlier; and plain MD. All start from C7eq.

    python benchmarks/time_to_solution.py [--seeds N] [--ours] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from alanine import (
    KT,
    TEMPERATURE,
    TIME_STEP,
    TORSIONS,
    Curve,
    Weigher,
    bias_variables,
    biased_simulation,
    curve_of_weights,
    free_bias,
    in_basin,
    plain_simulation,
)
from numpy.typing import NDArray

from openmm_cgan import ConditionalGAN, FrameReporter, PlumedBias
from openmm_cgan.cgan import TrainingSettings
from openmm_cgan.cli.shipped import read_reference
from openmm_cgan.frames import Frames, read_frames
from openmm_cgan.free_energy.hills import hills_free_energy
from openmm_cgan.plumed.actions.units import UnitSystem
from openmm_cgan.plumed.files.fields import read_fields
from openmm_cgan.plumed.files.tables import FieldTable
from openmm_cgan.testsystems import alanine_dipeptide
from openmm_cgan.windows import LocalWorkers

GRID = "GRID_MIN=-pi,-pi GRID_MAX=pi,pi GRID_BIN=90,90 FILE=HILLS"
ROUGH = f"METAD ARG=phi,psi SIGMA=0.35,0.35 HEIGHT=3 BIASFACTOR=30 PACE=50 {GRID}\n"
METAD = f"METAD ARG=phi,psi SIGMA=0.35,0.35 HEIGHT=1.2 BIASFACTOR=10 PACE=500 {GRID}\n"
OPES = "OPES_METAD ARG=phi,psi PACE=500 BARRIER=50 TEMP=300 FILE=KERNELS\n"
PACE = 500  # of openmm-opes
READ = 100  # steps between the frames that rivals are read out by
POINTS = 75  # of their curves, each a whole number of kernels
FILL = 30_000  # steps of the rough metadynamics
STRIDE = 5  # steps between its frames
TRAINING = TrainingSettings(
    generator="FlowGenerator", steps=400, batch=256, width=64, learning_rate=1e-3
)
TOTAL = 1_500_000  # steps of the others
WITHIN = 0.5  # kJ/mol
RIVALS = ("METAD", "OPES", "openmm-opes")


def run(folder: Path, bias_line: str, steps: int, stride: int, seed: int) -> Frames:
    """Frames of a biased run from C7eq."""
    molecule = alanine_dipeptide("C7eq")
    folder.mkdir()
    bias = PlumedBias(
        TORSIONS + bias_line, molecule.topology, temperature=TEMPERATURE, directory=folder
    )
    simulation = biased_simulation(molecule, bias, seed)
    frames = FrameReporter(folder / "frames", stride, bias)
    simulation.reporters.append(frames)
    simulation.step(steps)
    frames.close()
    bias.close()
    return read_frames(folder / "frames")


def basin_free_energy(log_weights: NDArray, phi: NDArray) -> float:
    """-kT ln(P_in / P_out) of weighted values of phi, both (n,); infinite where a side is empty."""
    weights = np.exp(log_weights - log_weights.max())
    inside = in_basin(phi)
    with np.errstate(divide="ignore"):
        return float(-KT * (np.log(weights[inside].sum()) - np.log(weights[~inside].sum())))


def ours(folder: Path, seed: int) -> Curve:
    """Rough metadynamics, flow, importance sampling."""
    frames = run(folder / "rough", ROUGH, FILL, STRIDE, seed)
    molecule = alanine_dipeptide("C7eq")
    gan = ConditionalGAN.fit(frames, molecule.topology, TRAINING)
    weigher = Weigher(gan, free_bias(molecule))
    return curve_of_weights(
        gan, weigher, FILL, seed, lambda cvs, logs: basin_free_energy(logs, cvs[:, 0]),
        lambda cvs: in_basin(cvs[:, 0]),
    )  # fmt: skip


def by_frames(frames: Frames) -> Curve:
    """Frames so far weighted by the bias that acted on them."""
    ends = np.linspace(0, len(frames), POINTS + 1)[1:].astype(int)
    values = reweighted(frames.bias / KT, frames.cvs[:, 0], ends)
    return Curve(frames.step[ends - 1].astype(float), values)


def reweighted(log_weights: NDArray, phi: NDArray, ends: NDArray) -> NDArray[np.float64]:
    """Basin free energy of the first `end` of frames (n,), for each of ``ends`` (m,).

    The first tenth of each part is left out.
    """
    parts = [slice(end // 10, end) for end in ends]
    return np.array([basin_free_energy(log_weights[part], phi[part]) for part in parts])


def by_hills(folder: Path) -> Curve:
    """The sum of hills so far, on a grid."""
    hills = read_fields(folder / "HILLS")
    grid = -np.pi + 2 * np.pi * (np.arange(60) + 0.5) / 60
    cvs = np.stack(np.meshgrid(grid, grid, indexing="ij"), axis=-1).reshape(-1, 2)
    ends = np.linspace(0, len(hills), POINTS + 1)[1:].astype(int)
    values, free_energy, before = [], np.zeros(len(cvs)), 0
    for end in ends:
        part = {name: column[before:end] for name, column in hills.columns.items()}
        free_energy += hills_free_energy(FieldTable(part, hills.constants), cvs, UnitSystem())
        before = end
        values.append(basin_free_energy(-free_energy / KT, cvs[:, 0]))
    steps = hills.columns["time"][ends - 1] / TIME_STEP
    return Curve(steps, np.array(values))


def openmm_opes_curves(seed: int) -> list[Curve]:
    """A run of openmm-opes, with the settings of its README, read out in the same two ways."""
    import openmm_opes

    molecule = alanine_dipeptide("C7eq")
    torsions = bias_variables(0.15, 101)
    sampler = openmm_opes.OPES(
        molecule.system, torsions, TEMPERATURE, 50.0, PACE, varianceFrequency=None, biasFactor=10
    )
    simulation = plain_simulation(molecule, seed)
    grid = np.linspace(-np.pi, np.pi, 101)[:-1]  # the last node is the first again
    phi_grid = np.repeat(grid, len(grid))
    steps, phi, log_weights, by_density = [], [], [], []
    while simulation.currentStep < TOTAL:
        sampler.step(simulation, READ)
        steps.append(simulation.currentStep)
        phi.append(sampler.getCollectiveVariables(simulation)[0])
        log_weights.append(sampler.getBiasEnergy(simulation.context)._value / KT)
        if simulation.currentStep % (TOTAL // POINTS) == 0:
            free_energy = np.asarray(sampler.getFreeEnergy()._value)[:-1, :-1]  # psi, phi
            by_density.append(basin_free_energy(-free_energy.T.ravel() / KT, phi_grid))
    ends = np.array(steps)[np.linspace(0, len(steps), POINTS + 1)[1:].astype(int) - 1]
    frames = reweighted(np.array(log_weights), np.array(phi), ends // READ)
    return [Curve(ends.astype(float), values) for values in (frames, np.array(by_density))]


def ours_alone(seed: int) -> dict[str, list[Curve]]:
    """The curve of one seed without those of others, which take half an hour."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        return {"ours": [ours(Path(name), seed)]}


def one_seed(seed: int) -> dict[str, list[Curve]]:
    """Curves of one seed: one or two ways to read each method."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        found = {"ours": [ours(folder, seed)]}
        frames = run(folder / "metad", METAD, TOTAL, READ, 100 + seed)
        found["METAD"] = [by_frames(frames), by_hills(folder / "metad")]
        found["OPES"] = [by_frames(run(folder / "opes", OPES, TOTAL, READ, 200 + seed))]
        found["openmm-opes"] = openmm_opes_curves(400 + seed)
        found["plain MD"] = [by_frames(run(folder / "md", "", TOTAL, READ, 300 + seed))]
        return found


def number(evaluations: float) -> int | str:
    """Force evaluations as they stand in the table."""
    return round(float(evaluations)) if np.isfinite(evaluations) else "never"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--ours", action="store_true", help="without the others")
    parser.add_argument("--json", type=Path, help="write the rows to this file")
    arguments = parser.parse_args()
    reference = read_reference().difference.value
    with LocalWorkers(min(2, os.cpu_count() or 1)) as pool:
        of_seed = ours_alone if arguments.ours else one_seed
        found = list(pool.map(of_seed, range(arguments.seeds)))
    settled: dict[str, list[float]] = {}
    ends: dict[str, list[float]] = {}
    for method in found[0]:
        settled[method] = [min(c.stays_from(reference, WITHIN) for c in f[method]) for f in found]
        ends[method] = [round(float(f[method][0].values[-1]), 2) for f in found]
        print(f"{method:12s} stays within {WITHIN} from {settled[method]}; ends {ends[method]}")
    if arguments.ours:
        return
    mine, best = np.median(settled["ours"]), min(np.median(settled[m]) for m in RIVALS)
    row = {
        "name": "force evaluations until dF stays within 0.5 kJ/mol: best rival over ours",
        "value": round(float(best / mine), 2) if np.isfinite(mine) else "not settled",
        "unit": "times fewer",
        "target": ">= 2",
        "met": bool(best >= 2 * mine) if np.isfinite(mine) else False,
        "peers": {f"{method}, median": number(np.median(s)) for method, s in settled.items()}
        | {f"{method}, at the end": values for method, values in ends.items()}
        | {"reference": reference},
        "command": f"python {' '.join(sys.argv)}",
    }
    if arguments.json:
        arguments.json.write_text(json.dumps([row], indent=1) + "\n")


if __name__ == "__main__":
    main()
