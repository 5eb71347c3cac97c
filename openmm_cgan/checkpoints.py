"""What a bias has gathered, in one file with the checkpoint of its Simulation.

One ``.npz`` without pickle: a JSON header, and the arrays of each action under ``label/name``.
"""

from __future__ import annotations

import json
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from openmm_cgan.atomic_files import replacing

VERSION = 1
MAX_FILE_BYTES = 8 * 1024**3
HEADER, CHECKPOINT = "header", "checkpoint"  # names without a label


@dataclass(frozen=True)
class SavedState:
    """A bias at one step of a run.

    Attributes
    ----------
    step : int
        The step of the run.
    updated : int
        The last step whose rows are written and whose hills are laid.
    files : dict of str to int
        Length in bytes of each file that is appended to, by name.
    arrays : dict of str to ndarray
        By ``label/name``.
    input : str
        Fingerprint of the input.
    checkpoint : bytes
        OpenMM's own.
    """

    step: int
    updated: int
    files: dict[str, int]
    arrays: dict[str, np.ndarray] = field(default_factory=dict)
    input: str = ""
    checkpoint: bytes = b""

    def of(self, label: str) -> dict[str, np.ndarray]:
        """The arrays of one action."""
        start = f"{label}/"
        return {n.removeprefix(start): a for n, a in self.arrays.items() if n.startswith(start)}


def write_saved(path: Path, state: SavedState) -> None:
    """Write a state whole or not at all."""
    header = {
        "version": VERSION,
        "step": state.step,
        "updated": state.updated,
        "files": state.files,
        "input": state.input,
    }
    own = {
        HEADER: np.array(json.dumps(header)),
        CHECKPOINT: np.frombuffer(state.checkpoint, dtype=np.uint8),
    }
    with replacing(path) as unfinished, unfinished.open("wb") as file:
        np.savez(file, allow_pickle=False, **own, **state.arrays)


def read_saved(path: Path) -> SavedState:
    """Read a state.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is no saved state of a bias.
    """
    if path.stat().st_size > MAX_FILE_BYTES:
        raise ValueError(f"{path} is larger than {MAX_FILE_BYTES} bytes")
    try:
        with zipfile.ZipFile(path) as archive:
            total = sum(member.file_size for member in archive.infolist())
        if total > MAX_FILE_BYTES:
            raise ValueError(f"it unpacks to {total} bytes")
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
        header = json.loads(str(arrays.pop(HEADER)))
        return _checked(header, arrays)
    except (zipfile.BadZipFile, ValueError, KeyError, TypeError, EOFError) as error:
        raise ValueError(f"{path} is no saved state of a bias: {error}") from None


def _checked(header: dict[str, Any], arrays: dict[str, np.ndarray]) -> SavedState:
    if header["version"] != VERSION:
        raise ValueError(f"its version is {header['version']}; expected {VERSION}")
    checkpoint = arrays.pop(CHECKPOINT)
    if checkpoint.dtype != np.uint8:
        raise ValueError("the checkpoint is no bytes")
    files = {str(key): int(size) for key, size in header["files"].items()}
    if any(size < 0 for size in files.values()):
        raise ValueError("a length of a file is negative")
    for name, array in arrays.items():
        if array.dtype.kind not in "if":
            raise ValueError(f"{name} holds {array.dtype}; expected numbers")
    return SavedState(
        step=int(header["step"]),
        updated=int(header["updated"]),
        files=files,
        arrays=arrays,
        input=str(header["input"]),
        checkpoint=checkpoint.tobytes(),
    )


def saved_array(
    arrays: dict[str, np.ndarray], name: str, shape: tuple[int | None, ...]
) -> np.ndarray:
    """One array of a saved action, of the shape it must have (None: any length).

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
    return found
