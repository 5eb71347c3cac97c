"""Bootstrap over blocks of consecutive frames, or whole runs: how often each is drawn."""

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
        counts = []
        for edges, g in zip(blocks, inefficiencies, strict=True):
            m = len(edges) - 1
            number = (m - 1) * max(0.5, 1.0 - 0.5 * (g - 1.0 / g) * m / edges[-1])
            drawn = rng.integers(0, m, max(1, int(number + rng.random())))
            counts.append(np.repeat(np.bincount(drawn, minlength=m), np.diff(edges)))
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
