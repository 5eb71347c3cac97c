"""A pilot: how candidates are best annealed, found before the run on candidates alone.

It sees what the generator makes, and never the configuration of the run, so that what it finds is
fixed when the first move is made: a step that followed the run would not leave its distribution
unchanged. All is counted in evaluations, none in seconds, so that it finds the same again.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from openmm_cgan.reporters.moves.annealing import Points, Schedule, Space, annealed

log = logging.getLogger("openmm_cgan")

Draw = Callable[[int, np.random.Generator], Points]  # so many fresh candidates, evaluated

PATHS = 512  # of each trial: where few of them count, the best of many trials is chance
LENGTHS = (0, 1, 2, 4)  # numbers of levels that are tried, and twice as many while that is best
LONGEST_PATH = 32  # levels
UNKNOWN = 0.01  # paths
ROUNDS, TUNING = 6, 64  # of finding the lengths of steps, and paths of each
TUNED = 8  # levels at which they are found
ACCEPTED = 0.75  # by the test of Metropolis, of steps as long as they should be
SHORTEST, FIRST, LONGEST = 0.01, 0.3, math.pi / 2  # steps; a quarter turn forgets a normal number
SURVIVORS = (1.0, 0.5, 0.25)  # shares of paths that may outlive their first factor
GOOD = 1 / 3  # of candidates that count: to evaluate each once more could gain half as many at most
ENOUGH = 4.0  # effective candidates of a move: four moves of five are accepted then


@dataclass(frozen=True)
class Plan:
    """How candidates are annealed, and what that was worth in the pilot.

    Attributes
    ----------
    schedule : Schedule
    effective : float
        Effective candidates for each that is begun.
    cost : float
        Evaluations for each that is begun.
    """

    schedule: Schedule
    effective: float
    cost: float

    @property
    def efficiency(self) -> float:
        """Effective candidates for each evaluation."""
        return self.effective / self.cost

    def candidates(self, most: int) -> int:
        """How many to begin with: enough for a move, at most so many evaluations."""
        wanted = math.ceil(ENOUGH / max(self.effective, 1e-9))
        return max(1, min(wanted, int(most / self.cost)))

    def __str__(self) -> str:
        n = len(self.schedule.levels)
        return (
            f"{n} steps of annealing: {100 * self.effective:.2g} % of the candidates count, "
            f"{1000 * self.efficiency:.3g} in 1,000 evaluations"
        )


def levels_of(n: int) -> tuple[float, ...]:
    """So many levels at equal distances between 0 and 1."""
    return tuple((np.arange(1, n + 1) / (n + 1)).tolist())


def tuned_steps(draw: Draw, space: Space, rng: np.random.Generator) -> NDArray[np.float64]:
    """Lengths (TUNED,) of steps at ``levels_of(TUNED)`` that Metropolis's test mostly accepts."""
    logs = np.full(TUNED, math.log(FIRST))
    levels, points = levels_of(TUNED), draw(TUNING, rng)
    for k in range(ROUNDS):
        chances = np.full(TUNED, np.nan)

        schedule = Schedule(levels, tuple(np.exp(logs).tolist()))
        watch = partial(_note, chances)
        annealed(points, np.zeros(TUNING, dtype=bool), schedule, space, rng, watch)
        off = np.nan_to_num(chances - ACCEPTED)
        logs = np.clip(logs + 2.0 / (1 + k / 3) * off, math.log(SHORTEST), math.log(LONGEST))
    return np.exp(logs)


def _note(into: NDArray, level: int, log_weights: NDArray, chances: NDArray) -> None:
    """Keep the weighted mean of the probabilities of acceptance (n,) at a level."""
    if len(log_weights):
        weights = np.exp(log_weights - log_weights.max())
        into[level] = weights @ chances / weights.sum()


def steps_at(levels: Sequence[float], tuned: NDArray[np.float64]) -> tuple[float, ...]:
    """Lengths of steps at some levels, between those that were found."""
    return tuple(np.exp(np.interp(levels, levels_of(TUNED), np.log(tuned))).tolist())


def tried(schedule: Schedule, draw: Draw, space: Space, rng: np.random.Generator) -> list[Plan]:
    """What a schedule is worth, without and with thresholds of its first factor.

    One trial tells of all thresholds: what survives, and weighs more then, is known of each path.
    """
    points = draw(PATHS, rng)
    paths = annealed(points, np.zeros(PATHS, dtype=bool), schedule, space, rng)
    alive = np.isfinite(paths.log_weights)  # no path dies on its way
    if not alive.any():
        return [Plan(schedule, 0.0, 1.0)]
    first = schedule.increments[0] * points.log_ratios[alive]
    logs, n_levels = paths.log_weights[alive], len(schedule.levels)
    weights = np.exp(logs - logs.max())
    plans = []
    for share in SURVIVORS if n_levels else SURVIVORS[:1]:
        threshold = -math.inf if share == 1 else _threshold(first, share * PATHS)
        log_chances = np.minimum(first - threshold, 0.0)
        squares = np.exp(2 * (logs - logs.max()) - log_chances)
        # of paths of which one has all the weight none is known to count
        effective = max(float(weights.sum() ** 2 / squares.sum()) - 1.0, UNKNOWN) / PATHS
        chances = np.exp(log_chances)
        cost = (len(first) + n_levels * schedule.leaps * chances.sum()) / PATHS
        plans.append(Plan(replace(schedule, log_threshold=threshold), effective, cost))
    return plans


def _threshold(first: NDArray[np.float64], survivors: float) -> float:
    """Log threshold of log first factors (n,) by which so many survive on average."""
    if survivors >= len(first):
        return -math.inf
    low, high = first.min() - 1.0, first.max() + 50.0
    for _ in range(60):
        middle = 0.5 * (low + high)
        if np.exp(np.minimum(first - middle, 0.0)).sum() > survivors:
            low = middle
        else:
            high = middle
    return float(high)


def best_plan(draw: Draw, space: Space, lengths: Sequence[int] = LENGTHS) -> tuple[Plan, Plan]:
    """The plan with most effective candidates for an evaluation, and that without annealing.

    Parameters
    ----------
    draw : callable
        Gives so many fresh candidates, evaluated.
    space : Space
    lengths : sequence of int
        Numbers of levels to choose from.
    """
    rng = np.random.default_rng(0)
    [plain] = tried(Schedule(), draw, space, rng)
    if 0 in lengths and plain.effective > GOOD:
        return plain, plain
    plans = [plain] if 0 in lengths else []
    longer = [n for n in lengths if n > 0]
    tuned = tuned_steps(draw, space, rng) if longer else np.full(TUNED, FIRST)
    while longer:
        n = longer.pop(0)
        levels = levels_of(n)
        found = tried(Schedule(levels, steps_at(levels, tuned)), draw, space, rng)
        log.debug("pilot: %s", max(found, key=lambda plan: plan.efficiency))
        plans += found
        best = max(plans, key=lambda plan: plan.efficiency)
        if not longer and len(lengths) > 1 and best in found and 2 * n <= LONGEST_PATH:
            longer = [2 * n]
    return max(plans, key=lambda plan: plan.efficiency), plain
