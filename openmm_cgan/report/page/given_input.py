"""The PLUMED input of a run, word by word, with what became of each statement."""

from __future__ import annotations

import re
from pathlib import Path

from openmm_cgan.plumed.actions import ACTIONS
from openmm_cgan.plumed.actions.action import REMEDY
from openmm_cgan.plumed.actions.ignored import Ignored
from openmm_cgan.plumed.backends import compile_natively
from openmm_cgan.plumed.input.language import PlumedInput, PlumedInputError, Statement
from openmm_cgan.report.page.blocks import Block, Line, Listing, Section, Text, Word
from openmm_cgan.report.page.found import RunFound

MOST_LINES = 2000
WORDS = re.compile(r"\s+|[^\s]+")
NATIVE, LIBPLUMED, LEFT_OUT = "native", "libplumed", "left out"
OF_BACKENDS = {"native": NATIVE, "kernel": LIBPLUMED, "plugin": "openmm-plumed"}


def input_section(run: RunFound, name: str) -> Section:
    """The input with which backend took each statement, and why.

    Parameters
    ----------
    run : RunFound
    name : str
        Of the run, for the title.
    """
    backend = str(run.header.about.get("backend") or run.record.get("backend") or "")
    text = run.input_text
    lines = text.splitlines()
    try:
        fates = fates_of(text, run.folder, backend)
        said = _said(fates, backend)
    except (ValueError, OSError) as error:  # files that it names may lie elsewhere
        fates, said = {}, f"The input could not be read again, so no line is marked: {error}"
    blocks: list[Block] = [Text(said), Listing(listing(lines[:MOST_LINES], fates))]
    if len(lines) > MOST_LINES:
        blocks.append(Text(f"{len(lines) - MOST_LINES} more lines are not shown.", quiet=True))
    return Section(f"input-{name}", f"{name}: PLUMED input", blocks)


def fates_of(text: str, folder: Path, backend: str) -> dict[int, tuple[str, str]]:
    """What took each statement of an input: a badge and why, by the line it begins on.

    Parameters
    ----------
    text : str
    folder : Path
        Where the files are that it names.
    backend : str
        That ran it; one of the names of `PlumedBias`, empty if not known.

    Raises
    ------
    PlumedInputError
        If it can not be read.
    """
    source = "plumed.dat"
    plumed_input = PlumedInput.read(text, source, folder)
    _, refusal = compile_natively(plumed_input, None, None, False)
    reasons: dict[int, str] = {}
    for problem in refusal.problems if isinstance(refusal, PlumedInputError) else ():
        if problem.location.file == source:
            said = problem.message.removesuffix(f"; {REMEDY}")  # which was taken
            reason = f"{problem.word}: {said}"
            before = reasons.get(problem.location.line)
            reasons[problem.location.line] = f"{before}; {reason}" if before else reason
    whole = refusal is not None
    return {s.location.line: _fate(s, backend, reasons, whole) for s in plumed_input.statements}


def _fate(
    statement: Statement, backend: str, reasons: dict[int, str], refused: bool
) -> tuple[str, str]:
    cls = ACTIONS.get(statement.action)
    if cls is not None and issubclass(cls, Ignored):
        return LEFT_OUT, cls.why
    badge = OF_BACKENDS.get(backend, LIBPLUMED if refused else NATIVE)
    if badge == NATIVE:
        return NATIVE, "" if cls is None else cls.summary
    if statement.location.line in reasons:
        return badge, f"not native: {reasons[statement.location.line]}"
    if refused:
        return badge, "native by itself; an input goes to one backend as a whole"
    return badge, f"it could be native; backend {backend!r} was asked for"


def _said(fates: dict[int, tuple[str, str]], backend: str) -> str:
    badges = [badge for badge, _ in fates.values()]
    counts = ", ".join(f"{badges.count(b)} {b}" for b in dict.fromkeys(badges))
    not_native = sum(why.startswith("not native") for _, why in fates.values())
    ran = f"Run by the {backend} backend" if backend else "Which backend ran it is not recorded"
    why = f"; {not_native} of them are the reason that it is not native" if not_native else ""
    return f"{ran}: {counts or 'no'} statements{why}. Point at a mark to see why."


def listing(lines: list[str], fates: dict[int, tuple[str, str]]) -> list[Line]:
    """Lines with the role of each word, and the marks of statements."""
    return [
        Line(words_of(line), *fates.get(number, ("", "")))
        for number, line in enumerate(lines, start=1)
    ]


def words_of(line: str) -> list[Word]:
    """The words of a line with their roles; together they are the line."""
    code, mark, comment = line.partition("#")
    words = [_word(part) for part in WORDS.findall(code)]
    return [*words, Word(mark + comment, "comment")] if mark else words


def _word(part: str) -> Word:
    if part.isspace():
        return Word(part)
    name, equals, _ = part.partition("=")
    if equals:
        return Word(part, "label" if name == "LABEL" else "keyword")
    if part.endswith(":"):
        return Word(part, "label")
    if part in ACTIONS:
        return Word(part, "action")
    return Word(part, "keyword" if part.isupper() else "value")
