"""Gaussian kernels exp(-d^2 / 4 eps) between frames, and how eps is chosen.

The sum criterion (Coifman, Shkolnisky, Sigworth, Singer, doi 10.1109/TIP.2008.2002305): the sum S
of the kernel over all pairs goes from n at small eps to n^2 at large; between, log S grows by half
the dimension of the data for each unit of log eps. eps is taken where it grows fastest, but no
smaller than leaves most frames some neighbours.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.spatial import cKDTree

from openmm_cgan.diffusion_maps.distances import SquareDistances, feature_distances
from openmm_cgan.short_reprs import short_repr

CUT = 1e-8  # entries of a kernel below this are left out
BLOCK = 1_000_000  # numbers in a block of distances
MAX_FRAMES = 800  # of a bandwidth
TREE_DIMENSIONS = 6  # up to which a tree finds neighbours quicker than all distances are worked out
NEIGHBOURS = 12  # that nine frames of ten have within the width of the kernel, at least
FEW_ROWS = 100  # of a kernel, that tell how many of its entries are kept
DENSE_SHARE = 0.3  # of entries that are kept, above which a dense kernel is smaller and quicker


@dataclass(frozen=True)
class Bandwidth:
    """The bandwidth of a kernel, and what it is chosen by.

    Attributes
    ----------
    chosen : float
        eps of exp(-d^2 / 4 eps) [unit of the distances squared]: at the steepest slope, or the
        least that leaves most frames some neighbours.
    tried : ndarray, shape (n,)
        Bandwidths, ascending.
    log_sums : ndarray, shape (n,)
        log of the mean of the kernel over pairs, for each.
    slopes : ndarray, shape (n,)
        d log S / d log eps; twice the largest is the dimension of the data.
    """

    chosen: float
    tried: NDArray[np.float64]
    log_sums: NDArray[np.float64]
    slopes: NDArray[np.float64]

    __repr__ = short_repr


def choose_bandwidth(
    frames: NDArray[np.float64],
    square_distances: SquareDistances = feature_distances,
    *,
    n_tried: int = 61,
    seed: int = 0,
) -> Bandwidth:
    """The bandwidth at the steepest rise of the sum of the kernel.

    Parameters
    ----------
    frames : ndarray, shape (n, ...)
    square_distances : callable
    n_tried : int
    seed : int
        Of the `MAX_FRAMES` frames that are looked at where there are more.

    Raises
    ------
    ValueError
        If there are fewer than three different frames, or a distance is infinite or no number.
    """
    some = frames
    if len(frames) > MAX_FRAMES:
        chosen = np.random.default_rng(seed).choice(len(frames), MAX_FRAMES, replace=False)
        some = frames[np.sort(chosen)]
    to_all = square_distances(some, frames)
    if not np.isfinite(to_all).all():
        raise ValueError(
            f"the square distance of two frames is {to_all[~np.isfinite(to_all)][0]}, expected a "
            "finite one: give features of another scale, finite square_distances, or a bandwidth"
        )
    k = min(NEIGHBOURS, len(frames) - 1)
    reach = np.quantile(np.partition(to_all, k, axis=1)[:, k], 0.9)
    square = square_distances(some, some)
    apart = square[~np.eye(len(some), dtype=bool)]
    apart = apart[apart > 1e-12 * apart.max(initial=0)]
    if len(apart) < 6:
        raise ValueError("a bandwidth needs at least three different frames")
    tried = np.geomspace(np.quantile(apart, 0.001) / 40, apart.max(), n_tried)
    sums, slopes = np.zeros(n_tried), np.zeros(n_tried)
    for i, eps in enumerate(tried):
        reduced = square / (4 * eps)
        kernel = np.exp(-reduced)
        sums[i], slopes[i] = kernel.mean(), (reduced * kernel).sum() / kernel.sum()
    steepest = float(tried[np.argmax(slopes)])
    least = float(reach) / 2  # the square of the width of the kernel is 2 eps
    return Bandwidth(max(steepest, least), tried, np.log(sums), slopes)


def gaussian_kernel(
    frames: NDArray[np.float64], bandwidth: float, square_distances: SquareDistances
) -> Any:
    """The kernel between all frames, entries below `CUT` left out.

    Parameters
    ----------
    frames : ndarray, shape (n, ...)
    bandwidth : float
    square_distances : callable

    Returns
    -------
    ndarray or csr_array, shape (n, n)
        Sparse where that is smaller.
    """
    farthest = -4 * bandwidth * np.log(CUT)
    if square_distances is feature_distances and frames.shape[1] <= TREE_DIMENSIONS:
        found = cKDTree(frames)
        pairs = found.sparse_distance_matrix(found, np.sqrt(farthest), output_type="coo_matrix")
        kernel = sparse.csr_array(pairs)
        kernel.data = np.exp(-(kernel.data**2) / (4 * bandwidth))
        kernel.setdiag(1.0)
        return kernel.toarray() if kernel.nnz > DENSE_SHARE * len(frames) ** 2 else kernel
    starts = range(0, len(frames), max(1, BLOCK // len(frames)))
    parts = (_cut_kernel(frames[i : i + starts.step], frames, bandwidth, square_distances)
             for i in starts)  # fmt: skip
    some = square_distances(frames[:: max(1, len(frames) // FEW_ROWS)], frames)
    if np.mean(some <= farthest) > DENSE_SHARE:
        kernel = np.empty((len(frames), len(frames)))
        for start, part in zip(starts, parts, strict=True):
            kernel[start : start + len(part)] = part
    else:
        kernel = sparse.csr_array(sparse.vstack([sparse.csr_array(part) for part in parts]))
    return (kernel + kernel.T) / 2  # of rounding in the distances


def _cut_kernel(
    frames: NDArray[np.float64],
    others: NDArray[np.float64],
    bandwidth: float,
    square_distances: SquareDistances,
) -> NDArray[np.float64]:
    """Rows of the kernel, zero below `CUT`."""
    kernel = square_distances(frames, others) / (-4 * bandwidth)
    if np.isnan(kernel).any():
        raise ValueError("the square distance of two frames is not a number")
    kernel[kernel < np.log(CUT)] = -np.inf
    return np.asarray(np.exp(kernel, out=kernel))
