"""Nearest images in boxes of any shape, as PLUMED finds them.

OpenMM's boxes are in reduced form and its forces take images axis after axis. The boxes of
trajectory files may be anything; the values of their frames are those that PLUMED prints.
"""

from __future__ import annotations

from enum import Enum
from functools import lru_cache
from itertools import permutations, product
from typing import Any, NamedTuple

import numpy as np

_NEIGHBOURS = np.array(list(product((-1, 0, 1), repeat=3)), dtype=float)
# Rows of it that differ by even numbers, without the origin
_CLASSES = [
    np.flatnonzero((np.abs(_NEIGHBOURS) == parity).all(axis=1))
    for parity in product((0, 1), repeat=3)
    if any(parity)
]
_EDGE = 1 + 1e-12  # of rounding, in which of two images is nearer

_LEAST = 1e-12  # of a squared length, by which a shorter one is one
_SLACK = 1 + 1e-6  # of rounding, in what is reduced


class BoxForm(Enum):
    """What is known of box vectors."""

    RECTANGULAR = "each along its axis"
    REDUCED = "as OpenMM has them"
    GENERAL = "in any form"


def form_of_box(box: Any) -> BoxForm:
    """The form of a box, or the most general one of many boxes.

    Parameters
    ----------
    box : ndarray or tensor, shape (..., 3, 3)
        Box vectors in rows. Several boxes, and tensors, are taken to be in OpenMM's reduced form,
        or turned from it.
    """
    if not isinstance(box, np.ndarray) or box.size != 9:
        if (box[..., [0, 0, 1], [1, 2, 2]] != 0).any():
            return BoxForm.GENERAL
        triclinic = (box[..., [1, 2, 2], [0, 0, 1]] != 0).any()
        return BoxForm.REDUCED if triclinic else BoxForm.RECTANGULAR
    ax, ay, az, bx, by, bz, cx, cy, cz = box.ravel().tolist()
    above = ay or az or bz
    if not (above or bx or cx or cy):
        return BoxForm.RECTANGULAR
    right_handed = not above and ax > 0 and by > 0 and cz > 0
    widest = 2 * max(abs(bx), abs(cx)) <= ax * _SLACK and 2 * abs(cy) <= by * _SLACK
    return BoxForm.REDUCED if right_handed and widest else BoxForm.GENERAL


def nearest_image(
    vector: tuple[np.ndarray, np.ndarray, np.ndarray], box: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The shortest of all images of vectors, in a box of any form.

    Parameters
    ----------
    vector : tuple of three ndarray, shape (...)
        [nm]
    box : ndarray, shape (3, 3)
        Box vectors in rows [nm].

    Returns
    -------
    tuple of three ndarray, shape (...)
        [nm]
    """
    lattice = _lattice(np.asarray(box, dtype=float).tobytes())
    x, y, z = np.broadcast_arrays(*vector)
    v = np.array([x.ravel(), y.ravel(), z.ravel()], dtype=float)
    v -= lattice.columns @ np.round(lattice.inverse @ v)
    far = np.flatnonzero((v * v).sum(axis=0) > lattice.safe)
    if far.size:
        v[:, far] = _sliced(v[:, far], lattice)
    return v[0].reshape(x.shape), v[1].reshape(x.shape), v[2].reshape(x.shape)


class _Lattice(NamedTuple):
    """What is worked out once for a box.

    Attributes
    ----------
    columns, inverse : ndarray, shape (3, 3)
        Shortest vectors in columns [nm], and the inverse [1/nm].
    facing, squares : ndarray, shape (7, 3), (7,)
        The lattice points whose planes bound what is nearer to the origin than to any other [nm],
        one of a point and its negative; their squared lengths [nm^2].
    safe : float
        A vector of a squared length up to this has no shorter image [nm^2].
    """

    columns: np.ndarray
    inverse: np.ndarray
    facing: np.ndarray
    squares: np.ndarray
    safe: float


@lru_cache(maxsize=16)
def _lattice(box: bytes) -> _Lattice:
    """The lattice of a box.

    The points that face the origin are the shortest of each class that differs by twice lattice
    points: Conway, Sloane, Proc. R. Soc. A 436, 55 (1992), doi 10.1098/rspa.1992.0004.
    """
    rows = np.frombuffer(_reduced(box)).reshape(3, 3)
    lengths = np.sum((_NEIGHBOURS @ rows) ** 2, axis=1)
    shortest = [of_class[np.argmin(lengths[of_class])] for of_class in _CLASSES]
    squares = lengths[shortest]
    facing = _NEIGHBOURS[shortest] @ rows
    return _Lattice(rows.T, np.linalg.inv(rows).T, facing, squares, float(squares.min()) / 4)


def _sliced(v: np.ndarray, lattice: _Lattice) -> np.ndarray:
    """Vectors brought between all the planes halfway to the lattice points that face the origin.

    Each turn makes a vector shorter, so it ends; then no image is shorter. Sommer, Feder, Shalvi,
    SIAM J. Discrete Math. 23, 715 (2009), doi 10.1137/060676362.

    Parameters
    ----------
    v : ndarray, shape (3, n)
        [nm]
    lattice : _Lattice

    Returns
    -------
    ndarray, shape (3, n)
        [nm]
    """
    # what lies on a plane stays: rounding would send it to and fro for ever
    widths = lattice.squares[:, None] * _EDGE
    todo = np.arange(v.shape[1])
    while todo.size:
        turns = np.round((lattice.facing @ v[:, todo]) / widths)
        farthest = np.abs(turns).argmax(axis=0)
        turns = turns[farthest, np.arange(len(todo))]
        v[:, todo] -= lattice.facing[farthest].T * turns
        todo = todo[turns != 0]
    return v


def shortest_vectors(box: np.ndarray) -> np.ndarray:
    """Shortest vectors of the lattice of a box.

    Parameters
    ----------
    box : ndarray, shape (3, 3)
        Box vectors in rows [nm].

    Returns
    -------
    ndarray, shape (3, 3)
        In rows [nm].
    """
    return np.frombuffer(_reduced(np.asarray(box, dtype=float).tobytes())).reshape(3, 3).copy()


@lru_cache(maxsize=16)
def _reduced(box: bytes) -> bytes:
    """The same lattice by its shortest vectors (Minkowski-reduced, as bytes)."""
    rows = np.frombuffer(box).reshape(3, 3).copy()
    while (shorter := _shorter(rows)) is not None:
        i, row = shorter
        rows[i] = row
    return rows.tobytes()


def _shorter(rows: np.ndarray) -> tuple[int, np.ndarray] | None:
    """Which row is longer than itself with others added, and that sum; None if none is.

    Sought in plain floats, by the products of the rows, for it is asked of every new box.
    """
    products = (rows @ rows.T).tolist()
    for i, j, k in permutations(range(3)):
        ii, ij, ik = (products[i][other] for other in (i, j, k))
        jj, jk, kk = products[j][j], products[j][k], products[k][k]
        for m, n in product((-1, 0, 1), repeat=2):
            if m * m * jj + n * n * kk + 2 * (m * ij + n * ik + m * n * jk) < -_LEAST * ii:
                trial = rows[i] + m * rows[j] + n * rows[k]
                if trial @ trial < ii * (1 - _LEAST):  # so that it ends, whatever is rounded
                    return i, trial
    return None
