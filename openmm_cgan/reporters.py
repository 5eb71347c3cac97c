"""Reporters of a Simulation: FrameReporter takes frames out of it, ProposalReporter puts some in.

Both follow OpenMM's protocol: `describeNextReport` says at which step and with which parts of the
State, `report` is called there.
"""

from __future__ import annotations

import logging
import math
import os
import weakref
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from openmm import unit
from openmm.app import CheckpointReporter, StateDataReporter

from openmm_cgan.attempts import ACCEPTED, Attempt, AttemptTable
from openmm_cgan.contexts import inject, settle_steps_of, temperature_of
from openmm_cgan.frames import topology_hash
from openmm_cgan.h5md import SegmentHeader
from openmm_cgan.healing import HealingContext, ProposalSettings, Surroundings
from openmm_cgan.plumed.bias import positions_of
from openmm_cgan.proposals import Screen, generated_atoms, propose, require_same_variables
from openmm_cgan.segments import PATTERN, Row, SegmentWriter
from openmm_cgan.targets import TargetStrategy, target_strategy, trained_range

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from openmm import State
    from openmm.app import Simulation

    from openmm_cgan.plumed.bias import PlumedBias

log = logging.getLogger("openmm_cgan")

SUMMARY_EVERY = 100  # proposals between two lines in the log
# These may come after a ProposalReporter: they read no positions.
READ_NO_POSITIONS = (StateDataReporter, CheckpointReporter)


class FrameReporter:
    """Writes frames of a simulation with their CVs and bias energy to a folder of H5MD files.

    ``read_frames(folder)`` reads them, and ``MDAnalysis.Universe(topology, files)`` opens the
    files with the CVs, ``bias``, ``segment`` and ``settling`` in ``ts.data``. Frames are on disk a
    second after they are made; a run killed at any moment loses no more than that.

    Parameters
    ----------
    file : str or Path
        Folder for the files ``segment-00001.h5md`` ...
    reportInterval : int
        Steps between frames.
    bias : PlumedBias
        Gives the CVs and the bias energy.
    append : bool
        Continue the frames of an earlier run in ``file``. Frames later than the step that the
        simulation is restarted from are set aside as ``bck.N.segment-*.h5md``. If False, the folder
        must hold no frames.
    enforcePeriodicBox : bool, optional
        Whether molecules are put into the box; by default if the system has one.
    atomSubset : sequence of int, optional
        Zero-based atoms to keep, in increasing order; by default all.

    Attributes
    ----------
    folder : Path
    segment : int
        Number of the segment that the next frame belongs to, 0 before the run.

    Raises
    ------
    FileExistsError
        If the folder holds frames and ``append`` is False.
    ValueError
        If ``reportInterval`` or ``atomSubset`` make no sense.
    TypeError
        If ``bias`` is no PlumedBias.
    """

    def __init__(
        self,
        file: str | os.PathLike[str],
        reportInterval: int,
        bias: PlumedBias,
        append: bool = False,
        enforcePeriodicBox: bool | None = None,
        atomSubset: Sequence[int] | None = None,
    ) -> None:
        if int(reportInterval) != reportInterval or reportInterval < 1:
            raise ValueError(f"reportInterval is {reportInterval}, expected a number of steps >= 1")
        if not (hasattr(bias, "values") and hasattr(bias, "variables")):
            raise TypeError(f"bias is {type(bias).__name__}, expected a PlumedBias")
        self.folder = Path(file)
        self._interval = int(reportInterval)
        self._bias = bias
        self._append = append
        self._periodic = enforcePeriodicBox
        self._atoms = None if atomSubset is None else _checked_subset(atomSubset)
        self._writer: SegmentWriter | None = None
        self._simulation: weakref.ref[Simulation] | None = None
        self._keep_box = False
        # one by one, the values would take most of the time of a report
        self._values_wait = _values_can_wait(bias)
        self._require_empty()
        self.folder.mkdir(parents=True, exist_ok=True)

    @property
    def segment(self) -> int:
        """Number of the segment that the next frame belongs to, 0 before the run."""
        return 0 if self._writer is None else self._writer.segment

    def describeNextReport(self, simulation: Simulation) -> dict[str, Any]:
        """Say when the next frame is due, and that it needs positions."""
        if self._writer is None:
            self._begin(simulation)
        steps = self._interval - simulation.currentStep % self._interval
        return {"steps": steps, "periodic": self._periodic, "include": ["positions"]}

    def report(self, simulation: Simulation, state: State) -> None:
        """Take a frame.

        Raises
        ------
        ValueError
            If positions, CVs or bias are not finite; the frames before are written.
        """
        assert self._writer is not None, "describeNextReport comes first"
        step = simulation.currentStep
        positions = positions_of(state)
        if not math.isfinite(np.vdot(positions, positions)):
            self._stop(step, "a position")
        box = state.getPeriodicBoxVectors(asNumpy=True)._value if self._keep_box else None
        row = Row(step, state.getTime()._value, positions, box)  # ps; units would take longer
        if not self._values_wait:
            cvs, bias = self._bias.values(simulation, state)
            if not math.isfinite(bias + cvs.sum()):
                self._stop(step, f"the bias ({bias}) or a CV ({cvs})")
            row = row._replace(cvs=np.array(cvs), bias=float(bias))
        self._writer.append(row)

    def start_segment(self, origin: dict[str, Any], settle_steps: int = 0) -> int:
        """Begin a segment: a configuration has just been put into the simulation.

        Parameters
        ----------
        origin : dict
            What was put in, of plain JSON types, such as ``{"kind": "proposal", "number": 3}``.
        settle_steps : int
            Frames earlier than this many steps after now are marked as settling.

        Returns
        -------
        int
            Number of the new segment. Frames later than the current step belong to it.
        """
        simulation = self._simulation() if self._simulation is not None else None
        if self._writer is None or simulation is None:
            raise RuntimeError(
                "start_segment is called before the run: append this reporter to "
                "simulation.reporters, then call simulation.step"
            )
        return self._writer.start_segment(simulation.currentStep, origin, settle_steps)

    def flush(self) -> None:
        """Write the frames that are still in memory."""
        if self._writer is not None:
            self._writer.flush()

    def close(self) -> None:
        """Write the frames that are still in memory and take no more."""
        if self._writer is not None:
            self._writer.close()

    def _require_empty(self) -> None:
        if self.folder.exists() and not self.folder.is_dir():
            raise FileExistsError(f"{self.folder} is a file, expected the name of a folder")
        if not self._append and next(self.folder.glob(PATTERN), None) is not None:
            raise FileExistsError(
                f"{self.folder} holds frames of an earlier run: continue them with append=True or "
                "name another folder (nothing has been overwritten)"
            )

    def _begin(self, simulation: Simulation) -> None:
        """Everything that can be wrong is found here, before the first step."""
        self._require_empty()
        n_atoms = simulation.topology.getNumAtoms()
        if self._atoms is not None and self._atoms[-1] >= n_atoms:
            raise ValueError(
                f"atomSubset names atom {self._atoms[-1]} but the topology has {n_atoms} atoms, "
                "counted from 0"
            )
        self._keep_box = simulation.system.usesPeriodicBoundaryConditions()
        header = SegmentHeader(
            variables=tuple(self._bias.variables),
            atoms=tuple(range(n_atoms) if self._atoms is None else self._atoms.tolist()),
            topology_hash=topology_hash(simulation.topology),
            temperature=self._bias.temperature,
            periodic=self._keep_box,
            plumed_input=self._bias.text,
            about={"report_interval": self._interval, "backend": self._bias.backend}
            | _provenance(simulation),
        )
        time = simulation.context.getTime()._value
        self._writer = SegmentWriter(
            self.folder,
            header,
            simulation.currentStep,
            time,
            self._evaluate if self._values_wait else None,
        )
        self._simulation = weakref.ref(simulation)

    def _evaluate(
        self, positions: NDArray[np.float64], box: NDArray[np.float64] | None
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        cvs = self._bias.cv_values(positions, box)
        return cvs, self._bias.bias_of_cvs(cvs)

    def _stop(self, step: int, what: str) -> None:
        self.flush()
        raise ValueError(
            f"{what} is not finite at step {step}; the frames before are in {self.folder}. Restart "
            "from an earlier checkpoint, with a smaller time step or a gentler bias"
        )


def _checked_subset(atoms: Sequence[int]) -> NDArray[np.int64]:
    subset = np.asarray(atoms)
    if subset.ndim != 1 or subset.size == 0 or subset.dtype.kind not in "iu":
        raise ValueError(f"atomSubset is {atoms!r}, expected a list of zero-based atom indices")
    if subset[0] < 0 or (np.diff(subset.astype(np.int64)) <= 0).any():
        raise ValueError(
            f"atomSubset is {atoms!r}, expected indices from 0 in increasing order, each once"
        )
    return subset.astype(np.int64)


def _values_can_wait(bias: Any) -> bool:
    """Whether CVs and bias may be computed later, for many frames at once."""
    origin = np.zeros((1, len(bias.variables)))
    try:
        return getattr(bias, "static", False) and bias.bias_of_cvs(origin).shape == (1,)
    except ValueError:  # it depends on more than the CVs that are kept
        return False


def _provenance(simulation: Simulation) -> dict[str, Any]:
    """Seeds, integrator and versions, as far as the simulation tells."""
    integrator, platform = simulation.integrator, simulation.context.getPlatform()
    seeded = [integrator, *simulation.system.getForces()]
    return {
        "seeds": {
            type(part).__name__: part.getRandomNumberSeed()
            for part in seeded
            if hasattr(part, "getRandomNumberSeed")
        },
        "integrator": type(integrator).__name__,
        "time_step": integrator.getStepSize()._value,
        "platform": platform.getName(),
        "openmm": platform.getOpenMMVersion(),
    }


class ProposalReporter:
    """Puts generated configurations into a running simulation.

    Every ``reportInterval`` steps a target is chosen, a batch of configurations is generated at it
    and screened, and one that passed is healed in a second Context and judged again. If it passes,
    the simulation goes on from it: positions replaced, velocities redrawn from the
    Maxwell-Boltzmann distribution, constraints kept; step, time and box stay. Every FrameReporter
    of the simulation then starts a new segment with a settle window. If it does not pass, the
    simulation goes on as if nothing had been tried, bit for bit.

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
        Where to: drawn uniformly over the range that the sampler was trained on, where the run has
        been least, listed, or a function ``(visited, rng) -> target``.
    mode : {"auto", "seed", "exact"}
        "exact" needs a sampler whose density is known; "auto" takes "seed" where it is not, and
        logs so.
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
        atoms, or the integrator has no temperature and none is given.
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
        self.mode = _proposal_mode(mode, sampler)
        self._reportInterval = int(reportInterval)
        self._sampler = sampler
        self._bias = bias
        self._seed = int(seed)
        self._choose_target = target_strategy(targets, trained_range(sampler), bias.variables)
        self._visited: list[NDArray[np.float64]] = []
        self._attempts: Counter[str] = Counter()
        self._candidates: Counter[str] = Counter()
        self._healing: HealingContext | None = None
        self._table = AttemptTable(file, bias.variables, append)

    def counts(self) -> dict[str, int]:
        """Attempts so far: "accepted", and the others by reason."""
        return {ACCEPTED: 0, **self._attempts}

    def candidate_counts(self) -> dict[str, int]:
        """Generated configurations so far: those that passed the screen as "accepted"."""
        return {ACCEPTED: 0, **self._candidates}

    def describeNextReport(self, simulation: Simulation) -> dict[str, Any]:
        """Say when the next attempt is; see OpenMM's reporter protocol."""
        self._require_last(simulation)
        if self._healing is None:
            self._prepare(simulation)
        steps = self._reportInterval - simulation.currentStep % self._reportInterval
        return {"steps": steps, "periodic": False, "include": ["positions"]}

    def report(self, simulation: Simulation, state: State) -> None:
        """Make one attempt."""
        step = simulation.currentStep
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

    def summary(self) -> str:
        """One line on what became of the attempts."""
        refused = {reason: n for reason, n in self._attempts.items() if reason != ACCEPTED}
        reasons = ", ".join(f"{reason} {n}" for reason, n in sorted(refused.items())) or "none"
        total = sum(self._attempts.values())
        return (
            f"{self._attempts[ACCEPTED]} of {total} proposals accepted (mode {self.mode}); "
            f"refused: {reasons}"
        )

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
        positions, box = _positions_and_box(state, self._periodic)
        self._surroundings = Surroundings(self._bias, atoms, positions, box)
        self._temperature = temperature_of(simulation.integrator, self.settings.temperature)
        self._settle_steps = settle_steps_of(simulation.integrator, self.settings.settle_steps)
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

    def _attempt(self, simulation: Simulation, state: State, rng: np.random.Generator) -> Attempt:
        """Propose, screen, heal and judge; the running Context is only read."""
        assert self._healing is not None, "describeNextReport comes first"
        self._healing.follow(simulation.context)
        here = self._surroundings
        here.move(*_positions_and_box(state, self._periodic))
        if not np.isfinite(here.positions).all():
            raise RuntimeError("the running simulation has positions that are not finite (NaN)")
        self._visited.append(self._bias.cv_values(here.positions, here.box))
        target = np.asarray(self._choose_target(np.array(self._visited), rng), dtype=float)
        targets = np.tile(target, (self.settings.batch, 1))
        proposals = propose(
            self._sampler, targets, self._screen, seed=int(rng.integers(1, 2**31 - 1))
        )
        self._candidates.update(proposals.counts())
        return self._healing.judge(proposals, self._screen, rng)

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
        log.info(
            "step %d: %s injected at %s (seed %d), settle window %d steps",
            simulation.currentStep, self.mode, np.round(attempt.healed, 3), seed,
            self._settle_steps,
        )  # fmt: skip

    def _segment(self, simulation: Simulation) -> int:
        """Number of the segment that frames from now on belong to."""
        written = [reporter.segment for reporter in _frame_reporters(simulation)]
        return written[0] if written else 1 + self._attempts[ACCEPTED]


def _proposal_mode(mode: str, sampler: Any) -> str:
    if mode not in ("auto", "seed", "exact"):
        raise ValueError(f"mode is {mode!r}; expected 'auto', 'seed' or 'exact'")
    kind = type(sampler).__name__
    if mode == "exact":
        raise ValueError(
            f"mode='exact' needs the density of what is proposed, and the generator of {kind} has "
            "none; use mode='seed', which marks a settle window after each injection"
        )
    if mode == "auto":
        log.info("mode='auto' takes 'seed': the generator of %s has no density", kind)
    return "seed"


def _frame_reporters(simulation: Simulation) -> list[FrameReporter]:
    return [reporter for reporter in simulation.reporters if isinstance(reporter, FrameReporter)]


def _positions_and_box(
    state: State, periodic: bool
) -> tuple[NDArray[np.float64], NDArray[np.float64] | None]:
    positions = positions_of(state)
    if not periodic:
        return positions, None
    return positions, np.array(state.getPeriodicBoxVectors(asNumpy=True)._value)
