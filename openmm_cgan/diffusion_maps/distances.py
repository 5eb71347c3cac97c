"""Square distances between frames: of features, or after the best superposition."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from openmm_cgan.plumed.geometry.superposition import make_references, mean_square_deviation
from openmm_cgan.plumed.input.expressions import namespace

# Of frames (n, ...) from others (m, ...), numpy or torch; gives (n, m)
SquareDistances = Callable[[Any, Any], Any]

MAX_PAIRS = 200_000  # of frames, superposed at once
MOST_SLOW = 4  # slow directions that are turned to each other: more would take long
SINGULAR = 1e-14  # share of the largest variance that is rounding


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
    frames: NDArray[np.float64], covariances: NDArray[np.float64], n_slow: int | None = None
) -> NDArray[np.float64]:
    """Features with the local covariance of their noise, for the distances below.

    Parameters
    ----------
    frames : ndarray, shape (n, d)
    covariances : ndarray, shape (n, d, d)
        Of short bursts from each frame, to a common factor.
    n_slow : int, optional
        How many directions are slow, 0 to d: those of the smallest variances. By default those
        before the widest gap of the variances, or none where these are more than `MOST_SLOW`.

    Returns
    -------
    ndarray, shape (n, d + d * d + 1)
        Frames; the local directions in rows, slowest first, each over the root of its variance;
        the number of slow ones.

    Raises
    ------
    ValueError
        If shapes do not fit, or a covariance has no inverse (bursts of d runs or fewer).
    """
    n, d = np.shape(frames)
    if np.shape(covariances) != (n, d, d):
        raise ValueError(
            f"covariances have shape {np.shape(covariances)} for frames of shape {(n, d)}; "
            f"expected {(n, d, d)}"
        )
    variances, vectors = np.linalg.eigh(covariances)
    bad = np.flatnonzero(~(variances[:, 0] > SINGULAR * variances[:, -1]))
    if len(bad):
        raise ValueError(
            f"the covariance of frame {bad[0]} has no inverse ({len(bad)} have none): take more "
            f"than {d} runs for each, and features none of which follows from the others"
        )
    if n_slow is None:
        gaps = np.diff(np.log(variances).mean(axis=0))
        n_slow = int(gaps.argmax()) + 1 if d > 1 else 1
        n_slow = n_slow if n_slow <= MOST_SLOW else 0
    elif not 0 <= n_slow <= d:
        raise ValueError(f"n_slow is {n_slow}; expected 0 to {d}")
    directions = vectors.transpose(0, 2, 1) / np.sqrt(variances)[:, :, None]
    return np.column_stack([frames, directions.reshape(n, -1), np.full(n, float(n_slow))])


def mahalanobis_distances(frames: Any, others: Any) -> Any:
    """Square distances in units of the local noise, which tell slow directions from fast ones.

    Of Singer, Erban, Kevrekidis, Coifman (doi 10.1073/pnas.0905547106): where slow variables are
    hidden in coordinates that all move fast, these are the distances of the hidden variables, the
    fast ones scaled down by the root of the scale separation.

    Where slow variables bend, (x - y)^T M (x - y) averaged over the metrics M of both ends is too
    large by the fourth power of how far apart these are, also along what is fast and far. With M =
    J^T J, averaging J in place of M is exact for slow variables of second order. J is known to a
    rotation: that of one end is turned to be nearest to that of the other, slow rows alone.

    Parameters
    ----------
    frames, others : ndarray or tensor, shapes (n, d + d * d + 1) and (m, d + d * d + 1)
        As `with_local_metric` gives them.

    Returns
    -------
    ndarray or tensor, shape (n, m)
    """
    d = int((np.sqrt(4 * frames.shape[1] - 3) - 1) / 2)
    n_slow = int(others[0, -1])
    centre = others[:, :d].mean(0)  # far from zero, the differences below would lose their digits
    x, y = frames[:, :d] - centre, others[:, :d] - centre
    own, other = (a[:, d:-1].reshape(-1, d, d) for a in (frames, others))
    square = (_by_metric_of(other, y, x) + _by_metric_of(own, x, y).T) / 2
    if n_slow:
        square = square - _bent(own[:, :n_slow], other[:, :n_slow], x, y)
    return square.clip(0) if isinstance(square, np.ndarray) else square.clamp_min(0)


def _by_metric_of(directions: Any, y: Any, x: Any) -> Any:
    """(x - y) M_y (x - y) for owners y of directions (m, d, d), shape (n, m)."""
    d = x.shape[1]
    metric = (directions.swapaxes(1, 2) @ directions).reshape(-1, d * d)
    products = (x[:, :, None] * x[:, None, :]).reshape(len(x), d * d)
    turned = (metric.reshape(-1, d, d) @ y[:, :, None])[:, :, 0]
    return products @ metric.T - 2 * x @ turned.T + (y * turned).sum(1)


def _bent(own: Any, other: Any, x: Any, y: Any) -> Any:
    """|J_x (x - y) - Q J_y (x - y)|^2 / 4 for J (n, r, d) and (m, r, d), shape (n, m).

    It is what the mean of the squares of two vectors has beyond the square of their mean.
    """
    xp = namespace(x)
    mine = (own @ x[:, :, None])[:, None, :, 0] - xp.einsum("nrd,md->nmr", own, y)
    theirs = xp.einsum("mrd,nd->nmr", other, x) - (other @ y[:, :, None])[None, :, :, 0]
    alike = xp.einsum("nrd,msd->nmrs", own, other)
    if own.shape[1] == 1:
        turned = xp.where(alike[..., 0] < 0, -theirs, theirs)
    else:
        left, _, right = xp.linalg.svd(alike)
        turned = (left @ (right @ theirs[..., None]))[..., 0]
    return ((mine - turned) ** 2).sum(-1) / 4


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
