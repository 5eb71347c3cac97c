"""Functions of other values: COMBINE, CUSTOM (MATHEVAL), CONSTANT."""

from __future__ import annotations

from typing import Any

import numpy as np

from openmm_cgan.plumed.actions.action import Action, Given, Keyword, Value, domain_value
from openmm_cgan.plumed.input.expression_slopes import expression_slopes
from openmm_cgan.plumed.input.expressions import read_expression
from openmm_cgan.plumed.input.words import NotNativeError


class Function(Action):
    """A value computed from other values."""

    def value(self, arguments: list[Any]) -> Any:
        """Value for the arguments, each an ndarray or tensor of shape (...)."""
        raise NotImplementedError

    def values(self, arguments: list[Any]) -> tuple[Any, ...]:
        """All outputs, in order, of shape (...) each; parameters as of `value`."""
        return (self.value(arguments),)

    def slopes(self, index: int, arguments: list[float]) -> list[float]:
        """Slope of an output along each argument at one point, of length n_arguments."""
        raise NotImplementedError

    def expression(self, arguments: list[str], index: int = 0) -> str:
        """An output as an expression of OpenMM's, given expressions for the arguments."""
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

    def slopes(self, index: int, arguments: list[float]) -> list[float]:
        found = []
        for i, argument in enumerate(self.arguments):
            shifted = np.float64(argument.difference(self.parameters[i], arguments[i]))
            power = self.powers[i]
            with np.errstate(all="ignore"):  # infinite or NaN where PLUMED's is
                found.append(float(self.coefficients[i] * power * shifted ** (power - 1)))
        return found

    def expression(self, arguments: list[str], index: int = 0) -> str:
        terms = []
        for i, argument in enumerate(self.arguments):
            shifted = argument.difference_text(f"({self.parameters[i]!r})", arguments[i])
            power = "" if self.powers[i] == 1 else f"^({self.powers[i]!r})"
            terms.append(f"({self.coefficients[i]!r})*{shifted}{power}")
        return _wrapped(f"({'+'.join(terms)})", self.output)


def _common_unit(arguments: tuple[Value, ...]) -> str:
    units = {argument.unit for argument in arguments}
    return units.pop() if len(units) == 1 else ""


class Custom(Function):
    """Any function of other values, in the language of OpenMM's custom forces."""

    name = "CUSTOM"
    summary = "any function of other values"
    keywords = (
        Keyword("ARG", "arguments", "the values", compulsory=True),
        Keyword("FUNC", "text", "the function", compulsory=True),
        Keyword("PERIODIC", "domain", "NO, or the domain min,max of the result", compulsory=True),
        Keyword("VAR", "texts", "names of the arguments in FUNC; x,y,z if absent"),
    )

    def __init__(self, given: Given) -> None:
        super().__init__(given)
        options = given.options
        self.output = domain_value(self.label, "", options["PERIODIC"])
        names = options["VAR"]
        if names is None:
            if len(self.arguments) > 3:
                raise self.error("VAR", "more than three arguments need names: VAR=a,b,c,d")
            names = ("x", "y", "z")[: len(self.arguments)]
        self.names: tuple[str, ...] = names
        try:
            self.function = read_expression(options["FUNC"], names)
        except NotNativeError as error:
            raise self.not_native(f"FUNC={options['FUNC']}", str(error)) from None
        except ValueError as error:
            raise self.error(f"FUNC={options['FUNC']}", str(error)) from None

    @property
    def outputs(self) -> tuple[Value, ...]:
        return (self.output,)

    def value(self, arguments: list[Any]) -> Any:
        named = dict(zip(self.names, arguments, strict=True))
        return self.output.wrap(self.function.value(named) + arguments[0] * 0)

    def slopes(self, index: int, arguments: list[float]) -> list[float]:
        return expression_slopes(self.function, self.names, arguments)

    def expression(self, arguments: list[str], index: int = 0) -> str:
        text = self.function.text(dict(zip(self.names, arguments, strict=True)))
        return _wrapped(f"({text})", self.output)


class Matheval(Custom):
    """The older name of CUSTOM."""

    name = "MATHEVAL"
    summary = "the older name of CUSTOM"


class Constant(Function):
    """A number, or several as ``.v-0``, ``.v-1`` ..."""

    name = "CONSTANT"
    summary = "a number, or several"
    keywords = (
        Keyword("VALUE", "real", "the number"),
        Keyword("VALUES", "numbers", "the numbers, if VALUE is not given"),
        Keyword("SCALARS", "flag", "several numbers are values .v-0, .v-1 ..."),
        Keyword("NOLOG", "flag", "accepted"),
    )

    def __init__(self, given: Given) -> None:
        super().__init__(given)
        options = given.options
        single, several = options["VALUE"], options["VALUES"]
        if (single is None) == (not several):
            raise self.error(self.name, "give VALUE or VALUES")
        self.numbers: tuple[float, ...] = several or (single,)
        if len(self.numbers) > 1 and not options["SCALARS"]:
            raise self.not_native("VALUES", "a vector is not native, but SCALARS is")

    @property
    def outputs(self) -> tuple[Value, ...]:
        if len(self.numbers) == 1:
            return (Value(self.label),)
        return tuple(Value(f"{self.label}.v-{i}") for i in range(len(self.numbers)))

    def values(self, arguments: list[Any]) -> tuple[Any, ...]:
        return tuple(np.float64(number) for number in self.numbers)

    def slopes(self, index: int, arguments: list[float]) -> list[float]:
        return []

    def expression(self, arguments: list[str], index: int = 0) -> str:
        return f"({self.numbers[index]!r})"


def _wrapped(text: str, value: Value) -> str:
    """An expression brought into the domain of a value."""
    if value.domain is None:
        return text
    lower, period = value.domain[0], value.period
    return f"({text}-{period!r}*floor(({text}-({lower!r}))/{period!r}))"
