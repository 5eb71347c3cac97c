"""ProposalReporter puts generated configurations into a running Simulation."""

from __future__ import annotations

import json
import logging
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from openmm import unit

from openmm_cgan.checkpoints import SavedState, require_files, saved_array, saved_text, text_array
from openmm_cgan.proposals import (
    Sampler,
    generated_atoms,
    keeps_place,
    require_same_variables,
    require_sampler,
    why_not_alike,
)
from openmm_cgan.proposals.targets import TargetStrategy
from openmm_cgan.quantities import number_of_steps
from openmm_cgan.reporters.attempts import ACCEPTED, Attempt, AttemptTable
from openmm_cgan.reporters.contexts import inject, present_of, velocity_temperature
from openmm_cgan.reporters.ensembles import warn_of_other_ensemble
from openmm_cgan.reporters.frame_reporter import frame_reporters_of
from openmm_cgan.reporters.moves import MOVES, Asked, Move, Start, possible_moves, prepared_move
from openmm_cgan.reporters.moves.choice import require_possible
from openmm_cgan.reporters.settings import ProposalSettings
from openmm_cgan.reporters.settling import observables_of
from openmm_cgan.reporters.side_by_side import require_measurable, require_order, seed_of_step

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from openmm import State
    from openmm.app import Simulation

    from openmm_cgan.plumed.bias import PlumedBias

log = logging.getLogger("openmm_cgan")

SUMMARY_EVERY = 100  # proposals between two lines in the log


class ProposalReporter:
    """Puts generated configurations into a running simulation.

    In mode "exact" the current configuration and fresh candidates compete every ``reportInterval``
    steps by their weights (`ExactMove`), in mode "annealed" after some steps that mend each
    (`AnnealedMove`), in mode "local" those of a part, the rest staying where it is (`LocalMove`);
    in "steered" torsions are led by force (`SteeredMove`). All are exact, nothing need settle.

    In mode "seed" a target is chosen every ``reportInterval`` steps, a batch of configurations is
    generated at it and screened, and one that passed is healed in a second Context and judged
    again. If it passes, the simulation goes on from it: positions replaced, velocities redrawn,
    constraints kept; step, time and box stay. Every FrameReporter of the simulation then starts a
    new segment with a settle window. Else it goes on as if nothing had been tried, bit for bit.

    Seeds are no samples: what the run samples after the settle window is weighed by its bias
    (MBAR). In solvent the atoms ``sampler.atoms`` are superposed on the current ones and pushed to
    their place through it; it makes room at temperature (`insertion`), what is far goes as it went.

    Parameters
    ----------
    file : str or Path
        CSV with one row for each attempt, written at once.
    reportInterval : int
        Steps between two attempts.
    sampler : Sampler
        What makes configurations, such as a ConditionalGenerator.
    bias : PlumedBias
        The bias of the simulation; it measures the CVs.
    targets : "uniform", "least_visited", ndarray of shape (m, n_cvs), or callable
        Where seeds go: drawn uniformly over the range that the sampler was trained on, where the
        run has been least, listed, or a function ``(visited, rng) -> target``.
    mode : {"auto", "exact", "annealed", "local", "steered", "seed"}
        "exact" needs a known density of all atoms, no periodic box, and a bias that is a function
        of the CVs, "annealed" a flow as well; in any box "local" needs a density of a part,
        "steered" one of torsions. "auto" takes the best of the first two, else "local", "seed".
    append : bool
        Append to the file of an earlier run; rows later than the step that is gone on from are left
        out, and all are kept in ``later.NAME``.
    seed : int
        Each attempt has a seed of its own, from this one and the step; it stands in the file.
    settings : ProposalSettings, optional

    Raises
    ------
    ValueError
        If sampler and bias do not speak of the same CVs, a target is outside the range, or an
        argument is wrong; also, once the bias is attached and else before the first step, if the
        sampler is of other atoms, nothing has a temperature, or a mode asked for cannot be.
    TypeError
        If the sampler is none.
    RuntimeError
        If reporters that ask for positions come after it: they would see positions that are gone.
        Several of it may follow each other, each with its own file (`side_by_side`).
    """

    def __init__(
        self,
        file: str | Path,
        reportInterval: int,
        sampler: Sampler,
        bias: PlumedBias,
        targets: str | NDArray[np.float64] | TargetStrategy = "uniform",
        mode: str = "auto",
        append: bool = False,
        seed: int = 0,
        settings: ProposalSettings | None = None,
    ) -> None:
        self._reportInterval = number_of_steps(reportInterval, "reportInterval")
        if seed < 0:
            raise ValueError(f"seed is {seed}; expected 0 or a positive number")
        require_same_variables(sampler.variables, bias.variables)
        require_sampler(sampler)
        self.settings = settings or ProposalSettings()
        self._asked = Asked(sampler, bias, targets, self.settings, self._reportInterval)
        self._wanted = possible_moves(mode, self._asked)
        # until the simulation is known "auto" may stay open
        self.mode = self._wanted[0].mode if len(self._wanted) == 1 else "auto"
        self._sampler = sampler
        self._bias = bias
        self._seed = int(seed)
        self._attempts: Counter[str] = Counter()
        self._candidates: Counter[str] = Counter()
        self._move: Move | None = None  # until the simulation is known
        self._next_sampler: Sampler | None = None
        if bias.simulation is not None:
            self._prepare_early(bias.simulation)
        self._table = AttemptTable(file, bias.variables, append)
        self._append, self._mode_asked, self._is_begun = append, mode, False
        self._last = -1  # step of the last attempt

    def __repr__(self) -> str:
        return f"ProposalReporter({str(self._table.path)!r}, {self._fingerprint}; {self.summary()})"

    @property
    def sampler(self) -> Sampler:
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
    def sampler(self, sampler: Sampler) -> None:
        require_same_variables(sampler.variables, self._bias.variables)
        require_sampler(sampler)
        if reason := why_not_alike(sampler, self._sampler):
            raise ValueError(f"the new sampler {reason}")
        if keeps_place(sampler) != keeps_place(self._sampler):
            raise ValueError(
                "of the new sampler and the one it would replace, one makes configurations that"
                " stand where they belong, the other molecules that may be moved as a whole"
            )
        kind = MOVES.get(self.mode)
        if kind is not None and (reason := kind.why_not_replaced(sampler, self._sampler)):
            raise ValueError(f"the new sampler cannot make {self.mode} proposals: {reason}")
        self._next_sampler = sampler

    @property
    def path(self) -> Path:
        """The table of attempts."""
        return self._table.path

    @property
    def measures_settling(self) -> bool:
        """Whether it looks how long the run takes to settle after its first seeds."""
        return self._move is not None and self._move.watch is not None

    def counts(self) -> dict[str, int]:
        """Attempts so far: "accepted", and the others by reason."""
        return {ACCEPTED: 0, **self._attempts}

    def candidate_counts(self) -> dict[str, int]:
        """Generated configurations so far: those that passed the screen as "accepted"."""
        return {ACCEPTED: 0, **self._candidates}

    def weighed_candidates(self) -> tuple[NDArray, NDArray]:
        """CVs and log weights of the last candidates, of moves that weigh.

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
        if self._move is None:
            return np.zeros((0, len(self._bias.variables))), np.zeros(0)
        return self._move.weighed_candidates()

    def describeNextReport(self, simulation: Simulation) -> dict[str, Any]:
        """Say when the next attempt or look is; see OpenMM's reporter protocol."""
        require_order(self, simulation)
        if self._move is None:
            self._move = self._prepare(simulation, *present_of(simulation))
        require_measurable(self, simulation)
        if not self._is_begun:
            self._bias.require_acting(simulation)
            self._is_begun = True
            if self._append and simulation.currentStep > 0:  # else another run begins
                self._table.cut_after(simulation.currentStep)
        steps = self._reportInterval - simulation.currentStep % self._reportInterval
        watch = self._move.watch
        look = None if watch is None else watch.next_look(simulation.currentStep)
        include = ["positions", "energy"] if look is not None and look <= steps else ["positions"]
        return {"steps": min(steps, look or steps), "periodic": False, "include": include}

    def report(self, simulation: Simulation, state: State) -> None:
        """Make one attempt, or look at what an earlier one has left."""
        assert self._move is not None, "describeNextReport comes first"
        step, watch = simulation.currentStep, self._move.watch
        if watch is not None and watch.next_look(step) == 0:
            watch.look(observables_of(state, self._periodic, self._bias, watch.origin))
        if step % self._reportInterval == 0:
            self._try_once(self._move, simulation, state)

    def _try_once(self, move: Move, simulation: Simulation, state: State) -> None:
        step = simulation.currentStep
        self._replace_sampler(move)
        seed = seed_of_step(self, simulation, self._seed)
        rng = np.random.default_rng(seed)
        attempt = self._attempt(move, simulation, rng)
        if attempt.positions is not None:
            kept, drawn = attempt.velocities, int(rng.integers(1, 2**31 - 1))
            inject(simulation, attempt.positions, self._temperature, drawn, kept)
            self._start_segments(move, simulation, attempt, seed)
            if move.watch is not None:
                move.watch.injected(step, attempt.healed)
        self._attempts[attempt.reason or ACCEPTED] += 1
        self._last = step
        time = state.getTime().value_in_unit(unit.picosecond)
        self._table.write(step, time, attempt, seed, self.mode, self._segment(simulation))
        if sum(self._attempts.values()) % SUMMARY_EVERY == 0:
            log.info("%s", self.summary())

    def _replace_sampler(self, move: Move) -> None:
        """Hand over the sampler that was given since the last attempt, if there is one."""
        if self._next_sampler is None:
            return
        new, self._next_sampler = self._next_sampler, None
        try:
            move.replace_sampler(new)
        except ValueError as error:
            log.warning("the new sampler is not taken, the old one stays: %s", error)
            return
        self._sampler = new

    # ---- with a checkpoint

    def saved(self) -> SavedState:
        """What it has counted and its move gathered: see `checkpoints.Keeper`.

        A sampler that another object has given is that one's to give again.
        """
        counts = json.dumps([self._attempts, self._candidates])
        is_next = self._next_sampler is not None  # one that takes over before the next attempt
        arrays = {"reporter/counts": text_array(counts), "reporter/is_next": np.array(is_next)}
        if self._move is not None:
            arrays |= {f"move/{name}": array for name, array in self._move.saved().items()}
            positions, box = self._first  # with which molecules are compared
            arrays |= {"reporter/positions": positions, "reporter/mode": text_array(self.mode)}
            arrays |= {} if box is None else {"reporter/box": box}
        files = {self._table.path.name: self._table.length()}
        return SavedState(0, self._last, files, arrays, self._fingerprint)

    def check_saved(self, state: SavedState, simulation: Simulation, path: Path) -> None:
        """Raise where it can not go on from a state; nothing is changed."""
        if state.saved_by != self._fingerprint:
            raise ValueError(
                f"{path} was saved by proposals of another mode, interval or seed than these: "
                f"{state.saved_by}, and not {self._fingerprint}"
            )
        if self.path.name not in state.files:
            raise ValueError(f"{path} was saved by proposals in {', '.join(state.files)}")
        if not self._append:
            raise ValueError(
                f"{self._table.path} would be begun anew: give append=True to the ProposalReporter"
            )
        require_files(self._table.path.parent, state.files)

    def restore_saved(self, state: SavedState, simulation: Simulation) -> None:
        """Go on from a state that was checked; appends itself to the Simulation's reporters."""
        [length] = state.files.values()
        own = state.of("reporter")
        attempts, candidates = json.loads(saved_text(own, "counts"))
        self._attempts, self._candidates = Counter(attempts), Counter(candidates)
        if moved := state.of("move"):
            self._wanted = [MOVES[saved_text(own, "mode")]]  # a pilot now might find another
            positions = saved_array(own, "positions", (simulation.system.getNumParticles(), 3))
            self._move = self._prepare(simulation, positions, own.get("box"), is_restored=True)
            if not saved_array(own, "is_next", ()):
                self._replace_sampler(self._move)  # what is remembered is of that one
            self._move.restore_saved(moved)
        self._table.cut(length)  # when nothing can be refused any more
        self._last, self._is_begun = state.updated, True
        simulation.reporters.append(self)

    @property
    def _fingerprint(self) -> str:
        return f"mode {self._mode_asked}, every {self._reportInterval} steps, seed {self._seed}"

    def summary(self) -> str:
        """One line on what became of the attempts."""
        refused = {reason: n for reason, n in self._attempts.items() if reason != ACCEPTED}
        reasons = ", ".join(f"{reason} {n}" for reason, n in sorted(refused.items())) or "none"
        total = sum(self._attempts.values())
        line = f"{self._attempts[ACCEPTED]} of {total} proposals accepted (mode {self.mode})"
        if self._move is not None and (more := self._move.summary()):
            line += f", {more}"
        return f"{line}; refused: {reasons}"

    def _prepare_early(self, simulation: Simulation) -> None:
        """See what is wrong now, not at the first step; the rest where there are positions."""
        if (present := present_of(simulation))[0].any():
            self._move = self._prepare(simulation, *present)
        elif len(generated_atoms(self._sampler, simulation.topology)):  # checked
            require_possible(self._wanted, self._asked, simulation)
            self._temperature_in(simulation)

    def _temperature_in(self, simulation: Simulation) -> float:
        return velocity_temperature(simulation, self.settings.temperature, self._bias.temperature)

    def _prepare(
        self,
        simulation: Simulation,
        positions: NDArray[np.float64],
        box: NDArray[np.float64] | None,
        is_restored: bool = False,
    ) -> Move:
        """Check the simulation and make the move, from what it was before anything had moved."""
        atoms = generated_atoms(self._sampler, simulation.topology)
        self._periodic = box is not None
        self._first = positions, box
        self._temperature = self._temperature_in(simulation)
        start = Start(simulation, atoms, positions, box, self._temperature, is_restored)
        move = prepared_move(self._wanted, self._asked, start)
        self.mode = move.mode
        warn_of_other_ensemble(self._sampler, simulation, self._temperature)
        log.info(
            "proposals every %d steps, mode %s, settle window %d steps, at %.1f K",
            self._reportInterval, self.mode, move.settle_steps, self._temperature,
        )  # fmt: skip
        return move

    def _attempt(self, move: Move, simulation: Simulation, rng: np.random.Generator) -> Attempt:
        """Choose what the run goes on from; the running Context is only read.

        And not the State of the step: another reporter may have put something in since.
        """
        positions, box = present_of(simulation)
        if not np.isfinite(positions).all():
            raise RuntimeError("the running simulation has positions that are not finite (NaN)")
        self._temperature = self._temperature_in(simulation)
        move.follow(simulation.context, self._temperature)
        attempt = move.attempt(positions, box, rng)
        made = attempt.candidates
        passed = made.generated - sum(made.refused.values())
        self._candidates.update({ACCEPTED: passed, **made.refused})
        return attempt

    def _start_segments(
        self, move: Move, simulation: Simulation, attempt: Attempt, seed: int
    ) -> None:
        origin = {
            "kind": "proposal",
            "mode": self.mode,
            "step": simulation.currentStep,
            "seed": seed,
            "target": attempt.target.tolist(),
            "cvs": attempt.healed.tolist(),
            "settle": "given" if move.watch is None else move.watch.how,
        }
        for reporter in frame_reporters_of(simulation):
            reporter.start_segment(origin, move.settle_steps)
        log.log(
            move.log_level,
            "step %d: %s injected at %s (seed %d), settle window %d steps",
            simulation.currentStep, self.mode, np.round(attempt.healed, 3), seed,
            move.settle_steps,
        )  # fmt: skip

    def _segment(self, simulation: Simulation) -> int:
        """Number of the segment that frames from now on belong to."""
        written = frame_reporters_of(simulation)
        return written[0].segment if written else 1 + self._attempts[ACCEPTED]
