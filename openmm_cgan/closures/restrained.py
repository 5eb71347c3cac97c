r"""Diffusion at the place of each umbrella window, from how fast the CV forgets where it is.

In a harmonic well of overdamped dynamics the autocorrelation of z decays by its variance and the
diffusion alone,

    sigma^2 = 2 <dz^2>^2 / int_0^inf <dz(0) dz(t)> dt

(G. Hummer, New J. Phys. 7, 34 (2005), doi 10.1088/1367-2630/7/1/034). It needs no forces and no
derivatives of the CV, and holds as far as the restraint is stiff against the free energy and soft
against whatever is fast.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from openmm_cgan.free_energy.samples import BiasedFrames, statistical_inefficiency

LEAST_PARTS = 4


@dataclass(frozen=True)
class WindowDiffusion:
    """Diffusion along one CV at the windows' means.

    Attributes
    ----------
    at : ndarray, shape (n_windows,)
        Mean of the CV in each window [CV unit].
    diffusion, error : ndarray, shape (n_windows,)
        sigma^2, twice the diffusion coefficient, and its standard error [CV unit^2/ps]; NaN where
        a window is too short for it.
    """

    at: NDArray[np.float64]
    diffusion: NDArray[np.float64]
    error: NDArray[np.float64]


def window_diffusion(
    windows: Sequence[BiasedFrames], interval: float, variable: int = 0, parts: int = 10
) -> WindowDiffusion:
    """Diffusion along a CV in each window.

    Parameters
    ----------
    windows : sequence of BiasedFrames
        Restrained by a harmonic bias each, every frame kept.
    interval : float
        Between two frames [ps]; short against the time in which a window forgets.
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
        If the interval or the number of parts is too small.
    """
    if not interval > 0 or parts < LEAST_PARTS:
        raise ValueError(
            f"interval {interval} ps and {parts} parts; expected a positive time and "
            f"{LEAST_PARTS} or more"
        )
    rows = [_of_window(w, interval, variable, parts) for w in windows]
    return WindowDiffusion(*(np.array(column) for column in zip(*rows, strict=True)))


def _of_window(
    window: BiasedFrames, interval: float, variable: int, parts: int
) -> tuple[float, float, float]:
    about = window.variables[variable]
    first = window.cvs[0, variable]
    z = first + about.difference(first, window.cvs[:, variable])
    whole = _diffusion(z, interval)
    # Leaving one part out at a time: the jackknife, whose mean also takes off the first bias.
    pieces = np.array_split(z - z.mean(), parts)
    forgets = statistical_inefficiency(z[:, None])
    if len(z) < 10 * parts * forgets:
        return float(z.mean()), float("nan"), float("nan")
    others = np.array([_diffusion(np.concatenate(pieces[:i] + pieces[i + 1 :]), interval)
                       for i in range(parts)])  # fmt: skip
    error = np.sqrt((parts - 1) / parts * ((others - others.mean()) ** 2).sum())
    return float(z.mean()), float(parts * whole - (parts - 1) * others.mean()), float(error)


def _diffusion(z: NDArray[np.float64], interval: float) -> float:
    integral = 0.5 * interval * statistical_inefficiency(z[:, None])  # of the autocorrelation
    return float(2.0 * z.var() / integral)
