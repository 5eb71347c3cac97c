"""Which reporters may put something into a run beside each other, and what each draws."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from openmm_cgan.reporters.side_by_side import require_measurable, require_order, seed_of_step


class Injecting:
    """A reporter that puts something in."""

    def __init__(self, mode: str, measures_settling: bool = False, name: str = "") -> None:
        self.mode, self.measures_settling = mode, measures_settling
        self.path = Path(name or f"{id(self)}.csv")

    def describeNextReport(self, simulation: Any) -> dict[str, Any]:
        return {"steps": 10, "include": ["positions"]}


def run_of(*reporters: Any) -> Any:
    return SimpleNamespace(reporters=list(reporters), currentStep=30)


def test_one_alone_may_measure_beside_exact_moves_but_not_beside_other_seeds() -> None:
    measuring, given = Injecting("seed", measures_settling=True), Injecting("seed")
    require_measurable(measuring, run_of(measuring, Injecting("local"), Injecting("exact")))
    require_measurable(given, run_of(given, Injecting("seed"), Injecting("local")))
    for asked in (measuring, given):
        with pytest.raises(ValueError, match=r"^2 reporters put seeds"):
            require_measurable(asked, run_of(measuring, Injecting("local"), given))


def test_every_reporter_of_a_step_draws_other_numbers_and_at_each_step() -> None:
    every = [Injecting("exact") for _ in range(4)]
    run = run_of(*every)
    seeds = {seed_of_step(one, run, 5) for one in every}
    run.currentStep = 31
    seeds |= {seed_of_step(one, run, 5) for one in every}
    assert len(seeds) == 8
    run.reporters.insert(2, object())  # what draws nothing changes nothing
    assert {seed_of_step(one, run, 5) for one in every} < seeds


def test_tables_are_told_apart_and_several_follow_each_other() -> None:
    one, two = Injecting("exact", name="a.csv"), Injecting("exact", name="b.csv")
    require_order(one, run_of(one, two))
    two.path = one.path
    for asked in (one, two):
        with pytest.raises(ValueError, match=r"2 reporters of this run write to a\.csv"):
            require_order(asked, run_of(one, two))
