"""What carries out the decisions of an exploration: runs, trainings, weights, windows, in folders.

Each folder is complete in itself, as the commands leave theirs: ``look``, ``hot``, ``biased-1``
..., ``model-1.npz``, ``chains-1``, ``windows-1``. A phase that was killed goes on from what it has
left.
"""

from __future__ import annotations

import csv
import logging
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from openmm_cgan.atomic_files import write_atomically
from openmm_cgan.cli.exploration_folder import GENTLE, HOT, INPUT, LOOK, ExplorationFolder
from openmm_cgan.cli.explored_numbers import claim_of_generated, claim_of_runs, claim_of_windows
from openmm_cgan.cli.judging import judge_model
from openmm_cgan.explore.added_bias import widths_of, with_metadynamics
from openmm_cgan.explore.circle import Step
from openmm_cgan.explore.coverage import coverage_of, unseen_wells
from openmm_cgan.explore.decisions import HELD_AGAINST, JUDGED, MOST_MISSED, PILOT
from openmm_cgan.explore.torsions import never_seen
from openmm_cgan.frames import Frames, read_frames
from openmm_cgan.json_files import read_json, write_json
from openmm_cgan.metrics.judging import Judgement
from openmm_cgan.metrics.sampling import r_hat
from openmm_cgan.molecules import Molecule
from openmm_cgan.run_folders import FRAMES, PROPOSALS

if TYPE_CHECKING:
    from numpy.typing import NDArray

logger = logging.getLogger("openmm_cgan")

HOTTER = 3.0  # times the temperature of the run
FRAMES_OF_LOOK = 10  # steps between them
LEFT_OUT = 0.2  # of chains, at their beginning
LARGE = 100  # atoms: more, and no flow is trained
TRIED_BY = ("step", "accepted", "energies")  # columns of proposals.csv
TRIED = 200  # frames of each state, of which two are the starts of chains
ENOUGH_TO_MISS = 20  # frames of a state


@dataclass(frozen=True)
class Workshop:
    """Carries decisions out; all that it knows is on disk.

    Attributes
    ----------
    place : ExplorationFolder
    """

    place: ExplorationFolder

    @property
    def needs_bias(self) -> bool:
        """Whether the input has no bias of its own."""
        return self.place.needs_bias

    def carry_out(self, step: Step) -> Mapping[str, Any]:
        """Do what was decided; what is measured, see `Laboratory`."""
        phases: dict[str, Callable[[Step], dict[str, Any]]] = {
            "look": self._look,
            "bias": self._biased,
            "extend": self._biased,
            "opposite": self._opposite,
            "train": self._train,
            "refine": self._refine,
            "weigh": self._weigh,
            "chains": self._chains,
            "moves": self._moves,
            "windows": self._windows,
        }
        return phases[step.decision.action](step)

    # ---- data

    def _look(self, step: Step) -> dict[str, Any]:
        """Without a bias, for the widths; hot, for wells of torsions that no CV is."""
        place = self.place
        steps, plain = step.decision.steps, place.cvs()
        place.run(LOOK, plain.text, steps, frames_every=FRAMES_OF_LOOK)
        cost = steps
        hidden = place.hidden()
        if hidden:
            hot = place.settings.temperature * HOTTER
            place.run(HOT, plain.text, steps, frames_every=FRAMES_OF_LOOK, temperature=hot)
            cost += steps
            logger.info("torsions that no CV is: %s", ", ".join(t.name for t in hidden))
        if self.needs_bias:
            frames = place.frames(LOOK)
            widths = widths_of(frames.cvs, frames.variables)
            text, action = with_metadynamics(
                place.plumed_input, frames.variables, widths, place.settings.temperature,
                place.settings.barrier,
            )  # fmt: skip
            write_atomically(place.folder / INPUT, text)
            gentle, _ = with_metadynamics(
                place.plumed_input, frames.variables, widths, place.settings.temperature,
                place.settings.barrier, gently=True,
            )  # fmt: skip
            write_atomically(place.folder / GENTLE, gentle)
            logger.info("the input has no bias, added: %s", action)
        return {"widths": True, "cost": cost}

    def _biased(self, step: Step) -> dict[str, Any]:
        """The first biased run, or more of it."""
        place = self.place
        end = step.known.biased_steps + step.decision.steps
        place.run("biased-1", place.input(), end)
        return {"biased_steps": end, "cost": step.decision.steps, **self._coverage()}

    def _opposite(self, step: Step) -> dict[str, Any]:
        """A biased run that begins in a well of a torsion that no biased run has seen."""
        place = self.place
        k = step.known.opposite
        torsion = next(t for t in place.hidden() if t.name == step.known.unseen[k])
        hot = place.frames(HOT)
        visited = np.concatenate([torsion.values(f.positions) for f in place.all_biased()])
        new = np.flatnonzero(never_seen(torsion.values(hot.positions), visited))
        if not len(new):  # another run has come there meanwhile
            return {"opposite": k + 1, "cost": 0}
        start = hot.positions[np.random.default_rng(place.settings.seed).choice(new)]
        name = f"biased-{2 + k}"
        place.run(name, place.input(), step.decision.steps, start=start.astype(float))
        found = self._coverage()
        found.pop("unseen")
        return {"opposite": k + 1, "cost": step.decision.steps, **found}

    def _coverage(self) -> dict[str, Any]:
        place = self.place
        runs, hidden = place.all_biased(), place.hidden()
        hot = place.frames(HOT).positions if hidden else None
        return {
            "coverage": vars(coverage_of(runs, place.difference, hidden)),
            "unseen": [] if hot is None else unseen_wells(hidden, hot, runs),
        }

    # ---- generators

    def _train(self, step: Step) -> dict[str, Any]:
        """A flow where its density may serve, else the paper's generator."""
        place = self.place
        from openmm_cgan.cgan import ConditionalGAN, TrainingSettings

        number, system = step.known.trainings + 1, place.molecule.system
        may_weigh = not system.usesPeriodicBoundaryConditions()
        may_weigh = may_weigh and system.getNumParticles() <= LARGE
        kind = "FlowGenerator" if may_weigh else "MLPGenerator"
        training = TrainingSettings(generator=kind, seed=place.settings.seed, report_every=100)
        if may_weigh:
            training = replace(training, steps=place.settings.training_steps)
        checkpoint = place.folder / f"model-{number}.chk"
        gan = ConditionalGAN.fit(
            [run / FRAMES for run in place.data(number)], place.molecule.topology, training,
            checkpoint=checkpoint, device=place.device,
        )  # fmt: skip
        gan.save(place.folder / f"model-{number}.npz")
        found, cost = self._judged(place.folder / f"model-{number}.npz", number)
        refined = not (gan.has_density and not np.any(gan.condition_noise))
        checkpoint.unlink(missing_ok=True)
        return {"generator": {**found, "refined": refined}, "cost": cost}

    def _refine(self, step: Step) -> dict[str, Any]:
        """Trained further on the energy and on the frames; what is better is kept."""
        place = self.place
        from openmm_cgan.cgan import ConditionalGAN, RefiningSettings, refine
        from openmm_cgan.cgan.dataset import Dataset
        from openmm_cgan.potentials import Potential

        number, settings = step.known.trainings, place.settings
        before = step.known.generator
        assert before is not None, "it is there to be refined"
        if not step.decision.steps:
            return {"generator": {**vars(before), "refined": True}, "cost": 0}
        first = place.folder / f"model-{number}.npz"
        checkpoint = place.folder / f"refined-{number}.chk"
        gan = ConditionalGAN.load(first, place.molecule.topology)
        frames = read_frames([run / FRAMES for run in place.data(number)])
        rows = Dataset.prepare(frames, place.molecule.topology, gan.settings).rows
        refining = RefiningSettings(
            steps=self._steps_of_refining(step), batch=settings.refining_batch, seed=settings.seed
        )
        made, history = refine(
            gan, Potential(place.molecule.system), None, refining,
            frames=rows, device=place.device, checkpoint=checkpoint,
        )  # fmt: skip
        path = made.save(place.folder / f"refined-{number}.npz")
        checkpoint.unlink()
        found, cost = self._judged(path, number)
        fewer = found["missed"] <= max(MOST_MISSED, before.missed)
        better = bool(fewer and found["share"] > before.share)
        if not better:
            logger.info("refining has not made the generator better: it stays as it was")
            found = vars(before)
        shutil.copyfile(path if better else first, place.best(number))
        return {"generator": {**found, "refined": True},
                "cost": round(history[-1]["energies"]) + cost}  # fmt: skip

    def _steps_of_refining(self, step: Step) -> int:
        """Decided once: what was killed goes on with as many, whatever the budget is now."""
        path = self.place.folder / f"refining-{step.known.trainings}.json"
        if not path.exists():
            write_json(path, {"steps": step.decision.steps})
        return int(read_json(path)["steps"])

    def _judged(self, model: Path, number: int) -> tuple[dict[str, Any], int]:
        """What a generator is worth, and the energies that it took."""
        place, seed = self.place, self.place.settings.seed
        judged = judge_model(
            model, place.data(number), n=JUDGED, seeds=0, seed=seed, device=place.device
        )
        return generator_record(judged), judged.energies

    # ---- numbers

    def _weigh(self, step: Step) -> dict[str, Any]:
        """What the generator's configurations say."""
        place = self.place
        n, model = step.decision.steps, place.model(step.known.trainings)
        folder = place.folder / "generated"
        folder.mkdir(exist_ok=True)
        claim, cost = claim_of_generated(
            model,
            place.molecule,
            place.cvs_file(),
            place.difference,
            n,
            place.settings.seed,
            folder,
            place.device,
        )
        return {"claim": vars(claim), "cost": cost}

    def _chains(self, step: Step) -> dict[str, Any]:
        """Dynamics without a bias, with exact moves, from both states."""
        place, before = self.place, step.known.chains
        end = step.decision.steps + (0 if before is None else before.steps)
        folders = self._moved("chains", step.known.trainings, place.cvs().text, end)
        chains, cost = self._together(folders, step.known.trainings, end, step.decision.steps)
        return {"chains": chains, "cost": cost}

    def _moves(self, step: Step) -> dict[str, Any]:
        """The biased run with exact moves, from both states, its frames weighed."""
        place, number = self.place, step.known.trainings
        end = step.known.moves_steps + step.decision.steps
        plumed = place.folder / GENTLE if self.needs_bias else place.plumed_input
        folders = self._moved("moves", number, plumed, end)
        claim = claim_of_runs(folders, place.difference, place.settings.seed, place.folder)
        chains, cost = self._together(folders, number, end, step.decision.steps)
        return {"claim": vars(claim), "chains": chains, "moves_steps": end, "cost": cost}

    def _moved(self, kind: str, number: int, plumed: str | Path, end: int) -> list[Path]:
        """Two runs with exact moves, one from each state; their folders."""
        place, made = self.place, []
        for name, start in zip(("first", "second"), self._starts_of_chains(), strict=True):
            place.run(
                f"{kind}-{number}/{name}", plumed, end, start=start,
                model=place.model(number), mode="exact", frames_every=50, device=place.device,
                proposals_every=place.settings.proposals_every,
            )  # fmt: skip
            made.append(place.folder / f"{kind}-{number}" / name)
        return made

    def _together(
        self, folders: list[Path], number: int, steps: int, new: int
    ) -> tuple[dict[str, Any], int]:
        """Whether runs have come together, in CVs and in what is none; what the new steps cost."""
        runs = [read_frames(folder / FRAMES) for folder in folders]
        late = [run.select(slice(round(LEFT_OUT * len(run)), None)) for run in runs]
        apart = {
            v.name: r_hat([run.cvs[:, k] for run in late], v.domain)
            for k, v in enumerate(late[0].variables)
        }
        circle = (-np.pi, np.pi)
        for torsion in self.place.hidden():
            apart[torsion.name] = r_hat([torsion.values(r.positions) for r in late], circle)
        tried = np.concatenate([_attempts(folder / PROPOSALS) for folder in folders])
        missed, energies = self._missed(number, Frames.concatenate(late))
        accepted = float(tried[:, 1].mean())
        energies += round(tried[tried[:, 0] > steps - new, 2].sum())
        told = {"steps": steps, "accepted": accepted, "r_hat": apart, "missed": missed}
        return told, len(folders) * (new + PILOT) + energies

    def _missed(self, number: int, frames: Frames) -> tuple[float, int]:
        """Share of frames that the generator misses, in the state where it is larger.

        With the number of energies that it took.
        """
        place = self.place
        from openmm_cgan.cli.importance import weigher_of
        from openmm_cgan.metrics.judging import missed_share

        move = weigher_of(place.model(number), place.molecule, place.cvs_file(), place.device)
        sides = place.difference.sides(frames.cvs, frames.variables)
        found, rng = [], np.random.default_rng(place.settings.seed)
        for side in (0, 1):
            rows = rng.permutation(np.flatnonzero(sides == side))[:HELD_AGAINST]
            if len(rows) >= ENOUGH_TO_MISS:
                found.append(missed_share(move, frames.positions[rows], frames.cvs[rows]))
        return max(found, default=0.0), move.potential.evaluated

    def _windows(self, step: Step) -> dict[str, Any]:
        """Umbrella windows along the CV of the difference, from two starts each."""
        from openmm_cgan.cli.explored_windows import run_explored_windows

        place = self.place
        number = step.known.trainings
        model = place.model(number)
        whole = place.molecule.system.getNumParticles()
        steps = step.known.window_steps + step.decision.steps
        folders, all_steps = run_explored_windows(
            place.folder / "biased-1", place.folder / f"windows-{number}",
            model if _makes_all(model, place.molecule, whole) else None, place.hidden(), steps,
            place.settings, (place.platform, place.workers), place.device,
        )  # fmt: skip
        claim = claim_of_windows(folders, place.difference, place.settings.seed, place.folder)
        before = step.known.window_steps / steps
        return {
            "claim": vars(claim),
            "n_windows": round(all_steps / steps),
            "window_steps": steps,
            "cost": round(all_steps * (1 - before)),
        }

    def _starts_of_chains(self) -> list[NDArray[np.float64]]:
        """A frame of each state, as unlike in the torsions that no CV is as can be."""
        place = self.place
        frames = Frames.concatenate([
            run.select(slice(len(run) // 4, None)) for run in place.all_biased()
        ])  # fmt: skip
        sides = place.difference.sides(frames.cvs, frames.variables)
        rng, chosen = np.random.default_rng(place.settings.seed), []
        for side in (0, 1):
            rows = np.flatnonzero(sides == side)
            deep = rows[np.argsort(frames.bias[rows])[-max(1, len(rows) // 5) :]]
            chosen.append(rng.permutation(deep)[:TRIED])
        a, b = _most_unlike(place.hidden(), frames, chosen[0], chosen[1])
        return [frames.positions[row].astype(float) for row in (a, b)]


def _most_unlike(
    hidden: list[Any], frames: Frames, first: NDArray, second: NDArray
) -> tuple[int, int]:
    """One of each of two sets of rows, whose torsions differ most; the first ones without any."""
    apart = np.zeros((len(first), len(second)))
    for torsion in hidden:
        one, two = (torsion.values(frames.positions[rows]) for rows in (first, second))
        apart -= np.cos(one[:, None] - two[None])
    i, j = np.unravel_index(int(apart.argmax()), apart.shape)
    return int(first[i]), int(second[j])


def generator_record(judged: Judgement) -> dict[str, Any]:
    """A judgement as evidence, in plain types."""
    worth = judged.weights
    return {
        "why_not_exact": judged.why_not_exact,
        "share": 0.0 if worth is None else worth.median,
        "heavy": 1.0 if worth is None else worth.heavy,
        "missed": 0.0 if worth is None or np.isnan(worth.missed) else worth.missed,
        "passed": judged.passed,
    }


def _makes_all(model: Path, molecule: Molecule, whole: int) -> bool:
    from openmm_cgan.cgan import ConditionalGAN

    return ConditionalGAN.load(model, molecule.topology).n_atoms == whole


def _attempts(path: Path) -> NDArray[np.float64]:
    """Of each attempt at a move its step, whether it was accepted, and its energies."""
    with path.open() as file:
        rows = [[row[name] for name in TRIED_BY] for row in csv.DictReader(file)]
    return np.array(rows, dtype=float).reshape(-1, len(TRIED_BY))
