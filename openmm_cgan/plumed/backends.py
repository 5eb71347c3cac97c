"""Backends: what runs an input, and which of the three is taken.

`Backend` is the contract with the bias, which knows no more of them.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import openmm

from openmm_cgan.checkpoints import SavedState
from openmm_cgan.collective_variable import CollectiveVariable
from openmm_cgan.plumed.actions import read_actions
from openmm_cgan.plumed.actions.degrees import in_degrees
from openmm_cgan.plumed.coverage import coverage_lines
from openmm_cgan.plumed.input.language import (
    PlumedInput,
    PlumedInputError,
    Problem,
)
from openmm_cgan.plumed.libplumed import kernel, plugin
from openmm_cgan.plumed.libplumed.statements import arguments_of_biases
from openmm_cgan.plumed.native.backend import NativeBackend
from openmm_cgan.plumed.native.forces.system_box import KnownAtoms

BACKENDS = ("auto", "native", "kernel", "plugin")

log = logging.getLogger("openmm_cgan")


class Backend(Protocol):
    """An input that something runs.

    Attributes
    ----------
    read : tuple of str
        Names of the values that `evaluate`, `update`, `cv_values` and `cv_columns` return: n_read.
    temperature : float or None
        [K]; may become known as late as before `start` or `go_on`.
    """

    read: tuple[str, ...]
    temperature: float | None

    @property
    def strides(self) -> list[int]:
        """At which multiples of the step `update` has something to do; may change as it goes."""
        ...

    @property
    def static(self) -> bool:
        """Whether the bias is known to be the same function of the positions at all times."""
        ...

    @property
    def remembers(self) -> bool:
        """Whether the bias depends on the steps before, other than by what `update` does."""
        ...

    @property
    def needs_energy(self) -> bool:
        """Whether `tell_energy` is to be called before `update` and `evaluate`."""
        ...

    @property
    def why_not_saved(self) -> str:
        """Why `saved` and `go_on` are refused; empty if they are not."""
        ...

    @property
    def why_no_derivatives(self) -> str:
        """Why `cv_columns` is refused; empty if it is not."""
        ...

    # ---- before a run

    def describe(self, names: tuple[str, ...]) -> tuple[CollectiveVariable, ...]:
        """What is known of the named values; ValueError if the input does not define one."""
        ...

    def check(self, n_atoms: int) -> None:
        """Raise PlumedInputError if the input does not fit a system of so many atoms."""
        ...

    def refusals(self, system: openmm.System) -> list[Problem]:
        """What can not be done in this System, though the input can be read."""
        ...

    def forces(self, system: openmm.System) -> list[openmm.Force]:
        """Make the forces of all biases, not yet in the System."""
        ...

    # ---- between steps

    def start(self, timestep: float) -> None:
        """Begin a run with this time step [ps]."""
        ...

    def resume(self, positions: np.ndarray, box: np.ndarray | None, step: int) -> None:
        """Stand at the step that an earlier run has updated.

        Parameters
        ----------
        positions : ndarray, shape (n_atoms, 3)
            [nm]
        box : ndarray, shape (3, 3), or None
            Box vectors in rows [nm].
        step : int
        """
        ...

    def tell_energy(self, potential: float) -> None:
        """Take the potential energy [kJ/mol] of all forces but the biases."""
        ...

    def update(
        self, positions: np.ndarray, box: np.ndarray | None, step: int
    ) -> tuple[np.ndarray, float] | None:
        """Write the rows and lay the hills of a step; return what `evaluate` had before.

        Positions (n_atoms, 3) [nm], box (3, 3) [nm], values (n_read,) [CV units] and bias
        [kJ/mol] are as in `evaluate`; None where only bookkeeping was due.

        Raises
        ------
        StopRunError
            If the input asks the run to stop.
        """
        ...

    def upload(self, context: openmm.Context) -> None:
        """Give what `update` has changed to the running Context."""
        ...

    def move(self, context: openmm.Context, centres: np.ndarray) -> None:
        """Move the centres (n_read,) of the only restraint of the input [units of its arguments].

        Raises
        ------
        ValueError
            If that can not be.
        """
        ...

    def flush(self) -> None:
        """Hand what is written to the operating system: others may read it."""
        ...

    def close(self) -> None:
        """Close the files."""
        ...

    # ---- values, leaving no trace

    def evaluate(
        self, positions: np.ndarray, box: np.ndarray | None, step: int
    ) -> tuple[np.ndarray, float]:
        """The values in `read` and the bias, as they stand.

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
            [kJ/mol]
        """
        ...

    def cv_values(self, positions: np.ndarray, box: np.ndarray | None) -> np.ndarray:
        """The values in `read`, shape (..., n_read) [CV units].

        Parameters
        ----------
        positions : ndarray, shape (..., n_atoms, 3)
            [nm]
        box : ndarray, shape (..., 3, 3), or None
            Box vectors in rows [nm].
        """
        ...

    def cv_columns(self, positions: Any) -> list[Any]:
        """The values in `read` one by one, each (n,), of tensors (n, n_atoms, 3) [nm], no box.

        Raises
        ------
        ValueError
            With `why_no_derivatives`.
        """
        ...

    def bias_of_cvs(self, cvs: np.ndarray, step: int) -> np.ndarray:
        """Sum of the biases (n,) [kJ/mol] at a step for values (n, n_read) of `read` [CV units].

        Raises
        ------
        ValueError
            If it is no function of them that is known.
        """
        ...

    # ---- with a checkpoint

    def saved(self, step: int) -> SavedState:
        """What the run has gathered up to a step.

        Raises
        ------
        ValueError
            With `why_not_saved`.
        """
        ...

    def go_on(self, timestep: float, state: SavedState) -> None:
        """Go on where a saved run was, in place of `start`; files lose what came after.

        Raises
        ------
        ValueError
            With `why_not_saved`, or if the state does not fit.
        """
        ...


def refuse(why: str) -> None:
    """Raise ValueError with a reason of a backend, if there is one."""
    if why:
        raise ValueError(why)


def compile_natively(
    plumed_input: PlumedInput, known: KnownAtoms | None, temperature: float | None, restart: bool
) -> tuple[NativeBackend | None, PlumedInputError | None]:
    """The native backend of an input, or why there is none.

    Parameters
    ----------
    plumed_input : PlumedInput
    known : KnownAtoms, optional
        Their masses count until the System is known.
    temperature : float or None
        [K]
    restart : bool
        Append to the files and read the hills.
    """
    n_atoms = None if known is None else len(known.masses)
    try:
        actions = read_actions(list(plumed_input.followed), n_atoms, plumed_input.folder)
        native = NativeBackend(actions, plumed_input.folder, temperature, restart)
    except PlumedInputError as refusal:
        return None, refusal
    for told in in_degrees(actions):
        log.warning("%s", told)
    if known is not None:
        native.set_masses(*known)
    return native, None


def variables_to_read(
    cvs: Sequence[str] | None, plumed_input: PlumedInput, native: NativeBackend | None
) -> tuple[str, ...]:
    """Names of the collective variables: those asked for, by default those that are used.

    Parameters
    ----------
    cvs : sequence of str, optional
    plumed_input : PlumedInput
    native : NativeBackend, optional
        The same input compiled, if it can be.

    Raises
    ------
    ValueError
        If there are none, and no PRINT either, or one is asked for twice.
    """
    if cvs is not None:
        names = tuple(cvs)
        if isinstance(cvs, str) or len(set(names)) < len(names):
            raise ValueError(f"cvs is {cvs!r}, expected names, each once, such as ('phi', 'psi')")
    elif native is not None:
        names = native.default_variables()
    else:
        names = arguments_of_biases(plumed_input.followed)
    if not names and (native is None or not (native.prints or native.needs_energy)):
        if native is None and kernel.find_kernel() is not None:  # who says first what is wrong
            asked = kernel.KernelBackend(plumed_input, temperature=None, restart=False, read=())
            asked.check(kernel.PROBE_ATOMS)
        raise ValueError(
            f"{plumed_input.source} names no collective variables: no bias and no PRINT has one in "
            "ARG; add a line PRINT ARG=..., or say which with cvs=('phi', 'psi')"
        )
    return names


def choose_backend(
    backend: str, refusal: PlumedInputError | None, plumed_input: PlumedInput
) -> str:
    """The backend to take; the log says of each statement whether it is native, and why not.

    Parameters
    ----------
    backend : {"auto", "native", "kernel", "plugin"}
    refusal : PlumedInputError or None
        Why it can not be native.
    plumed_input : PlumedInput

    Raises
    ------
    PlumedInputError
        If no backend asked for can run the input, or it has a mistake, whoever runs it.
    RuntimeError
        If the backend asked for is not installed.
    """
    if backend == "native" and refusal is not None:
        raise refusal
    if backend == "auto" and refusal is not None:
        mistakes = [problem for problem in refusal.problems if problem.is_mistake]
        if mistakes:  # which PLUMED would find as well, and say less clearly, or not find
            raise PlumedInputError(mistakes)
    if backend == "native" or (backend == "auto" and refusal is None):
        log.info("%s: native backend, it covers the input", plumed_input.source)
        return "native"
    if backend == "kernel" and kernel.find_kernel() is None:
        raise RuntimeError(kernel.MISSING)
    if backend == "plugin" and not plugin.available():
        raise RuntimeError(plugin.MISSING)
    if backend != "auto":
        return backend
    assert refusal is not None
    for name, installed in (
        ("kernel", kernel.find_kernel() is not None),
        ("plugin", plugin.available()),
    ):
        if installed:
            lines = "\n".join(coverage_lines(plumed_input.followed, refusal))
            what = plumed_input.source, name, lines
            log.info("%s: %s backend, for not all of it is native:\n%s", *what)
            return name
    raise refusal


def backend_of_restraints(backend: str) -> str:
    """What to ask for to restrain the variables of an input that this backend runs."""
    return "native" if backend == "native" else "auto"


def make_backend(
    backend: str,
    plumed_input: PlumedInput,
    native: NativeBackend | None,
    temperature: float | None,
    restart: bool,
    read: tuple[str, ...],
    known: KnownAtoms | None,
) -> Backend:
    """What runs an input.

    Parameters
    ----------
    backend : {"native", "kernel", "plugin"}
    plumed_input : PlumedInput
    native : NativeBackend, optional
        The same input compiled, if it can be: the native backend is that one.
    temperature : float or None
        [K]
    restart : bool
        Append to the files and read the hills.
    read : tuple of str
        Names of the values to be read.
    known : KnownAtoms, optional
        Masses of a System count until the bias is in one.
    """
    if backend == "native":
        assert native is not None
        native.read = read
        return native
    if backend == "kernel":
        made: kernel.KernelBackend | plugin.PluginBackend = kernel.KernelBackend(
            plumed_input, temperature=temperature, restart=restart, read=read
        )
    else:
        made = plugin.PluginBackend(
            plumed_input, temperature=temperature, restart=restart, read=read, observer=native
        )
    if known is not None and not known.guessed:
        made.set_masses(known.masses, known.charges)
    return made
