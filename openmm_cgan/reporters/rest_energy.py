"""The energy of what is around generated atoms, which says nothing of how good they are.

What is around them varies by more than any wrong geometry of theirs costs: water that is minimised
or moves, and the bonds, angles and torsions of a protein around a ligand. Taken off the whole
energy, what remains is that of the generated atoms, among themselves and with their surroundings.
"""

from __future__ import annotations

import copy

import numpy as np
import openmm
from numpy.typing import NDArray
from openmm import app

from openmm_cgan.potentials import global_parameters
from openmm_cgan.reporters.contexts import context_like, follow_parameters
from openmm_cgan.reporters.parts import BONDED, terms_among


class RestEnergy:
    """Energy of all other atoms among themselves, by copies of NonbondedForces and bonded forces.

    Interactions by other forces (implicit solvents among them) are not told apart, and count for
    the generated atoms.

    Parameters
    ----------
    simulation : openmm.app.Simulation
        Only read: platform and its properties.
    system : openmm.System
        Only read.
    atoms : ndarray of int, shape (n_generated,)
    """

    def __init__(
        self, simulation: app.Simulation, system: openmm.System, atoms: NDArray[np.int64]
    ) -> None:
        self._context: openmm.Context | None = None
        own, n_atoms = set(atoms.tolist()), system.getNumParticles()
        others = {i: i for i in range(n_atoms) if i not in own}
        forces = [
            _muted(force, own)
            if isinstance(force, openmm.NonbondedForce)
            else terms_among(force, others)
            for force in system.getForces()
            if isinstance(force, (openmm.NonbondedForce, *BONDED))
        ]
        if not forces or not others:
            return
        rest = openmm.System()
        rest.setDefaultPeriodicBoxVectors(*system.getDefaultPeriodicBoxVectors())
        for _ in range(n_atoms):
            rest.addParticle(1.0)  # never moved
        for force in forces:
            rest.addForce(force)
        self._followed = global_parameters(rest)
        self._context = context_like(simulation, rest)

    @property
    def is_any(self) -> bool:
        """Whether there are other atoms."""
        return self._context is not None

    def follow(self, context: openmm.Context) -> None:
        """Take over the parameters of the running Context."""
        if self._context is not None:
            follow_parameters(self._followed, context, self._context)

    def __call__(self, positions: NDArray[np.float64], box: NDArray[np.float64] | None) -> float:
        """Energy [kJ/mol] at positions (n_atoms, 3) and box vectors (3, 3) [nm]; 0 of nothing."""
        if self._context is None:
            return 0.0
        if box is not None:
            self._context.setPeriodicBoxVectors(*box)
        self._context.setPositions(positions)
        return float(self._context.getState(energy=True).getPotentialEnergy()._value)


def _muted(force: openmm.NonbondedForce, atoms: set[int]) -> openmm.NonbondedForce:
    """A copy in which some atoms neither attract nor repel."""
    made = copy.deepcopy(force)
    for atom in atoms:
        _, sigma, _ = made.getParticleParameters(atom)
        made.setParticleParameters(atom, 0.0, sigma, 0.0)
    muted = set()
    for k in range(made.getNumExceptions()):
        one, two, _, sigma, _ = made.getExceptionParameters(k)
        if one in atoms or two in atoms:
            made.setExceptionParameters(k, one, two, 0.0, sigma, 0.0)
            muted.add(k)
    for k in range(made.getNumParticleParameterOffsets()):
        name, atom, *_ = made.getParticleParameterOffset(k)
        if atom in atoms:
            made.setParticleParameterOffset(k, name, atom, 0.0, 0.0, 0.0)
    for k in range(made.getNumExceptionParameterOffsets()):
        name, exception, *_ = made.getExceptionParameterOffset(k)
        if exception in muted:
            made.setExceptionParameterOffset(k, name, exception, 0.0, 0.0, 0.0)
    return made
