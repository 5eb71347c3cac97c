"""The circle: decide, do it, measure, decide again; each decision a line and a row with its reason.

Nothing is kept in memory that is not on disk. What a phase has measured is a JSON file; an
exploration that goes on runs the circle from its beginning, and reads where it finds such a file:
decisions follow from measurements alone, and so are the same again.
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
    """
    (folder / MEASURED).mkdir(parents=True, exist_ok=True)
    known = Evidence(needs_bias=laboratory.needs_bias, spent=0)
    steps: list[Step] = []
    while True:
        step = Step(len(steps) + 1, decide(known, settings), known)
        steps.append(step)
        _write_table(folder / TABLE, steps)
        say(_line(step))
        if step.decision.action == STOP:
            return _outcome(steps)
        known = with_measurement(known, step.decision, _measurement(laboratory, step, folder))


def _measurement(laboratory: Laboratory, step: Step, folder: Path) -> dict[str, Any]:
    """What a phase has measured: read where it is done, else measured now."""
    path = folder / MEASURED / f"{step.number:02d}-{step.decision.action}.json"
    if path.exists():
        return read_json(path)
    started = time.monotonic()
    found = dict(laboratory.carry_out(step))
    write_json(path, found | {"seconds": time.monotonic() - started})
    return read_json(path)


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
