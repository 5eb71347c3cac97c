"""The conditional GAN: critic and losses, the training loop, and the trained artefact.

WGAN-GP [1]_ conditioned on collective variables, as in "GANs and Closures" [2]_: the generator
turns noise and CVs into features of a configuration, the critic judges features beside their CVs.

References
----------
.. [1] I. Gulrajani et al., Advances in Neural Information Processing Systems 30 (2017),
   arXiv 1704.00028.
.. [2] E. R. Crabtree, J. M. Bello-Rivas, A. L. Ferguson, I. G. Kevrekidis, Multiscale Model. Simul.
   21, 1122 (2023), doi 10.1137/22M1517834.
"""

import hashlib
import io
import json
import logging
import math
import os
import time
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from tqdm import tqdm

from openmm_cgan import __version__
from openmm_cgan.features import Features
from openmm_cgan.frames import Frames, read_frames, topology_hash
from openmm_cgan.generators import KINDS, MLPGenerator, perceptron
from openmm_cgan.internal_coordinates import ZMatrix
from openmm_cgan.plumed.colvar import CollectiveVariable

FORMAT = "openmm_cgan.ConditionalGAN"
FORMAT_VERSION = 1
MAX_BYTES = 2**30  # of an artefact once unpacked
CHUNK = 2048  # configurations made at a time: large enough for speed, small enough for caches
MARGIN = 0.25  # conditions may lie outside the range trained on by this part of its width
LEAST_FRAMES = 20
HELD_OUT = 2000  # frames at most, and a twentieth of all, that are never trained on
WARM_UP = 100  # steps over which the learning rate rises
BROKEN = 0.6  # nm: a longer bond means a molecule cut by the periodic boundary

logger = logging.getLogger("openmm_cgan")


@dataclass(frozen=True)
class TrainingSettings:
    """How a conditional GAN is trained.

    Parameters
    ----------
    steps : int
        Generator steps.
    batch : int
        Frames a step.
    critic_steps : int
        Critic steps before each generator step.
    learning_rate : float
        Of both networks; it falls along a cosine to a fiftieth.
    penalty : float
        Weight of the gradient penalty.
    average : float
        Decay of the exponential moving average of the generator's weights, which is what is kept.
    width, depth : int
        Hidden layers of both networks.
    flatten : float
        Frames are drawn with weight density^-flatten, density being that of the CVs: 1 trains all
        visited CV values alike, 0 as often as the run visited them. p(x | cv) is the same.
    max_frames : int
        Frames used at most, drawn at random.
    max_seconds : float, optional
        Stop after this time. The result then depends on the machine's speed, and is no longer the
        same for the same seed.
    report_every : int
        Steps between rows of the history, and between checkpoints.
    seed : int
    """

    steps: int = 6000
    batch: int = 256
    critic_steps: int = 1
    learning_rate: float = 1e-3
    penalty: float = 1.0
    average: float = 0.999
    width: int = 128
    depth: int = 2
    flatten: float = 1.0
    max_frames: int = 200_000
    max_seconds: float | None = None
    report_every: int = 100
    seed: int = 0

    def __post_init__(self) -> None:
        for f in fields(self):
            value, least = getattr(self, f.name), 1 if f.type is int and f.name != "seed" else 0
            if value is not None and not (math.isfinite(value) and value >= least):
                raise ValueError(f"TrainingSettings({f.name}={value}): expected at least {least}")
        if self.average >= 1:
            raise ValueError(f"TrainingSettings(average={self.average}): expected less than 1")


class Critic(nn.Module):
    """Judges features beside their condition; the second half of a Wasserstein GAN.

    Parameters
    ----------
    n_linear, n_pairs, n_condition : int
        As for the generator.
    width, depth : int
        Of the hidden layers.
    """

    def __init__(
        self, n_linear: int, n_pairs: int, n_condition: int, width: int = 128, depth: int = 2
    ) -> None:
        super().__init__()
        self.n_linear = n_linear
        self.layers = perceptron(n_linear + 6 * n_pairs + n_condition, width, depth, 1)

    def see(self, features: Tensor) -> Tensor:
        """Features, and second and third harmonics of the pairs: methyl groups have three wells."""
        cosine, sine = features[:, self.n_linear :].chunk(2, dim=1)
        cosine2, sine2 = cosine * cosine - sine * sine, 2 * cosine * sine
        cosine3, sine3 = cosine2 * cosine - sine2 * sine, cosine2 * sine + sine2 * cosine
        return torch.cat([features, cosine2, sine2, cosine3, sine3], dim=1)

    def forward(self, seen: Tensor, condition: Tensor) -> Tensor:
        """Score (n,) of what `see` gave and of conditions (n, n_condition)."""
        return self.layers(torch.cat([seen, condition], dim=1))[:, 0]


def gradient_penalty(
    critic: Callable[[Tensor, Tensor], Tensor],
    real: Tensor,
    fake: Tensor,
    condition: Tensor,
    rng: torch.Generator,
) -> Tensor:
    """Mean of (|grad D| - 1)^2 at random points between real and generated rows.

    The gradient is that with respect to what the critic sees, at a fixed condition.
    """
    mix = torch.rand(len(real), 1, generator=rng, dtype=real.dtype)
    between = torch.lerp(real, fake, mix).requires_grad_()
    score = critic(between, condition).sum()
    (gradient,) = torch.autograd.grad(score, between, create_graph=True)
    return (gradient.norm(dim=1) - 1).square().mean()


@dataclass(frozen=True, eq=False)
class TrainingData:
    """Rows to train on, the probability of drawing each, and rows held out.

    features (n, n_features) and condition (n, n_condition), float32; weights (n,).
    """

    features: Tensor
    condition: Tensor
    weights: Tensor
    held_features: Tensor
    held_condition: Tensor

    @classmethod
    def split(
        cls, features: Tensor, condition: Tensor, weights: Tensor, seed: int
    ) -> "TrainingData":
        """Hold out a twentieth of the rows, at most `HELD_OUT`."""
        rng = torch.Generator().manual_seed(seed)
        order = torch.randperm(len(features), generator=rng)
        held, kept = order.tensor_split([min(HELD_OUT, max(1, len(order) // 20))])
        features, condition = features.float(), condition.float()
        return cls(
            features[kept], condition[kept], weights[kept], features[held], condition[held]
        )

    def fingerprint(self) -> str:
        """Hash of all rows, by which a checkpoint knows its data."""
        parts = (self.features, self.condition, self.weights, self.held_features)
        joined = b"".join(hashlib.sha256(p.contiguous().numpy().tobytes()).digest() for p in parts)
        return hashlib.sha256(joined).hexdigest()


def train(
    generator: Any,
    critic: Critic,
    data: TrainingData,
    settings: TrainingSettings,
    checkpoint: str | os.PathLike[str] | None = None,
) -> list[dict[str, float]]:
    """Train a generator, which ends with its averaged weights.

    Parameters
    ----------
    generator : Generator
    critic : Critic
    data : TrainingData
    settings : TrainingSettings
    checkpoint : path, optional
        Written with each row of the history; training goes on from it if it exists, and gives the
        same numbers as if it had never stopped.

    Returns
    -------
    list of dict
        ``step``, ``critic_loss``, ``generator_loss``, ``held_out`` (mean over features of the
        Wasserstein distance between held-out rows and as many generated ones), ``seconds``.

    Raises
    ------
    RuntimeError
        If a loss is not finite; the checkpoint keeps the last good state.
    ValueError
        If the checkpoint belongs to other settings or data.
    """
    training = _Training(generator, critic, settings, data)
    if checkpoint is not None and Path(checkpoint).exists():
        training.load(checkpoint)
    started = time.perf_counter() - training.seconds
    bar = tqdm(total=settings.steps, initial=training.step, desc="training", disable=None)
    losses: list[tuple[float, float]] = []
    with bar:
        while training.step < settings.steps:
            training.set_learning_rates()
            for _ in range(settings.critic_steps):
                critic_loss = training.improve_critic()
            generator_loss = training.improve_generator()
            training.step += 1
            training.seconds = time.perf_counter() - started
            losses.append((critic_loss, generator_loss))
            bar.update()
            if not math.isfinite(critic_loss + generator_loss):
                kept = f"{checkpoint} keeps the last good state" if checkpoint else "nothing is kept"
                raise RuntimeError(
                    f"training diverged at step {training.step}: critic loss {critic_loss}, generator"
                    f" loss {generator_loss}; {kept}. Try a lower learning_rate"
                )
            late = training.progress() >= 1
            if late or training.step % settings.report_every == 0:
                training.report(np.mean(losses, axis=0))
                bar.set_postfix(held_out=f"{training.history[-1]['held_out']:.4f}")
                losses.clear()
                if checkpoint is not None:
                    training.save(checkpoint)
            if late:
                break
    generator.load_state_dict(training.averaged.module.state_dict())
    return training.history


class _Training:
    """All that changes during training, and so all that a checkpoint holds."""

    def __init__(
        self, generator: Any, critic: Critic, settings: TrainingSettings, data: TrainingData
    ) -> None:
        self.generator, self.critic, self.settings, self.data = generator, critic, settings, data
        self.averaged = AveragedModel(generator, multi_avg_fn=self._average)
        self.optimisers = [
            torch.optim.Adam(network.parameters(), settings.learning_rate, (0.0, 0.9), fused=True)
            for network in (generator, critic)
        ]
        self.rng = torch.Generator().manual_seed(settings.seed)
        self.cumulative = data.weights.double().cumsum(0)
        self.step, self.seconds = 0, 0.0
        self.history: list[dict[str, float]] = []

    def draw(self) -> tuple[Tensor, Tensor]:
        """Features and conditions of a batch."""
        u = torch.rand(self.settings.batch, generator=self.rng, dtype=torch.float64)
        rows = torch.searchsorted(self.cumulative, u * self.cumulative[-1])
        rows = rows.clamp(max=len(self.cumulative) - 1)
        return self.data.features[rows], self.data.condition[rows]

    def improve_critic(self) -> float:
        """One critic step: E D(fake) - E D(real) + penalty."""
        features, condition = self.draw()
        with torch.no_grad():
            real = self.critic.see(features)
            fake = self.critic.see(self.generator.sample(condition, self.rng))
        score = self.critic(fake, condition).mean() - self.critic(real, condition).mean()
        penalty = gradient_penalty(self.critic, real, fake, condition, self.rng)
        loss = score + self.settings.penalty * penalty
        self._descend(1, loss)
        return float(loss)

    def improve_generator(self) -> float:
        """One generator step, -E D(fake), and the average of its weights."""
        condition = self.draw()[1]
        fake = self.critic.see(self.generator.sample(condition, self.rng))
        loss = -self.critic(fake, condition).mean()
        self._descend(0, loss)
        self.averaged.update_parameters(self.generator)
        return float(loss)

    def _descend(self, which: int, loss: Tensor) -> None:
        optimiser = self.optimisers[which]
        optimiser.zero_grad()
        # Only the gradients that are used: the generator's step needs none of the critic's weights.
        loss.backward(inputs=[p for group in optimiser.param_groups for p in group["params"]])
        optimiser.step()

    def _average(self, averaged: Any, current: Any, n_averaged: Any) -> None:
        # A short memory at first, so that a short training is not averaged with its beginning.
        decay = min(self.settings.average, (1 + int(n_averaged)) / (10 + int(n_averaged)))
        get_ema_multi_avg_fn(decay)(averaged, current, n_averaged)

    def progress(self) -> float:
        """Part of the training that is done, by steps or by time, whichever is further."""
        limit = self.settings.max_seconds
        by_time = self.seconds / limit if limit else 0.0
        return min(1.0, max(self.step / self.settings.steps, by_time))

    def set_learning_rates(self) -> None:
        """Rise over the first steps, then fall along a cosine to a fiftieth."""
        fall = 0.02 + 0.49 * (1 + math.cos(math.pi * self.progress()))
        rate = self.settings.learning_rate * min(1.0, (self.step + 1) / WARM_UP) * fall
        for optimiser in self.optimisers:
            optimiser.param_groups[0]["lr"] = rate

    def report(self, losses: np.ndarray) -> None:
        """Add a row to the history."""
        rng = torch.Generator().manual_seed(self.settings.seed)
        with torch.no_grad():
            made = self.averaged.module.sample(self.data.held_condition, rng)
        held, made = self.data.held_features.sort(0).values, made.sort(0).values
        row = {"step": self.step, "critic_loss": float(losses[0]), "generator_loss": float(losses[1])}
        row |= {"held_out": float((held - made).abs().mean()), "seconds": self.seconds}
        self.history.append(row)

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
        state |= {"history": self.history, "belongs_to": self._belongs_to()}
        buffer = io.BytesIO()
        torch.save(state, buffer)
        _write(path, buffer.getvalue())

    def load(self, path: str | os.PathLike[str]) -> None:
        """Go on from a checkpoint."""
        try:
            state = torch.load(path, weights_only=True)
            belongs_to = state["belongs_to"]
        except Exception as error:
            raise ValueError(
                f"{path} is no checkpoint of a training, or is damaged ({error}): delete it or name"
                " another to start afresh"
            ) from error
        for what, ours in self._belongs_to().items():
            if belongs_to[what] != ours:
                raise ValueError(
                    f"the checkpoint {path} was made with other {what}: {belongs_to[what]}, now {ours}."
                    " Delete it or name another to start afresh"
                )
        for name, part in self._networks().items():
            part.load_state_dict(state[name])
        self.rng.set_state(state["rng"])
        self.step, self.seconds = state["step"], state["seconds"]
        self.history = state["history"]
        logger.info("training goes on from step %d of %s", self.step, path)


@dataclass(frozen=True, eq=False)
class ConditionalGAN:
    """A trained conditional generator: configurations at any CV values asked for.

    Made by `fit` or `load`.

    Attributes
    ----------
    features : Features
        Scaling of the internal coordinates; holds the Z-matrix and the CVs.
    generator : Generator
    topology_hash : str
        Of the whole topology it was trained for.
    cv_range : ndarray, shape (n_cvs, 2)
        Lowest and highest CV values trained on [CV units].
    settings : TrainingSettings
    history : list of dict
        Rows as `train` gives them; ``seconds`` are not saved.
    temperature : float or None
        Of the run that was trained on [K].
    versions : dict
        Versions of this package and of torch that trained it.
    """

    features: Features
    generator: Any
    topology_hash: str
    cv_range: np.ndarray
    settings: TrainingSettings
    history: list[dict[str, float]]
    temperature: float | None
    versions: dict[str, str]

    @classmethod
    def fit(
        cls,
        frames: Frames | str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
        topology: Any,
        settings: TrainingSettings | None = None,
        *,
        checkpoint: str | os.PathLike[str] | None = None,
    ) -> "ConditionalGAN":
        """Train on the frames of a run.

        Parameters
        ----------
        frames : Frames, or path or paths for `read_frames`
        topology : openmm.app.Topology
            Of the whole system; the frames may hold some of its atoms.
        settings : TrainingSettings, optional
        checkpoint : path, optional
            Written while training; training goes on from it if it exists.

        Raises
        ------
        ValueError
            If there are too few frames or no CVs, if frames and topology do not belong together, or
            if the checkpoint belongs to another training.
        RuntimeError
            If training diverges.
        """
        settings = settings or TrainingSettings()
        if not isinstance(frames, Frames):
            frames = read_frames(frames)  # type: ignore[arg-type]
        found = topology_hash(topology)
        _check_frames(frames, found)
        rng = np.random.default_rng(settings.seed)
        if len(frames) > settings.max_frames:
            frames = frames.select(np.sort(rng.permutation(len(frames))[: settings.max_frames]))
        features, encoded = _features_of(frames, topology)
        condition = features.condition(torch.from_numpy(frames.cvs))
        weights = torch.from_numpy(flat_weights(frames, settings.flatten))
        data = TrainingData.split(encoded, condition, weights, settings.seed)
        sizes = (features.n_linear, features.n_pairs, features.n_condition)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(settings.seed)
            generator = MLPGenerator(*sizes, settings.width, settings.depth)
            critic = Critic(*sizes, settings.width, settings.depth)
        generator.start_from(data.features, data.condition)
        history = train(generator, critic, data, settings, checkpoint)
        cv_range = np.stack([frames.cvs.min(0), frames.cvs.max(0)], axis=1)
        versions = {"openmm_cgan": __version__, "torch": torch.__version__}
        return cls(
            features, generator, found, cv_range, settings, history, frames.temperature, versions
        )

    @property
    def variables(self) -> tuple[CollectiveVariable, ...]:
        """The CVs, in the order of the columns of ``cvs``."""
        return self.features.variables

    @property
    def n_atoms(self) -> int:
        """Number of atoms of a configuration."""
        return self.features.z_matrix.n_atoms

    @property
    def atoms(self) -> np.ndarray:
        """Their indices in the whole topology, shape (n_atoms,)."""
        return self.features.z_matrix.atoms

    def sample(self, cvs: Any, n: int | None = None, seed: int = 0) -> np.ndarray:
        """Configurations at CV values.

        Parameters
        ----------
        cvs : array_like, shape (n_cvs,) or (m, n_cvs)
            Values asked for [CV units]: one row for all, or one for each configuration.
        n : int, optional
            Number of configurations at a single row (1 if omitted).
        seed : int

        Returns
        -------
        ndarray, shape (n or m, n_atoms, 3)
            Positions [nm], float64, first atom at the origin. CVs that are bonds, angles or
            torsions of the Z-matrix have the values asked for to 1e-10.

        Raises
        ------
        ValueError
            If a value is not finite, or far outside its domain or the range trained on.
        """
        targets = self._targets(cvs, n)
        rng = torch.Generator().manual_seed(seed)
        positions = np.empty((len(targets), self.n_atoms, 3))
        with torch.no_grad():
            for start in range(0, len(targets), CHUNK):
                part = targets[start : start + CHUNK]
                made = self.generator.sample(self.features.condition(part).float(), rng)
                internal = self.features.decode(made, part)
                x = self.features.z_matrix.to_cartesian(internal)
                positions[start : start + CHUNK] = x.numpy()
        return positions

    def _targets(self, cvs: Any, n: int | None) -> Tensor:
        """Checked CV values (m, n_cvs), one row for each configuration."""
        values = np.asarray(cvs, dtype=np.float64)
        names = ", ".join(v.name for v in self.variables)
        n_cvs = len(self.variables)
        if values.shape == (n_cvs,):
            values = np.repeat(values[None], 1 if n is None else n, axis=0)
        if values.ndim != 2 or values.shape[1] != n_cvs or n not in (None, len(values)):
            raise ValueError(
                f"cvs has shape {np.shape(cvs)} with n={n}, but the generator was trained on"
                f" {n_cvs} CVs ({names}): give ({n_cvs},) with n, or (m, {n_cvs}) without"
            )
        limits = np.array(list(map(self._limits, range(n_cvs)))).reshape(n_cvs, 2)
        good = np.isfinite(values) & (values >= limits[:, 0]) & (values <= limits[:, 1])
        for k in np.flatnonzero(~good.all(axis=0)):
            variable, wrong = self.variables[k], values[~good[:, k], k]
            raise ValueError(
                f"{variable.name} = {wrong[0]:g} {variable.unit} is asked for ({len(wrong)} of"
                f" {len(values)} rows), expected a number from {limits[k, 0]:.4g} to"
                f" {limits[k, 1]:.4g}: training saw {self.cv_range[k, 0]:.4g} to"
                f" {self.cv_range[k, 1]:.4g}"
            )
        return torch.from_numpy(values)

    def _limits(self, k: int) -> tuple[float, float]:
        """Lowest and highest value of a CV that may be asked for."""
        variable, (low, high) = self.variables[k], self.cv_range[k].tolist()
        if variable.domain is not None:  # a turn too many is no mistake, but degrees are
            half = 0.5 * (variable.domain[1] - variable.domain[0])
            return variable.domain[0] - half, variable.domain[1] + half
        margin = MARGIN * (high - low)
        least, most = self.features.placeable(k)
        return max(low - margin, least), min(high + margin, most)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the artefact: a zip of arrays, readable by ``numpy.load``, without pickle."""
        metadata = {
            "format": FORMAT,
            "format_version": FORMAT_VERSION,
            "versions": self.versions,
            "units": {"length": "nm", "angle": "rad", "temperature": "K"},
            "variables": [v.to_dict() for v in self.variables],
            "topology_hash": self.topology_hash,
            "temperature": self.temperature,
            "generator": {"kind": type(self.generator).__name__, **self.generator.settings},
            "settings": asdict(self.settings),
            "history": [{k: v for k, v in row.items() if k != "seconds"} for row in self.history],
        }
        text = json.dumps(metadata, indent=1).encode()
        arrays = {"metadata": np.frombuffer(text, np.uint8), "cv_range": self.cv_range}
        arrays |= {"rows": self.features.z_matrix.rows, "atoms": self.atoms}
        for name, part in (("features", self.features), ("generator", self.generator)):
            arrays |= {f"{name}.{k}": v.numpy() for k, v in part.state_dict().items()}
        buffer = io.BytesIO()
        np.savez(buffer, **arrays)  # type: ignore[arg-type]
        _write(path, buffer.getvalue())

    @classmethod
    def load(cls, path: str | os.PathLike[str], topology: Any = None) -> "ConditionalGAN":
        """Read an artefact.

        Parameters
        ----------
        path : path
        topology : openmm.app.Topology, optional
            Refused unless it is the one trained on.

        Raises
        ------
        FileNotFoundError
            If there is no such file.
        ValueError
            If the file is no artefact, is damaged, or belongs to another topology.
        """
        metadata, arrays = _read(Path(path))
        found = metadata["topology_hash"]
        if topology is not None and topology_hash(topology) != found:
            raise ValueError(
                f"{path} was trained for another topology: its hash is {found[:12]}..., that of the"
                f" topology given is {topology_hash(topology)[:12]}...; give the one it was trained"
                " with, or train again"
            )
        try:
            variables = [CollectiveVariable.from_dict(d) for d in metadata["variables"]]
            z_matrix = ZMatrix(arrays["rows"], arrays["atoms"])
            features = Features(z_matrix, variables, _tensors(arrays, "features."))
            options = dict(metadata["generator"])
            generator = KINDS[options.pop("kind")](**options)
            generator.load_state_dict(_tensors(arrays, "generator."))
            settings = TrainingSettings(**metadata["settings"])
            gan = cls(
                features, generator, found, arrays["cv_range"], settings, metadata["history"],
                metadata["temperature"], metadata["versions"],
            )  # fmt: skip
            made = gan.sample(gan.cv_range.mean(axis=1))  # wrong sizes and indices show themselves
            if not np.isfinite(made).all():
                raise ValueError("it generates positions that are not finite")
        except Exception as error:
            raise ValueError(f"{path} is damaged: {type(error).__name__}: {error}") from error
        return gan
