"""Configurations asked for at CV values: proposed by a sampler, screened, counted by reason.

A wrong proposal is no exception but a row with a reason.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from tqdm import tqdm

from openmm_cgan.proposals.samplers import Sampler, hangs_on_rest, require_same_variables
from openmm_cgan.proposals.screening import PASSED, Screen
from openmm_cgan.quantities import numbers_of

AT_ONCE = 10_000  # configurations
LOCAL = (
    "It makes a part that hangs on the others, which mode='local' of a ProposalReporter proposes "
    "among them as they stand"
)


@dataclass(frozen=True, repr=False)
class Proposals:
    """Configurations proposed at CV values, and what the screen said.

    Attributes
    ----------
    positions : ndarray, shape (n, n_atoms, 3)
        Configurations [nm].
    targets, cvs : ndarray, shape (n, n_cvs)
        CVs asked for, and CVs of the configurations (NaN where they are not finite).
    reasons : ndarray of str, shape (n,)
        Why each is refused; empty for those that passed.
    seed : int
        The seed that they were made with.
    """

    positions: NDArray
    targets: NDArray
    cvs: NDArray
    reasons: NDArray
    seed: int

    def __repr__(self) -> str:
        counts = ", ".join(f"{n} {reason}" for reason, n in self.counts().items())
        return f"Proposals({len(self)}: {counts}; seed {self.seed})"

    def __len__(self) -> int:
        return len(self.positions)

    @property
    def accepted(self) -> NDArray:
        """Mask (n,) of the configurations that passed."""
        return self.reasons == PASSED

    def counts(self) -> dict[str, int]:
        """Number of configurations by reason, "accepted" first."""
        refused = Counter(str(reason) for reason in self.reasons if reason)
        return {"accepted": int(self.accepted.sum()), **dict(sorted(refused.items()))}


def propose(sampler: Sampler, targets: ArrayLike, screen: Screen, *, seed: int) -> Proposals:
    """Lift CV values to configurations and screen them.

    Parameters
    ----------
    sampler : Sampler
        What makes the configurations, such as a ConditionalGenerator.
    targets : array_like, shape (n, n_cvs) or (n_cvs,)
        CV values, one configuration for each row.
    screen : Screen
        Made with a restriction, so that the CVs of what was made can be compared.
    seed : int
        Seed of the sampler's noise.

    Returns
    -------
    Proposals

    Raises
    ------
    ValueError
        If shapes do not fit, or the screen cannot measure CVs, or measures others. A wrong
        configuration raises nothing: it has a reason.
    """
    targets = np.atleast_2d(numbers_of(targets, "targets"))
    n_cvs = len(sampler.variables)
    if targets.ndim != 2 or targets.shape[1] != n_cvs:
        names = ", ".join(variable.name for variable in sampler.variables)
        raise ValueError(
            f"targets have shape {targets.shape}; expected (n, {n_cvs}), one column for each CV of "
            f"the sampler ({names})"
        )
    if screen.restriction is not None:
        require_same_variables(sampler.variables, screen.restriction.variables)
    positions = _sampled(sampler, targets, seed)
    if positions.shape != (len(targets), screen.n_atoms, 3):
        raise ValueError(
            f"the sampler gave configurations of shape {positions.shape}; expected "
            f"({len(targets)}, {screen.n_atoms}, 3), the atoms that the screen was made for"
            + (". " + LOCAL if hangs_on_rest(sampler) else "")
        )
    cvs = screen.cv_values(positions)
    reasons = screen.check(positions, targets, cvs, sampler.cv_range)
    screen.tell_odd_bond(positions, reasons)
    return Proposals(positions, targets, cvs, reasons, int(seed))


def _sampled(sampler: Sampler, targets: NDArray[np.float64], seed: int) -> NDArray[np.float64]:
    """Configurations at targets (n, n_cvs), of many with a progress bar on a terminal.

    Those after the first so many have seeds of their own.
    """
    starts = range(0, max(1, len(targets)), AT_ONCE)
    bar = tqdm(starts, desc="proposing", disable=None if len(starts) > 1 else True, leave=False)
    made = [
        sampler.sample(targets[k : k + AT_ONCE], seed=_seed_of(seed, k) if k else seed) for k in bar
    ]
    return np.concatenate([np.asarray(x, dtype=float) for x in made])


def _seed_of(seed: int, start: int) -> int:
    found = np.random.SeedSequence([seed % 2**32, start]).generate_state(1)
    return int(found[0]) // 2
