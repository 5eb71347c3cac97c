"""Which atoms of a bond graph can not be distinguished, in n log n."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray


def graph_classes(keys: Sequence[Any], neighbours: Sequence[Sequence[int]]) -> NDArray[np.int64]:
    """Coarsest classes of atoms in which all have as many neighbours of each class.

    Atoms of one key are split by how many neighbours they have in a class, and again by the classes
    that this makes, of which the largest need not be looked at (H. L. Morgan, J. Chem. Doc. 5, 107
    (1965), doi 10.1021/c160017a018; in n log n by C. Berkholz, P. Bonsma, M. Grohe, Theory Comput.
    Syst. 60, 581 (2017), doi 10.1007/s00224-016-9686-0).

    Parameters
    ----------
    keys : sequence, length n_atoms
        What tells atoms apart by itself; can be sorted.
    neighbours : sequence of sequences of int
        Atoms bonded to each, none of them twice.

    Returns
    -------
    ndarray of int, shape (n_atoms,)
        Numbers of the classes, the same whatever the order of the atoms.
    """
    number = {key: k for k, key in enumerate(sorted(set(keys)))}
    of_atom = [number[key] for key in keys]
    members: list[set[int]] = [set() for _ in number]
    for atom, own in enumerate(of_atom):
        members[own].add(atom)
    waiting, waits = deque(range(len(members))), [True] * len(members)
    while waiting:
        splitter = waiting.popleft()
        waits[splitter] = False
        counts = Counter(near for atom in members[splitter] for near in neighbours[atom])
        touched: dict[int, dict[int, list[int]]] = {}
        for atom, count in counts.items():
            touched.setdefault(of_atom[atom], {}).setdefault(count, []).append(atom)
        for old in sorted(touched):
            pieces = [set(touched[old][count]) for count in sorted(touched[old])]
            if sum(map(len, pieces)) == len(members[old]):
                pieces = pieces[1:]  # the first keeps the number, as those of no neighbour would
            new = list(range(len(members), len(members) + len(pieces)))
            for k, piece in zip(new, pieces, strict=True):
                members[old] -= piece
                for atom in piece:
                    of_atom[atom] = k
            members += pieces
            waits += [False] * len(pieces)
            changed = [k for k in (old, *new) if not waits[k]]
            if len(changed) > len(new):  # what is known of all and all but one is known of that
                changed.remove(max(changed, key=lambda k: (len(members[k]), -k)))
            for k in changed:
                waits[k] = True
            waiting.extend(changed)
    return np.array(of_atom, dtype=np.int64)
