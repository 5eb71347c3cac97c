"""A PLUMED input run over the frames of a trajectory, as ``plumed driver`` does.

Nothing is integrated: each frame is one step of the input, which prints its COLVAR, lays its
hills and so on, with the frame's positions.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from openmm_cgan import GAS_CONSTANT
from openmm_cgan.plumed.actions import Action, Metad, read_actions
from openmm_cgan.plumed.actions.committor import StopRunError
from openmm_cgan.plumed.actions.external import External
from openmm_cgan.plumed.actions.pbmetad.pbmetad import Pbmetad
from openmm_cgan.plumed.actions.setup import Restart
from openmm_cgan.plumed.backends import choose_backend
from openmm_cgan.plumed.driver.force_files import DebugFile, ForcesFile
from openmm_cgan.plumed.driver.frame_forces import BiasForces
from openmm_cgan.plumed.driver.settings import DriverSettings
from openmm_cgan.plumed.driver.trajectories import Frame
from openmm_cgan.plumed.input.language import (
    PlumedInput,
    PlumedInputError,
    Statement,
    read_text,
)
from openmm_cgan.plumed.libplumed.instance import MDSettings, Plumed
from openmm_cgan.plumed.native.backend import NativeBackend
from openmm_cgan.plumed.native.refusals import scales_by_box
from openmm_cgan.plumed.native.runs.run import NoTemperatureError

log = logging.getLogger("openmm_cgan")


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
    # PLUMED's driver begins this file before the actions theirs, which back up one of their name
    writer = None if settings.forces is None else ForcesFile(settings)
    debug = None if settings.debug_forces is None else DebugFile(settings)
    count = 0
    try:
        engine.begin()
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


def _engine(plumed_input: str | Path, n_atoms: int, settings: DriverSettings) -> Any:
    """What runs the input: OpenMM forces and their bookkeeping, or libplumed."""
    text, source = read_text(plumed_input)
    read = PlumedInput.read(text, source, settings.directory)
    statements = list(read.followed)
    refusal, actions = None, []
    if settings.backend != "kernel":
        try:
            actions = read_actions(statements, n_atoms, settings.directory)
            return _NativeEngine(actions, n_atoms, settings)
        except PlumedInputError as error:
            refusal = error
    choose_backend(settings.backend, refusal, read)
    return _KernelEngine(statements, n_atoms, settings)


class _NativeEngine:
    """The native backend, one frame a step."""

    def __init__(self, actions: list[Action], n_atoms: int, settings: DriverSettings) -> None:
        # the backend multiplies with GAS_CONSTANT again, so that kT arrives as it was given
        temperature = None if settings.kt is None else settings.kt / GAS_CONSTANT
        asked = [action.wanted for action in actions if isinstance(action, Restart)]
        restart = asked[-1] if asked else settings.restart  # the input has the last word
        self._backend = NativeBackend(actions, settings.directory, temperature, restart)
        self._backend.check(n_atoms)
        self._masses = _placed(settings.masses, n_atoms)
        self._backend.checks_always = any(
            isinstance(a, External) or (isinstance(a, Metad | Pbmetad) and a.has_ends)
            for a in actions
        )
        self._charges = _placed(settings.charges, n_atoms)
        self._backend.set_masses(self._masses, self._charges)
        self._openmm: BiasForces | None = None
        self._scaled = [action for action in actions if scales_by_box(action)]
        self._had_box = False
        self._wanted = settings.forces is not None or settings.debug_forces is not None
        self._wanted |= any(isinstance(a, Metad | Pbmetad) and a.needs_gradients for a in actions)
        self._timestep = settings.timestep

    def begin(self) -> None:
        """Open the files of the actions."""
        try:
            self._backend.start(self._timestep, first_step_written=False)
        except NoTemperatureError as error:
            raise ValueError(
                f"{error.who} needs a temperature: give --kt (kT in kJ/mol; 2.494 is that of "
                "300 K) or TEMP= in the input"
            ) from None

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
                self._openmm = BiasForces(self._backend, self._masses, self._charges, box)
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
        self._settings = MDSettings(
            settings.directory.absolute(),
            _placed(settings.masses, n_atoms),
            _placed(settings.charges, n_atoms),
            kT=settings.kt,
            timestep=settings.timestep,
            restart=settings.restart,
            virial=True,
        )
        self._statements = list(statements)
        self._plumed: Any = None

    def begin(self) -> None:
        """Hand the input to PLUMED, which opens the files of the actions."""
        self._plumed = Plumed(self._settings, self._statements)

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
        if self._plumed is not None:
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
