"""Steered moves of alanine dipeptide: accepted against the length of a switch, and populations.

phi and psi are led to where a short 2-D metadynamics found them likely (GridConditions of its
hills), the methyl groups stay. In vacuum the run carries a fixed bias that lifts C7eq to C7ax, so
that both are met, and is weighed by it.

    vacuum, obc2   populations of a run with moves of 2 ps between stretches of 1 ps, from C7eq,
                   beside the metadynamics (vacuum: and the reference of benchmarks/reference);
                   then moves of each length from its frames
    water          TIP3P, PME, smallest legal box: moves of each length between stretches of 0.4 ps

    --profile N    beside them: what is dissipated in each tenth of the way, by N moves of 2 ps from
                   independent frames (of ends exchanged, so that free energies cancel), and how
                   many times less a schedule would dissipate that evens it out, slow responses
                   left aside: <d>/<sqrt d>^2 (Sivak, Crooks, Phys. Rev. Lett. 108, 190602, 2012)
    --flux N       moves of a chain of four atoms, one each from N exact samples: from the one well
                   to the other and back

`accepted` is the mean probability, `crossed` that of ends on the other side of phi = 0 or 2.3, an
attempt; the cost is the median of -kT log(ratio), nearly what was dissipated.

    python benchmarks/steered.py vacuum obc2 water [--moves N] [--lengths STEPS ...] [--json FILE]
    python benchmarks/steered.py --flux 100000 [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
import types
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import openmm
from alanine import KT, TEMPERATURE, TIME_STEP, Umbrella, frames_of, in_basin, umbrella_frames
from numpy.typing import NDArray
from openmm import app, unit
from provenance import in_words, provenance

from openmm_cgan import ConditionalGAN, PlumedBias, ProposalReporter
from openmm_cgan.atomic_files import write_atomically
from openmm_cgan.cgan import TrainingSettings
from openmm_cgan.cli.shipped import read_reference
from openmm_cgan.free_energy.samples import statistical_inefficiency
from openmm_cgan.proposals import GridConditions
from openmm_cgan.reporters.moves import Asked, Start, SteeredMove
from openmm_cgan.reporters.moves.steering import SHARE
from openmm_cgan.reporters.settings import ProposalSettings
from openmm_cgan.testsystems import Chain, Molecule, alanine_dipeptide

TORSIONS = "phi: TORSION ATOMS=5,7,9,15\npsi: TORSION ATOMS=7,9,15,17\n"
METAD = TORSIONS + (
    "metad: METAD ARG=phi,psi SIGMA=0.3,0.3 HEIGHT=1.0 BIASFACTOR=10 PACE=250"
    " GRID_MIN=-pi,-pi GRID_MAX=pi,pi GRID_BIN=72,72 FILE=HILLS\n"
)
LIFTED = TORSIONS + (
    "lift: CUSTOM ARG=phi FUNC=-5.5*(1+cos(x-1.1)) VAR=x PERIODIC=NO\nBIASVALUE ARG=lift\n"
)
PLAIN = TORSIONS + "PRINT ARG=phi,psi FILE=COLVAR STRIDE=10000\n"
FACTOR = 10.0  # of the metadynamics
BINS = 24
BETWEEN, SWITCH, STRIDE = 500, 1000, 100  # steps between two moves, of one, and between frames
FIELDS = {"obc2": ("amber96.xml", "implicit/obc2.xml"), "water": ("amber96.xml", "tip3p.xml")}


def molecule_in(solvent: str) -> Molecule:
    """Alanine dipeptide, AMBER ff96, in C7eq."""
    found = alanine_dipeptide("C7eq")
    if solvent == "vacuum":
        return found
    field = app.ForceField(*FIELDS[solvent])
    if solvent == "obc2":
        system = field.createSystem(found.topology, constraints=app.HBonds)
        return Molecule(found.topology, system, found.positions)
    modeller = app.Modeller(found.topology, found.positions * unit.nanometer)
    modeller.addSolvent(field, model="tip3p", boxSize=openmm.Vec3(2.05, 2.05, 2.05))
    system = field.createSystem(
        modeller.topology, nonbondedMethod=app.PME, nonbondedCutoff=0.8 * unit.nanometer,
        constraints=app.HBonds,
    )  # fmt: skip
    x = np.array(modeller.positions.value_in_unit(unit.nanometer))
    return Molecule(modeller.topology, system, x)


@dataclass
class Run:
    """A Simulation with a bias."""

    simulation: app.Simulation
    bias: PlumedBias


def run_of(
    molecule: Molecule, text: str, folder: Path, seed: int, cvs: tuple[str, ...] = ("phi", "psi")
) -> Run:
    given = {"temperature": TEMPERATURE, "directory": folder, "cvs": list(cvs)}
    bias = PlumedBias(text, molecule.topology, **given)
    bias.add_to(molecule.system)
    integrator = openmm.LangevinMiddleIntegrator(TEMPERATURE, 1.0, TIME_STEP)
    integrator.setRandomNumberSeed(seed)
    large = molecule.system.getNumParticles() > 100
    forces = [force.getName() for force in molecule.system.getForces()]
    # OBC2 on the Reference platform is an expression that is interpreted: 400 steps/s
    quick = "CPU" if large or "CustomGBForce" in forces else "Reference"
    platform = openmm.Platform.getPlatformByName(quick)
    properties = {"Threads": "1"} if quick == "CPU" else {}
    simulation = app.Simulation(
        molecule.topology, molecule.system, integrator, platform, properties
    )
    simulation.context.setPositions(molecule.positions)
    if large:
        simulation.minimizeEnergy(maxIterations=200)
    simulation.context.setVelocitiesToTemperature(TEMPERATURE, seed)
    bias.attach(simulation)
    return Run(simulation, bias)


def positions_of(simulation: Any) -> NDArray[np.float64]:
    """Of a Simulation, or of what else has a Context [nm]."""
    return simulation.context.getState(positions=True).getPositions(asNumpy=True)._value


def metadynamics(solvent: str, steps: int, seed: int) -> tuple[NDArray, NDArray]:
    """Centres (n, 2) of cells of the (phi, psi) plane and the free energy there [kJ/mol]."""
    with tempfile.TemporaryDirectory() as name:
        run = run_of(molecule_in(solvent), METAD, Path(name), seed)
        run.simulation.step(steps)
        side = -np.pi + 2 * np.pi * (np.arange(BINS) + 0.5) / BINS
        cells = np.stack(np.meshgrid(side, side, indexing="ij"), axis=-1).reshape(-1, 2)
        energy = -run.bias.bias_of_cvs(cells) * FACTOR / (FACTOR - 1)
        run.bias.close()
    return cells, energy - energy.min()


def difference(cells: NDArray, energy: NDArray) -> float:
    """Free energy of 0 < phi < 2.3 over the rest [kJ/mol]."""
    weights, inside = np.exp(-energy / KT), in_basin(cells[:, 0])
    return float(-KT * np.log(weights[inside].sum() / weights[~inside].sum()))


def flow_of() -> ConditionalGAN:
    """A flow given phi and psi; it draws no other torsion than those of methyl groups."""
    frames = umbrella_frames(Umbrella(n_side=6, steps=250, stride=25, seed=1))
    settings = TrainingSettings(generator="FlowGenerator", steps=20, width=16)
    return ConditionalGAN.fit(frames, alanine_dipeptide("C7eq").topology, settings)


def settings_of(run: Run, cells: NDArray, energy: NDArray, n_steps: int) -> ProposalSettings:
    bias = run.bias.bias_of_cvs(cells)
    density = np.exp(-(energy + bias - (energy + bias).min()) / KT).reshape(BINS, BINS)
    whole = [(-np.pi, np.pi)] * 2
    conditions = GridConditions(density, whole, run.bias.variables, uniform_share=0.02)
    return ProposalSettings(switching_steps=n_steps, conditions=conditions)


def populations(
    solvent: str, flow: ConditionalGAN, surface: tuple[NDArray, NDArray], moves: int
) -> tuple[dict[str, Any], NDArray]:
    """Of a run with moves, and frames before them."""
    text = LIFTED if solvent == "vacuum" else PLAIN
    with tempfile.TemporaryDirectory() as name:
        run = run_of(molecule_in(solvent), text, Path(name), 1)
        settings = settings_of(run, *surface, SWITCH)
        made = ProposalReporter(
            Path(name) / "moves.csv", BETWEEN, flow, run.bias, mode="steered", settings=settings
        )
        run.simulation.reporters.append(made)
        x = []
        for _ in range(moves * BETWEEN // STRIDE):
            run.simulation.step(STRIDE)
            x.append(positions_of(run.simulation))
        frames = np.array(x)
        cvs = run.bias.cv_values(frames)
        log_weights = run.bias.bias_of_cvs(cvs) / KT
        accepted = made.counts()["accepted"]
        summary = made.summary()
        run.bias.close()
    inside, weights = in_basin(cvs[:, 0]), np.exp(log_weights - log_weights.max())
    share = float((weights * inside).sum() / weights.sum())
    g = statistical_inefficiency(inside[:, None].astype(float)) if inside.any() else len(inside)
    off = weights * (inside - share)
    error = float(off.std() * np.sqrt(g / len(off)) / weights.mean())
    found = {
        "solvent": solvent, "moves": moves, "accepted": accepted, "summary": summary,
        "changes of basin": int(np.count_nonzero(np.diff(inside))),
        "steps": moves * (BETWEEN + SWITCH + 2), "share": share, "error of share": error,
        "difference": -KT * np.log(share / (1 - share)) if 0 < share < 1 else None,
        "its error": KT * error / (share * (1 - share)) if 0 < share < 1 else None,
        "metadynamics": difference(*surface),
    }  # fmt: skip
    if solvent == "vacuum":
        reference = read_reference().difference
        found |= {"reference": reference.value, "error of reference": reference.error}
    return found, frames[BETWEEN // STRIDE - 1 :: BETWEEN // STRIDE]


def of_length(
    solvent: str,
    flow: ConditionalGAN,
    surface: tuple[NDArray, NDArray],
    n_steps: int,
    attempts: int,
    frames: NDArray | None,
) -> dict[str, Any]:
    """Moves of a length from frames, or between stretches of dynamics where there are none."""
    text = LIFTED if solvent == "vacuum" else PLAIN
    with tempfile.TemporaryDirectory() as name:
        run = run_of(molecule_in(solvent), text, Path(name), 2)
        rng, positions = np.random.default_rng(n_steps), positions_of(run.simulation)
        settings = settings_of(run, *surface, n_steps)
        asked = Asked(flow, run.bias, "uniform", settings, n_steps)
        periodic = run.simulation.system.usesPeriodicBoundaryConditions()
        state = run.simulation.context.getState()
        box = np.array(state.getPeriodicBoxVectors()._value) if periodic else None
        start = Start(run.simulation, np.arange(22), positions, box, TEMPERATURE)
        move = SteeredMove.prepare(asked, start)
        if frames is None:
            run.simulation.step(2000)
        costs, crossed, begun = [], [], time.process_time()
        for _ in range(attempts):
            if frames is None:
                run.simulation.step(200)
                x = positions_of(run.simulation)
            else:
                x = frames[rng.integers(len(frames))]
            made = move.attempt(x, box, rng)
            if np.isnan(made.energy_after):
                continue
            costs.append(move.last_cost)
            ends = np.array([run.bias.cv_values(x, box)[0], made.generated[0]])
            crossed.append(bool(np.diff(in_basin(ends))[0]))
        run.bias.close()
    likely = np.exp(-np.maximum(costs, 0.0) / KT)
    changes = likely * np.array(crossed)
    return {
        "solvent": solvent, "ps": n_steps * TIME_STEP, "attempts": len(costs),
        "accepted": likely.mean(), "error": likely.std() / np.sqrt(len(costs)),
        "crossed": changes.mean(), "tried to cross": int(np.sum(crossed)),
        "accepted of these": float(likely[crossed].mean()) if np.any(crossed) else None,
        "cost": statistics.median(costs), "seconds": time.process_time() - begun,
    }  # fmt: skip


class Works:
    """The work of the force that leads, step by step, of the switches of a move."""

    def __init__(self, move: SteeredMove) -> None:
        self._move, self._integrator = move, move.switching._integrator
        self._made, self.work = move.switching.made, list[float]()
        move.switching.made = self._begun
        move.switching._integrator = types.SimpleNamespace(step=self._step)

    def _begun(self, x: NDArray, v: NDArray, start: NDArray, end: NDArray) -> Any:
        self.ends, self.work = (start, end), []
        return self._made(x, v, start, end)

    def _step(self, n: int) -> None:
        self._integrator.step(n)
        switching, steering = self._move.switching, self._move.steering
        start, way = self.ends[0], steering.ways(*self.ends)
        theta = steering.values(positions_of(switching))
        share = switching.context.getParameter(SHARE)
        led = [
            0.5 * steering.kappa * (steering.ways(start + s * way, theta) ** 2).sum()
            for s in (share, share + 1 / switching.n_steps)
        ]
        self.work.append(float(led[1] - led[0]))


def spared(dissipated: NDArray[np.float64]) -> float:
    """How many times less is dissipated where the time is spent as its root demands."""
    each = np.maximum(dissipated, 0.0)  # below zero by noise
    return float(each.mean() / np.sqrt(each).mean() ** 2)


def profile(
    solvent: str,
    flow: ConditionalGAN,
    surface: tuple[NDArray, NDArray],
    moves: int,
    frames: NDArray,
) -> dict[str, Any]:
    """Dissipated in tenths of the way, of all moves and of those between the basins."""
    text, works, crossed = LIFTED if solvent == "vacuum" else PLAIN, [], []
    with tempfile.TemporaryDirectory() as name:
        run = run_of(molecule_in(solvent), text, Path(name), 2)
        settings = settings_of(run, *surface, SWITCH)
        asked = Asked(flow, run.bias, "uniform", settings, SWITCH)
        start = Start(run.simulation, np.arange(22), frames[0], None, TEMPERATURE)
        move, rng = SteeredMove.prepare(asked, start), np.random.default_rng(5)
        watched = Works(move)
        for x in frames[rng.integers(len(frames), size=moves)]:
            run.simulation.context.setPositions(x)
            move.follow(run.simulation.context, TEMPERATURE)
            end = move.attempt(x, None, rng)
            if np.isnan(end.energy_after):
                continue
            works.append(np.array(watched.work).reshape(10, -1).sum(axis=1))
            ends = np.array([run.bias.cv_values(x)[0], end.generated[0]])
            crossed.append(bool(np.diff(in_basin(ends))[0]))
        run.bias.close()
    each = 0.5 * (np.array(works) + np.array(works)[:, ::-1])
    found: dict[str, Any] = {"solvent": solvent, "ps": SWITCH * TIME_STEP}
    for name, rows in (("all", each), ("crossed", each[crossed])):
        d, error = rows.mean(axis=0), rows.std(axis=0) / np.sqrt(max(1, len(rows)))
        again = (rows[rng.integers(len(rows), size=len(rows))] for _ in range(200))
        found[name] = {"moves": len(rows), "tenths": d.tolist(), "errors": error.tolist()}
        found[name]["at best, times less"] = spared(d)
        found[name]["one in six below, above"] = np.quantile(
            [spared(r.mean(axis=0)) for r in again], [1 / 6, 5 / 6]
        ).tolist()
    return found


def flux(moves: int) -> dict[str, Any]:
    """Moves from the left to the right well of a chain and back, from independent samples."""
    chain = Chain(barrier=10.0, tilt=1.0)
    samples = chain.sample(moves, TEMPERATURE, 1)
    with tempfile.TemporaryDirectory() as name:
        molecule = Molecule(chain.topology(), chain.system(), samples[0])
        text = "phi: TORSION ATOMS=1,2,3,4\nPRINT ARG=phi FILE=COLVAR STRIDE=10000\n"
        run = run_of(molecule, text, Path(name), 1, ("phi",))
        run.simulation.integrator.setStepSize(0.01)
        few = frames_of(samples[:400], run.bias, molecule)
        tiny = TrainingSettings(generator="FlowGenerator", steps=2, width=8)
        flow = ConditionalGAN.fit(few, molecule.topology, tiny)
        side = np.linspace(-np.pi, np.pi, 24, endpoint=False) + np.pi / 24
        density = chain.torsion_density(side, TEMPERATURE)
        conditions = GridConditions(density, [(-np.pi, np.pi)], run.bias.variables)
        settings = ProposalSettings(
            switching_steps=25, switching_timestep=0.01, steering_kappa=100, conditions=conditions
        )
        asked = Asked(flow, run.bias, "uniform", settings, 25)
        start = Start(run.simulation, np.arange(4), samples[0], None, TEMPERATURE)
        move, rng = SteeredMove.prepare(asked, start), np.random.default_rng(2)
        right = left = accepted = 0
        for x, before in zip(samples, run.bias.cv_values(samples)[:, 0] > 0, strict=True):
            end = move.attempt(x, None, rng)
            if end.positions is None:
                continue
            accepted += 1
            after = end.generated[0] > 0
            right, left = right + bool(after and not before), left + bool(before and not after)
        run.bias.close()
    off = (right - left) / np.sqrt(right + left)
    return {"moves": moves, "accepted": accepted, "right": right, "left": left, "off": off}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("solvents", nargs="*", help="of vacuum, obc2, water")
    parser.add_argument("--moves", type=int, default=400, help="of a run in vacuum or OBC2")
    parser.add_argument("--metad", type=int, default=500_000, help="steps of metadynamics")
    parser.add_argument("--lengths", type=int, nargs="*", default=[250, 1000, 4000])
    parser.add_argument("--attempts", type=int, nargs="*", default=[200, 200, 80])
    parser.add_argument("--profile", type=int, default=0, help="moves in vacuum or OBC2")
    parser.add_argument("--flux", type=int, default=0, help="moves")
    parser.add_argument("--json", type=Path, help="add the rows to this file")
    given = parser.parse_args()
    made = provenance()
    print(in_words(made))
    if given.flux:
        row = flux(given.flux)
        print(json.dumps(row, default=float))
        if given.json:
            add_to(given.json, {**made, "command": " ".join(sys.argv[1:]), "rows": [row]})
    flow = flow_of() if given.solvents else None
    for solvent in given.solvents:
        rows: list[dict[str, Any]] = []
        surface = metadynamics("obc2" if solvent == "water" else solvent, given.metad, 3)
        frames = None
        if solvent != "water":
            row, frames = populations(solvent, flow, surface, given.moves)
            rows.append(row)
            print(json.dumps(row, default=float), flush=True)
            if given.profile:
                rows.append(profile(solvent, flow, surface, given.profile, frames))
                print(json.dumps(rows[-1], default=float), flush=True)
        for n_steps, attempts in zip(given.lengths, given.attempts, strict=True):
            rows.append(of_length(solvent, flow, surface, n_steps, attempts, frames))
            print(json.dumps(rows[-1], default=float), flush=True)
        if given.json:
            add_to(given.json, {**made, "command": " ".join(sys.argv[1:]), "rows": rows})


def add_to(path: Path, record: dict[str, Any]) -> None:
    """Add a record to a JSON list."""
    before = json.loads(path.read_text()) if path.exists() else []
    write_atomically(path, json.dumps([*before, record], default=float, indent=1) + "\n")


if __name__ == "__main__":
    main()
