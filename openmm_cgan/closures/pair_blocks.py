"""Lagged pairs in blocks that are drawn as one: errors that know of correlation in time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from openmm_cgan.collective_variable import CollectiveVariable
from openmm_cgan.free_energy.bootstrap import blocks_of, draws_of
from openmm_cgan.free_energy.samples import statistical_inefficiency

MANY_RUNS = 50  # that are drawn whole; fewer are cut


@dataclass(frozen=True)
class PairBlocks:
    """Which pairs are drawn together, and how often each replicate draws them.

    Attributes
    ----------
    inefficiencies : ndarray, shape (n_runs,)
        Pairs of a run that are worth one independent pair.
    block : ndarray of int, shape (n_pairs,)
        Number of each pair's block.
    counts : ndarray, shape (n_bootstrap, n_blocks)
        How often each replicate draws each block.
    """

    inefficiencies: NDArray[np.float64]
    block: NDArray[np.int64]
    counts: NDArray[np.int64]


def pair_blocks(
    runs: Sequence[NDArray],
    sizes: NDArray[np.int64],
    lag: float,
    variables: Sequence[CollectiveVariable],
    n_bootstrap: int,
    seed: int,
    most: int | None = None,
) -> PairBlocks:
    """Cut the pairs of runs into blocks, and draw these.

    Many runs are drawn whole. A few long ones are cut into blocks, which are long against the lag
    and the time in which the CVs forget.

    Parameters
    ----------
    runs : sequence of ndarray, shape (n_times, k)
        CVs of each [CV unit].
    sizes : ndarray, shape (n_runs,)
        Number of pairs of each.
    lag : float
        Of the pairs, counted in pairs.
    variables : sequence of CollectiveVariable
    n_bootstrap, seed : int
    most : int, optional
        Of the blocks of many runs: more runs than this are drawn in groups, in turn.
    """
    if len(runs) >= MANY_RUNS:
        n_groups = min(len(runs), most or len(runs))
        group = np.arange(len(runs)) % n_groups
        drawn = np.random.default_rng(seed).integers(0, n_groups, (n_bootstrap, n_groups))
        counts = np.stack([np.bincount(row, minlength=n_groups) for row in drawn])
        return PairBlocks(np.clip(sizes, 1.0, max(lag, 1.0)), np.repeat(group, sizes), counts)
    own = [
        statistical_inefficiency(run, variables) * size / len(run)
        for run, size in zip(runs, sizes, strict=True)
    ]
    inefficiencies = np.minimum(np.maximum(own, max(lag, 1.0)), sizes)
    blocks = blocks_of(sizes, inefficiencies)
    lengths = np.concatenate([np.diff(edges) for edges in blocks])
    block = np.repeat(np.arange(len(lengths)), lengths)
    first = np.cumsum(lengths) - lengths
    draws = draws_of(blocks, inefficiencies, n_bootstrap, seed)
    return PairBlocks(inefficiencies, block, draws[:, first].astype(np.int64))
