"""Seeds: configurations made at a target, screened, healed and judged, from which a run goes on.

A seed is no sample: it starts the exploration elsewhere, and a settle window marks what the run
makes before it has forgotten where the seed came from.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar, Self

import numpy as np
import openmm
from numpy.typing import NDArray

from openmm_cgan.checkpoints import saved_array
from openmm_cgan.proposals import (
    Sampler,
    Screen,
    cv_tolerances,
    generated_atoms,
    keeps_place,
    propose,
)
from openmm_cgan.proposals.targets import TargetStrategy, target_strategy, trained_range
from openmm_cgan.reporters.attempts import ACCEPTED, Attempt, Candidates
from openmm_cgan.reporters.contexts import settle_steps_of
from openmm_cgan.reporters.healing import HealingContext
from openmm_cgan.reporters.moves.held_rest import moved_variables
from openmm_cgan.reporters.moves.move import Asked, Refusal, Start
from openmm_cgan.reporters.placing import placed, rest_of, tied_in
from openmm_cgan.reporters.settling import SettleWatch
from openmm_cgan.reporters.surroundings import Surroundings

if TYPE_CHECKING:
    from openmm.app import Simulation

log = logging.getLogger("openmm_cgan")

SHOWN = 8  # of atoms in a message


class SeedMove:
    """Proposes a batch of configurations at a target, and heals one that passes the screen.

    Parameters
    ----------
    sampler : Sampler
    choose_target : callable
        ``(visited, rng) -> target``: CVs of the run at each attempt so far, this one included,
        (n_attempts, n_cvs), to the CVs that are asked for, (n_cvs,).
    screen : Screen
        Made with the surroundings of the healing.
    healing : HealingContext
    batch : int
        Configurations generated at each target.
    settle_steps : int
        Of the window after each injection, or until one is measured.
    watch : SettleWatch, optional
        What measures it.
    """

    mode: ClassVar[str] = "seed"
    log_level: ClassVar[int] = logging.INFO

    def __init__(
        self,
        sampler: Sampler,
        choose_target: TargetStrategy,
        screen: Screen,
        healing: HealingContext,
        batch: int,
        settle_steps: int,
        watch: SettleWatch | None = None,
    ) -> None:
        self.sampler, self._settle_steps, self.watch = sampler, settle_steps, watch
        self._choose_target, self._batch = choose_target, batch
        self._screen, self._healing = screen, healing
        # CV values at the attempts so far; doubled in length where it is full
        self._visited = np.empty((64, len(sampler.variables)))
        self._n_visited = 0

    @classmethod
    def refusal(cls, asked: Asked) -> Refusal | None:
        """None: any sampler gives seeds.

        Raises
        ------
        ValueError
            If the targets make no sense, or lie where the sampler knows nothing.
        """
        _strategy(asked)
        return None

    @classmethod
    def refusal_in(cls, asked: Asked, simulation: Simulation) -> Refusal | None:
        """Why seeds can not be put into a simulation: Drude particles, or atoms that are held."""
        system = simulation.system
        if any(isinstance(force, openmm.DrudeForce) for force in system.getForces()):
            return Refusal(
                "the System has Drude particles",
                "seeds are healed at one temperature, and the System's Drude particles have a "
                "bath of their own: proposals are not possible",
            )
        if isinstance(simulation.integrator, openmm.RPMDIntegrator):
            return Refusal(
                "the atoms of an RPMDIntegrator are rings of beads",
                "an RPMDIntegrator moves a ring of beads for each atom, and a proposal is one "
                "configuration: proposals are not possible",
            )
        atoms = generated_atoms(asked.sampler, simulation.topology)
        held = [
            int(atom)
            for atom in atoms
            if system.getParticleMass(int(atom))._value == 0 and not system.isVirtualSite(int(atom))
        ]
        if held:
            shown = f"{held[:SHOWN]}" + (f" and {n} others" if (n := len(held) - SHOWN) > 0 else "")
            return Refusal(
                f"the generated atoms {shown} have mass 0",
                f"the atoms {shown} have mass 0, which holds them in place, and would be moved by "
                "a proposal: train a generator of the others (atoms=, or of_part where bonds tie "
                "them), give them their masses, or restrain them",
            )
        return None

    @classmethod
    def prepare(cls, asked: Asked, start: Start) -> Self:
        """Make the screen and the second Context, in which seeds are healed."""
        settings = asked.settings
        surroundings = Surroundings(
            asked.bias, start.atoms, start.positions, start.box, keeps_place(asked.sampler),
            tied_in(asked.sampler, start.simulation, start.positions, start.box),
        )  # fmt: skip
        tolerances = cv_tolerances(settings.screen, surroundings.variables, asked.sampler.cv_range)
        # those of the first sampler stay: the force constant of the healing goes by them
        screened = replace(settings.screen, cv_tolerance=tuple(tolerances.tolist()))
        settings = replace(settings, screen=screened)
        screen = Screen(
            start.simulation,
            surroundings.positions[start.atoms],
            surroundings,
            settings.screen,
            start.atoms.tolist(),
            rest_of(asked.sampler, surroundings),
        )
        healing = HealingContext(start.simulation, surroundings, start.temperature, settings)
        steps, watch = settle_steps_of(start.simulation.integrator, settings.settle_steps), None
        if settings.settle_steps is None:
            watch = SettleWatch(asked.interval, steps, surroundings.has_others)
            watch.left_alone(start.simulation.currentStep)
        moved = moved_variables(asked.bias, start.atoms, start.positions, start.box)
        strategy = _where_moved(_strategy(asked), moved, [v.name for v in asked.bias.variables])
        return cls(asked.sampler, strategy, screen, healing, settings.batch, steps, watch)

    @property
    def settle_steps(self) -> int:
        """Steps after an injection whose frames are marked as settling."""
        return self._settle_steps if self.watch is None else self.watch.steps

    @classmethod
    def why_not_replaced(cls, new: Sampler, now: Sampler) -> str:
        """Empty: any sampler of these CVs and atoms will do."""
        return ""

    def replace_sampler(self, sampler: Sampler) -> None:
        """Propose from another sampler from now on."""
        self.sampler = sampler

    def follow(self, context: openmm.Context, temperature: float) -> None:
        """Take over the parameters of the running Context, and the temperature [K]."""
        self._healing.follow(context, temperature)

    def attempt(
        self,
        positions: NDArray[np.float64],
        box: NDArray[np.float64] | None,
        rng: np.random.Generator,
    ) -> Attempt:
        """Propose, screen, heal and judge, as any `Move`: with positions if a healed one passed."""
        here = self._healing.surroundings
        here.move(positions, box)
        self._visit(here.bias.cv_values(here.positions, here.box))
        visited = self._visited[: self._n_visited]
        target = np.asarray(self._choose_target(visited, rng), dtype=float)
        targets = np.tile(target, (self._batch, 1))
        seed = int(rng.integers(1, 2**31 - 1))
        proposals = propose(placed(self.sampler, here), targets, self._screen, seed=seed)
        counts = proposals.counts()
        passed = counts.pop(ACCEPTED)
        candidates = Candidates(len(proposals), counts, energies=passed)
        attempt = self._healing.judge(proposals, self._screen, rng)
        healed = None if attempt.positions is None else here.back(attempt.positions)
        return replace(attempt, positions=healed, candidates=candidates)

    def _visit(self, cvs: NDArray[np.float64]) -> None:
        if self._n_visited == len(self._visited):
            self._visited = np.concatenate([self._visited, np.empty_like(self._visited)])
        self._visited[self._n_visited] = cvs
        self._n_visited += 1

    def saved(self) -> dict[str, NDArray[np.float64]]:
        """The CV values at the attempts so far, shape (n_attempts, n_cvs), and the watch."""
        watch = {} if self.watch is None else self.watch.saved()
        watched = {f"watch-{name}": array for name, array in watch.items()}
        return {"visited": self._visited[: self._n_visited], **watched}

    def restore_saved(self, arrays: dict[str, NDArray]) -> None:
        """Take over what `saved` gave."""
        visited = saved_array(arrays, "visited", (None, self._visited.shape[1]))
        self._visited, self._n_visited = np.concatenate([visited, self._visited]), len(visited)
        if self.watch is not None:
            named = {name.removeprefix("watch-"): array for name, array in arrays.items()}
            self.watch.restore_saved(named)

    def summary(self) -> str:
        """Nothing beside the counts."""
        return ""

    def weighed_candidates(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """None, (0, n_cvs) and (0,): seeds have no weights."""
        return np.zeros((0, len(self.sampler.variables))), np.zeros(0)


def _where_moved(
    strategy: TargetStrategy, moved: NDArray[np.bool_], names: Sequence[str]
) -> TargetStrategy:
    """Targets of the CVs that the generated atoms move; the others are asked for as they stand.

    A side chain made for another phi of its backbone would be refused for ever.
    """
    if moved.all():
        return strategy
    log.info(
        "the generated atoms do not move %s, which are conditions as they stand at each attempt",
        ", ".join(name for name, moves in zip(names, moved, strict=True) if not moves),
    )
    return lambda visited, rng: np.where(moved, strategy(visited, rng), visited[-1])


def _strategy(asked: Asked) -> TargetStrategy:
    return target_strategy(asked.targets, trained_range(asked.sampler), asked.bias.variables)
