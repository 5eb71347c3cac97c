"""A generator of the last atom of a four-atom chain, whose density is known; the rest is held."""

import copy
import math
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray

from openmm_cgan import GAS_CONSTANT
from openmm_cgan.collective_variable import CollectiveVariable
from openmm_cgan.internal_coordinates import Internal, PartZMatrix
from openmm_cgan.testsystems import Chain
from tests.cases.chain_sampler import FARTHEST, KAPPA, NEAREST, normal, von_mises

INPUTS = {
    "theta": "theta: ANGLE ATOMS=1,2,3\n",  # of the rest alone
    "end": "end: ANGLE ATOMS=2,3,4\n",
    "phi": "phi: TORSION ATOMS=1,2,3,4\n",
    "d": "d: DISTANCE ATOMS=1,4\n",
}
RANGES = {"theta": (0.5, 3.1), "end": (1.0, 2.8), "phi": (-3.1, 3.1), "d": (0.2, 0.46)}
CENTRE = 1.4  # rad: where it thinks the torsion to be where it is not told d, or minus that


class ChainEnd:
    """Normal bonds and angles, von Mises torsions, shifted and widened against the chain's."""

    def __init__(self, chain: Chain, variables: tuple[CollectiveVariable, ...]) -> None:
        self.variables, self.chain = tuple(variables), chain
        self.names = [variable.name for variable in variables]
        held = chain.sample(1, 300.0, 0)[0]
        self.z = PartZMatrix([(0, 3, 2, 1)], [3], [0, 1, 2], held[:3])
        self.topology_hash, self.n_atoms, self.has_density, self.keeps_place = "", 1, True, True
        self.atoms, self.rest = np.array([3]), np.array([0, 1, 2])
        self.cv_range = np.array([RANGES[name] for name in self.names])
        self.condition_noise = np.array([0.02 * (n in ("d", "theta")) for n in self.names])
        bonds = [(2, 3)] if chain.bond_stiffness is None else []
        self.constant_bonds = np.array(bonds, dtype=int).reshape(-1, 2)
        self.constant_others: list[str] = []
        self.spread = 1.3 * math.sqrt(GAS_CONSTANT * 300 / chain.angle_stiffness)
        self.left_out = ""  # tests leave a factor out

    def among(self, held: NDArray) -> Self:
        made = copy.copy(self)
        made.z = self.z.among(held)
        return made

    def sample(self, cvs: NDArray, n: int | None = None, seed: int = 0) -> NDArray:
        return self.sample_with_log_prob(cvs, n, seed)[0]

    def sample_with_log_prob(
        self, cvs: NDArray, n: int | None = None, seed: int = 0
    ) -> tuple[NDArray, NDArray]:
        rng, m, chain = np.random.default_rng(seed), len(cvs), self.chain
        bonds = np.full(m, chain.bond)
        if chain.bond_stiffness is not None:
            bonds = rng.normal(chain.bond + 0.002, 0.015, m)
        angles = np.clip(rng.normal(chain.angle + 0.1, self.spread, m), 1e-3, math.pi - 1e-3)
        torsions = rng.vonmises(rng.choice([-1.0, 1.0], m) * self._centres(cvs), KAPPA)
        anywhere = rng.uniform(-math.pi, math.pi, m)
        torsions = np.where(rng.random(m) < 0.3, anywhere, torsions)
        for name, column in zip(self.names, cvs.T, strict=True):
            angles = column if name == "end" else angles
            torsions = column if name == "phi" else torsions
        made = (torch.from_numpy(np.array(c)[:, None]) for c in (bonds, angles, torsions))
        x = self.z.to_cartesian(Internal(*made)).numpy()
        return x, self.log_prob(x, cvs)

    def log_prob(self, positions: NDArray, cvs: NDArray) -> NDArray:
        internal = self.z.to_internal(torch.from_numpy(np.ascontiguousarray(positions)))
        r, angle, torsion = (c.numpy()[:, 0] for c in internal)
        total = np.zeros(len(positions))
        if self.chain.bond_stiffness is not None:
            total += normal(r, self.chain.bond + 0.002, 0.015)
        if "end" not in self.names:
            total += normal(angle, self.chain.angle + 0.1, self.spread)
        if "phi" not in self.names:
            both = sum(0.35 * von_mises(torsion - s * self._centres(cvs)) for s in (1, -1))
            total += np.log(both + 0.3 / (2 * math.pi))
        if self.left_out == "q":
            total = np.zeros_like(total)
        if self.left_out != "jacobian":
            total = total - self.z.log_det(internal).numpy()
        return np.where(np.abs(angle - math.pi / 2) > math.pi / 2 - 2e-3, np.inf, total)

    def _centres(self, cvs: NDArray) -> NDArray:
        if "d" not in self.names:
            return np.full(len(cvs), CENTRE)
        fractions = (cvs[:, self.names.index("d")] - NEAREST) / (FARTHEST - NEAREST)
        return math.pi * np.clip(fractions, 0, 1)
