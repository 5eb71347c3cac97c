"""A run in one file: OpenMM's checkpoint, and what each object beside it has gathered.

Such an object is a `Keeper`: a bias, a reporter. `save_run` asks each for its `SavedState`, and
`restore_run` gives it back, so that the run goes on as if it had never stopped.

The file is one ``.npz`` without pickle: a JSON header, OpenMM's bytes, and the arrays of the
keepers, the n-th one's under ``n/label/name``. Files of version 1, which held one bias, are read.
"""

from __future__ import annotations

import contextlib
import json
import logging
import weakref
import zipfile
import zlib
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Protocol

import numpy as np

from openmm_cgan.array_files import read_arrays
from openmm_cgan.atomic_files import keep_older, replacing
from openmm_cgan.fingerprints import integrator_fingerprint, system_fingerprint

if TYPE_CHECKING:
    from openmm.app import Simulation

VERSION = 2
MAX_FILE_BYTES = 8 * 1024**3
HEADER, CHECKPOINT = "header", "checkpoint"  # names of no keeper's arrays
BIAS = "bias"  # the keeper of a run with one bias, as all of version 1 are

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
        return _below(f"{label}/", self.arrays)


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
    """

    step: int
    checkpoint: bytes
    keepers: dict[str, SavedState]
    made_with: dict[str, str] = field(default_factory=dict)


class Keeper(Protocol):
    """What has state beside a Simulation, and may have files that grow with the run."""

    def saved(self) -> SavedState:
        """What it has gathered up to the present step; its files are on the disk up to there."""
        ...

    def check_saved(self, state: SavedState, simulation: Simulation, path: Path) -> None:
        """See whether it can go on from a state in a Simulation, without changing anything.

        Parameters
        ----------
        state : SavedState
        simulation : openmm.app.Simulation
            That does not stand there yet.
        path : Path
            Where the state was read: for messages.

        Raises
        ------
        ValueError
            If the state is of something else, or a file is not there as it was.
        """
        ...

    def restore_saved(self, state: SavedState, simulation: Simulation) -> None:
        """Go on from a state that was checked, in a Simulation that stands there; cut the files.

        A reporter appends itself to the reporters of the Simulation.

        Raises
        ------
        ValueError
            If the state does not fit.
        """
        ...


def save_run(path: Path, simulation: Simulation, keepers: Mapping[str, Keeper]) -> None:
    """Save a run between two steps, whole or not at all.

    Parameters
    ----------
    path : Path
        Replaced; the file that was there is kept as ``path.old``.
    simulation : openmm.app.Simulation
    keepers : mapping of str to Keeper
        By names that `restore_run` is to find them by: two biases are two names.

    Raises
    ------
    RuntimeError
        If a position or velocity is not finite; the file that was there stays.
    """
    step = simulation.currentStep
    state = simulation.context.getState(positions=True, velocities=True)
    for what in (state.getPositions(asNumpy=True), state.getVelocities(asNumpy=True)):
        if not np.isfinite(what._value).all():
            raise RuntimeError(
                f"a position or velocity is not finite at step {step}: nothing is saved, {path} "
                "stays as it was. Go on from it with a smaller time step or a gentler bias"
            )
    states = {name: keeper.saved() for name, keeper in keepers.items()}
    checkpoint = simulation.context.createCheckpoint()
    keep_older(path)
    write_run(path, SavedRun(step, checkpoint, states, _made_with(simulation)))


_SYSTEMS: weakref.WeakKeyDictionary[Simulation, str] = weakref.WeakKeyDictionary()


def _made_with(simulation: Simulation) -> dict[str, str]:
    if simulation not in _SYSTEMS:  # it takes a second for 100,000 atoms
        _SYSTEMS[simulation] = system_fingerprint(simulation.system)
    return {
        "System": _SYSTEMS[simulation],
        "integrator": integrator_fingerprint(simulation.integrator),
    }


def restore_run(
    path: Path, simulation: Simulation, keepers: Mapping[str, Keeper], unlike: Collection[str] = ()
) -> None:
    """Go on from a saved run; all keepers agree before anything is changed.

    Parameters
    ----------
    path : Path
        What `save_run` has written.
    simulation : openmm.app.Simulation
        Made as the saved one was.
    keepers : mapping of str to Keeper
        By the names that they were saved under, in the order in which they are to act at a step.
    unlike : collection of str
        "System", "integrator": what may be another than that of the saved run.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is no saved run, lacks a keeper, or is of something else.
    """
    run = read_run(path)
    now = _made_with(simulation)
    for what, before in run.made_with.items():
        if what not in unlike and now.get(what, before) != before:
            raise ValueError(
                f"{path} was saved with another {what}: force field, temperature, time step and "
                f"the like must be those of the saved run; to go on all the same, unlike=['{what}']"
            )
    if lacking := keepers.keys() - run.keepers.keys():
        raise ValueError(
            f"{path} has nothing of {_quoted(lacking)}; it has {_quoted(run.keepers)}: name the "
            "keepers as they were named when the run was saved"
        )
    for name, keeper in keepers.items():
        with _naming(path, name):
            keeper.check_saved(run.keepers[name], simulation, path)
    if left := run.keepers.keys() - keepers.keys():
        log.warning("%s: what it has of %s is not restored", path, _quoted(left))
    simulation.context.loadCheckpoint(run.checkpoint)
    for name, keeper in keepers.items():
        with _naming(path, name):
            keeper.restore_saved(run.keepers[name], simulation)


@contextlib.contextmanager
def _naming(path: Path, keeper: str) -> Iterator[None]:
    """Have each ValueError name the file."""
    try:
        yield
    except ValueError as error:
        if str(path) in str(error):
            raise
        raise ValueError(f"{path}: its '{keeper}' can not be gone on from: {error}") from error


def _quoted(names: Iterable[str]) -> str:
    return ", ".join(f"'{name}'" for name in sorted(names)) or "no keeper"


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
    if path.stat().st_size > MAX_FILE_BYTES:
        raise ValueError(f"{path} is larger than {MAX_FILE_BYTES} bytes")
    with path.open("rb") as file:
        try:
            return _checked(*_contents(file))
        except (
            *(zipfile.BadZipFile, zlib.error, EOFError, OSError),  # a broken archive
            *(ValueError, KeyError, TypeError, AttributeError, ArithmeticError),  # a wrong header
            *(MemoryError, RuntimeError),  # sizes that no file has; depths, ciphers
        ) as error:
            raise ValueError(f"{path} is no saved state of a bias: {error}") from None


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
    for name, array in arrays.items():
        if array.dtype.kind not in "biuf":
            raise ValueError(f"{name} holds {array.dtype}; expected numbers")
    step = int(header["step"])
    if version == 1:
        keepers = {BIAS: _state(step, header | {"saved_by": header["input"]}, arrays)}
    else:
        keepers = {
            str(record["name"]): _state(step, record, _below(f"{n}/", arrays))
            for n, record in enumerate(header["keepers"])
        }
        if len(keepers) < len(header["keepers"]):
            raise ValueError("two keepers have the same name")
    made_with = {str(key): str(value) for key, value in header.get("made_with", {}).items()}
    return SavedRun(step, checkpoint.tobytes(), keepers, made_with)


def _state(step: int, record: dict[str, Any], arrays: dict[str, np.ndarray]) -> SavedState:
    files = {str(key): int(size) for key, size in record["files"].items()}
    if any(size < 0 for size in files.values()):
        raise ValueError("a length of a file is negative")
    return SavedState(step, int(record["updated"]), files, arrays, str(record["saved_by"]))


def _below(start: str, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {n.removeprefix(start): a for n, a in arrays.items() if n.startswith(start)}


def require_files(folder: Path, lengths: Mapping[str, int]) -> None:
    """See that files are as long as they were when a run was saved, or longer.

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
        if not path.is_file() or path.stat().st_size < length:
            raise ValueError(f"the saved run had {length} bytes of {path}: they are gone")


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
    return saved_array(arrays, name, (None,)).astype(np.uint8).tobytes().decode()


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
