"""Arrays of coordinates that the metrics take: checked, thinned, and made from positions."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from openmm_cgan.quantities import nanometers

Domain = tuple[float, float]


def pair_distances(positions: ArrayLike) -> NDArray[np.float64]:
    """Distances between all pairs of atoms: coordinates that do not turn with the molecule.

    Parameters
    ----------
    positions : array_like or Quantity, shape (n_frames, n_atoms, 3)
        Positions of one whole molecule [nm].

    Returns
    -------
    ndarray, shape (n_frames, n_atoms (n_atoms - 1) / 2)
        Distances [nm].
    """
    positions = nanometers(positions)
    first, second = np.triu_indices(positions.shape[1], k=1)
    return np.linalg.norm(positions[:, first] - positions[:, second], axis=-1)


def thinned(frames: NDArray[np.float64], size: int) -> NDArray[np.float64]:
    """Exactly ``size`` frames, evenly spaced in time.

    Parameters
    ----------
    frames : ndarray, shape (n, ...)
        In their order in time.
    size : int
        At most n.

    Returns
    -------
    ndarray, shape (size, ...)
    """
    return frames[np.arange(size) * len(frames) // size]


def one_coordinate(sample: ArrayLike, name: str) -> NDArray[np.float64]:
    """A sample of one coordinate, checked.

    Parameters
    ----------
    sample : array_like, shape (n,)
        Its values [any unit].
    name : str
        What to call it in an error.

    Raises
    ------
    ValueError
        If it has another shape, no value, or one that is not finite.
    """
    sample = np.asarray(sample, dtype=float)
    if sample.ndim != 1 or sample.size == 0 or not np.isfinite(sample).all():
        raise ValueError(f"{name} has shape {sample.shape}: expected (n,) finite values, n > 0")
    return sample


def coordinate_table(frames: ArrayLike, name: str) -> NDArray[np.float64]:
    """Coordinates of frames, checked.

    Parameters
    ----------
    frames : array_like, shape (n_frames, n_coordinates)
        [any unit]
    name : str
        What to call them in an error.

    Raises
    ------
    ValueError
        If they have another shape, no frame, or a value that is not finite.
    """
    frames = np.asarray(frames, dtype=float)
    if frames.ndim != 2 or len(frames) == 0 or not np.isfinite(frames).all():
        raise ValueError(
            f"{name} has shape {frames.shape}: expected (n_frames, n_coordinates) finite values"
        )
    return frames


def require_same_coordinates(first: NDArray[np.float64], second: NDArray[np.float64]) -> None:
    """Refuse to compare frames of shapes (n, d) and (m, other than d), with ValueError."""
    if first.shape[1] != second.shape[1]:
        raise ValueError(f"{first.shape[1]} coordinates cannot be compared with {second.shape[1]}")
