"""The conditional GAN: `training` holds the critic and the loop, `cgan` the trained artefact."""

from openmm_cgan.cgan.cgan import ConditionalGAN
from openmm_cgan.cgan.dataset import flat_weights
from openmm_cgan.cgan.training import TrainingSettings

__all__ = [
    "ConditionalGAN",
    "TrainingSettings",
    "flat_weights",
]
