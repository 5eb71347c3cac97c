"""Where exact candidates are asked for: near the marginal density of the CVs, as a pilot finds it.

Most of a range of CVs is where a run hardly ever is, and what is made there is made for nothing:
2 of 100 candidates of ACE-LYS-NME counted at uniform conditions, 29 here. A pilot of candidates
alone finds where. A move is exact with any density of conditions that is fixed when it
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
from collections.abc import Callable, Sequence
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from openmm_cgan.checkpoints import saved_array
from openmm_cgan.proposals.conditions import (
    Conditions,
    GridConditions,
    UniformConditions,
    cells_along,
    log_density_of_mixture,
)
from openmm_cgan.proposals.even_draws import drawn_evenly
from openmm_cgan.proposals.weights import kish_effective_sample_size

log = logging.getLogger("openmm_cgan")

ROUNDS, EACH = 4, 256  # configurations of a pilot: the first round is uniform


class Marginal(NamedTuple):
    """What a pilot has found of the marginal density of the CVs: a row for each cell of a grid.

    Attributes
    ----------
    everywhere : UniformConditions
        What the grid spans.
    cvs : ndarray, shape (n, n_cvs)
        Conditions of what weighs most in the cell [CV units].
    free_energies : ndarray, shape (n,)
        Of the cells, under the bias as it was [kJ/mol].
    bias : ndarray, shape (n,)
        At `cvs`, as it was [kJ/mol].
    """

    everywhere: UniformConditions
    cvs: NDArray[np.float64]
    free_energies: NDArray[np.float64]
    bias: NDArray[np.float64]

    def conditions(self, bias: NDArray[np.float64], kT: float) -> Conditions:
        """The density to draw from under a bias (n,) at `cvs`, at kT [kJ/mol].

        Uniform where nothing has any weight.
        """
        now = self.free_energies + bias - self.bias
        return _on_grid(self.everywhere, self.cvs, -now / kT)

    def saved(self) -> dict[str, NDArray]:
        """For a checkpoint: ``pilot`` (n, n_cvs + 2)."""
        return {"pilot": np.column_stack([self.cvs, self.free_energies, self.bias])}

    @classmethod
    def restored(cls, arrays: dict[str, NDArray], everywhere: UniformConditions) -> Self:
        """What was saved, over the same range; ValueError if it does not fit."""
        n_cvs = len(everywhere.variables)
        rows = saved_array(arrays, "pilot", (None, n_cvs + 2))
        return cls(everywhere, rows[:, :n_cvs], rows[:, -2], rows[:, -1])


def found_marginal(
    weigh: Callable[[NDArray[np.float64], np.random.Generator], NDArray[np.float64]],
    bias_of_cvs: Callable[[NDArray[np.float64]], NDArray[np.float64]],
    everywhere: UniformConditions,
    kT: float,
) -> Marginal:
    """Make candidates in rounds, each where those before it found the weight.

    Parameters
    ----------
    weigh : callable
        Log weights (n,) of candidates that it makes at conditions (n, n_cvs), against the density
        of the run, that of the conditions apart; -inf where they are refused.
    bias_of_cvs : callable
        The bias of the run (n,) [kJ/mol] at conditions (n, n_cvs).
    everywhere : UniformConditions
        Where they may be drawn.
    kT : float
        [kJ/mol]
    """
    rng = np.random.default_rng(0)
    drawn_from: list[UniformConditions | GridConditions] = [everywhere]
    cvs, _ = drawn_evenly(everywhere, EACH, rng)
    own = weigh(cvs, rng)
    logs = _of_mixture(own, cvs, drawn_from)
    _say("drawn uniformly", logs)
    for _ in range(ROUNDS - 1):
        drawn_from.append(_density(everywhere, cvs, logs))
        fresh, _ = drawn_evenly(drawn_from[-1], EACH, rng)
        cvs, own = np.concatenate([cvs, fresh]), np.append(own, weigh(fresh, rng))
        logs = _of_mixture(own, cvs, drawn_from)
    _say("near the marginal density", own[-EACH:] - drawn_from[-1].log_density(fresh))
    heaviest, in_cells = _by_cells(everywhere, cvs, logs)
    cvs = cvs[heaviest]
    return Marginal(everywhere, cvs, -kT * in_cells, bias_of_cvs(cvs))


def _of_mixture(
    own: NDArray, cvs: NDArray, drawn_from: Sequence[Conditions]
) -> NDArray[np.float64]:
    """Log weights (n,), the density of conditions (n, n_cvs) from rounds alike taken out."""
    return own - log_density_of_mixture(drawn_from, [EACH] * len(drawn_from), cvs)


def _density(
    everywhere: UniformConditions, cvs: NDArray, log_weights: NDArray
) -> UniformConditions | GridConditions:
    """Conditions by log weights (n,) of what was made at conditions (n, n_cvs)."""
    heaviest, in_cells = _by_cells(everywhere, cvs, log_weights)
    return _on_grid(everywhere, cvs[heaviest], in_cells)


def _on_grid(
    everywhere: UniformConditions, cvs: NDArray, log_weights: NDArray
) -> UniformConditions | GridConditions:
    """Conditions by log weights (n,) of the cells in which conditions (n, n_cvs) are."""
    whole, variables = everywhere.cv_range, everywhere.variables
    if not len(variables) or not np.isfinite(log_weights).any():
        return everywhere
    return GridConditions.from_weights(
        cvs, log_weights, whole, variables, cells_along(len(variables))
    )


def _by_cells(
    everywhere: UniformConditions, cvs: NDArray, log_weights: NDArray
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Rows (n_cells,) of what weighs most in the cells that anything is in, and their weights."""
    alive = np.flatnonzero(np.isfinite(log_weights))
    variables = everywhere.variables
    if not len(alive) or not variables:
        return alive[:1], np.zeros(len(alive[:1]))
    known, sides = _truncated(log_weights[alive]), [cells_along(len(variables))] * len(variables)
    cells = GridConditions(np.ones(sides), everywhere.cv_range, variables).cells(cvs[alive])
    order = np.lexsort((known, cells))  # the heaviest of a cell is its last
    is_last = np.append(cells[order][1:] != cells[order][:-1], True)
    starts = np.append(0, np.flatnonzero(is_last)[:-1] + 1)
    return alive[order[is_last]], np.logaddexp.reduceat(known[order], starts)


def _truncated(log_weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Finite log weights (n,), none more than n^(-1/2) of what all then are."""
    ordered = np.sort(log_weights)[::-1]
    rest = np.logaddexp.accumulate(ordered[::-1])[::-1]  # of the k-th and all below it
    share = len(ordered) ** -0.5
    k = np.arange(1 + math.isqrt(len(ordered) - 1))  # cut to `most`: share * (k most + rest)
    most = rest[k] + np.log(share / (1 - share * k))
    return np.minimum(log_weights, most[np.argmax(most >= ordered[k])])


def _say(where: str, log_weights: NDArray[np.float64]) -> None:
    """How many candidates count at conditions."""
    share = kish_effective_sample_size(log_weights) / EACH
    log.info("conditions %s: %.2g %% of %d candidates count", where, 100 * share, EACH)
