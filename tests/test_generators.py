"""Generators: the protocol's contract, and the Gaussian that MLPGenerator starts from."""

import math

import pytest
import torch

from openmm_cgan.generators import KINDS, DensityGenerator, Generator, MLPGenerator


def make(kind="MLPGenerator"):
    torch.manual_seed(0)
    return KINDS[kind](n_linear=3, n_pairs=2, n_condition=4, width=16)


@pytest.mark.parametrize("kind", KINDS)
class TestContract:
    def test_it_meets_the_protocol(self, kind):
        assert isinstance(make(kind), Generator)

    def test_one_row_of_features_for_each_condition(self, kind):
        rng = torch.Generator().manual_seed(1)
        for n in (0, 1, 5):
            assert make(kind).sample(torch.zeros(n, 4), rng).shape == (n, 7)

    def test_pairs_stand_on_the_unit_circle(self, kind):
        x = make(kind).sample(torch.randn(100, 4), torch.Generator().manual_seed(1))
        assert torch.allclose(x[:, 3:5] ** 2 + x[:, 5:] ** 2, torch.ones(100, 2), atol=1e-5)

    def test_the_random_numbers_are_those_of_the_generator_given(self, kind):
        condition, generator = torch.ones(6, 4), make(kind)
        one, two, other = (
            generator.sample(condition, torch.Generator().manual_seed(seed)) for seed in (3, 3, 4)
        )
        assert torch.equal(one, two)
        assert not torch.equal(one, other)

    def test_settings_and_tensors_make_it_again(self, kind):
        generator = make(kind)
        again = KINDS[kind](**generator.settings)
        again.load_state_dict(generator.state_dict())
        condition = torch.ones(6, 4)
        one, two = (
            g.sample(condition, torch.Generator().manual_seed(3)) for g in (generator, again)
        )
        assert torch.equal(one, two)

    def test_every_parameter_gets_a_gradient(self, kind):
        generator = make(kind)
        x = generator.sample(torch.ones(50, 4), torch.Generator().manual_seed(3))
        (x * torch.arange(1.0, 8.0)).sum().backward()
        assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in generator.parameters())


def test_the_perceptron_has_no_density():
    assert not isinstance(make(), DensityGenerator)


def gaussian(n, seed):
    """Conditional Gaussian: mean 1 + 2 c, correlated with known covariance."""
    rng = torch.Generator().manual_seed(seed)
    condition = torch.randn(n, 1, generator=rng)
    factor = torch.tensor([[0.5, 0.0], [0.3, 0.2]])
    mean = 1 + condition @ torch.tensor([[2.0, -1.0]])
    return condition, mean + torch.randn(n, 2, generator=rng) @ factor.T, factor @ factor.T


def test_it_starts_from_the_gaussian_of_the_data():
    n = 20_000
    condition, y, covariance = gaussian(n, seed=1)
    generator = MLPGenerator(2, 0, 1, width=4)
    for parameter in generator.layers.parameters():
        torch.nn.init.zeros_(parameter)
    generator.start_from(y, condition)
    x = generator.sample(torch.full((n, 1), 0.7), torch.Generator().manual_seed(2)).detach()
    # of n rows: mean and covariance of x, and of the data that it was fitted to
    error = 5 * torch.sqrt(2 * covariance.diagonal() / n)
    assert ((x.mean(0) - torch.tensor([2.4, 0.3])).abs() < error).all()
    found = torch.cov(x.T)
    variances = covariance.diagonal()
    spread = torch.sqrt((covariance**2 + variances[:, None] * variances) * 2 / n)
    assert ((found - covariance).abs() < 5 * spread).all()


def test_few_rows_still_give_a_start():
    condition, y, _ = gaussian(3, seed=1)
    wide = torch.cat([y] * 4, dim=1)  # eight features, rank below three
    generator = MLPGenerator(8, 0, 1)
    generator.start_from(wide, condition)
    assert math.isfinite(generator.sample(condition, torch.Generator()).sum().item())
