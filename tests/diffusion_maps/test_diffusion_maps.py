"""Diffusion maps against exact answers: a circle, a line under a bias, two wells, rigid frames."""

import logging

import numpy as np
import pytest
import torch
from scipy import sparse
from scipy.special import eval_hermitenorm
from scipy.stats import spearmanr

from openmm_cgan.diffusion_maps import (
    DiffusionMapSettings,
    choose_bandwidth,
    diffusion_map,
    feature_distances,
    geometric_harmonics,
    independent_coordinates,
    kernel_ridge,
    mahalanobis_distances,
    superposed_distances,
    with_local_metric,
)
from openmm_cgan.diffusion_maps.groups import joining_kernel
from openmm_cgan.diffusion_maps.kernels import NEIGHBOURS, gaussian_kernel
from openmm_cgan.diffusion_maps.landmarks import farthest_landmarks, weighted_landmarks
from openmm_cgan.diffusion_maps.plots import plot_map
from openmm_cgan.plumed.geometry.superposition import make_references, mean_square_deviation
from openmm_cgan.testsystems.multiscale import HalfMoon


def circle(n=600, uneven=0.0):
    """Points of a circle, and their angles, of density 1 + uneven cos."""
    grid = np.linspace(0, 2 * np.pi, 20_001)
    share = (grid + uneven * np.sin(grid)) / (2 * np.pi)
    angle = np.interp((np.arange(n) + 0.5) / n, share, grid)
    return np.stack([np.cos(angle), np.sin(angle)], axis=1), angle


def test_a_circle_has_the_spectrum_of_a_circle_whatever_its_density():
    points, angle = circle(uneven=0.8)
    eps = 0.005
    found = diffusion_map(points, settings=DiffusionMapSettings(alpha=1.0, bandwidth=eps))
    # exp(-k^2 eps) up to a relative error of the order of eps; the coordinates cos(k a), sin(k a)
    rates = -np.log(found.eigenvalues) / eps
    np.testing.assert_allclose(rates, [1, 1, 4, 4], rtol=0.05)
    waves = np.exp(1j * angle)
    pair = found.coordinates[:, 0] + 1j * found.coordinates[:, 1]
    fit = max(abs(np.vdot(waves, pair)), abs(np.vdot(waves, pair.conj())))
    assert fit / np.linalg.norm(pair) / np.linalg.norm(waves) > 0.99


def test_frames_of_a_biased_run_have_the_eigenfunctions_of_the_unbiased_one():
    # an Ornstein-Uhlenbeck process of variance 1: eigenvalues exp(-k eps), Hermite polynomials;
    # seen evenly on a line, with the weights of the normal distribution
    line = np.linspace(-4.5, 4.5, 800)[:, None]
    weights = np.exp(-(line[:, 0] ** 2) / 2)
    eps = 0.02
    found = diffusion_map(line, weights, DiffusionMapSettings(bandwidth=eps, n_coordinates=3))
    np.testing.assert_allclose(-np.log(found.eigenvalues) / eps, [1, 2, 3], rtol=0.05)
    inner = np.abs(line[:, 0]) < 2
    for k in (1, 2):
        exact = eval_hermitenorm(k, line[inner, 0])
        slope = np.corrcoef(exact, found.coordinates[inner, k - 1])[0, 1]
        assert abs(slope) > 0.999
    even = diffusion_map(line, settings=DiffusionMapSettings(bandwidth=eps, n_coordinates=3))
    assert -np.log(even.eigenvalues[0]) / eps < 0.3  # (pi / 9)^2: without weights, of the interval


def test_a_table_sparse_or_dense_gives_the_same_map():
    rng = np.random.default_rng(0)
    points = np.concatenate([rng.uniform(0, 20, (700, 1)), rng.normal(size=(700, 1))], axis=1)
    sparse = gaussian_kernel(points, 0.05, feature_distances)
    by_blocks = gaussian_kernel(points, 0.05, lambda a, b: feature_distances(a, b))
    expected = np.exp(-feature_distances(points, points) / 0.2)
    for kernel in (sparse, by_blocks):
        assert kernel.nnz < 0.3 * kernel.shape[0] ** 2
        np.testing.assert_allclose(kernel.toarray(), expected, atol=1.01e-8)


def test_the_sum_criterion_finds_the_dimension_of_the_data(tmp_path):
    rng = np.random.default_rng(1)
    plane = rng.random((600, 2)) @ rng.normal(size=(2, 7))
    found = choose_bandwidth(plane)
    assert 2 * found.slopes.max() == pytest.approx(2, abs=0.3)
    grid = np.log(found.tried)
    slopes = np.gradient(found.log_sums, grid)
    np.testing.assert_allclose(slopes[1:-1], found.slopes[1:-1], atol=0.03)
    path = tmp_path / "map.png"
    plot_map(diffusion_map(plane[:300]), path)
    assert path.read_bytes().startswith(b"\x89PNG")


def test_a_bandwidth_leaves_most_frames_some_neighbours():
    """Threes of frames along a line, spread in ten dimensions: S rises fastest within them."""
    rng = np.random.default_rng(4)
    frames = 1e-3 * rng.normal(size=(600, 10))
    frames[:, 0] += np.repeat(rng.uniform(0, 1, 200), 3)
    found = choose_bandwidth(frames)
    assert found.tried[found.slopes.argmax()] < 1e-4
    square = ((frames[:, None] - frames) ** 2).sum(-1)
    neighbours = (square <= 2 * found.chosen * (1 + 1e-9)).sum(axis=1) - 1
    assert (neighbours >= NEIGHBOURS).mean() >= 0.9
    assert found.chosen < 0.01  # and no more


def test_nystroem_gives_back_the_frames_and_has_the_slope_of_its_differences():
    rng = np.random.default_rng(2)
    frames = rng.normal(size=(300, 3)) * [2, 1, 0.3]
    weights = rng.random(300)
    found = diffusion_map(frames, weights, DiffusionMapSettings(n_coordinates=3))
    np.testing.assert_allclose(found.extend(frames), found.coordinates, atol=1e-7)
    x = torch.tensor(rng.normal(size=(4, 3)), requires_grad=True)
    move = rng.normal(size=(4, 3))
    ends = [found.extend(x.detach().numpy() + s * move) for s in (1e-5, -1e-5)]
    for k in range(3):
        [slope] = torch.autograd.grad(found.extend(x)[:, k].sum(), x)
        difference = (ends[0][:, k] - ends[1][:, k]) / 2e-5
        np.testing.assert_allclose((slope.numpy() * move).sum(1), difference, rtol=1e-6, atol=1e-7)


def test_landmarks_stand_for_all_frames():
    rng = np.random.default_rng(3)
    frames, weights = rng.normal(size=(600, 2)) * [3, 0.5], rng.random(600)
    for landmarks in ("farthest", "weighted"):
        settings = DiffusionMapSettings(
            n_coordinates=2, max_landmarks=200, landmarks=landmarks, alpha=0.0
        )
        some, every = diffusion_map(frames, weights, settings), diffusion_map(frames, weights)
        assert len(some.landmarks) <= 200
        assert some.weights.sum() == pytest.approx(1)
        assert some.counts.sum() == 600
        alike = spearmanr(some.extend(frames)[:, 0], every.coordinates[:, 0]).statistic
        assert abs(alike) > 0.99
    chosen, owner = farthest_landmarks(frames, 50, feature_distances)
    gaps = feature_distances(frames[chosen], frames[chosen])[np.triu_indices(50, 1)]
    nearest = feature_distances(frames, frames[chosen])
    assert nearest.min(1).max() <= gaps.min() * (1 + 1e-5)
    assert np.mean(nearest.argmin(1) == owner) > 0.999
    drawn, _ = weighted_landmarks(frames, (frames[:, 0] > 0) + 1e-9, 100, feature_distances)
    assert np.mean(frames[drawn, 0] > 0) > 0.99


@pytest.mark.parametrize("distances", [feature_distances, superposed_distances])
def test_each_landmark_is_as_far_as_can_be_from_those_before(monkeypatch, distances):
    """By the rule itself, where few of the frames are looked at at once."""
    monkeypatch.setattr("openmm_cgan.diffusion_maps.landmarks.FARTHEST", 20)
    monkeypatch.setattr("openmm_cgan.diffusion_maps.landmarks.BLOCK", 100)
    frames = np.random.default_rng(4).normal(size=(400, 5, 3))
    frames = frames if distances is superposed_distances else frames.reshape(400, 15)
    chosen, owner = farthest_landmarks(frames, 60, distances, first=7)
    square = distances(frames, frames)
    assert chosen[0] == 7
    assert len(set(chosen)) == 60
    for k in range(1, 60):
        nearest = square[:, chosen[:k]].min(1)
        assert nearest[chosen[k]] > nearest.max() * (1 - 1e-4)
    assert np.mean(chosen[owner] == chosen[square[:, chosen].argmin(1)]) > 0.99


def test_no_two_landmarks_are_the_same_frame():
    frames = np.random.default_rng(5).normal(size=(40, 60))[np.arange(1000) % 40] + 100.0
    chosen, owner = farthest_landmarks(frames, 200, feature_distances)
    assert len(chosen) == 40
    np.testing.assert_array_equal(frames[chosen[owner]], frames)


@pytest.mark.parametrize("scale", [0.05, 1.0])
def test_a_kernel_is_the_same_sparse_or_dense(scale):
    frames = scale * np.random.default_rng(6).normal(size=(300, 8))
    kernel = gaussian_kernel(frames, 0.005, feature_distances)
    assert sparse.issparse(kernel) == (scale == 1.0)
    whole = np.exp(-feature_distances(frames, frames) / 0.02)
    found = kernel.toarray() if sparse.issparse(kernel) else kernel
    np.testing.assert_allclose(found, np.where(whole < 1e-8, 0, whole), atol=2e-8)


@pytest.mark.parametrize("n_landmarks", [60, 3000])
def test_features_far_from_zero_give_the_same_map(n_landmarks):
    """A volume of 1e5 that varies by 1, as a feature of variance 1 about 0."""
    rng = np.random.default_rng(2)
    frames = np.stack([np.linspace(-1, 1, 300), 0.1 * rng.normal(size=300)], 1)
    settings = DiffusionMapSettings(n_coordinates=2, max_landmarks=n_landmarks)
    near, far = (diffusion_map(f, settings=settings) for f in (frames, frames + 1e5))
    np.testing.assert_array_equal(far.index, near.index)
    np.testing.assert_allclose(far.coordinates, near.coordinates, atol=1e-6)
    np.testing.assert_allclose(far.extend(frames + 1e5), near.extend(frames), atol=1e-6)


def test_units_of_the_noise_do_not_depend_on_where_zero_is():
    rng = np.random.default_rng(3)
    frames, root = rng.normal(size=(20, 2)), rng.normal(size=(20, 2, 2))
    covariances = root @ root.transpose(0, 2, 1) + np.eye(2)
    near, far = (with_local_metric(f, covariances) for f in (frames, frames + 1e6))
    np.testing.assert_allclose(
        mahalanobis_distances(far, far), mahalanobis_distances(near, near), rtol=1e-6, atol=1e-6
    )


def test_superposed_distances_are_those_of_the_decomposition():
    rng = np.random.default_rng(4)
    frames = rng.normal(size=(30, 5, 3))
    frames[1], frames[2], frames[3, :, 2] = frames[0], -frames[0], 0.0
    same = np.ones((10, 5))
    exact = mean_square_deviation(frames, make_references(frames[:10], same, same, rotate=True))
    found = superposed_distances(frames, frames[:10])
    np.testing.assert_allclose(found, exact, atol=1e-7)
    tensors = superposed_distances(torch.tensor(frames), frames[:10])
    np.testing.assert_allclose(tensors, exact, atol=1e-7)


def test_distances_in_units_of_the_noise_are_those_of_the_hidden_variables():
    rng = np.random.default_rng(5)
    hidden = rng.normal(size=(40, 2)) * 1e-2
    turned = np.array([[2.0, 1.0], [0.3, -1.0]])
    seen = with_local_metric(hidden @ turned.T, np.broadcast_to(turned @ turned.T, (40, 2, 2)))
    np.testing.assert_allclose(
        mahalanobis_distances(seen, seen), feature_distances(hidden, hidden), atol=1e-12
    )


@pytest.mark.parametrize("bend", [0.0, 1.0, 4.0])
@pytest.mark.parametrize("n_slow", [1, 2, None])
def test_slow_variables_that_bend_have_their_own_distances(bend, n_slow):
    """One or two slow variables u, fast v, seen as (u + c v^2, v) and turned: exact for near v."""
    rng = np.random.default_rng(6)
    d = 3 if n_slow == 2 else 2
    hidden = np.concatenate([rng.uniform(-1, 1, (200, d - 1)), rng.normal(size=(200, 1))], 1)
    turned = np.linalg.qr(rng.normal(size=(d, d)))[0]
    seen, jacobian = hidden.copy(), np.tile(np.eye(d), (200, 1, 1))
    seen[:, 0] += bend * hidden[:, -1] ** 2
    jacobian[:, 0, -1] = 2 * bend * hidden[:, -1]
    jacobian = turned @ jacobian
    noise = np.diag([1.0] * (d - 1) + [1e4])
    features = with_local_metric(
        seen @ turned.T, jacobian @ noise @ jacobian.transpose(0, 2, 1), n_slow
    )
    found = mahalanobis_distances(features, features)
    exact = feature_distances(hidden[:, :-1], hidden[:, :-1])
    # where both ends see the slow variable from nearly the same side: never beyond a right angle
    slopes = np.column_stack([np.ones(200), -2 * bend * hidden[:, -1]])
    near = slopes @ slopes.T > 0.5 * np.sqrt(np.outer(*2 * [(slopes**2).sum(1)]))
    apart = np.abs(found - exact) / (exact + 0.01)
    assert np.quantile(apart[near], 0.9) < 0.15
    tensors = mahalanobis_distances(torch.tensor(features), torch.tensor(features))
    np.testing.assert_allclose(tensors, found, atol=1e-9)


def test_covariances_without_an_inverse_are_refused():
    ends = np.random.default_rng(7).normal(size=(4, 3, 3))  # three runs of three dimensions
    ends -= ends.mean(1, keepdims=True)
    covariances = np.einsum("nra,nrb->nab", ends, ends)
    with pytest.raises(ValueError, match=r"frame 0 has no inverse .* more than 3 runs"):
        with_local_metric(np.zeros((4, 3)), covariances)
    with pytest.raises(ValueError, match=r"expected \(5, 3, 3\)"):
        with_local_metric(np.zeros((5, 3)), covariances)
    with pytest.raises(ValueError, match="n_slow is 4; expected 0 to 3"):
        with_local_metric(np.zeros((4, 3)), np.tile(np.eye(3), (4, 1, 1)), 4)


def test_the_slow_variable_of_the_half_moon_is_found():
    """Exact covariances: what is left is what distances and the map make of them."""
    moon = HalfMoon(eps=0.01)
    frames = moon.sample(500, seed=2)
    hidden = moon.hidden(torch.from_numpy(frames))
    jacobian = moon.jacobian(hidden).numpy()
    covariances = jacobian @ np.diag([1.0, 100.0]) @ jacobian.transpose(0, 2, 1)
    settings = DiffusionMapSettings(n_coordinates=2)
    found = diffusion_map(
        with_local_metric(frames, covariances),
        settings=settings, square_distances=mahalanobis_distances,
    )  # fmt: skip
    assert abs(spearmanr(found.coordinates[:, 0], hidden[:, 0]).statistic) > 0.998


@pytest.mark.parametrize("n_features", [2, 8])
def test_outliers_are_no_coordinate(n_features):
    """A frame far from all others, and a pair: the first coordinate is that of the others."""
    rng = np.random.default_rng(8)
    frames = 0.05 * rng.normal(size=(1200, n_features))
    frames[:, 0] = rng.uniform(-1, 1, 1200)
    frames[0, 1], frames[1, 1] = 30.0, -20.0
    frames[2] = frames[1] + 0.01
    found = diffusion_map(frames, settings=DiffusionMapSettings(n_coordinates=2))
    assert found.eigenvalues[0] < 1 - 1e-6
    assert abs(spearmanr(found.coordinates[3:, 0], frames[3:, 0]).statistic) > 0.99
    nearest = 3 + feature_distances(frames[:3], frames[3:]).argmin(1)
    placed = found.coordinates[nearest] / found.eigenvalues
    np.testing.assert_allclose(found.coordinates[:3, 0], placed[:, 0], rtol=1e-3)
    np.testing.assert_allclose(found.extend(frames)[:, 0], found.coordinates[:, 0], rtol=0.1)


def test_an_outlier_with_a_faint_neighbour_is_no_coordinate():
    """It is left once in a million steps: biased frames about it weigh little beside it."""
    frames = np.stack([np.random.default_rng(9).uniform(-1, 1, 1200), np.zeros(1200)], axis=1)
    frames[0] = 0.2, np.sqrt(4 * 0.01 * 8)  # exp(-8), above what counts as a neighbour
    weights = np.append(1e4, np.ones(1199))
    settings = DiffusionMapSettings(n_coordinates=2, bandwidth=0.01)
    found = diffusion_map(frames, weights, settings)
    assert abs(spearmanr(found.coordinates[1:, 0], frames[1:, 0]).statistic) > 0.99


@pytest.mark.parametrize("gap", [1.0, 1.15, 1.3])
def test_groups_are_joined_by_no_more_than_it_takes(gap):
    """Two lines of frames with nothing between: wider than that would blur what is along them."""
    along = np.linspace(0, 2, 400)
    frames = np.stack([np.append(along - 2 - gap / 2, along + gap / 2), np.zeros(800)], axis=1)
    found = diffusion_map(frames, settings=DiffusionMapSettings(n_coordinates=2))
    least = gap**2 / (4 * np.log(1e4))
    assert least < found.bandwidth.chosen < 1.1 * least


def test_groups_without_neighbours_are_joined_or_told(caplog):
    rng = np.random.default_rng(6)
    two = rng.normal(size=(200, 2)) + np.repeat([[0.0, 0.0], [60.0, 0.0]], 100, axis=0)
    with caplog.at_level(logging.WARNING, "openmm_cgan"):
        diffusion_map(two)
        assert not caplog.text
        diffusion_map(two, settings=DiffusionMapSettings(bandwidth=0.5))
    assert "2 groups" in caplog.text


@pytest.mark.parametrize("far", [np.inf, np.nan], ids=["infinite", "no number"])
def test_distances_that_are_not_finite_are_told(far):
    """Doubled bandwidths never join what is infinitely far: this looked for one without end."""
    x = np.random.default_rng(0).normal(size=(300, 2))

    def distances(frames, others):
        apart = (frames[:, None, 0] > 0) != (others[None, :, 0] > 0)
        return np.where(apart, far, feature_distances(frames, others))

    with pytest.raises(ValueError, match=f"the square distance of two frames is {far}"):
        diffusion_map(x, square_distances=distances)
    with pytest.raises(ValueError, match=r"infinitely far from others|is not a number"):
        joining_kernel(x, 0.1, distances)


def test_harmonics_are_told_from_new_coordinates():
    rng = np.random.default_rng(7)
    strip = rng.random((500, 2)) * [2.5, 1]
    found = diffusion_map(strip, settings=DiffusionMapSettings(alpha=1.0, n_coordinates=4))
    fresh = independent_coordinates(found.coordinates)
    assert fresh[1] < 0.3  # cos(2 pi x / 2.5) of cos(pi x / 2.5)
    across = [abs(spearmanr(c, strip[:, 1]).statistic) for c in found.coordinates.T]
    assert fresh[1:].argmax() + 1 == np.argmax(across)


def test_what_is_interpolated_goes_through_its_values_and_has_its_slope():
    rng = np.random.default_rng(8)
    points = rng.random((300, 2))
    values = np.stack([np.sin(3 * points[:, 0]), points[:, 0] * points[:, 1]], axis=1)
    fresh = 0.1 + 0.8 * rng.random((100, 2))
    exact = np.stack([np.sin(3 * fresh[:, 0]), fresh[:, 0] * fresh[:, 1]], axis=1)
    for make in (kernel_ridge, geometric_harmonics):
        function = make(points, values)
        np.testing.assert_allclose(function(fresh), exact, atol=0.01)
        x = torch.tensor(fresh, requires_grad=True)
        [slope] = torch.autograd.grad(function(x)[:, 1].sum(), x)
        ends = [function(fresh + s * np.array([1e-5, 0])) for s in (1, -1)]
        difference = (ends[0] - ends[1])[:, 1] / 2e-5
        np.testing.assert_allclose(slope[:, 0], difference, rtol=1e-5, atol=1e-6)


def test_harmonics_lead_from_coordinates_back_to_frames():
    points, _ = circle(400)
    found = diffusion_map(points, settings=DiffusionMapSettings(alpha=1.0, n_coordinates=2))
    lift = geometric_harmonics(found.coordinates, found.landmarks)
    fresh = circle(77)[0]
    np.testing.assert_allclose(lift(found.extend(fresh)), fresh, atol=0.01)


UNFIT = {
    "not finite": ({"frames": np.full((9, 2), np.nan)}, "frame 0 has numbers that are not finite"),
    "weights": ({"weights": np.ones(3)}, "weights of shape"),
    "no weight": ({"weights": np.zeros(9)}, "not all zero"),
    "a column": ({"frames": np.ones(9)}, r"frames of shape \(9,\)"),
    "alike": ({"frames": np.ones((9, 2))}, "three different frames"),
    "few": ({"frames": np.eye(3)}, "too few for 4 coordinates"),
}


@pytest.mark.parametrize("kind", UNFIT)
def test_what_gives_no_map_is_refused(kind):
    given, message = UNFIT[kind]
    frames = np.random.default_rng(0).normal(size=(9, 2))
    with pytest.raises(ValueError, match=message):
        diffusion_map(given.get("frames", frames), given.get("weights"))


LINE = np.random.default_rng(8).uniform(-1, 1, (60, 2)) * [1.0, 0.05]
NO_COORDINATES = {
    "coordinates of rounding": (
        np.repeat(LINE[:3], 20, 0),
        {},
        "2 coordinates are told",
    ),
    "all frames alike": (np.ones((50, 2)), {"bandwidth": 1.0}, "0 coordinates are told"),
    "a bandwidth beyond all": (LINE, {"bandwidth": 1e9}, "take a smaller bandwidth"),
    "positions as features": (np.zeros((60, 5, 3)), {}, "square_distances=superposed_distances"),
}


@pytest.mark.parametrize("kind", NO_COORDINATES)
def test_what_gives_no_coordinates_is_refused(kind):
    frames, settings, message = NO_COORDINATES[kind]
    with pytest.raises(ValueError, match=message):
        diffusion_map(frames, settings=DiffusionMapSettings(**settings))


@pytest.mark.parametrize(
    "settings", [{"max_landmarks": 5}, {"max_landmarks": -1}, {"n_coordinates": 1.5}]
)
def test_settings_without_a_meaning_are_refused_when_made(settings):
    with pytest.raises(ValueError, match=next(iter(settings))):
        DiffusionMapSettings(**settings)


def test_frames_of_another_shape_are_refused():
    found = diffusion_map(LINE)
    for frames in (np.zeros((1, 3)), np.zeros(2)):
        with pytest.raises(ValueError, match=r"expected \(n, 2\)"):
            found.extend(frames)
    with pytest.raises(ValueError, match="takes feature_distances"):
        diffusion_map(LINE, square_distances=superposed_distances)
    assert found.extend(LINE[:0]).shape == (0, 4)


def test_weights_that_are_worth_a_few_frames_are_told(caplog):
    with caplog.at_level(logging.WARNING, "openmm_cgan"):
        diffusion_map(LINE, np.exp(np.arange(60.0)))
    assert "worth 2.2 frames" in caplog.text
