"""Seeds put into explicit water: how soon the run is what it was, and what an attempt costs.

Alanine dipeptide (22 atoms) and ACE-ALA21-NME (222 atoms) in TIP3P, AMBER ff14SB, PME, 300 K,
LangevinMiddleIntegrator of 2 fs and 1/ps. Configurations come from short runs in implicit solvent
(OBC2), held at each of four places of phi and psi, so that they are right but know nothing of the
water. Every 500 steps one is put into the run. After each, every 50 steps, potential energy,
temperature of the water and density are averaged over the injections and compared with a run that
is left alone at the same places; temperatures with that of the bath.

    python benchmarks/injection.py CASE [--injections N] [--undisturbed STEPS]

CASE: dipeptide-nvt, dipeptide-npt, peptide-nvt. Results are added to results/injection.json beside
this file after every ten injections: a killed run goes on where it was, a longer one adds to it.
"""

from __future__ import annotations

import argparse
import json
import logging
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import openmm
from numpy.typing import NDArray
from openmm import app, unit
from provenance import provenance

from openmm_cgan import GAS_CONSTANT, PlumedBias, ProposalReporter
from openmm_cgan.atomic_files import write_atomically
from openmm_cgan.testsystems import add_obc2, alanine_dipeptide, alanine_pentapeptide

RESULTS = Path(__file__).parent / "results" / "injection.json"
TEMPERATURE = 300.0
INTERVAL = 500  # steps between two attempts
EVERY = 50  # steps between two looks
BATCH = 10  # injections between two writings
PLACES = np.array([(-2.4, 2.6), (-1.2, 2.4), (-1.2, -0.6), (1.0, 0.7)])  # beta, PPII, alpha, left
FRAMES = 50  # of each place, from implicit solvent
EXPLICIT = ("amber14/protein.ff14SB.xml", "amber14/tip3p.xml")
BOX = {"dipeptide": 2.1, "peptide": 4.0}  # nm
CUTOFF = 0.8  # nm
N_RESIDUES = 21
DENSITY = 0.985  # g/ml, of the boxes of constant volume
DALTON = 1.66053907e-3  # g/ml nm^3
EQUILIBRATION = {"dipeptide": 5000, "peptide": 1500}  # steps
SETTLED = 4000  # steps after a seed, before the undisturbed run is looked at
STRETCH = 1000  # steps of the undisturbed run that are averaged


@dataclass
class Solute:
    """A peptide, and the torsions of the residue that is steered (zero-based atoms)."""

    topology: app.Topology
    positions: NDArray[np.float64]
    phi: tuple[int, ...]
    psi: tuple[int, ...]

    def plumed(self) -> str:
        """Its CVs, under a bias too weak to matter."""
        lines = [
            f"{name}: TORSION ATOMS={','.join(str(atom + 1) for atom in atoms)}"
            for name, atoms in (("phi", self.phi), ("psi", self.psi))
        ]
        return "\n".join([*lines, "RESTRAINT ARG=phi,psi AT=0,0 KAPPA=0.001,0.001", ""])


def dipeptide() -> Solute:
    """ACE-ALA-NME."""
    made = alanine_dipeptide("C7eq")
    return Solute(made.topology, made.positions, (4, 6, 8, 14), (6, 8, 14, 16))


def peptide(n_residues: int = N_RESIDUES) -> Solute:
    """ACE-ALAn-NME, a helix: that of five alanines continued by its own screw, or cut short."""
    short = alanine_pentapeptide()
    residues = list(short.topology.residues())
    places = [short.positions[[atom.index for atom in residue.atoms()]] for residue in residues]
    turn, shift = _motion(places[3], places[4])
    while len(places) < n_residues + 2:
        places[-1:] = [places[-2] @ turn + shift, places[-1] @ turn + shift]
    while len(places) > n_residues + 2:
        places[-2:] = [(places[-1] - shift) @ turn.T]
    topology = app.Topology()
    chain = topology.addChain()
    kinds = [residues[0], *[residues[3]] * n_residues, residues[-1]]
    for kind in kinds:
        residue = topology.addResidue(kind.name, chain)
        for atom in kind.atoms():
            topology.addAtom(atom.name, atom.element, residue)
    topology.createStandardBonds()
    names = {(a.residue.index, a.name): a.index for a in topology.atoms()}
    k = 1 + n_residues // 2
    phi = (names[k - 1, "C"], names[k, "N"], names[k, "CA"], names[k, "C"])
    psi = (names[k, "N"], names[k, "CA"], names[k, "C"], names[k + 1, "N"])
    return Solute(topology, np.concatenate(places), phi, psi)


def _motion(one: NDArray, other: NDArray) -> tuple[NDArray, NDArray]:
    """The rigid motion, x @ turn + shift, that brings one set of points onto another."""
    u, _, vt = np.linalg.svd((one - one.mean(axis=0)).T @ (other - other.mean(axis=0)))
    u[:, -1] *= np.sign(np.linalg.det(u) * np.linalg.det(vt))
    return u @ vt, other.mean(axis=0) - one.mean(axis=0) @ (u @ vt)


class Library:
    """A sampler: frames of implicit solvent that were held at the place asked for."""

    def __init__(self, solute: Solute, folder: Path) -> None:
        self.frames = np.stack(list(_held(solute, folder)))  # (n_places, FRAMES, n_atoms, 3)
        bias = PlumedBias(solute.plumed(), solute.topology, temperature=300, directory=folder)
        self.variables = tuple(bias.variables)
        self.topology_hash, self.cv_range, self.has_density = "", None, False
        self.n_atoms = len(solute.positions)
        self.atoms = np.arange(self.n_atoms)

    def sample(self, cvs: NDArray, n: int | None = None, seed: int = 0) -> NDArray:
        """Frames drawn for each row of CVs (n, 2)."""
        rng = np.random.default_rng(seed)
        places = np.linalg.norm(PLACES[None] - cvs[:, None], axis=-1).argmin(axis=1)
        return self.frames[places, rng.integers(FRAMES, size=len(cvs))]


def _held(solute: Solute, folder: Path) -> Iterator[NDArray[np.float64]]:
    """Frames of each place, (FRAMES, n_atoms, 3)."""
    for k, place in enumerate(PLACES):
        system = in_implicit(solute.topology)
        bias = PlumedBias(solute.plumed(), solute.topology, temperature=300, directory=folder)
        restraint = bias.restrained(bias.cv_values(solute.positions), 500.0)
        restraint.add_to(system)
        simulation = _simulation(solute.topology, system, 10 + k)
        simulation.context.setPositions(solute.positions)
        simulation.minimizeEnergy(maxIterations=100)
        simulation.context.setVelocitiesToTemperature(TEMPERATURE, k)
        start = bias.cv_values(solute.positions)
        way = [v.difference(a, b) for v, a, b in zip(bias.variables, start, place, strict=True)]
        for part in np.linspace(0, 1, 51):
            restraint.move_restraint(simulation.context, start + part * np.array(way))
            simulation.step(20)
        frames = []
        for _ in range(FRAMES):
            simulation.step(20)
            state = simulation.context.getState(positions=True)
            frames.append(state.getPositions(asNumpy=True)._value)
        yield np.array(frames)


def in_implicit(topology: app.Topology, hydrogen_mass: float | None = None) -> openmm.System:
    """With OBC2 by OpenMM's own force, which is quicker than that of its force-field file.

    Masses are in dalton; those of the force field by default.
    """
    system = app.ForceField(EXPLICIT[0]).createSystem(
        topology, constraints=app.HBonds, hydrogenMass=hydrogen_mass
    )
    add_obc2(system, topology)
    return system


def _simulation(topology: app.Topology, system: openmm.System, seed: int) -> app.Simulation:
    integrator = openmm.LangevinMiddleIntegrator(TEMPERATURE, 1.0, 0.002)
    integrator.setRandomNumberSeed(seed)
    platform = openmm.Platform.getPlatformByName("CPU")
    return app.Simulation(topology, system, integrator, platform, {"Threads": "1"})


def in_water(
    solute: Solute, case: str, folder: Path, seed: int
) -> tuple[app.Simulation, PlumedBias]:
    """The peptide in its box, equilibrated, with a bias that does nothing."""
    name, ensemble = case.split("-")
    field = app.ForceField(*EXPLICIT)
    modeller = app.Modeller(solute.topology, solute.positions * unit.nanometer)
    modeller.addSolvent(field, boxSize=openmm.Vec3(*[BOX[name]] * 3) * unit.nanometer)
    system = field.createSystem(
        modeller.topology,
        nonbondedMethod=app.PME,
        nonbondedCutoff=CUTOFF,
        constraints=app.HBonds,
    )
    if ensemble == "npt":
        barostat = openmm.MonteCarloBarostat(1.0, TEMPERATURE, 25)
        barostat.setRandomNumberSeed(seed)
        system.addForce(barostat)
    bias = PlumedBias(solute.plumed(), modeller.topology, temperature=300, directory=folder)
    bias.add_to(system)
    simulation = _simulation(modeller.topology, system, seed)
    positions, edge = _at_density(modeller, system)
    simulation.context.setPeriodicBoxVectors(*np.eye(3) * edge)
    simulation.context.setPositions(positions)
    simulation.minimizeEnergy(maxIterations=200)
    simulation.context.setVelocitiesToTemperature(TEMPERATURE, seed)
    simulation.step(EQUILIBRATION[name])
    bias.attach(simulation)
    return simulation, bias


def _at_density(modeller: app.Modeller, system: openmm.System) -> tuple[NDArray, float]:
    """Positions with the molecules moved together to the right density, and the box edge [nm]."""
    x = np.array(modeller.positions.value_in_unit(unit.nanometer))
    mass = sum(system.getParticleMass(i)._value for i in range(len(x)))
    edge = (mass * DALTON / DENSITY) ** (1 / 3)
    factor = edge / modeller.topology.getUnitCellDimensions()._value[0]
    for residue in modeller.topology.residues():
        atoms = [atom.index for atom in residue.atoms()]
        if residue.name == "HOH":
            x[atoms] += (factor - 1) * x[atoms[0]]
    return x, edge


class Looks:
    """A reporter: potential energy [kJ/mol], temperature of the water [K], density [g/ml]."""

    def __init__(self, simulation: app.Simulation) -> None:
        system, topology = simulation.system, simulation.topology
        masses = [system.getParticleMass(i)._value for i in range(system.getNumParticles())]
        self.masses, self.seen = np.array(masses), []
        water = [atom.residue.name == "HOH" for atom in topology.atoms()]
        self.water = np.array(water) & (self.masses > 0)

    def describeNextReport(self, simulation: app.Simulation) -> dict[str, Any]:  # noqa: N802
        """Every 50 steps."""
        steps = EVERY - simulation.currentStep % EVERY
        return {"steps": steps, "periodic": None, "include": ["velocities", "energy"]}

    def report(self, simulation: app.Simulation, state: openmm.State) -> None:
        """Look."""
        self.seen.append(self.look(state))

    def look(self, state: openmm.State) -> list[float]:
        """What is seen of a State with velocities and energy."""
        v = state.getVelocities(asNumpy=True)._value[self.water]
        kinetic = (self.masses[self.water] * (v * v).sum(axis=1)).sum()
        temperature = kinetic / (2 * self.water.sum() * GAS_CONSTANT)  # rigid: 6 for 3 atoms
        volume = state.getPeriodicBoxVolume()._value
        density = self.masses.sum() / volume * DALTON
        return [state.getPotentialEnergy()._value, float(temperature), float(density)]


class Timed:
    """A reporter: a ProposalReporter, with the processor time of its attempts [s]."""

    def __init__(self, reporter: ProposalReporter) -> None:
        self.reporter, self.seconds = reporter, []

    def describeNextReport(self, simulation: app.Simulation) -> dict[str, Any]:  # noqa: N802
        """When the other one reports."""
        return self.reporter.describeNextReport(simulation)

    def report(self, simulation: app.Simulation, state: openmm.State) -> None:
        """Report, timed where it is an attempt."""
        begun = time.process_time()
        self.reporter.report(simulation, state)
        if simulation.currentStep % INTERVAL == 0:
            self.seconds.append(time.process_time() - begun)


def undisturbed(solute: Solute, case: str, stretches: int, seed: int) -> list[list[float]]:
    """Means of stretches of a run that is left alone at each of the places, long after a seed.

    At the same places, because the mean energy of the box depends on where the peptide is.
    """
    found: list[list[float]] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        library = Library(solute, folder)
        simulation, bias = in_water(solute, case, folder, seed)
        looks = Looks(simulation)
        for k, place in enumerate(PLACES):
            seeds = ProposalReporter(
                folder / f"{k}.csv", INTERVAL, library, bias, targets=place[None], mode="seed"
            )
            simulation.reporters.append(seeds)
            while seeds.counts()["accepted"] == 0:
                simulation.step(INTERVAL)
            simulation.reporters.remove(seeds)
            simulation.step(SETTLED)
            simulation.reporters.append(looks)
            for _ in range(-(-stretches // len(PLACES))):
                simulation.step(STRETCH)
                found.append(np.mean(looks.seen[-STRETCH // EVERY :], axis=0).tolist())
            simulation.reporters.remove(looks)
    return found


def injected(solute: Solute, case: str, n: int, seed: int) -> Iterator[dict[str, Any]]:
    """Batches of injections: looks after each (n, 11, 3), costs of attempts in steps of MD."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        library = Library(solute, folder)
        simulation, bias = in_water(solute, case, folder, seed)
        looks = Looks(simulation)
        proposals = ProposalReporter(
            folder / "p.csv", INTERVAL, library, bias, targets=PLACES, mode="seed", seed=seed
        )
        timed = Timed(proposals)
        simulation.reporters += [looks, timed]
        first = None
        while n > 0:
            batch: dict[str, Any] = {"looks": [], "costs": []}
            while len(batch["looks"]) < min(BATCH, n):
                accepted, begun = proposals.counts()["accepted"], time.process_time()
                simulation.step(INTERVAL)
                seconds = time.process_time() - begun - timed.seconds[-1]
                batch["costs"].append(timed.seconds[-1] / seconds * INTERVAL)
                if first is not None:
                    batch["looks"].append([first, *looks.seen[-INTERVAL // EVERY :]])
                state = simulation.context.getState(energy=True, velocities=True)
                taken = proposals.counts()["accepted"] > accepted
                first = looks.look(state) if taken else None
            n -= BATCH
            yield batch | {"attempts": proposals.counts()}


# ---- what is kept, and what it says


def report(kept: dict[str, Any]) -> None:
    """Print what was measured in one case."""
    looks = np.array([row for batch in kept["batches"] for row in batch["looks"]])
    if len(looks) == 0:
        print("no injections yet")
        return
    alone = np.array(kept["undisturbed"])
    if len(alone) == 0:
        print("no undisturbed run: compared with the second half of the time after injections")
        alone = looks[:, looks.shape[1] // 2 :].mean(axis=1)
    costs = [cost for batch in kept["batches"] for cost in batch["costs"]]
    reference, doubt = alone.mean(axis=0), _error(alone)
    sampled = _table(reference, doubt)
    reference[1], doubt[1] = TEMPERATURE, 0.0  # known better than any run can tell
    away = looks - reference
    means, errors = away.mean(axis=0), np.hypot(_error(away), doubt)
    print(
        f"{len(looks)} injections; undisturbed, {len(alone) * STRETCH} steps:",
        sampled,
    )
    print("steps after   potential energy [kJ/mol]   temperature of water [K]   density [g/ml]")
    for k, (mean, error) in enumerate(zip(means, errors, strict=True)):
        print(f"{k * EVERY:11d}   {_table(mean, error)}")
    beyond = np.abs(means[:, :2]) > 3 * errors[:, :2]
    last = np.flatnonzero(beyond.any(axis=1))
    within = 0 if len(last) == 0 else (last[-1] + 1) * EVERY
    if within > INTERVAL:
        print("energy and temperature are not within 3 standard errors before the next attempt")
    else:
        print(f"energy and temperature within 3 standard errors from step {within} on")
        after = away[:, within // EVERY :].mean(axis=1)
        print("from then on, off by", _table(after.mean(axis=0), np.hypot(_error(after), doubt)))
    print(f"an attempt costs {np.median(costs):.0f} steps of MD (median of {len(costs)})")
    print("attempts of the last run:", kept["batches"][-1]["attempts"])


def _error(rows: NDArray) -> NDArray:
    """Standard error of a mean of rows."""
    return rows.std(axis=0, ddof=1) / np.sqrt(len(rows))


def _table(means: NDArray, errors: NDArray) -> str:
    return "   ".join(f"{m:10.4g} +- {e:7.2g}" for m, e in zip(means, errors, strict=True))


def main() -> None:
    """Run what is missing, and print."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    logging.getLogger("openmm_cgan").setLevel(logging.INFO)
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("case", choices=["dipeptide-nvt", "dipeptide-npt", "peptide-nvt"])
    parser.add_argument("--injections", type=int, default=200)
    parser.add_argument("--undisturbed", type=int, default=100_000, help="steps")
    parser.add_argument("--json", type=Path, default=RESULTS, help="where results are kept")
    arguments = parser.parse_args()
    made = provenance()
    solute = dipeptide() if arguments.case.startswith("dipeptide") else peptide()
    empty: dict[str, Any] = {"undisturbed": [], "batches": [], "runs": []}
    kept = _read(arguments.json).get(arguments.case, empty)
    kept["runs"].append(made)
    while (left := arguments.undisturbed // STRETCH - len(kept["undisturbed"])) > 0:
        seed = 100 + len(kept["undisturbed"])
        kept["undisturbed"] += undisturbed(solute, arguments.case, min(left, 20), seed)
        _write(arguments.json, arguments.case, kept)
    if (left := arguments.injections - BATCH * len(kept["batches"])) > 0:
        for batch in injected(solute, arguments.case, left, 1 + len(kept["batches"])):
            kept["batches"].append(batch)
            _write(arguments.json, arguments.case, kept)
    report(kept)


def _read(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    return found


def _write(path: Path, case: str, kept: dict[str, Any]) -> None:
    """Other cases may have been written meanwhile."""
    write_atomically(path, json.dumps(_read(path) | {case: kept}) + "\n")


if __name__ == "__main__":
    main()
