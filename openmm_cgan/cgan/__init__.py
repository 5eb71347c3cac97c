"""The conditional GAN, in the order of the work.

`critic` judges, `training` is the loop, `dataset` makes frames into rows, `cgan` is the trained
artefact, `refining` trains a flow further on the energy.
"""

from openmm_cgan.cgan.cgan import ConditionalGAN
from openmm_cgan.cgan.dataset import flat_weights
from openmm_cgan.cgan.refining import RefiningSettings, refine
from openmm_cgan.cgan.training import TrainingSettings

__all__ = [
    "ConditionalGAN",
    "RefiningSettings",
    "TrainingSettings",
    "flat_weights",
    "refine",
]
