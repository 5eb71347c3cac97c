"""Square distances between frames: of features, or after the best superposition."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from openmm_cgan.plumed.geometry.superposition import make_references, mean_square_deviation

# Of frames (n, ...) from others (m, ...), numpy or torch; gives (n, m)
SquareDistances = Callable[[Any, Any], Any]

MAX_PAIRS = 200_000  # of frames, superposed at once


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
    centre = others.mean(0)  # far from zero, the differences below would lose their digits
    frames, others = frames - centre, others - centre
    sizes, other_sizes = (frames * frames).sum(1)[:, None], (others * others).sum(1)
    products = frames @ (-2 * others).T
    if not isinstance(products, np.ndarray):
        return (sizes + other_sizes + products).clamp_min(0)
    products += sizes  # in place: to fill memory anew takes longer than to add
    products += other_sizes
    return np.maximum(products, 0, out=products)


def with_local_metric(
    frames: NDArray[np.float64], covariances: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Features with the inverse of the local covariance of their noise, for the distances below.

    Parameters
    ----------
    frames : ndarray, shape (n, d)
    covariances : ndarray, shape (n, d, d)
        Of short bursts from each frame, to a common factor.

    Returns
    -------
    ndarray, shape (n, d + d * d)
    """
    inverse = np.linalg.inv(covariances)
    return np.concatenate([frames, inverse.reshape(len(frames), -1)], axis=1)


def mahalanobis_distances(frames: Any, others: Any) -> Any:
    """Square distances in units of the local noise, which tell slow directions from fast ones.

    Of Singer, Erban, Kevrekidis, Coifman (doi 10.1073/pnas.0905547106): where slow variables are
    hidden in coordinates that all move fast, these are the distances of the hidden variables, the
    fast ones scaled down by the root of the scale separation.

    Parameters
    ----------
    frames, others : ndarray or tensor, shapes (n, d + d * d) and (m, d + d * d)
        As `with_local_metric` gives them.

    Returns
    -------
    ndarray or tensor, shape (n, m)
    """
    d = int((np.sqrt(1 + 4 * frames.shape[1]) - 1) / 2)
    square = (_by_metric_of(others, frames, d) + _by_metric_of(frames, others, d).T) / 2
    return square.clip(0) if isinstance(square, np.ndarray) else square.clamp_min(0)


def _by_metric_of(owners: Any, frames: Any, d: int) -> Any:
    """(x - y) M_y (x - y) for owners y, shape (n_frames, n_owners)."""
    centre = owners[:, :d].mean(0)
    x, y, metric = frames[:, :d] - centre, owners[:, :d] - centre, owners[:, d:]
    products = (x[:, :, None] * x[:, None, :]).reshape(len(x), d * d)
    turned = (metric.reshape(-1, d, d) @ y[:, :, None])[:, :, 0]
    return products @ metric.T - 2 * x @ turned.T + (y * turned).sum(1)


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

    Raises
    ------
    ValueError
        If these are no positions.
    """
    if frames.ndim != 3 or frames.shape[-1] != 3:
        raise ValueError(
            f"frames of shape {tuple(frames.shape)}: positions (n, n_atoms, 3) are superposed; a "
            "table (n, n_features) takes feature_distances"
        )
    if not isinstance(frames, np.ndarray):
        same = np.ones(others.shape[:2])
        references = make_references(np.asarray(others), same, same, rotate=True)
        return mean_square_deviation(frames, references)
    step = max(1, MAX_PAIRS // len(others))
    y = np.asarray(others - others.mean(axis=1, keepdims=True), dtype=float)
    starts = range(0, len(frames), step)
    return np.concatenate([_superposed(frames[i : i + step], y) for i in starts])


def _superposed(frames: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
    """The same for centred others, many pairs at once, without a decomposition of each."""
    x = np.asarray(frames - frames.mean(axis=1, keepdims=True), dtype=float)
    overlap = np.tensordot(x, y, ((1,), (1,)))  # (n, 3, m, 3)
    sizes = (x * x).sum(axis=(1, 2))[:, None] + (y * y).sum(axis=(1, 2))
    square = (sizes - 2 * _best_overlap(overlap.transpose(1, 3, 0, 2))) / y.shape[1]
    return square.clip(0)


def _best_overlap(r: NDArray[np.float64]) -> NDArray[np.float64]:
    """Largest trace of a rotation times matrices of shape (3, 3, ...).

    The sum of the roots of the eigenvalues of R^T R, in closed form (Smith, doi
    10.1145/355578.366316), the smallest with the sign of det R.
    """
    a, b, c = ((r[:, i] * r[:, i]).sum(axis=0) for i in range(3))
    d, e, f = ((r[:, i] * r[:, j]).sum(axis=0) for i, j in ((0, 1), (0, 2), (1, 2)))
    mean = (a + b + c) / 3
    a, b, c = a - mean, b - mean, c - mean
    spread = np.sqrt((a * a + b * b + c * c + 2 * (d * d + e * e + f * f)) / 6)
    third = a * (b * c - f * f) - d * (d * c - f * e) + e * (d * f - b * e)
    with np.errstate(divide="ignore", invalid="ignore"):
        cosine = np.where(spread > 0, third / (2 * spread**3), 1.0).clip(-1, 1)
    angle = np.arccos(cosine) / 3
    largest = mean + 2 * spread * np.cos(angle)
    least = mean + 2 * spread * np.cos(angle + 2 * np.pi / 3)
    det = (
        r[0, 0] * (r[1, 1] * r[2, 2] - r[1, 2] * r[2, 1])
        - r[0, 1] * (r[1, 0] * r[2, 2] - r[1, 2] * r[2, 0])
        + r[0, 2] * (r[1, 0] * r[2, 1] - r[1, 1] * r[2, 0])
    )
    roots = np.sqrt(largest.clip(0)) + np.sqrt((3 * mean - largest - least).clip(0))
    return roots + np.sign(det) * np.sqrt(least.clip(0))
