"""The heat bath of healing: it draws nothing from the random numbers of the running simulation."""

from __future__ import annotations

import numpy as np
import openmm
from numpy.typing import NDArray

from openmm_cgan import GAS_CONSTANT
from openmm_cgan.constraints import constraints_of, masses_of
from openmm_cgan.states import positions_of, velocities_of

COUPLING = 0.1  # ps, of what keeps its velocities


class Bath:
    """Holds parts of a system at a temperature, each in its own way.

    Some atoms get new velocities from the Maxwell-Boltzmann distribution. Those of all others are
    multiplied by one number, near one, so that their kinetic energy is distributed as it should be
    and forgets in 0.1 ps what it was: G. Bussi, D. Donadio, M. Parrinello, J. Chem. Phys. 126,
    014101 (2007), doi 10.1063/1.2408420.

    Parameters
    ----------
    system : openmm.System
        Masses and constraints are read.
    """

    def __init__(self, system: openmm.System) -> None:
        self._masses = masses_of(system)
        pairs, _ = constraints_of(system)
        self._freedom = 3.0 * (self._masses > 0)  # of each atom; a constraint takes half from two
        np.subtract.at(self._freedom, pairs[(self._masses[pairs] > 0).all(axis=1)], 0.5)

    def touch(
        self,
        context: openmm.Context,
        redrawn: NDArray[np.bool_],
        temperature: float,
        time: float,
        rng: np.random.Generator,
        left: NDArray[np.int64] | None = None,
    ) -> None:
        """Change the velocities in a Context, and with them the last half step of what is redrawn.

        Verlet's velocities are those of half a step before. Drawn for the positions as they are
        they heat what vibrates, at 4 fs with heavy hydrogens until it breaks; drawn for the whole
        step, and set half a step back, they leave a vibration of frequency w too hot by
        (w step)^2 / 4: 3 % of what water is bound by at 4 fs. So they are drawn in the middle of
        the last step, whose second half is made again: positions are then distributed as they
        should be (Z. Zhang, X. Liu, K. Yan, M. E. Tuckerman, J. Liu, J. Phys. Chem. A 123, 6056
        (2019), doi 10.1021/acs.jpca.9b02771), as in a run of LangevinMiddleIntegrator.

        Parameters
        ----------
        context : openmm.Context
            Of a VerletIntegrator. Where it has made no step its velocities are zero.
        redrawn : ndarray of bool, shape (n_atoms,)
            What gets new velocities, with all atoms that are held at a distance from one of them.
        temperature : float
            [K]
        time : float
            Since the last time [ps].
        rng : numpy Generator
        left : ndarray of int, optional
            Atoms whose velocities stay.
        """
        velocities = velocities_of(context.getState(velocities=True))
        moving = self._masses > 0
        if left is not None:
            moving[left] = False
        drawn, others = moving & redrawn, moving & ~redrawn
        squares = (self._masses[others, None] * velocities[others] ** 2).sum()
        freedom = self._freedom[others].sum()
        ratio = squares / (GAS_CONSTANT * temperature * freedom) if freedom else 0.0
        velocities[others] *= rescaling(ratio, freedom, np.exp(-time / COUPLING), rng)
        last = velocities[drawn]
        widths = np.sqrt(GAS_CONSTANT * temperature / self._masses[drawn])
        velocities[drawn] = widths[:, None] * rng.standard_normal((int(drawn.sum()), 3))
        self._make_again(context, velocities, drawn, last)

    def _make_again(
        self,
        context: openmm.Context,
        velocities: NDArray[np.float64],
        drawn: NDArray[np.bool_],
        last: NDArray[np.float64],
    ) -> None:
        """Give a Context velocities, and make the last half step of some atoms with theirs."""
        integrator = context.getIntegrator()
        tolerance = integrator.getConstraintTolerance()
        context.setVelocities(velocities)
        context.applyVelocityConstraints(tolerance)
        if not drawn.any():
            return
        state = context.getState(positions=True, velocities=True)
        positions, velocities = positions_of(state), velocities_of(state)
        half_a_step = 0.5 * integrator.getStepSize()._value
        positions[drawn] += half_a_step * (velocities[drawn] - last)
        context.setPositions(positions)
        context.applyConstraints(tolerance)  # and virtual sites
        context.setVelocities(velocities)
        context.applyVelocityConstraints(tolerance)


def rescaling(ratio: float, freedom: float, kept: float, rng: np.random.Generator) -> float:
    """What velocities are multiplied by in stochastic velocity rescaling.

    Equation A7 of Bussi, Donadio and Parrinello.

    Parameters
    ----------
    ratio : float
        Kinetic energy over its mean at the temperature.
    freedom : float
        Degrees of freedom.
    kept : float
        How much the kinetic energy remembers, exp(-time / coupling).
    rng : numpy Generator

    Returns
    -------
    float
        One where there is nothing that moves.
    """
    if freedom < 2 or not ratio > 0:
        return 1.0
    first, others = rng.standard_normal(), rng.chisquare(freedom - 1)
    new = (1 - kept) / (freedom * ratio)
    square = kept + new * (first**2 + others) + 2 * first * np.sqrt(kept * new)
    return float(np.sqrt(square))
