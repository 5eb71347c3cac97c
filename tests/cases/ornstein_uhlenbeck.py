"""Ornstein and Uhlenbeck's process: exact paths, and what Kramers and Moyal find at a lag."""

import numpy as np

from openmm_cgan.closures import Trajectories
from openmm_cgan.collective_variable import CollectiveVariable

Z = CollectiveVariable("z")
SIGMA2, RATE = 2.0, 1.5


def ornstein(starts, n_times, interval, seed):
    """Exact paths of dz = -RATE z dt + sqrt(SIGMA2) dW, shape (n, n_times + 1)."""
    rng = np.random.default_rng(seed)
    decay = np.exp(-RATE * interval)
    spread = np.sqrt(SIGMA2 / (2 * RATE) * (1 - decay**2))
    path = [np.asarray(starts, float)]
    for _ in range(n_times):
        path.append(decay * path[-1] + spread * rng.normal(size=len(starts)))
    return np.stack(path, 1)


def trajectories(paths, interval):
    return Trajectories(tuple(p[:, None] for p in paths), interval, (Z,))


def expected_at(tau, z):
    """Kramers and Moyal's coefficients at a lag: exact, not those of tau = 0."""
    decay = np.exp(-RATE * tau)
    return (decay - 1) * z / tau, SIGMA2 / (2 * RATE) * (1 - decay**2) / tau
