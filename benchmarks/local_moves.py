"""Local moves of a side chain: rotamer populations and basin changes against plain dynamics.

ACE-VAL-NME (28 atoms, AMBER ff96). The side chain beyond CB is made by a flow given phi and psi,
which it does not move; chi1 is hidden. The flow is trained on frames of metadynamics on chi1 in
vacuum.

    vacuum   all of it in vacuum: populations of local moves beside those of metadynamics
    water    in TIP3P with PME and a barostat, the flow being that of the vacuum: populations and
             basin changes beside those of plain dynamics
    energies what the energies of 100 candidates in water cost: whole, and by the quick System
    flux     moves from one third of chi1 to another and back, the rest being moved by dynamics

Basin changes are counted between cores, 40 degrees about -60, 60 and 180; force evaluations are
steps and energies of the whole System, the quick ones being told apart.

    python benchmarks/local_moves.py vacuum water energies flux --data FOLDER [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import openmm
from numpy.typing import NDArray
from openmm import app, unit
from provenance import in_words, provenance

from openmm_cgan import GAS_CONSTANT, ConditionalGAN, FrameReporter, PlumedBias, ProposalReporter
from openmm_cgan.atomic_files import write_atomically
from openmm_cgan.cgan import TrainingSettings
from openmm_cgan.features import ZMatrixFeatures
from openmm_cgan.free_energy.samples import statistical_inefficiency
from openmm_cgan.plumed.files.fields import read_fields
from openmm_cgan.reporters.contexts import present_of
from openmm_cgan.reporters.moves import MOVES, Asked, LocalMove, Start
from openmm_cgan.reporters.settings import ProposalSettings
from openmm_cgan.testsystems import Molecule, torsion, valine_dipeptide

TEMPERATURE, TIMESTEP = 300.0, 0.002
METAD = (
    "metad: METAD ARG=chi1 SIGMA=0.25 HEIGHT=0.6 PACE=250 BIASFACTOR=6 TEMP=300 CALC_RCT"
    " GRID_MIN=-pi GRID_MAX=pi GRID_BIN=120\nPRINT ARG=chi1,metad.rbias STRIDE=50 FILE=REWEIGHT\n"
)
BLOCKS = 4  # of each metadynamics, whose weights count alike
SKIPPED = 0.2  # of a metadynamics, while its bias still grows fast
CORE = np.radians(40.0)
CENTRES = np.radians([-60.0, 60.0, 180.0])
NAMES = ("g-", "g+", "t")
GAMMA = {"VAL": "CG1", "THR": "OG1", "SER": "OG"}  # the fourth atom of chi1; else CG
UP_TO_CB = ("N", "H", "CA", "HA", "CB", "C", "O")


def in_water(molecule: Molecule) -> Molecule:
    """It in a box of TIP3P, PME, at 1 bar."""
    field = app.ForceField("amber96.xml", "tip3p.xml")
    modeller = app.Modeller(molecule.topology, molecule.positions * unit.nanometer)
    modeller.addSolvent(field, model="tip3p", boxSize=openmm.Vec3(2.6, 2.6, 2.6))
    system = field.createSystem(
        modeller.topology,
        nonbondedMethod=app.PME,
        nonbondedCutoff=0.9 * unit.nanometer,
        constraints=app.HBonds,
    )
    system.addForce(openmm.MonteCarloBarostat(1.0, TEMPERATURE, 25))
    return _relaxed(modeller, system)


def _relaxed(modeller: app.Modeller, system: openmm.System) -> Molecule:
    integrator = openmm.VerletIntegrator(0.001)
    context = openmm.Context(system, integrator, openmm.Platform.getPlatformByName("CPU"))
    context.setPositions(modeller.positions)
    openmm.LocalEnergyMinimizer.minimize(context, 10, 500)
    positions = context.getState(positions=True).getPositions(asNumpy=True)._value
    return Molecule(modeller.topology, system, np.array(positions))


@dataclass
class Peptide:
    """A molecule, and which of its residues counts."""

    molecule: Molecule
    residue: int = 1
    timestep: float = TIMESTEP  # ps
    given: ClassVar[str] = "phi,psi"

    def number(self, *names: str) -> tuple[int, ...]:
        """Atoms of the residue by name, of its neighbours by -NAME and +NAME."""
        residues = list(self.molecule.topology.residues())
        found = []
        for name in names:
            residue = residues[self.residue + {"-": -1, "+": 1}.get(name[0], 0)]
            own = {atom.name: atom.index for atom in residue.atoms()}
            found.append(own[name.lstrip("+-")])
        return tuple(found)

    @property
    def chi1(self) -> tuple[int, ...]:
        """Atoms of the torsion that is hidden."""
        (residue,) = (r for r in self.molecule.topology.residues() if r.index == self.residue)
        return self.number("N", "CA", "CB", GAMMA.get(residue.name, "CG"))

    @property
    def side_chain(self) -> list[int]:
        """What is beyond CB."""
        (residue,) = (r for r in self.molecule.topology.residues() if r.index == self.residue)
        return [atom.index for atom in residue.atoms() if atom.name not in UP_TO_CB]

    @property
    def torsions(self) -> str:
        """phi, psi and chi1 in PLUMED's words."""
        named = {
            "phi": self.number("-C", "N", "CA", "C"),
            "psi": self.number("N", "CA", "C", "+N"),
            "chi1": self.chi1,
        }
        return "".join(
            f"{name}: TORSION ATOMS={','.join(str(a + 1) for a in atoms)}\n"
            for name, atoms in named.items()
        )

    def simulation(self, bias: PlumedBias, platform: str, seed: int) -> app.Simulation:
        """Langevin dynamics under a bias."""
        molecule = self.molecule
        system = openmm.XmlSerializer.clone(molecule.system)
        bias.add_to(system)
        integrator = openmm.LangevinMiddleIntegrator(TEMPERATURE, 1.0, self.timestep)
        integrator.setRandomNumberSeed(seed)
        properties = {"Threads": "1"} if platform == "CPU" else {}
        simulation = app.Simulation(
            molecule.topology, system, integrator, openmm.Platform.getPlatformByName(platform),
            properties,
        )  # fmt: skip
        simulation.context.setPositions(molecule.positions)
        simulation.context.setVelocitiesToTemperature(TEMPERATURE, seed)
        bias.attach(simulation)
        return simulation

    def bias(self, folder: Path, text: str = "") -> PlumedBias:
        """What the flow is given as CVs, whatever is biased."""
        folder.mkdir(parents=True, exist_ok=True)
        whole = f"{self.torsions}{text}PRINT ARG={self.given},chi1 STRIDE=100 FILE=COLVAR\n"
        return PlumedBias(
            whole, self.molecule.topology, temperature=TEMPERATURE, directory=folder,
            cvs=tuple(self.given.split(",")),
        )  # fmt: skip


def basins(chi1: NDArray[np.float64]) -> tuple[NDArray[np.int64], int]:
    """The core that was visited last (n,), -1 before the first, and the number of changes."""
    away = np.abs((chi1[:, None] - CENTRES + np.pi) % (2 * np.pi) - np.pi)
    core = np.where(away.min(axis=1) < CORE, away.argmin(axis=1), -1)
    known = np.flatnonzero(core >= 0)
    last = np.searchsorted(known, np.arange(len(core)), side="right") - 1
    visited = np.where(last >= 0, core[known[np.maximum(last, 0)]], -1)
    return visited, int((np.diff(core[known]) != 0).sum())


def thirds(chi1: NDArray[np.float64]) -> NDArray[np.float64]:
    """Members (n, 3) of the thirds of the circle."""
    away = np.abs((chi1[:, None] - CENTRES + np.pi) % (2 * np.pi) - np.pi)
    return np.eye(3)[away.argmin(axis=1)]


def with_error(members: NDArray[np.float64]) -> list[tuple[float, float]]:
    """Mean of each column (n, 3) of a series, and its standard error."""
    found = []
    for column in members.T:
        spread = column.std()
        g = statistical_inefficiency(column[:, None]) if spread > 0 else np.nan
        found.append((float(column.mean()), float(spread * np.sqrt(g / len(column)))))
    return found


def metadynamics(
    peptide: Peptide, folder: Path, steps: int, seed: int, platform: str = "Reference"
) -> None:
    """Frames of a metadynamics on chi1."""
    if (folder / "done").exists():
        return
    shutil.rmtree(folder, ignore_errors=True)  # of one that was stopped
    bias = peptide.bias(folder, METAD)
    simulation = peptide.simulation(bias, platform, seed)
    simulation.reporters.append(FrameReporter(folder / "frames", 50, bias))
    simulation.step(steps)
    bias.close()
    (folder / "done").touch()


def trained(peptide: Peptide, folder: Path, seconds: float, threads: int) -> ConditionalGAN:
    """The flow of the side chain."""
    path = folder / "side_chain.npz"
    if not path.exists():
        settings = TrainingSettings(
            generator="FlowGenerator", steps=3000, batch=512, max_seconds=seconds, seed=1
        )
        frames = sorted(folder.glob("metad-*/frames"))
        featurize = ZMatrixFeatures.of_part(peptide.side_chain)
        topology = peptide.molecule.topology
        made = ConditionalGAN.fit(frames, topology, settings, featurize=featurize, threads=threads)
        made.save(path)
    return ConditionalGAN.load(path)


def dynamics(
    peptide: Peptide,
    folder: Path,
    gan: ConditionalGAN | None,
    steps: int,
    options: argparse.Namespace,
    platform: str,
) -> dict[str, Any]:
    """Dynamics with local moves, or none: chi1 every interval, changes, evaluations, seconds."""
    bias = peptide.bias(folder)
    simulation = peptide.simulation(bias, platform, options.seed)
    simulation.step(2000)
    table = folder / "moves.csv"
    if gan is not None:
        settings = ProposalSettings(candidates=options.candidates)
        reporter = ProposalReporter(
            table, options.interval, gan, bias, mode="local", seed=options.seed, settings=settings
        )
        simulation.reporters.append(reporter)
    every = options.interval
    chi1, begun = [], time.process_time()
    for _ in range(steps // every):
        simulation.step(every)
        x = simulation.context.getState(positions=True).getPositions(asNumpy=True)._value
        chi1.append(torsion(x, peptide.chi1))
    seconds = time.process_time() - begun
    series = np.array(chi1)
    _, changes = basins(series)
    evaluations, accepted = float(steps), np.nan
    if gan is not None:
        rows = np.genfromtxt(table, delimiter=",", names=True, dtype=None, encoding=None)
        evaluations += float(rows["energies"].sum()) + len(rows)
        accepted = float(rows["accepted"].mean())
    return {
        "populations": with_error(thirds(series)),
        "changes": changes,
        "changes in 1e5 evaluations": changes / evaluations * 1e5,
        "evaluations": evaluations,
        "accepted": accepted,
        "processor seconds": seconds,
        "changes in a processor minute": changes / seconds * 60,
    }


def alone(options: argparse.Namespace) -> Peptide:
    """The peptide in vacuum, as it was built first: hydrogens are called in a random order."""
    path, molecule = options.data / "valine.npy", valine_dipeptide()
    if not path.exists():
        np.save(path, molecule.positions)
    return Peptide(Molecule(molecule.topology, molecule.system, np.load(path)))


def reference(folders: list[Path]) -> list[tuple[float, float]]:
    """Populations of metadynamics by exp((V - c(t))/kT), and errors from a block to another."""
    found = []
    for folder in folders:
        columns = read_fields(folder / "REWEIGHT").columns
        late = slice(int(SKIPPED * len(columns["chi1"])), None)
        weights = np.exp(columns["metad.rbias"][late] / (GAS_CONSTANT * TEMPERATURE))
        members = thirds(columns["chi1"][late])
        for rows in np.array_split(np.arange(len(weights)), BLOCKS):
            found.append(np.average(members[rows], axis=0, weights=weights[rows]))
    spread = np.std(found, axis=0, ddof=1) / np.sqrt(len(found))
    return list(zip(np.mean(found, axis=0).tolist(), spread.tolist(), strict=True))


def vacuum(options: argparse.Namespace) -> dict[str, Any]:
    """Populations in vacuum."""
    peptide = alone(options)
    folders = [options.data / f"metad-{k}" for k in range(options.walkers)]
    for k, folder in enumerate(folders):
        metadynamics(peptide, folder, options.metad, seed=k + 1)
    gan = trained(peptide, options.data, options.train_seconds, options.threads)
    plain = dynamics(peptide, options.data / "plain", None, options.steps, options, "Reference")
    local = dynamics(peptide, options.data / "local", gan, options.steps, options, "Reference")
    return {"metadynamics": reference(folders), "plain": plain, "local": local}


def water(options: argparse.Namespace) -> dict[str, Any]:
    """Populations in water."""
    dry = alone(options)
    gan = trained(dry, options.data, options.train_seconds, options.threads)
    peptide, steps = Peptide(in_water(dry.molecule)), options.water_steps
    plain = dynamics(peptide, options.data / "water-plain", None, steps, options, "CPU")
    local = dynamics(peptide, options.data / "water-local", gan, steps, options, "CPU")
    atoms = len(peptide.molecule.positions)
    return {"atoms": atoms, "plain": plain, "local": local}


def energies(options: argparse.Namespace) -> dict[str, Any]:
    """Milliseconds an energy, of the whole System and of what depends on the side chain."""
    dry = alone(options)
    gan = trained(dry, options.data, options.train_seconds, options.threads)
    found: dict[str, Any] = {}
    peptide = Peptide(in_water(dry.molecule))
    bias = peptide.bias(options.data / "energies")
    simulation = peptide.simulation(bias, "CPU", options.seed)
    simulation.step(200)
    settings = ProposalSettings(candidates=options.candidates)
    asked = Asked(gan, bias, "uniform", settings, options.interval)
    positions, box = present_of(simulation)
    move = LocalMove.prepare(asked, Start(simulation, gan.atoms, positions, box, TEMPERATURE))
    held = move.potential
    x = gan.among(positions[gan.rest]).sample(np.zeros(2), n=options.candidates, seed=1)
    whole = held.whole(x)
    ways = {"whole": held.energies_of_all, "quick": held.energies}
    times: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(options.rounds + 1):
        for name, evaluate in ways.items():
            begun = time.process_time()
            energies_found = evaluate(whole)
            if turn:
                times[name].append((time.process_time() - begun) / len(x) * 1e3)
            found[f"{name}, kJ/mol"] = energies_found
    begun = time.process_time()
    simulation.step(200)
    step = (time.process_time() - begun) / 200 * 1e3
    low = found["whole, kJ/mol"] < found["whole, kJ/mol"].min() + 50
    off = (found["whole, kJ/mol"] - found["quick, kJ/mol"])[low]
    return {
        "atoms": len(positions),
        "ms, one step": step,
        **{f"ms, {name}": statistics.median(t) for name, t in times.items()},
        "whole less quick, standard deviation [kJ/mol]": float(off.std()),
        "of so many candidates": int(low.sum()),
    }


def flux(options: argparse.Namespace) -> dict[str, Any]:
    """Moves between the thirds, each way."""
    peptide = alone(options)
    gan = trained(peptide, options.data, options.train_seconds, options.threads)
    bias = peptide.bias(options.data / "flux")
    simulation = peptide.simulation(bias, "Reference", options.seed)
    counts = np.zeros((3, 3))

    class Watched(LocalMove):
        """Counts where each accepted move went."""

        def attempt(self, positions: Any, box: Any, rng: Any) -> Any:
            made = super().attempt(positions, box, rng)
            after = positions if made.positions is None else made.positions
            one, two = (
                thirds(np.array([torsion(x, peptide.chi1)]))[0].argmax() for x in (positions, after)
            )
            counts[one, two] += 1
            return made

    MOVES["local"] = Watched
    settings = ProposalSettings(candidates=options.candidates)
    reporter = ProposalReporter(
        options.data / "flux" / "moves.csv", 10, gan, bias, mode="local", settings=settings
    )
    simulation.reporters.append(reporter)
    simulation.step(10 * options.moves)
    MOVES["local"] = LocalMove
    away = {}
    for i in range(3):
        for j in range(i):
            there, back = counts[i, j], counts[j, i]
            error = np.sqrt(max(1.0, there + back))
            away[f"{NAMES[i]} {NAMES[j]}"] = [there, back, float((there - back) / error)]
    return {"moves": int(counts.sum()), "there, back, difference in errors": away}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parts = {"vacuum": vacuum, "water": water, "energies": energies, "flux": flux}
    parser.add_argument("parts", nargs="+", choices=parts)
    parser.add_argument(
        "--data", type=Path, required=True, help="frames and the flow are kept here"
    )
    parser.add_argument("--walkers", type=int, default=4)
    parser.add_argument("--metad", type=int, default=500_000, help="steps of each")
    parser.add_argument("--train-seconds", type=float, default=600.0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--steps", type=int, default=1_000_000, help="in vacuum, of both ways")
    parser.add_argument("--water-steps", type=int, default=200_000)
    parser.add_argument("--interval", type=int, default=100)
    parser.add_argument("--candidates", type=int, default=20)
    parser.add_argument("--moves", type=int, default=100_000, help="of the flux")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    made = provenance()
    options.data.mkdir(parents=True, exist_ok=True)
    print(in_words(made))
    known = {}
    if options.json and options.json.exists():
        known = json.loads(options.json.read_text())
    for name in options.parts:
        known[name] = {**parts[name](options), **made, "command": " ".join(sys.argv)}
        print(json.dumps({name: known[name]}, indent=1))
        if options.json:
            write_atomically(options.json, json.dumps(known, indent=1) + "\n")


if __name__ == "__main__":
    main()
