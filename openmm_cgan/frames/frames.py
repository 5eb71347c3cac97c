"""Frames of a biased run in memory: configurations with their CVs, bias energy and segments.

`FrameReporter` writes them (segments.py), `read_frames` reads them, and everything that learns or
averages takes them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np

from openmm_cgan.collective_variable import CollectiveVariable, require_own_names
from openmm_cgan.frames.chosen_files import of_temperature, segment_files
from openmm_cgan.frames.h5md import (
    EDGES,
    POSITION,
    RESERVED,
    open_segment,
    read_header,
    read_segment_table,
)
from openmm_cgan.frames.joining import (
    joined_timesteps,
    require_alike,
    require_own_frames,
    tell_of_systems,
)
from openmm_cgan.large_arrays import forget, in_memory, joined_rows, room
from openmm_cgan.notebooks import frames_html
from openmm_cgan.quantities import energies_of, has_units, kelvin, nanometers, numbers_of
from openmm_cgan.short_reprs import cv_ranges

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray
    from openmm import unit

READ_BYTES = 64 * 1024**2  # positions read at a time


@dataclass(frozen=True, eq=False, repr=False)
class Frames:
    """Configurations of a run, in memory.

    Attributes
    ----------
    positions : ndarray of float32, shape (n_frames, n_atoms, 3)
        Coordinates [nm]; of many frames of large systems they lie in a temporary file.
    cvs : ndarray, shape (n_frames, n_cvs)
        Values of the collective variables [their units].
    bias : ndarray, shape (n_frames,)
        Bias energy [kJ/mol].
    step : ndarray of int64, shape (n_frames,)
        Integration step.
    time : ndarray, shape (n_frames,)
        Simulation time [ps].
    segment : ndarray of int64, shape (n_frames,)
        Number of the segment, counted from 1.
    settling : ndarray of bool, shape (n_frames,)
        True in the settle window after an injection.
    variables : tuple of CollectiveVariable
        One for each column of ``cvs``.
    atoms : ndarray of int64, shape (n_atoms,)
        Zero-based indices in the whole topology.
    box : ndarray of float32, shape (n_frames, 3, 3), or None
        Box vectors as rows [nm].
    temperature : float or None
        That the run was held at [K].
    topology_hash : str
        `topology_hash` of the whole topology, empty when unknown.
    molecule_hash : str
        `molecule_hash` of their own atoms, empty when unknown.
    system_hash : str
        `system_fingerprint` of the System, its biases apart; empty when unknown, or of several.
    bias_temperature : float or None
        That the bias counts with where its input says no other [K].
    timestep : float, ndarray of shape (n_frames,), or None
        That the bias counts times with [ps]; of each frame where it changed from one start of the
        program to the next, NaN or None where it is unknown.
    other_temperatures : tuple of float
        At which their run, that changed its temperature, made frames that are not these [K].
    other_biases : tuple of str
        That acted beside the one whose energy is ``bias``.
    """

    positions: NDArray[np.float32]
    cvs: NDArray[np.float64]
    bias: NDArray[np.float64]
    step: NDArray[np.int64]
    time: NDArray[np.float64]
    segment: NDArray[np.int64]
    settling: NDArray[np.bool_]
    variables: tuple[CollectiveVariable, ...]
    atoms: NDArray[np.int64]
    box: NDArray[np.float32] | None = None
    temperature: float | None = None
    topology_hash: str = ""
    molecule_hash: str = ""
    system_hash: str = ""
    bias_temperature: float | None = None
    timestep: float | NDArray[np.float64] | None = None
    other_temperatures: tuple[float, ...] = ()
    other_biases: tuple[str, ...] = ()
    _repr_html_ = frames_html

    def __post_init__(self) -> None:
        n = len(self.positions)
        expected = {
            "positions": (n, len(self.atoms), 3),
            "cvs": (n, len(self.variables)),
            **dict.fromkeys(RESERVED, (n,)),
        }
        arrays = self._columns()
        if self.box is not None:
            expected["box"], arrays["box"] = (n, 3, 3), self.box
        require_own_names(self.variables)
        for name, shape in expected.items():
            if arrays[name].shape != shape:
                raise ValueError(f"{name} has shape {arrays[name].shape}, expected {shape}")

    def __repr__(self) -> str:
        kT = "" if self.temperature is None else f", {self.temperature:g} K"
        cvs = cv_ranges(self.variables, self.cvs) + kT
        return f"Frames({len(self)} of {len(self.atoms)} atoms; {cvs})"

    @classmethod
    def of_arrays(
        cls,
        x: ArrayLike,
        cvs: ArrayLike,
        variables: Sequence[CollectiveVariable | str] | None = None,
        *,
        bias: ArrayLike | None = None,
        temperature: float | unit.Quantity | None = None,
    ) -> Frames:
        """Frames of plain arrays, of no topology: particles, states of an equation, any table.

        Parameters
        ----------
        x : array_like or Quantity, shape (n_frames, n_atoms, 3) or (n_frames, d)
            Coordinates [nm]. Those of a table are taken as coordinates of particles, three by
            three, the last filled up with 0; ``positions.reshape(n, -1)[:, :d]`` is the table
            again.
        cvs : array_like, shape (n_frames, n_cvs) or (n_frames,)
            [CV units]
        variables : sequence of CollectiveVariable or str, optional
            What the CVs are, or their names; ``cv1``, ``cv2`` ... if omitted. A name stands for a
            CV that is not periodic.
        bias : array_like or Quantity, shape (n_frames,), optional
            Bias energy [kJ/mol], 0 if omitted.
        temperature : float or Quantity, optional
            [K]

        Raises
        ------
        ValueError
            If the shapes do not fit, or units do not.

        Examples
        --------
        >>> Frames.of_arrays([[0.1, 0.2], [0.3, 0.4]], [0.1, 0.3], ["x"]).positions.shape
        (2, 1, 3)
        """
        plain = nanometers(x) if has_units(x) else x
        table, values = np.asarray(plain, dtype=np.float32), numbers_of(cvs, "cvs")
        if table.ndim not in (2, 3) or (table.ndim == 3 and table.shape[2] != 3):
            raise ValueError(
                f"x has shape {table.shape}, expected (n_frames, n_atoms, 3) or (n_frames, d)"
            )
        n = len(table)
        table = table.reshape(n, math.prod(table.shape[1:]))
        filled = np.zeros((n, -(-table.shape[1] // 3) * 3), dtype=np.float32)
        filled[:, : table.shape[1]] = table
        values = values[:, None] if values.ndim == 1 else values
        if variables is None:
            variables = [f"cv{k + 1}" for k in range(values.shape[1])]
        known = [CollectiveVariable(v) if isinstance(v, str) else v for v in variables]
        energy = np.zeros(n) if bias is None else energies_of(bias, "bias")
        order = np.arange(n, dtype=np.int64)
        return cls(
            filled.reshape(n, filled.shape[1] // 3, 3), values, energy,
            order, order.astype(np.float64),
            np.ones(n, np.int64), np.zeros(n, bool), tuple(known),
            np.arange(filled.shape[1] // 3, dtype=np.int64), None, kelvin(temperature),
        )  # fmt: skip

    def __len__(self) -> int:
        return len(self.positions)

    @property
    def plumed_time(self) -> NDArray[np.float64]:
        """Time of each frame in COLVAR and HILLS, shape (n_frames,) [ps]: steps by their length.

        ``time`` is the simulation's, and another where shorter steps, or steps that are not
        counted, went before. It is taken where the time step is not known.
        """
        steps = np.asarray(np.nan if self.timestep is None else self.timestep)
        # 0 of an integrator whose steps differ in length
        return np.where(steps > 0, self.step * steps, self.time)

    def select(self, rows: Any) -> Frames:
        """Return some of the frames.

        Parameters
        ----------
        rows : slice, or ndarray of int, shape (n_rows,), or ndarray of bool, shape (n_frames,)
            Which.
        """
        columns = {name: column[rows] for name, column in self._columns().items()}
        steps = self.timestep[rows] if isinstance(self.timestep, np.ndarray) else self.timestep
        box = None if self.box is None else self.box[rows]
        return replace(self, **columns, box=box, timestep=steps)

    @staticmethod
    def concatenate(parts: Sequence[Frames]) -> Frames:
        """Join frames of the same atoms and CVs; segment numbers are left as they are.

        Raises
        ------
        ValueError
            If there are none, their CVs, atoms, temperature, box or topology differ, or the same
            frames stand twice; ``frames.select(rows)`` takes rows as often as they are named.
        """
        if not parts:
            raise ValueError("there are no frames to concatenate")
        first = parts[0]
        for other in parts[1:]:
            require_alike(first, other)
        require_own_frames(parts, [f"parts[{k}]" for k in range(len(parts))])
        columns = [part._columns() for part in parts]
        joined: dict[str, Any] = {
            name: joined_rows([each[name] for each in columns]) for name in columns[0]
        }
        boxes = [part.box for part in parts if part.box is not None]
        systems = {part.system_hash for part in parts}
        others = {kelvins for part in parts for kelvins in part.other_temperatures}
        joined["other_temperatures"] = tuple(sorted(others))
        joined["other_biases"] = tuple(sorted({b for part in parts for b in part.other_biases}))
        joined["system_hash"] = systems.pop() if len(systems) == 1 else ""
        joined["timestep"] = joined_timesteps([(len(part), part.timestep) for part in parts])
        return replace(first, **joined, box=np.concatenate(boxes) if boxes else None)

    def _columns(self) -> dict[str, Any]:
        """The arrays that have a row for each frame, but the box, which may be missing."""
        return {
            "positions": self.positions,
            "cvs": self.cvs,
            "bias": self.bias,
            "settling": self.settling,
            "segment": self.segment,
            "step": self.step,
            "time": self.time,
        }


def read_frames(
    paths: str | Path | Sequence[str | Path],
    settling: bool = False,
    stride: int = 1,
    positions: bool = True,
    temperature: float | None = None,
) -> Frames:
    """Read frames that a `FrameReporter` wrote, from a live or a killed run as well.

    Parameters
    ----------
    paths : str, Path or list of those
        Segment files, or folders of them (read in order). Segment numbers of a second folder are
        raised above those of the first, so that each stays one segment.
    settling : bool
        Keep the frames of settle windows, which are not drawn from the ensemble of the run.
    stride : int
        Keep every ``stride``-th frame of each file.
    positions : bool
        False: CVs, bias and times only, of no atoms.
    temperature : float or Quantity, optional
        Read the frames of this one alone [K], of a run whose temperature was changed.

    Returns
    -------
    Frames

    Raises
    ------
    FileNotFoundError
        If a path does not exist or a folder holds no segments.
    ValueError
        If a file is damaged or was not written by this package, or if the files differ in CVs,
        atoms, temperature or topology, or two hold the same frames. The message names the file. If
        none is of ``temperature``.
    """
    if stride < 1:
        raise ValueError(f"stride is {stride}, expected 1 or more")
    parts, shift, top, folder = list[Frames](), 0, 0, None
    files, others = of_temperature(segment_files(paths), kelvin(temperature))
    # of many frames each file's lie in a file as well, until they are joined
    size = sum(path.stat().st_size for path in files if path.is_file())
    limit = 0 if size > in_memory() else in_memory()
    for path in files:
        if folder is not None and path.parent != folder:
            shift = top
        folder = path.parent
        with open_segment(path) as file:
            part = _frames_of(path, file, settling, stride, limit if positions else None)
        part = replace(part, segment=part.segment + shift, other_temperatures=others)
        try:
            require_alike(parts[0] if parts else part, part)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from None
        parts.append(part)
        top = max(top, int(part.segment.max(initial=0)))
    require_own_frames(parts, files)
    tell_of_systems(parts, files)
    return parts[0] if len(parts) == 1 else Frames.concatenate(parts)


def read_segments(paths: str | Path | Sequence[str | Path]) -> list[dict[str, Any]]:
    """Where each segment came from.

    Parameters
    ----------
    paths : str, Path or list of those
        As for `read_frames`; the numbers are those in the files.

    Returns
    -------
    list of dict
        ``segment``, ``step`` (of the injection), ``settled`` (the first step after its settle
        window) and ``origin`` (what was given to ``start_segment``), one for each segment.
    """
    rows: dict[tuple[Path, int], dict[str, Any]] = {}
    for path in segment_files(paths):
        with open_segment(path) as file:
            for number, step, settled, origin in read_segment_table(file):
                rows[path.parent, number] = {
                    "segment": number, "step": step, "settled": settled, "origin": origin,
                }  # fmt: skip
    return list(rows.values())


def _frames_of(
    path: Path, file: h5py.File, settling: bool, stride: int, limit: int | None
) -> Frames:
    header = read_header(file)  # no limit to what is in memory: no positions
    steps = file[f"{POSITION}/step"][:]
    n = len(steps)
    if (np.diff(steps) <= 0).any():
        raise ValueError(f"{path} is damaged: its steps do not increase")
    names = [*RESERVED[:3], *(variable.name for variable in header.variables)]
    column = {name: file[f"observables/{name}/value"][:n] for name in names}
    keep = np.zeros(n, dtype=bool)
    keep[::stride] = True
    if not settling:
        keep &= column["settling"] == 0
    cvs = np.empty((int(keep.sum()), len(header.variables)))
    for i, variable in enumerate(header.variables):
        cvs[:, i] = column[variable.name][keep]
    none = np.empty((len(cvs), 0, 3), np.float32)
    x = none if limit is None else _read_rows(file[f"{POSITION}/value"], keep, limit)
    beside = header.about.get("other_biases")
    return Frames(
        positions=x,
        cvs=cvs,
        bias=column["bias"][keep],
        step=steps[keep],
        time=file[f"{POSITION}/time"][:n][keep],
        segment=column["segment"][keep],
        settling=column["settling"][keep].astype(bool),
        variables=header.variables,
        atoms=np.array(header.atoms[: x.shape[1]], np.int64),
        box=_read_rows(file[f"{EDGES}/value"], keep, in_memory()) if header.periodic else None,
        temperature=header.temperature,
        topology_hash=header.topology_hash,
        molecule_hash=str(header.about.get("molecule_hash", "")),
        system_hash=str(header.about.get("system_hash", "")),
        bias_temperature=header.about.get("bias_temperature"),
        timestep=header.about.get("time_step"),
        other_biases=tuple(map(str, beside)) if isinstance(beside, list) else (),
    )


def _read_rows(data: h5py.Dataset, keep: NDArray[np.bool_], limit: int) -> NDArray[Any]:
    """Rows where ``keep``, read piece by piece so that no more than the result is held."""
    rows = room((int(keep.sum()), *data.shape[1:]), data.dtype, limit)
    piece = max(1, READ_BYTES // (data.dtype.itemsize * int(np.prod(data.shape[1:]))))
    filled = 0
    for start in range(0, len(keep), piece):
        wanted = keep[start : start + piece]
        if wanted.any():
            found = data[start : start + len(wanted)][wanted]
            rows[filled : filled + len(found)] = found
            filled += len(found)
        forget(rows)
    return rows
