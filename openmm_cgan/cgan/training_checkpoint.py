"""The file of a training that goes on: its state, as tensors that lie on the processor."""

import io
import os
from pathlib import Path
from typing import Any

import torch

from openmm_cgan.array_files import require_checksums
from openmm_cgan.atomic_files import write_atomically
from openmm_cgan.devices import moved

MAX_BYTES = 2**33
PROCESSOR = torch.device("cpu")


def write_checkpoint(path: str | os.PathLike[str], state: dict[str, Any]) -> None:
    """Write a state of plain types and tensors, which can be read where there is no such device."""
    buffer = io.BytesIO()
    torch.save(moved(state, PROCESSOR), buffer)
    write_atomically(path, buffer.getvalue())


def read_checkpoint(path: Path, belongs_to: dict[str, Any]) -> dict[str, Any]:
    """The state in a file.

    Parameters
    ----------
    path : Path
    belongs_to : dict
        The settings and the fingerprint of the data of the training that is to go on.

    Raises
    ------
    ValueError
        If it is no checkpoint, or one of other settings or data.
    """
    try:
        require_checksums(path, MAX_BYTES)
        state: dict[str, Any] = torch.load(path, weights_only=True)
        theirs = state["belongs_to"]
    except Exception as error:
        raise ValueError(
            f"{path} is no checkpoint of a training, or is damaged ({error}): delete it or name"
            " another to start afresh"
        ) from error
    for what, ours in belongs_to.items():
        if what == "settings":  # what was not known then counts from now on
            ours = {name: ours[name] for name in theirs[what] if name in ours}
        if theirs[what] != ours:
            raise ValueError(
                f"the checkpoint {path} was made with other {what}: {theirs[what]}, now"
                f" {ours}. Delete it or name another to start afresh"
            )
    return state
