"""What notebooks show of the objects that a user holds: short tables, every text escaped."""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import Any

import numpy as np

MOST_ROWS = 12


def html_table(title: str, rows: Sequence[Sequence[object]], head: Sequence[object] = ()) -> str:
    """A table in HTML under a title; cells are shown as text, whatever they hold.

    Examples
    --------
    >>> html_table("a < b", [["x", 1]])
    '<table><caption>a &lt; b</caption><tr><td>x</td><td>1</td></tr></table>'
    """

    def row(cells: Sequence[object], tag: str) -> str:
        each = (f"<{tag}>{html.escape(str(cell))}</{tag}>" for cell in cells)
        return f"<tr>{''.join(each)}</tr>"

    lines = [row(head, "th")] * bool(head) + [row(cells, "td") for cells in rows]
    return f"<table><caption>{html.escape(title)}</caption>{''.join(lines)}</table>"


def bias_html(bias: Any) -> str:
    """A PlumedBias: what runs it, and its CVs."""
    state = "in a Simulation" if bias.simulation is not None else "not in a Simulation"
    kelvins = "" if bias.temperature is None else f", {bias.temperature:g} K"
    title = f"PlumedBias of {bias.source}: {bias.backend} backend{kelvins}, {state}"
    rows = [[v.name, v.action, v.unit or "1", _domain(v)] for v in bias.variables]
    return html_table(title, rows, ["CV", "action", "unit", "periodic"])


def frames_html(frames: Any) -> str:
    """Frames: how many of what, over which time, and the ranges of their CVs."""
    kelvins = "" if frames.temperature is None else f", {frames.temperature:g} K"
    title = f"{len(frames)} Frames of {len(frames.atoms)} atoms{kelvins}"
    rows = _ranges(frames.variables, frames.cvs)
    if len(frames):
        time, settling = frames.time, int(frames.settling.sum())
        rows.append(["bias", f"{frames.bias.min():.4g}", f"{frames.bias.max():.4g}", "kJ/mol"])
        rows.append(["time", f"{time[0]:.6g}", f"{time[-1]:.6g}", "ps"])
        rows.append(["segments", len(np.unique(frames.segment)), "", f"{settling} frames settling"])
    return html_table(title, rows, ["", "lowest", "highest", "unit"])


def generator_html(generator: Any) -> str:
    """A ConditionalGenerator: what it makes, where it was trained, how it may be used."""
    kind, density = type(generator.generator).__name__, generator.has_density
    title = f"ConditionalGenerator: {kind} of {generator.n_atoms} atoms"
    rows = _ranges(generator.variables, np.asarray(generator.cv_range).T)
    rows.append(["density", "known: exact moves, weights" if density else "not known: seeds"])
    last = generator.history[-1] if generator.history else {}
    rows.append(["trained", f"{last.get('step', 'an unknown number of')} steps"])
    rows += [["version", f"{name} {version}"] for name, version in generator.versions.items()]
    return html_table(title, rows, ["CV", "lowest", "highest", "unit"])


def free_energy_html(free_energy: Any) -> str:
    """A FreeEnergy: a profile at some of its bins; of a surface its axes and its height."""
    known = free_energy.free_energy[np.isfinite(free_energy.free_energy)]
    names = ", ".join(v.name for v in free_energy.variables)
    height = f"up to {known.max():.4g} kJ/mol" if known.size else "nothing known"
    bins = f"{known.size} of {free_energy.free_energy.size} bins"
    title = f"FreeEnergy along {names}: {height} in {bins}"
    if len(free_energy.variables) > 1:
        axes = zip(free_energy.variables, free_energy.centres, strict=True)
        rows = [[v.name, f"{c[0]:.4g}", f"{c[-1]:.4g}", v.unit or "1"] for v, c in axes]
        return html_table(title, rows, ["CV", "first bin", "last bin", "unit"])
    [variable], [centres] = free_energy.variables, free_energy.centres
    shown = range(0, len(centres), -(-len(centres) // MOST_ROWS))
    unit = f" / {variable.unit}" if variable.unit else ""
    rows = [
        [f"{centres[i]:.4g}", _number(free_energy.free_energy[i]), _number(free_energy.error[i])]
        for i in shown
    ]
    return html_table(title, rows, [f"{variable.name}{unit}", "F / (kJ/mol)", "standard error"])


def _ranges(variables: Sequence[Any], values: Any) -> list[list[object]]:
    """A row for each CV: name, lowest and highest of its values (n, n_cvs), unit."""
    table = np.asarray(values, dtype=float)
    if not len(table):
        return [[v.name, "", "", v.unit or "1"] for v in variables]
    ends = zip(variables, table.min(axis=0), table.max(axis=0), strict=True)
    return [[v.name, f"{low:.4g}", f"{high:.4g}", v.unit or "1"] for v, low, high in ends]


def _domain(variable: Any) -> str:
    low, high = variable.domain or (None, None)
    return "no" if low is None else f"{low:.4g} to {high:.4g}"


def _number(value: float) -> str:
    return "not known" if np.isnan(value) else f"{value:.2f}"
