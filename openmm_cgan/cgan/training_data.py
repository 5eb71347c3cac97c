"""The rows of a training: those drawn from, and those held out."""

import hashlib
from dataclasses import dataclass

import torch
from torch import Tensor

from openmm_cgan.short_reprs import short_repr

HELD_OUT = 2000  # rows at most, and a twentieth of all, that are never trained on


@dataclass(frozen=True, eq=False, repr=False)
class TrainingData:
    """Rows to train on, the probability of drawing each, and rows held out.

    Attributes
    ----------
    features : Tensor, shape (n, n_features)
        float32
    condition : Tensor, shape (n, n_condition)
        float32
    weights : Tensor, shape (n,)
        In proportion to the probability of drawing each row.
    held_features, held_condition : Tensor, shape (n_held, n_features), (n_held, n_condition)
        Rows that are never trained on, float32.
    cvs : Tensor, shape (n, n_cvs)
        CVs of the conditions [CV units], for a loss of consistency; n_cvs 0 where none are given.
    """

    features: Tensor
    condition: Tensor
    weights: Tensor
    held_features: Tensor
    held_condition: Tensor
    cvs: Tensor

    __repr__ = short_repr

    @classmethod
    def split(
        cls,
        features: Tensor,
        condition: Tensor,
        weights: Tensor,
        seed: int,
        cvs: Tensor | None = None,
        copies: int = 1,
    ) -> "TrainingData":
        """Hold out a twentieth of the rows, at most `HELD_OUT`, and all copies of them.

        The rows are those of the first copy, then of the second and so on.

        Parameters
        ----------
        features : Tensor, shape (n, n_features)
        condition : Tensor, shape (n, n_condition)
        weights : Tensor, shape (n,)
            In proportion to the probability of drawing each row.
        seed : int
        cvs : Tensor, shape (n, n_cvs), optional
            [CV units]
        copies : int
            How often each frame is among the rows.
        """
        rng = torch.Generator().manual_seed(seed)
        n = len(features) // copies
        held, kept = torch.randperm(n, generator=rng).tensor_split([min(HELD_OUT, max(1, n // 20))])
        kept = (n * torch.arange(copies)[:, None] + kept).flatten()
        features, condition = features.float(), condition.float()
        values = torch.zeros(len(features), 0) if cvs is None else cvs
        return cls(
            features[kept], condition[kept], weights[kept], features[held], condition[held],
            values[kept],
        )  # fmt: skip

    def fingerprint(self) -> str:
        """Hash of all rows, by which a checkpoint knows its data."""
        parts = (self.features, self.condition, self.weights, self.held_features)
        joined = b"".join(hashlib.sha256(p.contiguous().numpy().tobytes()).digest() for p in parts)
        return hashlib.sha256(joined).hexdigest()
