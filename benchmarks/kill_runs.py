"""Short runs of each kind, which begin or go on in a folder: what kill_resume.py kills."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import openmm
import torch
from openmm import app

from openmm_cgan import (
    ConditionalGAN,
    FrameReporter,
    Learner,
    PlumedBias,
    ProposalReporter,
    RunCheckpointReporter,
    restore_run,
)
from openmm_cgan.cgan import TrainingSettings
from openmm_cgan.checkpoints import Keeper
from openmm_cgan.cli.commands import main as command_line
from openmm_cgan.cli.demo import DemoSettings, run_demo
from openmm_cgan.cli.run_records import is_begun
from openmm_cgan.frames import read_frames
from openmm_cgan.reporters import ProposalSettings
from openmm_cgan.signals import end_with_parent
from openmm_cgan.testsystems import Chain, alanine_dipeptide
from openmm_cgan.windows import Window, WindowSettings, run_windows

TEMPERATURE = 300.0
ANGLES = "phi: TORSION ATOMS=5,7,9,15\npsi: TORSION ATOMS=7,9,15,17\n"
METAD = ANGLES + (
    "METAD ARG=phi,psi SIGMA=0.35,0.35 HEIGHT=1.2 PACE=50 BIASFACTOR=8 GRID_MIN=-pi,-pi "
    "GRID_MAX=pi,pi GRID_BIN=60,60\nPRINT ARG=phi,psi STRIDE=30 FILE=COLVAR\n"
)
OPES = ANGLES + (
    "o: OPES_METAD ARG=phi,psi PACE=50 BARRIER=40 SIGMA=0.3,0.3 STATE_WFILE=STATE "
    "STATE_WSTRIDE=500\nPRINT ARG=phi,psi,o.* STRIDE=30 FILE=COLVAR\n"
)
WINDOW = ANGLES + (
    "METAD ARG=phi SIGMA=0.3 HEIGHT=1 PACE=30 GRID_MIN=-pi GRID_MAX=pi\n"
    "RESTRAINT ARG=psi AT=1 KAPPA=100\nPRINT ARG=phi,psi STRIDE=10 FILE=COLVAR\n"
)
THETA = (
    "theta: ANGLE ATOMS=1,2,3\nMETAD ARG=theta SIGMA=0.1 HEIGHT=0.5 PACE=30 GRID_MIN=0 "
    "GRID_MAX=pi GRID_BIN=200\nPRINT ARG=theta STRIDE=10 FILE=COLVAR\n"
)
CHAIN = Chain(barrier=60.0, tilt=1.5)
FLOW = TrainingSettings(generator="FlowGenerator", steps=60, batch=64, width=16, report_every=10)
SEEDS = ProposalSettings(batch=4, settle_steps=40, minimise_iterations=20, heal_steps=30)
SMALL = DemoSettings(
    md_steps=40_000,
    training=TrainingSettings(steps=60, report_every=10),
    grid=(6, 3),
    highest=1000.0,
    proposals_per_window=5,
    window_steps=400,
    settle_steps=100,
    generated=100,
)


@dataclass(frozen=True)
class Kind:
    """A kind of run.

    Attributes
    ----------
    begin_or_go_on : callable
        Runs in a folder to the end, from what is there; given the folder of what is prepared.
    is_begun : callable
        Whether a folder holds enough to go on; else the next attempt begins in an empty one.
    """

    begin_or_go_on: Callable[[Path, Path], None]
    is_begun: Callable[[Path], bool]


def prepare(folder: Path) -> None:
    """Write what the runs need: a structure, inputs, and a small generator of chains."""
    torch.set_num_threads(1)
    molecule = alanine_dipeptide()
    with (folder / "start.pdb").open("w") as file:
        app.PDBFile.writeFile(molecule.topology, molecule.positions * openmm.unit.nanometer, file)
    (folder / "plumed.dat").write_text(METAD)
    run_metad(folder / "alanine")
    _run_chain(folder / "chain", {}, 3000)
    frames = read_frames(folder / "chain" / "frames")
    ConditionalGAN.fit(frames, CHAIN.topology(), FLOW).save(folder / "chain.npz")


def simulation_of(molecule: Any, text: str, folder: Path) -> tuple[app.Simulation, PlumedBias]:
    """Langevin dynamics under an input on the Reference platform, not attached yet."""
    bias = PlumedBias(text, temperature=TEMPERATURE, backend="native", directory=folder)
    bias.add_to(molecule.system)
    integrator = openmm.LangevinMiddleIntegrator(TEMPERATURE, 2.0, 0.001)
    integrator.setRandomNumberSeed(11)
    platform = openmm.Platform.getPlatformByName("Reference")
    simulation = app.Simulation(molecule.topology, molecule.system, integrator, platform)
    simulation.context.setPositions(molecule.positions)
    simulation.context.setVelocitiesToTemperature(TEMPERATURE, 12)
    return simulation, bias


def go(
    simulation: app.Simulation, keepers: dict[str, Keeper], folder: Path, steps: int, every: int
) -> None:
    """Begin, or go on from a checkpoint, to the end; keep where that is."""
    bias, *others = keepers.values()
    assert isinstance(bias, PlumedBias)
    checkpoint = folder / "run.chk"
    if checkpoint.exists():
        restore_run(checkpoint, simulation, keepers)
    else:
        bias.attach(simulation)
        simulation.reporters += others
    simulation.reporters.append(RunCheckpointReporter(checkpoint, every, keepers))
    simulation.step(steps - simulation.currentStep)
    state = simulation.context.getState(positions=True, velocities=True)
    end = state.getPositions(asNumpy=True)._value, state.getVelocities(asNumpy=True)._value
    np.save(folder / "end.npy", np.stack(end))
    bias.close()


def run_metad(folder: Path, text: str = METAD) -> None:
    """Metadynamics of alanine dipeptide with frames."""
    simulation, bias = simulation_of(alanine_dipeptide(), text, folder)
    frames = FrameReporter(folder / "frames", 20, bias, append=True)
    go(simulation, {"bias": bias, "frames": frames}, folder, 6000, 250)
    frames.close()


def _run_chain(folder: Path, asked: dict[str, Any], steps: int) -> None:
    """A chain under metadynamics with frames; `asked` says what is proposed, if anything."""
    molecule = _MoleculeOf(
        CHAIN.topology(), CHAIN.system(), CHAIN.sample(1, TEMPERATURE, seed=1)[0]
    )
    simulation, bias = simulation_of(molecule, THETA, folder)
    frames = FrameReporter(folder / "frames", 7, bias, append=True)
    keepers: dict[str, Keeper] = {"bias": bias, "frames": frames}
    if asked:
        table = folder / "proposals.csv"
        learns = asked.pop("learns")
        proposals = ProposalReporter(table, 50, bias=bias, append=True, **asked)
        if learns:
            keepers["learner"] = Learner(
                folder / "made", 50, proposals, folder / "frames", FLOW, 1500,
                takes_over_after=2000,
            )  # fmt: skip
        keepers["proposals"] = proposals
    go(simulation, keepers, folder, steps, 300)
    frames.close()


@dataclass(frozen=True)
class _MoleculeOf:
    topology: app.Topology
    system: openmm.System
    positions: np.ndarray


def _seeds(folder: Path, prepared: Path) -> None:
    sampler = ConditionalGAN.load(prepared / "chain.npz")
    asked = {"sampler": sampler, "targets": "least_visited", "mode": "seed", "settings": SEEDS}
    _run_chain(folder, asked | {"learns": False}, 3000)


def _exact(folder: Path, prepared: Path) -> None:
    sampler = ConditionalGAN.load(prepared / "chain.npz")
    few = ProposalSettings(candidates=20)
    asked = {"sampler": sampler, "mode": "exact", "settings": few, "learns": True}
    _run_chain(folder, asked, 5000)


def _windows(folder: Path, prepared: Path, workers: int = 0) -> None:
    molecule = alanine_dipeptide()
    settings = WindowSettings(
        TEMPERATURE, steps=1500, settle_steps=100, report_interval=10, checkpoint_interval=200
    )
    made = [
        Window(folder / f"window-{i}", WINDOW, molecule.positions, {}, "given", 3 + i, settings)
        for i in range(2)
    ]
    with _pool(workers) as pool:
        results = run_windows(made, molecule.system, molecule.topology, pool, platform="Reference")
    if failed := [result.error for result in results if result.status != "finished"]:
        raise RuntimeError(f"windows failed: {failed}")


def _pool(workers: int) -> Any:
    import multiprocessing
    from concurrent.futures import ProcessPoolExecutor

    if not workers:
        return nullcontext()
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["openmm_cgan.windows"])  # imported once, not by each
    return ProcessPoolExecutor(workers, context, initializer=end_with_parent)


def _pooled_windows(folder: Path, prepared: Path) -> None:
    _windows(folder, prepared, workers=2)


def _command(*words: object) -> None:
    command_line([str(word) for word in words], standalone_mode=False)


def _train(folder: Path, prepared: Path) -> None:
    out = folder / "model.npz"
    if out.exists() and not (folder / "model.chk").exists():
        return  # killed when all was done
    goes_on = ["--resume"] if (folder / "model.chk").exists() else []
    _command(
        "train", prepared / "alanine" / "frames", "--topology", prepared / "start.pdb",
        "--out", out, "--steps", 100, "--checkpoint-every", 10, *goes_on,
    )  # fmt: skip


def _run_command(folder: Path, prepared: Path) -> None:
    what = ["--resume"] if is_begun(folder / "run") else ["--steps", "6000"]
    _command(
        "run", prepared / "start.pdb", "--plumed", prepared / "plumed.dat", "--out", folder / "run",
        "--forcefield", "amber96.xml", "--platform", "Reference", "--frames-every", 70,
        "--checkpoint-every", 400, "--no-report", *what,
    )  # fmt: skip


def _demo(folder: Path, prepared: Path) -> None:
    goes_on = (folder / "demo" / "demo.json").exists()
    run_demo(folder / "demo", SMALL, seed=3, workers=0, resume=goes_on, say=lambda text: None)


def _quick_demo(folder: Path, prepared: Path) -> None:
    goes_on = ["--resume"] if (folder / "demo" / "demo.json").exists() else []
    _command("demo", "--quick", "--out", folder / "demo", "--workers", 2, *goes_on)


def _always(folder: Path) -> bool:
    return True


def _has_checkpoint(folder: Path) -> bool:
    return (folder / "run.chk").exists()


KINDS = {
    "metad": Kind(lambda folder, _: run_metad(folder), _has_checkpoint),
    "opes": Kind(lambda folder, _: run_metad(folder, OPES), _has_checkpoint),
    "seeds": Kind(_seeds, _has_checkpoint),
    "exact": Kind(_exact, _has_checkpoint),
    "train": Kind(_train, _always),
    "windows": Kind(_windows, _always),
    "pooled-windows": Kind(_pooled_windows, _always),
    "run": Kind(_run_command, _always),
    "demo": Kind(_demo, _always),
    "quick-demo": Kind(_quick_demo, _always),
}
