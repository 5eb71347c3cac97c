"""Estimates of a difference, with what speaks for and against them."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from openmm_cgan.explore.evidence import Claim
from openmm_cgan.free_energy import (
    BiasedFrames,
    GeneratedFrames,
    WeightedSamples,
    reweight_generated,
    reweight_windows,
    start_disagreement,
)
from openmm_cgan.free_energy.biased_runs import BiasedRun, reweight_runs
from openmm_cgan.free_energy.differences import StateDifference
from openmm_cgan.free_energy.doubts import LEAST_EFFECTIVE
from openmm_cgan.free_energy.overlap import weakest_link
from openmm_cgan.free_energy.pareto import pareto_k
from openmm_cgan.proposals.weights import kish_effective_sample_size

logger = logging.getLogger("openmm_cgan")

UNKNOWN = float("nan")
GROWS = 0.2  # of a run, at its beginning, while its bias grows fast


def claim_by_weights(
    made: GeneratedFrames, difference: StateDifference, seed: int = 0
) -> tuple[Claim, WeightedSamples]:
    """A claim of generated configurations.

    Parameters
    ----------
    made : GeneratedFrames
    difference : StateDifference
    seed : int
        Of the bootstrap.

    Returns
    -------
    Claim
        Its ``k_hat`` is the larger of those of the two states, ``effective`` the smaller.
    WeightedSamples
    """
    samples = reweight_generated(made, seed=seed)
    halves = [_known_part(part, difference, seed) for part in made.halves()]
    sides = difference.sides(samples.cvs, samples.variables)
    value, error, unknown = _number(samples, difference, "configurations")
    states = [samples.log_weights[sides == side] for side in (0, 1)]
    effective = min(kish_effective_sample_size(logs) for logs in states)
    # of each state by itself: one that is rare has a tail of its own
    heavy = max((pareto_k(logs) if len(logs) else np.inf) for logs in states)
    if not unknown and effective < LEAST_EFFECTIVE:
        unknown = f"a state is worth {effective:.0f} configurations, {LEAST_EFFECTIVE:.0f} needed"
    claim = Claim("generated", value, error, halves, float(heavy), effective, unknown)
    return claim, samples


def _known_part(part: GeneratedFrames, difference: StateDifference, seed: int) -> list[float]:
    try:
        # half of them may be too few for a number; the whole is judged, and says so
        samples = replace(reweight_generated(part, seed=seed), unknown="")
        return list(difference.estimate(samples))
    except ValueError:
        return [UNKNOWN, UNKNOWN]


def _number(
    samples: WeightedSamples, difference: StateDifference, what: str
) -> tuple[float, float, str]:
    """Value, error and why there is none; ``what`` the samples are of, in words."""
    if samples.unknown:
        return UNKNOWN, UNKNOWN, samples.unknown
    try:
        value, error = difference.estimate(samples)
    except ValueError as none:
        return UNKNOWN, UNKNOWN, str(none)
    if np.isfinite(error):
        return value, error, ""
    if np.isinf(error):  # the weight of one part over another is not known
        return value, error, f"the {what} do not all overlap"
    return value, error, f"so few {what} are in one of the states that no error is known"


def claim_by_runs(
    runs: Sequence[BiasedRun], difference: StateDifference, seed: int = 0
) -> tuple[Claim, WeightedSamples]:
    """A claim of two biased runs that each reach everywhere, from different starts.

    Parameters
    ----------
    runs : sequence of BiasedRun
        Two.
    difference : StateDifference
    seed : int
        Of the bootstrap.

    Returns
    -------
    Claim, WeightedSamples
    """
    late = [replace(run, frames=run.frames.select(_part(run, GROWS, 1.0))) for run in runs]
    samples = reweight_runs(late, 0.0, seed=seed)
    halves = [
        _loosely([replace(run, frames=run.frames.select(_part(run, *part))) for run in late],
                 difference, seed)
        for part in ((0.0, 0.5), (0.5, 1.0))
    ]  # fmt: skip
    one, two = (_loosely([run], difference, seed) for run in late)
    apart = abs(one[0] - two[0]) / float(np.hypot(one[1], two[1]))
    value, error, unknown = _number(samples, difference, "runs")
    apart = apart if np.isfinite(apart) else float("inf")
    effective = samples.effective_samples
    return Claim("moves", value, error, halves, UNKNOWN, effective, unknown, apart), samples


def _part(run: BiasedRun, start: float, stop: float) -> slice:
    n = len(run.frames)
    return slice(round(start * n), round(stop * n))


def _loosely(runs: Sequence[BiasedRun], difference: StateDifference, seed: int) -> list[float]:
    """What a part of the runs says, even if it is little: it is only compared."""
    try:
        return list(difference.estimate(replace(reweight_runs(runs, 0.0, seed=seed), unknown="")))
    except ValueError:
        return [UNKNOWN, UNKNOWN]


def claim_by_windows(
    windows: Sequence[BiasedFrames],
    pairs: Sequence[tuple[int, int]],
    difference: StateDifference,
    seed: int = 0,
) -> tuple[Claim, WeightedSamples]:
    """A claim of umbrella windows.

    Parameters
    ----------
    windows : sequence of BiasedFrames
    pairs : sequence of (int, int)
        Numbers of windows that are the same but for their starts.
    difference : StateDifference
    seed : int
        Of the bootstrap.

    Returns
    -------
    Claim, WeightedSamples
    """
    samples = reweight_windows(windows, seed=seed)
    halves = []
    for part in ((0.0, 0.5), (0.5, 1.0)):
        some = reweight_windows([w.part(*part) for w in windows], seed=seed, n_bootstrap=50)
        halves.append(list(_number(some, difference, "windows")[:2]))
    first, second = ([windows[pair[k]] for pair in pairs] for k in (0, 1))
    apart = float(start_disagreement(first, second).max()) if pairs else float("inf")
    value, error, unknown = _number(samples, difference, "windows")
    overlap, _ = weakest_link(samples.overlap)
    return (
        Claim(
            "windows", value, error, halves, UNKNOWN, samples.effective_samples, unknown, apart,
            float(overlap),
        ),
        samples,
    )  # fmt: skip
