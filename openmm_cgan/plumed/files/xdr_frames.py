"""Frames of xtc and trr files: each stands on its own, so that files of them are appended to."""

from __future__ import annotations

import struct
import tempfile
from pathlib import Path
from typing import NamedTuple

import numpy as np

UNPACKED = 9  # up to so many atoms are in xtc files as they are


class XdrFrame(NamedTuple):
    """One frame.

    Attributes
    ----------
    points : ndarray, shape (n_atoms, 3)
        Positions [nm, as GROMACS has them].
    box : ndarray, shape (3, 3)
        Box vectors in rows [nm]; zero for none.
    step : int
    time : float
        [ps]
    """

    points: np.ndarray
    box: np.ndarray
    step: int
    time: float


def xtc_bytes(frame: XdrFrame, digits: int) -> bytes:
    """A frame as it is in an xtc file.

    Parameters
    ----------
    frame : XdrFrame
    digits : int
        Behind the point that positions are rounded to; up to nine atoms are not rounded.

    Raises
    ------
    ValueError
        If a position is too large for so many digits.
    """
    if not len(frame.points):  # which MDAnalysis does not write
        return struct.pack(">iiif9fi", 1995, 0, frame.step, frame.time, *frame.box.ravel(), 0)
    # MDAnalysis takes a second to load
    from MDAnalysis.lib.formats.libmdaxdr import XTCFile

    largest = float(np.abs(frame.points).max(initial=0.0))
    # they are packed as integers; the margin is that of the format's own code
    if len(frame.points) > UNPACKED and not largest * 10.0**digits < np.iinfo(np.int32).max - 2:
        raise ValueError(
            f"step {frame.step}: a position of {largest} nm with {digits} digits is too large for "
            "an xtc file: take a smaller PRECISION, or trr"
        )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "frame.xtc"
        with XTCFile(str(path), "w") as file:
            points, box = frame.points.astype(np.float32), frame.box.astype(np.float32)
            file.write(points, box, frame.step, frame.time, precision=10.0**digits)
        return path.read_bytes()


def trr_bytes(frame: XdrFrame) -> bytes:
    """A frame of positions as it is in a trr file."""
    from MDAnalysis.lib.formats.libmdaxdr import TRRFile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "frame.trr"
        with TRRFile(str(path), "w") as file:
            points, box = frame.points.astype(np.float32), frame.box.astype(np.float32)
            file.write(points, None, None, box, frame.step, frame.time, 0.0, len(points))
        return path.read_bytes()
