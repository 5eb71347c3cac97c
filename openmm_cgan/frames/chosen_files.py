"""Which files hold the frames that are asked for."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from openmm_cgan.frames.h5md import open_segment, read_header
from openmm_cgan.frames.segments import flush_writers
from openmm_cgan.frames.set_aside import PATTERN
from openmm_cgan.quantities import same_temperature
from openmm_cgan.run_folders import require_each_once


def segment_files(paths: str | Path | Sequence[str | Path]) -> list[Path]:
    """Expand folders to their segment files, in order; rows still in memory are written first.

    Raises
    ------
    FileNotFoundError, ValueError
        If a folder holds none, or a file is named twice: its frames would count twice.
    """
    files: list[Path] = []
    for path in [paths] if isinstance(paths, str | Path) else paths:
        path = Path(path).resolve()
        flush_writers(path)
        found = sorted(path.glob(PATTERN)) if path.is_dir() else [path]
        if not found:
            raise FileNotFoundError(f"{path} holds no {PATTERN}: no frames have been written there")
        files += found
    if not files:
        raise ValueError("no paths were given")
    require_each_once(files)
    return files


def of_temperature(
    files: list[Path], temperature: float | None
) -> tuple[list[Path], tuple[float, ...]]:
    """The files of one temperature, and those that do not say theirs.

    Returns
    -------
    list of Path
    tuple of float
        Other temperatures [K] of their folders, increasing: those of a run that changed its own.
    """
    if temperature is None:
        return files, ()
    kept, others = list[Path](), list[tuple[Path, float]]()
    for path in files:
        with open_segment(path) as file:
            theirs = read_header(file).temperature
        if theirs is None or same_temperature(theirs, temperature):
            kept.append(path)
        else:
            others.append((path.parent, theirs))
    if not kept:
        there = ", ".join(f"{kelvins:g}" for kelvins in sorted({own for _, own in others}))
        raise ValueError(f"no frames are at {temperature:g} K; there are some at {there} K")
    folders = {path.parent for path in kept}
    return kept, tuple(sorted({own for folder, own in others if folder in folders}))
