"""Where exact candidates are asked for: near the marginal density of the CVs, as a pilot finds it.

Most of a range of CVs is where a run hardly ever is, and what is made there is made for nothing:
0.4 % of the candidates of ACE-LYS-NME counted at uniform conditions, 17 % here. A pilot of
candidates alone finds where. A move is exact with any density of conditions that is fixed when it
begins; this one is a function of the generator, the energy, and the bias as it stands, which it
follows: of nothing that the run is at.

Weights are truncated (as [1]_ does, but by what is left), so that one configuration, which a poor
generator hardly ever makes, does not draw all conditions to itself. Half of each cell goes to the
next ones, which few configurations leave empty by chance: a run would stay there. A tenth stays
uniform.

References
----------
.. [1] E. L. Ionides, J. Comput. Graph. Stat. 17, 295 (2008), doi 10.1198/106186008X320456.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from openmm_cgan.checkpoints import saved_array
from openmm_cgan.proposals.conditions import (
    Conditions,
    GridConditions,
    UniformConditions,
    log_density_of_mixture,
)
from openmm_cgan.proposals.weights import kish_effective_sample_size

log = logging.getLogger("openmm_cgan")

ROUNDS, EACH = 4, 256  # configurations of a pilot: the first round is uniform
CELLS = 18  # along one of one or two CVs


class Tried(NamedTuple):
    """What configurations made at some conditions are worth.

    Attributes
    ----------
    log_weights : ndarray, shape (n,)
        Against the density of the run, that of the conditions apart; -inf where they are refused.
    energies, bias : ndarray, shape (n,)
        [kJ/mol]; NaN where they are not known.
    """

    log_weights: NDArray[np.float64]
    energies: NDArray[np.float64]
    bias: NDArray[np.float64]


class Marginal(NamedTuple):
    """What a pilot has found of the marginal density of the CVs.

    Attributes
    ----------
    cvs : ndarray, shape (n, n_cvs)
        Conditions [CV units].
    log_weights : ndarray, shape (n,)
        Of what was made there against the ensemble without the bias.
    energies : ndarray, shape (n,)
        [kJ/mol]
    kT : float
        Of these weights [kJ/mol].
    """

    cvs: NDArray[np.float64]
    log_weights: NDArray[np.float64]
    energies: NDArray[np.float64]
    kT: float

    def conditions(
        self, everywhere: UniformConditions, bias: NDArray[np.float64], kT: float
    ) -> Conditions:
        """The density to draw from under a bias (n,) [kJ/mol] at `cvs`.

        Uniform where nothing has any weight.
        """
        logs = self.log_weights + self.energies * (1 / self.kT - 1 / kT) - bias / kT
        return _density(everywhere, self.cvs, logs)

    def saved(self) -> dict[str, NDArray]:
        """For a checkpoint: ``pilot`` (n, n_cvs + 2), ``pilot_kT`` (1,)."""
        rows = np.column_stack([self.cvs, self.log_weights, self.energies])
        return {"pilot": rows, "pilot_kT": np.array([self.kT])}

    @classmethod
    def restored(cls, arrays: dict[str, NDArray], n_cvs: int) -> Marginal:
        """What was saved; ValueError if it does not fit."""
        rows = saved_array(arrays, "pilot", (None, n_cvs + 2))
        (kT,) = saved_array(arrays, "pilot_kT", (1,)).tolist()
        return cls(rows[:, :n_cvs], rows[:, -2], rows[:, -1], kT)


def found_marginal(
    weigh: Callable[[NDArray[np.float64], np.random.Generator], Tried],
    everywhere: UniformConditions,
    kT: float,
) -> Marginal:
    """Make candidates in rounds, each where those before it found the weight.

    Parameters
    ----------
    weigh : callable
        Makes candidates at conditions (n, n_cvs), and weighs them.
    everywhere : UniformConditions
        Where they may be drawn.
    kT : float
        [kJ/mol]
    """
    rng = np.random.default_rng(0)
    drawn_from: list[Conditions] = []
    cvs, found = everywhere.draw(0, rng), Tried(*np.zeros((3, 0)))
    for number in range(ROUNDS):
        known = _of_mixture(cvs, found, drawn_from)
        drawn_from.append(_density(everywhere, cvs, known) if number else everywhere)
        fresh = drawn_from[-1].draw(EACH, rng)
        weighed = weigh(fresh, rng)
        if number in (0, ROUNDS - 1):
            _say(number, weighed.log_weights - drawn_from[-1].log_density(fresh))
        cvs = np.concatenate([cvs, fresh])
        found = Tried(*(np.append(old, new) for old, new in zip(found, weighed, strict=True)))
    logs = _of_mixture(cvs, found, drawn_from)
    kept = np.isfinite(logs)
    unbiased = logs[kept] + found.bias[kept] / kT
    return Marginal(cvs[kept], unbiased, found.energies[kept], kT)


def _of_mixture(cvs: NDArray, found: Tried, drawn_from: list[Conditions]) -> NDArray[np.float64]:
    """Log weights (n,), the density of conditions (n, n_cvs) from rounds alike taken out."""
    if not drawn_from:
        return found.log_weights
    sizes = [EACH] * len(drawn_from)
    return found.log_weights - log_density_of_mixture(drawn_from, sizes, cvs)


def _density(everywhere: UniformConditions, cvs: NDArray, log_weights: NDArray) -> Conditions:
    """Conditions by weight, truncated, of those found (n,) at conditions (n, n_cvs)."""
    n_cvs, alive = len(everywhere.variables), np.isfinite(log_weights)
    if n_cvs == 0 or not alive.any():
        return everywhere
    cells = CELLS if n_cvs < 3 else max(3, int(CELLS ** (2 / n_cvs)))
    known, variables = _truncated(log_weights[alive]), everywhere.variables
    return GridConditions.from_weights(cvs[alive], known, everywhere.cv_range, variables, cells)


def _truncated(log_weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Finite log weights (n,), none more than n^(-1/2) of what all then are."""
    ordered = np.sort(log_weights)[::-1]
    rest = np.logaddexp.accumulate(ordered[::-1])[::-1]  # of the k-th and all below it
    share = len(ordered) ** -0.5
    k = np.arange(1 + math.isqrt(len(ordered) - 1))  # cut to `most`: share * (k most + rest)
    most = rest[k] + np.log(share / (1 - share * k))
    return np.minimum(log_weights, most[np.argmax(most >= ordered[k])])


def _say(number: int, log_weights: NDArray[np.float64]) -> None:
    """How many candidates count at uniform conditions, and at those that were found."""
    share = kish_effective_sample_size(log_weights) / EACH
    where = "near the marginal density" if number else "drawn uniformly"
    log.info("conditions %s: %.2g %% of %d candidates count", where, 100 * share, EACH)
