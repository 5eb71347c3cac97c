"""Cubic B-splines of one or two CVs on equal intervals, round the circle where a CV is periodic.

A function of the CVs is written as sum_i c_i phi_i(z). The phi_i overlap, are twice continuously
differentiable and add up to one; nothing is cut into bins (C. de Boor, "A Practical Guide to
Splines" (1978), chapter 9).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from openmm_cgan.collective_variable import CollectiveVariable

ORDER = 4  # functions that are not zero in an interval
# Coefficients of 1, t, t^2, t^3 (rows) of those four functions in an interval, t from 0 to 1.
PIECES = np.array([[1, 4, 1, 0], [-3, 0, 3, 0], [3, -6, 3, 0], [-1, 3, -3, 1]]) / 6.0


@dataclass(frozen=True)
class SplineBasis:
    """Products of B-splines, one for each CV.

    Attributes
    ----------
    variables : tuple of CollectiveVariable
        The k CVs.
    lower, spacing : ndarray, shape (k,)
        Where the first interval begins, and the length of all [CV unit].
    intervals : tuple of int
        How many along each CV.
    """

    variables: tuple[CollectiveVariable, ...]
    lower: NDArray[np.float64]
    spacing: NDArray[np.float64]
    intervals: tuple[int, ...]

    @classmethod
    def over(
        cls, variables: Sequence[CollectiveVariable], cvs: NDArray[np.float64], intervals: int
    ) -> SplineBasis:
        """Over the range of some values of the CVs (n, k), or the domain of a periodic one.

        Raises
        ------
        ValueError
            If all values of a CV are the same.
        """
        lower, upper = cvs.min(0), cvs.max(0)
        for column, variable in enumerate(variables):
            if variable.domain is not None:
                lower[column], upper[column] = variable.domain
            if not lower[column] < upper[column]:
                raise ValueError(f"{variable.name} is {lower[column]:.6g} in all frames")
        return cls(
            tuple(variables), lower, (upper - lower) / intervals, (intervals,) * len(variables)
        )

    @property
    def shape(self) -> tuple[int, ...]:
        """Number of functions along each CV."""
        return tuple(
            n if v.period is not None else n + ORDER - 1
            for n, v in zip(self.intervals, self.variables, strict=True)
        )

    @property
    def size(self) -> int:
        """Number of functions m."""
        return int(np.prod(self.shape))

    def values(self, cvs: NDArray[np.float64], slope: int | None = None) -> csr_matrix:
        """All functions, or their slopes along one CV, at values of the CVs.

        Parameters
        ----------
        cvs : ndarray, shape (n, k)
            [CV unit]; outside the range the outermost polynomials go on.
        slope : int, optional
            Number of the CV.

        Returns
        -------
        csr_matrix, shape (n, m)
            [1, or 1/CV unit]
        """
        columns, entries = np.zeros((len(cvs), 1), dtype=np.int64), np.ones((len(cvs), 1))
        for axis, n in enumerate(self.shape):
            own, weights = self._along(axis, cvs[:, axis], slope == axis)
            columns = (columns[:, :, None] * n + own[:, None]).reshape(len(cvs), -1)
            entries = (entries[:, :, None] * weights[:, None]).reshape(len(cvs), -1)
        starts = np.arange(len(cvs) + 1) * entries.shape[1]
        return csr_matrix((entries.ravel(), columns.ravel(), starts), (len(cvs), self.size))

    def roughness(self) -> NDArray[np.float64]:
        """Quadratic form (m, m) of the second differences of coefficients along each CV."""
        forms = []
        for axis, n in enumerate(self.shape):
            rows = np.diff(np.eye(n), 2, axis=0)
            if self.variables[axis].period is not None:
                rows = np.roll(np.eye(n), 1, 0) - 2.0 * np.eye(n) + np.roll(np.eye(n), -1, 0)
            parts = [np.eye(other) for other in self.shape]
            parts[axis] = rows.T @ rows
            forms.append(reduce(lambda a, b: np.asarray(np.kron(a, b)), parts))
        return np.asarray(sum(forms))

    def _along(
        self, axis: int, z: NDArray[np.float64], slope: bool
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Numbers of the functions of one CV that are not zero, and their values, (n, 4) each."""
        n, periodic = self.intervals[axis], self.variables[axis].period is not None
        place = (z - self.lower[axis]) / self.spacing[axis]
        if periodic:
            place = np.mod(place, n)
        interval = np.clip(np.floor(place).astype(np.int64), 0, n - 1)
        t = place - interval
        powers = np.stack([np.ones_like(t), t, t**2, t**3], 1)
        if slope:
            powers = np.stack([0.0 * t, np.ones_like(t), 2.0 * t, 3.0 * t**2], 1)
            powers /= self.spacing[axis]
        numbers = interval[:, None] + np.arange(ORDER)
        return (numbers % n if periodic else numbers), powers @ PIECES
