"""Groups of frames without neighbours between them: joined, or tied where they are outliers."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse.csgraph import connected_components

from openmm_cgan.diffusion_maps.distances import SquareDistances
from openmm_cgan.diffusion_maps.kernels import gaussian_kernel

NEAR = 1e-4  # of the kernel, between frames that count as neighbours
FAINT = 1e-2  # of the kernel, below which outliers are not near: few ways lead to them
SMALL_GROUP = 0.002  # share of the frames, up to which a group is but some outliers
LIGHT = 1e-6  # mass of an outlier over that of the frame it is placed as
LOOKED_FROM = 32  # frames, how far the others are
HALVINGS = 4  # of the step of a bandwidth that joins groups

log = logging.getLogger("openmm_cgan")


def joining_kernel(
    landmarks: NDArray[np.float64], bandwidth: float, square_distances: SquareDistances
) -> tuple[float, Any]:
    """About the least bandwidth that joins all groups of frames, and its kernel.

    Where few frames lead from one group to another, it is far above what each group asks for, and
    any more would blur what is slow within them: it is found by doubling, then by halving the step.

    Raises
    ------
    ValueError
        If none joins them: some are infinitely far from others.
    """
    some = square_distances(landmarks[:: -(-len(landmarks) // LOOKED_FROM)], landmarks)
    farthest = 4 * float(some.max(initial=0.0, where=np.isfinite(some)))  # between any two of them
    while True:
        if bandwidth > farthest:
            raise ValueError(
                "no bandwidth joins the frames: some are infinitely far from others. Give finite "
                "square_distances, or DiffusionMapSettings(bandwidth=...) for a map of each group"
            )
        apart, bandwidth = bandwidth, 2 * bandwidth
        kernel = gaussian_kernel(landmarks, bandwidth, square_distances)
        if groups_of(kernel) == 1:
            break
    for _ in range(HALVINGS):
        between = float(np.sqrt(apart * bandwidth))
        tried = gaussian_kernel(landmarks, between, square_distances)
        if groups_of(tried) > 1:
            apart = between
        else:
            bandwidth, kernel = between, tried
    return bandwidth, kernel


def groups_of(kernel: Any) -> int:
    """Number of groups without neighbours between them; those of few frames are not counted."""
    labels = group_of_each(kernel, NEAR)
    return int(np.sum(np.bincount(labels) > SMALL_GROUP * len(labels)))


def group_of_each(kernel: Any, least: float) -> NDArray[np.int64]:
    """Number of the group that each frame is in, shape (m,), by the least kernel of neighbours."""
    return np.asarray(connected_components(sparse.csr_array(kernel >= least))[1], dtype=np.int64)


def with_outliers(
    kernel: Any,
    masses: NDArray[np.float64],
    landmarks: NDArray[np.float64],
    square_distances: SquareDistances,
) -> tuple[Any, NDArray[np.float64]]:
    """Tie frames in groups of few to the nearest frame of a large group, as light ends of it.

    Frames that hardly anything leads to would be the slowest coordinate that there is, and all
    others the same in it.

    Parameters
    ----------
    kernel : ndarray or csr_array, shape (m, m)
    masses : ndarray, shape (m,)
        w q^-alpha
    landmarks : ndarray, shape (m, ...)
    square_distances : callable

    Returns
    -------
    kernel : ndarray or csr_array, shape (m, m)
    masses : ndarray, shape (m,)
    """
    labels = group_of_each(kernel, FAINT)
    few = (np.bincount(labels) <= SMALL_GROUP * len(labels))[labels]
    if few.all() or not few.any():
        return kernel, masses
    own, others = np.flatnonzero(few), np.flatnonzero(~few)
    nearest = others[square_distances(landmarks[own], landmarks[others]).argmin(axis=1)]
    log.info("%d frames have few neighbours or none: each is placed as the nearest other", len(own))
    ties = sparse.csr_array((np.ones(len(own)), (own, nearest)), kernel.shape)
    ties = ties + ties.T
    masses = masses.copy()
    masses[own] = LIGHT * masses[nearest]
    return kernel + (ties if sparse.issparse(kernel) else ties.toarray()), masses
