"""The conditional GAN, in the order of the work.

`critic` judges, `training` is the loop, as `settings` say, over the rows of `training_data`.
`dataset` makes frames into such rows, `hands` holds them against the structure, `networks` are
those to be trained on them, `consistency` is a loss for CVs that nothing places exactly. `artefact`
is the file of a trained generator, `targets` the CV values that it may be asked for, `latent_map`
its latent numbers as coordinates, `conditional_generator` the generator itself. `even_samples`
fills p(x | cv) evenly, `level_sets` moves what is made onto the CV values asked for. `refining`
trains a flow further on the energy, as far as it is `refinable`, with `rows` of frames beside it,
down the `divergences` and by `weighed_torsions`, and keeps what has the best `effective_share`;
`part_targets` are those of a part among the rest of each frame.
"""

from openmm_cgan.cgan.conditional_generator import ConditionalGenerator
from openmm_cgan.cgan.dataset import flat_weights
from openmm_cgan.cgan.even_samples import sample_evenly
from openmm_cgan.cgan.level_sets import sample_on_level_sets
from openmm_cgan.cgan.refining import refine
from openmm_cgan.cgan.rows import rows_for
from openmm_cgan.cgan.settings import RefiningSettings, TrainingSettings

ConditionalGAN = ConditionalGenerator  # its name where a GAN is meant

__all__ = [
    "ConditionalGAN",
    "ConditionalGenerator",
    "RefiningSettings",
    "TrainingSettings",
    "flat_weights",
    "refine",
    "rows_for",
    "sample_evenly",
    "sample_on_level_sets",
]
