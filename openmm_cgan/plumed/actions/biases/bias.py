"""Biases that are a sum of one term for each argument: RESTRAINT, walls, BIASVALUE.

Each term is written twice: as a number, batched, for numpy and torch; and as an expression with
parameters for OpenMM. All energies here are in the units of the input.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from openmm_cgan.plumed.actions.action import Action, Given, Keyword, Value
from openmm_cgan.plumed.input.expressions import namespace

_ARG = Keyword("ARG", "arguments", "the values that it acts on", compulsory=True)
_AT = Keyword("AT", "reals", "centre for each argument", compulsory=True)


class Bias(Action):
    """An energy added to the system's."""

    @property
    def outputs(self) -> tuple[Value, ...]:
        return (Value(f"{self.label}.bias", "energy"),)

    def energy(self, arguments: list[Any]) -> Any:
        """Energy [energy unit of the input] for the arguments, each of shape (...)."""
        raise NotImplementedError

    def values(self, arguments: list[Any]) -> tuple[Any, ...]:
        """All outputs, in order."""
        return (self.energy(arguments),)

    def saved(self) -> dict[str, np.ndarray]:
        """What it has gathered during the run, to be saved with a checkpoint."""
        return {}

    def restore_saved(self, arrays: dict[str, np.ndarray]) -> None:
        """Take over what `saved` gave.

        Raises
        ------
        ValueError
            If it is of another input.
        """


class SeparableBias(Bias):
    """A bias with one term for each argument, and the squared force on them as ``force2``."""

    def term(self, i: int, x: Any) -> Any:
        """Energy of argument `i` at the value `x`."""
        raise NotImplementedError

    def force(self, i: int, x: Any) -> Any:
        """Minus its slope."""
        raise NotImplementedError

    def term_expression(self, i: int, x: str) -> str:
        """Expression of the energy in `x` and the names of `term_parameters`."""
        raise NotImplementedError

    def term_parameters(self, i: int) -> dict[str, float]:
        """Values of the parameters of the expression."""
        raise NotImplementedError

    @property
    def outputs(self) -> tuple[Value, ...]:
        return (*super().outputs, Value(f"{self.label}.force2"))

    def energy(self, arguments: list[Any]) -> Any:
        return sum(self.term(i, x) for i, x in enumerate(arguments))

    def values(self, arguments: list[Any]) -> tuple[Any, ...]:
        force2 = sum(self.force(i, x) ** 2 for i, x in enumerate(arguments))
        return (self.energy(arguments), force2)

    def energy_and_slopes(self, arguments: list[float], step: int) -> tuple[float, list[float]]:
        """Energy of a single frame, and its slopes along the arguments [energy unit, CV units]."""
        slopes = [-float(self.force(i, x)) for i, x in enumerate(arguments)]
        return float(self.energy(arguments)), slopes


class Restraint(SeparableBias):
    """Harmonic and linear: ``KAPPA/2 (s - AT)^2 + SLOPE (s - AT)``."""

    name = "RESTRAINT"
    summary = "harmonic and linear restraint"
    keywords = (
        _ARG,
        _AT,
        Keyword("KAPPA", "reals", "force constant for each argument", default=0.0),
        Keyword("SLOPE", "reals", "slope for each argument", default=0.0),
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


class _Wall(SeparableBias):
    """``KAPPA t^EXP`` on one side, with ``t`` the distance into the wall over EPS."""

    keywords = (
        _ARG,
        _AT,
        Keyword("KAPPA", "reals", "force constant for each argument", compulsory=True),
        Keyword("OFFSET", "reals", "where the wall begins before AT", default=0.0),
        Keyword("EXP", "reals", "exponent", default=2.0),
        Keyword("EPS", "reals", "scale", default=1.0),
    )
    side = 1.0  # +1 acts above AT, -1 below

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


class BiasValue(SeparableBias):
    """Take values as energies."""

    name = "BIASVALUE"
    summary = "values as energies"
    keywords = (_ARG,)

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
