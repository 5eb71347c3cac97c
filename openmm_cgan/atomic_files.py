"""Files that a kill at any moment, or a loss of power, leaves either as they were or complete."""

from __future__ import annotations

import contextlib
import os
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
    leaves the ``.part`` file, which names it by its number.

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
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield unfinished
        with open(unfinished, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)
    _flush_folder(path.parent)


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


def keep_older(path: str | os.PathLike[str]) -> None:
    """Give a file the further name ``path.old``, in place of the one before, if there is one."""
    path = Path(path)
    if path.exists():
        with replacing(path.with_name(f"{path.name}.old")) as older:
            try:
                os.link(path, older)
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
