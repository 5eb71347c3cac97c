"""Collective variables of the atoms' positions: DISTANCE, ANGLE, TORSION.

Each has its batched value, which serves numpy and torch alike, and the name that OpenMM's forces
have for it. Formulas: IUPAC sign of torsions, range [-pi, pi), as PLUMED and OpenMM both use.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any, ClassVar

from openmm_cgan.plumed.actions.action import Action, Given, Keyword, Value, namespace

_NOPBC = Keyword("NOPBC", "flag", "ignore the periodic box")
_PI_DOMAIN = (-math.pi, math.pi)


class Variable(Action):
    """A collective variable of a fixed number of atoms."""

    n_atoms: ClassVar[int]
    symbol: ClassVar[str]  # what the matching Custom*Force of OpenMM calls it

    def __init__(self, given: Given) -> None:
        super().__init__(given)
        self.atoms: tuple[int, ...] = given.options["ATOMS"]
        self.periodic: bool = not given.options["NOPBC"]
        if len(self.atoms) != self.n_atoms:
            raise self.error(
                "ATOMS", f"{self.name} takes {self.n_atoms} atoms here, {len(self.atoms)} given"
            )
        if len(set(self.atoms)) != self.n_atoms:
            raise self.error("ATOMS", "an atom is named twice")

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

    def _bonds(self, positions: Any, box: Any) -> list[Vector]:
        """Vectors from each atom to the next [nm]."""
        chosen = [[positions[..., atom, axis] for axis in range(3)] for atom in self.atoms]
        vectors = [(b[0] - a[0], b[1] - a[1], b[2] - a[2]) for a, b in pairwise(chosen)]
        if box is None or not self.periodic:
            return vectors
        return [minimum_image(vector, box) for vector in vectors]


class Distance(Variable):
    """The distance of two atoms."""

    name = "DISTANCE"
    summary = "distance of two atoms"
    keywords = (Keyword("ATOMS", "atoms", "two atoms", compulsory=True), _NOPBC)
    n_atoms = 2
    symbol = "r"

    @property
    def scale(self) -> float:
        return 1.0 / self.units.length

    @property
    def outputs(self) -> tuple[Value, ...]:
        return (Value(self.label, self.units.length_name),)

    def value(self, positions: Any, box: Any = None) -> Any:
        [bond] = self._bonds(positions, box)
        return self.scale * namespace(positions).sqrt(dot(bond, bond))


class Angle(Variable):
    """The angle at the second of three atoms."""

    name = "ANGLE"
    summary = "angle of three atoms"
    keywords = (Keyword("ATOMS", "atoms", "three atoms", compulsory=True), _NOPBC)
    n_atoms = 3
    symbol = "theta"

    @property
    def outputs(self) -> tuple[Value, ...]:
        return (Value(self.label, "rad"),)

    def value(self, positions: Any, box: Any = None) -> Any:
        first, second = self._bonds(positions, box)
        normal = cross(first, second)
        xp = namespace(positions)
        # atan2 keeps all digits near 0 and pi, where acos loses half of them
        return xp.atan2(xp.sqrt(dot(normal, normal)), -dot(first, second))


class Torsion(Variable):
    """The torsion of four atoms."""

    name = "TORSION"
    summary = "torsion of four atoms"
    keywords = (Keyword("ATOMS", "atoms", "four atoms", compulsory=True), _NOPBC)
    n_atoms = 4
    symbol = "theta"

    @property
    def outputs(self) -> tuple[Value, ...]:
        return (Value(self.label, "rad", _PI_DOMAIN, ("-pi", "pi")),)

    def value(self, positions: Any, box: Any = None) -> Any:
        a, b, c = self._bonds(positions, box)
        xp = namespace(positions)
        across, length2 = cross(b, c), dot(b, b)
        cosine = dot(a, b) * dot(b, c) - dot(a, c) * length2  # (a x b) . (b x c)
        return xp.atan2(xp.sqrt(length2) * dot(a, across), cosine)


# Vectors are tuples of their components: quick for the single frames of a reporter, where each
# call of numpy costs more than its arithmetic, and the same speed for batches.
Vector = tuple[Any, Any, Any]


def dot(a: Vector, b: Vector) -> Any:
    """Scalar product."""
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


def cross(a: Vector, b: Vector) -> Vector:
    """Vector product."""
    return (
        a[1] * b[2] - a[2] * b[1],
        a[2] * b[0] - a[0] * b[2],
        a[0] * b[1] - a[1] * b[0],
    )


def minimum_image(vector: Vector, box: Any) -> Vector:
    """Bring vectors to their nearest image as OpenMM does, axis after axis from c to a.

    Parameters
    ----------
    vector : tuple of ndarray or tensor, shape (...)
    box : ndarray or tensor, shape (..., 3, 3)
        Box vectors in rows, in OpenMM's reduced form.
    """
    x, y, z = vector
    floor = namespace(box).floor
    turns = floor(z / box[..., 2, 2] + 0.5)
    x, y, z = (v - turns * box[..., 2, axis] for axis, v in enumerate((x, y, z)))
    turns = floor(y / box[..., 1, 1] + 0.5)
    x, y = x - turns * box[..., 1, 0], y - turns * box[..., 1, 1]
    return x - floor(x / box[..., 0, 0] + 0.5) * box[..., 0, 0], y, z
