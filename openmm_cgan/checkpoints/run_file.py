"""A saved run as a file: one ``.npz`` without pickle.

It has a JSON header, OpenMM's bytes, the State as XML, and the arrays of the keepers, the n-th
one's under ``n/label/name``. Files of version 1, which held one bias, are read.
"""

from __future__ import annotations

import json
import zipfile
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from openmm_cgan.array_files import read_arrays
from openmm_cgan.atomic_files import replacing, require_readable
from openmm_cgan.checkpoints.saved_states import SavedState, arrays_below, saved_text, text_array

VERSION = 2
MAX_FILE_BYTES = 8 * 1024**3
# names of no keeper's arrays
HEADER, CHECKPOINT, PORTABLE = "header", "checkpoint", "portable"
BIAS = "bias"  # the keeper of a run with one bias, as all of version 1 are


@dataclass(frozen=True)
class SavedRun:
    """A run at one step.

    Attributes
    ----------
    step : int
    checkpoint : bytes
        OpenMM's own.
    keepers : dict of str to SavedState
        All at this step.
    made_with : dict of str to str
        Fingerprints of the System and the integrator; empty in files of version 1.
    portable : str
        The same State as XML, for other platforms and versions of OpenMM, without the state of
        random numbers; empty in files of earlier versions.
    """

    step: int
    checkpoint: bytes
    keepers: dict[str, SavedState]
    made_with: dict[str, str] = field(default_factory=dict)
    portable: str = ""


def write_run(path: Path, run: SavedRun) -> None:
    """Write a run whole or not at all."""
    header = {
        "version": VERSION,
        "step": run.step,
        "made_with": run.made_with,
        "keepers": [
            {"name": name, "updated": s.updated, "files": s.files, "saved_by": s.saved_by}
            for name, s in run.keepers.items()
        ],
    }
    arrays = {
        HEADER: np.array(json.dumps(header)),
        CHECKPOINT: np.frombuffer(run.checkpoint, dtype=np.uint8),
    }
    if run.portable:
        arrays[PORTABLE] = text_array(run.portable)
    for n, state in enumerate(run.keepers.values()):
        arrays |= {f"{n}/{name}": array for name, array in state.arrays.items()}
    with replacing(path) as unfinished, unfinished.open("wb") as file:
        np.savez(file, allow_pickle=False, **arrays)


def read_run(path: Path) -> SavedRun:
    """Read a run.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is no saved run.
    """
    require_readable(path, MAX_FILE_BYTES)
    with path.open("rb") as file:
        try:
            return _checked(*_contents(file))
        except (
            *(zipfile.BadZipFile, zlib.error, EOFError, OSError),  # a broken archive
            *(ValueError, KeyError, TypeError, AttributeError, ArithmeticError),  # a wrong header
            *(MemoryError, RuntimeError),  # sizes that no file has; depths, ciphers
        ) as error:
            older = path.with_name(f"{path.name}.old")
            hint = f"; the one before it is {older}" if older.exists() else ""
            raise ValueError(f"{path} is no saved state of a bias: {error}{hint}") from None


def _contents(file: BinaryIO) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """The header and the arrays."""
    arrays = read_arrays(file, MAX_FILE_BYTES)
    return json.loads(str(arrays.pop(HEADER))), arrays


def _checked(header: dict[str, Any], arrays: dict[str, np.ndarray]) -> SavedRun:
    version = header["version"]
    if version not in (1, VERSION):
        raise ValueError(f"its version is {version}; expected 1 or {VERSION}")
    checkpoint = arrays.pop(CHECKPOINT)
    if checkpoint.dtype != np.uint8:
        raise ValueError("the checkpoint is no bytes")
    portable = saved_text(arrays, PORTABLE) if PORTABLE in arrays else ""
    for name, array in arrays.items():
        if array.dtype.kind not in "biuf":
            raise ValueError(f"{name} holds {array.dtype}; expected numbers")
    step = int(header["step"])
    if version == 1:
        keepers = {BIAS: _state(step, header | {"saved_by": header["input"]}, arrays)}
    else:
        keepers = {
            str(record["name"]): _state(step, record, arrays_below(f"{n}/", arrays))
            for n, record in enumerate(header["keepers"])
        }
        if len(keepers) < len(header["keepers"]):
            raise ValueError("two keepers have the same name")
    made_with = {str(key): str(value) for key, value in header.get("made_with", {}).items()}
    return SavedRun(step, checkpoint.tobytes(), keepers, made_with, portable)


def _state(step: int, record: dict[str, Any], arrays: dict[str, np.ndarray]) -> SavedState:
    files = {str(key): int(size) for key, size in record["files"].items()}
    if any(size < 0 for size in files.values()):
        raise ValueError("a length of a file is negative")
    return SavedState(step, int(record["updated"]), files, arrays, str(record["saved_by"]))
