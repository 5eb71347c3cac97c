"""SORT: values in the order of their size."""

from __future__ import annotations

from typing import Any

import numpy as np

from openmm_cgan.plumed.actions.action import Given, Keyword
from openmm_cgan.plumed.actions.functions import Function
from openmm_cgan.plumed.actions.values import Value
from openmm_cgan.plumed.input.expressions import namespace


class Sort(Function):
    """Its arguments from the smallest, ``.1``, to the largest; of equal ones the first first."""

    name = "SORT"
    summary = "values in the order of their size"
    keywords = (Keyword("ARG", "arguments", "the values to sort", compulsory=True),)

    def __init__(self, given: Given) -> None:
        super().__init__(given)
        for value in self.arguments:
            if value.domain is not None:
                raise self.error(value.name, "a periodic value can not be sorted")
        units = {value.unit for value in self.arguments}
        self._unit = units.pop() if len(units) == 1 else ""

    @property
    def outputs(self) -> tuple[Value, ...]:
        numbers = range(1, len(self.arguments) + 1)
        return tuple(Value(f"{self.label}.{k}", self._unit) for k in numbers)

    def values(self, arguments: list[Any]) -> tuple[Any, ...]:
        xp = next((xp for x in arguments if (xp := namespace(x)) is not np), np)  # of any tensor
        shape = np.broadcast_shapes(*(np.shape(x) for x in arguments))
        arrays = [x if namespace(x) is xp is not np else xp.asarray(x) for x in arguments]
        rows = xp.stack([xp.broadcast_to(x, shape) for x in arrays], -1)
        if xp is np:
            return tuple(np.moveaxis(np.sort(rows, axis=-1), -1, 0))
        return tuple(xp.sort(rows, dim=-1, stable=True).values.unbind(-1))

    def slopes(self, index: int, arguments: list[float]) -> list[float]:
        chosen = int(np.argsort(arguments, kind="stable")[index])
        return [float(i == chosen) for i in range(len(arguments))]

    def expression(self, arguments: list[str], index: int = 0) -> str:
        ranks = [_rank(arguments, i) for i in range(len(arguments))]
        pairs = zip(ranks, arguments, strict=True)
        return f"({'+'.join(f'select({rank}-{index},0,{x})' for rank, x in pairs)})"


def _rank(arguments: list[str], i: int) -> str:
    """How many arguments come before one, as an expression of OpenMM's."""
    x = arguments[i]
    before = [f"step({x}-{other})" for other in arguments[:i]]
    return "+".join([*before, *(f"1-step({other}-{x})" for other in arguments[i + 1 :]), "0"])
