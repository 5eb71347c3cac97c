"""What smearing leaves of an average: measured against a narrower kernel, moving the replicates."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from openmm_cgan.collective_variable import CollectiveVariable


def smearing_left(
    variables: Sequence[CollectiveVariable],
    change: NDArray[np.float64],
    at: NDArray[np.float64],
    widths: NDArray[np.float64],
    share: float,
) -> NDArray[np.float64]:
    """What smearing leaves (m, n_values), from the change to a narrower kernel.

    Parameters
    ----------
    variables : sequence of CollectiveVariable
    change : ndarray, shape (1 + n_replicates, m, n_values)
        At each value of the CVs, and that of each replicate.
    at : ndarray, shape (m, k)
        Values of the CVs [CV unit].
    widths : ndarray, shape (k,)
        Of the kernel [CV unit]; changes within two of them are averaged.
    share : float
        Of the smearing that the narrower kernel is free of.
    """
    errors = change[1:].std(axis=0, ddof=1) if len(change) > 2 else np.zeros(change.shape[1:])
    beyond = change[0] ** 2 - errors**2
    far = np.stack([v.difference(at[:, None, i], at[None, :, i]) / widths[i]
                    for i, v in enumerate(variables)])  # fmt: skip
    near = (np.abs(far) <= 2.0).all(0)
    known = np.isfinite(beyond)
    pooled = near @ np.where(known, beyond, 0.0) / np.maximum(near @ known.astype(float), 1.0)
    return np.sqrt(np.maximum(pooled, 0.0)) / share


def random_fields(
    variables: Sequence[CollectiveVariable],
    at: NDArray[np.float64],
    widths: NDArray[np.float64],
    shape: tuple[int, ...],
    seed: int,
) -> NDArray[np.float64]:
    """Gaussian fields of variance 1 on values of the CVs, shape (n_bootstrap, m, n_values).

    They are alike within two bandwidths, as what smearing leaves is.
    """
    far = sum(
        (v.difference(at[:, None, i], at[None, :, i]) / (2.0 * widths[i])) ** 2
        for i, v in enumerate(variables)
    )
    strengths, modes = np.linalg.eigh(np.exp(-0.5 * far))
    roots = modes * np.sqrt(np.maximum(strengths, 0.0))
    normal = np.random.default_rng(seed).normal(size=(shape[0], shape[2], shape[1]))
    return np.asarray((normal @ roots.T).transpose(0, 2, 1))
