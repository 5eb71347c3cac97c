"""Some frames that stand for all: far from each other, or of equal weight."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from openmm_cgan.diffusion_maps.distances import SquareDistances, feature_distances

BLOCK = 8_000_000  # numbers in a block of distances


def farthest_landmarks(
    frames: NDArray[np.float64], n: int, square_distances: SquareDistances, first: int = 0
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Frames of which each is as far as can be from those before it (Gonzalez, 1985).

    Parameters
    ----------
    frames : ndarray, shape (n_frames, ...)
    n : int
    square_distances : callable
    first : int
        The frame to begin with.

    Returns
    -------
    ndarray, shape (n,)
        Numbers of the landmarks; fewer where there are fewer different frames.
    ndarray, shape (n_frames,)
        For each frame the landmark that is nearest, by its place among them.
    """
    if square_distances is feature_distances:
        frames = frames - frames.mean(axis=0)  # single precision is of what differs
    quick = np.ascontiguousarray(frames, np.float32)  # the last digits do not decide much
    if square_distances is feature_distances:  # whose squares need not be summed at each landmark
        sizes = (quick * quick).sum(1)
    nearest = np.full(len(frames), np.inf, dtype=np.float32)
    owner = np.zeros(len(frames), dtype=np.int64)
    chosen = [first]
    while True:
        last = quick[chosen[-1]]
        if square_distances is feature_distances:
            square = sizes - 2 * (quick @ last) + sizes[chosen[-1]]
        else:
            square = square_distances(quick, last[None])[:, 0]
        closer = square < nearest
        owner[closer] = len(chosen) - 1
        nearest[closer] = square[closer]
        nearest[chosen[-1]], owner[chosen[-1]] = 0.0, len(chosen) - 1
        if len(chosen) == n or nearest.max() <= 0:
            return np.array(chosen), owner
        chosen.append(int(np.argmax(nearest)))


def weighted_landmarks(
    frames: NDArray[np.float64],
    weights: NDArray[np.float64],
    n: int,
    square_distances: SquareDistances,
    seed: int = 0,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Frames drawn by their weights, at equal steps of the weight summed up.

    Parameters
    ----------
    frames : ndarray, shape (n_frames, ...)
    weights : ndarray, shape (n_frames,)
    n : int
    square_distances : callable
    seed : int

    Returns
    -------
    ndarray, shape (at most n,)
    ndarray, shape (n_frames,)
        As of `farthest_landmarks`.
    """
    summed = np.cumsum(weights) / np.sum(weights)
    steps = (np.arange(n) + np.random.default_rng(seed).random()) / n
    chosen = np.unique(np.searchsorted(summed, steps, side="right").clip(max=len(frames) - 1))
    return chosen, nearest_landmarks(frames, frames[chosen], square_distances)


def nearest_landmarks(
    frames: NDArray[np.float64], landmarks: NDArray[np.float64], square_distances: SquareDistances
) -> NDArray[np.int64]:
    """For each frame, shape (n_frames,), the place of the landmark that is nearest."""
    step = max(1, BLOCK // len(landmarks))
    blocks = [
        np.argmin(square_distances(frames[i : i + step], landmarks), axis=1)
        for i in range(0, len(frames), step)
    ]
    return np.concatenate(blocks)
