"""What an object beside a Simulation has gathered, as numbers, and how long its files are."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

TAIL = 1 << 16  # bytes in which the longest row is looked for

log = logging.getLogger("openmm_cgan")


@dataclass(frozen=True)
class SavedState:
    """A keeper at one step of a run.

    Attributes
    ----------
    step : int
        The step of the run.
    updated : int
        The last step at which the keeper has acted; -1 for none. What is due at `step` may be
        still to come, where a checkpoint is written before its turn.
    files : dict of str to int
        Length in bytes of each file that it appends to, by name.
    arrays : dict of str to ndarray
        Numbers (integers, floats, truth values) of any shape, by ``label/name``.
    saved_by : str
        Fingerprint of what it was saved by, such as the input of a bias.
    """

    step: int
    updated: int
    files: dict[str, int] = field(default_factory=dict)
    arrays: dict[str, np.ndarray] = field(default_factory=dict)
    saved_by: str = ""

    def of(self, label: str) -> dict[str, np.ndarray]:
        """The arrays of one label, by name."""
        return arrays_below(f"{label}/", self.arrays)


def arrays_below(start: str, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The arrays whose names begin so, by what follows."""
    return {n.removeprefix(start): a for n, a in arrays.items() if n.startswith(start)}


def require_files(folder: Path, lengths: Mapping[str, int]) -> None:
    """See that files are as long as they were when a run was saved, or longer.

    They may lack part of their last row, as after a loss of power: `cut_to` mends that.

    Parameters
    ----------
    folder : Path
        Where their names begin.
    lengths : mapping of str to int
        In bytes, by name.

    Raises
    ------
    ValueError
        If one is not there, or shorter now.
    """
    for name, length in lengths.items():
        path = folder / name
        size = path.stat().st_size if path.is_file() else 0
        if size < length and (size == 0 or length - size > _longest_row(path)):
            raise ValueError(
                f"the saved run had {length} bytes of {path}, {size} are there: they are gone. Put "
                "the file back, or go on from the checkpoint before, which ends in .old"
            )


def cut_to(path: Path, length: int) -> None:
    """Bring a file of rows to the length that it had when a run was saved.

    Parameters
    ----------
    path : Path
        As `require_files` wants it.
    length : int
        [bytes]
    """
    size = path.stat().st_size
    if size >= length:
        os.truncate(path, length)
        return
    rows = path.read_bytes()
    if size == length - 1 and not rows.endswith(b"\n"):
        with path.open("ab") as file:
            file.write(b"\n")
        log.warning("%s lacked the end of its last line: it is there again", path)
        return
    os.truncate(path, rows.rfind(b"\n") + 1)
    log.warning("%s lacks the last %d bytes that it had: its last row is lost", path, length - size)


def _longest_row(path: Path) -> int:
    """Of the last rows of a file [bytes]; 0 where it has none that can be cut, being packed."""
    if path.suffix == ".gz":
        return 0
    with path.open("rb") as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - TAIL))
        return max((len(line) for line in file.read().splitlines(keepends=True)), default=0)


def text_array(text: str) -> np.ndarray:
    """A text as numbers, for a saved state."""
    return np.frombuffer(text.encode(), dtype=np.uint8)


def saved_text(arrays: dict[str, np.ndarray], name: str) -> str:
    """The text of which `text_array` made an array.

    Raises
    ------
    ValueError
        If it is not there or is none.
    """
    return saved_array(arrays, name, (None,)).astype(np.uint8, copy=False).tobytes().decode()


def saved_array(
    arrays: dict[str, np.ndarray],
    name: str,
    shape: tuple[int | None, ...],
    finite: bool = False,
) -> np.ndarray:
    """One array of a saved action, of the shape it must have.

    Parameters
    ----------
    arrays : dict of str to ndarray
        Of the action, by name.
    name : str
    shape : tuple of int or None
        None: any length.
    finite : bool
        Whether it must hold no NaN, nothing infinite, nor what has no finite square.

    Returns
    -------
    ndarray
        Of that shape.

    Raises
    ------
    ValueError
        If it is not there or does not fit.
    """
    found = arrays.get(name)
    if found is None:
        raise ValueError(f"the saved state lacks '{name}'")
    if found.ndim != len(shape) or any(
        want is not None and want != got for want, got in zip(shape, found.shape, strict=True)
    ):
        raise ValueError(f"the saved '{name}' has shape {found.shape}; expected {shape}")
    if finite and not (np.abs(found) < 1e150).all():
        raise ValueError(f"the saved '{name}' has a number that is not finite")
    return found
