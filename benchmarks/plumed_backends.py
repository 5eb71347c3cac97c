"""PLUMED inputs on the three backends: how well they agree, and what they cost.

Agreement: the largest deviation of the native backend from libplumed in values, bias energy and
forces over 40 random frames for each action (tests/test_backends.py holds the cases), relative to
1 + magnitude, without and with periodic boxes.

Cost: alanine dipeptide in vacuum on the Reference platform, where a step takes some 20 us, with a
RESTRAINT on phi and psi. Blocks of each run are alternated with blocks of the run that it is
compared with; each number is the median over rounds of a block against the mean of its two
neighbours, in CPU time.
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

import numpy as np
import openmm
from openmm import app, unit

from openmm_cgan import PlumedBias
from openmm_cgan.plumed import plugin
from openmm_cgan.plumed.language import read_statements
from openmm_cgan.plumed.libplumed import MDSettings, Plumed, find_kernel
from openmm_cgan.testsystems import Molecule, alanine_dipeptide

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))
from test_backends import BOXES, CASES, TOLERANCE, deviation

INPUT = """phi: TORSION ATOMS=5,7,9,15
psi: TORSION ATOMS=7,9,15,17
RESTRAINT ARG=phi,psi AT=-1.33,1.22 KAPPA=20,20
"""
# Measured elsewhere on this molecule and platform (OpenMM 8.6.1, PLUMED 2.10.1 with -O3)
PEERS = {"openmm-plumed 2.1": 0.573, "PythonForce with the plumed wrapper": 0.25}
BRIDGE_COST = 64.0  # us a step


def no_bias(molecule: Molecule) -> None:
    """Plain MD."""


def empty_force(molecule: Molecule) -> None:
    """A PythonForce that does nothing."""
    zero = np.zeros((molecule.system.getNumParticles(), 3))
    molecule.system.addForce(openmm.PythonForce(lambda state: (0.0, zero)))


def bridge(molecule: Molecule) -> None:
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
    for line in INPUT.splitlines():
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


def biased(backend: str, molecule: Molecule) -> PlumedBias:
    """INPUT on one of our backends."""
    bias = PlumedBias(INPUT, molecule.topology, temperature=300.0, backend=backend)
    bias.add_to(molecule.system)
    return bias


def openmm_plumed(molecule: Molecule) -> None:
    """INPUT by openmm-plumed."""
    engine = plugin.PluginBackend(
        INPUT, directory=Path(), temperature=300.0, restart=False, read=("phi", "psi")
    )
    molecule.system.addForce(engine.forces(molecule.system)[0])


def make_run(add: Callable[[Molecule], Any]) -> app.Simulation:
    molecule = alanine_dipeptide("C7eq")
    bias = add(molecule)
    integrator = openmm.LangevinMiddleIntegrator(300.0, 1.0, 0.002)
    platform = openmm.Platform.getPlatformByName("Reference")
    simulation = app.Simulation(molecule.topology, molecule.system, integrator, platform)
    simulation.context.setPositions(molecule.positions)
    if isinstance(bias, PlumedBias):
        bias.attach(simulation)
    return simulation


def microseconds(simulation: app.Simulation, steps: int) -> float:
    """CPU time of a step in one block [us]; one thread works, and others may use the machine."""
    start = time.process_time()
    simulation.step(steps)
    return (time.process_time() - start) / steps * 1e6


def compare(
    run: app.Simulation, other: app.Simulation, rounds: int, steps: int
) -> tuple[float, float]:
    """Rate of a run over that of another, and what its step costs more [us]: medians."""
    for simulation in (run, other):
        simulation.step(steps // 5)
    ratios, costs = [], []
    before = microseconds(other, steps)
    for _ in range(rounds):
        block = microseconds(run, steps)
        after = microseconds(other, steps)
        ratios.append((before + after) / 2 / block)
        costs.append(block - (before + after) / 2)
        before = after
    return statistics.median(ratios), statistics.median(costs)


def libplumed_cost(rounds: int, steps: int) -> float:
    """What libplumed itself takes for the same input [us], median over rounds.

    It depends on how libplumed was compiled: PLUMED 2.10.1 with -O3 takes about 6, the kernel in
    hillclimber 0.1.8, which was compiled without optimisation, about 50.
    """
    molecule = alanine_dipeptide("C7eq")
    masses = np.ones(len(molecule.positions))
    settings = MDSettings(Path.cwd(), masses, np.zeros_like(masses))
    engine = Plumed(settings, read_statements(INPUT))
    engine.positions[:] = molecule.positions
    times = []
    for _ in range(rounds):
        start = time.process_time()
        for step in range(steps):
            engine.calculate(step)
        times.append((time.process_time() - start) / steps * 1e6)
    return statistics.median(times)


def agreement_rows() -> list[dict[str, Any]]:
    rows = []
    print(f"{'largest deviation from libplumed':34s} {'values':>9s} {'energy':>9s} {'forces':>9s}")
    for name, text in CASES.items():
        worst = np.zeros(3)
        for box in BOXES.values():
            for pbc in ("",) if box is None else ("", " NOPBC"):
                with tempfile.TemporaryDirectory() as folder:
                    found = deviation(text.format(pbc=pbc), box, Path(folder))
                worst = np.maximum(worst, (found.values, found.energy, found.forces))
        print(f"{name:34s} {worst[0]:9.1e} {worst[1]:9.1e} {worst[2]:9.1e}", flush=True)
        rows.append(
            {
                "name": f"native against libplumed, {name}: largest deviation",
                "value": float(f"{worst.max():.2e}"),
                "unit": "relative to 1 + magnitude",
                "target": f"<= {TOLERANCE:g}",
                "met": bool(worst.max() <= TOLERANCE),
                "peers": {},
            }
        )
    return rows


def cost_rows(rounds: int, steps: int) -> list[dict[str, Any]]:
    plain, empty = make_run(no_bias), make_run(empty_force)
    kernel = make_run(functools.partial(biased, "kernel"))
    others = {"kernel backend": compare(kernel, plain, rounds, steps)[0]}
    if plugin.available():
        ratio, _ = compare(make_run(openmm_plumed), plain, rounds, steps)
        others["openmm-plumed, same run"] = ratio
    native = compare(make_run(functools.partial(biased, "native")), plain, rounds, steps)[0]
    cost = compare(kernel, empty, rounds, steps)[1]
    bridge_peers: dict[str, Any] = {
        "plain bridge, PLUMED 2.10.1 -O3, elsewhere": BRIDGE_COST,
        "of which libplumed itself": round(libplumed_cost(rounds, steps), 1),
    }
    try:
        bridge_cost = compare(make_run(bridge), empty, rounds, steps)[1]
        bridge_peers["plain bridge with the same libplumed, same run"] = round(bridge_cost, 1)
    except ImportError:
        print("no Python module plumed: the plain bridge is not measured")
    return [
        {
            "name": "MD rate with native RESTRAINT on phi, psi over plain MD",
            "value": round(native, 4),
            "unit": "ratio",
            "target": ">= 0.93",
            "met": native >= 0.93,
            "peers": {name: round(ratio, 4) for name, ratio in (others | PEERS).items()},
        },
        {
            "name": "kernel backend with the same, against an empty PythonForce",
            "value": round(cost, 1),
            "unit": "us a step",
            "target": "<= 35",
            "met": cost <= 35,
            "peers": bridge_peers | {"libplumed": str(find_kernel())},
        },
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--steps", type=int, default=10_000, help="steps of a block")
    parser.add_argument("--json", type=Path, help="write the rows to this file")
    arguments = parser.parse_args()
    logging.getLogger("openmm_cgan").setLevel(logging.WARNING)
    rows = agreement_rows() + cost_rows(arguments.rounds, arguments.steps)
    for row in rows:
        row["command"] = f"python {' '.join(sys.argv)}"
    for row in rows[-2:]:
        print(f"{row['name']:60s} {row['value']:8.3f} {row['unit']}")
        for peer, value in row["peers"].items():
            print(f"    {peer:56s} {value}")
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
