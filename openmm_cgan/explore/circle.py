"""The circle: decide, do it, measure, decide again; each decision a line and a row with its reason.

Nothing is kept in memory that is not on disk. What a phase has measured is a JSON file; an
exploration that goes on runs the circle from its beginning, and reads where it finds such a file.
What was carried out stands as it was decided then: by other rules, or another budget, something
else would be wanted now, and what was measured would be taken for that.
"""

from __future__ import annotations

import csv
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

from openmm_cgan.atomic_files import replacing
from openmm_cgan.explore.decisions import (
    BIAS,
    CHAINS,
    EXTEND,
    MOVES,
    OPPOSITE,
    REFINE,
    STOP,
    TRAIN,
    WEIGH,
    WINDOWS,
    Decision,
    claimed_error,
    decide,
)
from openmm_cgan.explore.evidence import Chains, Claim, Coverage, Evidence, Generator, Record
from openmm_cgan.explore.settings import ExploreSettings
from openmm_cgan.json_files import read_json, write_json

logger = logging.getLogger("openmm_cgan")

MEASURED, TABLE, RECORD = "measured", "decisions.csv", "explore.json"
FORMAT = 1  # of a measured file
RECORDS: dict[str, type[Record]] = {
    "coverage": Coverage,
    "generator": Generator,
    "claim": Claim,
    "chains": Chains,
}
COLUMNS = ("number", "action", "steps", "evaluations", "seconds", "value", "error", "reason")


@dataclass(frozen=True)
class Step:
    """One turn of the circle.

    Attributes
    ----------
    number : int
        From 1.
    decision : Decision
    known : Evidence
        What was known when it was made.
    """

    number: int
    decision: Decision
    known: Evidence


class Laboratory(Protocol):
    """What carries decisions out, in the folder of the exploration, and measures."""

    @property
    def needs_bias(self) -> bool:
        """Whether the input has no bias of its own."""
        ...

    def carry_out(self, step: Step) -> Mapping[str, Any]:
        """Do what was decided, going on from what a killed attempt has left.

        Returns
        -------
        mapping
            Fields of Evidence that are now others, in plain JSON types; ``cost``, the force
            evaluations that it took.
        """
        ...


@dataclass(frozen=True)
class Outcome:
    """How an exploration ended.

    Attributes
    ----------
    converged : bool
    value, error : float
        Of the difference [kJ/mol]; where it has not converged what is known, NaN if nothing is.
    reason : str
    evaluations : int
        Force evaluations: steps of dynamics, and energies of configurations and of frames.
        Minimisations are not counted.
    steps : list of Step
    """

    converged: bool
    value: float
    error: float
    reason: str
    evaluations: int
    steps: list[Step] = field(default_factory=list, repr=False)


def explore(
    laboratory: Laboratory,
    settings: ExploreSettings,
    folder: Path,
    *,
    say: Callable[[str], None] = logger.info,
) -> Outcome:
    """Go round until the difference is known, or the budget is spent.

    Parameters
    ----------
    laboratory : Laboratory
    settings : ExploreSettings
    folder : Path
        Where decisions and measurements are; made if missing.
    say : callable
        Told of each decision.

    Returns
    -------
    Outcome

    Raises
    ------
    ValueError
        If what is there was measured by another version, or for another decision.
    """
    (folder / MEASURED).mkdir(parents=True, exist_ok=True)
    known = Evidence(needs_bias=laboratory.needs_bias, spent=0)
    steps: list[Step] = []
    before = _carried_out(folder)
    while True:
        number = len(steps) + 1
        step = Step(number, before.get(number) or decide(known, settings), known)
        steps.append(step)
        if number not in before:  # until then the table says more
            _write_table(folder / TABLE, steps)
        say(_line(step))
        if step.decision.action == STOP:
            return _outcome(steps)
        known = with_measurement(known, step.decision, _measurement(laboratory, step, folder))


def _carried_out(folder: Path) -> dict[int, Decision]:
    """Decisions of which there are measurements, by their number, as the table has them."""
    if not (folder / TABLE).exists():
        return {}
    with (folder / TABLE).open(newline="") as file:
        rows = list(csv.DictReader(file))
    found = {
        int(row["number"]): Decision(row["action"], row["reason"], int(row["steps"]))
        for row in rows
    }
    return {k: one for k, one in found.items() if _measured(folder, k, one.action).exists()}


def _measured(folder: Path, number: int, action: str) -> Path:
    return folder / MEASURED / f"{number:02d}-{action}.json"


def _measurement(laboratory: Laboratory, step: Step, folder: Path) -> dict[str, Any]:
    """What a phase has measured: read where it is done, else measured now."""
    path = _measured(folder, step.number, step.decision.action)
    if path.exists():
        return _read(path)
    if others := sorted(path.parent.glob(f"{step.number:02d}-*.json")):
        raise ValueError(
            f"{others[0]}: what is to be done there is to {step.decision.action}: the exploration "
            f"was begun by another version, and {TABLE} does not say what was decided. Begin it "
            "anew in another folder"
        )
    started = time.monotonic()
    found = dict(laboratory.carry_out(step))
    write_json(path, found | {"seconds": time.monotonic() - started, "format": FORMAT})
    return _read(path)


def _read(path: Path) -> dict[str, Any]:
    """What was measured, if it is what this version measures."""
    found = read_json(path)
    lacking = [
        f"{name} without {', '.join(missing)}"
        for name, kind in RECORDS.items()
        if isinstance(value := found.get(name), dict) and (missing := kind.missing_in(value))
    ]
    if found.get("format", FORMAT) != FORMAT or lacking:
        why = f": it has {'; '.join(lacking)}" if lacking else ""
        raise ValueError(
            f"{path} was measured by another version of openmm_cgan{why}. Go on with that one, or "
            "begin anew in another folder"
        )
    return found


def with_measurement(known: Evidence, decision: Decision, found: Mapping[str, Any]) -> Evidence:
    """What is known after a phase.

    A generator that is trained anew, or refined, makes what was said by the one before it of no
    account.
    """
    changes: dict[str, Any] = {
        name: RECORDS[name].of(value) if name in RECORDS and value is not None else value
        for name, value in found.items()
        if name in vars(known) and name not in ("spent", "seconds")
    }
    if decision.action in (BIAS, EXTEND, OPPOSITE):
        changes |= {"generator": None, "claim": None, "chains": None, "generated": 0}
        changes |= {"n_windows": 0, "window_steps": 0, "moves_steps": 0}
    if decision.action == REFINE and decision.steps:
        changes |= {"claim": None, "generated": 0}
    if decision.action == TRAIN:
        changes["trainings"] = known.trainings + 1
    if decision.action == WEIGH:
        changes["generated"] = decision.steps
    spent = known.spent + int(found.get("cost", 0))
    seconds = known.seconds + float(found.get("seconds", 0.0))
    return replace(known, **changes, spent=spent, seconds=seconds)


def _line(step: Step) -> str:
    decision = step.decision
    length = f" {decision.steps:,} {_unit(decision.action)}" if decision.steps else ""
    return f"{step.number}. {decision.action}{length}: {decision.reason}"


def _unit(action: str) -> str:
    each = dict.fromkeys((WINDOWS, CHAINS, MOVES), "steps each")
    units = {WEIGH: "configurations", **each}
    return units.get(action, "training steps" if action in (TRAIN, REFINE) else "steps")


def _write_table(path: Path, steps: list[Step]) -> None:
    """All decisions so far, whole or not at all."""
    with replacing(path) as unfinished, unfinished.open("w", newline="") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(COLUMNS)
        for step in steps:
            claim = step.known.claim
            number = ("", "") if claim is None else (claim.value, claimed_error(claim))
            rows.writerow(
                [step.number, step.decision.action, step.decision.steps, step.known.spent,
                 round(step.known.seconds, 1), *number, step.decision.reason]
            )  # fmt: skip


def _outcome(steps: list[Step]) -> Outcome:
    last = steps[-1]
    claim, decision = last.known.claim, last.decision
    value = float("nan") if claim is None else claim.value
    error = float("nan") if claim is None else claimed_error(claim)
    return Outcome(decision.converged, value, error, decision.reason, last.known.spent, list(steps))
