"""The kernels of OPES: truncated Gaussians that are merged where they lie close.

Kernel compression: Sodkomkham et al., doi 10.1016/j.physa.2016.04.044, as in Invernizzi and
Parrinello, doi 10.1021/acs.jpclett.0c00497.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from openmm_cgan.plumed.actions.values import Value
from openmm_cgan.plumed.input.expressions import namespace

BLOCK = 1_000_000  # numbers that one step of a batch works on


class Kernels:
    """A list of kernels, in the order of their making.

    Parameters
    ----------
    arguments : tuple of Value
        For the periods.
    cutoff2 : float
        Squared distance, in sigmas, from which on a kernel is zero.
    threshold2 : float
        Squared distance, in sigmas, below which kernels are merged; 0 for never.
    recursive : bool
        Whether what was merged may be merged again.

    Attributes
    ----------
    listed : ndarray of int, shape (n_listed,), or None
        Ascending indices of the kernels that are summed and merged at each step; None for all.
    """

    def __init__(
        self,
        arguments: tuple[Value, ...],
        cutoff2: float,
        threshold2: float,
        recursive: bool,
    ) -> None:
        self.arguments = arguments
        self.cutoff2, self.threshold2, self.recursive = cutoff2, threshold2, recursive
        self.at_cutoff = math.exp(-0.5 * cutoff2)
        n = len(arguments)
        self.listed: np.ndarray | None = None
        self.put(np.zeros((0, n)), np.zeros((0, n)), np.zeros(0))
        self.changes: list[tuple[float, np.ndarray, np.ndarray]] = []
        periods = [value.period or 0.0 for value in arguments]
        self._periods = np.array(periods)[:, None]
        self._turns = np.array([1 / p if p else 0.0 for p in periods])[:, None]

    def __len__(self) -> int:
        return len(self.heights)

    def put(self, centres: np.ndarray, sigmas: np.ndarray, heights: np.ndarray) -> None:
        """Replace all kernels: shapes (n, n_arguments), (n, n_arguments), (n,)."""
        self.centres, self.sigmas = np.array(centres, dtype=float), np.array(sigmas, dtype=float)
        self.heights = np.array(heights, dtype=float)
        self._arrange()

    def list_only(self, index: np.ndarray | None) -> None:
        """From now on sum and merge only these kernels, ascending, shape (n,); all for None."""
        self.listed = index
        self._arrange()

    def _arrange(self) -> None:
        # for `sum_and_slopes`, which runs at every step
        chosen = slice(None) if self.listed is None else self.listed
        self._columns = np.ascontiguousarray(self.centres[chosen].T)
        self._over = np.ascontiguousarray(1.0 / self.sigmas[chosen].T)
        self._tall = self.heights[chosen]

    # ---- sums

    def sum_and_slopes(self, x: list[float]) -> tuple[float, np.ndarray]:
        """Sum of the listed kernels at one point, and its slopes as PLUMED takes them.

        PLUMED multiplies the slope of the Gaussian by the kernel as it is truncated, shifted to
        zero at the cut-off: off by the shift from the slope of the sum.

        Parameters
        ----------
        x : list of float, length n_arguments

        Returns
        -------
        float
        ndarray, shape (n_arguments,)
        """
        delta = np.array(x)[:, None] - self._columns
        delta -= self._periods * np.floor(delta * self._turns + 0.5)
        delta *= self._over
        values = np.exp(-0.5 * (delta * delta).sum(axis=0))
        values -= self.at_cutoff
        np.maximum(values, 0.0, out=values)
        values *= self._tall
        delta *= self._over
        return float(values.sum()), -(delta @ values)

    def at(self, points: np.ndarray) -> np.ndarray:
        """Sum of the kernels at points of shape (n_points, n_arguments): shape (n_points,)."""
        step = max(BLOCK // max(self.centres.size, 1), 1)
        blocks = [self._block(points[i : i + step]) for i in range(0, len(points), step)]
        return np.concatenate(blocks) if blocks else np.zeros(0)

    def _block(self, points: np.ndarray) -> np.ndarray:
        squares = np.zeros((len(points), len(self)))
        for i, value in enumerate(self.arguments):
            delta = value.difference(self.centres[:, i], points[:, i, None]) / self.sigmas[:, i]
            squares += delta * delta
        kernels = np.where(squares < self.cutoff2, np.exp(-0.5 * squares) - self.at_cutoff, 0.0)
        return kernels @ self.heights

    def sum(self, arguments: list[Any]) -> Any:
        """Sum of the kernels for arrays or tensors of shape (...), differentiable in torch."""
        xp = namespace(arguments[0])
        if xp is np:
            points = np.stack([np.asarray(x, dtype=float).ravel() for x in arguments], axis=-1)
            return self.at(points).reshape(np.shape(arguments[0]))
        total = arguments[0] * 0
        for centre, sigma, height in zip(self.centres, self.sigmas, self.heights, strict=True):
            deltas = [
                value.difference(float(c), x) / float(s)
                for value, c, s, x in zip(self.arguments, centre, sigma, arguments, strict=True)
            ]
            square = sum(delta * delta for delta in deltas)
            bump = float(height) * (xp.exp(-0.5 * square) - self.at_cutoff)
            total = total + xp.where(square < self.cutoff2, bump, bump * 0)
        return total

    def sum_over_centres(self) -> float:
        """Sum of all kernels at all their centres."""
        return float(self.at(self.centres).sum())

    # ---- a new kernel

    def add(self, height: float, centre: np.ndarray, sigma: np.ndarray) -> None:
        """Add a kernel, merged into the nearest one within the threshold.

        What is new and what is gone is noted in `changes`, with a negative height where gone.

        Parameters
        ----------
        height : float
        centre, sigma : ndarray, shape (n_arguments,)
        """
        self._add(height, centre, sigma)
        self._arrange()

    def _add(self, height: float, centre: np.ndarray, sigma: np.ndarray) -> None:
        taker = self._mergeable(centre, -1)
        if taker < 0:
            self.centres = np.vstack([self.centres, centre])
            self.sigmas = np.vstack([self.sigmas, sigma])
            self.heights = np.append(self.heights, height)
            if self.listed is not None:
                self.listed = np.append(self.listed, len(self) - 1)
            self.changes.append((height, np.array(centre), np.array(sigma)))
            return
        self._note(taker, -1.0)
        self._merge(taker, height, centre, sigma)
        self._note(taker)
        giver = taker
        while self.recursive and (taker := self._mergeable(self.centres[giver], giver)) >= 0:
            self.changes.pop()
            self._note(taker, -1.0)
            taker, giver = min(taker, giver), max(taker, giver)
            self._merge(taker, self.heights[giver], self.centres[giver], self.sigmas[giver])
            self._note(taker)
            self.centres = np.delete(self.centres, giver, axis=0)
            self.sigmas = np.delete(self.sigmas, giver, axis=0)
            self.heights = np.delete(self.heights, giver)
            if self.listed is not None:
                kept = self.listed[self.listed != giver]
                self.listed = kept - (kept > giver)
            giver = taker

    def _note(self, k: int, sign: float = 1.0) -> None:
        kernel = (sign * float(self.heights[k]), self.centres[k].copy(), self.sigmas[k].copy())
        self.changes.append(kernel)

    def _mergeable(self, centre: np.ndarray, giver: int) -> int:
        """Index of the nearest kernel within the threshold, besides `giver`, or -1."""
        if self.threshold2 == 0 or len(self) == 0:
            return -1
        squares = self.squares_from(centre)
        if self.listed is not None:
            unlisted = np.ones(len(self), dtype=bool)
            unlisted[self.listed] = False
            squares[unlisted] = math.inf
        if giver >= 0:
            squares[giver] = math.inf
        nearest = int(np.argmin(squares))
        return nearest if squares[nearest] < self.threshold2 else -1

    def squares_from(self, point: Sequence[float] | np.ndarray) -> np.ndarray:
        """Squared distance of each kernel from a point, in its sigmas, shape (n,)."""
        squares = np.zeros(len(self))
        for i, value in enumerate(self.arguments):
            delta = value.difference(point[i], self.centres[:, i]) / self.sigmas[:, i]
            squares += delta * delta
        return squares

    def _merge(self, k: int, height: float, centre: np.ndarray, sigma: np.ndarray) -> None:
        """Put a kernel into number `k`, keeping weight, mean and variance."""
        own, total = float(self.heights[k]), float(self.heights[k]) + float(height)
        for i, value in enumerate(self.arguments):
            c1, s1 = float(self.centres[k, i]), float(self.sigmas[k, i])
            c2, s2 = float(centre[i]), float(sigma[i])
            if value.period is not None:
                c1 = c2 + value.difference(c2, c1)
            mean = (own * c1 + height * c2) / total
            square = (own * (s1 * s1 + c1 * c1) + height * (s2 * s2 + c2 * c2)) / total
            if value.domain is not None:
                middle = 0.5 * (value.domain[0] + value.domain[1])
                self.centres[k, i] = middle + value.difference(middle, mean)
            else:
                self.centres[k, i] = mean
            self.sigmas[k, i] = math.sqrt(square - mean * mean)
        self.heights[k] = total

    def sum_of_changes(self) -> float:
        """By how much `changes` have changed `sum_over_centres`, as far as listed kernels tell."""
        if not self.changes:
            return 0.0
        heights = np.array([height for height, _, _ in self.changes])
        centres = np.array([centre for _, centre, _ in self.changes])
        changed = Kernels(self.arguments, self.cutoff2, self.threshold2, self.recursive)
        changed.put(centres, np.array([sigma for _, _, sigma in self.changes]), heights)
        signs = np.where(heights < 0, -1.0, 1.0)
        near = self if self.listed is None else self._only(self.listed)
        total = changed.at(near.centres).sum() + signs @ near.at(centres)
        return float(total - signs @ changed.at(centres))

    def _only(self, index: np.ndarray) -> Kernels:
        """Some of the kernels."""
        some = Kernels(self.arguments, self.cutoff2, self.threshold2, self.recursive)
        some.put(self.centres[index], self.sigmas[index], self.heights[index])
        return some

    def sum_and_slopes_of(self, index: np.ndarray, x: list[float]) -> tuple[float, np.ndarray]:
        """`sum_and_slopes` over those kernels that an index of shape (n,) names."""
        return self._only(index).sum_and_slopes(x)
