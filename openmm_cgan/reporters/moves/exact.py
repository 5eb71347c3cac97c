"""Exact moves: the current configuration or a generated one, chosen by importance weights.

They leave the distribution that the run samples unchanged, whatever the generator is; a poor
generator only makes them rare. The generator's density must be known, and it must make every atom
that interacts.
"""

from __future__ import annotations

import logging
from dataclasses import replace
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
    ScreenSettings,
    keeps_place,
    knows_density,
)
from openmm_cgan.proposals.conditions import Conditions, UniformConditions
from openmm_cgan.proposals.selection import CURRENT, choose
from openmm_cgan.proposals.targets import trained_range
from openmm_cgan.proposals.weights import noisy_conditions
from openmm_cgan.reporters.attempts import Attempt
from openmm_cgan.reporters.contexts import energy_without
from openmm_cgan.reporters.moves import exactness
from openmm_cgan.reporters.moves.candidate_record import CandidateRecord
from openmm_cgan.reporters.moves.marginal import Marginal, found_marginal
from openmm_cgan.reporters.moves.move import Asked, Refusal, Start, TemperatureChanges
from openmm_cgan.reporters.moves.weighing import Made, Target, Weighed, WithGradients
from openmm_cgan.reporters.surroundings import superpose

if TYPE_CHECKING:
    import openmm
    from openmm.app import Simulation

    from openmm_cgan.plumed.bias import PlumedBias
    from openmm_cgan.potentials import Potential


KEPT_CURRENT = "kept current"
OUTSIDE_CONDITIONS = "outside conditions"

CANDIDATES = 100  # of a move, where nothing else is asked for
TRIED = 64  # conditions, before anything moves


def kept_because(why: str) -> str:
    """What the table says of a move that kept the current configuration."""
    return f"{KEPT_CURRENT}: {why}" if why else KEPT_CURRENT


def chemistry_of(asked: Asked) -> ScreenSettings:
    """What the energy cannot tell: which molecule was given. Bonds and clashes it judges."""
    screen = asked.settings.screen.turned_by(asked.bias.variables)
    return replace(screen, clash_fraction=0.0, bond_tolerance=np.inf)


def _everywhere(sampler: Sampler) -> UniformConditions:
    """Conditions drawn uniformly where a sampler was trained."""
    return UniformConditions(trained_range(sampler), sampler.variables)


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
    conditions : "uniform", "marginal" or Conditions
        From where CV values are drawn: uniformly over the range that the sampler was trained on, or
        there near the marginal density of the run (`marginal`).
    is_restored : bool
        Whether `restore_saved` is still to give what a pilot has found: none is made then.

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
        is_restored: bool = False,
    ) -> None:
        self.bias, self.potential, self.screen = bias, potential, screen
        self.kT = kT
        self._changes = TemperatureChanges(self.mode)
        self._given, self._is_restored = conditions, is_restored
        self._running_energy = np.nan  # of the present frame, without the bias, once it is known
        self._n_cvs = len(sampler.variables)
        self._set_candidates(n_candidates)
        self.replace_sampler(sampler)

    @classmethod
    def refusal(cls, asked: Asked) -> Refusal | None:
        """Why the sampler cannot make exact proposals, or the targets ask for seeds."""
        return exactness.refusal_of_given(asked, cls.mode)

    @classmethod
    def refusal_in(cls, asked: Asked, simulation: Simulation) -> Refusal | None:
        """Why proposals cannot be exact in a simulation."""
        reason = exactness.why_not_exact(asked.sampler, simulation, asked.bias)
        return Refusal.of(cls.mode, reason)

    @classmethod
    def prepare(cls, asked: Asked, start: Start) -> Self:
        """Make the potential and the screen, and check that the energy is that of a free molecule.

        Raises
        ------
        ValueError
            If it is not, and as for the class.
        """
        assert knows_density(asked.sampler), "refusal comes first"
        kept = chemistry_of(asked)
        topology, atoms = start.simulation.topology, start.atoms
        move = cls(
            asked.sampler,
            asked.bias,
            potential_beside(start.simulation, asked.bias.force_groups()),
            Screen(topology, start.positions[atoms], None, kept, atoms.tolist()),
            GAS_CONSTANT * start.temperature,
            asked.settings.candidates or CANDIDATES,
            asked.settings.conditions,
            is_restored=start.is_restored,
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
        made = _everywhere(sampler) if isinstance(self._given, str) else self._given
        drawn = made.draw(TRIED, np.random.default_rng(0))
        tried, _ = sampler.sample_with_log_prob(drawn, seed=0)  # refuses what it was not made for
        exactness.require_lengths(self.potential, sampler, tried)
        self._record.clear()  # another density: other weights
        self.sampler: DensitySampler = sampler
        self.conditions: Conditions = made
        self.atoms = np.asarray(sampler.atoms, dtype=int)
        self.noise = np.asarray(sampler.condition_noise, dtype=float)
        self._marginal: Marginal | None = None
        if not self._is_restored:
            self._find_marginal({})

    def _find_marginal(self, saved: dict[str, NDArray]) -> None:
        """Take where to draw from what was saved of a pilot, or else make one, if it is asked for.

        One now might find another, and costs its energies.
        """
        self._is_restored = False
        if self._given != "marginal":
            return
        everywhere = _everywhere(self.sampler)
        if "pilot" in saved:
            self._marginal = Marginal.restored(saved, everywhere)
        else:
            bias = self.bias.bias_of_cvs
            self._marginal = found_marginal(self._tried_at, bias, everywhere, self.kT)
        self._draw_near_marginal()

    def _weigh_some(self) -> NDArray[np.float64]:
        """Log weights (TRIED,) of candidates: what can not be weighed is found before a step."""
        rng = np.random.default_rng(0)
        return self._tried_at(self.conditions.draw(TRIED, rng), rng)

    def _tried_at(
        self, conditions: NDArray[np.float64], rng: np.random.Generator
    ) -> NDArray[np.float64]:
        """Log weights (n,) of candidates made at conditions (n, n_cvs), less that of these."""
        seed = int(rng.integers(1, 2**31 - 1))
        x, log_prob = self.sampler.sample_with_log_prob(conditions, seed=seed)
        log_weights = self.weigh(x, conditions, log_prob).log_weights
        return log_weights + self.conditions.log_density(conditions)

    def _draw_near_marginal(self) -> None:
        """Draw from the marginal density under the bias as it stands, where a pilot found it."""
        if self._marginal is not None:
            bias = self.bias.bias_of_cvs(self._marginal.cvs)
            self.conditions = self._marginal.conditions(bias, self.kT)

    def _set_candidates(self, n_candidates: int) -> None:
        """Have so many fresh candidates from now on; what is remembered is gone."""
        self.n_candidates = n_candidates
        self._record = CandidateRecord(self._n_cvs, n_candidates, self.mode)

    def follow(self, context: openmm.Context, temperature: float) -> None:
        """Take over the parameters of the running Context, its energy, and the temperature [K]."""
        self.potential.follow(context)
        self._running_energy = energy_without(context, self.bias.force_groups())
        kT = GAS_CONSTANT * temperature
        if kT != self.kT:
            self._changes.say(temperature)
            self.kT = kT
            self._record.clear()  # other weights
        self._draw_near_marginal()

    def attempt(
        self,
        positions: NDArray[np.float64],
        box: NDArray[np.float64] | None,
        rng: np.random.Generator,
    ) -> Attempt:
        """Make one move, as any `Move`: with positions superposed on the current ones; no box."""
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
        noise, variables = self.noise, self.sampler.variables
        potential = WithGradients(self.potential) if with_slopes else self.potential
        target = Target(self.bias, potential, self.screen, self.kT, variables, noise, self._whole)
        log_density = self.conditions.log_density(conditions)
        weighed = target.weigh(Made(x, conditions, log_prob, log_density))
        if not isinstance(potential, WithGradients):
            return weighed
        slopes = np.full(x.shape, np.nan)
        slopes[~np.isnan(weighed.energies)] = -potential.gradients[:, self.atoms] / self.kT
        slopes[np.isneginf(weighed.log_weights)] = np.nan
        return replace(weighed, slopes=slopes)

    def _whole(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        """Configurations (n, n_atoms, 3) in the order of the System."""
        whole = np.empty_like(x)
        whole[:, self.atoms] = x
        return whole

    def _kept(self, cvs: NDArray, condition: NDArray, reason: str) -> Attempt:
        return Attempt(condition, cvs, cvs, reason=kept_because(reason))

    def _attempt(
        self, x: NDArray, conditions: NDArray, weighed: Weighed, chosen: int, positions: NDArray
    ) -> Attempt:
        """What became of a move, in the words of the table."""
        row = 1 + chosen
        energy, cvs = float(weighed.energies[row]), weighed.cvs[row]
        reason, moved = PASSED, None
        if chosen == CURRENT:
            reason = kept_because(str(weighed.reasons[0]))
        else:
            own, onto = x[row][None], positions[self.atoms]
            moved = np.empty_like(positions)
            moved[self.atoms] = own if keeps_place(self.sampler) else superpose(own, onto)
        candidates = self._record.add(weighed.without_first(), conditions[1:], self.kT)
        return Attempt(conditions[row], cvs, cvs, energy, energy, reason, moved, candidates)

    def summary(self) -> str:
        """How many of the candidates count, in words."""
        return self._record.summary()

    def saved(self) -> dict[str, NDArray]:
        """What its `CandidateRecord` saves, and what a pilot found of where to draw from."""
        found = {} if self._marginal is None else self._marginal.saved()
        return self._record.saved() | found

    def restore_saved(self, arrays: dict[str, NDArray]) -> None:
        """Take over what `saved` gave.

        Raises
        ------
        ValueError
            If it does not fit.
        """
        self._find_marginal(arrays)
        self._weigh_some()
        self._record.restore_saved(arrays)

    def weighed_candidates(self) -> tuple[NDArray, NDArray]:
        """CVs (n, n_cvs) and log weights (n,) of candidates, against the unbiased ensemble."""
        return self._record.weighed_candidates()
