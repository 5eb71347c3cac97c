"""The actions and their keywords as text, made from their classes."""

from __future__ import annotations

from collections.abc import Iterable

from openmm_cgan.plumed.actions.action import Action, Keyword

# The two statements that are no actions but are read before these
_READ_BEFORE = """\
INCLUDE: the statements of another file in its place
    FILE=             text                  its name  [must be given]

ENDPLUMED: the rest of the file is not read
"""


def action_help(cls: type[Action]) -> str:
    """One action: what it is, and a line for each keyword with its type, meaning and default.

    Examples
    --------
    >>> from openmm_cgan.plumed.actions import ACTIONS
    >>> print(action_help(ACTIONS["FLUSH"]))
    FLUSH: flush the files
        STRIDE=           integer               steps between flushes  [must be given]
    """
    return "\n".join([f"{cls.name}: {cls.summary}", *map(_keyword_line, cls.keywords)])


def keyword_rows(cls: type[Action]) -> list[tuple[str, str, str, str]]:
    """Each keyword of an action: its name, type, meaning, and default or that it must be given."""
    return [
        (k.key if k.kind == "flag" else f"{k.key}=", _type_text(k), k.help,
         _default_text(k).strip().strip("[]"))
        for k in cls.keywords
    ]  # fmt: skip


def help_text(classes: Iterable[type[Action]]) -> str:
    """Many actions, with an empty line between them."""
    return "\n\n".join([*map(action_help, classes), _READ_BEFORE])


def action_table(classes: Iterable[type[Action]]) -> str:
    """What there is as a table in Markdown: each action, what it is, its keywords."""
    lines = ["| action | | keywords |", "|---|---|---|"]
    for cls in sorted(classes, key=lambda c: c.name):
        keywords = " ".join(keyword.key for keyword in cls.keywords)
        lines.append(f"| {cls.name} | {cls.summary} | {keywords} |")
    return "\n".join(lines)


def _keyword_line(keyword: Keyword) -> str:
    name = keyword.key if keyword.kind == "flag" else f"{keyword.key}="
    return f"    {name:<17} {_type_text(keyword):<21} {keyword.help}{_default_text(keyword)}"


def _type_text(keyword: Keyword) -> str:
    kind = {
        "reals": "real, each argument",
        "integers": "integer, each argument",
        "texts": "text, each argument",
        "numbers": "real numbers",
        "domain": "NO or min,max",
    }.get(keyword.kind, keyword.kind)
    return kind if keyword.first is None else f"{kind}, i from {keyword.first}"


def _default_text(keyword: Keyword) -> str:
    if keyword.compulsory:
        return "  [must be given]"
    return "" if keyword.default is None else f"  [{keyword.default}]"
