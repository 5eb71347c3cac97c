"""Figures in the words of plotly, arrays packed as bytes; what comes from elsewhere is escaped."""

from __future__ import annotations

import base64
import html
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from openmm_cgan.collective_variable import CollectiveVariable
from openmm_cgan.report.axes import ACCEPTED, INK, OURS, REFERENCE, cv_label
from openmm_cgan.report.page.blocks import Figure

COLOURS = (OURS, INK, ACCEPTED, REFERENCE, "#b08968", "#6d597a")
Scale = list[tuple[float, str]]
SCALE: Scale = [
    (0.0, "#fbfaf5"), (0.25, "#c6dfd0"), (0.5, "#6fb3b8"), (0.75, "#2c7da0"), (1.0, INK),
]  # fmt: skip
ENERGY_SCALE: Scale = [(1.0 - place, colour) for place, colour in reversed(SCALE)]
MOST_POINTS = 2000  # of a line


def plain(text: object) -> str:
    """A text that plotly shows as it is: it would read tags otherwise."""
    return html.escape(str(text), quote=False)


def packed(values: ArrayLike) -> dict[str, str]:
    """An array as plotly reads it, in single precision: a quarter of its length as text."""
    array = np.ascontiguousarray(values, dtype="<f4")
    record = {"dtype": "f4", "bdata": base64.b64encode(array.tobytes()).decode()}
    return record if array.ndim == 1 else record | {"shape": ", ".join(map(str, array.shape))}


def axis_of(variable: CollectiveVariable) -> dict[str, Any]:
    """The axis of a CV: its unit, and its whole domain where it is periodic."""
    axis: dict[str, Any] = {"title": {"text": plain(cv_label(variable))}}
    if variable.domain is not None:
        low, high = (float(np.degrees(end)) if variable.unit == "rad" else end
                     for end in variable.domain)  # fmt: skip
        axis["range"] = [low, high]
        if variable.unit == "rad":
            axis |= {"tick0": 0, "dtick": 60}
    return axis


def named_axis(name: str, **more: Any) -> dict[str, Any]:
    """An axis with a name."""
    return {"title": {"text": plain(name)}, **more}


def line(x: ArrayLike, y: ArrayLike, name: str, colour: int = 0, **more: Any) -> dict[str, Any]:
    """A line; its points are all shown, thin them before (`thinned`)."""
    shown = {"color": COLOURS[colour % len(COLOURS)], "width": 1.6}
    return {"type": "scatter", "mode": "lines", "name": plain(name), "x": packed(x),
            "y": packed(y), "line": shown, **more}  # fmt: skip


def band(x: NDArray, low: NDArray, high: NDArray, name: str, colour: int = 0) -> dict[str, Any]:
    """What lies between two curves, where both are finite, in one piece after another."""
    known = np.isfinite(low) & np.isfinite(high)
    pieces = [p for p in np.split(np.arange(len(x)), np.flatnonzero(np.diff(known)) + 1)
              if known[p].all() and len(p)]  # fmt: skip
    xs, ys = [], []
    for rows in pieces:
        xs += [*x[rows], *x[rows][::-1], np.nan]
        ys += [*low[rows], *high[rows][::-1], np.nan]
    return {
        "type": "scatter", "mode": "lines", "fill": "toself", "hoverinfo": "skip",
        "line": {"width": 0}, "fillcolor": COLOURS[colour % len(COLOURS)], "opacity": 0.25,
        "name": plain(name), "x": packed(np.array(xs)), "y": packed(np.array(ys)),
    }  # fmt: skip


def points(
    x: ArrayLike, y: ArrayLike, name: str, colour: int = 0, error: ArrayLike | None = None
) -> dict[str, Any]:
    """Points, with error bars where they are given."""
    trace = line(x, y, name, colour, mode="markers", marker={"size": 5})
    if error is not None:
        trace["error_y"] = {"type": "data", "array": packed(error), "thickness": 1, "width": 2}
    return trace


def heat_map(
    x: ArrayLike, y: ArrayLike, z: NDArray, title: str, scale: Scale = SCALE, **more: Any
) -> dict[str, Any]:
    """A map of values z, shape (n_x, n_y), over cells with these centres; NaN is left white."""
    bar = {"title": {"text": plain(title), "side": "right"}, "thickness": 12}
    return {
        "type": "heatmap", "x": packed(x), "y": packed(y), "z": packed(np.asarray(z).T),
        "colorscale": [list(stop) for stop in scale], "colorbar": bar, "hoverongaps": False,
        "name": "", **more,
    }  # fmt: skip


def bars(counts: Mapping[str, int], good: str) -> Figure:
    """A bar for each name, the good one in its own colour, the longest at the bottom."""
    names = sorted(counts, key=lambda name: (name == good, counts[name]))
    total = max(1, sum(counts.values()))
    trace = {
        "type": "bar", "orientation": "h", "y": [plain(name) for name in names],
        "x": [counts[name] for name in names], "customdata": names,
        "text": [f"{counts[name]:,} ({counts[name] / total:.1%})" for name in names],
        "textposition": "auto", "hoverinfo": "y+text",
        "marker": {"color": [ACCEPTED if name == good else OURS for name in names]},
    }  # fmt: skip
    layout = {"xaxis": named_axis("proposals"), "yaxis": {"type": "category", "automargin": True}}
    return Figure([trace], layout, height=110 + 34 * len(names))


def thinned(x: NDArray, y: NDArray, most: int = MOST_POINTS) -> tuple[NDArray, NDArray]:
    """The lowest and the highest of each stretch of a curve, so that no peak is lost.

    Parameters
    ----------
    x, y : ndarray, shape (n,)
    most : int
        Points to keep.

    Returns
    -------
    x, y : ndarray, shape (min(n, most),) about
    """
    if len(x) <= most:
        return x, y
    length = -(-2 * len(x) // most)
    whole = len(x) // length * length
    pieces = y[:whole].reshape(-1, length)
    starts = np.arange(len(pieces)) * length
    lowest = np.where(np.isnan(pieces), np.inf, pieces).argmin(axis=1)
    highest = np.where(np.isnan(pieces), -np.inf, pieces).argmax(axis=1)
    rows = np.unique(np.concatenate([starts + lowest, starts + highest, [0, len(x) - 1]]))
    return x[rows], y[rows]


def subplots(titles: Sequence[str], gap: float = 0.09) -> dict[str, Any]:
    """A layout of panels side by side, each with its title."""
    n = len(titles)
    width = (1 - gap * (n - 1)) / n
    layout: dict[str, Any] = {"annotations": []}
    for i, title in enumerate(titles):
        left, number = i * (width + gap), "" if i == 0 else str(i + 1)
        layout[f"xaxis{number}"] = {"domain": [left, left + width], "anchor": f"y{number}"}
        layout[f"yaxis{number}"] = {"anchor": f"x{number}"}
        layout["annotations"].append({
            "text": plain(title), "x": left + width / 2, "y": 1.02, "xref": "paper",
            "yref": "paper", "yanchor": "bottom", "showarrow": False, "font": {"size": 13},
        })  # fmt: skip
    return layout
