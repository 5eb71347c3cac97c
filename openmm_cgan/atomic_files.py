"""Files that a kill at any moment, or a loss of power, leaves either as they were or complete."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path


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
    leaves the ``.part`` file, which names it by its number. A device or a pipe is written to as it
    is: in its place a regular file would stand, and nobody would find the device again.

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
        yield path
        return
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield unfinished
        with open(unfinished, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)
    _flush_folder(path.parent)


def replaceable(path: Path) -> bool:
    """Whether a path may be renamed, or another file take its place: devices and pipes may not.

    Raises
    ------
    IsADirectoryError
        If it is a folder.
    BlockingIOError
        If it is a pipe that nobody reads, which writing would wait for.
    """
    try:
        mode = path.stat().st_mode
    except OSError:  # nothing there yet, or what opening it will say
        return True
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(f"{path} is a folder; expected the name of a file to write")
    if stat.S_ISFIFO(mode):
        try:
            os.close(os.open(path, os.O_WRONLY | os.O_NONBLOCK))
        except OSError:
            raise BlockingIOError(
                f"{path} is a pipe that nobody reads: begin to read it first, or name a file"
            ) from None
    return stat.S_ISREG(mode)


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


def _flush_folder(folder: Path) -> None:
    """Have the names in a folder on the disk, where folders can be opened (not on Windows)."""
    with contextlib.suppress(OSError):
        number = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(number)
        finally:
            os.close(number)
