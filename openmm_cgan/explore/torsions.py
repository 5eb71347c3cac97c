"""Turning torsions that no CV is: where a run may hide what it has not sampled.

Their wells are found in the frames, and counted is how often each torsion went from one to
another: what has hopped a few times is not sampled, and a well that no frame has seen no error bar
knows of.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from openmm_cgan.collective_variable import CollectiveVariable
from openmm_cgan.proposals.stereochemistry import BondGraph
from openmm_cgan.topologies import openmm_topology

BINS = 36  # of the circle
DEEP = 3.0  # times as many frames at the top of the lower of two wells as between them
RARE = 0.01  # of the frames: fewer make no well
CARBON, NITROGEN, CHALCOGENS = 6, 7, (8, 16, 34)
NEW = np.radians(60.0)  # from what has been visited


@dataclass(frozen=True)
class TurningTorsion:
    """A bond about which a molecule turns.

    Attributes
    ----------
    name : str
        Of its atoms, such as ``VAL2:N-CA-CB-CG1``.
    atoms : (int, int, int, int)
        Zero-based, in the topology.
    """

    name: str
    atoms: tuple[int, int, int, int]

    def values(self, positions: NDArray) -> NDArray[np.float64]:
        """Torsion of configurations of all atoms, (n, n_atoms, 3) to (n,) [rad]."""
        x = np.asarray(positions, dtype=float)[:, list(self.atoms)]
        first, second, third = np.moveaxis(np.diff(x, axis=1), 1, 0)
        left, right = np.cross(first, second), np.cross(second, third)
        length = np.linalg.norm(second, axis=-1)
        return np.asarray(
            np.arctan2(length * (first * right).sum(-1), (left * right).sum(-1)), dtype=float
        )


def turning_torsions(
    topology: Any,
    variables: Sequence[CollectiveVariable],
    atoms: Sequence[int] | None = None,
    hydroxyls: bool = False,
) -> list[TurningTorsion]:
    """Torsions about bonds outside rings, with heavy atoms at both ends, that no CV is.

    Amides and the like, which configurations are to keep, are left out, and rotors of equivalent
    hydrogens.

    Parameters
    ----------
    topology : openmm.app.Topology, or what `openmm_topology` finds one in
    variables : sequence of CollectiveVariable
        A TORSION about the same bond is the torsion.
    atoms : sequence of int, optional
        Those that are looked at, all if omitted.
    hydroxyls : bool
        Also those that end in a hydrogen alone, of hydroxyls, acids and thiols: they hold hydrogen
        bonds, and an acid's is as slow as an amide's.
    """
    topology = openmm_topology(topology)
    every = list(topology.atoms())
    chosen = list(range(len(every))) if atoms is None else [int(atom) for atom in atoms]
    graph = BondGraph.from_topology(topology, chosen)
    kept = {frozenset(row[1:3]) for row in graph.amides().tolist()}
    steered = {
        frozenset(v.atoms[1:3]) for v in variables if v.action == "TORSION" and len(v.atoms) == 4
    }
    found = []
    for one, two in graph.bonds.tolist():
        ends = [_ends(graph, a, b, hydroxyls) for a, b in ((one, two), (two, one))]
        ring = any(graph.joined(end, two, one) for end in ends[0])
        pair = frozenset((chosen[one], chosen[two]))
        if not all(ends) or ring or frozenset((one, two)) in kept or pair in steered:
            continue
        a, b, c, d = (chosen[k] for k in (ends[0][0], one, two, ends[1][0]))
        names = "-".join(every[k].name for k in (a, b, c, d))
        residue = every[b].residue
        found.append(TurningTorsion(f"{residue.name}{residue.id}:{names}", (a, b, c, d)))
    return found


def turning_hydrogens(topology: Any, atoms: Sequence[int] | None = None) -> list[str]:
    """Hydroxyls, acids, thiols and amines, whose turning is none of the `turning_torsions`.

    Methyl groups and ammonium are the same again after a third of a turn, and amides, anilines and
    guanidines are flat.

    Parameters
    ----------
    topology, atoms
        As for `turning_torsions`.

    Returns
    -------
    list of str
        Names of the heavy atoms of each bond, such as ``SER2:CB-OG``.
    """
    topology = openmm_topology(topology)
    every = list(topology.atoms())
    chosen = list(range(len(every))) if atoms is None else [int(atom) for atom in atoms]
    graph = BondGraph.from_topology(topology, chosen)
    found = []
    for one, two in [*graph.bonds.tolist(), *graph.bonds[:, ::-1].tolist()]:
        if graph.elements[one] > 1 and _is_turned_by(graph, two, one):
            atom, end = every[chosen[one]], every[chosen[two]]
            found.append(f"{atom.residue.name}{atom.residue.id}:{atom.name}-{end.name}")
    return found


def _is_turned_by(graph: BondGraph, end: int, atom: int) -> bool:
    """Whether hydrogens at an end of a bond are elsewhere when it turns."""
    hydrogens = [k for k in graph.neighbours[end] if k != atom]
    others = [k for k in graph.neighbours[atom] if k != end]
    light = [k for k in (*hydrogens, *others) if graph.elements[k] == 1]
    is_rotor = len(others) == 3 and all(k in light for k in others)
    if is_rotor or not others or not hydrogens or any(k not in light for k in hydrogens):
        return False
    if graph.elements[end] in CHALCOGENS:
        return len(hydrogens) == 1
    flat = graph.elements[atom] == CARBON and len(others) < 3
    return graph.elements[end] == NITROGEN and len(hydrogens) == 2 and not flat


def _ends(graph: BondGraph, atom: int, other: int, hydroxyls: bool) -> list[int]:
    """Heavy neighbours of an atom but for one; or the hydrogen of a hydroxyl or thiol."""
    others = [k for k in graph.neighbours[atom] if k != other]
    if hydroxyls and graph.elements[atom] in CHALCOGENS:
        return others
    return [k for k in others if graph.elements[k] > 1]


def wells(angles: NDArray[np.float64]) -> NDArray[np.float64]:
    """Borders between the wells of a torsion, in rising order; none where there is one well.

    Parameters
    ----------
    angles : ndarray, shape (n,)
        Of frames [rad].
    """
    counts = np.histogram(angles, BINS, (-np.pi, np.pi))[0].astype(float)
    smooth = (counts + np.roll(counts, 1) + np.roll(counts, -1)) / 3
    tops = [
        i for i in range(BINS)
        if smooth[i] > 0 and smooth[i] >= smooth[i - 1] and smooth[i] > smooth[(i + 1) % BINS]
    ]  # fmt: skip
    while len(tops) > 1:
        gaps = [_lowest(smooth, tops[i], tops[(i + 1) % len(tops)]) for i in range(len(tops))]
        depth = [
            min(smooth[tops[i]], smooth[tops[(i + 1) % len(tops)]])
            / max(smooth[gaps[i]], RARE * len(angles) / BINS)
            for i in range(len(tops))
        ]
        if min(depth) >= DEEP:
            centres = np.array(sorted(gaps)) + 0.5
            return -np.pi + 2 * np.pi * centres / BINS
        i = int(np.argmin(depth))
        pair = (i, (i + 1) % len(tops))
        tops.pop(min(pair, key=lambda k: smooth[tops[k]]))
    return np.zeros(0)


def _lowest(smooth: NDArray, first: int, last: int) -> int:
    """The bin with the fewest between two, going up round the circle."""
    way = [(first + k) % BINS for k in range((last - first) % BINS or BINS)]
    return min(way, key=lambda i: smooth[i])


def hops(angles: NDArray[np.float64], borders: NDArray[np.float64]) -> int:
    """How often a torsion went to another well and stayed.

    Parameters
    ----------
    angles : ndarray, shape (n,)
        In the order of time [rad].
    borders : ndarray, shape (n_wells,)
        From `wells`. What comes within 15 degrees of one has not arrived.
    """
    if len(borders) < 2:
        return 0
    well = np.searchsorted(borders, angles) % len(borders)
    away = np.abs(np.mod(angles[:, None] - borders + np.pi, 2 * np.pi) - np.pi).min(axis=1)
    arrived = well[away > np.radians(15.0)]
    return int((np.diff(arrived) != 0).sum())


def never_seen(angles: NDArray[np.float64], visited: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which angles (n,) lie farther than 60 degrees from all that were visited (m,) [rad]."""
    seen = np.sort(np.mod(visited, 2 * np.pi))
    seen = np.concatenate([[seen[-1] - 2 * np.pi], seen, [seen[0] + 2 * np.pi]])
    asked = np.mod(angles, 2 * np.pi)
    place = np.searchsorted(seen, asked)
    below, above = asked - seen[place - 1], seen[np.minimum(place, len(seen) - 1)] - asked
    return np.asarray(np.minimum(np.abs(below), np.abs(above)) > NEW)
