"""The last candidates of moves that weigh, with their weights: what diagnostics look at."""

from __future__ import annotations

from collections import deque

import numpy as np
from numpy.typing import NDArray

from openmm_cgan.checkpoints import saved_array


class Remembered:
    """Candidates of the last moves.

    Parameters
    ----------
    n_cvs : int
    n_moves : int
        How many moves are remembered.
    """

    def __init__(self, n_cvs: int, n_moves: int) -> None:
        self._n_cvs = n_cvs
        self._moves: deque[tuple[NDArray, NDArray]] = deque(maxlen=n_moves)

    def add(self, cvs: NDArray, log_weights: NDArray) -> None:
        """Remember the candidates of a move, shapes (n, n_cvs) and (n,)."""
        self._moves.append((cvs, log_weights))

    def clear(self) -> None:
        """Forget all, where weights mean something else from now on."""
        self._moves.clear()

    def all(self) -> tuple[NDArray, NDArray]:
        """CVs (n, n_cvs) and log weights (n,) of all candidates, the last move's last."""
        cvs = [cvs for cvs, _ in self._moves]
        weights = [weights for _, weights in self._moves]
        return (
            np.concatenate([np.zeros((0, self._n_cvs)), *cvs]),
            np.concatenate([np.zeros(0), *weights]),
        )

    def saved(self) -> dict[str, NDArray]:
        """``cvs`` (n, n_cvs), ``log_weights`` (n,) and ``lengths`` of each move's part."""
        cvs, weights = self.all()
        lengths = np.array([len(logs) for _, logs in self._moves], dtype=int)
        return {"cvs": cvs, "log_weights": weights, "lengths": lengths}

    def restore_saved(self, arrays: dict[str, NDArray]) -> None:
        """Take over what `saved` gave.

        Raises
        ------
        ValueError
            If it does not fit.
        """
        cvs = saved_array(arrays, "cvs", (None, self._n_cvs))
        weights = saved_array(arrays, "log_weights", (len(cvs),))
        lengths = saved_array(arrays, "lengths", (None,)).astype(int)
        if lengths.sum() != len(cvs) or (lengths < 0).any():
            raise ValueError(f"the saved moves have {lengths.sum()} candidates, not {len(cvs)}")
        self._moves.clear()
        for end, n in zip(np.cumsum(lengths), lengths, strict=True):
            self._moves.append((cvs[end - n : end], weights[end - n : end]))
