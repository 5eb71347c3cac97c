"""Exact moves: the current configuration or a generated one, chosen by importance weights.

They leave the distribution that the run samples unchanged, whatever the generator is; a poor
generator only makes them rare. The generator's density must be known, and it must make every atom
that interacts.
"""

from __future__ import annotations

import logging
from collections import Counter, deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from openmm_cgan.potentials import constraints_of, masses_of
from openmm_cgan.proposals import PASSED, Screen, cv_differences, generated_atoms
from openmm_cgan.proposals.conditions import Conditions, UniformConditions
from openmm_cgan.proposals.screening import CV_ERROR
from openmm_cgan.proposals.selection import CURRENT, choose
from openmm_cgan.proposals.targets import trained_range
from openmm_cgan.proposals.weights import (
    DensitySampler,
    LogWeights,
    kish_effective_sample_size,
    log_condition_noise,
    noisy_conditions,
)
from openmm_cgan.reporters.attempts import Attempt, Candidates
from openmm_cgan.reporters.healing import ENERGY_NOT_FINITE, superpose
from openmm_cgan.states import positions_of

if TYPE_CHECKING:
    from openmm.app import Simulation

    from openmm_cgan.potentials import Potential

log = logging.getLogger("openmm_cgan")

KEPT_CURRENT = "kept current"
OUTSIDE_CONDITIONS = "outside conditions"
OUTSIDE_GENERATOR = "outside generator"

PLACED_WITHIN = 1e-4  # CV units: of a CV that is a coordinate of the generator
LENGTH_WITHIN = 1e-3  # relative: between a constraint and what the generator holds
REMEMBERED = 200_000  # candidates
TRIED = 64  # conditions, before anything moves
WINDOW = 20  # moves that the warning looks back on
DOMINATED = 0.5  # of the weight of all candidates, in one


def why_not_exact(sampler: Any, simulation: Simulation, bias: Any) -> str:
    """Why proposals of a sampler cannot be exact in a simulation; empty if they can.

    Parameters
    ----------
    sampler : Sampler
    simulation : openmm.app.Simulation
        Only read.
    bias : PlumedBias
    """
    system = simulation.system
    if not getattr(sampler, "has_density", False):
        return f"the generator of {type(sampler).__name__} has no known density"
    if system.usesPeriodicBoundaryConditions():
        return "the System has a periodic box; exact proposals are for vacuum and implicit solvent"
    missing = system.getNumParticles() - len(generated_atoms(sampler, simulation.topology))
    if missing:
        return f"{missing} of the System's particles are not generated, and all that interact must"
    if (masses_of(system) == 0).any():
        return "the System has virtual sites or fixed particles (mass 0)"
    if sampler.constant_others:
        return f"the generator does not vary {', '.join(map(str, sampler.constant_others))}"
    held = _pairs(sampler.constant_bonds)
    constrained = _pairs(constraints_of(system)[0])
    if held != constrained:
        return (
            f"the System constrains {len(constrained)} distances and the generator holds "
            f"{len(held)} bonds, which differ, first in the atoms "
            f"{sorted(min(held ^ constrained, key=sorted))}"
        )
    return _why_bias_forbids(bias, simulation)


def why_not_replaced(sampler: Any, now: DensitySampler) -> str:
    """Why a sampler cannot take the place of one that makes exact proposals; empty if it can."""
    if not getattr(sampler, "has_density", False):
        return f"the generator of {type(sampler).__name__} has no known density"
    if sampler.constant_others:
        return f"the generator does not vary {', '.join(map(str, sampler.constant_others))}"
    if _pairs(sampler.constant_bonds) != _pairs(now.constant_bonds):
        return "it holds other bonds"
    return ""


def _pairs(rows: Any) -> set[frozenset[int]]:
    return {frozenset(row) for row in np.asarray(rows, dtype=int).reshape(-1, 2).tolist()}


def _why_bias_forbids(bias: Any, simulation: Simulation) -> str:
    if getattr(bias, "remembers", False):
        return "the bias depends on the steps before, through the list of models of NEIGH_SIZE"
    state = simulation.context.getState(positions=True)
    try:
        bias.bias_of_cvs(bias.cv_values(positions_of(state))[None])
    except ValueError as error:
        return f"the bias is not known as a function of the CVs ({error})"
    return ""


@dataclass(frozen=True)
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
    """

    reasons: NDArray
    cvs: NDArray
    energies: NDArray
    bias: NDArray
    log_weights: NDArray
    evaluated: int


class ExactMove:
    """Chooses between the current configuration and fresh candidates.

    Parameters
    ----------
    sampler : DensitySampler
    bias : PlumedBias
        Measures the CVs, and is the bias of the run as a function of them.
    potential : Potential
        Energies without the bias.
    screen : Screen
        What a configuration must be, whatever its energy: chirality, cis/trans.
    kT : float
        [kJ/mol]
    n_candidates : int
    conditions : "uniform" or Conditions
        From where CV values are drawn; uniform over the range that the sampler was trained on.

    Raises
    ------
    ValueError
        If the energy is not that of a free molecule, or the sampler holds constrained bonds at
        other lengths.
    """

    def __init__(
        self,
        sampler: DensitySampler,
        bias: Any,
        potential: Potential,
        screen: Screen,
        kT: float,
        n_candidates: int = 100,
        conditions: str | Conditions = "uniform",
    ) -> None:
        self.bias, self.potential, self.screen = bias, potential, screen
        self.kT, self.n_candidates = kT, n_candidates
        self._given = conditions
        self._recent: deque[float] = deque(maxlen=WINDOW)
        self._sizes: deque[float] = deque(maxlen=100)
        self._memory: deque[tuple[NDArray, NDArray]] = deque(
            maxlen=max(1, REMEMBERED // n_candidates)
        )
        self._moves, self._quiet_until = 0, WINDOW
        self.take(sampler)

    def take(self, sampler: DensitySampler) -> None:
        """Propose from this sampler from now on.

        Raises
        ------
        ValueError
            If it refuses the conditions, or holds constrained bonds at other lengths.
        """
        made = self._given
        if isinstance(made, str):
            made = UniformConditions(trained_range(sampler), sampler.variables)
        drawn = made.draw(TRIED, np.random.default_rng(0))
        tried, _ = sampler.sample_with_log_prob(drawn, seed=0)  # refuses what it was not made for
        self._require_lengths(np.asarray(sampler.atoms, dtype=int), tried)
        self._memory.clear()  # another density: other weights
        self.sampler: DensitySampler = sampler
        self.conditions: Conditions = made
        self.atoms = np.asarray(sampler.atoms, dtype=int)
        self.noise = np.asarray(sampler.condition_noise, dtype=float)

    def require_free(self, positions: NDArray) -> None:
        """Check that nothing changes when the molecule is moved as a whole.

        Raises
        ------
        ValueError
            If the energy does: a restraint to a place, a wall, an external field.
        """
        turn = np.array([[0.36, 0.48, -0.8], [-0.8, 0.6, 0.0], [0.48, 0.64, 0.6]])
        both = np.stack([positions, positions @ turn.T + [0.1, -0.2, 0.3]])
        energies = self.potential.energies(both)
        energies = energies + self.bias.bias_of_cvs(self.bias.cv_values(both))
        if abs(energies[1] - energies[0]) > 0.05 * self.kT + 1e-5 * abs(energies[0]):
            raise ValueError(
                "exact proposals need forces that do not change when the molecule is moved and "
                f"turned as a whole; the energy goes from {energies[0]:.6g} to {energies[1]:.6g} "
                "kJ/mol: use mode='seed', or leave out restraints to places and external fields"
            )

    def _require_lengths(self, atoms: NDArray, made: NDArray) -> None:
        """Check that constrained bonds are generated at the lengths of the constraints."""
        pairs, lengths = self.potential.constraints, self.potential.constraint_lengths
        if len(pairs) == 0:
            return
        x = np.empty_like(made)
        x[:, atoms] = made
        found = np.linalg.norm(x[:, pairs[:, 0]] - x[:, pairs[:, 1]], axis=-1)
        wrong = np.abs(found / lengths - 1).max(axis=0)
        worst = int(wrong.argmax())
        if wrong[worst] > LENGTH_WITHIN:
            raise ValueError(
                f"the generator holds the atoms {pairs[worst].tolist()} at {found[0, worst]:.5f} nm"
                f", the constraint of the System is {lengths[worst]:.5f} nm; train on frames of "
                "this System"
            )

    def attempt(self, positions: NDArray, rng: np.random.Generator) -> Attempt:
        """Make one move.

        Parameters
        ----------
        positions : ndarray, shape (n_atoms, 3)
            The current configuration [nm].
        rng : numpy Generator

        Returns
        -------
        Attempt
            With positions, superposed on the current ones, if a candidate was chosen.
        """
        current = positions[None, self.atoms]
        cvs = self.bias.cv_values(positions)[None]
        here = noisy_conditions(cvs, self.noise, self.sampler.variables, rng)
        if not np.isfinite(self.conditions.log_density(here)[0]):
            return self._kept(cvs[0], here[0], OUTSIDE_CONDITIONS)
        drawn = self.conditions.draw(self.n_candidates, rng)
        seed = int(rng.integers(1, 2**31 - 1))
        made, log_prob = self.sampler.sample_with_log_prob(drawn, seed=seed)
        x = np.concatenate([current, made])
        conditions = np.concatenate([here, drawn])
        log_prob = np.concatenate([self.sampler.log_prob(current, here), log_prob])
        weighed = self.weigh(x, conditions, log_prob)
        chosen = int(choose(weighed.log_weights[0], weighed.log_weights[1:], rng))
        return self._attempt(x, conditions, weighed, chosen, positions)

    def weigh(
        self, x: NDArray[np.float64], conditions: NDArray[np.float64], log_prob: NDArray[np.float64]
    ) -> Weighed:
        """Weights of configurations of the sampler.

        Parameters
        ----------
        x : ndarray, shape (n, n_atoms, 3)
            In the order of the sampler's atoms [nm].
        conditions : ndarray, shape (n, n_cvs)
            For which they were made.
        log_prob : ndarray, shape (n,)
            Log density of the sampler.
        """
        n, n_cvs = conditions.shape
        reasons = self.screen.check(x).astype("U24")
        reasons[(reasons == PASSED) & ~np.isfinite(log_prob)] = OUTSIDE_GENERATOR
        terms = {name: np.full(n, np.nan) for name in ("energy", "bias", "fixman", "noise")}
        cvs, rows = np.full((n, n_cvs), np.nan), np.flatnonzero(reasons == PASSED)
        if len(rows):
            whole = np.empty((len(rows), *x.shape[1:]))
            whole[:, self.atoms] = x[rows]
            cvs[rows] = self.bias.cv_values(whole)
            reasons[rows[self._misplaced(cvs[rows], conditions[rows])]] = CV_ERROR
            terms["energy"][rows] = self.potential.energies(whole)
            terms["bias"][rows] = self.bias.bias_of_cvs(cvs[rows])
            terms["fixman"][rows] = self.potential.half_log_det(whole)
            terms["noise"][rows] = log_condition_noise(
                conditions[rows], cvs[rows], self.noise, self.sampler.variables
            )
            reasons[rows[np.isinf(terms["energy"][rows])]] = ENERGY_NOT_FINITE
        log_weights = LogWeights(
            reduced_energy=(terms["energy"] + terms["bias"]) / self.kT,
            log_prob=log_prob,
            log_density=self.conditions.log_density(conditions),
            fixman=terms["fixman"],
            log_noise=terms["noise"],
        ).total()
        log_weights[reasons != PASSED] = -np.inf
        return Weighed(reasons, cvs, terms["energy"], terms["bias"], log_weights, len(rows))

    def _misplaced(self, cvs: NDArray, conditions: NDArray) -> NDArray:
        """Whether a CV that is a coordinate has not the value asked for."""
        away = np.abs(cv_differences(self.sampler.variables, conditions, cvs))
        return ~(away[:, self.noise == 0] <= PLACED_WITHIN).all(axis=1)

    def _kept(self, cvs: NDArray, condition: NDArray, reason: str) -> Attempt:
        return Attempt(condition, cvs, cvs, reason=f"{KEPT_CURRENT}: {reason}")

    def _attempt(
        self, x: NDArray, conditions: NDArray, weighed: Weighed, chosen: int, positions: NDArray
    ) -> Attempt:
        """What became of a move, in the words of the table."""
        fresh = weighed.log_weights[1:]
        self._remember(weighed, conditions)
        row = 1 + chosen
        energy, cvs = float(weighed.energies[row]), weighed.cvs[row]
        reason, moved = PASSED, None
        if chosen == CURRENT:
            why = str(weighed.reasons[0])
            reason = f"{KEPT_CURRENT}: {why}" if why else KEPT_CURRENT
        else:
            own = superpose(x[row][None], positions[self.atoms])[0]
            moved = np.empty_like(positions)
            moved[self.atoms] = own
        best = fresh.max()
        largest = float(1 / np.exp(fresh - best).sum()) if np.isfinite(best) else np.nan
        self._watch(largest)
        self._sizes.append(kish_effective_sample_size(fresh))
        counted = Counter(str(reason) for reason in weighed.reasons[1:] if reason)
        candidates = Candidates(
            len(fresh), dict(counted), weighed.evaluated, self._sizes[-1], largest
        )
        return Attempt(conditions[row], cvs, cvs, energy, energy, reason, moved, candidates)

    def _watch(self, largest: float) -> None:
        """Say so when the weights are dominated by a few; again only after ten times as long."""
        self._recent.append(1.0 if np.isnan(largest) else largest)
        self._moves += 1
        if self.n_candidates < 10 or self._moves < self._quiet_until:
            return
        if (typical := float(np.median(self._recent))) > DOMINATED:
            log.warning(
                "exact proposals are dominated by a few: over the last %d moves the best of %d "
                "candidates typically had %.0f %% of their weight; train the generator longer, or "
                "on frames from where the run is, or draw conditions from where the free energy is "
                "low (GridConditions)",
                len(self._recent), self.n_candidates, 100 * typical,
            )  # fmt: skip
            self._quiet_until = 10 * self._moves

    def summary(self) -> str:
        """How many of the candidates count, in words."""
        typical = np.median(self._sizes) if self._sizes else np.nan
        return f"effective sample size {typical:.3g} of {self.n_candidates} candidates (median)"

    def _remember(self, weighed: Weighed, conditions: NDArray) -> None:
        """Keep the weights without the bias, for the diagnostics."""
        logs, cvs = weighed.log_weights[1:].copy(), weighed.cvs[1:]
        alive = np.isfinite(logs)
        logs[alive] += weighed.bias[1:][alive] / self.kT
        self._memory.append((np.where(np.isfinite(cvs), cvs, conditions[1:]), logs))

    def weighed_candidates(self) -> tuple[NDArray, NDArray]:
        """CVs (n, n_cvs) and log weights (n,) of candidates, against the unbiased ensemble."""
        if not self._memory:
            return np.zeros((0, len(self.sampler.variables))), np.zeros(0)
        cvs, weights = zip(*self._memory, strict=True)
        return np.concatenate(cvs), np.concatenate(weights)
