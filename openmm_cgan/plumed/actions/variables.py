"""Collective variables of the atoms' positions: DISTANCE, ANGLE, TORSION.

Each has its batched value, which serves numpy and torch alike, and the name that OpenMM's forces
have for it. Formulas: IUPAC sign of torsions, range [-pi, pi), as PLUMED and OpenMM both use.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any, ClassVar

import numpy as np

from openmm_cgan.plumed.actions.action import Action, Given, Keyword, Value
from openmm_cgan.plumed.actions.centers import VirtualAtom
from openmm_cgan.plumed.actions.geometry import Vector, cross, dot, minimum_image, subtract
from openmm_cgan.plumed.colvar import CollectiveVariable
from openmm_cgan.plumed.expressions import namespace

_NOPBC = Keyword("NOPBC", "flag", "ignore the periodic box")
_PI_DOMAIN = (-math.pi, math.pi)


Site = int | VirtualAtom


class Variable(Action):
    """A collective variable of the atoms' positions."""

    def __init__(self, given: Given) -> None:
        super().__init__(given)
        self.periodic: bool = not given.options["NOPBC"]

    @property
    def sites(self) -> tuple[Site, ...]:
        """Atoms and virtual atoms that it depends on."""
        raise NotImplementedError

    @property
    def chain(self) -> tuple[int, ...]:
        """The atoms of a torsion, angle or distance of real atoms; empty for all else."""
        return ()

    @property
    def scale(self) -> float:
        """What OpenMM's value is multiplied by to be in the units of the input."""
        return 1.0

    def value(self, positions: Any, box: Any = None) -> Any:
        """Value of the variable.

        Parameters
        ----------
        positions : ndarray or tensor, shape (..., n_atoms_of_the_system, 3)
            Positions [nm].
        box : ndarray or tensor, shape (..., 3, 3), optional
            Box vectors in rows [nm], in OpenMM's reduced form.

        Returns
        -------
        ndarray or tensor, shape (...)
            In the units of the input.
        """
        raise NotImplementedError

    def _nearest(self, vector: Vector, box: Any) -> Vector:
        """The nearest image, unless there is no box or NOPBC."""
        return vector if box is None or not self.periodic else minimum_image(vector, box)


def site_position(site: Site, positions: Any, box: Any) -> Vector:
    """Position of an atom or a virtual atom [nm]."""
    if isinstance(site, VirtualAtom):
        return site.position(positions, box)
    if isinstance(positions, np.ndarray) and positions.ndim == 2:
        return tuple(positions[site].tolist())  # plain floats are the quickest for one frame
    return positions[..., site, 0], positions[..., site, 1], positions[..., site, 2]


class ChainVariable(Variable):
    """A variable of two, three or four atoms in a chain, which OpenMM has a function for."""

    n_atoms: ClassVar[int]
    symbol: ClassVar[str]  # what the matching Custom*Force of OpenMM calls it
    function: ClassVar[str]  # and CustomCentroidBondForce

    def __init__(self, given: Given) -> None:
        super().__init__(given)
        self.atoms: tuple[Site, ...] = given.options["ATOMS"]
        if len(self.atoms) != self.n_atoms:
            raise self.error(
                "ATOMS", f"{self.name} takes {self.n_atoms} atoms here, {len(self.atoms)} given"
            )
        if len(set(self.atoms)) != self.n_atoms:
            raise self.error("ATOMS", "an atom is named twice")

    @property
    def sites(self) -> tuple[Site, ...]:
        return self.atoms

    @property
    def chain(self) -> tuple[int, ...]:
        real = tuple(site for site in self.atoms if isinstance(site, int))
        return real if len(real) == self.n_atoms else ()

    def _bonds(self, positions: Any, box: Any) -> list[Vector]:
        """Vectors from each atom to the next [nm]."""
        chosen = [site_position(site, positions, box) for site in self.atoms]
        return [self._nearest(subtract(b, a), box) for a, b in pairwise(chosen)]


class Distance(ChainVariable):
    """The distance of two atoms."""

    name = "DISTANCE"
    summary = "distance of two atoms"
    keywords = (Keyword("ATOMS", "atoms", "two atoms", compulsory=True), _NOPBC)
    n_atoms = 2
    symbol = "r"
    function = "distance"

    @property
    def scale(self) -> float:
        return 1.0 / self.units.length

    @property
    def outputs(self) -> tuple[Value, ...]:
        return (Value(self.label, self.units.length_name),)

    def value(self, positions: Any, box: Any = None) -> Any:
        [bond] = self._bonds(positions, box)
        return self.scale * namespace(positions).sqrt(dot(bond, bond))


class Angle(ChainVariable):
    """The angle at the second of three atoms."""

    name = "ANGLE"
    summary = "angle of three atoms"
    keywords = (Keyword("ATOMS", "atoms", "three atoms", compulsory=True), _NOPBC)
    n_atoms = 3
    symbol = "theta"
    function = "angle"

    @property
    def outputs(self) -> tuple[Value, ...]:
        return (Value(self.label, "rad"),)

    def value(self, positions: Any, box: Any = None) -> Any:
        first, second = self._bonds(positions, box)
        normal = cross(first, second)
        xp = namespace(positions)
        # atan2 keeps all digits near 0 and pi, where acos loses half of them
        return xp.atan2(xp.sqrt(dot(normal, normal)), -dot(first, second))


class Torsion(ChainVariable):
    """The torsion of four atoms."""

    name = "TORSION"
    summary = "torsion of four atoms"
    keywords = (Keyword("ATOMS", "atoms", "four atoms", compulsory=True), _NOPBC)
    n_atoms = 4
    symbol = "theta"
    function = "dihedral"

    @property
    def outputs(self) -> tuple[Value, ...]:
        return (Value(self.label, "rad", _PI_DOMAIN, ("-pi", "pi")),)

    def value(self, positions: Any, box: Any = None) -> Any:
        a, b, c = self._bonds(positions, box)
        xp = namespace(positions)
        across, length2 = cross(b, c), dot(b, b)
        cosine = dot(a, b) * dot(b, c) - dot(a, c) * length2  # (a x b) . (b x c)
        return xp.atan2(xp.sqrt(length2) * dot(a, across), cosine)


def describe(owner: Action, name: str) -> CollectiveVariable:
    """What an action tells of a value that it gives."""
    [value] = [value for value in owner.outputs if value.name == name]
    if not isinstance(owner, Variable):
        return CollectiveVariable(name, value.unit, value.domain)
    action = owner.name if owner.chain else ""
    return CollectiveVariable(name, value.unit, value.domain, action, owner.chain)
