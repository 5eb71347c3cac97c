"""The energy of what is around generated atoms, which says nothing of how good they are.

What is around them varies by more than any wrong geometry of theirs costs: water that is minimised
or moves, and the bonds, angles and torsions of a protein around a ligand. Taken off the whole
energy, what remains is that of the generated atoms, among themselves and with their surroundings.
"""

from __future__ import annotations

import copy
import logging

import numpy as np
import openmm
from numpy.typing import NDArray
from openmm import app

from openmm_cgan.potentials import global_parameters
from openmm_cgan.reporters.contexts import context_like, follow_parameters
from openmm_cgan.reporters.parts import BONDED, terms_among
from openmm_cgan.thermostats import WITHOUT_ENERGY

log = logging.getLogger("openmm_cgan")

CHARGE, SCALE = "charge", "sr"  # parameters of OpenMM's implicit solvents
NOTHING = 1e-12  # of a scale that must be positive


class RestEnergy:
    """Energy of all other atoms among themselves, by copies of forces that lack the generated ones.

    NonbondedForce and CustomNonbondedForce (CHARMM's NBFIX among them), bonded forces,
    CustomExternalForce, and implicit solvents: GBSAOBCForce, and CustomGBForces with the parameters
    of OpenMM's, of which the surface term stays that of all atoms, and the neck of GBn and GBn2
    sees all. What other forces do is not told apart and counts for the generated atoms: the log
    names them. Long-range corrections are constant in a box and left out of CustomNonbondedForces.

    Parameters
    ----------
    simulation : openmm.app.Simulation
        Only read: platform and its properties.
    system : openmm.System
        Without restraints and bias; only read.
    atoms : ndarray of int, shape (n_generated,)
    """

    def __init__(
        self, simulation: app.Simulation, system: openmm.System, atoms: NDArray[np.int64]
    ) -> None:
        self._context: openmm.Context | None = None
        own, n_atoms = set(atoms.tolist()), system.getNumParticles()
        if len(own) == n_atoms:
            return
        forces = [made for force in system.getForces() if (made := _without(force, own, n_atoms))]
        if not forces:
            return
        rest = openmm.System()
        rest.setDefaultPeriodicBoxVectors(*system.getDefaultPeriodicBoxVectors())
        for _ in range(n_atoms):
            rest.addParticle(1.0)  # never moved
        for force in forces:
            rest.addForce(force)
        self._followed = global_parameters(rest)
        self._context = context_like(simulation, rest)
        _say_what_is_left_out(system, own, n_atoms)

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


def _without(force: openmm.Force, atoms: set[int], n_atoms: int) -> openmm.Force | None:
    """A copy of a force without some of the atoms; None of forces that cannot be taken apart."""
    if isinstance(force, openmm.NonbondedForce):
        return _muted(force, atoms)
    if isinstance(force, openmm.CustomNonbondedForce):
        return _switched_off(force, atoms)
    if isinstance(force, openmm.GBSAOBCForce):
        return _uncharged(force, atoms)
    if isinstance(force, openmm.CustomGBForce):
        return _unsolvated(force, atoms)
    if isinstance(force, (openmm.CustomExternalForce, *BONDED)):
        return terms_among(force, {i: i for i in range(n_atoms) if i not in atoms})
    return None


def _say_what_is_left_out(system: openmm.System, atoms: set[int], n_atoms: int) -> None:
    names = {
        type(force).__name__
        for force in system.getForces()
        if not isinstance(force, WITHOUT_ENERGY) and _without(force, atoms, n_atoms) is None
    }
    if names:
        log.warning(
            "the energy by which healed configurations are judged holds what %s changes around "
            "them: more may be refused as too high than should be (max_energy in the settings)",
            ", ".join(sorted(names)),
        )


def _switched_off(
    force: openmm.CustomNonbondedForce, atoms: set[int]
) -> openmm.CustomNonbondedForce:
    """A copy in which pairs with some atoms have no energy, by a parameter of one for the others.

    Not by interaction groups: the CPU platform keeps a list of all their pairs.
    """
    made = copy.deepcopy(force)
    energy, _, definitions = made.getEnergyFunction().partition(";")
    # select, not a product: where atoms lie on each other zero times infinity is not a number
    made.setEnergyFunction(f"select(is_rest1*is_rest2, {energy}, 0);{definitions}")
    made.addPerParticleParameter("is_rest")
    for k in range(made.getNumParticles()):
        made.setParticleParameters(k, [*force.getParticleParameters(k), float(k not in atoms)])
    made.setUseLongRangeCorrection(False)
    return made


def _uncharged(force: openmm.GBSAOBCForce, atoms: set[int]) -> openmm.GBSAOBCForce:
    """A copy in which some atoms have no charge and keep no solvent away from the others."""
    made = copy.deepcopy(force)
    for atom in atoms:
        _, radius, _ = made.getParticleParameters(atom)
        made.setParticleParameters(atom, 0.0, radius, NOTHING)
    return made


def _unsolvated(force: openmm.CustomGBForce, atoms: set[int]) -> openmm.CustomGBForce | None:
    """The same of a CustomGBForce with the parameters of OpenMM's implicit solvents."""
    names = [
        force.getPerParticleParameterName(k) for k in range(force.getNumPerParticleParameters())
    ]
    if not {CHARGE, SCALE} <= set(names):
        return None
    made = copy.deepcopy(force)
    for atom in atoms:
        values = list(made.getParticleParameters(atom))
        for name in (CHARGE, SCALE):
            values[names.index(name)] = 0.0
        made.setParticleParameters(atom, values)
    return made


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
