"""Files and folders that one process writes to, and no second one beside it."""

from __future__ import annotations

import os
import time
import weakref
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows has none: two writers of one file are not told apart there
    fcntl = None  # type: ignore[assignment]

PATIENCE = 2.0  # seconds: the workers of a killed program end a moment after it

# What this process holds: a descriptor and how many claims there are, by device and inode.
_HELD: dict[tuple[int, int], list[int]] = {}


class Claim:
    """The right to write to a file or a folder, until it is released or the process ends.

    Claims of one process do not exclude each other: a cell of a notebook may be run again. A
    process that dies leaves none behind, and forked children inherit none. It holds as long as the
    file has the same inode, whatever its name becomes.

    Parameters
    ----------
    path : Path
        What does not exist, a device and a pipe can not be claimed, and need not.

    Raises
    ------
    RuntimeError
        If another process has it.
    """

    def __init__(self, path: Path) -> None:
        self._key = _take(path) if fcntl is not None else None
        self._release = weakref.finalize(self, _give_back, self._key)

    def is_of(self, path: Path) -> bool:
        """Whether a path names what is claimed, which another process may have put elsewhere.

        Of what can not be claimed, whether it is there at all.
        """
        try:
            status = path.stat()
        except FileNotFoundError:
            return False
        return self._key is None or self._key == (status.st_dev, status.st_ino)

    def release(self) -> None:
        """Give it up; again is no harm."""
        self._release()


def _take(path: Path) -> tuple[int, int] | None:
    if not (path.is_file() or path.is_dir()):
        return None
    try:
        number = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    except OSError:  # who opens it to write says why that can not be
        return None
    status = os.fstat(number)
    key = status.st_dev, status.st_ino
    if key in _HELD:
        os.close(number)
        _HELD[key][1] += 1
        return key
    try:
        _lock(number)
    except BlockingIOError:
        os.close(number)
        raise RuntimeError(
            f"another process is writing to {path}: give each run its own folder, or wait until "
            "that one has ended"
        ) from None
    except OSError:  # a file system without locks
        os.close(number)
        return None
    _HELD[key] = [number, 1]
    return key


def _lock(number: int) -> None:
    until = time.monotonic() + PATIENCE
    while True:
        try:
            fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() > until:
                raise
        time.sleep(0.05)


def _give_back(key: tuple[int, int] | None) -> None:
    if key is None or key not in _HELD:  # in a forked child there are none
        return
    _HELD[key][1] -= 1
    if _HELD[key][1] == 0:
        os.close(_HELD.pop(key)[0])  # the lock ends with its last descriptor


def _forget() -> None:
    """Close a forked child's copies: the lock would last as long as the child."""
    for number, _ in _HELD.values():
        os.close(number)
    _HELD.clear()


if fcntl is not None:
    os.register_at_fork(after_in_child=_forget)
