"""Smooth functions through given values: kernel ridge regression, and geometric harmonics.

Both are f(x) = sum_j k(x, x_j) c_j with the Gaussian kernel k = exp(-d^2 / 4 eps), and differ in c.
Geometric harmonics (Coifman and Lafon, doi 10.1016/j.acha.2005.07.005) keep the eigenfunctions of k
whose eigenvalue is above a share of the first: c = sum_k psi_k <psi_k, f> / lambda_k. On the
coordinates of a diffusion map they lead back to configurations (double diffusion maps, Evangelou et
al., arXiv 2204.12536).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve, eigh

from openmm_cgan.diffusion_maps.distances import feature_distances
from openmm_cgan.diffusion_maps.kernels import choose_bandwidth
from openmm_cgan.plumed.input.expressions import namespace
from openmm_cgan.short_reprs import short_repr

BLOCK = 4000  # points at once


@dataclass(frozen=True)
class KernelInterpolant:
    """A sum of Gaussians about points.

    Attributes
    ----------
    points : ndarray, shape (m, n_inputs)
    coefficients : ndarray, shape (m, n_outputs)
    mean : ndarray, shape (n_outputs,)
        What is added: the value far from all points.
    bandwidth : float
        eps of exp(-d^2 / 4 eps).
    """

    points: NDArray[np.float64]
    coefficients: NDArray[np.float64]
    mean: NDArray[np.float64]
    bandwidth: float

    __repr__ = short_repr

    def __call__(self, points: Any) -> Any:
        """Values at points.

        Parameters
        ----------
        points : ndarray or tensor, shape (n, n_inputs)
            Of tensors, differentiable.

        Returns
        -------
        ndarray or tensor, shape (n, n_outputs)
        """
        if namespace(points) is not np:
            return self._values(points)
        parts = [self._values(points[i : i + BLOCK]) for i in range(0, len(points), BLOCK)]
        return np.concatenate(parts)

    def _values(self, points: Any) -> Any:
        xp = namespace(points)
        square = feature_distances(points, xp.asarray(self.points))
        near = xp.exp(-square / (4 * self.bandwidth))
        return xp.asarray(self.mean) + near @ xp.asarray(self.coefficients)


def kernel_ridge(
    points: NDArray[np.float64],
    values: NDArray[np.float64],
    *,
    bandwidth: float | None = None,
    ridge: float = 1e-6,
) -> KernelInterpolant:
    """Kernel ridge regression: smooth values near those that are given.

    Parameters
    ----------
    points : ndarray, shape (m, n_inputs)
    values : ndarray, shape (m, n_outputs)
    bandwidth : float, optional
        By default four times that of `choose_bandwidth`: smoother than the density.
    ridge : float
        Added to the diagonal of the kernel; the larger, the smoother.

    Raises
    ------
    ValueError
        If points and values are not alike many.
    """
    bandwidth, mean, kernel = _prepared(points, values, bandwidth)
    kernel[np.diag_indices_from(kernel)] += ridge
    coefficients = cho_solve(cho_factor(kernel), values - mean)
    return KernelInterpolant(points, coefficients, mean, bandwidth)


def geometric_harmonics(
    points: NDArray[np.float64],
    values: NDArray[np.float64],
    *,
    bandwidth: float | None = None,
    least: float = 1e-5,
) -> KernelInterpolant:
    """Values extended by the eigenfunctions of the kernel that can be extended.

    Parameters
    ----------
    points : ndarray, shape (m, n_inputs)
        Such as the coordinates of a diffusion map, each scaled by its eigenvalue.
    values : ndarray, shape (m, n_outputs)
        Such as superposed positions, flat, or other features.
    bandwidth : float, optional
        By default four times that of `choose_bandwidth`.
    least : float
        Eigenvalues below this share of the largest are left out.

    Raises
    ------
    ValueError
        If points and values are not alike many.
    """
    bandwidth, mean, kernel = _prepared(points, values, bandwidth)
    eigenvalues, vectors = eigh(kernel)
    kept = eigenvalues > least * eigenvalues[-1]
    vectors = vectors[:, kept]
    coefficients = vectors @ ((vectors.T @ (values - mean)) / eigenvalues[kept, None])
    return KernelInterpolant(points, coefficients, mean, bandwidth)


def _prepared(
    points: NDArray[np.float64], values: NDArray[np.float64], bandwidth: float | None
) -> tuple[float, NDArray[np.float64], NDArray[np.float64]]:
    if len(points) != len(values) or np.ndim(points) != 2 or np.ndim(values) != 2:
        raise ValueError(
            f"points of shape {np.shape(points)} and values of shape {np.shape(values)}; expected "
            "(n, n_inputs) and (n, n_outputs)"
        )
    if bandwidth is None:
        bandwidth = 4 * choose_bandwidth(points).chosen
    kernel = np.exp(-feature_distances(points, points) / (4 * bandwidth))
    return bandwidth, values.mean(axis=0), kernel
