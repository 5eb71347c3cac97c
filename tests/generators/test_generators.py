"""Generators: the protocol's contract, and the Gaussian that MLPGenerator starts from."""

import math
import time

import pytest
import torch

from openmm_cgan.generators import (
    KINDS,
    DensityGenerator,
    FlowGenerator,
    Generator,
    MLPGenerator,
    knows_density,
    made_again,
)
from openmm_cgan.generators.splines import circular_spline


def make(kind="MLPGenerator"):
    torch.manual_seed(0)
    return KINDS[kind](n_linear=3, n_pairs=2, n_condition=4, width=16)


@pytest.mark.parametrize("kind", KINDS)
class TestContract:
    def test_it_meets_the_protocol(self, kind):
        assert isinstance(make(kind), Generator)

    def test_it_says_whether_it_knows_its_density(self, kind):
        generator = make(kind)
        assert knows_density(generator) == isinstance(generator, DensityGenerator)
        assert KINDS[kind].has_density == generator.has_density

    def test_it_is_made_for_features_and_made_again_from_a_file(self, kind):
        made = KINDS[kind].of_size(3, 2, 4, width=16, depth=1, folds=[3, 1])
        assert made.sample(torch.zeros(5, 4), torch.Generator().manual_seed(1)).shape == (5, 7)
        arrays = {name: tensor.numpy() for name, tensor in made.state_dict().items()}
        again = made_again({"kind": kind, **made.settings}, arrays)
        assert again.settings == made.settings
        for name, tensor in again.state_dict().items():
            assert torch.equal(tensor, made.state_dict()[name])

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


def scrambled_flow(n_linear=3, n_pairs=2, n_condition=4, **options):
    """A flow in float64 that is far from its start."""
    torch.manual_seed(5)
    flow = FlowGenerator(n_linear, n_pairs, n_condition, width=16, **options).double()
    with torch.no_grad():
        for parameter in flow.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, dtype=torch.float64))
        flow.spread.copy_(torch.eye(n_linear) + 0.3 * torch.ones(n_linear, n_linear).tril(-1))
        flow.mean.normal_()
    return flow


class TestFlow:
    def test_it_has_a_density(self):
        assert isinstance(scrambled_flow(), DensityGenerator)

    @pytest.mark.parametrize(("n_linear", "n_pairs"), [(3, 2), (0, 1), (1, 0), (2, 0), (7, 1)])
    @pytest.mark.parametrize("fold", [1, 3])
    def test_density_of_samples_is_the_one_it_says(self, n_linear, n_pairs, fold):
        flow = scrambled_flow(n_linear, n_pairs, folds=[fold] * n_pairs)
        condition = torch.randn(50, 4, dtype=torch.float64)
        x, log_prob = flow.sample_with_log_prob(condition, torch.Generator().manual_seed(1))
        assert torch.allclose(flow.log_prob(x, condition), log_prob, atol=1e-9)

    @pytest.mark.parametrize(("n_linear", "n_pairs"), [(3, 2), (0, 1), (1, 0)])
    def test_noise_makes_the_features_that_it_came_from(self, n_linear, n_pairs):
        flow = scrambled_flow(n_linear, n_pairs, folds=[3] * n_pairs)
        condition = torch.randn(50, 4, dtype=torch.float64)
        x, log_prob = flow.sample_with_log_prob(condition, torch.Generator().manual_seed(1))
        noise, again = flow.to_noise(x, condition)
        assert torch.allclose(again, log_prob, atol=1e-9)
        assert torch.allclose(flow.from_noise(noise, condition)[0], x, atol=1e-9)
        moved, of_stiff = flow.at_torsions(flow.torsions_of(x), noise.z, condition)
        assert torch.allclose(moved, x, atol=1e-9)
        of_torsions = flow.log_prob_of_each_torsion(flow.torsions_of(x), condition).sum(1)
        assert torch.allclose(of_torsions + of_stiff, log_prob, atol=1e-9)
        assert torch.allclose(flow.log_prob_of_stiff(x, condition), of_stiff, atol=1e-9)

    @pytest.mark.parametrize(("n_linear", "n_pairs"), [(3, 2), (0, 1), (1, 0)])
    def test_numbers_from_0_to_1_make_the_sample_of_the_same_noise(self, n_linear, n_pairs):
        """Uniform ones in the order of `draw_noise`, normal ones by their distribution function."""
        flow = scrambled_flow(n_linear, n_pairs, folds=[3] * n_pairs)
        condition = torch.randn(50, 4, dtype=torch.float64)
        rng = torch.Generator().manual_seed(1)
        uniform = torch.rand(50, n_pairs, generator=rng, dtype=torch.float64)
        normal = torch.randn(50, n_linear, generator=rng, dtype=torch.float64)
        numbers = torch.cat([uniform, torch.special.ndtr(normal)], dim=1)
        assert flow.n_numbers == n_linear + n_pairs
        made = flow.from_unit_cube(numbers, condition)
        plain = flow.sample(condition, torch.Generator().manual_seed(1))
        assert torch.allclose(made, plain, atol=1e-6)

    def test_density_is_the_change_of_variables_of_autograd(self):
        flow, rng = scrambled_flow(), torch.Generator()
        condition = torch.randn(1, 4, dtype=torch.float64)

        def latent_to_features(latent):  # (uniforms, normals) as the generator's stream gives them
            return _Replayed(flow, latent).run(condition)

        for seed in range(5):
            rng.manual_seed(seed)
            uniform = torch.rand(1, 2, generator=rng, dtype=torch.float64)
            normal = torch.randn(1, 3, generator=rng, dtype=torch.float64)
            latent = torch.cat([uniform, normal], dim=1)[0]
            jacobian = torch.autograd.functional.jacobian(latent_to_features, latent)
            start = -0.5 * (normal.square().sum() + 3 * math.log(2 * math.pi))
            expected = start - torch.linalg.slogdet(jacobian)[1]
            _, log_prob = flow.sample_with_log_prob(condition, rng.manual_seed(seed))
            assert log_prob.item() == pytest.approx(expected.item(), abs=1e-9)

    @pytest.mark.parametrize("fold", [1, 3])
    def test_density_integrates_to_one(self, fold):
        flow = scrambled_flow(n_linear=1, n_pairs=1, folds=[fold])
        y = torch.linspace(-30, 30, 301, dtype=torch.float64)
        angle = torch.linspace(-math.pi, math.pi, 1025, dtype=torch.float64)[:-1]
        grid = torch.cartesian_prod(y, angle)
        x = torch.stack([grid[:, 0], grid[:, 1].cos(), grid[:, 1].sin()], dim=1)
        with torch.no_grad():
            density = flow.log_prob(x, torch.ones(len(x), 4, dtype=torch.float64)).exp()
        assert float(density.sum() * 0.2 * 2 * math.pi / 1024) == pytest.approx(1, abs=1e-3)

    def test_wells_of_a_folded_torsion_are_equally_likely(self):
        flow = scrambled_flow(n_linear=0, n_pairs=1, folds=[3])
        condition = torch.ones(6000, 4, dtype=torch.float64)
        x, _ = flow.sample_with_log_prob(condition, torch.Generator().manual_seed(1))
        angle = torch.atan2(x[:, 1], x[:, 0])
        counts = torch.histc(angle, 3, -math.pi, math.pi)
        assert ((counts - 2000).abs() < 4 * math.sqrt(6000 * 2 / 9)).all()

    def test_it_starts_from_the_gaussian_of_the_data(self):
        condition, y, covariance = gaussian(20_000, seed=1)
        flow = FlowGenerator(2, 0, 1, width=8)
        flow.start_from(y, condition)
        normal = torch.distributions.MultivariateNormal(torch.zeros(2), covariance)
        mean = 1 + condition @ torch.tensor([[2.0, -1.0]])
        with torch.no_grad():
            loss = normal.log_prob(y - mean) - flow.log_prob(y, condition)
        assert abs(float(loss.mean())) < 0.02  # nats; the last layers are small, not zero


class _Replayed:
    """A flow fed with given noise instead of a random stream."""

    def __init__(self, flow, latent):
        self.flow, self.latent = flow, latent

    def run(self, condition):
        uniform, normal = self.latent[None, :2], self.latent[None, 2:]
        rand, randn = torch.rand, torch.randn
        torch.rand = lambda *a, **k: uniform
        torch.randn = lambda *a, **k: normal
        try:
            x, _ = self.flow.sample_with_log_prob(condition, torch.Generator())
        finally:
            torch.rand, torch.randn = rand, randn
        return torch.cat([x[0, :3], torch.atan2(x[0, 5:], x[0, 3:5])])


@pytest.mark.parametrize("bins", [1, 2, 8])
class TestSplines:
    def spline(self, bins, n=2000):
        rng = torch.Generator().manual_seed(2)
        x = (2 * torch.rand(n, generator=rng, dtype=torch.float64) - 1) * math.pi
        return x, 2 * torch.randn(1, 3 * bins, generator=rng, dtype=torch.float64).repeat(n, 1)

    def test_it_is_undone_by_its_inverse(self, bins):
        x, parameters = self.spline(bins)
        y, log_slope = circular_spline(x, parameters)
        back, log_slope_back = circular_spline(y, parameters, inverse=True)
        assert torch.allclose(back, x, atol=1e-10)
        assert torch.allclose(log_slope_back, -log_slope, atol=1e-9)

    def test_the_slope_is_that_of_autograd(self, bins):
        x, parameters = self.spline(bins)
        for inverse in (False, True):
            at = x.clone().requires_grad_()
            y, log_slope = circular_spline(at, parameters, inverse)
            (slope,) = torch.autograd.grad(y.sum(), at)
            assert torch.allclose(slope.log(), log_slope, atol=1e-8)
            assert (slope > 0).all()

    def test_the_circle_has_no_seam(self, bins):
        _, parameters = self.spline(bins, n=2)
        ends = torch.tensor([-math.pi, math.pi], dtype=torch.float64)
        y, log_slope = circular_spline(ends, parameters)
        assert torch.allclose(y, ends, atol=1e-12)
        assert log_slope[0].item() == pytest.approx(log_slope[1].item(), abs=1e-12)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "size",
    [
        {"depth": 10**7},
        {"width": 10**9},
        {"width": 10**5},
        {"n_condition": 10**9},
        {"n_linear": 10**6},
        {"n_pairs": 10**7},
        {"depth": -1},
        {"depth": 50, "width": 40},
    ],
    ids=str,
)
def test_a_saved_network_larger_than_its_file_is_refused_before_it_is_built(kind, size):
    made = KINDS[kind].of_size(3, 2, 4, width=16, depth=2, folds=[1, 1])
    arrays = {name: tensor.numpy() for name, tensor in made.state_dict().items()}
    made_again({"kind": kind, **made.settings}, arrays)
    began = time.monotonic()
    with pytest.raises(ValueError, match="can not fill"):
        made_again({"kind": kind, **made.settings, **size}, arrays)
    assert time.monotonic() - began < 1.0


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("sizes", [(0, 3, 2), (1, 0, 2), (2, 1, 1), (12, 0, 6), (0, 1, 1)])
@pytest.mark.parametrize("depth", [0, 1, 2, 4])
def test_networks_of_any_shape_are_made_again(kind, sizes, depth):
    made = KINDS[kind].of_size(*sizes, width=32, depth=depth, folds=[1] * sizes[1])
    arrays = {name: tensor.numpy() for name, tensor in made.state_dict().items()}
    again = made_again({"kind": kind, **made.settings}, arrays)
    for name, tensor in again.state_dict().items():
        assert torch.equal(tensor, made.state_dict()[name])
