"""UPDATE_FROM and UPDATE_UNTIL: the times between which an action does its work between steps."""

from __future__ import annotations

import math

import numpy as np

from openmm_cgan.checkpoints import saved_array
from openmm_cgan.plumed.actions.action import Given, Keyword

WINDOW_KEYWORDS = (
    Keyword("UPDATE_FROM", "real", "time from which on it does its work: hills, rows"),
    Keyword("UPDATE_UNTIL", "real", "time before which it does"),
)


class UpdateWindow:
    """The times at which an action is updated.

    Call `move_to` at every step.

    Attributes
    ----------
    is_open, first : bool
        Whether the action is updated at this step; whether it never was before.
    """

    def __init__(self, since: float, until: float) -> None:
        self.since, self.until = since, until
        self.is_open, self.first = False, True
        self._begun = False
        self._moved = False

    def contains(self, time: float) -> bool:
        """Whether the action is updated at a time [time unit of the input]."""
        return self.since <= time < self.until

    def move_to(self, step: int, time: float, first: bool) -> None:
        """Take a step; `first` of a run that restarts none."""
        if not (self._moved or first):  # the earlier run has done the step before
            self._begun |= self.contains(time / step * (step - 1))
        self._moved = True
        self.first, self.is_open = first or not self._begun, self.contains(time)
        self._begun |= self.is_open

    def saved(self) -> dict[str, np.ndarray]:
        """For a checkpoint: ``window``, shape (2,): whether it was ever open, and ever moved."""
        return {"window": np.array([self._begun, self._moved], dtype=int)}

    def restore_saved(self, arrays: dict[str, np.ndarray]) -> None:
        """Take over what `saved` gave, of shape (2,)."""
        self._begun, self._moved = map(bool, saved_array(arrays, "window", (2,)).tolist())


def read_window(given: Given) -> tuple[float, float] | None:
    """The times of an action's window [time unit of the input]; None where it is always updated."""
    since, until = (given.options[word] for word in ("UPDATE_FROM", "UPDATE_UNTIL"))
    if since is None and until is None:
        return None
    return -math.inf if since is None else since, math.inf if until is None else until
