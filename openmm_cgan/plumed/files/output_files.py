"""The text files that one run appends to: opened once, and cut where a saved run goes on."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from openmm_cgan.atomic_files import flush_to_disk, replaceable
from openmm_cgan.checkpoints import cut_to, require_files
from openmm_cgan.plumed.files.fields import FieldWriter

Header = tuple[list[str], list[tuple[str, str]]]


class OutputFiles:
    """Writers by key, and how long each file is.

    Parameters
    ----------
    directory : Path
        Where names of files begin.
    restart : bool
        Whether the run goes on in the files that are there.
    """

    def __init__(self, directory: Path, restart: bool) -> None:
        self._directory = directory
        self.restart = restart
        self._writers: dict[str, FieldWriter] = {}
        self._others: list[Path] = []
        self._lengths: dict[str, int] = {}

    def writer(
        self, key: str, name: str, header: Callable[[], Header], append: bool | None = None
    ) -> FieldWriter:
        """The writer of a file; made at the first call.

        Parameters
        ----------
        key : str
        name : str
            Of the file.
        header : callable
            Gives the fields and the constants.
        append : bool, optional
            Continue a file that is there; else it is backed up. By default as the run restarts.

        Raises
        ------
        ValueError
            If another action writes to it: PLUMED mixes the rows of the two, and nobody can read
            them, a restart neither.
        """
        if key not in self._writers:
            path, goes_on = self.path(name), self.goes_on_in(name)
            self._require_own(path, key)
            append = self.continues(append)
            if goes_on:
                cut_to(path, self._lengths[self._name(path)])
            begun = goes_on and self._lengths[self._name(path)] > 0
            writer = FieldWriter(path, *header(), append=append or goes_on, header=not begun)
            self._writers[key] = writer
        return self._writers[key]

    def _require_own(self, path: Path, key: str) -> None:
        for other, writer in self._writers.items():
            if writer.path == path and replaceable(path):  # not /dev/null, nor a pipe
                raise ValueError(f"{path}: {other} and {key} both write to it; give each its FILE=")

    def continues(self, own: bool | None) -> bool:
        """Whether an action goes on with what is there: as its RESTART says, else as the run."""
        return self.restart if own is None else own

    def path(self, name: str) -> Path:
        """Where the file of a name is."""
        return self._directory / name

    def goes_on_in(self, name: str) -> bool:
        """Whether a saved run that goes on has written a file."""
        return self._name(self.path(name)) in self._lengths

    def watch(self, name: str) -> None:
        """Count a file that is appended to by others too."""
        path = self.path(name)
        self._others.append(path)
        if (length := self._lengths.get(self._name(path))) is not None:
            cut_to(path, length)

    def _name(self, path: Path) -> str:
        return os.path.relpath(path, self._directory)

    def lengths(self) -> dict[str, int]:
        """Length of each file in bytes, by its name from the directory; all on the disk now."""
        for writer in self._writers.values():
            writer.complete()
        paths = [*(writer.path for writer in self._writers.values()), *self._others]
        files = [path for path in paths if path.is_file()]  # devices and pipes have no length
        return {self._name(path): flush_to_disk(path) for path in files}

    def go_on(self, lengths: dict[str, int]) -> None:
        """Have the files that are opened from now on go on at these lengths.

        Raises
        ------
        ValueError
            If one is not there, or shorter now.
        """
        require_files(self._directory, lengths)
        self._lengths = dict(lengths)

    def flush(self) -> None:
        """Hand everything to the operating system."""
        for writer in self._writers.values():
            writer.flush()

    def close(self) -> None:
        """Close all files."""
        for writer in self._writers.values():
            writer.close()
