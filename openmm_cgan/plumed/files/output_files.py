"""The text files that one run appends to: opened once, and cut where a saved run goes on."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from openmm_cgan.plumed.files.fields import FieldWriter

Header = tuple[list[str], list[tuple[str, str]]]
MakeWriter = Callable[[str, Path, Callable[[], Header], bool], FieldWriter]


class OutputFiles:
    """Writers by key, and how long each file is.

    Parameters
    ----------
    directory : Path
        Where names of files begin.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._writers: dict[str, FieldWriter] = {}
        self._others: list[Path] = []
        self._lengths: dict[str, int] = {}

    def writer(
        self, key: str, path: Path, header: Callable[[], Header], append: bool
    ) -> FieldWriter:
        """The writer of a file; made at the first call.

        Parameters
        ----------
        key : str
        path : Path
        header : callable
            Gives the fields and the constants.
        append : bool
            Continue a file that is there; else it is backed up.
        """
        if key not in self._writers:
            goes_on = self._name(path) in self._lengths
            writer = FieldWriter(path, *header(), append=append or goes_on, header=not goes_on)
            if goes_on:
                writer.truncate(self._lengths[self._name(path)])
            self._writers[key] = writer
        return self._writers[key]

    def watch(self, path: Path) -> None:
        """Count a file that is appended to by others too."""
        self._others.append(path)
        if (length := self._lengths.get(self._name(path))) is not None:
            os.truncate(path, length)

    def _name(self, path: Path) -> str:
        return os.path.relpath(path, self._directory)

    def lengths(self) -> dict[str, int]:
        """Length of each file in bytes, by its name from the directory."""
        self.flush()
        paths = [*(writer.path for writer in self._writers.values()), *self._others]
        return {self._name(path): path.stat().st_size for path in paths}

    def go_on(self, lengths: dict[str, int]) -> None:
        """Have the files that are opened from now on go on at these lengths.

        Raises
        ------
        ValueError
            If one is not there, or shorter now.
        """
        for name, length in lengths.items():
            path = self._directory / name
            if not path.is_file() or path.stat().st_size < length:
                raise ValueError(f"the saved run had {length} bytes of {path}: they are gone")
        self._lengths = dict(lengths)

    def flush(self) -> None:
        """Hand everything to the operating system."""
        for writer in self._writers.values():
            writer.flush()

    def close(self) -> None:
        """Close all files."""
        for writer in self._writers.values():
            writer.close()
