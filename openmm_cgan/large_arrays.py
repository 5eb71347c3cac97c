"""Arrays too large for memory: they lie in temporary files, without a name, and are mapped.

They are numpy arrays like others. What has been read or written stays in memory until `forget`
gives it back; the file goes when nothing refers to the array any more. How large an array may be
before it lies in a file the environment says: OPENMM_CGAN_MEMORY, in GiB, 1 by default.
"""

from __future__ import annotations

import math
import mmap
import os
import tempfile
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

GIB = 2**30  # bytes
IN_MEMORY = GIB  # what is larger lies in a file, unless the environment says otherwise
SETTING = "OPENMM_CGAN_MEMORY"
PIECE = 64 * 1024**2  # bytes worked on at a time


def in_memory() -> int:
    """How many bytes an array may have that is held in memory.

    Raises
    ------
    ValueError
        If the environment says something that is no number of GiB.
    """
    if (text := os.environ.get(SETTING)) is None:
        return IN_MEMORY
    try:
        limit = float(text)
    except ValueError:
        limit = math.nan
    if not 0 <= limit < math.inf:
        raise ValueError(
            f"the environment has {SETTING}={text!r}; expected a number of GiB, such as 0.5: "
            "larger arrays lie in temporary files"
        )
    return int(limit * GIB)


def room(shape: Sequence[int], dtype: Any, limit: int | None = None) -> NDArray[Any]:
    """An array to be filled: in memory, or in a file where it has more bytes than a limit.

    By default that is `in_memory`.

    Raises
    ------
    OSError
        If the folder for temporary files (TMPDIR) has no place for it.
    """
    shape, limit = tuple(int(n) for n in shape), in_memory() if limit is None else limit
    if np.dtype(dtype).itemsize * int(np.prod(shape)) <= limit or 0 in shape:
        return np.empty(shape, dtype)
    with tempfile.TemporaryFile(prefix="openmm_cgan-") as file:
        return np.memmap(file, dtype=dtype, mode="w+", shape=shape)


def pieces(array: NDArray[Any]) -> Iterator[slice]:
    """Rows of an array, few enough to be worked on at a time; each piece is forgotten after."""
    step = max(1, PIECE // max(1, array[:1].nbytes))
    for start in range(0, len(array), step):
        yield slice(start, start + step)
        forget(array)


def forget(array: NDArray[Any]) -> None:
    """Give back the memory of an array that lies in a file; its numbers stay in the file."""
    while isinstance(array, np.ndarray) and not isinstance(array, np.memmap):
        array = array.base  # type: ignore[assignment]
    mapped = getattr(array, "_mmap", None)
    if isinstance(mapped, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
        mapped.madvise(mmap.MADV_DONTNEED)


def some_columns(array: NDArray[Any], columns: NDArray[np.int64]) -> NDArray[Any]:
    """A copy of some columns (axis 1) of an array, in memory or in a file like it."""
    found = room((len(array), len(columns), *array.shape[2:]), array.dtype)
    for piece in pieces(array):
        found[piece] = array[piece][:, columns]
        forget(found)
    return found


def joined_rows(arrays: Sequence[NDArray[Any]]) -> NDArray[Any]:
    """All rows of several arrays, in memory or in a file."""
    nbytes = sum(array.nbytes for array in arrays)
    if nbytes <= in_memory():
        return np.concatenate(list(arrays))
    found = room((sum(map(len, arrays)), *arrays[0].shape[1:]), arrays[0].dtype)
    start = 0
    for array in arrays:
        for piece in pieces(array):
            rows = array[piece]
            found[start : start + len(rows)] = rows
            start += len(rows)
            forget(found)
    return found
