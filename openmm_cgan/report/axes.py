"""Axes and files that all plots share: CVs in the units of a reader, PNG files written whole."""

from __future__ import annotations

import os

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray

from openmm_cgan.atomic_files import replacing
from openmm_cgan.collective_variable import CollectiveVariable

INK = "#1b2a41"
OURS = "#c8553d"
REFERENCE = "#8d99ae"
ACCEPTED = "#588157"
MAP = "YlGnBu"


def drawn(values: ArrayLike, variable: CollectiveVariable) -> NDArray[np.float64]:
    """Values of a CV as they are drawn: angles in degrees."""
    return np.degrees(values) if variable.unit == "rad" else np.asarray(values, dtype=float)


def cv_label(variable: CollectiveVariable) -> str:
    """Name and unit of a CV as it is drawn."""
    unit = "degrees" if variable.unit == "rad" else variable.unit
    return f"{variable.name} / {unit}" if unit else variable.name


def label_cv(axis: Axes, variable: CollectiveVariable, vertical: bool = False) -> None:
    """The axis of a CV: its unit, and its whole domain where it is periodic."""
    one, name = (axis.yaxis, "y") if vertical else (axis.xaxis, "x")
    one.set_label_text(cv_label(variable))
    if variable.domain is None:
        return
    low, high = drawn(variable.domain, variable)
    axis.set(**{f"{name}lim": (low, high)})
    if variable.unit == "rad":
        one.set_ticks(np.arange(np.ceil(low / 60) * 60, high + 1, 60))


def edges_of(centres: NDArray[np.float64]) -> NDArray[np.float64]:
    """Edges (n + 1,) of bins of one width by their centres (n,)."""
    half = (centres[1] - centres[0]) / 2 if len(centres) > 1 else 0.5
    return np.append(centres - half, centres[-1] + half)


def square_degrees(axis: Axes, label: str, title: str) -> None:
    axis.set_xlabel(f"{label} / degrees")
    axis.set_xticks(np.arange(-180, 181, 90))
    axis.set_yticks(np.arange(-180, 181, 90))
    axis.set_xlim(-180, 180)
    axis.set_ylim(-180, 180)
    axis.set_aspect("equal")
    axis.set_title(title, fontsize=10)


def without_frame(axis: Axes) -> None:
    axis.spines[["top", "right"]].set_visible(False)


def write_png(figure: Figure, path: str | os.PathLike[str] | None) -> None:
    """Write whole or not at all: a reader never meets half a picture; without a path nothing."""
    if path is not None:
        with replacing(path) as unfinished:
            figure.savefig(unfinished, format="png", dpi=150)
