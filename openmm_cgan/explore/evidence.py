"""What has been measured so far: the records that decisions are made from.

All are plain numbers and go through JSON: what a phase has measured is read again where an
exploration goes on.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields
from typing import Any, Self

import numpy as np


@dataclass(frozen=True)
class Record:
    """A record of plain JSON types."""

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> Self:
        """Rebuild from what JSON made of it; what is not known here is left out."""
        names = {f.name for f in fields(cls)}
        return cls(**{name: value for name, value in record.items() if name in names})

    @classmethod
    def missing_in(cls, record: Mapping[str, Any]) -> list[str]:
        """Names of what it can not be rebuilt without."""
        needed = [f for f in fields(cls) if f.default is MISSING and f.default_factory is MISSING]
        return [f.name for f in needed if f.name not in record]


@dataclass(frozen=True)
class Coverage(Record):
    """Where biased runs have been.

    Attributes
    ----------
    frames : int
    crossings : int
        How often they went from one of the two states to the other.
    missing : list of str
        States ("first", "second") that they have not been in.
    new_share : float
        Share of the cells over the CVs, of all that were visited, first visited in the last
        third.
    hops : dict of str to int
        Of each torsion that no CV is and that has more than one well: how often it changed wells.
    """

    frames: int
    crossings: int
    missing: list[str] = field(default_factory=list)
    new_share: float = 0.0
    hops: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Generator(Record):
    """What a generator is worth.

    Attributes
    ----------
    why_not_exact : str
        Why its configurations have no exact weights; empty if they have.
    share : float
        Kish's effective number over the number of configurations, median over the regions of the
        CVs that matter; NaN without weights.
    heavy : float
        Share of these regions in which Pareto's k is above 0.7.
    missed : float
        Share of frames of the runs that it makes a hundred times too rarely, or not at all.
    passed : float
        Share of what it makes that passes the screens.
    refined : bool
    """

    why_not_exact: str
    share: float
    heavy: float
    missed: float
    passed: float
    refined: bool = False


@dataclass(frozen=True)
class Claim(Record):
    """An estimate of the free-energy difference.

    Attributes
    ----------
    route : str
        "generated", "moves" (runs with exact moves) or "windows".
    value, error : float
        [kJ/mol]; NaN where not known.
    halves : list of two lists [value, error]
        From the first and the second half of what it was made of [kJ/mol].
    k_hat, effective : float
        Pareto's k of the weights, and Kish's effective number of the state with fewer.
    unknown : str
        Why there is no number.
    disagreement : float
        Of two runs, or of windows from two starts: how far the worst pair is apart [standard
        errors]; else NaN.
    overlap : float
        The least between neighbours; NaN where there are no windows.
    """

    route: str
    value: float
    error: float
    halves: list[list[float]]
    k_hat: float
    effective: float
    unknown: str = ""
    disagreement: float = float("nan")
    overlap: float = float("nan")

    @property
    def halves_apart(self) -> float:
        """How far the halves are apart [kJ/mol]."""
        return abs(self.halves[0][0] - self.halves[1][0])

    @property
    def halves_error(self) -> float:
        """Standard error of that [kJ/mol]."""
        return float(np.hypot(self.halves[0][1], self.halves[1][1]))


@dataclass(frozen=True)
class Chains(Record):
    """Chains with exact moves from opposite starts.

    Attributes
    ----------
    steps : int
        Of each.
    accepted : float
        Share of the moves.
    missed : float
        Share of their frames that the generator makes a hundred times too rarely, in the state
        where it is larger.
    r_hat : dict of str to float
        Of each CV and of each torsion that no CV is.
    """

    steps: int
    accepted: float
    missed: float
    r_hat: dict[str, float]

    @property
    def worst(self) -> tuple[str, float]:
        """What has come together least, and its R-hat."""
        name = max(self.r_hat, key=lambda key: self.r_hat[key])
        return name, self.r_hat[name]


@dataclass(frozen=True)
class Evidence:
    """All that is known.

    Attributes
    ----------
    needs_bias : bool
        Whether the input has none of its own.
    spent : int
        Force evaluations.
    seconds : float
    widths : bool
        Whether the short run without a bias has been made.
    unseen : list of str
        Torsions with wells that a hot run has seen and no biased run has.
    opposite : int
        Biased runs that were begun in such a well.
    coverage : Coverage or None
    generator : Generator or None
    claim : Claim or None
    chains : Chains or None
    biased_steps, generated, moves_steps, window_steps, n_windows : int
        How long the first biased run was, how many configurations the claim was made of, how long
        each run with exact moves and each window is, and how many there are of that length.
    trainings : int
        How many generators have been trained.
    """

    needs_bias: bool
    spent: int
    seconds: float = 0.0
    widths: bool = False
    unseen: list[str] = field(default_factory=list)
    opposite: int = 0
    coverage: Coverage | None = None
    generator: Generator | None = None
    claim: Claim | None = None
    chains: Chains | None = None
    biased_steps: int = 0
    generated: int = 0
    moves_steps: int = 0
    window_steps: int = 0
    n_windows: int = 0
    trainings: int = 0
