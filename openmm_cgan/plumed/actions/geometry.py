"""Vectors for numpy and torch alike."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from openmm_cgan.plumed.actions.lattices import GeneralBox, nearest_image
from openmm_cgan.plumed.expressions import namespace

# Vectors are tuples of their components: quick for the single frames of a reporter, where each
# call of numpy costs more than its arithmetic, and the same speed for batches.
Vector = tuple[Any, Any, Any]


def subtract(a: Vector, b: Vector) -> Vector:
    """``a - b``."""
    return a[0] - b[0], a[1] - b[1], a[2] - b[2]


def dot(a: Vector, b: Vector) -> Any:
    """Scalar product."""
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


def cross(a: Vector, b: Vector) -> Vector:
    """Vector product."""
    return (
        a[1] * b[2] - a[2] * b[1],
        a[2] * b[0] - a[0] * b[2],
        a[0] * b[1] - a[1] * b[0],
    )


def minimum_image(vector: Vector, box: Any) -> Vector:
    """Bring vectors to their nearest image as OpenMM does, axis after axis from c to a.

    Parameters
    ----------
    vector : tuple of ndarray or tensor, shape (...)
    box : ndarray or tensor, shape (..., 3, 3)
        Box vectors in rows, in OpenMM's reduced form; of any form if it is a `GeneralBox`.
    """
    if isinstance(box, GeneralBox):
        return nearest_image(vector, box)
    x, y, z = vector
    floor = namespace(box).floor
    turns = floor(z / box[..., 2, 2] + 0.5)
    x, y, z = (v - turns * box[..., 2, axis] for axis, v in enumerate((x, y, z)))
    turns = floor(y / box[..., 1, 1] + 0.5)
    x, y = x - turns * box[..., 1, 0], y - turns * box[..., 1, 1]
    return x - floor(x / box[..., 0, 0] + 0.5) * box[..., 0, 0], y, z


def whole(atoms: tuple[int, ...], positions: Any, box: Any) -> list[Vector]:
    """Positions of a group, each atom at the image nearest to the one before it.

    Parameters
    ----------
    atoms : tuple of int
    positions : ndarray or tensor, shape (..., n_atoms, 3)
    box : ndarray or tensor, shape (..., 3, 3), or None
        None leaves the positions as they are.
    """
    points = [(positions[..., a, 0], positions[..., a, 1], positions[..., a, 2]) for a in atoms]
    if box is None:
        return points
    made = points[:1]
    for before, after in pairwise(points):
        step = minimum_image(subtract(after, before), box)
        made.append((made[-1][0] + step[0], made[-1][1] + step[1], made[-1][2] + step[2]))
    return made


def weighted_mean(weights: list[float], points: list[Vector]) -> Vector:
    """Mean of points with weights that sum to 1."""
    x, y, z = (
        sum(w * point[axis] for w, point in zip(weights, points, strict=True)) for axis in range(3)
    )
    return x, y, z
