"""A generator judged: what its configurations are worth, and what each way to use it costs.

Weights are looked at region by region of the CVs: a generator may be good where it was trained and
poor where it is needed. Frames of the run are weighed as if the generator had made them: where
there is a kind of frame that it makes far too rarely, no weight of its own tells.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from openmm_cgan.collective_variable import CollectiveVariable, first_of_each_cell
from openmm_cgan.free_energy.generated import log_weights_of_frames
from openmm_cgan.free_energy.pareto import LARGEST_K, pareto_k
from openmm_cgan.metrics.consistency import MicroMacroConsistency
from openmm_cgan.proposals.weights import kish_effective_sample_size
from openmm_cgan.reporters.attempts import Attempt
from openmm_cgan.reporters.moves import ExactMove
from openmm_cgan.short_reprs import short_repr

CELLS = 8  # along each of one or two CVs
HIGHEST = 60.0  # kJ/mol: what is rarer is of no account
FEW = 25  # configurations at a point, at least
REPEATS = 16  # configurations at a frame of which only the mean weight is wanted
TOO_RARE = 100.0  # times: frames that the generator misses
GOOD_SHARE = 0.05  # Kish over n in the tenth worst region: exact moves and weights pay
POOR_SHARE = 0.005  # in the median region: windows cost less


@dataclass(frozen=True, repr=False)
class WeightsWorth:
    """What the importance weights of a generator are worth.

    Attributes
    ----------
    at : ndarray, shape (n_points, n_cvs)
        CVs of frames, one from each region whose free energy is below 60 kJ/mol [CV units].
    free_energy : ndarray, shape (n_points,)
        There, by the weights; its least value is zero [kJ/mol].
    share, k_hat : ndarray, shape (n_points,)
        Kish's effective number over the number of configurations, and Pareto's k, at each.
    missed : float
        Share of frames of the run that it makes a hundred times too rarely or not at all; NaN
        where none could be looked at.
    reasons : dict of str to int
        Why configurations have weight zero.
    n : int
        Configurations.
    """

    at: NDArray[np.float64]
    free_energy: NDArray[np.float64]
    share: NDArray[np.float64]
    k_hat: NDArray[np.float64]
    missed: float
    reasons: dict[str, int]
    n: int

    __repr__ = short_repr

    @property
    def median(self) -> float:
        """Kish over n in the median region; 0 where nothing is known."""
        return float(np.median(self.share)) if len(self.share) else 0.0

    @property
    def tenth(self) -> float:
        """Kish over n of which a tenth of the regions have less."""
        return float(np.quantile(self.share, 0.1)) if len(self.share) else 0.0

    @property
    def heavy(self) -> float:
        """Share of the regions in which Pareto's k is above 0.7."""
        return float((self.k_hat > LARGEST_K).mean()) if len(self.k_hat) else 1.0


@dataclass(frozen=True)
class SeedsWorth:
    """What seeds of a generator cost.

    Attributes
    ----------
    attempts, accepted : int
    reasons : dict of str to int
        Why the others were refused.
    steps : float
        Steps of healing for each that was accepted; infinite where none was.
    drift : tuple of float
        Root mean square of CVs after healing less those asked for [CV units].
    """

    attempts: int
    accepted: int
    reasons: dict[str, int]
    steps: float
    drift: tuple[float, ...]


@dataclass(frozen=True, repr=False)
class Judgement:
    """All that was measured of a generator.

    Attributes
    ----------
    why_not_exact : str
        Why its configurations have no exact weights; empty if they have.
    weights : WeightsWorth or None
    seeds : SeedsWorth or None
    screened : dict of str to int
        Configurations at CVs of frames, by what the screens say; "accepted" of those that passed.
    consistency : MicroMacroConsistency or None
        With its floors.
    variables : tuple of CollectiveVariable
    energies : int
        Evaluated for the weights, of configurations and of frames.
    """

    why_not_exact: str
    weights: WeightsWorth | None
    seeds: SeedsWorth | None
    screened: dict[str, int] = field(default_factory=dict)
    consistency: MicroMacroConsistency | None = None
    variables: tuple[CollectiveVariable, ...] = ()
    energies: int = 0

    __repr__ = short_repr

    @property
    def passed(self) -> float:
        """Share that passes the screens; NaN where none was looked at."""
        total = sum(self.screened.values())
        return self.screened.get("accepted", 0) / total if total else float("nan")


def weights_worth(
    move: ExactMove, positions: NDArray, cvs: NDArray, n: int, seed: int = 0
) -> WeightsWorth:
    """Weigh configurations at CVs of frames, and the frames as if they were such.

    Half of the configurations are made at frames from all regions that the run has visited, many
    at each; the other half at more frames, few at each, only to tell which frames are missed.

    Parameters
    ----------
    move : ExactMove
    positions : ndarray, shape (n_frames, n_atoms, 3)
        Of frames of biased runs: the bias acts on the CVs alone, which leaves p(x | CVs) as it is
        [nm].
    cvs : ndarray, shape (n_frames, n_cvs)
        Theirs [CV units].
    n : int
        Configurations, one energy each.
    seed : int

    Returns
    -------
    WeightsWorth

    Raises
    ------
    ValueError
        If there are too few configurations for one region.
    """
    rng = np.random.default_rng(seed)
    inside = np.flatnonzero(np.isfinite(move.conditions.log_density(cvs)))
    inside = rng.permutation(inside)
    first = first_of_each_cell(cvs[inside], tuple(move.sampler.variables), CELLS, 2)
    points = inside[np.sort(first)[: max(1, n // (2 * FEW))]]
    each = n // (2 * max(1, len(points)))
    if each < FEW:
        raise ValueError(f"{n} configurations: expected {2 * FEW} or more")
    made = _at(move, cvs[points], each, rng)
    more = inside[: n // (2 * REPEATS)]
    fewer = _at(move, cvs[more], REPEATS, rng)
    means, others = (np.array([_log_mean(row) for row in m.log_weights]) for m in (made, fewer))
    rows, expected = np.append(points, more), np.append(means, others)
    theirs = log_weights_of_frames(move, positions[rows], cvs[rows], seed)
    free_energy = move.kT * (means.max() - means) if np.isfinite(means).any() else means + np.inf
    low = free_energy < HIGHEST
    heights = move.kT * (expected.max() - expected)
    looked = heights < HIGHEST
    return WeightsWorth(
        cvs[points][low],
        free_energy[low],
        np.array([kish_effective_sample_size(row) / each for row in made.log_weights[low]]),
        np.array([_k_hat(row) for row in made.log_weights[low]]),
        _missed(theirs[looked], expected[looked]),
        dict(made.reasons + fewer.reasons),
        int(made.log_weights.size + fewer.log_weights.size),
    )


def missed_share(move: ExactMove, positions: NDArray, cvs: NDArray, seed: int = 0) -> float:
    """Share of frames that a generator makes a hundred times too rarely, or not at all.

    Parameters
    ----------
    move : ExactMove
    positions : ndarray, shape (n_frames, n_atoms, 3)
        [nm]
    cvs : ndarray, shape (n_frames, n_cvs)
        Theirs; those outside of what the move draws are left out [CV units].
    seed : int

    Returns
    -------
    float
        NaN where there is no frame. Each frame costs 16 energies.
    """
    rng = np.random.default_rng(seed)
    rows = np.flatnonzero(np.isfinite(move.conditions.log_density(cvs)))
    made = _at(move, cvs[rows], REPEATS, rng)
    expected = np.array([_log_mean(row) for row in made.log_weights])
    theirs = (
        log_weights_of_frames(move, positions[rows], cvs[rows], seed) if len(rows) else expected
    )
    return _missed(theirs, expected)


@dataclass(frozen=True)
class _Made:
    """Log weights (n_points, n_each) without the bias, and why some are zero."""

    log_weights: NDArray[np.float64]
    reasons: Counter[str]


def _at(move: ExactMove, cvs: NDArray, each: int, rng: np.random.Generator) -> _Made:
    """Configurations at each of some CVs, weighed."""
    logs, reasons = [], Counter[str]()
    for point in tqdm(cvs, desc="weighing", disable=None, leave=False):
        drawn = np.tile(point, (each, 1))
        x, log_prob = move.sampler.sample_with_log_prob(drawn, seed=int(rng.integers(2**31)))
        weighed = move.weigh(x, drawn, log_prob)
        own = np.where(np.isfinite(weighed.log_weights), weighed.bias / move.kT, 0.0)
        logs.append(weighed.log_weights + own)
        reasons.update(str(reason) for reason in weighed.reasons if reason)
    return _Made(np.array(logs).reshape(len(cvs), each), reasons)


def _k_hat(logs: NDArray) -> float:
    return pareto_k(logs) if np.isfinite(logs).any() else float("inf")


def _log_mean(logs: NDArray) -> float:
    top = logs.max()
    return float(top + np.log(np.exp(logs - top).mean())) if np.isfinite(top) else -np.inf


def _missed(theirs: NDArray, expected: NDArray) -> float:
    """Share of frames whose weight is far above the mean of what is made at their CVs.

    A frame that the generator cannot make has no density, and is missed as well.
    """
    if not len(theirs):
        return float("nan")
    return float((np.isneginf(theirs) | (theirs - expected > np.log(TOO_RARE))).mean())


def seeds_worth(
    attempt: Callable[[int], Attempt],
    n: int,
    heal_steps: int,
    variables: Sequence[CollectiveVariable],
) -> SeedsWorth:
    """Make seeds, and count what they cost and how far healing takes them.

    Parameters
    ----------
    attempt : callable
        Number of the attempt to what became of it.
    n : int
        Attempts.
    heal_steps : int
        Of each that is healed.
    variables : sequence of CollectiveVariable
    """
    made = [attempt(k) for k in tqdm(range(n), desc="seeds", disable=None, leave=False)]
    passed = [a for a in made if a.positions is not None]
    reasons = Counter(a.reason for a in made if a.positions is None)
    healed = [a for a in made if np.isfinite(a.healed).all()]
    drift = [
        float(np.sqrt(np.mean([v.difference(a.target[k], a.healed[k]) ** 2 for a in healed])))
        if healed else float("nan")
        for k, v in enumerate(variables)
    ]  # fmt: skip
    steps = heal_steps * len(healed) / len(passed) if passed else float("inf")
    return SeedsWorth(n, len(passed), dict(reasons), steps, tuple(drift))


def advice(judgement: Judgement) -> list[str]:
    """What to use a generator for and why, in sentences.

    Parameters
    ----------
    judgement : Judgement
    """
    said = []
    worth = judgement.weights
    if worth is None:
        said.append(f"No exact weights: {judgement.why_not_exact}.")
    elif worth.missed > 0.02:
        said.append(
            f"It misses {worth.missed:.1%} of the frames of the run: free energies by its weights "
            "alone would be wrong whatever their error bars say; train on more of these frames."
        )
    elif worth.median < POOR_SHARE or worth.heavy > 0.5:
        said.append(
            f"Its weights are dominated by a few (Kish/n {worth.median:.3f} in the median region, "
            f"Pareto k above {LARGEST_K} in {worth.heavy:.0%} of them): refine it, or train it "
            "longer or on more frames; until then use mode=seed and windows."
        )
    elif worth.tenth < GOOD_SHARE:
        said.append(
            "Use mode=exact and free-energy --model, with more candidates or windows where it is "
            f"poor: Kish/n is {worth.median:.2f} in the median region, and below {worth.tenth:.3f} "
            "in a tenth of them."
        )
    else:
        said.append(
            f"Use mode=exact and free-energy --model: Kish/n {worth.median:.2f} in the median "
            f"region ({1 / worth.median:.1f} energies for each effective sample), "
            f"{worth.tenth:.2f} or more in nine of ten."
        )
    if worth is None or worth.median < POOR_SHARE or worth.missed > 0.02:
        said.append(_of_seeds(judgement.seeds))
    ratio = None if judgement.consistency is None else judgement.consistency.ratio
    if ratio is not None and ratio > 1.5:
        said.append(
            f"At given CVs its configurations are not distributed as frames are ({ratio:.1f} times "
            "the floor): closures and averages from it alone are biased."
        )
    return said


def _of_seeds(seeds: SeedsWorth | None) -> str:
    if seeds is None:
        return "Seeds were not tried."
    if not seeds.accepted:
        reasons = ", ".join(f"{count} {reason}" for reason, count in seeds.reasons.items())
        return f"None of {seeds.attempts} seeds passed ({reasons}): do not use it yet."
    return (
        f"Use mode=seed, or windows --model: {seeds.accepted} of {seeds.attempts} seeds passed, "
        f"{seeds.steps:.0f} steps of healing each; right after windows and MBAR, never by itself."
    )
