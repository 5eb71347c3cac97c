"""What a folder holds: runs, windows, models, records; looked for by their files."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from openmm_cgan.atomic_files import require_readable
from openmm_cgan.frames import Frames, read_frames
from openmm_cgan.frames.h5md import SegmentHeader, open_segment, read_header
from openmm_cgan.frames.set_aside import PATTERN
from openmm_cgan.json_files import read_json
from openmm_cgan.run_folders import FRAMES, INPUT, PROPOSALS, RECORD
from openmm_cgan.short_reprs import short_repr
from openmm_cgan.windows.run_files import RECORD as WINDOW
from openmm_cgan.windows.run_files import number_of_windows, read_record

DEPTH = 2  # folders below the one that is asked for
MOST_FOLDERS = 20_000
MAX_CSV_BYTES = 256 * 1024**2
SUMMARY, DEMO, DECISIONS = "summary.json", "demo.json", "decisions.csv"


@dataclass(frozen=True, repr=False)
class RunFound:
    """A folder with frames, of `openmm-cgan run` or of a script.

    Attributes
    ----------
    folder : Path
    """

    folder: Path

    __repr__ = short_repr

    @cached_property
    def frames(self) -> Frames:
        """Its frames without positions, settle windows left out."""
        return self.all_frames.select(~self.all_frames.settling)

    @cached_property
    def all_frames(self) -> Frames:
        """Its frames without positions, settle windows too; at the temperature that it began with.

        A run whose temperature changed has others, which `Frames.other_temperatures` tells.
        """
        return read_frames(
            self.folder / FRAMES,
            settling=True,
            positions=False,
            temperature=self.header.temperature,
        )

    @cached_property
    def header(self) -> SegmentHeader:
        """What its first file of frames says of all."""
        with open_segment(min((self.folder / FRAMES).glob(PATTERN))) as file:
            return read_header(file)

    @property
    def record(self) -> dict[str, Any]:
        """Its settings, empty where a script ran it."""
        path = self.folder / RECORD
        return read_json(path) if path.is_file() else {}

    @cached_property
    def input_text(self) -> str:
        """Its PLUMED input."""
        path = self.folder / INPUT
        if path.is_file():
            require_readable(path, MAX_CSV_BYTES)
            return path.read_text(encoding="utf-8", errors="replace")
        return self.header.plumed_input

    @cached_property
    def proposals(self) -> list[dict[str, str]]:
        """Rows of its proposals.csv, none where there is no such file."""
        path = self.folder / PROPOSALS
        return read_rows(path) if path.is_file() else []


@dataclass(frozen=True, repr=False)
class WindowsFound:
    """A folder of umbrella windows.

    Attributes
    ----------
    folder : Path
    windows : tuple of Path
        The folder of each.
    """

    folder: Path
    windows: tuple[Path, ...]

    __repr__ = short_repr

    @cached_property
    def records(self) -> list[dict[str, Any]]:
        """The record of each window."""
        return [read_record(window) for window in self.windows]

    @cached_property
    def number(self) -> int:
        """How many windows, however many runs each has."""
        return number_of_windows(self.records)


@dataclass(frozen=True, repr=False)
class Found:
    """What a folder holds.

    Attributes
    ----------
    folder : Path
        That was asked for; of a model file the folder that it lies in.
    runs : tuple of RunFound
    windows : tuple of WindowsFound
    models : tuple of Path
        Files that may be models.
    """

    folder: Path
    runs: tuple[RunFound, ...] = ()
    windows: tuple[WindowsFound, ...] = ()
    models: tuple[Path, ...] = ()

    __repr__ = short_repr

    @property
    def summary(self) -> dict[str, Any]:
        """The summary.json of a demo, empty where there is none."""
        path = self.folder / SUMMARY
        return read_json(path) if path.is_file() else {}

    @property
    def decisions(self) -> list[dict[str, str]]:
        """Rows of decisions.csv, none where there is no such file."""
        path = self.folder / DECISIONS
        return read_rows(path) if path.is_file() else []

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing that a page could show."""
        return not (self.runs or self.windows or self.models or self.summary or self.decisions)

    def name_of(self, path: Path) -> str:
        """A path in words, from the folder that was asked for."""
        if path == self.folder:
            return self.folder.name
        inside = path.is_relative_to(self.folder)
        return str(path.relative_to(self.folder)) if inside else path.name


def find(path: Path) -> Found:
    """Look through a folder, and the folders in it, or take a model file alone.

    Raises
    ------
    FileNotFoundError
        If it is not there, or holds nothing to report on.
    """
    path = Path(path).resolve()
    if path.is_file():
        return Found(path.parent, models=(path,))
    if not path.is_dir():
        raise FileNotFoundError(f"{path} is not there: give the folder of a run, windows or a demo")
    runs, windows, models = [], [], []
    for folder in _folders(path):
        inside = tuple(sorted(p.parent for p in folder.glob(f"*/{WINDOW}")))
        if inside:
            windows.append(WindowsFound(folder, inside))
        if (folder / WINDOW).is_file():
            if folder == path:
                windows.append(WindowsFound(folder, (folder,)))
        elif any((folder / FRAMES).glob(PATTERN)):
            runs.append(RunFound(folder))
        models += sorted(p for p in folder.glob("*.npz") if not p.name.startswith("."))
    found = Found(path, tuple(runs), tuple(windows), tuple(models))
    if found.is_empty:
        raise FileNotFoundError(
            f"{path} holds nothing to report on: no frames, window.json, model (.npz), {SUMMARY} "
            f"or {DECISIONS}; give the folder of a run, of windows or of a demo"
        )
    return found


def read_rows(path: Path) -> list[dict[str, str]]:
    """Rows of a CSV file; one that is being written to may end in half a row, which is left out.

    Raises
    ------
    ValueError
        If it is too large, no text, or has no header.
    """
    require_readable(path, MAX_CSV_BYTES)
    text = path.read_text(encoding="utf-8", errors="replace")
    whole = text[: text.rfind("\n") + 1]
    rows = list(csv.reader(whole.splitlines()))
    if not rows:
        raise ValueError(f"{path} has no header")
    return [dict(zip(rows[0], row, strict=True)) for row in rows[1:] if len(row) == len(rows[0])]


def _folders(path: Path) -> list[Path]:
    """The folder and those below it, windows and frames left out."""
    found, level = [path], [path]
    for _ in range(DEPTH):
        level = [
            child
            for folder in level
            if not (folder / WINDOW).exists()
            for child in sorted(folder.iterdir())
            if child.is_dir() and not child.is_symlink() and not child.name.startswith(".")
            if child.name != FRAMES and not (child / WINDOW).exists()
        ]
        found += level
        if len(found) > MOST_FOLDERS:
            raise ValueError(f"{path} holds more than {MOST_FOLDERS} folders: give one of them")
    return found


def number_in(value: Any) -> float:
    """A number of a record; NaN where it is none."""
    return float(value) if isinstance(value, int | float) else float("nan")
