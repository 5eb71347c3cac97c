"""What a learned variable costs a step, and what biasing along it gains.

    python benchmarks/learned_variable.py [--part cost|water|crossing] [--json FILE]

* cost: Langevin steps of alanine dipeptide in vacuum (22 atoms) on the Reference platform under a
  bias on an output of a TorchScript network (8, 24, 12, 2; tanh) of 8 distances, and of 4 torsions
  by their sines and cosines, less the steps without a bias. CPU time; the least of many short
  blocks, alternated, for other work on the machine only adds.
* water: energy and forces of these biases alone, less those of a restraint on one distance (to ask
  OpenMM for them costs more than a step does), over a step without a bias: alanine dipeptide in
  water, CPU platform, one thread.
* crossing: time from C7eq to the first frame with phi between 0 and 120 degrees, under metadynamics
  on phi and psi, and on the two coordinates of a diffusion map of four torsions, learned from the
  frames of an earlier run, with its wall; the same hills, widths a tenth of the range.
"""

import argparse
import itertools
import json
import math
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import openmm
import torch
from biased_md import evaluated, microseconds, plain, solvated
from diffusion_map import alanine_frames
from openmm import app
from provenance import provenance

from openmm_cgan import GAS_CONSTANT
from openmm_cgan.diffusion_maps import DiffusionMapSettings
from openmm_cgan.learned_variable import Inputs, learn_variable
from openmm_cgan.plumed.bias import PlumedBias
from openmm_cgan.testsystems import alanine_dipeptide

COMMAND = "python benchmarks/learned_variable.py"
TORSIONS = {"phi": "5,7,9,15", "psi": "7,9,15,17", "left": "2,5,7,9", "right": "9,15,17,19"}
DISTANCES = ("1,9", "2,15", "5,17", "7,19", "5,15", "6,18", "2,19", "1,22")
HILLS = "HEIGHT=1.2 PACE=100 BIASFACTOR=10 FILE=HILLS"
BLOCK, ROUNDS = 15, 400
BLOCK_IN_WATER, EVALUATIONS, ROUNDS_IN_WATER = 4, 30, 60
CHEAP = "d: DISTANCE ATOMS=1,9\nRESTRAINT ARG=d AT=0.5 KAPPA=1\n"
MAX_STEPS = 400_000


def simulation_of(text: str, folder: Path, seed: int = 1) -> app.Simulation:
    """Alanine dipeptide in C7eq under an input, or none, with its bias attached."""
    molecule = alanine_dipeptide("C7eq")
    bias = None
    if text:
        bias = PlumedBias(text, temperature=300.0, backend="native", directory=folder)
        bias.add_to(molecule.system)
    integrator = openmm.LangevinMiddleIntegrator(300, 1, 0.002)
    integrator.setRandomNumberSeed(seed)
    platform = openmm.Platform.getPlatformByName("Reference")
    simulation = app.Simulation(molecule.topology, molecule.system, integrator, platform)
    simulation.context.setPositions(molecule.positions)
    simulation.context.setVelocitiesToTemperature(300, seed)
    if bias is not None:
        bias.attach(simulation)
    return simulation


def torsion_lines() -> str:
    """The four torsions."""
    return "".join(f"{name}: TORSION ATOMS={atoms}\n" for name, atoms in TORSIONS.items())


def network_inputs(path: Path) -> dict[str, str]:
    """The inputs that are timed, and none."""
    torch.manual_seed(0)
    sizes, layers = (8, 24, 12, 2), []
    for a, b in itertools.pairwise(sizes):
        layers += [torch.nn.Linear(a, b), torch.nn.Tanh()]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.jit.trace(torch.nn.Sequential(*layers[:-1]), torch.zeros(1, 8)).save(path)
    apart = "".join(f"d{i}: DISTANCE ATOMS={atoms}\n" for i, atoms in enumerate(DISTANCES))
    model = f"m: PYTORCH_MODEL FILE={path} ARG="
    turns = torsion_lines() + "".join(
        f"{f[0]}{n}: CUSTOM ARG={n} FUNC={f}(x) PERIODIC=NO\n"
        for n in TORSIONS
        for f in ("sin", "cos")
    )
    restraint = "\nRESTRAINT ARG=m.node-0 AT=0 KAPPA=10\n"
    grid = "\nMETAD ARG=m.node-0 SIGMA=0.1 PACE=500 HEIGHT=1 GRID_MIN=-5 GRID_MAX=5 FILE=H\n"
    distances = model + ",".join(f"d{i}" for i in range(8))
    return {
        "none": "",
        "8 distances, RESTRAINT": apart + distances + restraint,
        "8 distances, METAD on a grid": apart + distances + grid,
        "sines and cosines of 4 torsions, RESTRAINT": turns
        + model
        + ",".join(f"s{n},c{n}" for n in TORSIONS)
        + restraint,
    }


def cost_rows(folder: Path) -> list[dict[str, Any]]:
    """Microseconds that a bias on a model adds to a step."""
    inputs = network_inputs(folder / "network.ptc")
    runs = {name: simulation_of(text, folder) for name, text in inputs.items()}
    least = dict.fromkeys(runs, math.inf)
    for simulation in runs.values():
        simulation.step(20)
    for _ in range(ROUNDS):
        for name, simulation in runs.items():
            start = time.process_time()
            simulation.integrator.step(BLOCK)
            least[name] = min(least[name], (time.process_time() - start) / BLOCK * 1e6)
    return [
        {"name": f"network of {name}: added to a step (plain {least['none']:.1f} us)",
         "value": round(least[name] - least["none"], 1), "unit": "us", "target": 60.0,
         "met": least[name] - least["none"] <= 60, "peers": {}, "command": f"{COMMAND} --part cost"}
        for name in runs if name != "none"
    ]  # fmt: skip


def water_rows(folder: Path) -> list[dict[str, Any]]:
    """What of a step in water the bias on a model takes, in per cent."""
    inputs = network_inputs(folder / "network.ptc") | {"none": CHEAP}
    texts = {name: text.replace("FILE=H\n", f"FILE={folder}/H\n") for name, text in inputs.items()}
    step = plain(solvated(), "CPU")
    runs = {name: evaluated(text, "native", solvated(), "CPU") for name, text in texts.items()}
    blocks = {"step": (step, BLOCK_IN_WATER)} | {k: (run, EVALUATIONS) for k, run in runs.items()}
    least = dict.fromkeys(blocks, math.inf)
    for run, _ in blocks.values():
        run(5)
    for _ in range(ROUNDS_IN_WATER):
        for name, (run, times) in blocks.items():
            least[name] = min(least[name], microseconds(run, times))
    whole, cheap = least.pop("step"), least.pop("none")
    return [
        {"name": f"network of {name}: share of a step in water ({whole:.0f} us)",
         "value": round(100 * (own - cheap) / whole, 2), "unit": "%", "target": 1.0,
         "met": own - cheap <= 0.01 * whole, "peers": {"us": round(own - cheap, 1)},
         "command": f"{COMMAND} --part water"}
        for name, own in least.items()
    ]  # fmt: skip


def first_crossing(text: str, folder: Path, seed: int) -> float:
    """Picoseconds to the first frame in C7ax; NaN where none comes."""
    simulation = simulation_of(text, folder, seed)
    phi = PlumedBias(torsion_lines(), cvs=("phi",), backend="native", directory=folder)
    for _ in range(MAX_STEPS // 50):
        simulation.step(50)
        positions = simulation.context.getState(positions=True).getPositions(asNumpy=True)._value
        if 0 < phi._engine.cv_values(positions, None)[0] < 2 * math.pi / 3:
            return simulation.currentStep * 0.002
    return math.nan


def learned_text(folder: Path, frames: np.ndarray, energies: np.ndarray) -> str:
    """Metadynamics on two coordinates learned from frames of a biased run."""
    bias = PlumedBias(torsion_lines(), cvs=tuple(TORSIONS), backend="native", directory=folder)
    table = bias._engine.cv_values(frames, None)
    inputs = Inputs(torsion_lines(), tuple(TORSIONS), (2 * math.pi,) * 4)
    weights = np.exp((energies - energies.max()) / (GAS_CONSTANT * 300))
    settings = DiffusionMapSettings(n_coordinates=2, alpha=1.0, max_landmarks=400)
    learned = learn_variable(inputs, table, weights, settings)
    path = learned.save(folder / "learned.ptc")
    widths = ",".join(f"{(high - low) / 15:.4f}" for low, high in learned.values_range)
    print("eigenvalues", learned.found.eigenvalues, "ranges", learned.values_range.tolist())
    lines = learned.plumed_lines(path)
    return f"{lines}METAD ARG=learned.node-0,learned.node-1 SIGMA={widths} {HILLS}\n"


def crossing_rows(folder: Path, n_frames: int, seeds: int) -> list[dict[str, Any]]:
    """Times to the first crossing along the known torsions, and along what was learned."""
    frames, _, energies = alanine_frames(n_frames)
    texts = {
        "phi and psi": f"{torsion_lines()}METAD ARG=phi,psi SIGMA=0.3,0.3 {HILLS}\n",
        "learned": learned_text(folder, frames[n_frames // 10 :], energies[n_frames // 10 :]),
    }
    times: dict[str, list[float]] = {name: [] for name in texts}
    for seed in range(1, seeds + 1):
        for name, text in texts.items():
            run = folder / f"{name.split()[0]}-{seed}"
            run.mkdir()
            times[name].append(first_crossing(text, run, seed))
            print(name, seed, times[name][-1], "ps", flush=True)
    means = {name: float(np.mean(found)) for name, found in times.items()}
    ratio = means["learned"] / means["phi and psi"]
    name = (
        f"first crossing C7eq to C7ax, mean of {seeds}: learned {means['learned']:.0f} ps over "
        f"{means['phi and psi']:.0f} ps on phi and psi"
    )
    return [{"name": name, "value": round(ratio, 2), "unit": "ratio", "target": 2.0,
             "met": ratio <= 2, "peers": {"times": times},
             "command": f"{COMMAND} --part crossing"}]  # fmt: skip


def main() -> None:
    """Run the parts asked for; print a table, or rows as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--part", choices=("cost", "water", "crossing"), action="append")
    parser.add_argument("--frames", type=int, default=10_000, help="that the map is learned from")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--json", type=Path, help="where the rows go as well")
    arguments = parser.parse_args()
    made = provenance()
    parts = arguments.part or ["cost", "water", "crossing"]
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        if "cost" in parts:
            rows += cost_rows(Path(folder))
        if "water" in parts:
            rows += water_rows(Path(folder))
        if "crossing" in parts:
            rows += crossing_rows(Path(folder), arguments.frames, arguments.seeds)
    for line in rows:
        print(f"{line['name']:88s} {line['value']:8.4g} {line['unit']:6s} "
              f"{'met' if line['met'] else 'MISSED'} ({line['target']:g})")  # fmt: skip
    if arguments.json:
        arguments.json.write_text(json.dumps([line | made for line in rows], indent=1) + "\n")


if __name__ == "__main__":
    main()
