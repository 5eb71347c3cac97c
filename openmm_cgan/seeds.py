"""Seeds of random numbers, as OpenMM takes them."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import openmm

IN_PLACE_OF_0 = 2**31 - 1


@runtime_checkable
class RandomForce(Protocol):
    """What draws random numbers: a barostat, AndersenThermostat."""

    def getRandomNumberSeed(self) -> int: ...  # noqa: N802 (OpenMM's names)

    def setRandomNumberSeed(self, seed: int) -> None: ...  # noqa: N802


def seed_for_openmm(seed: int) -> int:
    """A seed that OpenMM takes as it is given: for 0 it draws one of its own, each time another.

    Examples
    --------
    >>> seed_for_openmm(7)
    7
    >>> seed_for_openmm(0)
    2147483647
    """
    return seed or IN_PLACE_OF_0


def seed_forces(system: openmm.System, seed: int) -> None:
    """Give a seed to the forces of a System that draw random numbers and have none of their own."""
    for force in system.getForces():
        if isinstance(force, RandomForce) and not force.getRandomNumberSeed():
            force.setRandomNumberSeed(seed_for_openmm(seed))
