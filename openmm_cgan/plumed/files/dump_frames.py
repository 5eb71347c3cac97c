"""Where the last whole frame of a DUMPATOMS file ends: half a frame behind it is cut off.

A reader takes what follows half a frame for the rest of it.
"""

from __future__ import annotations

import io
import struct
from pathlib import Path
from typing import BinaryIO

from openmm_cgan.plumed.files.contents import after_last_newline, cut_behind
from openmm_cgan.plumed.files.xdr_frames import UNPACKED


def cut_half_frame(path: Path, kind: str) -> None:
    """Cut off a last frame that a kill or a full disk has left half written, and say so.

    Of what can not be read as frames, which is not of this action, only half a row is cut off.

    Parameters
    ----------
    path : Path
        It need not exist.
    kind : str
        xyz, gro, xtc or trr.
    """
    cut_behind(path, lambda file: _end_of_frames(file, kind), "frame")


def _end_of_frames(file: BinaryIO, kind: str) -> int:
    """Where the last whole frame ends [bytes]."""
    is_read = {"xtc": _is_xtc, "trr": _is_trr, "gro": _is_gro}.get(kind, _is_xyz)
    file.seek(0)
    end = 0
    try:
        while is_read(file):
            end = file.tell()
    except ValueError:
        return file.seek(0, 2) if kind in ("xtc", "trr") else after_last_newline(file)
    return end


def _is_xyz(file: BinaryIO) -> bool:
    """Whether a whole frame was read: number of atoms, box, atoms."""
    number = file.readline()
    return number.endswith(b"\n") and _has_rows(file, int(number) + 1)


def _is_gro(file: BinaryIO) -> bool:
    """Title, number of atoms, atoms, box."""
    return _has_rows(file, 1) and _is_xyz(file)


def _has_rows(file: BinaryIO, n: int) -> bool:
    if n < 0:
        raise ValueError("no number of rows")
    return all(file.readline().endswith(b"\n") for _ in range(n))


def _has_bytes(file: BinaryIO, n: int) -> bool:
    """Whether n more bytes are there, which are passed over and not read."""
    if n < 0:
        raise ValueError("no number of bytes")
    end = file.tell() + n
    is_there = end <= file.seek(0, io.SEEK_END)
    file.seek(end)
    return is_there


def _is_xtc(file: BinaryIO) -> bool:
    """Head of 52 bytes, number of atoms; packed positions have a head of 36 bytes of their own."""
    if len(head := file.read(56)) < 56:
        return False
    magic, *_, n_atoms = struct.unpack(">2i44xi", head)
    if magic != 1995:
        raise ValueError("no frame of an xtc file")
    if n_atoms <= UNPACKED:
        return _has_bytes(file, 12 * n_atoms)
    if len(head := file.read(36)) < 36:
        return False
    (size,) = struct.unpack(">32xi", head)
    return _has_bytes(file, -(-size // 4) * 4)  # filled up to whole words


def _is_trr(file: BinaryIO) -> bool:
    """Magic number and version, 13 numbers of which ten are sizes of what follows, two reals."""
    if len(head := file.read(76)) < 76:
        return False
    magic, *sizes = struct.unpack(">i20x10i12x", head)
    if magic != 1993 or sizes[2] not in (36, 72):
        raise ValueError("no frame of a trr file with a box")
    return _has_bytes(file, sum(sizes) + 2 * (sizes[2] // 9))
