"""Torsions that a flow made, and what they weigh: what it learns to make them by.

How much one well of the torsions weighs against another is an average over all that is stiff, and
the score of some few configurations tells it with more noise than anything else in refining. So
many are made at the same CVs and weighed once, and torsions are learned by weighted likelihood: the
forward Kullback-Leibler distance, by adaptive importance sampling [1]_. A weight is that against
the flow which made it, and stays right when the flow has moved on: what was made serves many steps.

The frame that was seen at the CVs counts as one more configuration there. Where a flow has lost a
well, the frame of that well outweighs the others; where it has not, it is one among many. Weights
are truncated at the square root of their number times their mean [2]_, so that nothing is
learned of one configuration alone.

Where more than half of what was made is effective, less noise is left when what the flow makes
anyway is subtracted: the score of its own configurations is 0 on average, and of a flow that is
right nothing is left at all. Where less is effective, that would be noise itself.

References
----------
.. [1] O. Cappé, R. Douc, A. Guillin, J.-M. Marin, C. P. Robert, Stat. Comput. 18, 447 (2008),
   doi 10.1007/s11222-008-9059-x.
.. [2] E. L. Ionides, J. Comput. Graph. Stat. 17, 295 (2008), doi 10.1198/106186008X320456.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor

from openmm_cgan.cgan.divergences import Target
from openmm_cgan.cgan.effective_share import Places, weighed_at
from openmm_cgan.cgan.training_data import rows_drawn

EACH = 256  # configurations made at each place
GOOD = 0.5  # effective share: of a weight less 1 the variance is then below 1


class WeighedTorsions(NamedTuple):
    """Torsions of configurations made at some places, and of the frames seen there.

    Attributes
    ----------
    torsions : Tensor, shape (n, n_pairs)
        [rad]
    rows : Tensor of int, shape (n,)
        Which condition each was made at.
    weights : Tensor, shape (n,)
        Those of a place add up to 1, to less where they were truncated.
    chances : Tensor, shape (n,)
        In proportion to which they are drawn to be learned from.
    made : Tensor, shape (n,)
        1 where what the flow makes anyway is subtracted, else 0.
    log_q : Tensor, shape (n,)
        Log density of the torsions, as the flow that made them has it.
    """

    torsions: Tensor
    rows: Tensor
    weights: Tensor
    chances: Tensor
    made: Tensor
    log_q: Tensor

    @classmethod
    @torch.no_grad()
    def made_at(
        cls, rows: Tensor, generator: Any, target: Target, places: Places, rng: torch.Generator
    ) -> Self:
        """By a flow, at rows (n,) of the conditions, which are these places."""
        features, logs = weighed_at(generator, target, places, EACH, rng)
        k = logs.shape[1]
        features, condition = features.flatten(0, 1), places.condition.repeat_interleave(k, 0)
        log_q = generator.log_prob_of_torsions(features, condition)
        weights = _truncated(logs)
        good = weights.square().sum(1, keepdim=True) * GOOD * k < weights.sum(1, keepdim=True) ** 2
        chances = torch.where(good, 1 / k, weights)
        parts = (chances, good.expand_as(weights), log_q)
        chances, made, log_q = (part.flatten().double().cpu() for part in parts)
        torsions = generator.torsions_of(features).float().cpu()
        weights = weights.flatten().cpu()
        return cls(torsions, rows.repeat_interleave(k), weights, chances, made, log_q)

    @classmethod
    def joined(cls, parts: Sequence[Self], most: int) -> Self:
        """The last of them, so many at most."""
        return cls(*(torch.cat(kind)[-most:] for kind in zip(*parts, strict=True)))

    def drawn(self, n: int, rng: torch.Generator) -> Self:
        """So many (n,) by their chances; none where nothing has any."""
        cumulative = self.chances.cumsum(0)
        chosen = rows_drawn(cumulative, n if cumulative[-1] > 0 else 0, rng)
        return type(self)(*(part[chosen] for part in self))

    def loss(self, log_q: Tensor) -> Tensor:
        """The forward distance, of what was drawn, whose log densities (n,) are these now.

        Only its derivative has a meaning.
        """
        grown = (log_q.detach().double().cpu() - self.log_q).exp().clamp(max=EACH**0.5)
        pull = self.weights / self.chances - self.made * grown
        return -(pull.to(log_q) * log_q).sum() / max(1, len(log_q))


def _truncated(logs: Tensor) -> Tensor:
    """Weights of each place (n, k) of their logarithms (n, k)."""
    weights = torch.nan_to_num(logs.double().softmax(1))  # no number where all are -inf
    return weights.clamp(max=logs.shape[1] ** -0.5)
