"""A generator that keeps learning while the simulation runs, in a process of its own.

The worker is a process and not a thread: training would share Python's lock with the reporters.
And it is a Python of its own: a process pool would run the user's script once more where that has
no ``if __name__ == "__main__"``.

Each new generator makes the proposals better and changes how the chain moves, so that its moves
depend on where it has been. What it samples stays right when such changes become rare: G. O.
Roberts, J. S. Rosenthal, J. Appl. Probab. 44, 458 (2007), doi 10.1239/jap/1183667414 (diminishing
adaptation). So each interval is longer than the one before.
"""

from __future__ import annotations

import json
import logging
import os
import pickle
import subprocess
import sys
import weakref
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from openmm_cgan.atomic_files import require_writable
from openmm_cgan.checkpoints import SavedState, saved_array, saved_text, text_array
from openmm_cgan.frames import read_frames
from openmm_cgan.frames.segments import flush_writers
from openmm_cgan.proposals import hangs_on_rest
from openmm_cgan.quantities import number_of_steps
from openmm_cgan.signals import end_with_parent
from openmm_cgan.thermostats import temperature_of

if TYPE_CHECKING:
    from openmm.app import Simulation

    from openmm_cgan.cgan import TrainingSettings
    from openmm_cgan.proposals import Sampler

log = logging.getLogger("openmm_cgan")

NICENESS = 10  # the simulation goes first
PATIENCE = 10.0  # s that a worker may take to end when it is told to
WORKER = "from openmm_cgan.reporters.learner import train_from_stdin; train_from_stdin()"


@dataclass(frozen=True)
class Job:
    """What a worker is told.

    Attributes
    ----------
    frames : Path
        Their folder.
    step : int
        Before which frames are learned.
    topology : openmm.app.Topology
    settings : TrainingSettings
    path : Path
        Of the generator to be made.
    threads : int
    atoms : list of int
        To make.
    hangs_on_rest : bool
        Whether they hang on others.
    device : str
    temperature : float or None
        Of the frames [K].
    """

    frames: Path
    step: int
    topology: Any
    settings: TrainingSettings
    path: Path
    threads: int
    atoms: list[int]
    hangs_on_rest: bool
    device: str
    temperature: float | None


class Proposing(Protocol):
    """What proposes from a sampler that may be replaced: a ProposalReporter."""

    mode: str

    @property
    def sampler(self) -> Sampler:
        """What makes the configurations."""
        ...

    @sampler.setter
    def sampler(self, sampler: Sampler) -> None: ...


class Learner:
    """Trains on the frames written so far and hands new generators to a ProposalReporter.

    They make the atoms that the one before made, whatever else the frames hold, and a part that
    hangs on others as before; then the frames must hold what it hangs on. Where the
    temperature of the run was changed, they learn the frames of the present one. Append it to
    ``simulation.reporters`` between the FrameReporter and the ProposalReporter. The
    simulation never waits for it: at a report it only looks whether a training has ended, and
    starts the next one when it is due. A new generator then takes over as soon as there is one, at
    a step that no two runs have in common; with `takes_over_after` a run is the same each time. A
    training that fails is logged and counted, and the old generator stays.

    Parameters
    ----------
    file : str or Path
        Folder for the generators, ``generator-0001.npz`` ..., and the log of each training.
    reportInterval : int
        Steps between two looks.
    proposals : ProposalReporter
    frames : str or Path
        Folder of the FrameReporter.
    settings : TrainingSettings
        How to train; ``max_seconds`` bounds the time.
    first : int
        Steps until the first training.
    growth : float
        Each interval is so many times longer than the one before.
    threads : int
        Of the worker.
    takes_over_after : int, optional
        Steps from the beginning of a training to the look at which its generator takes over; there
        the simulation waits for it, if need be.
    device : str
        Of the worker's networks, "cuda" say; generators come back to the processor.

    Attributes
    ----------
    replaced, failed : int
        Trainings that gave a new generator, and those that did not.

    Raises
    ------
    ValueError
        If intervals are not positive or do not grow, exact proposals would be given a generator
        without density, or there is no such device.
    """

    def __init__(
        self,
        file: str | Path,
        reportInterval: int,
        proposals: Proposing,
        frames: str | Path,
        settings: TrainingSettings,
        first: int,
        growth: float = 2.0,
        threads: int = 1,
        takes_over_after: int | None = None,
        device: str = "cpu",
    ) -> None:
        self._reportInterval = number_of_steps(reportInterval, "reportInterval")
        self._interval = float(number_of_steps(first, "first"))
        if threads < 1 or not growth > 1:
            raise ValueError(
                f"threads is {threads} and growth {growth}; expected at least 1, and a growth "
                "above 1: adaptation must diminish"
            )
        self._device = str(device)
        if self._device != "cpu":  # torch is loaded for no other
            from openmm_cgan.devices import device_named

            device_named(self._device)
        self.folder = Path(file).absolute()
        require_writable(self.folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.replaced = self.failed = 0
        self._proposals = proposals
        self._frames, self._settings = Path(frames).resolve(), settings
        self._growth, self._threads = float(growth), int(threads)
        self._due: float | None = None
        self._worker: subprocess.Popen[bytes] | None = None
        self._path = self.folder
        self._given: Path | None = None  # the generator that the proposals have from here
        self._wait = takes_over_after
        self._begun: int | None = None  # the step at which the training under way was
        self._temperature: float | None = None  # of the frames that it has
        self._require_density()

    def __repr__(self) -> str:
        done = f"{self.replaced} trainings taken over, {self.failed} failed"
        return f"Learner({str(self.folder)!r}; {done})"

    def describeNextReport(self, simulation: Simulation) -> dict[str, Any]:
        """Say when the next look is; see OpenMM's reporter protocol."""
        if self._due is None:
            self._due = simulation.currentStep + self._interval
        if self._begun is not None and self._worker is None:  # it was under way in a saved run
            self._start(simulation.topology, self._begun, goes_on=True)
        steps = self._reportInterval - simulation.currentStep % self._reportInterval
        return {"steps": steps, "periodic": False, "include": []}

    def report(self, simulation: Simulation, state: Any) -> None:
        """Take what the worker has made, and start it again when it is time."""
        step = simulation.currentStep
        if self._worker is not None and self._has_ended(self._worker, step):
            self._hand_over(self._worker.returncode)
            self._worker = self._begun = None
            self._interval *= self._growth
            self._due = step + self._interval
        if self._worker is None and self._due is not None and step >= self._due:
            self._temperature = temperature_of(simulation)
            self._start(simulation.topology, step)

    def _has_ended(self, worker: subprocess.Popen[bytes], step: int) -> bool:
        if self._wait is None or self._begun is None:
            return worker.poll() is not None
        if step < self._begun + self._wait:
            return False
        worker.wait()
        return True

    def _require_density(self) -> None:
        """Exact proposals would refuse what the training gives, after its hours."""
        from openmm_cgan.generators import KINDS

        name = self._settings.generator
        mode = self._proposals.mode
        if mode in ("exact", "annealed", "steered", "local") and not KINDS[name].has_density:
            raise ValueError(
                f"the Learner would train a {name}, whose density is not known, and proposals are "
                f"in mode {mode!r}: give it "
                "TrainingSettings(generator='FlowGenerator')"
            )

    # ---- with a checkpoint

    def saved(self) -> SavedState:
        """Which generator the proposals have from it, and when the next training is due.

        A training that is under way goes on from its own checkpoint, on the same frames.
        """
        due = np.nan if self._due is None else self._due
        numbers = np.array([self.replaced, self.failed, self._interval, due])
        given = "" if self._given is None else self._given.name
        arrays = {"learner/numbers": numbers, "learner/given": text_array(given)}
        if self._begun is not None:
            arrays["learner/begun"] = np.array(self._begun)
            arrays["learner/temperature"] = np.array(self._temperature or np.nan)
        return SavedState(0, -1, arrays=arrays)

    def check_saved(self, state: SavedState, simulation: Simulation, path: Path) -> None:
        """Raise where the generator that it gave is not there; nothing is changed."""
        given = saved_text(state.of("learner"), "given")
        if given and not (self.folder / Path(given).name).is_file():
            raise ValueError(f"{self.folder / given}, which the saved run proposed from, is gone")

    def restore_saved(self, state: SavedState, simulation: Simulation) -> None:
        """Give the generator again; appends itself to the Simulation's reporters.

        Name it before the ProposalReporter among the keepers: it stands before it in a run.
        """
        from openmm_cgan.cgan import ConditionalGenerator

        own = state.of("learner")
        replaced, failed, self._interval, due = saved_array(own, "numbers", (4,)).tolist()
        self.replaced, self.failed = int(replaced), int(failed)
        self._due = None if np.isnan(due) else due
        self._begun = int(own["begun"]) if "begun" in own else None
        if np.isfinite(temperature := float(own.get("temperature", np.nan))):
            self._temperature = temperature
        if given := saved_text(own, "given"):
            self._given = self.folder / Path(given).name
            self._proposals.sampler = ConditionalGenerator.load(self._given)
        simulation.reporters.append(self)

    def close(self) -> None:
        """End a training that is under way."""
        if self._worker is not None:
            _end(self._worker)
            self._worker = None

    def _start(self, topology: Any, step: int, goes_on: bool = False) -> None:
        """Have a worker train on the frames before a step."""
        self._require_density()
        flush_writers(self._frames)
        self._begun = step
        number = 1 + self.replaced + self.failed
        self._path = self.folder / f"generator-{number:04d}.npz"
        if not goes_on:  # of another run in the same folder
            self._path.with_suffix(".chk").unlink(missing_ok=True)
        sampler = self._proposals.sampler
        job = Job(
            self._frames, step, topology, self._settings, self._path.resolve(), self._threads,
            np.asarray(sampler.atoms).tolist(), hangs_on_rest(sampler), self._device,
            self._temperature,
        )  # fmt: skip
        environment = {
            **os.environ,
            "OMP_NUM_THREADS": str(self._threads),
            "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
        }
        with self._path.with_suffix(".log").open("wb") as output:
            self._worker = subprocess.Popen(
                [sys.executable, "-c", WORKER],
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=environment,
                process_group=0,  # Ctrl-C in a notebook or a shell ends the cell, not the training
            )
        weakref.finalize(self, _end, self._worker)
        assert self._worker.stdin is not None
        try:
            with self._worker.stdin as pipe:
                pipe.write(pickle.dumps(job))  # to a process of our own, nowhere stored
        except OSError as error:  # it died at once: the next look counts it
            log.warning("the training %d could not be told what to do: %s", number, error)

    def _hand_over(self, returncode: int) -> None:
        """Give the new generator to the proposals, if it is one."""
        from openmm_cgan.cgan import ConditionalGenerator

        log_path = self._path.with_suffix(".log")
        try:
            if returncode != 0:
                told = log_path.read_text(errors="replace").strip().splitlines() or ["nothing told"]
                raise RuntimeError(f"the worker ended with {returncode}: {told[-1]}")
            self._proposals.sampler = ConditionalGenerator.load(self._path)
        except (RuntimeError, ValueError, OSError) as error:
            self.failed += 1
            log.warning(
                "training beside the run failed (%d of %d so far), the old generator stays: %s; "
                "see %s",
                self.failed, self.failed + self.replaced, error, log_path,
            )  # fmt: skip
            return
        self.replaced += 1
        self._given = self._path
        log.info("generator %s takes over", self._path)


def _end(worker: subprocess.Popen[bytes]) -> None:
    if worker.poll() is None:
        worker.terminate()
        try:
            worker.wait(PATIENCE)
        except subprocess.TimeoutExpired:  # it does not hear, as where a disk does not answer
            worker.kill()


def train_from_stdin() -> None:
    """What the worker does: a job from standard input, a generator to a file."""
    job: Job = pickle.load(sys.stdin.buffer)
    end_with_parent()
    if sys.platform != "win32":
        os.nice(NICENESS)
    train_on(job)


def train_on(job: Job) -> None:
    """Train a generator, write its file, and print what it was trained on and how it ended."""
    from openmm_cgan.cgan import ConditionalGenerator
    from openmm_cgan.features import ZMatrixFeatures

    frames = read_frames(job.frames, temperature=job.temperature)
    # those that were there when it was begun: again the same, where it is begun again
    frames = frames.select(np.flatnonzero(frames.step < job.step))
    checkpoint = job.path.with_suffix(".chk")
    made = ConditionalGenerator.fit(
        frames, job.topology, job.settings,
        checkpoint=checkpoint, threads=job.threads, device=job.device,
        featurize=ZMatrixFeatures.of_part(job.atoms) if job.hangs_on_rest else None,
        atoms=None if job.hangs_on_rest else job.atoms,
    )  # fmt: skip
    made.save(job.path)
    checkpoint.unlink()
    print(json.dumps({"frames": str(job.frames), "history": made.history[-1:]}))
