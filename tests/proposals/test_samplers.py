"""The contract of samplers: who meets it, and what is said of those who do not."""

import math
from types import SimpleNamespace

import numpy as np
import pytest

from openmm_cgan.cgan import ConditionalGenerator, TrainingSettings
from openmm_cgan.collective_variable import CollectiveVariable
from openmm_cgan.frames import Frames, topology_hash
from openmm_cgan.internal_coordinates import ZMatrix
from openmm_cgan.proposals import (
    DensitySampler,
    Sampler,
    generated_atoms,
    knows_density,
    require_sampler,
)
from openmm_cgan.proposals.targets import trained_range
from openmm_cgan.testsystems import Chain
from tests.cases.chain_sampler import ChainSampler

THETA = CollectiveVariable("theta", "rad", None, "ANGLE", (0, 1, 2))
CHAIN = Chain()


def generator(kind: str) -> ConditionalGenerator:
    import torch

    x = CHAIN.sample(60, 300.0, seed=1).astype(np.float32)
    z_matrix = ZMatrix.from_topology(CHAIN.topology(), variables=[THETA])
    column = z_matrix.coordinate_of(THETA).column
    angles = z_matrix.to_internal(torch.from_numpy(x).double()).angles[:, column]
    order, zeros = np.arange(60), np.zeros(60)
    frames = Frames(x, angles.numpy()[:, None], zeros, order, zeros, np.ones(60, np.int64),
                    zeros.astype(bool), (THETA,), np.arange(4), None, 300.0)  # fmt: skip
    settings = TrainingSettings(generator=kind, steps=2, batch=16, width=8, report_every=2)
    return ConditionalGenerator.fit(frames, CHAIN.topology(), settings)


@pytest.mark.parametrize("kind", ["MLPGenerator", "FlowGenerator"])
def test_a_trained_generator_is_a_sampler(kind: str) -> None:
    made = generator(kind)
    require_sampler(made)
    assert isinstance(made, Sampler)
    assert isinstance(made, DensitySampler)
    assert knows_density(made) == (kind == "FlowGenerator")
    assert made.topology_hash == topology_hash(CHAIN.topology())
    assert generated_atoms(made, CHAIN.topology()).tolist() == [0, 1, 2, 3]
    np.testing.assert_array_equal(trained_range(made), made.cv_range)


def test_what_lacks_something_is_told_what_a_sampler_is() -> None:
    chain = ChainSampler(CHAIN, (THETA,))
    require_sampler(chain)
    with pytest.raises(TypeError, match="SimpleNamespace is no Sampler: it needs variables, topol"):
        require_sampler(SimpleNamespace(variables=(THETA,)))
    names = ("variables", "topology_hash", "n_atoms", "atoms", "cv_range", "has_density", "sample")
    partly = SimpleNamespace(**{name: getattr(chain, name) for name in names})
    with pytest.raises(TypeError, match="says that its density is known, and needs condition"):
        require_sampler(partly)
    partly.has_density = False
    require_sampler(partly)


def test_no_range_means_whole_domains() -> None:
    chain = ChainSampler(CHAIN, (THETA,))
    chain.cv_range = None
    with pytest.raises(ValueError, match="has no cv_range, and theta is not periodic"):
        trained_range(chain)
    chain.variables = (CollectiveVariable("phi", "rad", (-math.pi, math.pi)),)
    np.testing.assert_array_equal(trained_range(chain), [[-math.pi, math.pi]])
