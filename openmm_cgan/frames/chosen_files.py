"""Which files hold the frames that are asked for."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from openmm_cgan.frames.h5md import open_segment, read_header
from openmm_cgan.frames.segments import flush_writers
from openmm_cgan.frames.set_aside import PATTERN
from openmm_cgan.quantities import same_temperature


def segment_files(paths: str | Path | Sequence[str | Path]) -> list[Path]:
    """Expand folders to their segment files, in order; rows still in memory are written first."""
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
    return files


def of_temperature(files: list[Path], temperature: float | None) -> list[Path]:
    """The files of one temperature, and those that do not say theirs."""
    if temperature is None:
        return files
    kept, others = list[Path](), set[float]()
    for path in files:
        with open_segment(path) as file:
            theirs = read_header(file).temperature
        if theirs is None or same_temperature(theirs, temperature):
            kept.append(path)
        else:
            others.add(theirs)
    if not kept:
        there = ", ".join(f"{kelvins:g}" for kelvins in sorted(others))
        raise ValueError(f"no frames are at {temperature:g} K; there are some at {there} K")
    return kept
