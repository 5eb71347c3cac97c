"""A generator of four-atom chains whose density is known, as unlike the chain as one likes."""

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from openmm_cgan import GAS_CONSTANT
from openmm_cgan.collective_variable import CollectiveVariable
from openmm_cgan.internal_coordinates import Internal, ZMatrix
from openmm_cgan.testsystems import Chain

ROWS = [(0, -1, -1, -1), (1, 0, -1, -1), (2, 1, 0, -1), (3, 2, 1, 0)]
INPUTS = {
    "theta": "theta: ANGLE ATOMS=1,2,3\n",
    "phi": "phi: TORSION ATOMS=1,2,3,4\n",
    "d": "d: DISTANCE ATOMS=1,4\n",
}
RANGES = {"theta": (1.0, 2.8), "phi": (-3.1, 3.1), "d": (0.2, 0.46)}
NEAREST, FARTHEST = 0.2, 0.6  # nm: where it puts the torsions 0 and pi, the latter wrongly


class ChainSampler:
    """Normal bonds and angles, von Mises torsions, all shifted and widened.

    Its condition is an angle or the torsion, which then have the value asked for, or the distance
    of the ends, about which the torsion only knows where to be.
    """

    def __init__(self, chain: Chain, variables: tuple[CollectiveVariable, ...]) -> None:
        (self.variable,) = self.variables = tuple(variables)
        self.chain = chain
        self.z = ZMatrix(ROWS[: chain.n_atoms])
        self.topology_hash = ""
        self.n_atoms = chain.n_atoms
        self.atoms = np.arange(self.n_atoms)
        self.has_density = True
        self.cv_range = np.array([RANGES[self.variable.name]])
        self.condition_noise = np.array([0.02 if self.variable.name == "d" else 0.0])
        held = [(i, i + 1) for i in range(self.n_atoms - 1)] if chain.bond_stiffness is None else []
        self.constant_bonds = np.array(held, dtype=int).reshape(-1, 2)
        self.constant_others: list[str] = []
        self.spread = 1.3 * math.sqrt(GAS_CONSTANT * 300 / chain.angle_stiffness)
        self.jacobian = True  # tests take it out
        self.calls = 0

    def sample(self, cvs: NDArray, n: int | None = None, seed: int = 0) -> NDArray:
        return self.sample_with_log_prob(cvs, n, seed)[0]

    def sample_with_log_prob(
        self, cvs: NDArray, n: int | None = None, seed: int = 0
    ) -> tuple[NDArray, NDArray]:
        self.calls += 1
        rng = np.random.default_rng(seed)
        m, chain = len(cvs), self.chain
        bonds = np.full((m, self.n_atoms - 1), chain.bond)
        if chain.bond_stiffness is not None:
            bonds = rng.normal(chain.bond + 0.002, 0.015, bonds.shape)
        angles = rng.normal(chain.angle + 0.1, self.spread, (m, self.n_atoms - 2))
        angles = np.clip(angles, 1e-3, math.pi - 1e-3)
        torsions = self._torsions(cvs, rng)
        if self.variable.name == "theta":
            angles[:, 0] = cvs[:, 0]
        if self.variable.name == "phi":
            torsions[:, 0] = cvs[:, 0]
        made = Internal(*(torch.from_numpy(c) for c in (bonds, angles, torsions)))
        x = self.z.to_cartesian(made).numpy()
        return x, self.log_prob(x, cvs)

    def log_prob(self, positions: NDArray, cvs: NDArray) -> NDArray:
        found = self.z.to_internal(torch.from_numpy(np.ascontiguousarray(positions)))
        bonds, angles, torsions = (c.numpy() for c in found)
        chain, total = self.chain, np.zeros(len(positions))
        if chain.bond_stiffness is not None:
            total += normal(bonds, chain.bond + 0.002, 0.015).sum(1)
        first = 1 if self.variable.name == "theta" else 0
        total += normal(angles[:, first:], chain.angle + 0.1, self.spread).sum(1)
        if self.n_atoms == 4 and self.variable.name != "phi":
            centres = self._centres(cvs)
            densities = [0.45 * von_mises(torsions[:, 0] - s * centres) for s in (1, -1)]
            total += np.log(sum(densities) + 0.1 / (2 * math.pi))
        edge = (np.abs(angles - math.pi / 2) > math.pi / 2 - 2e-3).any(1)
        return np.where(edge, np.inf, total - self.jacobian * self._log_det(found))

    def _log_det(self, internal: Internal) -> NDArray:
        return self.z.log_det(internal).numpy()

    def _centres(self, cvs: NDArray) -> NDArray:
        if self.variable.name != "d":
            return np.full(len(cvs), 1.4)
        return math.pi * np.clip((cvs[:, 0] - NEAREST) / (FARTHEST - NEAREST), 0, 1)

    def _torsions(self, cvs: NDArray, rng: np.random.Generator) -> NDArray:
        if self.n_atoms < 4:
            return np.zeros((len(cvs), 0))
        signs = rng.choice([-1.0, 1.0], len(cvs))
        near = rng.vonmises(signs * self._centres(cvs), KAPPA)
        anywhere = rng.uniform(-math.pi, math.pi, len(cvs))
        return np.where(rng.random(len(cvs)) < 0.1, anywhere, near)[:, None]


KAPPA = 6.0
VON_MISES = 2 * math.pi * float(np.i0(KAPPA))


def normal(x: NDArray, mean: float, deviation: float) -> NDArray:
    return -0.5 * ((x - mean) / deviation) ** 2 - math.log(deviation * math.sqrt(2 * math.pi))


def von_mises(x: NDArray) -> NDArray:
    return np.exp(KAPPA * np.cos(x)) / VON_MISES


def internal_of(x: NDArray) -> dict[str, NDArray]:
    """Bonds, angles and torsion (n,) by name of chains (n, n_atoms, 3)."""
    n_atoms = x.shape[1]
    found: tuple[Tensor, ...] = ZMatrix(ROWS[:n_atoms]).to_internal(torch.from_numpy(x))
    bonds, angles, torsions = (c.numpy() for c in found)
    named = {f"r{i}": bonds[:, i] for i in range(n_atoms - 1)}
    named |= {f"theta{i}": angles[:, i] for i in range(n_atoms - 2)}
    return named | ({"phi": torsions[:, 0]} if n_atoms == 4 else {})
