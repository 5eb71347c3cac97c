"""Arrays in a zip, as `numpy.savez` writes them: read without pickle, and all of each.

`numpy.load` reads as many bytes as the header of an array says. Where that header is damaged these
may be fewer than there are, and the checksum behind them is then never looked at.
"""

from __future__ import annotations

import io
import math
import zipfile
from pathlib import Path
from typing import BinaryIO

import numpy as np

from openmm_cgan.atomic_files import require_readable

MAX_ARRAY_BYTES = 8 * 1024**3
_HEADERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}
_ENDING = ".npy"


def read_arrays(file: BinaryIO, max_bytes: int) -> dict[str, np.ndarray]:
    """The arrays of a zip by name, of any shapes; each member has the checksum it was written with.

    Parameters
    ----------
    file : BinaryIO
        Open to read, with seek.
    max_bytes : int
        Of all members once unpacked.

    Raises
    ------
    ValueError
        If it is too large, or a member is no array of plain numbers or text.
    zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError, NotImplementedError
        If it is no zip or is damaged.
    """
    with zipfile.ZipFile(file) as archive:
        require_size(archive, max_bytes)
        arrays = {}
        for member in archive.infolist():
            name = member.filename.removesuffix(_ENDING)
            if name in arrays:
                raise ValueError(f"it holds two arrays called {name}")
            try:
                arrays[name] = _array(archive.read(member))
            except ValueError as error:
                raise ValueError(f"{name}: {error}") from None
    return arrays


def read_array(path: Path) -> np.ndarray:
    """The array, of any shape, of a .npy file.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it holds no array of plain numbers or text; the message names the file.
    """
    require_readable(path, MAX_ARRAY_BYTES)
    try:
        return _array(path.read_bytes())
    except ValueError as error:
        raise ValueError(f"{path} is no .npy file, or is damaged: {error}") from None


def require_checksums(path: Path, max_bytes: int) -> None:
    """Look at all checksums of a zip that others read, such as torch, which does not.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is too large, or a member has another checksum than it was written with.
    zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError, NotImplementedError
        If it is no zip or is damaged.
    """
    require_readable(path, max_bytes)
    with zipfile.ZipFile(path) as archive:
        require_size(archive, max_bytes)
        if (damaged := archive.testzip()) is not None:
            raise ValueError(f"{damaged} has another checksum than it was written with")


def require_size(archive: zipfile.ZipFile, max_bytes: int) -> None:
    """Refuse a zip that unpacks to more than so many bytes.

    Raises
    ------
    ValueError
        With its size.
    """
    size = sum(member.file_size for member in archive.infolist())
    if size > max_bytes:
        raise ValueError(f"it unpacks to {size} bytes, more than {max_bytes}")


def _array(content: bytes) -> np.ndarray:
    """The array, of any shape, of a whole .npy file."""
    buffer = io.BytesIO(content)
    version = np.lib.format.read_magic(buffer)
    if version not in _HEADERS:
        raise ValueError(f"its version {version} is not known")
    shape, is_fortran, dtype = _HEADERS[version](buffer)
    if dtype.kind not in "biufUS":
        raise ValueError(f"it holds {dtype}, expected numbers or text")
    data = buffer.read()
    if min(shape, default=0) < 0 or math.prod(shape) * dtype.itemsize != len(data):
        raise ValueError(f"it has {len(data)} bytes, which is not {dtype} of shape {shape}")
    if not dtype.itemsize:
        return np.zeros(shape, dtype)
    array = np.frombuffer(data, dtype).copy()
    return array.reshape(shape, order="F" if is_fortran else "C")
