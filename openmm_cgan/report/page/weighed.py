"""Frames of runs and windows weighed for a page: whole, and in parts of their time."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp

from openmm_cgan.free_energy import FreeEnergy, WeightedSamples, free_energy_profile, reweight
from openmm_cgan.free_energy.biased_runs import BiasedRun, reweight_runs
from openmm_cgan.free_energy.reweighting import reweight_windows
from openmm_cgan.free_energy.samples import BiasedFrames, unbiased
from openmm_cgan.report.page.found import RunFound, WindowsFound
from openmm_cgan.run_folders import INPUT
from openmm_cgan.short_reprs import short_repr
from openmm_cgan.windows import read_windows
from openmm_cgan.windows.run_files import windows_in_words

logger = logging.getLogger("openmm_cgan")

N_BOOTSTRAP = 50
MOST_SAMPLES = 30_000  # of all windows that MBAR takes for the page
MOST_WINDOWS = 1000  # joined for the page
SKIP = 0.2  # of a run whose bias grows


@dataclass(frozen=True, repr=False)
class Weighed:
    """Frames with their weights.

    Attributes
    ----------
    name : str
        The folder they come from.
    kind : str
        In words.
    samples : WeightedSamples
    part : callable
        Two fractions of the time to the samples of that part alone, without errors.
    warned : tuple of str
        What the analysis warned of.
    biased : BiasedRun or None
        The run that they are of, if it is one.
    n_windows : int
        0 of a run.
    """

    name: str
    kind: str
    samples: WeightedSamples
    part: Callable[[float, float], WeightedSamples]
    warned: tuple[str, ...] = ()
    biased: BiasedRun | None = None
    n_windows: int = 0

    __repr__ = short_repr


def weigh_windows(found: WindowsFound, name: str) -> Weighed:
    """Join windows by MBAR.

    Raises
    ------
    ValueError, OSError, RuntimeError
        As of `read_windows` and `reweight_windows`.
    """
    if found.number > MOST_WINDOWS:
        raise ValueError(
            f"{found.number} windows are too many for a page (at most {MOST_WINDOWS}): "
            "openmm-cgan free-energy joins them"
        )
    with warnings_kept() as warned:
        windows = read_windows(found.windows)
        samples = reweight_windows(windows, n_bootstrap=N_BOOTSTRAP, max_samples=MOST_SAMPLES)

    @cache
    def part(start: float, stop: float) -> WeightedSamples:
        pieces = [window.part(start, stop) for window in windows]
        return reweight_windows(
            [piece for piece in pieces if len(piece.cvs)],
            n_bootstrap=0,
            max_samples=MOST_SAMPLES // 2,
        )

    kind = f"{windows_in_words(len(windows), len(samples.overlap))} joined by MBAR"
    kind += _thinned(samples, sum(len(window.cvs) for window in windows))
    return Weighed(name, kind, samples, part, tuple(warned), None, len(windows))


def weigh_run(found: RunFound, name: str) -> Weighed:
    """Weigh the frames of a run by the bias that acted on them.

    Raises
    ------
    ValueError, OSError
        If its input is missing, or its bias is of a kind whose frames have no weights.
    """
    path = found.folder / INPUT
    if not path.is_file():
        raise FileNotFoundError(f"no {INPUT} says how the bias of a frame came about")
    with warnings_kept() as warned:
        run = BiasedRun.of(found.frames, path, found.folder)
        samples = reweight_runs([run], SKIP, n_bootstrap=N_BOOTSTRAP)
        logs = run.log_weights()
    first = SKIP if run.growing else 0.0
    frames, temperature = found.frames, samples.temperature

    @cache
    def part(start: float, stop: float) -> WeightedSamples:
        ends = [round((first + (1 - first) * at) * len(frames)) for at in (start, stop)]
        rows = slice(*ends)
        piece = BiasedFrames(frames.cvs[rows], unbiased, temperature, frames.variables, name)
        return reweight([piece], [logs[rows]], n_bootstrap=0)

    kinds = " and ".join(sorted({s.action for s in run.growing})) or "a bias that does not change"
    left = f", the first {first:.0%} of them left out" if first else ""
    kind = f"frames under {kinds}, weighed{left}"
    kind += _thinned(samples, len(frames) - round(first * len(frames)))
    return Weighed(name, kind, samples, part, tuple(warned), run)


def _thinned(samples: WeightedSamples, there: int) -> str:
    """That not all frames are in what the page shows, and how many are; nothing where all are."""
    taken = len(samples.cvs)
    return f", {taken:,} of {there:,} frames taken, evenly in time" if taken < there else ""


def profiles_in_time(
    weighed: Weighed, name: str, bins: NDArray, parts: list[tuple[float, float]]
) -> list[FreeEnergy | None]:
    """Profiles from parts of the time, with the bins of the whole; None where there is none."""
    found: list[FreeEnergy | None] = []
    for start, stop in parts:
        with warnings_kept():  # the whole has said it
            try:
                found.append(free_energy_profile(weighed.part(start, stop), name, bins))
            except (ValueError, RuntimeError):
                found.append(None)
    return found


def difference_of(first: FreeEnergy, second: FreeEnergy, kT: float) -> NDArray[np.float64]:
    """One profile less another, both of the same total probability where both are known.

    Returns
    -------
    ndarray, shape (n_bins,)
        [kJ/mol], NaN where one of them is not known.
    """
    known = np.isfinite(first.free_energy) & np.isfinite(second.free_energy)
    if not known.any():
        return np.full(first.free_energy.shape, np.nan)
    zeros = [-kT * logsumexp(-f.free_energy[known] / kT) for f in (first, second)]
    return np.asarray((first.free_energy - zeros[0]) - (second.free_energy - zeros[1]))


@contextlib.contextmanager
def warnings_kept() -> Iterator[list[str]]:
    """Keep what the package warns of, in place of telling it on the terminal."""
    kept: list[str] = []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if record.levelno >= logging.WARNING:
                kept.append(record.getMessage())

    handler, told = Keep(), logger.propagate
    logger.addHandler(handler)
    logger.propagate = False
    try:
        yield kept
    finally:
        logger.removeHandler(handler)
        logger.propagate = told
