"""Nearest images in boxes of any shape, as PLUMED finds them.

OpenMM's boxes are in reduced form and its forces take images axis after axis. The boxes of
trajectory files may be anything; the values of their frames are those that PLUMED prints.
"""

from __future__ import annotations

from enum import Enum
from functools import lru_cache
from itertools import permutations, product
from typing import Any

import numpy as np

_NEIGHBOURS = np.array(list(product((-1, 0, 1), repeat=3)), dtype=float)


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
    rows = shortest_vectors(box)
    v = np.stack(np.broadcast_arrays(*vector), -1)
    v = v - np.round(v @ np.linalg.inv(rows)) @ rows
    for _ in range(2):
        images = v[..., None, :] + _NEIGHBOURS @ rows
        best = np.argmin(np.sum(images**2, axis=-1), axis=-1)
        v = np.take_along_axis(images, best[..., None, None], axis=-2)[..., 0, :]
    return v[..., 0], v[..., 1], v[..., 2]


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
    changed = True
    while changed:
        changed = False
        for i, j, k in permutations(range(3)):
            for m, n in product((-1, 0, 1), repeat=2):
                trial = rows[i] + m * rows[j] + n * rows[k]
                if trial @ trial < (rows[i] @ rows[i]) * (1 - 1e-12):
                    rows[i], changed = trial, True
    return rows.tobytes()
