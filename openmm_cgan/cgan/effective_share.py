"""How good a flow is at fixed CVs: Kish's share of what it makes that is effective.

The frame that was seen at the CVs is weighed among what the flow makes there. A flow that has lost
a well looks well by its own configurations alone; a frame of that well then outweighs them all.
"""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from openmm_cgan.cgan.divergences import Target
from openmm_cgan.short_reprs import short_repr

PLACES, EACH = 32, 32  # CV values looked at, and configurations made at each


@dataclass(frozen=True, repr=False)
class Places:
    """CV values at which a flow is weighed.

    Attributes
    ----------
    cvs : Tensor, shape (n, n_cvs)
        [CV units]
    condition : Tensor, shape (n, n_condition)
        The same, as a generator takes them.
    frames : Tensor, shape (n or 0, n_features)
        Features of frames seen there; none where none are known.
    """

    cvs: Tensor
    condition: Tensor
    frames: Tensor

    __repr__ = short_repr


@torch.no_grad()
def weighed_at(
    generator: Any, target: Target, places: Places, each: int, rng: torch.Generator
) -> tuple[Tensor, Tensor]:
    """What a flow makes at some places, with the frames seen there, and what it weighs.

    Parameters
    ----------
    generator : DensityGenerator
    target : Target
    places : Places
    each : int
        Configurations made at each of them.
    rng : torch.Generator

    Returns
    -------
    features : Tensor, shape (n, each or each + 1, n_features)
        The frame of a place is the last.
    log_weights : Tensor, shape (n, each or each + 1)
        Density over that of the generator; -inf of what does not count.
    """
    cvs = places.cvs.repeat_interleave(each, 0)
    condition = places.condition.repeat_interleave(each, 0)
    made, log_q = generator.sample_with_log_prob(condition, rng)
    logs = _log_weights(target, made, log_q, cvs).view(-1, each)
    features = made.view(-1, each, made.shape[1])
    if not len(places.frames):
        return features, logs
    log_q = generator.log_prob(places.frames, places.condition)
    own = _log_weights(target, places.frames, log_q, places.cvs)
    features = torch.cat([features, places.frames[:, None]], dim=1)
    return features, torch.cat([logs, own[:, None]], dim=1)


def effective_share(generator: Any, target: Target, places: Places, seed: int = 0) -> float:
    """Geometric mean over places of Kish's effective number over the number weighed.

    Parameters
    ----------
    generator : DensityGenerator
    target : Target
    places : Places
    seed : int

    Returns
    -------
    float
        From 1 / (the number weighed at a place) to 1.
    """
    _, logs = weighed_at(generator, target, places, EACH, torch.Generator().manual_seed(seed))
    kish = 2 * logs.logsumexp(1) - (2 * logs).logsumexp(1)
    least = kish.isfinite().logical_not() | (kish < 0)  # no weight at all: as bad as it can be
    return float((torch.where(least, 0.0, kish).mean() - math.log(logs.shape[1])).exp())


def _log_weights(target: Target, features: Tensor, log_q: Tensor, cvs: Tensor) -> Tensor:
    """log of density over that of the generator (n,)."""
    logs = -(target.reduced_energy(features, cvs) + log_q.double())
    known = logs.isfinite() & target.features.within(features)
    return torch.where(known, logs, -math.inf)
