"""Annealed moves: candidates mended on their way from the generator to the target.

As in exact moves the current configuration or a fresh one is chosen by weights, but each candidate
first takes some steps of dynamics between the density of the generator and that of the run, and
its weight is that of its path (see `annealing`); so has the current one, by the path that could
have led to it. Where configurations of a generator are nearly right and all weight is in a few of
them, this takes fewer energies.

Conditions stay what they are along a path. The density of the run is zero for what the screen
refuses (mirror images, cis amides) all along it: a candidate that begins so is not annealed, and
no step leads there.
"""

from __future__ import annotations

import copy
import logging
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from openmm_cgan.checkpoints import saved_array
from openmm_cgan.proposals import PASSED, LatentMap, LatentSampler, Sampler
from openmm_cgan.proposals.conditions import Conditions
from openmm_cgan.proposals.selection import choose
from openmm_cgan.proposals.weights import log_condition_noise
from openmm_cgan.reporters.attempts import Attempt
from openmm_cgan.reporters.moves import exactness
from openmm_cgan.reporters.moves.annealing import Paths, Points, Schedule, Space, annealed
from openmm_cgan.reporters.moves.exact import CANDIDATES, OUTSIDE_CONDITIONS, ExactMove, Weighed
from openmm_cgan.reporters.moves.move import Asked, Refusal, Start
from openmm_cgan.reporters.moves.pilot import Plan, best_plan

if TYPE_CHECKING:
    from openmm_cgan.plumed.bias import PlumedBias
    from openmm_cgan.potentials import Potential
    from openmm_cgan.proposals import Screen

log = logging.getLogger("openmm_cgan")

DROPPED = "dropped early"  # by rejection control
DIFFERENCE = 1e-4  # of the noise of a condition: step of a central difference


class AnnealedMove(ExactMove):
    """Chooses between the current configuration and annealed candidates.

    Parameters
    ----------
    sampler : LatentSampler
    bias, potential, screen, kT, n_candidates, conditions, is_restored
        As for ExactMove.
    schedule : Schedule, optional
        How candidates are annealed. By default as `plan` finds.

    Attributes
    ----------
    plans : tuple of Plan, or None
        What the pilot found best, and what it found of candidates that are not annealed.
    """

    mode: ClassVar[str] = "annealed"
    plans: tuple[Plan, Plan] | None = None

    def __init__(
        self,
        sampler: LatentSampler,
        bias: PlumedBias,
        potential: Potential,
        screen: Screen,
        kT: float,
        n_candidates: int = CANDIDATES,
        conditions: str | Conditions = "uniform",
        schedule: Schedule | None = None,
        is_restored: bool = False,
    ) -> None:
        self.schedule = schedule or Schedule()
        self.evaluated = 0
        self._asked: tuple[int | None, int | None, int] | None = None
        super().__init__(
            sampler, bias, potential, screen, kT, n_candidates, conditions, is_restored
        )

    @classmethod
    def refusal(cls, asked: Asked) -> Refusal | None:
        """Why the sampler cannot make annealed proposals, or the targets ask for seeds."""
        if no := super().refusal(asked):
            return no
        kind = type(asked.sampler).__name__
        if not isinstance(asked.sampler, LatentSampler):
            return Refusal(
                f"{kind} has no latent numbers",
                f"mode='annealed' walks in the latent numbers of a flow, and {kind} has none: it "
                "needs latent_map, as openmm_cgan.proposals.LatentSampler says; use mode='exact'",
            )
        return None

    @classmethod
    def prepare(cls, asked: Asked, start: Start) -> Self:
        """Make it as an exact move, and find how to anneal.

        Raises
        ------
        ValueError
            As for ExactMove, and if no candidate of the pilot had any weight.
        """
        return super().prepare(asked, start)._planned(asked)

    @classmethod
    def beside(cls, exact: ExactMove, asked: Asked) -> Self:
        """Make it of an exact move that was prepared: what that has found holds for both.

        Raises
        ------
        ValueError
            If no candidate of the pilot had any weight.
        """
        assert isinstance(exact.sampler, LatentSampler), "refusal comes first"
        made = cls(
            exact.sampler, exact.bias, exact.potential, exact.screen, exact.kT,
            exact.n_candidates, exact._given, is_restored=True,
        )  # fmt: skip
        made._find_marginal(exact.saved())
        return made._planned(asked)

    def _planned(self, asked: Asked) -> Self:
        settings = asked.settings
        self._asked = (settings.annealing_steps, settings.candidates, asked.interval)
        self._plan()
        return self

    @classmethod
    def why_not_replaced(cls, new: Sampler, now: Sampler) -> str:
        """Why a sampler cannot take the place of the one there is; empty if it can."""
        if not isinstance(new, LatentSampler):
            return f"{type(new).__name__} has no latent numbers"
        return exactness.why_not_replaced(new, now)

    def replace_sampler(self, sampler: Sampler) -> None:
        """Propose from another sampler from now on, annealed as a new pilot finds.

        Raises
        ------
        ValueError
            As for ExactMove, if it has no latent numbers, or if none of its candidates has any
            weight.
        """
        if not isinstance(sampler, LatentSampler):
            raise ValueError(f"{type(sampler).__name__} has no latent numbers")
        made = sampler.latent_map()
        before = vars(self) | {"_record": copy.deepcopy(self._record)}
        super().replace_sampler(sampler)
        self._map: LatentMap = made
        self.space = Space(made.n_normal, self.evaluate)
        try:
            self._plan()
        except ValueError:
            vars(self).update(before)
            raise

    def _plan(self) -> None:
        """Find how to anneal, where that is to be found: see `pilot`."""
        if self._asked is None or self._is_restored:
            return
        steps, candidates, interval = self._asked
        found, plain = best_plan(
            lambda n, rng: self.evaluate(*self.drawn(n, rng)),
            self.space,
            *([] if steps is None else [[steps]]),
        )
        if not found.effective > 0:
            raise ValueError(
                "no configuration of the pilot had any weight: the generator knows nothing of "
                "what this simulation samples; train it longer, or on frames of this System"
            )
        self.plans, self.schedule = (found, plain), found.schedule
        self._set_candidates(candidates or found.candidates(interval))
        log.info(
            "annealed proposals of %d candidates, %s (without annealing %.3g)",
            self.n_candidates, found, 1000 * plain.efficiency,
        )  # fmt: skip

    def drawn(self, n: int, rng: np.random.Generator) -> tuple[NDArray, NDArray]:
        """Latent numbers (n, n_latent) and conditions (n, n_cvs) of fresh candidates."""
        conditions = self.conditions.draw(n, rng)
        return self._map.draw(conditions, seed=int(rng.integers(1, 2**31 - 1))), conditions

    def evaluate(self, latent: NDArray[np.float64], conditions: NDArray[np.float64]) -> Points:
        """Configurations of latent numbers (n, n_latent), weighed, with the slopes of the weights.

        Those of Fixman's factor are left out, which hardly varies: steps follow the others, and
        their acceptance knows it.
        """
        made = self._map.mapped(latent, conditions)
        weighed = self.weigh(made.positions, conditions, made.log_prob, with_slopes=True)
        assert weighed.slopes is not None
        self.evaluated += weighed.evaluated
        slopes = weighed.slopes + self._cv_slopes(made.positions, weighed.cvs, conditions)
        angle_slopes, gradients = made.angle_slopes(), made.pulled_back(slopes)
        return Points(
            latent, conditions, weighed.cvs, made.positions, weighed.reasons, weighed.energies,
            weighed.bias, weighed.log_weights, gradients, made.log_angles, angle_slopes,
        )  # fmt: skip

    def attempt(
        self,
        positions: NDArray[np.float64],
        box: NDArray[np.float64] | None,
        rng: np.random.Generator,
    ) -> Attempt:
        """Make one move; parameters as for `ExactMove.attempt`."""
        cvs, here = self._conditioned(positions, rng)
        if not np.isfinite(self.conditions.log_density(here)[0]):
            return self._kept(cvs, here[0], OUTSIDE_CONDITIONS)
        self.evaluated = 0
        begun = self.begun(positions[None, self.atoms], here, rng)
        exactness.require_same_energy(self._running_energy, begun.energies[0], self.kT)
        paths = self.ends(begun, 1, rng)
        chosen = int(choose(paths.log_weights[0], paths.log_weights[1:], rng))
        ends = paths.points
        ends.put(np.array([0]), begun.take(np.array([0])))
        dropped = (ends.reasons == PASSED) & np.isneginf(paths.log_weights)
        weighed = Weighed(
            np.where(dropped, DROPPED, ends.reasons), ends.cvs, ends.energies, ends.bias,
            paths.log_weights, self.evaluated,
        )  # fmt: skip
        return self._attempt(ends.positions, ends.conditions, weighed, chosen, positions)

    def begun(
        self, x: NDArray[np.float64], here: NDArray[np.float64], rng: np.random.Generator
    ) -> Points:
        """Where paths begin: at current configurations, and at fresh candidates for each.

        Parameters
        ----------
        x : ndarray, shape (m, n_atoms, 3)
            Current configurations in the order of the sampler's atoms [nm].
        here : ndarray, shape (m, n_cvs)
            Their conditions.
        rng : numpy Generator

        Returns
        -------
        Points
            Rows of the m current ones, then of m n_candidates fresh ones.
        """
        latent, conditions = self.drawn(len(x) * self.n_candidates, rng)
        own = self._map.latent(x, here)
        return self.evaluate(np.concatenate([own, latent]), np.concatenate([here, conditions]))

    def ends(self, begun: Points, n_current: int, rng: np.random.Generator) -> Paths:
        """Ends of paths that begin as `begun` says: back from current ones, on from fresh ones."""
        backwards = np.arange(len(begun.reasons)) < n_current
        return annealed(begun, backwards, self.schedule, self.space, rng)

    def _cv_slopes(
        self, x: NDArray[np.float64], cvs: NDArray[np.float64], conditions: NDArray[np.float64]
    ) -> Any:
        """Slopes (n, n_atoms, 3) of -V_bias/kT + log k(c|xi) by positions; zero where c = xi.

        Zero as well where the CVs have no derivatives.
        """
        rows = np.flatnonzero(np.isfinite(cvs).all(axis=1))
        if not (self.noise > 0).any() or len(rows) == 0:
            return 0.0
        import torch

        whole = torch.empty((len(rows), *x.shape[1:]), dtype=torch.float64, device="cpu")
        whole[:, torch.from_numpy(self.atoms)] = torch.from_numpy(x[rows])
        whole.requires_grad_(True)
        try:
            measured = self.bias.differentiable_cvs(whole)
        except ValueError:  # those of PLUMED itself
            return 0.0
        by_cvs = torch.from_numpy(self._by_cvs(cvs[rows], conditions[rows]))
        (found,) = torch.autograd.grad(measured, whole, by_cvs)
        slopes = np.zeros_like(x)
        slopes[rows] = found.numpy()[:, self.atoms]
        return slopes

    def _by_cvs(self, cvs: NDArray, conditions: NDArray) -> NDArray[np.float64]:
        """Derivatives (n, n_cvs) of -V_bias/kT + log k(c|xi) by the CVs that are not placed."""
        made = np.zeros_like(cvs)
        for k in np.flatnonzero(self.noise > 0):
            step = np.zeros(cvs.shape[1])
            step[k] = DIFFERENCE * self.noise[k]
            ahead, behind = (
                log_condition_noise(conditions, moved, self.noise, self.sampler.variables)
                - self.bias.bias_of_cvs(moved) / self.kT
                for moved in (cvs + step, cvs - step)
            )
            made[:, k] = (ahead - behind) / (2 * step[k])
        return made

    def summary(self) -> str:
        """How many of the candidates count, in words."""
        return f"{super().summary()}, {len(self.schedule.levels)} steps of annealing"

    def saved(self) -> dict[str, NDArray]:
        """What an exact move saves, and how candidates are annealed.

        ``levels`` and ``steps`` (K,); ``annealing`` (3,): leaps, log threshold, candidates.
        """
        own = self.schedule
        numbers = [own.leaps, own.log_threshold, self.n_candidates]
        return super().saved() | {
            "levels": np.array(own.levels),
            "steps": np.array(own.steps),
            "annealing": np.array(numbers, dtype=float),
        }

    def restore_saved(self, arrays: dict[str, NDArray]) -> None:
        """Take over what `saved` gave.

        Raises
        ------
        ValueError
            If it does not fit.
        """
        self._find_marginal(arrays)
        if np.isneginf(self._weigh_some()).all():
            self._plan()  # refuses where it finds no weight either
        levels = saved_array(arrays, "levels", (None,))
        steps = saved_array(arrays, "steps", (len(levels),))
        leaps, threshold, candidates = saved_array(arrays, "annealing", (3,)).tolist()
        self.schedule = Schedule(
            tuple(levels.tolist()), tuple(steps.tolist()), int(leaps), threshold
        )
        self._set_candidates(int(candidates))
        self._record.restore_saved(arrays)
