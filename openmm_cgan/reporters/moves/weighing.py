"""Weights of configurations, whatever move proposed them: the terms in one place.

A move says what it made and with which densities; what a configuration is in the run (screen, CVs,
energy, bias, Fixman's factor) is found here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from openmm_cgan.proposals import PASSED, Screen, cv_differences
from openmm_cgan.proposals.screening import CV_ERROR
from openmm_cgan.proposals.weights import LogWeights, log_condition_noise
from openmm_cgan.reporters.attempts import ENERGY_NOT_FINITE
from openmm_cgan.short_reprs import short_repr

if TYPE_CHECKING:
    from openmm_cgan.collective_variable import CollectiveVariable
    from openmm_cgan.plumed.bias import PlumedBias
    from openmm_cgan.potentials import Potential

OUTSIDE_GENERATOR = "outside generator"

PLACED_WITHIN = 1e-4  # CV units: of a CV that is a coordinate of the generator
AT_ONCE = 10_000_000  # numbers: positions of whole systems that are made at once


class Energies(Protocol):
    """What knows the energy of whole systems without the bias: a Potential."""

    def energies(self, positions: NDArray[np.float64]) -> NDArray[np.float64]:
        """Energies (n,) [kJ/mol] of positions (n, n_atoms, 3) [nm]; infinite where not finite."""
        ...

    def half_log_det(self, positions: Any) -> Any:
        """Logarithm of Fixman's factor (n,)."""
        ...


class WithGradients:
    """A Potential that keeps the gradients of the energies that it was asked for.

    Parameters
    ----------
    potential : Potential
    """

    def __init__(self, potential: Potential) -> None:
        self._potential = potential
        self._found = [np.zeros((0, potential.n_atoms, 3))]

    @property
    def gradients(self) -> NDArray[np.float64]:
        """Of all configurations so far, (n, n_atoms, 3) [kJ/mol/nm]."""
        return np.concatenate(self._found)

    def energies(self, positions: NDArray[np.float64]) -> NDArray[np.float64]:
        """Energies (n,) [kJ/mol] of positions (n, n_atoms, 3) [nm]."""
        energies, gradients = self._potential.energies_and_gradients(positions)
        self._found.append(gradients)
        return energies

    def half_log_det(self, positions: Any) -> Any:
        """Logarithm of Fixman's factor (n,)."""
        return self._potential.half_log_det(positions)


@dataclass(frozen=True, repr=False)
class Made:
    """Configurations of a sampler, and the densities that they were made with.

    Attributes
    ----------
    x : ndarray, shape (n, n_made, 3)
        In the order of the sampler's atoms [nm].
    conditions : ndarray, shape (n, n_cvs)
        For which they were made [CV units].
    log_prob : ndarray, shape (n,)
        log q(x|c) of the sampler.
    log_density : ndarray, shape (n,)
        log g(c) of the conditions.
    """

    x: NDArray[np.float64]
    conditions: NDArray[np.float64]
    log_prob: NDArray[np.float64]
    log_density: NDArray[np.float64]

    __repr__ = short_repr


@dataclass(frozen=True, repr=False)
class Weighed:
    """Configurations with their weights.

    Attributes
    ----------
    reasons : ndarray of str, shape (n,)
        Why a weight is zero, or empty.
    cvs : ndarray, shape (n, n_cvs)
        NaN where not measured.
    energies, bias : ndarray, shape (n,)
        Potential energy without the bias, and the bias [kJ/mol]; NaN where not evaluated.
    log_weights : ndarray, shape (n,)
    evaluated : int
        Number of energies evaluated.
    slopes : ndarray, shape (n, n_made, 3), or None
        Of -U/kT by positions [1/nm], where they were asked for; NaN where the weight is zero.
    """

    reasons: NDArray
    cvs: NDArray
    energies: NDArray
    bias: NDArray
    log_weights: NDArray
    evaluated: int
    slopes: NDArray | None = None

    __repr__ = short_repr

    def without_first(self) -> Weighed:
        """The candidates, where the current configuration is the first of all."""
        return Weighed(
            self.reasons[1:], self.cvs[1:], self.energies[1:], self.bias[1:],
            self.log_weights[1:], self.evaluated,
        )  # fmt: skip


@dataclass(frozen=True, repr=False)
class Target:
    """The density that a move leaves as it is.

    Attributes
    ----------
    bias : PlumedBias
        Measures the CVs, and is the bias of the run as a function of them.
    potential : Energies
    screen : Screen
        What a configuration must be, whatever its energy.
    kT : float
        [kJ/mol]
    variables : sequence of CollectiveVariable
    noise : ndarray, shape (n_cvs,)
        Of the conditions about the CVs [CV units]; a CV whose noise is zero must be as asked for.
    whole : callable
        Configurations (n, n_made, 3) to those of the whole system (n, n_atoms, 3) [nm].
    box : ndarray, shape (3, 3), or None
        [nm]
    """

    bias: PlumedBias
    potential: Energies
    screen: Screen
    kT: float
    variables: Sequence[CollectiveVariable]
    noise: NDArray[np.float64]
    whole: Callable[[NDArray[np.float64]], NDArray[np.float64]]
    box: NDArray[np.float64] | None = None

    __repr__ = short_repr

    def weigh(self, made: Made) -> Weighed:
        """Weights of configurations, up to a factor that all of them share."""
        n, n_cvs = made.conditions.shape
        reasons = self.screen.check(made.x).astype("U24")
        reasons[(reasons == PASSED) & ~np.isfinite(made.log_prob)] = OUTSIDE_GENERATOR
        terms = {name: np.full(n, np.nan) for name in ("energy", "bias", "fixman", "noise")}
        cvs, passed = np.full((n, n_cvs), np.nan), np.flatnonzero(reasons == PASSED)
        for rows in self._portions(passed, made.x):
            whole, asked = self.whole(made.x[rows]), made.conditions[rows]
            cvs[rows] = self.bias.cv_values(whole, self.box)
            reasons[rows[self._misplaced(cvs[rows], asked)]] = CV_ERROR
            terms["energy"][rows] = self.potential.energies(whole)
            terms["bias"][rows] = self.bias.bias_of_cvs(cvs[rows])
            terms["fixman"][rows] = self.potential.half_log_det(whole)
            measured = cvs[rows], self.noise, self.variables
            terms["noise"][rows] = log_condition_noise(asked, *measured)
            reasons[rows[np.isinf(terms["energy"][rows])]] = ENERGY_NOT_FINITE
        log_weights = LogWeights(
            reduced_energy=(terms["energy"] + terms["bias"]) / self.kT,
            log_prob=made.log_prob,
            log_density=made.log_density,
            fixman=terms["fixman"],
            log_noise=terms["noise"],
        ).total()
        log_weights[reasons != PASSED] = -np.inf
        return Weighed(reasons, cvs, terms["energy"], terms["bias"], log_weights, len(passed))

    def _portions(self, rows: NDArray[np.int64], x: NDArray[np.float64]) -> list[NDArray[np.int64]]:
        """Rows in portions of which whole systems fit into memory."""
        if not len(rows):
            return []
        size = self.whole(x[rows[:1]]).size
        return np.array_split(rows, -(-len(rows) * size // AT_ONCE))

    def _misplaced(self, cvs: NDArray, conditions: NDArray) -> NDArray:
        """Whether a CV that is a coordinate has not the value asked for."""
        away = np.abs(cv_differences(self.variables, conditions, cvs))
        return ~(away[:, self.noise == 0] <= PLACED_WITHIN).all(axis=1)
