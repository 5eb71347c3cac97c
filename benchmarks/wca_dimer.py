"""Nilmeier's dimer in a dense WCA fluid: switches of its bond beside moves at once, and the truth.

Two of 216 particles that only repel each other (WCA with argon's size, reduced density 0.96, 0.824
kT) are bonded in two states, compact and extended, 5 kT of the bond between them [1]_. A bond that
is stretched at once meets a neighbour; led there while the fluid makes room it is accepted.

The switches are those of mode="steered", of a distance in place of torsions: beside the bond r
z ~ Normal(r, kT/kappa), z' near one state or the other, judged by min(1, q(z)/q(z') exp(-dH/kT)).

    bond         shares of the extended state in runs that start in either state, with switches
                 between stretches of dynamics, and from umbrella windows by MBAR
    acceptance   changes of state an attempt, at once and by switches of more and more steps

    python benchmarks/wca_dimer.py [--moves 100] [--json FILE]

.. [1] J. P. Nilmeier, G. E. Crooks, D. D. L. Minh, J. D. Chodera, Proc. Natl. Acad. Sci. USA 108,
   E1009 (2011), doi 10.1073/pnas.1106094108.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np
import openmm
from numpy.typing import NDArray
from openmm import app, unit
from provenance import in_words, provenance

from openmm_cgan.atomic_files import write_atomically
from openmm_cgan.free_energy.mbar import solve_mbar
from openmm_cgan.free_energy.samples import statistical_inefficiency
from openmm_cgan.potentials import system_without
from openmm_cgan.reporters.moves.steering import Steering
from openmm_cgan.reporters.moves.switching import Steps, Switching

N, MASS, SIGMA = 216, 39.9, 0.34  # dalton, nm
EPSILON = 120 * unit.MOLAR_GAS_CONSTANT_R.value_in_unit(unit.kilojoule_per_mole / unit.kelvin)
KT = 0.824 * EPSILON
TEMPERATURE = 0.824 * 120.0  # K
BOX = (N / 0.96) ** (1 / 3) * SIGMA
TOUCH = 2 ** (1 / 6) * SIGMA  # nm: the compact bond; the extended one is twice as long
HALF, HEIGHT = 0.5 * TOUCH, 5 * KT
BETWEEN = TOUCH + HALF  # nm: top of the barrier
TIME_STEP = 0.005 * SIGMA * (MASS / EPSILON) ** 0.5  # ps
KAPPA = 100 * KT / HALF**2  # kJ/mol/nm^2: places a tenth of half the way about the bond
NEAR = 0.2 * HALF  # nm: how far from a state it is drawn
HOLD = 40 * KT / HALF**2  # kJ/mol/nm^2: force constant of windows
WINDOWS, PARTS = 13, 4  # windows, and parts of each whose spread is the error
FREE, PACE = 200, 10  # steps between two moves, and between two distances of a window


def well(r: NDArray[np.float64]) -> NDArray[np.float64]:
    """Energy of the bond [kJ/mol]."""
    return HEIGHT * (1 - (r - BETWEEN) ** 2 / HALF**2) ** 2


def system_of(form: str) -> openmm.System:
    """The fluid, with a bond of an energy of r between its first two particles."""
    system, bond = openmm.System(), openmm.CustomBondForce(form)
    system.setDefaultPeriodicBoxVectors(*np.diag([BOX] * 3))
    repulsion = openmm.CustomNonbondedForce(
        f"4*{EPSILON}*((s/r)^12 - (s/r)^6) + {EPSILON}; s = {SIGMA}"
    )
    repulsion.setNonbondedMethod(openmm.CustomNonbondedForce.CutoffPeriodic)
    repulsion.setCutoffDistance(TOUCH)
    for _ in range(N):
        system.addParticle(MASS)
        repulsion.addParticle()
    repulsion.addExclusion(0, 1)
    if "centre" in form:
        bond.addGlobalParameter("centre", TOUCH)
    bond.addBond(0, 1)
    system.addForce(repulsion)
    system.addForce(bond)
    return system


DOUBLE_WELL = f"{HEIGHT}*(1 - (r - {BETWEEN})^2/{HALF}^2)^2"
HELD = f"0.5*{HOLD}*(r - centre)^2"


def simulation_of(form: str, seed: int, extended: bool = False) -> app.Simulation:
    """A run of it from a lattice, melted."""
    system, rng = system_of(form), np.random.default_rng(seed)
    topology = app.Topology()
    residue = topology.addResidue("X", topology.addChain())
    for k in range(N):
        topology.addAtom(f"A{k}", app.Element.getBySymbol("Ar"), residue)
    integrator = openmm.LangevinMiddleIntegrator(TEMPERATURE, 0.5, TIME_STEP)
    integrator.setRandomNumberSeed(seed)
    platform = openmm.Platform.getPlatformByName("CPU")
    simulation = app.Simulation(topology, system, integrator, platform, {"Threads": "1"})
    grid = np.stack(np.meshgrid(*[np.arange(6)] * 3), axis=-1).reshape(-1, 3) * BOX / 6
    x = grid + 0.01 * rng.standard_normal(grid.shape)
    place = x[0] + (2 * TOUCH if extended else TOUCH) * np.array([1.0, 0.0, 0.0])
    nearest = np.linalg.norm(x - place, axis=1).argmin()
    x[[1, nearest]] = x[[nearest, 1]]
    simulation.context.setPositions(x)
    simulation.minimizeEnergy(maxIterations=300)
    simulation.context.setVelocitiesToTemperature(TEMPERATURE, seed)
    simulation.step(4000)
    return simulation


def positions_of(simulation: app.Simulation) -> NDArray[np.float64]:
    return simulation.context.getState(positions=True).getPositions(asNumpy=True)._value


def bond_of(x: NDArray[np.float64]) -> float:
    return float(np.linalg.norm(x[1] - x[0]))


def log_q(z: float) -> float:
    """Log density of places: normal about either state."""
    away = (z - np.array([TOUCH, 2 * TOUCH])) / NEAR
    return float(np.logaddexp.reduce(-0.5 * away**2))


def drawn(rng: np.random.Generator) -> float:
    return float(rng.choice([TOUCH, 2 * TOUCH]) + NEAR * rng.standard_normal())


class Switches:
    """Attempts to lead the bond to another place by a number of steps."""

    def __init__(self, simulation: app.Simulation, n_steps: int) -> None:
        self.steering = Steering([(0, 1)], KAPPA)
        system = system_without(simulation.system, [])
        steps = Steps(n_steps, TIME_STEP)
        self.switching = Switching(simulation, system, self.steering, 7, steps)

    def tried(
        self, x: NDArray[np.float64], rng: np.random.Generator
    ) -> tuple[float, NDArray[np.float64]]:
        """Probability to be accepted, and the end (N, 3) [nm]."""
        start = self.steering.places(self.steering.values(x), KT, rng)
        end = np.array([drawn(rng)])
        velocities = self.switching.drawn_velocities(x, KT, rng)
        made = self.switching.made(x, velocities, start, end)
        log_ratio = log_q(start[0]) - log_q(end[0]) - made.change / KT
        return float(np.exp(min(0.0, log_ratio))) if np.isfinite(log_ratio) else 0.0, made.positions


def at_once(simulation: app.Simulation, x: NDArray, rng: np.random.Generator) -> float:
    """Probability that a bond stretched about its middle, all else at rest, changes the state."""
    r, new = bond_of(x), drawn(rng)
    if (r > BETWEEN) == (new > BETWEEN) or new <= 0:
        return 0.0
    y = x.copy()
    shift = 0.5 * (new - r) * (x[1] - x[0]) / r
    y[0], y[1] = x[0] - shift, x[1] + shift
    energies = []
    for one in (x, y):
        simulation.context.setPositions(one)
        state = simulation.context.getState(energy=True)
        energies.append(state.getPotentialEnergy()._value)
    change = (energies[1] - energies[0]) / KT
    return float(np.exp(min(0.0, log_q(r) - log_q(new) + 2 * np.log(new / r) - change)))


def with_error(values: NDArray[np.float64]) -> tuple[float, float]:
    """Mean of a series and its standard error, correlation counted."""
    g = statistical_inefficiency(values[:, None]) if values.std() > 0 else float(len(values))
    return float(values.mean()), float(values.std() * np.sqrt(g / len(values)))


def chain(
    extended: bool, moves: int, n_steps: int, seed: int
) -> tuple[list[NDArray[np.float64]], NDArray[np.bool_]]:
    """Configurations of a run with switches, one before each, and whether they are extended."""
    simulation, rng = simulation_of(DOUBLE_WELL, seed, extended), np.random.default_rng(seed)
    switches, kept = Switches(simulation, n_steps), []
    for _ in range(moves):
        simulation.step(FREE)
        x = positions_of(simulation)
        kept.append(x)
        likely, end = switches.tried(x, rng)
        if rng.random() < likely:
            simulation.context.setPositions(end)
            simulation.context.setVelocitiesToTemperature(TEMPERATURE, int(rng.integers(1, 2**31)))
    return kept, np.array([bond_of(x) > BETWEEN for x in kept])


def by_windows(steps: int, seed: int) -> tuple[float, float]:
    """Share of the extended state from windows along a bond without energy, joined by MBAR."""
    simulation = simulation_of(HELD, seed)
    centres = np.linspace(TOUCH - 0.4 * HALF, TOUCH + 2.4 * HALF, WINDOWS)
    bonds = np.zeros((WINDOWS, steps // PACE))
    for window, centre in enumerate(centres):
        simulation.context.setParameter("centre", centre)
        simulation.step(steps // 5)
        for k in range(bonds.shape[1]):
            simulation.step(PACE)
            bonds[window, k] = bond_of(positions_of(simulation))
    parts = [_share(part, centres) for part in np.array_split(bonds, PARTS, axis=1)]
    return _share(bonds, centres), float(np.std(parts, ddof=1) / np.sqrt(PARTS))


def _share(bonds: NDArray[np.float64], centres: NDArray[np.float64]) -> float:
    """Of the extended state, of bonds (n_windows, n) [nm] that were held at centres."""
    r, states = bonds.ravel(), np.repeat(np.arange(len(bonds)), bonds.shape[1])
    held = 0.5 * HOLD * (r - centres[:, None]) ** 2 / KT
    _, log_weights = solve_mbar(lambda rows: held[:, rows], states)
    log_weights = log_weights - well(r) / KT
    weights = np.exp(log_weights - log_weights.max())
    return float(weights[r > BETWEEN].sum() / weights.sum())


def acceptance(frames: list[NDArray[np.float64]], n_steps: int, attempts: int) -> dict[str, object]:
    """Changes of state an attempt, from equilibrium configurations."""
    simulation, rng = simulation_of(DOUBLE_WELL, 9), np.random.default_rng(10 + n_steps)
    rows, begun = rng.integers(len(frames), size=attempts), time.process_time()
    changes = []
    switches = Switches(simulation, n_steps) if n_steps else None
    for row in rows:
        x = frames[row]
        if switches is None:
            changes.append(at_once(simulation, x, rng))
            continue
        likely, end = switches.tried(x, rng)
        changes.append(likely * ((bond_of(end) > BETWEEN) != (bond_of(x) > BETWEEN)))
    found = np.array(changes)
    return {
        "steps": n_steps, "attempts": attempts, "changes": found.mean(),
        "error": found.std() / np.sqrt(attempts), "seconds": time.process_time() - begun,
    }  # fmt: skip


def measured(moves: int, n_steps: int, steps: int, lengths: list[int]) -> list[dict[str, object]]:
    """All rows of the table, printed as they come."""
    rows: list[dict[str, object]] = []
    frames = []
    for k, extended in enumerate((False, True)):
        kept, is_extended = chain(extended, moves, n_steps, k + 1)
        frames += kept[moves // 10 :]
        share, error = with_error(is_extended[moves // 10 :].astype(float))
        rows.append(
            {
                "from": "extended" if extended else "compact", "switches of": n_steps,
                "extended": share, "error": error,
                "changes": int(np.count_nonzero(np.diff(is_extended))),
            }
        )  # fmt: skip
        print(rows[-1], flush=True)
    share, error = by_windows(steps, 5)
    rows.append({"from": "windows", "extended": share, "error": error, "steps": steps * WINDOWS})
    print(rows[-1], flush=True)
    for length in lengths:
        attempts = 20 * moves if length == 0 else max(24, min(2 * moves, 160 * moves // length))
        rows.append(acceptance(frames, length, attempts))
        print(rows[-1], flush=True)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--moves", type=int, default=100, help="of each of two runs")
    parser.add_argument("--switch", type=int, default=2000, help="steps of a switch in these runs")
    parser.add_argument("--steps", type=int, default=15_000, help="of each window")
    parser.add_argument("--lengths", type=int, nargs="+", default=[0, 32, 128, 512, 2048, 8192])
    parser.add_argument("--json", type=Path, help="write the rows to this file")
    given = parser.parse_args()
    made = provenance()
    print(in_words(made))
    rows = measured(given.moves, given.switch, given.steps, given.lengths)
    if given.json:
        text = json.dumps({**made, "arguments": vars(given), "rows": rows}, default=str, indent=1)
        write_atomically(given.json, text + "\n")


if __name__ == "__main__":
    main()
