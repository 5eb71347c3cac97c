"""Bootstrap over blocks of consecutive frames, or whole runs: how often each is drawn.

Where a window was run several times from independent starts its runs are drawn whole: what they
differ by is the error of what they say together, whatever moves too slowly for one of them to show.
Blocks inside a run know of nothing slower than the run.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

BLOCK_INEFFICIENCIES = 5
LEAST_BLOCKS = 5


def blocks_of(sizes: NDArray, inefficiencies: NDArray) -> list[NDArray[np.int64]]:
    """Edges of the blocks of each window, in samples counted from its first."""
    lengths = np.ceil(BLOCK_INEFFICIENCIES * inefficiencies)
    numbers = np.clip(sizes // lengths, np.minimum(LEAST_BLOCKS, sizes), None).astype(np.int64)
    return [
        np.linspace(0, n, m + 1).round().astype(np.int64)
        for n, m in zip(sizes, numbers, strict=True)
    ]


def draws_of(
    blocks: Sequence[NDArray[np.int64]], inefficiencies: NDArray, n_bootstrap: int, seed: int
) -> NDArray[np.uint16]:
    """How often each bootstrap replicate draws each sample, shape (n_bootstrap, N).

    Of the m blocks of a window fewer than m are drawn, with replacement: m - 1 make the variance
    of a mean over few blocks right (Rao and Wu, doi 10.1080/01621459.1988.10478591), and a factor
    1 - g / 2L makes up for the correlation between neighbouring blocks of length L, which a
    series that forgets exponentially has at inefficiency g.
    """
    rng = np.random.default_rng(seed)
    draws = np.empty((n_bootstrap, sum(int(edges[-1]) for edges in blocks)), dtype=np.uint16)
    for draw in draws:
        pairs = zip(blocks, inefficiencies, strict=True)
        draw[:] = np.concatenate([_block_counts(edges, g, rng) for edges, g in pairs])
    return draws


def _block_counts(edges: NDArray[np.int64], g: float, rng: np.random.Generator) -> NDArray:
    """How often each sample of a series is drawn, by its blocks."""
    m = len(edges) - 1
    number = (m - 1) * max(0.5, 1.0 - 0.5 * (g - 1.0 / g) * m / edges[-1])
    drawn = rng.integers(0, m, max(1, int(number + rng.random())))
    return np.repeat(np.bincount(drawn, minlength=m), np.diff(edges))


def draws_of_windows(
    sizes: NDArray[np.int64],
    inefficiencies: NDArray,
    states: NDArray[np.int64],
    n_bootstrap: int,
    seed: int,
) -> NDArray[np.uint16]:
    """How often each replicate draws each sample of windows, shape (n_bootstrap, N).

    Of the K runs of a state K - 1 are drawn whole, with replacement: the bootstrap of Rao and Wu
    (doi 10.1080/01621459.1988.10478591) for strata, which are the states, with clusters, which are
    the runs. In the mean it gives the variance of the K runs about their mean over K, so it needs
    no correlation time. A state that was run once is drawn in blocks, as `draws_of` does; so are
    all where states have fewer runs to spare, all together, than a window has blocks at least: a
    variance of so few squares tells less than the blocks.

    Parameters
    ----------
    sizes : ndarray of int, shape (n_runs,)
        Samples of each run.
    inefficiencies : ndarray, shape (n_runs,)
        Statistical inefficiency of each.
    states : ndarray of int, shape (n_runs,)
        State of each: runs under one bias.
    n_bootstrap, seed : int
    """
    if len(sizes) - len(np.unique(states)) < LEAST_BLOCKS - 1:
        states = np.arange(len(sizes))
    first = np.unique(states, return_index=True)[1]
    members = [np.flatnonzero(states == states[run]) for run in np.sort(first)]
    blocks, rng = blocks_of(sizes, inefficiencies), np.random.default_rng(seed)
    draws = np.empty((n_bootstrap, int(sizes.sum())), dtype=np.uint16)
    for draw in draws:
        counts: list[NDArray] = [np.empty(0)] * len(sizes)
        for runs in members:
            if len(runs) == 1:
                [run] = runs
                counts[run] = _block_counts(blocks[run], inefficiencies[run], rng)
                continue
            times = np.bincount(rng.integers(0, len(runs), len(runs) - 1), minlength=len(runs))
            for run, number in zip(runs, times, strict=True):
                counts[run] = np.full(sizes[run], number)
        draw[:] = np.concatenate(counts)
    return draws


def draws_of_runs(sizes: NDArray, n_bootstrap: int, seed: int) -> NDArray[np.uint16]:
    """How often each replicate draws each sample where runs are drawn whole, (n_bootstrap, N).

    All but one of the runs, with replacement, as `draws_of` has it of blocks.
    """
    rng = np.random.default_rng(seed)
    n = len(sizes)
    drawn = [np.bincount(rng.integers(0, n, n - 1), minlength=n) for _ in range(n_bootstrap)]
    return np.repeat(np.array(drawn, dtype=np.uint16).reshape(n_bootstrap, n), sizes, axis=1)


def draws_of_neighbours(
    neighbours: NDArray[np.int64], n_bootstrap: int, seed: int
) -> NDArray[np.float32]:
    """How much of each sample is in each replicate where they fill a space evenly.

    What one differs by from its neighbour is the error that even draws leave; what lies between
    far ones is none. Of the m samples of a group of neighbours m - 1 are drawn, with replacement,
    each as m / (m - 1): of a pair one, twice. It is the bootstrap of Rao and Wu (doi
    10.1080/01621459.1988.10478591) for strata, which sees too much rather than too little where
    the mean changes within a group.

    Parameters
    ----------
    neighbours : ndarray of int, shape (N,)
        The group that each is in. Those that are alone in theirs make one together, or join
        the group before it where it is one.
    n_bootstrap, seed : int

    Returns
    -------
    ndarray, shape (n_bootstrap, N)
    """
    rng = np.random.default_rng(seed)
    groups = _with_nobody_alone(neighbours)
    order = np.argsort(groups, kind="stable")
    _, first, sizes = np.unique(groups[order], return_index=True, return_counts=True)
    draws = np.zeros((n_bootstrap, len(groups)), dtype=np.float32)
    for draw in draws:
        for time in range(1, int(sizes.max())):
            alike = sizes > time
            drawn = first[alike] + (rng.random(alike.sum()) * sizes[alike]).astype(np.int64)
            np.add.at(draw, order[drawn], (sizes / np.maximum(sizes - 1, 1))[alike])
    return draws


def _with_nobody_alone(neighbours: NDArray[np.int64]) -> NDArray[np.int64]:
    """Groups (N,) of two or more, where there are two: of one alone nothing would ever be drawn."""
    found, which, sizes = np.unique(neighbours, return_inverse=True, return_counts=True)
    alone = np.flatnonzero(sizes[which] == 1)
    if len(alone) == 1 and len(found) > 1:
        which[alone] += 1 if which[alone] == 0 else -1
    elif len(alone) > 1:
        which[alone] = len(found)
    return which
