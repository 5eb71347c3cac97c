"""Pairs of atoms near each other, of many configurations at once."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


def near_pairs(
    x: NDArray[np.float64], cutoff: float, movable: NDArray[np.bool_], excluded: NDArray[np.int64]
) -> Tensor:
    """Pairs within a cutoff, of which one atom at least is movable.

    Parameters
    ----------
    x : ndarray, shape (n, n_atoms, 3)
        [nm]
    cutoff : float
        [nm]
    movable : ndarray of bool, shape (n_atoms,)
    excluded : ndarray of int, sorted
        ``n_atoms * i + j`` of the pairs i < j that are left out.

    Returns
    -------
    Tensor of int, shape (n_pairs, 2)
        Numbered through all configurations: n_atoms * configuration + atom.
    """
    from scipy.spatial import cKDTree  # 0.2 s, which only large parts need

    n_atoms, found = x.shape[1], [np.zeros((0, 2), dtype=np.int64)]
    for k, one in enumerate(x):
        near = cKDTree(one).query_pairs(cutoff, output_type="ndarray").astype(np.int64)
        near = np.sort(near[movable[near].any(axis=1)], axis=1)
        kept = near[~np.isin(near[:, 0] * n_atoms + near[:, 1], excluded)]
        found.append(kept + k * n_atoms)
    return torch.from_numpy(np.concatenate(found))
