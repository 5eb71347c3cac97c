"""Pairs of points that are near each other, found in linear time by trees of the points.

The nearest image decides in a box: of a rectangular one the tree goes round itself, of any other
form the images that may be near are points of the tree as well.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from openmm_cgan.plumed.geometry.lattices import BoxForm, form_of_box, shortest_vectors

SKIN = 0.1  # nm beyond the reach that are listed: half of it may be moved before all is found anew
CROWDED = 0.2  # of the volume within reach of a point, above which all pairs are as quick
_SLACK = 1e-9  # of rounding, in what is within reach


def pairs_within(
    a: np.ndarray, b: np.ndarray, box: np.ndarray | None, reach: float
) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of two groups of points whose nearest images are within reach, to rounding.

    Parameters
    ----------
    a, b : ndarray, shape (n_first, 3), (n_second, 3)
        [nm]; what is not finite is near to nothing.
    box : ndarray, shape (3, 3), or None
        Box vectors in rows, in any form [nm].
    reach : float
        [nm]

    Returns
    -------
    first, second : ndarray of int, shape (n_pairs,)
        Each pair once, by the first and then by the second.
    """
    rows, columns = (np.flatnonzero(np.isfinite(x).all(axis=1)) for x in (a, b))
    first, second = _within(a[rows], b[columns], box, reach * (1 + _SLACK))
    return rows[first], columns[second]


def _within(
    a: np.ndarray, b: np.ndarray, box: np.ndarray | None, radius: float
) -> tuple[np.ndarray, np.ndarray]:
    n = max(len(b), 1)
    if box is None:
        return _sorted(*_tree_pairs(a, b, radius, None), n)
    if form_of_box(box) is BoxForm.RECTANGULAR:
        edges = np.abs(np.diag(box))
        return _sorted(*_tree_pairs(_wrapped(a, edges), _wrapped(b, edges), radius, edges), n)
    rows = shortest_vectors(box)
    inverse = np.linalg.inv(rows)
    images, origins = _images_of(_turned(b @ inverse), radius * np.linalg.norm(inverse, axis=0))
    first, image = _tree_pairs(_turned(a @ inverse) @ rows, images @ rows, radius, None)
    keys = np.unique(first * n + origins[image])  # in a narrow box two images may be near
    return np.divmod(keys, n)


def _tree_pairs(
    a: np.ndarray, b: np.ndarray, radius: float, edges: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray]:
    from scipy.spatial import cKDTree  # a tenth of a second, which few inputs need

    trees = cKDTree(a, boxsize=edges), cKDTree(b, boxsize=edges)
    found = trees[0].sparse_distance_matrix(trees[1], radius, output_type="ndarray")
    return found["i"], found["j"]


def _sorted(first: np.ndarray, second: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
    return np.divmod(np.sort(first * n + second), n)


def _wrapped(points: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Points in the box from 0 to its edges, which are 0 again."""
    inside = points - np.floor(points / edges) * edges
    return np.where((inside < 0) | (inside >= edges), 0.0, inside)


def _turned(places: np.ndarray) -> np.ndarray:
    """Places in units of the box vectors, brought to between 0 and 1."""
    return places - np.floor(places)


def _images_of(places: np.ndarray, margins: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Images of points in a box and within the margins around it, and what they are images of.

    Parameters
    ----------
    places : ndarray, shape (n, 3)
        From 0 to 1, in units of the box vectors.
    margins : ndarray, shape (3,)
        In the same units.
    """
    origins = np.arange(len(places))
    for axis, margin in enumerate(margins):
        turns = np.arange(-math.ceil(margin), math.ceil(margin) + 1)
        along = places[:, axis] + turns[:, None]
        turn, row = np.nonzero((along >= -margin) & (along <= 1 + margin))
        places, origins = places[row], origins[row]
        places[:, axis] = along[turn, row]
    return places, origins


def is_crowded(a: np.ndarray, b: np.ndarray, box: np.ndarray | None, reach: float) -> bool:
    """Whether so many pairs are within reach that a list of them would save nothing.

    Parameters are those of `pairs_within`; it looks at volumes alone.
    """
    radius = reach + SKIN
    if not math.isfinite(radius):
        return True
    if box is None:
        low, high = np.minimum(a.min(0), b.min(0)), np.maximum(a.max(0), b.max(0))
        volume = float(np.prod(np.maximum(high - low, 2 * radius)))
    else:
        volume = abs(float(np.linalg.det(box)))
    return not 4 / 3 * math.pi * radius**3 < CROWDED * volume  # also where something is NaN


class _Listed(NamedTuple):
    """A list, and what it was made of."""

    first: np.ndarray
    second: np.ndarray
    a: np.ndarray
    b: np.ndarray
    box: np.ndarray | None
    reach: float


class PairList:
    """A list of near pairs that is made anew when points have moved: no pair is ever missed.

    Parameters
    ----------
    first, second : ndarray, shape (n_first,), (n_second,)
        What tells points apart: a pair of equal numbers is left out.
    once : bool
        Whether the groups are one, and each pair of it counts once.
    """

    def __init__(self, first: np.ndarray, second: np.ndarray, once: bool) -> None:
        self._first, self._second, self._once = first, second, once
        self._listed: _Listed | None = None

    def pairs(
        self, a: np.ndarray, b: np.ndarray, box: np.ndarray | None, reach: float
    ) -> tuple[np.ndarray, np.ndarray]:
        """Pairs among which are all within reach; parameters and order as of `pairs_within`."""
        listed = self._listed
        if listed is None or not _holds(listed, a, b, box, reach):
            first, second = pairs_within(a, b, box, reach + SKIN)
            counts = self._first[first] != self._second[second]
            if self._once:
                counts &= first < second
            kept = None if box is None else box.copy()
            listed = _Listed(first[counts], second[counts], a.copy(), b.copy(), kept, reach)
            self._listed = listed
        return listed.first, listed.second


def _holds(
    listed: _Listed, a: np.ndarray, b: np.ndarray, box: np.ndarray | None, reach: float
) -> bool:
    """Whether no pair can have come within reach since a list was made."""
    if box is None or listed.box is None:
        is_other = box is not listed.box
    else:
        is_other = not np.array_equal(listed.box, box)
    if is_other or listed.reach != reach:
        return False
    ends = ((a, listed.a),) if a is b else ((a, listed.a), (b, listed.b))
    return all(((x - y) ** 2).sum(axis=1).max(initial=0.0) < SKIN**2 / 4 for x, y in ends)
