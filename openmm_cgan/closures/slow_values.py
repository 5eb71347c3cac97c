"""Errors near a value of the CVs of quantities that forget more slowly than the CVs do."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from openmm_cgan.closures.local_polynomial import Neighbourhood
from openmm_cgan.free_energy.samples import WeightedSamples, spread


def widening(
    samples: WeightedSamples, near: Neighbourhood, values: NDArray, weights: NDArray
) -> NDArray[np.float64]:
    """How many times too small errors (n_values,) are of what forgets more slowly than the CVs.

    Of the average in the kernel, whose terms are known one by one, for the fit has the same frames.

    Parameters
    ----------
    samples : WeightedSamples
    near : Neighbourhood
    values : ndarray, shape (n_near, n_values)
        Of its frames.
    weights : ndarray, shape (1 + n_bootstrap, n_near)
        Of its frames, in the replicates after the first row.
    """
    found, own = np.ones(values.shape[1]), weights[0] * near.kernel
    for i, column in enumerate(values.T):
        off = near.kernel * (column - own @ column / own.sum())
        with np.errstate(invalid="ignore", divide="ignore"):
            error = spread((weights[1:] @ off) / (weights[1:] @ near.kernel))
        terms = np.zeros(len(samples.cvs))
        terms[near.rows] = weights[0] * off / own.sum()
        if error > 0:
            found[i] = samples.widened(error, terms) / error
    return found
