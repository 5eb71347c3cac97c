"""What windows have sampled, read from their folders: arrays for `free_energy`."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from openmm_cgan.frames import Frames, read_frames
from openmm_cgan.free_energy.samples import BiasedFrames
from openmm_cgan.plumed.bias import PlumedBias
from openmm_cgan.windows.run_files import FRAMES, INPUT, read_record

logger = logging.getLogger("openmm_cgan")


def read_windows(folders: Sequence[str | Path]) -> list[BiasedFrames]:
    """Read window folders as `run_windows` leaves them; settle windows are left out.

    Windows marked as failed and windows without frames are left out too, with a warning.

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
        If the frames' CVs are not those of the window's PLUMED input, or nothing is left.
    """
    return [
        _with_bias(folder, frames, float(record["temperature"]))
        for folder, record, frames in _usable(folders, positions=False)
    ]


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
    return windows


def _settled_frames(folder: Path, positions: bool) -> Frames | None:
    """The frames of a window after its settle window, None where none has been written."""
    frames = folder / FRAMES
    return read_frames(frames, positions=positions) if any(frames.glob("*.h5md")) else None


def _with_bias(folder: Path, frames: Frames, temperature: float) -> BiasedFrames:
    """The frames of a window with the bias of its PLUMED input."""
    bias = PlumedBias(folder / INPUT, temperature=temperature)
    names = [v.name for v in frames.variables]
    if names != [v.name for v in bias.variables]:
        raise ValueError(
            f"{folder}: frames of {names}, but {INPUT} biases "
            f"{[v.name for v in bias.variables]}; was the input edited after the run?"
        )
    return BiasedFrames(frames.cvs, bias.bias_of_cvs, temperature, frames.variables, str(folder))
