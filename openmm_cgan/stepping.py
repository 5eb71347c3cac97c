"""What is to happen before, after and in the midst of ``simulation.step``: OpenMM asks nobody."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from openmm.app import Simulation

PIECE_SECONDS = 0.5  # between two looks
_ATTRIBUTE = "_openmm_cgan_around_steps"


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
        What was given last is called first before steps and last after them; `after` is not called
        where the steps raise. Given while steps are made, it is called after these already, where
        something was given before them (by `PlumedBias.attach`, say).
    """

    held = vars(simulation).get(_ATTRIBUTE)
    if held is None:
        held = _Around()
        stepping: Any = simulation
        stepping.step = held.wrapped(simulation.step)
        stepping.runForClockTime = held.wrapped(simulation.runForClockTime)
        setattr(simulation, _ATTRIBUTE, held)
    held.before.insert(0, before)
    held.after.append(after)


@dataclass
class _Around:
    """What is called around the steps of one Simulation, by one wrapper for all.

    So what is added while steps are made is called when they have been made.
    """

    before: list[Callable[[], None]] = field(default_factory=list)
    after: list[Callable[[], None]] = field(default_factory=list)

    def wrapped(self, function: Any) -> Any:
        """The function with the others called around it."""

        @functools.wraps(function)
        def run(*arguments: Any, **named: Any) -> Any:
            for own in tuple(self.before):
                own()
            result = function(*arguments, **named)
            for own in tuple(self.after):
                own()
            return result

        return run


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
