"""Conditional generators: noise and a condition in, features out.

What a generator must offer is written down as a Protocol, and nothing inherits from a common
class: `MLPGenerator` meets `Generator`; `FlowGenerator` meets `DensityGenerator` as well, and what
it makes can be weighted exactly. A feature vector holds standardised numbers, then cosines and then
sines of angles (see `features.featurization`).

`mlp` is the paper's generator. The density of `flow` is known: `splines` bend its torsions, one
after another (`bending`). It is told `contacts`: how near atoms come where `posed_skeleton` puts
them.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar, Protocol, Self, TypeGuard, runtime_checkable

import numpy as np
import torch
from torch import Tensor, nn

from openmm_cgan.generators.contact_pairs import fitted_contacts, require_same_seen
from openmm_cgan.generators.contacts import WIDTH, Contacts
from openmm_cgan.generators.flow import FlowGenerator
from openmm_cgan.generators.mlp import MLPGenerator, perceptron

__all__ = [
    "KINDS",
    "Contacts",
    "DensityGenerator",
    "FlowGenerator",
    "Generator",
    "LatentGenerator",
    "MLPGenerator",
    "TurningGenerator",
    "density_of",
    "fitted_contacts",
    "knows_density",
    "made_again",
    "perceptron",
]


@runtime_checkable
class Generator(Protocol):
    """A conditional generator of features.

    Attributes
    ----------
    has_density : bool
        Of the kind: whether it is a DensityGenerator.
    settings : dict
        Arguments of the constructor (plain JSON types); with ``state_dict`` they make it again.
    """

    has_density: ClassVar[bool]
    settings: dict[str, Any]

    @classmethod
    def of_size(
        cls,
        n_linear: int,
        n_pairs: int,
        n_condition: int,
        *,
        width: int,
        depth: int,
        folds: Sequence[int],
        contacts: Contacts | None = None,
    ) -> Self:
        """One for features and conditions of these lengths; its weights are random.

        ``folds`` holds the symmetry of each pair: 3 where angles a third of a circle apart are
        equally likely. ``contacts`` say how near atoms come. A kind leaves what it has no use for.
        """
        ...

    def start_from(self, features: Tensor, condition: Tensor) -> None:
        """Fit what needs no training to features (n, n_features), conditions (n, n_condition)."""
        ...

    def sample(self, condition: Tensor, rng: torch.Generator) -> Tensor:
        """Features (n, n_features) for conditions (n, n_condition); differentiable."""
        ...

    @property
    def n_numbers(self) -> int:
        """How many random numbers a sample is made of."""
        ...

    def from_unit_cube(self, numbers: Tensor, condition: Tensor) -> Tensor:
        """The sample of numbers (n, n_numbers) from 0 to 1, uniform ones of which are draws."""
        ...

    def parameters(self) -> Iterator[nn.Parameter]:
        """What is trained."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """All tensors."""
        ...

    def load_state_dict(self, state_dict: dict[str, Any]) -> Any:
        """Take over all tensors of another one."""
        ...


@runtime_checkable
class DensityGenerator(Generator, Protocol):
    """A generator that knows the density of what it makes."""

    def sample_with_log_prob(
        self, condition: Tensor, rng: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Features (n, n_features) for conditions (n, n_condition), and log densities (n,)."""
        ...

    def log_prob(self, features: Tensor, condition: Tensor) -> Tensor:
        """Log density (n,) of features (n, n_features) given conditions (n, n_condition).

        Over the standardised features and the angles [rad] of the pairs.
        """
        ...


@runtime_checkable
class LatentGenerator(DensityGenerator, Protocol):
    """A generator that maps latent numbers of known density onto features, invertibly.

    Attributes
    ----------
    n_normal, n_angles : int
        Latent numbers: standard normal ones, then angles [rad] with a density of their own.
    """

    @property
    def n_normal(self) -> int: ...

    @property
    def n_angles(self) -> int: ...

    def draw_latent(self, condition: Tensor, rng: torch.Generator) -> Tensor:
        """Latent numbers (n, n_normal + n_angles), one row for each condition."""
        ...

    def from_latent(self, latent: Tensor, condition: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Features of latent numbers, their log densities (n,), and those of the angles (n,)."""
        ...

    def to_latent(self, features: Tensor, condition: Tensor) -> Tensor:
        """Latent numbers (n, n_normal + n_angles) of features (n, n_features)."""
        ...


@runtime_checkable
class TurningGenerator(DensityGenerator, Protocol):
    """A generator that knows the density of its torsions by themselves, one after another.

    Attributes
    ----------
    n_pairs : int
        Torsions.
    folds : list of int
        Symmetry of each: 3 where angles a third of a circle apart are equally likely.
    """

    n_pairs: int
    folds: list[int]

    def draw_torsions(
        self, condition: Tensor, rng: torch.Generator, kept: Tensor | None = None
    ) -> Tensor:
        """Torsions (n, n_pairs) [rad] for conditions; of ``kept`` those that are no NaN."""
        ...

    def log_prob_of_each_torsion(self, torsions: Tensor, condition: Tensor) -> Tensor:
        """Log density (n, n_pairs) [1/rad] of each torsion given those before it."""
        ...


# Kinds that a saved artefact may name.
KINDS: dict[str, type[Generator]] = {
    "MLPGenerator": MLPGenerator,
    "FlowGenerator": FlowGenerator,
}


def knows_density(generator: Generator) -> TypeGuard[DensityGenerator]:
    """Whether a generator knows the density of what it makes."""
    return generator.has_density


def density_of(generator: Generator) -> DensityGenerator:
    """The generator itself, if its density is known; ValueError if it is not."""
    if not knows_density(generator):
        raise ValueError(
            f"the density of a {type(generator).__name__} is not known: train with"
            ' TrainingSettings(generator="FlowGenerator")'
        )
    return generator


def made_again(options: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> Generator:
    """A saved generator.

    Parameters
    ----------
    options : mapping
        Its ``kind``, a name of `KINDS`, and its settings.
    arrays : mapping of str to ndarray
        Its ``state_dict``, each in the shape of its tensor.

    Raises
    ------
    ValueError
        If the settings ask for a network that these arrays could not fill, or tell it contacts
        that are not those of its skeleton.
    """
    settings = dict(options)
    kind = KINDS[settings.pop("kind")]
    _require_fillable(settings, arrays)
    generator = kind(**settings)
    generator.load_state_dict({name: torch.from_numpy(array) for name, array in arrays.items()})
    if isinstance(generator, FlowGenerator) and generator.contacts is not None:
        require_same_seen(generator.contacts, settings["n_condition"])
    return generator


def _require_fillable(settings: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> None:
    """Refuse sizes beyond what the arrays hold, before memory or time is spent on them."""
    numbers = sum(array.size for array in arrays.values())
    unused = {
        "seed",
        *("width",) * (settings.get("depth") == 0),
        *("bins",) * (settings.get("n_pairs") == 0),
    }
    sizes = {name: n for name, n in settings.items() if isinstance(n, int) and name not in unused}
    limits = {name: len(arrays) if name in ("depth", "couplings") else numbers for name in sizes}
    limits["couplings"] = max(limits.get("couplings", 0), 100)  # none is built for one feature
    wrong = {name: n for name, n in sizes.items() if not 0 <= n <= limits[name]}
    width, depth, n_linear = (sizes.get(name, 0) for name in ("width", "depth", "n_linear"))
    near = (settings.get("contacts") or {}).get("near", [])
    layers = max(depth - 1, 0) * width**2 + width * sizes.get("n_condition", 0) * min(depth, 1)
    needed = n_linear**2 + (layers if n_linear else 0) + 2 * WIDTH * len(near)
    if wrong or needed > numbers:
        raise ValueError(
            f"its network has {wrong or sizes}, which its {numbers} numbers can not fill"
        )
