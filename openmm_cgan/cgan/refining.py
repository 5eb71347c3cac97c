"""Refining a flow on the energy: what biased data lack, the force field knows.

The reverse Kullback-Leibler distance E_q[u(x) + log q(x|c)] falls by its path gradient
(`divergences`). Alone it makes no new wells, and a flow that cannot be quite right grows too narrow
by it, for what it leaves out costs nothing: frames are taken beside it, as Boltzmann generators
do [1]_. They need not have been visited in proportion: the stiff coordinates of a frame are learned
given its torsions. Those are learned by weight, of many configurations that the flow makes from
time to time, and of the frames that were seen at the same CVs (`weighed_torsions`).

The weights that are kept are those with the best `effective_share`, or those of the start.

References
----------
.. [1] F. Noé, S. Olsson, J. Köhler, H. Wu, Science 365, eaaw1147 (2019),
   doi 10.1126/science.aaw1147.
"""

import logging
import math
import os
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from tqdm import tqdm

from openmm_cgan import GAS_CONSTANT
from openmm_cgan.cgan.conditional_generator import ConditionalGenerator
from openmm_cgan.cgan.dataset import flat_weights
from openmm_cgan.cgan.divergences import (
    CountedEnergy,
    Divergence,
    Energy,
    Target,
    held,
)
from openmm_cgan.cgan.effective_share import PLACES, Places, effective_share
from openmm_cgan.cgan.part_targets import PartTargets
from openmm_cgan.cgan.refinable import conditions_for, temperature_for
from openmm_cgan.cgan.refining_checkpoint import load_refining, save_refining
from openmm_cgan.cgan.settings import RefiningSettings
from openmm_cgan.cgan.threads import torch_threads
from openmm_cgan.cgan.training import STEEPEST
from openmm_cgan.cgan.training_data import TrainingData, rows_drawn
from openmm_cgan.cgan.weighed_torsions import EACH, WeighedTorsions
from openmm_cgan.devices import adam, own_defaults
from openmm_cgan.signals import StoppedBySignalError, between_steps

JUDGED = 0.1  # part of the refining after which the flow is judged again
WARM_UP = 20  # steps over which the learning rate rises
ROUND = 50  # steps after which configurations are made anew for torsions to learn from
ROUNDS_KEPT = 32  # of them
AT_ONCE = 8  # places at which they are made
LEARNED = 2  # torsions a step, by the batch

logger = logging.getLogger("openmm_cgan")


@own_defaults()
def refine(
    gan: ConditionalGenerator,
    energy: Energy,
    conditions: Any = None,
    settings: RefiningSettings | None = None,
    temperature: Any = None,
    frames: TrainingData | None = None,
    threads: int = 1,
    device: str | torch.device | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
) -> tuple[ConditionalGenerator, list[dict[str, float]]]:
    """Train a flow further, on the energy instead of on frames.

    Parameters
    ----------
    gan : ConditionalGenerator
        With a FlowGenerator, already trained on frames; it is left as it is. Its CVs must all be
        internal coordinates, and its atoms all that interact.
    energy : Energy
        Potential energy of its atoms; of a part of a System a Potential of the whole.
    conditions : array_like, shape (m, n_cvs), optional
        CV values to refine at, drawn from at random; those of the frames if omitted. Of a part only
        the CVs that it moves: the others are those of the frames among whose atoms it stands.
    settings : RefiningSettings, optional
    temperature : float or Quantity, optional
        [K]; that of the frames if omitted.
    frames : TrainingData, optional
        ``rows_for(gan, frames, topology)``: without them a well that the flow forgets is not seen.
        A part needs them, for what stands around it; which frame is drawn at random.
    threads : int
        Of torch, while it trains.
    device : torch.device or str, optional
        Where it is refined, and then is; where it is if omitted. Energies are the engine's, which
        has platforms of its own.
    checkpoint : path, optional
        Written with each row of the history; refining goes on from it if it exists, and gives the
        same numbers as if it had never stopped.

    Returns
    -------
    ConditionalGenerator
        The refined one.
    list of dict
        ``step``, ``loss`` (mean of u + log q: free energies apart, the Kullback-Leibler distance),
        ``too_high`` (share of configurations left out), ``energies`` (how many, since the start),
        ``seconds``; in some rows ``effective``: Kish's share of what is made at fixed CVs, by which
        the weights are chosen that are kept.

    Raises
    ------
    ValueError
        If the generator has no density, a CV is no internal coordinate (of a part: nor depends on
        other atoms alone), there is no temperature, or particles go with those of a part; if the
        checkpoint is of another model, energy or settings.
    StoppedBySignalError
        If SIGTERM or SIGINT came, and there is a checkpoint, which has it all.
    """
    settings = settings or RefiningSettings()
    gan = gan if device is None else gan.to(device)
    kT = GAS_CONSTANT * temperature_for(gan, temperature)
    asked = conditions_for(gan, energy, conditions, frames, settings.seed)
    with torch_threads(threads):
        return _refined(_Refining(gan, energy, kT, asked, settings, frames), checkpoint)


def _refined(
    refining: "_Refining", checkpoint: str | os.PathLike[str] | None
) -> tuple[ConditionalGenerator, list[dict[str, float]]]:
    """Generator and history, once all steps are made."""
    refining.start()
    if checkpoint is not None and Path(checkpoint).exists():
        load_refining(refining, checkpoint)
    steps = refining.settings.steps
    bar = tqdm(total=steps, initial=refining.step, desc="refining", disable=None)
    with bar, between_steps(checkpoint is not None) as raise_what_came:
        while not refining.ended:
            refining.go_on()
            bar.update()
            if not refining.rows:  # they are in the history
                bar.set_postfix(loss=f"{refining.history[-1]['loss']:.3f}")
                if checkpoint is not None:
                    save_refining(refining, checkpoint)
            try:
                raise_what_came()
            except StoppedBySignalError:
                assert checkpoint is not None, "else nobody keeps signals"
                save_refining(refining, checkpoint)
                raise
    return refining.result(), refining.history


class _Best(NamedTuple):
    """The weights that are kept."""

    share: float
    step: int
    weights: dict[str, Tensor]


class _Movable(NamedTuple):
    """Of what a step makes configurations, which then move with the weights.

    Attributes
    ----------
    torsions : Tensor, shape (n, n_pairs)
        They do not move.
    z : Tensor, shape (n, n_linear)
        Normal deviates, which are held.
    condition : Tensor, shape (n, n_condition)
    cvs : Tensor, shape (n, n_cvs)
    rows : Tensor of int, shape (n,)
        Of the conditions or of the frames: among what a part stands there.
    log_q : Tensor, shape (n,)
        Log densities of the torsions; 0 where they are not asked for.
    """

    torsions: Tensor
    z: Tensor
    condition: Tensor
    cvs: Tensor
    rows: Tensor
    log_q: Tensor


class _Refining:
    """What changes while a flow is refined."""

    def __init__(
        self,
        gan: ConditionalGenerator,
        energy: Energy,
        kT: float,
        conditions: Tensor | None,
        settings: RefiningSettings,
        frames: TrainingData | None = None,
    ) -> None:
        self.counted = CountedEnergy(energy)
        self.gan, self.target = gan, Target(gan.features, self.counted, kT)
        self.settings, self.frames = settings, frames
        self.parts: PartTargets | None = None
        if frames is not None and frames.rests is not None:
            self.parts = PartTargets(gan.features, self.counted, kT, frames.rests)
        self.share = 0.0 if frames is None else settings.frames_share
        self.seen = frames if conditions is None else None  # at the conditions
        self.cumulative = torch.ones(1)  # no frames, none drawn
        if frames is not None:
            self.cumulative = self._flat(frames.cvs).cumsum(0)
        if conditions is None:
            assert frames is not None, "else refused"
            conditions = frames.cvs
        self.conditions = conditions
        self.rng = torch.Generator().manual_seed(settings.seed)
        kind: Any = type(gan.generator)
        self.generator = kind(**gan.generator.settings)
        self.generator.load_state_dict(gan.generator.state_dict())
        self.generator.to(gan.device)
        self.held: Any = held(self.generator)
        decay = get_ema_multi_avg_fn(settings.average)
        self.averaged: Any = AveragedModel(self.generator, multi_avg_fn=decay)
        self.optimiser = adam(self.generator.parameters(), settings.learning_rate, (0.9, 0.999))
        self.step, self.ended, self.judged_at = 0, False, 0.0
        self.history: list[dict[str, float]] = []
        self.rows: list[tuple[float, float]] = []  # since the last of these
        self.weighed: WeighedTorsions | None = None  # of the latest rounds
        self.started = time.perf_counter()
        self.places, self.judged = self._places()
        self.best, self.first = _Best(-1.0, 0, {}), math.nan

    def start(self) -> None:
        """See how good it is before the first step."""
        self.first = self.judge(0)

    def go_on(self) -> None:
        """Make a step, and a row of the history where one is due."""
        settings, seconds = self.settings, time.perf_counter() - self.started
        late = settings.max_seconds is not None and seconds >= settings.max_seconds
        progress = (self.step + 1) / settings.steps
        if settings.max_seconds is not None:
            progress = min(1.0, max(progress, seconds / settings.max_seconds))
        self.rows.append(self.improve(progress))
        self.ended = late or self.step >= settings.steps
        if self.ended or self.step % settings.report_every == 0:
            loss, too_high = np.mean(self.rows, axis=0)
            row = {"step": self.step, "loss": float(loss), "too_high": float(too_high)}
            if self.ended or progress >= self.judged_at + JUDGED:
                self.judged_at, row["effective"] = progress, self.judge(self.step)
            row["energies"] = self.counted.n
            self.history.append(row | {"seconds": time.perf_counter() - self.started})
            self.rows.clear()

    def target_of(self, rows: Tensor, held_out: bool = False) -> Target:
        """The target at rows (n,) of the frames: of a part, among what stands around it there."""
        if self.parts is None or self.frames is None or self.frames.rests is None:
            return self.target
        rests = self.frames.rests
        return self.parts.at((rests.held_frame if held_out else rests.frame)[rows.numpy()])

    def _places(self) -> tuple[Places, Target]:
        """Where is judged: at frames held out, else at some of the conditions."""
        rng = torch.Generator().manual_seed(self.settings.seed)
        if self.frames is not None and len(self.frames.held_features):
            weights = self._flat(self.frames.held_cvs)
            n = min(PLACES, len(weights))
            rows = torch.multinomial(weights, n, generator=rng)  # as rows are drawn to learn from
            held = self.frames.held_cvs, self.frames.held_condition, self.frames.held_features
            return Places(*self._there(rows, *held)), self.target_of(rows, held_out=True)
        rows = torch.randperm(len(self.conditions), generator=rng)[:PLACES]
        return self._places_at(rows), self.target_of(rows)

    def _places_at(self, rows: Tensor) -> Places:
        """Rows (n,) of the conditions, with the frames seen there."""
        (cvs,) = self._there(rows, self.conditions)
        frames = cvs.new_zeros(0, 0)
        if self.seen is not None:
            (frames,) = self._there(rows, self.seen.features)
        return Places(cvs, self.gan.conditions.encode(cvs).float(), frames)

    def _flat(self, cvs: Tensor) -> Tensor:
        """Weights (n,) by which rows of frames at CVs (n, n_cvs) are drawn."""
        flatten = self.settings.flatten
        return torch.from_numpy(flat_weights(cvs.numpy(), self.gan.variables, flatten))

    def _there(self, rows: Tensor, *parts: Tensor) -> list[Tensor]:
        """Rows (n,) of what stays on the processor, where the generator is."""
        return [part[rows].to(self.gan.device) for part in parts]

    def improve(self, progress: float) -> tuple[float, float]:
        """One step; the loss and the share of configurations that were left out."""
        fall = 0.02 + 0.49 * (1 + math.cos(math.pi * progress))
        rise = min(1.0, (self.step + 1) / WARM_UP)
        self.optimiser.param_groups[0]["lr"] = self.settings.learning_rate * rise * fall
        if self.generator.n_pairs and self.step % ROUND == 0:
            self.weigh()
        self.step += 1
        loss, found = self.loss()
        self.optimiser.zero_grad()
        loss.backward()
        parameters = list(self.generator.parameters())
        steepness = nn.utils.clip_grad_norm_(parameters, STEEPEST)
        if torch.isfinite(steepness):  # one clash too many is no reason to stop
            self.optimiser.step()
            self.averaged.update_parameters(self.generator)
        return found.mean().item(), 1.0 - float(found.kept.double().mean())

    def _rows(self, n: int) -> Tensor:
        """n rows of the conditions to refine at."""
        if self.seen is not None:
            return rows_drawn(self.cumulative, n, self.rng)
        return torch.randint(len(self.conditions), (n,), generator=self.rng)

    def loss(self) -> tuple[Tensor, Divergence]:
        """Of what is made, of frames and of torsions, which share no weights; the first alone."""
        batch = self.settings.batch
        parts = [self.made_at(self._rows(batch))]
        if self.share:
            parts.append(self.seen_at(rows_drawn(self.cumulative, batch, self.rng)))
        found = self.compared(parts)
        loss = (1 - self.share) * found[0].mean()
        if self.share:
            loss = loss + self.share * found[1].mean()
        if self.weighed is not None:
            loss = loss + self.loss_of_torsions(self.weighed)
        return loss, found[0]

    def loss_of_torsions(self, weighed: WeighedTorsions) -> Tensor:
        """The negative log likelihood of some, drawn by weight."""
        drawn = weighed.drawn(LEARNED * self.settings.batch, self.rng)
        (cvs,) = self._there(drawn.rows, self.conditions)
        condition = self.gan.conditions.encode(cvs).float()
        torsions = drawn.torsions.to(self.gan.device)
        log_q = self.generator.log_prob_of_each_torsion(torsions, condition)
        return -log_q.sum() / max(1, len(log_q))

    def weigh(self) -> None:
        """Make configurations at some conditions, and keep what their torsions weigh."""
        n = max(1, ROUND * self.settings.batch // EACH)
        generator, parts = self.averaged.module, [] if self.weighed is None else [self.weighed]
        for rows in self._rows(n).split(AT_ONCE):
            there, target = self._places_at(rows), self.target_of(rows)
            parts.append(WeighedTorsions.made_at(rows, generator, target, there, self.rng))
        self.weighed = WeighedTorsions.joined(parts, most=ROUNDS_KEPT * n * (EACH + 1))

    @torch.no_grad()
    def made_at(self, rows: Tensor) -> _Movable:
        """One at each of some rows (n,) of the conditions."""
        (cvs,) = self._there(rows, self.conditions)
        condition = self.gan.conditions.encode(cvs).float()
        noise = self.generator.draw_noise(condition, self.rng)
        torsions, log_q = self.generator.bent_torsions(noise, condition)
        return _Movable(torsions, noise.z, condition, cvs, rows, log_q)

    @torch.no_grad()
    def seen_at(self, rows: Tensor) -> _Movable:
        """Rows (n,) of the frames: at rest, what is made of them is the frames."""
        seen = self.frames
        assert seen is not None, "else there are no rows"
        features, condition, cvs = self._there(rows, seen.features, seen.condition, seen.cvs)
        z = self.generator.deviates_of(features, condition)
        torsions = self.generator.torsions_of(features)
        return _Movable(torsions, z, condition, cvs, rows, torch.zeros_like(z[:, :0].sum(1)))

    def compared(self, parts: list[_Movable]) -> list[Divergence]:
        """How much denser the flow is than the target.

        All are made and weighed at once: much of the time of a step goes by the calls.
        """
        kinds = (torch.cat(kind) for kind in zip(*parts, strict=True))
        torsions, z, condition, cvs, rows, log_q = kinds
        moved, _ = self.generator.at_torsions(torsions, z, condition)
        log_density = self.held.log_prob_of_stiff(moved, condition) + log_q
        target, sizes = self.target_of(rows), [len(part.z) for part in parts]
        each = target.reduced_energy(moved, cvs) + log_density.double()
        within = target.features.within(moved.detach())
        kept = zip(each.split(sizes), within.split(sizes), strict=True)
        return [Divergence.of(*one) for one in kept]

    def judge(self, step: int) -> float:
        """How good the averaged weights are, which are kept if none before were better."""
        found = effective_share(self.averaged.module, self.judged, self.places)
        if found > self.best.share:
            state = self.averaged.module.state_dict()
            self.best = _Best(found, step, {name: t.clone() for name, t in state.items()})
        return found

    def result(self) -> ConditionalGenerator:
        """The generator with the best of the averaged weights."""
        text = "refined: a share of %.3f of what is made at fixed CVs is effective (step %d)"
        logger.info(text, self.best.share, self.best.step)
        if self.best.step == 0:
            logger.warning(
                "refining did not make the generator better (a share of %.3f of what it makes at "
                "fixed CVs is effective): it stays as it was", self.best.share,
            )  # fmt: skip
        self.generator.load_state_dict(self.best.weights)
        return replace(self.gan, generator=self.generator)
