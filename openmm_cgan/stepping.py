"""What is to happen before and after ``simulation.step``: OpenMM asks nobody."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from openmm.app import Simulation


def around_steps(
    simulation: Simulation,
    before: Callable[[], None] = lambda: None,
    after: Callable[[], None] = lambda: None,
) -> None:
    """Have functions called around each ``step`` and ``runForClockTime`` of a Simulation.

    Parameters
    ----------
    simulation : openmm.app.Simulation
    before, after : callable
        `after` is not called where the steps raise.
    """

    def wrapped(function: Any) -> Any:
        @functools.wraps(function)
        def run(*arguments: Any, **named: Any) -> Any:
            before()
            result = function(*arguments, **named)
            after()
            return result

        return run

    stepping: Any = simulation
    stepping.step = wrapped(simulation.step)
    stepping.runForClockTime = wrapped(simulation.runForClockTime)
