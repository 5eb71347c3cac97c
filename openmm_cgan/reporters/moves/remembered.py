"""The last candidates of exact moves with their weights: what diagnostics look at."""

from __future__ import annotations

import logging
from collections import deque

import numpy as np
from numpy.typing import NDArray

from openmm_cgan.checkpoints import saved_array

WINDOW = 20  # moves that the warning looks back on
DOMINATED = 0.5  # of the weight of all candidates, in one

log = logging.getLogger("openmm_cgan")


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


class WeightWatch:
    """Looks at the weights of moves, and says so when they are dominated by a few."""

    def __init__(self) -> None:
        self._recent: deque[float] = deque(maxlen=WINDOW)
        self._sizes: deque[float] = deque(maxlen=100)
        self._moves, self._quiet_until = 0, WINDOW

    def look(self, n: int, size: float, largest: float) -> None:
        """Take in a move of n candidates: its effective sample size and largest weight.

        After a warning there is none until there have been ten times as many moves.
        """
        self._sizes.append(size)
        self._recent.append(1.0 if np.isnan(largest) else largest)
        self._moves += 1
        if n < 10 or self._moves < self._quiet_until:
            return
        if (typical := float(np.median(self._recent))) > DOMINATED:
            log.warning(
                "exact proposals are dominated by a few: over the last %d moves the best of %d "
                "candidates typically had %.0f %% of their weight; train the generator longer, or "
                "on frames from where the run is, or draw conditions from where the free energy is "
                "low (GridConditions)",
                len(self._recent), n, 100 * typical,
            )  # fmt: skip
            self._quiet_until = 10 * self._moves

    @property
    def typical_size(self) -> float:
        """Median of the last effective sample sizes; NaN before the first."""
        return float(np.median(self._sizes)) if self._sizes else np.nan

    def saved(self) -> dict[str, NDArray]:
        """``recent`` and ``sizes`` (n,); ``moves`` (2,): their number, until when it is quiet."""
        return {
            "recent": np.array(self._recent),
            "sizes": np.array(self._sizes),
            "moves": np.array([self._moves, self._quiet_until]),
        }

    def restore_saved(self, arrays: dict[str, NDArray]) -> None:
        """Take over what `saved` gave.

        Raises
        ------
        ValueError
            If it does not fit.
        """
        for name, kept in (("recent", self._recent), ("sizes", self._sizes)):
            kept.clear()
            kept.extend(saved_array(arrays, name, (None,)).tolist())
        self._moves, self._quiet_until = map(int, saved_array(arrays, "moves", (2,)))
