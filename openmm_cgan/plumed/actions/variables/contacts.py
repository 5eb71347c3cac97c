"""Sums over pairs of atoms, and COORDINATION."""

from __future__ import annotations

import logging
import math
from functools import cached_property
from typing import Any

import numpy as np

from openmm_cgan.plumed.actions.action import Given, Keyword
from openmm_cgan.plumed.actions.values import Value
from openmm_cgan.plumed.actions.variables.centers import FixedAtom
from openmm_cgan.plumed.actions.variables.variable import (
    BoxKind,
    CalledBack,
    Name,
    OwnForce,
    Site,
    Variable,
    one_by_one,
    site_position,
)
from openmm_cgan.plumed.geometry.near_pairs import SKIN
from openmm_cgan.plumed.geometry.pair_blocks import PairSlopes, PointPairs
from openmm_cgan.plumed.geometry.switching import Switch, rational, read_switch
from openmm_cgan.plumed.geometry.vectors import Vector, dot
from openmm_cgan.plumed.input.expressions import namespace

log = logging.getLogger("openmm_cgan")

MAX_PAIRS = 2_000_000  # all at once
MOST_PAIRS = 200_000_000  # of which the near ones are listed
# With NLIST and at least so many pairs, a list of the near ones is kept: as a force of OpenMM's
# each pair takes 20 to 100 ns of a processor at every step, near or not
LISTED_PAIRS = 100_000
TOO_MUCH = 0.01  # of a contact at NL_CUTOFF, above which it is a fault of the input
FILLED = 0.7  # reach of a list, in halves of the box, up to which few pairs of it are near


class PairSum(Variable):
    """A sum over pairs of a function of their distance."""

    pairs: list[tuple[Site, Site]]

    @cached_property
    def sites(self) -> tuple[Site, ...]:
        return tuple(dict.fromkeys(site for pair in self.pairs for site in pair))

    @cached_property
    def _atoms(self) -> np.ndarray | None:
        """The sites, shape (n_sites,); None if some of them are virtual."""
        real = all(isinstance(site, int) for site in self.sites)
        return np.array(self.sites, dtype=np.intp) if real else None

    def _points(self, positions: Any, box: Any) -> Any:
        """Positions of the sites, shape (..., n_sites, 3) [nm]."""
        if self._atoms is not None:
            return positions[..., self._atoms, :]
        xp = namespace(positions)
        points = [xp.stack(list(site_position(s, positions, box)), -1) for s in self.sites]
        return xp.stack(points, -2)

    def distances(self, positions: Any, box: Any) -> Any:
        """Distances of the pairs, shape (..., n_pairs) [length unit of the input]."""
        nearest = self._vectors(positions, box)
        squared, xp = dot(nearest, nearest), namespace(positions)
        if not self._has_itself:
            return xp.sqrt(squared) / self.units.length
        itself = xp.asarray(self._itself)  # whose distance is 0, without a slope
        return xp.where(itself, 0.0, xp.sqrt(xp.where(itself, 1.0, squared))) / self.units.length

    @cached_property
    def _itself(self) -> np.ndarray:
        """Which pairs are an atom and itself, shape (n_pairs,)."""
        return np.array([a == b for a, b in self.pairs], dtype=bool)

    @cached_property
    def _has_itself(self) -> bool:
        return bool(self._itself.any())

    @cached_property
    def _rows(self) -> tuple[np.ndarray, np.ndarray]:
        """Where the first and the second of each pair stand among the sites."""
        row = {site: i for i, site in enumerate(self.sites)}
        first, second = ([row[pair[end]] for pair in self.pairs] for end in (0, 1))
        return np.array(first, dtype=int), np.array(second, dtype=int)

    def _vectors(self, positions: Any, box: Any) -> Vector:
        """Vectors from the first of each pair to the second, each of shape (..., n_pairs) [nm]."""
        points = self._points(positions, box)
        first, second = self._rows
        x, y, z = (points[..., second, k] - points[..., first, k] for k in range(3))
        return self._nearest((x, y, z), None if box is None else box[..., None, :, :])

    def pair_values(self, r: Any) -> Any:
        """What each pair adds, for distances of shape (..., n_pairs)."""
        raise NotImplementedError

    @property
    def reach(self) -> float:
        """Beyond which distance pairs add nothing that changes [nm]."""
        raise NotImplementedError

    def value(self, positions: Any, box: Any = None) -> Any:
        return self.pair_values(self.distances(positions, box)).sum(-1)

    def gradient(
        self, index: int, positions: np.ndarray, box: np.ndarray | None
    ) -> tuple[float, np.ndarray]:
        return self._pull(positions, box, np.ones(len(self.pairs)))[:2]

    def strain_slope(self, index: int, positions: np.ndarray, box: np.ndarray | None) -> np.ndarray:
        if not self.strains_evenly:
            return super().strain_slope(index, positions, box)
        return self._strained(index, positions, box)

    def _strained(self, index: int, positions: np.ndarray, box: np.ndarray | None) -> np.ndarray:
        """The same, where all sites move with their surroundings."""
        return self._pull(positions, box, np.ones(len(self.pairs)))[2]

    def _pull(
        self, positions: np.ndarray, box: np.ndarray | None, chosen: np.ndarray
    ) -> tuple[float, np.ndarray, np.ndarray]:
        """Sum over the chosen pairs, its gradient on the sites, and by strain."""
        x, y, z = self._vectors(positions, box)
        r = np.sqrt(x * x + y * y + z * z)
        apart = np.where(self._itself, 1.0, r)  # an atom does not pull at itself
        values = self.pair_values(r / self.units.length + 1e-40j) * chosen
        pull = values.imag / 1e-40 / (apart * self.units.length)  # exact: nothing is subtracted
        slopes = np.zeros((len(self.sites), 3))
        for sign, rows in zip((-1.0, 1.0), self._rows, strict=True):
            for axis, component in enumerate((x, y, z)):
                slopes[:, axis] += np.bincount(rows, sign * pull * component, len(slopes))
        vectors = np.array([x, y, z])
        return float(values.real.sum()), slopes, vectors @ (pull * vectors).T

    def _slopes_of_pairs(
        self, positions: np.ndarray, box: np.ndarray | None, chosen: np.ndarray
    ) -> np.ndarray:
        """Gradient by the first of each pair, then by the second, shape (2 n_pairs, 3)."""
        x, y, z = self._vectors(positions, box)
        r = np.sqrt(x * x + y * y + z * z)
        values = self.pair_values(r / self.units.length + 1e-40j) * chosen
        pull = values.imag / 1e-40 / (np.where(r > 0, r, 1.0) * self.units.length)
        slopes = np.stack([pull * x, pull * y, pull * z], -1)
        return np.concatenate([-slopes, slopes])

    def depends_on_image(self, box: BoxKind) -> bool:
        return self.leaves_fixed_point or super().depends_on_image(box)

    def expression(self, index: int, name: Name, box: BoxKind) -> str:
        return name(CalledBack(self, index) if self._in_python(box) else OwnForce(self))

    def _in_python(self, box: BoxKind) -> bool:
        """Whether OpenMM's images of the pairs may not be PLUMED's."""
        far = self.periodic and self.reach > box.safe and box.takes_other_images(self.sites)
        special = self._has_itself or not self.pairs
        return special or far or box.cannot_place(self.sites)

    def pair_expression(self, k: int, r: str) -> str:
        """Expression of OpenMM's for pair `k`, in its distance [nm] and `pair_parameters`."""
        raise NotImplementedError

    def pair_parameters(self, k: int) -> dict[str, float]:
        """Numbers of pair `k` by name, kept out of the expression so that pairs can share it."""
        return {}

    def _refuse_fixed_pairs(self, word: str) -> None:
        fixed = {site for site in self.sites if isinstance(site, FixedAtom)}
        if fixed and any(a in fixed and b in fixed for a, b in self.pairs):
            raise self.not_native(word, "a pair of fixed atoms is not native")


class Coordination(PairSum):
    """The number of contacts between two groups."""

    name = "COORDINATION"
    summary = "number of contacts, all switching functions, PAIR"
    keywords = (
        Keyword("GROUPA", "atoms", "the first group", compulsory=True),
        Keyword("GROUPB", "atoms", "the second group; pairs within the first if absent"),
        Keyword("SWITCH", "text", "the switching function"),
        Keyword("R_0", "real", "its length, if SWITCH is not given"),
        Keyword("D_0", "real", "where it begins", default=0.0),
        Keyword("NN", "integer", "its first exponent", default=6),
        Keyword("MM", "integer", "its second exponent, 2 NN if 0", default=0),
        Keyword("PAIR", "flag", "the first of A with the first of B, and so on"),
        Keyword("NOPBC", "flag", "ignore the periodic box"),
        Keyword("NLIST", "flag", "keep a list of near pairs, if many; the sum stays exact"),
        Keyword("NLISTCELLS", "flag", "the same"),
        Keyword("NL_CUTOFF", "real", "accepted: the list has all that count"),
        Keyword("NL_STRIDE", "integer", "accepted: it is made anew when atoms have moved"),
        Keyword("SERIAL", "flag", "accepted"),
    )

    def __init__(self, given: Given) -> None:
        super().__init__(given)
        options = given.options
        groups = options["GROUPA"], options["GROUPB"]
        self.zipped: bool = options["PAIR"]
        self.groups: tuple[tuple[Site, ...], tuple[Site, ...] | None] = groups
        self._listed = bool(options["NLIST"] or options["NLISTCELLS"]) and not self.zipped
        self.switch = switch_of(self, options)
        self._count = self._number_of_pairs(*groups)
        self._refuse_fixed_pairs("GROUPA")
        self._tell_of_cutoff(options["NL_CUTOFF"])

    def _tell_of_cutoff(self, cutoff: float | None) -> None:
        """Say where PLUMED's list leaves out pairs that count."""
        if not self._listed or cutoff is None or cutoff <= 0 or cutoff >= self.switch.d_max:
            return
        left = float(self.switch.value(np.asarray(cutoff)))
        log.log(
            logging.WARNING if left > TOO_MUCH else logging.INFO,
            "%s: COORDINATION %s counts pairs beyond NL_CUTOFF=%g too, each %.2g there and less "
            "farther away, which PLUMED's list leaves out; give SWITCH a D_MAX of that length for "
            "a sum that ends there smoothly",
            self.statement.location, self.label, cutoff, left,
        )  # fmt: skip

    def _number_of_pairs(self, a: tuple[Site, ...], b: tuple[Site, ...] | None) -> int:
        """About how many there are.

        Raises
        ------
        PlumedInputError
            If they are too many, or two groups do not make pairs.
        """
        if self.zipped and (b is None or len(a) != len(b)):
            raise self.error("PAIR", "GROUPA and GROUPB must have as many atoms")
        count = len(a) * (len(a) if b is None else len(b))
        most = MOST_PAIRS if math.isfinite(self.reach) else MAX_PAIRS
        if not self.zipped and count > most:
            raise self.not_native("GROUPA", f"{count} pairs, natively {most} at most")
        return count

    @property
    def _is_too_long(self) -> bool:
        """Whether all pairs at once are too many."""
        return not self.zipped and self._count > MAX_PAIRS

    @cached_property
    def pairs(self) -> list[tuple[Site, Site]]:  # type: ignore[override]
        a, b = self.groups
        if self._is_too_long:
            raise ValueError(
                f"{self.statement.location}: COORDINATION {self.label}: {self._count} pairs are "
                f"too many to be worked out all at once, as tensors are; {MAX_PAIRS} at most"
            )
        if b is None:
            pairs = [(a[i], a[j]) for i in range(len(a)) for j in range(i + 1, len(a))]
        elif self.zipped:
            pairs = list(zip(a, b, strict=True))
        else:
            pairs = [(x, y) for x in a for y in b]
        return [pair for pair in pairs if pair[0] != pair[1]]  # PLUMED leaves the others out

    def _in_python(self, box: BoxKind) -> bool:
        near = self.reach + SKIN < FILLED * box.safe and math.isfinite(self.reach)
        if self._is_too_long or (self._listed and near and self._count >= LISTED_PAIRS):
            return True
        return super()._in_python(box)

    @cached_property
    def sites(self) -> tuple[Site, ...]:
        return tuple(dict.fromkeys([*self.groups[0], *(self.groups[1] or ())]))

    @property
    def outputs(self) -> tuple[Value, ...]:
        return (Value(self.label),)

    @cached_property
    def _blocks(self) -> PointPairs:
        row = {site: i for i, site in enumerate(self.sites)}
        a, b = self.groups
        first = np.array([row[site] for site in a], dtype=np.intp)
        second = first if b is None else np.array([row[site] for site in b], dtype=np.intp)
        return PointPairs(first, second, once=b is None)

    def _pulled(self, squared: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        unit = self.units.length**2
        values, slopes = self.switch.with_slopes(squared / unit if unit != 1 else squared)
        return values, slopes / unit if unit != 1 else slopes

    def value(self, positions: Any, box: Any = None) -> Any:
        if self.zipped or not isinstance(positions, np.ndarray):
            return super().value(positions, box)
        if positions.ndim > 2 and self._blocks.are_few:
            return super().value(positions, box)
        if positions.ndim > 2:
            values = [self.value(*frame) for frame in one_by_one(positions, box)]
            return np.array(values).reshape(positions.shape[:-2])
        points, blocks = self._points(positions, box), self._blocks
        ends = points[blocks.first], points[blocks.second]
        return blocks.total(*ends, box if self.periodic else None, self._pulled, self.reach)

    def gradient(
        self, index: int, positions: np.ndarray, box: np.ndarray | None
    ) -> tuple[float, np.ndarray]:
        if self.zipped:
            return super().gradient(index, positions, box)
        value, slopes = self._in_blocks(positions, box)
        total = np.zeros((len(self.sites), 3))
        np.add.at(total, self._blocks.first, slopes.first)
        if not self._blocks.once:
            np.add.at(total, self._blocks.second, slopes.second)
        return value, total

    def gradient_of_ends(
        self, index: int, positions: np.ndarray, box: np.ndarray | None
    ) -> np.ndarray:
        """Gradient by all of the first group, then of the second, as they are named: (n, 3)."""
        if self.zipped:
            return self._slopes_of_pairs(positions, box, np.ones(len(self.pairs)))
        slopes = self._in_blocks(positions, box)[1]
        return slopes.first if self._blocks.once else np.concatenate([slopes.first, slopes.second])

    def _strained(self, index: int, positions: np.ndarray, box: np.ndarray | None) -> np.ndarray:
        if self.zipped:
            return super()._strained(index, positions, box)
        return self._in_blocks(positions, box)[1].strain

    def _in_blocks(self, positions: np.ndarray, box: np.ndarray | None) -> tuple[float, PairSlopes]:
        points, blocks = self._points(positions, box), self._blocks
        ends = points[blocks.first], points[blocks.second]
        slopes = blocks.no_slopes()
        images = box if self.periodic else None
        return blocks.total(*ends, images, self._pulled, self.reach, slopes), slopes

    def pair_values(self, r: Any) -> Any:
        return self.switch.value(r)

    @property
    def reach(self) -> float:
        return self.switch.d_max * self.units.length

    def pair_expression(self, k: int, r: str) -> str:
        return self.switch.expression(f"({r}*{1 / self.units.length!r})")


def switch_of(action: Variable, options: dict[str, Any]) -> Switch:
    """The switching function that SWITCH, or R_0, D_0, NN and MM say.

    Raises
    ------
    PlumedInputError
    """
    if options["SWITCH"] is not None:
        try:
            return read_switch(options["SWITCH"])
        except ValueError as error:
            raise action.not_native("SWITCH", str(error)) from None
    r_0, nn, mm = options["R_0"], options["NN"], options["MM"]
    if r_0 is None or not r_0 > 0 or nn == mm or (mm or 2 * nn) <= nn:
        raise action.error("R_0", "give SWITCH, or a positive R_0 with NN below MM")
    return rational(r_0, options["D_0"], nn, mm)
