"""Runs that a queue or a user ends by a signal stop between two steps, and say how to go on."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType

SIGNALS = (signal.SIGTERM, signal.SIGINT)


class StoppedBySignalError(KeyboardInterrupt):
    """A run has stopped because a signal asked for it; what is to be kept is on the disk.

    Attributes
    ----------
    number : int
        Of the signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__(f"stopped by {signal.Signals(number).name}")
        self.number = number


@contextlib.contextmanager
def between_steps() -> Iterator[Callable[[], None]]:
    """Keep signals until it is asked for them.

    Yields
    ------
    callable
        Raises StoppedBySignalError if SIGTERM or SIGINT has come since.
    """
    came: list[int] = []

    def remember(number: int, frame: FrameType | None) -> None:
        came.append(number)
        if len(came) > 2:  # somebody will not wait
            raise StoppedBySignalError(number)

    def raise_what_came() -> None:
        if came:
            raise StoppedBySignalError(came[0])

    if threading.current_thread() is not threading.main_thread():
        yield raise_what_came  # only the main thread hears of signals
        return
    before = {number: signal.signal(number, remember) for number in SIGNALS}
    try:
        yield raise_what_came
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
