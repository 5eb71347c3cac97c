"""RESTRAINT: harmonic and linear."""

from __future__ import annotations

from typing import Any

from openmm_cgan.plumed.actions.action import Given, Keyword
from openmm_cgan.plumed.actions.biases.bias import ARG, AT, STRIDE, SeparableBias


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

    def __init__(self, given: Given) -> None:
        super().__init__(given)
        self.at: tuple[float, ...] = given.options["AT"]
        self.kappa: tuple[float, ...] = given.options["KAPPA"]
        self.slope: tuple[float, ...] = given.options["SLOPE"]

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
