"""Generators drawn: what they make beside MD, how they were trained, what became of proposals."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray

from openmm_cgan.collective_variable import CollectiveVariable
from openmm_cgan.report.axes import (
    ACCEPTED,
    INK,
    MAP,
    OURS,
    REFERENCE,
    drawn,
    label_cv,
    square_degrees,
    without_frame,
    write_png,
)

if TYPE_CHECKING:
    from openmm_cgan.closures import Identity
    from openmm_cgan.metrics import MicroMacroConsistency


def plot_ramachandran(
    md: ArrayLike,
    generated: ArrayLike,
    path: str | os.PathLike[str] | None = None,
    labels: tuple[str, str] = ("φ", "ψ"),
) -> NDArray[np.object_]:
    """Densities of MD frames and of generated frames over two torsions, side by side.

    Parameters
    ----------
    md, generated : array_like, shapes (n, 2) and (m, 2)
        Torsions [rad].
    path : path, optional
        The PNG file; none is written if omitted.
    labels : (str, str)
        Names of the torsions.

    Returns
    -------
    ndarray of matplotlib.axes.Axes, shape (n_panels,)

    Raises
    ------
    ValueError
        If an array does not have shape (n, 2).
    """
    figure = Figure(figsize=(7.6, 3.5), layout="compressed")
    axes = figure.subplots(1, 2, sharex=True, sharey=True)
    edges = np.linspace(-180, 180, 73)
    panels = []
    for torsions, title in ((md, "MD frames"), (generated, "generated frames")):
        degrees = np.degrees(_torsion_pairs(torsions, title))
        counts = np.histogram2d(degrees[:, 0], degrees[:, 1], bins=(edges, edges))[0]
        panels.append((counts / max(len(degrees), 1), f"{title} ({len(degrees):,})"))
    shares = np.concatenate([share[share > 0] for share, _ in panels])
    scale = LogNorm(shares.min(), shares.max()) if shares.size else None
    for axis, (share, title) in zip(axes, panels, strict=True):
        mesh = axis.pcolormesh(edges, edges, np.ma.masked_equal(share.T, 0), cmap=MAP, norm=scale)
        mesh.set_rasterized(True)
        square_degrees(axis, labels[0], title)
    axes[0].set_ylabel(f"{labels[1]} / degrees")
    figure.colorbar(mesh, ax=axes, label="share of frames per cell")
    write_png(figure, path)
    return np.asarray(axes)


def plot_consistency(
    consistency: MicroMacroConsistency,
    path: str | os.PathLike[str] | None,
    variable: CollectiveVariable,
    identity: Identity | None = None,
) -> NDArray[np.object_]:
    """Micro-macro consistency along one CV on one page.

    Parameters
    ----------
    consistency : MicroMacroConsistency
    path : path or None
        The PNG file; None: none is written.
    variable : CollectiveVariable
        The first CV, along which everything is drawn.
    identity : Identity, optional
        Residuals of the closure, drawn with two standard errors.

    Returns
    -------
    ndarray of matplotlib.axes.Axes, shape (n_panels,)
    """
    figure = Figure(figsize=(10.0, 3.4), layout="constrained")
    panels = figure.subplots(1, 2 if identity is None else 3)
    z = drawn(consistency.at[:, 0], variable)
    panels[0].plot(z, drawn(consistency.offset[:, 0], variable), "o-", ms=3, color=OURS)
    panels[0].set_ylabel("restriction(lifting(z)) - z, root mean square")
    panels[1].plot(z, consistency.distance, "o-", ms=3, color=OURS, label="generated to MD")
    panels[1].plot(z, consistency.floor, "o-", ms=3, color=REFERENCE, label="MD to MD")
    panels[1].set_ylabel("energy distance")
    panels[1].legend(frameon=False)
    if identity is not None:
        panels[2].errorbar(
            drawn(identity.at[:, 0], variable),
            identity.residual[:, 0],
            yerr=2 * identity.error[:, 0],
            fmt="o",
            ms=3,
            color=OURS,
        )
        panels[2].axhline(0.0, color=REFERENCE, lw=1)
        panels[2].set_ylabel("residual of the closure's identity / (CV unit/ps)")
    for panel in panels:
        label_cv(panel, variable)
        without_frame(panel)
    write_png(figure, path)
    return np.asarray(panels)


def plot_training(
    history: Sequence[Mapping[str, float]],
    path: str | os.PathLike[str] | None = None,
    x: str = "step",
) -> NDArray[np.object_]:
    """Training curves: one panel for each quantity that the history records.

    Parameters
    ----------
    history : sequence of mappings
        Rows as ConditionalGAN.history keeps them; seconds and what is no number are left out.
    path : path, optional
        The PNG file; none is written if omitted.
    x : str
        The key that counts the training.

    Returns
    -------
    ndarray of matplotlib.axes.Axes, shape (n_panels,)

    Raises
    ------
    ValueError
        If the history is empty or lacks the key ``x``.
    """
    if not history or x not in history[0]:
        found = sorted(history[0]) if history else "no rows"
        raise ValueError(f"the training history has {found}: expected rows with {x!r}")
    left_out = {x, "seconds"}
    names = [k for k, v in history[0].items() if k not in left_out and isinstance(v, int | float)]
    figure = Figure(
        figsize=(3.4 * min(len(names), 3), 2.5 * -(-len(names) // 3)), layout="constrained"
    )
    panels = figure.subplots(-(-len(names) // 3), min(len(names), 3), squeeze=False).ravel()
    steps = np.array([row[x] for row in history], dtype=float)
    for axis, name in zip(panels, names, strict=False):
        axis.plot(steps, [row.get(name, np.nan) for row in history], color=INK, lw=1)
        axis.set_title(name.replace("_", " "), fontsize=10)
        axis.set_xlabel(x)
        without_frame(axis)
    for axis in panels[len(names) :]:
        axis.set_axis_off()
    write_png(figure, path)
    return np.asarray(panels)


def plot_proposals(counts: Mapping[str, int], path: str | os.PathLike[str] | None = None) -> Axes:
    """Proposals accepted and refused, one bar for each reason.

    Parameters
    ----------
    counts : mapping of str to int
        Number of proposals by reason of refusal and "accepted", as Proposals.counts gives them.
    path : path, optional
        The PNG file; none is written if omitted.

    Returns
    -------
    matplotlib.axes.Axes
    """
    reasons = sorted((count, reason) for reason, count in counts.items() if reason != "accepted")
    rows = [(reason, count) for count, reason in reasons] + [
        ("accepted", counts.get("accepted", 0))
    ]
    total = sum(count for _, count in rows)
    figure = Figure(figsize=(6.4, 0.9 + 0.36 * len(rows)), layout="constrained")
    axis = figure.subplots()
    colours = [OURS] * len(reasons) + [ACCEPTED]
    bars = axis.barh([name for name, _ in rows], [n for _, n in rows], color=colours, height=0.65)
    shares = [f" {n:,} ({n / total:.1%})" if total else " 0" for _, n in rows]
    axis.bar_label(bars, shares, fontsize=9)
    axis.set_xlim(0, 1.25 * max([1, *(n for _, n in rows)]))
    axis.set_xlabel("proposals")
    without_frame(axis)
    axis.tick_params(left=False)
    write_png(figure, path)
    return axis


def _torsion_pairs(torsions: ArrayLike, name: str) -> NDArray[np.float64]:
    pairs = np.asarray(torsions, dtype=float)
    if pairs.ndim != 2 or pairs.shape[1] != 2:
        raise ValueError(f"{name} have shape {pairs.shape}: expected (n, 2) torsions")
    # the histogram is closed at +180 degrees, so values need only lie in one period
    return np.remainder(pairs + np.pi, 2 * np.pi) - np.pi
