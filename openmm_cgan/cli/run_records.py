"""What a run from files is asked for, and what its folder says of that to who goes on with it."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import openmm
from openmm import app

from openmm_cgan.atom_selection import check_selection, solute_atoms
from openmm_cgan.atomic_files import write_atomically
from openmm_cgan.json_files import read_json, write_json
from openmm_cgan.plumed.input.moved import text_elsewhere
from openmm_cgan.run_folders import BONDS, COMMANDS, INPUT, RECORD, SYSTEM, TOPOLOGY
from openmm_cgan.topology_records import told_apart, topology_record

if TYPE_CHECKING:
    from openmm import unit

    from openmm_cgan.plumed.bias import PlumedBias
    from openmm_cgan.testsystems import Molecule

# What cannot change within a run, by the options of the command
KEPT = {
    "temperature": "--temperature",
    "friction": "friction",
    "timestep": "--timestep",
    "frames_every": "--frames-every",
    "atoms": "--atoms",
}


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
        OpenMM's platform, or a word with properties (`platforms`); None: the one that makes the
        most steps a second, by trying (small molecules in vacuum run several times faster on
        Reference than on CPU). A run that goes on stays on its own.
    frames_every : int
        Steps between two frames.
    backend : str
        Of the PlumedBias.
    seed : int
        Of the thermostat and of the first velocities.
    checkpoint_every : int
        Steps between two checkpoints.
    atoms : str or None
        Whose positions are kept: a selection of MDAnalysis, as FrameReporter takes it.
    model : Path or None
        A ConditionalGenerator's file: what it makes is proposed to the run.
    proposals_every : int
        Steps between two proposals.
    mode : str
        Of the ProposalReporter.
    device : str
        Of torch, that the model makes them on.
    retries : int
        How often the run goes back to its last good checkpoint, with new velocities, where a
        position becomes infinite or NaN; then it stops.
    """

    temperature: float = 300.0
    friction: float = 1.0
    timestep: float = 0.002
    platform: str | None = None
    frames_every: int = 100
    backend: str = "auto"
    seed: int = 1
    checkpoint_every: int = 10_000
    retries: int = 0
    atoms: str | None = None
    model: Path | None = None
    proposals_every: int = 500
    mode: str = "auto"
    device: str = "cpu"

    def __post_init__(self) -> None:
        check_selection(self.atoms)


def is_begun(folder: Path) -> bool:
    """Whether a folder holds a run that can go on, if only from its beginning."""
    return (folder / RECORD).exists()


def told_of_part(molecule: Molecule, settings: RunSettings) -> str:
    """What cannot be done with the frames that are kept by default, in words; empty if all can."""
    n_atoms = molecule.system.getNumParticles()
    if settings.atoms is not None or not molecule.system.usesPeriodicBoundaryConditions():
        return ""
    n_kept = len(solute_atoms(molecule.topology))
    if n_kept == n_atoms:
        return ""
    return (
        f"frames keep the solute, {n_kept} of {n_atoms} atoms: windows start from frames of all, "
        "and a part of it is refined among all (--atoms all)"
    )


def require_same_settings(folder: Path, settings: RunSettings) -> None:
    """Refuse to go on with a run in another way than it was begun.

    Raises
    ------
    ValueError
        With the option that differs, before anything is changed.
    """
    record = read_json(folder / RECORD) if is_begun(folder) else {}
    for name, option in KEPT.items():
        now = getattr(settings, name)
        if name in record and record[name] != now:
            raise ValueError(
                f"the run in {folder} was begun with {option} {record[name]}, not {now}: give that "
                "to go on with it, or another folder for another run"
            )
    if settings.model is not None and record.get("model", "") is None:
        raise ValueError(
            f"the run in {folder} was begun without --model, and goes on without: take another "
            "folder for a run with proposals"
        )


def begun_otherwise(folder: Path, what: str) -> str:
    """That a run cannot go on with another System, integrator or input, and with which it does."""
    kept = {
        "System": f"its structure, force field and their options stand in {folder / COMMANDS}, and "
        f"what they made is kept: {folder / TOPOLOGY} --system {folder / SYSTEM}",
        "integrator": f"its temperature, friction and time step stand in {folder / RECORD}",
        "input": f"it is kept: --plumed {folder / INPUT}",
    }
    return (
        f"the run in {folder} was begun with another {what}: go on with that ({kept[what]}), or "
        "take another folder for another run"
    )


def write_start(folder: Path, topology: Any, positions: unit.Quantity, bias: PlumedBias) -> None:
    """Write where a run starts, in Topology and positions, and its input."""
    write_json(folder / BONDS, topology_record(topology))
    with (folder / TOPOLOGY).open("w") as file:
        app.PDBFile.writeFile(told_apart(topology), positions, file, keepIds=True)
    text = text_elsewhere(bias.text, bias.source, bias.directory, home=folder)
    (folder / INPUT).write_text(text)


def write_record(folder: Path, bias: PlumedBias, settings: RunSettings, end: int) -> None:
    """Write how a run is made, and at which step it is to end."""
    record = {
        **asdict(settings),
        "model": settings.model and str(settings.model),
        "backend": bias.backend,
        "openmm": openmm.__version__,
    }
    write_atomically(folder / RECORD, json.dumps({**record, "end_step": end}, indent=1) + "\n")


def end_of(folder: Path) -> int:
    """The step at which a run was to end; ValueError if its record does not say."""
    try:
        return int(json.loads((folder / RECORD).read_text())["end_step"])
    except (OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError):
        raise ValueError(
            f"{folder / RECORD} does not say where the run was to end: give the number of steps"
        ) from None
