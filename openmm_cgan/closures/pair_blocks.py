"""Lagged pairs: where they begin, and blocks of them that are drawn as one, for honest errors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from openmm_cgan.closures.bursts import Trajectories
from openmm_cgan.collective_variable import CollectiveVariable
from openmm_cgan.free_energy.bootstrap import blocks_of, draws_of
from openmm_cgan.free_energy.samples import statistical_inefficiency

MAX_PAIRS = 100_000  # bounds memory and time
PAIRS_A_LAG = 4  # more in the time of one lag tell little more
MANY_RUNS = 50  # that are drawn whole; fewer are cut


@dataclass(frozen=True)
class Pairs:
    """Frames of runs that are longer than a lag, at which pairs begin.

    Attributes
    ----------
    runs : tuple of ndarray, shape (n_times, k)
        CVs of each [CV unit].
    lag, stride : int
        The longest lag, and from one start to the next [intervals].
    """

    runs: tuple[NDArray[np.float64], ...]
    lag: int
    stride: int

    @property
    def sizes(self) -> NDArray[np.int64]:
        """Number of pairs of each run, (n_runs,)."""
        return np.array([-(-(len(run) - self.lag) // self.stride) for run in self.runs])

    @property
    def run(self) -> NDArray[np.int64]:
        """Number of each pair's run, (n_pairs,)."""
        return np.repeat(np.arange(len(self.runs)), self.sizes)

    def after(self, lag: int) -> NDArray[np.float64]:
        """CVs (n_pairs, k) so many intervals after the starts, from 0 to the longest lag."""
        end = lag - self.lag
        rows = [run[lag : len(run) + end : self.stride] for run in self.runs]
        return np.concatenate(rows)


def pairs_of(trajectories: Trajectories, lag: int) -> Pairs:
    """Pairs that are far enough apart, and no more than can be held.

    Raises
    ------
    ValueError
        If no run is longer than the lag.
    """
    runs = tuple(run for run in trajectories.cvs if len(run) > lag)
    if not runs:
        longest = max(map(len, trajectories.cvs))
        raise ValueError(f"the lag is {lag} intervals, the longest run has {longest} frames")
    apart = max(1, lag // PAIRS_A_LAG)
    wanted = int(Pairs(runs, lag, apart).sizes.sum())
    return Pairs(runs, lag, apart * -(-wanted // MAX_PAIRS))


def checked_lags(lags: Sequence[int], first: int, least: int) -> list[int]:
    """Lags in whole intervals, so many at least.

    Raises
    ------
    ValueError
        If they are fewer, begin before the first that makes sense, or do not increase.
    """
    lags = list(lags)
    whole = all(isinstance(lag, int | np.integer) for lag in lags)
    increase = whole and all(a < b for a, b in pairwise(lags))
    if len(lags) < least or not increase or lags[0] < first:
        raise ValueError(
            f"lags are {lags}; expected {least} or more whole numbers from {first} on that increase"
        )
    return lags


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
    pairs: Pairs,
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
    pairs : Pairs
    variables : sequence of CollectiveVariable
    n_bootstrap, seed : int
    most : int, optional
        Of the blocks of many runs: more runs than this are drawn in groups, in turn.
    """
    runs, sizes, lag = pairs.runs, pairs.sizes, max(pairs.lag / pairs.stride, 1.0)
    if len(runs) >= MANY_RUNS:
        n_groups = min(len(runs), most or len(runs))
        group = np.arange(len(runs)) % n_groups
        drawn = np.random.default_rng(seed).integers(0, n_groups, (n_bootstrap, n_groups))
        counts = np.stack([np.bincount(row, minlength=n_groups) for row in drawn])
        return PairBlocks(np.clip(sizes, 1.0, lag), np.repeat(group, sizes), counts)
    own = [
        statistical_inefficiency(run, variables) * size / len(run)
        for run, size in zip(runs, sizes, strict=True)
    ]
    inefficiencies = np.minimum(np.maximum(own, lag), sizes)
    blocks = blocks_of(sizes, inefficiencies)
    lengths = np.concatenate([np.diff(edges) for edges in blocks])
    block = np.repeat(np.arange(len(lengths)), lengths)
    first = np.cumsum(lengths) - lengths
    draws = draws_of(blocks, inefficiencies, n_bootstrap, seed)
    return PairBlocks(inefficiencies, block, draws[:, first].astype(np.int64))
