"""DISTANCE, ANGLE and TORSION, with their vector forms, and POSITION.

Formulas: IUPAC sign of torsions, range [-pi, pi), as PLUMED and OpenMM both use.
"""

from __future__ import annotations

import math
from functools import cached_property
from itertools import pairwise
from typing import Any, ClassVar

import numpy as np

from openmm_cgan.plumed.actions.action import Given, Keyword, Value
from openmm_cgan.plumed.actions.variables.centers import FixedAtom
from openmm_cgan.plumed.actions.variables.variable import (
    BoxEdge,
    BoxKind,
    Gradient,
    Name,
    Site,
    Term,
    Variable,
    real_atoms,
    site_position,
)
from openmm_cgan.plumed.geometry.vectors import (
    Vector,
    angle_slopes,
    cross,
    dot,
    scaled,
    subtract,
    torsion_slopes,
)
from openmm_cgan.plumed.input.expressions import namespace

NOPBC = Keyword("NOPBC", "flag", "ignore the periodic box")
_COMPONENTS = Keyword("COMPONENTS", "flag", "the components .x .y .z of the vector")
_SCALED = Keyword("SCALED_COMPONENTS", "flag", "components .a .b .c along the box vectors")
ASIDE = 0.5  # nm
_PI_DOMAIN = (-math.pi, math.pi)
_HALF_DOMAIN = (-0.5, 0.5)


class ChainVariable(Variable):
    """A variable of two, three or four points in a chain, which OpenMM has a function for."""

    makes_whole = True
    counts: ClassVar[tuple[int, ...]]  # how many atoms it takes
    function: ClassVar[str]  # what OpenMM calls it

    def __init__(self, given: Given) -> None:
        super().__init__(given)
        self.atoms: tuple[Site, ...] = given.options["ATOMS"] or ()
        self._refuse_atoms("ATOMS", self.atoms, self.counts)
        self._refuse_fixed()

    def _refuse_fixed(self) -> None:
        if not real_atoms(self.sites):
            raise self.error(self.name, "it does not depend on any atom")

    def _refuse_atoms(self, word: str, atoms: tuple[Site, ...], counts: tuple[int, ...]) -> None:
        if len(atoms) not in counts:
            expected = " or ".join(map(str, counts))
            raise self.error(word, f"{self.name} takes {expected} atoms here, {len(atoms)} given")
        if len(set(atoms)) != len(atoms):
            raise self.error(word, "an atom is named twice")

    @property
    def sites(self) -> tuple[Site, ...]:
        return self.atoms

    @cached_property
    def chain(self) -> tuple[int, ...]:
        real = tuple(site for site in self.atoms if isinstance(site, int))
        return real if len(real) == self.counts[0] else ()

    @cached_property
    def rows(self) -> np.ndarray:
        """Its atoms, to take their positions by."""
        return np.array(self.chain, dtype=np.intp)

    @cached_property
    def quick(self) -> bool:
        """Whether its value follows from the positions of its atoms as they are."""
        return bool(self.chain) and not self.mended

    @property
    def scale(self) -> float:
        """What OpenMM's value is multiplied by to be in the units of the input."""
        return 1.0

    def wanders(self, box: BoxKind) -> bool:
        fixed = any(isinstance(site, FixedAtom) for site in self.sites)
        return (fixed and not self.periodic) or super().wanders(box)

    def expression(self, index: int, name: Name, box: BoxKind) -> str:
        if (self.periodic and box.apart(self.sites)) or box.hidden(self.sites):
            return name(Gradient(self, index))
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

    def _vectors(self, positions: Any, box: Any) -> list[Vector]:
        """The vectors of `_pairs` [nm]."""
        points = {site: site_position(site, positions, box) for site in self.sites}
        return [self._nearest(subtract(points[b], points[a]), box) for a, b in self._pairs]


def _in_twos(sites: tuple[Site, ...]) -> tuple[tuple[Site, Site], ...]:
    return tuple(zip(sites[::2], sites[1::2], strict=True))


def _vector_text(a: int, b: int) -> list[str]:
    """Components of the vector from point `a` to point `b` of a term."""
    return [f"({{{axis}[{b}]}}-{{{axis}[{a}]}})" for axis in "xyz"]


def _scaled_text(vector: list[str], name: Name, box: BoxKind) -> list[str]:
    """Expressions of the components along the box vectors, of expressions of a vector."""
    dx, dy, dz = vector
    ax, by, cz = (name(BoxEdge(edge)) for edge in ("ax", "by", "cz"))
    c = f"({dz}/{cz})"
    if not box.triclinic:
        return [f"({dx}/{ax})", f"({dy}/{by})", c]
    bx, cx, cy = (name(BoxEdge(edge)) for edge in ("bx", "cx", "cy"))
    b = f"(({dy}-{c}*{cy})/{by})"
    return [f"(({dx}-{b}*{bx}-{c}*{cx})/{ax})", b, c]


class VectorVariable(ChainVariable):
    """A variable that may be a vector: DISTANCE and POSITION."""

    form: str  # "", "components" or "scaled"

    def _choose_form(self, given: Given) -> str:
        options = given.options
        if options.get("COMPONENTS") and options["SCALED_COMPONENTS"]:
            raise self.error("SCALED_COMPONENTS", "give COMPONENTS or SCALED_COMPONENTS, not both")
        return "scaled" if options["SCALED_COMPONENTS"] else "components"

    @property
    def scale(self) -> float:
        return 1.0 / self.units.length

    @property
    def outputs(self) -> tuple[Value, ...]:
        if self.form == "scaled":
            limits = ("-0.5", "+0.5")
            return tuple(Value(f"{self.label}.{k}", "", _HALF_DOMAIN, limits) for k in "abc")
        return tuple(Value(f"{self.label}.{axis}", self.units.length_name) for axis in "xyz")

    def _vector(self, positions: Any, box: Any) -> Vector:
        """The vector before the nearest image is taken [nm]."""
        raise NotImplementedError

    def values(self, positions: Any, box: Any = None) -> tuple[Any, ...]:
        vector = self._vector(positions, box)
        if self.form == "scaled":
            if box is None:  # as PLUMED has it
                return tuple(0 * component + 0.0 for component in vector)  # not -0
            floor = namespace(positions).floor
            return tuple(s - floor(s + 0.5) for s in scaled(vector, box))
        return tuple(self.scale * part for part in self._nearest(vector, box))

    def _terms(self) -> list[str]:
        raise NotImplementedError

    def expression(self, index: int, name: Name, box: BoxKind) -> str:
        if not self.form:
            return super().expression(index, name, box)
        if box.hidden(self.sites):
            return name(Gradient(self, index))
        if self.form == "scaled":
            return self._scaled_expression(index, name, box)
        if box.triclinic and self.periodic:
            return name(Gradient(self, index))
        if box.periodic and self.periodic and box.large and box.safe > ASIDE:
            x = name(Term(self.atoms, text=self._image_text(index), periodic=True))
            return x if self.scale == 1 else f"({x}*{self.scale!r})"
        x = name(Term(self.atoms, text=self._terms()[index]))
        if box.periodic and self.periodic:
            edge = name(BoxEdge(("ax", "by", "cz")[index]))
            x = f"({x}-{edge}*floor({x}/{edge}+0.5))"
        return x if self.scale == 1 else f"({x}*{self.scale!r})"

    def _image_text(self, index: int) -> str:
        """Component of the nearest image in a rectangular box, from an angle.

        OpenMM takes nearest images in angles, but gives no components of them. The vector with this
        component along an axis and `ASIDE` across it has an angle to that axis: from its cotangent.
        """
        ends = [["0", "0", "0"] for _ in range(3)]
        start, end = ("0", "{0}[0]") if len(self.atoms) == 1 else ("{0}[0]", "{0}[1]")
        along = "xyz"[index]
        ends[0][index] = f"{{{end.format(along)}}}"
        ends[1][index] = start if start == "0" else f"{{{start.format(along)}}}"
        ends[2][index] = f"({ends[1][index]}+{ASIDE})"
        ends[0][(index + 1) % 3] = str(ASIDE)
        angle = f"pointangle({','.join(','.join(point) for point in ends)})"
        return f"({ASIDE}*cos({angle})/sin({angle}))"

    def _scaled_expression(self, index: int, name: Name, box: BoxKind) -> str:
        if not box.periodic:
            return "0"
        vector = [name(Term(self.atoms, text=text)) for text in self._terms()]
        s = _scaled_text(vector, name, box)[index]
        return f"({s}-floor({s}+0.5))"

    def gradient(
        self, index: int, positions: np.ndarray, box: np.ndarray | None
    ) -> tuple[float, np.ndarray]:
        if not self.form:
            return super().gradient(index, positions, box)
        sides = (1.0,) if len(self.atoms) == 1 else (-1.0, 1.0)
        slope = np.eye(3)[index] * self.scale
        if self.form == "scaled":
            slope = np.zeros(3) if box is None else np.linalg.inv(box)[:, index]
        slopes = np.outer(sides, slope)
        return float(self.values(positions, box)[index]), slopes


class Distance(VectorVariable):
    """The distance of two atoms, or the vector from one to the other."""

    name = "DISTANCE"
    summary = "distance of two atoms, or its components"
    keywords = (
        Keyword("ATOMS", "atoms", "two atoms", compulsory=True),
        _COMPONENTS,
        _SCALED,
        NOPBC,
    )
    counts = (2,)
    function = "distance"

    def wanders(self, box: BoxKind) -> bool:
        if self.form == "scaled":  # a periodic value
            return Variable.wanders(self, box)
        return super().wanders(box)

    def __init__(self, given: Given) -> None:
        super().__init__(given)
        vector = given.options["COMPONENTS"] or given.options["SCALED_COMPONENTS"]
        self.form = self._choose_form(given) if vector else ""

    @cached_property
    def chain(self) -> tuple[int, ...]:
        return () if self.form else super().chain

    @property
    def outputs(self) -> tuple[Value, ...]:
        return super().outputs if self.form else (Value(self.label, self.units.length_name),)

    def _vector(self, positions: Any, box: Any) -> Vector:
        a, b = (site_position(site, positions, box) for site in self.atoms)
        return subtract(b, a)

    def values(self, positions: Any, box: Any = None) -> tuple[Any, ...]:
        if self.form:
            return super().values(positions, box)
        [bond] = self._vectors(positions, box)
        return (self.scale * namespace(positions).sqrt(dot(bond, bond)),)

    def _slopes(self, vectors: list[np.ndarray]) -> tuple[np.ndarray, ...]:
        length = max(float(np.linalg.norm(vectors[0])), 1e-12)
        return (vectors[0] * (self.scale / length),)

    def _terms(self) -> list[str]:
        return _vector_text(0, 1)

    def _near_expression(self, name: Name, box: BoxKind) -> str:
        r = super()._near_expression(name, box)
        return r if self.scale == 1 else f"({r}*{self.scale!r})"


class Position(VectorVariable):
    """The position of an atom: its image nearest to the origin, or as it is (NOPBC)."""

    name = "POSITION"
    summary = "position of an atom"
    keywords = (Keyword("ATOM", "atoms", "the atom", compulsory=True), _SCALED, NOPBC)
    counts = (1,)
    function = ""
    makes_whole = False

    def __init__(self, given: Given) -> None:
        given.options["ATOMS"] = given.options["ATOM"]
        super().__init__(given)
        self.form = self._choose_form(given)

    @property
    def chain(self) -> tuple[int, ...]:
        return ()

    def wanders(self, box: BoxKind) -> bool:
        return not self.periodic and self.form != "scaled"

    def _vector(self, positions: Any, box: Any) -> Vector:
        return site_position(self.atoms[0], positions, box)

    def _terms(self) -> list[str]:
        return [f"{{{axis}[0]}}" for axis in "xyz"]


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
        ends = ",".join([*_vector_text(1, 0), "0", "0", "0", *_vector_text(2, 3)])
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

    def __init__(self, given: Given) -> None:
        options = given.options
        first = options["VECTORA"] or options["VECTOR1"]
        second = options["VECTORB"] or options["VECTOR2"]
        self.vectors: tuple[Site, ...] = ()
        self.cosine: bool = options["COSINE"]
        if options["ATOMS"] is None:  # the vectors, as far as given, in place of the atoms
            Variable.__init__(self, given)
            self.atoms = ()
            for word, pair in (("VECTORA", first), ("AXIS", options["AXIS"]), ("VECTORB", second)):
                self._refuse_atoms(word, pair or (), (2,))
                self.vectors += pair
            self._refuse_fixed()
            return
        super().__init__(given)
        if first or second or options["AXIS"]:
            raise self.error("ATOMS", "give ATOMS, or VECTORA, AXIS and VECTORB, not both")

    @property
    def sites(self) -> tuple[Site, ...]:
        return self.atoms or tuple(dict.fromkeys(self.vectors))

    @property
    def chain(self) -> tuple[int, ...]:
        return () if self.cosine or self.vectors else super().chain

    @property
    def outputs(self) -> tuple[Value, ...]:
        if self.cosine:
            return (Value(self.label),)
        return (Value(self.label, "rad", _PI_DOMAIN, ("-pi", "pi")),)

    @property
    def _pairs(self) -> tuple[tuple[Site, Site], ...]:
        if not self.vectors:
            return super()._pairs
        (end, start), axis, second = _in_twos(self.vectors)
        return (start, end), axis, second

    def _angle(self, vectors: list[Vector], xp: Any) -> Any:
        a, b, c = vectors
        across, length2 = cross(b, c), dot(b, b)
        cosine = dot(a, b) * dot(b, c) - dot(a, c) * length2  # (a x b) . (b x c)
        found = xp.atan2(xp.sqrt(length2) * dot(a, across), cosine)
        return xp.where(found >= math.pi, found - 2 * math.pi, found)  # the domain is [-pi, pi)

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
        if self.vectors:
            text = self._text_of_vectors()
            angle = name(Term(self.sites, text=text, periodic=self.periodic and box.periodic))
        else:
            angle = super()._near_expression(name, box)
        return f"cos({angle})" if self.cosine else angle

    def _text_of_vectors(self) -> str:
        points = [self.sites.index(site) for site in self.vectors]
        first, axis, second = (_vector_text(*points[k : k + 2]) for k in (0, 2, 4))
        end = [f"({u}+{v})" for u, v in zip(axis, second, strict=True)]
        return f"pointdihedral({','.join([*first, '0', '0', '0', *axis, *end])})"
