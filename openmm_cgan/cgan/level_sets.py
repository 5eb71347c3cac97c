"""Configurations that have the CVs asked for: generated, then moved onto the level set.

CVs that the featurization places come out exactly; of others (a distance across a molecule, a
curved slow variable) a generator comes only near the values asked for, and p(x | cv) is blurred by
that. Where the CVs can be measured by torch, Newton's steps along their gradient end on the level
set:

    f <- f - J^T (J J^T)^-1 (xi(x(f)) - c),    J = d xi / d f,

in features f, whose unit is what each varies by, so that constant bonds and placed CVs are kept.
They lead as far as the generator was off; what they change along the level set is of second order.
Of the half-moon, 1,000 steps of training, that took a flow's Wasserstein-1 distance to the exact
p(x | z) from 1.5 to 1.1 of the distance between two exact samples of 1,000, and a GAN's from 1.3 to
1.1 (benchmarks/multiscale_gan.py).

A flow's conditions are blurred (`TrainingSettings.condition_noise`), and the second order counts
where that is wider than p(x | cv) itself: on the spirals of AngleRadius a blur of 0.1 ends at 4.7
times that distance, one of 0.02 at 1.0.
"""

import logging
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from openmm_cgan.cgan.conditional_generator import ConditionalGenerator
from openmm_cgan.cgan.consistency import Restriction, off_target
from openmm_cgan.cgan.even_samples import sample_evenly
from openmm_cgan.cgan.targets import CHUNK
from openmm_cgan.devices import own_defaults

STEPS = 12  # of Newton's method, which doubles the digits with each
ARRIVED = 1e-9  # of the deviation of a CV
FARTHEST = 1.0  # length of a step, in deviations of the features

logger = logging.getLogger("openmm_cgan")


@own_defaults()
def sample_on_level_sets(
    generator: ConditionalGenerator,
    cvs: Any,
    restriction: Restriction,
    n: int | None = None,
    seed: int = 0,
    evenly: bool = False,
) -> np.ndarray:
    """Configurations that have the CV values asked for, also of CVs that nothing places.

    Their density is not known: for weights take `ConditionalGenerator.sample_with_log_prob`.

    Parameters
    ----------
    generator : ConditionalGenerator
    cvs, n, seed
        As for `ConditionalGenerator.sample`.
    restriction : callable
        Positions (n, n_atoms, 3) [nm] to CVs (n, n_cvs) [CV units], differentiable, each row by
        itself: `differentiable_cvs` of a PlumedBias.
    evenly : bool
        Begin from what `sample_evenly` makes.

    Returns
    -------
    ndarray, shape (n or m, n_atoms, 3)
        Positions [nm]. Those that do not arrive in `STEPS` steps are left as they were generated,
        and counted in a warning of the log.
    """
    make = partial(sample_evenly, generator) if evenly else generator.sample
    positions = make(cvs, n, seed)
    targets = np.broadcast_to(
        np.asarray(cvs, dtype=np.float64), (len(positions), len(generator.variables))
    )
    missed = 0
    for start in range(0, len(positions), CHUNK):
        part = slice(start, start + CHUNK)
        made, asked = (generator.conditions.copied(a[part]) for a in (positions, targets))
        moved, arrived = (a.cpu() for a in _onto(generator, made, asked, restriction))
        positions[part][arrived.numpy()] = moved[arrived].numpy()
        missed += int((~arrived).sum())
    if missed:
        logger.warning(
            "%d of %d configurations could not be moved to the CV values asked for, and are left"
            " where the generator put them",
            missed,
            len(positions),
        )
    return positions


def _onto(
    generator: ConditionalGenerator, positions: Tensor, cvs: Tensor, restriction: Restriction
) -> tuple[Tensor, Tensor]:
    """Positions (n, n_atoms, 3) after Newton's steps, and which of them (n,) arrived."""
    features, scale = generator.features, generator.conditions.scale
    f = features.encode(positions)
    for _ in range(STEPS):
        f = f.detach().requires_grad_()
        off = off_target(features.decode(f, cvs), cvs, restriction, generator.variables) / scale
        if not (off.abs() > ARRIVED).any():
            break
        slopes = [torch.autograd.grad(one.sum(), f, retain_graph=True)[0] for one in off.T]
        jacobian = torch.stack(slopes, dim=1)
        # placed CVs have no slope, and are not off: the pseudo-inverse leaves them out
        step = (torch.linalg.pinv(jacobian) @ off.detach()[:, :, None])[:, :, 0]
        length = step.norm(dim=1, keepdim=True)
        f = f.detach() - step * (FARTHEST / length.clamp(min=FARTHEST))
    with torch.no_grad():
        moved = features.decode(f, cvs)
        off = off_target(moved, cvs, restriction, generator.variables) / scale
        arrived = (off.abs() <= 1e3 * ARRIVED).all(dim=1) & features.within(f)
    return moved, arrived
