"""Changes to HDF5 files that happen whole or not at all, wherever the program is killed.

HDF5 changes a file in many places at once; stopped half way it leaves rows of zeros, or a file that
will not open; and a full disk ends the program by a segmentation fault. So h5py writes to memory
first. What lies behind the old end of the file goes to disk directly, where nothing points yet; the
bytes that change inside go to a journal in the same folder, and only then to their places. Who
finds a complete journal repeats these writes; an incomplete one is of a change that has not begun.
(Databases call this a redo log.)

Programs that know nothing of the journal, plain h5py and MDAnalysis, see whole changes too. HDF5
locks what it opens, so that they are refused while bytes change; a file that they have open is
left to them as it is, and a changed copy takes its name. Meanwhile the file says that it has a
version which no HDF5 knows: where the writer is killed it is refused until the change is finished.

It protects from the death of the program. Against the loss of power the operating system would
have to be asked to empty its caches at every change, which nobody wants once a second.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import json
import os
import shutil
import struct
import time
import weakref
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import h5py

from openmm_cgan.atomic_files import replacing

try:
    import fcntl
except ImportError:  # Windows has none: two writers of one folder are not told apart there
    fcntl = None  # type: ignore[assignment]

JOURNAL = "segments.journal"
HEAD_BYTES = 64 * 1024
SNAPSHOT_TRIES, SNAPSHOT_SECONDS = 25, 0.02

_HEAD = struct.Struct("<8sQI")  # mark, length and CRC-32 of what follows
_MARK = b"ocganj01"
# where HDF5 files have the version of their superblock, and a version that there is not
_VERSION_AT, _UNFINISHED = 8, b"\xff"


class Change(NamedTuple):
    """What turns a file into what it shall be."""

    name: str
    size: int
    writes: list[tuple[int, bytes]]  # offset, bytes


class Journal:
    """The journal of a folder, and with it the right to write there.

    Parameters
    ----------
    folder : Path

    Raises
    ------
    RuntimeError
        If another process holds it.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self._pid = folder, os.getpid()
        self._file = _locked(folder / JOURNAL)
        self._release = weakref.finalize(self, _release, self._file, folder / JOURNAL, self._pid)
        # at exit writers still have something to write; the lock ends with the process
        self._release.atexit = False

    @property
    def ours(self) -> bool:
        """False once closed, and in a forked child, whose copy must not write."""
        return self._release.alive and os.getpid() == self._pid

    def close(self) -> None:
        """Give the folder free."""
        if self._release.detach() is not None:
            _release(self._file, self.folder / JOURNAL, self._pid)

    @contextlib.contextmanager
    def changing(self, path: Path) -> Iterator[h5py.File]:
        """Open an HDF5 file to change it; where an exception comes, it stays as it was."""
        self.finish()
        with path.open("rb", buffering=0) as base:
            memory = _Overlay(base)
            with h5py.File(memory, "r+") as file:
                yield file
        self._commit(path, memory)

    def finish(self) -> None:
        """Finish a change that a killed program has left."""
        self._file.seek(0)
        change = read_change(self._file.read())
        if change is not None and (path := self.folder / Path(change.name).name).exists():
            with path.open("r+b", buffering=0) as file:
                if _locked_to_write(file):
                    redo(file, change)
                else:
                    _replace_changed(path, change)
        self._file.truncate(0)

    def _commit(self, path: Path, memory: _Overlay) -> None:
        with path.open("r+b", buffering=0) as file:
            if _locked_to_write(file):  # until it is closed
                self._change_inside(file, path, memory)
            else:
                _replace_changed(path, Change(path.name, memory.size, memory.writes))

    def _change_inside(self, file: Any, path: Path, memory: _Overlay) -> None:
        whole = os.fstat(file.fileno()).st_size
        behind = [(at, data) for at, data in memory.writes if at >= whole]
        inside = [(at, data) for at, data in memory.writes if at < whole]
        change = Change(path.name, memory.size, _unreadable_meanwhile(inside, memory.version))
        try:
            for at, data in behind:
                file.seek(at)
                _write_all(file, data)
            _write_all(self._file, _packed(change))
        except BaseException:  # a full disk
            self._file.truncate(0)
            file.truncate(whole)
            raise
        with contextlib.suppress(OSError):  # it is decided: `finish` repeats it, or raises
            redo(file, change)
            self._file.truncate(0)


def _unreadable_meanwhile(
    writes: list[tuple[int, bytes]], version: bytes
) -> list[tuple[int, bytes]]:
    """Writes before the first of which HDF5 is told to refuse the file, and after the last not."""
    hidden = [(_VERSION_AT, _UNFINISHED)]
    for at, data in writes:
        place = _VERSION_AT - at
        if 0 <= place < len(data):
            data = data[:place] + _UNFINISHED + data[place + 1 :]
        hidden.append((at, data))
    return [*hidden, (_VERSION_AT, version)]


def _locked_to_write(file: Any) -> bool:
    """Take the lock that HDF5 takes; False where another program, or object, reads the file."""
    if fcntl is None:
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a file system without locks, where HDF5 takes none either
        return True
    return True


def _replace_changed(path: Path, change: Change) -> None:
    """Put a changed copy in the place of a file; who has it open goes on to see it unchanged."""
    with replacing(path) as new:
        shutil.copy(path, new)
        with new.open("r+b", buffering=0) as file:
            redo(file, change)


def _packed(change: Change) -> bytes:
    where = [[at, len(data)] for at, data in change.writes]
    text = json.dumps([change.name, change.size, where]).encode() + b"\n"
    body = text + b"".join(data for _, data in change.writes)
    return _HEAD.pack(_MARK, len(body), zlib.crc32(body)) + body


def read_change(journal: bytes) -> Change | None:
    """The change in a journal; None where it is not complete, for then it has not begun."""
    if len(journal) < _HEAD.size:
        return None
    mark, length, crc = _HEAD.unpack_from(journal)
    body = journal[_HEAD.size : _HEAD.size + length]
    if mark != _MARK or len(body) != length or zlib.crc32(body) != crc:
        return None
    text, _, data = body.partition(b"\n")
    name, size, where = json.loads(text)
    ends = list(itertools.accumulate(length for _, length in where))
    writes = [(at, data[end - n : end]) for (at, n), end in zip(where, ends, strict=True)]
    return Change(name, size, writes)


def redo(file: Any, change: Change) -> None:
    """Make the writes of a change, again if need be."""
    for at, data in change.writes:
        file.seek(at)
        _write_all(file, data)
    file.truncate(change.size)


def open_snapshot(path: Path, check: Callable[[h5py.File], None]) -> h5py.File:
    """Open an HDF5 file to read, as it is at one moment.

    Where its folder has a journal, a program may be changing it: it is read into memory between
    two changes. Where its writer was killed during a change, it is read as that would have left it.

    Parameters
    ----------
    path : Path
    check : callable
        Raises where the file is not what is expected.
    """
    journal = path.parent / JOURNAL
    for _ in range(SNAPSHOT_TRIES):
        if not journal.exists():
            with contextlib.suppress(BlockingIOError):  # a writer has just begun
                return _open_checked(path, check)
        elif (image := _image_between_changes(path, journal)) is not None:
            return _open_checked(io.BytesIO(image), check)
        time.sleep(SNAPSHOT_SECONDS)
    memory = io.BytesIO(path.read_bytes())
    change = read_change(journal.read_bytes()) if journal.exists() else None
    if change is not None and change.name == path.name:
        redo(memory, change)
    return _open_checked(memory, check)


def _open_checked(source: Path | io.BytesIO, check: Callable[[h5py.File], None]) -> h5py.File:
    on_disk = isinstance(source, Path)  # a writer that begins now leaves it as it is: see above
    file = h5py.File(source, "r", **({"locking": "best-effort"} if on_disk else {}))
    try:
        check(file)
    except BaseException:
        file.close()
        raise
    return file


def _image_between_changes(path: Path, journal: Path) -> bytes | None:
    """The bytes of a file, unless it was changed meanwhile."""
    before = _stamp(path, journal)
    image = path.read_bytes()
    return image if before[0] == 0 and _stamp(path, journal) == before else None


def _stamp(path: Path, journal: Path) -> tuple[int, int, int]:
    status = path.stat()
    filled = journal.stat().st_size if journal.exists() else 0
    return filled, status.st_mtime_ns, status.st_size


class _Overlay(io.RawIOBase):
    """A file as h5py sees it while it changes it: what is on disk, and the writes in memory."""

    def __init__(self, base: Any) -> None:
        self._base = base
        self._at = 0
        self.size = self._whole = os.fstat(base.fileno()).st_size
        # HDF5 keeps most of what it looks up at the head of the file: that is read once
        self._head = base.read(min(HEAD_BYTES, self._whole))
        self.writes: list[tuple[int, bytes]] = []

    @property
    def version(self) -> bytes:
        """Of the superblock, which no change changes."""
        return self._head[_VERSION_AT : _VERSION_AT + 1]

    def readable(self) -> bool:
        return True

    writable = seekable = readable

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self.size}[whence]
        return self._at

    def tell(self) -> int:
        return self._at

    def readinto(self, buffer: Any) -> int:
        start, stop = self._at, max(self._at, min(self._at + len(buffer), self.size))
        if stop <= len(self._head):
            data = self._head[start:stop]
        else:
            self._base.seek(start)
            data = self._base.read(max(0, min(stop, self._whole) - start))
        view = memoryview(buffer).cast("B")
        view[: len(data)] = data
        view[len(data) :] = bytes(len(view) - len(data))
        for at, new in self.writes:
            low, high = max(at, start), min(at + len(new), stop)
            if low < high:
                view[low - start : high - start] = new[low - at : high - at]
        self._at = stop
        return stop - start

    def write(self, data: Any) -> int:
        new = bytes(data)
        # a write may reach over the old end of the file: the part inside goes to the journal
        cut = max(0, min(self._whole - self._at, len(new)))
        for at, part in ((self._at, new[:cut]), (self._at + cut, new[cut:])):
            if part:
                self.writes.append((at, part))
        self._at += len(new)
        self.size = max(self.size, self._at)
        return len(new)

    def truncate(self, size: int | None = None) -> int:
        self.size = self._at if size is None else size
        return self.size


def _write_all(raw: Any, data: Any) -> None:
    """Write to an unbuffered file, which may take less at a time than it is given."""
    view = memoryview(data).cast("B")
    while view:
        view = view[raw.write(view) :]


def _locked(path: Path) -> Any:
    """Open a journal that no other process holds."""
    while True:
        file = path.open("a+b", buffering=0)
        if fcntl is None:
            return file
        try:
            # a record lock: it ends with the process, and forked children do not inherit it
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            file.close()
            raise RuntimeError(
                f"another process is writing to {path.parent}: give each run its own folder"
            ) from None
        except OSError:  # a file system without locks
            return file
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.stat(path), os.fstat(file.fileno())):
                return file
        file.close()  # its last owner has just removed it


def _release(file: Any, path: Path, pid: int) -> None:
    if os.getpid() == pid:
        path.unlink(missing_ok=True)
    file.close()
