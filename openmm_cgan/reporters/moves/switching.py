r"""Switches: dynamics in which a force leads coordinates from some places to others.

H(x, v; z) is kinetic and potential energy with the force that holds coordinates at places z
(`Steering`). A switch makes n steps of velocity Verlet (with constraints, of RATTLE) while the
places go evenly from z to z'. One step is

    v += dt/2 f(x; z_i)/m;   x += dt v;   v += dt/2 f(x; z_(i+1))/m.

It preserves the volume of phase space, and made from the end with velocities reversed and places
going back it leads to where it came from, exactly: the places are the same at the same x. So a
switch is a deterministic, reversible map, and exp(-dH/kT), dH the change of H from its beginning to
its end, is all that a Metropolis test needs. dH is the work of the force *and* what the finite step
does not conserve (shadow work), whatever the step; nothing is to be subtracted [1]_, [2]_.

OpenMM's VerletIntegrator makes the same steps with velocities half a step behind; the two half
steps at the ends are made here. How well a switch leads back is set by the platform's precision and
by the tolerance of constraints.

References
----------
.. [1] J. P. Nilmeier, G. E. Crooks, D. D. L. Minh, J. D. Chodera, Proc. Natl. Acad. Sci. USA 108,
   E1009 (2011), doi 10.1073/pnas.1106094108.
.. [2] H. C. Andersen, J. Comput. Phys. 52, 24 (1983), doi 10.1016/0021-9991(83)90014-1 (RATTLE).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import openmm
from numpy.typing import NDArray

from openmm_cgan.constraints import masses_of
from openmm_cgan.potentials import global_parameters
from openmm_cgan.reporters.contexts import context_like, follow_parameters
from openmm_cgan.reporters.moves.steering import SHARE, Steering
from openmm_cgan.short_reprs import short_repr
from openmm_cgan.states import forces_of, positions_of, velocities_of

if TYPE_CHECKING:
    from openmm.app import Simulation

TOLERANCE = 1e-6  # of constraints, relative: looser ones are not led back
LONGEST = 0.002  # ps, of a step: 4 fs leave 12 kJ/mol behind (220 or 1,700 atoms), 2 fs nothing


@dataclass(frozen=True)
class Steps:
    """How many steps a switch has, and how long they are.

    Attributes
    ----------
    n : int
    length : float, optional
        [ps]; by default that of the run's own steps, but at most `LONGEST`.
    """

    n: int
    length: float | None = None


@dataclass(frozen=True, repr=False)
class Switched:
    """Where a switch has led.

    Attributes
    ----------
    positions, velocities : ndarray, shape (n_atoms, 3)
        At its end [nm, nm/ps].
    change : float
        H at its end less H at its beginning [kJ/mol]; NaN if it is not finite.
    energies : tuple of float
        Potential energy at both, without the force that leads [kJ/mol].
    evaluated : int
        How often forces were.
    """

    positions: NDArray[np.float64]
    velocities: NDArray[np.float64]
    change: float
    energies: tuple[float, float]
    evaluated: int

    __repr__ = short_repr


class Switching:
    """Makes switches of a System in a Context of its own.

    Parameters
    ----------
    simulation : openmm.app.Simulation
        Its platform is used; it is only read.
    system : openmm.System
        The forces that count, without thermostats and barostats; a force is added to it.
    steering : Steering
    group : int
        A force group without other forces.
    steps : Steps
    """

    def __init__(
        self,
        simulation: Simulation,
        system: openmm.System,
        steering: Steering,
        group: int,
        steps: Steps,
    ) -> None:
        self.steering, self.n_steps = steering, steps.n
        self._force, self._group = steering.force(), group
        self._force.setForceGroup(group)
        self._followed = global_parameters(system)
        self._is_periodic = system.usesPeriodicBoundaryConditions()
        self._masses = masses_of(system)
        self._moves = self._masses > 0
        system.addForce(self._force)
        self.context = context_like(simulation, system)
        self._integrator = self.context.getIntegrator()
        self._tolerance = min(TOLERANCE, self._integrator.getConstraintTolerance())
        self._integrator.setConstraintTolerance(self._tolerance)
        self.step = steps.length or min(LONGEST, self._integrator.getStepSize()._value)  # ps
        self._integrator.setStepSize(self.step)

    def follow(self, context: openmm.Context) -> None:
        """Take over the parameters and the box of a running Context."""
        follow_parameters(self._followed, context, self.context)
        if self._is_periodic:
            self.context.setPeriodicBoxVectors(*context.getState().getPeriodicBoxVectors())

    def drawn_velocities(
        self, positions: NDArray[np.float64], kT: float, rng: np.random.Generator
    ) -> NDArray[np.float64]:
        """Velocities (n_atoms, 3) [nm/ps] at a temperature, along the constraints of positions."""
        velocities = np.zeros_like(positions)
        widths = np.sqrt(kT / self._masses[self._moves])
        velocities[self._moves] = widths[:, None] * rng.standard_normal((len(widths), 3))
        self.context.setPositions(positions)
        return self._along_constraints(velocities)

    def made(
        self,
        positions: NDArray[np.float64],
        velocities: NDArray[np.float64],
        start: NDArray[np.float64],
        end: NDArray[np.float64],
    ) -> Switched:
        """Make a switch.

        Parameters
        ----------
        positions, velocities : ndarray, shape (n_atoms, 3)
            Where it begins [nm, nm/ps].
        start, end : ndarray, shape (n,)
            Places of the coordinates that are steered [rad or nm].
        """
        context, n = self.context, self.n_steps
        try:
            context.setPositions(positions)
            self.steering.lead(self._force, context, start, end)
            before, led_before, kick = self._energies_and_kick()
            context.setVelocities(velocities - kick)
            for i in range(n):
                context.setParameter(SHARE, i / n)
                self._integrator.step(1)
            context.setParameter(SHARE, 1.0)
            state = context.getState(positions=True, velocities=True)
            after, led_after, kick = self._energies_and_kick()
            v = self._along_constraints(velocities_of(state) + kick)
        except openmm.OpenMMException:  # what is not finite breaks neighbour lists
            return Switched(positions, velocities, np.nan, (np.nan, np.nan), n + 2)
        change = after + self._kinetic(v) - before - self._kinetic(velocities)
        change = change if np.isfinite(change) else np.nan
        return Switched(
            positions_of(state), v, change, (before - led_before, after - led_after), n + 2
        )

    def _energies_and_kick(self) -> tuple[float, float, NDArray[np.float64]]:
        """Potential energy with the force that leads, that of this force alone, and dt/2 f/m."""
        state = self.context.getState(energy=True, forces=True)
        led = self.context.getState(energy=True, groups={self._group})
        forces, moves = forces_of(state), self._moves
        kick = np.zeros_like(forces)
        kick[moves] = 0.5 * self.step * forces[moves] / self._masses[moves, None]
        return state.getPotentialEnergy()._value, led.getPotentialEnergy()._value, kick

    def _kinetic(self, velocities: NDArray[np.float64]) -> float:
        with np.errstate(over="ignore", invalid="ignore"):  # of a switch that went astray
            return 0.5 * float((self._masses[:, None] * velocities**2).sum())

    def _along_constraints(self, velocities: NDArray[np.float64]) -> NDArray[np.float64]:
        """Velocities (n_atoms, 3) without what they have along constraints."""
        self.context.setVelocities(velocities)
        self.context.applyVelocityConstraints(self._tolerance)
        return velocities_of(self.context.getState(velocities=True))
