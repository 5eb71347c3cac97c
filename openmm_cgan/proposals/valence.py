"""Which bonds of a molecule are double, as far as elements and numbers of neighbours say it.

Heat shortens a single bond between double ones to the length of a double bond in one structure of
twenty; valences do not know of heat.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

# By element and number of neighbours. What needs one double bond, and how many others may have
# (iminium and nitro groups, sulfones, two of the carbons of allenes and alkynes).
NEEDS = {(6, 3), (7, 2)}
MAY = {(6, 2): 2, (7, 3): 1, (7, 1): 1, (8, 1): 1, (16, 1): 1, (34, 1): 1}
HYPERVALENT = {15: 3, 16: 3, 34: 3}  # least neighbours of what may have one
LARGEST = 150  # atoms of a conjugated piece, whose cube it costs


def is_double(
    one: int, two: int, elements: Sequence[int], neighbours: Sequence[Sequence[int]]
) -> bool | None:
    """Whether a bond is double in all Lewis structures, in none (False), or that is open (None).

    Those structures count that leave fewest atoms without a double bond they need. Lone pairs and
    charges are left open: both bonds of an amidinium are, neither of an enamine's C-N.

    Parameters
    ----------
    one, two : int
        Its ends.
    elements : sequence of int
        Atomic numbers.
    neighbours : sequence of sequences of int
        Hydrogens included.
    """
    places = _piece(one, elements, neighbours)
    if places is None:
        return None
    if not _share(one, two, elements, neighbours):
        return False
    gains = np.array([[_gain(a, b, elements, neighbours) for b in places] for a in places])
    ends = [place in (one, two) for place in places]
    joins = np.array([[{a, b} == {one, two} for b in places] for a in places])
    kept = ~np.array(ends)
    with_it = _most(gains[kept][:, kept]) + 2 * _gain(one, two, elements, neighbours)
    without = _most(np.where(joins, 0, gains))
    return None if with_it == without else bool(with_it > without)


def _most(gains: NDArray[np.int64]) -> int:
    """Twice the most that atoms paired with each other gain, odd rings counted as paired."""
    from scipy.optimize import linear_sum_assignment  # 0.2 s, which few molecules need

    rows, columns = linear_sum_assignment(gains, maximize=True)
    return int(gains[rows, columns].sum())


def _piece(
    start: int, elements: Sequence[int], neighbours: Sequence[Sequence[int]]
) -> list[int] | None:
    """Atoms that bonds which may be double join to one, twice those that may have two of them.

    None where they are too many.
    """
    found, queue = {start}, [start]
    for atom in queue:
        if len(found) > LARGEST:
            return None
        new = [k for k in neighbours[atom] if k not in found]
        new = [k for k in new if _share(atom, k, elements, neighbours)]
        found.update(new)
        queue += new
    return [k for k in sorted(found) for _ in range(_capacity(k, elements, neighbours))]


def _share(
    one: int, two: int, elements: Sequence[int], neighbours: Sequence[Sequence[int]]
) -> bool:
    return two in neighbours[one] and _gain(one, two, elements, neighbours) > 0


def _gain(one: int, two: int, elements: Sequence[int], neighbours: Sequence[Sequence[int]]) -> int:
    """How many of two atoms need the double bond between them; 0 where there can be none."""
    if two not in neighbours[one]:
        return 0
    both = [_capacity(k, elements, neighbours) for k in (one, two)]
    return sum(_needs(k, elements, neighbours) for k in (one, two)) if all(both) else 0


def _needs(atom: int, elements: Sequence[int], neighbours: Sequence[Sequence[int]]) -> bool:
    return (elements[atom], len(neighbours[atom])) in NEEDS


def _capacity(atom: int, elements: Sequence[int], neighbours: Sequence[Sequence[int]]) -> int:
    """How many double bonds an atom may have."""
    kind = elements[atom], len(neighbours[atom])
    if kind[1] >= HYPERVALENT.get(kind[0], 99):
        return 1
    return 1 if kind in NEEDS else MAY.get(kind, 0)
