"""Sums over all pairs of two groups of points, for one frame: in blocks that stay in the cache.

Where the reach is short in what the points fill, the pairs come from a list of near ones. The
blocks are always the same, the volume alone says which way is taken, and only pairs within reach
are added, in their order: the same positions give the same sum to the last digit, whatever came
before.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np

from openmm_cgan.plumed.geometry.near_pairs import PairList, is_crowded
from openmm_cgan.plumed.geometry.vectors import shortest_image

BLOCK = 16_384  # pairs: a dozen such arrays fit into the second cache of a core
CROWDED = 0.6  # share of pairs within reach above which all are worked out

# Squared distances [nm^2] to values, and their slopes over the distance [nm^-2]
Pull = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]


class PairSlopes(NamedTuple):
    """What the gradient of a sum is added to.

    Attributes
    ----------
    first, second : ndarray, shape (n_first, 3), (n_second, 3)
        By the points [1/nm]; one array where the groups are one.
    strain : ndarray, shape (3, 3)
        By a strain of everything: sum of ``v_a dsum/dv_b`` over the vectors of the pairs.
    """

    first: np.ndarray
    second: np.ndarray
    strain: np.ndarray


class NearVectors(NamedTuple):
    """The pairs within reach.

    Attributes
    ----------
    first, second : ndarray of int, shape (n_near,)
        Which points they are of, in ascending order.
    squared : ndarray, shape (n_near,)
        Their squared distances [nm^2].
    vectors : list of three ndarray, shape (n_near,)
        From the first to the second [nm].
    """

    first: np.ndarray
    second: np.ndarray
    squared: np.ndarray
    vectors: list[np.ndarray]


@dataclass(frozen=True)
class PointPairs:
    """The pairs of two groups of points.

    Attributes
    ----------
    first, second : ndarray, shape (n_first,), (n_second,)
        What tells points apart: a pair of equal numbers is left out.
    once : bool
        Whether the groups are one, and each pair of it counts once.
    """

    first: np.ndarray
    second: np.ndarray
    once: bool

    def total(
        self,
        a: np.ndarray,
        b: np.ndarray,
        box: np.ndarray | None,
        pull: Pull,
        reach: float,
        slopes: PairSlopes | None = None,
    ) -> float:
        """Sum of the values of the pairs.

        Parameters
        ----------
        a, b : ndarray, shape (n_first, 3), (n_second, 3)
            [nm]
        box : ndarray, shape (3, 3), or None
            For nearest images [nm].
        pull : callable
        reach : float
            Beyond which pairs add nothing [nm].
        slopes : PairSlopes, optional
            What the gradient is added to.
        """
        if not self.is_dense(a, b, box, reach):
            return self._listed(a, b, box, pull, reach, slopes)
        height = max(BLOCK // max(len(b), 1), 1)
        total = 0.0
        for top in range(0, len(a), height):
            rows = slice(top, top + height)
            columns = slice(top, None) if self.once else slice(None)
            vectors = [b[None, columns, k] - a[rows, None, k] for k in range(3)]
            if box is not None:
                vectors = list(shortest_image((vectors[0], vectors[1], vectors[2]), box))
            ends = None
            if slopes is not None:
                ends = PairSlopes(slopes.first[rows], slopes.second[columns], slopes.strain)
            total += _added(vectors, self._kept(rows, columns), pull, reach, ends)
        return total

    @cached_property
    def _list(self) -> PairList:
        return PairList(self.first, self.second, self.once)

    def _listed(
        self,
        a: np.ndarray,
        b: np.ndarray,
        box: np.ndarray | None,
        pull: Pull,
        reach: float,
        slopes: PairSlopes | None,
    ) -> float:
        """The same, over a list of near pairs."""
        near = self.near(a, b, box, reach)
        values, strengths = pull(near.squared)
        if slopes is not None:
            _add_slopes(slopes, near.first, near.second, strengths, near.vectors)
        return float(values.sum())

    def is_dense(self, a: np.ndarray, b: np.ndarray, box: np.ndarray | None, reach: float) -> bool:
        """Whether `near` would save nothing; the positions and the box of this frame alone say."""
        return self.are_few or is_crowded(a, b, box, reach)

    @property
    def are_few(self) -> bool:
        """Whether all pairs are one block; of many frames they are quicker all at once."""
        return len(self.first) * len(self.second) <= BLOCK

    def near(
        self, a: np.ndarray, b: np.ndarray, box: np.ndarray | None, reach: float
    ) -> NearVectors:
        """The pairs within reach, from a list of those that may be; parameters are `total`'s."""
        first, second = self._list.pairs(a, b, box, reach)
        near: list[tuple[np.ndarray, ...]] = []
        for start in range(0, max(len(first), 1), BLOCK):
            i, j = first[start : start + BLOCK], second[start : start + BLOCK]
            vectors = [b[j, k] - a[i, k] for k in range(3)]
            if box is not None:
                vectors = list(shortest_image((vectors[0], vectors[1], vectors[2]), box))
            x, y, z = vectors
            squared = x * x + y * y + z * z
            within = np.flatnonzero(squared < reach * reach)
            near.append((i[within], j[within], squared[within], *(v[within] for v in vectors)))
        i, j, squared, *vectors = (np.concatenate(column) for column in zip(*near, strict=True))
        return NearVectors(i, j, squared, vectors)

    def no_slopes(self) -> PairSlopes:
        """Slopes of zero, for `total` to add to."""
        first = np.zeros((len(self.first), 3))
        second = first if self.once else np.zeros((len(self.second), 3))
        return PairSlopes(first, second, np.zeros((3, 3)))

    def _kept(self, rows: slice, columns: slice) -> np.ndarray | None:
        """Which pairs of a block count; None where all do."""
        equal = self.first[rows, None] == self.second[None, columns]
        if self.once:  # an atom may be named twice
            return np.triu(~equal, 1)
        return ~equal if equal.any() else None


def _added(
    vectors: list[np.ndarray],
    kept: np.ndarray | None,
    pull: Pull,
    reach: float,
    slopes: PairSlopes | None,
) -> float:
    """Sum over one block, and its gradient added to `slopes`."""
    x, y, z = vectors
    squared = x * x + y * y + z * z
    counts = squared < reach * reach  # a pair that is beyond adds nothing
    if kept is not None:
        counts &= kept
    elif np.count_nonzero(counts) > CROWDED * squared.size:
        values, strengths = pull(squared)
        if slopes is not None:
            for k, component in enumerate(vectors):
                strength = strengths * component
                slopes.first[:, k] -= strength.sum(axis=1)
                slopes.second[:, k] += strength.sum(axis=0)
                slopes.strain[:, k] += [np.vdot(other, strength) for other in vectors]
        return float(values.sum())
    index = np.flatnonzero(counts)
    values, strengths = pull(squared.ravel()[index])
    if slopes is not None:
        row, column = np.divmod(index, squared.shape[1])
        near_vectors = [component.ravel()[index] for component in vectors]
        _add_slopes(slopes, row, column, strengths, near_vectors)
    return float(values.sum())


def _add_slopes(
    slopes: PairSlopes,
    row: np.ndarray,
    column: np.ndarray,
    strengths: np.ndarray,
    vectors: list[np.ndarray],
) -> None:
    """Add what pairs pull at their ends."""
    for k, component in enumerate(vectors):
        strength = strengths * component
        slopes.first[:, k] -= np.bincount(row, strength, len(slopes.first))
        slopes.second[:, k] += np.bincount(column, strength, len(slopes.second))
        slopes.strain[:, k] += [other @ strength for other in vectors]
