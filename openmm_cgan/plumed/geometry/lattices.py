"""Nearest images in boxes of any shape, as PLUMED finds them.

OpenMM's boxes are in reduced form and its forces take images axis after axis. The boxes of
trajectory files may be anything; the values of their frames are those that PLUMED prints.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import permutations, product

import numpy as np

_NEIGHBOURS = np.array(list(product((-1, 0, 1), repeat=3)), dtype=float)


class GeneralBox(np.ndarray):
    """Box vectors in rows, of one frame, that need not be in OpenMM's reduced form."""


def general_box(box: np.ndarray | None) -> np.ndarray | None:
    """The same box, marked as general unless it is orthorhombic."""
    if box is None or np.array_equal(box, np.diag(np.diag(box))):
        return box
    return np.asarray(box, dtype=float).view(GeneralBox)


def nearest_image(
    vector: tuple[np.ndarray, np.ndarray, np.ndarray], box: GeneralBox
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The shortest of all images of vectors.

    Parameters
    ----------
    vector : tuple of three ndarray, shape (...)
    box : GeneralBox, shape (3, 3)
    """
    rows = shortest_vectors(np.asarray(box))
    v = np.stack(np.broadcast_arrays(*vector), -1)
    v = v - np.round(v @ np.linalg.inv(rows)) @ rows
    for _ in range(2):
        images = v[..., None, :] + _NEIGHBOURS @ rows
        best = np.argmin(np.sum(images**2, axis=-1), axis=-1)
        v = np.take_along_axis(images, best[..., None, None], axis=-2)[..., 0, :]
    return v[..., 0], v[..., 1], v[..., 2]


def shortest_vectors(box: np.ndarray) -> np.ndarray:
    """Shortest vectors of the lattice of a box, as rows."""
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
