"""Sums over all pairs of two groups of points, for one frame: in blocks that stay in the cache.

The blocks are always the same and only pairs within reach are added, in their order: the same
positions give the same sum to the last digit, whatever came before.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

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
        for k, component in enumerate(near_vectors):
            strength = strengths * component
            slopes.first[:, k] -= np.bincount(row, strength, squared.shape[0])
            slopes.second[:, k] += np.bincount(column, strength, squared.shape[1])
            slopes.strain[:, k] += [other @ strength for other in near_vectors]
    return float(values.sum())
