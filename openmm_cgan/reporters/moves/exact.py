"""Exact moves: the current configuration or a generated one, chosen by importance weights.

They leave the distribution that the run samples unchanged, whatever the generator is; a poor
generator only makes them rare. The generator's density must be known, and it must make every atom
that interacts.
"""

from __future__ import annotations

import logging
from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from openmm_cgan import GAS_CONSTANT
from openmm_cgan.potentials import potential_beside
from openmm_cgan.proposals import (
    PASSED,
    DensitySampler,
    Sampler,
    Screen,
    cv_differences,
    keeps_place,
    knows_density,
)
from openmm_cgan.proposals.conditions import Conditions, UniformConditions
from openmm_cgan.proposals.screening import CV_ERROR
from openmm_cgan.proposals.selection import CURRENT, choose
from openmm_cgan.proposals.targets import trained_range
from openmm_cgan.proposals.weights import (
    LogWeights,
    kish_effective_sample_size,
    log_condition_noise,
    noisy_conditions,
)
from openmm_cgan.reporters.attempts import ENERGY_NOT_FINITE, Attempt, Candidates
from openmm_cgan.reporters.moves import exactness
from openmm_cgan.reporters.moves.move import Asked, Refusal, Start
from openmm_cgan.reporters.moves.remembered import Remembered, WeightWatch
from openmm_cgan.reporters.surroundings import superpose

if TYPE_CHECKING:
    import openmm
    from openmm.app import Simulation

    from openmm_cgan.plumed.bias import PlumedBias
    from openmm_cgan.potentials import Potential

log = logging.getLogger("openmm_cgan")

KEPT_CURRENT = "kept current"
OUTSIDE_CONDITIONS = "outside conditions"
OUTSIDE_GENERATOR = "outside generator"

PLACED_WITHIN = 1e-4  # CV units: of a CV that is a coordinate of the generator
CANDIDATES = 100  # of a move, where nothing else is asked for
REMEMBERED = 200_000  # candidates
TRIED = 64  # conditions, before anything moves


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
    slopes : ndarray, shape (n, n_atoms, 3), or None
        Of -U/kT by positions [1/nm], where they were asked for; NaN where the weight is zero.
    """

    reasons: NDArray
    cvs: NDArray
    energies: NDArray
    bias: NDArray
    log_weights: NDArray
    evaluated: int
    slopes: NDArray | None = None


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
        If the sampler refuses the conditions, or holds constrained bonds at other lengths.
    """

    mode: ClassVar[str] = "exact"
    log_level: ClassVar[int] = logging.DEBUG  # they come by the hundred, and are summed up
    settle_steps, watch = 0, None

    def __init__(
        self,
        sampler: DensitySampler,
        bias: PlumedBias,
        potential: Potential,
        screen: Screen,
        kT: float,
        n_candidates: int = CANDIDATES,
        conditions: str | Conditions = "uniform",
    ) -> None:
        self.bias, self.potential, self.screen = bias, potential, screen
        self.kT = kT
        self._given = conditions
        self._running_energy = np.nan  # of the present frame, without the bias, once it is known
        self._n_cvs = len(sampler.variables)
        self._set_candidates(n_candidates)
        self._weights = WeightWatch()
        self.replace_sampler(sampler)

    @classmethod
    def refusal(cls, asked: Asked) -> Refusal | None:
        """Why the sampler cannot make exact proposals, or the targets ask for seeds."""
        kind = type(asked.sampler).__name__
        if not knows_density(asked.sampler):
            return Refusal(
                f"the generator of {kind} has no density",
                f"mode={cls.mode!r} needs the density of what is proposed, and the generator of "
                f"{kind} has none; use mode='seed', which marks a settle window after each "
                "injection",
            )
        if not (isinstance(asked.targets, str) and asked.targets == "uniform"):
            return Refusal(
                "targets are given",
                f"targets are for seeds; mode={cls.mode!r} draws CV values from a known density: "
                "leave targets out, and give one by settings=ProposalSettings(conditions=...)",
            )
        if isinstance(asked.settings.conditions, str):
            trained_range(asked.sampler)
        return None

    @classmethod
    def refusal_in(cls, asked: Asked, simulation: Simulation) -> Refusal | None:
        """Why proposals cannot be exact in a simulation."""
        reason = exactness.why_not_exact(asked.sampler, simulation, asked.bias)
        error = f"mode={cls.mode!r} is not possible: {reason}; use mode='seed'"
        return Refusal(reason, error) if reason else None

    @classmethod
    def prepare(cls, asked: Asked, start: Start) -> Self:
        """Make the potential and the screen, and check that the energy is that of a free molecule.

        Raises
        ------
        ValueError
            If it is not, and as for the class.
        """
        assert knows_density(asked.sampler), "refusal comes first"
        # the energy judges bonds and clashes; what it cannot tell is which molecule was given
        kept = replace(asked.settings.screen, clash_fraction=0.0, bond_tolerance=np.inf)
        topology, atoms = start.simulation.topology, start.atoms
        move = cls(
            asked.sampler,
            asked.bias,
            potential_beside(start.simulation, asked.bias.force_groups()),
            Screen(topology, start.positions[atoms], None, kept, atoms.tolist()),
            GAS_CONSTANT * start.temperature,
            asked.settings.candidates or CANDIDATES,
            asked.settings.conditions,
        )
        if not keeps_place(asked.sampler):
            exactness.require_free(move.potential, move.bias, start.positions, move.kT)
        return move

    @classmethod
    def why_not_replaced(cls, new: Sampler, now: Sampler) -> str:
        """Why a sampler cannot take the place of the one there is; empty if it can."""
        return exactness.why_not_replaced(new, now)

    def replace_sampler(self, sampler: Sampler) -> None:
        """Propose from another sampler from now on.

        Raises
        ------
        ValueError
            If its density is not known, it refuses the conditions, or it holds constrained bonds
            at other lengths.
        """
        if not knows_density(sampler):
            raise ValueError(f"the generator of {type(sampler).__name__} has no known density")
        made = self._given
        if isinstance(made, str):
            made = UniformConditions(trained_range(sampler), sampler.variables)
        drawn = made.draw(TRIED, np.random.default_rng(0))
        tried, _ = sampler.sample_with_log_prob(drawn, seed=0)  # refuses what it was not made for
        exactness.require_lengths(self.potential, sampler, tried)
        self._memory.clear()  # another density: other weights
        self.sampler: DensitySampler = sampler
        self.conditions: Conditions = made
        self.atoms = np.asarray(sampler.atoms, dtype=int)
        self.noise = np.asarray(sampler.condition_noise, dtype=float)

    def _set_candidates(self, n_candidates: int) -> None:
        """Have so many fresh candidates from now on; what is remembered is gone."""
        self.n_candidates = n_candidates
        self._memory = Remembered(self._n_cvs, max(1, REMEMBERED // n_candidates))

    def follow(self, context: openmm.Context, temperature: float) -> None:
        """Take over the parameters of the running Context, its energy, and the temperature [K]."""
        self.potential.follow(context)
        others = set(range(32)) - self.bias.force_groups()
        state = context.getState(energy=True, groups=others)
        self._running_energy = state.getPotentialEnergy()._value
        kT = GAS_CONSTANT * temperature
        if kT != self.kT:
            log.warning("exact proposals go on at %.1f K", temperature)
            self.kT = kT
            self._memory.clear()  # other weights

    def attempt(
        self,
        positions: NDArray[np.float64],
        box: NDArray[np.float64] | None,
        rng: np.random.Generator,
    ) -> Attempt:
        """Make one move.

        Parameters
        ----------
        positions : ndarray, shape (n_atoms, 3)
            The current configuration [nm].
        box : None
            Exact proposals are for what has no box.
        rng : numpy Generator

        Returns
        -------
        Attempt
            With positions, superposed on the current ones, if a candidate was chosen.
        """
        cvs, here = self._conditioned(positions, rng)
        if not np.isfinite(self.conditions.log_density(here)[0]):
            return self._kept(cvs, here[0], OUTSIDE_CONDITIONS)
        current = positions[None, self.atoms]
        drawn = self.conditions.draw(self.n_candidates, rng)
        seed = int(rng.integers(1, 2**31 - 1))
        made, log_prob = self.sampler.sample_with_log_prob(drawn, seed=seed)
        x = np.concatenate([current, made])
        conditions = np.concatenate([here, drawn])
        log_prob = np.concatenate([self.sampler.log_prob(current, here), log_prob])
        weighed = self.weigh(x, conditions, log_prob)
        exactness.require_same_energy(self._running_energy, weighed.energies[0], self.kT)
        chosen = int(choose(weighed.log_weights[0], weighed.log_weights[1:], rng))
        return self._attempt(x, conditions, weighed, chosen, positions)

    def _conditioned(
        self, positions: NDArray[np.float64], rng: np.random.Generator
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """CVs (n_cvs,) of the current configuration, and a condition (1, n_cvs) drawn for them."""
        cvs = self.bias.cv_values(positions)[None]
        return cvs[0], noisy_conditions(cvs, self.noise, self.sampler.variables, rng)

    def weigh(
        self,
        x: NDArray[np.float64],
        conditions: NDArray[np.float64],
        log_prob: NDArray[np.float64],
        with_slopes: bool = False,
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
        with_slopes : bool
            Whether to evaluate forces as well.
        """
        n, n_cvs = conditions.shape
        reasons = self.screen.check(x).astype("U24")
        reasons[(reasons == PASSED) & ~np.isfinite(log_prob)] = OUTSIDE_GENERATOR
        terms = {name: np.full(n, np.nan) for name in ("energy", "bias", "fixman", "noise")}
        cvs, rows = np.full((n, n_cvs), np.nan), np.flatnonzero(reasons == PASSED)
        slopes = np.full(x.shape, np.nan) if with_slopes else None
        if len(rows):
            whole = np.empty((len(rows), *x.shape[1:]))
            whole[:, self.atoms] = x[rows]
            cvs[rows] = self.bias.cv_values(whole)
            reasons[rows[self._misplaced(cvs[rows], conditions[rows])]] = CV_ERROR
            if slopes is None:
                terms["energy"][rows] = self.potential.energies(whole)
            else:
                terms["energy"][rows], found = self.potential.energies_and_gradients(whole)
                slopes[rows] = -found[:, self.atoms] / self.kT
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
        if slopes is not None:
            slopes[np.isneginf(log_weights)] = np.nan
        return Weighed(reasons, cvs, terms["energy"], terms["bias"], log_weights, len(rows), slopes)

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
            own, onto = x[row][None], positions[self.atoms]
            moved = np.empty_like(positions)
            moved[self.atoms] = own if keeps_place(self.sampler) else superpose(own, onto)
        best = fresh.max()
        largest = float(1 / np.exp(fresh - best).sum()) if np.isfinite(best) else np.nan
        size = kish_effective_sample_size(fresh)
        self._weights.look(self.n_candidates, size, largest)
        counted = Counter(str(reason) for reason in weighed.reasons[1:] if reason)
        candidates = Candidates(len(fresh), dict(counted), weighed.evaluated, size, largest)
        return Attempt(conditions[row], cvs, cvs, energy, energy, reason, moved, candidates)

    def summary(self) -> str:
        """How many of the candidates count, in words."""
        typical = self._weights.typical_size
        return f"effective sample size {typical:.3g} of {self.n_candidates} candidates (median)"

    def _remember(self, weighed: Weighed, conditions: NDArray) -> None:
        """Keep the weights without the bias, for the diagnostics."""
        logs, cvs = weighed.log_weights[1:].copy(), weighed.cvs[1:]
        alive = np.isfinite(logs)
        logs[alive] += weighed.bias[1:][alive] / self.kT
        self._memory.add(np.where(np.isfinite(cvs), cvs, conditions[1:]), logs)

    def saved(self) -> dict[str, NDArray]:
        """What it remembers, and what its warning looks back on."""
        return self._memory.saved() | self._weights.saved()

    def restore_saved(self, arrays: dict[str, NDArray]) -> None:
        """Take over what `saved` gave.

        Raises
        ------
        ValueError
            If it does not fit.
        """
        self._memory.restore_saved(arrays)
        self._weights.restore_saved(arrays)

    def weighed_candidates(self) -> tuple[NDArray, NDArray]:
        """CVs (n, n_cvs) and log weights (n,) of candidates, against the unbiased ensemble."""
        return self._memory.all()
