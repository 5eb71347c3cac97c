"""FUNCPATHMSD: the path through models whose squared distances are given, as values.

Branduardi, Gervasio, Parrinello, doi 10.1063/1.2432340. The largest weight is taken out of sums,
which are those of PLUMED where its own do not underflow.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from openmm_cgan.plumed.actions.action import Given, Keyword
from openmm_cgan.plumed.actions.functions import Function
from openmm_cgan.plumed.actions.values import Value
from openmm_cgan.plumed.input.expressions import namespace


class FuncPathMsd(Function):
    """``s = sum k w_k / sum w_k``, ``z = -log(sum w_k) / LAMBDA``, ``w_k = exp(-LAMBDA x_k)``."""

    name = "FUNCPATHMSD"
    summary = "the path through models whose squared distances are values"
    keywords = (
        Keyword("ARG", "arguments", "the squared distances", compulsory=True),
        Keyword("LAMBDA", "real", "how sharply models are told apart", compulsory=True),
    )

    def __init__(self, given: Given) -> None:
        super().__init__(given)
        self.sharpness: float = given.options["LAMBDA"]
        if self.sharpness == 0:
            raise self.error("LAMBDA", "must not be zero")

    @property
    def outputs(self) -> tuple[Value, ...]:
        return Value(f"{self.label}.s"), Value(f"{self.label}.z")

    def values(self, arguments: list[Any]) -> tuple[Any, ...]:
        xp = next((xp for x in arguments if (xp := namespace(x)) is not np), np)  # of any tensor
        shape = np.broadcast_shapes(*(np.shape(x) for x in arguments))
        arrays = [x if namespace(x) is xp is not np else xp.asarray(x) for x in arguments]
        exponents = -self.sharpness * xp.stack([xp.broadcast_to(x, shape) for x in arrays], -1)
        highest = xp.amax(exponents, -1)
        weights = xp.exp(exponents - highest[..., None])
        total = weights.sum(-1)
        numbers = xp.asarray(np.arange(1.0, len(arguments) + 1))
        s = (numbers * weights).sum(-1) / total
        return s, -(highest + xp.log(total)) / self.sharpness

    def slopes(self, index: int, arguments: list[float]) -> list[float]:
        exponents = -self.sharpness * np.array(arguments)
        weights = np.exp(exponents - exponents.max())
        shares = weights / weights.sum()
        if index == 1:
            return [float(share) for share in shares]
        numbers = np.arange(1.0, len(arguments) + 1)
        s = float(shares @ numbers)
        return [float(x) for x in self.sharpness * shares * (s - numbers)]

    def expression(self, arguments: list[str], index: int = 0) -> str:
        weights = [f"exp(-({self.sharpness!r})*({x}))" for x in arguments]
        total = "+".join(weights)
        if index == 1:
            return f"(-log({total})/({self.sharpness!r}))"
        return f"(({'+'.join(f'{k}*{w}' for k, w in enumerate(weights, start=1))})/({total}))"
