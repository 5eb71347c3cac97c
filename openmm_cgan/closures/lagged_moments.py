r"""Moments of lagged pairs of frames in a basis: all that a fit of drift and diffusion reads.

With :math:`\phi_i` the functions of a `SplineBasis`, :math:`z_t` the CVs a lag t after :math:`z_0`
and :math:`y_t = z_t - z_0`, they are means over pairs of :math:`\phi_i(z_0)` times what happened
between two lags. They are kept for each block of frames, so that replicates cost a product of
matrices each.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix, diags

from openmm_cgan.closures.bursts import Trajectories
from openmm_cgan.closures.pair_blocks import PairBlocks, pair_blocks, pairs_of
from openmm_cgan.closures.spline_basis import SplineBasis

MOST_BLOCKS = 200
NODES = 5  # lags at which an integral from one lag to another is taken


@dataclass(frozen=True)
class LaggedMoments:
    """Means over pairs, or sums over each block's pairs; leading axes are those of replicates.

    Attributes
    ----------
    overlap : ndarray, shape (..., m, m)
        phi_i phi_j at z_0.
    slope : ndarray, shape (..., k, m)
        d phi_i / dz_a at z_0 [1/CV unit].
    slope_overlap : ndarray, shape (..., k, m, m)
        (d phi_i / dz_a) phi_j at z_0 [1/CV unit].
    lagged : ndarray, shape (..., m, m)
        Integral of phi_i(z_0) phi_j(z_t) dt [ps].
    moved_lagged : ndarray, shape (..., k, m, m)
        Integral of phi_i(z_0) y_t phi_j(z_t) dt [CV unit ps].
    moved : ndarray, shape (..., k, m)
        phi_i(z_0) times the change of y [CV unit].
    squares : ndarray, shape (..., k, k, m)
        phi_i(z_0) times the change of y y [CV unit^2].
    """

    overlap: NDArray[np.float64]
    slope: NDArray[np.float64]
    slope_overlap: NDArray[np.float64]
    lagged: NDArray[np.float64]
    moved_lagged: NDArray[np.float64]
    moved: NDArray[np.float64]
    squares: NDArray[np.float64]

    def drawn(self, counts: NDArray) -> LaggedMoments:
        """Sums over blocks, each as often as it is drawn: counts (n_replicates, n_blocks)."""
        return LaggedMoments(
            *(np.tensordot(counts, block_sums, 1) for block_sums in vars(self).values())
        )


@dataclass(frozen=True)
class LaggedPairs:
    """Starts and what followed, of all runs that are long enough.

    Attributes
    ----------
    starts : ndarray, shape (n, k)
        z_0 [CV unit].
    later : tuple of ndarray, shape (n, k)
        z_t at some lags [CV unit].
    weights : ndarray, shape (n_lags,)
        Of the lags in an integral over t [ps].
    blocks : PairBlocks
    window : ndarray of int, shape (n,)
        Number of the run of each, of those that are long enough.
    """

    starts: NDArray[np.float64]
    later: tuple[NDArray[np.float64], ...]
    weights: NDArray[np.float64]
    blocks: PairBlocks
    window: NDArray[np.int64]


def lagged_pairs_between(
    trajectories: Trajectories, first: int, last: int, n_bootstrap: int, seed: int
) -> LaggedPairs:
    """Frames, and those from one lag to another after them.

    Parameters
    ----------
    trajectories : Trajectories
    first, last : int
        The lags, 0 <= first < last [intervals].
    n_bootstrap, seed : int

    Raises
    ------
    ValueError
        If no run is longer than the lag.
    """
    pairs = pairs_of(trajectories, last)
    nodes, weights = _quadrature(first, last)
    return LaggedPairs(
        pairs.after(0),
        tuple(pairs.after(node) for node in nodes),
        weights * trajectories.interval,
        pair_blocks(pairs, trajectories.variables, n_bootstrap, seed, MOST_BLOCKS),
        pairs.run,
    )


def lagged_moments(pairs: LaggedPairs, basis: SplineBasis) -> LaggedMoments:
    """The moments of each block's pairs, leading axis the blocks."""
    variables, n_blocks, m = basis.variables, pairs.blocks.counts.shape[1], basis.size
    functions = basis.values(pairs.starts)
    # One column for each function in each block: one product then does all blocks.
    blocked = csr_matrix(
        (
            functions.data,
            functions.indices + m * np.repeat(pairs.blocks.block, np.diff(functions.indptr)),
            functions.indptr,
        ),
        (len(pairs.starts), n_blocks * m),
    )

    def sums(columns: csr_matrix | NDArray) -> NDArray[np.float64]:
        found = blocked.T @ columns
        dense = found if isinstance(found, np.ndarray) else found.toarray()
        return dense.reshape(n_blocks, m, -1)

    def moves(later: NDArray) -> NDArray[np.float64]:
        return np.column_stack(
            [v.difference(pairs.starts[:, a], later[:, a]) for a, v in enumerate(variables)]
        )

    slopes = [basis.values(pairs.starts, a) for a in range(len(variables))]
    ends = [moves(pairs.later[which]) for which in (0, -1)]
    squares = [(y[:, :, None] * y[:, None]).reshape(len(y), -1) for y in ends]
    lagged, moved_lagged = _integrals(pairs, basis, sums, moves)
    k = len(variables)
    return LaggedMoments(
        sums(functions),
        np.stack([_block_sums(pairs, slope) for slope in slopes], 1),
        np.stack([sums(slope).transpose(0, 2, 1) for slope in slopes], 1),
        lagged,
        moved_lagged,
        sums(ends[1] - ends[0]).transpose(0, 2, 1),
        sums(squares[1] - squares[0]).transpose(0, 2, 1).reshape(n_blocks, k, k, m),
    )


def _integrals(
    pairs: LaggedPairs,
    basis: SplineBasis,
    sums: Callable[[csr_matrix], NDArray[np.float64]],
    moves: Callable[[NDArray], NDArray[np.float64]],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """`LaggedMoments.lagged` and `moved_lagged` of each block."""
    parts = []
    for later, weight in zip(pairs.later, pairs.weights, strict=True):
        functions = basis.values(later)
        moved = np.stack([sums(diags(y) @ functions) for y in moves(later).T], 1)
        parts.append((weight * sums(functions), weight * moved))
    lagged, moved_lagged = zip(*parts, strict=True)
    return np.sum(lagged, axis=0), np.sum(moved_lagged, axis=0)


def _block_sums(pairs: LaggedPairs, columns: csr_matrix) -> NDArray[np.float64]:
    n, n_blocks = len(pairs.starts), pairs.blocks.counts.shape[1]
    member = csr_matrix((np.ones(n), (pairs.blocks.block, np.arange(n))), (n_blocks, n))
    return (member @ columns).toarray()


def _quadrature(first: int, last: int) -> tuple[Sequence[int], NDArray[np.float64]]:
    """Whole lags from one to another, and weights that integrate the polynomial through them."""
    nodes = np.unique(np.linspace(first, last, NODES).round().astype(int))
    places = (nodes - first) / (last - first)
    powers = np.arange(len(nodes))
    weights = np.linalg.solve(places[None] ** powers[:, None], 1.0 / (powers + 1.0))
    return nodes.tolist(), weights * (last - first)
