"""Energies of a part among a large rest that cost little: what they leave out a second look adds.

Of the whole System only what depends on the part is evaluated, and long-range electrostatics by a
reaction field instead of a lattice sum. That differs from the energy of the System by some kJ/mol;
a local move weighs its candidates by it, and corrects its choice by two energies of the System.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import openmm
from numpy.typing import NDArray
from openmm import unit

from openmm_cgan.potentials import masses_of
from openmm_cgan.reporters.parts import BONDED, terms_among

WORTH_IT = 500  # particles: a smaller System is evaluated whole
COULOMB = 138.935456  # kJ/mol nm/e^2, of OpenMM
CUTOFFS = (
    openmm.NonbondedForce.CutoffNonPeriodic,
    openmm.NonbondedForce.CutoffPeriodic,
    openmm.NonbondedForce.Ewald,
    openmm.NonbondedForce.PME,
    openmm.NonbondedForce.LJPME,
)


def quick_system(
    system: openmm.System, part: NDArray[np.int64], near: Iterable[int]
) -> openmm.System | None:
    """A System with what of another one depends on a part of it, or nearly so.

    Bonded forces, and Lennard-Jones and Coulomb interactions with a cutoff are kept, others
    (implicit solvent, custom forces) left out.

    Parameters
    ----------
    system : openmm.System
        Only read.
    part : ndarray of int, shape (n_part,)
    near : iterable of int
        The part, and what bonded forces connect with it.

    Returns
    -------
    openmm.System or None
        Of the same particles, in the same box; None where it is not worth it: few particles, or
        none but one NonbondedForce with a cutoff.
    """
    nonbonded = [f for f in system.getForces() if isinstance(f, openmm.NonbondedForce)]
    n = system.getNumParticles()
    if n < WORTH_IT or len(nonbonded) != 1 or nonbonded[0].getNonbondedMethod() not in CUTOFFS:
        return None
    made = openmm.System()
    made.setDefaultPeriodicBoxVectors(*system.getDefaultPeriodicBoxVectors())
    for mass in masses_of(system):
        made.addParticle(mass)
    same = {int(atom): int(atom) for atom in near}
    for force in system.getForces():
        if isinstance(force, BONDED):
            made.addForce(terms_among(force, same))
    between, exceptions = _pairwise(nonbonded[0], {int(atom) for atom in part}, n)
    made.addForce(between)
    made.addForce(exceptions)
    return made


def _pairwise(
    force: openmm.NonbondedForce, part: set[int], n: int
) -> tuple[openmm.CustomNonbondedForce, openmm.CustomBondForce]:
    """Interactions between a part and all n particles, and those of its exceptions."""
    cutoff = force.getCutoffDistance().value_in_unit(unit.nanometer)
    dielectric = force.getReactionFieldDielectric()
    slope = (dielectric - 1) / (2 * dielectric + 1) / cutoff**3
    shift = 3 * dielectric / (2 * dielectric + 1) / cutoff
    factor, part_of_it = "1", ""
    if force.getUseSwitchingFunction():  # of Lennard-Jones alone
        begin = force.getSwitchingDistance().value_in_unit(unit.nanometer)
        factor = "select(step(x), 1 + x^3*(15*x - 10 - 6*x^2), 1)"
        part_of_it = f"; x = (r - {begin!r})/{cutoff - begin!r}"
    between = openmm.CustomNonbondedForce(
        f"4*sqrt(e1*e2)*(s^12 - s^6)*{factor}"
        f" + {COULOMB}*q1*q2*(1/r + {slope!r}*r^2 - {shift!r}); s = 0.5*(s1 + s2)/r{part_of_it}"
    )
    for name in ("q", "s", "e"):
        between.addPerParticleParameter(name)
    for k in range(n):
        between.addParticle(_numbers(force.getParticleParameters(k)))
    between.addInteractionGroup(part, range(n))
    periodic = force.usesPeriodicBoundaryConditions()
    between.setNonbondedMethod(between.CutoffPeriodic if periodic else between.CutoffNonPeriodic)
    between.setCutoffDistance(cutoff)
    exceptions = openmm.CustomBondForce(f"4*e*((s/r)^12 - (s/r)^6) + {COULOMB}*q/r")
    for name in ("q", "s", "e"):
        exceptions.addPerBondParameter(name)
    exceptions.setUsesPeriodicBoundaryConditions(force.getExceptionsUsePeriodicBoundaryConditions())
    for k in range(force.getNumExceptions()):
        one, two, *numbers = force.getExceptionParameters(k)
        if one in part or two in part:
            between.addExclusion(one, two)
            q, s, e = _numbers(numbers)
            if q or e:
                exceptions.addBond(one, two, [q, s, e])
    return between, exceptions


def _numbers(quantities: Iterable[Any]) -> list[float]:
    """Charge or product of charges, sigma and epsilon in OpenMM's units."""
    return [quantity.value_in_unit_system(unit.md_unit_system) for quantity in quantities]
