"""What is in a file of rows: plain or, where its name ends in .gz, gzip; whole lines again."""

from __future__ import annotations

import gzip
import io
import logging
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, TextIO

from openmm_cgan.atomic_files import (
    WholeWrites,
    open_special,
    replaceable,
    require_readable,
    write_atomically,
)

GZIP = 31  # the window of zlib with gzip's header around it
MAX_FILE_BYTES = 4 * 1024**3  # also once unpacked

log = logging.getLogger("openmm_cgan")


def is_compressed(path: Path) -> bool:
    """Whether PLUMED takes a file as gzip: by its name alone."""
    return path.suffix == ".gz"


def open_rows(path: Path) -> TextIO:
    """Open a file to append rows, with gzip where its name says so."""
    if not replaceable(path):
        return io.TextIOWrapper(open_special(path), encoding="utf-8")
    if is_compressed(path):
        return io.TextIOWrapper(PackedWrites(path, "ab"), encoding="utf-8")
    return io.TextIOWrapper(WholeWrites(path, "ab"), encoding="utf-8")


class PackedWrites(WholeWrites):
    """The same of a gzip file: what is written can be unpacked at once, or is not in it at all.

    What gzip calls a member begins where the file is opened, and behind each `end_member`.
    """

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._member = zlib.compressobj(wbits=GZIP)
        self._begun = self.seek(0, io.SEEK_END) == 0  # an empty file would be none of gzip's

    def write(self, content: Any) -> int:
        """Write all of it; what a full disk has taken of it is taken back, and the file named."""
        if not len(content):  # a flush of nothing begins no member
            return 0
        member = self._member.copy()  # what the file does not take was never packed
        super().write(member.compress(content) + member.flush(zlib.Z_SYNC_FLUSH))
        self._member, self._begun = member, True
        return len(content)

    def end_member(self) -> None:
        """Bring the file to a length that it can be cut to later."""
        if self._begun:
            super().write(self._member.copy().flush())
            self._member, self._begun = zlib.compressobj(wbits=GZIP), False

    def close(self) -> None:
        """End the member, and close the file."""
        try:
            if not self.closed:
                self.end_member()
        finally:
            super().close()


def append_rows(path: Path, rows: str | bytes) -> None:
    """Append to a file what then is in it whole or not at all; of a gzip file it is a member."""
    content = rows.encode() if isinstance(rows, str) else rows
    if not replaceable(path):
        with open_special(path) as special:
            special.write(content)
        return
    with WholeWrites(path, "ab") as file:
        file.write(gzip.compress(content, mtime=0) if is_compressed(path) else content)


def has_text(path: Path) -> bool:
    """Whether more than blanks is in a file of rows."""
    return bool(text_of_rows(path).strip())


def packed(text: str, path: Path) -> bytes:
    """A whole file of rows as its name asks for it."""
    return gzip.compress(text.encode(), mtime=0) if is_compressed(path) else text.encode()


def rows_of(path: Path, begin: int = 0) -> bytes:
    """The contents of a file, unpacked; of a gzip file that ends too early what there is.

    Parameters
    ----------
    path : Path
    begin : int
        What is before is left out [bytes]: of a plain file it is not read again.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is too large, or no gzip though its name says so.
    """
    if is_compressed(path):
        return _contents(path)[0][begin:]
    require_readable(path, MAX_FILE_BYTES)
    with path.open("rb") as file:
        file.seek(begin)
        return file.read()


def text_of_rows(path: Path) -> str:
    """The whole rows of a file as text; a last one that is still being written is left out.

    Raises
    ------
    FileNotFoundError, ValueError
        As `rows_of`, and if it is no text.
    """
    try:
        rows = rows_of(path)
        return rows[: rows.rfind(b"\n") + 1].decode("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is no text file: {error}") from None


def _contents(path: Path) -> tuple[bytes, bool]:
    """Contents, and whether a gzip file is whole."""
    require_readable(path, MAX_FILE_BYTES)
    packed = path.read_bytes()
    if not is_compressed(path):
        return packed, True
    unpacked, whole = b"", True
    while packed:
        member = zlib.decompressobj(wbits=GZIP)  # gzip: each run that appends adds a member
        try:
            unpacked += member.decompress(packed, MAX_FILE_BYTES - len(unpacked) + 1)
        except zlib.error as error:
            raise ValueError(f"{path} is no gzip file, or is damaged: {error}") from None
        if len(unpacked) > MAX_FILE_BYTES:
            raise ValueError(f"{path} unpacks to more than {MAX_FILE_BYTES} bytes")
        whole = member.eof
        packed = member.unused_data
    return unpacked, whole


def cut_half_row(path: Path) -> None:
    """Cut off a last row that a kill or a full disk has left half written, and say so.

    What is appended would be glued to it. A file that ends well is left as it is.

    Parameters
    ----------
    path : Path
        It need not exist.
    """
    cut_behind(path, after_last_newline, "row")


def cut_behind(path: Path, whole_until: Callable[[BinaryIO], int], what: str) -> None:
    """Cut a file where its last whole row, or what else it is made of, ends.

    Parameters
    ----------
    path : Path
        It need not exist.
    whole_until : callable
        Of the file, unpacked: where that is [bytes].
    what : str
        What it is made of, for the log.
    """
    if not path.exists() or not replaceable(path):
        return
    if not is_compressed(path):
        with path.open("rb+") as file:
            end = whole_until(file)
            if end < file.seek(0, 2):
                file.truncate(end)
                log.warning("%s ended in half a %s, which is cut off", path, what)
        return
    rows, whole = _contents(path)
    end = whole_until(io.BytesIO(rows))
    if not whole or end < len(rows):
        write_atomically(path, gzip.compress(rows[:end], mtime=0))
        log.warning("%s ended too early: what was behind its last whole %s is cut off", path, what)


def after_last_newline(file: BinaryIO) -> int:
    """Where the last whole line ends [bytes]."""
    block = 1 << 16
    end = file.seek(0, 2)
    while end > 0:
        begin = max(0, end - block)
        file.seek(begin)
        place = file.read(end - begin).rfind(b"\n")
        if place >= 0:
            return begin + place + 1
        end = begin
    return 0
