"""A PLUMED input run over the frames of a trajectory, as ``plumed driver`` does.

Nothing is integrated: each frame is one step of the input, which prints its COLVAR, lays its
hills and so on, with the frame's positions.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, TextIO

import numpy as np
from numpy.typing import NDArray

from openmm_cgan import GAS_CONSTANT
from openmm_cgan.plumed.actions import Action, Metad, Units, read_actions
from openmm_cgan.plumed.actions.committor import StopRunError
from openmm_cgan.plumed.actions.setup import Restart
from openmm_cgan.plumed.backends import choose_backend
from openmm_cgan.plumed.driver.frame_forces import BiasForces
from openmm_cgan.plumed.driver.trajectories import Frame
from openmm_cgan.plumed.files.fields import FieldWriter, read_fields
from openmm_cgan.plumed.input.language import (
    PlumedInputError,
    Statement,
    include_files,
    lines_of,
    read_statements,
    read_text,
)
from openmm_cgan.plumed.input.words import is_number_format
from openmm_cgan.plumed.libplumed.instance import MDSettings, Plumed
from openmm_cgan.plumed.native.backend import NativeBackend
from openmm_cgan.plumed.native.refusals import scales_by_box

log = logging.getLogger("openmm_cgan")

# NativeBackend multiplies a temperature with GAS_CONSTANT, so that kT arrives as it was given


@dataclass(frozen=True)
class DriverSettings:
    """How frames become steps.

    Attributes
    ----------
    timestep : float
        Time of one step [ps]; the time of a frame is its step times this.
    trajectory_stride : int
        Steps from one frame to the next; 0 takes the step from the trajectory.
    initial_step : int
        Step of the first frame.
    length : float
        Unit of the frames' lengths, of `box` and of the forces' denominators [nm].
    kt : float or None
        Temperature of the trajectory as kT [kJ/mol], for inputs that need it.
    restart : bool
        Append to the files and read the hills, as if the input said RESTART.
    backend : str
        "native", "kernel" or "auto".
    directory : Path
        Where the files of the input are.
    masses : ndarray, shape (n_atoms,), optional
        Masses of the atoms [dalton]. Unknown by default, as in PLUMED: what needs them is an error.
    charges : ndarray, shape (n_atoms,), optional
        [e]
    box : ndarray, shape (3, 3), optional
        Box vectors as rows, in place of those of the frames.
    forces : Path, optional
        File that the forces of the bias on the atoms are written to.
    forces_format : str
        printf format of its numbers.
    full_virial : bool
        Nine numbers of the virial in that file, in place of the diagonal.
    debug_forces : Path, optional
        File that compares forces and virial with forward differences of the bias, for each frame
        as the bias is after it.
    """

    timestep: float = 1.0
    trajectory_stride: int = 1
    initial_step: int = 0
    length: float = 1.0
    kt: float | None = None
    restart: bool = False
    backend: str = "auto"
    directory: Path = Path(".")
    masses: NDArray[np.float64] | None = None
    charges: NDArray[np.float64] | None = None
    box: NDArray[np.float64] | None = None
    forces: Path | None = None
    forces_format: str = "%f"
    full_virial: bool = False
    debug_forces: Path | None = None


def read_masses(path: str | Path) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Masses and charges from a file as ``plumed driver`` takes them.

    Parameters
    ----------
    path : str or Path
        A PDB file (``--pdb``: the columns occupancy and beta), or one with the fields index, mass
        and charge, as DUMPMASSCHARGE writes it (``--mc``).

    Returns
    -------
    masses, charges : ndarray, shape (n_atoms,)
        [dalton], [e]; NaN for atoms that the file does not name.

    Raises
    ------
    ValueError
        If the file is neither.
    """
    path = Path(path)
    if path.suffix.lower() == ".pdb":
        lines = lines_of(path.read_text().split("\nEND\n")[0])
        rows = [line for line in lines if line.startswith(("ATOM", "HETATM"))]
        try:
            index = np.array([int(row[6:11]) - 1 for row in rows])
            numbers = [[float(row[i:j] or 0) for i, j in ((54, 60), (60, 66))] for row in rows]
        except ValueError as error:
            raise ValueError(f"{path} has no masses in its occupancy column: {error}") from None
        masses, charges = np.array(numbers).reshape(-1, 2).T
    else:
        columns = read_fields(path).columns
        if not {"index", "mass"} <= set(columns):
            names = ", ".join(columns)
            raise ValueError(f"{path} has the fields {names}, expected index and mass")
        index = np.asarray(columns["index"]).astype(int)
        masses = columns["mass"]
        charges = columns.get("charge", np.full(len(masses), np.nan))
    if len(index) == 0 or min(index) < 0:
        raise ValueError(f"{path} names no atoms, or some before the first")
    placed = np.full((2, max(index) + 1), np.nan)
    placed[:, index] = masses, charges
    return placed[0], placed[1]


def run_driver(
    plumed_input: str | Path, frames: Iterator[Frame] | None, settings: DriverSettings
) -> int:
    """Run a PLUMED input over frames; the files that it asks for are what comes out.

    Parameters
    ----------
    plumed_input : str or Path
        The input file, or its text if it contains a newline.
    frames : iterator of Frame or None
        As `read_trajectory` gives them; None is ``--noatoms``: a single step without atoms.
    settings : DriverSettings

    Returns
    -------
    int
        Number of frames.

    Raises
    ------
    PlumedInputError
        If the input cannot be used.
    ValueError
        If there are no frames, or their numbers of atoms differ.
    """
    if frames is None:
        frames = iter([Frame(np.empty((0, 3)))])
    first = next(frames, None)
    if first is None:
        raise ValueError("the trajectory holds no frames")
    settings.directory.mkdir(parents=True, exist_ok=True)
    engine = _engine(plumed_input, len(first.positions), settings)
    writer = None if settings.forces is None else _ForcesFile(settings)
    debug = None if settings.debug_forces is None else _DebugFile(settings)
    count = 0
    try:
        for frame in chain([first], frames):
            if len(frame.positions) != len(first.positions):
                raise ValueError(
                    f"frame {count} has {len(frame.positions)} atoms, "
                    f"the first has {len(first.positions)}"
                )
            engine.calculate(*_in_nm(frame, settings), _step(frame, count, settings))
            if writer is not None:
                writer.write(*engine.forces())
            count += 1
            engine.update()
            if debug is not None:
                debug.write(engine)
    except StopRunError as stop:
        log.info("%s", stop)
    finally:
        engine.close()
        for file in (writer, debug):
            if file is not None:
                file.close()
    return count


def _in_nm(frame: Frame, settings: DriverSettings) -> tuple[NDArray, NDArray | None]:
    box = frame.box if settings.box is None else settings.box
    return settings.length * frame.positions, None if box is None else settings.length * box


def _step(frame: Frame, count: int, settings: DriverSettings) -> int:
    if settings.trajectory_stride:
        return settings.initial_step + count * settings.trajectory_stride
    if frame.step is None:
        raise ValueError("--trajectory-stride 0: this format does not tell steps, use --ixtc")
    return frame.step


class _ForcesFile:
    """What ``--dump-forces`` writes: for each frame the virial and the forces."""

    def __init__(self, settings: DriverSettings) -> None:
        assert settings.forces is not None
        self._settings = settings
        self._file: TextIO = open(settings.directory / settings.forces, "w")  # noqa: SIM115  for long

    def write(self, forces: NDArray, virial: NDArray) -> None:
        """Write one frame: forces [kJ/mol/nm], virial [kJ/mol] of shape (3, 3)."""
        fmt = self._settings.forces_format
        shown = virial.ravel() if self._settings.full_virial else np.diag(virial)
        lines = [str(len(forces)), " ".join(fmt % x for x in shown)]
        for row in self._settings.length * forces:
            lines.append("X " + " ".join(fmt % x for x in row))
        self._file.write("\n".join(lines) + "\n")

    def close(self) -> None:
        self._file.close()


class _DebugFile:
    """What ``--debug-forces`` writes: each derivative of the bias, computed and by differences."""

    def __init__(self, settings: DriverSettings) -> None:
        assert settings.debug_forces is not None
        self._settings = settings
        path = settings.directory / settings.debug_forces
        self._writer = FieldWriter(path, ("parameter", "analytical", "numerical"))

    def write(self, engine: Any) -> None:
        """Write the forces on the atoms of the present frame and its virial."""
        length, fmt = self._settings.length, " " + self._settings.forces_format
        positions, box, step = engine.frame
        engine.calculate(positions, box, step)
        forces, virial = engine.forces()
        computed = [*(length * forces).ravel(), *np.ravel(virial)]
        base, delta = engine.bias(positions, box), np.sqrt(np.finfo(float).eps)
        by_differences = []
        for place in np.ndindex(positions.shape):
            moved = positions.copy()
            moved[place] += delta * length
            by_differences.append(-(engine.bias(moved, box) - base) / delta)
        if box is None:
            by_differences += [np.nan] * 9  # no box to strain
        else:
            by_differences += list(_virial_by_differences(engine, delta).ravel())
        for i, (here, there) in enumerate(zip(computed, by_differences, strict=True)):
            self._writer.write((f" {i}", fmt % here, fmt % there))

    def close(self) -> None:
        self._writer.close()


def _virial_by_differences(engine: Any, delta: float) -> NDArray:
    positions, box, _ = engine.frame
    base = engine.bias(positions, box)
    slope = np.zeros((3, 3))
    for place in np.ndindex(3, 3):
        moved = box.copy()
        moved[place] += delta
        strained = positions @ np.linalg.inv(box) @ moved
        slope[place] = (engine.bias(strained, moved) - base) / delta
    return box.T @ slope


def _engine(plumed_input: str | Path, n_atoms: int, settings: DriverSettings) -> Any:
    """What runs the input: OpenMM forces and their bookkeeping, or libplumed."""
    text, source = read_text(plumed_input)
    statements = include_files(read_statements(text, source), settings.directory)
    refusal, actions = None, []
    if settings.backend != "kernel":
        try:
            actions = read_actions(statements, n_atoms, settings.directory)
            return _NativeEngine(actions, n_atoms, settings)
        except PlumedInputError as error:
            refusal = error
    choose_backend(settings.backend, refusal, source)
    return _KernelEngine(statements, n_atoms, settings)


class _NativeEngine:
    """The native backend, one frame a step."""

    def __init__(self, actions: list[Action], n_atoms: int, settings: DriverSettings) -> None:
        temperature = None if settings.kt is None else settings.kt / GAS_CONSTANT
        asked = any(isinstance(action, Restart) and action.wanted for action in actions)
        self._backend = NativeBackend(
            actions, settings.directory, temperature, settings.restart or asked
        )
        self._masses = _placed(settings.masses, n_atoms)
        self._backend.set_masses(self._masses)
        self._openmm: BiasForces | None = None
        self._scaled = [action for action in actions if scales_by_box(action)]
        self._had_box = False
        self._wanted = settings.forces is not None or settings.debug_forces is not None
        self._wanted |= any(isinstance(a, Metad) and a.needs_gradients for a in actions)
        self._backend.start(settings.timestep, first_step_written=False)

    def calculate(self, positions: NDArray, box: NDArray | None, step: int) -> None:
        """Take one frame."""
        if box is None and self._had_box and self._scaled:
            raise ValueError(
                f"{self._scaled[0].statement.location}: step {step} has no box while those before "
                "had one, which PLUMED goes on to scale by; use --backend kernel"
            )
        self._had_box = box is not None
        self.frame = positions, box, step
        if self._wanted:
            if self._openmm is None:
                self._openmm = BiasForces(self._backend, self._masses, box)
            self._forces = self._openmm.at(positions, box, step)

    def forces(self) -> tuple[NDArray, NDArray]:
        """Forces [kJ/mol/nm] and virial [kJ/mol] of the frame, before its hill."""
        return self._forces

    def bias(self, positions: NDArray, box: NDArray | None) -> float:
        """The bias [kJ/mol], at other coordinates than those of the frame."""
        return self._backend.evaluate(positions, box, self.frame[2])[1]

    def update(self) -> None:
        """Write the rows and lay the hills of the frame."""
        self._backend.update(*self.frame)
        if self._openmm is not None:
            self._openmm.refresh()

    def close(self) -> None:
        self._backend.close()


class _KernelEngine:
    """libplumed, one frame a step."""

    def __init__(
        self, statements: Sequence[Statement], n_atoms: int, settings: DriverSettings
    ) -> None:
        self._plumed = Plumed(
            MDSettings(
                settings.directory.absolute(),
                _placed(settings.masses, n_atoms),
                _placed(settings.charges, n_atoms),
                kT=settings.kt,
                timestep=settings.timestep,
                restart=settings.restart,
                virial=True,
            ),
            list(statements),
        )

    def calculate(self, positions: NDArray, box: NDArray | None, step: int) -> None:
        """Take one frame."""
        plumed = self._plumed
        self.frame = positions, box, step
        plumed.positions[:] = positions
        plumed.box[:] = 0.0 if box is None else box
        plumed.forces.fill(0.0)
        plumed.virial.fill(0.0)
        plumed.calculate(step)

    def forces(self) -> tuple[NDArray, NDArray]:
        """Forces [kJ/mol/nm] and virial [kJ/mol] of the frame."""
        return self._plumed.forces.copy(), self._plumed.virial.copy()

    def bias(self, positions: NDArray, box: NDArray | None) -> float:
        """The bias [kJ/mol], at other coordinates than those of the frame."""
        self._plumed.positions[:] = positions
        self._plumed.box[:] = 0.0 if box is None else box
        return self._plumed.calculate(self.frame[2])

    def update(self) -> None:
        """Write the rows and lay the hills of the frame."""
        self._plumed.update()

    def close(self) -> None:
        self._plumed.close()


def _placed(numbers: NDArray | None, n_atoms: int) -> NDArray[np.float64]:
    """Numbers of all atoms, NaN where none is given."""
    placed = np.full(n_atoms, np.nan)
    if numbers is None:
        return placed
    if len(numbers) > n_atoms:
        raise ValueError(f"there are masses of {len(numbers)} atoms, the frames have {n_atoms}")
    placed[: len(numbers)] = numbers
    return placed


def driver_settings(**options: Any) -> DriverSettings:
    """Settings from the options of the command line, named as PLUMED's with ``_`` for ``-``.

    Raises
    ------
    ValueError
        If one has no meaning.
    """
    masses = charges = None
    for name in ("pdb", "mc"):
        if options[name] is not None:
            masses, charges = read_masses(options[name])
    if not is_number_format(options["dump_forces_fmt"]):
        raise ValueError("--dump-forces-fmt: expected a format such as %10.6f")
    return DriverSettings(
        timestep=options["timestep"],
        trajectory_stride=options["trajectory_stride"],
        initial_step=options["initial_step"],
        length=length_unit(options["length_units"]),
        kt=options["kt"],
        restart=options["restart"],
        backend=options["backend"],
        directory=options["out"],
        masses=masses,
        charges=charges,
        box=None if options["box"] is None else read_box(options["box"]),
        forces=options["dump_forces"],
        forces_format=options["dump_forces_fmt"],
        full_virial=options["dump_full_virial"],
        debug_forces=options["debug_forces"],
    )


def length_unit(text: str) -> float:
    """A length unit [nm], by PLUMED's name or as a number.

    Raises
    ------
    ValueError
        If it is neither.
    """
    [statement] = read_statements(f"UNITS LENGTH={text}")
    [action] = read_actions([statement])
    assert isinstance(action, Units)
    return action.system.length


def read_box(text: str) -> NDArray[np.float64]:
    """Box vectors as rows of three or nine numbers with commas.

    Raises
    ------
    ValueError
        If it is something else.
    """
    try:
        numbers = [float(word) for word in text.split(",")]
    except ValueError:
        numbers = []
    if len(numbers) not in (3, 9):
        raise ValueError(f"--box {text}: expected three or nine numbers with commas")
    return np.diag(numbers) if len(numbers) == 3 else np.reshape(numbers, (3, 3))
