"""Hands that no atom has: those of allenes, and of biaryls that are too crowded to turn.

The four substituents of such an axis, two at each end, span a volume whose sign is the hand, as the
four neighbours of a stereocentre do; of a cumulene with an even number of inner atoms they lie in a
plane, cis or trans.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from openmm_cgan.proposals.stereochemistry import (
    CARBON,
    NITROGEN,
    NOT_FLAT,
    SMALL_RING,
    BondGraph,
    is_flat,
)

FLUORINE = 9
STRAIGHT = -0.85  # cosine of the angle at an inner atom of a cumulene
# nm, at the end of a cumulene: between C=C there, 0.131, and C-C beside a triple bond, 0.143, which
# heat shortens by 0.003 and about which rings turn freely
LONGEST_END = 0.137
CROWDED = 3  # of the four ortho places of a biaryl, taken by more than H or F: it does not turn
ACROSS = 0.3  # least sine of the angle between the ends of an axis with a hand


def hands_of_axes(
    graph: BondGraph, reference: NDArray[np.float64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Axes with a hand.

    Parameters
    ----------
    graph : BondGraph
    reference : ndarray, shape (n_atoms, 3)
        [nm]

    Returns
    -------
    rows : ndarray, shape (n_axes, 5)
        An atom of the axis, then two substituents of its one end and two of the other.
    ends : ndarray, shape (n_axes, 2)
        Both ends: of a biaryl the bond that would turn.
    """
    axes = [
        (inner[0], first, last, _sides(graph, first, last, (inner[0], inner[-1])))
        for first, inner, last in _cumulenes(graph, reference)
        if len(inner) % 2
    ] + [
        (one, one, two, _sides(graph, one, two, (two, one)))
        for one, two in graph.bonds.tolist()
        if _is_crowded(graph, one, two)
    ]
    found = [
        ((atom, *sides), ends)
        for atom, *ends, sides in axes
        if sides is not None and _is_across(reference, ends, sides)
    ]
    rows = np.array([row for row, _ in found], dtype=np.int64).reshape(-1, 5)
    return rows, np.array([ends for _, ends in found], dtype=np.int64).reshape(-1, 2)


def flat_cumulenes(graph: BondGraph, reference: NDArray[np.float64]) -> NDArray[np.int64]:
    """Cumulenes that are cis or trans: a substituent, both ends, a substituent, shape (n, 4)."""
    found = []
    for first, inner, last in _cumulenes(graph, reference):
        if len(inner) % 2 == 0 and (sides := _sides(graph, first, last, (inner[0], inner[-1]))):
            torsion = (sides[0], first, last, sides[2])
            if is_flat(reference[list(torsion)]):
                found.append(torsion)
    return np.array(found, dtype=np.int64).reshape(-1, 4)


def _cumulenes(
    graph: BondGraph, reference: NDArray[np.float64]
) -> Iterator[tuple[int, list[int], int]]:
    """First end, inner atoms and last end of C=C=C and longer ones, the smaller end first."""
    for first in range(len(graph.elements)):
        for inner in graph.neighbours[first] if _is_carbon(graph, first, 3) else ():
            way = [first, inner]
            while _is_carbon(graph, way[-1], 2):
                way.append(next(j for j in graph.neighbours[way[-1]] if j != way[-2]))
                if way[-1] in way[:-1]:
                    break
            ends = _is_carbon(graph, way[-1], 3) and way[0] < way[-1] and len(way) > 2
            if ends and _is_straight(reference[way]) and _is_double(graph, way, reference):
                yield first, way[1:-1], way[-1]


def _is_carbon(graph: BondGraph, atom: int, n_neighbours: int) -> bool:
    return graph.elements[atom] == CARBON and len(graph.neighbours[atom]) == n_neighbours


def _is_straight(way: NDArray[np.float64]) -> bool:
    """Whether atoms in a row are on a line."""
    steps = np.diff(way, axis=0)
    lengths = np.linalg.norm(steps, axis=1)
    cosines = -(steps[1:] * steps[:-1]).sum(axis=1) / (lengths[1:] * lengths[:-1])
    return bool((cosines < STRAIGHT).all())


def _is_double(graph: BondGraph, way: list[int], reference: NDArray[np.float64]) -> bool:
    """Whether the bonds at both ends of a row are double, as those of an alkyne are not."""
    for one, two in (way[:2], way[-2:]):
        order = graph.orders.get((min(one, two), max(one, two)))
        length = np.linalg.norm(reference[one] - reference[two])
        if order != 2 if order is not None else length > LONGEST_END:
            return False
    return True


def _sides(
    graph: BondGraph, one: int, two: int, inwards: Sequence[int]
) -> tuple[int, int, int, int] | None:
    """Both substituents of both ends; None if those of an end can be exchanged."""
    found: list[int] = []
    for end, inner in zip((one, two), inwards, strict=True):
        sides = [j for j in graph.neighbours[end] if j != inner]
        if len(sides) != 2 or not graph.apart(end, *sides):
            return None
        found += sides
    return found[0], found[1], found[2], found[3]


def _is_crowded(graph: BondGraph, one: int, two: int) -> bool:
    """Whether a bond between two rings can not turn, for what stands beside it."""
    crowded = 0
    for end, other in ((one, two), (two, one)):
        sides = [j for j in graph.neighbours[end] if j != other]
        if graph.elements[end] not in (CARBON, NITROGEN) or len(sides) != 2:
            return False
        crowded += sum(_is_filled(graph, side, end) for side in sides)
    return crowded >= CROWDED and _is_between_rings(graph, one, two)


def _is_between_rings(graph: BondGraph, one: int, two: int) -> bool:
    """Whether both ends of a bond are in small rings, and it in none itself."""
    for end, other in ((one, two), (two, one)):
        first, second = (j for j in graph.neighbours[end] if j != other)
        if not graph.joined(first, second, end, SMALL_RING - 2):
            return False
        if graph.joined(first, other, end, SMALL_RING - 1):
            return False
    return True


def _is_filled(graph: BondGraph, side: int, end: int) -> bool:
    """Whether an atom of a ring beside an axis, three neighbours to it, has more than H or F."""
    others = [graph.elements[j] for j in graph.neighbours[side] if j != end]
    return len(others) == 2 and sum(e not in (1, FLUORINE) for e in others) == 2


def _is_across(reference: NDArray[np.float64], ends: Sequence[int], sides: Sequence[int]) -> bool:
    """Whether both ends of an axis are flat, and stand across each other."""
    axis = reference[ends[1]] - reference[ends[0]]
    axis = axis / np.linalg.norm(axis)
    pairs = (sides[:2], sides[2:])
    arms = [reference[list(pair)] - reference[end] for end, pair in zip(ends, pairs, strict=True)]
    arms = [arm / np.linalg.norm(arm, axis=1, keepdims=True) for arm in arms]
    flat = [abs(float(np.cross(*arm) @ axis)) < NOT_FLAT for arm in arms]
    across = [arm[0] - arm[1] - ((arm[0] - arm[1]) @ axis) * axis for arm in arms]
    sine = float(np.cross(*across) @ axis) / float(np.prod(np.linalg.norm(across, axis=1)))
    return all(flat) and abs(sine) > ACROSS
