"""What the candidates of moves were worth: counted, remembered, and said where few have it all."""

from __future__ import annotations

import logging
from collections import Counter, deque

import numpy as np
from numpy.typing import NDArray

from openmm_cgan.checkpoints import saved_array
from openmm_cgan.proposals.weights import kish_effective_sample_size
from openmm_cgan.reporters.attempts import Candidates
from openmm_cgan.reporters.moves.remembered import Remembered
from openmm_cgan.reporters.moves.weighing import Weighed

log = logging.getLogger("openmm_cgan")

REMEMBERED = 200_000  # candidates
WINDOW = 20  # moves that the warning looks back on
DOMINATED = 0.5  # of the weight of all candidates, in one


class CandidateRecord:
    """The candidates of moves so far.

    Parameters
    ----------
    n_cvs, n_candidates : int
    mode : str
        Of the moves, for the warning.
    each_alone : bool
        Whether weights are known up to a factor of each move's own: those that are remembered then
        sum to one in each move.
    """

    def __init__(self, n_cvs: int, n_candidates: int, mode: str, each_alone: bool = False) -> None:
        self.n_candidates, self.mode, self._each_alone = n_candidates, mode, each_alone
        self._recent: deque[float] = deque(maxlen=WINDOW)
        self._sizes: deque[float] = deque(maxlen=100)
        self._memory = Remembered(n_cvs, max(1, REMEMBERED // n_candidates))
        self._moves, self._quiet_until = 0, WINDOW

    def clear(self) -> None:
        """Forget weights that mean something else from now on."""
        self._memory.clear()

    def add(self, weighed: Weighed, conditions: NDArray[np.float64], kT: float) -> Candidates:
        """Take in the candidates of a move.

        Parameters
        ----------
        weighed : Weighed
            Of n candidates.
        conditions : ndarray, shape (n, n_cvs)
            [CV units]
        kT : float
            [kJ/mol]
        """
        logs = weighed.log_weights
        self._remember(weighed, conditions, kT)
        best = logs.max()
        largest = float(1 / np.exp(logs - best).sum()) if np.isfinite(best) else np.nan
        self._watch(largest)
        self._sizes.append(kish_effective_sample_size(logs))
        counted = Counter(str(reason) for reason in weighed.reasons if reason)
        return Candidates(len(logs), dict(counted), weighed.evaluated, self._sizes[-1], largest)

    def _remember(self, weighed: Weighed, conditions: NDArray, kT: float) -> None:
        """Keep the weights without the bias, for the diagnostics."""
        logs = weighed.log_weights.copy()
        alive = np.isfinite(logs)
        logs[alive] += weighed.bias[alive] / kT
        if self._each_alone and alive.any():
            best = logs[alive].max()
            logs -= best + np.log(np.exp(logs[alive] - best).sum())
        self._memory.add(np.where(np.isfinite(weighed.cvs), weighed.cvs, conditions), logs)

    def _watch(self, largest: float) -> None:
        """Say so when the weights are dominated by a few; again only after ten times as long."""
        self._recent.append(1.0 if np.isnan(largest) else largest)
        self._moves += 1
        if self.n_candidates < 10 or self._moves < self._quiet_until:
            return
        if (typical := float(np.median(self._recent))) > DOMINATED:
            log.warning(
                "%s proposals are dominated by a few: over the last %d moves the best of %d "
                "candidates typically had %.0f %% of their weight; train the generator longer, or "
                "on frames from where the run is, or draw conditions from where the free energy is "
                "low (conditions='marginal', the default)",
                self.mode, len(self._recent), self.n_candidates, 100 * typical,
            )  # fmt: skip
            self._quiet_until = 10 * self._moves

    def summary(self) -> str:
        """How many of the candidates count, in words."""
        typical = np.median(self._sizes) if self._sizes else np.nan
        return f"effective sample size {typical:.3g} of {self.n_candidates} candidates (median)"

    def saved(self) -> dict[str, NDArray]:
        """What it remembers (see `Remembered`), and what its warning looks back on.

        ``recent`` and ``sizes`` (n,); ``moves`` (2,): their number, and until when it is quiet.
        """
        return self._memory.saved() | {
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
        self._memory.restore_saved(arrays)
        for name, kept in (("recent", self._recent), ("sizes", self._sizes)):
            kept.clear()
            kept.extend(saved_array(arrays, name, (None,)).tolist())
        self._moves, self._quiet_until = map(int, saved_array(arrays, "moves", (2,)))

    def weighed_candidates(self) -> tuple[NDArray, NDArray]:
        """CVs (n, n_cvs) and log weights (n,) of candidates, against the unbiased ensemble."""
        return self._memory.all()
