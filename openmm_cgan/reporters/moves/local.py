r"""Local moves: a part of the system generated anew, the rest held where it stands; exact.

Let s be the part and r the rest, x = (s, r). The part is drawn from q(s\|c, r), where r enters by
the frame in which the part hangs, and weighed by

    w(s) = pi(s, r) k(c\|xi(s, r)) / (g(c) q(s\|c, r)).

The current part and N candidates, one chosen with probability proportional to w, leave pi(s\|r)
unchanged (iterated sampling-importance-resampling, as in an exact move), and so pi(s, r), whatever
r is. Only ratios of weights enter, so that all that does not depend on s drops out: of the energy
(of the whole System in its box as it is) the difference counts, and of Fixman's factor the block of
the constraints that are connected with the part. CVs that the part does not move are conditions as
they stand: they are the same for all candidates and on the way back. For the others c is drawn from
a density g that knows nothing of s.

In a large system the candidates are weighed by a quick energy u~ in place of u (`quick_energies`),
and the one that is chosen takes its place with the probability

    min(1, exp(-[u(s') - u(s)] + [u~(s') - u~(s)])).

The choice alone leaves exp(-u~), with all other factors as they are, in detailed balance; as the
proposal of a Metropolis step it has that ratio to be corrected by [1]_. So one energy of the whole
System is needed for a candidate that is chosen, and none for all others.

Of the velocities only those of the part are drawn anew, with those of atoms that constraints tie to
it. The density of velocities at x is a product of Gaussians, one for each set of atoms that
constraints connect, on the plane that these constraints allow at x. A move changes that plane for
sets that hold atoms of the part alone: these sets are drawn anew, the others keep theirs, and the
product stays what it is, for the choice does not look at velocities.

References
----------
.. [1] J. S. Liu, Monte Carlo Strategies in Scientific Computing (Springer, 2001), section 9.4.3;
   J. A. Christen, C. Fox, J. Comput. Graph. Stat. 14, 795 (2005), doi 10.1198/106186005X76983.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from openmm_cgan import GAS_CONSTANT
from openmm_cgan.attached_parts import attachments, molecule_around, references_of
from openmm_cgan.potentials import potential_beside, system_without
from openmm_cgan.proposals import (
    PASSED,
    LocalSampler,
    Rest,
    Sampler,
    Screen,
    hangs_on_rest,
)
from openmm_cgan.proposals.conditions import Conditions, UniformConditions
from openmm_cgan.proposals.selection import CURRENT, choose
from openmm_cgan.proposals.targets import trained_range
from openmm_cgan.proposals.weights import noisy_conditions
from openmm_cgan.reporters.attempts import Attempt
from openmm_cgan.reporters.contexts import energy_without
from openmm_cgan.reporters.moves import exactness
from openmm_cgan.reporters.moves.candidate_record import CandidateRecord
from openmm_cgan.reporters.moves.exact import (
    CANDIDATES,
    OUTSIDE_CONDITIONS,
    TRIED,
    chemistry_of,
    kept_because,
)
from openmm_cgan.reporters.moves.held_rest import HeldRest, image_of, moved_variables
from openmm_cgan.reporters.moves.move import Asked, Refusal, Start, TemperatureChanges
from openmm_cgan.reporters.moves.quick_energies import quick_system
from openmm_cgan.reporters.moves.weighing import Made, Target, Weighed
from openmm_cgan.states import velocities_of

if TYPE_CHECKING:
    import openmm
    from openmm.app import Simulation

    from openmm_cgan.collective_variable import CollectiveVariable
    from openmm_cgan.potentials import Potential

log = logging.getLogger("openmm_cgan")

LATTICE = 1e-6  # nm: an image further away is another one
FOREIGN, IN_A_ROW = 50.0, 20  # log density below all candidates, and moves before that is said


class LocalMove:
    """Chooses between a part as it is and fresh candidates of it.

    Parameters
    ----------
    asked : Asked
        With a LocalSampler.
    start : Start
    potential : HeldRest
        Energies of the whole system without the bias.
    screen : Screen
        What the part must be, whatever its energy: chirality, cis/trans.

    Raises
    ------
    ValueError
        If the sampler refuses the conditions, or holds constrained bonds at other lengths.
    """

    mode: ClassVar[str] = "local"
    log_level: ClassVar[int] = logging.DEBUG  # they come by the hundred, and are summed up
    settle_steps, watch = 0, None

    def __init__(self, asked: Asked, start: Start, potential: HeldRest, screen: Screen) -> None:
        settings = asked.settings
        self.bias, self.potential, self.screen = asked.bias, potential, screen
        self.kT = GAS_CONSTANT * start.temperature
        self._changes = TemperatureChanges(self.mode)
        self.n_candidates = settings.candidates or CANDIDATES
        self.variables = tuple(asked.bias.variables)
        self.atoms = start.atoms
        self._is_bonded = bool(attachments(start.simulation.topology, start.atoms.tolist()))
        self.is_moved = moved_variables(asked.bias, start.atoms, start.positions, start.box)
        self._given, self._running = settings.conditions, start.simulation.context
        self._record = CandidateRecord(len(self.variables), self.n_candidates, self.mode, True)
        self._foreign = 0  # moves in a row
        assert hangs_on_rest(asked.sampler), "refusal comes first"
        self.replace_sampler(asked.sampler)

    @classmethod
    def refusal(cls, asked: Asked) -> Refusal | None:
        """Why the sampler makes no part with a density, or the targets ask for seeds."""
        if (refused := exactness.refusal_of_given(asked, cls.mode)) is not None:
            return refused
        if hangs_on_rest(asked.sampler):
            return None
        reason = "the generator makes no part that hangs on the rest"
        return Refusal(
            reason,
            f"mode='local' is not possible: {reason}; train one with featurize="
            "ZMatrixFeatures.of_part(...) and TrainingSettings(generator='FlowGenerator')",
        )

    @classmethod
    def refusal_in(cls, asked: Asked, simulation: Simulation) -> Refusal | None:
        """Why the part cannot be moved exactly in a simulation."""
        reason = exactness.why_not_local(asked.sampler, simulation, asked.bias)
        error = f"mode='local' is not possible: {reason}; or use mode='seed'"
        return Refusal(reason, error) if reason else None

    @classmethod
    def prepare(cls, asked: Asked, start: Start) -> Self:
        """Make the potential and the screen.

        Raises
        ------
        ValueError
            As for the class.
        """
        kept = chemistry_of(asked)
        topology, atoms = start.simulation.topology, start.atoms.tolist()
        potential = potential_beside(start.simulation, asked.bias.force_groups())
        held = HeldRest(potential, start.atoms, start.positions, _quick(asked, start))
        rest = Rest(molecule_around(topology, atoms), lambda: held.current, is_judged=False)
        screen = Screen(topology, start.positions[atoms], None, kept, atoms, rest)
        return cls(asked, start, held, screen)

    @classmethod
    def why_not_replaced(cls, new: Sampler, now: Sampler) -> str:
        """Why a sampler cannot take the place of the one there is; empty if it can."""
        if not (hangs_on_rest(new) and hangs_on_rest(now)):
            return "it makes no part that hangs on the rest, with a density"
        if not np.array_equal(np.sort(new.rest), np.sort(now.rest)):
            return "it hangs on other atoms"
        return exactness.why_not_replaced(new, now)

    def replace_sampler(self, sampler: Sampler) -> None:
        """Propose from another sampler from now on.

        Raises
        ------
        ValueError
            If it makes no such part, it refuses the conditions, or it holds constrained bonds at
            other lengths.
        """
        if not hangs_on_rest(sampler):
            raise ValueError(f"{type(sampler).__name__} makes no part that hangs on the rest")
        moved, trained, made = self.is_moved, trained_range(sampler), self._given
        if isinstance(made, str):
            made = UniformConditions(trained[moved], self._variables_of(moved))
        tried, rng = np.tile(trained.mean(axis=1), (TRIED, 1)), np.random.default_rng(0)
        tried[:, moved] = self._draw(made, TRIED, rng)
        here = sampler.among(self.potential.current[sampler.rest])
        made_x, _ = here.sample_with_log_prob(tried, seed=0)  # refuses what it was not made for
        self.potential.require_lengths(made_x)
        self._record.clear()  # another density: other weights
        self.sampler: LocalSampler = sampler
        self.conditions: Conditions = made
        self._trained = UniformConditions(trained[~moved], self._variables_of(~moved))
        self.noise = np.where(moved, np.asarray(sampler.condition_noise, dtype=float), 0.0)

    def _variables_of(self, chosen: NDArray[np.bool_]) -> list[CollectiveVariable]:
        return [v for v, one in zip(self.variables, chosen, strict=True) if one]

    def _draw(
        self, conditions: Conditions, n: int, rng: np.random.Generator
    ) -> NDArray[np.float64]:
        drawn, wanted = conditions.draw(n, rng), self._variables_of(self.is_moved)
        if drawn.shape != (n, len(wanted)):
            raise ValueError(
                f"the conditions are of {drawn.shape[-1]} CVs; expected those that the part moves, "
                f"{[variable.name for variable in wanted]}: the others stay as they are"
            )
        return drawn

    def follow(self, context: openmm.Context, temperature: float) -> None:
        """Take over parameters and box of the running Context, and the temperature [K]."""
        self.potential.follow(context)
        self._running = context
        kT = GAS_CONSTANT * temperature
        if kT != self.kT:
            self._changes.say(temperature)
            self.kT = kT
            self._record.clear()  # other weights

    def attempt(
        self,
        positions: NDArray[np.float64],
        box: NDArray[np.float64] | None,
        rng: np.random.Generator,
    ) -> Attempt:
        """Make one move, as any `Move`: with positions and velocities, the rest's as they are."""
        self.potential.current = positions
        cvs = self.bias.cv_values(positions, box)[None]
        here = noisy_conditions(cvs, self.noise, self.variables, rng)
        if not self._are_drawn(here):
            return Attempt(here[0], cvs[0], cvs[0], reason=kept_because(OUTSIDE_CONDITIONS))
        x, conditions, log_prob = self._made(positions, box, here, rng)
        self._watch(log_prob)
        weighed = self.weigh(x, conditions, log_prob, box)
        chosen = int(choose(weighed.log_weights[0], weighed.log_weights[1:], rng))
        if self.potential.quick is None:
            self._require_same_energy(weighed.energies[0])
        else:
            weighed, chosen = self._corrected(x, weighed, chosen, rng)
        return self._attempt(x, conditions, weighed, chosen, rng)

    def _watch(self, log_prob: NDArray[np.float64]) -> None:
        """Say so where the generator never makes the present part, which then stays for good."""
        made = log_prob[1:][np.isfinite(log_prob[1:])]
        is_foreign = len(made) > 0 and log_prob[0] < made.min() - FOREIGN
        self._foreign = self._foreign + 1 if is_foreign else 0
        if self._foreign == IN_A_ROW:
            log.warning(
                "the part has been one that the generator all but never makes for %d moves, and "
                "stays: are its hydrogens numbered round the other way than in the frames that "
                "were learned, or is it another isomer?", IN_A_ROW,
            )  # fmt: skip

    def _corrected(
        self, x: NDArray[np.float64], weighed: Weighed, chosen: int, rng: np.random.Generator
    ) -> tuple[Weighed, int]:
        """The parts with their energies in the whole System where needed, and the last choice."""
        energies = np.full_like(weighed.energies, np.nan)
        if chosen == CURRENT:
            return replace(weighed, energies=energies, evaluated=0), chosen
        rows = [0, 1 + chosen]
        energies[rows] = self.potential.energies_of_all(self.potential.whole(x[rows]))
        self._require_same_energy(energies[0])
        differences = np.diff(weighed.energies[rows])[0] - np.diff(energies[rows])[0]
        if not np.log(rng.random()) < differences / self.kT:
            chosen = CURRENT
        return replace(weighed, energies=energies, evaluated=len(rows)), chosen

    def _require_same_energy(self, copied: float) -> None:
        running = energy_without(self._running, self.bias.force_groups())
        exactness.require_same_energy(running, copied, self.kT)

    def _are_drawn(self, conditions: NDArray[np.float64]) -> bool:
        """Whether conditions (1, n_cvs) may be drawn, and the others are what was trained on."""
        free = self.conditions.log_density(conditions[:, self.is_moved])
        held = self._trained.log_density(conditions[:, ~self.is_moved])
        return bool(np.isfinite(free[0]) and np.isfinite(held[0]))

    def _made(
        self,
        positions: NDArray[np.float64],
        box: NDArray[np.float64] | None,
        here: NDArray[np.float64],
        rng: np.random.Generator,
    ) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        """The current part, whose condition is here (1, n_cvs), and candidates among the rest.

        Their positions, conditions and log densities. A part that is a molecule by itself hangs
        on the image of the rest that is nearest to its first atom.
        """
        drawn = np.repeat(here, self.n_candidates, axis=0)
        drawn[:, self.is_moved] = self._draw(self.conditions, self.n_candidates, rng)
        seed = int(rng.integers(1, 2**31 - 1))
        current, rest = positions[None, self.atoms], positions[self.sampler.rest]
        free_box = None if self._is_bonded else box
        rest = rest + image_of(current[:, 0] - rest[0], free_box)
        sampler = self.sampler.among(rest)
        fresh, log_prob = sampler.sample_with_log_prob(drawn, seed=seed)
        strays = np.abs(image_of(fresh[:, 0] - rest[0], free_box)).max(axis=1) > LATTICE
        log_prob[strays] = np.inf  # from there another image of the rest is the nearest
        log_prob = np.concatenate([sampler.log_prob(current, here), log_prob])
        return np.concatenate([current, fresh]), np.concatenate([here, drawn]), log_prob

    def weigh(
        self,
        x: NDArray[np.float64],
        conditions: NDArray[np.float64],
        log_prob: NDArray[np.float64],
        box: NDArray[np.float64] | None = None,
    ) -> Weighed:
        """Weights of configurations of the part, the rest where the last attempt found it.

        Parameters
        ----------
        x : ndarray, shape (n, n_part, 3)
            In the order of the sampler's atoms [nm].
        conditions : ndarray, shape (n, n_cvs)
            For which they were made [CV units].
        log_prob : ndarray, shape (n,)
            Log density of the sampler among the rest.
        box : ndarray, shape (3, 3), or None
            [nm]
        """
        held, given = self.potential, (self.variables, self.noise)
        target = Target(self.bias, held, self.screen, self.kT, *given, held.whole, box)
        log_density = self.conditions.log_density(conditions[:, self.is_moved])
        return target.weigh(Made(x, conditions, log_prob, log_density))

    def _attempt(
        self,
        x: NDArray[np.float64],
        conditions: NDArray[np.float64],
        weighed: Weighed,
        chosen: int,
        rng: np.random.Generator,
    ) -> Attempt:
        """What became of a move, in the words of the table."""
        row = 1 + chosen
        energy, cvs = float(weighed.energies[row]), weighed.cvs[row]
        reason, moved, velocities = PASSED, None, None
        if chosen == CURRENT:
            reason = kept_because(str(weighed.reasons[0]))
        else:
            moved = self.potential.whole(x[row : row + 1])[0]
            now = velocities_of(self._running.getState(velocities=True))
            velocities = self.potential.redrawn(now, self.kT, rng)
        candidates = self._record.add(weighed.without_first(), conditions[1:], self.kT)
        return Attempt(
            conditions[row], cvs, cvs, energy, energy, reason, moved, candidates, velocities
        )

    def summary(self) -> str:
        """How many of the candidates count, in words."""
        return self._record.summary()

    def saved(self) -> dict[str, NDArray]:
        """What its `CandidateRecord` saves."""
        return self._record.saved()

    def restore_saved(self, arrays: dict[str, NDArray]) -> None:
        """Take over what `saved` gave; ValueError if it does not fit."""
        self._record.restore_saved(arrays)

    def weighed_candidates(self) -> tuple[NDArray, NDArray]:
        """CVs (n, n_cvs) and log weights (n,) of candidates, against the unbiased ensemble.

        What the rest weighs is not known: the weights of each move sum to one.
        """
        return self._record.weighed_candidates()


def _quick(asked: Asked, start: Start) -> Potential | None:
    """The quick energies beside a simulation, where there are any."""
    near = [*start.atoms.tolist(), *references_of(start.simulation.topology, start.atoms.tolist())]
    system = system_without(start.simulation.system, asked.bias.force_groups())
    quick = quick_system(system, start.atoms, near)
    return None if quick is None else potential_beside(start.simulation, system=quick)
