"""ProposalReporter puts generated configurations into a running Simulation."""

from __future__ import annotations

import logging
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from openmm import unit
from openmm.app import CheckpointReporter, StateDataReporter

from openmm_cgan import GAS_CONSTANT
from openmm_cgan.potentials import potential_beside
from openmm_cgan.proposals import Screen, generated_atoms, propose, require_same_variables
from openmm_cgan.proposals.targets import TargetStrategy, target_strategy, trained_range
from openmm_cgan.reporters.attempts import ACCEPTED, Attempt, AttemptTable, Candidates
from openmm_cgan.reporters.contexts import inject, settle_steps_of, temperature_of
from openmm_cgan.reporters.exact import ExactMove, why_not_exact, why_not_replaced
from openmm_cgan.reporters.frame_reporter import FrameReporter
from openmm_cgan.reporters.healing import (
    HealingContext,
    ProposalSettings,
    Surroundings,
)
from openmm_cgan.reporters.learner import Learner
from openmm_cgan.states import positions_and_box

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from openmm import State
    from openmm.app import Simulation

log = logging.getLogger("openmm_cgan")

SUMMARY_EVERY = 100  # proposals between two lines in the log
# These may come after a ProposalReporter: they read no positions.
READ_NO_POSITIONS = (StateDataReporter, CheckpointReporter, Learner)


class ProposalReporter:
    """Puts generated configurations into a running simulation.

    In mode "exact" the current configuration and fresh candidates compete every ``reportInterval``
    steps by their importance weights (see `ExactMove`); what the run samples stays exactly what it
    was, only faster. Every FrameReporter starts a new segment, without settle window.

    In mode "seed" a target is chosen every ``reportInterval`` steps, a batch of configurations is
    generated at it and screened, and one that passed is healed in a second Context and judged
    again. If it passes, the simulation goes on from it: positions replaced, velocities redrawn from
    the Maxwell-Boltzmann distribution, constraints kept; step, time and box stay. Every
    FrameReporter of the simulation then starts a new segment with a settle window. If it does not
    pass, the simulation goes on as if nothing had been tried, bit for bit.

    Seeds are no samples: they start the exploration elsewhere, and what the run samples after the
    settle window is weighed by its bias (MBAR). With explicit solvent the sampler makes the atoms
    ``sampler.atoms``; these are superposed on the current ones and healed with the solvent.

    Parameters
    ----------
    file : str or Path
        CSV with one row for each attempt, written at once.
    reportInterval : int
        Steps between two attempts.
    sampler : Sampler
        What makes configurations, such as a ConditionalGAN.
    bias : PlumedBias
        The bias of the simulation; it measures the CVs.
    targets : "uniform", "least_visited", ndarray of shape (m, n_cvs), or callable
        Where seeds go: drawn uniformly over the range that the sampler was trained on, where the
        run has been least, listed, or a function ``(visited, rng) -> target``.
    mode : {"auto", "seed", "exact"}
        "exact" needs a sampler whose density is known and that makes all atoms, no periodic box,
        and a bias that is a function of the CVs; "auto" takes it where it can be, else "seed", and
        logs why.
    append : bool
        Append to the file of an earlier run.
    seed : int
        Each attempt has a seed of its own, from this one and the step; it stands in the file.
    settings : ProposalSettings, optional

    Raises
    ------
    ValueError
        If sampler and bias do not speak of the same CVs, a listed target is outside the sampler's
        range, or an argument is wrong; before the first step, if the sampler was made for other
        atoms, the integrator has no temperature and none is given, or mode="exact" cannot be.
    RuntimeError
        If it is not the last reporter: those after it would see positions that are gone.
    """

    def __init__(
        self,
        file: str | Path,
        reportInterval: int,
        sampler: Any,
        bias: Any,
        targets: str | NDArray[np.float64] | TargetStrategy = "uniform",
        mode: str = "auto",
        append: bool = False,
        seed: int = 0,
        settings: ProposalSettings | None = None,
    ) -> None:
        if int(reportInterval) != reportInterval or reportInterval < 1:
            raise ValueError(f"reportInterval is {reportInterval}; expected a number of steps >= 1")
        if seed < 0:
            raise ValueError(f"seed is {seed}; expected 0 or a positive number")
        require_same_variables(sampler.variables, bias.variables)
        self.settings = settings or ProposalSettings()
        self.mode = _proposal_mode(mode, sampler, targets)
        self._reportInterval = int(reportInterval)
        self._sampler = sampler
        self._bias = bias
        self._seed = int(seed)
        self._choose_target = target_strategy(targets, trained_range(sampler), bias.variables)
        self._visited: list[NDArray[np.float64]] = []
        self._attempts: Counter[str] = Counter()
        self._candidates: Counter[str] = Counter()
        self._healing: HealingContext | None = None
        self._exact: ExactMove | None = None
        self._next_sampler: Any = None
        self._table = AttemptTable(file, bias.variables, append)

    @property
    def sampler(self) -> Any:
        """What makes the configurations.

        Another one may be given at any time: it takes over before the next attempt.

        Raises
        ------
        ValueError
            If it does not speak of the same CVs and atoms; or, in mode "exact", if its density is
            not known or it holds other bonds. The old one then stays.
        """
        return self._sampler if self._next_sampler is None else self._next_sampler

    @sampler.setter
    def sampler(self, sampler: Any) -> None:
        require_same_variables(sampler.variables, self._bias.variables)
        made, now = (np.asarray(getattr(s, "atoms", ())) for s in (sampler, self._sampler))
        if not np.array_equal(made, now):
            raise ValueError("the new sampler makes other atoms than the one it would replace")
        ours, theirs = (getattr(s, "topology_hash", "") for s in (self._sampler, sampler))
        if ours and theirs and ours != theirs:
            raise ValueError("the new sampler was trained on another topology")
        if self.mode == "exact" and (reason := why_not_replaced(sampler, self._sampler)):
            raise ValueError(f"the new sampler cannot make exact proposals: {reason}")
        self._next_sampler = sampler

    def counts(self) -> dict[str, int]:
        """Attempts so far: "accepted", and the others by reason."""
        return {ACCEPTED: 0, **self._attempts}

    def candidate_counts(self) -> dict[str, int]:
        """Generated configurations so far: those that passed the screen as "accepted"."""
        return {ACCEPTED: 0, **self._candidates}

    def weighed_candidates(self) -> tuple[NDArray, NDArray]:
        """CVs and log weights of the last candidates of exact moves.

        The bias of the run is taken out, so that they are importance weights against the unbiased
        ensemble: `metrics.effective_sample_sizes` makes of them how good the generator is, region
        by region, `GridConditions.from_weights` conditions near the marginal density.

        Returns
        -------
        cvs : ndarray, shape (n, n_cvs)
            CVs, or what was asked for where a candidate was refused.
        log_weights : ndarray, shape (n,)
            -inf where it was.
        """
        if self._exact is None:
            return np.zeros((0, len(self._bias.variables))), np.zeros(0)
        return self._exact.weighed_candidates()

    def describeNextReport(self, simulation: Simulation) -> dict[str, Any]:
        """Say when the next attempt is; see OpenMM's reporter protocol."""
        self._require_last(simulation)
        if self._healing is None and self._exact is None:
            self._prepare(simulation)
        steps = self._reportInterval - simulation.currentStep % self._reportInterval
        return {"steps": steps, "periodic": False, "include": ["positions"]}

    def report(self, simulation: Simulation, state: State) -> None:
        """Make one attempt."""
        step = simulation.currentStep
        self._take_next_sampler()
        seed = int(np.random.SeedSequence((self._seed, step)).generate_state(1)[0])
        rng = np.random.default_rng(seed)
        attempt = self._attempt(simulation, state, rng)
        if attempt.positions is not None:
            velocity_seed = int(rng.integers(1, 2**31 - 1))
            inject(simulation, attempt.positions, self._temperature, velocity_seed)
            self._start_segments(simulation, attempt, seed)
        self._attempts[attempt.reason or ACCEPTED] += 1
        time = state.getTime().value_in_unit(unit.picosecond)
        self._table.write(step, time, attempt, seed, self.mode, self._segment(simulation))
        if sum(self._attempts.values()) % SUMMARY_EVERY == 0:
            log.info("%s", self.summary())

    def _take_next_sampler(self) -> None:
        if self._next_sampler is None:
            return
        new, self._next_sampler = self._next_sampler, None
        if self._exact is not None:
            try:
                self._exact.take(new)
            except ValueError as error:
                log.warning("the new sampler is not taken, the old one stays: %s", error)
                return
        self._sampler = new

    def summary(self) -> str:
        """One line on what became of the attempts."""
        refused = {reason: n for reason, n in self._attempts.items() if reason != ACCEPTED}
        reasons = ", ".join(f"{reason} {n}" for reason, n in sorted(refused.items())) or "none"
        total = sum(self._attempts.values())
        line = f"{self._attempts[ACCEPTED]} of {total} proposals accepted (mode {self.mode})"
        if self._exact is not None:
            line += f", {self._exact.summary()}"
        return f"{line}; refused: {reasons}"

    def _require_last(self, simulation: Simulation) -> None:
        places = [i for i, reporter in enumerate(simulation.reporters) if reporter is self]
        after = simulation.reporters[places[0] + 1 :] if places else []
        names = [type(r).__name__ for r in after if not isinstance(r, READ_NO_POSITIONS)]
        if names:
            raise RuntimeError(
                f"{', '.join(names)} comes after ProposalReporter in simulation.reporters; append "
                "ProposalReporter last, else those after it see positions that are no longer there"
            )

    def _prepare(self, simulation: Simulation) -> None:
        """Check the simulation and make the second Context, before anything has moved."""
        atoms = generated_atoms(self._sampler, simulation.topology)
        self._periodic = simulation.system.usesPeriodicBoundaryConditions()
        state = simulation.context.getState(positions=True)
        positions, box = positions_and_box(state, self._periodic)
        self._temperature = temperature_of(simulation.integrator, self.settings.temperature)
        self.mode = self._settled_mode(simulation)
        if self.mode == "exact":
            self._settle_steps = 0
            self._exact = self._prepared_exact(simulation, positions, atoms)
        else:
            self._settle_steps = settle_steps_of(simulation.integrator, self.settings.settle_steps)
            self._surroundings = Surroundings(self._bias, atoms, positions, box)
            self._screen = Screen(
                simulation.topology,
                positions[atoms],
                self._surroundings,
                self.settings.screen,
                atoms.tolist(),
            )
            self._healing = HealingContext(
                simulation, self._surroundings, self._temperature, self.settings
            )
        log.info(
            "proposals every %d steps, mode %s, settle window %d steps, at %.1f K",
            self._reportInterval, self.mode, self._settle_steps, self._temperature,
        )  # fmt: skip

    def _settled_mode(self, simulation: Simulation) -> str:
        """The mode, now that the simulation is known."""
        if self.mode == "seed":
            return "seed"
        reason = why_not_exact(self._sampler, simulation, self._bias)
        if reason and self.mode == "exact":
            raise ValueError(f"mode='exact' is not possible: {reason}; use mode='seed'")
        if reason:
            log.info("mode='auto' takes 'seed': %s", reason)
        return "seed" if reason else "exact"

    def _prepared_exact(
        self, simulation: Simulation, positions: NDArray, atoms: NDArray
    ) -> ExactMove:
        # the energy judges bonds and clashes; what it cannot tell is which molecule was given
        kept = replace(self.settings.screen, clash_fraction=0.0, bond_tolerance=np.inf)
        potential = potential_beside(simulation, self._bias.force_groups())
        move = ExactMove(
            self._sampler,
            self._bias,
            potential,
            Screen(simulation.topology, positions[atoms], None, kept, atoms.tolist()),
            GAS_CONSTANT * self._temperature,
            self.settings.candidates,
            self.settings.conditions,
        )
        move.require_free(positions)
        return move

    def _attempt(self, simulation: Simulation, state: State, rng: np.random.Generator) -> Attempt:
        """Choose what the run goes on from; the running Context is only read."""
        positions, box = positions_and_box(state, self._periodic)
        if not np.isfinite(positions).all():
            raise RuntimeError("the running simulation has positions that are not finite (NaN)")
        if self._exact is None:
            return self._seed_attempt(simulation, positions, box, rng)
        self._exact.potential.follow(simulation.context)
        attempt = self._exact.attempt(positions, rng)
        made = attempt.candidates
        passed = made.generated - sum(made.refused.values())
        self._candidates.update({ACCEPTED: passed, **made.refused})
        return attempt

    def _seed_attempt(
        self,
        simulation: Simulation,
        positions: NDArray,
        box: NDArray | None,
        rng: np.random.Generator,
    ) -> Attempt:
        """Propose, screen, heal and judge."""
        assert self._healing is not None, "describeNextReport comes first"
        self._healing.follow(simulation.context)
        here = self._surroundings
        here.move(positions, box)
        self._visited.append(self._bias.cv_values(here.positions, here.box))
        target = np.asarray(self._choose_target(np.array(self._visited), rng), dtype=float)
        targets = np.tile(target, (self.settings.batch, 1))
        proposals = propose(
            self._sampler, targets, self._screen, seed=int(rng.integers(1, 2**31 - 1))
        )
        counts = proposals.counts()
        self._candidates.update(counts)
        passed = counts.pop(ACCEPTED)
        candidates = Candidates(len(proposals), counts, energies=passed)
        return replace(self._healing.judge(proposals, self._screen, rng), candidates=candidates)

    def _start_segments(self, simulation: Simulation, attempt: Attempt, seed: int) -> None:
        origin = {
            "kind": "proposal",
            "mode": self.mode,
            "step": simulation.currentStep,
            "seed": seed,
            "target": attempt.target.tolist(),
            "cvs": attempt.healed.tolist(),
        }
        for reporter in _frame_reporters(simulation):
            reporter.start_segment(origin, self._settle_steps)
        # exact moves come by the hundred, and are summed up in another line
        log.log(
            logging.DEBUG if self.mode == "exact" else logging.INFO,
            "step %d: %s injected at %s (seed %d), settle window %d steps",
            simulation.currentStep, self.mode, np.round(attempt.healed, 3), seed,
            self._settle_steps,
        )  # fmt: skip

    def _segment(self, simulation: Simulation) -> int:
        """Number of the segment that frames from now on belong to."""
        written = [reporter.segment for reporter in _frame_reporters(simulation)]
        return written[0] if written else 1 + self._attempts[ACCEPTED]


def _proposal_mode(mode: str, sampler: Any, targets: Any) -> str:
    """The mode as far as it is known before the simulation is."""
    if mode not in ("auto", "seed", "exact"):
        raise ValueError(f"mode is {mode!r}; expected 'auto', 'seed' or 'exact'")
    kind = type(sampler).__name__
    known = getattr(sampler, "has_density", False)
    if mode == "exact" and not known:
        raise ValueError(
            f"mode='exact' needs the density of what is proposed, and the generator of {kind} has "
            "none; use mode='seed', which marks a settle window after each injection"
        )
    uniform = isinstance(targets, str) and targets == "uniform"
    if mode == "exact" and not uniform:
        raise ValueError(
            "targets are for seeds; mode='exact' draws CV values from a known density: leave "
            "targets out, and give one by settings=ProposalSettings(conditions=...)"
        )
    if mode == "auto" and not (known and uniform):
        why = "targets are given" if known else f"the generator of {kind} has no density"
        log.info("mode='auto' takes 'seed': %s", why)
        return "seed"
    return mode


def _frame_reporters(simulation: Simulation) -> list[FrameReporter]:
    return [reporter for reporter in simulation.reporters if isinstance(reporter, FrameReporter)]
