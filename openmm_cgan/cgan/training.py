"""Training a conditional generator against a critic: a GAN conditioned on CVs [1]_.

Everything here speaks of features and conditions only, and knows nothing of molecules. The paper's
is the Wasserstein critic with a gradient penalty, conditioned on CVs; ours are a penalty that
vanishes at the optimum (see `critic`), an energy score beside the critic (see `scores`), averaged
weights, and the likelihood where the density is known. ``TrainingSettings(slope=1,
energy_score=0)`` is nearest to the paper.

References
----------
.. [1] E. R. Crabtree, J. M. Bello-Rivas, A. L. Ferguson, I. G. Kevrekidis, Multiscale Model. Simul.
   21, 1122 (2023), doi 10.1137/22M1517834.
"""

import logging
import math
import os
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from tqdm import tqdm

from openmm_cgan.cgan.critic import Critic, gradient_penalty
from openmm_cgan.cgan.scores import clearly_more, energy_score, energy_scores
from openmm_cgan.cgan.settings import TrainingSettings
from openmm_cgan.cgan.training_checkpoint import read_checkpoint, write_checkpoint
from openmm_cgan.cgan.training_data import TrainingData, rows_drawn
from openmm_cgan.devices import adam
from openmm_cgan.signals import StoppedBySignalError, between_steps

STEEPEST = 20.0  # norm of a gradient; a rare steeper one (an outlier of the data) is shortened
LEARNED_BY_HEART = 0.5  # nats that held-out rows lose before it is worth a word
DRAWS = 2  # of each condition, for the energy score: four do no better, at twice the price
WARM_UP = 100  # steps over which the learning rate rises

# features (n, n_features) and CVs (n, n_cvs) to a loss of shape ()
Inconsistency = Callable[[Tensor, Tensor], Tensor]

logger = logging.getLogger("openmm_cgan")


def train(
    generator: Any,
    critic: Critic,
    data: TrainingData,
    settings: TrainingSettings,
    checkpoint: str | os.PathLike[str] | None = None,
    inconsistency: Inconsistency | None = None,
) -> list[dict[str, float]]:
    """Train a generator, which ends with its averaged weights.

    By likelihood alone it ends with those under which held-out rows were likeliest; else with the
    last, unless held-out rows have clearly become worse. It stops where that has lasted for the
    patience of the settings.

    Parameters
    ----------
    generator : Generator
    critic : Critic
    data : TrainingData
    settings : TrainingSettings
    checkpoint : path, optional
        Written with each row of the history; training goes on from it if it exists, and gives the
        same numbers as if it had never stopped.
    inconsistency : callable, optional
        Generated features (n, n_features) and CVs (n, n_cvs) to the loss of consistency.

    Returns
    -------
    list of dict
        ``step``, ``critic_loss`` (0 without a critic), ``generator_loss``, ``held_out`` (mean over
        features of the Wasserstein distance between held-out rows and as many generated ones),
        ``seconds``, ``energy_score`` of the held-out rows where there is a critic, and their
        ``log_likelihood`` where the density is known.

    Raises
    ------
    RuntimeError
        If a loss is not finite; the checkpoint keeps the last good state.
    ValueError
        If the checkpoint belongs to other settings or data.
    StoppedBySignalError
        If SIGTERM or SIGINT came, and there is a checkpoint, which has it all.
    """
    training = _Training(generator, critic, settings, data, inconsistency)
    if checkpoint is not None and Path(checkpoint).exists():
        training.load(checkpoint)
    started = time.perf_counter() - training.seconds
    bar = tqdm(total=settings.steps, initial=training.step, desc="training", disable=None)
    with bar, between_steps(checkpoint is not None) as raise_what_came:
        while training.progress() < 1 and not training.worse:
            training.improve()
            training.seconds = time.perf_counter() - started
            bar.update()
            training.require_finite(checkpoint)
            if training.progress() >= 1 or training.step % settings.report_every == 0:
                training.report()
                logger.getChild("training").debug("a row", extra={"row": training.history[-1]})
                bar.set_postfix(held_out=f"{training.history[-1]['held_out']:.4f}")
                if checkpoint is not None:
                    training.save(checkpoint)
            try:
                raise_what_came()
            except StoppedBySignalError:
                assert checkpoint is not None, "else nobody keeps signals"
                training.save(checkpoint)
                raise
    generator.load_state_dict(training.kept())
    return training.history


class _Training:
    """All that changes during training, and so all that a checkpoint holds."""

    def __init__(
        self,
        generator: Any,
        critic: Critic,
        settings: TrainingSettings,
        data: TrainingData,
        inconsistency: Inconsistency | None = None,
    ) -> None:
        self.generator, self.critic, self.settings, self.data = generator, critic, settings, data
        self.inconsistency = inconsistency
        # Rows stay on the processor, however many they are, and batches go to the networks.
        self.device = next(critic.parameters()).device
        self.held = tuple(
            part.to(self.device) for part in (data.held_features, data.held_condition)
        )
        self.averaged: Any = AveragedModel(generator, multi_avg_fn=self._average)
        self.optimisers = [
            adam(network.parameters(), settings.learning_rate, (0.0, 0.9))
            for network in (generator, critic)
        ]
        self.rng = torch.Generator().manual_seed(settings.seed)
        self.cumulative = data.weights.double().cumsum(0)
        self.step, self.seconds = 0, 0.0
        self.losses: list[tuple[float, float]] = []  # of critic and generator, since the last row
        self.history: list[dict[str, float]] = []
        # the weights that held-out rows liked best, what each lost there, and whether for too long
        self.best: dict[str, Tensor] = {}
        self.least, self.worse = torch.zeros(0), False

    def draw(self) -> Tensor:
        """Rows of a batch."""
        return rows_drawn(self.cumulative, self.settings.batch, self.rng)

    def batch(self) -> tuple[Tensor, Tensor, Tensor]:
        """Features, conditions and CVs of rows drawn, where the networks are."""
        rows, data = self.draw(), self.data
        parts = (part[rows] for part in (data.features, data.condition, data.cvs))
        features, condition, cvs = (part.to(self.device) for part in parts)
        return features, condition, cvs

    def improve(self) -> None:
        """One step of the training."""
        self.set_learning_rates()
        critic_loss = 0.0
        for _ in range(self.settings.critic_steps if self.settings.likelihood_share < 1 else 0):
            critic_loss = self.improve_critic()
        self.losses.append((critic_loss, self.improve_generator()))
        self.step += 1

    def require_finite(self, checkpoint: Any) -> None:
        """Raise RuntimeError if the last losses are not finite."""
        critic_loss, generator_loss = self.losses[-1]
        if not math.isfinite(critic_loss + generator_loss):
            kept = f"{checkpoint} keeps the last good state. " if checkpoint else ""
            raise RuntimeError(
                f"training diverged at step {self.step}: critic_loss is {critic_loss},"
                f" generator_loss {generator_loss}. {kept}Try a lower learning_rate"
            )

    def improve_critic(self) -> float:
        """One critic step: E D(fake) - E D(real) + penalty."""
        features, condition, _ = self.batch()
        with torch.no_grad():
            real = self.critic.see(features)
            fake = self.critic.see(self.generator.sample(condition, self.rng))
        score = self.critic(fake, condition).mean() - self.critic(real, condition).mean()
        slope, weight = self.settings.slope, self.settings.penalty
        penalty = gradient_penalty(self.critic, real, fake, condition, self.rng, slope)
        loss = score + weight * penalty
        self._descend(1, loss)
        return loss.item()

    def improve_generator(self) -> float:
        """One generator step, and the average of its weights.

        The loss is -E D(fake) and the energy score, mixed with -E log q(real) where the density q
        is known.
        """
        features, condition, cvs = self.batch()
        share, weight = self.settings.likelihood_share, self.settings.consistency
        loss = features.new_zeros(())
        if share < 1 or weight > 0:
            repeated = condition.repeat(self._draws(), 1)  # all conditions, then all again
            made = self.generator.sample(repeated, self.rng)
        if share < 1:
            loss = (1 - share) * self._judged(made, condition, features)
        if weight > 0 and self.inconsistency is not None:
            loss = loss + weight * self.inconsistency(made[: len(cvs)], cvs)
        if share > 0:
            loss = loss - share * self.generator.log_prob(features, condition).mean()
        self._descend(0, loss)
        self.averaged.update_parameters(self.generator)
        return loss.item()

    def _draws(self) -> int:
        """Generated rows for each condition of a batch."""
        scored = self.settings.energy_score > 0 and self.settings.likelihood_share < 1
        return DRAWS if scored else 1

    def _judged(self, made: Tensor, condition: Tensor, features: Tensor) -> Tensor:
        """-E D(fake), and the energy score of what the critic sees.

        Parameters
        ----------
        made : Tensor, shape (draws * batch, n_features)
        condition : Tensor, shape (batch, n_condition)
        features : Tensor, shape (batch, n_features)
            What was seen at those conditions.

        Returns
        -------
        Tensor, shape ()
        """
        seen, weight = self.critic.see(made), self.settings.energy_score
        loss = -self.critic(seen[: len(features)], condition).mean()  # of the first draws
        if weight > 0:
            draws = seen.unflatten(0, (self._draws(), len(features)))
            loss = loss + weight * energy_score(draws, self.critic.see(features))
        return loss

    def _descend(self, which: int, loss: Tensor) -> None:
        optimiser = self.optimisers[which]
        optimiser.zero_grad()
        # Only the gradients that are used: the generator's step needs none of the critic's weights.
        parameters = [p for group in optimiser.param_groups for p in group["params"]]
        loss.backward(inputs=parameters)
        if which == 0:
            nn.utils.clip_grad_norm_(parameters, STEEPEST)
        optimiser.step()

    def _average(self, averaged: Any, current: Any, n_averaged: Any) -> None:
        # A short memory at first, so that a short training is not averaged with its beginning.
        decay = min(self.settings.average, (1 + int(n_averaged)) / (10 + int(n_averaged)))
        get_ema_multi_avg_fn(decay)(averaged, current, n_averaged)

    def progress(self) -> float:
        """Part of the training that is done, by steps or by time, whichever is further."""
        return self._part(self.step, self.seconds)

    def _part(self, step: float, seconds: float) -> float:
        limit = self.settings.max_seconds
        by_time = seconds / limit if limit else 0.0
        return min(1.0, max(step / self.settings.steps, by_time))

    def set_learning_rates(self) -> None:
        """Rise over the first steps, then fall along a cosine to a fiftieth."""
        fall = 0.02 + 0.49 * (1 + math.cos(math.pi * self.progress()))
        rate = self.settings.learning_rate * min(1.0, (self.step + 1) / WARM_UP) * fall
        for optimiser in self.optimisers:
            optimiser.param_groups[0]["lr"] = rate

    def report(self) -> None:
        """Add a row to the history, and judge by held-out rows whether it is to be the last."""
        losses = np.mean(self.losses, axis=0)
        self.losses.clear()
        self.data.forget()
        made = self._made()
        held, first = self.held[0].sort(0).values, made[0].sort(0).values
        row = {
            "step": self.step,
            "critic_loss": float(losses[0]),
            "generator_loss": float(losses[1]),
        }
        row |= {"held_out": float((held - first).abs().mean()), "seconds": self.seconds}
        likelihoods = self._log_likelihoods()
        if len(likelihoods):
            row["log_likelihood"] = float(likelihoods.mean())
        losses_of_rows = -likelihoods
        if self.settings.likelihood_share < 1:
            losses_of_rows = energy_scores(made, self.held[0])
            row["energy_score"] = float(losses_of_rows.mean())
        self.history.append(row)
        self._judge(losses_of_rows.cpu())

    def _judge(self, losses: Tensor) -> None:
        """Keep the weights if held-out rows, with these losses (n_held,), are best off with them.

        Else see whether patience is at its end: rows must be worse off by more than chance, for a
        training that has come to rest loses nothing by its end, where the learning rate is least.
        """
        if not self.best or float(losses.mean()) < float(self.least.mean()):
            weights = self.averaged.module.state_dict()
            self.best = {name: tensor.clone() for name, tensor in weights.items()}
            self.least = losses
            return
        best = self._best_row()
        waited = self.progress() - self._part(best["step"], best["seconds"])
        self.worse = waited >= self.settings.patience and clearly_more(losses, self.least)
        if self.worse and self.progress() < 1:
            text = "training stops at step %d of %d: held-out frames were best at step %d"
            logger.info(text, self.step, self.settings.steps, best["step"])

    def _best_row(self) -> dict[str, float]:
        if self.settings.likelihood_share == 1:
            return max(self.history, key=lambda row: row["log_likelihood"])
        return min(self.history, key=lambda row: row.get("energy_score", math.inf))

    def kept(self) -> dict[str, Tensor]:
        """The weights to end with."""
        last = {name: t.clone() for name, t in self.averaged.module.state_dict().items()}
        if not self.best:
            return last
        if self.settings.likelihood_share < 1:
            losses = energy_scores(self._made(), self.held[0]).cpu()
            return self.best if clearly_more(losses, self.least) else last
        best, final = self._best_row(), self.history[-1]
        if best["log_likelihood"] - final["log_likelihood"] > LEARNED_BY_HEART:
            text = "held-out frames were likeliest after %d of %d steps, which are kept: give more"
            logger.warning(text + " frames, or refine", best["step"], final["step"])
        return self.best

    @torch.no_grad()
    def _made(self) -> Tensor:
        """Two draws at the condition of each held-out row, always with the same random numbers."""
        rng = torch.Generator().manual_seed(self.settings.seed)
        draws = 1 if self.settings.likelihood_share == 1 else 2
        made = [self.averaged.module.sample(self.held[1], rng) for _ in range(draws)]
        return torch.stack(made)

    @torch.no_grad()
    def _log_likelihoods(self) -> Tensor:
        """Log likelihood of each held-out row, shape (n_held,); none without a density."""
        if not self.generator.has_density:
            return torch.zeros(0)
        held: Tensor = self.averaged.module.log_prob(*self.held)
        return held

    def _networks(self) -> dict[str, Any]:
        names = ("generator", "critic", "averaged", "generator_optimiser", "critic_optimiser")
        parts = (self.generator, self.critic, self.averaged, *self.optimisers)
        return dict(zip(names, parts, strict=True))

    def _belongs_to(self) -> dict[str, Any]:
        return {"settings": asdict(self.settings), "data": self.data.fingerprint()}

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a checkpoint."""
        state = {name: part.state_dict() for name, part in self._networks().items()}
        state |= {"rng": self.rng.get_state(), "step": self.step, "seconds": self.seconds}
        state |= {"losses": self.losses}
        state |= {"history": self.history, "best": self.best, "belongs_to": self._belongs_to()}
        state |= {"least": self.least, "worse": self.worse}
        write_checkpoint(path, state)

    def load(self, path: str | os.PathLike[str]) -> None:
        """Go on from a checkpoint."""
        state = read_checkpoint(Path(path), self._belongs_to())
        for name, part in self._networks().items():
            part.load_state_dict(state[name])
        self.rng.set_state(state["rng"])
        self.step, self.seconds = state["step"], state["seconds"]
        self.history, self.best = state["history"], state["best"]
        self.losses = state.get("losses", [])  # earlier versions saved with each row only
        if "least" in state:
            self.least, self.worse = state["least"], state["worse"]
        elif self.best:  # saved when the best was known by its mean only
            self.averaged.module.load_state_dict(self.best)
            self.least = -self._log_likelihoods().cpu()
            self.averaged.load_state_dict(state["averaged"])
        logger.info("training goes on from step %d of %s", self.step, path)
