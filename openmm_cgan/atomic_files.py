"""Files that a kill at any moment, or a loss of power, leaves either as they were or complete."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO


@contextlib.contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """A path to write to, whose file takes the place of ``path`` where the block ends well.

    The new file lies beside the old one, under a hidden name that ends in ``.part``, which no
    pattern for the files of a run matches. Its bytes are on the disk before it gets its name, and
    the name is before this returns: only in this order a loss of power leaves no empty file.

    Parameters
    ----------
    path : str or PathLike
        The file; it need not exist, its folder must.

    Yields
    ------
    Path
        Where to write; closed when the block ends.

    Raises
    ------
    OSError
        If the file can not be written.

    Notes
    -----
    If the block raises, the old file stays and the new one is removed. A process that is killed
    leaves the ``.part`` file, which names it by its number. A device or a pipe is written to once
    all is known, and stays: a regular file in its place would hide it from everybody. Of a symbolic
    link the file that it names is replaced.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "run.json"
    ...     with replacing(path) as unfinished:
    ...         _ = unfinished.write_text("{}")
    ...     [path.name for path in Path(folder).iterdir()]
    ['run.json']
    """
    path = Path(path)
    if not replaceable(path):
        with tempfile.TemporaryDirectory() as folder:
            whole = Path(folder) / path.name
            yield whole
            with open_special(path) as file:
                file.write(whole.read_bytes())
        return
    if path.is_symlink():  # it says where the file is to lie
        path = Path(os.path.realpath(path))
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield unfinished
        with open(unfinished, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(unfinished, path)
    except OSError as error:
        if error.errno is not None and error.filename is None:  # a full disk names no file
            error.filename = str(path)
        raise
    finally:
        unfinished.unlink(missing_ok=True)
    _flush_folder(path.parent)


def replaceable(path: Path) -> bool:
    """Whether a path may be renamed, or another file take its place: devices and pipes may not.

    Raises
    ------
    IsADirectoryError
        If it is a folder.
    """
    try:
        mode = path.stat().st_mode
    except OSError:  # nothing there yet, or what opening it will say
        return True
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(f"{path} is a folder; expected the name of a file to write")
    return stat.S_ISREG(mode)


def require_writable(path: Path) -> None:
    """Refuse a path, of a file or folder there is or is to be, that this user may not write.

    Parameters
    ----------
    path : Path
        A file is replaced whole, by one that is made beside it.

    Raises
    ------
    PermissionError
    """
    path = path.absolute()
    beside = path.exists() and not path.is_dir() and replaceable(path)
    there = path.parent if beside else path
    while not there.exists() and there != there.parent:
        there = there.parent
    if not os.access(there, os.W_OK | (os.X_OK if there.is_dir() else 0)):
        raise PermissionError(
            f"{path} can not be written: this user may not write to {there}. Give another place or "
            "change what is allowed there (chmod, chown, how it is mounted)"
        )


def require_readable(path: Path, max_bytes: int) -> None:
    """Refuse to read what is no regular file, or too large: devices and pipes need not end.

    Parameters
    ----------
    path : Path
    max_bytes : int

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    IsADirectoryError
        If it is a folder.
    ValueError
        If it is a device or a pipe, or larger.
    """
    status = path.stat()
    if stat.S_ISDIR(status.st_mode):
        raise IsADirectoryError(f"{path} is a folder; expected the name of a file to read")
    if not stat.S_ISREG(status.st_mode):
        raise ValueError(f"{path} is a device or a pipe; expected a file")
    if status.st_size > max_bytes:
        raise ValueError(f"{path} is larger than {max_bytes} bytes")


def open_special(path: Path) -> BinaryIO:
    """Open a device or a pipe to write to.

    Raises
    ------
    BlockingIOError
        If it is a pipe that nobody reads: a run would wait for ever.
    OSError
        If it can not be written to.
    """
    try:
        number = os.open(path, os.O_WRONLY | os.O_NONBLOCK)
    except OSError as error:
        if error.errno != errno.ENXIO:
            raise
        raise BlockingIOError(
            f"{path} is a pipe that nobody reads: begin to read it first, or name a file"
        ) from None
    os.set_blocking(number, True)
    return os.fdopen(number, "wb")


def write_atomically(path: str | os.PathLike[str], content: str | bytes | memoryview) -> None:
    """Replace a file by a text or by bytes, as `replacing` does.

    Parameters
    ----------
    path : str or PathLike
    content : str, bytes or memoryview

    Raises
    ------
    OSError
        If the file can not be written.
    """
    with replacing(path) as unfinished:
        if isinstance(content, str):
            unfinished.write_text(content)
        else:
            unfinished.write_bytes(content)


class WholeWrites(io.FileIO):
    """A file to append to: what is written is in it whole, or not at all."""

    def write(self, content: Any) -> int:
        """Write all of it; what a full disk has taken of it is taken back, and the file named."""
        end, left = self.seek(0, io.SEEK_END), memoryview(content)
        try:
            while left:
                left = left[super().write(left) :]
        except OSError as error:
            self.truncate(end)
            error.filename = str(self.name)
            raise
        return len(content)


def keep_older(path: str | os.PathLike[str]) -> None:
    """Give a file the further name ``path.old``, in place of the one before, if there is one."""
    path = Path(path)
    if path.exists():
        with replacing(path.with_name(f"{path.name}.old")) as older:
            try:
                os.link(os.path.realpath(path), older)  # a link itself would be that of the new one
            except OSError:  # a file system without links
                older.write_bytes(path.read_bytes())


def flush_to_disk(path: str | os.PathLike[str]) -> int:
    """Have what a file holds on the disk; return its length in bytes."""
    with open(path, "rb+") as file:
        os.fsync(file.fileno())
        return os.fstat(file.fileno()).st_size


def _flush_folder(folder: Path) -> None:
    """Have the names in a folder on the disk, where folders can be opened (not on Windows)."""
    with contextlib.suppress(OSError):
        number = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(number)
        finally:
            os.close(number)
