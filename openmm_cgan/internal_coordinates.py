"""Internal coordinates: Cartesian positions <-> bonds, angles and torsions of a Z-matrix.

Exact geometry, nothing fitted. A Z-matrix places one atom after another: atom ``i`` stands at a
bond length from ``p`` (its parent), at an angle to ``g`` and at a torsion to ``t``, all placed
before it. The first child of a parent gets a proper torsion; its siblings are placed relative to
that child ("improper"), so that a turn about the bond is one coordinate and not several.
"""

import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise, permutations
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from openmm_cgan.collective_variable import CollectiveVariable

LINEAR_COSINE = -np.cos(np.radians(5.0))  # bonded angles above 175 degrees count as linear
NM = {"nm": 1.0, "A": 0.1, "um": 1000.0, "Bohr": 0.052917721067}  # PLUMED's names of lengths

logger = logging.getLogger("openmm_cgan")


class Internal(NamedTuple):
    """Internal coordinates of one or many configurations, in the order of the Z-matrix rows.

    bonds (..., n_atoms - 1) [nm]; angles (..., n_atoms - 2) in (0, pi) [rad];
    torsions (..., n_atoms - 3) in (-pi, pi] [rad].
    """

    bonds: Tensor
    angles: Tensor
    torsions: Tensor


class Coordinate(NamedTuple):
    """Which internal coordinate a CV is: cv = scale * internal.<kind>s[..., column]."""

    kind: Literal["bond", "angle", "torsion"]
    column: int
    scale: float


class ZMatrix:
    """Bonds, angles and torsions of a connected molecule, batched and differentiable.

    Parameters
    ----------
    rows : array of int, shape (n_atoms, 4)
        Atom, bond, angle and torsion reference of each row; references are atoms of earlier
        rows, -1 where the first three rows have none.
    atoms : array of int, shape (n_atoms,), optional
        Indices of these atoms in the full topology; 0, 1, ... if omitted.

    Notes
    -----
    The rows are kept in an order in which atoms whose references are all placed stand together
    (a level), and Cartesian positions are built level by level.

    Examples
    --------
    >>> water = ZMatrix([(0, -1, -1, -1), (1, 0, -1, -1), (2, 0, 1, -1)])
    >>> x = water.to_cartesian(Internal(torch.tensor([0.1, 0.1]), torch.tensor([1.9]),
    ...                                 torch.zeros(0)))
    >>> water.to_internal(x).angles
    tensor([1.9000])
    """

    def __init__(self, rows: Any, atoms: Any = None) -> None:
        table = np.asarray(rows, dtype=np.int64)
        if table.ndim != 2 or table.shape[1] != 4 or len(table) == 0:
            raise ValueError(f"rows has shape {table.shape}, expected (n_atoms, 4)")
        self.rows: NDArray[np.int64]
        self.rows, self.levels = _sort_by_level(table)
        self.atoms = np.arange(len(table)) if atoms is None else np.asarray(atoms, dtype=np.int64)
        if self.atoms.shape != (len(table),):
            raise ValueError(f"atoms has shape {self.atoms.shape}, but there are {len(table)} rows")
        place = np.empty(len(table), dtype=np.int64)  # atom -> its row
        place[self.rows[:, 0]] = np.arange(len(table))
        self._place = torch.from_numpy(place)
        # References as row numbers, since positions are built in the order of the rows.
        self._refs = torch.from_numpy(np.where(self.rows < 0, -1, place[self.rows])).T.contiguous()
        self._gather = [torch.from_numpy(c[c >= 0]) for c in self.rows.T]

    @classmethod
    def from_topology(
        cls,
        topology: Any,
        atoms: Iterable[int] | None = None,
        variables: Iterable["CollectiveVariable"] = (),
        reference: Any = None,
    ) -> "ZMatrix":
        """Choose a Z-matrix for a connected molecule, with as many CVs in it as possible.

        Parameters
        ----------
        topology : openmm.app.Topology
            Its atoms and bonds are read.
        atoms : iterable of int, optional
            Atoms to take (a solute, say); all if omitted.
        variables : iterable of CollectiveVariable
            TORSION, ANGLE and DISTANCE over bonded atoms become coordinates where they can.
        reference : array, shape (n_topology_atoms, 3), optional
            Positions [nm] that tell which bonded angles are linear. Without them carbons with two
            neighbours are taken for linear.

        Raises
        ------
        ValueError
            If bonds do not connect the atoms (the unreachable ones are listed).
        """
        chosen = None if atoms is None else [int(a) for a in atoms]
        molecule = _Molecule.from_topology(topology, chosen, reference)
        wanted = [
            tuple(molecule.local[a] for a in v.atoms)
            for v in variables
            if v.action in ("TORSION", "ANGLE", "DISTANCE")
            and len(set(v.atoms)) == len(v.atoms)
            and all(a in molecule.local for a in v.atoms)
        ]
        best: list[tuple[int, ...]] = []
        merit = (-1, 0)
        for start in molecule.starts(wanted):
            rows = molecule.place(start, wanted)
            found = sum(_find(rows, w) is not None for w in wanted)
            depth = len(_sort_by_level(np.array(rows))[1])
            if (found, -depth) > merit:
                best, merit = rows, (found, -depth)
        molecule.warn_of_linear(best)
        return cls(best, molecule.atoms)

    @property
    def n_atoms(self) -> int:
        """Number of atoms."""
        return len(self.rows)

    def to_internal(self, positions: Tensor) -> Internal:
        """Bonds, angles and torsions of positions (..., n_atoms, 3) [nm]."""
        if positions.shape[-2:] != (self.n_atoms, 3):
            raise ValueError(
                f"positions has shape {tuple(positions.shape)}, expected (..., {self.n_atoms}, 3)"
            )
        batch = positions.shape[:-2]
        # (3, atom, batch): gathers then copy whole rows and every operation runs over the batch.
        x = positions.reshape(-1, self.n_atoms, 3).permute(2, 1, 0).contiguous()
        atom, p, g, t = (x.index_select(1, column.to(x.device)) for column in self._gather)
        u = p - atom[:, 1:]
        v = g - p[:, 1:]
        w = t - g[:, 1:]
        uv = _cross(u[:, 1:], v)
        vw = _cross(v[:, 1:], w)
        angles = torch.atan2(_norm(uv), -(u[:, 1:] * v).sum(0))
        sine = _norm(v[:, 1:]) * (u[:, 2:] * vw).sum(0)
        torsions = torch.atan2(sine, (uv[:, 1:] * vw).sum(0))
        bonds = _norm(u)
        return Internal(*(c.T.reshape(*batch, len(c)) for c in (bonds, angles, torsions)))

    def to_cartesian(self, internal: Internal) -> Tensor:
        """Positions (..., n_atoms, 3) [nm]: first atom at the origin, second on x, third in xy."""
        batch = internal.bonds.shape[:-1]
        widths = tuple(c.shape[-1] for c in internal)
        expected = tuple(max(self.n_atoms - k, 0) for k in (1, 2, 3))
        if widths != expected:
            raise ValueError(f"internal has {widths} bonds, angles, torsions, expected {expected}")
        n = int(np.prod(batch))
        r, angle, torsion = (c.reshape(n, c.shape[-1]).T.contiguous() for c in internal)
        bent = r[1:] * angle.sin()
        # Components of each new atom along the bond, in the references' plane and out of it.
        along, across = -r[1:] * angle.cos(), bent[1:] * torsion.cos()
        out = bent[1:] * torsion.sin()
        x = self._first_atoms(r, along, bent)
        refs = self._refs.to(x.device)
        for i, j in pairwise(self.levels):
            p, g, t = (x.index_select(1, refs[k, i:j]) for k in (1, 2, 3))
            e1 = p - g
            e1 = e1 / _norm(e1)
            e3 = _cross(g - t, e1)
            e3 = e3 / _norm(e3)
            e2 = _cross(e3, e1)
            bonded, turned = slice(i - 2, j - 2), slice(i - 3, j - 3)
            new = p + along[bonded] * e1 + across[turned] * e2 + out[turned] * e3
            x = torch.cat([x, new], dim=1)
        x = x.index_select(1, self._place.to(x.device))
        return x.permute(2, 1, 0).reshape(*batch, self.n_atoms, 3)

    def log_det(self, internal: Internal) -> Tensor:
        r"""log\|J\| (...) of (internal, rigid body) -> Cartesian coordinates.

        Each atom stands in spherical coordinates about its references, so
        \|J\| = prod r_i^2 prod sin(theta_i); the rigid body is measured by the translation [nm^3]
        and by the rotation vector about the current orientation (Haar measure, 8 pi^2 in all).
        See Boresch and Karplus, J. Phys. Chem. A 103, 103 (1999), doi 10.1021/jp981628n.
        """
        return 2 * internal.bonds.log().sum(-1) + internal.angles.sin().log().sum(-1)

    def coordinate_of(self, variable: "CollectiveVariable") -> Coordinate | None:
        """The internal coordinate that a CV is, or None.

        A torsion read backwards is the same torsion; with its ends or its axis exchanged it has
        the other sign. Lengths are scaled to the unit of the CV.
        """
        if variable.action not in ("TORSION", "ANGLE", "DISTANCE"):
            return None
        local = {int(a): i for i, a in enumerate(self.atoms)}
        atoms = tuple(local.get(a, -1) for a in variable.atoms)
        found = None if -1 in atoms else _find(self.rows.tolist(), atoms)
        if found is None or found.kind != "bond":
            return found
        length = _length(variable.unit)
        return None if length is None else found._replace(scale=1.0 / length)

    def _first_atoms(self, r: Tensor, along: Tensor, bent: Tensor) -> Tensor:
        """Positions (3, <= 3 rows, batch) of the first three rows."""
        x = r.new_zeros(3, 1, r.shape[1])
        zero = torch.zeros_like(x[0, 0])
        if self.n_atoms > 1:
            x = torch.cat([x, torch.stack([r[0], zero, zero])[:, None]], dim=1)
        if self.n_atoms > 2:
            # The third atom hangs on the second (bond direction +x) or on the first (-x).
            parent = int(self._refs[1, 2])
            sign = 1.0 if parent == 1 else -1.0
            third = x[:, parent] + torch.stack([sign * along[0], bent[0], zero])
            x = torch.cat([x, third[:, None]], dim=1)
        return x


# torch.linalg's norm and cross along the first of three axes cost 50 and 3 times as much.
def _norm(v: Tensor) -> Tensor:
    return (v * v).sum(0).sqrt()


def _cross(u: Tensor, v: Tensor) -> Tensor:
    (a, b, c), (d, e, f) = u, v
    return torch.stack([b * f - c * e, c * d - a * f, a * e - b * d])


def _length(unit: str) -> float | None:
    """A length unit of PLUMED in nm: a name, or a number of nm."""
    if unit in NM:
        return NM[unit]
    try:
        return float(unit) or None
    except ValueError:
        return None


def _sort_by_level(rows: "NDArray[np.int64]") -> tuple["NDArray[np.int64]", list[int]]:
    """Rows with levels together (stable), and the row numbers at which levels start and end."""
    if sorted(rows[:, 0].tolist()) != list(range(len(rows))):
        raise ValueError(f"the first column of rows must hold each of 0 ... {len(rows) - 1} once")
    level: dict[int, int] = {}
    for i, (atom, *refs) in enumerate(rows.tolist()):
        given = refs[: min(i, 3)]
        if any(a not in level for a in given) or any(a != -1 for a in refs[min(i, 3) :]):
            raise ValueError(f"row {i} {[atom, *refs]} refers to atoms that no earlier row places")
        if len(set(given)) < len(given):
            raise ValueError(f"row {i} {[atom, *refs]} names an atom twice")
        level[atom] = 0 if i < 3 else 1 + max(level[a] for a in given)
    depth = np.array([level[a] for a in rows[:, 0].tolist()])
    order = np.argsort(depth, kind="stable")
    starts = np.searchsorted(depth[order], np.arange(1, depth.max() + 2))
    return rows[order], starts.tolist()


def _find(rows: Iterable[Sequence[int]], atoms: tuple[int, ...]) -> Coordinate | None:
    """The coordinate of a Z-matrix with these atoms, scale +1 or (torsions) -1."""
    for i, (atom, p, g, t) in enumerate(rows):
        if len(atoms) == 2 and atoms in ((atom, p), (p, atom)):
            return Coordinate("bond", i - 1, 1.0)
        if len(atoms) == 3 and atoms in ((atom, p, g), (g, p, atom)):
            return Coordinate("angle", i - 2, 1.0)
        if len(atoms) == 4 and atoms in ((atom, p, g, t), (t, g, p, atom)):
            return Coordinate("torsion", i - 3, 1.0)
        if len(atoms) == 4 and atoms in ((t, p, g, atom), (atom, g, p, t)):
            return Coordinate("torsion", i - 3, -1.0)
    return None


@dataclass
class _Molecule:
    """The graph from which a Z-matrix is chosen; indices are local (0 ... n_atoms - 1)."""

    atoms: list[int]  # in the full topology
    names: list[str]
    hydrogen: list[bool]
    neighbours: list[list[int]]  # heavy ones first
    lines: list[set[int]]  # sets of atoms that stand on one straight line

    @classmethod
    def from_topology(cls, topology: Any, atoms: list[int] | None, reference: Any) -> "_Molecule":
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
        symbols = [every[a].element.symbol if every[a].element else "" for a in chosen]
        names = [f"{a} ({every[a].residue.name} {every[a].name})" for a in chosen]
        hydrogen = [s == "H" for s in symbols]
        neighbours = [sorted(set(n), key=lambda a: (hydrogen[a], a)) for n in neighbours]
        self = cls(chosen, names, hydrogen, neighbours, [])
        self._check_connected()
        positions = None if reference is None else np.asarray(reference)[chosen]
        self._find_lines(symbols, positions)
        return self

    @property
    def local(self) -> dict[int, int]:
        """Local index of an atom of the full topology."""
        return {a: i for i, a in enumerate(self.atoms)}

    def starts(self, wanted: list[tuple[int, ...]]) -> Iterator[list[int]]:
        """First three atoms worth trying: the middle of the molecule, then along each CV."""
        if len(self.atoms) < 3:
            yield list(self._distances(0))
            return
        reach = [max(self._distances(a).values()) for a in range(len(self.atoms))]
        triples = [
            (self._linear(a, b, c), sum(self.hydrogen[x] for x in (a, b, c)), reach[b], a, b, c)
            for b, around in enumerate(self.neighbours)
            for a, c in combinations(around, 2)
        ]
        yield list(min(triples)[3:])
        for chain in wanted:
            for order in permutations(chain) if len(chain) < 4 else (chain, chain[::-1]):
                start = list(order[:3])
                if len(start) == 2:
                    start += [a for a in self.neighbours[start[1]] if a != start[0]][:1]
                if len(start) == 3 and all(b in self.neighbours[a] for a, b in pairwise(start)):
                    yield start

    def place(self, start: list[int], wanted: list[tuple[int, ...]]) -> list[tuple[int, ...]]:
        """Rows of a Z-matrix that begins with these atoms and takes in the CVs it can."""
        rows = [(a, *start[:i][::-1], *(-1,) * (3 - i)) for i, a in enumerate(start)]
        order = {a: i for i, a in enumerate(start)}  # placed atoms
        # The bond about which an atom's children turn, and the child that the others follow.
        lead = {start[1]: (start[0], start[2])} if len(start) == 3 else {}
        while len(rows) < len(self.atoms):
            pending = [w for w in wanted if not order.keys() >= set(w)]
            ready = (self._wanted_row(w, order) for w in sorted(pending, key=len, reverse=True))
            row = next((r for r in ready if r), ()) or self._next_atom(pending, order)
            row = self._complete(row, order, lead)
            rows.append(row)
            order[row[0]] = len(order)
            lead.setdefault(row[1], (row[2], row[0]))
        return rows

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

    def _next_atom(self, pending: list[tuple[int, ...]], order: dict[int, int]) -> tuple[int, ...]:
        """The next atom and its parent: heavy atoms first, ends of CVs to come later."""
        ends = {a for w in pending if len(w) > 2 for a in (w[0], w[-1])}
        frontier = (
            (self.hydrogen[a], a in ends, min(order[n] for n in around if n in order), a)
            for a, around in enumerate(self.neighbours)
            if a not in order and any(n in order for n in around)
        )
        atom = min(frontier)[-1]
        return (atom, min((n for n in self.neighbours[atom] if n in order), key=order.__getitem__))

    def _complete(
        self, row: tuple[int, ...], order: dict[int, int], lead: dict[int, tuple[int, int]]
    ) -> tuple[int, ...]:
        """Add the references that a row lacks, off straight lines where that can be."""
        atom, p = row[:2]
        if p in lead and (row + lead[p])[2] == lead[p][0] and not self._linear(atom, p, lead[p][0]):
            row += lead[p][len(row) - 2 :]
        while len(row) < 4:
            near = [a for a in self._distances(row[-1]) if a in order and a not in row]
            row += (next((a for a in near if not self._linear(*row[-2:], a)), near[0]),)
        return row

    def _distances(self, start: int) -> dict[int, int]:
        """Number of bonds from one atom to each it is connected with, nearest first."""
        found, queue = {start: 0}, [start]
        for atom in queue:
            new = [n for n in self.neighbours[atom] if n not in found]
            found |= dict.fromkeys(new, found[atom] + 1)
            queue += new
        return found

    def _check_connected(self) -> None:
        reached = self._distances(0)
        missing = [name for a, name in enumerate(self.names) if a not in reached]
        if missing:
            more = f" and {len(missing) - 10} more" if missing[10:] else ""
            raise ValueError(
                f"no bonds lead from atom {self.names[0]} to {', '.join(missing[:10])}{more}: a"
                " Z-matrix needs one connected molecule. Add the missing bonds to the topology, or"
                " choose the atoms of one molecule with atoms="
            )

    def _find_lines(self, symbols: list[str], positions: Any) -> None:
        """Fill ``lines``; two that share a bond are one, as in C-C#C-C."""
        for b, around in enumerate(self.neighbours):
            for a, c in combinations(around, 2):
                straight = symbols[b] == "C" and len(around) == 2
                if positions is not None:
                    u, v = positions[a] - positions[b], positions[c] - positions[b]
                    straight = u @ v < LINEAR_COSINE * np.linalg.norm(u) * np.linalg.norm(v)
                if straight:
                    line = {a, b, c}.union(*(k for k in self.lines if len(k & {a, b, c}) > 1))
                    self.lines = [k for k in self.lines if not k <= line] + [line]

    def _linear(self, *triple: int) -> bool:
        return len(triple) == 3 and any(line.issuperset(triple) for line in self.lines)
