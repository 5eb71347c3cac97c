"""The lexical rules of PLUMED input: from text to statements.

Everything that can be wrong with an input is collected as a `Problem` with its file and line, and
raised at once as one `PlumedInputError`.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path

from openmm_cgan.plumed.input.limits import Budget, harms
from openmm_cgan.plumed.input.named_files import (
    TEXT_ITSELF,
    found_file,
    places,
    text_of,
    with_files_found,
)
from openmm_cgan.plumed.input.words import unbrace

MAX_INCLUDE_DEPTH = 20


@dataclass(frozen=True)
class Location:
    """A line of an input file."""

    file: str
    line: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


@dataclass(frozen=True)
class Problem:
    """One thing wrong with an input; no mistake where PLUMED itself may understand it."""

    location: Location
    word: str
    message: str
    is_mistake: bool = True

    def __str__(self) -> str:
        return f"{self.location}: {self.word}: {self.message}"


class PlumedInputError(ValueError):
    """A PLUMED input that can not be used, with all its problems."""

    def __init__(self, problems: list[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(str(problem) for problem in problems))


@dataclass(frozen=True)
class Statement:
    """One action as it was typed.

    Attributes
    ----------
    action : str
        Upper-case name, such as "TORSION".
    label : str
        Empty when none was given.
    words : tuple of str
        The remaining words with their braces, without the label.
    location : Location
        Where it begins.
    """

    action: str
    label: str
    words: tuple[str, ...]
    location: Location

    @property
    def text(self) -> str:
        """The statement as one line of PLUMED input."""
        label = f"{self.label}: " if self.label else ""
        return label + " ".join((self.action, *self.words))


@dataclass(frozen=True)
class PlumedInput:
    """An input, read once for all who run it.

    Attributes
    ----------
    text : str
        As it was given.
    source : str
        Its name in messages.
    folder : Path
        Where the names of its files begin.
    statements : tuple of Statement
        As they stand in the text.
    followed : tuple of Statement
        With those of the files that INCLUDE names in its place.
    """

    text: str
    source: str
    folder: Path
    statements: tuple[Statement, ...]
    followed: tuple[Statement, ...]

    @classmethod
    def read(cls, text: str, source: str, folder: Path) -> PlumedInput:
        """Read a text and the files that it includes.

        Raises
        ------
        PlumedInputError
                If it can not be read, a file is missing or wrong, or `limits` refuses a word.
        """
        statements = read_statements(text, source)
        followed = include_files(statements, folder)
        require_harmless(followed)
        for i, found in enumerate(followed):
            words = with_files_found(found.action, found.words, folder, found.location.file)
            followed[i] = replace(found, words=words)
        return cls(text, source, folder, tuple(statements), tuple(followed))

    @property
    def restarts(self) -> bool | None:
        """What its last RESTART says, which counts more than what a program asks; None for none."""
        asked = [s.words for s in self.followed if s.action == "RESTART"]
        return "NO" not in asked[-1] if asked else None

    @property
    def fingerprint(self) -> str:
        """Tells inputs apart, comments and spaces left out."""
        text = "\n".join(statement.text for statement in self.followed)
        return hashlib.sha256(text.encode()).hexdigest()


@dataclass
class _Block:
    """A statement being read, possibly over several lines."""

    words: list[str]
    location: Location
    depth: int = 0


def read_statements(text: str, file: str = "plumed.dat") -> list[Statement]:
    """Split an input into statements, up to ENDPLUMED.

    Parameters
    ----------
    text : str
        The whole input.
    file : str
        Its name in error messages.

    Returns
    -------
    list of Statement

    Raises
    ------
    PlumedInputError
        If braces or continuation lines do not close.

    Examples
    --------
    >>> [phi] = read_statements("phi: TORSION ATOMS=5,7,9,15 # backbone")
    >>> phi.action, phi.label, phi.words
    ('TORSION', 'phi', ('ATOMS=5,7,9,15',))
    """
    statements: list[Statement] = []
    problems: list[Problem] = []
    block: _Block | None = None
    for number, raw in enumerate(lines_of(text), start=1):
        location = Location(file, number)
        try:
            if "\r" in raw:
                raise _problem(location, "\\r", "lines end by \\n or \\r\\n, not by \\r alone")
            words, open_braces = _split(raw.split("#", 1)[0].strip(" \t"), location, block)
            if block is None:
                if not words:
                    continue
                block = _Block(words, location, open_braces)
                if words[-1] == "..." and open_braces == 0:
                    words.pop()
                    continue
                if open_braces > 0:
                    raise _problem(location, words[-1], "this brace is not closed on its line")
            elif _continue(block, words, open_braces, location):
                continue
            statement = _statement(block)
        except PlumedInputError as error:
            problems += error.problems
            block = None
            continue
        block = None
        if statement.action == "ENDPLUMED":
            break
        statements.append(statement)
    if block is not None:
        try:
            statements.append(_statement(block))  # PLUMED runs it too
        except PlumedInputError as error:
            problems += error.problems
    if problems:
        raise PlumedInputError(problems)
    return statements


def lines_of(text: str) -> list[str]:
    r"""Lines of a text as PLUMED reads it: only ``\n`` and ``\r\n`` end them.

    Python's ``splitlines`` ends them at form feeds and seven other characters too, which would
    bring to life what stands behind one of those in a comment.

    Examples
    --------
    >>> lines_of("# off:\fRESTRAINT\r\nPRINT")
    ['# off:\x0cRESTRAINT', 'PRINT']
    """
    return text.replace("\r\n", "\n").split("\n")


def include_files(
    statements: list[Statement], folder: Path, depth: int = 0, budget: Budget | None = None
) -> list[Statement]:
    """Put the statements of the files that INCLUDE names in its place.

    Parameters
    ----------
    statements : list of Statement
    folder : Path
        The working folder of the input; then files are looked for beside the one that names them.
    depth : int
        How many INCLUDE deep the statements are.
    budget : Budget, optional
        What the whole input may still include.

    Raises
    ------
    PlumedInputError
        If a file is missing or wrong, or includes itself, or all together are too large.
    """
    budget = budget or Budget()
    expanded: list[Statement] = []
    problems: list[Problem] = []
    for statement in statements:
        if statement.action != "INCLUDE":
            expanded.append(statement)
            continue
        try:
            expanded += _included(statement, folder, depth, budget)
        except PlumedInputError as error:
            problems += [p for p in error.problems if p not in problems]  # of files read twice
            if budget.spent:
                break  # said once
    if problems:
        raise PlumedInputError(problems)
    return expanded


def _included(statement: Statement, folder: Path, depth: int, budget: Budget) -> list[Statement]:
    key, _, name = " ".join(statement.words).partition("=")
    if key.upper() != "FILE" or not name:
        raise _problem(statement.location, "INCLUDE", "expected INCLUDE FILE=name")
    if depth >= MAX_INCLUDE_DEPTH:
        raise _problem(statement.location, name, f"INCLUDE more than {MAX_INCLUDE_DEPTH} deep")
    path = found_file(unbrace(name), folder, statement.location.file)
    try:
        text, file = read_text(path)
    except FileNotFoundError:
        looked = " nor in ".join(map(str, places(folder, statement.location.file)))
        message = f"no PLUMED input file of that name in {looked}"
        raise _problem(statement.location, name, message) from None
    except (OSError, ValueError) as error:
        raise _problem(statement.location, name, str(error)) from None
    inner = read_statements(text, file)
    budget.spend(len(text), len(inner))
    if budget.spent:
        raise _problem(statement.location, name, budget.spent)
    return include_files(inner, folder, depth + 1, budget)


def require_harmless(statements: list[Statement]) -> None:
    """Refuse what must not reach a library, whichever backend is to run an input.

    Parameters
    ----------
    statements : list of Statement
        With those of included files.

    Raises
    ------
    PlumedInputError
        With each word that is refused.
    """
    problems = []
    for found in statements:
        for word, message in harms(found.action, found.label, found.words):
            problems.append(Problem(found.location, word, message))
    if problems:
        raise PlumedInputError(problems)


def _problem(location: Location, word: str, message: str) -> PlumedInputError:
    return PlumedInputError([Problem(location, word, message)])


def _split(line: str, location: Location, block: _Block | None) -> tuple[list[str], int]:
    """Split one line at blanks outside braces; the braces stay in the words."""
    words: list[str] = []
    word = ""
    depth = block.depth if block is not None else 0
    for character in line:
        if character in " \t\r" and depth == 0:
            if word:
                words.append(word)
            word = ""
            continue
        word += character
        if character == "{":
            depth += 1
        elif character == "}":
            depth -= 1
            if depth < 0:
                raise _problem(location, word, "'}' without '{'")
    if word:
        words.append(word)
    return words, depth


def _continue(block: _Block, words: list[str], depth: int, location: Location) -> bool:
    """Add a line to an open block; return whether the block stays open."""
    if block.depth > 0 and words:  # a brace spans the line break
        block.words[-1] += " " + words[0]
        block.words += words[1:]
        block.depth = depth
        return True
    block.depth = depth
    if not words or words[0] != "...":
        block.words += words
        return True
    first = block.words[0] if block.words else ""
    if len(words) > 2 or (len(words) == 2 and words[1] != first):
        raise _problem(location, words[-1], f"expected '...' or '... {first}' to end this action")
    return False


def _statement(block: _Block) -> Statement:
    words = block.words
    if block.depth != 0:
        raise _problem(block.location, words[-1], "this brace is never closed")
    label = ""
    if len(words) > 1 and words[0].endswith(":"):
        label, words = words[0][:-1], words[1:]
    if not words or words[0].endswith(":"):
        raise _problem(block.location, " ".join(words), "a label without an action")
    action, rest = words[0].upper(), []
    for word in words[1:]:
        key, equals, value = word.partition("=")
        if equals and key.upper() == "LABEL":
            if label:
                raise _problem(block.location, word, f"this action already has the label {label}")
            label = unbrace(value)
        else:
            rest.append(word)
    return Statement(action, label, tuple(rest), block.location)


def read_text(plumed_input: str | Path) -> tuple[str, str]:
    """Return the text of an input and its name for messages.

    Parameters
    ----------
    plumed_input : str or Path
        A file, or the text itself if it contains a newline.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is not a text file of reasonable size.
    """
    if isinstance(plumed_input, str) and "\n" in plumed_input:
        return plumed_input, TEXT_ITSELF
    path = Path(plumed_input)
    if not path.is_file():
        raise FileNotFoundError(
            f"no PLUMED input file {path} (in {Path.cwd()}); "
            "text given directly must contain a newline"
        )
    return text_of(path), str(path)
