"""What no input may ask of whoever runs it: expressions, formats and actions refused unread.

Lepton's parser recurses for each bracket, and works out derivatives in a time that grows with the
cube of the parts; PLUMED evaluates expressions in place of any number. So the bounds are held for
every word of an input, before sympy, OpenMM or libplumed see it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from openmm_cgan.plumed.input.words import MAX_FORMAT_DIGITS, is_number_format, unbrace

MAX_PARTS = 1000  # operators and brackets of one expression, its definitions written out
MAX_DEPTH = 200  # of the tree of an expression: 200 terms of a sum are 200 deep
MAX_LENGTH = 20_000  # characters

# Of an input with all that it includes
MAX_FILES = 1000
MAX_INPUT_BYTES = 16 * 1024**2
MAX_STATEMENTS = 100_000

# Actions that run code which a file brings
RUN_CODE = frozenset({"LOAD", "PYCVINTERFACE", "PYFUNCTION"})
ALLOW_LOAD = "OPENMM_CGAN_ALLOW_LOAD"

# Operators, brackets, and what ends an expression: blanks only where a new one can begin
_TOKEN = re.compile(r"[-+*/^(){},=]|(?<=[\w)])[ \t]+(?=[\w(])")
_ENDS = frozenset("{}=,")
_NAME = re.compile(r"[A-Za-z_]\w*")


@dataclass
class Budget:
    """What an input may still include."""

    files: int = MAX_FILES
    size: int = MAX_INPUT_BYTES
    statements: int = MAX_STATEMENTS

    def spend(self, size: int, statements: int) -> None:
        """Take off one file, of so many bytes and actions."""
        self.files -= 1
        self.size -= size
        self.statements -= statements

    @property
    def spent(self) -> str:
        """What there is too much of; empty while there is not."""
        for left, limit, what in (
            (self.files, MAX_FILES, "files"),
            (self.size, MAX_INPUT_BYTES, "bytes"),
            (self.statements, MAX_STATEMENTS, "actions"),
        ):
            if left < 0:
                return f"the files that this input includes have together more than {limit} {what}"
        return ""


def harms(action: str, label: str, words: Sequence[str]) -> Iterator[tuple[str, str]]:
    """What of a statement must not reach a library, whichever backend is to run it.

    Parameters
    ----------
    action, label : str
    words : sequence of str

    Yields
    ------
    word, message : str
        What is refused, and why.
    """
    if action in RUN_CODE and os.environ.get(ALLOW_LOAD) != "1":
        yield action, f"it runs code from a file; set {ALLOW_LOAD}=1 if you trust this input"
    if label.startswith(("=", "+", "-", "@")):
        yield label[:40], "a label begins with a letter: a spreadsheet would run this one"
    for word in words:
        if message := _harm(word):
            yield word[:40], message


def _harm(word: str) -> str:
    """Why a word is refused; empty where it is not."""
    key, _, value = word.partition("=")
    if key.upper().endswith("FMT") and _digits(value) > MAX_FORMAT_DIGITS:
        return f"a number format of more than {MAX_FORMAT_DIGITS} digits for width or precision"
    if key.upper().endswith("FMT") and value and not is_number_format(unbrace(value)):
        return "expected a format for one number such as %12.6f"  # PLUMED gives it to C's printf
    if len(word) <= MAX_DEPTH and ";" not in word:
        return ""
    try:
        require_bounded(unbrace(value))
    except ValueError as error:
        return str(error)
    return ""


def _digits(fmt: str) -> int:
    return max((len(number) for number in re.findall(r"\d+", fmt)), default=0)


def require_bounded(text: str) -> None:
    """Refuse an expression that is too long, too deep or has too many parts to be parsed.

    Parameters
    ----------
    text : str
        An expression with its definitions, or a list of many.

    Raises
    ------
    ValueError
    """
    main, *definitions = text.split(";")
    defined: dict[str, tuple[int, int]] = {}
    for definition in reversed(definitions):
        name, _, body = definition.partition("=")
        defined[name.strip()] = _measured(body, defined)
    _measured(main, defined)


def _measured(text: str, defined: dict[str, tuple[int, int]]) -> tuple[int, int]:
    """Parts and depth of the largest of the expressions in a text."""
    used = [defined[name] for name in _NAME.findall(text) if name in defined] if defined else []
    parts_within, depth_within = sum(p for p, _ in used), max((d for _, d in used), default=0)
    largest, deepest, begin = 0, 0, 0
    parts, operators, below = 0, 0, 0
    stack: list[tuple[int, int]] = []
    for token in _TOKEN.finditer(text):
        mark = token.group()
        if not stack and (mark in _ENDS or mark.isspace()):
            begin, parts, operators, below = token.end(), 0, 0, 0
            continue
        if mark == "(":
            stack.append((operators, below))
            operators = below = 0
        elif mark == ")" and stack:
            inside = operators + below + 1
            operators, below = stack.pop()
            below = max(below, inside)
        elif mark == ",":
            operators = 0
        else:
            operators += 1
        parts += mark != ")"
        largest = max(largest, parts)
        deepest = max(deepest, operators + below, len(stack))
        _require(largest + parts_within, deepest + depth_within, token.end() - begin)
    return largest + parts_within + 1, deepest + depth_within + 1


def _require(parts: int, depth: int, length: int) -> None:
    for found, limit, what in (
        (parts, MAX_PARTS, "of more than {} operators and brackets"),
        (depth, MAX_DEPTH, "more than {} deep (a sum of as many terms is as deep)"),
        (length, MAX_LENGTH, "of more than {} characters"),
    ):
        if found > limit:
            raise ValueError(f"an expression {what.format(limit)}: write it as several actions")
