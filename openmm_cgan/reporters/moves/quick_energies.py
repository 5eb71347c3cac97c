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

from openmm_cgan.constraints import masses_of
from openmm_cgan.reporters.parts import BONDED, terms_among

WORTH_IT = 500  # particles: a smaller System is evaluated whole
AS_BONDS = 500_000  # pairs that are written down
NUMBERS = ("q", "s", "e")  # of a pair: product of charges, sigma and epsilon
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
    for made_of in _pairwise(nonbonded[0], {int(atom) for atom in part}, n):
        made.addForce(made_of)
    return made


def _pairwise(force: openmm.NonbondedForce, part: set[int], n: int) -> list[openmm.Force]:
    """Interactions between a part and all n particles, and those of its exceptions."""
    exceptions = openmm.CustomBondForce(f"4*e*((s/r)^12 - (s/r)^6) + {COULOMB}*q/r")
    for name in NUMBERS:
        exceptions.addPerBondParameter(name)
    exceptions.setUsesPeriodicBoundaryConditions(force.getExceptionsUsePeriodicBoundaryConditions())
    left_out = set[tuple[int, int]]()
    for k in range(force.getNumExceptions()):
        one, two, *numbers = force.getExceptionParameters(k)
        if one in part or two in part:
            left_out.add((min(one, two), max(one, two)))
            q, s, e = _numbers(numbers)
            if q or e:
                exceptions.addBond(one, two, [q, s, e])
    few = len(part) * n <= AS_BONDS
    return [(_as_bonds if few else _as_groups)(force, part, left_out), exceptions]


def _form(force: openmm.NonbondedForce) -> tuple[str, str]:
    """The energy of a pair by its q, s and e within the cutoff, and what is defined for it."""
    cutoff = force.getCutoffDistance().value_in_unit(unit.nanometer)
    dielectric = force.getReactionFieldDielectric()
    slope = (dielectric - 1) / (2 * dielectric + 1) / cutoff**3
    shift = 3 * dielectric / (2 * dielectric + 1) / cutoff
    factor, part_of_it = "1", ""
    if force.getUseSwitchingFunction():  # of Lennard-Jones alone
        begin = force.getSwitchingDistance().value_in_unit(unit.nanometer)
        factor = "select(step(x), 1 + x^3*(15*x - 10 - 6*x^2), 1)"
        part_of_it = f"; x = (r - {begin!r})/{cutoff - begin!r}"
    form = f"4*e*((s/r)^12 - (s/r)^6)*{factor} + {COULOMB}*q*(1/r + {slope!r}*r^2 - {shift!r})"
    return form, part_of_it


def _as_bonds(
    force: openmm.NonbondedForce, part: set[int], left_out: set[tuple[int, int]]
) -> openmm.CustomBondForce:
    """A bond for each pair.

    On the CPU platform whatever has a cutoff has a list of all neighbours, made anew for each
    candidate: it takes as long as the energy of the whole System.
    """
    (form, more), cutoff = _form(force), force.getCutoffDistance().value_in_unit(unit.nanometer)
    pairs = openmm.CustomBondForce(f"step({cutoff!r} - r)*({form}){more}")
    for name in NUMBERS:
        pairs.addPerBondParameter(name)
    pairs.setUsesPeriodicBoundaryConditions(force.usesPeriodicBoundaryConditions())
    n = force.getNumParticles()
    q, s, e = np.array([_numbers(force.getParticleParameters(k)) for k in range(n)]).T
    for one in sorted(part):
        of_one = np.stack([q[one] * q, 0.5 * (s[one] + s), np.sqrt(e[one] * e)], axis=1)
        for two, numbers in enumerate(of_one.tolist()):
            is_second = two in part and two <= one  # itself, or met before
            if not is_second and (min(one, two), max(one, two)) not in left_out:
                pairs.addBond(one, two, numbers)
    return pairs


def _as_groups(
    force: openmm.NonbondedForce, part: set[int], left_out: set[tuple[int, int]]
) -> openmm.CustomNonbondedForce:
    """Groups of particles that interact, where pairs would be too many to write down."""
    form, more = _form(force)
    between = openmm.CustomNonbondedForce(
        f"{form}; q = q1*q2; s = 0.5*(s1 + s2); e = sqrt(e1*e2){more}"
    )
    for name in NUMBERS:
        between.addPerParticleParameter(name)
    n = force.getNumParticles()
    for k in range(n):
        between.addParticle(_numbers(force.getParticleParameters(k)))
    between.addInteractionGroup(part, range(n))
    periodic = force.usesPeriodicBoundaryConditions()
    between.setNonbondedMethod(between.CutoffPeriodic if periodic else between.CutoffNonPeriodic)
    between.setCutoffDistance(force.getCutoffDistance())
    for pair in sorted(left_out):
        between.addExclusion(*pair)
    return between


def _numbers(quantities: Iterable[Any]) -> list[float]:
    """Charge or product of charges, sigma and epsilon in OpenMM's units."""
    return [quantity.value_in_unit_system(unit.md_unit_system) for quantity in quantities]
