"""Deviation of points from references after the best rotation, with its gradient.

The rotation is that of Kabsch, doi 10.1107/S0567739476001873. With weights w for the superposition
and v for the deviation, both summing to 1, and x, y centred with w:

    D = sum_i v_i |R x_i - y_i|^2,   R = argmin sum_i w_i |R x_i - y_i|^2

Where v is not w, R's own change counts. It turns by the small vector omega that keeps
sum_i w_i (R x_i) x y_i at zero, from which follows the last term of `deviation_gradient`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from openmm_cgan.plumed.expressions import namespace


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

    @property
    def alike(self) -> bool:
        """Whether the weights of superposition and deviation are the same."""
        return bool(np.all(self.align == self.displace))

    @property
    def equal(self) -> bool:
        """Whether all weights are equal."""
        return self.alike and bool(np.all(self.align == self.align[0, 0]))


def make_references(
    points: np.ndarray, occupancy: np.ndarray, beta: np.ndarray, rotate: bool
) -> References:
    """References from the columns of a PDB file, each of shape (n_references, n_atoms)."""
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
    sign = xp.sign(xp.linalg.det(left) * xp.linalg.det(right))
    if references.alike:  # without the rotation, whose gradient torch has only for unlike stretches
        best = stretches[..., 0] + stretches[..., 1] + sign * stretches[..., 2]
        square = _weighted_square(align, x) + _weighted_square(align, y) - 2 * best
        return xp.where(square > 0, square, square * 0)
    signs = xp.stack([sign * 0 + 1, sign * 0 + 1, sign], -1)
    turned = x @ (left * signs[..., None, :]) @ right
    return _weighted_square(displace, turned - y)


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
    y, w, v = references.points, references.align[..., None], references.displace[..., None]
    x = points - (w * points).sum(axis=1, keepdims=True)
    turned, rotation = x, None
    if references.rotate:
        left, _, right = np.linalg.svd(x.swapaxes(-1, -2) @ (w * y))
        left[..., 2] *= np.sign(np.linalg.det(left) * np.linalg.det(right))[:, None]
        rotation = left @ right  # rows are turned by x @ rotation
        turned = x @ rotation
    apart = turned - y
    square = (v * apart * apart).sum(axis=(1, 2))
    slope = 2 * v * apart
    if rotation is not None:
        if not references.alike:
            slope = slope + _turning(turned, y, w, v)
        slope = slope @ rotation.swapaxes(-1, -2)
    return square, slope - w * slope.sum(axis=1, keepdims=True)


def _turning(turned: np.ndarray, y: np.ndarray, w: np.ndarray, v: np.ndarray) -> np.ndarray:
    """What the rotation's change adds to the gradient, in the frame of the reference."""
    overlap = (w * turned).swapaxes(-1, -2) @ y
    trace = np.trace(overlap, axis1=-2, axis2=-1)[:, None, None]
    torque = 2 * np.cross(y, v * turned).sum(axis=1)
    s = np.linalg.solve(trace * np.eye(3) - overlap, torque[..., None])[..., 0]
    return w * np.cross(y, s[:, None, :])
