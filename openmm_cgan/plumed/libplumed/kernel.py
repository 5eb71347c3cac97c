"""The kernel backend: any PLUMED input, run by libplumed itself through ``openmm.PythonForce``.

A force evaluation only calculates. PLUMED's ``update``, which lays hills and writes rows, runs in
`KernelBackend.update`, between steps. What is asked before a run begins goes to muted instances of
PLUMED, whose output files are unlinked as soon as they are open.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from dataclasses import replace
from functools import cached_property

import numpy as np
import openmm

from openmm_cgan import GAS_CONSTANT
from openmm_cgan.called_back import Callback
from openmm_cgan.collective_variable import CollectiveVariable
from openmm_cgan.plumed.input.language import PlumedInput
from openmm_cgan.plumed.libplumed.enquiries import (
    Domain,
    energy_needed,
    periodic_domains,
    probe,
    require_finite,
    require_number,
    variables_with,
)
from openmm_cgan.plumed.libplumed.instance import (
    MISSING,
    MDSettings,
    Plumed,
    find_kernel,
    flush_all,
)
from openmm_cgan.plumed.libplumed.run_by_plumed import RunByPlumed
from openmm_cgan.plumed.libplumed.schedule import idle_step, update_strides
from openmm_cgan.plumed.libplumed.statements import highest_serial, only_variables, with_centres
from openmm_cgan.plumed.native.forces.system_box import masses_and_charges
from openmm_cgan.states import box_of, copy_positions

log = logging.getLogger("openmm_cgan")

FLUSH_SECONDS = 1.0

PROBE_ATOMS = 100_000  # the input is read with so many, or more, while the system is not known


class KernelBackend(RunByPlumed, Callback):
    """A PLUMED input run by libplumed.

    Parameters
    ----------
    plumed_input : PlumedInput
        The input, and where its files are.
    temperature : float or None
        [K]
    restart : bool
        Append to the files and read the hills, as PLUMED's RESTART.
    read : tuple of str
        Names of the values that `evaluate`, `update` and `cv_values` return.

    Raises
    ------
    RuntimeError
        If PLUMED is not installed.
    """

    name = "kernel"
    lives_here = "PLUMED"

    def __init__(
        self,
        plumed_input: PlumedInput,
        *,
        temperature: float | None,
        restart: bool,
        read: tuple[str, ...],
    ) -> None:
        if find_kernel() is None:
            raise RuntimeError(MISSING)
        super().__init__()
        self.read = tuple(read)
        self.statements = list(plumed_input.followed)
        self.folder = plumed_input.folder.absolute()
        self.restart = restart
        self.temperature = temperature
        self._timestep: float | None = None
        self._particles: np.ndarray | None = None  # None: all
        self._plumed: Plumed | None = None
        self._observer: Plumed | None = None
        self._checked: set[int] = set()
        self._began = False
        self._closed = False
        self._flushed = time.monotonic()
        self._lock = threading.Lock()

    # ---- what is known before a run

    def check(self, n_atoms: int) -> None:
        """Have PLUMED read the input for a system of so many atoms.

        Raises PlumedInputError if it refuses a statement.
        """
        if n_atoms not in self._checked:
            self._probe(n_atoms).close()
            self._checked.add(n_atoms)

    def domains(self) -> dict[str, Domain]:
        """Periodic domains of the values in `read`, as PLUMED declares them in COLVAR."""
        return periodic_domains(self._probe(self._enough_atoms()), self.read)

    def describe(self, names: tuple[str, ...]) -> tuple[CollectiveVariable, ...]:
        """What is known of the named values: domains from PLUMED, atoms from the input.

        Raises
        ------
        ValueError
            If the input does not define one.
        PlumedInputError
            If PLUMED refuses the input.
        """
        self.read = tuple(names)
        return variables_with(self.domains(), self.statements, self.folder)

    def _enough_atoms(self) -> int:
        """Atoms to read the input with: those of the system where it is known."""
        if self._masses is not None:
            return len(self._masses)
        return max(PROBE_ATOMS, highest_serial(self.statements))

    def _probe(self, n_atoms: int) -> Plumed:
        return probe(self._settings(n_atoms), self.statements)

    @cached_property
    def strides(self) -> list[int]:
        """At which multiples of the step `update` has something to do; [1] for every step."""
        return update_strides(self.statements, self.folder)

    def _settings(self, n_atoms: int) -> MDSettings:
        # where the system is not known yet, what depends on a mass must not look like a number
        masses = np.full(n_atoms, np.nan) if self._masses is None else self._masses
        charges = np.full(n_atoms, np.nan) if self._charges is None else self._charges
        if len(masses) != n_atoms:
            raise ValueError(f"got {n_atoms} atoms; the System has {len(masses)}")
        kT = None if self.temperature is None else GAS_CONSTANT * self.temperature
        return MDSettings(self.folder, masses, charges, kT=kT, restart=self.restart)

    # ---- in a system

    def forces(self, system: openmm.System) -> list[openmm.Force]:
        """Make the force for a System, and remember its masses and charges."""
        n_atoms = system.getNumParticles()
        self.set_masses(*masses_and_charges(system))
        asked = self._probe(n_atoms)
        atoms = asked.atoms_needed()
        self.needs_energy = energy_needed(asked, self.statements)
        asked.close()
        subset = 0 < len(atoms) < n_atoms
        self._plumed = self._observer = None  # they knew no masses
        self._particles = atoms if subset else None
        self._some_positions = np.zeros((len(atoms), 3))
        force = openmm.PythonForce(self.compute, {}, atoms.tolist() if subset else [])
        force.setUsesPeriodicBoundaryConditions(system.usesPeriodicBoundaryConditions())
        self._periodic = system.usesPeriodicBoundaryConditions()
        force.setName(self.force_name)
        return [force]

    def compute(self, state: openmm.State) -> tuple[float, np.ndarray]:
        """Calculate bias and forces: what OpenMM calls at each force evaluation.

        Parameters
        ----------
        state : openmm.State
            With the positions of the atoms that PLUMED needs.

        Returns
        -------
        float
            [kJ/mol]
        ndarray, shape (n_needed, 3)
            [kJ/mol/nm]; the next call may overwrite it.
        """
        with self._lock:
            plumed = self._plumed or self._begin()
            particles = self._particles
            forces = plumed.forces
            if particles is None:
                copy_positions(state, plumed.positions)
                require_finite(plumed.positions)
                forces.fill(0.0)
            else:
                copy_positions(state, self._some_positions)
                require_finite(self._some_positions)
                plumed.positions[particles] = self._some_positions
                forces[particles] = 0.0
            if self._periodic:
                plumed.box[:] = box_of(state)
            energy = plumed.calculate(state.getStepCount())
            require_number(energy)
            if particles is None:
                return energy, forces
            return energy, forces.take(particles, axis=0)

    def start(self, timestep: float) -> None:
        """Begin the run that writes, with its time step [ps].

        Raises
        ------
        PlumedInputError
            If PLUMED refuses the input now, for instance because a temperature is missing.
        RuntimeError
            If the backend is in no System.
        """
        with self._lock:
            self._timestep = timestep
            self._plumed = None  # closed before its successor opens the same files
            self._begin()

    def _begin(self) -> Plumed:
        """Make the instance that the run is to use: muted until `start`."""
        if self._closed:
            raise RuntimeError("this PLUMED is closed")
        if self._masses is None:
            raise RuntimeError("the bias is in no System yet: call add_to(system) first")
        settings = self._settings(len(self._masses))
        if self._timestep is None:
            self._plumed = Plumed.muted(settings, self.statements, self.read)
        else:
            log_file = "plumed.log" if self.strides else "/dev/null"
            settings = replace(settings, timestep=self._timestep, log=log_file)
            self._plumed = Plumed(settings, self.statements, self.read)
        return self._plumed

    def tell_energy(self, potential: float) -> None:
        """Take the energy [kJ/mol] of all but the biases."""
        with self._lock:
            (self._plumed or self._begin()).set_energy(potential)

    def upload(self, context: openmm.Context) -> None:
        """Nothing to do: libplumed has the bias, no Context has a copy."""
        self.tell_barostat(context)

    # ---- values

    def evaluate(
        self, positions: np.ndarray, box: np.ndarray | None, step: int
    ) -> tuple[np.ndarray, float]:
        """The values in `read`, (n_read,) [CV units], and the bias [kJ/mol], leaving no trace.

        Parameters
        ----------
        positions : ndarray, shape (n_atoms, 3)
            [nm]
        box : ndarray, shape (3, 3), or None
            [nm]
        step : int

        Raises
        ------
        RuntimeError
            With what PLUMED says, for instance that a value has left the grid of METAD.
        ValueError
            By `require_bias`.
        """
        self.require_bias(step)
        with self._lock:
            plumed = self._plumed or self._begin()
            return self._calculate(plumed, positions, box, step)

    def _calculate(
        self, plumed: Plumed, positions: np.ndarray, box: np.ndarray | None, step: int
    ) -> tuple[np.ndarray, float]:
        if np.shape(positions) != plumed.positions.shape:
            expected = plumed.positions.shape
            raise ValueError(f"positions have shape {np.shape(positions)}; expected {expected}")
        plumed.positions[:] = positions
        require_finite(plumed.positions)
        plumed.box[:] = 0.0 if box is None else box
        energy = plumed.calculate(step)
        return plumed.values.copy(), energy

    def update(
        self, positions: np.ndarray, box: np.ndarray | None, step: int
    ) -> tuple[np.ndarray, float]:
        """Write the rows and lay the hills of this step; return what `evaluate` had before.

        Positions (n_atoms, 3) and box (3, 3) are in nm, the values (n_read,) in CV units; the bias
        is NaN where `evaluate` refuses. Call it at the first step of a run, then where `strides` is
        due; with `restart` first at the step after that which the earlier run has written last.

        Raises
        ------
        RuntimeError
            If `start` was not called, or PLUMED asks the run to stop.
        """
        with self._lock:
            if self._plumed is None or self._timestep is None:
                raise RuntimeError("update() comes after start(timestep)")
            if self.restart and not self._began:
                self._skip_first(positions, box, step)
            self._began = True
            values, energy = self._calculate(self._plumed, positions, box, step)
            self._plumed.update()
            if time.monotonic() - self._flushed > FLUSH_SECONDS:
                flush_all()  # a killed run loses no more than that
                self._flushed = time.monotonic()
            return values, energy if self.knows_bias(step) else math.nan

    def _skip_first(self, positions: np.ndarray, box: np.ndarray | None, step: int) -> None:
        """Spend the update at which METAD and OPES never act on a step where nothing else is due.

        Not even the adaptive widths of OPES, which are measured at every other step, begin there.
        """
        if (idle := idle_step(self.statements, self.folder, step)) is None:
            log.info("something is due at all steps: PLUMED lays nothing at the first of a restart")
            return
        assert self._plumed is not None
        self._calculate(self._plumed, positions, box, idle)
        self._plumed.update()

    def cv_values(self, positions: np.ndarray, box: np.ndarray | None) -> np.ndarray:
        """The values in `read`, without the biases, leaving no trace.

        Parameters
        ----------
        positions : ndarray, shape (n_atoms, 3) or (n, n_atoms, 3)
            [nm]
        box : ndarray, shape (3, 3) or (n, 3, 3), or None
            [nm]

        Returns
        -------
        ndarray, shape (n_read,) or (n, n_read)

        Raises
        ------
        ValueError
            If a value depends on masses and the System is not known yet.
        """
        frames = positions.reshape(-1, *positions.shape[-2:])
        boxes = [None] * len(frames) if box is None else np.broadcast_to(box, (len(frames), 3, 3))
        with self._lock:
            observer = self._observing(frames.shape[1])
            found = np.empty((len(frames), len(self.read)))
            for i, frame in enumerate(frames):
                try:
                    found[i] = self._calculate(observer, frame, boxes[i], 0)[0]
                except RuntimeError as error:
                    if self._masses is None and "masses" in str(error):
                        raise ValueError(f"call add_to(system) first ({error})") from None
                    raise
        return found.reshape(*positions.shape[:-2], len(self.read))

    def _observing(self, n_atoms: int) -> Plumed:
        if self._observer is None or len(self._observer.positions) != n_atoms:
            settings = self._settings(n_atoms)
            needed = only_variables(self.statements)
            try:
                self._observer = Plumed.muted(settings, needed, self.read)
            except ValueError:  # a value that depends on a bias
                self._observer = Plumed.muted(settings, self.statements, self.read)
            if self._observer.needs_energy(0):
                raise ValueError(f"ENERGY is no function of the positions: {', '.join(self.read)}")
        return self._observer

    def move(self, context: openmm.Context, centres: np.ndarray) -> None:
        """Move the centre of the only restraint of the input.

        Parameters
        ----------
        context : openmm.Context
            Any: libplumed has the bias.
        centres : ndarray, shape (n_arguments,)
            [units of the arguments]

        Raises
        ------
        ValueError
            If the input does not have exactly one RESTRAINT.
        """
        moved = with_centres(self.statements, centres)
        with self._lock:
            self.statements = moved
            self._plumed = None

    def close(self) -> None:
        """End PLUMED and close its files."""
        for plumed in (self._plumed, self._observer):
            if plumed is not None:
                plumed.close()
        self._plumed = self._observer = None
        self._closed = True
