"""The two networks before they are trained: as large as the data ask for, seeded."""

from typing import Any

import torch

from openmm_cgan.cgan.critic import Critic
from openmm_cgan.cgan.dataset import Dataset
from openmm_cgan.cgan.settings import TrainingSettings
from openmm_cgan.features import skeleton_of
from openmm_cgan.generators import KINDS, Generator, fitted_contacts


def initial_networks(
    dataset: Dataset, settings: TrainingSettings, device: torch.device
) -> tuple[Generator, Critic]:
    """A generator that starts from the Gaussian of the data, and a critic, on a device.

    The same seed gives the same weights, whatever the device; torch's own stream of random numbers
    is left as it was.
    """
    features, conditions, rows = dataset.features, dataset.conditions, dataset.rows
    sizes = (features.n_linear, features.n_pairs, conditions.n_condition)
    kind = KINDS[settings.generator]
    skeleton = skeleton_of(features, conditions) if kind.has_density else None  # else of no use
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        seen = skeleton and fitted_contacts(skeleton, rows.features, rows.condition)
        generator: Any = kind.of_size(
            *sizes,
            width=settings.width,
            depth=settings.depth,
            folds=dataset.folds,
            contacts=seen,
        )
        critic = Critic(*sizes, settings.width, settings.depth)
    generator.start_from(rows.features, rows.condition)
    return generator.to(device), critic.to(device)
