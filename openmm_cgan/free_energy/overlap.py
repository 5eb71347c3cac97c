"""Overlap of states: how much joins them, and which parts nothing joins."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse.csgraph import connected_components

from openmm_cgan.free_energy.newton import products, shared_frames

LEAST_SHARED = 1.0  # independent frames between two parts; see `connected_parts`
OWN_SHARE = 0.5  # of the independent frames of the smaller part, where these are few


def overlap_matrix(weights_nk: sparse.csr_array, states: NDArray) -> NDArray[np.float64]:
    """Overlap O_ij = n_j sum_n W_ni W_nj of the states.

    Parameters
    ----------
    weights_nk : sparse array, shape (N, K)
        From `openmm_cgan.free_energy.mbar.solve_mbar`.
    states : ndarray of int, shape (N,)
        State that each sample was made in.

    Returns
    -------
    ndarray, shape (K, K)
        Rows add up to 1.

    References
    ----------
    Klimovich, Shirts, Mobley, doi 10.1007/s10822-015-9840-9.
    """
    return products(weights_nk, np.ones(len(states))) * np.bincount(states)


def weakest_link(overlap: NDArray) -> tuple[float, list[int]]:
    """Overlap that joins the two worst joined groups of states, and the members of one group.

    Along a line of windows this is the least overlap between neighbours; for windows on a grid it
    is the least one that can not be gone round.  It is the lightest edge of the maximum spanning
    tree (Prim).

    Parameters
    ----------
    overlap : ndarray, shape (K, K)
        From `overlap_matrix`.

    Returns
    -------
    overlap : float
        1 for a single state.
    group : list of int
        Numbers of the states on one side of the link; empty for a single state.

    Examples
    --------
    >>> weakest_link(np.array([[0.7, 0.3, 0.0], [0.3, 0.69, 0.01], [0.0, 0.01, 0.99]]))
    (0.01, [2])
    """
    link = np.minimum(overlap, overlap.T)
    states = len(link)
    best, reached = link[0].copy(), np.zeros(states, dtype=bool)
    reached[0] = True
    order, joints = [0], [np.inf]
    while not reached.all():  # Prim's maximum spanning tree
        state = int(np.argmax(np.where(reached, -np.inf, best)))
        order.append(state)
        joints.append(float(best[state]))
        reached[state] = True
        best = np.maximum(best, link[state])
    cut = int(np.argmin(joints))
    group = _joined(link, order[cut], joints[cut]) if states > 1 else []
    return min(1.0, joints[cut]), group


def _joined(link: NDArray, start: int, threshold: float) -> list[int]:
    """States reached from one by overlaps above a threshold."""
    group, frontier = {start}, [start]
    while frontier:
        found = set(np.flatnonzero(link[frontier.pop()] > threshold).tolist()) - group
        group |= found
        frontier += found
    return sorted(group)


def connected_parts(
    weights_nk: sparse.csr_array, states: NDArray, inefficiencies: NDArray
) -> NDArray[np.int64]:
    """Parts of the states between which free energies are known.

    Two states share sum_n p_ni p_nj / g_n frames, with p_n the chances that sample n was made in
    either and g_n its statistical inefficiency; the inverse of what two parts share is about the
    variance of the free energy between them [kT^2]. Below `LEAST_SHARED` the few samples in their
    tails decide, which no error bar sees: such parts count as not connected, unless they share half
    of all frames of the smaller one, which then tells little that the other does not.

    Parameters
    ----------
    weights_nk : sparse array, shape (N, K)
        From `openmm_cgan.free_energy.mbar.solve_mbar`.
    states : ndarray of int, shape (N,)
        State that each sample was made in.
    inefficiencies : ndarray, shape (N,)
        Statistical inefficiency of each sample.

    Returns
    -------
    ndarray of int, shape (K,)
        Number of the part of each state, from 0.
    """
    n_k, independent = np.bincount(states).astype(float), 1.0 / inefficiencies
    shared = shared_frames(weights_nk, n_k, independent)
    own = n_k * (weights_nk.T @ independent)
    joined = shared >= np.minimum(LEAST_SHARED, OWN_SHARE * np.minimum(own, own[:, None]))
    np.fill_diagonal(joined, False)
    parts = connected_components(sparse.csr_array(joined))[1].astype(np.int64)
    while True:  # what two parts share is summed over all of their states
        members = (parts[:, None] == np.arange(parts.max() + 1)).astype(float)
        between = members.T @ shared @ members
        sizes = own @ members
        between /= np.minimum(LEAST_SHARED, OWN_SHARE * np.minimum(sizes, sizes[:, None]))
        np.fill_diagonal(between, 0.0)
        if between.max() < 1.0:
            return parts
        one, other = np.unravel_index(int(between.argmax()), between.shape)
        parts[parts == max(one, other)] = min(one, other)
        parts = np.unique(parts, return_inverse=True)[1]
