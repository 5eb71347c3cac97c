"""libplumed by ctypes: one `Plumed` is one instance of it.

The library is called through the symbol table that it exports for MD codes, in the variant that
reports exceptions to a handler. The pointers to the arrays are set once and kept.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib.util
import os
import sys
import threading
import uuid
import weakref
from collections.abc import Iterator
from ctypes import c_char_p, c_double, c_int, c_long, c_void_p
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from openmm_cgan.plumed.actions.committor import StopRunError
from openmm_cgan.plumed.input.language import PlumedInputError, Problem, Statement
from openmm_cgan.plumed.libplumed.statements import (
    output_folders,
    require_regular_files,
    require_tables,
)

OLDEST_API = 10  # PLUMED 2.10; before, the pointers had to be set again every step

MISSING = (
    "backend='kernel' needs real PLUMED, and none is installed. A whole PLUMED from PyPI: "
    "pip install --no-deps hillclimber. Or set PLUMED_KERNEL to the libplumedKernel.so of yours."
)

_folder_lock = threading.RLock()


def find_kernel() -> Path | None:
    """Find libplumed: ``PLUMED_KERNEL``, an installed ``plumed`` package, or conda's.

    Returns
    -------
    Path or None

    Raises
    ------
    FileNotFoundError
        If ``PLUMED_KERNEL`` names a file that does not exist.
    """
    if named := os.environ.get("PLUMED_KERNEL"):
        if not Path(named).is_file():
            raise FileNotFoundError(
                f"PLUMED_KERNEL is {named}, which is not a file: set it to a libplumedKernel.so, "
                "or unset it to have PLUMED looked for"
            )
        return Path(named)
    name = "libplumedKernel" + (".dylib" if sys.platform == "darwin" else ".so")
    folders = [Path(sys.prefix) / "lib"]
    package = importlib.util.find_spec("plumed")  # only located: importing it is not needed
    for place in (package.submodule_search_locations or ()) if package else ():
        folders.insert(0, Path(place) / "_lib" / "lib")
    return next((folder / name for folder in folders if (folder / name).is_file()), None)


_Handler = ctypes.CFUNCTYPE(None, c_void_p, c_int, c_char_p, c_void_p)


class _ErrorHandler(ctypes.Structure):
    _fields_ = (("pointer", c_void_p), ("handler", _Handler))


class _SymbolTable(ctypes.Structure):
    """The beginning of PLUMED's ``plumed_symbol_table``, version 2 and later."""

    _fields_ = (
        ("version", c_int),
        ("create", ctypes.CFUNCTYPE(c_void_p)),
        ("cmd", c_void_p),
        ("finalize", ctypes.CFUNCTYPE(None, c_void_p)),
        # PYFUNCTYPE keeps the GIL: giving it away and waiting for it several times a step would
        # stall the run beside a busy Python thread
        ("cmd_nothrow", ctypes.PYFUNCTYPE(None, c_void_p, c_char_p, c_void_p, _ErrorHandler)),
    )


@cache
def _load(path: Path) -> _SymbolTable:
    try:
        library = ctypes.CDLL(str(path))
        library.plumed_symbol_table_init()
        table = _SymbolTable.in_dll(library, "plumed_symbol_table")
    except (OSError, AttributeError, ValueError) as error:
        raise RuntimeError(f"{path} can not be used as PLUMED's kernel: {error}") from None
    if table.version < 2:
        raise RuntimeError(f"{path} is too old: PLUMED 2.10 or later is needed")
    return table


@contextlib.contextmanager
def _inside(folder: Path) -> Iterator[None]:
    """Work in a folder: PLUMED takes the file names of an input relative to the current one."""
    with _folder_lock:
        if Path.cwd() == folder:
            yield
            return
        folder.mkdir(parents=True, exist_ok=True)
        with contextlib.chdir(folder):
            yield


@dataclass(frozen=True)
class MDSettings:
    """What an MD code tells PLUMED before the input is read.

    Attributes
    ----------
    folder : Path
        Where file names of the input begin.
    masses, charges : ndarray, shape (n_atoms,)
        [dalton], [e]; charges that are not known are NaN, as is what depends on them.
    kT : float or None
        [kJ/mol]
    timestep : float
        [ps]
    restart : bool
    suffix : str
        Put behind the names of all output files.
    log : str
        File of PLUMED's log.
    virial : bool
        Whether to calculate it.
    """

    folder: Path
    masses: np.ndarray
    charges: np.ndarray
    kT: float | None = None
    timestep: float = 0.001
    restart: bool = False
    suffix: str = ""
    log: str = "/dev/null"
    virial: bool = False


class Plumed:
    """One instance of libplumed, with the arrays that it works on.

    Parameters
    ----------
    settings : MDSettings
    statements : list of Statement
        The input.
    read : tuple of str
        Values to be had in `values` after `calculate`.

    Attributes
    ----------
    positions, forces : ndarray, shape (n_atoms, 3)
        [nm], [kJ/mol/nm]; PLUMED adds to the forces.
    box : ndarray, shape (3, 3)
        Box vectors in rows [nm]; zero without box.
    virial : ndarray, shape (3, 3)
        [kJ/mol]; PLUMED adds to it if the settings ask for it.
    values : ndarray, shape (n_read,)

    Raises
    ------
    PlumedInputError
        If PLUMED refuses a statement.
    ValueError
        If a value in `read` is not defined, or not one number.
    RuntimeError
        If PLUMED is not installed or too old.
    """

    def __init__(
        self, settings: MDSettings, statements: list[Statement], read: tuple[str, ...] = ()
    ) -> None:
        path = find_kernel()
        if path is None:
            raise RuntimeError(MISSING)
        table = _load(path)
        require_regular_files(statements, settings.folder)
        if not settings.suffix:  # else it is muted, and reads none
            require_tables(statements, settings.folder, settings.restart)
        self.settings = settings
        self._errors: list[str] = []
        note = self._errors.append  # a handler that held the instance would keep it alive
        self._handler = _ErrorHandler(
            None, _Handler(lambda _, _code, text, _more: note(text.decode(errors="replace")))
        )
        self._cmd = table.cmd_nothrow
        self._instance = c_void_p(table.create())
        self._finalize = weakref.finalize(self, table.finalize, self._instance)
        shape = (len(settings.masses), 3)
        self.positions, self.forces = np.zeros(shape), np.zeros(shape)
        self.box, self.virial = np.zeros((3, 3)), np.zeros((3, 3))
        self.values = np.zeros(len(read))
        self._step, self._bias, self._stop = c_long(0), c_double(0), c_int(0)
        self._energy: c_double | None = None
        self._step_pointer = ctypes.cast(ctypes.pointer(self._step), c_void_p)
        self._bias_pointer = ctypes.cast(ctypes.pointer(self._bias), c_void_p)
        with _inside(settings.folder):
            self._begin()
            for statement in statements:
                self._read(statement)
            for i, name in enumerate(read):
                self._read_into(name, i)
        self._set_pointers()

    @classmethod
    def muted(
        cls, settings: MDSettings, statements: list[Statement], read: tuple[str, ...] = ()
    ) -> Plumed:
        """Make an instance that leaves no files: they are unlinked as soon as they are open."""
        suffix = f".muted-{uuid.uuid4().hex}"
        try:
            # the file of DUMPPROJECTIONS has no suffix
            alone = [_without_walkers(s) for s in statements if s.action != "DUMPPROJECTIONS"]
            return cls(replace(settings, suffix=suffix), alone, read)
        finally:
            for folder in output_folders(settings.folder, statements):
                for path in folder.glob(f"*{suffix}*"):
                    path.unlink(missing_ok=True)

    def command(self, key: str, value: Any = None) -> None:
        """Call PLUMED's ``cmd``; its exceptions become RuntimeError."""
        self._cmd(self._instance, key.encode(), value, self._handler)
        if self._errors:
            self._raise()

    def close(self) -> None:
        """End PLUMED: its files are closed, and it can not be used any more."""
        self._finalize()
        self._cmd = _closed

    def _raise(self) -> None:
        lines = "\n".join(self._errors).splitlines()
        self._errors.clear()
        told = [line for line in lines if line.strip() and not line.startswith(("(", "+++ "))]
        raise RuntimeError("PLUMED: " + "\n".join(told or lines).strip())

    def _begin(self) -> None:
        version = c_int(0)
        self.command("getApiVersion", ctypes.byref(version))
        if version.value < OLDEST_API:
            raise RuntimeError(f"{find_kernel()} is too old: PLUMED 2.10 or later is needed")
        settings = self.settings
        self.command("setMDEngine", b"OpenMM")
        self.command("setNatoms", ctypes.byref(c_int(len(settings.masses))))
        if not settings.virial:
            self.command("setNoVirial")
        self.command("setTimestep", ctypes.byref(c_double(settings.timestep)))
        if settings.kT is not None:
            self.command("setKbT", ctypes.byref(c_double(settings.kT)))
        self.command("setRestart", ctypes.byref(c_int(settings.restart)))
        self.command("setLogFile", settings.log.encode())
        self.command("init")
        self.command("setStopFlag", ctypes.byref(self._stop))
        if settings.suffix:
            self.command("readInputLine", f"_SET_SUFFIX {settings.suffix}".encode())

    def _read(self, statement: Statement) -> None:
        try:
            self.command("readInputLine", statement.text.encode())
        except RuntimeError as error:
            problem = Problem(statement.location, statement.action, str(error))
            raise PlumedInputError([problem]) from None

    def _read_into(self, name: str, i: int) -> None:
        """Have a value put into `values` whenever it is calculated."""
        shape = c_long(0)
        try:
            self.command(f"getDataRank {name}", ctypes.byref(shape))
            self.command(f"getDataShape {name}", ctypes.byref(shape))
        except RuntimeError as error:
            raise ValueError(f"the input defines no value '{name}' ({error})") from None
        if shape.value != 1:
            raise ValueError(f"'{name}' is a vector of {shape.value} numbers; expected one number")
        self.command(f"setMemoryForData {name}", c_void_p(self.values.ctypes.data + 8 * i))

    def _set_pointers(self) -> None:
        self._masses, self._charges = self.settings.masses.copy(), self.settings.charges.copy()
        self.set_step(0)
        for key, array in (
            ("setPositions", self.positions),
            ("setForces", self.forces),
            ("setMasses", self._masses),
            ("setCharges", self._charges),  # vectors ask for them and need none
            ("setBox", self.box),
            *([("setVirial", self.virial)] if self.settings.virial else []),
        ):
            self.command(key, c_void_p(array.ctypes.data))

    def set_energy(self, potential: float) -> None:
        """Set the potential energy [kJ/mol] without the biases, for ENERGY."""
        self._energy = c_double(potential)

    def set_step(self, step: int) -> None:
        """Set the number of the step for what follows."""
        self._step.value = step
        self.command("setStepLong", self._step_pointer)

    def calculate(self, step: int) -> float:
        """Calculate values, forces and bias at `positions`; nothing is laid or written.

        Parameters
        ----------
        step : int

        Returns
        -------
        float
            Sum of the biases [kJ/mol].

        Raises
        ------
        RuntimeError
            With what PLUMED says, for instance that a value has left the grid of METAD.
        """
        cmd, instance, handler = self._cmd, self._instance, self._handler
        self._step.value = step
        cmd(instance, b"setStepLong", self._step_pointer, handler)
        if self._energy is not None:  # PLUMED keeps its number, not the pointer
            cmd(instance, b"setEnergy", ctypes.byref(self._energy), handler)
        cmd(instance, b"prepareCalc", None, handler)
        cmd(instance, b"performCalcNoUpdate", None, handler)
        cmd(instance, b"getBias", self._bias_pointer, handler)
        if self._errors:
            self._raise()
        return self._bias.value

    def update(self) -> None:
        """Lay the hills and write the rows of the step that was calculated last.

        Raises
        ------
        StopRunError
            If PLUMED asks the run to stop, as COMMITTOR does.
        """
        with _inside(self.settings.folder):
            self.command("update")
        if self._stop.value:
            self._stop.value = 0
            raise StopRunError(f"PLUMED asks the run to stop at step {self._step.value}")

    def atoms_needed(self) -> np.ndarray:
        """Zero-based atoms that PLUMED ever needs, (n_needed,), ascending; leaves a used instance.

        At step 0 everything with a stride is due and neighbour lists are complete. PLUMED only
        tells after a first calculation; what that finds at these coordinates does not matter.

        """
        self.positions[:] = np.random.default_rng(0).random(self.positions.shape)
        with contextlib.suppress(RuntimeError):
            self.calculate(0)
        self.set_step(0)
        self.command("prepareDependencies")
        count = c_int(0)
        self.command("createFullList", ctypes.byref(count))
        pointer = ctypes.POINTER(c_int)()
        self.command("getFullList", ctypes.byref(pointer))
        atoms = np.array(pointer[: count.value], dtype=int)
        self.command("clearFullList")
        return np.sort(atoms)

    def needs_energy(self, step: int) -> bool:
        """Whether something that is due at a step asks for the potential energy."""
        needed = c_int(0)
        self.set_step(step)
        self.command("prepareDependencies")
        self.command("isEnergyNeeded", ctypes.byref(needed))
        return bool(needed.value)


def _closed(*_: Any) -> None:
    raise RuntimeError("this PLUMED is closed")


def _without_walkers(statement: Statement) -> Statement:
    """A METAD that shares hills as one that does not: PLUMED gives shared files no suffix."""
    given = dict(word.partition("=")[::2] for word in statement.words)
    if statement.action != "METAD" or "WALKERS_N" not in given:
        return statement
    file = f"{given.get('FILE', 'HILLS')}.{given.get('WALKERS_ID', '0')}"
    if "WALKERS_DIR" in given:
        file = f"{given['WALKERS_DIR']}/{file}"
    kept = [w for w in statement.words if not w.startswith(("WALKERS_", "FILE="))]
    return replace(statement, words=(*kept, f"FILE={file}"))


def flush_all() -> None:
    """Hand PLUMED's files (and all others of C) to the operating system."""
    ctypes.CDLL(None).fflush(None)
