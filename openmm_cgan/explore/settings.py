"""How an exploration is done: what is wanted, what it may cost, how long its parts are."""

from __future__ import annotations

from dataclasses import dataclass

from openmm_cgan.free_energy.differences import StateDifference
from openmm_cgan.quantities import number_of_steps, positive


@dataclass(frozen=True)
class ExploreSettings:
    """How an exploration is done.

    Parameters
    ----------
    difference : str
        The free energy that is wanted, as `StateDifference` reads it.
    tolerance : float
        Its standard error is to be this at most [kJ/mol].
    budget_steps : int
        Force evaluations of everything together: nothing is begun that is known to need more, what
        judging a generator takes (some thousands of energies) among it.
    hours : float
        The same in hours of work.
    barrier : float
        What a bias that is added is to get over [kJ/mol].
    temperature, timestep : float
        [K, ps]
    look_steps, biased_steps : int
        Of the short run without a bias, and of the first biased run.
    frames_every : int
        Steps between its frames.
    training_steps, refining_steps : int
        Of the generator. A refining step costs three times `refining_batch` energies.
    generated : int
        Configurations weighed at first.
    chain_steps, proposals_every : int
        Of each of two chains with exact moves.
    moves_steps : int
        Of each of two biased runs with exact moves, at first.
    window_steps, windows : int
        Of each window at first; how many along the CV, from each of two starts.
    seed : int
    """

    difference: str
    tolerance: float = 0.5
    budget_steps: int = 5_000_000
    hours: float = float("inf")
    barrier: float = 60.0
    temperature: float = 300.0
    timestep: float = 0.002
    look_steps: int = 20_000
    biased_steps: int = 150_000
    frames_every: int = 25
    training_steps: int = 1200
    refining_steps: int = 600
    refining_batch: int = 128
    generated: int = 20_000
    chain_steps: int = 50_000
    proposals_every: int = 250
    moves_steps: int = 150_000
    window_steps: int = 10_000
    windows: int = 24
    seed: int = 1

    def __post_init__(self) -> None:
        StateDifference.of(self.difference)
        for name, unit in (("temperature", "K"), ("timestep", "ps")):
            object.__setattr__(self, name, positive(vars(self)[name], unit, name))
        for name in ("tolerance", "barrier"):
            object.__setattr__(self, name, positive(vars(self)[name], "kJ/mol", name))
        for name in (
            "budget_steps", "look_steps", "biased_steps", "frames_every", "training_steps",
            "refining_steps", "refining_batch", "generated", "chain_steps", "proposals_every",
            "moves_steps", "window_steps", "windows",
        ):  # fmt: skip
            number_of_steps(vars(self)[name], name)
        if not self.hours > 0:
            raise ValueError(f"hours is {self.hours}, expected a positive number")
