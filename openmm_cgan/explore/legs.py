"""What a search along learned coordinates runs next: metadynamics, or the bias as it left it.

Metadynamics goes on until it has gone between the two states often enough to say that its bias gets
over what is between them. Then the bias is held, and the number is that of the frames under it. A
bias that does not lead from one state to the other is mended by more metadynamics.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from openmm_cgan.free_energy.doubts import HALVES_AGREE
from openmm_cgan.free_energy.samples import Estimate

CROSSINGS_FOR_ERROR = 10  # between the states: fewer, and no error is known


@dataclass(frozen=True)
class Seen:
    """What a run under a bias that does not change says of the difference.

    Attributes
    ----------
    whole : Estimate
    halves : (Estimate, Estimate)
    crossings : int
        From one state to the other, by frames.
    unknown : str
        Why there is no number; empty where there is one.
    """

    whole: Estimate
    halves: tuple[Estimate, Estimate]
    crossings: int
    unknown: str = ""

    @property
    def leads_nowhere(self) -> bool:
        """Whether the bias hardly led from state to state, or its frames weigh nothing."""
        return self.crossings < CROSSINGS_FOR_ERROR or bool(self.unknown)

    def why_not(self, tolerance: float) -> str:
        """Why it is no number yet; empty where it is."""
        error = self.whole[1]
        if self.crossings < CROSSINGS_FOR_ERROR:
            went = f"the run went {self.crossings} times between the states"
            return f"{went}, {CROSSINGS_FOR_ERROR} needed"
        if self.unknown:
            return self.unknown
        if not error <= tolerance:
            return f"its error is {error:.2f} kJ/mol, {tolerance:g} wanted"
        first, second = self.halves
        apart = abs(first[0] - second[0]) / np.hypot(first[1], second[1])
        if not apart <= HALVES_AGREE:
            return f"its halves differ by {apart:.1f} standard errors"
        return ""


@dataclass(frozen=True)
class Known:
    """How far a search is.

    Attributes
    ----------
    flooded : int
        Steps of metadynamics.
    crossings : int
        Of it, from one state to the other.
    held : int
        Steps under the bias that it has left, 0 where that has not been held.
    seen : Seen or None
        What these say; None where it has not been held.
    """

    flooded: int = 0
    crossings: int = 0
    held: int = 0
    seen: Seen | None = None


@dataclass(frozen=True)
class Leg:
    """What is run next.

    Attributes
    ----------
    held : bool
        Under the bias as it is; else metadynamics goes on.
    end : int
        The step to which, from the beginning of that run.
    reason : str
    """

    held: bool
    end: int
    reason: str


def next_leg(known: Known, first: int, tolerance: float, left: int) -> Leg | None:
    """What is run next; None where the number is known, or nothing may be run any more.

    Parameters
    ----------
    known : Known
    first : int
        Steps of the first leg of a run; each further one is half as long as the run was, or more.
    tolerance : float
        Standard error that is wanted [kJ/mol].
    left : int
        Steps that may still be made.
    """
    if left <= 0:
        return None
    held, reason = _wanted(known, tolerance)
    if not reason:
        return None
    so_far = known.held if held else known.flooded
    return Leg(held, so_far + min(left, max(so_far // 2, first)), reason)


def _wanted(known: Known, tolerance: float) -> tuple[bool, str]:
    """Whether the bias is to be held, and why; no reason where the number is known."""
    if not known.flooded:
        return False, "nothing is known yet of what is between the states"
    if known.seen is None:
        if known.crossings >= CROSSINGS_FOR_ERROR:
            return True, f"metadynamics went {known.crossings} times between the states"
        went = f"{known.crossings} times between the states, {CROSSINGS_FOR_ERROR} needed"
        return False, f"it went {went}"
    why = known.seen.why_not(tolerance)
    if known.seen.leads_nowhere and known.held >= known.flooded:
        return False, f"under its bias as it is: {why}"
    return True, why


def why_unknown(known: Known, tolerance: float) -> str:
    """Why there is no number yet; empty where there is one."""
    return _wanted(known, tolerance)[1] if known.seen is None else known.seen.why_not(tolerance)
