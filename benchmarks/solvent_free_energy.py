"""A free energy in solvent by three ways: seeded windows, dragged windows, metadynamics.

tripeptide: ACE-ALA3-NME, AMBER ff14SB with OBC2; CVs are phi and psi of the middle alanine, the
torsions of its neighbours are hidden. dipeptide: ACE-ALA-NME in TIP3P, PME, constant volume. 300 K,
hydrogens of 3 dalton and steps of 4 fs for all three ways; windows stand on a grid of phi and psi.
F(phi), F(psi) and the free energy of the basin 0 < phi < 2.3 rad over the rest are compared.

Each repeat has its own metadynamics on phi and psi, a flow trained on its frames (for the dipeptide
on frames from OBC2), one seed a window, in implicit solvent drawn by weight (with --shared all have
those of the first, and other seeds); and its own dragged starts, taken row by row from a run that
was left alone before. With --seeds-per-window K windows are run K times besides, of a Kth of the
steps each, from draws of what they are to sample (implicit solvent only). The windows stand by what
the metadynamics of the first repeat has found: a grid of soft restraints as are usual (a width of
0.45 of the spacing) where F is low. On its ridges such windows hold two states, and where they
start is what they find.

    python benchmarks/solvent_free_energy.py CASE [--repeats N] [--shared] [--folder FOLDER]
        [--seeds-per-window K]

A killed run goes on where it was. Results go to results/solvent_free_energy.json beside this file.
"""

from __future__ import annotations

import argparse
import json
import logging
import multiprocessing
import os
import tempfile
from collections.abc import Sequence
from concurrent.futures import Executor, ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

os.environ.setdefault("OPENMM_CPU_THREADS", "1")

import numpy as np
import openmm
import torch
from injection import Solute, dipeptide, in_implicit, peptide
from numpy.typing import NDArray
from openmm import app, unit
from provenance import provenance
from solvent_errors import KINDS, Lengths, report, steps_of, write_results

from openmm_cgan import GAS_CONSTANT, ConditionalGAN, PlumedBias, ProposalReporter
from openmm_cgan.cgan import TrainingSettings
from openmm_cgan.cli.run_records import RunSettings, is_begun
from openmm_cgan.cli.simulations import run_biased
from openmm_cgan.cli.window_places import Run, rough_free_energy, samples_of
from openmm_cgan.cli.window_starts import starts
from openmm_cgan.frames import read_frames
from openmm_cgan.free_energy.biased_runs import BiasedRun
from openmm_cgan.potentials import Potential
from openmm_cgan.proposals import Screen, propose
from openmm_cgan.proposals.conditions import UniformConditions
from openmm_cgan.proposals.selection import NONE, drawn
from openmm_cgan.reporters.moves import ExactMove
from openmm_cgan.run_folders import RECORD
from openmm_cgan.testsystems import Molecule
from openmm_cgan.windows import (
    DragSettings,
    WindowSettings,
    drag,
    run_windows,
    umbrella_windows,
)
from openmm_cgan.windows.placement import Placement, place_windows, window_template

TEMPERATURE = 300.0
KT = GAS_CONSTANT * TEMPERATURE
TIMESTEP = 0.004  # ps
HYDROGEN = 3.0  # dalton
CVS = ("phi", "psi")
WIDTH = 0.45  # of a window, in spacings
BIASFACTOR = 8.0
KAPPA_DRAG = 200.0  # kJ/mol/rad^2
TRIES = 50  # configurations generated for a window
ATTEMPT_EVERY = 25  # steps between attempts in water, until one is taken
EXPLICIT = ("amber14/protein.ff14SB.xml", "amber14/tip3p.xml")
EDGE, CUTOFF = 2.15, 0.7  # nm: a rhombic dodecahedron, which shrinks to twice the cutoff and a bit


@dataclass(frozen=True)
class Case:
    """How long each part is [steps].

    Attributes
    ----------
    metad, window, settle, drag : int
        Of the metadynamics; of a window, its settle window included; from one window to the next.
    alone : int
        Before the drag.
    windows : int
        Along each CV, where the free energy is below ``highest``.
    highest : float
        [kJ/mol]
    pace : int
        Between hills.
    platform : str
        Of OpenMM: the Reference platform keeps up with CPU on few atoms, and needs no second
        thread where cores are shared.
    """

    metad: int
    window: int
    settle: int
    drag: int
    alone: int
    windows: int
    highest: float
    pace: int
    platform: str


CASES = {
    "tripeptide": Case(8_000_000, 12_500, 1_250, 1_250, 100_000, 18, 45.0, 250, "Reference"),
    "dipeptide": Case(750_000, 2_500, 500, 500, 5_000, 12, 36.0, 100, "CPU"),
}


def solute_of(case: str) -> Solute:
    """The peptide."""
    return peptide(3) if case == "tripeptide" else dipeptide()


def plumed_input(solute: Solute, pace: int) -> str:
    """Well-tempered metadynamics on phi and psi."""
    phi, psi = (",".join(str(a + 1) for a in atoms) for atoms in (solute.phi, solute.psi))
    return (
        f"phi: TORSION ATOMS={phi}\npsi: TORSION ATOMS={psi}\n"
        f"METAD ARG=phi,psi SIGMA=0.35,0.35 HEIGHT=1.0 BIASFACTOR={BIASFACTOR:g} PACE={pace}"
        " GRID_MIN=-pi,-pi GRID_MAX=pi,pi FILE=HILLS\n"
    )


# ---- systems


def in_obc2(solute: Solute) -> Molecule:
    """The peptide in implicit solvent."""
    return Molecule(
        solute.topology, in_implicit(solute.topology, HYDROGEN), np.asarray(solute.positions)
    )


def in_tip3p(solute: Solute, folder: Path) -> Molecule:
    """The peptide in its box of water, at the volume that 80 ps at 1 bar end at."""
    field = app.ForceField(*EXPLICIT)
    modeller = app.Modeller(solute.topology, solute.positions * unit.nanometer)
    shape = np.array([(1, 0, 0), (0, 1, 0), (0.5, 0.5, 0.5**0.5)]) * EDGE
    modeller.addSolvent(field, boxVectors=[openmm.Vec3(*v) for v in shape] * unit.nanometer)
    made = {
        "nonbondedMethod": app.PME, "nonbondedCutoff": CUTOFF, "constraints": app.HBonds,
        "hydrogenMass": HYDROGEN * unit.dalton,
    }  # fmt: skip
    system, start = field.createSystem(modeller.topology, **made), folder / "start.npz"
    if not start.exists():
        x = np.array(modeller.positions.value_in_unit(unit.nanometer))
        x, box = _equilibrated(Molecule(modeller.topology, system, x))
        np.savez(start, positions=x, box=box)
    with np.load(start) as kept:
        positions, box = kept["positions"], kept["box"]
    system.setDefaultPeriodicBoxVectors(*[openmm.Vec3(*v) for v in box])
    modeller.topology.setPeriodicBoxVectors([openmm.Vec3(*v) for v in box] * unit.nanometer)
    return Molecule(modeller.topology, system, positions)


def _equilibrated(molecule: Molecule) -> tuple[NDArray, NDArray]:
    """Positions and box [nm] after a run at constant pressure; of the cutoff's size at least."""
    system = openmm.XmlSerializer.clone(molecule.system)
    system.addForce(openmm.MonteCarloBarostat(1.0, TEMPERATURE, 25))
    simulation = _simulation(replace(molecule, system=system), 1)
    simulation.minimizeEnergy(maxIterations=100)
    simulation.context.setVelocitiesToTemperature(TEMPERATURE, 1)
    simulation.step(20_000)
    state = simulation.context.getState(positions=True)
    box = state.getPeriodicBoxVectors(asNumpy=True)._value
    return state.getPositions(asNumpy=True)._value, np.array(box)


def _simulation(molecule: Molecule, seed: int, platform: str = "CPU") -> app.Simulation:
    integrator = openmm.LangevinMiddleIntegrator(TEMPERATURE, 1.0, TIMESTEP)
    integrator.setRandomNumberSeed(seed)
    named = openmm.Platform.getPlatformByName(platform)
    simulation = app.Simulation(molecule.topology, molecule.system, integrator, named)
    simulation.context.setPositions(molecule.positions)
    return simulation


# ---- metadynamics, and what is learned from it


def metadynamics(molecule: Molecule, solute: Solute, case: Case, folder: Path, seed: int) -> None:
    """A run of its own, or what is left of it."""
    run = RunSettings(TEMPERATURE, timestep=TIMESTEP, platform=case.platform, frames_every=50,
                      seed=seed, checkpoint_every=50_000)  # fmt: skip
    goes_on = is_begun(folder)
    copied = replace(molecule, system=openmm.XmlSerializer.clone(molecule.system))
    text = plumed_input(solute, case.pace)
    steps = case.metad
    if goes_on:  # one that was shorter becomes longer
        planned = json.loads((folder / RECORD).read_text())["end_step"]
        steps = case.metad - planned if case.metad > planned else None
    run_biased(copied, text, steps, folder, run, goes_on)


def model_of(folder: Path, topology: app.Topology, seed: int) -> ConditionalGAN:
    """The flow of a metadynamics run, trained once."""
    path = folder / "model.npz"
    if not path.exists():
        how = TrainingSettings("FlowGenerator", steps=500, batch=512, report_every=50, seed=seed)
        ConditionalGAN.fit(read_frames(folder / "frames"), topology, how).save(path)
    return ConditionalGAN.load(path, topology)


def placement_of(molecule: Molecule, run_folder: Path, folder: Path, case: Case) -> Placement:
    """Where windows stand, from one metadynamics run; the same for all repeats."""
    path = folder / "placement.npz"
    if not path.exists():
        run = _run_of(molecule, run_folder)
        rough = rough_free_energy(run, samples_of(run), CVS, case.windows)
        soft = KT / (WIDTH * 2 * np.pi / case.windows) ** 2
        placed = place_windows(rough, TEMPERATURE, case.highest, [soft, soft])
        np.savez(path, centres=placed.centres, kappa=placed.kappa)
    with np.load(path) as kept:
        return Placement(CVS, kept["centres"], kept["kappa"])


def _run_of(molecule: Molecule, folder: Path) -> Run:
    plumed = folder / "plumed.dat"
    bias = PlumedBias(plumed, molecule.topology, temperature=TEMPERATURE, cvs=CVS)
    return Run(molecule, BiasedRun.of(read_frames(folder / "frames"), plumed, folder), bias)


# ---- where windows start


def seeded(
    molecule: Molecule, solute: Solute, gan: ConditionalGAN, targets: NDArray, seed: int
) -> NDArray:
    """One proposal for each window, drawn by weight, (n, n_atoms, 3) [nm]."""
    bias = _restraint(solute, solute.topology)
    screen = Screen(solute.topology, solute.positions, bias)
    proposals = propose(gan, targets, screen, seed=seed)
    everywhere = UniformConditions(gan.cv_range, gan.variables)
    move = ExactMove(gan, bias, Potential(molecule.system), screen, KT, conditions=everywhere)
    log_weights, passed = np.full(len(proposals), -np.inf), proposals.accepted
    x, cvs = proposals.positions[passed], targets[passed]
    log_weights[passed] = move.weigh(x, cvs, gan.log_prob(x, cvs)).log_weights
    taken = drawn(log_weights.reshape(-1, TRIES), np.random.default_rng(seed))
    if (taken == NONE).any():
        raise RuntimeError(f"windows without a proposal: {proposals.counts()}")
    return proposals.positions[TRIES * np.arange(len(taken)) + taken]


def seeded_in_water(
    molecule: Molecule, solute: Solute, gan: ConditionalGAN, targets: NDArray, seed: int
) -> tuple[NDArray, int]:
    """The same in water, by a run into which one seed is put for each window; with its steps."""
    with tempfile.TemporaryDirectory() as name:
        bias = _restraint(solute, molecule.topology, Path(name))
        copied = replace(molecule, system=openmm.XmlSerializer.clone(molecule.system))
        bias.add_to(copied.system)
        simulation = _simulation(copied, seed)
        simulation.context.setVelocitiesToTemperature(TEMPERATURE, seed)
        bias.attach(simulation)
        starts, attempts = [], 0
        for k, rows in enumerate(np.split(targets, len(targets) // TRIES)):
            proposals = ProposalReporter(
                Path(name) / f"{k}.csv", ATTEMPT_EVERY, gan, bias, rows, "seed", seed=seed
            )
            simulation.reporters.append(proposals)
            while not proposals.counts()["accepted"]:
                simulation.step(ATTEMPT_EVERY)
                attempts += 1
            simulation.reporters.remove(proposals)
            state = simulation.context.getState(positions=True)
            starts.append(state.getPositions(asNumpy=True)._value)
        bias.close()
    return np.array(starts), attempts


def _restraint(solute: Solute, topology: app.Topology, folder: str | Path = ".") -> PlumedBias:
    """The CVs, and a bias that does nothing."""
    text = solute.plumed().replace("0.001,0.001", "0,0")
    return PlumedBias(text, topology, temperature=TEMPERATURE, directory=folder)


def dragged(
    molecule: Molecule, solute: Solute, case: Case, centres: NDArray, seed: int
) -> NDArray[np.float64]:
    """Starts dragged upwards from the centre nearest to where a run left alone has come."""
    simulation = _simulation(molecule, seed, case.platform)
    simulation.minimizeEnergy(maxIterations=200)
    simulation.context.setVelocitiesToTemperature(TEMPERATURE, seed)
    simulation.step(case.alone)
    x = np.array(simulation.context.getState(positions=True).getPositions(asNumpy=True)._value)
    bias = _restraint(solute, molecule.topology)
    away = np.linalg.norm(np.angle(np.exp(1j * (centres - bias.cv_values(x)))), axis=1)
    order = np.roll(np.arange(len(centres)), -int(away.argmin()))
    how = DragSettings(TEMPERATURE, KAPPA_DRAG, case.drag, seed=seed, timestep=TIMESTEP,
                       platform=case.platform)  # fmt: skip
    starts = np.empty((len(centres), *x.shape))
    starts[order] = drag(bias, molecule.system, x, centres[order], how)
    return starts


# ---- the runs


def molecule_of(name: str, folder: Path) -> Molecule:
    """What is run."""
    solute = solute_of(name)
    return in_tip3p(solute, folder) if name == "dipeptide" else in_obc2(solute)


def prepare_seeds(name: str, folder: Path, repeat: int, shared: bool, each: int) -> None:
    """Metadynamics, model and seeds of one repeat that are not there yet.

    Repeats that share take the metadynamics and the model of the first one. With several seeds to a
    window they are there beside the others, which each window has one of.
    """
    solute, case, seed = solute_of(name), CASES[name], 1000 * (repeat + 1)
    own, molecule = folder / f"repeat-{repeat}", molecule_of(name, folder)
    teaching = folder / "repeat-0" if shared else own
    metadynamics(molecule, solute, case, teaching / "metad", seed)
    placed = placement_of(molecule, folder / "repeat-0" / "metad", folder, case)
    own.mkdir(exist_ok=True)
    if each > 1 and not (own / f"seeded-{each}.npy").exists():
        model_of(teaching / "metad", solute.topology, seed)
        model = teaching / "metad" / "model.npz"
        found = starts(_run_of(molecule, teaching / "metad"), placed, model, seed, "cpu", each)
        print(f"{found.seeded.mean():.1%} of {len(found.positions)} starts are of the model")
        several = found.positions.reshape(len(placed.centres), each, -1, 3)
        np.save(own / f"seeded-{each}.npy", several)
    if (own / "seeded.npy").exists():
        return
    teacher = teaching / "metad"
    if name == "dipeptide":  # a run in implicit solvent teaches the model, quick beside water
        teacher = teaching / "obc2"
        quick = replace(case, metad=400_000, platform="Reference")
        metadynamics(in_obc2(solute), solute, quick, teacher, seed)
    gan = model_of(teacher, solute.topology, seed)
    targets = np.repeat(placed.centres, TRIES, axis=0)
    if name == "dipeptide":
        seeds, attempts = seeded_in_water(molecule, solute, gan, targets, seed)
        print(f"{attempts} attempts to put {len(seeds)} seeds into water")
    else:
        seeds = seeded(molecule, solute, gan, targets, seed)
    np.save(own / "seeded.npy", seeds)


def prepare_drags(name: str, folder: Path, repeat: int) -> None:
    """The dragged starts of one repeat, if they are not there yet."""
    path = folder / f"repeat-{repeat}" / "dragged.npy"
    if not path.exists():
        with np.load(folder / "placement.npz") as kept:
            centres = kept["centres"]
        job = molecule_of(name, folder), solute_of(name), CASES[name], centres
        np.save(path, dragged(*job, seed=1000 * (repeat + 1)))


def run_all(name: str, folder: Path, repeat: int, kinds: Sequence[str], pool: Executor) -> None:
    """The windows of one repeat from each kind of start."""
    solute, case, own = solute_of(name), CASES[name], folder / f"repeat-{repeat}"
    molecule = molecule_of(name, folder)
    with np.load(folder / "placement.npz") as kept:
        centres, kappa = kept["centres"], kept["kappa"]
    stiffness = dict(zip(CVS, kappa.tolist(), strict=True))
    template = window_template(_restraint(solute, molecule.topology), stiffness)
    for kind in kinds:
        positions = np.load(own / f"{kind}.npy")
        steps, settle = steps_of(kind, case.window, case.settle)
        settings = WindowSettings(TEMPERATURE, steps, settle, 50, timestep=TIMESTEP,
                                  seed=1000 * (repeat + 1))  # fmt: skip
        windows = umbrella_windows(template, centres, positions, settings, own / kind, kind)
        if kind.startswith("seeded-"):  # drawn by weight: as warm as what they are drawn of
            windows = [replace(window, heal=False) for window in windows]
        run_windows(
            windows, molecule.system, molecule.topology, pool, platform=case.platform,
            reference=molecule.positions,
        )  # fmt: skip


def main() -> None:
    """Run what is missing, and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("case", choices=list(CASES))
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--shared", action="store_true", help="one metadynamics for all repeats")
    parser.add_argument("--seeds-per-window", type=int, default=1, help="beside one a window")
    parser.add_argument("--kinds", nargs="+", help="which windows are run, by default all")
    parser.add_argument("--window-steps", type=int, help="all runs of a window together")
    parser.add_argument("--workers", type=int, default=1, help="processes")
    parser.add_argument("--folder", type=Path, help="keep the runs; go on with those begun")
    parser.add_argument("--only-report", action="store_true", help="of what is there")
    arguments = parser.parse_args()
    if arguments.case == "dipeptide" and arguments.seeds_per_window > 1:
        parser.error(
            "--seeds-per-window is for the tripeptide: seeds are put into water one by one"
        )
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    torch.set_num_threads(1)
    made, name = provenance(), arguments.case
    if (steps := arguments.window_steps) is not None:
        CASES[name] = replace(CASES[name], window=steps, settle=steps // 10)
    folder = (arguments.folder or Path(tempfile.mkdtemp(prefix="solvent-"))) / name
    folder.mkdir(parents=True, exist_ok=True)
    repeats = range(0 if arguments.only_report else arguments.repeats)
    each = arguments.seeds_per_window
    kinds = arguments.kinds or [*KINDS, *([f"seeded-{each}"] if each > 1 else [])]
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(arguments.workers, spawn) as pool:
        for repeat in repeats:
            prepare_seeds(name, folder, repeat, arguments.shared, each)
        dragging = repeats if "dragged" in kinds else []
        drags = [pool.submit(prepare_drags, name, folder, repeat) for repeat in dragging]
        for drag_done in drags:
            drag_done.result()
        for repeat in repeats:
            run_all(name, folder, repeat, kinds, pool)
    case = CASES[name]
    lengths = Lengths(case.window, case.settle, case.drag, case.alone, case.metad)
    found = report(folder, lengths, KT)
    write_results(name, found | {"shared": arguments.shared, "made": made})


if __name__ == "__main__":
    main()
