"""Configurations whose random numbers fill their space evenly: fewer tell p(x | cv) as well.

Averages over n independent draws scatter by n^(-1/2). Of few coordinates that matter, a generator's
map of numbers that avoid each other (`sobol_numbers`) has the same density and scatters far less:
1,000 configurations of the half-moon are at 0.90 of the Wasserstein-1 distance that two sets of
exact ones have from each other, 1.2 where they are independent (benchmarks/multiscale_gan.py).
Where dozens of coordinates matter alike, as in a molecule, little is gained.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from openmm_cgan.cgan.conditional_generator import ConditionalGenerator
from openmm_cgan.cgan.targets import portions
from openmm_cgan.devices import own_defaults
from openmm_cgan.sobol import sobol_numbers


@own_defaults()
def sample_evenly(
    generator: ConditionalGenerator, cvs: Any, n: int | None = None, seed: int = 0
) -> NDArray[np.float64]:
    """Configurations at CV values, those at the same values evenly over p(x | cv).

    They are not independent: not for moves, nor for errors that take them to be. Errors come of
    several seeds.

    Parameters
    ----------
    generator : ConditionalGenerator
    cvs, n, seed
        As for `ConditionalGenerator.sample`.

    Returns
    -------
    ndarray, shape (n or m, n_atoms, 3)
        Positions [nm].
    """
    made_by, targets = generator.generator, generator.checked(cvs, n)
    numbers = _numbers(targets.cpu().numpy(), made_by.n_numbers, seed)
    positions = np.empty((len(targets), generator.n_atoms, 3))
    with torch.no_grad():
        for rows in portions(len(targets)):
            condition = generator.conditions.encode(targets[rows]).float()
            drawn = torch.from_numpy(numbers[rows]).to(targets)
            made = made_by.from_unit_cube(drawn, condition)
            positions[rows] = generator.features.decode(made, targets[rows]).cpu().numpy()
    return positions


def _numbers(targets: NDArray, n_axes: int, seed: int) -> NDArray[np.float64]:
    """Numbers (n, n_axes), a set of its own for each of different targets (n, n_cvs)."""
    _, which = np.unique(targets, axis=0, return_inverse=True)
    numbers = np.empty((len(targets), n_axes))
    seeds = np.random.default_rng(seed).integers(2**31, size=which.max(initial=-1) + 1)
    order = np.argsort(which, kind="stable")
    for rows in np.split(order, np.flatnonzero(np.diff(which[order])) + 1):
        if len(rows):
            numbers[rows] = sobol_numbers(len(rows), n_axes, int(seeds[which[rows[0]]]))
    return numbers
