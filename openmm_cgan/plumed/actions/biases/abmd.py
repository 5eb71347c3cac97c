"""ABMD: a ratchet, which lets a value come nearer to a target and holds it back from going away.

Marchi, Ballone, doi 10.1063/1.478259. Where a step comes nearer than all before there is no force;
PLUMED up to 2.11 goes on with that of the last step that had one.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from openmm_cgan.checkpoints import saved_array
from openmm_cgan.plumed.actions.action import Given, Keyword
from openmm_cgan.plumed.actions.biases.bias import ARG, Bias
from openmm_cgan.plumed.actions.biases.noise import NormalDeviates
from openmm_cgan.plumed.actions.values import Value
from openmm_cgan.plumed.input.expressions import namespace


class Abmd(Bias):
    """``KAPPA/2 (rho - rho_min)^2`` where ``rho = (s - TO)^2`` is above the least that it was.

    Attributes
    ----------
    least : list of float
        That for each argument; negative before the first step.
    noise : list of float
        What is added to it where it holds at the step that comes.
    """

    in_python = True
    name = "ABMD"
    summary = "ratchet towards a target"
    keywords = (
        ARG,
        Keyword("TO", "reals", "target for each argument", compulsory=True),
        Keyword("KAPPA", "reals", "force constant for each argument", compulsory=True),
        Keyword("MIN", "reals", "the least squared distance to begin with"),
        Keyword(
            "NOISE", "reals", "how much the least is moved at random at each step", default=0.0
        ),
        Keyword("SEED", "integers", "of the random numbers of each argument"),
    )

    def __init__(self, given: Given) -> None:
        super().__init__(given)
        options = given.options
        self._strength: list[float] = list(options["NOISE"])
        if any(self._strength) and options["SEED"] is None:
            message = "natively with SEED=: without one PLUMED takes the time of the day"
            raise self.not_native("NOISE", message)
        self._deviates = [NormalDeviates(seed) for seed in options["SEED"] or ()]
        self.noise = [self._draw(i) for i in range(len(self.arguments))]
        self.to: tuple[float, ...] = options["TO"]
        self.kappa: tuple[float, ...] = options["KAPPA"]
        self.least = list(options["MIN"] or (-1.0,) * len(self.arguments))

    @property
    def outputs(self) -> tuple[Value, ...]:
        least = (Value(f"{self.label}.{value.name}_min") for value in self.arguments)
        return (*super().outputs, *least, Value(f"{self.label}.force2"))

    def _draw(self, i: int) -> float:
        strength = self._strength[i]
        return 2 * self._deviates[i].draw() * strength if strength > 0 else 0.0

    def _away(self, i: int, x: Any) -> tuple[Any, Any, Any]:
        """Distance from the target, its square, and how far that is above the least that holds."""
        way = self.arguments[i].difference(self.to[i], x)
        square = way * way
        held = (square >= self.least[i]) & (self.least[i] >= 0)
        above = square - (self.least[i] + self.noise[i])
        return way, square, namespace(above).where(held, above, above * 0)

    def energy(self, arguments: list[Any]) -> Any:
        heights = [self._away(i, x)[2] for i, x in enumerate(_arrays(arguments))]
        return sum(0.5 * k * above**2 for above, k in zip(heights, self.kappa, strict=True))

    def values(self, arguments: list[Any]) -> tuple[Any, ...]:
        least, force2 = [], 0.0
        for i, (x, kappa) in enumerate(zip(_arrays(arguments), self.kappa, strict=True)):
            way, square, above = self._away(i, x)
            least.append(square - above)
            force2 = force2 + (2 * kappa * above * way) ** 2
        return (self.energy(arguments), *least, force2)

    def energy_and_slopes(self, arguments: list[float], step: int = 0) -> tuple[float, list[float]]:
        """Energy and slopes of one point, as `Bias` has them."""
        energy, slopes = 0.0, []
        for i, (x, kappa) in enumerate(zip(arguments, self.kappa, strict=True)):
            way, _, above = self._away(i, np.float64(x))
            energy += 0.5 * kappa * float(above) ** 2
            slopes.append(2 * kappa * float(above) * float(way))
        return energy, slopes

    def accumulate(self, arguments: list[float]) -> None:
        """Take note of a step: call it once at every one, with arguments of length n_arguments."""
        for i, x in enumerate(arguments):
            square = float(self.arguments[i].difference(self.to[i], x)) ** 2
            if self.least[i] < 0 or square < self.least[i]:
                self.least[i] = square
            else:
                self.least[i] += self.noise[i]
            if square <= self._strength[i]:  # so near there is none any more
                self._strength[i] = 0.0
            self.noise[i] = self._draw(i)

    def saved(self) -> dict[str, np.ndarray]:
        kept = {"least": np.array(self.least)}
        if self._deviates:
            kept |= {"noise": np.array(self.noise), "strength": np.array(self._strength)}
            kept["deviates"] = np.array([one.saved() for one in self._deviates])
        return kept

    def restore_saved(self, arrays: dict[str, np.ndarray]) -> None:
        n = len(self.arguments)
        self.least = saved_array(arrays, "least", (n,)).tolist()
        if self._deviates:
            self.noise = saved_array(arrays, "noise", (n,)).tolist()
            self._strength = saved_array(arrays, "strength", (n,)).tolist()
            states = saved_array(arrays, "deviates", (n, None))
            for one, state in zip(self._deviates, states, strict=True):
                one.restore_saved(state)


def _arrays(arguments: list[Any]) -> list[Any]:
    return [np.asarray(x) if isinstance(x, float) else x for x in arguments]
