"""The rows of a training: those drawn from, and those held out."""

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from openmm_cgan.cgan.part_targets import Rests
from openmm_cgan.large_arrays import forget, pieces
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
        CVs of the conditions [CV units]; n_cvs 0 where none are given.
    held_cvs : Tensor, shape (n_held, n_cvs)
        Those of the rows held out.
    rests : Rests, optional
        Of a part: the frames in which it stands.
    """

    features: Tensor
    condition: Tensor
    weights: Tensor
    held_features: Tensor
    held_condition: Tensor
    cvs: Tensor
    held_cvs: Tensor
    rests: Rests | None = None

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
        """Hold out rows of features (n, n_features), as `held_out` says."""
        held, kept = held_out(len(features), seed, copies)
        values = torch.zeros(len(features), 0) if cvs is None else cvs
        rows = features[torch.cat([held, kept])].float()
        return cls.of_rows(rows, condition, weights, values, held, kept)

    @classmethod
    def of_rows(
        cls,
        features: Tensor,
        condition: Tensor,
        weights: Tensor,
        cvs: Tensor,
        held: Tensor,
        kept: Tensor,
    ) -> "TrainingData":
        """Rows of which some are held out.

        Parameters
        ----------
        features : Tensor, shape (n_held + n_kept, n_features)
            Of the held-out rows, then of those kept; float32. They are not copied.
        condition : Tensor, shape (n, n_condition)
        weights : Tensor, shape (n,)
            In proportion to the probability of drawing each row.
        cvs : Tensor, shape (n, n_cvs)
            [CV units]
        held, kept : Tensor of int
            As `held_out` gives them.
        """
        condition, n = condition.float(), len(held)
        return cls(
            features[n:], condition[kept], weights[kept], features[:n], condition[held], cvs[kept],
            cvs[held],
        )  # fmt: skip

    def fingerprint(self) -> str:
        """Hash of all rows, by which a checkpoint knows its data."""
        joined = b"".join(
            _digest(part.numpy())
            for part in (self.features, self.condition, self.weights, self.held_features)
        )
        return hashlib.sha256(joined).hexdigest()

    def forget(self) -> None:
        """Give back the memory of rows that lie in a file."""
        forget(self.features.numpy())


def rows_drawn(cumulative: Tensor, n: int, rng: torch.Generator) -> Tensor:
    """n rows drawn with probabilities whose cumulative sums (n_rows,) are given, up to a factor."""
    u = torch.rand(n, generator=rng, dtype=torch.float64)
    rows = torch.searchsorted(cumulative, u * cumulative[-1])
    return rows.clamp(max=len(cumulative) - 1)


def held_out(n: int, seed: int, copies: int = 1) -> tuple[Tensor, Tensor]:
    """Which rows are held out: a twentieth, at most `HELD_OUT`, and all copies of them.

    Parameters
    ----------
    n : int
        Rows: those of the first copy, then of the second and so on.
    seed : int
    copies : int
        How often each frame is among the rows.

    Returns
    -------
    held : Tensor of int
        Of the first copy.
    kept : Tensor of int
    """
    rng, n = torch.Generator().manual_seed(seed), n // copies
    held, kept = torch.randperm(n, generator=rng).tensor_split([min(HELD_OUT, max(1, n // 20))])
    return held, (n * torch.arange(copies)[:, None] + kept).flatten()


def _digest(array: NDArray[Any]) -> bytes:
    found = hashlib.sha256()
    for piece in pieces(array):
        found.update(np.ascontiguousarray(array[piece]).tobytes())
    return found.digest()
