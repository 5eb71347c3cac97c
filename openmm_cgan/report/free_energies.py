"""Free energies drawn: profiles with their errors, surfaces over two CVs."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from openmm_cgan.collective_variable import CollectiveVariable
from openmm_cgan.report.axes import (
    MAP,
    OURS,
    REFERENCE,
    drawn,
    edges_of,
    label_cv,
    without_frame,
    write_png,
)
from openmm_cgan.short_reprs import short_repr

if TYPE_CHECKING:
    from openmm_cgan.free_energy import FreeEnergy


@dataclass(frozen=True, repr=False)
class Profile:
    """A free-energy profile to draw.

    Attributes
    ----------
    cv : ndarray, shape (n,)
        CV values [CV unit].
    free_energy : ndarray, shape (n,)
        Free energies, NaN or inf where unknown [kJ/mol].
    error : ndarray, shape (n,)
        Standard errors [kJ/mol].
    label : str
        For the legend.
    """

    cv: NDArray[np.float64]
    free_energy: NDArray[np.float64]
    error: NDArray[np.float64]
    label: str

    __repr__ = short_repr


def plot_free_energy(
    ours: Profile,
    path: str | os.PathLike[str] | None = None,
    reference: Profile | None = None,
    basin: tuple[float, float] | None = None,
    label: str = "φ",
    variable: CollectiveVariable | None = None,
) -> Axes:
    """A free-energy profile with error bars of two standard errors, beside a reference.

    The reference is shifted to agree with ours on average where both are below 20 kJ/mol: only
    differences within a profile mean anything.

    Parameters
    ----------
    ours : Profile
        Drawn as points with error bars, as grey crosses where the error is not known.
    path : path, optional
        The PNG file; none is written if omitted.
    reference : Profile, optional
        Drawn as a line within its band of two standard errors.
    basin : (float, float), optional
        A stretch of the CV to shade [CV unit].
    label : str
        Name of the CV, where it is not given.
    variable : CollectiveVariable, optional
        The CV; a torsion if omitted.

    Returns
    -------
    matplotlib.axes.Axes
    """
    variable = variable or CollectiveVariable(label, "rad", (-np.pi, np.pi))
    figure = Figure(figsize=(6.4, 4.0), layout="constrained")
    axis = figure.subplots()
    if basin is not None:
        axis.axvspan(*drawn(basin, variable), color=REFERENCE, alpha=0.15, lw=0)
    if reference is not None:
        x, shift = drawn(reference.cv, variable), _shift(reference, ours, variable.period)
        y = reference.free_energy + shift
        band = 2 * reference.error
        axis.fill_between(x, y - band, y + band, color=REFERENCE, alpha=0.5, lw=0)
        axis.plot(x, y, color=REFERENCE, lw=1.5, label=reference.label)
    known = np.isfinite(ours.free_energy) & np.isfinite(ours.error)
    guessed = np.isfinite(ours.free_energy) & ~known
    axis.errorbar(
        drawn(ours.cv[known], variable),
        ours.free_energy[known],
        yerr=2 * ours.error[known],
        fmt="o",
        ms=3,
        color=OURS,
        lw=1,
        capsize=1.5,
        label=f"{ours.label} (± 2 standard errors)",
    )
    if guessed.any():
        axis.plot(
            drawn(ours.cv[guessed], variable),
            ours.free_energy[guessed],
            "x",
            ms=4,
            color=REFERENCE,
            label="error unknown",
        )
    label_cv(axis, variable)
    axis.set_ylabel("free energy / (kJ/mol)")
    axis.legend(frameon=False, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2)
    without_frame(axis)
    write_png(figure, path)
    return axis


def plot_surface(
    surface: FreeEnergy, path: str | os.PathLike[str] | None = None
) -> NDArray[np.object_]:
    """A free-energy surface over two CVs beside its standard error, both in kJ/mol.

    Parameters
    ----------
    surface : FreeEnergy
        Of two CVs. White where nothing was sampled; hatched in the right panel where the free
        energy is known and its error is not.
    path : path, optional
        The PNG file; none is written if omitted.

    Returns
    -------
    ndarray of matplotlib.axes.Axes, shape (n_panels,)

    Raises
    ------
    ValueError
        If it is not of two CVs.
    """
    if len(surface.variables) != 2:
        raise ValueError(f"a surface is of two CVs, this is of {len(surface.variables)}")
    figure = Figure(figsize=(9.0, 4.0), layout="constrained")
    panels = figure.subplots(1, 2)
    edges = [
        edges_of(drawn(centres, variable))
        for centres, variable in zip(surface.centres, surface.variables, strict=True)
    ]
    known = np.isfinite(surface.free_energy)
    for axis, values, label in zip(
        panels, (surface.free_energy, surface.error), ("free energy", "standard error"), strict=True
    ):
        shown = np.ma.masked_invalid(values.T)
        mesh = axis.pcolormesh(edges[0], edges[1], shown, cmap=f"{MAP}_r", rasterized=True)
        figure.colorbar(mesh, ax=axis, label=f"{label} / (kJ/mol)")
        label_cv(axis, surface.variables[0])
        label_cv(axis, surface.variables[1], vertical=True)
    unknown = np.ma.masked_where(~(known & ~np.isfinite(surface.error)).T, known.T)
    panels[1].pcolor(edges[0], edges[1], unknown, hatch="///", alpha=0.0)
    write_png(figure, path)
    return np.asarray(panels)


def _shift(reference: Profile, ours: Profile, period: float | None) -> float:
    """The constant that brings the reference onto our profile where both are low."""
    order = np.argsort(reference.cv)
    curve = reference.cv[order], reference.free_energy[order]
    there = np.interp(ours.cv, *curve, left=np.nan, right=np.nan, period=period)
    low = np.isfinite(ours.free_energy) & np.isfinite(there)
    low &= (ours.free_energy < 20) & (there < 20)
    return float(np.mean(ours.free_energy[low] - there[low])) if low.any() else 0.0
