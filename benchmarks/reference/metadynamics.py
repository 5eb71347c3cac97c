"""Reference, method (a): independent walkers of 2-D well-tempered metadynamics, all from C5/C7eq.

Each walker keeps its own hills, so the spread between walkers is the error.  Frames are taken
halfway between hills together with the bias that acted on them and Tiwary's c(t), and kept as
walker-N.npz in the output folder; a walker that is already there is skipped.

    python benchmarks/reference/metadynamics.py OUTPUT --walkers 4 --steps 8000000
"""

from __future__ import annotations

import argparse
import logging
import os
import time
from pathlib import Path

import alanine
import numpy as np
from numpy.typing import NDArray
from openmm import CustomTorsionForce, app

SIGMA, HEIGHT, BIASFACTOR, PACE, GRID = 0.35, 1.2, 10.0, 500, 90
STRIDE = 100


def torsion_variable(atoms: tuple[int, ...]) -> app.BiasVariable:
    """The torsion as a periodic CV of openmm.app.Metadynamics."""
    force = CustomTorsionForce("theta")
    force.addTorsion(*atoms, [])
    return app.BiasVariable(force, -np.pi, np.pi, SIGMA, periodic=True, gridWidth=GRID)


def bias_grid(metadynamics: app.Metadynamics) -> NDArray[np.float64]:
    """The bias on its grid, [psi, phi], both ends of the period included [kJ/mol]."""
    free_energy = np.asarray(metadynamics.getFreeEnergy()._value)
    return -free_energy * (BIASFACTOR - 1.0) / BIASFACTOR


def time_offset(bias: NDArray) -> float:
    """c(t) of P. Tiwary and M. Parrinello, J. Phys. Chem. B 119, 736 (2015) [kJ/mol].

    From the bias on its grid, shape (GRID + 1, GRID + 1) [kJ/mol].
    """
    v = bias[:-1, :-1] / alanine.KT
    upper, lower = v * BIASFACTOR / (BIASFACTOR - 1.0), v / (BIASFACTOR - 1.0)
    return alanine.KT * float(
        upper.max() + np.log(np.exp(upper - upper.max()).sum()) - np.log(np.exp(lower).sum())
    )


def run_walker(output: Path, walker: int, steps: int) -> None:
    """One walker of ``steps`` steps; writes phi, psi, bias, offset, trans_l and the final bias."""
    system, topology, positions = alanine.system()
    variables = [torsion_variable(alanine.PHI), torsion_variable(alanine.PSI)]
    metadynamics = app.Metadynamics(
        system, variables, alanine.TEMPERATURE, BIASFACTOR, HEIGHT, PACE
    )
    groups = {f.getForceGroup() for f in system.getForces() if f.getName() == "CustomCVForce"}
    simulation = alanine.simulation(system, topology, seed=1000 + walker)
    simulation.context.setPositions(positions)
    simulation.minimizeEnergy()
    simulation.context.setVelocitiesToTemperature(alanine.TEMPERATURE, 2000 + walker)
    frames: dict[str, list] = {k: [] for k in ("phi", "psi", "bias", "offset", "trans_l")}
    metadynamics.step(simulation, STRIDE // 2)  # so that no frame falls on the step of a hill
    offset = 0.0
    for frame in range(steps // STRIDE):
        state = simulation.context.getState(positions=True, energy=True, groups=groups)
        x = state.getPositions(asNumpy=True)._value
        if frame % (PACE // STRIDE) == 0:
            offset = time_offset(bias_grid(metadynamics))
        frames["phi"].append(alanine.torsion(x, alanine.PHI))
        frames["psi"].append(alanine.torsion(x, alanine.PSI))
        frames["bias"].append(state.getPotentialEnergy()._value)
        frames["offset"].append(offset)
        frames["trans_l"].append(alanine.is_trans_l(x))
        metadynamics.step(simulation, STRIDE)
    arrays = {
        k: np.asarray(v, dtype=bool if k == "trans_l" else np.float32) for k, v in frames.items()
    }
    partial = output / f"walker-{walker}.part.npz"
    np.savez_compressed(partial, final_bias=bias_grid(metadynamics), steps=steps, **arrays)
    os.replace(partial, output / f"walker-{walker}.npz")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("output", type=Path)
    parser.add_argument("--walkers", type=int, default=4)
    parser.add_argument("--steps", type=int, default=8_000_000)
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    arguments.output.mkdir(parents=True, exist_ok=True)
    for walker in range(arguments.walkers):
        if (arguments.output / f"walker-{walker}.npz").exists():
            continue
        start = time.monotonic()
        run_walker(arguments.output, walker, arguments.steps)
        logging.info(
            "walker %d: %.0f steps/s", walker, arguments.steps / (time.monotonic() - start)
        )


if __name__ == "__main__":
    main()
