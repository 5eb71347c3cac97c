"""Functions of other values: COMBINE."""

from __future__ import annotations

from typing import Any

from openmm_cgan.plumed.actions.action import Action, Given, Keyword, Value, domain_value


class Function(Action):
    """A value computed from other values."""

    def value(self, arguments: list[Any]) -> Any:
        """Value for the arguments, each an ndarray or tensor of shape (...)."""
        raise NotImplementedError

    def expression(self, arguments: list[str]) -> str:
        """The same as an expression of OpenMM's, given expressions for the arguments."""
        raise NotImplementedError


class Combine(Function):
    """Sum of ``COEFFICIENTS * (ARG - PARAMETERS) ** POWERS``."""

    name = "COMBINE"
    summary = "polynomial of other values"
    keywords = (
        Keyword("ARG", "arguments", "the values to combine", compulsory=True),
        Keyword("PERIODIC", "domain", "NO, or the domain min,max of the result", compulsory=True),
        Keyword("COEFFICIENTS", "reals", "one for each argument", default=1.0),
        Keyword("PARAMETERS", "reals", "subtracted from each argument", default=0.0),
        Keyword("POWERS", "reals", "exponent of each argument", default=1.0),
        Keyword("NORMALIZE", "flag", "divide the coefficients by their sum"),
    )

    def __init__(self, given: Given) -> None:
        super().__init__(given)
        options = given.options
        self.output = domain_value(self.label, _common_unit(self.arguments), options["PERIODIC"])
        self.parameters: tuple[float, ...] = options["PARAMETERS"]
        self.powers: tuple[float, ...] = options["POWERS"]
        total = sum(options["COEFFICIENTS"]) if options["NORMALIZE"] else 1.0
        if total == 0:
            raise self.error("NORMALIZE", "the coefficients add up to zero")
        self.coefficients = tuple(c / total for c in options["COEFFICIENTS"])

    @property
    def outputs(self) -> tuple[Value, ...]:
        return (self.output,)

    def value(self, arguments: list[Any]) -> Any:
        total = 0.0
        for i, argument in enumerate(self.arguments):
            shifted = argument.difference(self.parameters[i], arguments[i])
            total = total + self.coefficients[i] * shifted ** self.powers[i]
        return self.output.wrap(total)

    def expression(self, arguments: list[str]) -> str:
        terms = []
        for i, argument in enumerate(self.arguments):
            shifted = argument.difference_text(f"({self.parameters[i]!r})", arguments[i])
            power = "" if self.powers[i] == 1 else f"^({self.powers[i]!r})"
            terms.append(f"({self.coefficients[i]!r})*{shifted}{power}")
        total = f"({'+'.join(terms)})"
        if self.output.domain is None:
            return total
        lower, period = self.output.domain[0], self.output.period
        return f"({total}-{period!r}*floor(({total}-({lower!r}))/{period!r}))"


def _common_unit(arguments: tuple[Value, ...]) -> str:
    units = {argument.unit for argument in arguments}
    return units.pop() if len(units) == 1 else ""
