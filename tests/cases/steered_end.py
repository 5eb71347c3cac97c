"""A generator of the last atom of a four-atom chain that knows the density of its torsion."""

import math

import numpy as np
from numpy.typing import NDArray

from openmm_cgan.testsystems import Chain
from tests.cases.chain_end import ChainEnd
from tests.cases.chain_sampler import KAPPA, von_mises

STEEP = 4.0  # rad of the torsion's centre for a rad of the angle that it is told


class EndTorsion:
    """The torsion alone, given the angle of the rest: a von Mises density, and some anywhere."""

    def __init__(self, chain: Chain) -> None:
        self._angle = chain.angle
        self.rows = np.array([[3, 2, 1, 0]])
        self.placed, self.scales = np.zeros(0, dtype=np.int64), np.zeros(0)
        self.folds = np.ones(1, dtype=np.int64)

    def _centres(self, cvs: NDArray) -> NDArray:
        return -1.0 + STEEP * (cvs[:, 0] - self._angle)

    def draw(self, cvs: NDArray, kept: NDArray, seed: int) -> NDArray:
        rng = np.random.default_rng(seed)
        near = rng.vonmises(self._centres(cvs), KAPPA)
        anywhere = rng.uniform(-math.pi, math.pi, len(cvs))
        return np.where(rng.random(len(cvs)) < 0.3, anywhere, near)[:, None]

    def log_prob(self, torsions: NDArray, cvs: NDArray) -> NDArray:
        near = von_mises(torsions[:, 0] - self._centres(cvs))
        return np.log(0.7 * near + 0.3 / (2 * math.pi))[:, None]


class TurningEnd(ChainEnd):
    """`ChainEnd` given the angle of the rest, for steered moves."""

    def torsion_map(self) -> EndTorsion:
        return EndTorsion(self.chain)
