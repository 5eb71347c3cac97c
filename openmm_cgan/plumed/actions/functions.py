"""Functions of other values: COMBINE, CUSTOM (MATHEVAL), CONSTANT."""

from __future__ import annotations

from typing import Any

import numpy as np

from openmm_cgan.plumed.actions.action import Action, Given, Keyword, Scope
from openmm_cgan.plumed.actions.values import Value, domain_value, elements_of, spans_of
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


class FunctionOfVectors(Function):
    """A function of numbers that is one of vectors too, for each of their elements.

    Attributes
    ----------
    output : Value
        Of numbers.
    rows : list of list of int
        Which arguments each output is of.
    """

    takes_vectors = True
    output: Value
    rows: list[list[int]]

    def _take_rows(self) -> None:
        """Find the arguments of each output.

        Raises
        ------
        PlumedInputError
            If vectors are not of one length.
        """
        spans = spans_of(self.arguments)
        is_vector = [bool(self.arguments[span.start].vector) for span in spans]
        lengths = {len(span) for span, it_is in zip(spans, is_vector, strict=True) if it_is}
        if len(lengths) > 1:
            raise self.error("ARG", f"vectors of different lengths: {sorted(lengths)}")
        self.of_vectors, n = any(is_vector), max(lengths, default=1)
        each = list(zip(spans, is_vector, strict=True))
        self.rows = [[span[k] if it_is else span[0] for span, it_is in each] for k in range(n)]
        if self.of_vectors and self.output.domain is not None:
            raise self.not_native("PERIODIC", "of vectors it is natively NO")

    def enter(self, scope: Scope) -> None:
        super().enter(scope)
        if self.of_vectors:
            scope.vectors[self.label] = self
            for value in self.outputs:
                del scope.named[value.name]

    def vector(self, name: str) -> tuple[Value, ...]:
        return self.outputs

    @property
    def outputs(self) -> tuple[Value, ...]:
        if not self.of_vectors:
            return (self.output,)
        return elements_of(self.label, self.output.unit, len(self.rows))

    def values(self, arguments: list[Any]) -> tuple[Any, ...]:
        return tuple(self.value([arguments[i] for i in row]) for row in self.rows)

    def slopes(self, index: int, arguments: list[float]) -> list[float]:
        row, found = self.rows[index], [0.0] * len(arguments)
        for i, own in zip(row, self.own_slopes([arguments[i] for i in row]), strict=True):
            found[i] += own
        return found

    def own_slopes(self, arguments: list[float]) -> list[float]:
        """Slopes along the arguments of one output."""
        raise NotImplementedError

    def expression(self, arguments: list[str], index: int = 0) -> str:
        return self.own_expression([arguments[i] for i in self.rows[index]])

    def own_expression(self, arguments: list[str]) -> str:
        """An output as an expression of OpenMM's in expressions of its own arguments."""
        raise NotImplementedError


class Combine(FunctionOfVectors):
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
        self._take_rows()
        first = self.rows[0]
        self._own = [self.arguments[i] for i in first]
        self.parameters = tuple(options["PARAMETERS"][i] for i in first)
        self.powers = tuple(options["POWERS"][i] for i in first)
        coefficients = [options["COEFFICIENTS"][i] for i in first]
        total = sum(coefficients) if options["NORMALIZE"] else 1.0
        if total == 0:
            raise self.error("NORMALIZE", "the coefficients add up to zero")
        self.coefficients = tuple(c / total for c in coefficients)

    def value(self, arguments: list[Any]) -> Any:
        total = 0.0
        for i, argument in enumerate(self._own):
            shifted = argument.difference(self.parameters[i], arguments[i])
            total = total + self.coefficients[i] * shifted ** self.powers[i]
        return self.output.wrap(total)

    def own_slopes(self, arguments: list[float]) -> list[float]:
        found = []
        for i, argument in enumerate(self._own):
            shifted = np.float64(argument.difference(self.parameters[i], arguments[i]))
            power = self.powers[i]
            with np.errstate(all="ignore"):  # infinite or NaN where PLUMED's is
                found.append(float(self.coefficients[i] * power * shifted ** (power - 1)))
        return found

    def own_expression(self, arguments: list[str]) -> str:
        terms = []
        for i, argument in enumerate(self._own):
            shifted = argument.difference_text(f"({self.parameters[i]!r})", arguments[i])
            power = "" if self.powers[i] == 1 else f"^({self.powers[i]!r})"
            terms.append(f"({self.coefficients[i]!r})*{shifted}{power}")
        return _wrapped(f"({'+'.join(terms)})", self.output)


def _common_unit(arguments: tuple[Value, ...]) -> str:
    units = {argument.unit for argument in arguments}
    return units.pop() if len(units) == 1 else ""


class Custom(FunctionOfVectors):
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
        self._take_rows()
        names = options["VAR"]
        if names is None:
            if len(self.rows[0]) > 3:
                raise self.error("VAR", "more than three arguments need names: VAR=a,b,c,d")
            names = ("x", "y", "z")[: len(self.rows[0])]
        else:
            names = tuple(names[i] for i in self.rows[0])
        self.names: tuple[str, ...] = names
        try:
            self.function = read_expression(options["FUNC"], names)
        except NotNativeError as error:
            raise self.not_native(f"FUNC={options['FUNC']}", str(error)) from None
        except ValueError as error:
            raise self.error(f"FUNC={options['FUNC']}", str(error)) from None

    def value(self, arguments: list[Any]) -> Any:
        named, first = dict(zip(self.names, arguments, strict=True)), arguments[0]
        found = self.function.value(named)
        if _kind_of(found) != _kind_of(first):  # a constant, say: one for each frame
            found = found + first * 0
        return self.output.wrap(found)

    def own_slopes(self, arguments: list[float]) -> list[float]:
        return expression_slopes(self.function, self.names, arguments)

    def own_expression(self, arguments: list[str]) -> str:
        text = self.function.text(dict(zip(self.names, arguments, strict=True)))
        return _wrapped(f"({text})", self.output)


def _kind_of(x: Any) -> tuple[tuple[int, ...], bool]:
    """The shape of a number or array, and whether autograd follows it."""
    return tuple(getattr(x, "shape", ())), bool(getattr(x, "requires_grad", False))


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
