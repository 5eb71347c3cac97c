"""What was typed, with which versions, what it cost and what was decided; words of the demo."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from openmm_cgan import __version__
from openmm_cgan.json_files import read_json
from openmm_cgan.report.page.blocks import DOUBT, GOOD, Block, Figure, Finding, Section, Table, Text
from openmm_cgan.report.page.course import numbers
from openmm_cgan.report.page.figures import INK, named_axis, plain, points
from openmm_cgan.report.page.found import DEMO, Found, number_in
from openmm_cgan.run_folders import recorded_commands

AGREE = 2.0  # standard errors
PACKAGES = ("openmm", "torch", "numpy", "pymbar", "MDAnalysis", "h5py")
MOST_DECISIONS = 1000


def decisions_section(found: Found) -> Section:
    """Each decision of `openmm-cgan explore` with its reason."""
    rows, anchor, title = found.decisions, "decisions", "Decisions"
    if not rows:
        return Section(anchor, title, left_out="there is no decisions.csv: nothing was explored")
    head = list(rows[0])
    shown = [[_short(row[name]) for name in head] for row in rows[-MOST_DECISIONS:]]
    last = ": ".join(rows[-1].get(name, "") for name in ("action", "reason"))
    words = f"the last of {len(rows)} decisions: {last.strip(': ') or ', '.join(rows[-1].values())}"
    unsure = "not converged" in words.lower()
    finding = Finding(DOUBT if unsure else GOOD, words, anchor)
    blocks: list[Block] = [Text(f"{len(rows)} decisions.")]
    if (course := _value_in_time(rows)) is not None:
        blocks.append(course)
    return Section(anchor, title, [*blocks, Table(head, shown)], [finding])


def _short(text: str) -> str:
    """A number with fewer digits; any other text as it is."""
    try:
        return f"{float(text):.6g}" if "." in text else text
    except ValueError:
        return text


def _value_in_time(rows: Sequence[Mapping[str, str]]) -> Figure | None:
    """The difference that is looked for, with its error, against force evaluations."""
    spent, value = numbers(rows, "evaluations"), numbers(rows, "value")
    known = np.isfinite(spent) & np.isfinite(value)
    if not known.any():
        return None
    error = np.nan_to_num(numbers(rows, "error")[known], nan=0.0, posinf=0.0)
    trace = points(spent[known], value[known], "value", error=error)
    layout = {"xaxis": named_axis("force evaluations"), "yaxis": named_axis("value / (kJ/mol)")}
    return Figure([trace], layout, "The difference asked for, with its claimed error.", 280)


def summary_section(found: Found) -> Section:
    """What the demo found, beside the reference."""
    summary, anchor, title = found.summary, "summary", "What the demo found"
    if not summary:
        return Section(anchor, title, left_out="there is no summary.json")
    value, error, other, other_error = (
        number_in(summary.get(name))
        for name in ("delta_f", "delta_f_error", "reference", "reference_error")
    )
    findings: list[Finding] = []
    blocks: list[Block] = []
    off, sigma = abs(value - other), float(np.hypot(error, other_error))
    if np.isfinite([off, sigma]).all() and sigma > 0:
        words = (
            f"free energy of 0 < phi < 2.3 rad over the rest: {value:.2f} ± {error:.2f} kJ/mol; "
            f"reference {other:.2f} ± {other_error:.2f}, {off / sigma:.1f} standard errors away"
        )
        findings.append(Finding(GOOD if off <= AGREE * sigma else DOUBT, words, anchor))
        blocks.append(Text(f"{words[0].upper()}{words[1:]}."))
    blocks.append(Table(["", "value"], _flat(summary), "All of summary.json"))
    return Section(anchor, title, blocks, findings)


def costs_section(found: Found) -> Section:
    """Steps, energies, seconds and bytes."""
    rows: list[list[Any]] = []
    for run in found.runs:
        name, frames = found.name_of(run.folder), run.all_frames
        if not len(frames):
            continue
        steps, energies = int(frames.step[-1]), np.nansum(numbers(run.proposals, "energies"))
        rows.append([name, f"{steps:,} steps", f"{frames.time[-1] / 1000:.4g} ns",
                     f"{len(frames):,} frames", f"{int(energies):,} energies of proposals",
                     _size(run.folder)])  # fmt: skip
    for windows in found.windows:
        steps = sum(int(record.get("step", 0)) for record in windows.records)
        time = sum(record.get("step", 0) * number_in(record.get("timestep"))
                   for record in windows.records)  # fmt: skip
        rows.append([found.name_of(windows.folder), f"{steps:,} steps", f"{time / 1000:.4g} ns",
                     f"{len(windows.records)} windows", "", _size(windows.folder)])  # fmt: skip
    blocks: list[Block] = [Table(["", "steps", "time", "kept", "energies", "on disk"], rows)]
    stages = found.summary.get("seconds_of_stages")
    if isinstance(stages, dict) and stages:
        blocks.append(_stages(stages))
    return Section("costs", "Costs", blocks)


def _stages(stages: Mapping[str, Any]) -> Figure:
    seconds = [number_in(value) for value in stages.values()]
    trace = {"type": "bar", "orientation": "h", "y": [plain(name) for name in stages],
             "x": seconds, "text": [f"{s:.1f} s" for s in seconds], "textposition": "auto",
             "marker": {"color": INK}, "hoverinfo": "y+text"}  # fmt: skip
    layout = {"xaxis": {"title": {"text": "seconds"}},
              "yaxis": {"autorange": "reversed", "automargin": True}}  # fmt: skip
    return Figure([trace], layout, "Seconds of each stage.", 110 + 34 * len(seconds))


def again_section(found: Found) -> Section:
    """Commands and versions to do it again."""
    blocks: list[Block] = []
    commands = [
        [found.name_of(folder), command]
        for folder in _all_folders(found)
        for command in recorded_commands(folder)
    ]
    if commands:
        blocks.append(Table(["in", "command"], commands))
    elif (demo := found.folder / DEMO).is_file():
        seed = read_json(demo).get("seed")
        blocks.append(Text(f"openmm-cgan demo --seed {seed}"))
    else:
        blocks.append(Text("What was typed is not recorded (a script, or an earlier version); the "
                           "settings below are.", quiet=True))  # fmt: skip
    rows = [["openmm_cgan", __version__], ["python", platform.python_version()]]
    rows += [[name, _version(name)] for name in PACKAGES]
    blocks.append(Table(["package", "version that made this page"], rows))
    if isinstance(then := found.summary.get("versions"), dict):
        blocks.append(Table(["package", "version that ran"], list(then.items())))
    for run in found.runs:
        settings = {**run.header.about, **run.record}
        blocks.append(Table(["setting", "value"], list(settings.items()),
                            f"Settings of {found.name_of(run.folder)}"))  # fmt: skip
    for windows in found.windows:
        shown = windows.records[0] if windows.records else {}
        alike = {k: v for k, v in shown.items() if all(r.get(k) == v for r in windows.records)}
        title = f"Settings of all windows of {found.name_of(windows.folder)}"
        blocks.append(Table(["setting", "value"], list(alike.items()), title))
    return Section("again", "To do it again", blocks)


def _all_folders(found: Found) -> list[Path]:
    folders = [found.folder, *(r.folder for r in found.runs), *(w.folder for w in found.windows)]
    return list(dict.fromkeys(folders))


def _flat(record: Mapping[str, Any], before: str = "") -> list[list[Any]]:
    rows: list[list[Any]] = []
    for key, value in record.items():
        name = f"{before}{key}"
        rows += _flat(value, f"{name}: ") if isinstance(value, dict) else [[name, value]]
    return rows


def _size(folder: Path) -> str:
    total = sum(path.lstat().st_size for path in folder.rglob("*") if path.is_file())
    return f"{total / 1024**2:,.1f} MiB"


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"
