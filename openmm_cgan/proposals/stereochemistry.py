"""What the bond graph of a molecule says of its stereochemistry.

Stereocentres and amides need elements and bonds only. Double bonds need their orders, which OpenMM
topologies seldom have, or a structure: they are short and flat.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field
from functools import cached_property
from itertools import combinations
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from openmm_cgan.proposals.graph_classes import graph_classes
from openmm_cgan.proposals.valence import is_double_by_length, is_terminal
from openmm_cgan.short_reprs import short_repr
from openmm_cgan.topologies import is_deuterium, openmm_topology

TETRAHEDRAL = frozenset({5, 6, 7, 14, 15, 16, 32, 33, 34})  # not metals: they may be square planar
NONMETALS = TETRAHEDRAL | {1, 8, 9, 17, 35, 52, 53}
PYRAMIDAL = frozenset({15, 16, 33, 34})  # of three neighbours, that do not invert as amines do
CARBON, NITROGEN, OXYGEN, SULFUR = 6, 7, 8, 16
SMALL_RING = 7  # atoms: trans-lactams begin with eight
BRIDGED_RING = 8  # atoms of rings about a bridgehead's nitrogen that can not invert (Tröger's base)
ORDERS = {"Single": 1.0, "Double": 2.0, "Triple": 3.0, "Aromatic": 1.5, "Amide": 1.0}
FLATTEST = 0.3  # cosine of the torsion about what may be a double bond: rings of eight twist it
NOT_FLAT = 0.4  # volume of three unit vectors at an atom that is a pyramid


@runtime_checkable
class OrderedBond(Protocol):
    """A bond of an OpenMM Topology: its kind and order, or None where they are not known."""

    @property
    def type(self) -> Any: ...

    @property
    def order(self) -> int | None: ...


@dataclass(frozen=True, repr=False)
class BondGraph:
    """Elements and bonds of the atoms that are screened.

    Attributes
    ----------
    elements : tuple of int
        Atomic numbers; 0 for a site that is no atom.
    neighbours : tuple of tuple of int
        Atoms bonded to each.
    orders : mapping of (int, int) to float
        Orders of the bonds for which they are known, the smaller atom first.
    deuteria : frozenset of int
        Hydrogens that are deuterium: a carbon with both is a stereocentre.
    """

    elements: tuple[int, ...]
    neighbours: tuple[tuple[int, ...], ...]
    orders: Mapping[tuple[int, int], float] = field(default_factory=dict)
    deuteria: frozenset[int] = frozenset()

    __repr__ = short_repr

    @classmethod
    def from_topology(cls, topology: Any, atoms: Sequence[int] | None = None) -> BondGraph:
        """Read an OpenMM Topology, or the given atoms of it with the bonds among them."""
        topology = openmm_topology(topology)
        every = list(topology.atoms())
        chosen = range(len(every)) if atoms is None else [int(atom) for atom in atoms]
        place = {every[atom]: i for i, atom in enumerate(chosen)}
        neighbours: list[set[int]] = [set() for _ in place]
        orders: dict[tuple[int, int], float] = {}
        for bond in topology.bonds():
            if bond[0] in place and bond[1] in place:
                low, high = sorted((place[bond[0]], place[bond[1]]))
                neighbours[low].add(high)
                neighbours[high].add(low)
                if (order := _order(bond)) is not None:
                    orders[low, high] = order
        elements = tuple(atom.element.atomic_number if atom.element else 0 for atom in place)
        bonded = tuple(tuple(sorted(around)) for around in neighbours)
        deuteria = (i for i, atom in enumerate(place) if is_deuterium(atom.element))
        return cls(elements, bonded, orders, frozenset(deuteria))

    @property
    def bonds(self) -> NDArray:
        """Bonded pairs, shape (n_bonds, 2), the smaller index first."""
        pairs = [(i, j) for i, bonded in enumerate(self.neighbours) for j in bonded if i < j]
        return np.array(pairs, dtype=int).reshape(-1, 2)

    def within(self, atom: int, n_bonds: int) -> set[int]:
        """Atoms at most ``n_bonds`` bonds away from an atom, itself included."""
        reached = edge = {atom}
        for _ in range(n_bonds):
            edge = {k for j in edge for k in self.neighbours[j]} - reached
            reached = reached | edge
        return reached

    def joined(
        self,
        first: int,
        second: int,
        without: int,
        n_bonds: int | None = None,
        besides: int | None = None,
    ) -> bool:
        """Whether a path joins two atoms that does not pass through a third, or a fourth.

        With ``n_bonds``, whether one of at most so many bonds does.
        """
        seen, edge, length = {first, without, besides}, [first], 0
        while edge and (n_bonds is None or length < n_bonds):
            length += 1
            new = {k for j in edge for k in self.neighbours[j]} - seen
            if second in new:
                return True
            seen |= new
            edge = list(new)
        return False

    @cached_property
    def ranks(self) -> NDArray:
        """Canonical classes (n_atoms,), equal for atoms that the bond graph cannot distinguish."""
        keys = [
            (element, len(bonded), i in self.deuteria)
            for i, (element, bonded) in enumerate(zip(self.elements, self.neighbours, strict=True))
        ]
        return graph_classes(keys, self.neighbours)

    def apart(self, centre: int, a: int, b: int) -> bool:
        """Whether two neighbours of an atom can not be exchanged without a trace.

        Two of equal rank can, unless stereocentres are in them, which may have other hands (the
        third carbon of xylitol). Those in one ring are exchanged by a half turn (the ortho carbons
        of tyrosine), unless it takes stereocentres to the other side (4-methylcyclohexylidene).
        """
        if self.ranks[a] != self.ranks[b]:
            return True
        if not self.joined(a, b, without=centre):
            return self._holds(a, centre, self._centres)
        return self._tells_sides(centre, a, b)

    def _tells_sides(self, centre: int, a: int, b: int) -> bool:
        """Whether a stereocentre is nearer to one of two neighbours, or one of its own is."""
        if not self._holds(a, centre, self._centres):
            return False
        from_a, from_b = self._distances(a, centre), self._distances(b, centre)
        return any(
            from_a.get(atom) != from_b.get(atom)
            for found in self._centres
            for atom in (found, *self.neighbours[found])
        )

    def _distances(self, start: int, without: int) -> dict[int, int]:
        """Bonds to each atom that is reached by a path that does not pass another."""
        found, queue = {start: 0}, [start]
        for atom in queue:
            new = [k for k in self.neighbours[atom] if k not in found and k != without]
            found |= dict.fromkeys(new, found[atom] + 1)
            queue += new
        return found

    def _holds(self, start: int, without: int, centres: Set[int]) -> bool:
        """Whether one of some atoms is reached from an atom by a path that passes another not."""
        seen, edge = {start, without}, [start]
        while edge and centres:
            if not centres.isdisjoint(edge):
                return True
            edge = list({k for j in edge for k in self.neighbours[j]} - seen)
            seen.update(edge)
        return False

    @cached_property
    def _centres(self) -> frozenset[int]:
        """Atoms whose neighbours all differ, or are tied by a ring (1,4-dimethylcyclohexane).

        Those that differ by the stereocentres in them are found in the next round.
        """
        found: frozenset[int] = frozenset()
        while True:
            new = {
                i for i, bonded in enumerate(self.neighbours) if self._is_centre(i, bonded, found)
            }
            if new <= found:
                return found
            found |= new

    def _is_centre(self, centre: int, bonded: Sequence[int], known: Set[int]) -> bool:
        kinds = {3: PYRAMIDAL, 4: TETRAHEDRAL}.get(len(bonded), frozenset())
        is_amine = self.elements[centre] == NITROGEN and len(bonded) == 3
        if self.elements[centre] not in kinds and not is_amine:
            return False
        if len(bonded) == 3 and any(self.elements[j] not in NONMETALS for j in bonded):
            return False  # a thioether on a metal inverts
        apart = all(
            self.ranks[a] != self.ranks[b]
            or (not is_amine and self.joined(a, b, without=centre))
            or self._holds(a, centre, known)
            for a, b in combinations(bonded, 2)
        )
        return apart and (not is_amine or self._is_held(centre, bonded))

    def _is_held(self, nitrogen: int, bonded: Sequence[int]) -> bool:
        """Whether small rings keep an amine from inverting: aziridines, bridgeheads.

        An aziridine with an acyl, aryl or vinyl group does.
        """
        for a, b in combinations(bonded, 2):
            if b in self.neighbours[a]:
                return all(
                    len(self.neighbours[j]) not in (2, 3)
                    for j in bonded
                    if j not in (a, b) and self.elements[j] == CARBON
                )
        return all(
            self.joined(a, b, nitrogen, BRIDGED_RING - 2, besides=c)
            for a, b, c in (bonded, (*bonded[1:], bonded[0]), (bonded[2], *bonded[:2]))
        )

    def stereocentres(self) -> NDArray:
        """Atoms with four different neighbours, and of sulfur, phosphorus and such with three.

        Returns
        -------
        ndarray, shape (n_centres, 5)
            The centre, then its neighbours in ascending order; of three itself at the end, the tip
            of their pyramid.
        """
        found = [
            (centre, *self.neighbours[centre], *[centre] * (4 - len(self.neighbours[centre])))
            for centre in sorted(self._centres)
        ]
        return np.array(found, dtype=int).reshape(-1, 5)

    def unwatched(self) -> list[int]:
        """Metals, and hypervalent atoms, whose ligands may have isomers that nobody looks at.

        With all ligands but one alike there are none.
        """
        return [
            i
            for i, bonded in enumerate(self.neighbours)
            if len(bonded) >= 4
            and (len(bonded) > 4 or self.elements[i] not in TETRAHEDRAL)
            and max(Counter(self.ranks[j] for j in bonded).values()) <= len(bonded) - 2
        ]

    def amides(self) -> NDArray:
        """Amide bonds that can be cis or trans.

        A C-N bond outside small rings, which hold it in cis (those that disulphides and cyclic
        peptides close are wide enough for both), its carbon with three neighbours of which one is
        a terminal oxygen or sulfur, its nitrogen with three neighbours of which the other two
        differ (a primary amide has no isomers). No bond orders are needed.

        Returns
        -------
        ndarray, shape (n_amides, 4)
            O, C, N and a substituent of N, a heavy one where there is one: the torsion whose
            cosine tells the two isomers apart.
        """
        ranks = self.ranks
        found = []
        for carbon, nitrogen in [*self.bonds, *self.bonds[:, ::-1]]:
            others = [j for j in self.neighbours[carbon] if j != nitrogen]
            sides = [j for j in self.neighbours[nitrogen] if j != carbon]
            oxygens = [
                j
                for j in others
                if self.elements[j] in (OXYGEN, SULFUR) and len(self.neighbours[j]) == 1
            ]
            elements = (self.elements[carbon], self.elements[nitrogen])
            if (
                elements == (CARBON, NITROGEN)
                and (len(others), len(sides)) == (2, 2)
                and oxygens
                and not any(self.joined(s, carbon, nitrogen, SMALL_RING - 2) for s in sides)
                and ranks[sides[0]] != ranks[sides[1]]
                and ranks[others[0]] != ranks[others[1]]
            ):
                side = max(sides, key=lambda j: (self.elements[j] > 1, -j))
                found.append((oxygens[0], carbon, nitrogen, side))
        return np.array(sorted(found), dtype=int).reshape(-1, 4)

    def double_bonds(self, reference: NDArray[np.float64]) -> NDArray:
        """Double bonds of C and N that can be E or Z, amides left out.

        Where the order of a bond is not known, one that is short and flat in the reference. Those
        in small rings have no isomers, nor those with two like substituents at one end.

        Parameters
        ----------
        reference : ndarray, shape (n_atoms, 3)
            [nm]

        Returns
        -------
        ndarray, shape (n_bonds, 4)
            A substituent, both ends, a substituent: the torsion whose cosine tells the isomers
            apart.
        """
        found = []
        amides = {tuple(sorted(amide[1:3])) for amide in self.amides().tolist()}
        for one, two in self.bonds.tolist():
            ends = self._ends(one, two) and self._ends(two, one)
            if not ends or (one, two) in amides:
                continue
            sides = self._side(one, two), self._side(two, one)
            torsion = (sides[0], one, two, sides[1])
            flat = min(sides) >= 0 and is_flat(reference[list(torsion)])
            if flat and self._is_double(one, two, reference):
                found.append(torsion)
        return np.array(found, dtype=int).reshape(-1, 4)

    def _side(self, end: int, other: int) -> int:
        """A substituent that tells the sides of a double bond apart at one end, -1 if none does."""
        sides = self._ends(end, other)
        if any(self.joined(side, other, end, SMALL_RING - 2) for side in sides):
            return -1
        if len(sides) == 2 and not self.apart(end, *sides):
            return -1
        return max(sides, key=lambda j: (self.elements[j] > 1, -j))

    def _ends(self, end: int, other: int) -> list[int]:
        """What stands at one end of what may be a double bond; nothing where it can be none."""
        sides = [j for j in self.neighbours[end] if j != other]
        counts = {CARBON: (2,), NITROGEN: (1, 2)}.get(self.elements[end], ())
        is_azide = is_terminal(sides, {NITROGEN}, self.elements, self.neighbours)
        # or diazo: straight, so that it has no sides
        return sides if len(sides) in counts and not is_azide else []

    def _is_double(self, one: int, two: int, reference: NDArray) -> bool:
        if (one, two) in self.orders:
            return self.orders[one, two] == 2
        length = float(np.linalg.norm(reference[one] - reference[two]))
        return is_double_by_length(one, two, length, self.elements, self.neighbours)


def signed_volumes(neighbours: NDArray[np.float64]) -> NDArray[np.float64]:
    """Of the parallelepipeds that four neighbours of centres span, (..., 4, 3) to (...) [nm^3]."""
    a, b, c, d = (neighbours[..., k, :] for k in range(4))
    volumes: NDArray[np.float64] = ((a - d) * np.cross(b - d, c - d)).sum(axis=-1)
    return volumes


def with_hands(centres: NDArray[np.int64], reference: NDArray[np.float64]) -> NDArray[np.int64]:
    """Stereocentres (n, 5), less those of three neighbours that are flat (iminophosphoranes)."""
    arms = reference[centres[:, 1:4]] - reference[centres[:, :1]]
    volumes = np.linalg.det(arms / np.linalg.norm(arms, axis=2, keepdims=True))
    return centres[(centres[:, 4] != centres[:, 0]) | (np.abs(volumes) > NOT_FLAT)]


def _order(bond: Any) -> float | None:
    """Order of a bond of a Topology, None where it is not known."""
    if not isinstance(bond, OrderedBond):
        return None
    if bond.order is not None:
        return float(bond.order)
    return None if bond.type is None else ORDERS.get(str(bond.type))


def is_flat(four: NDArray[np.float64]) -> bool:
    """Whether the torsion of four points (4, 3) is near 0 or a half turn."""
    first, axis, last = np.diff(four, axis=0)
    normals = np.cross(first, axis), np.cross(axis, last)
    sizes = np.linalg.norm(normals[0]) * np.linalg.norm(normals[1])
    return bool(abs(normals[0] @ normals[1]) > FLATTEST * sizes)
