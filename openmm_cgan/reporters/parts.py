"""The generated atoms without what is around them: how good they are in themselves."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from typing import Any

import numpy as np
import openmm
from numpy.typing import NDArray
from openmm import app

from openmm_cgan.constraints import masses_of
from openmm_cgan.potentials import global_parameters
from openmm_cgan.reporters.contexts import context_like, follow_parameters
from openmm_cgan.states import positions_of

# Forces that are sums over few atoms each, and those between all pairs; others tell nothing here.
BONDED = (
    openmm.HarmonicBondForce,
    openmm.HarmonicAngleForce,
    openmm.PeriodicTorsionForce,
    openmm.RBTorsionForce,
    openmm.CMAPTorsionForce,
    openmm.CustomBondForce,
    openmm.CustomAngleForce,
    openmm.CustomTorsionForce,
)
PAIRWISE = (openmm.NonbondedForce, openmm.CustomNonbondedForce)
CUTOFF = 1.0  # nm: beyond it, and by a reaction field, water screens charges
FORCE_TOLERANCE = 10.0  # kJ/mol/nm: where minimisation may stop, OpenMM's default


class Part:
    """Some atoms of a simulation as if there were no others, in a field that screens charges.

    Forces other than bonds, angles, torsions and those between pairs are left out: these energies
    compare geometries.

    Parameters
    ----------
    simulation : openmm.app.Simulation
        Only read: platform and its properties.
    system : openmm.System
        Only read.
    atoms : ndarray of int, shape (n_part,)
    """

    def __init__(
        self, simulation: app.Simulation, system: openmm.System, atoms: NDArray[np.int64]
    ) -> None:
        part = part_of(system, atoms)
        self._followed = global_parameters(part)
        self._context = context_like(simulation, part)

    def follow(self, context: openmm.Context) -> None:
        """Take over the parameters of the running Context."""
        follow_parameters(self._followed, context, self._context)

    def energies(self, positions: NDArray[np.float64]) -> NDArray[np.float64]:
        """Energies (n,) [kJ/mol] at positions (n, n_part, 3) [nm]; infinite where not finite."""
        energies = np.full(len(positions), np.inf)
        for i, x in enumerate(positions):
            if np.isfinite(x).all():
                self._context.setPositions(x)
                state = self._context.getState(energy=True)
                energies[i] = state.getPotentialEnergy()._value
        return np.where(np.isfinite(energies), energies, np.inf)

    def relaxed(self, positions: NDArray[np.float64], iterations: int) -> NDArray[np.float64]:
        """Positions (n_part, 3) [nm] after some iterations of the minimiser.

        Raises
        ------
        openmm.OpenMMException
            If they become infinite or NaN.
        """
        self._context.setPositions(positions)
        openmm.LocalEnergyMinimizer.minimize(self._context, FORCE_TOLERANCE, iterations)
        return positions_of(self._context.getState(positions=True))


def part_of(system: openmm.System, atoms: NDArray[np.int64]) -> openmm.System:
    """A System of some atoms, in their order, with the terms of forces that are of them alone.

    Parameters
    ----------
    system : openmm.System
        Only read.
    atoms : ndarray of int, shape (n_part,)

    Returns
    -------
    openmm.System
        Not periodic.
    """
    made, masses = openmm.System(), masses_of(system)
    numbers = {int(atom): k for k, atom in enumerate(atoms)}
    for atom in atoms:
        made.addParticle(masses[atom])
    for k in range(system.getNumConstraints()):
        one, two, length = system.getConstraintParameters(k)
        if one in numbers and two in numbers and masses[one] * masses[two] > 0:
            made.addConstraint(numbers[one], numbers[two], length)
    for force in system.getForces():
        if isinstance(force, BONDED + PAIRWISE) and not _has_groups(force):
            made.addForce(_without_box(terms_among(force, numbers)))
    return made


def terms_among(force: openmm.Force, numbers: dict[int, int]) -> openmm.Force:
    """The terms of a force that are of some atoms alone, by OpenMM's own description of it.

    Parameters
    ----------
    force : openmm.Force
        Of `BONDED` or `PAIRWISE`, or a CustomExternalForce; only read.
    numbers : dict of int to int
        Atoms, and what they are called in the terms that are given.
    """
    root = ElementTree.fromstring(openmm.XmlSerializer.serialize(force))
    if isinstance(force, PAIRWISE):
        particles = _child(root, "Particles")
        kept = [particles[atom] for atom in numbers]
        particles[:] = kept
        for name in ("ParticleOffsets", "ExceptionOffsets"):
            for found in root.findall(name):
                found[:] = []
    for terms in root:
        if terms.tag in ("Maps", "Functions") or (
            terms.tag == "Particles" and isinstance(force, PAIRWISE)
        ):
            continue
        terms[:] = [term for term in terms if _renumbered(term, numbers)]
    return openmm.XmlSerializer.deserialize(ElementTree.tostring(root, encoding="unicode"))


def _renumbered(term: ElementTree.Element, numbers: dict[int, int]) -> bool:
    """Whether all atoms of a term are among some, which then are called by their new numbers."""
    places = [name for name in term.attrib if _is_atom(name)]
    if not all(int(term.attrib[name]) in numbers for name in places):
        return False
    for name in places:
        term.set(name, str(numbers[int(term.attrib[name])]))
    return True


def _is_atom(name: str) -> bool:
    """Whether an attribute numbers an atom: p1, p2 ..., of CMAP a1 to b4; index of one alone."""
    return name == "index" or (len(name) == 2 and name[0] in "pab" and name[1].isdigit())


def _child(root: ElementTree.Element, name: str) -> Any:
    found = root.find(name)
    assert found is not None, f"OpenMM describes {root.tag} otherwise than expected"
    return found


def _has_groups(force: openmm.Force) -> bool:
    """Whether it acts only between groups of atoms, as between a solute and its solvent."""
    return isinstance(force, openmm.CustomNonbondedForce) and force.getNumInteractionGroups() > 0


def _without_box(force: Any) -> openmm.Force:
    if isinstance(force, PAIRWISE):
        force.setNonbondedMethod(force.CutoffNonPeriodic)
        force.setCutoffDistance(CUTOFF)
        force.setUseSwitchingFunction(False)
    else:
        force.setUsesPeriodicBoundaryConditions(False)
    return force
