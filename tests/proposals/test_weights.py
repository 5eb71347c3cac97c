"""Importance weights that cannot overflow, and that choices have their probabilities."""

import math

import numpy as np
import pytest
from scipy import stats

from openmm_cgan.collective_variable import CollectiveVariable
from openmm_cgan.proposals.selection import CURRENT, choose
from openmm_cgan.proposals.weights import (
    LogWeights,
    log_condition_noise,
    noisy_conditions,
)

PHI = CollectiveVariable("phi", "rad", (-math.pi, math.pi))
D = CollectiveVariable("d", "nm")


def test_log_weights_are_the_sum_of_their_terms() -> None:
    rng = np.random.default_rng(0)
    u, q, g, f, k = rng.standard_normal((5, 6))
    np.testing.assert_allclose(LogWeights(u, q, g, f, k).total(), -u + f - q - g + k)
    np.testing.assert_allclose(LogWeights(u, q, g).total(), -u - q - g)


def test_a_term_that_is_not_finite_makes_the_weight_zero() -> None:
    bad = np.array([np.inf, -np.inf, np.nan])
    for place in range(5):
        terms = [np.zeros(3) for _ in range(5)]
        terms[place] = bad
        assert np.isneginf(LogWeights(*terms).total()).all()
    both = LogWeights(np.array([np.inf]), np.array([np.inf]), np.array([-np.inf]))
    assert np.isneginf(both.total()).all()


def test_noisy_conditions_have_the_density_that_is_told() -> None:
    rng = np.random.default_rng(1)
    noise, n = np.array([0.4, 0.0, 0.03]), 4000
    cvs = np.tile([3.0, 1.0, 0.2], (n, 1))
    drawn = noisy_conditions(cvs, noise, (PHI, PHI, D), rng)
    assert (np.abs(drawn[:, 0]) <= math.pi).all()
    np.testing.assert_array_equal(drawn[:, 1], 1.0)
    # against scipy's normal, wrapped by hand
    images = drawn[:, :1] + 2 * math.pi * np.arange(-3, 4)
    expected = np.log(stats.norm(3.0, 0.4).pdf(images).sum(1))
    expected += stats.norm(0.2, 0.03).logpdf(drawn[:, 2])
    np.testing.assert_allclose(
        log_condition_noise(drawn, cvs, noise, (PHI, PHI, D)), expected, atol=1e-12
    )
    turned = np.where(drawn[:, 0] < 0, drawn[:, 0] + 2 * math.pi, drawn[:, 0])
    assert stats.kstest(turned, stats.norm(3.0, 0.4).cdf).pvalue > 1e-3


def test_wide_noise_on_a_circle_is_nearly_uniform() -> None:
    grid = np.linspace(-math.pi, math.pi, 1000, endpoint=False)[:, None]
    found = np.exp(log_condition_noise(grid, np.ones((1000, 1)), np.array([6.0]), (PHI,)))
    assert found.sum() * 2 * math.pi / 1000 == pytest.approx(1, abs=1e-9)
    assert found.max() - found.min() < 1e-6


def test_far_away_the_noise_has_a_finite_logarithm() -> None:
    found = log_condition_noise(np.array([[1e3]]), np.zeros((1, 1)), np.array([0.01]), (D,))
    assert found[0] == pytest.approx(-0.5e10 - math.log(0.01 * math.sqrt(2 * math.pi)))


def test_choices_have_the_probabilities_of_the_weights() -> None:
    weights = np.array([2.0, 1.0, 0.0, 5.0])  # the current one first
    with np.errstate(divide="ignore"):
        logs = np.log(weights) + 5000.0
    n = 20_000
    chosen = choose(np.full(n, logs[0]), np.tile(logs[1:], (n, 1)), np.random.default_rng(2))
    counts = np.bincount(chosen + 1, minlength=4)
    assert counts[2] == 0
    expected = n * weights[[0, 1, 3]] / 8
    assert stats.chisquare(counts[[0, 1, 3]], expected).pvalue > 1e-3


def test_with_nowhere_to_go_or_nowhere_known_it_stays() -> None:
    rng = np.random.default_rng(3)
    assert choose(0.0, [-np.inf, -np.inf], rng) == CURRENT
    assert choose(-np.inf, [-np.inf, -np.inf], rng) == CURRENT
    # where nothing is proposed nothing may leave
    assert choose(-np.inf, [1e4, 0.0], rng) == CURRENT
    assert choose(-1e300, [1e300], rng) == 0
    for wrong in (np.nan, np.inf):
        with pytest.raises(ValueError, match=r"NaN or \+inf"):
            choose(0.0, [0.0, wrong], rng)
        with pytest.raises(ValueError, match=r"NaN or \+inf"):
            choose(wrong, [0.0], rng)


def test_one_candidate_is_barkers_acceptance() -> None:
    n = 40_000
    chosen = choose(np.zeros(n), np.full((n, 1), math.log(3.0)), np.random.default_rng(4))
    share = (chosen == 0).mean()
    assert abs(share - 0.75) < 4 * math.sqrt(0.75 * 0.25 / n)
