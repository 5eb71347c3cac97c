"""How a process ends: by a signal between two steps, or with the process that it works for."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

SIGNALS = (signal.SIGTERM, signal.SIGINT)


class StoppedBySignalError(KeyboardInterrupt):
    """A run has stopped because a signal asked for it; what is to be kept is on the disk.

    Attributes
    ----------
    number : int
        Of the signal.
    saved : bool
        Whether all is; else what was saved last is there, for somebody would not wait.
    """

    def __init__(self, number: int, saved: bool = True) -> None:
        super().__init__(f"stopped by {signal.Signals(number).name}")
        self.number, self.saved = number, saved

    def told(self, kept: object, how: str) -> str:
        """One line on what there is to go on from: in `kept`, by `how`."""
        if self.saved:
            return f"{self}; all is saved in {kept}: {how} goes on"
        last = f"what was last saved is in {kept}: {how} goes on from there"
        return f"{self} in the midst of a step; {last}"


@contextlib.contextmanager
def between_steps(keep: bool = True) -> Iterator[Callable[[], None]]:
    """Keep signals until it is asked for them; what the process ignores it goes on to ignore.

    Parameters
    ----------
    keep : bool
        Whether there is anything to save: else signals are as they were.

    Yields
    ------
    callable
        Raises StoppedBySignalError if SIGTERM or SIGINT has come since.

    Raises
    ------
    StoppedBySignalError
        At the third signal wherever it comes, in the midst of a step: that step can not be saved.
    """
    came: list[int] = []
    if not keep:
        yield lambda: None
        return

    def remember(number: int, frame: FrameType | None) -> None:
        came.append(number)
        if len(came) > 2:  # somebody will not wait
            raise StoppedBySignalError(number, saved=False)

    def raise_what_came() -> None:
        if came:
            raise StoppedBySignalError(came[0])

    try:
        with _handled_by(remember):
            yield raise_what_came
    except Exception as error:
        if len(came) > 2:  # OpenMM makes an error of its own of what a PythonForce raises
            raise StoppedBySignalError(came[-1], saved=False) from error
        raise


@contextlib.contextmanager
def at_once() -> Iterator[None]:
    """Have SIGTERM and SIGINT raise StoppedBySignalError where they come, unless ignored before.

    For work whose files are at all times as a kill may leave them; `between_steps` within it keeps
    signals for a while.
    """

    def stop(number: int, frame: FrameType | None) -> None:
        raise StoppedBySignalError(number)

    with _handled_by(stop):
        yield


@contextlib.contextmanager
def _handled_by(handler: Callable[[int, FrameType | None], Any]) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread hears of signals
        return
    # In the background of a shell, or by nohup, one that ends others is not for this process.
    heard = [n for n in SIGNALS if signal.getsignal(n) not in (signal.SIG_IGN, None)]
    before = {number: signal.signal(number, handler) for number in heard}
    try:
        yield
    finally:
        for number, handled in before.items():
            signal.signal(number, handled)


def end_with_parent() -> None:
    """End this process within a second of its parent's death, however that comes.

    Nobody would take what it makes, and who goes on with the work would find its files taken.
    Windows does not tell of it.
    """
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.2)
        os._exit(1)

    threading.Thread(target=watch, daemon=True, name="end_with_parent").start()
