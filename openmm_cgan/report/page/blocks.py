"""What a page is made of: sections of texts, tables, figures, listings and structures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from openmm_cgan.short_reprs import short_repr

GOOD, NOTE, DOUBT, BAD = "good", "note", "doubt", "bad"


@dataclass(frozen=True)
class Text:
    """A paragraph; `quiet` for remarks."""

    text: str
    quiet: bool = False
    kind: str = field(default="text", init=False)


@dataclass(frozen=True)
class Table:
    """Rows of cells, each shown as text; many of them are folded away under a title."""

    head: Sequence[str]
    rows: Sequence[Sequence[Any]]
    folded: str = ""
    kind: str = field(default="table", init=False)


@dataclass(frozen=True, repr=False)
class Figure:
    """What plotly draws: `traces` and `layout` are its own words, made by `figures`."""

    traces: Sequence[dict[str, Any]]
    layout: dict[str, Any]
    caption: str = ""
    height: int = 380
    kind: str = field(default="figure", init=False)

    __repr__ = short_repr


@dataclass(frozen=True)
class Word:
    """A piece of a listing: its text and what it is (comment, label, action, keyword, value)."""

    text: str
    role: str = ""


@dataclass(frozen=True)
class Line:
    """A line of a listing; `badge` and `why` say what became of the statement that begins there."""

    words: Sequence[Word]
    badge: str = ""
    why: str = ""


@dataclass(frozen=True)
class Listing:
    """Lines of an input."""

    lines: Sequence[Line]
    kind: str = field(default="listing", init=False)


@dataclass(frozen=True, repr=False)
class Structures:
    """Configurations to look at, in groups that a click opens.

    Attributes
    ----------
    elements : sequence of str
        Of the atoms.
    bonds : sequence of (int, int)
        Atoms of each bond.
    groups : dict of str to list of dict
        By reason: ``count`` in all, and ``examples`` with ``label`` and ``x``, the coordinates in
        picometres, atom by atom.
    """

    elements: Sequence[str]
    bonds: Sequence[tuple[int, int]]
    groups: dict[str, dict[str, Any]]
    kind: str = field(default="structures", init=False)

    __repr__ = short_repr


Block = Text | Table | Figure | Listing | Structures


@dataclass(frozen=True)
class Finding:
    """A sentence of the verdict: GOOD, NOTE, DOUBT or BAD, with the section that shows why."""

    level: str
    text: str
    anchor: str = ""


@dataclass(frozen=True)
class Section:
    """A part of the page.

    Attributes
    ----------
    anchor : str
        Where links lead.
    title : str
    blocks : sequence of Block
    findings : sequence of Finding
        What of it belongs into the verdict.
    left_out : str
        Why there is nothing to show; then there are no blocks.
    """

    anchor: str
    title: str
    blocks: Sequence[Block] = ()
    findings: Sequence[Finding] = ()
    left_out: str = ""
