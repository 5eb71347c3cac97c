"""BIASVALUE: values that are energies already."""

from __future__ import annotations

from typing import Any

from openmm_cgan.plumed.actions.biases.bias import ARG, STRIDE, SeparableBias
from openmm_cgan.plumed.actions.values import Value


class BiasValue(SeparableBias):
    """Take values as energies."""

    name = "BIASVALUE"
    summary = "values as energies"
    keywords = (ARG, STRIDE)

    def term(self, i: int, x: Any) -> Any:
        return x

    def force(self, i: int, x: Any) -> Any:
        return -1.0

    def term_expression(self, i: int, x: str) -> str:
        return x

    def term_parameters(self, i: int) -> dict[str, float]:
        return {}

    @property
    def outputs(self) -> tuple[Value, ...]:
        bias = Value(f"{self.label}.bias", "energy")
        return (bias, *(Value(f"{self.label}.{v.name}_bias", "energy") for v in self.arguments))

    def values(self, arguments: list[Any]) -> tuple[Any, ...]:
        return (self.energy(arguments), *arguments)
