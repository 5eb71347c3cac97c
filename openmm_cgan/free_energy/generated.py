"""Configurations that a generator made, weighed; and MD frames as if it had made them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from openmm_cgan import GAS_CONSTANT
from openmm_cgan.collective_variable import CollectiveVariable
from openmm_cgan.free_energy.samples import BiasedFrames, unbiased
from openmm_cgan.proposals.conditions import Conditions
from openmm_cgan.proposals.samplers import DensitySampler
from openmm_cgan.proposals.weights import noisy_conditions
from openmm_cgan.quantities import positive
from openmm_cgan.short_reprs import cv_ranges

CHUNK = 1000  # configurations weighed at a time


@dataclass(frozen=True, repr=False)
class GeneratedFrames:
    """Configurations that a generator made, with their importance weights.

    Parameters
    ----------
    cvs : ndarray, shape (n, n_cvs)
        CV values of the configurations [CV unit].
    log_weights : ndarray, shape (n,)
        Log weights against the unbiased ensemble, up to a constant, as
        `openmm_cgan.proposals.weights.LogWeights` gives them; -inf for configurations that failed
        or were screened out. All that were made must be here, for none may be chosen.
    temperature : float
        Temperature [K].
    variables : tuple of CollectiveVariable
        The CVs; their domains say which are periodic.
    neighbours : ndarray of int, shape (n,), optional
        Of configurations whose conditions were drawn evenly, the group of neighbours that each is
        in (`openmm_cgan.proposals.even_draws`); by default all are independent.
    """

    cvs: NDArray[np.float64]
    log_weights: NDArray[np.float64]
    temperature: float
    variables: tuple[CollectiveVariable, ...]
    neighbours: NDArray[np.int64] | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "temperature", positive(self.temperature, "K", "temperature"))

    def __repr__(self) -> str:
        weighted = int(np.isfinite(self.log_weights).sum())
        size = f"{len(self.cvs)}, {weighted} of them with a weight"
        cvs = cv_ranges(self.variables, self.cvs)
        return f"GeneratedFrames({size}; {cvs}; {self.temperature:g} K)"

    def weighted_rows(self) -> NDArray[np.int64]:
        """Numbers of the configurations that have a weight, after a check of all.

        Returns
        -------
        ndarray of int, shape (n_weighted,)
            Where ``log_weights`` is finite.

        Raises
        ------
        ValueError
            If there is not one log weight to a configuration, one is NaN or +inf, or all are -inf.
        """
        logs = np.asarray(self.log_weights, dtype=float)
        if logs.shape != (len(self.cvs),):
            raise ValueError(
                f"log_weights has shape {logs.shape}, expected ({len(self.cvs)},): one for each "
                "configuration"
            )
        if np.isnan(logs).any() or np.isposinf(logs).any():
            raise ValueError("log_weights holds NaN or +inf; give failed configurations -inf")
        rows = np.flatnonzero(np.isfinite(logs))
        if not len(rows):
            raise ValueError(
                f"none of the {len(logs)} configurations has a weight: all failed or were screened "
                "out, so that nothing is known; is this the molecule that was trained on?"
            )
        return rows

    def halves(self) -> tuple[GeneratedFrames, GeneratedFrames]:
        """Two that know nothing of each other: every other one, or every other group."""
        groups = np.arange(len(self.cvs)) if self.neighbours is None else self.neighbours
        return self._part(groups % 2 == 0), self._part(groups % 2 == 1)

    def _part(self, rows: NDArray[np.bool_]) -> GeneratedFrames:
        groups = None if self.neighbours is None else self.neighbours[rows]
        return replace(
            self, cvs=self.cvs[rows], log_weights=self.log_weights[rows], neighbours=groups
        )

    def as_window(self, rows: NDArray[np.int64]) -> BiasedFrames:
        """Some of the configurations, as if they were a window.

        Parameters
        ----------
        rows : ndarray of int, shape (n_rows,)
            Numbers of the configurations.
        """
        return BiasedFrames(
            self.cvs[rows], unbiased, self.temperature, self.variables, "generated configurations"
        )


class Weighed(Protocol):
    """Configurations with their weights: `openmm_cgan.reporters.moves.Weighed`.

    Attributes
    ----------
    cvs : ndarray, shape (n, n_cvs)
        CV values of the configurations [CV unit].
    log_weights : ndarray, shape (n,)
        Against the ensemble under the bias; -inf for weight zero.
    bias : ndarray, shape (n,)
        Bias energy [kJ/mol].
    """

    @property
    def cvs(self) -> NDArray[np.float64]: ...

    @property
    def log_weights(self) -> NDArray[np.float64]: ...

    @property
    def bias(self) -> NDArray[np.float64]: ...


class Weigher(Protocol):
    """What weighs configurations of a sampler: `openmm_cgan.reporters.moves.ExactMove`.

    Attributes
    ----------
    sampler : DensitySampler
    conditions : Conditions
        From where CV values are drawn.
    noise : ndarray, shape (n_cvs,)
        Of the conditions about the CVs [CV unit].
    kT : float
        [kJ/mol]
    """

    sampler: DensitySampler
    conditions: Conditions
    noise: NDArray[np.float64]
    kT: float

    def weigh(self, x: NDArray, conditions: NDArray, log_prob: NDArray) -> Weighed:
        """Weigh configurations.

        Parameters
        ----------
        x : ndarray, shape (n, n_generated, 3)
            The generated atoms, in their order [nm].
        conditions : ndarray, shape (n, n_cvs)
            CV values that they were made at [CV unit].
        log_prob : ndarray, shape (n,)
            log q(x|c), the log density that they were made with.

        Returns
        -------
        Weighed
            What the weights are made of.
        """


def _chunks(n: int, work: str = "generating") -> tqdm[int]:
    """Where each chunk of n configurations begins, with a progress bar on a terminal."""
    return tqdm(range(0, n, CHUNK), desc=work, disable=None, leave=False)


def generate_frames(weigher: Weigher, n: int, seed: int = 0) -> GeneratedFrames:
    """Make configurations and weigh them against the unbiased ensemble.

    Parameters
    ----------
    weigher : Weigher
        Its bias, if it has one, is taken out of the weights.
    n : int
        Number of configurations; each costs one energy.
    seed : int
        Of the CV values and of the configurations.

    Returns
    -------
    GeneratedFrames
        All n, those of weight zero included.
    """
    rng = np.random.default_rng(seed)
    cvs, logs = [], []
    for start in _chunks(n):
        drawn = weigher.conditions.draw(min(CHUNK, n - start), rng)
        values, found = _weighed(weigher, drawn, int(rng.integers(2**31)))
        cvs.append(values)
        logs.append(found)
    temperature = weigher.kT / GAS_CONSTANT
    variables = tuple(weigher.sampler.variables)
    return GeneratedFrames(np.concatenate(cvs), np.concatenate(logs), temperature, variables)


def weighed_at(
    weigher: Weigher, conditions: NDArray, seed: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Make one configuration at each of given conditions, and weigh it without their density.

    Parameters
    ----------
    weigher : Weigher
    conditions : ndarray, shape (n, n_cvs)
        Within what the weigher draws from [CV unit].
    seed : int

    Returns
    -------
    cvs : ndarray, shape (n, n_cvs)
        Of the configurations; NaN where not measured [CV unit].
    log_weights : ndarray, shape (n,)
        As of `generate_frames`, log g(c) left out; -inf for weight zero.
    """
    rng = np.random.default_rng(seed)
    parts = []
    for start in _chunks(len(conditions)):
        drawn = conditions[start : start + CHUNK]
        cvs, logs = _weighed(weigher, drawn, int(rng.integers(2**31)))
        parts.append((cvs, logs + weigher.conditions.log_density(drawn)))
    cvs, logs = (np.concatenate(columns) for columns in zip(*parts, strict=True))
    return cvs, logs


def _weighed(
    weigher: Weigher, conditions: NDArray, seed: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """CVs and log weights of one configuration at each of the conditions."""
    x, log_prob = weigher.sampler.sample_with_log_prob(conditions, seed=seed)
    weighed = weigher.weigh(x, conditions, log_prob)
    return weighed.cvs, _without_bias(weighed, weigher.kT)


def log_weights_of_frames(
    weigher: Weigher, positions: NDArray, cvs: NDArray, seed: int = 0
) -> NDArray[np.float64]:
    """Log weights of MD frames as candidates of a generator, for `reweight_with_generated`.

    Parameters
    ----------
    weigher : Weigher
        The one that `generate_frames` was given.
    positions : ndarray, shape (n, n_generated, 3)
        The generated atoms, in their order [nm].
    cvs : ndarray, shape (n, n_cvs)
        Their CV values [CV unit].
    seed : int
        Of the conditions of CVs that are no coordinates of the generator.

    Returns
    -------
    ndarray, shape (n,)
        -inf where the generator cannot make a frame.
    """
    rng = np.random.default_rng(seed)
    logs = []
    for start in _chunks(len(positions), "weighing frames"):
        part = slice(start, start + CHUNK)
        x = np.asarray(positions[part], dtype=float)
        drawn = noisy_conditions(
            np.asarray(cvs[part], dtype=float), weigher.noise, weigher.sampler.variables, rng
        )
        weighed = weigher.weigh(x, drawn, weigher.sampler.log_prob(x, drawn))
        logs.append(_without_bias(weighed, weigher.kT))
    return np.concatenate(logs)


def _without_bias(weighed: Weighed, kT: float) -> NDArray[np.float64]:
    return np.where(
        np.isfinite(weighed.log_weights), weighed.log_weights + weighed.bias / kT, -np.inf
    )
