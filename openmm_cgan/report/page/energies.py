"""Free energies of a page: profiles with errors, against time, surfaces, overlap."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from openmm_cgan.collective_variable import CollectiveVariable
from openmm_cgan.free_energy import (
    Estimate,
    FreeEnergy,
    basin_difference,
    free_energy_profile,
    free_energy_surface,
)
from openmm_cgan.free_energy.doubts import HALVES_AGREE, LEAST_OVERLAP
from openmm_cgan.free_energy.overlap import weakest_link
from openmm_cgan.report.axes import cv_label, drawn, edges_of
from openmm_cgan.report.page.blocks import (
    BAD,
    DOUBT,
    GOOD,
    Block,
    Figure,
    Finding,
    Section,
    Table,
    Text,
)
from openmm_cgan.report.page.figures import (
    ENERGY_SCALE,
    SCALE,
    Scale,
    axis_of,
    band,
    heat_map,
    line,
    named_axis,
    points,
    subplots,
)
from openmm_cgan.report.page.weighed import Weighed, difference_of, profiles_in_time
from openmm_cgan.report.page.wells import wells_of

MOST_CVS = 4
PROFILE_BINS, SURFACE_BINS = 72, 36
QUARTERS = [(0.0, 0.25), (0.0, 0.5), (0.0, 0.75)]
HALVES = [(0.0, 0.5), (0.5, 1.0)]
HIGH = 12.0  # kT: what is higher does not count for convergence
LEAST_DEPTH = 2.0  # kT below its pass, for a well
MOST_ROWS = 400  # states of an overlap matrix that are drawn


@dataclass(frozen=True)
class Halves:
    """How far the first and the second half of the time are apart.

    Attributes
    ----------
    apart : float
        Root mean square difference of their profiles, `HIGH` kT above the minimum left out
        [kJ/mol].
    expected : float
        What the errors of the whole, doubled, say it should be [kJ/mol].
    """

    apart: float
    expected: float

    @property
    def agree(self) -> bool:
        """Whether that is within the errors."""
        return bool(self.apart <= HALVES_AGREE * self.expected)


def energy_section(weighed: Weighed) -> Section:
    """Profiles of each CV, their course in time, a surface of two CVs."""
    samples = weighed.samples
    worth = f"{samples.effective_samples:,.0f} effective frames in all"
    blocks: list[Block] = [Text(f"{weighed.kind}; {worth}. Bands are two standard errors.")]
    findings: list[Finding] = []
    anchor = f"energy-{weighed.name}"
    if samples.unknown:
        words = f"{weighed.name}: no free energy from its frames: {samples.unknown}"
        if bias_tells := _of_bias(weighed, samples.variables[0], np.zeros(1)) is not None:
            words += "; what the bias adds up to is shown, which has no error"
        findings.append(Finding(DOUBT if bias_tells else BAD, words, anchor))
    for variable in samples.variables[:MOST_CVS]:
        made, found = _along(weighed, variable, anchor)
        blocks += made
        findings += found
    if len(samples.variables) > MOST_CVS:
        blocks.append(Text(f"{len(samples.variables) - MOST_CVS} more CVs are left out.", True))
    if len(samples.variables) >= 2 and not samples.unknown:
        blocks.append(surface_figure(free_energy_surface(samples, (0, 1), SURFACE_BINS)))
    for warning in weighed.warned if not samples.unknown else ():
        findings.append(Finding(DOUBT, f"{weighed.name}: {warning}", anchor))
    return Section(anchor, f"{weighed.name}: free energy", blocks, findings)


def _along(
    weighed: Weighed, variable: CollectiveVariable, anchor: str
) -> tuple[list[Block], list[Finding]]:
    """Figure, wells and verdict along one CV."""
    samples, kT = weighed.samples, weighed.samples.kT
    try:
        profile = free_energy_profile(samples, variable.name, PROFILE_BINS)
    except ValueError as error:
        return [Text(f"{variable.name}: {error}", quiet=True)], []
    edges = edges_of(profile.centres[0])
    parts = profiles_in_time(weighed, variable.name, edges, QUARTERS + HALVES)
    shown = profile_figure(weighed, profile, parts[: len(QUARTERS)])
    halves = halves_of(profile, parts[-2:], kT)
    findings = []
    if halves is not None:
        words = (f"{weighed.name}, {variable.name}: the halves of the time are {halves.apart:.2f} "
                 f"kJ/mol apart, {halves.expected:.2f} are expected from the errors")  # fmt: skip
        findings.append(Finding(GOOD if halves.agree else DOUBT, words, anchor))
    return [shown, *wells_table(weighed, profile)], findings


def profile_figure(weighed: Weighed, profile: FreeEnergy, parts: list[FreeEnergy | None]) -> Figure:
    """A profile with its errors; beside it how it came about in time."""
    variable, kT = profile.variables[0], weighed.samples.kT
    x, y = drawn(profile.centres[0], variable), profile.free_energy
    error = np.where(np.isfinite(profile.error), profile.error, np.nan)
    traces = [band(x, y - 2 * error, y + 2 * error, "± 2 standard errors"),
              line(x, y, "free energy", mode="lines+markers", marker={"size": 4})]  # fmt: skip
    unsure = np.isfinite(y) & ~np.isfinite(error)
    if unsure.any():
        traces.append(points(x[unsure], y[unsure], "error unknown", 3))
    alone = _of_bias(weighed, variable, profile.centres[0])
    if alone is not None:
        traces.append(line(x, alone, "what the bias adds up to", 1))
    panel = {"xaxis": "x2", "yaxis": "y2"}
    for i, (part, (_, stop)) in enumerate(zip(parts, QUARTERS, strict=True)):
        if weighed.samples.unknown and alone is not None:
            earlier = _of_bias(weighed, variable, profile.centres[0], stop)
            change = np.nan * alone if earlier is None else earlier - alone
        elif part is not None:
            change = difference_of(part, profile, kT)
        else:
            continue
        traces.append(line(x, change, f"first {stop:.0%} less all", i + 2, **panel))
    layout = subplots(["free energy / (kJ/mol)", "change in time / (kJ/mol)"])
    layout["xaxis"] |= axis_of(variable)
    layout["xaxis2"] |= axis_of(variable)
    caption = f"Free energy along {variable.name}, and how far it was from this earlier."
    return Figure(traces, layout, caption)


def _of_bias(
    weighed: Weighed, variable: CollectiveVariable, points: NDArray, share: float = 1.0
) -> NDArray[np.float64] | None:
    """What the bias of a run adds up to along a CV; None where it tells nothing of it."""
    if weighed.biased is None:
        return None
    return weighed.biased.free_energy_of_bias(variable.name, points, share)


def halves_of(profile: FreeEnergy, halves: list[FreeEnergy | None], kT: float) -> Halves | None:
    """How far the halves are apart; None where that can not be said."""
    first, second = halves
    if first is None or second is None:
        return None
    apart = difference_of(first, second, kT)
    known = np.isfinite(apart) & np.isfinite(profile.error)
    known &= profile.free_energy < HIGH * kT
    if known.sum() < 2:
        return None
    # a half has twice the variance of the whole, the difference of two of them four times
    expected = 2.0 * np.sqrt((profile.error[known] ** 2).mean())
    return Halves(float(np.sqrt((apart[known] ** 2).mean())), float(expected))


def wells_table(weighed: Weighed, profile: FreeEnergy) -> list[Block]:
    """The wells of a profile and their free energies; nothing where there are less than two."""
    variable, samples = profile.variables[0], weighed.samples
    if samples.unknown:
        return []
    periodic = variable.period is not None
    wells = wells_of(profile.free_energy, periodic, LEAST_DEPTH * samples.kT)
    if len(wells) < 2:
        return []
    x = drawn(profile.centres[0], variable)
    owner = np.full(len(x), -1)
    for k, well in enumerate(wells):
        owner[list(well.bins)] = k
    bins = _bins_of(samples.cvs[:, samples.column(variable.name)], profile)
    rows = []
    for k, well in enumerate(wells):
        inside = (owner[bins] == k) & (bins >= 0)
        found = Estimate(np.nan, np.nan) if inside.all() or not inside.any() else (
            basin_difference(samples, inside))  # fmt: skip
        rows.append([f"{x[well.lowest]:.4g}", f"{profile.free_energy[well.lowest]:.2f}",
                     plus_minus(found)])  # fmt: skip
    head = [f"lowest at {cv_label(variable)}", "F there / (kJ/mol)",
            "F of the whole well over all else / (kJ/mol)"]  # fmt: skip
    return [Table(head, rows)]


def _bins_of(values: NDArray, profile: FreeEnergy) -> NDArray[np.int64]:
    """The bin of each value, -1 outside."""
    centres, variable = profile.centres[0], profile.variables[0]
    width = centres[1] - centres[0]
    low = centres[0] - width / 2
    offset = values - low
    if variable.period is not None:
        offset = np.mod(offset, variable.period)
    index = np.floor(offset / width).astype(np.int64)
    index[np.isclose(offset, width * len(centres))] = len(centres) - 1
    return np.where((index >= 0) & (index < len(centres)), index, -1)


def surface_figure(surface: FreeEnergy) -> Figure:
    """A surface, its standard error, and what each cell is worth in frames."""
    one, two = surface.variables
    x, y = (drawn(c, v) for c, v in zip(surface.centres, surface.variables, strict=True))
    effective = surface.effective_samples
    panels: list[tuple[str, NDArray, Scale]] = [
        ("free energy / (kJ/mol)", surface.free_energy, ENERGY_SCALE),
        ("standard error / (kJ/mol)", surface.error, SCALE),
    ]
    if effective is not None:
        worth = np.where(effective > 0, effective, np.nan)
        panels.append(("log10 of effective frames", np.log10(worth), SCALE))
    layout = subplots([title for title, _, _ in panels], 0.13)
    traces = []
    for i, (_, z, scale) in enumerate(panels):
        number = "" if i == 0 else str(i + 1)
        values = np.where(np.isfinite(z), z, np.nan)
        trace = heat_map(x, y, values, "", scale, xaxis=f"x{number}", yaxis=f"y{number}")
        trace["colorbar"] = {"thickness": 8, "len": 0.9, "x": layout[f"xaxis{number}"]["domain"][1]}
        traces.append(trace)
        layout[f"xaxis{number}"] |= axis_of(one)
        layout[f"yaxis{number}"] |= axis_of(two)
    caption = f"Over {one.name} and {two.name}. White: nothing known."
    return Figure(traces, layout, caption, 400)


def overlap_section(weighed: Weighed) -> Section:
    """The overlap matrix of windows and its weakest link."""
    overlap, anchor = weighed.samples.overlap, f"overlap-{weighed.name}"
    title = f"{weighed.name}: overlap"
    if weighed.n_windows < 2 or len(overlap) < 2:
        return Section(anchor, title, left_out="fewer than two windows of different bias")
    weakest, group = weakest_link(overlap)
    parts = weighed.samples.parts
    n_parts = 1 if parts is None else int(parts.max()) + 1
    few = ", ".join(map(str, group[:10])) + (" ..." if len(group) > 10 else "")
    words = (
        f"{weighed.name}: the weakest link of {len(overlap)} windows overlaps by "
        f"{weakest:.3f} (windows {few} with the others); {LEAST_OVERLAP} is wanted"
    )
    findings = [Finding(GOOD if weakest >= LEAST_OVERLAP else DOUBT, words, anchor)]
    if n_parts > 1:
        words = (f"{weighed.name}: the windows fall into {n_parts} parts that do not overlap; free "
                 "energies between them are not known")  # fmt: skip
        findings.append(Finding(BAD, words, anchor))
    shown = overlap[:MOST_ROWS, :MOST_ROWS]
    numbers = np.arange(len(shown))
    logs = np.where(shown > 1e-4, np.log10(np.maximum(shown, 1e-4)), np.nan)
    trace = heat_map(numbers, numbers, logs, "log10 of overlap")
    layout = {"xaxis": named_axis("window", constrain="domain"),
              "yaxis": named_axis("window", autorange="reversed", scaleanchor="x")}  # fmt: skip
    caption = "How many of the frames of one window could be of another; rows add up to 1."
    blocks: list[Block] = [Text(words if n_parts > 1 else findings[0].text + "."),
                           Figure([trace], layout, caption, 520)]  # fmt: skip
    if len(overlap) > MOST_ROWS:
        blocks.append(Text(f"The first {MOST_ROWS} of {len(overlap)} windows are drawn.", True))
    return Section(anchor, title, blocks, findings)


def plus_minus(estimate: Estimate) -> str:
    """A value with its error, or a word."""
    if not np.isfinite(estimate.value):
        return "not known"
    if not np.isfinite(estimate.error):
        return "its error is not known"
    return f"{estimate.value:.2f} ± {estimate.error:.2f}"
