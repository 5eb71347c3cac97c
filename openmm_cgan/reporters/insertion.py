"""Generated atoms brought to their place while what is around them makes room, at temperature.

A configuration that was generated without its solvent would lie among molecules of it. The atoms
themselves push these away: they go in straight lines from where they are to where they are to be,
under the forces of the system as they are, but with a mass that nothing turns aside. They may pass
through one another, for what they feel does not move them, and nothing is taken out of a force or
put into it: what is around them feels a whole molecule all the time, its charges included. They
begin fast and come to rest, the way that is left falling with the square of the time that is left:
what is around them lags behind by what they went of late, and has then caught up when they arrive.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import openmm
from numpy.typing import NDArray
from openmm import app

from openmm_cgan.constraints import masses_of
from openmm_cgan.plumed.geometry.lattices import nearest_image
from openmm_cgan.potentials import global_parameters, system_without
from openmm_cgan.reporters.bath import Bath
from openmm_cgan.reporters.contexts import context_like, follow_parameters
from openmm_cgan.reporters.parts import Part
from openmm_cgan.reporters.surroundings import Surroundings
from openmm_cgan.states import positions_of, velocities_of

PISTON = 1e12  # dalton: moved by 1e-9 nm in a step by the force of a clash of 0.1 nm
NEAR = 0.6  # nm: two layers of water, held at the temperature around what moves
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
    surroundings : Surroundings
        The current configuration at each attempt.
    """

    def __init__(
        self, simulation: app.Simulation, system: openmm.System, surroundings: Surroundings
    ) -> None:
        self._here, atoms = surroundings, surroundings.atoms
        self._bath = Bath(system)
        self._pistons = atoms[masses_of(system)[atoms] > 0]  # virtual sites follow
        self._context = context_like(simulation, _with_pistons(system, self._pistons))
        self._followed = global_parameters(system)
        self._part = Part(simulation, system, atoms)
        own = (np.intersect1d(m, atoms) for m in simulation.context.getMolecules())
        self._molecules = [molecule for molecule in own if len(molecule)]  # that are generated
        self._velocities: NDArray[np.float64] | None = None  # of the run, once it is followed

    def follow(self, context: openmm.Context) -> None:
        """Take over the parameters and the velocities of the running Context."""
        follow_parameters(self._followed, context, self._context)
        self._part.follow(context)
        self._velocities = velocities_of(context.getState(velocities=True))

    def own_energies(self, positions: NDArray[np.float64]) -> NDArray[np.float64]:
        """Energies (n,) [kJ/mol] of the generated atoms alone in whole systems (n, n_atoms, 3)."""
        return self._part.energies(positions[:, self._here.atoms])

    def unstrained(
        self, positions: NDArray[np.float64], rise: float, iterations: int
    ) -> NDArray[np.float64]:
        """A whole system, its generated atoms minimised by themselves if they need it.

        Parameters
        ----------
        positions : ndarray, shape (n_atoms, 3)
            [nm]
        rise : float
            By how much their energy may be above the current one [kJ/mol].
        iterations : int
            Of the minimiser, at most.

        Raises
        ------
        openmm.OpenMMException
            If positions become infinite or NaN.
        """
        made, now = self.own_energies(np.stack([positions, self._here.positions]))
        if made - now <= rise:
            return positions
        better, atoms = positions.copy(), self._here.atoms
        better[atoms] = self._part.relaxed(positions[atoms], iterations)
        return better

    def move(
        self,
        there: NDArray[np.float64],
        steps: int,
        temperature: float,
        rng: np.random.Generator,
    ) -> tuple[Moment, NDArray[np.bool_]]:
        """Move the generated atoms.

        Parameters
        ----------
        there : ndarray, shape (n_atoms, 3)
            Where the generated ones are to be [nm], in any image: each molecule goes the shortest
            way, not through the box. Positions of the others do not matter.
        steps : int
            To get there.
        temperature : float
            What is near is held at it by new velocities, the rest by its kinetic energy [K].
        rng : numpy Generator

        Returns
        -------
        Moment
            The generated atoms without velocities.
        ndarray of bool, shape (n_atoms,)
            What was held at the temperature, and the generated atoms.

        Raises
        ------
        openmm.OpenMMException
            If positions become infinite or NaN.
        """
        there = self._at_nearest_images(there)
        warmed = self._whole_molecules(self._here.near(there, NEAR))
        moment = self._now()
        if self._velocities is None:
            warmed[:] = True
        if self._here.box is not None:
            self._context.setPeriodicBoxVectors(*self._here.box)
        self._context.setPositions(moment.positions)
        goal, left = there[self._pistons], steps
        while left > 0:
            taken = min(REDRAW_EVERY, left)
            self._step(moment, goal, (taken, left), (warmed, temperature, rng))
            left -= taken
            moment = moment_of(self._context)
        moment.positions[self._here.atoms] = there[self._here.atoms]
        moment.velocities[self._here.atoms] = 0.0
        warmed[self._here.atoms] = True
        return moment, warmed

    def _step(
        self,
        moment: Moment,
        goal: NDArray[np.float64],
        steps: tuple[int, int],
        heat: tuple[NDArray[np.bool_], float, np.random.Generator],
    ) -> None:
        """Go some of the steps that are left towards a goal."""
        integrator = self._context.getIntegrator()
        step = integrator.getStepSize()._value
        (taken, left), (warmed, temperature, rng) = steps, heat
        way = goal - moment.positions[self._pistons]
        share = 1 - ((left - taken) / left) ** 2
        moment.velocities[self._pistons] = way * share / (taken * step)
        self._context.setVelocities(moment.velocities)
        self._bath.touch(self._context, warmed, temperature, taken * step, rng, self._pistons)
        integrator.step(taken)

    def _now(self) -> Moment:
        """The current configuration, and its velocities if they are known."""
        positions = self._here.positions
        known = self._velocities
        return Moment(positions, np.zeros_like(positions) if known is None else known.copy())

    def _at_nearest_images(self, there: NDArray[np.float64]) -> NDArray[np.float64]:
        """Positions with each generated molecule at the image nearest to where it is now."""
        moved, box = there.copy(), self._here.box
        if box is None:
            return moved
        for molecule in self._molecules:
            way = (there[molecule] - self._here.positions[molecule]).mean(axis=0)
            moved[molecule] += np.array(nearest_image((way[0], way[1], way[2]), box)) - way
        return moved

    def _whole_molecules(self, atoms: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Atoms of the molecules that some atoms are of."""
        found = atoms.copy()
        for molecule in self._context.getMolecules():
            found[list(molecule)] = atoms[list(molecule)].any()
        return found


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
