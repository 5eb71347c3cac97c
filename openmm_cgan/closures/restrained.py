r"""Diffusion at the place of each umbrella window, from how fast the CV forgets where it is.

In a harmonic well of overdamped dynamics the autocorrelation of z decays by its variance and the
diffusion alone,

    sigma^2 = 2 <dz^2>^2 / int_0^inf <dz(0) dz(t)> dt

(G. Hummer, New J. Phys. 7, 34 (2005), doi 10.1088/1367-2630/7/1/034). It needs no forces and no
derivatives of the CV, and holds as far as the restraint is stiff against the free energy and soft
against whatever is fast.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from openmm_cgan.free_energy.samples import (
    BiasedFrames,
    check_windows,
    statistical_inefficiency,
)
from openmm_cgan.quantities import positive
from openmm_cgan.short_reprs import short_repr

logger = logging.getLogger("openmm_cgan")

LEAST_PARTS = 4
LEAST_TIMES = 10  # statistical inefficiencies in a part
# Of an exponential of tau intervals the sum by the trapezoidal rule is 1 / 12 tau^2 too large.
LEAST_INTERVALS = 2.0


@dataclass(frozen=True)
class WindowDiffusion:
    """Diffusion along one CV at the windows' means.

    Attributes
    ----------
    at : ndarray, shape (n_windows,)
        Mean of the CV in each window, within its domain [CV unit].
    diffusion, error : ndarray, shape (n_windows,)
        sigma^2, twice the diffusion coefficient, and its standard error [CV unit^2/ps]; NaN where
        a window is too short for it, or forgets in less than two intervals: a warning counts them.
    """

    at: NDArray[np.float64]
    diffusion: NDArray[np.float64]
    error: NDArray[np.float64]

    __repr__ = short_repr


def window_diffusion(
    windows: Sequence[BiasedFrames], interval: float, variable: int = 0, parts: int = 10
) -> WindowDiffusion:
    """Diffusion along a CV in each window.

    Parameters
    ----------
    windows : sequence of BiasedFrames
        Restrained by a harmonic bias each, every frame kept.
    interval : float
        Between two frames [ps]; short against the time in which a window forgets, half of it or
        less (the integral of the autocorrelation is then right to 2 %).
    variable : int
        Which CV.
    parts : int
        Each window is cut into so many for its error, 4 or more.

    Returns
    -------
    WindowDiffusion

    Raises
    ------
    ValueError
        If the interval or the number of parts is too small, or windows do not fit together.
    """
    interval = positive(interval, "ps", "interval")
    if parts < LEAST_PARTS:
        raise ValueError(f"parts is {parts}; expected {LEAST_PARTS} or more")
    check_windows(windows)
    if not 0 <= variable < len(windows[0].variables):
        raise ValueError(f"CV number {variable} of {len(windows[0].variables)} (counted from 0)")
    rows = [_of_window(w, interval, variable, parts) for w in windows]
    unknown = sum(np.isnan(diffusion) for _, diffusion, _ in rows)
    if unknown:
        logger.warning(
            "%d of %d windows tell no diffusion: shorter than %d times what they take to forget, "
            "or their frames are more than half of that time apart",
            unknown, len(rows), LEAST_TIMES * parts,
        )  # fmt: skip
    return WindowDiffusion(*(np.array(column) for column in zip(*rows, strict=True)))


def _of_window(
    window: BiasedFrames, interval: float, variable: int, parts: int
) -> tuple[float, float, float]:
    about = window.variables[variable]
    first = window.cvs[0, variable]
    z = first + about.difference(first, window.cvs[:, variable])
    at = float(about.in_domain(z.mean()))
    # Leaving one part out at a time: the jackknife, whose mean also takes off the first bias.
    pieces = np.array_split(z - z.mean(), parts)
    forgets = statistical_inefficiency(z[:, None])
    if len(z) < LEAST_TIMES * parts * forgets or forgets < 2.0 * LEAST_INTERVALS:
        return at, float("nan"), float("nan")
    whole = _diffusion(z, interval)
    others = np.array([_diffusion(np.concatenate(pieces[:i] + pieces[i + 1 :]), interval)
                       for i in range(parts)])  # fmt: skip
    error = np.sqrt((parts - 1) / parts * ((others - others.mean()) ** 2).sum())
    return at, float(parts * whole - (parts - 1) * others.mean()), float(error)


def _diffusion(z: NDArray[np.float64], interval: float) -> float:
    integral = 0.5 * interval * statistical_inefficiency(z[:, None])  # of the autocorrelation
    return float(2.0 * z.var() / integral)
