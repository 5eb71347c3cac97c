"""MOVINGRESTRAINT: a harmonic restraint whose centre and strength are moved along the run.

Between steps the centre jumps from where it was to where it is due; the work of each jump is taken
by the trapezoid rule, as PLUMED does. Jarzynski, doi 10.1103/PhysRevLett.78.2690.
"""

from __future__ import annotations

import logging
import math
from bisect import bisect_right
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from openmm_cgan.checkpoints import saved_array
from openmm_cgan.plumed.actions.action import Given, Keyword
from openmm_cgan.plumed.actions.biases.bias import ARG, STRIDE, SeparableBias
from openmm_cgan.plumed.actions.values import Value
from openmm_cgan.plumed.input.expressions import namespace

log = logging.getLogger("openmm_cgan")


Floats = tuple[float, ...]  # one for each argument


@dataclass(frozen=True)
class _Memory:
    """What the work of the next step depends on."""

    at: Floats
    kappa: Floats
    force: Floats
    half_square: Floats


class MovingRestraint(SeparableBias):
    """``KAPPA(t)/2 (s - AT(t))^2``, linear in the step between those that are given."""

    in_python = True
    name = "MOVINGRESTRAINT"
    summary = "harmonic restraint that moves with the steps"
    keywords = (
        ARG,
        Keyword("STEP", "integer", "steps at which AT and KAPPA are reached", first=0),
        Keyword("AT", "reals", "centre at that step", first=0, sparse=True),
        Keyword("KAPPA", "reals", "force constant at that step", first=0, sparse=True),
        Keyword("VERSE", "texts", "B, or only above (U) or below (L) the centre"),
        STRIDE,
    )

    def __init__(self, given: Given) -> None:
        super().__init__(given)
        options = given.options
        self.steps: tuple[int, ...] = options["STEPi"]
        if not self.steps:
            raise self.error("STEP0", "the keyword STEP0= is missing")
        if any(late < early for early, late in pairwise(self.steps)):
            raise self.error("STEP", "the steps must always increase")
        n = len(self.arguments)
        self._centres = self._filled("AT", options["ATi"])
        self._strengths = self._filled("KAPPA", options["KAPPAi"])
        self._ways = [  # from one centre to the next, the shorter way round
            [float(v.difference(a, b)) for v, a, b in zip(self.arguments, *ends, strict=True)]
            for ends in pairwise(self._centres)
        ]
        self.verse: tuple[str, ...] = options["VERSE"] or ("B",) * n
        for word in self.verse:
            if word not in ("B", "U", "L"):
                raise self.error("VERSE", f"'{word}' is neither B, U nor L")
        if set(self.verse) != {"B"}:
            log.warning(
                "%s: MOVINGRESTRAINT with VERSE=U or L: the force ends natively where the "
                "restraint does; PLUMED up to 2.11 goes on with the last one",
                self.statement.location,
            )
        self._periods = [value.period for value in self.arguments]
        self._zeros: Floats = (0.0,) * n
        self.work = self._shown_kappa = self._zeros
        self._memory: _Memory | None = None
        self.move_to(self.steps[0])

    def _filled(self, word: str, given: dict[int, Floats]) -> list[Floats]:
        """One entry for each step, the one before it where none is given."""
        if 0 not in given:
            raise self.error(f"{word}0", f"the keyword {word}0= is missing")
        if beyond := [i for i in given if i >= len(self.steps)]:
            raise self.error(f"{word}{beyond[0]}", f"there is no STEP{beyond[0]}=")
        filled: list[Floats] = []
        for i in range(len(self.steps)):
            filled.append(given[i] if i in given else filled[-1])
        return filled

    @property
    def has_arrived(self) -> bool:
        """Whether nothing that is shown will change any more."""
        return self.step >= self.steps[-1] and self._shown_kappa == self.kappa

    def move_to(self, step: int) -> None:
        """Take centre and strength of a step."""
        self.step = step
        self.at, self.kappa = self.place(step)

    def place(self, step: int) -> tuple[Floats, Floats]:
        """Centre and strength at a step, of length n_arguments each."""
        if step <= self.steps[0]:
            return self._centres[0], self._strengths[0]
        if step >= self.steps[-1]:
            return self._centres[-1], self._strengths[-1]
        i = bisect_right(self.steps, step)
        late = (step - self.steps[i - 1]) / (self.steps[i] - self.steps[i - 1])
        early = 1.0 - late
        ways = zip(self._centres[i - 1], self._ways[i - 1], strict=True)
        strengths = zip(self._strengths[i - 1], self._strengths[i], strict=True)
        return (
            tuple([early * a + late * (a + way) for a, way in ways]),
            tuple([early * k1 + late * k2 for k1, k2 in strengths]),
        )

    # ---- energy

    def _delta(self, i: int, x: Any) -> Any:
        """``s - AT`` where the restraint acts, else 0."""
        delta = self.arguments[i].difference(self.at[i], x)
        if self.verse[i] == "B":
            return delta
        acts = delta >= 0 if self.verse[i] == "U" else delta <= 0
        return namespace(delta).where(acts, delta, delta * 0)

    def term(self, i: int, x: Any) -> Any:
        delta = self._delta(i, x)
        return 0.5 * self.kappa[i] * delta * delta

    def force(self, i: int, x: Any) -> Any:
        return -self.kappa[i] * self._delta(i, x)

    def energy_and_slopes(self, arguments: list[float], step: int = 0) -> tuple[float, list[float]]:
        """Energy and slopes of one point at a step, whatever `move_to` has said.

        Parameters
        ----------
        arguments : list of float, length n_arguments
        step : int

        Returns
        -------
        float
            [energy unit of the input]
        list of float, length n_arguments
            [energy unit over units of the arguments]
        """
        energy, slopes = 0.0, []
        for i, (x, at, kappa) in enumerate(zip(arguments, *self.place(step), strict=True)):
            delta = self._way(i, x, at)
            if self.verse[i] != "B" and (delta < 0) == (self.verse[i] == "U"):
                delta = 0.0
            energy += 0.5 * kappa * delta * delta
            slopes.append(kappa * delta)
        return energy, slopes

    # ---- work

    @property
    def outputs(self) -> tuple[Value, ...]:
        own = [
            Value(f"{self.label}.{value.name}_{kind}")
            for value in self.arguments
            for kind in ("cntr", "work", "kappa")
        ]
        return (*super().outputs, *own, Value(f"{self.label}.work", "energy"))

    @property
    def work_names(self) -> set[str]:
        """Names of the outputs that depend on every step before."""
        kinds = ("_work", "_kappa")
        own = {f"{self.label}.{v.name}{kind}" for v in self.arguments for kind in kinds}
        return {*own, f"{self.label}.work"}

    def values(self, arguments: list[Any]) -> tuple[Any, ...]:
        if np.ndim(arguments[0]):  # a batch has no history
            work = shown = (math.nan,) * len(self.arguments)
            total = math.nan
        else:
            work, shown, total, _ = self._worked(arguments)
        own = [x for i in range(len(self.arguments)) for x in (self.at[i], work[i], shown[i])]
        return (*super().values(arguments), *own, total)

    def accumulate_work(self, arguments: list[Any]) -> None:
        """Add the work of this step: call it once at every step.

        Parameters
        ----------
        arguments : list of float, length n_arguments
            At this step.
        """
        self.work, self._shown_kappa, _, self._memory = self._worked(arguments)

    def _worked(self, arguments: list[Any]) -> tuple[Floats, Floats, float, _Memory]:
        """Work, strengths and total work as shown at this step, and what the next one needs."""
        before = self._memory
        if self.step <= self.steps[0]:
            kept = (before.force, before.half_square) if before else (self._zeros, self._zeros)
            before = _Memory(self._centres[0], self._strengths[0], *kept)
        work, shown = list(self.work), list(self._shown_kappa)
        forces, halves = [], list(before.half_square if before else self._zeros)
        total = 0.0
        for i, (x, at, kappa) in enumerate(zip(arguments, self.at, self.kappa, strict=True)):
            delta = self._way(i, float(x), at)
            forces.append(-kappa * delta)
            if (self.verse[i] == "U" and delta < 0) or (self.verse[i] == "L" and delta > 0):
                continue
            halves[i] = 0.5 * delta * delta
            if before is not None:
                mean_force = 0.5 * (before.force[i] + forces[i])
                mean_square = 0.5 * (halves[i] + before.half_square[i])
                work[i] += mean_force * (at - before.at[i]) + mean_square * (
                    kappa - before.kappa[i]
                )
            shown[i] = kappa
            total += work[i]
        memory = _Memory(self.at, self.kappa, tuple(forces), tuple(halves))
        return tuple(work), tuple(shown), total, memory

    def _way(self, i: int, x: float, at: float) -> float:
        """``x - at``, the shorter way round."""
        delta, period = x - at, self._periods[i]
        return delta if period is None else delta - period * math.floor(delta / period + 0.5)

    # ---- with a checkpoint

    def saved(self) -> dict[str, np.ndarray]:
        arrays = {"work": self.work, "shown_kappa": self._shown_kappa}
        arrays |= {} if self._memory is None else vars(self._memory)
        return {name: np.array(numbers) for name, numbers in arrays.items()}

    def restore_saved(self, arrays: dict[str, np.ndarray]) -> None:
        n = len(self.arguments)
        floats: dict[str, Floats] = {
            x: tuple(saved_array(arrays, x, (n,)).tolist()) for x in arrays
        }
        self.work, self._shown_kappa = floats["work"], floats["shown_kappa"]
        self._memory = None
        if "at" in floats:
            kept = ("at", "kappa", "force", "half_square")
            self._memory = _Memory(*(floats[name] for name in kept))
