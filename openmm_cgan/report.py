"""Plots of what a run did, as PNG files: figures for a reader, drawn without a display.

Angles come in radians and are drawn in degrees, other CVs in their units. Each function writes one
file and returns its path.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray

from openmm_cgan.atomic_files import replacing
from openmm_cgan.collective_variable import CollectiveVariable
from openmm_cgan.short_reprs import short_repr

if TYPE_CHECKING:
    from openmm_cgan.closures import Identity
    from openmm_cgan.metrics import MicroMacroConsistency

INK = "#1b2a41"
OURS = "#c8553d"
REFERENCE = "#8d99ae"
ACCEPTED = "#588157"
MAP = "YlGnBu"


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


def plot_ramachandran(
    md: ArrayLike,
    generated: ArrayLike,
    path: str | os.PathLike[str],
    labels: tuple[str, str] = ("φ", "ψ"),
) -> Path:
    """Densities of MD frames and of generated frames over two torsions, side by side.

    Parameters
    ----------
    md, generated : array_like, shapes (n, 2) and (m, 2)
        Torsions [rad].
    path : path
        The PNG file.
    labels : (str, str)
        Names of the torsions.

    Returns
    -------
    Path
        The file written.

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
        _square_degrees(axis, labels[0], title)
    axes[0].set_ylabel(f"{labels[1]} / degrees")
    figure.colorbar(mesh, ax=axes, label="share of frames per cell")
    return _write(figure, path)


def plot_free_energy(
    ours: Profile,
    path: str | os.PathLike[str],
    reference: Profile | None = None,
    basin: tuple[float, float] | None = None,
    label: str = "φ",
    variable: CollectiveVariable | None = None,
) -> Path:
    """A free-energy profile with error bars of two standard errors, beside a reference.

    The reference is shifted to agree with ours on average where both are below 20 kJ/mol: only
    differences within a profile mean anything.

    Parameters
    ----------
    ours : Profile
        Drawn as points with error bars, as grey crosses where the error is not known.
    path : path
        The PNG file.
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
    Path
        The file written.
    """
    variable = variable or CollectiveVariable(label, "rad", (-np.pi, np.pi))
    figure = Figure(figsize=(6.4, 4.0), layout="constrained")
    axis = figure.subplots()
    if basin is not None:
        axis.axvspan(*_drawn(basin, variable), color=REFERENCE, alpha=0.15, lw=0)
    if reference is not None:
        x, shift = _drawn(reference.cv, variable), _shift(reference, ours, variable.period)
        y = reference.free_energy + shift
        band = 2 * reference.error
        axis.fill_between(x, y - band, y + band, color=REFERENCE, alpha=0.5, lw=0)
        axis.plot(x, y, color=REFERENCE, lw=1.5, label=reference.label)
    known = np.isfinite(ours.free_energy) & np.isfinite(ours.error)
    guessed = np.isfinite(ours.free_energy) & ~known
    axis.errorbar(
        _drawn(ours.cv[known], variable),
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
            _drawn(ours.cv[guessed], variable),
            ours.free_energy[guessed],
            "x",
            ms=4,
            color=REFERENCE,
            label="error unknown",
        )
    _along(axis, variable)
    axis.set_ylabel("free energy / (kJ/mol)")
    axis.legend(frameon=False, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2)
    _plain(axis)
    return _write(figure, path)


def plot_consistency(
    consistency: MicroMacroConsistency,
    path: str | os.PathLike[str],
    variable: CollectiveVariable,
    identity: Identity | None = None,
) -> Path:
    """Micro-macro consistency along one CV on one page.

    Parameters
    ----------
    consistency : MicroMacroConsistency
    path : path
        The PNG file.
    variable : CollectiveVariable
        The first CV, along which everything is drawn.
    identity : Identity, optional
        Residuals of the closure, drawn with two standard errors.

    Returns
    -------
    Path
        The file written.
    """
    figure = Figure(figsize=(10.0, 3.4), layout="constrained")
    panels = figure.subplots(1, 2 if identity is None else 3)
    z = _drawn(consistency.at[:, 0], variable)
    panels[0].plot(z, _drawn(consistency.offset[:, 0], variable), "o-", ms=3, color=OURS)
    panels[0].set_ylabel("restriction(lifting(z)) - z, root mean square")
    panels[1].plot(z, consistency.distance, "o-", ms=3, color=OURS, label="generated to MD")
    panels[1].plot(z, consistency.floor, "o-", ms=3, color=REFERENCE, label="MD to MD")
    panels[1].set_ylabel("energy distance")
    panels[1].legend(frameon=False)
    if identity is not None:
        panels[2].errorbar(
            _drawn(identity.at[:, 0], variable),
            identity.residual[:, 0],
            yerr=2 * identity.error[:, 0],
            fmt="o",
            ms=3,
            color=OURS,
        )
        panels[2].axhline(0.0, color=REFERENCE, lw=1)
        panels[2].set_ylabel("residual of the closure's identity / (CV unit/ps)")
    for panel in panels:
        _along(panel, variable)
        _plain(panel)
    return _write(figure, path)


def plot_training(
    history: Sequence[Mapping[str, float]], path: str | os.PathLike[str], x: str = "step"
) -> Path:
    """Training curves: one panel for each quantity that the history records.

    Parameters
    ----------
    history : sequence of mappings
        Rows as ConditionalGAN.history keeps them; seconds and what is no number are left out.
    path : path
        The PNG file.
    x : str
        The key that counts the training.

    Returns
    -------
    Path
        The file written.

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
        _plain(axis)
    for axis in panels[len(names) :]:
        axis.set_axis_off()
    return _write(figure, path)


def plot_proposals(counts: Mapping[str, int], path: str | os.PathLike[str]) -> Path:
    """Proposals accepted and refused, one bar for each reason.

    Parameters
    ----------
    counts : mapping of str to int
        Number of proposals by reason of refusal and "accepted", as Proposals.counts gives them.
    path : path
        The PNG file.

    Returns
    -------
    Path
        The file written.
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
    _plain(axis)
    axis.tick_params(left=False)
    return _write(figure, path)


def _torsion_pairs(torsions: ArrayLike, name: str) -> NDArray[np.float64]:
    pairs = np.asarray(torsions, dtype=float)
    if pairs.ndim != 2 or pairs.shape[1] != 2:
        raise ValueError(f"{name} have shape {pairs.shape}: expected (n, 2) torsions")
    # the histogram is closed at +180 degrees, so values need only lie in one period
    return np.remainder(pairs + np.pi, 2 * np.pi) - np.pi


def _drawn(values: ArrayLike, variable: CollectiveVariable) -> NDArray[np.float64]:
    """Values of a CV as they are drawn: angles in degrees."""
    return np.degrees(values) if variable.unit == "rad" else np.asarray(values, dtype=float)


def _along(axis: Axes, variable: CollectiveVariable) -> None:
    """The axis of a CV: its unit, and its whole domain where it is periodic."""
    unit = "degrees" if variable.unit == "rad" else variable.unit
    axis.set_xlabel(f"{variable.name} / {unit}" if unit else variable.name)
    if variable.domain is None:
        return
    low, high = _drawn(variable.domain, variable)
    axis.set_xlim(low, high)
    if variable.unit == "rad":
        axis.set_xticks(np.arange(np.ceil(low / 60) * 60, high + 1, 60))


def _shift(reference: Profile, ours: Profile, period: float | None) -> float:
    """The constant that brings the reference onto our profile where both are low."""
    order = np.argsort(reference.cv)
    curve = reference.cv[order], reference.free_energy[order]
    there = np.interp(ours.cv, *curve, left=np.nan, right=np.nan, period=period)
    low = np.isfinite(ours.free_energy) & np.isfinite(there)
    low &= (ours.free_energy < 20) & (there < 20)
    return float(np.mean(ours.free_energy[low] - there[low])) if low.any() else 0.0


def _square_degrees(axis: Axes, label: str, title: str) -> None:
    axis.set_xlabel(f"{label} / degrees")
    axis.set_xticks(np.arange(-180, 181, 90))
    axis.set_yticks(np.arange(-180, 181, 90))
    axis.set_xlim(-180, 180)
    axis.set_ylim(-180, 180)
    axis.set_aspect("equal")
    axis.set_title(title, fontsize=10)


def _plain(axis: Axes) -> None:
    axis.spines[["top", "right"]].set_visible(False)


def _write(figure: Figure, path: str | os.PathLike[str]) -> Path:
    """Write whole or not at all: a reader never meets half a picture."""
    path = Path(path)
    with replacing(path) as unfinished:
        figure.savefig(unfinished, format="png", dpi=150)
    return path
