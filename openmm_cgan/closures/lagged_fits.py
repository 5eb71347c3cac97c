"""Coefficients of drift and diffusion in a basis from the moments of lagged pairs.

What the equations are is said in `lagged_regression`; here they are solved, for all replicates at
once, by least squares in the metric of the basis's overlap. After a long lag little is left of what
varies fast with z, and the equations alone would answer with noise: the second differences of
neighbouring coefficients are held small as well (P. H. C. Eilers and B. D. Marx, Stat. Sci. 11, 89
(1996)), with a weight that the equations' own noise tells. What that smooths away grows with the
weight in proportion, while it is small, and is known from the change to a larger one.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations_with_replacement

import numpy as np
from numpy.typing import NDArray

from openmm_cgan.closures.lagged_moments import LaggedMoments
from openmm_cgan.closures.spline_basis import SplineBasis

# Weights of the second differences that are tried, in the equations' own size; the first decides
# only where the pairs say nothing.
WEIGHTS = tuple(10.0**power for power in range(-8, 3))
PILOT = 6  # number of the weight to begin with
FREE = 2.0  # how much dearer than by Mallows a free coefficient is, whose rule is prone to noise


@dataclass(frozen=True)
class LaggedFit:
    """Coefficients in a basis of m functions: of all frames, of each replicate, and once more.

    Replicates are moved at random by what smoothing may have taken away; the last is the first,
    moved by it once: for how much it is.

    Attributes
    ----------
    drift : ndarray, shape (1 + n_bootstrap + 1, k, m)
        [CV unit/ps]
    diffusion : ndarray, shape (1 + n_bootstrap + 1, k, k, m)
        sigma^2 [CV unit^2/ps]
    density_slope : ndarray, shape (1 + n_bootstrap + 1, k, m)
        Of the logarithm of the density of the starts [1/CV unit].
    """

    drift: NDArray[np.float64]
    diffusion: NDArray[np.float64]
    density_slope: NDArray[np.float64]


def fit_of_moments(
    moments: LaggedMoments, basis: SplineBasis, rng: np.random.Generator
) -> LaggedFit:
    """Drift from what moved, diffusion from its squares.

    Parameters
    ----------
    moments : LaggedMoments
        Of all frames, of each replicate, and of all frames again.
    basis : SplineBasis
    rng : numpy.random.Generator
        For how replicates are moved.
    """
    equations = _Equations(moments.lagged, moments.overlap, basis, rng)
    _, drift = equations.solved(moments.moved)
    with_drift = np.einsum("raij,rbj->rabi", moments.moved_lagged, drift)
    right = moments.squares - with_drift - with_drift.swapaxes(1, 2)
    rows, columns = np.triu_indices(right.shape[1])
    _, found = equations.solved(right[:, rows, columns])
    diffusion = np.empty(right.shape)
    diffusion[:, rows, columns] = diffusion[:, columns, rows] = found
    return LaggedFit(drift, diffusion, _density_slope(moments, basis, rng)[1])


def fit_of_score(moments: LaggedMoments, basis: SplineBasis, rng: np.random.Generator) -> LaggedFit:
    """Diffusion from the squares, with the drift that it and the density of the starts give.

    Parameters are those of `fit_of_moments`.
    """
    r, k, _, m = moments.squares.shape
    pairs = [*combinations_with_replacement(range(k), 2)]
    number = {(a, b): i for i, (a, b) in enumerate(pairs)}
    number |= {(b, a): i for (a, b), i in number.items()}
    overlaps, slope = _density_slope(moments, basis, rng)
    # tie[c] makes the coefficients of b_a from those of sigma^2_ac.
    tie = -0.5 * np.linalg.solve(overlaps, moments.slope_overlap)
    matrix = np.zeros((r, len(pairs), m, len(pairs), m))
    for row, (a, b) in enumerate(pairs):
        matrix[:, row, :, row] += moments.lagged
        for one, other in ((a, b), (b, a)):
            for c in range(k):
                matrix[:, row, :, number[other, c]] += moments.moved_lagged[:, one] @ tie[:, c]
    right = np.concatenate([moments.squares[:, a, b] for a, b in pairs], 1)
    n = len(pairs) * m
    equations = _Equations(matrix.reshape(r, n, n), moments.overlap, basis, rng)
    found = equations.solved(right[:, None])[1].reshape(r, len(pairs), m)
    rows = [[found[:, number[a, b]] for b in range(k)] for a in range(k)]
    diffusion = np.moveaxis(np.array(rows), 2, 0)
    return LaggedFit(np.einsum("rcij,racj->rai", tie, diffusion), diffusion, slope)


@dataclass(frozen=True)
class _Equations:
    """Matrix (r, n, n) over coefficients, n being some times the basis's m."""

    matrix: NDArray[np.float64]
    overlap: NDArray[np.float64]
    basis: SplineBasis
    rng: np.random.Generator

    def solved(self, right: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        """The weight of the second differences, and coefficients (r, q, n) for right sides.

        It is that of the least expected error of what the equations predict: squares of what is
        left, in its variances, and a price for each coefficient that is free (C. L. Mallows,
        Technometrics 15, 661 (1973)); and one step less, so that smoothing takes away little.
        """
        n, m = self.matrix.shape[1], self.basis.size
        metric = self.overlap + WEIGHTS[0] * _size(self.overlap)[:, None, None] * np.eye(m)
        transposed = _times(metric, self.matrix).swapaxes(1, 2)
        normal = transposed @ self.matrix
        rough = np.kron(np.eye(n // m), self.basis.roughness())
        sizes = _size(normal)[:, None, None]

        def at(weight: float, rows: slice) -> NDArray[np.float64]:
            """What makes coefficients of right sides."""
            left = normal[rows] + weight * sizes[rows] * rough
            return np.asarray(np.linalg.solve(left, transposed[rows]), float)

        own = slice(0, 1)
        makers = [at(weight, own)[0] for weight in WEIGHTS]
        best = PILOT
        for _ in range(2):  # the covariance is that about a fit, first about a pilot
            noise = self._noise(right, right[0] @ makers[best].T)
            best = int(np.argmin([self._criterion(right[0], maker, noise) for maker in makers]))
        best = max(best - 1, 0)
        found = right @ at(WEIGHTS[best], slice(None)).swapaxes(1, 2)
        return WEIGHTS[best], found + self._moved(right[0], *makers[best : best + 2])

    def _moved(self, right: NDArray, own: NDArray, smoother: NDArray) -> NDArray[np.float64]:
        """What smoothing may have taken away (r, q, n), times a number for each replicate."""
        change = (right @ smoother.T - right @ own.T) / (WEIGHTS[1] / WEIGHTS[0] - 1.0)
        times = self.rng.normal(size=len(self.matrix))
        times[[0, -1]] = 0.0, 1.0
        return np.asarray(times[:, None, None] * change)

    def _noise(self, right: NDArray, fit: NDArray) -> NDArray[np.float64]:
        """Variances (q, n) of what a fit (q, n) leaves of the equations, `_apart`."""
        left = self._apart(right[1:-1] - fit @ self.matrix[1:-1].swapaxes(1, 2))
        return np.maximum(left.var(0, ddof=1), 1e-300)

    def _apart(self, left: NDArray) -> NDArray[np.float64]:
        """Equations for functions of no overlap, whose noise is hardly correlated."""
        m = self.basis.size
        metric = self.overlap[0] + WEIGHTS[0] * np.trace(self.overlap[0]) / m * np.eye(m)
        inverse = np.linalg.inv(np.linalg.cholesky(metric))
        return (left.reshape(*left.shape[:-1], -1, m) @ inverse.T).reshape(left.shape)

    def _criterion(self, right: NDArray, maker: NDArray, noise: NDArray) -> float:
        left = self._apart(right - right @ (self.matrix[0] @ maker).T)
        free = np.trace(self.matrix[0] @ maker) * len(right)
        return float((left**2 / noise).sum() + 2.0 * FREE * free)


def _times(metric: NDArray, matrix: NDArray) -> NDArray[np.float64]:
    """The inverse of a metric (r, m, m) on the rows of (r, n, n), n some times m."""
    r, n, _ = matrix.shape
    rows = matrix.reshape(r, -1, metric.shape[1], n)
    return np.linalg.solve(metric[:, None], rows).reshape(r, n, n)


def _density_slope(
    moments: LaggedMoments, basis: SplineBasis, rng: np.random.Generator
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Score matching by least squares, <r phi_i> = -<phi_i'>: its matrix and coefficients."""
    equations = _Equations(moments.overlap, moments.overlap, basis, rng)
    weight, slope = equations.solved(-moments.slope)
    little = weight * _size(moments.overlap)[:, None, None] * basis.roughness()
    return (moments.overlap + little)[:, None], slope


def _size(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.trace(matrix, axis1=1, axis2=2) / matrix.shape[1]
