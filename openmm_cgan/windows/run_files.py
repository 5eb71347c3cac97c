"""The files of a run of windows: those of each window, and those that all of them share.

A window is a folder: ``window.json`` (what it is and how far it got), ``plumed.dat``,
``start.npy``, ``frames/``, ``checkpoint.xml`` and whatever the PLUMED input prints.  One that is
run several times has such a folder for each run, with the same input.  In the folder above lie the
System, the Topology and a right structure.  The Topology is kept as JSON: a PDB file would lose the
bonds of molecules that OpenMM does not know, and with them the topology's fingerprint.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import openmm
from numpy.typing import NDArray
from openmm import app

from openmm_cgan.atomic_files import replacing, write_atomically
from openmm_cgan.json_files import read_json, write_json
from openmm_cgan.openmm_xml import from_xml, require_no_code
from openmm_cgan.run_folders import BONDS as TOPOLOGY
from openmm_cgan.topology_records import topology_record

SYSTEM, REFERENCE = "system.xml", "reference.npy"
RECORD, INPUT, START, CHECKPOINT, FRAMES = (
    "window.json", "plumed.dat", "start.npy", "run.chk", "frames",
)  # fmt: skip
LOCK = "window.lock"  # held by the process that runs the window
STATE = "checkpoint.xml"  # in place of CHECKPOINT where PLUMED itself keeps the bias


def write_array(path: Path, array: NDArray) -> None:
    """Write a .npy file, an array of any shape, that a kill leaves as it was or complete."""
    with replacing(path) as unfinished, unfinished.open("wb") as file:
        np.save(file, array, allow_pickle=False)


def read_record(folder: Path) -> dict[str, Any]:
    """The record of a window.

    Raises
    ------
    FileNotFoundError
        If the folder is no window.
    ValueError
        If the record is damaged, or lacks what all have.
    """
    if not (folder / RECORD).is_file():
        inside = sorted(folder.glob(f"*/{RECORD}"))
        hint = f", such as {inside[0].parent}" if inside else ""
        raise FileNotFoundError(
            f"{folder} is no umbrella window: it has no {RECORD}. Give folders of windows, as "
            f"run_windows leaves them{hint}"
        )
    record = read_json(folder / RECORD)
    temperature, status = record.get("temperature"), record.get("status")
    if not isinstance(temperature, int | float) or not 0 < temperature < math.inf:
        raise ValueError(f"{folder / RECORD}: temperature is {temperature}, expected kelvins")
    if not isinstance(status, str):
        raise ValueError(f"{folder / RECORD}: status is {status}, expected a word")
    for name in ("step", "steps", "attempts"):
        if type(record.get(name, 0)) is not int or record.get(name, 0) < 0:
            raise ValueError(f"{folder / RECORD}: {name} is {record[name]}, expected a number")
    return record


def is_finished(record: dict[str, Any]) -> bool:
    """Whether the window of a record is at its end, which may have been put off since."""
    return bool(record["status"] == "finished" and record["step"] >= record.get("steps", 0))


def number_of_windows(records: Sequence[Mapping[str, Any]]) -> int:
    """How many windows records are of: runs of one window have one input."""
    return len({record.get("plumed_sha256", number) for number, record in enumerate(records)})


def windows_in_words(runs: int, windows: int) -> str:
    """So many windows, and how many runs where they were run several times.

    Examples
    --------
    >>> windows_in_words(8, 2), windows_in_words(2, 2)
    ('8 runs of 2 windows', '2 windows')
    """
    return f"{windows} windows" if runs == windows else f"{runs} runs of {windows} windows"


def write_record(folder: Path, record: dict[str, Any]) -> None:
    """Write the record of a window, all or nothing."""
    write_json(folder / RECORD, record)


def write_shared(
    folder: Path, system: openmm.System, topology: app.Topology, reference: NDArray | None
) -> None:
    """Write what every window of a folder reads.

    Parameters
    ----------
    folder : Path
        Made if missing.
    system : openmm.System
        Without the PLUMED bias.
    topology : openmm.app.Topology
    reference : ndarray, shape (n_atoms, 3), or None
        Structure with the right stereocentres and amides [nm]; None if they are not watched.

    Raises
    ------
    ValueError
        If the folder holds another System or Topology, or the System a PythonForce.
    """
    texts = {
        SYSTEM: openmm.XmlSerializer.serialize(system),
        TOPOLOGY: json.dumps(topology_record(topology)),
    }
    require_no_code(texts[SYSTEM], "the System")  # for its workers would not read it
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in texts.items():
        path = folder / name
        if path.exists() and _versionless(path.read_text()) != _versionless(text):
            raise ValueError(
                f"{path} is that of another system; its windows can not be continued with this "
                "one. Give another folder"
            )
    for name, text in texts.items():
        write_atomically(folder / name, text)
    if reference is not None and not (folder / REFERENCE).exists():
        write_array(folder / REFERENCE, np.asarray(reference, dtype=float))


def _versionless(text: str) -> str:
    """A serialised System without the version of the OpenMM that wrote it."""
    return re.sub(r' openmmVersion="[^"]*"', "", text)


def read_system(folder: Path) -> openmm.System:
    """The System that `write_shared` wrote.

    Raises
    ------
    ValueError
        If its file is damaged, or would run code.
    """
    path = folder / SYSTEM
    try:
        text = path.read_text(encoding="utf-8")
    except ValueError as error:
        raise ValueError(f"{path} is no System in XML, or is damaged: {error}") from None
    return from_xml(text, openmm.System, path)
