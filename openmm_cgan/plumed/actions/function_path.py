"""FUNCPATHMSD: the path through models whose squared distances are given, as values.

Branduardi, Gervasio, Parrinello, doi 10.1063/1.2432340. The largest weight is taken out of sums,
which are those of PLUMED where its own do not underflow.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from openmm_cgan.checkpoints import saved_array
from openmm_cgan.plumed.actions.action import Given, Keyword
from openmm_cgan.plumed.actions.functions import Function
from openmm_cgan.plumed.actions.values import Value
from openmm_cgan.plumed.input.expressions import namespace


class FuncPathMsd(Function):
    """``s = sum k w_k / sum w_k``, ``z = -log(sum w_k) / LAMBDA``, ``w_k = exp(-LAMBDA x_k)``."""

    name = "FUNCPATHMSD"
    summary = "the path through models whose squared distances are values"
    keywords = (
        Keyword("ARG", "arguments", "the squared distances", compulsory=True),
        Keyword("LAMBDA", "real", "how sharply models are told apart", compulsory=True),
        Keyword("NEIGH_SIZE", "integer", "sum over so many, the nearest of late; not for biases"),
        Keyword("NEIGH_STRIDE", "real", "time from one list of these to the next"),
    )

    def __init__(self, given: Given) -> None:
        super().__init__(given)
        self.sharpness: float = given.options["LAMBDA"]
        if self.sharpness == 0:
            raise self.error("LAMBDA", "must not be zero")
        size, self._interval = given.options["NEIGH_SIZE"], given.options["NEIGH_STRIDE"] or 0.0
        self.size: int = min(size or 0, len(self.arguments))
        self.is_listed = 0 < self.size < len(self.arguments)
        if self.is_listed and not self._interval > 0:
            raise self.error("NEIGH_STRIDE", "must be positive")
        self._stride = 1
        self._nearest: list[int] = []  # the list, once one is made
        self._was_whole = True  # at the last step that it was read at

    # ---- the list of a run

    def settle(self, timestep: float) -> None:
        """Take the time step [time unit of the input].

        Raises
        ------
        ValueError
            If it is longer than NEIGH_STRIDE.
        """
        self._stride = int(self._interval / timestep)
        if self._stride < 1:
            where = self.statement.location
            raise ValueError(f"{where}: NEIGH_STRIDE={self._interval:g} is below the time step")

    def counted(self, step: int) -> list[int]:
        """The arguments that count at a step, in PLUMED's order."""
        whole = list(range(len(self.arguments)))
        if not self.is_listed or not self._nearest:
            return whole
        return whole if not self._was_whole and step % self._stride == 0 else self._nearest

    def values_of_list(self, arguments: list[Any], step: int) -> tuple[Any, ...]:
        """The same as `values`, of what counts at a step."""
        index = self.counted(step)
        weights, numbers = self._weights([arguments[i] for i in index]), np.array(index) + 1.0
        return self._sums(*weights, numbers)

    def update_list(self, arguments: list[float], step: int) -> None:
        """Take note of a step that it is read at: after one with all, the nearest count."""
        self._was_whole = len(self.counted(step)) == len(self.arguments)
        if self._was_whole:
            order = np.argsort(np.array(arguments) * self.sharpness, kind="stable")
            self._nearest = order[: self.size].tolist()

    def dumped_slopes(self, index: int, arguments: list[float], step: int) -> list[float]:
        """Slopes along what counts at a step, in PLUMED's order."""
        counted = self.counted(step)
        return self._slopes(index, [arguments[i] for i in counted], np.array(counted) + 1.0)

    def saved(self) -> dict[str, np.ndarray]:
        if not self.is_listed:
            return {}
        return {"nearest": np.array(self._nearest), "was_whole": np.array(self._was_whole)}

    def restore_saved(self, arrays: dict[str, np.ndarray]) -> None:
        if self.is_listed:
            nearest = saved_array(arrays, "nearest", (None,)).astype(int).tolist()
            if len(nearest) not in (0, self.size) or any(
                not 0 <= i < len(self.arguments) for i in nearest
            ):
                raise ValueError(f"the saved list of {self.label} is not its own")
            self._nearest = nearest
            self._was_whole = bool(saved_array(arrays, "was_whole", ()).item())

    # ---- values

    @property
    def outputs(self) -> tuple[Value, ...]:
        return Value(f"{self.label}.s"), Value(f"{self.label}.z")

    def values(self, arguments: list[Any]) -> tuple[Any, ...]:
        return self._sums(*self._weights(arguments), np.arange(1.0, len(arguments) + 1))

    def _weights(self, arguments: list[Any]) -> tuple[Any, Any]:
        """The largest exponent, shape (...), and weights over its exponential, (..., n)."""
        xp = next((xp for x in arguments if (xp := namespace(x)) is not np), np)  # of any tensor
        shape = np.broadcast_shapes(*(np.shape(x) for x in arguments))
        arrays = [x if namespace(x) is xp is not np else xp.asarray(x) for x in arguments]
        exponents = -self.sharpness * xp.stack([xp.broadcast_to(x, shape) for x in arrays], -1)
        highest = xp.amax(exponents, -1)
        return highest, xp.exp(exponents - highest[..., None])

    def _sums(self, highest: Any, weights: Any, numbers: np.ndarray) -> tuple[Any, ...]:
        xp = namespace(weights)
        total = weights.sum(-1)
        s = (xp.asarray(numbers) * weights).sum(-1) / total
        return s, -(highest + xp.log(total)) / self.sharpness

    def slopes(self, index: int, arguments: list[float]) -> list[float]:
        return self._slopes(index, arguments, np.arange(1.0, len(arguments) + 1))

    def _slopes(self, index: int, arguments: list[float], numbers: np.ndarray) -> list[float]:
        exponents = -self.sharpness * np.array(arguments)
        weights = np.exp(exponents - exponents.max())
        shares = weights / weights.sum()
        if index == 1:
            return [float(share) for share in shares]
        s = float(shares @ numbers)
        return [float(x) for x in self.sharpness * shares * (s - numbers)]

    def expression(self, arguments: list[str], index: int = 0) -> str:
        # far from the path all would be zero, on a GPU soon; what has no slope changes none
        scaled = [f"({self.sharpness!r})*({x})" for x in arguments]
        least = f"floor({_least(scaled)})"
        weights = [f"exp({least}-{x})" for x in scaled]
        total = "+".join(weights)
        if index == 1:
            return f"(({least}-log({total}))/({self.sharpness!r}))"
        return f"(({'+'.join(f'{k}*{w}' for k, w in enumerate(weights, start=1))})/({total}))"


def _least(texts: list[str]) -> str:
    """The least of some expressions, as one of OpenMM's."""
    half = len(texts) // 2
    return f"min({_least(texts[:half])},{_least(texts[half:])})" if half else texts[0]
