"""The rows of a Z-matrix: the order in which they are placed, and which coordinate a CV is."""

from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray


class Coordinate(NamedTuple):
    """Which internal coordinate a CV is: cv = scale * internal.<kind>s[..., column]."""

    kind: Literal["bond", "angle", "torsion"]
    column: int
    scale: float


def sort_by_level(
    rows: NDArray[np.int64], held: Iterable[int] = ()
) -> tuple[NDArray[np.int64], list[int]]:
    """Put the rows of a level together: atoms whose references are all placed by then.

    Parameters
    ----------
    rows : ndarray of int, shape (n_atoms, 4)
        Atom, bond, angle and torsion reference; -1 where the first three rows have none.
    held : iterable of int
        Atoms in no row on which all others hang; then no row lacks a reference.

    Returns
    -------
    rows : ndarray of int, shape (n_atoms, 4)
        In the same order within a level.
    starts : list of int
        Row numbers at which levels start, the first of them after the third row (of held atoms:
        at the first row), and the end.

    Raises
    ------
    ValueError
        If an atom stands in no row or in two, or a row refers to what no earlier one places.
    """
    if sorted(rows[:, 0].tolist()) != list(range(len(rows))):
        raise ValueError(f"the first column of rows must hold each of 0 ... {len(rows) - 1} once")
    level = dict.fromkeys(held, 0)
    alone = 0 if level else 3  # rows that lack references
    for i, (atom, *refs) in enumerate(rows.tolist()):
        n_given = min(i, 3) if alone else 3
        given = refs[:n_given]
        if any(a not in level for a in given) or any(a != -1 for a in refs[n_given:]):
            raise ValueError(f"row {i} {[atom, *refs]} refers to atoms that no earlier row places")
        if len(set(given)) < len(given):
            raise ValueError(f"row {i} {[atom, *refs]} names an atom twice")
        level[atom] = 0 if i < alone else 1 + max(level[a] for a in given)
    depth = np.array([level[a] for a in rows[:, 0].tolist()])
    order = np.argsort(depth, kind="stable")
    starts = np.searchsorted(depth[order], np.arange(1, depth.max() + 2))
    return rows[order], starts.tolist()


def find_coordinate(
    rows: Iterable[Sequence[int]],
    atoms: tuple[int, ...],
    lacking: tuple[int, int, int] = (1, 2, 3),
) -> Coordinate | None:
    """The coordinate of a Z-matrix with these atoms.

    Parameters
    ----------
    rows : iterable of (int, int, int, int)
    atoms : tuple of int
        Two, three or four of them: a bond, an angle, a torsion.
    lacking : (int, int, int)
        How many of the first rows have no bond, no angle, no torsion.

    Returns
    -------
    Coordinate or None
        With the scale +1, or -1 for a torsion with its ends or its axis exchanged.
    """
    for i, (atom, p, g, t) in enumerate(rows):
        if len(atoms) == 2 and atoms in ((atom, p), (p, atom)):
            return Coordinate("bond", i - lacking[0], 1.0)
        if len(atoms) == 3 and atoms in ((atom, p, g), (g, p, atom)):
            return Coordinate("angle", i - lacking[1], 1.0)
        if len(atoms) == 4 and atoms in ((atom, p, g, t), (t, g, p, atom)):
            return Coordinate("torsion", i - lacking[2], 1.0)
        if len(atoms) == 4 and atoms in ((t, p, g, atom), (atom, g, p, t)):
            return Coordinate("torsion", i - lacking[2], -1.0)
    return None
