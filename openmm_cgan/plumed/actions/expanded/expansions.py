"""What an ECV_ action is: its values, the states that they are expanded in, and their energies."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np

from openmm_cgan.plumed.actions.action import Given, Keyword
from openmm_cgan.plumed.actions.functions import Function
from openmm_cgan.plumed.actions.run_keywords import TEMP
from openmm_cgan.plumed.actions.values import Value

EXPANSION_KEYWORDS = (
    Keyword("ARG", "arguments", "the values that are expanded", compulsory=True),
    TEMP,
)
MAX_STATES = 100_000


@dataclass(frozen=True)
class ExpansionOptions:
    """What all expansions are told.

    Attributes
    ----------
    temp : float or None
        Temperature [K]; None for that of the run.
    """

    temp: float | None


class Expansion(Function):
    """Values, which it hands on as they are, and the states of an OPES_EXPANDED along them.

    State k has the reduced energy ``u_k``, a sum over the values, relative to the run's.
    """

    def __init__(self, given: Given) -> None:
        super().__init__(given)
        self.options = ExpansionOptions(given.options["TEMP"])
        if not self.arguments:
            raise self.error("ARG", "no argument is given")

    # ---- the values

    @property
    def outputs(self) -> tuple[Value, ...]:
        return tuple(replace(v, name=f"{self.label}.{v.name}") for v in self.arguments)

    def values(self, arguments: list[Any]) -> tuple[Any, ...]:
        return tuple(arguments)

    def slopes(self, index: int, arguments: list[float]) -> list[float]:
        return [float(i == index) for i in range(len(arguments))]

    def expression(self, arguments: list[str], index: int = 0) -> str:
        return arguments[index]

    # ---- the states

    @property
    def names(self) -> list[str] | None:
        """Names of the states, once they are known."""
        raise NotImplementedError

    def start(self, kt: float) -> None:
        """Take kT [energy unit of the input]."""
        raise NotImplementedError

    def choose(self, observed: np.ndarray) -> None:
        """Choose the states by what an unbiased run has seen, where they are not given.

        Parameters
        ----------
        observed : ndarray, shape (n_observations, n_arguments)
        """

    n_counts: ClassVar[int] = 1  # numbers that tell how many states there are

    @property
    def counts(self) -> list[int]:
        """These numbers, of length `n_counts`."""
        return [len(self.names or ())]

    def choose_number(self, number: int) -> None:
        """Choose as many states as an earlier run has chosen: by its `counts`."""

    def choose_like(self, names: list[str]) -> None:
        """Choose the states whose names an earlier run has written."""
        self.choose_number(len(names))

    def reduced(self, arguments: Sequence[Any]) -> list[Any]:
        """What each value adds to the reduced energies of the states.

        Parameters
        ----------
        arguments : sequence of float, or of ndarray, shape (...), length n_arguments

        Returns
        -------
        list of ndarray, shape (..., n_states), length n_arguments
        """
        raise NotImplementedError

    def reduced_slopes(self, arguments: Sequence[float]) -> list[np.ndarray]:
        """Slopes of `reduced` along each value at one point, shape (n_states,) each."""
        raise NotImplementedError

    def guessed(self, arguments: Sequence[float]) -> np.ndarray:
        """A first guess of the reduced energies from one observation, shape (n_states,)."""
        return np.sum(self.reduced(arguments), axis=0)
