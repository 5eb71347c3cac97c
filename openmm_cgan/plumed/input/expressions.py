"""Lepton expressions: read once, evaluated by numpy or torch, and written for OpenMM.

PLUMED and OpenMM use the same language, but PLUMED knows more functions and constants; those are
rewritten here in terms that OpenMM has.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from openmm_cgan.plumed.input.language import CONSTANTS, UNDERSCORED_NUMBER

MAX_LENGTH = 20_000

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
    """Return torch for a tensor and numpy for all else: one formula serves both."""
    if type(array).__module__.split(".")[0] == "torch":
        import torch  # only reached with a tensor in hand, so it is imported already

        return torch
    return np


def _functions(xp: Any) -> dict[str, Callable[..., Any]]:
    """The functions of Lepton in numpy or torch."""
    own = {name: getattr(xp, name) for name in _SAME}
    return own | {
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


def _erf(x: Any) -> Any:
    xp = namespace(x)
    if hasattr(xp, "erf"):
        return xp.erf(x)
    from scipy.special import erf

    return erf(x)


ARITY = {"atan2": 2, "min": 2, "max": 2, "select": 3}
KNOWN = {*_SAME, *_REWRITTEN, "sec", "csc", "cot", "erf", "erfc", "step", "square"}
KNOWN |= {"cube", "recip", "min", "max", "select"}
_TEXT = {ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Div: "/", ast.Pow: "^"}


@dataclass(frozen=True)
class Expression:
    """A function of named variables.

    Examples
    --------
    >>> f = read_expression("a*x^2+sqrt2; a=cos(pi)", ("x",))
    >>> f.text({"x": "(theta-1)"})
    '((cos(3.141592653589793)*((theta-1)^2.0))+1.4142135623730951)'
    """

    tree: ast.expr

    def value(self, variables: Mapping[str, Any]) -> Any:
        """Value for arrays or tensors of the variables."""
        first = next(iter(variables.values()), None)
        xp = namespace(first)
        functions = _functions(xp)

        def number(x: Any) -> Any:
            if hasattr(xp, "as_tensor"):
                return xp.as_tensor(x, dtype=first.dtype)  # type: ignore[union-attr]
            return np.float64(x)  # Python's own float has exceptions where PLUMED has inf or NaN

        def walk(node: ast.expr) -> Any:
            if isinstance(node, ast.Constant):
                return number(float(node.value))  # type: ignore[arg-type]
            if isinstance(node, ast.Name):
                found = variables[node.id]
                return np.float64(found) if type(found) is float else found
            if isinstance(node, ast.UnaryOp):
                return -walk(node.operand)
            if isinstance(node, ast.BinOp):
                return _ARITHMETIC[type(node.op)](walk(node.left), walk(node.right))
            assert isinstance(node, ast.Call)
            assert isinstance(node.func, ast.Name)
            return functions[node.func.id](*map(walk, node.args))

        with np.errstate(all="ignore"):
            return walk(self.tree)

    def text(self, variables: Mapping[str, str]) -> str:
        """Expression of OpenMM's, with expressions in place of the variables."""

        def walk(node: ast.expr) -> str:
            if isinstance(node, ast.Constant):
                return repr(float(node.value))  # type: ignore[arg-type]
            if isinstance(node, ast.Name):
                return variables[node.id]
            if isinstance(node, ast.UnaryOp):
                return f"(-{walk(node.operand)})"
            if isinstance(node, ast.BinOp):
                return f"({walk(node.left)}{_TEXT[type(node.op)]}{walk(node.right)})"
            assert isinstance(node, ast.Call)
            assert isinstance(node.func, ast.Name)
            return f"{node.func.id}({','.join(map(walk, node.args))})"

        return walk(self.tree)


_ARITHMETIC: dict[type, Callable[[Any, Any], Any]] = {
    ast.Add: lambda a, b: a + b,
    ast.Sub: lambda a, b: a - b,
    ast.Mult: lambda a, b: a * b,
    ast.Div: lambda a, b: a / b,
    ast.Pow: lambda a, b: a**b,
}


def read_expression(text: str, names: tuple[str, ...]) -> Expression:
    """Read an expression in the given variables.

    Raises
    ------
    ValueError
        If it is none, or uses another name or function.
    """
    if len(text) > MAX_LENGTH:
        raise ValueError(f"an expression of {len(text)} characters; expected {MAX_LENGTH} at most")
    main, *definitions = text.split(";")
    defined: dict[str, ast.expr] = {}
    for definition in reversed([d for d in definitions if d.strip()]):
        name, equals, body = definition.partition("=")
        if not equals or not name.strip().isidentifier():
            raise ValueError(f"'{definition.strip()}' is not a definition name=expression")
        defined[name.strip()] = _checked(_parsed(body), names, defined)
    return Expression(_checked(_parsed(main), names, defined))


def _parsed(text: str) -> ast.expr:
    if "**" in text or UNDERSCORED_NUMBER.search(text):
        raise ValueError(f"'{text.strip()}' is not an expression")
    try:
        return ast.parse(text.strip().replace("^", "**"), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise ValueError(f"'{text.strip()}' is not an expression") from None


def _checked(node: ast.expr, names: tuple[str, ...], defined: dict[str, ast.expr]) -> ast.expr:
    """The same tree with definitions and constants put in, and only what is known."""
    if isinstance(node, ast.Constant) and type(node.value) in (int, float):
        return ast.Constant(float(node.value))  # type: ignore[arg-type]
    if isinstance(node, ast.Name):
        return _name(node.id, names, defined)
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub | ast.UAdd):
        operand = _checked(node.operand, names, defined)
        if isinstance(node.op, ast.UAdd):
            return operand
        if isinstance(operand, ast.Constant):
            return ast.Constant(-operand.value)  # type: ignore[operator]
        return _finite(ast.UnaryOp(ast.USub(), operand))
    if isinstance(node, ast.BinOp) and type(node.op) in _TEXT:
        sides = [_checked(side, names, defined) for side in (node.left, node.right)]
        return _simpler(_finite(ast.BinOp(sides[0], node.op, sides[1])))
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and not node.keywords:
        return _call(node.func.id, [_checked(a, names, defined) for a in node.args])
    raise ValueError(f"'{ast.unparse(node)}' is not known in expressions")


def _finite(node: ast.expr) -> ast.expr:
    """The same, unless a part of it is infinite or not a number whatever the variables are.

    OpenMM's simplification of such an expression never ends. Definitions that double each other
    are ended here too: each use of one is written out.
    """
    if isinstance(node, ast.UnaryOp):
        children = [node.operand]
    else:
        children = [node.left, node.right] if isinstance(node, ast.BinOp) else _arguments(node)
    node.n_nodes = 1 + sum(getattr(child, "n_nodes", 1) for child in children)  # type: ignore[attr-defined]
    if node.n_nodes > MAX_LENGTH:  # type: ignore[attr-defined]
        raise ValueError(f"an expression of more than {MAX_LENGTH} parts")
    node.constant = all(map(_is_constant, children))  # type: ignore[attr-defined]
    divided = isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div)
    if divided and _is_constant(children[1]) and Expression(children[1]).value({}) == 0:
        raise ValueError(f"'{ast.unparse(node)}' divides by zero")
    if _is_constant(node) and not np.isfinite(Expression(node).value({})):
        raise ValueError(f"'{ast.unparse(node)}' is not a finite number")
    return node


def _simpler(node: ast.expr) -> ast.expr:
    """The same as Lepton simplifies it, which differs where a part is infinite or 0/0."""
    if not isinstance(node, ast.BinOp) or _is_constant(node):
        return node
    zero = isinstance(node.left, ast.Constant) and node.left.value == 0
    if zero and isinstance(node.op, ast.Div | ast.Pow):
        return ast.Constant(0.0)
    if isinstance(node.op, ast.Div | ast.Sub) and ast.dump(node.left) == ast.dump(node.right):
        return ast.Constant(float(isinstance(node.op, ast.Div)))
    return node


def _arguments(node: ast.expr) -> list[ast.expr]:
    assert isinstance(node, ast.Call)
    return node.args


def _is_constant(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) or getattr(node, "constant", False)


def _name(name: str, names: tuple[str, ...], defined: dict[str, ast.expr]) -> ast.expr:
    if name in names:
        return ast.Name(name)
    if name in defined:
        return defined[name]
    if name in CONSTANTS:
        return ast.Constant(CONSTANTS[name])
    raise ValueError(f"'{name}' is neither a variable ({', '.join(names)}) nor a constant")


def _call(function: str, arguments: list[ast.expr]) -> ast.expr:
    if function not in KNOWN:
        raise ValueError(f"the function '{function}' is not known natively")
    if len(arguments) != ARITY.get(function, 1):
        raise ValueError(f"{function} takes {ARITY.get(function, 1)} arguments")
    if function in _REWRITTEN:
        return _checked(_parsed(_REWRITTEN[function].format(x="of")), (), {"of": arguments[0]})
    return _finite(ast.Call(ast.Name(function), arguments, []))
