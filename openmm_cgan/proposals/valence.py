"""Which bonds of a molecule are double, as far as elements and numbers of neighbours say it.

Heat now and then shortens a single bond between double ones to the length of a double bond, and
stretches a double one; valences do not know of heat.
"""

from __future__ import annotations

from collections.abc import Sequence, Set

import numpy as np
from numpy.typing import NDArray

CARBON, NITROGEN, OXYGEN, SULFUR = 6, 7, 8, 16
# Lengths [nm] between those of double bonds and of conjugated single ones: C=C 0.134 and C-C 0.146,
# C=N 0.128 and C-N 0.134 (amides, guanidinium), 0.138 where N has no third neighbour; N=N 0.125 and
# N-N 0.140. F. H. Allen et al., J. Chem. Soc. Perkin Trans. 2, S1 (1987), doi 10.1039/P298700000S1
LONGEST_DOUBLE = {(CARBON, CARBON): 0.141, (CARBON, NITROGEN): 0.131, (NITROGEN, NITROGEN): 0.133}
LONGEST_IMINE = 0.136
LONGEST_AMIDINIUM = 0.136  # which turns no more easily than an amide; guanidinium does
STRETCH = 0.005  # nm, what heat adds where valences say that a bond is double; twice that to N
# By element and number of neighbours. What needs one double bond, and how many others may have
# (iminium and nitro groups, sulfones, two of the carbons of allenes and alkynes).
NEEDS = {(6, 3), (7, 2)}
MAY = {(6, 2): 2, (7, 3): 1, (7, 1): 1, (8, 1): 1, (16, 1): 1, (34, 1): 1}
CHARGED = {(7, 1), (8, 1), (16, 1), (34, 1)}  # without a double bond, which is worth avoiding
NEEDED, AVOIDED = 1000, 1  # what counts comes first, however many the charges are
HYPERVALENT = {15: 3, 16: 3, 34: 3}  # least neighbours of what may have one
LARGEST = 150  # atoms of a conjugated piece, whose cube it costs


def is_double_by_length(
    one: int, two: int, length: float, elements: Sequence[int], neighbours: Sequence[Sequence[int]]
) -> bool:
    """Whether a bond of C and N is double, by valences, and by its length where they leave it open.

    Parameters
    ----------
    one, two : int
        Its ends.
    length : float
        [nm], at one moment.
    elements, neighbours : as for `is_double`
    """
    nitrogens = [j for j in (one, two) if elements[j] == NITROGEN]
    longest = _longest(one, two, nitrogens, elements, neighbours)
    if length > longest + STRETCH * (2 if nitrogens else 1):
        return False
    if len(nitrogens) == 2 and any(
        is_terminal(
            [j for j in neighbours[end] if j != other], {OXYGEN, SULFUR}, elements, neighbours
        )
        for end, other in ((one, two), (two, one))
    ):
        return True  # a nitrosamine, which turns no more easily than an amide
    settled = is_double(one, two, elements, neighbours)
    return length < longest if settled is None else settled


def _longest(
    one: int,
    two: int,
    nitrogens: Sequence[int],
    elements: Sequence[int],
    neighbours: Sequence[Sequence[int]],
) -> float:
    """Length [nm] above which a bond is not double where valences leave that open."""
    if len(nitrogens) == 1:
        others = sorted(elements[j] for j in neighbours[one + two - nitrogens[0]])
        if len(neighbours[nitrogens[0]]) == 2:
            return LONGEST_IMINE
        if others[1:] == [NITROGEN, NITROGEN]:
            return LONGEST_AMIDINIUM if others[0] in (1, CARBON) else 0.0
    low, high = sorted((elements[one], elements[two]))
    return LONGEST_DOUBLE[low, high]


def is_terminal(
    sides: Sequence[int],
    of: Set[int],
    elements: Sequence[int],
    neighbours: Sequence[Sequence[int]],
) -> bool:
    """Whether there is one atom, bonded to nothing else, of some elements."""
    if len(sides) != 1 or len(neighbours[sides[0]]) != 1:
        return False
    return elements[sides[0]] in of


def is_double(
    one: int, two: int, elements: Sequence[int], neighbours: Sequence[Sequence[int]]
) -> bool | None:
    """Whether a bond is double in all Lewis structures, in none (False), or that is open (None).

    Those structures count that leave fewest atoms without a double bond they need, and of these
    those with fewest charges on terminal oxygen and nitrogen. Both bonds of an amidinium are open,
    the C-N of an enamine or a vinylogous amide is not.

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
    """What two atoms gain by a double bond between them; 0 where there can be none."""
    if two not in neighbours[one]:
        return 0
    if not all(_capacity(k, elements, neighbours) for k in (one, two)):
        return 0
    kinds = [(elements[k], len(neighbours[k])) for k in (one, two)]
    needed = sum(kind in NEEDS for kind in kinds)
    return NEEDED * needed + AVOIDED * sum(kind in CHARGED for kind in kinds)


def _capacity(atom: int, elements: Sequence[int], neighbours: Sequence[Sequence[int]]) -> int:
    """How many double bonds an atom may have."""
    kind = elements[atom], len(neighbours[atom])
    if kind[1] >= HYPERVALENT.get(kind[0], 99):
        return 1
    return 1 if kind in NEEDS else MAY.get(kind, 0)
