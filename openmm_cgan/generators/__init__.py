"""Conditional generators: noise and a condition in, features out.

What a generator must offer is written down as a Protocol, and nothing inherits from a common
class: `MLPGenerator` meets `Generator`; `FlowGenerator` meets `DensityGenerator` as well, and what
it makes can be weighted exactly. A feature vector holds standardised numbers, then cosines and then
sines of angles (see features.py).
"""

from collections.abc import Iterator
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from openmm_cgan.generators.flow import FlowGenerator
from openmm_cgan.generators.mlp import MLPGenerator, perceptron

__all__ = ["KINDS", "DensityGenerator", "FlowGenerator", "Generator", "MLPGenerator", "perceptron"]

# Kinds that a saved artefact may name.
KINDS = {"MLPGenerator": MLPGenerator, "FlowGenerator": FlowGenerator}


@runtime_checkable
class Generator(Protocol):
    """A conditional generator of features.

    Attributes
    ----------
    settings : dict
        Arguments of the constructor (plain JSON types); with ``state_dict`` they make it again.
    """

    settings: dict[str, Any]

    def sample(self, condition: Tensor, rng: torch.Generator) -> Tensor:
        """Features (n, n_features), one row for each condition; differentiable."""
        ...

    def parameters(self) -> Iterator[nn.Parameter]:
        """What is trained."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """All tensors."""
        ...


@runtime_checkable
class DensityGenerator(Generator, Protocol):
    """A generator that knows the density of what it makes."""

    def sample_with_log_prob(
        self, condition: Tensor, rng: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Features (n, n_features), one row for each condition, and their log densities (n,)."""
        ...

    def log_prob(self, features: Tensor, condition: Tensor) -> Tensor:
        """Log density (n,) of features given conditions, over the standardised ones and angles."""
        ...
