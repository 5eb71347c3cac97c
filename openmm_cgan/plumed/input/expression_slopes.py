"""Slopes of Lepton expressions, by the rules of differentiation, at one point."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from openmm_cgan.plumed.input.expressions import Expression, Name, Node, Number

# Of a function of one operand, given the operand and the value there
_RULES: dict[str, Callable[[Any, Any], Any]] = {
    "minus": lambda x, f: -1.0,
    "sqrt": lambda x, f: 0.5 / f,
    "exp": lambda x, f: f,
    "log": lambda x, f: 1 / x,
    "sin": lambda x, f: np.cos(x),
    "cos": lambda x, f: -np.sin(x),
    "tan": lambda x, f: 1 + f * f,
    "sec": lambda x, f: f * np.tan(x),
    "csc": lambda x, f: -f / np.tan(x),
    "cot": lambda x, f: -1 - f * f,
    "asin": lambda x, f: 1 / np.sqrt(1 - x * x),
    "acos": lambda x, f: -1 / np.sqrt(1 - x * x),
    "atan": lambda x, f: 1 / (1 + x * x),
    "sinh": lambda x, f: np.cosh(x),
    "cosh": lambda x, f: np.sinh(x),
    "tanh": lambda x, f: 1 - f * f,
    "erf": lambda x, f: 2 / math.sqrt(math.pi) * np.exp(-x * x),
    "erfc": lambda x, f: -2 / math.sqrt(math.pi) * np.exp(-x * x),
    "step": lambda x, f: 0.0,
    "floor": lambda x, f: 0.0,
    "ceil": lambda x, f: 0.0,
    "abs": lambda x, f: 1.0 if x >= 0 else -1.0,  # as Lepton has it at 0
    "square": lambda x, f: 2 * x,
    "cube": lambda x, f: 3 * x * x,
    "recip": lambda x, f: -f * f,
}


def expression_slopes(
    expression: Expression, names: Sequence[str], at: Sequence[float]
) -> list[float]:
    """Slope of an expression along each variable.

    Parameters
    ----------
    expression : Expression
    names : sequence of str
        The variables.
    at : sequence of float
        One number for each.

    Returns
    -------
    list of float
        As many; infinite or NaN where there is none.
    """
    place = {name: i for i, name in enumerate(names)}
    values = dict(zip(names, at, strict=True))
    flat = np.zeros(len(place))

    def walk(node: Node) -> tuple[Any, Any]:
        if isinstance(node, Number):
            return np.float64(node.value), flat
        if isinstance(node, Name):
            along = flat.copy()
            along[place[node.name]] = 1.0
            return np.float64(values[node.name]), along
        parts, slopes = zip(*map(walk, node.arguments), strict=True)
        named = {f"a{i}": part for i, part in enumerate(parts)}
        operands = tuple(Name(name) for name in named)
        value = Expression(type(node)(node.function, operands, 0, constant=False)).value(named)
        return value, _chained(node.function, parts, value, slopes)

    with np.errstate(all="ignore"):
        return [float(slope) for slope in walk(expression.root)[1]]


def _chained(function: str, x: Sequence[Any], f: Any, dx: Sequence[Any]) -> Any:
    """Slopes of a function of parts `x`, with value `f`, from those of the parts."""
    if function in _RULES:
        return _times(_RULES[function](x[0], f), dx[0])
    if function == "+":
        return dx[0] + dx[1]
    if function == "-":
        return dx[0] - dx[1]
    if function == "*":
        return _times(x[1], dx[0]) + _times(x[0], dx[1])
    if function == "/":
        return _times(1 / x[1], dx[0]) - _times(f / x[1], dx[1])
    if function == "^":
        power = x[1] * x[0] ** (x[1] - 1) if x[1] != 0 else 0.0
        return _times(power, dx[0]) + _times(f * np.log(x[0]), dx[1])
    if function == "atan2":
        square = x[0] * x[0] + x[1] * x[1]
        return _times(x[1] / square, dx[0]) - _times(x[0] / square, dx[1])
    if function == "select":
        return dx[1] if x[0] != 0 else dx[2]
    first = x[0] < x[1] if function == "min" else x[0] >= x[1]  # where they tie, as Lepton
    return dx[0] if first else dx[1]


def _times(factor: Any, slopes: Any) -> Any:
    """The product, and nothing along what has no slope, where the factor may be infinite."""
    return np.where(slopes == 0, 0.0, factor * slopes)
