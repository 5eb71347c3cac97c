"""The lexical rules of PLUMED input: text to statements, words to numbers.

Everything that can be wrong with an input is collected as a `Problem` with its file and line, and
raised at once as one `PlumedInputError`.
"""

from __future__ import annotations

import ast
import math
import operator
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

MAX_INPUT_BYTES = 16 * 1024**2
MAX_INCLUDE_DEPTH = 20
MAX_ATOMS_IN_LIST = 10_000_000
MAX_EXPRESSION_LENGTH = 1000

CONSTANTS = {
    "e": math.e,
    "log2e": math.log2(math.e),
    "log10e": math.log10(math.e),
    "ln2": math.log(2),
    "ln10": math.log(10),
    "pi": math.pi,
    "pi_2": math.pi / 2,
    "pi_4": math.pi / 4,
    "sqrt2": math.sqrt(2),
    "sqrt1_2": math.sqrt(0.5),
}
# fmt: off
_FUNCTIONS: dict[str, Callable[..., float]] = {
    function.__name__: function
    for function in (
        math.sqrt, math.exp, math.log, math.sin, math.cos, math.tan, math.asin, math.acos,
        math.atan, math.atan2, math.sinh, math.cosh, math.tanh, math.erf, math.erfc, math.floor,
        math.ceil, abs, min, max,
    )
}
# fmt: on
_OPERATORS: dict[type, Callable[..., float]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Pow: math.pow,
    ast.USub: operator.neg,
    ast.UAdd: operator.pos,
}
UNDERSCORED_NUMBER = re.compile(r"(?<!\w)\d[\d.]*_")  # Python reads 1_0 as ten
_PLAIN_PI = {"pi": math.pi, "PI": math.pi, "+pi": math.pi, "-pi": -math.pi}


@dataclass(frozen=True)
class Location:
    """A line of an input file."""

    file: str
    line: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


@dataclass(frozen=True)
class Problem:
    """One thing wrong with an input: where, the word, what was expected and what to do."""

    location: Location
    word: str
    message: str

    def __str__(self) -> str:
        return f"{self.location}: {self.word}: {self.message}"


class PlumedInputError(ValueError):
    """A PLUMED input that can not be used, with all its problems.

    Parameters
    ----------
    problems : list of Problem
    """

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
    for number, raw in enumerate(text.splitlines(), start=1):
        location = Location(file, number)
        try:
            words, open_braces = _split(raw.split("#", 1)[0].strip(), location, block)
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


def include_files(statements: list[Statement], folder: Path, depth: int = 0) -> list[Statement]:
    """Put the statements of the files that INCLUDE names in its place.

    Parameters
    ----------
    statements : list of Statement
    folder : Path
        The working folder of the input, which the names are relative to.
    depth : int
        How many INCLUDE deep the statements are.

    Raises
    ------
    PlumedInputError
        If a file is missing or wrong, or includes itself.
    """
    expanded: list[Statement] = []
    problems: list[Problem] = []
    for statement in statements:
        if statement.action != "INCLUDE":
            expanded.append(statement)
            continue
        try:
            expanded += _included(statement, folder, depth)
        except PlumedInputError as error:
            problems += error.problems
    if problems:
        raise PlumedInputError(problems)
    return expanded


def _included(statement: Statement, folder: Path, depth: int) -> list[Statement]:
    key, _, name = " ".join(statement.words).partition("=")
    if key.upper() != "FILE" or not name:
        raise _problem(statement.location, "INCLUDE", "expected INCLUDE FILE=name")
    if depth >= MAX_INCLUDE_DEPTH:
        raise _problem(statement.location, name, f"INCLUDE more than {MAX_INCLUDE_DEPTH} deep")
    try:
        text, file = read_text(folder / unbrace(name))
    except (OSError, ValueError) as error:
        raise _problem(statement.location, name, str(error)) from None
    return include_files(read_statements(text, file), folder, depth + 1)


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


def unbrace(value: str) -> str:
    """Drop the outermost pair of braces, as PLUMED does."""
    start, end = value.find("{"), value.rfind("}")
    if start < 0 or end < start:
        return value
    return value[:start] + value[start + 1 : end] + value[end + 1 :]


def split_vector(value: str) -> list[str]:
    """Split a value at commas and blanks outside braces.

    Examples
    --------
    >>> split_vector("0.1, 0.2"), split_vector("{0.1 0.2}")
    (['0.1', '0.2'], ['0.1', '0.2'])
    """
    elements, element, depth = [], "", 0
    for character in unbrace(value):
        depth += (character == "{") - (character == "}")
        if character in ", \t\n" and depth == 0:
            elements.append(element)
            element = ""
        else:
            element += character
    return [element for element in [*elements, element] if element]


def read_real(text: str) -> float:
    """Read a number as PLUMED does: a literal, ``pi``, ``0.5pi`` or a constant expression.

    Raises
    ------
    ValueError
        If it is none of these, or not finite.

    Examples
    --------
    >>> read_real("-pi/2") == -math.pi / 2, read_real("2^3"), read_real("1e-3")
    (True, 8.0, 0.001)
    """
    value = _PLAIN_PI[text] if text in _PLAIN_PI else _number(text)
    if not math.isfinite(value):
        raise ValueError(f"'{text}' is not a finite number")
    return value


def _number(text: str) -> float:
    try:
        if "_" not in text:
            return float(text)
    except ValueError:
        pass
    if text.endswith("pi"):
        try:
            return float(text[:-2]) * math.pi
        except ValueError:
            pass
    return _evaluate(text)


def read_integer(text: str) -> int:
    """Read an integer, or a constant expression whose value is one within 1e-10.

    Raises
    ------
    ValueError
        If it is none.
    """
    value = read_real(text)
    if abs(value - round(value)) > 1e-10:
        raise ValueError(f"'{text}' is not an integer")
    return round(value)


def _evaluate(text: str) -> float:
    """Value of a constant expression in Lepton's syntax (``^`` is the power)."""
    if len(text) > MAX_EXPRESSION_LENGTH or "**" in text or UNDERSCORED_NUMBER.search(text):
        raise ValueError(f"'{text[:40]}' is not a number")
    try:
        return _node_value(ast.parse(text.strip().replace("^", "**"), mode="eval").body)
    except (SyntaxError, ArithmeticError, TypeError, ValueError, RecursionError, MemoryError):
        raise ValueError(f"'{text}' is not a number or a constant expression") from None


def _node_value(node: ast.AST) -> float:
    if isinstance(node, ast.Constant) and isinstance(node.value, int | float):
        return float(node.value)
    if isinstance(node, ast.Name) and node.id in CONSTANTS:
        return CONSTANTS[node.id]
    if isinstance(node, ast.BinOp) and type(node.op) in _OPERATORS:
        return _OPERATORS[type(node.op)](_node_value(node.left), _node_value(node.right))
    if isinstance(node, ast.UnaryOp) and type(node.op) in _OPERATORS:
        return _OPERATORS[type(node.op)](_node_value(node.operand))
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and not node.keywords:
        return float(_FUNCTIONS.get(node.func.id, _unknown)(*map(_node_value, node.args)))
    raise ValueError("not a constant expression")


def _unknown(*_: float) -> float:
    raise ValueError("unknown function")


def read_serials(element: str) -> list[int]:
    """Expand one element of an atom list that is a serial or a range ``i-j`` or ``i-j:stride``.

    Returns
    -------
    list of int
        One-based serials as PLUMED counts them.

    Raises
    ------
    ValueError
        If it is neither.

    Examples
    --------
    >>> read_serials("3"), read_serials("1-7:3"), read_serials("3-1:-1")
    ([3], [1, 4, 7], [3, 2, 1])
    """
    body, colon, stride_text = element.partition(":")
    first_text, dash, last_text = body.partition("-")
    numbers = [first_text] + ([last_text] if dash else []) + ([stride_text] if colon else [])
    if not all(_is_integer(number) for number in numbers) or (colon and not dash):
        raise ValueError(f"'{element}' is not an atom number or a range")
    first = int(first_text)
    last = int(last_text) if dash else first
    stride = int(stride_text) if colon else 1
    if stride == 0 or (last - first) * stride < 0:
        raise ValueError(f"the range '{element}' never arrives at its end")
    if min(first, last) < 1:
        raise ValueError(f"'{element}': PLUMED counts atoms from 1")
    if abs(last - first) // abs(stride) > MAX_ATOMS_IN_LIST:
        raise ValueError(f"the range '{element}' has more than {MAX_ATOMS_IN_LIST} atoms")
    return list(range(first, last + (1 if stride > 0 else -1), stride))


def _is_integer(text: str) -> bool:
    digits = text.removeprefix("-")
    return digits.isascii() and digits.isdigit() and len(digits) < 12


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
        return plumed_input, "<input>"
    path = Path(plumed_input)
    if not path.is_file():
        raise FileNotFoundError(
            f"no PLUMED input file {path} (in {Path.cwd()}); "
            "text given directly must contain a newline"
        )
    if path.stat().st_size > MAX_INPUT_BYTES:
        raise ValueError(f"{path} has more than {MAX_INPUT_BYTES} bytes: not a PLUMED input")
    try:
        return path.read_text(encoding="utf-8"), str(path)
    except UnicodeDecodeError:
        raise ValueError(f"{path} is not a text file in UTF-8") from None


def is_number_format(fmt: str) -> bool:
    """Whether a text is a printf format for one number."""
    try:
        return fmt.count("%") == 1 and (fmt % 1.0) != fmt
    except (TypeError, ValueError, OverflowError):
        return False
