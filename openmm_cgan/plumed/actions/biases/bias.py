"""What biases share, and those that are a sum of one term for each argument.

Each term is written twice: as a number, batched, for numpy and torch; and as an expression with
parameters for OpenMM. All energies here are in the units of the input.
"""

from __future__ import annotations

from typing import Any, ClassVar

from openmm_cgan.plumed.actions.action import Action, Given, Keyword
from openmm_cgan.plumed.actions.values import Value, spans_of

ARG = Keyword("ARG", "arguments", "the values that it acts on", compulsory=True)
AT = Keyword("AT", "reals", "centre for each argument", compulsory=True)
STRIDE = Keyword("STRIDE", "integer", "act every so many steps, so many times as hard", default=1)


class Bias(Action):
    """An energy added to the system's.

    Attributes
    ----------
    in_python : bool
        Whether OpenMM calls `energy_and_slopes` for its force, as no expression or table holds it.
    stride : int
        Steps from one at which it acts to the next, where it is as many times as strong: multiple
        time steps, doi 10.1021/ct5007086.
    """

    in_python: ClassVar[bool] = False

    def __init__(self, given: Given) -> None:
        super().__init__(given)
        self.stride: int = given.options.get(STRIDE.name, 1)
        if self.stride <= 0:
            raise self.error("STRIDE", "must be positive")

    def weight(self, step: int) -> int:
        """What its force is multiplied with at a step: `stride` where it acts, else 0."""
        return 0 if step % self.stride else self.stride

    @property
    def outputs(self) -> tuple[Value, ...]:
        return (Value(f"{self.label}.bias", "energy"),)

    @property
    def of_vectors(self) -> bool:
        """Whether its arguments are elements of vectors, which it adds up over."""
        return any(value.vector for value in self.arguments)

    def energy(self, arguments: list[Any]) -> Any:
        """Energy for values of the arguments.

        Parameters
        ----------
        arguments : list of float, ndarray or tensor, shape (...) each
            In the units of the input.

        Returns
        -------
        float, ndarray or tensor, shape (...)
            [energy unit of the input]
        """
        raise NotImplementedError

    def values(self, arguments: list[Any]) -> tuple[Any, ...]:
        """All outputs, in order, of shape (...) each; parameters as of `energy`."""
        return (self.energy(arguments),)

    def energy_and_slopes(self, arguments: list[float], step: int = 0) -> tuple[float, list[float]]:
        """Energy, and its slope along each argument, at a step.

        Parameters
        ----------
        arguments : list of float, length n_arguments

        Returns
        -------
        float
            [energy unit of the input]
        list of float, length n_arguments
            [energy unit over units of the arguments]
        """
        raise NotImplementedError


class SeparableBias(Bias):
    """A bias with one term for each argument, and the squared force on them as ``force2``."""

    def term(self, i: int, x: Any) -> Any:
        """Energy of argument `i` at `x`, both of shape (...) [energy unit of the input]."""
        raise NotImplementedError

    def force(self, i: int, x: Any) -> Any:
        """Minus the slope of `term` [energy unit over unit of the argument], shape (...)."""
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

    def energy_and_slopes(self, arguments: list[float], step: int = 0) -> tuple[float, list[float]]:
        """Energy of a single frame, and its slopes along the arguments.

        Parameters
        ----------
        arguments : list of float, length n_arguments
        step : int
            Of the run, for what moves with it.

        Returns
        -------
        float
            [energy unit of the input]
        list of float, length n_arguments
            [energy unit over units of the arguments]
        """
        slopes = [-float(self.force(i, x)) for i, x in enumerate(arguments)]
        return float(self.energy(arguments)), slopes


def check_vectors(bias: SeparableBias) -> None:
    """Check that all arguments are numbers or all are vectors, each vector once.

    Raises
    ------
    PlumedInputError
    """
    names = [bias.arguments[span.start].vector for span in spans_of(bias.arguments)]
    if not any(names):
        return
    if not all(names):
        raise bias.error("ARG", "vectors and numbers together; give each a bias of its own")
    if len(set(names)) < len(names):
        raise bias.error("ARG", "a vector is named twice")
    if bias.stride != 1:
        raise bias.not_native("STRIDE", "of a bias on a vector it is natively 1")
