"""A flow for four-atom chains that has learned nothing, and their energy in closed form."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from openmm_cgan.cgan import ConditionalGenerator, TrainingSettings
from openmm_cgan.collective_variable import CollectiveVariable
from openmm_cgan.features import ConditionEncoding, ZMatrixFeatures
from openmm_cgan.generators import FlowGenerator
from openmm_cgan.internal_coordinates import ZMatrix
from openmm_cgan.potentials import Potential
from openmm_cgan.testsystems import Chain
from tests.cases.chain_sampler import RANGES, ROWS

FITTED = 400  # configurations


def chain_flow(
    chain: Chain,
    variables: tuple[CollectiveVariable, ...],
    seed: int = 0,
    noise: float = 0.02,
    wrong: float = 1.0,
) -> ConditionalGenerator:
    """A flow that begins with the Gaussian of the chain, and bends it at random.

    Its condition is an angle or the torsion, which then are placed, or the distance of the ends,
    with some noise.
    """
    (variable,) = variables
    x = torch.from_numpy(chain.sample(FITTED, 300.0, seed))
    z_matrix = ZMatrix(ROWS[: chain.n_atoms])
    features = ZMatrixFeatures.of_internal(z_matrix, variables, z_matrix.to_internal(x))
    cv_range = np.array([RANGES[variable.name]])
    placed = bool(features.placed_variables)
    cvs = torch.from_numpy(np.random.default_rng(seed).uniform(*cv_range[0], (FITTED, 1)))
    if not placed:
        cvs = (x[:, :1] - x[:, -1:]).norm(dim=2)
    conditions = ConditionEncoding.fit(variables, cvs)
    torch.manual_seed(seed)
    flow = FlowGenerator(
        features.n_linear, features.n_pairs, conditions.n_condition, width=16, couplings=4, bins=6
    )
    encoded = features.encode(x).float()
    linear = encoded[:, : features.n_linear]
    linear.mul_(1.4).add_(0.5)  # wider, so that it covers all, and elsewhere
    flow.start_from(encoded, conditions.encode(cvs).float())
    with torch.no_grad():
        for network in (*flow.splines, *flow.scalings, *flow.couplings):
            for parameter in network[-1].parameters():
                parameter.mul_(wrong * 10)
    return ConditionalGenerator(
        features, conditions, flow, "", cv_range, TrainingSettings(generator="FlowGenerator"),
        [], 300.0, np.array([0.0 if placed else noise]), {},
    )  # fmt: skip


class ChainPotential(Potential):
    """The energy of chains by torch, all at once."""

    def __init__(self, chain: Chain) -> None:
        super().__init__(chain.system(), n_contexts=1)
        self.chain, self.z_matrix = chain, ZMatrix(ROWS[: chain.n_atoms])

    def _energies(self, x: torch.Tensor) -> torch.Tensor:
        bonds, angles, (torsion, *_) = (c.T for c in self.z_matrix.to_internal(x))
        chain, bent = self.chain, angles - self.chain.angle
        total = 0.5 * chain.angle_stiffness * (bent**2).sum(0)
        total = total + chain.barrier * torsion.cos() ** 2 + chain.tilt * torsion.sin()
        stretched = bonds - chain.bond
        return total + 0.5 * (chain.bond_stiffness or 0.0) * (stretched**2).sum(0)

    def energies(self, positions: NDArray) -> NDArray:
        return self._energies(torch.tensor(positions)).numpy()

    def energies_and_gradients(self, positions: NDArray) -> tuple[NDArray, NDArray]:
        x: Any = torch.tensor(positions, requires_grad=True)
        energies = self._energies(x)
        (gradients,) = torch.autograd.grad(energies.sum(), x)
        return energies.detach().numpy(), gradients.numpy()
