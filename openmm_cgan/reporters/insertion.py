"""Generated atoms brought to their place while what is around them makes room, at temperature.

A configuration that was generated without its solvent would lie among molecules of it. The atoms
themselves push these away: they go in straight lines from where they are to where they are to be,
under the forces of the system as they are, but with a mass that nothing turns aside. They may pass
through one another, for what they feel does not move them, and nothing is taken out of a force or
put into it: what is around them feels a whole molecule all the time, its charges included.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import openmm
from numpy.typing import NDArray
from openmm import app

from openmm_cgan.potentials import global_parameters, masses_of, system_without
from openmm_cgan.reporters.contexts import context_like, redraw_velocities
from openmm_cgan.states import positions_of, velocities_of

PISTON = 1e12  # dalton: moved by 1e-9 nm in a step by the force of a clash of 0.1 nm
REDRAW_EVERY = 25  # steps between two draws of the velocities of what is near


class Moment(NamedTuple):
    """Positions and velocities of a whole system.

    Attributes
    ----------
    positions : ndarray, shape (n_atoms, 3)
        [nm]
    velocities : ndarray, shape (n_atoms, 3)
        [nm/ps]
    """

    positions: NDArray[np.float64]
    velocities: NDArray[np.float64]


def why_not_pushed(system: openmm.System, atoms: NDArray[np.int64]) -> str:
    """Why atoms cannot push what is around them away; empty if they can."""
    polarisable = [
        type(force).__name__
        for force in system.getForces()
        if type(force).__name__ in ("AmoebaMultipoleForce", "HippoNonbondedForce")
    ]
    if polarisable:
        return f"atoms that pass through one another would polarise each other ({polarisable[0]})"
    own = set(atoms.tolist())
    for k in range(system.getNumConstraints()):
        one, two, _ = system.getConstraintParameters(k)
        if (one in own) != (two in own):
            return f"atoms {one} and {two} are held at a distance, and only one is generated"
    return ""


class Insertion:
    """Moves generated atoms of a simulation to other places, and their surroundings out of the way.

    Parameters
    ----------
    simulation : openmm.app.Simulation
        Only read: platform, its properties and the time step.
    system : openmm.System
        Without bias, thermostats and barostats; only read.
    atoms : ndarray of int, shape (n_generated,)
    """

    def __init__(
        self, simulation: app.Simulation, system: openmm.System, atoms: NDArray[np.int64]
    ) -> None:
        self._masses = masses_of(system)
        self._atoms = atoms[self._masses[atoms] > 0]  # virtual sites follow
        self._context = context_like(simulation, _with_pistons(system, self._atoms))
        self._followed = global_parameters(system)

    def follow(self, context: openmm.Context) -> None:
        """Take over the parameters of the running Context."""
        running = dict(context.getParameters())
        for name in self._followed & running.keys():
            self._context.setParameter(name, running[name])

    def move(
        self,
        now: Moment,
        box: NDArray[np.float64] | None,
        there: NDArray[np.float64],
        near: NDArray[np.bool_],
        steps: int,
        temperature: float,
        rng: np.random.Generator,
    ) -> Moment:
        """Move the generated atoms.

        Parameters
        ----------
        now : Moment
            Where all atoms are.
        box : ndarray, shape (3, 3), or None
            Box vectors [nm].
        there : ndarray, shape (n_atoms, 3)
            Where the generated ones are to be [nm]; those of the others do not matter.
        near : ndarray of bool, shape (n_atoms,)
            What is held at the temperature by redrawing its velocities; the rest goes on as it was
            going.
        steps : int
            To get there.
        temperature : float
            [K]
        rng : numpy Generator

        Returns
        -------
        Moment
            The generated atoms without velocities.

        Raises
        ------
        openmm.OpenMMException
            If positions become infinite or NaN.
        """
        integrator, own = self._context.getIntegrator(), self._atoms
        step = integrator.getStepSize()._value
        if box is not None:
            self._context.setPeriodicBoxVectors(*box)
        self._context.setPositions(now.positions)
        warmed = near.copy()
        warmed[own] = False
        goal, left, moment = there[own], steps, now
        while left > 0:
            moment.velocities[own] = (goal - moment.positions[own]) / (left * step)
            self._context.setVelocities(moment.velocities)
            redraw_velocities(self._context, warmed, self._masses, temperature, rng)
            taken = min(REDRAW_EVERY, left)
            integrator.step(taken)
            left -= taken
            moment = moment_of(self._context)
        moment.positions[own], moment.velocities[own] = goal, 0.0
        return moment


def moment_of(context: openmm.Context) -> Moment:
    """Positions and velocities of a Context.

    Raises
    ------
    openmm.OpenMMException
        If they are not finite.
    """
    state = context.getState(positions=True, velocities=True)
    moment = Moment(positions_of(state), velocities_of(state))
    if not all(np.isfinite(part).all() for part in moment):
        raise openmm.OpenMMException("a position or a velocity is not finite")
    return moment


def _with_pistons(system: openmm.System, atoms: NDArray[np.int64]) -> openmm.System:
    """A copy in which some atoms are too heavy to be moved by forces, and not constrained."""
    made, own = system_without(system, set()), set(atoms.tolist())
    for atom in own:
        made.setParticleMass(atom, PISTON)
    for k in reversed(range(made.getNumConstraints())):
        one, two, _ = made.getConstraintParameters(k)
        if one in own and two in own:
            made.removeConstraint(k)
    return made
