"""The plugin backend: the input run by openmm-plumed's PlumedForce, where that is installed.

PLUMED then lives inside the Context. It lays hills and writes rows itself, at the first force
evaluation of each step, so a configuration must not be tried in that Context before the step that
it stands at has been evaluated (`PluginBackend.finish_step`). PlumedForce gives no values of
collective variables: another backend reads the same input for them.
"""

from __future__ import annotations

import importlib.util
import logging
import math
from pathlib import Path
from typing import Protocol

import numpy as np
import openmm

from openmm_cgan.collective_variable import CollectiveVariable
from openmm_cgan.plumed.input.language import PlumedInput, PlumedInputError, Problem
from openmm_cgan.plumed.libplumed.kernel import KernelBackend
from openmm_cgan.plumed.libplumed.run_by_plumed import RunByPlumed
from openmm_cgan.plumed.libplumed.statements import require_regular_files

log = logging.getLogger("openmm_cgan")

MISSING = (
    "backend='plugin' needs the OpenMM plugin for PLUMED, and it is not installed: "
    "conda install -c conda-forge openmm-plumed (it is not on PyPI); or use backend='kernel'"
)


def available() -> bool:
    """Whether openmm-plumed is installed."""
    return importlib.util.find_spec("openmmplumed") is not None


class Observer(Protocol):
    """What computes the values of an input, of which it may be any backend but this."""

    read: tuple[str, ...]

    def check(self, n_atoms: int) -> None:
        """As `PluginBackend.check`."""
        ...

    def describe(self, names: tuple[str, ...]) -> tuple[CollectiveVariable, ...]:
        """As `PluginBackend.describe`."""
        ...

    def forces(self, system: openmm.System) -> list[openmm.Force]:
        """Make forces, which are not used; it knows the masses then."""
        ...

    def set_masses(self, masses: np.ndarray, charges: np.ndarray) -> None:
        """As `PluginBackend.set_masses`."""
        ...

    def cv_values(self, positions: np.ndarray, box: np.ndarray | None) -> np.ndarray:
        """As `PluginBackend.cv_values`, of the same shapes."""
        ...

    def close(self) -> None:
        """End it."""
        ...


class PluginBackend(RunByPlumed):
    """A PLUMED input run by openmm-plumed.

    Parameters
    ----------
    plumed_input : PlumedInput
        The input, whose folder is the current one, for PlumedForce knows no other.
    temperature : float or None
        [K]
    restart : bool
        Append to the files and read the hills, as PLUMED's RESTART.
    read : tuple of str
        Names of the values that `evaluate` and `cv_values` return.
    observer : Observer, optional
        The backend that computes values; by default a `KernelBackend` of the same input.

    Raises
    ------
    RuntimeError
        If openmm-plumed is not installed, or nothing that computes values.
    ValueError
        If the directory is not the current folder.
    PlumedInputError
        If ENERGY is used, which openmm-plumed silently takes as zero.
    """

    name = "plugin"

    def __init__(
        self,
        plumed_input: PlumedInput,
        *,
        temperature: float | None,
        restart: bool,
        read: tuple[str, ...],
        observer: Observer | None = None,
    ) -> None:
        if not available():
            raise RuntimeError(MISSING)
        if plumed_input.folder.resolve() != Path.cwd():
            raise ValueError(
                f"directory is {plumed_input.folder}: openmm-plumed reads and writes in the "
                f"current folder {Path.cwd()}; change into it, or use backend='kernel'"
            )
        require_regular_files(plumed_input.followed, plumed_input.folder)
        problems = [
            Problem(s.location, s.action, "openmm-plumed would take it as zero; leave it out")
            for s in plumed_input.statements
            if s.action == "ENERGY"
        ]
        if problems:
            raise PlumedInputError(problems)
        self._text, self.statements = plumed_input.text, list(plumed_input.followed)
        self.temperature = temperature
        self._restart = restart
        self._observer = observer or KernelBackend(
            plumed_input, temperature=temperature, restart=restart, read=read
        )
        self.read = read
        self.strides: list[int] = []  # PLUMED updates itself
        self._force: openmm.Force | None = None
        self._context: openmm.Context | None = None

    @property
    def read(self) -> tuple[str, ...]:
        """Names of the values that `evaluate` and `cv_values` return."""
        return self._observer.read

    @read.setter
    def read(self, names: tuple[str, ...]) -> None:
        self._observer.read = tuple(names)

    def check(self, n_atoms: int) -> None:
        """Have the input read for a system of so many atoms; raises as `KernelBackend.check`."""
        self._observer.check(n_atoms)

    def set_masses(self, masses: np.ndarray, charges: np.ndarray) -> None:
        """Tell masses [dalton] and charges [e], shape (n_atoms,), to what computes values."""
        self._observer.set_masses(masses, charges)

    def describe(self, names: tuple[str, ...]) -> tuple[CollectiveVariable, ...]:
        """What is known of the named values; raises as `KernelBackend.describe`."""
        return self._observer.describe(names)

    def forces(self, system: openmm.System) -> list[openmm.Force]:
        """Make the force for a System; PLUMED reads the input when a Context is made."""
        from openmmplumed import PlumedForce

        self._observer.forces(system)  # tells it the masses; its forces are not used
        force = PlumedForce(self._text)
        if self.temperature is not None:
            force.setTemperature(self.temperature)
        force.setRestart(self._restart)
        force.setName(self.force_name)
        self._force = force
        log.info("openmm-plumed writes PLUMED's log to the standard output of the process")
        return [force]

    def start(self, timestep: float) -> None:
        """Nothing to do: PLUMED has the time step from the integrator."""

    def upload(self, context: openmm.Context) -> None:
        """Remember the running Context, which alone knows the bias."""
        self._context = context
        self.tell_barostat(context)

    def cv_values(self, positions: np.ndarray, box: np.ndarray | None) -> np.ndarray:
        """The values in `read`, shape (..., n_read): see `KernelBackend.cv_values`."""
        return self._observer.cv_values(positions, box)

    def evaluate(
        self, positions: np.ndarray, box: np.ndarray | None, step: int
    ) -> tuple[np.ndarray, float]:
        """The values in `read`, and the bias [kJ/mol] of the running Context as it stands.

        At a step where PLUMED lays a hill, only the first evaluation is without that hill.

        Parameters
        ----------
        positions : ndarray, shape (n_atoms, 3)
            [nm]
        box : ndarray, shape (3, 3), or None
            Box vectors in rows [nm].
        step : int

        Returns
        -------
        ndarray, shape (n_read,)
            [CV units]
        float
            [kJ/mol]; NaN at a step at which a bias with STRIDE does not act.

        Raises
        ------
        RuntimeError
            If there is no running Context yet.
        """
        if self._context is None or self._force is None:
            raise RuntimeError("the bias is known to the running Context alone: call attach first")
        state = self._context.getState(energy=True, groups={self._force.getForceGroup()})
        energy = state.getPotentialEnergy()._value
        return self.cv_values(positions, box), energy if self.knows_bias(step) else math.nan

    update = evaluate  # PLUMED lays and writes at that force evaluation

    def finish_step(self) -> None:
        """Have PLUMED lay the hill and write the row of the step that the Context stands at.

        Call it before positions are changed: the first evaluation after the change would otherwise
        lay and write at the new ones. PLUMED does it once for a step, however often it is called.
        """
        if self._context is not None and self._force is not None:
            self._context.getState(energy=True, groups={self._force.getForceGroup()})

    def move(self, context: openmm.Context, centres: np.ndarray) -> None:
        """Refuse: PlumedForce can not be changed in a living Context.

        Parameters
        ----------
        context : openmm.Context
        centres : ndarray, shape (n_arguments,)
            [units of the arguments]

        Raises
        ------
        ValueError
        """
        raise ValueError("backend='plugin' can not move a restraint; use native or kernel")

    def close(self) -> None:
        """Close what reads values; PLUMED closes its files with the Context."""
        self._observer.close()
