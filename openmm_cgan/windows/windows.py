"""Umbrella windows: made from a template, started from seeds or dragged, run anywhere, resumable.

Each window is a folder (run_files.py says what is in it); the folder above is shared.  A worker
is given the name of a folder and nothing else, so any ``concurrent.futures.Executor`` will do, or
an array of batch jobs that each call `run_window`.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import asdict, dataclass
from pathlib import Path
from string import Template
from typing import Any

import numpy as np
import openmm
from numpy.typing import ArrayLike, NDArray
from openmm import app, unit
from tqdm import tqdm

from openmm_cgan.atom_selection import check_selection, selected_atoms
from openmm_cgan.atomic_files import write_atomically
from openmm_cgan.platforms import platform_named
from openmm_cgan.plumed.bias import PlumedBias
from openmm_cgan.plumed.input.language import lines_of, read_text
from openmm_cgan.quantities import nanometers, number_of_steps, numbers_of, positive
from openmm_cgan.short_reprs import short_repr
from openmm_cgan.signals import StoppedBySignalError, at_once
from openmm_cgan.topologies import openmm_topology
from openmm_cgan.windows.jobs import records_of
from openmm_cgan.windows.platforms import fastest_platform
from openmm_cgan.windows.run_files import (
    INPUT,
    RECORD,
    START,
    read_record,
    write_array,
    write_record,
    write_shared,
)
from openmm_cgan.windows.worker import can_watch_isomers

logger = logging.getLogger("openmm_cgan")

MAY_CHANGE = ("steps", "retries")  # of the settings of a window that was begun


@dataclass(frozen=True)
class WindowSettings:
    """How windows are run; the same for all.

    Parameters
    ----------
    temperature : float or Quantity
        [K]
    steps : int
        Length of each window, its settle window included.
    settle_steps : int
        Frames of the first so many steps are marked as settling; analysis leaves them out.
    report_interval : int
        Steps between frames.
    checkpoint_interval : int
        Steps between checkpoints: what a killed run repeats at most.
    timestep, friction : float or Quantity
        Of the LangevinMiddleIntegrator [ps, 1/ps].
    backend : str
        Of the PlumedBias.
    seed : int
        The seeds of the windows are drawn from this one.
    retries : int
        How often a window goes back to its last checkpoint, with new velocities, where a position
        becomes infinite or NaN; then it has failed.
    atoms : str, optional
        What frames hold: a selection of MDAnalysis, as FrameReporter takes it.
    """

    temperature: float | unit.Quantity
    steps: int
    settle_steps: int
    report_interval: int = 100
    checkpoint_interval: int = 50_000
    timestep: float | unit.Quantity = 0.002
    friction: float | unit.Quantity = 1.0
    backend: str = "auto"
    seed: int = 0
    retries: int = 0
    atoms: str | None = None

    def __post_init__(self) -> None:
        check_selection(self.atoms)
        for name, bare in (("temperature", "K"), ("timestep", "ps"), ("friction", "1/ps")):
            object.__setattr__(self, name, positive(vars(self)[name], bare, name))
        for name in ("report_interval", "checkpoint_interval", "steps"):
            number_of_steps(vars(self)[name], name)
        number_of_steps(self.settle_steps, "settle_steps", least=0)
        if not 0 <= self.settle_steps < self.steps:
            raise ValueError(
                f"settle_steps is {self.settle_steps} and steps {self.steps}, expected "
                "0 <= settle_steps < steps: frames are left for the analysis only after settling"
            )


@dataclass(frozen=True, repr=False)
class Window:
    """One window before it is run.

    Parameters
    ----------
    folder : Path
        Its own folder; the folder above is shared by the windows of a run.
    plumed : str
        PLUMED input.
    positions : ndarray, shape (n_atoms, 3)
        Where it starts [nm].
    centre : dict of str to float
        What the placeholders of the template were replaced by.
    origin : str
        Where the start comes from: "seeded", "dragged" ...
    seed : int
        Of its velocities and its thermostat.
    settings : WindowSettings
    box : ndarray, shape (3, 3), optional
        Box vectors of the start [nm], the System's by default.
    """

    folder: Path
    plumed: str
    positions: NDArray[np.float64]
    centre: dict[str, float]
    origin: str
    seed: int
    settings: WindowSettings
    box: NDArray[np.float64] | None = None

    __repr__ = short_repr


@dataclass(frozen=True)
class WindowResult:
    """What became of a window.

    Attributes
    ----------
    folder : Path
    status : str
        "finished" or "failed".
    step : int
        How far it got.
    error : str
        Why it failed, empty if it did not.
    """

    folder: Path
    status: str
    step: int
    error: str


def umbrella_windows(
    template: str | Path,
    centres: ArrayLike,
    positions: ArrayLike,
    settings: WindowSettings,
    folder: str | Path,
    origin: str,
) -> list[Window]:
    """Make windows from a PLUMED input with placeholders for the centre.

    Parameters
    ----------
    template : str or Path
        PLUMED input, or its file, with `string.Template` placeholders such as ``AT=${phi},${psi}``.
    centres : array_like, shape (n, n_placeholders)
        One row to a window, columns in the order in which the placeholders first appear
        [units of the input].
    positions : array_like, shape (n, n_atoms, 3)
        Where each window starts [nm]: proposals, or what `drag` returned.
    settings : WindowSettings
    folder : str or Path
        The windows become ``folder/window-000`` ...
    origin : str
        Where the starts come from: "seeded", "dragged" ...

    Returns
    -------
    list of Window

    Raises
    ------
    ValueError
        If shapes do not fit the template or each other.

    Examples
    --------
    >>> settings = WindowSettings(300.0, steps=1000, settle_steps=100)
    >>> text = "d: DISTANCE ATOMS=1,2\\nRESTRAINT ARG=d AT=${d} KAPPA=100\\n"
    >>> starts = np.zeros((2, 2, 3))
    >>> windows = umbrella_windows(text, [[0.2], [0.3]], starts, settings, "run", "given")
    >>> windows[1].centre, windows[1].plumed.splitlines()[1]
    ({'d': 0.3}, 'RESTRAINT ARG=d AT=0.3 KAPPA=100')
    """
    text, source = read_text(template)
    # comments may speak of dollars
    bare = Template("\n".join(line.split("#", 1)[0] for line in lines_of(text)))
    names = bare.get_identifiers() if bare.is_valid() else []
    if not names:
        raise ValueError(f"{source} has no placeholder such as ${{phi}} for the centre of a window")
    centres, positions = numbers_of(centres, "centres"), nanometers(positions)
    if centres.ndim != 2 or centres.shape[1] != len(names):
        raise ValueError(
            f"centres has shape {centres.shape}, expected (n, {len(names)}): one column for each "
            f"of the placeholders {', '.join(names)}"
        )
    if positions.ndim != 3 or positions.shape[0] != len(centres) or positions.shape[2] != 3:
        raise ValueError(
            f"positions has shape {positions.shape}, expected ({len(centres)}, n_atoms, 3)"
        )
    seeds = np.random.default_rng(settings.seed).integers(1, 2**31 - 1, len(centres))
    windows = []
    for i, (row, start) in enumerate(zip(centres, positions, strict=True)):
        centre = {name: float(value) for name, value in zip(names, row, strict=True)}
        plumed = bare.substitute({name: repr(value) for name, value in centre.items()}) + "\n"
        path = Path(folder) / f"window-{i:03d}"
        windows.append(Window(path, plumed, start, centre, origin, int(seeds[i]), settings))
    return windows


def run_windows(
    windows: Sequence[Window],
    system: openmm.System,
    topology: Any,
    executor: Executor | None = None,
    *,
    platform: str | None = None,
    reference: ArrayLike | None = None,
) -> list[WindowResult]:
    """Run windows, here or on the workers of an executor; continue those that were begun.

    Call it again after a kill: finished windows are passed over, the others go on from their
    checkpoints. SIGTERM and SIGINT have those that run saved first. A window that fails does not
    stop the others, nor does a worker that dies: its window goes on with another one.

    Parameters
    ----------
    windows : sequence of Window
        All in folders of one folder, which gets the shared files.
    system : openmm.System
        Without the PLUMED bias, which each window adds to its own copy.
    topology : openmm.app.Topology, or what `openmm_topology` finds one in
    executor : concurrent.futures.Executor, optional
        Its workers must see the folder. None: one after the other, here.
    platform : str, optional
        OpenMM platform; by default the one that `fastest_platform` measures here.
    reference : array_like, shape (n_atoms, 3), optional
        The right molecule [nm], molecules whole: a window whose stereocentres or amides become
        others has failed. By default the start of the first window.

    Returns
    -------
    list of WindowResult
        In the order of `windows`.

    Raises
    ------
    ValueError
        Before anything is run: if windows share a folder or do not fit the system, or a folder
        holds another window than the one to be run.
    StoppedBySignalError
        If a signal came.
    """
    topology = openmm_topology(topology)
    root = _common_folder(windows, system, topology)
    platform = (
        platform_named(platform).getName()
        if platform
        else fastest_platform(system, windows[0].positions)
    )
    for window in windows:
        if window.settings.atoms is not None:
            selected_atoms(topology, window.settings.atoms)
        _require_same_window(window)
    right = windows[0].positions if reference is None else nanometers(reference)
    write_shared(root, system, topology, right if can_watch_isomers(topology, right) else None)
    for window in windows:
        _prepare(window)
    folders = [str(window.folder) for window in windows]
    threads = 1 if executor is not None else None
    made = records_of(folders, platform, threads, executor)
    try:
        with at_once():
            bar = tqdm(made, total=len(folders), desc="windows", unit="window", disable=None)
            records = dict(bar)
    except StoppedBySignalError as stopped:
        logger.warning("%s; all is saved in %s: run_windows again goes on", stopped, root)
        raise
    results = [
        WindowResult(Path(f), records[f]["status"], records[f]["step"], records[f]["error"])
        for f in folders
    ]
    failed = [result for result in results if result.status == "failed"]
    for result in failed:
        logger.error("%s failed at step %d: %s", result.folder, result.step, result.error)
    logger.info("%d windows finished, %d failed", len(results) - len(failed), len(failed))
    return results


def _common_folder(
    windows: Sequence[Window], system: openmm.System, topology: app.Topology
) -> Path:
    if not windows:
        raise ValueError("there are no windows to run")
    folders = [window.folder.resolve() for window in windows]
    if len(set(folders)) < len(folders) or len({folder.parent for folder in folders}) > 1:
        raise ValueError("windows need a folder each, all in one folder")
    shape = (system.getNumParticles(), 3)
    if topology.getNumAtoms() != shape[0]:
        raise ValueError(
            f"the topology has {topology.getNumAtoms()} atoms, the system {shape[0]} particles"
        )
    for window in windows:
        if window.positions.shape != shape or not np.isfinite(window.positions).all():
            raise ValueError(
                f"{window.folder} starts from positions of shape {window.positions.shape}, "
                f"expected finite ones of shape {shape}"
            )
        PlumedBias(
            window.plumed,
            topology,
            temperature=window.settings.temperature,
            backend=window.settings.backend,
        )
    return folders[0].parent


def _new_record(window: Window) -> dict[str, Any]:
    start = np.ascontiguousarray(window.positions, dtype=float)
    return {
        "format": 1,
        "status": "prepared",
        "step": 0,
        "attempts": 0,
        "error": "",
        "origin": window.origin,
        "centre": window.centre,
        "box": None if window.box is None else np.asarray(window.box, dtype=float).tolist(),
        "start_sha256": hashlib.sha256(start.tobytes()).hexdigest(),
        "plumed_sha256": hashlib.sha256(window.plumed.encode()).hexdigest(),
        **asdict(window.settings),
        "seed": window.seed,
    }


def _require_same_window(window: Window) -> None:
    """A folder that was begun goes on only as the window that it is; it may become longer."""
    if not (window.folder / RECORD).exists():
        return
    old, new = read_record(window.folder), _new_record(window)
    for name in new.keys() - {"status", "step", "attempts", "error", *MAY_CHANGE}:
        if old.get(name) != new[name]:
            raise ValueError(
                f"{window.folder} holds another window: its {name} is {old.get(name)}, now "
                f"{new[name]}. Give another folder, or remove this one"
            )


def _prepare(window: Window) -> None:
    """Write the folder of a window, or only how long it is to be if it was begun."""
    if (window.folder / RECORD).exists():
        record = read_record(window.folder)
        wanted = {name: asdict(window.settings)[name] for name in MAY_CHANGE}
        if wanted != {name: record.get(name) for name in MAY_CHANGE}:
            write_record(window.folder, record | wanted)
        return
    window.folder.mkdir(parents=True, exist_ok=True)
    write_atomically(window.folder / INPUT, window.plumed)
    write_array(window.folder / START, np.asarray(window.positions, dtype=float))
    write_record(window.folder, _new_record(window))
