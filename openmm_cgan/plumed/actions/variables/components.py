"""The components of vectors: those of DISTANCE, and POSITION."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from openmm_cgan.plumed.actions.action import Given, Keyword
from openmm_cgan.plumed.actions.values import Value
from openmm_cgan.plumed.actions.variables.variable import (
    BoxEdge,
    BoxKind,
    CalledBack,
    Name,
    Site,
    Term,
    Variable,
    points_of,
    refuse_immobile,
    site_position,
    vector_text,
)
from openmm_cgan.plumed.geometry.vectors import Vector, scaled, subtract
from openmm_cgan.plumed.input.expressions import namespace

NOPBC = Keyword("NOPBC", "flag", "ignore the periodic box")
SCALED = Keyword("SCALED_COMPONENTS", "flag", "components .a .b .c along the box vectors")
DISTANCE_KEYWORDS = (
    Keyword("ATOMS", "atoms", "two atoms", compulsory=True),
    Keyword("COMPONENTS", "flag", "the components .x .y .z of the vector"),
    SCALED,
    NOPBC,
)
_ASIDE = 0.5  # nm
_HALF_DOMAIN = (-0.5, 0.5)


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


class VectorVariable(Variable):
    """The components of a vector: DISTANCE with COMPONENTS or SCALED_COMPONENTS, POSITION.

    Attributes
    ----------
    atoms : tuple of int or VirtualAtom
        The two points that it goes from and to, or the one that it is the position of.
    form : str
        "components" along x, y, z, or "scaled" along the box vectors.
    """

    atoms_keyword: ClassVar[str] = "ATOMS"
    count: ClassVar[int]  # of its atoms

    def __init__(self, given: Given) -> None:
        super().__init__(given)
        self.atoms = points_of(given, self.atoms_keyword, self.count)
        refuse_immobile(given, self.atoms)
        self.form = "scaled" if given.options["SCALED_COMPONENTS"] else "components"

    @property
    def sites(self) -> tuple[Site, ...]:
        return self.atoms

    @property
    def scale(self) -> float:
        return 1.0 / self.units.length

    @property
    def outputs(self) -> tuple[Value, ...]:
        if self.form == "scaled":
            limits = ("-0.5", "+0.5")
            return tuple(Value(f"{self.label}.{k}", "", _HALF_DOMAIN, limits) for k in "abc")
        return tuple(Value(f"{self.label}.{axis}", self.units.length_name) for axis in "xyz")

    @property
    def is_rigid(self) -> bool:
        return False

    def _vector(self, positions: Any, box: Any) -> Vector:
        """The vector before the nearest image is taken [nm]."""
        raise NotImplementedError

    def _terms(self) -> list[str]:
        """Its components as texts of a `Term`."""
        raise NotImplementedError

    def values(self, positions: Any, box: Any = None) -> tuple[Any, ...]:
        vector = self._vector(positions, box)
        if self.form == "scaled":
            if box is None:  # as PLUMED has it
                return tuple(0 * component + 0.0 for component in vector)  # not -0
            floor = namespace(positions).floor
            return tuple(s - floor(s + 0.5) for s in scaled(vector, box))
        return tuple(self.scale * part for part in self._nearest(vector, box))

    def expression(self, index: int, name: Name, box: BoxKind) -> str:
        if box.cannot_place(self.sites):
            return name(CalledBack(self, index))
        if self.form == "scaled":
            return self._scaled_expression(index, name, box)
        if box.triclinic and self.periodic:
            return name(CalledBack(self, index))
        if box.periodic and self.periodic and box.large and box.safe > _ASIDE:
            x = name(Term(self.atoms, text=self._image_text(index), periodic=True))
            return x if self.scale == 1 else f"({x}*{self.scale!r})"
        x = name(Term(self.atoms, text=self._terms()[index]))
        if box.periodic and self.periodic:
            edge = name(BoxEdge(("ax", "by", "cz")[index]))
            x = f"({x}-{edge}*floor({x}/{edge}+0.5))"
        return x if self.scale == 1 else f"({x}*{self.scale!r})"

    def _image_text(self, index: int) -> str:
        """Component of the nearest image in a rectangular box, from an angle.

        OpenMM takes nearest images in angles, but gives no components of them. The vector with
        this component along an axis and `_ASIDE` across it has an angle to that axis: from its
        cotangent.
        """
        ends = [["0", "0", "0"] for _ in range(3)]
        start, end = ("0", "{0}[0]") if len(self.atoms) == 1 else ("{0}[0]", "{0}[1]")
        along = "xyz"[index]
        ends[0][index] = f"{{{end.format(along)}}}"
        ends[1][index] = start if start == "0" else f"{{{start.format(along)}}}"
        ends[2][index] = f"({ends[1][index]}+{_ASIDE})"
        ends[0][(index + 1) % 3] = str(_ASIDE)
        angle = f"pointangle({','.join(','.join(point) for point in ends)})"
        return f"({_ASIDE}*cos({angle})/sin({angle}))"

    def _scaled_expression(self, index: int, name: Name, box: BoxKind) -> str:
        if not box.periodic:
            return "0"
        vector = [name(Term(self.atoms, text=text)) for text in self._terms()]
        s = _scaled_text(vector, name, box)[index]
        return f"({s}-floor({s}+0.5))"

    def gradient(
        self, index: int, positions: np.ndarray, box: np.ndarray | None
    ) -> tuple[float, np.ndarray]:
        sides = (1.0,) if len(self.atoms) == 1 else (-1.0, 1.0)
        slope = np.eye(3)[index] * self.scale
        if self.form == "scaled":
            slope = np.zeros(3) if box is None else np.linalg.inv(box)[:, index]
        slopes = np.outer(sides, slope)
        return float(self.values(positions, box)[index]), slopes

    def strain_slope(self, index: int, positions: np.ndarray, box: np.ndarray | None) -> np.ndarray:
        if not self.strains_evenly:
            return super().strain_slope(index, positions, box)
        slope = np.zeros((3, 3))
        if self.form != "scaled":  # along the box vectors nothing changes
            slope[:, index] = self._nearest(self._vector(positions, box), box)
        return slope * self.scale


class DistanceComponents(VectorVariable):
    """The vector from one atom to another."""

    name = "DISTANCE"
    summary = "distance of two atoms, or its components"
    keywords = DISTANCE_KEYWORDS
    makes_whole = True
    count = 2

    def __init__(self, given: Given) -> None:
        super().__init__(given)
        if given.options["COMPONENTS"] and given.options["SCALED_COMPONENTS"]:
            raise self.error("SCALED_COMPONENTS", "give COMPONENTS or SCALED_COMPONENTS, not both")

    def depends_on_image(self, box: BoxKind) -> bool:
        # what is along the box vectors is periodic
        fixed = self.form == "components" and self.leaves_fixed_point
        return fixed or super().depends_on_image(box)

    def _vector(self, positions: Any, box: Any) -> Vector:
        a, b = (site_position(site, positions, box) for site in self.atoms)
        return subtract(b, a)

    def _terms(self) -> list[str]:
        return vector_text(0, 1)


class Position(VectorVariable):
    """The position of an atom: its image nearest to the origin, or as it is (NOPBC)."""

    name = "POSITION"
    summary = "position of an atom"
    keywords = (Keyword("ATOM", "atoms", "the atom", compulsory=True), SCALED, NOPBC)
    atoms_keyword = "ATOM"
    count = 1

    def depends_on_image(self, box: BoxKind) -> bool:
        return not self.periodic and self.form != "scaled"

    def _vector(self, positions: Any, box: Any) -> Vector:
        return site_position(self.atoms[0], positions, box)

    def _terms(self) -> list[str]:
        return [f"{{{axis}[0]}}" for axis in "xyz"]
