"""Some frames that stand for all: far from each other, or of equal weight."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from openmm_cgan.diffusion_maps.distances import SquareDistances, feature_distances

BLOCK = 1_000_000  # numbers in a block of distances
FARTHEST = 2000  # frames among which the next landmarks are looked for


def farthest_landmarks(
    frames: NDArray[np.float64], n: int, square_distances: SquareDistances, first: int = 0
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Frames of which each is as far as can be from those before it (Gonzalez, 1985).

    Only the frames that are farthest so far are looked at, as long as one of them is farther than
    all others were: distances only shrink. Then all frames are compared with all new landmarks at
    once, which is a product of matrices where one after the other was to read all frames for each.

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
    nearest = np.full(len(frames), np.inf, dtype=np.float32)
    owner = np.zeros(len(frames), dtype=np.int64)
    chosen = [first]
    _compare(quick, np.array(chosen), 0, nearest, owner, square_distances)
    while len(chosen) < n and nearest.max() > 0:
        new = _farthest(quick, nearest, n - len(chosen), square_distances)
        _compare(quick, new, len(chosen), nearest, owner, square_distances)
        chosen += new.tolist()
    return np.array(chosen), owner


def _farthest(
    quick: NDArray[np.float32],
    nearest: NDArray[np.float32],
    n: int,
    square_distances: SquareDistances,
) -> NDArray[np.int64]:
    """The next landmarks, n at most, as far as the frames that are farthest now tell them."""
    few = np.arange(len(nearest))
    others = np.float32(0.0)  # what no other frame exceeds
    if len(nearest) > FARTHEST:
        order = np.argpartition(nearest, len(nearest) - FARTHEST - 1)
        others, few = nearest[order[-FARTHEST - 1]], np.sort(order[-FARTHEST:])
    own, candidates = nearest[few], quick[few]
    new: list[int] = []
    while len(new) < n:
        farthest = int(np.argmax(own))
        if new and own[farthest] <= others:
            break
        new.append(int(few[farthest]))
        apart = square_distances(candidates, candidates[farthest][None])[:, 0]
        own = np.minimum(own, apart)
        own[farthest] = 0.0
    return np.array(new)


def _compare(
    quick: NDArray[np.float32],
    new: NDArray[np.int64],
    place: int,
    nearest: NDArray[np.float32],
    owner: NDArray[np.int64],
    square_distances: SquareDistances,
) -> None:
    """Take new landmarks, the first of which has a place among all, into account, in place."""
    step = max(1, BLOCK // len(new))
    for start in range(0, len(quick), step):
        rows = slice(start, start + step)
        square = square_distances(quick[rows], quick[new])
        best = square.argmin(axis=1)
        least = square[np.arange(len(best)), best]
        if square_distances is feature_distances:  # without rounding: none between equal frames
            least = ((quick[rows] - quick[new[best]]) ** 2).sum(axis=1)
        closer = least < nearest[rows]
        owner[rows][closer] = place + best[closer]
        nearest[rows][closer] = least[closer]
    nearest[new], owner[new] = 0.0, place + np.arange(len(new))


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
