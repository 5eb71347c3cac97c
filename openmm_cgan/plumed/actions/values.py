"""Values that actions give: numbers, the elements of vectors, and their periodic domains."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from openmm_cgan.plumed.input.expressions import namespace
from openmm_cgan.plumed.input.words import read_real


@dataclass(frozen=True)
class Value:
    """One number that an action gives: its full name, unit and periodic domain.

    `domain_text` is the domain as it was written, which is how PLUMED prints it; `vector` the
    name of the vector that it is an element of, if it is one.
    """

    name: str
    unit: str = ""
    domain: tuple[float, float] | None = None
    domain_text: tuple[str, str] | None = None
    vector: str = ""

    @property
    def period(self) -> float | None:
        """Length of the periodic domain, or None."""
        return None if self.domain is None else self.domain[1] - self.domain[0]

    def difference(self, reference: Any, value: Any) -> Any:
        """``value - reference``, the shortest way round.

        Parameters
        ----------
        reference, value : float, ndarray or tensor, shapes that broadcast
            [unit of the value]

        Returns
        -------
        float, ndarray or tensor
            Of the broadcast shape [unit of the value].
        """
        delta = value - reference
        if self.period is None:
            return delta
        return delta - self.period * namespace(delta).floor(delta / self.period + 0.5)

    def wrap(self, value: Any) -> Any:
        """Bring a float, ndarray or tensor of any shape into the domain [unit of the value]."""
        if self.domain is None:
            return value
        lower, period = self.domain[0], self.domain[1] - self.domain[0]
        return value - period * namespace(value).floor((value - lower) / period)

    def difference_text(self, reference: str, value: str) -> str:
        """The same difference as an expression of OpenMM's."""
        delta = f"({value}-{reference})"
        if self.period is None:
            return delta
        return f"({delta}-{self.period!r}*floor({delta}/{self.period!r}+0.5))"


def elements_of(name: str, unit: str, n: int) -> tuple[Value, ...]:
    """The elements of a vector under the names that PLUMED prints: its own if there is one."""
    if n == 1:
        return (Value(name, unit, vector=name),)
    return tuple(Value(f"{name}.{k}", unit, vector=name) for k in range(1, n + 1))


def spans_of(arguments: tuple[Value, ...]) -> list[range]:
    """Which values each argument is, as it was written: a number, or the elements of a vector."""
    spans: list[range] = []
    for i, value in enumerate(arguments):
        last = arguments[spans[-1].start] if spans else None
        goes_on = last is not None and value.vector == last.vector != "" and value != last
        if goes_on:
            spans[-1] = range(spans[-1].start, i + 1)
        else:
            spans.append(range(i, i + 1))
    return spans


def domain_value(name: str, unit: str, limits: tuple[str, str] | None) -> Value:
    """Build the value with the domain that a PERIODIC keyword declares."""
    value = Value(name, unit)
    if limits is None:
        return value
    return replace(value, domain=(read_real(limits[0]), read_real(limits[1])), domain_text=limits)
