"""Where steered torsions go: drawn by a flow, with a density that is known both ways.

Led are torsions that turn heavy atoms. Those by which hydrogens alone turn (CH3, NH3+, OH) are not,
where there are others or where their wells are alike: they follow by themselves. Nor are torsions
that keep to one place.

What is led is drawn one after another. The first are CVs, drawn from a density g of conditions;
each of the others comes from q(z_k | z_1 ... z_(k-1), c), torsions that are not led standing among
what it is given, as they are where the move begins. The density of a draw is the product of the
factors of what was drawn.

CVs that the generated atoms move and that are no torsions of the flow belong to no place z. They
are drawn beforehand, once for all, and q is the even mixture over this list: a density as good as
any, and known. CVs that the generated atoms do not move (phi and psi beside a side chain) are
conditions as they stand where the move begins. `steered` says why all that is exact.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from openmm_cgan.proposals import TorsionSampler
from openmm_cgan.proposals.conditions import Conditions, UniformConditions
from openmm_cgan.proposals.targets import trained_range
from openmm_cgan.rotors import turns_heavy_atoms

if TYPE_CHECKING:
    from openmm_cgan.collective_variable import CollectiveVariable
    from openmm_cgan.proposals import TorsionMap

LISTED = 256  # conditions of CVs that are no torsions


def torsions_of(sampler: TorsionSampler) -> TorsionMap:
    """Its torsions; ValueError if it knows none that is drawn."""
    made = sampler.torsion_map()
    if not (made.folds == 1).any():
        raise ValueError("no torsion turns but those of groups whose hydrogens are alike")
    return made


class TorsionTargets:
    """Draws places for torsions.

    Parameters
    ----------
    sampler : TorsionSampler
    conditions : "uniform" or Conditions
        From where CVs that the generated atoms move are drawn; uniform over the range that the
        sampler was trained on.
    topology : openmm.app.Topology, optional
        Tells which torsions turn hydrogens alone; none does by default.
    is_moved : ndarray of bool, shape (n_cvs,), optional
        Which CVs the generated atoms move, all by default.

    Attributes
    ----------
    rows : ndarray of int, shape (n_torsions, 4)
        Atoms of the torsions in the topology.
    is_drawn : ndarray of bool, shape (n_torsions,)
        Which are drawn, to be led there.

    Raises
    ------
    ValueError
        If the sampler knows no torsion that is drawn, or conditions are given for CVs of which some
        are torsions and some are not, or not for those that the atoms move.
    """

    def __init__(
        self,
        sampler: TorsionSampler,
        conditions: str | Conditions = "uniform",
        topology: Any = None,
        is_moved: NDArray[np.bool_] | None = None,
    ) -> None:
        self._map = torsions_of(sampler)
        self.rows, self._variables = self._map.rows, tuple(sampler.variables)
        placed, self.is_drawn = self._map.placed, self._map.folds == 1
        if topology is not None:
            is_heavy = turns_heavy_atoms(topology, self.rows)
            is_heavy[: len(placed)] = True  # whoever names a CV wants it to be led
            if (self.is_drawn & is_heavy).any():
                self.is_drawn &= is_heavy
        n = len(self._variables)
        moved = np.ones(n, dtype=bool) if is_moved is None else is_moved.copy()
        moved[placed] = True
        self._held = np.flatnonzero(~moved)
        self._others = np.setdiff1d(np.flatnonzero(moved), placed)
        self._trained = self._uniform(sampler, self._held)
        if isinstance(conditions, str):
            self._placed: Conditions = self._uniform(sampler, placed)
            listed: Conditions = self._uniform(sampler, self._others)
        else:
            self._require_fit(conditions)
            none = UniformConditions(np.zeros((0, 2)), [])
            self._placed = conditions if len(placed) else none
            listed = conditions if len(self._others) else none
        n_listed = LISTED if len(self._others) else 1
        self._listed = listed.draw(n_listed, np.random.default_rng(0))

    def _named(self, chosen: NDArray[np.int64]) -> list[CollectiveVariable]:
        return [self._variables[k] for k in chosen]

    def _uniform(self, sampler: TorsionSampler, chosen: NDArray[np.int64]) -> UniformConditions:
        """Over what the sampler was trained on, of some CVs."""
        trained = trained_range(sampler)[chosen] if len(chosen) else np.zeros((0, 2))
        return UniformConditions(trained, self._named(chosen))

    def _require_fit(self, conditions: Conditions) -> None:
        """Refuse conditions that are not of the CVs that are drawn, or of two kinds of them."""
        placed, others = self._named(self._map.placed), self._named(self._others)
        if placed and others:
            raise ValueError(
                f"conditions are given for CVs of which {[v.name for v in placed]}"
                " are torsions of the generator and others are not: leave conditions out"
            )
        n_given = conditions.draw(1, np.random.default_rng(0)).shape[-1]
        if n_given != len(placed + others):
            raise ValueError(
                f"the conditions are of {n_given} CVs; expected those that the generated atoms "
                f"move, {[v.name for v in placed + others]}: the others stay as they are"
            )

    def drawn(
        self,
        torsions: NDArray[np.float64],
        cvs: NDArray[np.float64],
        rng: np.random.Generator,
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Torsions (n_torsions,) [rad] of which some are drawn, and their condition (n_cvs,).

        From a configuration with torsions (n_torsions,) [rad] and CVs (n_cvs,) [CV units].
        """
        condition, placed = cvs[None].copy(), self._map.placed
        condition[:, self._others] = self._listed[rng.integers(len(self._listed), size=1)]
        if len(placed):
            condition[:, placed] = self._placed.draw(1, rng)
        kept = np.where(self.is_drawn, np.nan, torsions)[None]
        made = self._map.draw(condition, kept, seed=int(rng.integers(1, 2**31 - 1)))
        return made[0], condition[0]

    def can_be_drawn(self, torsions: NDArray[np.float64], cvs: NDArray[np.float64]) -> bool:
        """Whether there is a density for torsions (n_torsions,) from a configuration with CVs.

        The CVs that stay must be within what was trained on, and the torsions that are CVs where
        conditions are drawn.
        """
        held = self._trained.log_density(cvs[None, self._held])[0]
        return bool(np.isfinite(held) and np.isfinite(self._log_density_of_placed(torsions)))

    def log_density(self, torsions: NDArray[np.float64], cvs: NDArray[np.float64]) -> float:
        """Log density with which those of torsions (n_torsions,) that are drawn are; or -inf.

        From a configuration with the others of them and CVs (n_cvs,) [CV units].
        """
        if not self.can_be_drawn(torsions, cvs):
            return -np.inf
        conditions = np.tile(cvs, (len(self._listed), 1))
        conditions[:, self._others] = self._listed
        conditions[:, self._map.placed] = self._of_placed(torsions)
        each = self._map.log_prob(np.tile(torsions, (len(conditions), 1)), conditions)
        log_q = float(np.logaddexp.reduce(each[:, self.is_drawn].sum(axis=1)))
        return self._log_density_of_placed(torsions) + log_q - np.log(len(conditions))

    def _log_density_of_placed(self, torsions: NDArray[np.float64]) -> float:
        if not len(self._map.placed):
            return 0.0
        return float(self._placed.log_density(self._of_placed(torsions)[None])[0])

    def _of_placed(self, torsions: NDArray[np.float64]) -> NDArray[np.float64]:
        """The CVs (n_placed,) that are torsions, within their domains [CV units]."""
        placed = self._map.placed
        made = torsions[: len(placed)] * self._map.scales
        for k, variable in enumerate(self._named(placed)):
            made[k] = variable.in_domain(made[k])
        return made
