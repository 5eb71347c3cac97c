"""What an ``openmm.State`` holds, as arrays: read in one way, without the time that units cost.

OpenMM's ``getPositions(asNumpy=True)`` gives the same numbers after wrapping them in units, which
takes 30 us: more than PLUMED needs for a torsion.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import openmm
    from numpy.typing import NDArray
    from openmm.app import Simulation


def positions_of(state: openmm.State) -> NDArray[np.float64]:
    """Positions of the atoms.

    Parameters
    ----------
    state : openmm.State
        With positions.

    Returns
    -------
    ndarray, shape (n_atoms, 3)
        [nm]

    Raises
    ------
    openmm.OpenMMException
        If the State holds no positions.
    """
    positions = np.empty((state._getNumParticles(), 3))
    copy_positions(state, positions)
    return positions


def copy_positions(state: openmm.State, target: NDArray[np.float64]) -> None:
    """Put positions into an array, for what is called at every force evaluation.

    Parameters
    ----------
    state : openmm.State
        With positions; that of a PythonForce has those of its own atoms alone.
    target : ndarray, shape (n_atoms, 3)
        [nm]; overwritten.

    Raises
    ------
    openmm.OpenMMException
        If the State holds no positions.
    """
    state._getVectorAsNumpy(state.Positions, target)


def forces_of(state: openmm.State) -> NDArray[np.float64]:
    """Forces on the atoms.

    Parameters
    ----------
    state : openmm.State
        With forces.

    Returns
    -------
    ndarray, shape (n_atoms, 3)
        [kJ/mol/nm]

    Raises
    ------
    openmm.OpenMMException
        If the State holds no forces.
    """
    forces = np.empty((state._getNumParticles(), 3))
    state._getVectorAsNumpy(state.Forces, forces)
    return forces


def velocities_of(state: openmm.State) -> NDArray[np.float64]:
    """Velocities of the atoms.

    Parameters
    ----------
    state : openmm.State
        With velocities.

    Returns
    -------
    ndarray, shape (n_atoms, 3)
        [nm/ps]

    Raises
    ------
    openmm.OpenMMException
        If the State holds no velocities.
    """
    velocities = np.empty((state._getNumParticles(), 3))
    state._getVectorAsNumpy(state.Velocities, velocities)
    return velocities


def box_of(state: openmm.State) -> NDArray[np.float64]:
    """Box vectors; of a system without a periodic box OpenMM's default ones.

    Parameters
    ----------
    state : openmm.State

    Returns
    -------
    ndarray, shape (3, 3)
        Box vectors in rows [nm].
    """
    return np.array(state.getPeriodicBoxVectors()._value)


def default_box(system: openmm.System) -> NDArray[np.float64]:
    """The box vectors that a System begins with, in rows, shape (3, 3) [nm]."""
    return np.array([vector._value for vector in system.getDefaultPeriodicBoxVectors()])


def positions_and_box(
    state: openmm.State, periodic: bool
) -> tuple[NDArray[np.float64], NDArray[np.float64] | None]:
    """Positions, and the box where there is one.

    Parameters
    ----------
    state : openmm.State
        With positions.
    periodic : bool
        Whether the System has a periodic box.

    Returns
    -------
    ndarray, shape (n_atoms, 3)
        [nm]
    ndarray, shape (3, 3), or None
        Box vectors in rows [nm].

    Raises
    ------
    openmm.OpenMMException
        If the State holds no positions.
    """
    return positions_of(state), box_of(state) if periodic else None


class NotFiniteError(RuntimeError):
    """A run has come to positions or velocities that are infinite or NaN."""


def is_finite(simulation: Simulation) -> bool:
    """Whether all positions and velocities of a Simulation are finite."""
    state = simulation.context.getState(positions=True, velocities=True)
    parts = state.getPositions(asNumpy=True), state.getVelocities(asNumpy=True)
    return all(bool(np.isfinite(part._value).all()) for part in parts)
