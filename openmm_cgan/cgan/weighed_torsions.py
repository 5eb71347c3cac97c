"""Torsions that a flow made, and what they weigh: what it learns to make them by.

How much one well of the torsions weighs against another is an average over all that is stiff, and
the score of some few configurations tells it with more noise than anything else in refining. So
many are made at the same CVs and weighed once, and torsions are learned by weighted likelihood: the
forward Kullback-Leibler distance, by adaptive importance sampling [1]_. A weight is that against
the flow which made it, and stays right when the flow has moved on: what was made serves many steps.

Weights are truncated at the square root of their number times their mean [2]_, so that nothing is
learned of one configuration alone. The frame that was seen at the CVs counts beside them as one of
so many, whatever it weighs: so a well that the flow has lost is made again, as often as once in so
many, and then weighed.

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
MOST_BYTES = 2**26  # of those that are kept: they are in each checkpoint


class WeighedTorsions(NamedTuple):
    """Torsions of configurations made at some places, and of the frames seen there.

    Attributes
    ----------
    torsions : Tensor, shape (n, n_pairs)
        [rad]
    rows : Tensor of int, shape (n,)
        Which condition each was made at.
    weights : Tensor, shape (n,)
        Those of what was made at a place add up to 1, to less where they were truncated.
    """

    torsions: Tensor
    rows: Tensor
    weights: Tensor

    @classmethod
    @torch.no_grad()
    def made_at(
        cls, rows: Tensor, generator: Any, target: Target, places: Places, rng: torch.Generator
    ) -> Self:
        """By a flow, at rows (n,) of the conditions, which are these places."""
        features, logs = weighed_at(generator, target, places, EACH, rng)
        own, seen = _truncated(logs[:, :EACH]), logs[:, EACH:].isfinite() / EACH
        torsions = generator.torsions_of(features.flatten(0, 1)).float().cpu()
        weights = torch.cat([own, seen], dim=1).flatten().cpu()
        return cls(torsions, rows.repeat_interleave(logs.shape[1]), weights)

    @classmethod
    def joined(cls, parts: Sequence[Self], most: int) -> Self:
        """The last of them, so many at most, and of whole places what `MOST_BYTES` hold."""
        place = (EACH + 1) * sum(part[:1].nbytes for part in parts[-1])
        kept = min(most, (EACH + 1) * max(1, MOST_BYTES // place))
        # as tensors of their own: a file has all of what a view is a part of
        return cls(*(torch.cat(kind)[-kept:].clone() for kind in zip(*parts, strict=True)))

    def drawn(self, n: int, rng: torch.Generator) -> Self:
        """So many (n,) by their weights; none where nothing has any."""
        cumulative = self.weights.cumsum(0)
        chosen = rows_drawn(cumulative, n if cumulative[-1] > 0 else 0, rng)
        return type(self)(*(part[chosen] for part in self))


def _truncated(logs: Tensor) -> Tensor:
    """Weights of each place (n, k) of their logarithms (n, k)."""
    weights = torch.nan_to_num(logs.double().softmax(1))  # no number where all are -inf
    return weights.clamp(max=logs.shape[1] ** -0.5)
