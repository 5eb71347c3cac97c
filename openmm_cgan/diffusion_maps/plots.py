"""What a diffusion map was made by: the choice of its bandwidth, and its spectrum."""

from __future__ import annotations

import os

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from openmm_cgan.atomic_files import replacing
from openmm_cgan.diffusion_maps.diffusion_map import DiffusionMap


def plot_map(
    found: DiffusionMap, path: str | os.PathLike[str] | None = None
) -> NDArray[np.object_]:
    """Draw log S over log eps with its slope and the choice, and the spectrum with its gap.

    Parameters
    ----------
    found : DiffusionMap
    path : path, optional
        The PNG file; none is written if omitted.

    Returns
    -------
    ndarray of matplotlib.axes.Axes, shape (2,)
    """
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    band = found.bandwidth
    left.plot(band.tried, band.slopes, color="#1b2a41", label="d log S / d log eps")
    left.axvline(band.chosen, color="#c8553d", label=f"chosen: {band.chosen:.3g}")
    left.set(xscale="log", xlabel="bandwidth eps", ylabel="slope")
    left.legend(frameon=False)
    k = np.arange(1, len(found.eigenvalues) + 1)
    right.plot(k, found.eigenvalues, "o", color="#1b2a41")
    right.axvline(found.gap + 0.5, color="#c8553d", label=f"largest gap: after {found.gap}")
    right.set(xlabel="coordinate", ylabel="eigenvalue", xticks=k)
    right.legend(frameon=False)
    if path is not None:
        with replacing(path) as temporary:
            figure.savefig(temporary, format="png", dpi=120)
    return np.array([left, right])
