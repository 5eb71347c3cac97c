"""A folder of frames brought to the step that a run goes on from."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import numpy as np

from openmm_cgan.frames.h5md import (
    POSITION,
    Segment,
    SegmentHeader,
    open_segment,
    read_header,
    read_segment_table,
    shorten_segment,
)

logger = logging.getLogger("openmm_cgan")

PATTERN = "segment-*.h5md"
# of a header: begun where a temperature changed, so that files before it may have gone on; or where
# a saved run goes on, whose temperature may have changed since its last frame
TEMPERED, RESTORED = "tempered", "restored"


def set_later_aside(
    folder: Path, header: SegmentHeader, step: int, time: float
) -> tuple[tuple[int, float] | None, list[Segment]]:
    """Set frames later than a step aside, as ``bck.N.segment-*.h5md``.

    Parameters
    ----------
    folder : Path
    header : SegmentHeader
        Of the frames that are to follow.
    step : int
        That the run stands at.
    time : float
        [ps]

    Returns
    -------
    last : tuple of (int, float) or None
        Step and time of the last frame that stays.
    recent : list of Segment
        The one that the next frame belongs to.

    Raises
    ------
    ValueError
        If the frames are of another system, of another temperature than a run that does not change
        it, or later than ``time``, or a file is damaged.
    """
    last: tuple[int, float] | None = None
    recent = Segment(1, step, step, {"kind": "initial"})
    later: list[tuple[Path, int]] = []
    at, tempers = (folder, header.temperature), bool(header.about.get(RESTORED))
    for path in sorted(folder.glob(PATTERN), reverse=True):
        with open_segment(path) as file:
            theirs = read_header(file)
            header.require_same(theirs, path)
            steps = file[f"{POSITION}/step"][:]
            kept = int(np.searchsorted(steps, step, side="right"))
            if kept < len(steps):
                later.append((path, kept))
            if kept and (last is None or steps[kept - 1] > last[0]):
                last = int(steps[kept - 1]), float(file[f"{POSITION}/time"][kept - 1])
                known = [s for s in read_segment_table(file) if s.step <= step]
                recent = known[-1] if known else recent
                at = path, theirs.temperature
            tempers |= bool(theirs.about.get(TEMPERED))
            if kept and not theirs.about.get(TEMPERED):
                break
    if last is not None and time < last[1] - 1e-6:
        raise ValueError(
            f"the simulation is at step {step} and {time:g} ps, but {folder} has a frame "
            f"of step {last[0]} and {last[1]:g} ps: restart from the checkpoint or "
            "State, or call context.setTime"
        )
    _look_at_temperature(*at, header.temperature, tempers)
    for path, kept in later:
        backup = _backup_name(path)
        if kept:
            shorten_segment(path, kept, step, backup)
        else:
            os.replace(path, backup)
        logger.warning("frames later than step %d set aside: %s", step, backup)
    return last, [recent]


def _look_at_temperature(
    path: Path, before: float | None, now: float | None, tempers: bool
) -> None:
    """Refuse frames of another temperature than the last, but of a run that changes it."""
    if before == now:
        return
    if not tempers:
        raise ValueError(
            f"{path} was written with temperature {before} but this run has {now}: "
            "append to the folder of the same run, or write to a new folder"
        )
    logger.warning(
        "frames at %s K follow those at %s K of %s: read_frames(..., temperature=) tells them "
        "apart", now, before, path,
    )  # fmt: skip


def _backup_name(path: Path) -> Path:
    """A free name as PLUMED gives it: bck.0.segment-00001.h5md, bck.1. ..."""
    return next(
        name for i in range(10**6) if not (name := path.with_name(f"bck.{i}.{path.name}")).exists()
    )
