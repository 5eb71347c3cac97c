"""The random numbers of PLUMED, so that a seed gives what it gives there.

The minimal standard generator with a shuffled table, ``ran1``, and the polar method for normal
deviates, ``gasdev``: Press et al., Numerical Recipes, chapter 7.
"""

from __future__ import annotations

import math

import numpy as np

_MULTIPLIER, _MODULUS = 16807, 2**31 - 1
_TABLE = 32
_BIN = 1 + (_MODULUS - 1) // _TABLE
_LARGEST = 1.0 - 3.0e-16


class NormalDeviates:
    """Normal deviates, one after the other.

    Parameters
    ----------
    seed : int
        Its sign does not matter; 0 is taken for 1.
    """

    def __init__(self, seed: int) -> None:
        self._present = max(abs(seed), 1)
        for _ in range(8):
            self._step()
        self._table = [self._step() for _ in range(_TABLE)][::-1]
        self._shown = self._table[0]
        self._second: float | None = None  # they come in twos

    def _step(self) -> int:
        self._present = self._present * _MULTIPLIER % _MODULUS
        return self._present

    def _uniform(self) -> float:
        place = self._shown // _BIN
        self._shown, self._table[place] = self._table[place], self._step()
        return min(self._shown / _MODULUS, _LARGEST)

    def draw(self) -> float:
        """The next."""
        if self._second is not None:
            found, self._second = self._second, None
            return found
        while True:
            a, b = 2.0 * self._uniform() - 1.0, 2.0 * self._uniform() - 1.0
            square = a * a + b * b
            if 0.0 < square < 1.0:
                break
        factor = math.sqrt(-2.0 * math.log(square) / square)
        self._second = a * factor
        return b * factor

    def saved(self) -> np.ndarray:
        """Its state, shape (36,)."""
        second = math.nan if self._second is None else self._second
        return np.array([self._present, self._shown, second, *self._table], dtype=float)

    def restore_saved(self, state: np.ndarray) -> None:
        """Take over what `saved` gave."""
        self._present, self._shown = int(state[0]), int(state[1])
        self._second = None if math.isnan(state[2]) else float(state[2])
        self._table = [int(x) for x in state[3:]]
