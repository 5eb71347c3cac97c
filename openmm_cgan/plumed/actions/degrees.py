"""Numbers that are taken as PLUMED takes them, and look as if they were meant in degrees."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from openmm_cgan.plumed.actions.action import Action
from openmm_cgan.plumed.actions.values import Value
from openmm_cgan.plumed.input.words import split_vector

PLACE = re.compile(r"AT\d*")
TURNS, WIDTH = 2.0, 0.5  # periods: a restraint may lead round, a hill is narrower


def in_degrees(actions: Iterable[Action]) -> Iterator[str]:
    """What is said of each AT and SIGMA of periodic values that no radians would be.

    Parameters
    ----------
    actions : iterable of Action

    Yields
    ------
    str
        A sentence with file and line.
    """
    for action in actions:
        if not any(value.period for value in action.arguments):
            continue
        for word in action.statement.words:
            key, _, text = word.partition("=")
            if PLACE.fullmatch(key.upper()) or key.upper() == "SIGMA":
                yield from _of_word(action, key.upper(), text)


def _of_word(action: Action, key: str, text: str) -> Iterator[str]:
    try:
        numbers = [float(number) for number in split_vector(text)]
    except ValueError:
        return  # pi is written by who means radians
    if len(numbers) != len(action.arguments):
        return
    for value, number in zip(action.arguments, numbers, strict=True):
        if value.period is None or value.domain is None:
            continue
        limit = (WIDTH if key == "SIGMA" else TURNS) * value.period
        if abs(number) > limit:
            yield f"{action.statement.location}: {key}={number:g}: {_meaning(key, number, value)}"


def _meaning(key: str, number: float, value: Value) -> str:
    unit = "; angles are in radians" if value.unit == "rad" else ""
    if key == "SIGMA":
        return f"that is more than half the period {value.period:.4g} of {value.name}{unit}"
    return f"{value.name} is periodic, and this is taken as {value.wrap(number):.4g}{unit}"
