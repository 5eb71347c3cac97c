"""Seeds of proteins: what share passes the screens, and what share of those heals.

A peptide of 218 atoms (trpzip2) and a protein of 582 (villin headpiece), both ff14SB with OBC2 and
made as a whole; nine residues of that protein among the rest; p-xylene in the cavity of T4 lysozyme
L99A (2,621 atoms, without solvent). Frames of plain MD; the first three quarters are trained on,
attempts start from frames of the last quarter and ask for the CVs of others of them. Nothing is
injected. Not every CV is one that mending ties: a radius of gyration is not.

    python benchmarks/proteins.py [NAME ...] [--steps N] [--attempts N] [--folder F] [--json FILE]

Frames are kept in the folder and taken from there the next time.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import openmm
from numpy.typing import NDArray
from openmm import app, unit
from provenance import in_words, provenance

from openmm_cgan import ConditionalGAN, PlumedBias
from openmm_cgan.cgan import TrainingSettings
from openmm_cgan.features import AlignedFeatures
from openmm_cgan.frames import Frames
from openmm_cgan.reporters.moves.move import Asked, Start
from openmm_cgan.reporters.moves.seed import SeedMove
from openmm_cgan.reporters.settings import ProposalSettings
from openmm_cgan.testsystems import add_obc2

TEMPERATURE, TIMESTEP = 300.0, 0.004  # K, ps
FRAMES_EVERY = 50  # steps
SEQUENCE = ["SER", "TRP", "THR", "TRP", "GLU", "ASN", "GLY", "LYS", "TRP", "THR", "TRP", "LYS"]
TARGETS = {"peptide": 0.8, "protein": 0.5, "loop": 0.5, "ligand": 0.5}
TRAINING = TrainingSettings(steps=300)


@dataclass
class Case:
    """A system, the atoms that are made, and the CVs."""

    topology: app.Topology
    positions: NDArray[np.float64]
    system: openmm.System
    part: str | None
    plumed: str


def implicit(topology: app.Topology) -> openmm.System:
    """AMBER ff14SB with OBC2, heavy hydrogens."""
    system = app.ForceField("amber14/protein.ff14SB.xml").createSystem(
        topology,
        nonbondedMethod=app.NoCutoff,
        constraints=app.HBonds,
        hydrogenMass=3 * unit.dalton,
    )
    add_obc2(system, topology)
    return system


def of_openmmtools(name: str) -> Path:
    """A folder of data that openmmtools installs."""
    import openmmtools

    return Path(openmmtools.__file__).parent / "data" / name


def trpzip2() -> tuple[app.Topology, NDArray[np.float64]]:
    """Names and positions from AMBER files of an old format, which OpenMM does not read."""
    folder = of_openmmtools("trpzip2-explicit")
    text = (folder / "trpzip2.prmtop").read_text()
    text = text[text.index("N   H1  H2") :].replace("\n", "")
    lines = (folder / "trpzip2.crd").read_text().splitlines()[2:]
    numbers = [float(line[k : k + 12]) for line in lines for k in range(0, len(line) - 11, 12)]
    topology, residue = app.Topology(), None
    chain, sequence = topology.addChain(), iter(SEQUENCE)
    for k in range(218):
        name = text[4 * k : 4 * k + 4].strip()
        residue = topology.addResidue(next(sequence), chain) if name == "N" else residue
        topology.addAtom(name, app.element.get_by_symbol(name[0]), residue)
    topology.createStandardBonds()
    atoms = list(topology.atoms())
    topology.addBond(atoms[0], atoms[1])  # the third hydrogen of the first nitrogen
    return topology, np.array(numbers[: 3 * 218]).reshape(-1, 3) / 10


def villin() -> tuple[app.Topology, NDArray[np.float64]]:
    """The protein of a file that OpenMM installs, its water and ions left out."""
    pdb = app.PDBFile(str(Path(app.__file__).parent / "data" / "test.pdb"))
    model = app.Modeller(pdb.topology, pdb.positions)
    model.deleteWater()
    model.delete([atom for atom in model.topology.atoms() if atom.residue.name in ("Cl", "Na")])
    return model.topology, np.array(model.positions.value_in_unit(unit.nanometer))


def lysozyme() -> tuple[app.Topology, NDArray[np.float64], openmm.System]:
    """T4 lysozyme L99A with p-xylene, in vacuum with a cutoff: fast enough for one core."""
    folder = of_openmmtools("T4-lysozyme-L99A-implicit")
    parameters = app.AmberPrmtopFile(str(folder / "complex.prmtop"))
    positions = app.AmberInpcrdFile(str(folder / "complex.crd")).getPositions(asNumpy=True)
    system = parameters.createSystem(
        nonbondedMethod=app.CutoffNonPeriodic,
        nonbondedCutoff=1.0 * unit.nanometer,
        constraints=app.HBonds,
        hydrogenMass=3 * unit.dalton,
    )
    return parameters.topology, np.array(positions.value_in_unit(unit.nanometer)), system


def case_of(name: str) -> Case:
    """One of the four."""
    if name == "ligand":
        topology, positions, system = lysozyme()
    else:
        topology, positions = trpzip2() if name == "peptide" else villin()
        system = implicit(topology)
    number = {(a.residue.index, a.name): a.index + 1 for a in topology.atoms()}
    alpha = sorted(n for (_, atom), n in number.items() if atom == "CA")
    middle = len(SEQUENCE) // 2
    phi = [number[key] for key in ((middle - 1, "C"), *((middle, a) for a in ("N", "CA", "C")))]
    torsion = f"x: TORSION ATOMS={','.join(map(str, phi))}\n"
    ends = f"y: DISTANCE ATOMS={alpha[0]},{alpha[-1]}\n"
    first = topology.getNumAtoms() - 17
    whole = f"x: GYRATION ATOMS={','.join(map(str, alpha))}\n" + ends
    plumed = {"peptide": torsion + ends, "protein": whole}.get(name)
    if name == "loop":
        plumed = f"x: DISTANCE ATOMS={alpha[23]},{alpha[5]}\n"
    if name == "ligand":
        plumed = f"x: DISTANCE ATOMS={first},{alpha[len(alpha) // 2]}\n"
    assert plumed is not None
    names = "x,y" if "y:" in plumed else "x"
    zeros = ",".join("0" for _ in names.split(","))
    plumed += f"RESTRAINT ARG={names} AT={zeros} KAPPA={zeros}\n"
    part = {"loop": "resid 20:28", "ligand": f"index {first - 1}:{first + 16}"}.get(name)
    return Case(topology, positions, system, part, plumed)


def simulation_of(case: Case, bias: PlumedBias) -> app.Simulation:
    """Ready to run, on one thread."""
    bias.add_to(case.system)
    integrator = openmm.LangevinMiddleIntegrator(TEMPERATURE, 1.0, TIMESTEP)
    integrator.setRandomNumberSeed(1)
    platform = openmm.Platform.getPlatformByName("CPU")
    simulation = app.Simulation(case.topology, case.system, integrator, platform, {"Threads": "1"})
    simulation.context.setPositions(case.positions)
    bias.attach(simulation)
    return simulation


def trajectory(simulation: app.Simulation, steps: int, kept: Path) -> NDArray[np.float32]:
    """Frames (n, n_atoms, 3) [nm] of plain MD, from a file if there is one."""
    if kept.is_file():
        return np.load(kept)
    simulation.minimizeEnergy(maxIterations=200)
    simulation.context.setVelocitiesToTemperature(TEMPERATURE, 1)
    simulation.step(2500)
    frames = []
    for _ in range(steps // FRAMES_EVERY):
        simulation.step(FRAMES_EVERY)
        state = simulation.context.getState(positions=True)
        frames.append(state.getPositions(asNumpy=True)._value.astype(np.float32))
    np.save(kept, np.array(frames))
    return np.array(frames)


def attempts(
    gan: Any, simulation: app.Simulation, bias: PlumedBias, starts: NDArray, targets: NDArray
) -> dict[str, Any]:
    """Seeds tried from each start (n_starts, n_atoms, 3) at one of the targets, none injected."""
    settings = ProposalSettings(settle_steps=0)
    asked = Asked(gan, bias, targets, settings, 1000)
    first = starts[0].astype(float)
    move = SeedMove.prepare(asked, Start(simulation, gan.atoms, first, None, TEMPERATURE))
    rng = np.random.default_rng(7)
    passed = made = healed = 0
    refused: Counter[str] = Counter()
    for start in starts:
        attempt = move.attempt(start.astype(float), None, rng)
        counts = attempt.candidates
        made += counts.generated
        passed += counts.generated - sum(counts.refused.values())
        refused.update(counts.refused)
        healed += attempt.positions is not None
        if attempt.reason:
            refused[f"then {attempt.reason}"] += 1
    return {
        "passed": passed / made,
        "healed": healed / len(starts),
        "refused": dict(refused),
        "made": made,
    }


def measure(name: str, steps: int, n_attempts: int, folder: Path) -> dict[str, Any]:
    """Train one and try it."""
    case = case_of(name)
    bias = PlumedBias(
        case.plumed, case.topology, temperature=TEMPERATURE, directory=tempfile.mkdtemp()
    )
    simulation = simulation_of(case, bias)
    x = trajectory(simulation, steps, folder / f"{'protein' if name == 'loop' else name}.npy")
    cvs = np.concatenate([bias.cv_values(one[None].astype(float)) for one in x])
    frames = Frames.of_arrays(x, cvs, bias.variables, temperature=TEMPERATURE)
    seen = frames.select(slice(0, 3 * len(x) // 4))
    begun = time.perf_counter()
    featurize = None if case.part is None else AlignedFeatures.of_part(case.part)
    gan = ConditionalGAN.fit(seen, case.topology, TRAINING, featurize=featurize)
    trained = time.perf_counter() - begun
    starts = x[np.linspace(3 * len(x) // 4, len(x) - 1, n_attempts).astype(int)]
    begun = time.perf_counter()
    unseen = cvs[3 * len(x) // 4 :]
    targets = unseen[((unseen >= gan.cv_range[:, 0]) & (unseen <= gan.cv_range[:, 1])).all(axis=1)]
    found = attempts(gan, simulation, bias, starts, targets)
    each = (time.perf_counter() - begun) / n_attempts
    bias.close()
    return {
        "name": name,
        "atoms": len(gan.atoms),
        "frames": len(seen),
        "modes": gan.features.n_linear,
        **found,
        "target": TARGETS[name],
        "seconds of training": round(trained, 1),
        "seconds an attempt": round(each, 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", default=list(TARGETS), help=", ".join(TARGETS))
    parser.add_argument("--steps", type=int, default=80_000, help="of MD, of 4 fs")
    parser.add_argument("--attempts", type=int, default=20)
    parser.add_argument("--folder", type=Path, default=Path("protein_frames"))
    parser.add_argument("--json", type=Path, help="write the rows to this file")
    arguments = parser.parse_args()
    made = provenance()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    print(in_words(made))
    rows = []
    for name in arguments.names:
        row = measure(name, arguments.steps, arguments.attempts, arguments.folder)
        rows.append(row)
        share = row["passed"] * row["healed"]
        print(
            f"{name}: {row['atoms']} atoms, {row['modes']} modes of {row['frames']} frames;"
            f" passed {row['passed']:.2f} of {row['made']}, healed {row['healed']:.2f} of"
            f" {arguments.attempts}, both {share:.2f} (wanted {row['target']});"
            f" training {row['seconds of training']} s, attempt {row['seconds an attempt']} s;"
            f" refused {row['refused']}",
            flush=True,
        )
        if arguments.json:
            command = f"python {' '.join(sys.argv)}"
            text = json.dumps({"provenance": made, "command": command, "rows": rows}, indent=1)
            arguments.json.write_text(text + "\n")


if __name__ == "__main__":
    main()
