"""Frames of trajectory files, read as ``plumed driver`` reads them.

The binary formats keep what their files hold, single precision and unit, up to the last step, so
that the printed digits are PLUMED's.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, count, islice, pairwise
from pathlib import Path
from typing import Any, TextIO

import numpy as np
from numpy.typing import NDArray

from openmm_cgan.plumed.input.language import lines_of

# Formats whose numbers are nm, named by PLUMED's options without the dashes
OWN_FORMATS = ("ixyz", "igro", "ixtc", "itrr")
# columns of the lengths and angles of a PDB file's cell
_CRYST1 = ((6, 15), (15, 24), (24, 33), (33, 40), (40, 47), (47, 54))
_GRO_BOX = ((0, 0), (1, 1), (2, 2), (0, 1), (0, 2), (1, 0), (1, 2), (2, 0), (2, 1))
_GRO_COORDINATES = 20  # column at which they begin


@dataclass(frozen=True)
class Frame:
    """One frame of a trajectory.

    Attributes
    ----------
    positions : ndarray, shape (n_atoms, 3)
        [nm], or whatever unit the numbers of an xyz file have.
    box : ndarray, shape (3, 3), or None
        Box vectors as rows, in the same unit.
    step : int or None
        Step of the run that made it, where the file says.
    """

    positions: NDArray[np.float64]
    box: NDArray[np.float64] | None = None
    step: int | None = None


def read_trajectory(
    path: str | Path, kind: str, n_atoms: int | None = None, boxless: bool = False
) -> Iterator[Frame]:
    """Frames of a trajectory file, one at a time.

    Parameters
    ----------
    path : str or Path
        The file.
    kind : str
        PLUMED's own option names: "ixyz" (the comment line holds the box as three or nine
        numbers), "igro", "ixtc", "itrr", or "mf_" and the suffix of any format that MDAnalysis
        reads without a topology, such as "mf_dcd".
    n_atoms : int, optional
        Needed by formats that do not say how many atoms there are.
    boxless : bool
        Do not read the box of an xyz file: its comment line may be anything.

    Yields
    ------
    Frame

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If the kind is unknown or the file is damaged.
    """
    path = Path(path)
    if kind not in OWN_FORMATS and not kind.startswith("mf_"):
        raise ValueError(f"format is {kind!r}; expected {', '.join(OWN_FORMATS)} or mf_SUFFIX")
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such trajectory")
    if kind == "ixyz":
        frames = _read_xyz(path, boxless)
    elif kind in ("mf_crd", "mf_crdbox"):
        frames = _read_crd(path, n_atoms, kind == "mf_crdbox")
    elif kind in _READERS:
        frames = _READERS[kind](path)
    else:
        frames = _read_any(path, kind.removeprefix("mf_"), n_atoms)
    for number in count():
        try:
            frame = next(frames, None)
        except (ValueError, OSError, EOFError, RuntimeError, ArithmeticError, MemoryError) as error:
            if str(path) in str(error):
                raise
            raise ValueError(f"{path}: frame {number} can not be read: {error}") from error
        if frame is None:
            return
        yield frame


def _read_xyz(path: Path, boxless: bool) -> Iterator[Frame]:
    with path.open() as file:
        while line := file.readline():
            if not line.strip():
                continue
            try:
                n_atoms = int(line.split()[0])
                words = file.readline().split()
                box = None if boxless else _xyz_box([float(word) for word in words])
                rows = [file.readline().split()[1:4] for _ in range(n_atoms)]
                positions = np.array(rows, dtype=float).reshape(n_atoms, 3)
            except (ValueError, IndexError) as error:
                raise ValueError(
                    f"{path} is no xyz file as PLUMED reads it (number of atoms; box as 3 or 9 "
                    f"numbers; one line for each atom): {error}"
                ) from None
            yield Frame(positions, box)


def _xyz_box(numbers: list[float]) -> NDArray[np.float64] | None:
    """Box vectors as rows of the comment line's numbers; zeros are no box."""
    if not np.any(numbers):
        return None
    return np.diag(numbers) if len(numbers) == 3 else np.reshape(numbers, (3, 3))


def _read_gro(path: Path) -> Iterator[Frame]:
    with path.open() as file:
        while file.readline():
            try:
                yield _gro_frame(file)
            except (ValueError, IndexError) as error:
                raise ValueError(
                    f"{path} is no gro file (title; number of atoms; one line for each atom; box "
                    f"as 3 or 9 numbers): {error}"
                ) from None


def _gro_frame(file: TextIO) -> Frame:
    n_atoms = int(file.readline())
    lines = [line.rstrip("\n") for line in islice(file, n_atoms)]
    first = lines[0].index(".", _GRO_COORDINATES)
    width = lines[0].index(".", first + 1) - first  # the number of decimals is free
    ends = [_GRO_COORDINATES + width * i for i in range(4)]
    rows = [[float(line[i:j]) for i, j in pairwise(ends)] for line in lines]
    box = np.zeros((3, 3))
    words = file.readline().split()
    if len(words) < 3 or len(rows) < n_atoms:
        raise ValueError("the file ends early")
    for place, word in zip(_GRO_BOX, words, strict=False):
        box[place] = float(word)
    return Frame(np.array(rows), box if box.any() else None)


def _read_xtc(path: Path) -> Iterator[Frame]:
    # MDAnalysis takes a second to load, which --help should not wait for
    from MDAnalysis.lib.formats.libmdaxdr import XTCFile

    with XTCFile(str(path)) as file:
        for frame in file:
            yield Frame(frame.x.astype(float), _box_of_rows(frame.box), int(frame.step))


def _read_trr(path: Path) -> Iterator[Frame]:
    from MDAnalysis.lib.formats.libmdaxdr import TRRFile

    with TRRFile(str(path)) as file:
        for frame in file:
            yield Frame(frame.x.astype(float), _box_of_rows(frame.box), int(frame.step))


def _box_of_rows(rows: NDArray[np.float32]) -> NDArray[np.float64] | None:
    return rows.astype(float) if rows.any() else None


def _through_angstrom(frames: Iterator[Frame]) -> Iterator[Frame]:
    """Frames as the readers behind PLUMED's ``--mf_`` options give them: Angstrom, single."""
    for frame in frames:
        angstrom = frame.positions.astype(np.float32) * np.float32(10)
        box = None
        if frame.box is not None:
            lengths = np.linalg.norm(frame.box, axis=1)
            cosines = [
                frame.box[i] @ frame.box[j] / (lengths[i] * lengths[j])
                for i, j in ((1, 2), (0, 2), (0, 1))
            ]
            cell = np.array([*(10 * lengths), *np.degrees(np.arccos(cosines))], dtype=np.float32)
            box = _cell_vectors(cell)
        yield Frame(angstrom.astype(float) / 10, box, frame.step)


def _read_dcd(path: Path) -> Iterator[Frame]:
    from MDAnalysis.coordinates.DCD import DCDReader
    from MDAnalysis.lib.formats.libdcd import DCDFile

    reader = DCDReader(str(path))  # knows the several orders of cells
    with DCDFile(str(path)) as file:
        for frame, ts in zip(file, reader, strict=True):
            box = None if ts.dimensions is None else _cell_vectors(ts.dimensions)
            yield Frame(frame.xyz.astype(float) / 10, box)
    reader.close()


def _read_pdb(path: Path) -> Iterator[Frame]:
    """Models of a PDB file by their columns: atom names may repeat, which libraries drop."""
    box, rows = None, []
    for line in chain(lines_of(path.read_text()), ["END"]):
        record = line[:6].strip()
        if record == "CRYST1":
            box = _cell_vectors([float(line[i:j]) for i, j in _CRYST1])
        elif record in ("ATOM", "HETATM"):
            rows.append([float(line[i : i + 8]) / 10 for i in (30, 38, 46)])
        elif record in ("ENDMDL", "END") and rows:
            yield Frame(np.array(rows), box)
            rows = []


def _read_crd(path: Path, n_atoms: int | None, has_box: bool) -> Iterator[Frame]:
    """Amber's formatted trajectory: a title, then ten numbers of eight columns a line [Angstrom].

    MDAnalysis tells whether there are boxes from the second frame, which need not be there.
    """
    if n_atoms is None:
        raise ValueError(f"{path}: a crd file does not tell the number of atoms: give --natoms")
    n_lines = -(-3 * n_atoms // 10)
    with path.open() as file:
        file.readline()
        while lines := list(islice(file, n_lines)):
            row = [
                float(line[k : k + 8]) for line in lines for k in range(0, len(line.rstrip()), 8)
            ]
            if len(row) != 3 * n_atoms:
                raise ValueError(f"{len(row)} numbers in a frame of {n_atoms} atoms")
            box = None
            if has_box:
                lengths = [float(word) for word in file.readline().split()[:3]]
                box = _cell_vectors(np.array([*lengths, 90, 90, 90], dtype=np.float32))
            points = np.array(row, dtype=np.float32).astype(float)  # as VMD's reader has them
            yield Frame(points.reshape(n_atoms, 3) / 10, box)


def _read_any(path: Path, suffix: str, n_atoms: int | None) -> Iterator[Frame]:
    """Any format that MDAnalysis has a reader for, in Angstrom."""
    from MDAnalysis.coordinates.core import get_reader_for

    options: dict[str, Any] = {} if n_atoms is None else {"n_atoms": n_atoms}
    name = _VMD_NAMES.get(suffix, suffix.upper())
    try:
        reader = get_reader_for(str(path), format=name)(str(path), **options)
    except (ValueError, TypeError, OSError, StopIteration) as error:
        hint = "; perhaps it needs --natoms" if n_atoms is None else ""
        raise ValueError(f"{path} can not be read as {suffix}: {error}{hint}") from None
    with reader:
        for ts in reader:
            box = None if ts.dimensions is None else _cell_vectors(ts.dimensions)
            yield Frame(ts.positions.astype(float) / 10, box)


_VMD_NAMES = {"netcdf": "NCDF", "lammpstrj": "LAMMPSDUMP"}
_READERS = {
    "igro": _read_gro,
    "mf_gro": lambda path: _through_angstrom(_read_gro(path)),
    "ixtc": _read_xtc,
    "itrr": _read_trr,
    "mf_xtc": lambda path: _through_angstrom(_read_xtc(path)),
    "mf_trr": lambda path: _through_angstrom(_read_trr(path)),
    "mf_dcd": _read_dcd,
    "mf_pdb": _read_pdb,
}


def _cell_vectors(cell: Sequence[float] | NDArray) -> NDArray[np.float64] | None:
    """Box vectors as rows [nm] from lengths [Angstrom] and angles [degrees]; None if zero."""
    if not np.all(np.asarray(cell[:3]) > 1):  # "1 1 1 90 90 90" says that there is no cell
        return None
    a, b, c = (float(x) / 10 for x in cell[:3])
    cos_bc, cos_ac, cos_ab = (_cosine(float(x)) for x in cell[3:6])
    sin_ab = np.sqrt(1 - cos_ab**2)
    bx, by, cx = b * cos_ab, b * sin_ab, c * cos_ac
    cy = (c * b * cos_bc - cx * bx) / by
    return np.array([[a, 0, 0], [bx, by, 0], [cx, cy, np.sqrt(c * c - cx * cx - cy * cy)]])


def _cosine(degrees: float) -> float:
    return 0.0 if degrees == 90 else float(np.cos(np.radians(degrees)))
