"""Local moves of one side chain of a miniprotein: rotamers against dynamics and metadynamics.

trpzip2, a hairpin of twelve residues (218 atoms, of openmmtools), AMBER ff14SB, hydrogens of 3
dalton and steps of 4 fs. A flow makes the side chain of a residue beyond CB, given phi and psi. It
is taught on metadynamics of chi1 in OBC2.

    teach     metadynamics on chi1 in OBC2, a walker at a time, and the flow
    obc2      dynamics, and dynamics with local moves, in OBC2
    water     the same in TIP3P, PME, 1 bar, a dodecahedron that leaves 0.6 nm (some 1,700 atoms);
              the flow knows nothing of water
    ablation  moves tried from the same frames of the dynamics in water: by the number of
              candidates, and with OBC2 in the place of water, which has no molecules to meet; with
              the logarithm of what other rotamers weigh, all else held, over the present one
    steered   dynamics, and dynamics with steered moves of some lengths (steps of 2 fs), in OBC2 or
              in water
    standing  what the steps of such a switch do not conserve, nothing being led, by their length

All go on where they were stopped: in stretches, dynamics and moves in turn. A rotamer changes where
chi1 goes from within 40 degrees of -60, 60 or 180 to within 40 degrees of another. Force
evaluations are steps and energies of the whole System, without training and without the quick
energies by which candidates are chosen in water. Populations of a run in which it changed less than
20 times are `not enough`; it says then how often it changes less than, at 95 %.

    python benchmarks/side_chain.py teach obc2 water ablation steered --data FOLDER
        [--residue N] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import openmm
from local_moves import (
    NAMES,
    TEMPERATURE,
    Peptide,
    basins,
    metadynamics,
    reference,
    thirds,
    trained,
    with_error,
)
from numpy.typing import NDArray
from openmm import app, unit
from proteins import implicit, trpzip2
from provenance import in_words, provenance
from scipy.stats import chi2

from openmm_cgan import GAS_CONSTANT, ConditionalGAN, ProposalReporter
from openmm_cgan.atomic_files import write_atomically
from openmm_cgan.free_energy.samples import statistical_inefficiency
from openmm_cgan.plumed.bias.presence import free_force_group
from openmm_cgan.potentials import system_without
from openmm_cgan.reporters.contexts import present_of
from openmm_cgan.reporters.moves import MOVES, Asked, LocalMove, Start, SteeredMove
from openmm_cgan.reporters.moves.steering import Steering
from openmm_cgan.reporters.moves.switching import Steps, Switching
from openmm_cgan.reporters.settings import ProposalSettings
from openmm_cgan.states import positions_of, velocities_of
from openmm_cgan.testsystems import Molecule, torsion

TIMESTEP = 0.004  # ps
SETTLED = 2500  # steps before the first stretch, in OBC2; twice as many in water
EVERY = 25  # steps between two values of chi1
KEPT = 500  # steps between two frames that the ablation starts from
ENOUGH = 20  # changes of a rotamer, below which a population is not known
STANDS = 1.0  # ps of a switch that leads nowhere
CANDIDATES = {"obc2": 20, "water": 100}


def hairpin(solvent: str) -> Molecule:
    """trpzip2 in OBC2, or in water at the start of its dynamics."""
    topology, positions = trpzip2()
    if solvent == "obc2":
        return Molecule(topology, implicit(topology), positions)
    random.seed(1)  # places of ions
    field = app.ForceField("amber14/protein.ff14SB.xml", "amber14/tip3p.xml")
    modeller = app.Modeller(topology, positions * unit.nanometer)
    modeller.addSolvent(field, model="tip3p", boxShape="dodecahedron", padding=0.6 * unit.nanometer)
    system = field.createSystem(
        modeller.topology, nonbondedMethod=app.PME, nonbondedCutoff=0.8 * unit.nanometer,
        constraints=app.HBonds, hydrogenMass=3 * unit.dalton,
    )  # fmt: skip
    system.addForce(openmm.MonteCarloBarostat(1.0, TEMPERATURE, 25))
    x = np.array(modeller.positions.value_in_unit(unit.nanometer))
    return Molecule(modeller.topology, system, x)


def settled(options: argparse.Namespace, solvent: str) -> Peptide:
    """The hairpin; a state of it in equilibrium is kept."""
    peptide = Peptide(hairpin(solvent), options.residue, TIMESTEP)
    path = options.data / f"{solvent}.npz"
    if not path.exists():
        bias = peptide.bias(options.data / f"{solvent}-settled")
        simulation = peptide.simulation(bias, "CPU", 1)
        simulation.minimizeEnergy(maxIterations=300)
        simulation.context.setVelocitiesToTemperature(TEMPERATURE, 1)
        simulation.step(SETTLED * (2 if solvent == "water" else 1))
        keep(simulation, path)
        bias.close()
    with np.load(path) as state:
        peptide.molecule.positions[:] = state["positions"]
        peptide.molecule.system.setDefaultPeriodicBoxVectors(*state["box"])
    return peptide


def keep(simulation: app.Simulation, path: Path) -> None:
    """Positions, velocities and box."""
    state = simulation.context.getState(positions=True, velocities=True)
    box = state.getPeriodicBoxVectors(asNumpy=True)._value
    with path.with_suffix(".new").open("wb") as file:
        np.savez(file, positions=positions_of(state), velocities=velocities_of(state), box=box)
    path.with_suffix(".new").rename(path)


@dataclass(frozen=True)
class Way:
    """How a run goes on: dynamics, with moves every so many steps where there is a mode."""

    name: str
    mode: str = ""
    settings: ProposalSettings = field(default_factory=ProposalSettings)
    interval: int = 50
    steps: int = 5000  # of a stretch

    def reporter(self, table: Path, flow: ConditionalGAN, bias: Any, seed: int) -> ProposalReporter:
        """What makes its moves."""
        return ProposalReporter(
            table, self.interval, flow, bias, mode=self.mode, seed=seed, append=False,
            settings=self.settings,
        )  # fmt: skip


def stretch(
    peptide: Peptide, data: Path, k: int, flow: ConditionalGAN, way: Way, seed: int
) -> None:
    """One of the stretches of a run in a folder of ``data``, from the end of that before."""
    folder = data / way.name
    folder.mkdir(exist_ok=True)
    done = folder / f"{k:03d}.json"
    if done.exists():
        return
    bias = peptide.bias(folder / "now")
    simulation = peptide.simulation(bias, "CPU", 100 * seed + k)
    if k:
        with np.load(folder / f"{k - 1:03d}.npz") as before:
            simulation.context.setPeriodicBoxVectors(*before["box"])
            simulation.context.setPositions(before["positions"])
            simulation.context.setVelocities(before["velocities"])
    table = folder / f"{k:03d}.csv"
    if way.mode:
        Turning.chi1, Turning.tried = peptide.chi1, []
        simulation.reporters.append(way.reporter(table, flow, bias, k + 1))
    chi1, frames, boxes, begun = [], [], [], time.process_time()
    for i in range(way.steps // EVERY):
        simulation.step(EVERY)
        x, box = present_of(simulation)
        chi1.append(float(torsion(x, peptide.chi1)))
        if (i + 1) * EVERY % KEPT == 0:
            frames.append(x)
            boxes.append(np.zeros((3, 3)) if box is None else box)
    record = {"seconds": time.process_time() - begun, "steps": way.steps, "chi1": chi1}
    if way.mode:
        record |= of_table(table)
    if way.mode == "steered":
        record["tried"] = Turning.tried
    else:
        np.savez(folder / f"{k:03d}-frames.npz", x=np.array(frames), box=np.array(boxes))
    keep(simulation, folder / f"{k:03d}.npz")
    bias.close()
    write_atomically(done, json.dumps(record))


class Turning(SteeredMove):
    """Remembers of each switch the rotamers at both ends, and how likely it was accepted."""

    chi1: ClassVar[tuple[int, ...]]
    tried: ClassVar[list[tuple[int, int, float]]]

    def attempt(self, positions: NDArray, *given: Any) -> Any:
        self.end = None
        made = super().attempt(positions, *given)
        if self.end is not None:
            ends = thirds(np.array([torsion(x, self.chi1) for x in (positions, self.end)]))
            likely = float(np.exp(-max(0.0, self.last_cost) / self.kT))
            self.tried.append((*ends.argmax(axis=1).tolist(), likely))
        return made

    def _log_ratio(self, switched: Any, *given: Any) -> Any:
        self.end = switched.positions
        return super()._log_ratio(switched, *given)


MOVES["steered"] = Turning


def of_switches(tried: NDArray[np.float64], evaluations: float) -> dict[str, Any]:
    """How likely switches (n, 3) were accepted, those to another rotamer by themselves."""
    turned = tried[:, 0] != tried[:, 1]
    changes = tried[:, 2] * turned
    error = changes.std() * np.sqrt(len(tried))
    cost = -GAS_CONSTANT * TEMPERATURE * np.log(np.maximum(tried[:, 2], 1e-300))
    return {
        "switches": len(tried), "to another rotamer": int(turned.sum()),
        "accepted, probability": float(tried[:, 2].mean()),
        "of those to another": float(tried[turned, 2].mean()) if turned.any() else None,
        "median cost of those [kJ/mol]": float(np.median(cost[turned])) if turned.any() else None,
        "changes expected in 1e5 evaluations": float(changes.sum() / evaluations * 1e5),
        "its standard error": float(error / evaluations * 1e5),
    }  # fmt: skip


def of_table(table: Path) -> dict[str, float]:
    """What the moves of a stretch were, and what they cost."""
    rows = np.genfromtxt(table, delimiter=",", names=True, dtype=None, encoding=None, ndmin=1)
    return {
        "moves": len(rows), "accepted": int(rows["accepted"].sum()),
        "energies": float(np.nansum(rows["energies"])) + len(rows),
        "effective": float(np.nanmean(rows["effective_sample_size"])),
    }  # fmt: skip


def of_stretches(folder: Path) -> dict[str, Any]:
    """What a run has shown so far."""
    records = [json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))]
    total = {
        name: sum(r[name] for r in records)
        for name in ("steps", "seconds", "moves", "accepted", "energies")
        if name in records[0]
    }
    chi1 = np.concatenate([r["chi1"] for r in records])
    _, changes = basins(chi1)
    evaluations = total["steps"] + total.get("energies", 0.0)
    members = thirds(chi1)
    free = [column[:, None] for column in members.T if 0 < column.mean() < 1]
    g = max(map(statistical_inefficiency, free)) if free else float(len(chi1))
    found = {
        **total,
        "evaluations": evaluations,
        "populations": with_error(members) if changes >= ENOUGH else "not enough",
        "shares": members.mean(axis=0).tolist(),
        "changes": changes,
        "changes in 1e5 evaluations": changes / evaluations * 1e5,
        "at 95 %, less than": float(chi2.ppf(0.95, 2 * changes + 2) / 2 / evaluations * 1e5),
        "effective samples in 1e5 evaluations": len(chi1) / g / evaluations * 1e5
        if changes >= ENOUGH
        else "not enough",
        "changes in a processor minute": changes / total["seconds"] * 60,
    }
    if "tried" in records[0]:
        found |= of_switches(np.concatenate([r["tried"] for r in records]), evaluations)
    if "moves" in total:
        found["share accepted"] = total["accepted"] / total["moves"]
        if "tried" not in records[0]:
            found["effective candidates"] = float(np.mean([r["effective"] for r in records]))
    return found


def walkers(peptide: Peptide, options: argparse.Namespace, name: str, steps: int) -> list[Path]:
    """Metadynamics on chi1, one after another."""
    folders = [options.data / f"{name}-{k}" for k in range(options.walkers)]
    for k, folder in enumerate(folders):
        metadynamics(peptide, folder, steps, k + 1, "CPU")
    return folders


def teach(options: argparse.Namespace) -> dict[str, Any]:
    """Metadynamics in OBC2 and the flow."""
    peptide = settled(options, "obc2")
    folders = walkers(peptide, options, "metad", options.metad)
    begun = time.process_time()
    is_new = not (options.data / "side_chain.npz").exists()
    gan = trained(peptide, options.data, options.train_seconds, 1)
    spent = time.process_time() - begun if is_new else None
    names = [a.name for a in peptide.molecule.topology.atoms() if a.index in set(gan.atoms)]
    return {
        "atoms made": names, "populations": reference(folders), "training seconds": spent,
        "evaluations": options.metad * options.walkers,
    }  # fmt: skip


def in_turn(
    options: argparse.Namespace, solvent: str, ways: list[Way], stretches: int
) -> dict[str, Any]:
    """Dynamics, and dynamics with moves in one way or another, stretch by stretch in turn."""
    gan, peptide = ConditionalGAN.load(options.data / "side_chain.npz"), settled(options, solvent)
    for k in range(stretches):
        for way in ways:
            n = 1 if way.mode else options.longer
            for j in range(k * n, k * n + n):
                stretch(peptide, options.data, j, gan, way, options.seed)
    found = {way.name.split("-", 1)[1]: of_stretches(options.data / way.name) for way in ways}
    plain = found["plain"]
    for one in found.values():
        rate = one["changes in 1e5 evaluations"]
        many = plain["changes"] > 0
        one["over plain"] = rate / plain["changes in 1e5 evaluations"] if many else None
        one["over plain at 95 %, more than"] = rate / plain["at 95 %, less than"]
    return {"atoms": len(peptide.molecule.positions), **found}


def plain_and_local(options: argparse.Namespace, solvent: str) -> list[Way]:
    """Dynamics, and dynamics with local moves."""
    settings = ProposalSettings(candidates=options.candidates or CANDIDATES[solvent])
    local = Way(f"{solvent}-local", "local", settings, options.interval, options.stretch)
    return [Way(f"{solvent}-plain", steps=options.stretch), local]


def steered(options: argparse.Namespace) -> dict[str, Any]:
    """Populations and changes of steered moves of some lengths, and of dynamics."""
    solvent = options.solvent
    ways = [Way(f"{solvent}-plain", steps=options.stretch)]
    for n in options.switches:
        settings = ProposalSettings(switching_steps=n)
        steps = options.interval * options.moves
        ways.append(Way(f"{solvent}-steered-{n}", "steered", settings, options.interval, steps))
    folders = sorted(options.data.glob("metad-*"))
    found = in_turn(options, solvent, ways, options.stretches)
    return {"metadynamics": reference(folders) if folders else None, **found}


def obc2(options: argparse.Namespace) -> dict[str, Any]:
    """Populations and changes in OBC2."""
    folders = [options.data / f"metad-{k}" for k in range(options.walkers)]
    return {
        "metadynamics": reference(folders),
        **in_turn(options, "obc2", plain_and_local(options, "obc2"), options.stretches),
    }


def water(options: argparse.Namespace) -> dict[str, Any]:
    """Populations and changes in water."""
    ways = plain_and_local(options, "water")
    found = in_turn(options, "water", ways, options.water_stretches)
    if options.water_metad:
        peptide = settled(options, "water")
        folders = walkers(peptide, options, "water-metad", options.water_metad)
        found["metadynamics"] = reference(folders)
    return found


def ablation(options: argparse.Namespace) -> dict[str, Any]:
    """Moves from frames of the dynamics in water, none of them followed."""
    x, boxes = [], []
    for path in sorted((options.data / "water-plain").glob("*-frames.npz")):
        with np.load(path) as kept:
            x.append(kept["x"])
            boxes.append(kept["box"])
    frames, box = np.concatenate(x), np.concatenate(boxes)
    chosen = np.linspace(0, len(frames) - 1, min(options.tries, len(frames))).astype(int)
    frames, box = frames[chosen], box[chosen]
    found: dict[str, Any] = {"frames": len(frames)}
    for n in options.counts:
        found[f"water, {n}"] = tried(options, "water", frames, box, n)
    dry = frames[:, : len(hairpin("obc2").positions)]
    for n in options.counts:
        found[f"obc2, {n}"] = tried(options, "obc2", dry, None, n)
    return found


def tried(
    options: argparse.Namespace, solvent: str, frames: NDArray, boxes: NDArray | None, n: int
) -> dict[str, Any]:
    """One move from each frame with n candidates, and what the other rotamers weigh there."""
    gan, peptide = ConditionalGAN.load(options.data / "side_chain.npz"), settled(options, solvent)
    bias = peptide.bias(options.data / "tried")
    simulation = peptide.simulation(bias, "CPU", 1)
    positions, box = present_of(simulation)
    asked = Asked(gan, bias, "uniform", ProposalSettings(candidates=n), 1)
    move = Weighing.prepare(asked, Start(simulation, gan.atoms, positions, box, TEMPERATURE))
    move.peptide, move.others = peptide, []
    rng, accepted, turned, effective = np.random.default_rng(1), [], [], []
    begun = time.process_time()
    for k, now in enumerate(frames):
        here = None if boxes is None else boxes[k]
        if here is not None:
            simulation.context.setPeriodicBoxVectors(*here)
        simulation.context.setPositions(now)
        move.follow(simulation.context, TEMPERATURE)
        end = move.attempt(now, here, rng)
        chi1 = [torsion(x, peptide.chi1) for x in (now, end.positions) if x is not None]
        accepted.append(end.positions is not None)
        turned.append(bool(np.ptp(thirds(np.array(chi1)), axis=0).any()))
        if end.candidates is not None:
            effective.append(end.candidates.effective_sample_size)
    seconds = time.process_time() - begun
    bias.close()
    return {
        "accepted": float(np.mean(accepted)), "turned": float(np.mean(turned)),
        "effective candidates": float(np.nanmean(effective)) if effective else None,
        "log weight of other rotamers, median": float(np.median(move.others)),
        "and where it is largest": float(np.max(move.others)),
        "processor seconds a move": seconds / len(frames),
    }  # fmt: skip


class Weighing(LocalMove):
    """Remembers what other rotamers weigh over the present one, each with its best candidates."""

    peptide: Peptide
    others: list[float]

    def weigh(self, x: NDArray, *given: Any) -> Any:
        weighed = super().weigh(x, *given)
        chi1 = np.array([torsion(one, self.peptide.chi1) for one in self.potential.whole(x)])
        is_same = (thirds(chi1) == thirds(chi1[:1])).all(axis=1)
        same, other = (np.logaddexp.reduce(weighed.log_weights[k]) for k in (is_same, ~is_same))
        self.others.append(float(other - same))
        return weighed


def standing(options: argparse.Namespace) -> dict[str, Any]:
    """What the steps of a switch do not conserve, nothing being led, by their length."""
    peptide, kT = settled(options, options.solvent), GAS_CONSTANT * TEMPERATURE
    bias, rng = peptide.bias(options.data / f"{options.solvent}-standing"), np.random.default_rng(1)
    simulation, steering = peptide.simulation(bias, "CPU", 1), Steering([peptide.chi1], 300.0)
    changes: dict[float, list[float]] = {step: [] for step in (0.004, 0.003, 0.002)}
    ways = {
        step: Switching(
            simulation, system_without(simulation.system, bias.force_groups()), steering,
            free_force_group(simulation.system, None), Steps(round(STANDS / step), step),
        )
        for step in changes
    }  # fmt: skip
    for _ in range(options.tries):
        simulation.step(100)
        x, _ = present_of(simulation)
        for step, switching in ways.items():
            switching.follow(simulation.context)
            velocities = switching.drawn_velocities(x, kT, rng)
            places = steering.places(steering.values(x), kT, rng)
            changes[step].append(switching.made(x, velocities, places, places).change)
    bias.close()
    return {
        f"{1000 * step:g} fs": {
            "kJ/mol": float(np.mean(found)),
            "standard error": float(np.std(found, ddof=1) / np.sqrt(len(found))),
        }
        for step, found in changes.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parts = {f.__name__: f for f in (teach, obc2, water, ablation, steered, standing)}
    parser.add_argument("parts", nargs="+", choices=parts)
    parser.add_argument("--data", type=Path, required=True, help="all that is made is kept here")
    parser.add_argument("--residue", type=int, default=9, help="from 0; not the first or last")
    parser.add_argument("--walkers", type=int, default=4)
    parser.add_argument("--metad", type=int, default=40_000, help="steps of each walker")
    parser.add_argument("--water-metad", type=int, default=0, help="steps of each walker")
    parser.add_argument("--train-seconds", type=float, default=600.0)
    parser.add_argument("--stretch", type=int, default=5000, help="steps")
    parser.add_argument("--stretches", type=int, default=20, help="in OBC2, of both ways")
    parser.add_argument("--water-stretches", type=int, default=20)
    parser.add_argument(
        "--longer", type=int, default=1, help="times as many stretches of dynamics as with moves"
    )
    parser.add_argument("--solvent", default="obc2", choices=["obc2", "water"], help="of steered")
    parser.add_argument("--switches", type=int, nargs="*", default=[1000, 2000, 4000])
    parser.add_argument("--moves", type=int, default=20, help="steered ones, in a stretch")
    parser.add_argument("--interval", type=int, default=50)
    parser.add_argument("--candidates", type=int, help="default: 20 in OBC2, 100 in water")
    parser.add_argument("--counts", type=int, nargs="+", default=[10, 100, 1000])
    parser.add_argument(
        "--tries", type=int, default=100, help="frames of the ablation, of standing"
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    made = provenance()
    options.data.mkdir(parents=True, exist_ok=True)
    print(in_words(made), "| 0, 1, 2:", *NAMES)
    known = json.loads(options.json.read_text()) if options.json and options.json.exists() else {}
    for name in options.parts:
        key = name
        if name in ("steered", "standing"):
            key = f"{name}, {options.solvent}, residue {options.residue}"
        known[key] = {**parts[name](options), **made, "command": " ".join(sys.argv[1:])}
        print(json.dumps({key: known[key]}, indent=1), flush=True)
        if options.json:
            write_atomically(options.json, json.dumps(known, indent=1) + "\n")


if __name__ == "__main__":
    main()
