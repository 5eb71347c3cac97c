"""The words of a statement: vectors in braces, numbers, atom serials, formats."""

from __future__ import annotations

import ast
import math
import operator
import os
import re
from collections.abc import Callable, Iterable

MAX_ATOMS_IN_LIST = 10_000_000
MAX_EXPRESSION_LENGTH = 1000
MAX_FORMAT_DIGITS = 2  # of width and precision: a row of one number stays short

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


class SerialError(ValueError):
    """Numbers of atoms that no atom has."""


class NotNativeError(ValueError):
    """A word that PLUMED may understand, though it is not covered natively."""


def one_word(path: str | os.PathLike[str]) -> str:
    """A path as one word of an input: in braces where it has blanks."""
    text = os.fspath(path)
    return f"{{{text}}}" if any(blank in text for blank in " \t") else text


def unbrace(value: str) -> str:
    """Drop the outermost pair of braces, as PLUMED does."""
    start, end = value.find("{"), value.rfind("}")
    if start < 0 or end < start:
        return value
    return value[:start] + value[start + 1 : end] + value[end + 1 :]


def keywords_of(words: Iterable[str]) -> dict[str, str]:
    """Values by keyword in capitals, braces dropped; of a word without a value an empty one.

    Examples
    --------
    >>> keywords_of(["arg={phi psi}", "RESTART", "STRIDE=10"])
    {'ARG': 'phi psi', 'RESTART': '', 'STRIDE': '10'}
    """
    parts = (word.partition("=") for word in words)
    return {key.upper(): unbrace(value) for key, _, value in parts}


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
    if text.startswith("@replicas:"):
        raise NotNativeError(f"'{text}' is of several simulations")
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
        raise SerialError(f"the range '{element}' never arrives at its end")
    if min(first, last) < 1:
        raise SerialError(f"'{element}': PLUMED counts atoms from 1")
    if abs(last - first) // abs(stride) > MAX_ATOMS_IN_LIST:
        raise SerialError(f"the range '{element}' has more than {MAX_ATOMS_IN_LIST} atoms")
    return list(range(first, last + (1 if stride > 0 else -1), stride))


def _is_integer(text: str) -> bool:
    digits = text.removeprefix("-")
    return digits.isascii() and digits.isdigit() and len(digits) < 12


_NUMBER_FORMAT = re.compile(r"%[-+ #0]*(\d*)(?:\.(\d*))?l?[eEfFgG]")


def is_number_format(fmt: str) -> bool:
    """Whether a text is a printf format for one number, of bounded width.

    Examples
    --------
    >>> is_number_format(" %12.6f"), is_number_format("%d"), is_number_format("%999999999f")
    (True, False, False)
    """
    if fmt.count("%") != 1 or not (found := _NUMBER_FORMAT.search(fmt)):
        return False
    return all(len(digits or "") <= MAX_FORMAT_DIGITS for digits in found.groups())
