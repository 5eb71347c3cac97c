"""What PLUMED inputs cost on the three backends, beside plain MD and OpenMM's own metadynamics.

* MD rate under a RESTRAINT and under 2-D METAD on phi and psi of alanine dipeptide: in vacuum on
  the Reference platform (a step takes some 15 us) and the CPU platform with one thread, and in
  explicit water on the CPU platform.
* One hill on a 90 x 90 grid, everything that it takes counted: what a step costs more with a hill
  every HILL_PACE steps than with none, times HILL_PACE.
* What OPES and MOVINGRESTRAINT add to a step; what a bias on the potential energy and PBMETAD do.
* One evaluation of the bias alone in explicit water on the CPU platform.
* What the kernel backend adds to an empty PythonForce.
* Many pairs of COORDINATION, superpositions on many models and of many frames, frames with forces
  in the driver, inputs of many actions.

Blocks of each run are alternated with blocks of the run that it is compared with; each number is
the median over rounds of a block against the mean of its two neighbours, in CPU time.
"""

from __future__ import annotations

import argparse
import functools
import json
import logging
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import large_inputs
import numpy as np
import openmm
from alanine import bias_variables
from biased_md import (
    CALLED_BACK,
    LATER,
    METAD,
    ON_ENERGY,
    PACE,
    RESTRAINT,
    SOLVATED,
    Step,
    biased,
    evaluated,
    make_simulation,
    microseconds,
    plain,
    solvated,
    vacuum,
    write_path,
    write_solute,
)
from openmm import app, unit
from provenance import provenance

from openmm_cgan.plumed.input.language import read_statements
from openmm_cgan.plumed.libplumed import plugin
from openmm_cgan.plumed.libplumed.instance import MDSettings, Plumed, find_kernel
from openmm_cgan.testsystems import Molecule

HILL_PACE = 50
NEVER = 10**9
# Measured elsewhere on this molecule (OpenMM 8.6.1, PLUMED 2.10.1 with -O3)
ELSEWHERE = {
    ("RESTRAINT", "Reference"): {"openmm-plumed 2.1, elsewhere": 0.573},
    ("RESTRAINT", "CPU"): {"openmm-plumed 2.1, elsewhere": 0.888},
    ("METAD", "Reference"): {"openmm-plumed 2.1, elsewhere": 0.564},
    ("METAD", "CPU"): {"openmm-plumed 2.1, elsewhere": 0.887},
}
BRIDGE_COST = 64.0  # us a step


# ---- runs that ours are compared with


def openmm_metadynamics(pace: int, molecule: Molecule, platform: str) -> Step:
    """openmm.app.Metadynamics with the same hills."""
    variables = bias_variables(0.3, 90)
    meta = app.metadynamics.Metadynamics(molecule.system, variables, 300.0, 10.0, 1.0, pace)
    return functools.partial(meta.step, make_simulation(molecule, platform))


def empty_force(molecule: Molecule, platform: str) -> Step:
    """A PythonForce that does nothing."""
    zero = np.zeros((molecule.system.getNumParticles(), 3))
    molecule.system.addForce(openmm.PythonForce(lambda state: (0.0, zero)))
    return make_simulation(molecule, platform).step


def bridge(molecule: Molecule, platform: str) -> Step:
    """The usual short bridge from PythonForce to the Python module ``plumed``."""
    import plumed

    n_atoms = molecule.system.getNumParticles()
    masses = np.array([molecule.system.getParticleMass(i)._value for i in range(n_atoms)])
    charges, box, virial = np.zeros(n_atoms), np.zeros((3, 3)), np.zeros((3, 3))
    engine = plumed.Plumed()
    engine.cmd("setMDEngine", "python")
    engine.cmd("setNatoms", n_atoms)
    engine.cmd("setTimestep", 0.002)
    engine.cmd("setLogFile", os.devnull)
    engine.cmd("init")
    for line in RESTRAINT.splitlines():
        engine.cmd("readInputLine", line)

    def compute(state: openmm.State) -> tuple[float, np.ndarray]:
        positions = state.getPositions(asNumpy=True).value_in_unit(unit.nanometer)
        forces, bias = np.zeros((n_atoms, 3)), np.zeros(1)
        engine.cmd("setStep", state.getStepCount())
        engine.cmd("setPositions", positions)
        engine.cmd("setForces", forces)
        engine.cmd("setMasses", masses)
        engine.cmd("setCharges", charges)
        engine.cmd("setBox", box)
        engine.cmd("setVirial", virial)
        engine.cmd("calc")
        engine.cmd("getBias", bias)
        return float(bias[0]), forces

    molecule.system.addForce(openmm.PythonForce(compute))
    return make_simulation(molecule, platform).step


# ---- measuring


def compare(run: Step, other: Step, rounds: int, steps: int) -> tuple[float, float]:
    """Rate of a run over that of another, and what its step costs more [us]: medians."""
    for step in (run, other):
        step(max(steps // 5, 10))
    ratios, costs = [], []
    before = microseconds(other, steps)
    for _ in range(rounds):
        block = microseconds(run, steps)
        after = microseconds(other, steps)
        ratios.append((before + after) / 2 / block)
        costs.append(block - (before + after) / 2)
        before = after
    return statistics.median(ratios), statistics.median(costs)


def row(name: str, value: float, unit: str, target: str, met: bool | None, peers: Any) -> Any:
    rounded = {k: round(v, 4) if isinstance(v, float) else v for k, v in peers.items()}
    print(f"{name:70s} {value:10.4g} {unit:10s} {target}", flush=True)
    for peer, number in rounded.items():
        print(f"    {peer:66s} {number}", flush=True)
    return {
        "name": name,
        "value": float(f"{value:.4g}"),
        "unit": unit,
        "target": target,
        "met": met,
        "peers": rounded,
    }


def rate_rows(rounds: int) -> list[dict[str, Any]]:
    rows = []
    places: list[tuple[str, str, Callable[[], Molecule], int, int]] = [
        ("vacuum, Reference platform", "Reference", vacuum, 3000, 2 * rounds),
        ("vacuum, CPU platform", "CPU", vacuum, 1000, rounds),
        ("explicit water, CPU platform", "CPU", solvated, 40, rounds),
    ]
    inputs = {"RESTRAINT": (RESTRAINT, 0.95), "METAD": (METAD.format(pace=PACE), 0.90)}
    for place, platform, make, steps, n in places:
        against = plain(make(), platform)
        for name, (text, target) in inputs.items():
            ratio = compare(biased(text, "native", make(), platform), against, n, steps)[0]
            peers = {"kernel backend": biased(text, "kernel", make(), platform)}
            if plugin.available():
                peers["openmm-plumed"] = biased(text, "plugin", make(), platform)
            if name == "METAD":
                peers["openmm.app.Metadynamics"] = openmm_metadynamics(PACE, make(), platform)
            found = {k: compare(run, against, max(n // 2, 3), steps)[0] for k, run in peers.items()}
            if make is vacuum:
                found |= ELSEWHERE[name, platform]
            title = f"MD rate, native {name} on phi, psi over plain MD, {place}"
            rows.append(row(title, ratio, "ratio", f">= {target}", ratio >= target, found))
    return rows


def product_of_torsions(molecule: Molecule, platform: str) -> Step:
    """A CustomCVForce of phi and psi that is next to nothing: the least that METAD can cost."""
    force = openmm.CustomCVForce("1e-3*phi*psi")
    for name, atoms in (("phi", (4, 6, 8, 14)), ("psi", (6, 8, 14, 16))):
        torsion = openmm.CustomTorsionForce("theta")
        torsion.addTorsion(*atoms)
        force.addCollectiveVariable(name, torsion)
    molecule.system.addForce(force)
    return make_simulation(molecule, platform).step


def limit_rows(rounds: int) -> list[dict[str, Any]]:
    """What METAD costs in vacuum, part by part, in turns of one run."""
    runs = {
        "plain MD": plain(vacuum(), "Reference"),
        "RESTRAINT": biased(RESTRAINT, "native", vacuum(), "Reference"),
        "a CustomCVForce of both torsions": product_of_torsions(vacuum(), "Reference"),
        "METAD before its first hill": biased(
            METAD.format(pace=NEVER), "native", vacuum(), "Reference"
        ),
        f"METAD, PACE={PACE}": biased(METAD.format(pace=PACE), "native", vacuum(), "Reference"),
    }
    times: dict[str, list[float]] = {name: [] for name in runs}
    for turn in range(2 * rounds + 1):
        for name, run in runs.items():
            taken = microseconds(run, 5 * PACE)
            if turn:
                times[name].append(taken)
    rows = []
    for name, taken in list(times.items())[1:]:
        pairs = list(zip(times["plain MD"], taken, strict=True))
        ratio = statistics.median(one / other for one, other in pairs)
        cost = statistics.median(other - one for one, other in pairs)
        title = f"MD rate over plain MD, vacuum, Reference platform, in one run: {name}"
        rows.append(row(title, ratio, "ratio", "", None, {"us a step more": cost}))
    return rows


def hill_rows(rounds: int) -> list[dict[str, Any]]:
    def cost(make: Callable[[int], Step]) -> float:
        return compare(make(HILL_PACE), make(NEVER), rounds, 1000)[1] * HILL_PACE / 1000

    def ours(backend: str) -> Callable[[int], Step]:
        return lambda pace: biased(METAD.format(pace=pace), backend, vacuum(), "Reference")

    native = cost(ours("native"))
    theirs = compare(
        openmm_metadynamics(HILL_PACE, vacuum(), "Reference"),
        openmm_metadynamics(NEVER, vacuum(), "Reference"),
        max(rounds // 3, 3),
        200,
    )[1]
    peers = {
        "kernel backend": cost(ours("kernel")),
        "openmm.app.Metadynamics": theirs * HILL_PACE / 1000,
        "PLUMED 2.10.1 -O3, elsewhere": 0.15,
    }
    title = "native hill on a 90 x 90 grid, amortised"
    return [row(title, native, "ms", "< 0.2", native < 0.2, peers)]


def callback_rows(rounds: int) -> list[dict[str, Any]]:
    """What OPES and MOVINGRESTRAINT add to a step, which Python works on at every step."""
    rows = []
    against = plain(vacuum(), "Reference")
    for name, text in CALLED_BACK.items():
        cost = {
            backend: compare(biased(text, backend, vacuum(), "Reference"), against, rounds, 2000)[1]
            for backend in ("native", "kernel")
        }
        title = f"native {name} on phi, psi, more than plain MD, Reference platform"
        peers = {"kernel backend": cost["kernel"]}
        rows.append(row(title, cost["native"], "us a step", "", None, peers))
    return rows


def energy_rows(rounds: int) -> list[dict[str, Any]]:
    """Biases on the potential energy, which is worked out once more; and PBMETAD."""
    rows = []
    places: list[tuple[str, str, Callable[[], Molecule], int]] = [
        ("vacuum, Reference platform", "Reference", vacuum, 1000),
        ("explicit water, CPU platform", "CPU", solvated, 10),
    ]
    for place, platform, make, steps in places:
        against = plain(make(), platform)
        for name, text in ON_ENERGY.items():
            ratio, cost = compare(biased(text, "native", make(), platform), against, rounds, steps)
            title = f"MD rate, native {name} over plain MD, {place}"
            rows.append(row(title, ratio, "ratio", "", None, {"us a step": cost}))
    return rows


def evaluation_rows(repeats: int) -> list[dict[str, Any]]:
    rows = []
    folder = Path(tempfile.mkdtemp())
    files = {"pdb": write_solute(folder), "path": write_path(folder)}
    for name, text in (SOLVATED | LATER).items():
        times = {}
        for backend in ("native", "kernel"):
            ask = evaluated(text.format(**files), backend, solvated(), "CPU")
            ask(1)
            found = []
            for _ in range(repeats):
                found.append(microseconds(ask, 1))
            times[backend] = statistics.median(found)
        title = f"evaluation of the bias alone, explicit water, CPU platform: {name}"
        peers = {"kernel backend": times["kernel"]}
        rows.append(row(title, times["native"], "us", "", None, peers))
    return rows


def libplumed_cost(rounds: int, steps: int) -> float:
    """What libplumed itself takes for the same input [us], median over rounds.

    It depends on how libplumed was compiled: PLUMED 2.10.1 with -O3 takes about 6, the kernel in
    hillclimber 0.1.8, which was compiled without optimisation, about 50.
    """
    molecule = vacuum()
    masses = np.ones(len(molecule.positions))
    settings = MDSettings(Path.cwd(), masses, np.zeros_like(masses))
    engine = Plumed(settings, read_statements(RESTRAINT))
    engine.positions[:] = molecule.positions
    times = []
    for _ in range(rounds):
        start = time.process_time()
        for step in range(steps):
            engine.calculate(step)
        times.append((time.process_time() - start) / steps * 1e6)
    return statistics.median(times)


def kernel_rows(rounds: int) -> list[dict[str, Any]]:
    against, steps = empty_force(vacuum(), "Reference"), 3000
    cost = compare(biased(RESTRAINT, "kernel", vacuum(), "Reference"), against, rounds, steps)[1]
    peers: dict[str, Any] = {
        "plain bridge, PLUMED 2.10.1 -O3, elsewhere": BRIDGE_COST,
        "of which libplumed itself": libplumed_cost(rounds, steps),
        "libplumed": str(find_kernel()),
    }
    try:
        found = compare(bridge(vacuum(), "Reference"), against, rounds, steps)[1]
        peers["plain bridge with the same libplumed"] = found
    except ImportError:
        print("no Python module plumed: the plain bridge is not measured")
    title = "kernel backend, RESTRAINT, against an empty PythonForce"
    return [row(title, cost, "us a step", "<= 35", cost <= 35, peers)]


def large_rows(rounds: int) -> list[dict[str, Any]]:
    """Many pairs, frames with forces, many actions."""
    rows = []
    for name, switch in large_inputs.PAIRS.items():
        native, kernel = large_inputs.pair_times(switch, max(rounds // 3, 2))
        ratio, target = kernel / native, 1.0 if "NLIST" in name else 5.0
        peers = {"native": native, "kernel backend": kernel}
        title = f"{name}: ms a step by libplumed over native"
        rows.append(row(title, ratio, "ratio", f">= {target}", ratio >= target, peers))
    native, kernel = large_inputs.superposition_times(max(rounds // 3, 2))
    title = "PATHMSD of 30 models of 100 atoms: ms a step by libplumed over native"
    peers = {"native": native, "kernel backend": kernel}
    rows.append(row(title, kernel / native, "ratio", "", None, peers))
    for name, (at_once, each) in large_inputs.frames_times().items():
        title = f"{name}, 100 atoms, 200 frames at once: one by one over that"
        peers = {"us a frame at once": at_once, "us a frame one by one": each}
        rows.append(row(title, each / at_once, "ratio", "", None, peers))
    native, kernel = large_inputs.driver_times(max(rounds // 3, 2))
    title = "driver --dump-forces, COORDINATION of 60 x 100: ms a frame natively over libplumed"
    peers = {"native": native, "kernel backend": kernel}
    rows.append(row(title, native / kernel, "ratio", "<= 2", native <= 2 * kernel, peers))
    general, plain_box = large_inputs.seconds_per_images()
    title = "nearest images of 16,384 vectors in a box of general form"
    peers = {"along the axes": 1e3 * plain_box}
    rows.append(row(title, 1e3 * general, "ms", "", None, peers))
    few, many = (large_inputs.seconds_to_compile(n) for n in (1000, 8000))
    title = "an input of 8,000 actions read and compiled"
    rows.append(row(title, many, "s", "<= 3", many <= 3, {"of 1,000 actions": few}))
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument(
        "--only",
        nargs="*",
        choices=(
            "rates",
            "limits",
            "hills",
            "callbacks",
            "energy",
            "evaluations",
            "kernel",
            "large",
        ),
    )
    parser.add_argument("--json", type=Path, help="write the rows to this file")
    arguments = parser.parse_args()
    logging.getLogger("openmm_cgan").setLevel(logging.WARNING)
    rounds = arguments.rounds
    groups: dict[str, Callable[[], list[dict[str, Any]]]] = {
        "rates": lambda: rate_rows(rounds),
        "limits": lambda: limit_rows(rounds),
        "hills": lambda: hill_rows(rounds),
        "callbacks": lambda: callback_rows(rounds),
        "energy": lambda: energy_rows(rounds),
        "evaluations": lambda: evaluation_rows(60),
        "kernel": lambda: kernel_rows(rounds),
        "large": lambda: large_rows(rounds),
    }
    made_by = provenance()
    rows = [each for name in arguments.only or groups for each in groups[name]()]
    for each in rows:
        each["made"] = made_by
        each["command"] = f"python {' '.join(sys.argv)}"
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
