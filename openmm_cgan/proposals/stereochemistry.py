"""What the bond graph of a molecule says of its stereochemistry: stereocentres and amides.

Elements and bonds are enough; bond orders are not needed (OpenMM topologies seldom have them).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from openmm_cgan.short_reprs import short_repr
from openmm_cgan.topologies import openmm_topology

TETRAHEDRAL = frozenset({5, 6, 7, 14, 15, 16, 32, 33, 34})  # not metals: they may be square planar
CARBON, NITROGEN, OXYGEN = 6, 7, 8
SMALL_RING = 7  # atoms: trans-lactams begin with eight


@dataclass(frozen=True, repr=False)
class BondGraph:
    """Elements and bonds of the atoms that are screened.

    Attributes
    ----------
    elements : tuple of int
        Atomic numbers; 0 for a site that is no atom.
    neighbours : tuple of tuple of int
        Atoms bonded to each.
    """

    elements: tuple[int, ...]
    neighbours: tuple[tuple[int, ...], ...]

    __repr__ = short_repr

    @classmethod
    def from_topology(cls, topology: Any, atoms: Sequence[int] | None = None) -> BondGraph:
        """Read an OpenMM Topology, or the given atoms of it with the bonds among them."""
        topology = openmm_topology(topology)
        every = list(topology.atoms())
        chosen = range(len(every)) if atoms is None else [int(atom) for atom in atoms]
        place = {every[atom]: i for i, atom in enumerate(chosen)}
        neighbours: list[set[int]] = [set() for _ in place]
        for first, second, *_ in topology.bonds():
            if first in place and second in place:
                neighbours[place[first]].add(place[second])
                neighbours[place[second]].add(place[first])
        elements = tuple(atom.element.atomic_number if atom.element else 0 for atom in place)
        return cls(elements, tuple(tuple(sorted(bonded)) for bonded in neighbours))

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

    def joined(self, first: int, second: int, without: int, n_bonds: int | None = None) -> bool:
        """Whether a path joins two atoms that does not pass through a third.

        With ``n_bonds``, whether one of at most so many bonds does.
        """
        seen, edge, length = {first, without}, [first], 0
        while edge and (n_bonds is None or length < n_bonds):
            length += 1
            new = {k for j in edge for k in self.neighbours[j]} - seen
            if second in new:
                return True
            seen |= new
            edge = list(new)
        return False

    def ranks(self) -> NDArray:
        """Canonical classes (n_atoms,), equal for atoms that the bond graph cannot distinguish.

        Neighbourhoods are refined until the number of classes stays (H. L. Morgan, J. Chem. Doc. 5,
        107 (1965), doi 10.1021/c160017a018; also called Weisfeiler-Lehman refinement).
        """
        keys: list[Any] = list(zip(self.elements, map(len, self.neighbours), strict=True))
        n_classes = 0
        while True:
            order = {key: rank for rank, key in enumerate(sorted(set(keys)))}
            ranks = [order[key] for key in keys]
            if len(order) == n_classes:
                return np.array(ranks, dtype=int)
            n_classes = len(order)
            keys = [
                (rank, tuple(sorted(ranks[j] for j in bonded)))
                for rank, bonded in zip(ranks, self.neighbours, strict=True)
            ]

    def _tell_apart(self, centre: int, substituents: Sequence[int], ranks: NDArray) -> bool:
        """Whether no two substituents of an atom can be exchanged without a trace.

        Two of equal rank can, unless a ring ties them (1,4-dimethylcyclohexane has cis and trans).
        """
        return all(
            ranks[a] != ranks[b] or self.joined(a, b, without=centre)
            for i, a in enumerate(substituents)
            for b in substituents[i + 1 :]
        )

    def stereocentres(self) -> NDArray:
        """Atoms with four different neighbours.

        Returns
        -------
        ndarray, shape (n_centres, 5)
            The centre, then its neighbours in ascending order.
        """
        ranks = self.ranks()
        found = [
            (centre, *bonded)
            for centre, bonded in enumerate(self.neighbours)
            if len(bonded) == 4
            and self.elements[centre] in TETRAHEDRAL
            and self._tell_apart(centre, bonded, ranks)
        ]
        return np.array(found, dtype=int).reshape(-1, 5)

    def amides(self) -> NDArray:
        """Amide bonds that can be cis or trans.

        A C-N bond outside small rings, which hold it in cis (those that disulphides and cyclic
        peptides close are wide enough for both), its carbon with three neighbours of which one is
        a terminal oxygen, its nitrogen with three neighbours of which the other two differ (a
        primary amide has no isomers). No bond orders are needed.

        Returns
        -------
        ndarray, shape (n_amides, 4)
            O, C, N and a substituent of N, a heavy one where there is one: the torsion whose
            cosine tells the two isomers apart.
        """
        ranks = self.ranks()
        found = []
        for carbon, nitrogen in [*self.bonds, *self.bonds[:, ::-1]]:
            others = [j for j in self.neighbours[carbon] if j != nitrogen]
            sides = [j for j in self.neighbours[nitrogen] if j != carbon]
            oxygens = [
                j for j in others if self.elements[j] == OXYGEN and len(self.neighbours[j]) == 1
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
