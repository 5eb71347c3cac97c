"""Reporters that put something into a Simulation, one after the other at a step: what they may be.

OpenMM makes one State for all reporters of a step, before the first of them acts: what one has put
in, those after it do not find there. Who puts something in therefore reads the Context itself, and
who only looks comes before. Of exact moves each leaves the distribution of the run as it is, and so
does one after the other, if each draws numbers of its own. A seed of one lies in the settle window
of another: windows go on until the last has ended (`FrameReporter.start_segment`), but none can be
measured where another disturbs the run.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from openmm_cgan.reporters.contexts import asks_for_positions

if TYPE_CHECKING:
    from openmm.app import Simulation


class Injecting(Protocol):
    """A reporter that puts something into a Simulation, such as a ProposalReporter."""

    mode: str

    @property
    def path(self) -> Path:
        """Its table."""
        ...

    @property
    def measures_settling(self) -> bool:
        """Whether it looks how long the run takes to settle."""
        ...


def of_its_kind(reporter: Injecting, simulation: Simulation) -> list[Any]:
    """Reporters of a Simulation of the same class, this one among them, in their order."""
    return [other for other in simulation.reporters if isinstance(other, type(reporter))]


def seed_of_step(reporter: Injecting, simulation: Simulation, seed: int) -> int:
    """Seed of what a reporter draws at the present step, from its own.

    Reporters that act before it at the step draw other numbers from the same seed: what it finds
    hangs on theirs.
    """
    every = of_its_kind(reporter, simulation)
    before = every.index(reporter) if reporter in every else 0
    drawn_from = (seed, simulation.currentStep, *([before] if before else []))
    return int(np.random.SeedSequence(drawn_from).generate_state(1)[0])


def require_order(reporter: Injecting, simulation: Simulation) -> None:
    """Check that nothing beside a reporter in its Simulation is misled, or writes to its table.

    Raises
    ------
    RuntimeError
        If others that ask for positions come after it: they would see positions that are gone.
    ValueError
        If another has its table.
    """
    every = of_its_kind(reporter, simulation)
    if reporter not in every:
        return
    after = simulation.reporters[simulation.reporters.index(reporter) + 1 :]
    looking = [r for r in after if r not in every and asks_for_positions(r, simulation)]
    if looking:
        names, own = ", ".join(type(r).__name__ for r in looking), type(reporter).__name__
        raise RuntimeError(
            f"{names} comes after {own} in simulation.reporters; append {own} last, several after "
            "each other: who only looks and comes after them sees positions of before"
        )
    if (count := sum(other.path == reporter.path for other in every)) > 1:
        raise ValueError(
            f"{count} reporters of this run write to {reporter.path}: give each its own file"
        )


def require_measurable(reporter: Injecting, simulation: Simulation) -> None:
    """Check that a run is disturbed by one alone where it is measured how it settles.

    Raises
    ------
    ValueError
        If several put seeds in, and one of them measures.
    """
    seeding = [r for r in of_its_kind(reporter, simulation) if r.mode == "seed"]
    if len(seeding) > 1 and any(r.measures_settling for r in seeding):
        raise ValueError(
            f"{len(seeding)} reporters put seeds into this run, and none can measure how long it "
            "takes to settle where another disturbs it: give all of them "
            "settings=ProposalSettings(settle_steps=...)"
        )
