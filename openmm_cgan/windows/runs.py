"""Windows are run, anywhere, and gone on with.

Each window is a folder (run_files.py says what is in it); the folder above is shared.  A worker
is given the name of a folder and nothing else, so any ``concurrent.futures.Executor`` will do.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from concurrent.futures import Executor, ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import openmm
from numpy.typing import ArrayLike
from openmm import app
from tqdm import tqdm

from openmm_cgan.atom_selection import selected_atoms
from openmm_cgan.atomic_files import write_atomically
from openmm_cgan.platforms import platform_word, platform_word_anywhere
from openmm_cgan.plumed.bias import PlumedBias
from openmm_cgan.quantities import nanometers
from openmm_cgan.signals import StoppedBySignalError, at_once
from openmm_cgan.topologies import openmm_topology
from openmm_cgan.windows.jobs import MAX_LOSSES, records_of
from openmm_cgan.windows.local_workers import LocalWorkers
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
from openmm_cgan.windows.windows import Window
from openmm_cgan.windows.worker import can_watch_isomers

logger = logging.getLogger("openmm_cgan")

MAY_CHANGE = ("steps", "retries")  # of the settings of a window that was begun
ANY = "any"  # platform that each worker chooses for itself


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


def run_windows(
    windows: Sequence[Window],
    system: openmm.System,
    topology: Any,
    executor: Executor | None = None,
    *,
    platform: str | None = None,
    reference: ArrayLike | None = None,
    threads: int = 1,
    max_losses: int = MAX_LOSSES,
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
        OpenMM platform, with properties or not (`platforms`); by default the one that
        `fastest_platform` measures here, "any" for what OpenMM chooses where the worker is.
    reference : array_like, shape (n_atoms, 3), optional
        The right molecule [nm], molecules whole: a window whose stereocentres or amides become
        others has failed. By default the start of the first window.
    threads : int
        Of the CPU platform, on each worker of an executor.
    max_losses : int
        How often in a row a window may lose its worker without having come further; then it has
        failed.

    Returns
    -------
    list of WindowResult
        In the order of `windows`.

    Raises
    ------
    ValueError
        Before anything is run: if windows share a folder or do not fit the system, a folder
        holds another window than the one to be run, there is no such platform, or the executor
        forks this process.
    StoppedBySignalError
        If a signal came.
    """
    topology = openmm_topology(topology)
    _require_no_fork(executor)
    if platform is not None:
        _platform_for(platform, executor)  # an error comes before anything is written
    root = prepare_windows(windows, system, topology, reference=reference)
    if platform is None:
        platform = fastest_platform(system, windows[0].positions)
    return run_prepared(
        [window.folder for window in windows], root, executor,
        platform=platform, threads=threads, max_losses=max_losses,
    )  # fmt: skip


def prepare_windows(
    windows: Sequence[Window],
    system: openmm.System,
    topology: Any,
    *,
    reference: ArrayLike | None = None,
) -> Path:
    """Write all that workers need, and look at what can be known before anything is run.

    Parameters
    ----------
    windows, system, topology, reference
        As for `run_windows`.

    Returns
    -------
    Path
        The folder of the windows.

    Raises
    ------
    ValueError
        If windows share a folder or do not fit the system, or a folder holds another window than
        the one to be run.
    """
    topology = openmm_topology(topology)
    root = _common_folder(windows, system, topology)
    for window in windows:
        if window.settings.atoms is not None:
            selected_atoms(topology, window.settings.atoms)
        _require_same_window(window)
    right = windows[0].positions if reference is None else nanometers(reference)
    write_shared(root, system, topology, right if can_watch_isomers(topology, right) else None)
    for window in windows:
        _prepare(window)
    return root


def run_prepared(
    folders: Sequence[str | Path],
    root: Path,
    executor: Executor | None = None,
    *,
    platform: str = ANY,
    threads: int = 1,
    max_losses: int = MAX_LOSSES,
) -> list[WindowResult]:
    """Run windows whose folders are written, or go on with them.

    Parameters
    ----------
    folders : sequence of str or Path
        Of the windows.
    root : Path
        The folder above.
    executor, platform, threads, max_losses
        As for `run_windows`.

    Returns
    -------
    list of WindowResult
        In the order of `folders`.

    Raises
    ------
    FileNotFoundError
        If a folder is no window.
    ValueError
        If there is no such platform: here, or anywhere where workers may be on other machines. If
        the executor forks this process.
    StoppedBySignalError
        If a signal came.
    """
    _require_no_fork(executor)
    name = _platform_for(platform, executor)
    places = [str(Path(folder).resolve()) for folder in folders]
    made = records_of(places, name, None if executor is None else threads, executor, max_losses)
    try:
        with at_once():
            bar = tqdm(made, total=len(places), desc="windows", unit="window", disable=None)
            records = dict(bar)
    except StoppedBySignalError as stopped:
        logger.warning("%s", stopped.told(root, "the same again"))
        raise
    results = [
        WindowResult(Path(f), records[g]["status"], records[g]["step"], records[g]["error"])
        for f, g in zip(folders, places, strict=True)
    ]
    failed = [result for result in results if result.status == "failed"]
    for result in failed:
        logger.error("%s failed at step %d: %s", result.folder, result.step, result.error)
    logger.info("%d windows finished, %d failed", len(results) - len(failed), len(failed))
    return results


def _require_no_fork(executor: Executor | None) -> None:
    """See that workers are no copies of this process, without the threads that hold its locks."""
    if not isinstance(executor, ProcessPoolExecutor):
        return
    context = executor._mp_context
    if context is not None and context.get_start_method() == "fork":
        raise ValueError(
            "the executor forks this process, and a copy without the threads of torch and OpenMM "
            "may wait for ever for a lock that one of them held; expected processes of their own: "
            "openmm_cgan.windows.LocalWorkers(n), or ProcessPoolExecutor(n, "
            'multiprocessing.get_context("spawn"))'
        )


def _platform_for(name: str, executor: Executor | None) -> str | None:
    """A platform as workers are told it; None where each takes what OpenMM chooses."""
    if name == ANY:
        return None
    if executor is None or isinstance(executor, LocalWorkers | ProcessPoolExecutor):
        return platform_word(name)
    return platform_word_anywhere(name)


def folders_of(root: Path) -> list[Path]:
    """The windows in a folder, in order.

    Raises
    ------
    FileNotFoundError
        If there is none.
    """
    found = sorted(path.parent for path in root.glob(f"*/{RECORD}"))
    if not found:
        raise FileNotFoundError(f"{root} holds no umbrella windows")
    return found


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
        "heal": window.heal,
        **asdict(window.settings),
        "seed": window.seed,
    }


def _require_same_window(window: Window) -> None:
    """A folder that was begun goes on only as the window that it is; it may become longer."""
    if not (window.folder / RECORD).exists():
        return
    old, new = read_record(window.folder), _new_record(window)
    for name in new.keys() - {"status", "step", "attempts", "error", "heal", *MAY_CHANGE}:
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
