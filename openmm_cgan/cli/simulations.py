"""A biased run from files: structure, force field and PLUMED input in, frames out.

For whoever has no script of their own; a script does the same with OpenMM's objects (the example
of the README).
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import openmm
from openmm import app, unit
from tqdm import tqdm

from openmm_cgan.atomic_files import replacing, write_atomically
from openmm_cgan.checkpoints import Keeper, restore_run, save_run
from openmm_cgan.cli.signals import between_steps
from openmm_cgan.platforms import platform_named
from openmm_cgan.plumed.bias import PlumedBias
from openmm_cgan.reporters import FrameReporter, RunCheckpointReporter
from openmm_cgan.testsystems import Molecule
from openmm_cgan.topologies import read_configuration

logger = logging.getLogger("openmm_cgan")

STATE = "state.xml"  # for programs, platforms and versions other than that of the checkpoint
CHECKPOINT = "run.chk"
RECORD = "run.json"
PIECE_SECONDS = 0.5  # between two looks at signals
CONSTRAINTS = {
    "None": None, "HBonds": app.HBonds, "AllBonds": app.AllBonds, "HAngles": app.HAngles,
}  # fmt: skip


@dataclass(frozen=True)
class RunSettings:
    """How a run is integrated and what is kept of it.

    Attributes
    ----------
    temperature : float
        [K]
    friction : float
        Of the Langevin thermostat [1/ps].
    timestep : float
        [ps]
    platform : str or None
        OpenMM's platform; None lets OpenMM choose. Small molecules in vacuum run several times
        faster on Reference than on CPU.
    frames_every : int
        Steps between two frames.
    backend : str
        Of the PlumedBias.
    seed : int
        Of the thermostat and of the first velocities.
    checkpoint_every : int
        Steps between two checkpoints.
    """

    temperature: float = 300.0
    friction: float = 1.0
    timestep: float = 0.002
    platform: str | None = None
    frames_every: int = 100
    backend: str = "auto"
    seed: int = 1
    checkpoint_every: int = 10_000


def load_molecule(
    structure: str | Path, forcefield: Sequence[str], constraints: str = "HBonds"
) -> Molecule:
    """Make a System from a PDB file and OpenMM force-field files.

    Parameters
    ----------
    structure : str or Path
        PDB file; with a cell the System is periodic (PME, cutoff 1 nm at most), else no cutoff.
    forcefield : sequence of str
        Files of OpenMM (``amber96.xml``) or paths.
    constraints : str
        "HBonds", "AllBonds", "HAngles" or "None".

    Raises
    ------
    FileNotFoundError
        If there is no structure file.
    ValueError
        If OpenMM cannot read a file, the force field does not cover the molecule, or there are no
        such constraints.
    """
    if constraints not in CONSTRAINTS:
        raise ValueError(f"constraints {constraints!r}: expected one of {', '.join(CONSTRAINTS)}")
    pdb = read_configuration(structure)
    positions = np.array(pdb.getPositions(asNumpy=True).value_in_unit(unit.nanometer))
    options: dict[str, Any] = {"nonbondedMethod": app.NoCutoff}
    if (box := pdb.topology.getUnitCellDimensions()) is not None:
        shortest = min(box.value_in_unit(unit.nanometer))
        options = {"nonbondedMethod": app.PME, "nonbondedCutoff": min(1.0, 0.45 * shortest)}
    options["constraints"] = CONSTRAINTS[constraints]
    system = app.ForceField(*forcefield).createSystem(pdb.topology, **options)
    return Molecule(pdb.topology, system, positions)


def run_biased(
    molecule: Molecule,
    plumed_input: str | Path,
    steps: int | None,
    folder: str | Path,
    settings: RunSettings | None = None,
    restart: bool = False,
) -> PlumedBias:
    """Run a molecule under a PLUMED input and keep its frames.

    The folder gets ``frames/``, what the input writes (COLVAR, HILLS ...), ``topology.pdb`` (the
    start), ``plumed.dat``, ``run.json`` (settings), from time to time ``run.chk``, and, when it
    ends or is interrupted, ``state.xml``.

    Parameters
    ----------
    molecule : Molecule
        Its System is changed: the bias is added.
    plumed_input : str or Path
        The input file, or its text if it contains a newline.
    steps : int or None
        Number of steps to run; None: as many as the run in ``folder`` has left.
    folder : str or Path
        Where all files go.
    settings : RunSettings
    restart : bool
        Continue the run in ``folder``: from its checkpoint as if it had never stopped, else, where
        PLUMED itself keeps the state of the bias, from ``state.xml`` and PLUMED's files.

    Returns
    -------
    PlumedBias
        The bias as it stands at the end.

    Raises
    ------
    FileExistsError
        If the folder holds a run and ``restart`` is False.
    FileNotFoundError
        If there is no run to restart from.
    PlumedInputError
        If the PLUMED input cannot be used.
    StoppedBySignalError
        If SIGTERM or SIGINT came; all is saved.
    """
    settings = settings or RunSettings()
    folder = Path(folder)
    _require_folder(folder, restart)
    goes_on = restart and (folder / CHECKPOINT).exists()
    bias = PlumedBias(
        plumed_input,
        molecule.topology,
        temperature=settings.temperature,
        backend=settings.backend,
        directory=folder,
        restart=restart and not goes_on,
    )
    bias.add_to(molecule.system)
    simulation = _simulation(molecule, settings)
    folder.mkdir(parents=True, exist_ok=True)
    frames = FrameReporter(folder / "frames", settings.frames_every, bias, append=restart)
    keepers: dict[str, Keeper] = {"bias": bias, "frames": frames}
    if goes_on:
        restore_run(folder / CHECKPOINT, simulation, keepers)
    else:
        _begin(simulation, molecule, bias, frames, folder, settings, restart)
    _keep_checkpoints(simulation, keepers, folder, settings)
    end = _end_of(folder) if steps is None else simulation.currentStep + steps
    _write_record(folder, bias, settings, end)
    with between_steps() as raise_what_came:
        try:
            left = max(0, end - simulation.currentStep)
            run_steps(simulation, left, "biased MD", raise_what_came)
        finally:
            _save_end(simulation, keepers, folder)
            frames.close()
            bias.close()
    return bias


def _begin(
    simulation: app.Simulation,
    molecule: Molecule,
    bias: PlumedBias,
    frames: FrameReporter,
    folder: Path,
    settings: RunSettings,
    restart: bool,
) -> None:
    if restart:
        _load_state(simulation, folder / STATE)
    else:
        _write_start(folder, molecule, bias)
        simulation.context.setPositions(molecule.positions)
        simulation.minimizeEnergy()
        simulation.context.setVelocitiesToTemperature(settings.temperature, settings.seed)
    bias.attach(simulation)
    simulation.reporters.append(frames)


def _keep_checkpoints(
    simulation: app.Simulation, keepers: dict[str, Keeper], folder: Path, settings: RunSettings
) -> None:
    try:
        save_run(folder / CHECKPOINT, simulation, keepers)  # a run may end before the first
    except ValueError as why:  # PLUMED itself keeps the state of the bias
        logger.info("no checkpoints: %s", why)
        return
    every = settings.checkpoint_every
    simulation.reporters.append(RunCheckpointReporter(folder / CHECKPOINT, every, keepers))


def _save_end(simulation: app.Simulation, keepers: dict[str, Keeper], folder: Path) -> None:
    """Save where the run stands; what is not finite is not saved."""
    state = simulation.context.getState(positions=True, velocities=True)
    if not all(
        np.isfinite(x._value).all()
        for x in (state.getPositions(asNumpy=True), state.getVelocities(asNumpy=True))
    ):
        logger.warning("step %d is not finite and not saved", simulation.currentStep)
        return
    _save_state(simulation, folder / STATE)
    if (folder / CHECKPOINT).exists():
        save_run(folder / CHECKPOINT, simulation, keepers)


def run_steps(simulation: app.Simulation, steps: int, name: str, look: Callable[[], None]) -> None:
    """Run with a progress bar of steps, and a look after each piece of about half a second."""
    piece, done = max(1, min(steps // 100, 100)), 0
    with tqdm(total=steps, desc=name, unit=" steps", unit_scale=True, disable=None) as bar:
        while done < steps:
            started, n = time.perf_counter(), min(piece, steps - done)
            simulation.step(n)
            done += n
            bar.update(n)
            look()
            if time.perf_counter() - started < PIECE_SECONDS / 2:
                piece = min(2 * piece, 10_000)


def _require_folder(folder: Path, restart: bool) -> None:
    if restart and not ((folder / STATE).exists() or (folder / CHECKPOINT).exists()):
        raise FileNotFoundError(
            f"neither {folder / CHECKPOINT} nor {STATE} is there: nothing to restart from"
        )
    if not restart and (folder / "frames").exists():
        raise FileExistsError(
            f"{folder} holds a run already: continue it with restart, or take another folder"
        )


def _simulation(molecule: Molecule, settings: RunSettings) -> app.Simulation:
    integrator = openmm.LangevinMiddleIntegrator(
        settings.temperature, settings.friction, settings.timestep
    )
    integrator.setRandomNumberSeed(settings.seed)
    platform = settings.platform and platform_named(settings.platform)
    return app.Simulation(molecule.topology, molecule.system, integrator, platform or None)


def _write_start(folder: Path, molecule: Molecule, bias: PlumedBias) -> None:
    with (folder / "topology.pdb").open("w") as file:
        positions = molecule.positions * unit.nanometer
        app.PDBFile.writeFile(molecule.topology, positions, file, keepIds=True)
    (folder / "plumed.dat").write_text(bias.text)


def _write_record(folder: Path, bias: PlumedBias, settings: RunSettings, end: int) -> None:
    record = {**asdict(settings), "backend": bias.backend, "openmm": openmm.__version__}
    write_atomically(folder / RECORD, json.dumps({**record, "end_step": end}, indent=1) + "\n")


def _end_of(folder: Path) -> int:
    try:
        return int(json.loads((folder / RECORD).read_text())["end_step"])
    except (OSError, ValueError, KeyError, TypeError):
        raise ValueError(
            f"{folder / RECORD} does not say where the run was to end: give the number of steps"
        ) from None


def _load_state(simulation: app.Simulation, path: Path) -> None:
    """Positions, velocities, box, time and step; parameters are the bias's own to restore."""
    state = openmm.XmlSerializer.deserialize(path.read_text())
    context = simulation.context
    context.setPeriodicBoxVectors(*state.getPeriodicBoxVectors())
    context.setPositions(state.getPositions())
    context.setVelocities(state.getVelocities())
    context.setTime(state.getTime())
    simulation.currentStep = state.getStepCount()


def _save_state(simulation: app.Simulation, path: Path) -> None:
    with replacing(path) as unfinished:
        simulation.saveState(str(unfinished))
    logger.info("state at step %d saved to %s", simulation.currentStep, path)
