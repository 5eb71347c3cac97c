"""DISTANCE, ANGLE and TORSION: functions of a few points that OpenMM has too.

Formulas: IUPAC sign of torsions, range [-pi, pi), as PLUMED and OpenMM both use.
"""

from __future__ import annotations

import math
from functools import cached_property
from itertools import pairwise
from typing import Any, ClassVar

import numpy as np

from openmm_cgan.plumed.actions.action import Action, Given, Keyword
from openmm_cgan.plumed.actions.values import Value
from openmm_cgan.plumed.actions.variables.components import (
    DISTANCE_KEYWORDS,
    NOPBC,
    DistanceComponents,
)
from openmm_cgan.plumed.actions.variables.variable import (
    BoxKind,
    CalledBack,
    Name,
    Site,
    Term,
    Variable,
    checked_points,
    points_of,
    refuse_immobile,
    site_position,
    vector_text,
)
from openmm_cgan.plumed.geometry.vectors import (
    Vector,
    angle_slopes,
    cross,
    dot,
    subtract,
    torsion_slopes,
)
from openmm_cgan.plumed.input.expressions import namespace

_PI_DOMAIN = (-math.pi, math.pi)


class ChainVariable(Variable):
    """A variable of two, three or four points in a chain, which OpenMM has a function for."""

    makes_whole = True
    counts: ClassVar[tuple[int, ...]]  # how many atoms it takes
    function: ClassVar[str]  # what OpenMM calls it

    def __init__(self, given: Given) -> None:
        super().__init__(given)
        self.atoms = self._points(given)
        refuse_immobile(given, self.atoms)

    def _points(self, given: Given) -> tuple[Site, ...]:
        """The points of the chain."""
        return points_of(given, "ATOMS", *self.counts)

    @property
    def sites(self) -> tuple[Site, ...]:
        return self.atoms

    @cached_property
    def real_chain(self) -> tuple[int, ...]:
        real = tuple(site for site in self.atoms if isinstance(site, int))
        return real if len(real) == len(self.atoms) == self.counts[0] else ()

    @cached_property
    def rows(self) -> np.ndarray:
        """Its atoms, to take their positions by, shape (n_atoms,)."""
        return np.array(self.real_chain, dtype=np.intp)

    @cached_property
    def in_plain_floats(self) -> bool:
        """Whether its value follows from the positions of its atoms as they are."""
        return bool(self.real_chain) and not self.whole_entities

    @property
    def scale(self) -> float:
        """What OpenMM's value is multiplied by to be in the units of the input."""
        return 1.0

    def depends_on_image(self, box: BoxKind) -> bool:
        return self.leaves_fixed_point or super().depends_on_image(box)

    def expression(self, index: int, name: Name, box: BoxKind) -> str:
        if (self.periodic and box.takes_other_images(self.sites)) or box.cannot_place(self.sites):
            return name(CalledBack(self, index))
        return self._near_expression(name, box)

    def _near_expression(self, name: Name, box: BoxKind) -> str:
        """Expression where OpenMM's nearest images are the shortest."""
        return name(Term(self.atoms, self.function, periodic=self.periodic and box.periodic))

    @property
    def _pairs(self) -> tuple[tuple[Site, Site], ...]:
        """The sites that its vectors go from and to."""
        return tuple(pairwise(self.atoms))

    def _slopes(self, vectors: list[np.ndarray]) -> tuple[np.ndarray, ...]:
        """Gradient with respect to the vectors of `_pairs` [unit of the input / nm]."""
        raise NotImplementedError

    def gradient(
        self, index: int, positions: np.ndarray, box: np.ndarray | None
    ) -> tuple[float, np.ndarray]:
        vectors = [np.array(vector) for vector in self._vectors(positions, box)]
        sites = self.sites
        total = np.zeros((len(sites), 3))
        for (start, end), slope in zip(self._pairs, self._slopes(vectors), strict=True):
            total[sites.index(start)] -= slope
            total[sites.index(end)] += slope
        return float(self.values(positions, box)[index]), total

    def gradient_of_ends(self, positions: np.ndarray, box: np.ndarray | None) -> np.ndarray:
        """Gradient by the beginning and the end of each of its vectors, shape (2 n_vectors, 3).

        Positions (n_atoms, 3) and box (3, 3) are in nm.
        """
        vectors = [np.array(vector) for vector in self._vectors(positions, box)]
        return np.array([row for slope in self._slopes(vectors) for row in (-slope, slope)])

    def strain_slope(self, index: int, positions: np.ndarray, box: np.ndarray | None) -> np.ndarray:
        if not self.strains_evenly:
            return super().strain_slope(index, positions, box)
        vectors = [np.array(vector) for vector in self._vectors(positions, box)]
        return np.array(vectors).T @ np.array(self._slopes(vectors))

    def _vectors(self, positions: Any, box: Any) -> list[Vector]:
        """The vectors of `_pairs` [nm]."""
        points = {site: site_position(site, positions, box) for site in self.sites}
        return [self._nearest(subtract(points[b], points[a]), box) for a, b in self._pairs]


def _in_twos(sites: tuple[Site, ...]) -> tuple[tuple[Site, Site], ...]:
    return tuple(zip(sites[::2], sites[1::2], strict=True))


class Distance(ChainVariable):
    """The distance of two atoms."""

    name = "DISTANCE"
    summary = "distance of two atoms, or its components"
    keywords = DISTANCE_KEYWORDS
    counts = (2,)
    function = "distance"

    @classmethod
    def made(cls, given: Given) -> Action:
        if given.options["COMPONENTS"] or given.options["SCALED_COMPONENTS"]:
            return DistanceComponents(given)
        return cls(given)

    @property
    def scale(self) -> float:
        return 1.0 / self.units.length

    @property
    def outputs(self) -> tuple[Value, ...]:
        return (Value(self.label, self.units.length_name),)

    def value(self, positions: Any, box: Any = None) -> Any:
        [bond] = self._vectors(positions, box)
        return self.scale * namespace(positions).sqrt(dot(bond, bond))

    def _slopes(self, vectors: list[np.ndarray]) -> tuple[np.ndarray, ...]:
        length = max(float(np.linalg.norm(vectors[0])), 1e-12)
        return (vectors[0] * (self.scale / length),)

    def _near_expression(self, name: Name, box: BoxKind) -> str:
        r = super()._near_expression(name, box)
        return r if self.scale == 1 else f"({r}*{self.scale!r})"


class Angle(ChainVariable):
    """The angle at the second of three atoms, or between the lines of two pairs."""

    name = "ANGLE"
    summary = "angle of three atoms, or of the lines of two pairs of atoms"
    keywords = (
        Keyword("ATOMS", "atoms", "three atoms, or two pairs", compulsory=True),
        NOPBC,
    )
    counts = (3, 4)
    function = "angle"

    @property
    def outputs(self) -> tuple[Value, ...]:
        return (Value(self.label, "rad"),)

    @property
    def _pairs(self) -> tuple[tuple[Site, Site], ...]:
        return super()._pairs if len(self.atoms) == 3 else _in_twos(self.atoms)

    def value(self, positions: Any, box: Any = None) -> Any:
        first, second = self._vectors(positions, box)
        normal = cross(first, second)
        xp = namespace(positions)
        # atan2 keeps all digits near 0 and pi, where acos loses half of them
        return xp.atan2(xp.sqrt(dot(normal, normal)), -dot(first, second))

    def _slopes(self, vectors: list[np.ndarray]) -> tuple[np.ndarray, ...]:
        first, second = angle_slopes(-vectors[0], vectors[1])
        return -first, second

    def _near_expression(self, name: Name, box: BoxKind) -> str:
        if len(self.atoms) == 3:
            return super()._near_expression(name, box)
        ends = ",".join([*vector_text(1, 0), "0", "0", "0", *vector_text(2, 3)])
        periodic = self.periodic and box.periodic
        return name(Term(self.atoms, text=f"pointangle({ends})", periodic=periodic))


class Torsion(ChainVariable):
    """The torsion of four atoms, or of two vectors about an axis."""

    name = "TORSION"
    summary = "torsion of four atoms, or of two vectors about an axis"
    keywords = (
        Keyword("ATOMS", "atoms", "four atoms"),
        Keyword("AXIS", "atoms", "two atoms of the axis, if ATOMS is not given"),
        Keyword("VECTORA", "atoms", "two atoms of the first vector"),
        Keyword("VECTORB", "atoms", "two atoms of the second vector"),
        Keyword("VECTOR1", "atoms", "the older name of VECTORA"),
        Keyword("VECTOR2", "atoms", "the older name of VECTORB"),
        Keyword("COSINE", "flag", "the cosine of the torsion"),
        NOPBC,
    )
    counts = (4,)
    function = "dihedral"

    @classmethod
    def made(cls, given: Given) -> Action:
        return TorsionOfVectors(given) if given.options["ATOMS"] is None else cls(given)

    def __init__(self, given: Given) -> None:
        super().__init__(given)
        options = given.options
        self.cosine: bool = options["COSINE"]
        words = ("AXIS", "VECTORA", "VECTORB", "VECTOR1", "VECTOR2")
        if options["ATOMS"] is not None and any(options[word] for word in words):
            raise self.error("ATOMS", "give ATOMS, or VECTORA, AXIS and VECTORB, not both")

    @property
    def real_chain(self) -> tuple[int, ...]:
        return () if self.cosine else super().real_chain

    @property
    def outputs(self) -> tuple[Value, ...]:
        if self.cosine:
            return (Value(self.label),)
        return (Value(self.label, "rad", _PI_DOMAIN, ("-pi", "pi")),)

    def _angle(self, vectors: list[Vector], xp: Any) -> Any:
        a, b, c = vectors
        across, length2 = cross(b, c), dot(b, b)
        cosine = dot(a, b) * dot(b, c) - dot(a, c) * length2  # (a x b) . (b x c)
        angle = xp.atan2(xp.sqrt(length2) * dot(a, across), cosine)
        return xp.where(angle >= math.pi, angle - 2 * math.pi, angle)  # the domain is [-pi, pi)

    def value(self, positions: Any, box: Any = None) -> Any:
        xp = namespace(positions)
        angle = self._angle(self._vectors(positions, box), xp)
        return xp.cos(angle) if self.cosine else angle

    def _slopes(self, vectors: list[np.ndarray]) -> tuple[np.ndarray, ...]:
        a, b, c = vectors
        slopes = torsion_slopes(a, b, c)
        if not self.cosine:
            return slopes
        sine = np.sin(self._angle([tuple(v) for v in vectors], np))
        return tuple(-sine * slope for slope in slopes)

    def _near_expression(self, name: Name, box: BoxKind) -> str:
        angle = self._angle_expression(name, box)
        return f"cos({angle})" if self.cosine else angle

    def _angle_expression(self, name: Name, box: BoxKind) -> str:
        return super()._near_expression(name, box)


class TorsionOfVectors(Torsion):
    """The torsion of two vectors about an axis, each of two atoms.

    Its points are those of the first vector, of the axis and of the second vector.
    """

    def _points(self, given: Given) -> tuple[Site, ...]:
        options = given.options
        pairs = {
            "VECTORA": options["VECTORA"] or options["VECTOR1"],
            "AXIS": options["AXIS"],
            "VECTORB": options["VECTORB"] or options["VECTOR2"],
        }
        return tuple(
            site for word, pair in pairs.items() for site in checked_points(given, word, pair, 2)
        )

    @property
    def sites(self) -> tuple[Site, ...]:
        return tuple(dict.fromkeys(self.atoms))

    @property
    def real_chain(self) -> tuple[int, ...]:
        return ()

    @property
    def _pairs(self) -> tuple[tuple[Site, Site], ...]:
        (end, start), axis, second = _in_twos(self.atoms)
        return (start, end), axis, second

    def _angle_expression(self, name: Name, box: BoxKind) -> str:
        points = [self.sites.index(site) for site in self.atoms]
        first, axis, second = (vector_text(*points[k : k + 2]) for k in (0, 2, 4))
        end = [f"({u}+{v})" for u, v in zip(axis, second, strict=True)]
        text = f"pointdihedral({','.join([*first, '0', '0', '0', *axis, *end])})"
        return name(Term(self.sites, text=text, periodic=self.periodic and box.periodic))
