"""Configurations generated in rounds, each drawn where those before it found the weight.

All are weighed by the mixture of the densities that their conditions were drawn from, which they
fill evenly.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import logsumexp

from openmm_cgan import GAS_CONSTANT
from openmm_cgan.free_energy.generated import GeneratedFrames, Weigher, weighed_at
from openmm_cgan.proposals.conditions import (
    GridConditions,
    UniformConditions,
    cells_along,
    log_density_of_mixture,
)
from openmm_cgan.proposals.even_draws import drawn_evenly
from openmm_cgan.quantities import number_of_steps

ROUNDS = 5  # of some thousand configurations
POWER = 0.5  # of the density found: rare basins are drawn from as well


def generate_in_rounds(
    weigher: Weigher,
    n: int | Sequence[int],
    cv_range: ArrayLike,
    seed: int = 0,
    states: Callable[[NDArray], NDArray] | None = None,
) -> GeneratedFrames:
    """Make configurations in rounds and weigh them against the unbiased ensemble.

    Parameters
    ----------
    weigher : Weigher
    n : int or sequence of int
        Configurations, in five rounds, or those of each round; the first is uniform over the range
        of CVs, each of the others follows the square root of the density that all before it found.
    cv_range : array_like, shape (n_cvs, 2)
        [CV units]
    seed : int
    states : callable, optional
        CVs (n, n_cvs) to the number of the state that each is in, (n,), negative in none: later
        rounds are drawn from all states alike, however rare one is.

    Returns
    -------
    GeneratedFrames
        All of them, in the order in which they were made.

    Raises
    ------
    ValueError
        If a round is to have less than one configuration, or all together less than two.
    """
    rng, sizes = np.random.default_rng(seed), _sizes(n)
    variables = tuple(weigher.sampler.variables)
    bins = cells_along(len(variables))
    drawn_from: list[UniformConditions | GridConditions] = [UniformConditions(cv_range, variables)]
    nothing = np.zeros((0, len(variables)))
    cvs, conditions, own, total = nothing, nothing, np.zeros(0), np.zeros(0)
    neighbours = np.zeros(0, dtype=np.int64)
    for number, size in enumerate(sizes):
        if number and np.isfinite(total).any():
            asked = total if states is None else balanced(total, states(cvs))
            grid = GridConditions.from_weights(
                conditions, asked, cv_range, variables, bins, power=POWER
            )
            drawn_from.append(grid)
        elif number:
            drawn_from.append(drawn_from[0])
        fresh, pairs = drawn_evenly(drawn_from[-1], size, rng)
        neighbours = np.append(neighbours, pairs + neighbours.max(initial=-1) + 1)
        values, found = weighed_at(weigher, fresh, int(rng.integers(2**31)))
        cvs, own = np.concatenate([cvs, values]), np.append(own, found)
        conditions = np.concatenate([conditions, fresh])
        made = sizes[: len(drawn_from)]
        total = own - log_density_of_mixture(drawn_from, made, conditions)
    temperature = weigher.kT / GAS_CONSTANT
    return GeneratedFrames(cvs, total, temperature, variables, neighbours)


def _sizes(n: int | Sequence[int]) -> list[int]:
    """Of rounds, as given, or alike; one round where there are not two for each."""
    if not isinstance(n, Sequence | np.ndarray):
        whole = number_of_steps(n, "n", 2, "configurations")
        each = whole // ROUNDS
        return [each] * (ROUNDS - 1) + [whole - each * (ROUNDS - 1)] if each > 1 else [whole]
    sizes = [number_of_steps(size, "n, of a round", 1, "configurations") for size in n]
    if sum(sizes) < 2:
        raise ValueError(f"n is {list(n)}, expected two configurations or more: one has no error")
    return sizes


def balanced(log_weights: NDArray, states: NDArray) -> NDArray[np.float64]:
    """Log weights (n,) with which all states weigh alike; what is in none keeps its own."""
    logs = log_weights - logsumexp(log_weights)
    for state in np.unique(states[states >= 0]):
        inside = states == state
        if np.isfinite(logs[inside]).any():
            logs[inside] -= logsumexp(logs[inside])
    return logs
