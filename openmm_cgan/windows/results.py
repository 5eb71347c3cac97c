"""What windows have sampled, read from their folders: arrays for `free_energy`."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from openmm_cgan.collective_variable import why_other_cvs
from openmm_cgan.frames import Frames, read_frames, tell_of_systems
from openmm_cgan.plumed.bias import PlumedBias
from openmm_cgan.proposals import cv_differences
from openmm_cgan.reporters.settling import LOOKS, settled_after
from openmm_cgan.run_folders import require_each_once
from openmm_cgan.windows.run_files import FRAMES, INPUT, read_record

if TYPE_CHECKING:
    from openmm_cgan.free_energy.samples import BiasedFrames

logger = logging.getLogger("openmm_cgan")

LEAST_WINDOWS, LEAST_FRAMES = 10, 4  # for a drift to show


def read_windows(folders: Sequence[str | Path]) -> list[BiasedFrames]:
    """Read window folders as `run_windows` leaves them; settle windows are left out.

    Windows marked as failed and windows without frames are left out too, with a warning. One more
    says where what is left still drifts, by `unsettled_share`.

    Parameters
    ----------
    folders : sequence of str or Path
        One for each window.

    Returns
    -------
    list of BiasedFrames
        CVs, shape (n_frames, n_cvs) [CV units], with the bias of the window's PLUMED input as a
        function of them [kJ/mol]; each is named by its folder.

    Raises
    ------
    FileNotFoundError
        If a folder is no window.
    ValueError
        If the frames' CVs are not those of the window's PLUMED input, a folder is given twice, or
        nothing is left.
    """
    windows = [
        _with_bias(folder, frames, float(record["temperature"]))
        for folder, record, frames in _usable(folders, positions=False)
    ]
    _warn_of_drift(windows)
    return windows


def unsettled_share(windows: Sequence[BiasedFrames]) -> float:
    """Which part of the windows' frames, from the first one on, is not like the later ones.

    By the rule of `SettleWatch`, for CVs and bias energy in place of a run's energies, and windows
    in place of injections: each is measured against its own second half, and what they have in
    common is a drift. What differs from window to window does not show.

    Parameters
    ----------
    windows : sequence of BiasedFrames
        Of the same CVs; ten or more of at least four frames, of fewer it cannot be told.

    Returns
    -------
    float
        0 where nothing drifts, or it cannot be told; 1 where all of it does.
    """
    long = [window for window in windows if len(window.cvs) >= LEAST_FRAMES]
    if len(long) < LEAST_WINDOWS:
        return 0.0
    n_looks = min(LOOKS, min(len(window.cvs) for window in long))
    looks = settled_after(np.array([_looks_at(window, n_looks) for window in long]))
    return 1.0 if looks is None else looks / n_looks


def _looks_at(window: BiasedFrames, n_looks: int) -> NDArray[np.float64]:
    """CVs, as differences from the last, and bias (n_looks, n_cvs + 1): means of equal parts."""
    moved = cv_differences(window.variables, window.cvs[-1], window.cvs)
    values = np.column_stack([moved, window.bias(window.cvs)])
    return np.array([part.mean(axis=0) for part in np.array_split(values, n_looks)])


def _warn_of_drift(windows: Sequence[BiasedFrames]) -> None:
    share = unsettled_share(windows)
    if share > 0:
        logger.warning(
            "%s of the %d windows are not like the later ones, on their mean: the settle window "
            "was given (settle_steps), not measured, and is too short by that%s",
            "all frames" if share == 1 else f"the first {share:.0%} of the frames", len(windows),
            "; run longer" if share == 1 else "",
        )  # fmt: skip


def read_window_frames(folders: Sequence[str | Path]) -> list[Frames]:
    """The frames of the windows that `read_windows` returns, in the same order, with positions.

    Parameters
    ----------
    folders, and what is raised
        As of `read_windows`.

    Returns
    -------
    list of Frames
        `openmm_cgan.closures.of_samples` picks those that weighted samples are.
    """
    return [frames for _, _, frames in _usable(folders)]


def _usable(
    folders: Sequence[str | Path], positions: bool = True
) -> list[tuple[Path, dict[str, Any], Frames]]:
    """The windows with frames: folder, record, and frames after the settle window."""
    require_each_once(folders)
    windows = []
    for folder in map(Path, folders):
        record = read_record(folder)
        if record.get("status") == "failed":
            logger.warning("%s is left out: %s", folder, record.get("error"))
            continue
        frames = _settled_frames(folder, positions)
        if frames is None or len(frames) == 0:
            logger.warning("%s is left out: it has no frames after its settle window", folder)
            continue
        windows.append((folder, record, frames))
    if not windows:
        raise ValueError(f"no window with frames among {len(folders)} folders")
    tell_of_systems([frames for *_, frames in windows], [folder for folder, *_ in windows])
    return windows


def _settled_frames(folder: Path, positions: bool) -> Frames | None:
    """The frames of a window after its settle window, None where none has been written."""
    frames = folder / FRAMES
    return read_frames(frames, positions=positions) if any(frames.glob("*.h5md")) else None


def _with_bias(folder: Path, frames: Frames, temperature: float) -> BiasedFrames:
    """The frames of a window with the bias of its PLUMED input."""
    bias = PlumedBias(folder / INPUT, temperature=temperature)
    if why := why_other_cvs(frames.variables, bias.variables):
        raise ValueError(
            f"{folder}: frames of {[v.name for v in frames.variables]}, but {INPUT} biases "
            f"{[v.name for v in bias.variables]}: {why}; was the input edited after the run?"
        )
    from openmm_cgan.free_energy.samples import BiasedFrames  # a third of a second for scipy

    return BiasedFrames(frames.cvs, bias.bias_of_cvs, temperature, frames.variables, str(folder))
