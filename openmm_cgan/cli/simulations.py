"""A biased run from files: structure, force field and PLUMED input in, frames out.

For whoever has no script of their own; a script does the same with OpenMM's objects (the example
of the README).
"""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import openmm
from openmm import app, unit
from tqdm import tqdm

from openmm_cgan.atomic_files import replacing
from openmm_cgan.plumed.bias import PlumedBias
from openmm_cgan.reporters import FrameReporter
from openmm_cgan.testsystems import Molecule

logger = logging.getLogger("openmm_cgan")

STATE = "state.xml"
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
    """

    temperature: float = 300.0
    friction: float = 1.0
    timestep: float = 0.002
    platform: str | None = None
    frames_every: int = 100
    backend: str = "auto"
    seed: int = 1


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
    if not Path(structure).is_file():
        raise FileNotFoundError(f"{structure}: no such structure file")
    pdb = app.PDBFile(str(structure))
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
    steps: int,
    folder: str | Path,
    settings: RunSettings | None = None,
    restart: bool = False,
) -> PlumedBias:
    """Run a molecule under a PLUMED input and keep its frames.

    The folder gets ``frames/``, what the input writes (COLVAR, HILLS ...), ``topology.pdb`` (the
    start), ``plumed.dat``, ``run.json`` (settings) and, when it ends or is interrupted,
    ``state.xml``.

    Parameters
    ----------
    molecule : Molecule
        Its System is changed: the bias is added.
    plumed_input : str or Path
        The input file, or its text if it contains a newline.
    steps : int
        Number of steps to run.
    folder : str or Path
        Where all files go.
    settings : RunSettings
    restart : bool
        Continue the run in ``folder`` from its state.

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
    """
    settings = settings or RunSettings()
    folder = Path(folder)
    _require_folder(folder, restart)
    bias = PlumedBias(
        plumed_input,
        molecule.topology,
        temperature=settings.temperature,
        backend=settings.backend,
        directory=folder,
        restart=restart,
    )
    bias.add_to(molecule.system)
    simulation = _simulation(molecule, settings)
    folder.mkdir(parents=True, exist_ok=True)
    if restart:
        _load_state(simulation, folder / STATE)
    else:
        _write_start(folder, molecule, bias, settings)
        simulation.context.setPositions(molecule.positions)
        simulation.minimizeEnergy()
        simulation.context.setVelocitiesToTemperature(settings.temperature, settings.seed)
    bias.attach(simulation)
    frames = FrameReporter(folder / "frames", settings.frames_every, bias, append=restart)
    simulation.reporters.append(frames)
    try:
        run_steps(simulation, steps, "biased MD")
    finally:
        frames.close()
        bias.close()
        _save_state(simulation, folder / STATE)
    return bias


def run_steps(simulation: app.Simulation, steps: int, name: str) -> None:
    """Run with a progress bar of steps."""
    piece = max(1, min(steps // 100, 10_000))
    with tqdm(total=steps, desc=name, unit=" steps", unit_scale=True, disable=None) as bar:
        for start in range(0, steps, piece):
            simulation.step(min(piece, steps - start))
            bar.update(min(piece, steps - start))


def _require_folder(folder: Path, restart: bool) -> None:
    if restart and not (folder / STATE).exists():
        raise FileNotFoundError(f"{folder / STATE} is not there: nothing to restart from")
    if not restart and (folder / "frames").exists():
        raise FileExistsError(
            f"{folder} holds a run already: continue it with restart, or take another folder"
        )


def _simulation(molecule: Molecule, settings: RunSettings) -> app.Simulation:
    integrator = openmm.LangevinMiddleIntegrator(
        settings.temperature, settings.friction, settings.timestep
    )
    integrator.setRandomNumberSeed(settings.seed)
    platform = settings.platform and openmm.Platform.getPlatformByName(settings.platform)
    return app.Simulation(molecule.topology, molecule.system, integrator, platform or None)


def _write_start(folder: Path, molecule: Molecule, bias: PlumedBias, settings: RunSettings) -> None:
    with (folder / "topology.pdb").open("w") as file:
        positions = molecule.positions * unit.nanometer
        app.PDBFile.writeFile(molecule.topology, positions, file, keepIds=True)
    (folder / "plumed.dat").write_text(bias.text)
    record = {**asdict(settings), "backend": bias.backend, "openmm": openmm.__version__}
    (folder / "run.json").write_text(json.dumps(record, indent=1) + "\n")


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
