"""METAD's NLIST: a sum over the hills that were near when the values last moved far."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from openmm_cgan.checkpoints import saved_array
from openmm_cgan.plumed.actions.action import Given, Keyword
from openmm_cgan.plumed.actions.metad.gaussian import CUTOFF
from openmm_cgan.plumed.actions.metad.hill_sums import HillSum
from openmm_cgan.plumed.actions.neighbour_lists import PATIENCE, REACH, largest_patience
from openmm_cgan.plumed.actions.values import Value

LIST_KEYWORDS = (
    Keyword("NLIST", "flag", "without a grid, sum the near hills only; gives nlker and nlsteps"),
    Keyword(
        "NLIST_PARAMETERS", "numbers", "how far the near hills go and when they are found anew"
    ),
)
DEFAULTS = (2 * REACH, PATIENCE)  # METAD counts from half the squared distance of its cut


class ListedHillSum(HillSum):
    """A list of Gaussian hills of which the near ones count.

    Call `update` at every step. An evaluation changes nothing: where the near hills are to be found
    anew, it finds them and forgets them. A batch is summed over all hills.

    Parameters
    ----------
    values : sequence of Value
    interval : (float, float), optional
        As of `HillSum`.
    far, moved : float
        Of NLIST_PARAMETERS.
    """

    def __init__(
        self,
        values: Sequence[Value],
        interval: tuple[float, float] | None,
        far: float,
        moved: float,
    ) -> None:
        super().__init__(values, interval)
        self.far, self.moved = far, moved
        n = len(self.values)
        self._near = np.empty(0, dtype=int)
        self._place, self._spread = [0.0] * n, [0.0] * n  # where it was made, mean square
        self._is_due, self._steps = True, 0
        self._shown = (0.0, 0.0)

    def changed(self) -> None:
        self._is_due = True

    def value_and_slopes(self, arguments: Sequence[float]) -> tuple[float, list[float]]:
        near = self._near_now(arguments) if self._due(arguments) else self._near
        return self._value_and_slopes(arguments, near)

    def _due(self, arguments: Sequence[float]) -> bool:
        if self._is_due:
            return True
        away = self._away(arguments, self._place)
        return any(
            d * d > self.moved * spread for d, spread in zip(away, self._spread, strict=True)
        )

    def _away(self, arguments: Sequence[float], places: Any) -> list[Any]:
        triples = zip(self.values, arguments, places, strict=True)
        return [value.difference(s, place) for value, s, place in triples]

    def _near_now(self, arguments: Sequence[float]) -> np.ndarray:
        hills = slice(0, self._size)
        away = self._away(arguments, self._centres[:, hills])
        over = self._over_sigma[:, hills]
        distance2 = sum((d * w) ** 2 for d, w in zip(away, over, strict=True))
        return np.flatnonzero(distance2 <= self.far * CUTOFF)

    def update(self, arguments: Sequence[float]) -> None:
        """Count a step at arguments of length n_values, and find the near hills anew where due."""
        due = self._due(arguments)
        self._steps += 1
        if not due:
            return
        if not self._size:
            self._is_due = True
            return
        self._near = self._near_now(arguments)
        away = np.array(self._away(arguments, self._centres[:, self._near]))
        self._place = [float(x) for x in arguments]
        square = (away * away).sum(axis=1)
        last = self._over_sigma[:, self._size - 1] ** -2.0
        spread = np.where(square > 0, square / max(len(self._near), 1), last)
        self._spread = spread.tolist()
        self._shown = (float(len(self._near)), float(self._steps))
        self._is_due, self._steps = False, 0

    def counts(self, arguments: Sequence[Any]) -> tuple[float, float]:
        """Number of near hills, and steps from one list to the next, as they are printed.

        Parameters
        ----------
        arguments : list of float, or of ndarray, shape (...)
            One point, or a batch, which is told what was printed last.
        """
        single = all(isinstance(x, float) for x in arguments)
        if not (single and self._size and self._due(arguments)):
            return self._shown
        return float(len(self._near_now(arguments))), float(self._steps + 1)

    def saved(self) -> dict[str, np.ndarray]:
        numbers = (*self._shown, self._steps, int(self._is_due))
        own = {"place": self._place, "spread": self._spread, "list": numbers}
        floats = {name: np.array(x, dtype=float) for name, x in own.items()}
        return super().saved() | floats | {"near": self._near}

    def restore_saved(self, arrays: dict[str, np.ndarray]) -> None:
        super().restore_saved(arrays)
        n = len(self.values)
        self._near = saved_array(arrays, "near", (None,)).astype(int)
        if len(self._near) and not 0 <= self._near.min() <= self._near.max() < self._size:
            raise ValueError("the saved 'near' names hills that are not there")
        self._place, self._spread = (
            saved_array(arrays, x, (n,)).tolist() for x in ("place", "spread")
        )
        *shown, steps, due = saved_array(arrays, "list", (4,)).tolist()
        self._shown, self._steps, self._is_due = (shown[0], shown[1]), int(steps), bool(due)


def read_list(given: Given) -> tuple[float, float] | None:
    """The parameters of NLIST; None without it.

    Raises
    ------
    PlumedInputError
        If they are wrong, or do not go with the other keywords.
    """
    options = given.options
    numbers = options["NLIST_PARAMETERS"] or DEFAULTS
    if len(numbers) != 2 or not numbers[0] > 1:
        raise given.error("NLIST_PARAMETERS", "expected two numbers, the first above 1")
    largest = largest_patience(numbers[0] / 2)
    if not 0 < numbers[1] <= largest:
        message = f"the second must be above 0 and at most {largest:.6g}"
        raise given.error("NLIST_PARAMETERS", message)
    if not options["NLIST"]:
        return None
    for word in ("GRID_MIN", "ADAPTIVE"):
        if options[word] not in (None, "NONE"):
            raise given.not_native("NLIST", f"can not be combined with {word}")
    if options["CALC_WORK"]:
        raise given.not_native("NLIST", "with CALC_WORK is not native")
    return numbers[0], numbers[1]
