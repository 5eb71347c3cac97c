"""Which Z-matrix a molecule gets: chosen from its bonds, with as many CVs in it as possible."""

import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from heapq import heapify, heappop, heappush
from itertools import combinations, pairwise, permutations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from openmm_cgan.collective_variable import CollectiveVariable
from openmm_cgan.internal_coordinates.rows import find_coordinate, sort_by_level
from openmm_cgan.topologies import openmm_topology

# Bonded angles above these [degrees] count as linear. Heat bends what is linear on average by up to
# 20, and few centres with another number of neighbours are near it.
LINEAR, LINEAR_OF_TWO = 165.0, 150.0
CUMULATED = (6, 7)  # elements that are linear with two neighbours, as in alkynes and azides

logger = logging.getLogger("openmm_cgan")


def choose_rows(
    topology: Any,
    atoms: Iterable[int] | None = None,
    variables: Iterable[CollectiveVariable] = (),
    reference: Any = None,
) -> tuple[list[tuple[int, ...]], list[int]]:
    """Rows of a Z-matrix of a connected molecule, with as many CVs in it as possible.

    Parameters
    ----------
    topology, atoms, variables, reference
        As for `ZMatrix.from_topology`.

    Returns
    -------
    rows : list of (int, int, int, int)
        Atom, bond, angle and torsion reference, numbered among the atoms chosen.
    atoms : list of int
        Their indices in the topology.

    Raises
    ------
    ValueError
        If bonds do not connect the atoms (the unreachable ones are listed).
    """
    chosen = None if atoms is None else [int(a) for a in atoms]
    molecule = MoleculeGraph.from_topology(topology, chosen, reference)
    molecule.require_connected()
    wanted = molecule.wanted(variables)
    best: list[tuple[int, ...]] = []
    merit = (-1, 0)
    for start in molecule.starts(wanted):
        rows = molecule.place(start, wanted)
        row_of = {row[0]: row for row in rows}
        found = sum(find_coordinate((row_of[a] for a in w), w) is not None for w in wanted)
        depth = len(sort_by_level(np.array(rows))[1])
        if (found, -depth) > merit:
            best, merit = rows, (found, -depth)
    molecule.warn_of_linear(best)
    return best, molecule.atoms


@dataclass
class MoleculeGraph:
    """The graph from which a Z-matrix is chosen; indices are local (0 ... n_atoms - 1)."""

    atoms: list[int]  # in the full topology
    names: list[str]
    elements: list[int]  # atomic numbers, 0 for a site that is no atom
    neighbours: list[list[int]]  # heavy ones first
    lines: list[set[int]]  # sets of atoms that stand on one straight line

    @classmethod
    def from_topology(
        cls, topology: Any, atoms: list[int] | None, reference: Any
    ) -> "MoleculeGraph":
        """Read an OpenMM Topology; parameters as for `choose_rows`."""
        topology = openmm_topology(topology)
        every = list(topology.atoms())
        chosen = list(range(len(every))) if atoms is None else atoms
        if not chosen or len(set(chosen)) < len(chosen):
            raise ValueError(f"atoms={atoms!r}: expected at least one atom and none twice")
        wrong = [a for a in chosen if not 0 <= a < len(every)]
        if wrong:
            raise ValueError(f"atoms {wrong} are not in the topology, which has {len(every)} atoms")
        local = {a: i for i, a in enumerate(chosen)}
        neighbours: list[list[int]] = [[] for _ in chosen]
        for one, two in ((b[0].index, b[1].index) for b in topology.bonds()):
            if one in local and two in local:
                neighbours[local[one]].append(local[two])
                neighbours[local[two]].append(local[one])
        elements = [every[a].element.atomic_number if every[a].element else 0 for a in chosen]
        names = [f"{a} ({every[a].residue.name} {every[a].name})" for a in chosen]
        neighbours = [sorted(set(n), key=lambda a: (elements[a] == 1, a)) for n in neighbours]
        self = cls(chosen, names, elements, neighbours, [])
        positions = None if reference is None else np.asarray(reference)[chosen]
        self._find_lines(positions)
        return self

    @cached_property
    def local(self) -> dict[int, int]:
        """Local index of an atom of the full topology."""
        return {a: i for i, a in enumerate(self.atoms)}

    def wanted(self, variables: Iterable[CollectiveVariable]) -> list[tuple[int, ...]]:
        """Atoms of the CVs that may be coordinates."""
        return [
            tuple(self.local[a] for a in v.atoms)
            for v in variables
            if v.action in ("TORSION", "ANGLE", "DISTANCE")
            and len(set(v.atoms)) == len(v.atoms)
            and all(a in self.local for a in v.atoms)
        ]

    @cached_property
    def hydrogen(self) -> list[bool]:
        """Which atoms are hydrogens."""
        return [element == 1 for element in self.elements]

    def within(self, atom: int, n_bonds: int) -> set[int]:
        """Atoms at most so many bonds away from an atom, itself included."""
        reached = edge = {atom}
        for _ in range(n_bonds):
            edge = {k for j in edge for k in self.neighbours[j]} - reached
            reached = reached | edge
        return reached

    def components(self) -> NDArray[np.int64]:
        """Number (n_atoms,) of the bonded component of each atom."""
        number = np.full(len(self.atoms), -1)
        for atom in range(len(self.atoms)):
            if number[atom] < 0:
                number[[other for other, _ in self._outward(atom)]] = number.max() + 1
        return number

    def starts(self, wanted: list[tuple[int, ...]]) -> Iterator[list[int]]:
        """First three atoms worth trying: the middle of the molecule, then along each CV."""
        if len(self.atoms) < 3:
            yield [atom for atom, _ in self._outward(0)]
            return
        yield self._middle()
        for chain in wanted:
            for order in permutations(chain) if len(chain) < 4 else (chain, chain[::-1]):
                start = list(order[:3])
                if len(start) == 2:
                    start += [a for a in self.neighbours[start[1]] if a != start[0]][:1]
                if len(start) == 3 and all(b in self.neighbours[a] for a, b in pairwise(start)):
                    yield start

    def _middle(self) -> list[int]:
        """Three bonded atoms: least linear, then of few hydrogens, then from which all is near.

        How far the farthest atom is from one is asked of few: where it is known of one atom, it is
        bounded for all others by their distance from that one (F. W. Takes, W. A. Kosters,
        Algorithms 6, 100 (2013), doi 10.3390/a6010100).
        """
        triples = [
            (self._linear(a, b, c), sum(self.hydrogen[x] for x in (a, b, c)), a, b, c)
            for b, around in enumerate(self.neighbours)
            for a, c in combinations(around, 2)
        ]
        least = min(triples)[:2]
        triples = [triple for triple in triples if triple[:2] == least]
        centres = np.unique([triple[3] for triple in triples])
        at_least = np.zeros(len(centres), dtype=np.int64)
        reach: dict[int, int] = {}
        while not reach or at_least.min() <= min(reach.values()):
            atom = int(centres[at_least.argmin()])
            distances = dict(self._outward(atom))
            reach[atom] = max(distances.values())
            far = np.array([distances[centre] for centre in centres.tolist()])
            at_least = np.maximum(at_least, np.maximum(far, reach[atom] - far))
            at_least[np.isin(centres, list(reach))] = len(self.atoms)  # known, and asked no more
        nearest = min(reach.values())
        return list(min(triple[2:] for triple in triples if reach.get(triple[3]) == nearest))

    def place(self, start: list[int], wanted: list[tuple[int, ...]]) -> list[tuple[int, ...]]:
        """Rows of a Z-matrix that begins with these atoms and takes in the CVs it can."""
        rows = [(a, *start[:i][::-1], *(-1,) * (3 - i)) for i, a in enumerate(start)]
        order = {a: i for i, a in enumerate(start)}  # placed atoms
        # The bond about which an atom's children turn, and the child that the others follow.
        lead = {start[1]: (start[0], start[2])} if len(start) == 3 else {}
        return self._grown(rows, order, lead, wanted)

    def place_on(self, held: list[int], wanted: list[tuple[int, ...]]) -> list[tuple[int, ...]]:
        """Rows of the atoms that hang on held ones, with the CVs that they can take in.

        An atom on a held one that has two held neighbours is placed relative to these, so that
        its torsion is a stiff one whatever the rest does.
        """
        order = {a: i for i, a in enumerate(held)}
        lead = {}
        for atom in held:
            near = [n for n in self.neighbours[atom] if n in order]
            if len(near) > 1 and not self._linear(near[0], atom, near[1]):
                lead[atom] = (near[0], near[1])
        return self._grown([], order, lead, wanted)

    def _grown(
        self,
        rows: list[tuple[int, ...]],
        order: dict[int, int],
        lead: dict[int, tuple[int, int]],
        wanted: list[tuple[int, ...]],
    ) -> list[tuple[int, ...]]:
        """Rows with those of all atoms that are not placed yet."""
        frontier = _Frontier(self, order, wanted)
        while len(order) < len(self.atoms):
            pending = frontier.pending
            ready = (self._wanted_row(w, order) for w in sorted(pending, key=len, reverse=True))
            row = next((r for r in ready if r), ()) or frontier.next_atom()
            row = self._complete(row, order, lead)
            rows.append(row)
            order[row[0]] = len(order)
            frontier.placed(row[0])
            lead.setdefault(row[1], (row[2], row[0]))
        return rows

    def require_connected(self) -> None:
        """Raise ValueError if bonds do not connect the atoms."""
        reached = dict(self._outward(0))
        missing = [name for a, name in enumerate(self.names) if a not in reached]
        if missing:
            more = f" and {len(missing) - 10} more" if missing[10:] else ""
            raise ValueError(
                f"no bonds lead from atom {self.names[0]} to {', '.join(missing[:10])}{more}: a"
                " Z-matrix needs one connected molecule. Add the missing bonds to the topology, or"
                " choose the atoms of one molecule with atoms=, or take coordinates that need no"
                " bonds: featurize=AlignedFeatures.fit of several molecules, PlainFeatures.fit of"
                " particles in a field"
            )

    def warn_of_linear(self, rows: list[tuple[int, ...]]) -> None:
        """Log straight pieces, and whether some coordinate is ill-defined for them."""
        if not self.lines:
            return
        ill = [r for r in rows if self._linear(*r[:3]) or self._linear(*r[1:])]
        logger.warning(
            "linear fragment: atoms %s stand on a line; %s",
            "; ".join(", ".join(self.names[a] for a in sorted(line)) for line in self.lines),
            f"the angle or torsion of atom {self.names[ill[0][0]]} is ill-defined there"
            if ill
            else "their angles are measured from atoms off the line",
        )

    def _wanted_row(self, cv: tuple[int, ...], order: dict[int, int]) -> tuple[int, ...]:
        """A row that makes a CV a coordinate, if it can be placed now; else ()."""
        for end, other in ((cv[0], cv[-1]), (cv[-1], cv[0])):
            axis = cv[1:-1]
            if end in order or not all(a in order for a in (*axis, other)):
                continue
            for near in (axis, axis[::-1]) if axis else ():
                if all(b in self.neighbours[a] for a, b in pairwise((end, *near))):
                    return (end, *near, other)
            if not axis and other in self.neighbours[end]:
                return (end, other)
        return ()

    def _complete(
        self, row: tuple[int, ...], order: dict[int, int], lead: dict[int, tuple[int, int]]
    ) -> tuple[int, ...]:
        """Add the references that a row lacks, off straight lines where that can be."""
        atom, p = row[:2]
        if p in lead and (row + lead[p])[2] == lead[p][0] and not self._linear(atom, p, lead[p][0]):
            row += lead[p][len(row) - 2 :]
        while len(row) < 4:
            near = (a for a, _ in self._outward(row[-1]) if a in order and a not in row)
            first = next(near)
            straight = self._linear(*row[-2:], first)
            bent = (a for a in near if not self._linear(*row[-2:], a)) if straight else ()
            row += (next(iter(bent), first),)
        return row

    def _outward(self, start: int) -> Iterator[tuple[int, int]]:
        """Atoms connected with one, nearest first, and the number of bonds to each."""
        found, queue = {start: 0}, [start]
        for atom in queue:
            yield atom, found[atom]
            new = [n for n in self.neighbours[atom] if n not in found]
            found |= dict.fromkeys(new, found[atom] + 1)
            queue += new

    def _find_lines(self, positions: Any) -> None:
        """Fill ``lines``; two that share a bond are one, as in C-C#C-C."""
        for b, around in enumerate(self.neighbours):
            two = self.elements[b] in CUMULATED and len(around) == 2
            for a, c in combinations(around, 2):
                straight = self.elements[b] == 6 and len(around) == 2
                if positions is not None:
                    u, v = positions[a] - positions[b], positions[c] - positions[b]
                    least = LINEAR_OF_TWO if two else LINEAR
                    size = np.linalg.norm(u) * np.linalg.norm(v)
                    straight = u @ v < np.cos(np.radians(least)) * size
                if straight:
                    line = {a, b, c}.union(*(k for k in self.lines if len(k & {a, b, c}) > 1))
                    self.lines = [k for k in self.lines if not k <= line] + [line]

    def _linear(self, *triple: int) -> bool:
        return len(triple) == 3 and any(line.issuperset(triple) for line in self.lines)


class _Frontier:
    """Atoms bonded to placed ones: the next is a heavy one, and no end of a CV to come later.

    Parameters
    ----------
    molecule : MoleculeGraph
    order : dict of int to int
        Atoms that are placed, and when; the caller adds to it, and then calls `placed`.
    wanted : list of tuple of int
        Atoms of the CVs.
    """

    def __init__(
        self, molecule: MoleculeGraph, order: dict[int, int], wanted: list[tuple[int, ...]]
    ) -> None:
        self.molecule, self.order = molecule, order
        self.pending = [w for w in wanted if not order.keys() >= set(w)]
        self._ends = self._ends_to_come()
        self._earliest: dict[int, int] = {}  # atom of the frontier -> when it was first reached
        self._heap: list[tuple[bool, bool, int, int]] = []
        for atom in order:
            self._reach_from(atom)

    def next_atom(self) -> tuple[int, int]:
        """The next atom and its parent, the earliest placed neighbour."""
        while self._heap[0][-1] in self.order:
            heappop(self._heap)
        atom = self._heap[0][-1]
        around = self.molecule.neighbours[atom]
        return atom, min((n for n in around if n in self.order), key=self.order.__getitem__)

    def placed(self, atom: int) -> None:
        """Take in an atom that now stands in ``order``."""
        if any(atom in w for w in self.pending):
            self.pending = [w for w in self.pending if not self.order.keys() >= set(w)]
            self._ends = self._ends_to_come()
            self._heap = [self._key(a) for _, _, _, a in self._heap if a not in self.order]
            heapify(self._heap)
        self._reach_from(atom)

    def _reach_from(self, atom: int) -> None:
        for near in self.molecule.neighbours[atom]:
            if near not in self.order and near not in self._earliest:
                self._earliest[near] = self.order[atom]
                heappush(self._heap, self._key(near))

    def _key(self, atom: int) -> tuple[bool, bool, int, int]:
        return self.molecule.hydrogen[atom], atom in self._ends, self._earliest[atom], atom

    def _ends_to_come(self) -> set[int]:
        return {a for w in self.pending if len(w) > 2 for a in (w[0], w[-1])}
