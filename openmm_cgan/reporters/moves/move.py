"""Move: the contract of what a ProposalReporter tries at an attempt.

A move has two lives. Its class is asked whether it can be made, first of what the user gave, then
of the simulation before anything has moved. The object that `prepare` makes then has all it needs
beside the run, and is asked for one Attempt after another. It only reads the running Context; what
the run goes on from is for the ProposalReporter to put there.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, NamedTuple, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from openmm_cgan.proposals import Sampler
from openmm_cgan.proposals.targets import TargetStrategy
from openmm_cgan.reporters.attempts import Attempt
from openmm_cgan.reporters.settings import ProposalSettings
from openmm_cgan.reporters.settling import SettleWatch
from openmm_cgan.short_reprs import short_repr

if TYPE_CHECKING:
    import openmm
    from openmm.app import Simulation

    from openmm_cgan.plumed.bias import PlumedBias

log = logging.getLogger("openmm_cgan")


@dataclass(frozen=True)
class Asked:
    """What a user asked of a ProposalReporter.

    Attributes
    ----------
    sampler : Sampler
    bias : PlumedBias
    targets : str, ndarray of shape (m, n_cvs) [CV units], or callable
        As ProposalReporter takes them.
    settings : ProposalSettings
    interval : int
        Steps between two attempts.
    """

    sampler: Sampler
    bias: PlumedBias
    targets: str | NDArray[np.float64] | TargetStrategy
    settings: ProposalSettings
    interval: int


@dataclass(frozen=True, repr=False)
class Start:
    """A simulation before the first attempt.

    Attributes
    ----------
    simulation : openmm.app.Simulation
        Only read.
    atoms : ndarray of int, shape (n_generated,)
        What the sampler makes, as indices in the topology.
    positions : ndarray, shape (n_atoms, 3)
        The whole system [nm].
    box : ndarray, shape (3, 3), or None
        Box vectors [nm] of a periodic system.
    temperature : float
        [K]
    is_restored : bool
        Whether `Move.restore_saved` is to follow: what it gives need not be looked for.
    """

    simulation: Simulation
    atoms: NDArray[np.int64]
    positions: NDArray[np.float64]
    box: NDArray[np.float64] | None
    temperature: float
    is_restored: bool = False

    __repr__ = short_repr


class Refusal(NamedTuple):
    """Why a move cannot be made: in a few words for the log, and to the user who asked for it."""

    reason: str
    error: str

    @classmethod
    def of(cls, mode: str, reason: str) -> Refusal | None:
        """That of a mode for a reason; None where there is none."""
        error = f"mode={mode!r} is not possible: {reason}; use mode='seed'"
        return cls(reason, error) if reason else None


class Move(Protocol):
    """What a ProposalReporter tries at an attempt.

    Attributes
    ----------
    mode : str
        Its name: what the user asks for, and what the table and the segments say.
    log_level : int
        Of the line in the log for each injection.
    """

    mode: ClassVar[str]
    log_level: ClassVar[int]

    @property
    def watch(self) -> SettleWatch | None:
        """What measures the settle steps; None where they are known."""
        ...

    @property
    def settle_steps(self) -> int:
        """Steps after an injection whose frames are marked as settling."""
        ...

    @classmethod
    def refusal(cls, asked: Asked) -> Refusal | None:
        """Why it cannot do what the user asks, as far as that can be told without a simulation.

        Raises
        ------
        ValueError
            If an argument is wrong in itself.
        """
        ...

    @classmethod
    def refusal_in(cls, asked: Asked, simulation: Simulation) -> Refusal | None:
        """Why it cannot be made in a simulation, which is only read."""
        ...

    @classmethod
    def prepare(cls, asked: Asked, start: Start) -> Self:
        """Make what it needs beside the running simulation.

        Raises
        ------
        ValueError
            If that cannot be.
        """
        ...

    @classmethod
    def why_not_replaced(cls, new: Sampler, now: Sampler) -> str:
        """Why a sampler cannot take the place of the one there is; empty if it can."""
        ...

    def replace_sampler(self, sampler: Sampler) -> None:
        """Propose from another sampler from now on.

        Raises
        ------
        ValueError
            If it turns out not to fit; the old one then stays.
        """
        ...

    def follow(self, context: openmm.Context, temperature: float) -> None:
        """Take over parameters and box of the running Context, and the temperature [K].

        Called before each attempt.
        """
        ...

    def saved(self) -> dict[str, NDArray]:
        """What it has gathered, for a checkpoint; arrays of any shape."""
        ...

    def restore_saved(self, arrays: dict[str, NDArray]) -> None:
        """Take over what `saved` gave.

        Raises
        ------
        ValueError
            If it does not fit.
        """
        ...

    def attempt(
        self,
        positions: NDArray[np.float64],
        box: NDArray[np.float64] | None,
        rng: np.random.Generator,
    ) -> Attempt:
        """Make one attempt.

        Parameters
        ----------
        positions : ndarray, shape (n_atoms, 3)
            The current configuration of the whole system [nm].
        box : ndarray, shape (3, 3), or None
            Box vectors [nm] of a periodic system.
        rng : numpy Generator
            All that is random comes from it, so that an attempt repeats.

        Returns
        -------
        Attempt
            With positions if the run is to go on from them.
        """
        ...

    def summary(self) -> str:
        """What the log says of it beside the counts of attempts; may be empty."""
        ...

    def weighed_candidates(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """CVs (n, n_cvs) and log weights (n,) of its candidates; none where it weighs nothing."""
        ...


class TemperatureChanges:
    """What is said where a run has another temperature than it had: once, for some change it often.

    Parameters
    ----------
    mode : str
        Of the move.
    """

    def __init__(self, mode: str) -> None:
        self._mode, self._said = mode, False

    def say(self, temperature: float) -> None:
        """Tell of a change to [K]; the first is a warning, for few mean to make one."""
        if self._said:
            log.debug("%s proposals go on at %.1f K", self._mode, temperature)
            return
        self._said = True
        log.warning(
            "%s proposals go on at %.1f K; where the temperature changes again (simulated "
            "tempering, annealing) they follow without a word", self._mode, temperature,
        )  # fmt: skip
