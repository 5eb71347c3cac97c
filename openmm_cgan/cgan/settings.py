"""How a conditional generator is trained: steps, sizes, weights of the losses.

References
----------
.. [1] E. R. Crabtree, J. M. Bello-Rivas, A. L. Ferguson, I. G. Kevrekidis, Multiscale Model. Simul.
   21, 1122 (2023), doi 10.1137/22M1517834.
"""

import math
from dataclasses import dataclass, fields

from openmm_cgan.generators import KINDS
from openmm_cgan.quantities import has_units


@dataclass(frozen=True)
class TrainingSettings:
    """How a conditional GAN is trained.

    Parameters
    ----------
    generator : {"MLPGenerator", "FlowGenerator"}
        The paper's, or one whose density is known.
    likelihood : float, optional
        Share of the likelihood in what the generator is trained for, from 0 (the critic alone) to 1
        (no critic at all); anything but 0 needs a FlowGenerator. 1 for a FlowGenerator and 0 for an
        MLPGenerator if omitted.
    consistency : float
        Weight of the mean square of restriction(lifting(c)) - c, in standard deviations of the CVs;
        needs ``restriction`` in `ConditionalGAN.fit`. For CVs that are no internal coordinates.
    symmetrise : bool
        Exchange equivalent hydrogens of the frames (CH3, NH3+) at random. Their wells are equally
        likely, but a run of nanoseconds does not visit them so.
    condition_noise : float
        With a FlowGenerator a CV that is no internal coordinate is blurred by a normal deviate of
        this size [standard deviations of the CV]: the density of such a condition is then known.
    steps : int
        Generator steps.
    batch : int
        Frames a step.
    critic_steps : int
        Critic steps before each generator step.
    learning_rate : float
        Of both networks; it falls along a cosine to a fiftieth.
    penalty, slope : float
        Weight of the gradient penalty, and the gradient norm that costs nothing (1 in the paper).
    energy_score : float
        Weight of the energy score beside the critic in what the generator is trained for. It keeps
        the width of p(x | cv), about which generator and critic alone circle. 0 for the paper's
        critic alone; without effect by likelihood alone.
    average : float
        Decay of the exponential moving average of the generator's weights, which is what is kept.
    width, depth : int
        Hidden layers of both networks.
    flatten : float
        Frames are drawn with weight density^-flatten, density being that of the CVs: 1 trains all
        visited CV values alike, 0 as often as the run visited them. p(x | cv) is the same; rare CV
        values gain only if there are many frames.
    max_frames : int
        Frames used at most, drawn at random. Arrays of them that are larger than 1 GiB, or than
        OPENMM_CGAN_MEMORY in the environment, lie in temporary files.
    max_seconds : float, optional
        Stop after this time. The result then depends on the machine's speed, and is no longer the
        same for the same seed.
    report_every : int
        Steps between rows of the history, and between checkpoints.
    patience : float
        Training stops where held-out frames have clearly been worse than at their best for this
        part of the training, and keeps what was best; 1: never.
    seed : int
    """

    generator: str = "MLPGenerator"
    likelihood: float | None = None
    consistency: float = 0.0
    symmetrise: bool = True
    condition_noise: float = 0.1
    steps: int = 8000
    batch: int = 256
    critic_steps: int = 1
    learning_rate: float = 2e-3
    penalty: float = 0.5
    slope: float = 0.0
    energy_score: float = 1.0
    average: float = 0.999
    width: int = 128
    depth: int = 2
    flatten: float = 0.0
    max_frames: int = 200_000
    max_seconds: float | None = None
    report_every: int = 100
    patience: float = 0.25
    seed: int = 0

    def __post_init__(self) -> None:
        _require_plain(self)
        if self.generator not in KINDS:
            raise ValueError(
                f"TrainingSettings(generator={self.generator!r}): expected one of"
                f" {', '.join(KINDS)}"
            )
        for f in fields(self):
            value, least = vars(self)[f.name], 1 if f.type is int and f.name != "seed" else 0
            if isinstance(value, str | None):
                continue
            if not (math.isfinite(value) and value >= least):
                raise ValueError(f"TrainingSettings({f.name}={value}): expected at least {least}")
        if self.average >= 1:
            raise ValueError(f"TrainingSettings(average={self.average}): expected less than 1")
        density = KINDS[self.generator].has_density
        if self.likelihood is not None and not 0 <= self.likelihood <= (1 if density else 0):
            raise ValueError(
                f"TrainingSettings(likelihood={self.likelihood}): expected 0 to 1 with a"
                f" FlowGenerator and 0 with an MLPGenerator, and this is a {self.generator}"
            )

    @property
    def likelihood_share(self) -> float:
        """`likelihood`, or what stands for it."""
        if self.likelihood is not None:
            return self.likelihood
        return 1.0 if KINDS[self.generator].has_density else 0.0


@dataclass(frozen=True)
class RefiningSettings:
    """How a flow is refined.

    Parameters
    ----------
    steps, batch : int
        Each step costs one energy and its forces for each of a batch, twice with frames, and once
        more where there are torsions to weigh: those of 50 steps are weighed at once, and of the
        latest 64 MB are kept, in memory and in a checkpoint.
    learning_rate : float
        It rises over the first steps, and then falls along a cosine to a fiftieth.
    average : float
        Decay of the moving average of the weights, which is what is kept.
    frames_share : float
        Share of frames, where `refine` is given any, in what is learned of stiff coordinates, from
        0 to 1; the rest are configurations that the flow makes.
    flatten : float
        Frames are drawn with weight density^-flatten, density being that of the CVs, as by
        TrainingSettings. The energy says of rare CV values as much as of others: 1 refines all
        visited ones alike.
    max_seconds : float, optional
        Stop after this time.
    report_every : int
        Steps between rows of the history.
    seed : int
    """

    steps: int = 1000
    batch: int = 256
    learning_rate: float = 2e-3
    average: float = 0.99
    frames_share: float = 0.5
    flatten: float = 1.0
    max_seconds: float | None = None
    report_every: int = 50
    seed: int = 0

    def __post_init__(self) -> None:
        _require_plain(self)
        counts = (("steps", self.steps), ("batch", self.batch), ("report_every", self.report_every))
        for name, value in counts:
            if value < 1:
                raise ValueError(f"RefiningSettings({name}={value}): expected >= 1")
        if not (math.isfinite(self.learning_rate) and self.learning_rate > 0):
            raise ValueError(
                f"RefiningSettings(learning_rate={self.learning_rate}): expected a positive number"
            )
        if not 0 <= self.frames_share <= 1:
            raise ValueError(f"RefiningSettings(frames_share={self.frames_share}): expected 0 to 1")
        if not (math.isfinite(self.flatten) and self.flatten >= 0):
            raise ValueError(f"RefiningSettings(flatten={self.flatten}): expected a number >= 0")


def _require_plain(settings: TrainingSettings | RefiningSettings) -> None:
    """Refuse what has units: nothing of how networks are trained has."""
    for name, value in vars(settings).items():
        if has_units(value):
            raise ValueError(f"{type(settings).__name__}({name}={value}): expected a plain number")
