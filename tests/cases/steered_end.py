"""A generator of the last atom of a four-atom chain that knows the density of its torsion."""

import math

import numpy as np
import openmm
from numpy.typing import NDArray

from openmm_cgan import GAS_CONSTANT
from openmm_cgan.testsystems import Chain
from tests.cases.chain_end import ChainEnd
from tests.cases.chain_sampler import KAPPA, internal_of, von_mises

CENTRE = 0.5  # rad: far from where the torsion is mostly
STEEP = -5.0  # rad of the torsion's centre for a rad of the angle that it is told


class EndTorsion:
    """The torsion alone, given the angle of the rest: a von Mises density, and some anywhere."""

    def __init__(self, chain: Chain) -> None:
        self._angle = chain.angle
        self.rows = np.array([[3, 2, 1, 0]])
        self.placed, self.scales = np.zeros(0, dtype=np.int64), np.zeros(0)
        self.folds = np.ones(1, dtype=np.int64)

    def _centres(self, cvs: NDArray) -> NDArray:
        return CENTRE + STEEP * (cvs[:, 0] - self._angle)

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


def coupled(chain: Chain, strength: float) -> openmm.System:
    """A chain whose first angle leans to one side or the other as its torsion does."""
    made = openmm.CustomCompoundBondForce(
        4, f"{strength}*sin(dihedral(p1,p2,p3,p4))*sin(3*(angle(p1,p2,p3) - {chain.angle}))"
    )
    made.addBond([0, 1, 2, 3], [])
    system = chain.system()
    system.addForce(made)
    return system


def coupled_samples(chain: Chain, strength: float, n: int, temperature: float) -> NDArray:
    """Exact samples (n, 4, 3) of it, by rejection: the coupling is bounded."""
    x = chain.sample(40 * n, temperature, seed=5)
    c, kT = internal_of(x), GAS_CONSTANT * temperature
    energy = strength * np.sin(c["phi"]) * np.sin(3 * (c["theta0"] - chain.angle))
    taken = np.random.default_rng(6).random(len(x)) < np.exp(-(energy + strength) / kT)
    return x[taken][:n]
