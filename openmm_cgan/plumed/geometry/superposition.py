"""Deviation of points from references after the best rotation, with its gradient.

The rotation is that of Kabsch, doi 10.1107/S0567739476001873; of many frames or references it is
the quaternion that belongs to the largest eigenvalue of Horn's matrix, doi 10.1364/JOSAA.4.000629,
which takes half the time of a decomposition. With weights w for the superposition and v for the
deviation, both summing to 1, and x, y centred with w:

    D = sum_i v_i |R x_i - y_i|^2,   R = argmin sum_i w_i |R x_i - y_i|^2

Where v is not w, R's own change counts. It turns by the small vector omega that keeps
sum_i w_i (R x_i) x y_i at zero, from which follows the last term of `deviation_gradient`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from openmm_cgan.plumed.geometry.vectors import vector_product
from openmm_cgan.plumed.input.expressions import namespace


@dataclass(frozen=True)
class References:
    """Configurations to compare with.

    Attributes
    ----------
    points : ndarray, shape (n_references, n_atoms, 3)
        Centred with `align` [nm].
    align, displace : ndarray, shape (n_references, n_atoms)
        Weights of the superposition and of the deviation, each row summing to 1.
    rotate : bool
        Whether rotations are taken out.
    """

    points: np.ndarray
    align: np.ndarray
    displace: np.ndarray
    rotate: bool

    @cached_property
    def alike(self) -> bool:
        """Whether the weights of superposition and deviation are the same."""
        return bool(np.all(self.align == self.displace))

    @cached_property
    def equal(self) -> bool:
        """Whether all weights are equal."""
        return self.alike and bool(np.all(self.align == self.align[0, 0]))

    @cached_property
    def weighted(self) -> np.ndarray:
        """Points times the weights of the superposition, shape (n_references, n_atoms, 3) [nm]."""
        return self.align[..., None] * self.points

    @cached_property
    def weighs_alike(self) -> bool:
        """Whether all references have the same weights, which superpose and compare alike."""
        return self.alike and bool(np.all(self.align == self.align[0]))

    @cached_property
    def square_sizes(self) -> np.ndarray:
        """Weighted squares of the references, shape (n_references,) [nm^2]."""
        return _weighted_square(self.align, self.points)

    @cached_property
    def _columns(self) -> np.ndarray:
        """Weighted points side by side, shape (n_atoms, 3 n_references) [nm]."""
        columns = self.weighted.transpose(1, 0, 2)
        return np.ascontiguousarray(columns).reshape(columns.shape[0], -1)

    def overlaps(self, centred: Any) -> Any:
        """Sums of ``w x y^T`` with each of them, for references that weigh alike.

        Parameters
        ----------
        centred : ndarray or tensor, shape (..., n_atoms, 3)
            Centred with the weights [nm].

        Returns
        -------
        ndarray or tensor, shape (..., n_references, 3, 3)
            [nm^2]
        """
        flat = centred.swapaxes(-1, -2) @ namespace(centred).asarray(self._columns)
        parts = flat.reshape(*flat.shape[:-1], len(self.points), 3)
        return parts.swapaxes(-2, -3)

    def some(self, index: np.ndarray) -> References:
        """Some of the configurations, by an index of shape (n,)."""
        return References(self.points[index], self.align[index], self.displace[index], self.rotate)


def make_references(
    points: np.ndarray, occupancy: np.ndarray, beta: np.ndarray, rotate: bool
) -> References:
    """References from the columns of a PDB file.

    Parameters
    ----------
    points : ndarray, shape (n_references, n_atoms, 3)
        [nm]
    occupancy, beta : ndarray, shape (n_references, n_atoms)
        Weights of the superposition and of the deviation, of any sum; all equal if all zero.
    rotate : bool
        Whether rotations are taken out.
    """
    align, displace = (_normalized(column) for column in (occupancy, beta))
    centre = (align[..., None] * points).sum(axis=1, keepdims=True)
    return References(points - centre, align, displace, rotate)


def _normalized(column: np.ndarray) -> np.ndarray:
    total = column.sum(axis=-1, keepdims=True)
    n = column.shape[-1]
    # weights that are all zero count as all equal, as in PLUMED
    return np.where(total > 0, column / np.where(total > 0, total, 1), 1 / n)


def mean_square_deviation(points: Any, references: References) -> Any:
    """Mean square deviation from each reference, numpy or torch.

    Parameters
    ----------
    points : ndarray or tensor, shape (..., n_atoms, 3)
        [nm]
    references : References

    Returns
    -------
    ndarray or tensor, shape (..., n_references)
        [nm^2]
    """
    xp = namespace(points)
    if references.rotate and references.weighs_alike:
        w = xp.asarray(references.align[0])
        x = points - w[None] @ points
        best = xp.linalg.eigvalsh(_horn(references.overlaps(x)))[..., -1]
        flat = x.reshape(*x.shape[:-2], x.shape[-2] * 3)  # products are quicker than sums of three
        size = (flat * flat) @ xp.asarray(np.repeat(references.align[0], 3))
        square = size[..., None] + xp.asarray(references.square_sizes) - 2 * best
        return xp.where(square > 0, square, square * 0)
    x = points[..., None, :, :]
    y, align, displace = (
        xp.asarray(a) for a in (references.points, references.align, references.displace)
    )
    x = x - (align[..., None] * x).sum(-2)[..., None, :]
    if not references.rotate:
        return _weighted_square(displace, x - y)
    overlap = x.swapaxes(-1, -2) @ (align[..., None] * y)
    if references.alike:  # without the rotation, whose gradient torch has only for unlike stretches
        best = xp.linalg.eigvalsh(_horn(overlap))[..., -1]
        square = _weighted_square(align, x) + _weighted_square(align, y) - 2 * best
        return xp.where(square > 0, square, square * 0)
    left, _, right = xp.linalg.svd(overlap)
    sign = _handedness(xp, left, right)
    signs = xp.stack([sign**2, sign**2, sign], -1)
    turned = x @ (left * signs[..., None, :]) @ right
    return _weighted_square(displace, turned - y)


# Horn's symmetric matrix, row by row, of a matrix S = sum_i w_i x_i y_i^T, row by row
_HORN = np.array([
    [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, -1, 0], [0, 0, 0, -1]],  # S_xx
    [[0, 0, 0, 1], [0, 0, 1, 0], [0, 1, 0, 0], [1, 0, 0, 0]],  # S_xy
    [[0, 0, -1, 0], [0, 0, 0, 1], [-1, 0, 0, 0], [0, 1, 0, 0]],  # S_xz
    [[0, 0, 0, -1], [0, 0, 1, 0], [0, 1, 0, 0], [-1, 0, 0, 0]],  # S_yx
    [[1, 0, 0, 0], [0, -1, 0, 0], [0, 0, 1, 0], [0, 0, 0, -1]],  # S_yy
    [[0, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 1], [0, 0, 1, 0]],  # S_yz
    [[0, 0, 1, 0], [0, 0, 0, 1], [1, 0, 0, 0], [0, 1, 0, 0]],  # S_zx
    [[0, -1, 0, 0], [-1, 0, 0, 0], [0, 0, 0, 1], [0, 0, 1, 0]],  # S_zy
    [[1, 0, 0, 0], [0, -1, 0, 0], [0, 0, -1, 0], [0, 0, 0, 1]],  # S_zz
], dtype=float).reshape(9, 16)  # fmt: skip


def _horn(overlap: Any) -> Any:
    """Horn's matrices, shape (..., 4, 4), of overlaps of shape (..., 3, 3).

    The largest eigenvalue is the largest trace of a rotation times the overlap, its eigenvector
    the quaternion of that rotation.
    """
    flat = overlap.reshape(*overlap.shape[:-2], 9) @ namespace(overlap).asarray(_HORN)
    return flat.reshape(*overlap.shape[:-2], 4, 4)


def _turns(quaternions: np.ndarray) -> np.ndarray:
    """Rotations as factors from the right of rows, (n, 3, 3), of quaternions (n, 4) of length 1."""
    w, x, y, z = quaternions.T
    return 2 * np.array([
        [0.5 - y * y - z * z, x * y + w * z, x * z - w * y],
        [x * y - w * z, 0.5 - x * x - z * z, y * z + w * x],
        [x * z + w * y, y * z - w * x, 0.5 - x * x - y * y],
    ]).transpose(2, 0, 1)  # fmt: skip


class Superposed:
    """Points of one frame superposed on references that weigh alike.

    Parameters
    ----------
    points : ndarray, shape (n_atoms, 3)
        [nm]
    references : References
        With `weighs_alike` and `rotate`.

    Attributes
    ----------
    square : ndarray, shape (n_references,)
        Mean square deviations [nm^2].
    """

    def __init__(self, points: np.ndarray, references: References) -> None:
        self._references = references
        w = references.align[0]
        self._x = x = points - w @ points
        values, vectors = np.linalg.eigh(_horn(references.overlaps(x)))
        square = (w @ (x * x)).sum() + references.square_sizes - 2 * values[:, -1]
        self.square = np.maximum(square, 0.0)
        self.turns = _turns(vectors[:, :, -1])  # of x onto the references

    def pulled(self, factors: np.ndarray) -> np.ndarray:
        """Gradient of a sum of the deviations times factors (n_references,): (n_atoms, 3) [nm].

        ``2 w (sum_k f_k x - sum_k f_k y_k R_k^T)``: neither centre nor rotation counts, for they
        are the best.
        """
        references = self._references
        turned = references._columns @ (factors[:, None, None] * self.turns.swapaxes(1, 2)).reshape(
            -1, 3
        )
        return 2 * (references.align[0][:, None] * (factors.sum() * self._x) - turned)


def best_rotation(points: Any, references: References) -> Any:
    """The rotation that brings centred points onto the first of the references.

    Parameters
    ----------
    points : ndarray or tensor, shape (..., n_atoms, 3)
        [nm]
    references : References

    Returns
    -------
    ndarray or tensor, shape (..., 3, 3)
        A factor from the right of points as rows.
    """
    xp = namespace(points)
    overlap = points.swapaxes(-1, -2) @ xp.asarray(references.weighted[0])
    left, _, right = xp.linalg.svd(overlap)
    sign = _handedness(xp, left, right)
    return (left * xp.stack([sign**2, sign**2, sign], -1)[..., None, :]) @ right


def _handedness(xp: Any, left: Any, right: Any) -> Any:
    """1 where a product of orthogonal matrices is a rotation, -1 where it reflects.

    From the matrices and not from the determinant of the overlap, which is nothing but rounding
    where all atoms lie in a plane.
    """
    return xp.where(xp.linalg.det(left) * xp.linalg.det(right) < 0, -1.0, 1.0)


def pulled_by_turn(
    turned: np.ndarray, y: np.ndarray, weights: np.ndarray, torque: np.ndarray
) -> np.ndarray:
    """What the turn of the best rotation pulls at the points that it is found from.

    A small turn omega of it keeps ``sum_i w_i u_i x y_i`` at zero, so
    ``(tr S - S) omega = sum_i w_i du_i x y_i``, with ``S = sum_i w_i u_i y_i^T``.

    Parameters
    ----------
    turned, y : ndarray, shape (n_atoms, 3)
        Points u, centred and rotated, and the reference, centred [nm].
    weights : ndarray, shape (n_atoms, 1)
        Of the superposition.
    torque : ndarray, shape (3,)
        What a turn about the centre adds [unit].

    Returns
    -------
    ndarray, shape (n_atoms, 3)
        Gradient by `turned` [unit / nm].
    """
    overlap = (weights * turned).T @ y
    stiff = np.trace(overlap) * np.eye(3) - overlap
    return weights * vector_product(y, np.linalg.solve(stiff.T, torque))


def _weighted_square(weights: Any, vectors: Any) -> Any:
    return (weights * (vectors * vectors).sum(-1)).sum(-1)


def deviation_gradient(points: np.ndarray, references: References) -> tuple[np.ndarray, np.ndarray]:
    """Mean square deviations of one frame, and their gradients.

    Parameters
    ----------
    points : ndarray, shape (n_atoms, 3)
        [nm]
    references : References

    Returns
    -------
    ndarray, shape (n_references,)
        [nm^2]
    ndarray, shape (n_references, n_atoms, 3)
        [nm]
    """
    y, v = references.points, references.displace[..., None]
    x = points - references.align[:, None, :] @ points
    if not references.rotate:
        slope = 2 * v * (x - y)
        square = np.einsum("kij,kij->k", slope, x - y) / 2
        return square, slope - references.align[..., None] * slope.sum(axis=1, keepdims=True)
    overlap = x.swapaxes(-1, -2) @ references.weighted
    left, _, right = np.linalg.svd(overlap)
    left[_handedness(np, left, right) < 0, :, 2] *= -1
    rotation = left @ right  # as a factor from the right
    turned = x @ rotation
    deviation = turned - y
    slope = 2 * v * deviation
    square = np.einsum("kij,kij->k", slope, deviation) / 2
    if references.alike:  # the rotation is the best and the centre the mean: neither counts
        return square, slope @ rotation.swapaxes(-1, -2)
    w = references.align[..., None]
    slope = (slope + _turning(turned, y, w, v)) @ rotation.swapaxes(-1, -2)
    return square, slope - w * slope.sum(axis=1, keepdims=True)


def deviations(
    points: np.ndarray, references: References
) -> tuple[np.ndarray, Callable[[np.ndarray], np.ndarray]]:
    """Mean square deviations of one frame, and the gradient of what is made of them.

    Parameters
    ----------
    points : ndarray, shape (n_atoms, 3)
        [nm]
    references : References

    Returns
    -------
    ndarray, shape (n_references,)
        [nm^2]
    callable
        Of factors (n_references,): the gradient of the sum of the deviations times these,
        (n_atoms, 3) [nm].
    """
    if references.rotate and references.weighs_alike:
        superposed = Superposed(points, references)
        return superposed.square, superposed.pulled
    square, slopes = deviation_gradient(points, references)
    return square, lambda factors: np.tensordot(factors, slopes, 1)


def _turning(turned: np.ndarray, y: np.ndarray, w: np.ndarray, v: np.ndarray) -> np.ndarray:
    """What the rotation's change adds to the gradient, in the frame of the reference."""
    overlap = (w * turned).swapaxes(-1, -2) @ y
    trace = np.trace(overlap, axis1=-2, axis2=-1)[:, None, None]
    m = y.swapaxes(-1, -2) @ (v * turned)
    torque = 2 * (m - m.swapaxes(-1, -2))[:, (1, 2, 0), (2, 0, 1)]  # sum of v y x R x
    s = np.linalg.solve(trace * np.eye(3) - overlap, torque[..., None])[..., 0]
    across = np.zeros_like(overlap)  # y @ across is y x s
    across[:, (1, 2, 0), (0, 1, 2)] = s[:, (2, 0, 1)]
    across[:, (2, 0, 1), (0, 1, 2)] = -s[:, (1, 2, 0)]
    return w * (y @ across)
