"""Even samples have the generator's law, and tell its averages by far fewer."""

import numpy as np
import pytest
from scipy import stats

from openmm_cgan.cgan import (
    ConditionalGenerator,
    TrainingSettings,
    sample_evenly,
    sample_on_level_sets,
)
from openmm_cgan.frames import Frames

KINDS = ("MLPGenerator", "FlowGenerator")


@pytest.fixture(scope="module", params=KINDS)
def generator(request) -> ConditionalGenerator:
    """Of two coordinates about a CV, hardly trained: whatever its law is."""
    rng = np.random.default_rng(0)
    z = rng.uniform(-1, 1, 2000)
    x = np.stack([z + 0.3 * rng.normal(size=2000), z**2 + 0.2 * rng.normal(size=2000)], axis=1)
    settings = TrainingSettings(
        request.param, steps=40, batch=128, width=16, report_every=20, condition_noise=0.1
    )
    return ConditionalGenerator.fit(Frames.of_arrays(x, z, ["z"]), settings=settings)


def test_each_has_the_law_of_independent_samples(generator) -> None:
    """The same row of many sets, against as many independent ones."""
    plain = generator.sample([0.3], n=4000, seed=1)[:, 0]
    row = np.array([sample_evenly(generator, [0.3], n=4, seed=k)[2, 0] for k in range(300)])
    for axis in range(2):
        assert stats.ks_2samp(row[:, axis], plain[:, axis]).pvalue > 1e-3


def test_averages_scatter_far_less(generator) -> None:
    def spread(sample) -> np.ndarray:
        means = [sample([0.3], n=128, seed=k)[:, 0, :2].mean(axis=0) for k in range(40)]
        return np.std(means, axis=0, ddof=1)

    even = spread(lambda *args, **given: sample_evenly(generator, *args, **given))
    assert (even < 0.4 * spread(generator.sample)).all()


def test_each_value_asked_for_is_filled_by_itself(generator) -> None:
    """Alone, or among others in any order; and the same seed gives the same."""
    asked = np.repeat([[-0.4], [0.5]], 64, axis=0)
    mixed = np.random.default_rng(1).permutation(len(asked))
    for order in (np.arange(len(asked)), mixed):
        made = sample_evenly(generator, asked[order], seed=3)
        assert np.array_equal(made, sample_evenly(generator, asked[order], seed=3))
        for value in (-0.4, 0.5):
            own = made[asked[order][:, 0] == value][:, 0, 1]
            plain = generator.sample([value], n=4000, seed=5)[:, 0, 1]
            fractions = (np.sort(plain)[:, None] < own).mean(axis=0)
            # of 64 independent ones the fractions' mean is off by 0.036
            assert abs(fractions.mean() - 0.5) < 0.5 / np.sqrt(12 * 64) + 3 / np.sqrt(12 * 4000)


def test_the_ends_of_the_cube_are_finite_samples(generator) -> None:
    import torch

    made_by = generator.generator
    condition = generator.conditions.encode(torch.zeros(3, 1, dtype=torch.float64)).float()
    ends = torch.tensor([0.0, 1 - 2.0**-30, 1 - 2.0**-53], dtype=torch.float64)
    made = made_by.from_unit_cube(ends[:, None].repeat(1, made_by.n_numbers), condition)
    assert torch.isfinite(made).all()


def test_level_sets_are_reached_from_even_samples(generator) -> None:
    def restriction(positions):
        return positions[:, 0, :1] + 0.1 * positions[:, 0, 1:2] ** 2

    made = sample_on_level_sets(generator, [0.2], restriction, n=64, seed=1, evenly=True)
    other = sample_on_level_sets(generator, [0.2], restriction, n=64, seed=1)
    assert not np.array_equal(made, other)
    z = made[:, 0, 0] + 0.1 * made[:, 0, 1] ** 2
    np.testing.assert_allclose(z, 0.2, atol=1e-6)
