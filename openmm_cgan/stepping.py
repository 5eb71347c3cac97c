"""What is to happen before, after and in the midst of ``simulation.step``: OpenMM asks nobody."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from openmm.app import Simulation

PIECE_SECONDS = 0.5  # between two looks


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


def step_and_look(simulation: Simulation, steps: int, look: Callable[[int], None]) -> None:
    """Run so many steps, with a look about twice a second.

    Parameters
    ----------
    simulation : openmm.app.Simulation
    steps : int
    look : callable
        Given the number of steps made since it was last called.
    """
    piece, done = max(1, min(steps // 100, 100)), 0
    while done < steps:
        started, n = time.perf_counter(), min(piece, steps - done)
        simulation.step(n)
        done += n
        look(n)
        if time.perf_counter() - started < PIECE_SECONDS / 2:
            piece = min(2 * piece, 10_000)
