"""Principal modes: the directions that carry the motion of aligned coordinates."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

# nm, root mean square over atoms: motion that is left out. Thermal vibrations of heavy atoms about
# their bonds and angles are of that size, and mending makes up for them.
LEFT_OUT = 0.02
MOST_MODES = 512


def principal_modes(x: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Modes of aligned configurations, as many as carry the motion.

    Parameters
    ----------
    x : ndarray, shape (n, n_atoms, 3)
        Deviations from their mean [nm].

    Returns
    -------
    modes : ndarray, shape (n_modes, 3 n_atoms)
        Orthonormal, those of the largest motion first; their signs are fixed.
    scale : ndarray, shape (n_modes,)
        Standard deviation along each [nm].
    """
    n, n_atoms = x.shape[:2]
    flat = x.reshape(n, -1)
    small = n < flat.shape[1]  # by the smaller of the two matrices that have the same modes
    square, vectors = np.linalg.eigh((flat @ flat.T if small else flat.T @ flat) / n)
    square, vectors = np.maximum(square[::-1], 0.0), vectors[:, ::-1]
    left = square.sum() - np.cumsum(square)
    enough = 1 + int(np.argmax(left <= n_atoms * LEFT_OUT**2))
    kept = min(enough, MOST_MODES, int((square > 1e-10 * square[0]).sum()))
    scale = np.sqrt(square[:kept])
    modes = vectors[:, :kept].T
    if small:
        modes = modes @ flat / (np.sqrt(n) * scale[:, None])
    largest = np.take_along_axis(modes, np.abs(modes).argmax(axis=1)[:, None], axis=1)
    return modes * np.sign(largest), scale
