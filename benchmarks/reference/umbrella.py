"""Reference, method (b): umbrella windows on phi and psi, each started from both sides.

Every window of a 24 x 15 grid is run twice: from C7eq and from C7ax, taken straight to the centre
of the window (never through another window) and settled there. Whatever left L-alanine with trans
amides on the way is started again with another seed, and counted. The runs of a start are kept as
start-NAME-window-N.npz; one that is there is skipped.

The restraints must be stiffer than the barriers are curved (-117 kJ/mol/rad^2 along phi and -92
along psi where the free energy is below 55 kJ/mol): softer windows slide off to one side or hop.

    python benchmarks/reference/umbrella.py OUTPUT --steps 30000
"""

from __future__ import annotations

import argparse
import logging
import os
import time
from pathlib import Path

import alanine
import numpy as np
import openmm
from numpy.typing import NDArray
from openmm import app

GRID = (24, 15)
KAPPA = np.array([200.0, 100.0])  # kJ/mol/rad^2
DRAG_STEPS, SETTLE_STEPS, STRIDE = 2_500, 5_000, 50
STARTS = {"C7eq": (-1.4, 1.2), "C7ax": (1.1, -1.0)}
ENERGY = "0.5*{}*d^2; d=min(abs(theta-{}), 6.283185307179586-abs(theta-{}))"


def centres() -> NDArray[np.float64]:
    """Centres of the windows (360, 2)."""
    axes = [-np.pi + 2 * np.pi * np.arange(n) / n for n in GRID]
    return np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 2)


def restrained_simulation(seed: int) -> tuple[app.Simulation, NDArray[np.float64]]:
    """The molecule with a restraint on phi and psi whose centre is two Context parameters."""
    system, topology, positions = alanine.system()
    for name, atoms, kappa in zip(("phi0", "psi0"), (alanine.PHI, alanine.PSI), KAPPA, strict=True):
        force = openmm.CustomTorsionForce(ENERGY.format(kappa, name, name))
        force.addGlobalParameter(name, 0.0)
        force.addTorsion(*atoms, [])
        system.addForce(force)
    return alanine.simulation(system, topology, seed), positions


def drag(simulation: app.Simulation, begin: NDArray, end: NDArray, steps: int) -> None:
    """Move the restraint from one point (2,) to another [rad], the short way round, in 50 jumps."""
    way = (end - begin + np.pi) % (2 * np.pi) - np.pi
    for part in np.linspace(0, 1, 51)[1:]:
        move(simulation, (begin + part * way + np.pi) % (2 * np.pi) - np.pi)
        simulation.step(steps // 50)


def move(simulation: app.Simulation, centre: NDArray) -> None:
    """Put the restraint on a point (2,) [rad]."""
    simulation.context.setParameter("phi0", centre[0])
    simulation.context.setParameter("psi0", centre[1])


def positions_of(simulation: app.Simulation) -> NDArray[np.float64]:
    return simulation.context.getState(positions=True).getPositions(asNumpy=True)._value


def begin_at(simulation: app.Simulation, point: tuple[float, float]) -> NDArray[np.float64]:
    """Settled configuration of a basin, from the extended molecule of openmmtools."""
    target, now = np.array(point), positions_of(simulation)
    here = np.array([alanine.torsion(now, alanine.PHI), alanine.torsion(now, alanine.PSI)])
    move(simulation, here)
    simulation.minimizeEnergy()
    simulation.context.setVelocitiesToTemperature(alanine.TEMPERATURE, 11)
    drag(simulation, here, target, 20_000)
    settled = positions_of(simulation)
    assert alanine.is_trans_l(settled)
    return settled


def run_window(
    simulation: app.Simulation, start: NDArray, begin: NDArray, centre: NDArray, steps: int
) -> dict[str, NDArray]:
    """Frames of one window from one side; ``restarts`` counts starts that left the molecule.

    Parameters
    ----------
    simulation : openmm.app.Simulation
        From `restrained_simulation`.
    start : ndarray, shape (n_atoms, 3)
        Settled configuration [nm] at ``begin``.
    begin, centre : ndarray, shape (2,)
        phi and psi where it starts, and of the window [rad].
    steps : int

    Returns
    -------
    dict of str to ndarray
        phi, psi, trans_l, shape (n_frames,); omegas, shape (2, n_frames) [rad]; centre, restarts.
    """
    for restarts in range(10):
        simulation.context.setPositions(start)
        move(simulation, begin)
        seed = int(simulation.context.getStepCount() % 1_000_003) + 1
        simulation.context.setVelocitiesToTemperature(alanine.TEMPERATURE, seed)
        drag(simulation, begin, centre, DRAG_STEPS * (1 + restarts))
        simulation.step(SETTLE_STEPS)
        if alanine.is_trans_l(positions_of(simulation)):
            break
    else:
        raise RuntimeError(f"no start of L-alanine with trans amides at {centre}")
    frames = []
    for _ in range(steps // STRIDE):
        simulation.step(STRIDE)
        x = positions_of(simulation)
        omegas = [alanine.torsion(x, atoms) for atoms in alanine.OMEGAS]
        frames.append([alanine.torsion(x, alanine.PHI), alanine.torsion(x, alanine.PSI),
                       alanine.is_trans_l(x), *omegas])  # fmt: skip
    columns = np.array(frames).T
    return {
        "phi": columns[0].astype(np.float32),
        "psi": columns[1].astype(np.float32),
        "trans_l": columns[2].astype(bool),
        "omegas": columns[3:].astype(np.float32),
        "centre": centre,
        "restarts": np.array(restarts),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("output", type=Path)
    parser.add_argument("--steps", type=int, default=30_000)
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    arguments.output.mkdir(parents=True, exist_ok=True)
    for name, point in STARTS.items():
        simulation, positions = restrained_simulation(seed=len(name) + sum(map(ord, name)))
        simulation.context.setPositions(positions)
        start = begin_at(simulation, point)
        for number, centre in enumerate(centres()):
            path = arguments.output / f"start-{name}-window-{number:03d}.npz"
            if path.exists():
                continue
            begun = time.monotonic()
            frames = run_window(simulation, start, np.array(point), centre, arguments.steps)
            partial = path.with_suffix(".part.npz")
            np.savez_compressed(partial, **frames)
            os.replace(partial, path)
            rate = arguments.steps / (time.monotonic() - begun)
            logging.info("%s %d: restarts %d, %.0f steps/s", name, number, frames["restarts"], rate)


if __name__ == "__main__":
    main()
