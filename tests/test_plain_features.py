"""Plain coordinates of particles without bonds, and tables: features, flow, GAN, files."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from openmm_cgan.cgan import ConditionalGenerator, TrainingSettings
from openmm_cgan.collective_variable import CollectiveVariable
from openmm_cgan.features import PlainFeatures
from openmm_cgan.frames import Frames, topology_hash
from openmm_cgan.proposals.weights import kish_effective_sample_size
from openmm_cgan.testsystems import alanine_dipeptide
from openmm_cgan.testsystems.multiscale import (
    CoupledDoubleWell,
    HalfMoon,
    LinearPair,
    RotatedMuellerBrown,
)

FLOW = TrainingSettings(generator="FlowGenerator", steps=150, batch=256, width=24, report_every=50)


@pytest.fixture
def rng():
    return np.random.default_rng(20221109)


def table(rng, n=400, d=7):
    """A table (n, d) of columns of very different places and widths, the last one constant."""
    x = rng.normal(size=(n, d)) * np.logspace(-2, 2, d) + np.linspace(-3, 300, d)
    x[:, -1] = 4.25
    return x


def test_linear_cvs_are_found_and_placed_exactly(rng):
    x = table(rng)
    mixed = 0.3 * x[:, 0] - 1.7 * x[:, 1] + 0.02 * x[:, 3] + 5.0
    twice = 2 * mixed - 1.0  # says nothing new
    curved = x[:, 2] ** 2
    cvs = np.stack([x[:, 4], mixed, twice, curved], axis=1)
    names = ["coordinate", "mixed", "twice", "curved"]
    frames = Frames.of_arrays(x, cvs, names)
    features = PlainFeatures.fit(frames)
    assert features.placed_variables == (0, 1)
    assert features.n_linear == 4  # of six that vary
    assert features.constant_others == ["x of atom 2", "y of atom 2", "z of atom 2"]
    positions = torch.from_numpy(frames.positions).double()
    encoded = features.encode(positions)
    assert encoded.mean(0).abs().max() < 1e-9
    assert (encoded.std(0, correction=0) - 1).abs().max() < 1e-9
    asked = torch.from_numpy(cvs)
    back = features.decode(encoded, asked).flatten(1)
    # frames are float32: 300 is kept to 2e-5
    assert (back - positions.flatten(1)).abs().max() < 1e-4
    moved = features.decode(torch.randn(400, 4).double(), asked + 0.5).flatten(1).numpy()
    np.testing.assert_allclose(moved[:, 4], cvs[:, 0] + 0.5, rtol=1e-14)
    again = 0.3 * moved[:, 0] - 1.7 * moved[:, 1] + 0.02 * moved[:, 3] + 5.0
    np.testing.assert_allclose(again, mixed + 0.5, atol=1e-6)


def test_noisy_periodic_or_overfitted_cvs_are_not_linear(rng):
    x = table(rng)
    noisy = x[:, 1] + 1e-3 * x[:, 1].std() * rng.normal(size=400)
    turning = CollectiveVariable("turning", "rad", (-math.pi, math.pi))
    frames = Frames.of_arrays(x, np.stack([noisy, x[:, 0]], 1), ["noisy", turning])
    assert PlainFeatures.fit(frames).placed_variables == ()
    few = Frames.of_arrays(rng.normal(size=(24, 11)), rng.normal(size=24))
    assert PlainFeatures.fit(few).placed_variables == ()


def test_log_det_is_that_of_the_derivative(rng):
    """log|J| of coordinates by features and placed CVs, against autograd."""
    x = table(rng)
    cvs = np.stack([x[:, 1] - 2 * x[:, 5], x[:, 2]], axis=1)
    features = PlainFeatures.fit(Frames.of_arrays(x, cvs))
    varying = torch.tensor([0, 1, 2, 3, 4, 5])
    encoded = features.encode(torch.from_numpy(Frames.of_arrays(x, cvs).positions))
    for k in range(3):
        both = torch.cat([torch.from_numpy(cvs[k]), encoded[k]])
        jacobian = torch.autograd.functional.jacobian(
            lambda q: features.decode(q[None, 2:], q[None, :2]).flatten()[varying], both
        )
        expected = float(torch.linalg.slogdet(jacobian)[1])
        _, log_det = features.decode_with_log_det(encoded[k : k + 1], both[None, :2])
        assert features.log_scale + float(log_det) == pytest.approx(expected, abs=1e-9)


@pytest.fixture(scope="module")
def pair():
    """A LinearPair, frames of it with x as the CV, uniform in x as a biased run has them."""
    system = LinearPair(fast_stiffness=4.0)
    z = np.random.default_rng(0).uniform(-2, 2, (4000, 1))
    x = system.sample_conditional(z, 1, 1)[:, 0]
    return system, Frames.of_arrays(x, z, ["x"], temperature=system.temperature)


@pytest.fixture(scope="module")
def flow(pair):
    return ConditionalGenerator.fit(pair[1], settings=FLOW)


def test_a_flow_of_a_table_has_the_exact_conditional_density(pair, flow):
    system, _ = pair
    assert type(flow.features) is PlainFeatures
    assert flow.condition_noise.tolist() == [0.0]
    asked = np.linspace(-1.8, 1.8, 1000)[:, None]
    x, log_q = flow.sample_with_log_prob(asked, seed=1)
    assert x.shape == (1000, 1, 3)
    np.testing.assert_allclose(x[:, 0, 0], asked[:, 0], atol=1e-12)
    assert not x[:, 0, 2].any()
    np.testing.assert_allclose(flow.log_prob(x, asked), log_q, atol=1e-4)  # float32 networks
    width = system.kT / system.fast_stiffness
    off = x[:, 0, 1] - system.slope * asked[:, 0]
    log_p = -0.5 * off**2 / width - 0.5 * math.log(2 * math.pi * width)
    # what 4,000 frames tell of the 6 numbers of a conditional Gaussian costs 6/2/4000 = 8e-4
    assert abs((log_q - log_p).mean()) < 0.05
    # Kish at one condition, by the potential alone
    x, log_q = flow.sample_with_log_prob([0.7], 1000, seed=2)
    energy = system.potential(torch.from_numpy(system.coordinates(x))).numpy()
    assert kish_effective_sample_size(-energy / system.kT - log_q) > 950


def test_it_is_saved_and_loaded(flow, tmp_path):
    path = flow.save(tmp_path / "pair")
    again = ConditionalGenerator.load(path)
    assert again.topology_hash == ""
    np.testing.assert_array_equal(again.sample([0.3], 9), flow.sample([0.3], 9))
    assert again.features.log_scale == flow.features.log_scale
    # of no topology, it is refused by none
    ConditionalGenerator.load(path, LinearPair().topology())


def test_it_goes_with_a_topology_as_well(pair):
    """The same frames as those of an argon atom: the same generator, which knows its topology."""
    system, frames = pair
    topology = system.topology()
    named = replace(frames, topology_hash=topology_hash(topology))
    few = replace(FLOW, steps=3, report_every=1)
    one = ConditionalGenerator.fit(named, topology, few, featurize=PlainFeatures.fit)
    other = ConditionalGenerator.fit(frames, settings=few)
    np.testing.assert_array_equal(one.sample([0.1], 5), other.sample([0.1], 5))
    assert one.topology_hash == topology_hash(topology)
    with pytest.raises(ValueError, match=r"featurize=PlainFeatures\.fit"):
        ConditionalGenerator.fit(named, topology, few)
    with pytest.raises(ValueError, match="the frames were written of one"):
        ConditionalGenerator.fit(named, settings=few)


def test_a_molecule_without_its_topology_is_refused():
    molecule = alanine_dipeptide()
    n = 30
    frames = Frames.of_arrays(np.repeat(molecule.positions[None], n, 0), np.arange(n))
    written = replace(frames, topology_hash=topology_hash(molecule.topology))
    with pytest.raises(ValueError, match=r"give it, as in fit\(frames, topology\)"):
        ConditionalGenerator.fit(written)


@pytest.mark.parametrize("system", [CoupledDoubleWell(), RotatedMuellerBrown()],
                         ids=lambda s: type(s).__name__)  # fmt: skip
def test_a_gan_places_linear_slow_variables_of_many_dimensions(system):
    x = system.sample(2000, 3)
    z = system.slow(torch.from_numpy(x)).numpy()
    settings = TrainingSettings(steps=20, batch=64, width=16, report_every=10)
    gan = ConditionalGenerator.fit(Frames.of_arrays(x, z), settings=settings)
    asked = z[:200]
    made = system.coordinates(gan.sample(asked, seed=1))
    assert made.shape == (200, system.n_dims)
    # the slopes of a rotated variable are known as well as float32 frames tell them
    found = system.slow(torch.from_numpy(made)).numpy()
    np.testing.assert_allclose(found, asked, atol=1e-6)


def test_a_curved_slow_variable_is_no_coordinate():
    """The half-moon's: all coordinates are made, and a flow's condition is blurred."""
    system = HalfMoon()
    x = system.sample(2000, 4)
    z = system.slow(torch.from_numpy(x)).numpy()
    few = replace(FLOW, steps=20, report_every=10)
    flow = ConditionalGenerator.fit(Frames.of_arrays(x, z), settings=few)
    assert flow.features.placed_variables == ()
    assert flow.features.n_linear == 2
    assert flow.condition_noise[0] == pytest.approx(0.1 * z.std(), rel=1e-12)


def test_arrays_that_are_no_frames_are_refused():
    with pytest.raises(ValueError, match=r"x has shape \(4,\), expected \(n_frames, n_atoms, 3\)"):
        Frames.of_arrays(np.zeros(4), np.zeros(4))
    with pytest.raises(ValueError, match=r"cvs has shape \(5, 1\), expected \(4, 1\)"):
        Frames.of_arrays(np.zeros((4, 2)), np.zeros(5))


@pytest.mark.parametrize(
    ("name", "array"),
    [
        ("pivots", np.array([99])),
        ("pivots", np.array([-2])),
        ("placed", np.array([5])),
        ("slopes", np.zeros((1, 3))),
        ("slopes", np.ones((1, 2))),
        ("slopes", np.ones((2, 3))),
        ("linear", np.array([7])),
        ("linear", np.array([0.5])),
        ("scale", np.ones(2)),
        ("centre", np.full(3, np.nan)),
        ("atoms", np.arange(3)),
    ],
)
def test_damaged_arrays_are_refused(flow, tmp_path, name, array):
    path = flow.save(tmp_path / "pair")
    with np.load(path) as file:
        arrays = {key: file[key] for key in file.files}
    np.savez(path, **(arrays | {f"features.{name}": array}))
    with pytest.raises(ValueError, match=r"pair\.npz is .*damaged"):
        ConditionalGenerator.load(path)
