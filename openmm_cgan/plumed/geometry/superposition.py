"""Deviation of points from references after the best rotation, with its gradient.

The rotation is that of Kabsch, doi 10.1107/S0567739476001873. With weights w for the superposition
and v for the deviation, both summing to 1, and x, y centred with w:

    D = sum_i v_i |R x_i - y_i|^2,   R = argmin sum_i w_i |R x_i - y_i|^2

Where v is not w, R's own change counts. It turns by the small vector omega that keeps
sum_i w_i (R x_i) x y_i at zero, from which follows the last term of `deviation_gradient`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

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
    x = points[..., None, :, :]
    y, align, displace = (
        xp.asarray(a) for a in (references.points, references.align, references.displace)
    )
    x = x - (align[..., None] * x).sum(-2)[..., None, :]
    if not references.rotate:
        return _weighted_square(displace, x - y)
    overlap = x.swapaxes(-1, -2) @ (align[..., None] * y)
    left, stretches, right = xp.linalg.svd(overlap)
    sign = _handedness(xp, left, right)
    if references.alike:  # without the rotation, whose gradient torch has only for unlike stretches
        best = stretches[..., 0] + stretches[..., 1] + sign * stretches[..., 2]
        square = _weighted_square(align, x) + _weighted_square(align, y) - 2 * best
        return xp.where(square > 0, square, square * 0)
    signs = xp.stack([sign**2, sign**2, sign], -1)
    turned = x @ (left * signs[..., None, :]) @ right
    return _weighted_square(displace, turned - y)


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
    return weights * np.cross(y, np.linalg.solve(stiff.T, torque))


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
