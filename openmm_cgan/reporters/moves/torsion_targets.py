"""Where steered torsions go: drawn by a flow, with a density that is known both ways.

Torsions of groups whose hydrogens nothing tells apart stay where they are: their wells are alike.
All others are drawn one after another. The first are CVs, drawn from a density g of conditions;
each of the others comes from q(z_k | z_1 ... z_(k-1), c), those that stay among what it is given.
The density of a draw is the product of the factors of what was drawn, and that of the way back the
same product at the torsions that there were.

CVs that are no torsions of the flow belong to no place z. They are drawn beforehand, once for all,
and q is the even mixture over this list: a density as good as any, and known.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from openmm_cgan.proposals import TorsionSampler
from openmm_cgan.proposals.conditions import Conditions, UniformConditions
from openmm_cgan.proposals.targets import trained_range

if TYPE_CHECKING:
    from openmm_cgan.proposals import TorsionMap

LISTED = 256  # conditions of CVs that are no torsions


class TorsionTargets:
    """Draws places for torsions.

    Parameters
    ----------
    sampler : TorsionSampler
    conditions : "uniform" or Conditions
        From where CVs are drawn; uniform over the range that the sampler was trained on.

    Attributes
    ----------
    rows : ndarray of int, shape (n_torsions, 4)
        Atoms of the torsions in the topology.
    is_drawn : ndarray of bool, shape (n_torsions,)
        Which are drawn; the others stay.

    Raises
    ------
    ValueError
        If the sampler knows no torsion that is drawn, or conditions are given for CVs of which some
        are torsions and some are not.
    """

    def __init__(self, sampler: TorsionSampler, conditions: str | Conditions = "uniform") -> None:
        self._map: TorsionMap = sampler.torsion_map()
        self.rows, self.is_drawn = self._map.rows, self._map.folds == 1
        if not self.is_drawn.any():
            raise ValueError("no torsion turns but those of groups whose hydrogens are alike")
        self._variables = tuple(sampler.variables)
        n, placed = len(self._variables), self._map.placed
        others = np.setdiff1d(np.arange(n), placed)
        listed = np.full((1, n), np.nan)
        if isinstance(conditions, str):
            trained = trained_range(sampler)
            of_placed, of_others = (
                UniformConditions(trained[k], [self._variables[i] for i in k])
                for k in (placed, others)
            )
            self._placed: Conditions = of_placed
            if len(others):
                listed = np.full((LISTED, n), np.nan)
                listed[:, others] = of_others.draw(LISTED, np.random.default_rng(0))
        elif len(placed) and len(others):
            raise ValueError(
                f"conditions are given for CVs of which {[self._variables[i].name for i in placed]}"
                " are torsions of the generator and others are not: leave conditions out"
            )
        elif len(others):
            listed = conditions.draw(LISTED, np.random.default_rng(0))
            self._placed = UniformConditions(np.zeros((0, 2)), [])
        else:
            self._placed = conditions
        self._listed = listed

    def drawn(
        self, now: NDArray[np.float64], rng: np.random.Generator
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Places (n_torsions,) [rad] to go to from others, and the condition (n_cvs,) of them."""
        condition = self._listed[rng.integers(len(self._listed), size=1)]
        placed = self._map.placed
        if len(placed):
            condition[:, placed] = self._placed.draw(1, rng)
        kept = np.where(self.is_drawn, np.nan, now)[None]
        made = self._map.draw(condition, kept, seed=int(rng.integers(1, 2**31 - 1)))
        return made[0], condition[0]

    def log_density(self, places: NDArray[np.float64]) -> float:
        """Log density with which places (n_torsions,) are drawn where the others stay; or -inf."""
        conditions, placed = self._listed.copy(), self._map.placed
        if len(placed):
            conditions[:, placed] = self._in_domain(places[: len(placed)] * self._map.scales)
        log_g = float(self._placed.log_density(conditions[:1, placed])[0]) if len(placed) else 0.0
        if not np.isfinite(log_g):
            return -np.inf
        each = self._map.log_prob(np.tile(places, (len(conditions), 1)), conditions)
        log_q = each[:, self.is_drawn].sum(axis=1)
        return log_g + float(np.logaddexp.reduce(log_q)) - np.log(len(log_q))

    def _in_domain(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Values (n_placed,) of the CVs that are torsions, within their domains [CV units]."""
        made = values.copy()
        for k, cv in enumerate(self._map.placed.tolist()):
            made[k] = self._variables[cv].in_domain(values[k])
        return made
