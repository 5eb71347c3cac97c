"""The circle with a laboratory whose answers are known: rows, resuming, what a kill leaves."""

import csv
import math
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from openmm_cgan.explore.circle import COLUMNS, MEASURED, TABLE, Step, explore
from openmm_cgan.explore.evidence import Chains, Claim, Coverage, Generator
from openmm_cgan.explore.settings import ExploreSettings
from openmm_cgan.json_files import read_json, write_json

SETTINGS = ExploreSettings("phi:0..2.3", tolerance=0.2, budget_steps=3_000_000)
TRUTH, SPREAD = 4.0, 40.0  # of one configuration


class Known:
    """A system whose difference is known: n configurations tell it to SPREAD / sqrt(n)."""

    def __init__(self, dies_at: int | None = None, hidden_apart: bool = False) -> None:
        self.done: list[str] = []
        self.needs_bias = True
        self.dies_at, self.hidden_apart = dies_at, hidden_apart

    def carry_out(self, step: Step) -> Mapping[str, Any]:
        if step.number == self.dies_at:
            raise KeyboardInterrupt
        decision, known = step.decision, step.known
        self.done.append(decision.action)
        rng = np.random.default_rng(step.number)
        found: dict[str, Any] = {"cost": decision.cost}
        if decision.action == "look":
            found["widths"] = True
        elif decision.action in ("bias", "extend"):
            found["biased_steps"] = known.biased_steps + decision.steps
            crossings = found["biased_steps"] // 50_000
            found["coverage"] = asdict(Coverage(100, crossings, hops={"chi": 9}))
        elif decision.action in ("train", "refine"):
            found["generator"] = asdict(
                Generator("", 0.3, 0.0, 0.0, 1.0, refined=decision.action == "refine")
            )
        elif decision.action == "weigh":
            error = SPREAD / math.sqrt(decision.steps)
            halves = [[TRUTH + rng.normal(0, error), error * math.sqrt(2)] for _ in range(2)]
            value = float(np.mean([half[0] for half in halves]))
            found["claim"] = asdict(Claim("generated", value, error, halves, 0.3, 500.0))
        elif decision.action == "chains":
            apart = 1.5 if self.hidden_apart else 1.01
            steps = decision.steps + (known.chains.steps if known.chains else 0)
            found["chains"] = asdict(Chains(steps, 0.5, 0.0, {"phi": 1.0, "chi": apart}))
        return found


def table(folder: Path) -> list[dict[str, str]]:
    with (folder / TABLE).open() as file:
        return list(csv.DictReader(file))


def test_it_ends_with_the_truth_and_a_row_for_each_decision(tmp_path: Path) -> None:
    said: list[str] = []
    laboratory = Known()
    outcome = explore(laboratory, SETTINGS, tmp_path, say=said.append)
    assert outcome.converged
    assert outcome.error <= SETTINGS.tolerance
    assert abs(outcome.value - TRUTH) < 4 * outcome.error
    rows = table(tmp_path)
    assert list(rows[0]) == list(COLUMNS)
    assert [row["action"] for row in rows] == [*laboratory.done, "stop"]
    assert laboratory.done[:3] == ["look", "bias", "extend"]  # 3 crossings of 4
    assert len(said) == len(rows)
    assert all(row["reason"] in line for row, line in zip(rows, said, strict=True))
    assert int(rows[-1]["evaluations"]) == outcome.evaluations <= SETTINGS.budget_steps


@pytest.mark.parametrize("dies_at", [1, 2, 5, 7])
def test_killed_and_gone_on_with_it_decides_the_same(dies_at: int, tmp_path: Path) -> None:
    whole = explore(Known(), SETTINGS, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        explore(Known(dies_at), SETTINGS, tmp_path / "killed")
    rest = Known()
    outcome = explore(rest, SETTINGS, tmp_path / "killed")
    assert (outcome.value, outcome.error) == (whole.value, whole.error)
    assert len(rest.done) == len(whole.steps) - dies_at  # what was done is not done again
    unlike = {"seconds"}
    ours, theirs = (
        [{k: v for k, v in row.items() if k not in unlike} for row in table(tmp_path / name)]
        for name in ("killed", "whole")
    )
    assert ours == theirs


def test_what_a_generator_said_before_it_was_refined_is_of_no_account(tmp_path: Path) -> None:
    """Its weights are heavy as trained, and are made anew."""

    class Heavy(Known):
        def carry_out(self, step: Step) -> Mapping[str, Any]:
            found = dict(super().carry_out(step))
            made = step.known.generator
            if step.decision.action == "weigh" and made is not None and not made.refined:
                found["claim"] = {**found["claim"], "k_hat": 0.9, "value": TRUTH + 10}
            return found

    laboratory = Heavy()
    outcome = explore(laboratory, SETTINGS, tmp_path)
    assert laboratory.done[3:7] == ["train", "weigh", "refine", "weigh"]
    weighed = [step for step in outcome.steps if step.decision.action == "weigh"]
    assert weighed[1].known.claim is None
    assert weighed[1].decision.steps == SETTINGS.generated
    assert outcome.converged
    assert abs(outcome.value - TRUTH) < 4 * outcome.error


def test_a_hidden_torsion_that_stays_apart_ends_in_words_and_no_claim(tmp_path: Path) -> None:
    outcome = explore(Known(hidden_apart=True), SETTINGS, tmp_path)
    assert not outcome.converged
    assert outcome.reason.startswith("not converged, because")
    assert "chi (R-hat 1.50" in outcome.reason
    assert outcome.evaluations <= SETTINGS.budget_steps


def test_a_larger_budget_goes_on_where_a_small_one_ended(tmp_path: Path) -> None:
    small = ExploreSettings("phi:0..2.3", tolerance=0.2, budget_steps=200_000)
    first = explore(Known(), small, tmp_path)
    assert not first.converged
    rest = Known()
    assert explore(rest, SETTINGS, tmp_path).converged
    assert "look" not in rest.done


def decided_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a later version may: it refines before it weighs, whatever the generator is worth."""
    monkeypatch.setattr("openmm_cgan.explore.decisions.GOOD_SHARE", 1.0)


def test_what_was_carried_out_stands_where_rules_have_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(KeyboardInterrupt):
        explore(Known(6), SETTINGS, tmp_path)
    before = [row["action"] for row in table(tmp_path)]
    assert before[:5] == ["look", "bias", "extend", "train", "weigh"]
    decided_otherwise(monkeypatch)
    rest, said = Known(), []
    outcome = explore(rest, SETTINGS, tmp_path, say=said.append)
    assert [step.decision.action for step in outcome.steps][:5] == before[:5]
    assert {"look", "bias", "extend", "train"}.isdisjoint(rest.done)
    assert len(said) == len(outcome.steps) == len(table(tmp_path))
    assert outcome.steps[5].known.generated == outcome.steps[4].decision.steps > 0


def test_a_kill_while_it_is_read_again_loses_no_decision(tmp_path: Path) -> None:
    explore(Known(), SETTINGS, tmp_path)
    whole = table(tmp_path)

    def dies(line: str) -> None:
        if line.startswith("3."):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        explore(Known(), SETTINGS, tmp_path, say=dies)
    assert table(tmp_path) == whole


def test_without_the_table_other_rules_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    explore(Known(), SETTINGS, tmp_path)
    (tmp_path / TABLE).unlink()
    decided_otherwise(monkeypatch)
    with pytest.raises(ValueError, match=r"05-weigh\.json: what is to be done there is to refine"):
        explore(Known(), SETTINGS, tmp_path)


@pytest.mark.parametrize("change", ["format", "claim"])
def test_measurements_of_another_version_are_refused(change: str, tmp_path: Path) -> None:
    explore(Known(), SETTINGS, tmp_path)
    path = tmp_path / MEASURED / "05-weigh.json"
    found = read_json(path)
    if change == "format":
        found["format"] += 1
    else:
        del found["claim"]["halves"]
    write_json(path, found)
    with pytest.raises(ValueError, match=r"05-weigh\.json was measured by another version"):
        explore(Known(), SETTINGS, tmp_path)
