"""OPES_EXPANDED: a bias under which one run samples many states.

Invernizzi, Piaggi, Parrinello, doi 10.1103/PhysRevX.10.041034. With u_k the reduced energies of n
states and dF_k their free energies as far as they are known, the bias is
``-kT log(sum_k exp(-u_k + dF_k / kT) / n)``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import reduce
from typing import Any

import numpy as np

from openmm_cgan.checkpoints import saved_array
from openmm_cgan.plumed.actions.action import Given, Scope
from openmm_cgan.plumed.actions.biases.bias import Bias
from openmm_cgan.plumed.actions.expanded.expansions import MAX_STATES, Expansion
from openmm_cgan.plumed.actions.expanded.options import EXPANDED_KEYWORDS, read_expanded
from openmm_cgan.plumed.actions.values import Value


class OpesExpanded(Bias):
    """A bias towards many states.

    Attributes
    ----------
    options : ExpandedOptions
    expansions : tuple of Expansion
        Whose states it combines, each with each.
    free_energies : ndarray, shape (n_states,)
        Their estimates [energy unit of the input]; empty before they are known.
    rct : float
        c(t) [energy unit of the input].
    counter : int
        Updates, or observations where there is no bias yet.
    kt : float
        [energy unit of the input]
    """

    in_python = True
    name = "OPES_EXPANDED"
    summary = "one run that samples many states: temperatures, windows, multiples of energies"
    keywords = EXPANDED_KEYWORDS

    def __init__(self, given: Given) -> None:
        super().__init__(given)
        self.options = read_expanded(given)
        self.expansions: tuple[Expansion, ...] = ()
        self.free_energies = np.empty(0)
        self.rct = self.work = 0.0
        self.counter = 0
        self.kt = math.nan
        self._observed: list[list[float]] = []

    def enter(self, scope: Scope) -> None:
        found: list[Expansion] = []
        names = [value.name for value in self.arguments]
        while names:
            owner = scope.actions.get(names[0].partition(".")[0])
            if not isinstance(owner, Expansion):
                raise self.error("ARG", f"{names[0]} is no value of an ECV_ action")
            own = [value.name for value in owner.outputs]
            if names[: len(own)] != own or owner in found:
                raise self.error("ARG", f"expected all values of {owner.label}, in order, once")
            found.append(owner)
            names = names[len(own) :]
        self.expansions = tuple(found)
        super().enter(scope)

    @property
    def outputs(self) -> tuple[Value, ...]:
        work = (Value(f"{self.label}.work", "energy"),) if self.options.calc_work else ()
        return (*super().outputs, *work)

    @property
    def state_names(self) -> list[tuple[str, ...]]:
        """Of each state, what its expansions call theirs."""
        names: list[tuple[str, ...]] = [()]
        for expansion in self.expansions:
            own = expansion.names
            assert own is not None
            names = [(*before, name) for before in names for name in own]
        return names

    def start(self, kt: float) -> None:
        """Take kT [energy unit of the input]."""
        self.kt = kt
        for expansion in self.expansions:
            expansion.start(kt)

    # ---- values

    def _split(self, arguments: Sequence[Any]) -> list[Sequence[Any]]:
        """The arguments of each expansion."""
        parts, first = [], 0
        for expansion in self.expansions:
            parts.append(arguments[first : first + len(expansion.arguments)])
            first += len(expansion.arguments)
        return parts

    def _reduced(self, arguments: Sequence[Any]) -> Any:
        """Reduced energies of all states, shape (..., n_states)."""
        parts = zip(self.expansions, self._split(arguments), strict=True)
        return _combined([np.sum(e.reduced(x), axis=0) for e, x in parts])

    def energy(self, arguments: list[Any]) -> Any:
        if not len(self.free_energies):
            return np.asarray(arguments[0], dtype=float) * 0.0
        exponents = self.free_energies / self.kt - self._reduced(arguments)
        highest = exponents.max(axis=-1)
        total = np.exp(exponents - highest[..., None]).mean(axis=-1)
        return -self.kt * (highest + np.log(total))

    def values(self, arguments: list[Any]) -> tuple[Any, ...]:
        bias = self.energy(arguments)
        return (bias, self.work + 0 * bias) if self.options.calc_work else (bias,)

    def energy_and_slopes(self, arguments: list[float], step: int = 0) -> tuple[float, list[float]]:
        """Energy of one point and its slopes, as `Bias` has them."""
        n = len(self.free_energies)
        if not n:
            return 0.0, [0.0] * len(arguments)
        exponents = self.free_energies / self.kt - self._reduced(arguments)
        highest = exponents.max()
        weights = np.exp(exponents - highest)
        total = weights.sum()
        sizes = [len(expansion.names or ()) for expansion in self.expansions]
        parts, slopes = self._split(arguments), []
        for k, (expansion, own) in enumerate(zip(self.expansions, parts, strict=True)):
            others = tuple(i for i in range(len(sizes)) if i != k)
            along = weights.reshape(sizes).sum(axis=others)
            slopes += [float(along @ s) for s in expansion.reduced_slopes(own)]
        energy = float(-self.kt * (highest + math.log(total / n)))
        return energy, [self.kt * slope / float(total) for slope in slopes]

    # ---- updates

    def observe(self, arguments: list[float]) -> bool:
        """Take an observation without bias; return whether the states are known now.

        Raises
        ------
        ValueError
            If there would be too many.
        """
        self._observed.append(list(arguments))
        self.counter += 1
        if self.counter < self.options.observations:
            return False
        observed = np.array(self._observed)
        first = 0
        for expansion in self.expansions:
            last = first + len(expansion.arguments)
            expansion.choose(observed[:, first:last])
            first = last
        self._require_few()
        self._begin_with(observed)
        self._observed.clear()
        self.counter = 1
        return True

    def _require_few(self) -> None:
        count = math.prod(len(expansion.names or ()) for expansion in self.expansions)
        if count > MAX_STATES:
            where = f"{self.statement.location}: {self.name} {self.label}"
            raise ValueError(f"{where}: {count} states; at most {MAX_STATES}: give fewer steps")

    def _begin_with(self, observed: np.ndarray) -> None:
        """Free energies from observations, shape (n_observations, n_arguments)."""
        parts = zip(self.expansions, self._split(observed[0].tolist()), strict=True)
        found = self.kt * _combined([expansion.guessed(x) for expansion, x in parts])
        for t, arguments in enumerate(observed[1:].tolist(), start=1):
            excess = found / self.kt - self._reduced(arguments) - math.log(t)
            found -= self.kt * (np.logaddexp(0.0, excess) + math.log1p(-1 / (1 + t)))
        self.free_energies = found

    def update(self, arguments: list[float], bias: float) -> None:
        """Update the free energies by this step.

        Parameters
        ----------
        arguments : list of float, length n_arguments
        bias : float
            The bias here [energy unit of the input].
        """
        self.counter += 1
        earlier = math.log(self.counter - 1)
        weight = (bias - self.rct) / self.kt
        increment = self.kt * float(np.logaddexp(0.0, weight - earlier))
        excess = weight + self.free_energies / self.kt - self._reduced(arguments) - earlier
        self.free_energies = self.free_energies + (increment - self.kt * np.logaddexp(0.0, excess))
        self.rct += increment + self.kt * math.log1p(-1 / self.counter)
        if self.options.calc_work:
            self.work += float(self.energy(arguments)) - bias

    def go_on_with(self, names: list[tuple[str, ...]], numbers: np.ndarray, source: str) -> None:
        """Take over states of an earlier run.

        Parameters
        ----------
        names : list of tuple of str
            Of the states, as `state_names` has them.
        numbers : ndarray, shape (n_states,)
            Their free energies [energy unit of the input].
        source : str
            Where they are from, for the message.

        Raises
        ------
        ValueError
            If they are of other expansions.
        """
        for i, expansion in enumerate(self.expansions):
            expansion.choose_like(list(dict.fromkeys(name[i] for name in names)))
        if self.state_names != names:
            raise ValueError(f"{source} has other states than {self.name} {self.label}")
        self.free_energies = np.array(numbers, dtype=float)
        self._observed.clear()

    # ---- with a checkpoint

    def saved(self) -> dict[str, np.ndarray]:
        n = len(self.arguments)
        known = self.expansions if len(self.free_energies) else ()
        sizes = [count for expansion in known for count in expansion.counts]
        return {
            "free_energies": self.free_energies,
            "sizes": np.array(sizes, dtype=int),
            "observed": np.array(self._observed, dtype=float).reshape(-1, n),
            "numbers": np.array([self.rct, self.work, self.counter]),
        }

    def restore_saved(self, arrays: dict[str, np.ndarray]) -> None:
        sizes = saved_array(arrays, "sizes", (None,)).astype(int).tolist()
        expected = 1 if sizes else 0
        for expansion in self.expansions if sizes else ():
            own, sizes = sizes[: expansion.n_counts], sizes[expansion.n_counts :]
            expansion.choose_number(*own)
            expected *= len(expansion.names or ())
        self.free_energies = saved_array(arrays, "free_energies", (expected,), finite=True)
        n = len(self.arguments)
        self._observed = saved_array(arrays, "observed", (None, n), finite=True).tolist()
        rct, work, counter = saved_array(arrays, "numbers", (3,), finite=True).tolist()
        self.rct, self.work, self.counter = rct, work, int(counter)


def _combined(energies: list[Any]) -> Any:
    """Energies of each state with each, shape (..., n_states), of those of each expansion."""

    def outer(a: Any, b: Any) -> Any:
        total = a[..., :, None] + b[..., None, :]
        return total.reshape(*total.shape[:-2], -1)

    return reduce(outer, energies)
