"""The page written: sections tried one by one, a verdict in words, one file that opens offline."""

from __future__ import annotations

import base64
import hashlib
import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment
from markupsafe import Markup

from openmm_cgan import __version__
from openmm_cgan.atomic_files import write_atomically
from openmm_cgan.report.page.blocks import (
    BAD,
    DOUBT,
    GOOD,
    NOTE,
    Figure,
    Finding,
    Section,
    Structures,
)
from openmm_cgan.report.page.course import course_section, proposals_section, windows_section
from openmm_cgan.report.page.energies import energy_section, overlap_section
from openmm_cgan.report.page.found import Found, RunFound, WindowsFound, find
from openmm_cgan.report.page.given_input import input_section
from openmm_cgan.report.page.models import model_sections
from openmm_cgan.report.page.records import (
    again_section,
    costs_section,
    decisions_section,
    summary_section,
)
from openmm_cgan.report.page.weighed import weigh_run, weigh_windows

logger = logging.getLogger("openmm_cgan")

PAGE = "report.html"
ASSETS = files("openmm_cgan.report.page") / "assets"
PLOTLY, VIEWER = "plotly-cartesian.min.js", "3Dmol-min.js"
LEVELS = (BAD, DOUBT, GOOD, NOTE)
HEADLINES = {
    BAD: "Not to be relied on: see the crosses",
    DOUBT: "To be used with care: see the triangles",
    GOOD: "No doubts were found",
    NOTE: "Nothing here can be judged yet",
}
REMARK = (
    "These are rules, not an expert: halves of the time that agree within two of their errors, "
    "windows that overlap by 0.03, weights that more than a few frames carry, half of the "
    "configurations that pass. What no frame has visited no rule can see."
)


@dataclass(frozen=True)
class Verdict:
    """All findings, the worst first, under a headline."""

    level: str
    headline: str
    findings: Sequence[Finding]
    remark: str = REMARK


def write_report(
    folder: str | Path, out: str | Path | None = None, *, model: Path | None = None,
    refresh: int = 0,
) -> Path:  # fmt: skip
    """Write what a folder holds as one HTML page.

    Parameters
    ----------
    folder : str or Path
        Of a run, of windows, of a demo or of an exploration, finished or not; or a model file.
    out : str or Path, optional
        The page; FOLDER/report.html if omitted, beside a model file its name with .html.
    model : Path, optional
        A model that lies elsewhere.
    refresh : int
        Seconds after which a browser loads the page anew; 0: it does not.

    Returns
    -------
    Path
        The page, replaced whole.

    Raises
    ------
    FileNotFoundError
        If there is nothing to report on.
    """
    path = Path(folder)
    found = find(path)
    if model is not None:
        found = Found(found.folder, found.runs, found.windows, (*found.models, model.resolve()))
    out = Path(out) if out is not None else (
        path / PAGE if path.is_dir() else path.with_suffix(".html"))  # fmt: skip
    title = path.resolve().name if path.is_dir() else path.name
    write_atomically(out, page_of(sections_of(found), title, _subtitle(found), refresh).encode())
    return out


def sections_of(found: Found) -> list[Section]:
    """All sections of a page, those that have nothing to show with the reason."""
    sections: list[Section] = []

    def add(anchor: str, title: str, make: Callable[[], Section | list[Section]]) -> None:
        try:
            made = make()
        # one damaged part of a folder, of whatever kind, must not hide the others
        except Exception as error:
            logger.debug("%s is left out of the page", title, exc_info=True)
            made = Section(anchor, title, left_out=_why(error))
        sections.extend(made if isinstance(made, list) else [made])

    if found.summary:
        add("summary", "What the demo found", partial(summary_section, found))
    if found.decisions:
        add("decisions", "Decisions", partial(decisions_section, found))
    for windows in found.windows:
        name = found.name_of(windows.folder)
        add(f"windows-{name}", f"{name}: windows", partial(windows_section, windows, name))
        add(f"energy-{name}", f"{name}: free energy", partial(_of_windows, windows, name))
    for run in found.runs:
        name = found.name_of(run.folder)
        add(f"energy-{name}", f"{name}: free energy", partial(_of_run, found, run, name))
        add(f"proposals-{name}", f"{name}: proposals", partial(proposals_section, run, name))
    for model in found.models:
        name = found.name_of(model)
        add(f"training-{name}", f"{name}: training", partial(model_sections, found, model))
    for run in found.runs:
        name = found.name_of(run.folder)
        add(f"course-{name}", f"{name}: time line", partial(course_section, run, name))
        add(f"input-{name}", f"{name}: PLUMED input", partial(input_section, run, name))
    add("costs", "Costs", partial(costs_section, found))
    add("again", "To do it again", partial(again_section, found))
    return sections


def _of_windows(windows: WindowsFound, name: str) -> list[Section]:
    weighed = weigh_windows(windows, name)
    return [energy_section(weighed), overlap_section(weighed)]


def _of_run(found: Found, run: RunFound, name: str) -> Section:
    """Beside windows or decisions a run's own free energy is a rough one: no ground for doubt."""
    section = energy_section(weigh_run(run, name))
    if not found.windows and not found.decisions:
        return section
    return replace(section, findings=[replace(f, level=NOTE) for f in section.findings])


def verdict_of(sections: Sequence[Section]) -> Verdict:
    """The findings of all sections, the worst first."""
    found = [finding for section in sections for finding in section.findings]
    ordered = sorted(found, key=lambda finding: LEVELS.index(finding.level))
    level = ordered[0].level if ordered else NOTE
    return Verdict(level, HEADLINES[level], ordered)


def page_of(sections: Sequence[Section], title: str, subtitle: str, refresh: int = 0) -> str:
    """The page as HTML; every text in it is escaped, and no script but its own can run."""
    figures = [b for s in sections for b in s.blocks if isinstance(b, Figure)]
    structures = [b for s in sections for b in s.blocks if isinstance(b, Structures)]
    data = {
        "figures": [{"traces": f.traces, "layout": f.layout} for f in figures],
        "structures": [_structures(s) for s in structures],
    }
    numbers = {id(b): i for group in (figures, structures) for i, b in enumerate(group)}
    scripts = [_asset(PLOTLY)] * bool(figures) + [_asset("page.js")]
    held = [_asset(VIEWER)] * bool(structures)
    environment = Environment(autoescape=True)
    environment.filters["number"] = lambda block: numbers[id(block)]
    return environment.from_string(_asset("page.html")).render(
        title=title, subtitle=subtitle, sections=_with_anchors(sections), version=__version__,
        verdict=_linked(verdict_of(sections)), refresh=refresh, css=Markup(_asset("page.css")),
        data=Markup(_json(data)), scripts=[Markup(s) for s in scripts],
        held=[{"id": "library-3dmol", "text": Markup(s)} for s in held],
        policy=_policy([*scripts, *held]), libraries=_libraries(bool(figures), bool(structures)),
    )  # fmt: skip


def _structures(block: Structures) -> dict[str, Any]:
    groups = [{"reason": reason, **group} for reason, group in block.groups.items()]
    return {"elements": block.elements, "bonds": block.bonds, "groups": groups}


def anchor_of(text: str) -> str:
    """A name that may stand in an address: letters, digits and dashes."""
    safe = "".join(c if c.isascii() and c.isalnum() else "-" for c in text)
    return safe if safe == text.replace(".", "-").replace("_", "-").replace("/", "-") else (
        f"{safe}-{hashlib.sha256(text.encode()).hexdigest()[:8]}")  # fmt: skip


def _with_anchors(sections: Sequence[Section]) -> list[Section]:
    return [replace(s, anchor=anchor_of(s.anchor), findings=()) for s in sections]


def _linked(verdict: Verdict) -> Verdict:
    findings = [replace(f, anchor=f.anchor and anchor_of(f.anchor)) for f in verdict.findings]
    return replace(verdict, findings=findings)


def _json(data: Any) -> str:
    """JSON that ends no script element, whatever its texts are."""
    text = json.dumps(data, allow_nan=False, separators=(",", ":"))
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def _policy(scripts: Sequence[str]) -> str:
    """Only these scripts run, and nothing is loaded: what a browser holds to."""
    sums = [base64.b64encode(hashlib.sha256(s.encode()).digest()).decode() for s in scripts]
    allowed = " ".join(f"'sha256-{one}'" for one in sums)
    return (
        f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; "
        "img-src data: blob:; worker-src blob:"
    )


def _libraries(figures: bool, structures: bool) -> str:
    names = ["plotly.js (MIT licence)"] * figures + ["3Dmol.js (BSD licence)"] * structures
    return " and ".join(names)


@cache
def _asset(name: str) -> str:
    return (ASSETS / name).read_text(encoding="utf-8")


def _subtitle(found: Found) -> str:
    parts = [f"{len(found.runs)} runs"] * bool(found.runs)
    parts += [f"{sum(w.number for w in found.windows)} windows"] * bool(found.windows)
    parts += [f"{len(found.models)} models"] * bool(found.models)
    return f"{found.folder}: {', '.join(parts) or 'records only'}"


def _why(error: Exception) -> str:
    known = isinstance(error, ValueError | OSError | RuntimeError)
    return (str(error) if known else f"{type(error).__name__}: {error}").rstrip(".")
