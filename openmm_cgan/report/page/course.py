"""The course of runs and windows: CVs in time, injections, settle windows, what was refused."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from openmm_cgan.collective_variable import CollectiveVariable
from openmm_cgan.frames import read_segments
from openmm_cgan.report.axes import drawn
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
    COLOURS,
    SCALE,
    axis_of,
    bars,
    heat_map,
    named_axis,
    packed,
    plain,
    points,
    thinned,
)
from openmm_cgan.report.page.found import RunFound, WindowsFound
from openmm_cgan.reporters.attempts import ACCEPTED
from openmm_cgan.run_folders import FRAMES
from openmm_cgan.windows.run_files import windows_in_words

MOST_CVS = 4
MOST_MARKS = 2000  # injections and settle windows that are drawn
MAP_BINS = 24
FEW_ACCEPTED = 0.01


def course_section(run: RunFound, name: str) -> Section:
    """CVs in time, with injections and settle windows, and where the run was taken up again."""
    frames = run.all_frames
    anchor, title = f"course-{name}", f"{name}: time line"
    if len(frames) < 2:
        return Section(anchor, title, left_out=f"{len(frames)} frames so far")
    segments = read_segments(run.folder / FRAMES)
    injected = [s for s in segments if s["origin"].get("kind") != "initial"]
    blocks: list[Block] = [Text(_in_words(run, injected))]
    for k, variable in enumerate(frames.variables[:MOST_CVS]):
        blocks.append(_series(frames.time, frames.cvs[:, k], variable))
    blocks.append(_bias_series(frames.time, frames.bias))
    if injected:
        blocks.append(_injections(frames.step, frames.time, injected))
    return Section(anchor, title, blocks)


def _in_words(run: RunFound, injected: Sequence[dict[str, Any]]) -> str:
    frames = run.all_frames
    share = frames.settling.mean()
    aside = sorted((run.folder / FRAMES).glob("bck.*"))
    words = f"{len(frames):,} frames of {frames.time[-1]:,.5g} ps, to step {frames.step[-1]:,}"
    end = run.record.get("end_step")
    if isinstance(end, int) and end > frames.step[-1] + 1:
        words += f" of {end:,}"
    words += f"; {len(injected)} injections, {share:.1%} of the frames in settle windows"
    if frames.other_temperatures:
        others = ", ".join(f"{kelvins:g}" for kelvins in frames.other_temperatures)
        words += (
            f"; this page shows those at {frames.temperature:g} K. There are others at {others} K, "
            "which free-energy --temperature weighs"
        )
    if aside:
        words += f"; {len(aside)} times frames were set aside, where it went on from earlier"
    return words + "."


def _series(time: NDArray, values: NDArray, variable: CollectiveVariable) -> Figure:
    x, y = thinned(time, drawn(values, variable))
    trace = points(x, y, variable.name, 1)  # no line: it would cross the map where an angle wraps
    trace["marker"] = {"size": 2.5}
    layout = {"xaxis": named_axis("time / ps"), "yaxis": axis_of(variable)}
    caption = f"{variable.name}: the lowest and the highest of each stretch of time." * (
        len(x) < len(time)
    )
    return Figure([trace], layout, caption, 240)


def _bias_series(time: NDArray, bias: NDArray) -> Figure:
    x, y = thinned(time, bias)
    trace = points(x, y, "bias", 3)
    trace["marker"] = {"size": 2.5}
    layout = {"xaxis": named_axis("time / ps"), "yaxis": named_axis("bias / (kJ/mol)")}
    return Figure([trace], layout, "Energy of the bias.", 240)


def _injections(step: NDArray, time: NDArray, segments: Sequence[dict[str, Any]]) -> Figure:
    """When something was injected, by its kind, and how long each took to settle."""
    shown = segments[:: -(-len(segments) // MOST_MARKS)]
    traces = []
    kinds = [str(s["origin"].get("mode") or s["origin"].get("kind")) for s in shown]
    at = np.interp([s["step"] for s in shown], step, time)
    settled = np.interp([s["settled"] for s in shown], step, time)
    for number, kind in enumerate(dict.fromkeys(kinds)):
        rows = [i for i, other in enumerate(kinds) if other == kind]
        traces.append({
            "type": "scatter", "mode": "markers", "name": plain(kind), "x": packed(at[rows]),
            "y": packed(settled[rows] - at[rows]), "marker": {"size": 5, "color": _colour(number)},
        })  # fmt: skip
    layout = {"xaxis": named_axis("time of the injection / ps"),
              "yaxis": named_axis("settle window / ps", rangemode="tozero")}  # fmt: skip
    more = f" One of {len(segments) // len(shown)} is drawn." if len(shown) < len(segments) else ""
    return Figure(traces, layout, f"Injections and how long their settle windows are.{more}", 240)


def proposals_section(run: RunFound, name: str) -> Section:
    """What became of the configurations that were proposed to a run."""
    rows, anchor, title = run.proposals, f"proposals-{name}", f"{name}: proposals"
    if not rows:
        return Section(anchor, title, left_out="there is no proposals.csv")
    attempts = Counter(row.get("reason") or ACCEPTED for row in rows)
    candidates = candidates_of(rows)
    share = attempts[ACCEPTED] / len(rows)
    modes = " and ".join(sorted({row.get("mode", "") for row in rows} - {""}))
    words = f"{name}: {attempts[ACCEPTED]:,} of {len(rows):,} proposals accepted ({share:.1%})"
    energies = int(np.nansum(numbers(rows, "energies")))
    blocks: list[Block] = [
        Text(f"{words}, mode {modes or 'unknown'}; {sum(candidates.values()):,} configurations "
             f"were made for them, {energies:,} energies evaluated."),
        Table(["what became of a proposal", "how often", "share"],
              [[r, f"{n:,}", f"{n / len(rows):.1%}"] for r, n in attempts.most_common()]),
        replace(
            bars(candidates, ACCEPTED), caption="What the screens said of each configuration."
        ),
    ]  # fmt: skip
    names = [variable.name for variable in run.header.variables]
    if (worth := _worth_map(rows, names, run.header.variables)) is not None:
        blocks.append(worth)
    level = GOOD if share >= FEW_ACCEPTED else DOUBT
    return Section(anchor, title, blocks, [Finding(level, words, anchor)])


def candidates_of(rows: Sequence[dict[str, str]]) -> Counter[str]:
    """Configurations of proposals by reason: those that were refused, and all others."""
    counts: Counter[str] = Counter()
    for row in rows:
        for part in (row.get("refused") or "").split("; "):
            reason, _, number = part.rpartition(" ")
            if reason and number.isdigit():
                counts[reason] += int(number)
    made = int(np.nansum(numbers(rows, "candidates")))
    return counts + Counter({ACCEPTED: max(0, made - sum(counts.values()))})


def numbers(rows: Sequence[Mapping[str, str]], name: str) -> NDArray[np.float64]:
    """A column as numbers, shape (n_rows,); NaN where there is none."""

    def number(text: str | None) -> float:
        try:
            return float(text or "nan")
        except ValueError:
            return float("nan")

    return np.array([number(row.get(name)) for row in rows])


def _worth_map(
    rows: Sequence[dict[str, str]], names: Sequence[str], variables: Sequence[CollectiveVariable]
) -> Figure | None:
    """Effective number of candidates of exact moves over what was made, over the CVs."""
    worth = numbers(rows, "effective_sample_size") / numbers(rows, "candidates")
    known = np.isfinite(worth)
    if not known.any():
        return None
    targets = [numbers(rows, f"{name}_target")[known] for name in names[:2]]
    targets = [drawn(values, v) for values, v in zip(targets, variables, strict=False)]
    if len(targets) == 1:
        trace = points(targets[0], worth[known], "effective share", 2)
        layout = {"xaxis": axis_of(variables[0]), "yaxis": named_axis("Kish / n", range=[0, 1])}
        return Figure([trace], layout, "Effective share of the candidates of each exact move.")
    one, two = targets
    weights, *edges = np.histogram2d(one, two, bins=MAP_BINS, weights=worth[known])
    counts = np.histogram2d(one, two, bins=(edges[0], edges[1]))[0]
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = weights / counts
    x, y = ((e[1:] + e[:-1]) / 2 for e in edges)
    layout = {"xaxis": axis_of(variables[0]), "yaxis": axis_of(variables[1])}
    caption = "Effective share of the candidates (Kish / n) where exact moves were asked for."
    return Figure([heat_map(x, y, mean, "Kish / n", SCALE, zmin=0, zmax=1)], layout, caption, 420)


def windows_section(found: WindowsFound, name: str) -> Section:
    """Where windows stand, what they started from, and how far they came."""
    anchor, records = f"windows-{name}", found.records
    whole = windows_in_words(len(records), found.number)
    states = Counter(str(record["status"]) for record in records)
    retried = sum(int(record.get("attempts", 0)) > 1 for record in records)
    said = ", ".join(f"{n} {state}" for state, n in states.most_common())
    origins = Counter(str(record.get("origin", "unknown")) for record in records)
    blocks: list[Block] = [
        Text(f"{whole}: {said}; {retried} took more than one attempt. They started "
             f"from: {', '.join(f'{n} {o}' for o, n in origins.most_common())}."),
    ]  # fmt: skip
    if (places := _places(records)) is not None:
        blocks.append(places)
    failed = [(folder.name, record) for folder, record in zip(found.windows, records, strict=True)
              if record["status"] == "failed"]  # fmt: skip
    if failed:
        rows = [[folder, record.get("step", ""), record.get("error", "")]
                for folder, record in failed]  # fmt: skip
        blocks.append(Table(["failed window", "at step", "why"], rows, "Windows that failed"))
    share = len(failed) / max(1, len(records))
    level = GOOD if not failed else BAD if share > 0.5 else DOUBT
    words = f"{name}: {said} of {whole}"
    return Section(anchor, f"{name}: windows", blocks, [Finding(level, words, anchor)])


def _places(records: Sequence[dict[str, Any]]) -> Figure | None:
    """Centres of windows over their first two CVs, by what became of them."""
    centres = [record.get("centre") for record in records]
    names = list(centres[0]) if isinstance(centres[0], dict) else []
    alike = [c for c in centres if isinstance(c, dict) and list(c) == names]
    if not names or len(alike) < len(centres):
        return None
    table = np.array([[float(c[name]) for name in names] for c in alike])
    states = [f"{r['status']}, from {r.get('origin', 'unknown')}" for r in records]
    traces = []
    for number, state in enumerate(dict.fromkeys(states)):
        rows = [i for i, other in enumerate(states) if other == state]
        y = table[rows, 1] if len(names) > 1 else np.zeros(len(rows))
        traces.append({
            "type": "scatter", "mode": "markers", "name": plain(state), "y": packed(y),
            "x": packed(table[rows, 0]), "marker": {"size": 7, "color": _colour(number)},
            "text": [f"window {row}" for row in rows],
        })  # fmt: skip
    layout = {"xaxis": named_axis(names[0]),
              "yaxis": named_axis(names[1] if len(names) > 1 else "")}  # fmt: skip
    return Figure(traces, layout, "Where windows stand [units of the PLUMED input].", 380)


def _colour(number: int) -> str:
    return COLOURS[number % len(COLOURS)]
