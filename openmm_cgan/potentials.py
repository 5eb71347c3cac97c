"""Energies of many configurations, from Contexts of their own beside a running simulation.

A candidate must never be seen by the running Context: PLUMED would deposit a hill at it, and a NaN
would stay. And on the Reference platform all Contexts of a process share one stream of random
numbers: a second Context with a Langevin integrator, even its making, would change the running
one. So the Contexts here are copies with a Verlet integrator, without thermostats and barostats.
"""

from __future__ import annotations

import contextlib
import copy
import os
import sys
import time
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol, runtime_checkable

import numpy as np
import openmm
from numpy.typing import NDArray

from openmm_cgan.constraints import (
    TiedAtoms,
    constraints_of,
    half_log_det_constraints,
    masses_of,
    why_not_moved,
)
from openmm_cgan.platforms import platform_and_properties, properties_of
from openmm_cgan.quantities import nanometers
from openmm_cgan.states import forces_of
from openmm_cgan.thermostats import WITHOUT_ENERGY
from openmm_cgan.virtual_sites import system_without_forces

# Threads cost more than they bring where an energy takes 10 us (22 atoms in vacuum, Reference).
WORTH_A_THREAD = 1e-4  # s


def system_without(system: openmm.System, groups: Collection[int]) -> openmm.System:
    """Copy a System, leaving out the forces of some groups, barostats and thermostats.

    Part by part: the XML copy of a whole System fails where a Python force cannot be pickled.
    """
    made = system_without_forces(system)
    for force in system.getForces():
        if force.getForceGroup() not in groups and not isinstance(force, WITHOUT_ENERGY):
            made.addForce(copy.deepcopy(force))
    return made


@runtime_checkable
class Parametrised(Protocol):
    """A force with global parameters; those of plugins may have them, too."""

    def getNumGlobalParameters(self) -> int:  # noqa: N802  OpenMM's name
        """How many."""
        ...

    def getGlobalParameterName(self, index: int) -> str:  # noqa: N802
        """Name of one, as the Context knows it."""
        ...


def global_parameters(system: openmm.System) -> set[str]:
    """Names of the Context parameters that the forces of a System define."""
    return {
        force.getGlobalParameterName(i)
        for force in system.getForces()
        if isinstance(force, Parametrised)
        for i in range(force.getNumGlobalParameters())
    }


class Potential:
    """The potential energy of a System as a function of many configurations.

    Parameters
    ----------
    system : openmm.System
        It is copied.
    leave_out : collection of int
        Force groups to leave out, those of a bias, say.
    platform : openmm.Platform or str, optional
        As a word, with properties or not (`platforms`). By default Reference, which is fastest on
        molecules of up to some hundred atoms.
    properties : mapping, optional
        Platform properties.
    n_contexts : int, optional
        Contexts, each in a thread (OpenMM works without Python's lock). By default as many as
        cores on the Reference and the CPU platform where an energy takes more than 0.1 ms, else
        one.

    Attributes
    ----------
    n_atoms : int
    masses : ndarray, shape (n_atoms,)
        [dalton]
    constraints : ndarray of int, shape (k, 2)
    constraint_lengths : ndarray, shape (k,)
        [nm]
    periodic : bool
    forces : tuple of str
        Names of the forces that make it.
    evaluated : int
        Energies so far: configurations of numbers that it was asked for.
    """

    def __init__(
        self,
        system: openmm.System,
        *,
        leave_out: Collection[int] = frozenset(),
        platform: openmm.Platform | str | None = None,
        properties: Mapping[str, str] | None = None,
        n_contexts: int | None = None,
    ) -> None:
        if n_contexts is not None and n_contexts < 1:
            raise ValueError(f"n_contexts is {n_contexts}; expected 1 or more")
        self._system = system_without(system, leave_out)
        self.n_atoms = self._system.getNumParticles()
        self.masses = masses_of(self._system)
        self.constraints, self.constraint_lengths = constraints_of(self._system)
        self.periodic, self.evaluated = self._system.usesPeriodicBoundaryConditions(), 0
        self.forces = tuple(force.getName() for force in self._system.getForces())
        self._followed = global_parameters(self._system)
        self._platform, self._properties = _how(platform, properties)
        if self._platform.getName() == "CPU":
            self._properties["Threads"] = "1"  # faster in sum, and on small molecules even alone
        elif self._platform.getName() != "Reference" and n_contexts is None:
            n_contexts = 1  # a GPU is full with one
        self._threads: ThreadPoolExecutor | None = None
        self._wanted = n_contexts  # None until an energy has been timed
        self._contexts = [self._make_context()]
        if n_contexts is not None:
            self._make_contexts(n_contexts)

    def __repr__(self) -> str:
        where = f"{self.n_contexts} on {self._platform.getName()}"
        return f"Potential({self.n_atoms} atoms, {len(self.constraints)} constraints; {where})"

    def _make_context(self) -> openmm.Context:
        integrator = openmm.VerletIntegrator(0.001)
        return openmm.Context(self._system, integrator, self._platform, self._properties)

    def _make_contexts(self, n: int) -> None:
        """Have n Contexts, with the parameters and the box of the first."""
        self._wanted = n
        parameters = dict(self._contexts[0].getParameters())
        box = self._contexts[0].getState().getPeriodicBoxVectors()
        while len(self._contexts) < n:
            made = self._make_context()
            made.setPeriodicBoxVectors(*box)
            for name, value in parameters.items():
                made.setParameter(name, value)
            self._contexts.append(made)
        self._threads = ThreadPoolExecutor(n, "potential") if n > 1 else None

    @property
    def n_contexts(self) -> int:
        """Number of Contexts."""
        return len(self._contexts)

    def follow(self, context: openmm.Context) -> None:
        """Take over the parameters of a running Context (an alchemical lambda, say) and its box."""
        running = dict(context.getParameters())
        values = {name: running[name] for name in self._followed & running.keys()}
        box = context.getState().getPeriodicBoxVectors() if self.periodic else None
        for own in self._contexts:
            for name, value in values.items():
                own.setParameter(name, value)
            if box is not None:
                own.setPeriodicBoxVectors(*box)

    def energies(self, positions: NDArray[np.float64]) -> NDArray[np.float64]:
        """Potential energies of configurations.

        Parameters
        ----------
        positions : ndarray, shape (n, n_atoms, 3)
            [nm]

        Returns
        -------
        ndarray, shape (n,)
            [kJ/mol]; infinite where it cannot be evaluated or is not a finite number.
        """
        x = self._checked(positions)
        energies = np.full(len(x), np.inf)

        def evaluate(context: openmm.Context, row: int) -> None:
            context.setPositions(x[row])
            energies[row] = context.getState(energy=True).getPotentialEnergy()._value

        self._each(x, evaluate)
        energies[~np.isfinite(energies)] = np.inf
        return energies

    def energies_and_gradients(
        self, positions: NDArray[np.float64], boxes: NDArray[np.float64] | None = None
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Potential energies and their gradients.

        Parameters
        ----------
        positions : ndarray, shape (n, n_atoms, 3)
            [nm]
        boxes : ndarray, shape (n, 3, 3), optional
            Box vectors of each [nm]; by default all have the box of `follow`, which stays.

        Returns
        -------
        energies : ndarray, shape (n,)
            [kJ/mol], infinite where not finite.
        gradients : ndarray, shape (n, n_atoms, 3)
            [kJ/mol/nm]; zero where the energy is infinite.
        """
        x = self._checked(positions)
        energies, gradients = np.full(len(x), np.inf), np.zeros_like(x)

        def evaluate(context: openmm.Context, row: int) -> None:
            if boxes is not None:
                context.setPeriodicBoxVectors(*boxes[row])
            context.setPositions(x[row])
            state = context.getState(energy=True, forces=True)
            energies[row] = state.getPotentialEnergy()._value
            gradients[row] = -forces_of(state)

        own = self._contexts[0].getState().getPeriodicBoxVectors()
        self._each(x, evaluate)
        for context in self._contexts if boxes is not None else ():
            context.setPeriodicBoxVectors(*own)
        bad = ~(np.isfinite(energies) & np.isfinite(gradients).all(axis=(1, 2)))
        energies[bad], gradients[bad] = np.inf, 0.0
        return energies, gradients

    def half_log_det(self, positions: Any) -> Any:
        """Logarithm of the Fixman factor of the System's constraints, shape (n,).

        See `half_log_det_constraints`; of torch tensors, differentiable.
        """
        return half_log_det_constraints(positions, self.constraints, self.masses)

    def tied_to(self, part: NDArray[np.int64]) -> TiedAtoms:
        """What is moved, or held by constraints, with a part (n_part,) that moves by itself.

        Raises
        ------
        ValueError
            If particles of the System do not let it.
        """
        if reason := why_not_moved(self._system, set(part.tolist())):
            raise ValueError(reason)
        return TiedAtoms(part, self.constraints, self.masses)

    def _checked(self, positions: NDArray[np.float64]) -> NDArray[np.float64]:
        x = np.ascontiguousarray(nanometers(positions))
        if x.ndim != 3 or x.shape[1:] != (self.n_atoms, 3):
            raise ValueError(
                f"configurations have shape {x.shape}; expected (n, {self.n_atoms}, 3), the atoms "
                "of the System"
            )
        return x

    def _each(self, x: NDArray, evaluate: Callable[[openmm.Context, int], None]) -> None:
        """Evaluate the finite rows, spread over the Contexts."""
        rows = np.flatnonzero(np.isfinite(x).all(axis=(1, 2))).tolist()
        self.evaluated += len(rows)

        def work(context: openmm.Context, own: list[int]) -> None:
            for row in own:
                with contextlib.suppress(openmm.OpenMMException):
                    evaluate(context, row)

        if self._wanted is None and len(rows) > 2:
            work(self._contexts[0], rows[:1])  # the first evaluation builds things
            begun = time.perf_counter()
            work(self._contexts[0], rows[1:2])
            slow = time.perf_counter() - begun > WORTH_A_THREAD
            self._make_contexts(_cores() if slow else 1)
            rows = rows[2:]
        n = min(len(self._contexts), len(rows))
        if self._threads is None or n < 2:
            work(self._contexts[0], rows)
        else:
            list(self._threads.map(work, self._contexts[:n], [rows[k::n] for k in range(n)]))


def _how(
    platform: Any, properties: Mapping[str, str] | None
) -> tuple[openmm.Platform, dict[str, str]]:
    """A platform, or a word for one, with its properties and those given beside."""
    if isinstance(platform, openmm.Platform):
        return platform, dict(properties or {})
    named, own = platform_and_properties(platform or "Reference")
    return named, own | dict(properties or {})


def potential_beside(
    simulation: Any,
    leave_out: Collection[int] = frozenset(),
    n_contexts: int | None = None,
    system: openmm.System | None = None,
) -> Potential:
    """A Potential with the forces, the platform and the parameters of a running simulation.

    Parameters
    ----------
    simulation : openmm.app.Simulation
        Only read.
    leave_out : collection of int
        Force groups to leave out.
    n_contexts : int, optional
    system : openmm.System, optional
        In place of the simulation's, of the same particles.
    """
    context = simulation.context
    made = Potential(
        simulation.system if system is None else system,
        leave_out=leave_out,
        platform=context.getPlatform(),
        properties=properties_of(context),
        n_contexts=n_contexts,
    )
    made.follow(context)
    return made


def _cores() -> int:
    """Cores that this process may use."""
    if sys.platform == "linux":
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
