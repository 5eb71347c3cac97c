"""UPPER_WALLS and LOWER_WALLS."""

from __future__ import annotations

from typing import Any

from openmm_cgan.plumed.actions.action import Given, Keyword, Scope
from openmm_cgan.plumed.actions.biases.bias import (
    ARG,
    AT,
    STRIDE,
    SeparableBias,
    check_vectors,
)
from openmm_cgan.plumed.actions.values import Value, spans_of
from openmm_cgan.plumed.input.expressions import namespace


class _Wall(SeparableBias):
    """``KAPPA t^EXP`` on one side, with ``t`` the distance into the wall over EPS."""

    keywords = (
        ARG,
        AT,
        Keyword("KAPPA", "reals", "force constant for each argument", compulsory=True),
        Keyword("OFFSET", "reals", "where the wall begins before AT", default=0.0),
        Keyword("EXP", "reals", "exponent", default=2.0),
        Keyword("EPS", "reals", "scale", default=1.0),
        STRIDE,
    )
    side = 1.0  # +1 acts above AT, -1 below
    takes_vectors = True

    def __init__(self, given: Given) -> None:
        super().__init__(given)
        options = given.options
        self.at: tuple[float, ...] = options["AT"]
        self.kappa: tuple[float, ...] = options["KAPPA"]
        self.offset: tuple[float, ...] = options["OFFSET"]
        self.exponent: tuple[float, ...] = options["EXP"]
        self.eps: tuple[float, ...] = options["EPS"]
        if any(eps == 0 for eps in self.eps):
            raise self.error("EPS", "must not be zero")
        check_vectors(self)

    def enter(self, scope: Scope) -> None:
        super().enter(scope)
        if self.of_vectors:
            scope.shortcuts[self.label] = {"bias"}  # of a BIASVALUE without a label
            names = (f"{self.label}.bias", f"{self.label}.force2")
            scope.other_names.update(zip(names, self.outputs, strict=True))

    @property
    def count_in_plumed(self) -> int:
        return 6 + 14 * len(spans_of(self.arguments)) if self.of_vectors else 2

    @property
    def outputs(self) -> tuple[Value, ...]:
        if not self.of_vectors:
            return super().outputs
        return Value(f"{self.label}_bias", "energy"), Value(f"{self.label}_force2")

    def _depth(self, i: int, x: Any) -> Any:
        delta = self.arguments[i].difference(self.at[i], x)
        depth = (self.side * delta + self.offset[i]) / self.eps[i]
        return namespace(depth).where(depth > 0, depth, depth * 0)

    def term(self, i: int, x: Any) -> Any:
        return self.kappa[i] * self._depth(i, x) ** self.exponent[i]

    def force(self, i: int, x: Any) -> Any:
        depth, exponent = self._depth(i, x), self.exponent[i]
        inside = depth > 0
        safe = namespace(depth).where(inside, depth, depth * 0 + 1)
        slope = self.kappa[i] * exponent * safe ** (exponent - 1) / self.eps[i]
        return -self.side * slope * inside

    def term_expression(self, i: int, x: str) -> str:
        delta = self.arguments[i].difference_text("at", x)
        return f"kappa*max(0,(({self.side!r})*{delta}+offset)/eps)^({self.exponent[i]!r})"

    def term_parameters(self, i: int) -> dict[str, float]:
        return {
            "at": self.at[i],
            "kappa": self.kappa[i],
            "offset": self.offset[i],
            "eps": self.eps[i],
        }


class UpperWalls(_Wall):
    """A wall that keeps values below AT."""

    name = "UPPER_WALLS"
    summary = "wall above"
    side = 1.0


class LowerWalls(_Wall):
    """A wall that keeps values above AT."""

    name = "LOWER_WALLS"
    summary = "wall below"
    side = -1.0
