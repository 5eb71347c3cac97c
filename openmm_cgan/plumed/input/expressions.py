"""Lepton expressions: read once, evaluated by numpy or torch, and written for OpenMM.

PLUMED and OpenMM use the same language, but PLUMED knows more functions and constants; those are
rewritten here in terms that OpenMM has.
"""

from __future__ import annotations

import ast
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np

from openmm_cgan.plumed.input.limits import MAX_LENGTH, require_bounded
from openmm_cgan.plumed.input.words import CONSTANTS, UNDERSCORED_NUMBER, NotNativeError

# What OpenMM does not have, in terms of what it has
_REWRITTEN = {
    "acot": "atan(1/({x}))",
    "delta": "select({x},0,1/abs({x}))",  # infinite at 0, as in PLUMED; OpenMM's own is 1
    "nandelta": "select({x},0,sqrt(-1-abs({x})))",
    "asec": "acos(1/({x}))",
    "acsc": "asin(1/({x}))",
    "coth": "(cosh({x})/sinh({x}))",
    "sech": "(1/cosh({x}))",
    "csch": "(1/sinh({x}))",
    "asinh": "log(({x})+sqrt(({x})^2+1))",
    "acosh": "log(({x})+sqrt(({x})^2-1))",
    "atanh": "(0.5*log((1+({x}))/(1-({x}))))",
    "acoth": "(0.5*log((({x})+1)/(({x})-1)))",
    "asech": "log(1/({x})+sqrt(1/({x})^2-1))",
    "acsch": "log(1/({x})+sqrt(1/({x})^2+1))",
}
# fmt: off
_SAME = (
    "sqrt", "exp", "log", "sin", "cos", "tan", "asin", "acos", "atan", "atan2", "sinh", "cosh",
    "tanh", "floor", "ceil", "abs",
)
# fmt: on


def namespace(array: Any) -> Any:
    """Return torch for a tensor and numpy for all else, of any shape: one formula serves both."""
    if type(array).__module__.split(".")[0] == "torch":
        import torch  # only reached with a tensor in hand, so it is imported already

        return torch
    return np


@lru_cache(maxsize=2)
def _functions(xp: Any) -> dict[str, Callable[..., Any]]:
    """The functions of Lepton in numpy or torch."""
    same = {name: vars(xp)[name] for name in _SAME}
    return (
        same
        | _ARITHMETIC
        | {
            "sec": lambda x: 1 / xp.cos(x),
            "csc": lambda x: 1 / xp.sin(x),
            "cot": lambda x: 1 / xp.tan(x),
            "erf": _erf,
            "erfc": lambda x: 1 - _erf(x),
            "step": lambda x: xp.where(x >= 0, x * 0 + 1.0, x * 0 + 0.0),
            "square": lambda x: x * x,
            "cube": lambda x: x * x * x,
            "recip": lambda x: 1 / x,
            "min": xp.minimum,
            "max": xp.maximum,
            "select": lambda x, y, z: xp.where(x != 0, y, z),
        }
    )


def _erf(x: Any) -> Any:
    xp = namespace(x)
    if xp is not np:
        return xp.erf(x)
    from scipy.special import erf

    return erf(x)


ARITY = {"atan2": 2, "min": 2, "max": 2, "select": 3}
KNOWN = {*_SAME, *_REWRITTEN, "sec", "csc", "cot", "erf", "erfc", "step", "square"}
KNOWN |= {"cube", "recip", "min", "max", "select"}
_OPERATORS = {ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Div: "/", ast.Pow: "^"}
_MINUS = "minus"  # of one operand
_ARITHMETIC: dict[str, Callable[..., Any]] = {
    "+": lambda a, b: a + b,
    "-": lambda a, b: a - b,
    "*": lambda a, b: a * b,
    "/": lambda a, b: a / b,
    "^": lambda a, b: a**b,
    _MINUS: lambda a: -a,
}


@dataclass(frozen=True)
class Number:
    """A number in an expression."""

    value: float


@dataclass(frozen=True)
class Name:
    """A variable in an expression."""

    name: str


@dataclass(frozen=True)
class Call:
    """A function of parts of an expression.

    Attributes
    ----------
    function : str
        Its name, an operator ``+ - * / ^``, or "minus".
    arguments : tuple of Node
    size : int
        Numbers, variables and functions that it is written with.
    constant : bool
        Whether there is no variable in it.
    """

    function: str
    arguments: tuple[Node, ...]
    size: int = field(repr=False)
    constant: bool = field(repr=False)


Node = Number | Name | Call


@dataclass(frozen=True)
class Expression:
    """A function of named variables.

    Examples
    --------
    >>> f = read_expression("a*x^2+sqrt2; a=cos(pi)", ("x",))
    >>> f.text({"x": "(theta-1)"})
    '((cos(3.141592653589793)*((theta-1)^2.0))+1.4142135623730951)'
    """

    root: Node

    def value(self, variables: Mapping[str, Any]) -> Any:
        """Value where the variables are given.

        Parameters
        ----------
        variables : mapping of str to float, ndarray or tensor, shapes that broadcast

        Returns
        -------
        numpy scalar, ndarray or tensor
            Of the broadcast shape; infinite or NaN where PLUMED's is.
        """
        first = next(iter(variables.values()), None)
        xp = namespace(first)
        functions = _functions(xp)

        def number(x: float) -> Any:
            if xp is not np:
                return xp.as_tensor(x, dtype=first.dtype, device=first.device)  # type: ignore[union-attr]
            return np.float64(x)  # Python's own float has exceptions where PLUMED has inf or NaN

        def walk(node: Node) -> Any:
            if isinstance(node, Number):
                return number(node.value)
            if isinstance(node, Name):
                x = variables[node.name]
                return np.float64(x) if type(x) is float else x
            return functions[node.function](*map(walk, node.arguments))

        with np.errstate(all="ignore"):
            return walk(self.root)

    def text(self, variables: Mapping[str, str]) -> str:
        """Expression of OpenMM's, with expressions in place of the variables."""

        def walk(node: Node) -> str:
            if isinstance(node, Number):
                return repr(node.value)
            if isinstance(node, Name):
                return variables[node.name]
            parts = [walk(part) for part in node.arguments]
            if node.function == _MINUS:
                return f"(-{parts[0]})"
            if node.function in _ARITHMETIC:
                return f"({parts[0]}{node.function}{parts[1]})"
            return f"{node.function}({','.join(parts)})"

        return walk(self.root)


def read_expression(text: str, names: tuple[str, ...]) -> Expression:
    """Read an expression in the given variables.

    Raises
    ------
    ValueError
        If it is none, or uses another name or function.
    """
    require_bounded(text)
    main, *definitions = text.split(";")
    defined: dict[str, Node] = {}
    for definition in reversed([d for d in definitions if d.strip()]):
        name, equals, body = definition.partition("=")
        if not equals or not name.strip().isidentifier():
            raise NotNativeError(f"'{definition.strip()}' is not a definition name=expression")
        defined[name.strip()] = _checked(_parsed(body), names, defined)
    return Expression(_checked(_parsed(main), names, defined))


def _parsed(text: str) -> ast.expr:
    if "**" in text or UNDERSCORED_NUMBER.search(text):
        raise NotNativeError(f"'{text.strip()}' is not an expression")
    try:
        return ast.parse(text.strip().replace("^", "**"), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise NotNativeError(f"'{text.strip()}' is not an expression") from None


def _checked(node: ast.expr, names: tuple[str, ...], defined: dict[str, Node]) -> Node:
    """An expression as Python has parsed it, with definitions put in, and only what is known."""
    if isinstance(node, ast.Constant) and type(node.value) in (int, float):
        if not math.isfinite(number := float(node.value)):  # type: ignore[arg-type]
            raise ValueError(f"the number {ast.unparse(node)} is too large")
        return Number(number)
    if isinstance(node, ast.Name):
        return _named(node.id, names, defined)
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub | ast.UAdd):
        operand = _checked(node.operand, names, defined)
        if isinstance(node.op, ast.UAdd):
            return operand
        if isinstance(operand, Number):
            return Number(-operand.value)
        return _finite(_MINUS, (operand,))
    if isinstance(node, ast.BinOp) and type(node.op) in _OPERATORS:
        sides = [_checked(side, names, defined) for side in (node.left, node.right)]
        return _simpler(_finite(_OPERATORS[type(node.op)], tuple(sides)))
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and not node.keywords:
        return _call(node.func.id, tuple(_checked(a, names, defined) for a in node.args))
    raise NotNativeError(f"'{ast.unparse(node)}' is not known in expressions")


def _finite(function: str, arguments: tuple[Node, ...]) -> Call:
    """The call, unless a part of it is infinite or not a number whatever the variables are.

    OpenMM's simplification of such an expression never ends. Definitions that double each other
    are ended here too: each use of one is written out.
    """
    size = 1 + sum(part.size if isinstance(part, Call) else 1 for part in arguments)
    if size > MAX_LENGTH:
        raise ValueError(f"an expression of more than {MAX_LENGTH} parts")
    node = Call(function, arguments, size, all(map(_is_constant, arguments)))
    divisor = arguments[1] if function == "/" else None
    if divisor is not None and _is_constant(divisor) and Expression(divisor).value({}) == 0:
        raise NotNativeError(f"'{_written(node)}' divides by zero")
    if node.constant and not np.isfinite(Expression(node).value({})):
        raise NotNativeError(f"'{_written(node)}' is not a finite number")
    return node


def _simpler(node: Call) -> Node:
    """The same as Lepton simplifies it, which differs where a part is infinite or 0/0."""
    if node.constant:
        return node
    left, right = node.arguments
    if isinstance(left, Number) and left.value == 0 and node.function in ("/", "^"):
        return Number(0.0)
    if node.function in ("/", "-") and repr(left) == repr(right):
        return Number(float(node.function == "/"))
    return node


def _is_constant(node: Node) -> bool:
    return node.constant if isinstance(node, Call) else isinstance(node, Number)


def _written(node: Node) -> str:
    """A part of an expression as Python writes it, for messages."""

    def tree(node: Node) -> ast.expr:
        if isinstance(node, Number):
            return ast.Constant(node.value)
        if isinstance(node, Name):
            return ast.Name(node.name)
        parts = [tree(part) for part in node.arguments]
        if node.function == _MINUS:
            return ast.UnaryOp(ast.USub(), parts[0])
        for operator, text in _OPERATORS.items():
            if text == node.function:
                return ast.BinOp(parts[0], operator(), parts[1])
        return ast.Call(ast.Name(node.function), parts, [])

    return ast.unparse(tree(node))


def _named(name: str, names: tuple[str, ...], defined: dict[str, Node]) -> Node:
    if name in names:
        return Name(name)
    if name in defined:
        return defined[name]
    if name in CONSTANTS:
        return Number(CONSTANTS[name])
    raise ValueError(f"'{name}' is neither a variable ({', '.join(names)}) nor a constant")


def _call(function: str, arguments: tuple[Node, ...]) -> Node:
    if function not in KNOWN:
        raise ValueError(f"the function '{function}' is not known natively")
    if len(arguments) != ARITY.get(function, 1):
        raise ValueError(f"{function} takes {ARITY.get(function, 1)} arguments")
    if function in _REWRITTEN:
        return _checked(_parsed(_REWRITTEN[function].format(x="of")), (), {"of": arguments[0]})
    return _finite(function, arguments)
