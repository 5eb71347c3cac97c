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


def sort_by_level(rows: NDArray[np.int64]) -> tuple[NDArray[np.int64], list[int]]:
    """Put the rows of a level together: atoms whose references are all placed by then.

    Parameters
    ----------
    rows : ndarray of int, shape (n_atoms, 4)
        Atom, bond, angle and torsion reference; -1 where the first three rows have none.

    Returns
    -------
    rows : ndarray of int, shape (n_atoms, 4)
        In the same order within a level.
    starts : list of int
        Row numbers at which levels start, the first of them after the third row, and the end.

    Raises
    ------
    ValueError
        If an atom stands in no row or in two, or a row refers to what no earlier one places.
    """
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


def find_coordinate(rows: Iterable[Sequence[int]], atoms: tuple[int, ...]) -> Coordinate | None:
    """The coordinate of a Z-matrix with these atoms.

    Parameters
    ----------
    rows : iterable of (int, int, int, int)
    atoms : tuple of int
        Two, three or four of them: a bond, an angle, a torsion.

    Returns
    -------
    Coordinate or None
        With the scale +1, or -1 for a torsion with its ends or its axis exchanged.
    """
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
