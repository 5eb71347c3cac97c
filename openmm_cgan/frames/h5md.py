"""Segment files: the layout of frames in H5MD 1.1 [1]_, read and written.

``MDAnalysis.Universe(topology, files)`` opens them, with the CVs and the bias energy in
``ts.data``. What H5MD has no place for stands in ``parameters/openmm_cgan``: the CVs, the PLUMED
input, seeds and versions, and a table that tells where each segment came from.

References
----------
.. [1] P. de Buyl, P. H. Colberg, F. Hoefling, Comput. Phys. Commun. 185, 1546 (2014),
   doi:10.1016/j.cpc.2014.01.018
"""

from __future__ import annotations

import contextlib
import getpass
import json
import os
import shutil
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import h5py
import numpy as np

from openmm_cgan import __version__
from openmm_cgan.atomic_files import replacing, require_readable
from openmm_cgan.collective_variable import CollectiveVariable, why_other_cvs
from openmm_cgan.frames.journal import open_snapshot

if TYPE_CHECKING:
    from numpy.typing import NDArray

FORMAT_VERSION = 1
CHUNK_BYTES, CHUNK_ROWS = 128 * 1024, 1024
MAX_FILE_BYTES = 2**36
MAX_DEPTH, MAX_MEMBERS = 10, 10_000  # of groups
LIBVER = ("v110", "v110")  # of HDF5: from there on it has checksums of its own structures

TRAJECTORY = "particles/trajectory"
POSITION = f"{TRAJECTORY}/position"
EDGES = f"{TRAJECTORY}/box/edges"
OURS = "parameters/openmm_cgan"
TABLE = f"{OURS}/segments"  # one line of JSON for each segment
HEADER_ATTRIBUTES = ("variables", "topology_hash", "temperature", "about")  # JSON as well
# columns of every file, whatever its CVs are called
RESERVED = ("bias", "settling", "segment", "step", "time")


@dataclass(frozen=True)
class SegmentHeader:
    """What holds for all frames of a run.

    Attributes
    ----------
    variables : tuple of CollectiveVariable
    atoms : tuple of int
        Zero-based indices in the whole topology of the atoms that are kept.
    topology_hash : str
    temperature : float or None
        That the run is held at [K].
    periodic : bool
        Whether box vectors are kept.
    plumed_input : str
        Text of the PLUMED input.
    about : dict
        Seeds, versions, platform: plain JSON types, only for people to read.
    """

    variables: tuple[CollectiveVariable, ...]
    atoms: tuple[int, ...]
    topology_hash: str = ""
    temperature: float | None = None
    periodic: bool = False
    plumed_input: str = ""
    about: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        taken = [v.name for v in self.variables if v.name in RESERVED or "/" in v.name]
        if taken:
            raise ValueError(
                f"the CV label {taken[0]!r} cannot name a column of the frames (taken: "
                f"{', '.join(RESERVED)}; no slash): give it another label in the PLUMED input"
            )

    def require_same(self, other: SegmentHeader, where: Path) -> None:
        """Raise ValueError where frames of ``other`` cannot follow those of this header."""
        pairs = {
            "topology_hash": (self.topology_hash, other.topology_hash),
            "periodic": (self.periodic, other.periodic),
        }
        if self.atoms != other.atoms:
            raise ValueError(
                f"{where} was written of {len(other.atoms)} atoms, up to number "
                f"{max(other.atoms)}, but this run writes {len(self.atoms)} others, up to number "
                f"{max(self.atoms)}: give the FrameReporter the same atoms ('all' is one choice), "
                "or write to a new folder"
            )
        if why := why_other_cvs(other.variables, self.variables):
            raise ValueError(
                f"{where} was written with other CVs than this run has: {why}. Append to the "
                "folder of the same run, or write to a new folder"
            )
        for name, (ours, theirs) in pairs.items():
            if ours != theirs:
                raise ValueError(
                    f"{where} was written with {name} {theirs} but this run has {ours}: "
                    "append to the folder of the same run, or write to a new folder"
                )


class Segment(NamedTuple):
    """Where a segment begins, when it has settled, and what made it."""

    number: int
    step: int
    settled: int
    origin: dict[str, Any]


@contextlib.contextmanager
def open_segment(path: Path) -> Iterator[h5py.File]:
    """Open a segment file to read: of a finished, a running or a killed run.

    Raises
    ------
    FileNotFoundError
        If there is none.
    ValueError
        If it is damaged or something else than a segment of this package; the message names it.
    """
    if not path.exists():
        raise FileNotFoundError(
            f"{path} does not exist: expected a segment file or a folder of them"
        )
    require_readable(path, MAX_FILE_BYTES)
    try:
        with open_snapshot(path, lambda file: _require_whole(path, file)) as file:
            yield file
    except (OSError, KeyError, RuntimeError, TypeError, json.JSONDecodeError) as error:
        raise ValueError(
            f"{path} is damaged or no segment file ({error}): move it away to use the others"
        ) from error


def read_header(file: h5py.File) -> SegmentHeader:
    """Header of an open segment file."""
    ours = file[OURS]
    known = {name: json.loads(ours.attrs[name]) for name in HEADER_ATTRIBUTES}
    known["variables"] = tuple(map(CollectiveVariable.from_dict, known["variables"]))
    return SegmentHeader(
        **known,
        atoms=tuple(_whole_dataset(file, f"{TRAJECTORY}/id")[:].tolist()),
        periodic=EDGES in file,
        plumed_input=_whole_dataset(file, f"{OURS}/plumed_input")[:].tobytes().decode(),
    )


def read_segment_table(file: h5py.File) -> list[Segment]:
    """Rows of the table of segments of an open segment file."""
    lines = _whole_dataset(file, TABLE)[:].tobytes().splitlines()
    return [Segment(**json.loads(line)) for line in lines]


def _require_whole(path: Path, file: h5py.File) -> None:
    """Refuse foreign files, uneven columns, and lengths that the file's bytes do not bear out."""
    if OURS not in file:
        raise ValueError(f"{path} was not written by openmm_cgan: read it with MDAnalysis")
    _require_own(file)
    version = int(file[OURS].attrs["format_version"])
    if version > FORMAT_VERSION:
        raise ValueError(
            f"{path} has format version {version}, this package reads up to {FORMAT_VERSION}: "
            "install a newer openmm_cgan"
        )
    if "crc32" in file[OURS].attrs and file[OURS].attrs["crc32"] != _crc32(file[OURS]):
        raise OSError("its header has another checksum than it was written with")
    n = len(file[f"{POSITION}/step"])
    for name in frame_columns(read_header(file)):
        data = _whole_dataset(file, name)
        if len(data) != n:
            raise OSError(f"{name} has {len(data)} rows, the steps {n}")


def _require_own(group: h5py.Group, depth: int = 0) -> None:
    """Refuse what lies outside the file: links, external and virtual storage."""
    if depth > MAX_DEPTH or len(group) > MAX_MEMBERS:
        raise OSError(f"{group.name} is nested too deeply, or has too many members")
    for name in group:
        if not isinstance(group.get(name, getlink=True), h5py.HardLink):
            raise OSError(f"{group.name}/{name} is a link, which none of our files has")
        member = group[name]
        if isinstance(member, h5py.Group):
            _require_own(member, depth + 1)
        elif member.external or member.is_virtual:
            raise OSError(f"{member.name} is kept in another file, as none of ours is")


def _whole_dataset(file: h5py.File, name: str) -> h5py.Dataset:
    """A dataset that is as large in the file as it says, so that it may be read into memory."""
    data = file[name]
    if data.id.get_storage_size() < data.size * data.dtype.itemsize:
        raise OSError(f"{name} claims {len(data)} rows but holds fewer")
    return data


def frame_columns(header: SegmentHeader) -> dict[str, tuple[tuple[int, ...], str, str | None]]:
    """Path of each dataset that grows by the frame: shape of a row, type and unit."""
    columns: dict[str, tuple[tuple[int, ...], str, str | None]] = {
        f"{POSITION}/value": ((len(header.atoms), 3), "f4", "nm"),
        f"{POSITION}/step": ((), "i8", None),
        f"{POSITION}/time": ((), "f8", "ps"),
        "observables/bias/value": ((), "f8", "kJ mol-1"),
        "observables/settling/value": ((), "u1", None),
        "observables/segment/value": ((), "i8", None),
    }
    for variable in header.variables:
        columns[f"observables/{variable.name}/value"] = ((), "f8", variable.unit or None)
    if header.periodic:
        columns[f"{EDGES}/value"] = ((3, 3), "f4", "nm")
    return columns


def create_segment(file: h5py.File, header: SegmentHeader) -> None:
    """Lay out an H5MD file without frames."""
    file.create_group("h5md").attrs["version"] = np.array([1, 1])
    file.create_group("h5md/author").attrs["name"] = _author()
    file.create_group("h5md/creator").attrs.update(name="openmm_cgan", version=__version__)
    file.create_group("h5md/modules/units").attrs["version"] = np.array([1, 0])
    for name, (shape, dtype, unit) in frame_columns(header).items():
        row_bytes = max(1, int(np.prod(shape)) * np.dtype(dtype).itemsize)
        chunk = (int(np.clip(CHUNK_BYTES // row_bytes, 1, CHUNK_ROWS)), *shape)
        data = file.create_dataset(
            name, (0, *shape), dtype, maxshape=(None, *shape), chunks=chunk, fletcher32=True
        )
        if unit is not None:
            data.attrs["unit"] = unit
    for name in frame_columns(header):  # H5MD: elements sampled together share step and time
        for shared in ("step", "time"):
            file.require_group(os.path.dirname(name)).setdefault(
                shared, file[f"{POSITION}/{shared}"]
            )
    box = file.require_group(f"{TRAJECTORY}/box")
    box.attrs["dimension"] = 3
    box.attrs["boundary"] = ["periodic" if header.periodic else "none"] * 3
    _create_whole(file, f"{TRAJECTORY}/id", np.array(header.atoms, np.int64))
    # Text that we read is kept as bytes of a known number: HDF5 does not return from reading a
    # string of variable length whose heap is damaged.
    ours = file.create_group(OURS)
    _create_whole(ours, "plumed_input", _bytes(header.plumed_input))
    ours.attrs["format_version"] = FORMAT_VERSION
    known = vars(header) | {"variables": [variable.to_dict() for variable in header.variables]}
    for name in HEADER_ATTRIBUTES:
        ours.attrs[name] = np.bytes_(to_json(known[name]).encode())
    ours.attrs["crc32"] = _crc32(ours)
    file.create_dataset(TABLE, (0,), "u1", maxshape=(None,), chunks=(4096,), fletcher32=True)


def _create_whole(group: h5py.Group, name: str, array: NDArray[Any]) -> None:
    """A dataset that does not grow, with checksums."""
    chunks = (max(1, len(array)),)
    group.create_dataset(
        name, array.shape, array.dtype, array, maxshape=(None,), chunks=chunks, fletcher32=True
    )


def _crc32(ours: h5py.Group) -> int:
    """Of the header, which HDF5 keeps no checksum of in files of its first version."""
    return zlib.crc32(b"\n".join(bytes(ours.attrs[name]) for name in HEADER_ATTRIBUTES))


def append_rows(file: h5py.File, columns: dict[str, NDArray[Any]], segments: list[Segment]) -> None:
    """Add frames, column by column, and rows of the table of segments.

    Parameters
    ----------
    file : h5py.File
        A segment file, open to be changed.
    columns : dict of str to ndarray, shape (n_frames, ...)
        New rows of each of the datasets that `frame_columns` names, in its units.
    segments : list of Segment
        Begun since the last call.
    """
    for name, rows in columns.items():
        _extend(file, name, np.ascontiguousarray(rows))
    if segments:
        _extend(file, TABLE, _table(segments))


def _table(segments: list[Segment]) -> NDArray[np.uint8]:
    return _bytes("".join(to_json(segment._asdict()) + "\n" for segment in segments))


def _bytes(text: str) -> NDArray[np.uint8]:
    return np.frombuffer(text.encode(), np.uint8)


def _extend(file: h5py.File, name: str, rows: NDArray[Any]) -> None:
    """Add rows by h5py's low-level functions: three times as fast, and done every second."""
    data = h5py.h5d.open(file.id, name.encode())
    start = data.shape[0]
    data.set_extent((start + len(rows), *rows.shape[1:]))
    target = data.get_space()
    target.select_hyperslab((start, *(0 for _ in rows.shape[1:])), rows.shape)
    data.write(h5py.h5s.create_simple(rows.shape), target, rows)


def shorten_segment(path: Path, kept: int, step: int, backup: Path) -> None:
    """Keep the first frames of a file and the segments begun by ``step``; the old file: backup."""
    with replacing(path) as new:
        shutil.copy2(path, new)
        with h5py.File(new, "r+") as file:
            for name in frame_columns(read_header(file)):
                file[name].resize(kept, axis=0)
            begun = [segment for segment in read_segment_table(file) if segment.step <= step]
            file[TABLE].resize(0, axis=0)
            _extend(file, TABLE, _table(begun))
        shutil.copy2(path, backup)


def _author() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a container that does not know its user
        return "unknown"


def to_json(record: Any) -> str:
    """JSON text; NumPy numbers and arrays become plain ones."""
    return json.dumps(record, default=lambda value: value.tolist())
