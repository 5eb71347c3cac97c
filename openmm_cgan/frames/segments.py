"""Frames go to disk: a folder of segment files that a kill at any moment leaves whole.

The files are ``segment-00001.h5md``, ``segment-00002.h5md`` ... A new one begins with every start
of the program and at a size limit. A *segment* is the stretch of a run between two injections of a
configuration. One file may hold many (an exact run injects hundreds of times a second): each frame
carries the number of its segment. Frames of the settle window after an injection are marked.

Rows are written once a second, through a journal (journal.py): a kill in the middle of a write
leaves the file as it was a second before.
"""

from __future__ import annotations

import atexit
import io
import json
import logging
import threading
import weakref
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import h5py
import numpy as np

from openmm_cgan.atomic_files import write_atomically
from openmm_cgan.frames.h5md import (
    EDGES,
    LIBVER,
    POSITION,
    Segment,
    SegmentHeader,
    append_rows,
    create_segment,
    to_json,
)
from openmm_cgan.frames.journal import Journal
from openmm_cgan.frames.set_aside import PATTERN, TEMPERED, set_later_aside

if TYPE_CHECKING:
    from numpy.typing import NDArray

logger = logging.getLogger("openmm_cgan")

FLUSH_SECONDS = 1.0
BUFFER_BYTES = 8 * 1024**2
FILE_BYTES = 256 * 1024**2  # where the next file begins


class Row(NamedTuple):
    """One frame as the reporter hands it over: all positions, and CVs unless they can wait."""

    step: int
    time: float
    positions: NDArray[np.float64]
    box: NDArray[np.float64] | None = None
    cvs: NDArray[np.float64] | None = None
    bias: float = 0.0


# The CVs and bias of many frames at once: from positions (n, n_atoms, 3) and boxes or None
Evaluate = Callable[[np.ndarray, np.ndarray | None], tuple[np.ndarray, np.ndarray]]
# What is to be subtracted from the positions of the atoms that are kept, from the same
Shifts = Callable[[np.ndarray, np.ndarray], np.ndarray]


class SegmentWriter:
    """Writes frames to a folder of segment files, once a second.

    Parameters
    ----------
    folder : Path
        Made if missing.
    header : SegmentHeader
    step : int
        Step of the simulation now: the first segment begins here, and frames in the folder that
        are later (the run went on after the checkpoint it is restarted from) are set aside as
        ``bck.N.segment-*.h5md``.
    time : float
        Time of the simulation now [ps].
    evaluate : callable, optional
        Gives the CVs and bias of frames that come without: all those of a write at once, which
        takes less time than two of them take one by one.
    shifts : callable, optional
        Of a periodic system, brings the atoms that are kept into the box when they are written;
        CVs are of the positions as they were handed over.

    Attributes
    ----------
    last : tuple of (int, float) or None
        Step and time of the last frame.
    files : list of Path
        Files that this writer has begun.

    Raises
    ------
    ValueError
        If the folder holds frames of another system, a damaged file, or frames up to ``step`` that
        are later than ``time``.
    RuntimeError
        If another process is writing to the folder.
    """

    def __init__(
        self,
        folder: Path,
        header: SegmentHeader,
        step: int = 0,
        time: float = 0.0,
        evaluate: Evaluate | None = None,
        shifts: Shifts | None = None,
    ) -> None:
        self.folder, self.header = folder.resolve(), header
        self._evaluate, self._shifts = evaluate, shifts
        self._atoms = np.array(header.atoms)
        self.files: list[Path] = []
        self.last: tuple[int, float] | None = None
        self._lock = threading.RLock()
        self._rows: list[tuple[Row, bool, int]] = []
        self._bytes = 0
        self._path: Path | None = None
        self._other_paths: dict[float | None, Path] = {}  # by temperature, where it changes
        self._timer: threading.Timer | None = None
        self._failure: OSError | ValueError | None = None
        self._recent = list[Segment]()
        self.folder.mkdir(parents=True, exist_ok=True)
        close_writers(self.folder)  # of an earlier cell of the same notebook
        self._journal = Journal(self.folder)
        try:
            self._journal.finish()
            self.last, self._recent = set_later_aside(self.folder, header, step, time)
        except BaseException:
            self._journal.close()
            raise
        self._unsaved = [self._recent[-1]]
        _WRITERS.add(self)

    @property
    def segment(self) -> int:
        """Number of the segment that the next frame belongs to."""
        return self._recent[-1].number

    def append(self, row: Row) -> None:
        """Take one frame; it is on disk a second later.

        Raises
        ------
        ValueError
            If its step is not later than the last one, or an earlier frame had a CV or bias that is
            not finite.
        OSError
            If an earlier frame could not be written.
        """
        with self._lock:
            if not self._journal.ours:
                raise RuntimeError(
                    f"the writer of {self.folder} is closed, by close() or by another one of this "
                    "folder: make a new one, and give each FrameReporter its own folder"
                )
            if isinstance(self._failure, ValueError):
                raise self._failure
            step = row.step
            if self.last is not None and step <= self.last[0]:
                raise ValueError(
                    f"a frame of step {step} cannot follow one of step {self.last[0]} in "
                    f"{self.folder}: after loading an earlier state, make a new FrameReporter with "
                    "append=True, which sets the later frames aside; or the reporter stands twice "
                    "in simulation.reporters"
                )
            recent = self._recent
            # an injection at this very step may have come before this report: see start_segment
            while len(recent) > 1 and recent[1].step < step:
                del recent[0]
            settling = any(step < segment.settled for segment in recent)
            self._rows.append((row, settling, recent[0].number))
            self.last = step, row.time
            self._bytes += row.positions.nbytes + 200
            if self._failure or self._bytes > BUFFER_BYTES:
                self.flush()
            elif self._timer is None:
                self._timer = threading.Timer(FLUSH_SECONDS, self._flush_late)
                self._timer.daemon = True
                self._timer.start()

    def start_segment(self, step: int, origin: dict[str, Any], settle_steps: int = 0) -> int:
        """Begin a segment with the frames later than ``step``.

        A frame of ``step`` itself, should it still come, stays in the old segment and is marked as
        settling, for it cannot be told whether it was taken before or after the injection. A settle
        window that has not ended goes on in the new segment.

        Parameters
        ----------
        step : int
            Step of the injection.
        origin : dict
            What was injected: plain JSON types.
        settle_steps : int
            Frames earlier than ``step + settle_steps`` are marked as settling.

        Returns
        -------
        int
            Number of the segment.
        """
        with self._lock:
            latest = self._recent[-1]
            settled = max(step + settle_steps, latest.settled)
            plain = json.loads(to_json(origin))
            segment = Segment(latest.number + 1, step, settled, plain)
            self._recent.append(segment)
            self._unsaved.append(segment)
            if settle_steps:
                self.flush()  # a checkpoint may be saved now: the restart must know of the window
            return segment.number

    def at_temperature(self, temperature: float | None) -> None:
        """Have the frames from now on at another temperature [K], in a file of their own.

        There is one file for each temperature, so that simulated tempering makes few.

        Raises
        ------
        OSError, ValueError
            As for `flush`: the frames before are written first.
        """
        with self._lock:
            self.flush()
            if self._path is not None:
                self._other_paths[self.header.temperature] = self._path
            about = self.header.about | {TEMPERED: True}
            self.header = replace(self.header, temperature=temperature, about=about)
            self._path = self._other_paths.pop(temperature, None)
            self._unsaved = self._recent.copy()

    def flush(self) -> None:
        """Write what is in memory.

        Raises
        ------
        OSError
            If that fails: the file is left as it was and the rows stay in memory.
        ValueError
            If a CV or the bias of a frame is not finite: the frames before are written.
        """
        if not self._journal.ours:  # asked before the lock: in a forked child none may open it
            return
        with self._lock:
            self._failure = None
            if self._rows:
                self._write_rows()
            elif self._unsaved and self._path is not None:
                with self._journal.changing(self._path) as file:
                    append_rows(file, {}, self._unsaved)
                self._unsaved = []

    def close(self) -> None:
        """Write what is in memory and give the folder free."""
        if not self._journal.ours:
            return
        with self._lock:
            try:
                self.flush()
            finally:
                if self._timer is not None:
                    self._timer.cancel()
                self._journal.close()

    def _flush_late(self) -> None:
        with self._lock:
            self._timer = None
            try:
                self.flush()
            except (OSError, ValueError) as error:
                self._failure = error  # tried again, and raised, at the next frame
                logger.error("%s", error)

    def _write_rows(self) -> None:
        columns = self._columns()
        finite = np.isfinite(columns["observables/bias/value"])
        for variable in self.header.variables:
            finite &= np.isfinite(columns[f"observables/{variable.name}/value"])
        whole = len(finite) if finite.all() else int(finite.argmin())
        try:
            if whole:
                self._write({name: rows[:whole] for name, rows in columns.items()})
        except (OSError, RuntimeError) as error:
            raise OSError(
                f"{self._path or self.folder}: {len(self._rows)} frames could not be written: "
                f"{error}; earlier frames are kept, these are still in memory"
            ) from error
        self._rows, self._bytes = [], 0
        if whole < len(finite):
            raise ValueError(
                f"the bias or a CV is not finite at step {columns[f'{POSITION}/step'][whole]}; "
                f"the frames before are in {self.folder}"
            )

    def _columns(self) -> dict[str, NDArray[Any]]:
        """What is in memory, by dataset."""
        rows, settling, segment = zip(*self._rows, strict=True)
        step, times, positions, box, cvs, bias = map(list, zip(*rows, strict=True))
        x = np.array(positions)
        boxes = np.array(box) if self.header.periodic else None
        if self._evaluate is None:
            values, energies = np.array(cvs), np.array(bias)
        else:
            values, energies = self._evaluate(x, boxes)
        kept = x[:, self._atoms]
        if self._shifts is not None and boxes is not None:
            kept -= self._shifts(x, boxes)
        columns = {
            f"{POSITION}/value": kept.astype(np.float32),
            f"{POSITION}/step": np.array(step),
            f"{POSITION}/time": np.array(times),
            "observables/bias/value": energies,
            "observables/settling/value": np.array(settling, np.uint8),
            "observables/segment/value": np.array(segment),
        }
        for i, variable in enumerate(self.header.variables):
            columns[f"observables/{variable.name}/value"] = values[:, i]
        if boxes is not None:
            columns[f"{EDGES}/value"] = boxes
        return columns

    def _write(self, columns: dict[str, NDArray[Any]]) -> None:
        if self._path is None:
            self._begin_file(columns)
        else:
            with self._journal.changing(self._path) as file:
                append_rows(file, columns, self._unsaved)
        self._unsaved = []
        assert self._path is not None
        if self._path.stat().st_size >= FILE_BYTES:
            self._path, self._unsaved = None, self._recent.copy()

    def _begin_file(self, columns: dict[str, NDArray[Any]]) -> None:
        """Make a file with its first frames: MDAnalysis refuses to open one without."""
        image = io.BytesIO()
        with h5py.File(image, "w", libver=LIBVER) as file:
            create_segment(file, self.header)
            append_rows(file, columns, self._unsaved)
        number = max((_number(path) for path in self.folder.glob(PATTERN)), default=0) + 1
        path = self.folder / f"segment-{number:05d}.h5md"
        write_atomically(path, image.getbuffer())
        self._path = path
        self.files.append(path)


# Writers of this process that may hold frames in memory.
_WRITERS: weakref.WeakSet[SegmentWriter] = weakref.WeakSet()


@atexit.register
def close_writers(folder: Path | None = None) -> None:
    """Write what is still in memory and close: at the end of the program, or of one folder."""
    for writer in list(_WRITERS):
        if folder is None or writer.folder == folder:
            try:
                writer.close()
            except (OSError, ValueError) as error:
                logger.error("%s", error)


def flush_writers(path: Path) -> None:
    """Write the frames that this process still holds for a folder or a file (resolved path)."""
    for writer in list(_WRITERS):
        if path in (writer.folder, *writer.files):
            writer.flush()


def _number(path: Path) -> int:
    digits = path.stem.partition("-")[2]
    return int(digits) if digits.isdecimal() else 0
