"""RESTRAINT: harmonic and linear."""

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


class Restraint(SeparableBias):
    """Harmonic and linear: ``KAPPA/2 (s - AT)^2 + SLOPE (s - AT)``."""

    name = "RESTRAINT"
    summary = "harmonic and linear restraint"
    keywords = (
        ARG,
        AT,
        Keyword("KAPPA", "reals", "force constant for each argument", default=0.0),
        Keyword("SLOPE", "reals", "slope for each argument", default=0.0),
        STRIDE,
    )

    takes_vectors = True

    def __init__(self, given: Given) -> None:
        super().__init__(given)
        self.at: tuple[float, ...] = given.options["AT"]
        self.kappa: tuple[float, ...] = given.options["KAPPA"]
        self.slope: tuple[float, ...] = given.options["SLOPE"]
        check_vectors(self)

    def enter(self, scope: Scope) -> None:
        super().enter(scope)
        if self.of_vectors:  # force2 of PLUMED's is a vector, and another than the squared force
            scope.shortcuts[self.label] = {"bias", f"{self.label}_bias_bias", "*"}
            scope.other_names[f"{self.label}_bias"] = self.outputs[0]

    @property
    def count_in_plumed(self) -> int:
        if not self.of_vectors:
            return 2
        firsts = [span.start for span in spans_of(self.arguments)]
        harmonic = [self.kappa[i] != 0 for i in firsts]
        sloping = sum(self.slope[i] != 0 for i in firsts)
        return 4 + 2 * len(firsts) + 5 * sum(harmonic) + 3 * sloping + 2 * any(harmonic)

    @property
    def outputs(self) -> tuple[Value, ...]:
        return super().outputs[:1] if self.of_vectors else super().outputs

    def values(self, arguments: list[Any]) -> tuple[Any, ...]:
        return super().values(arguments)[: len(self.outputs)]

    def term(self, i: int, x: Any) -> Any:
        delta = self.arguments[i].difference(self.at[i], x)
        return 0.5 * self.kappa[i] * delta * delta + self.slope[i] * delta

    def force(self, i: int, x: Any) -> Any:
        return -(self.kappa[i] * self.arguments[i].difference(self.at[i], x) + self.slope[i])

    def term_expression(self, i: int, x: str) -> str:
        delta = self.arguments[i].difference_text("at", x)
        if self.slope[i] == 0:
            return f"0.5*kappa*{delta}^2"
        return f"0.5*kappa*{delta}^2+slope*{delta}"

    def term_parameters(self, i: int) -> dict[str, float]:
        parameters = {"at": self.at[i], "kappa": self.kappa[i]}
        return parameters if self.slope[i] == 0 else {**parameters, "slope": self.slope[i]}
