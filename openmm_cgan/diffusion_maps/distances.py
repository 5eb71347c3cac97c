"""Square distances between frames: of features, or after the best superposition."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from openmm_cgan.plumed.geometry.superposition import make_references, mean_square_deviation

# Of frames (n, ...) from others (m, ...), numpy or torch; gives (n, m)
SquareDistances = Callable[[Any, Any], Any]

MAX_PAIRS = 2_000_000  # of frames, superposed at once


def feature_distances(frames: Any, others: Any) -> Any:
    """Square Euclidean distances between rows of features.

    Parameters
    ----------
    frames : ndarray or tensor, shape (n, n_features)
    others : ndarray or tensor, shape (m, n_features)

    Returns
    -------
    ndarray or tensor, shape (n, m)
        [unit of the features squared]
    """
    square = (frames * frames).sum(1)[:, None] + (others * others).sum(1) - 2 * frames @ others.T
    return square.clip(0) if isinstance(square, np.ndarray) else square.clamp_min(0)


def superposed_distances(frames: Any, others: Any) -> Any:
    """Mean square deviations after the best superposition, all atoms weighing the same.

    Hand over the atoms that count, such as heavy ones: equivalent hydrogens are not exchanged.

    Parameters
    ----------
    frames : ndarray or tensor, shape (n, n_atoms, 3)
        [nm]
    others : ndarray, shape (m, n_atoms, 3)
        [nm]

    Returns
    -------
    ndarray or tensor, shape (n, m)
        [nm^2]
    """
    same = np.ones(others.shape[:2])
    references = make_references(np.asarray(others), same, same, rotate=True)
    if not isinstance(frames, np.ndarray):
        return mean_square_deviation(frames, references)
    step = max(1, MAX_PAIRS // (len(others) * others.shape[1]))
    blocks = [
        mean_square_deviation(frames[i : i + step], references) for i in range(0, len(frames), step)
    ]
    return np.concatenate(blocks)
