"""Truth: closed forms, scipy's one-dimensional functions, and constructed samples."""

import numpy as np
import pytest
from scipy import stats

from openmm_cgan.metrics import (
    effective_sample_sizes,
    energy_distance,
    jensen_shannon_distance,
    kish_effective_sample_size,
    marginal_distances,
    memorisation,
    pair_distances,
    r_hat,
)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(1)


def test_jensen_shannon_distance_of_known_histograms() -> None:
    # histograms (1/2, 1/2) and (1, 0), the two divergences from their mean by hand
    p, q = np.array([0.5, 0.5]), np.array([1.0, 0.0])
    m = (p + q) / 2
    by_hand = 0.5 * (p * np.log(p / m)).sum() + 0.5 * np.log(q[0] / m[0])
    value = jensen_shannon_distance([0.2, 0.8], [0.1, 0.3], domain=(0.0, 1.0), bins=2)
    assert value == pytest.approx(np.sqrt(by_hand), rel=1e-12)


def test_jensen_shannon_distance_is_symmetric_and_bounded(rng: np.random.Generator) -> None:
    a, b = rng.normal(size=500), rng.normal(1.0, size=400)
    assert jensen_shannon_distance(a, b) == pytest.approx(jensen_shannon_distance(b, a))
    assert jensen_shannon_distance(a, a + 100) == pytest.approx(np.sqrt(np.log(2)))


def test_values_outside_the_domain_are_refused() -> None:
    with pytest.raises(ValueError, match="wrap a periodic coordinate"):
        jensen_shannon_distance([0.0, 4.0], [0.0, 1.0], domain=(-np.pi, np.pi))


@pytest.mark.parametrize("bad", [[], [np.nan], [[1.0, 2.0]]])
def test_bad_samples_are_refused(bad: list) -> None:
    with pytest.raises(ValueError, match="first has shape"):
        jensen_shannon_distance(bad, [1.0])


def test_marginals_of_equal_distributions_lie_at_the_floor(rng: np.random.Generator) -> None:
    md = rng.vonmises(0.0, 2.0, size=(8000, 3))
    generated = rng.vonmises(0.0, 2.0, size=(8000, 3))
    generated[:, 2] = rng.vonmises(1.0, 2.0, size=8000)
    result = marginal_distances(generated, md, domain=(-np.pi, np.pi))
    # 100 bins, 4000 frames: the divergence of equal distributions is (bins - 1) / (4 n)
    expected = np.sqrt(99 / (4 * 4000))
    assert result.floor == pytest.approx(expected, rel=0.25)
    assert result.distance[:2] == pytest.approx(expected, rel=0.25)
    # samples of one size: twice as many generated frames would bring the distance to 0.87 floors
    assert result.distance[:2] == pytest.approx(result.floor[:2], rel=0.09)
    assert result.distance[2] > 3 * result.floor[2]


def test_floor_shows_what_the_two_halves_of_the_md_disagree_on(rng: np.random.Generator) -> None:
    md = np.concatenate([rng.normal(size=(500, 1)), rng.normal(3.0, size=(500, 1))])
    assert marginal_distances(md, md, bins=20).floor[0] > 0.5


def test_kish_of_known_weights() -> None:
    weights = np.array([1.0, 2.0, 3.0])
    assert kish_effective_sample_size(np.log(weights) + 700) == pytest.approx(36 / 14)
    assert kish_effective_sample_size([-np.inf, -np.inf]) == 0.0
    with pytest.raises(ValueError, match="NaN"):
        kish_effective_sample_size([0.0, np.nan])


def test_effective_sample_sizes_region_by_region(rng: np.random.Generator) -> None:
    cvs = rng.uniform([0, 10], [1, 14], (4000, 2))
    logs = np.where(cvs[:, 0] < 0.5, 0.0, rng.normal(0, 0.5, 4000))
    logs[(cvs[:, 0] < 0.5) & (cvs[:, 1] > 12) & (np.arange(4000) % 2 == 0)] = -np.inf
    cvs[0] = [2.0, 11.0]  # outside
    sizes = effective_sample_sizes(cvs, logs, [[0, 1], [10, 14]], bins=2)
    assert sizes.counts.sum() == 3999
    assert sizes.share[0, 0] == 1.0
    assert sizes.share[0, 1] == pytest.approx(0.5, abs=4 * 0.5 / np.sqrt(1000))
    # log-normal weights of variance s^2: 1 / exp(s^2)
    assert sizes.share[1] == pytest.approx(np.exp(-0.25), abs=0.06)
    empty = effective_sample_sizes(cvs, logs, [[20, 30], [10, 14]], bins=2)
    assert np.isnan(empty.share).all()
    assert not empty.counts.any()
    with pytest.raises(ValueError, match=r"shape \(3,\), expected \(4000,\)"):
        effective_sample_sizes(cvs, np.zeros(3), [[0, 1], [10, 14]])


def test_r_hat_of_runs_that_agree_is_one(rng: np.random.Generator) -> None:
    # of independent draws R-hat - 1 is about chi-square(7) / 8 / n: 1.01 is 20 deviations away
    assert r_hat(rng.normal(size=(4, 2000))) < 1.01
    assert r_hat(rng.standard_cauchy(size=(4, 2000))) < 1.01
    assert r_hat([np.full(9, 2.0), np.full(8, 2.0)]) == 1.0


def test_r_hat_of_shifted_normal_runs_is_the_formula(rng: np.random.Generator) -> None:
    # few enough outside one normal for ranks to change little
    shift, n = 0.3, 20_000
    runs = rng.normal([[0.0], [shift]], size=(2, n))
    halves_variance = 4 * (shift / 2) ** 2 / 3  # of the four means
    assert r_hat(runs) == pytest.approx(np.sqrt(1 + halves_variance), abs=0.004)


def test_r_hat_sees_drift_spread_and_other_basins(rng: np.random.Generator) -> None:
    drifting = rng.normal(size=(2, 1000)) + np.linspace(0, 2, 1000)
    assert r_hat(drifting) > 1.05
    spread = rng.normal(size=(2, 1000)) * [[1.0], [3.0]]
    assert r_hat(spread) > 1.05
    assert r_hat([np.zeros(10), np.ones(10)]) == np.inf
    across = [rng.vonmises(np.pi, 20, 800), rng.vonmises(-np.pi, 20, 500)]  # the same place
    assert r_hat(across, domain=(-np.pi, np.pi)) < 1.02
    assert r_hat([across[0], rng.vonmises(0, 20, 500)], domain=(-np.pi, np.pi)) > 1.5
    with pytest.raises(ValueError, match="the shortest of 2 runs has 3 values"):
        r_hat([np.arange(9.0), np.arange(3.0)])


def test_memorisation_tells_copies_from_new_frames(rng: np.random.Generator) -> None:
    training, held_out, fresh = (rng.normal(size=(2000, 4)) for _ in range(3))
    honest = memorisation(fresh, training, held_out)
    # the standard error of a median of 2000 distances is below 2 % of it here
    assert honest.ratio == pytest.approx(1.0, abs=0.1)
    assert honest.copies == pytest.approx(0.01, abs=4 * np.sqrt(0.01 / 2000) * 2)
    copied = memorisation(training[::2] + 1e-6, training, held_out)
    assert copied.ratio < 1e-3
    assert copied.copies == 1.0


def test_energy_distance_against_scipy_in_one_dimension(rng: np.random.Generator) -> None:
    x, y = rng.normal(size=(1500, 1)), rng.normal(1.0, 2.0, size=(1200, 1))
    # scipy takes all pairs, a frame with itself included; ours the distinct ones
    bias = sum(np.abs(s - s.T).mean() / (len(s) - 1) for s in (x, y))
    square = stats.energy_distance(x[:, 0], y[:, 0]) ** 2
    assert energy_distance(x, y) ** 2 == pytest.approx(square - bias, rel=1e-9)


def test_energy_distance_of_equal_distributions_is_small(rng: np.random.Generator) -> None:
    x, y = rng.normal(size=(1000, 5)), rng.normal(size=(1000, 5))
    assert energy_distance(x, y) < 0.1
    assert energy_distance(x, y + 1.0) > 1.0


def test_energy_distance_cuts_large_samples_by_its_seed(rng: np.random.Generator) -> None:
    x, y = rng.normal(size=(300, 2)), rng.normal(size=(300, 2))
    first = energy_distance(x, y + 1, max_frames=100, seed=4)
    assert first == energy_distance(x, y + 1, max_frames=100, seed=4)
    assert first != energy_distance(x, y + 1, max_frames=100, seed=5)


def test_different_numbers_of_coordinates_are_refused(rng: np.random.Generator) -> None:
    with pytest.raises(ValueError, match="2 coordinates cannot be compared with 3"):
        energy_distance(rng.normal(size=(9, 2)), rng.normal(size=(9, 3)))


def test_pair_distances_do_not_turn_with_the_molecule(rng: np.random.Generator) -> None:
    positions = rng.normal(size=(2, 4, 3))
    turn = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    assert pair_distances(positions).shape == (2, 6)
    np.testing.assert_allclose(
        pair_distances(positions @ turn + 1.0), pair_distances(positions), atol=1e-12
    )
    assert pair_distances(positions)[0, 0] == pytest.approx(
        np.sqrt(((positions[0, 0] - positions[0, 1]) ** 2).sum())
    )
