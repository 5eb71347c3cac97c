"""Densities of conditions: that draws follow them, and that they integrate to one."""

import math

import numpy as np
import pytest
from scipy import stats

from openmm_cgan.collective_variable import CollectiveVariable
from openmm_cgan.proposals import GridConditions, UniformConditions

PHI = CollectiveVariable("phi", "rad", (-math.pi, math.pi))
D = CollectiveVariable("d", "nm")


def test_uniform_draws_are_uniform_and_in_range() -> None:
    conditions = UniformConditions([[-1.0, 2.0], [0.1, 0.3]], (PHI, D))
    drawn = conditions.draw(5000, np.random.default_rng(1))
    assert stats.kstest(drawn[:, 0], stats.uniform(-1, 3).cdf).pvalue > 1e-3
    assert stats.kstest(drawn[:, 1], stats.uniform(0.1, 0.2).cdf).pvalue > 1e-3
    np.testing.assert_allclose(conditions.log_density(drawn), -math.log(3 * 0.2))


def test_outside_the_range_the_density_is_zero() -> None:
    conditions = UniformConditions([[2.0, 4.0], [0.1, 0.3]], (PHI, D))  # across the border
    inside = [[3.0, 0.2], [-math.pi, 0.2], [3.9 - 2 * math.pi, 0.2]]
    outside = [[1.9, 0.2], [4.1 - 2 * math.pi, 0.2], [3.0, 0.31], [np.nan, 0.2]]
    found = conditions.log_density(np.array(inside + outside))
    np.testing.assert_allclose(found, [-math.log(0.4)] * 3 + [-np.inf] * 4)


def test_a_range_of_nearly_a_period_is_all_of_it() -> None:
    conditions = UniformConditions([[-3.1, 3.12]], (PHI,))
    np.testing.assert_array_equal(conditions.cv_range, [[-math.pi, math.pi]])
    found = conditions.log_density(np.array([[math.pi], [-math.pi], [3.13], [0.0]]))
    np.testing.assert_allclose(found, -math.log(2 * math.pi))


def test_grid_draws_follow_the_density_that_is_told() -> None:
    p = np.array([[1.0, 0.0, 3.0], [2.0, 2.0, 8.0]])
    conditions = GridConditions(p, [[-3.1, 3.1], [0.1, 0.4]], (PHI, D), uniform_share=0.2)
    drawn = conditions.draw(20_000, np.random.default_rng(2))
    density = np.exp(conditions.log_density(drawn))
    # 1/density averages to the volume where the density is not zero
    volume = 2 * math.pi * 0.3
    error = (1 / density).std() / math.sqrt(len(drawn))
    assert abs((1 / density).mean() - volume) < 4 * error
    expected = (0.8 * p / p.sum() + 0.2 / 6).ravel()
    cells = 3 * (drawn[:, 0] > 0) + np.minimum((drawn[:, 1] - 0.1) / 0.1, 2).astype(int)
    counts = np.bincount(cells, minlength=6)
    assert stats.chisquare(counts, expected * len(drawn)).pvalue > 1e-3
    outside = np.array([[0.0, 0.45], [0.0, 0.09]])
    assert np.isneginf(conditions.log_density(outside)).all()


def test_grid_draws_are_uniform_in_each_cell() -> None:
    p = np.array([[1.0, 0.0, 3.0], [2.0, 2.0, 8.0]])
    conditions = GridConditions(p, [[-math.pi, math.pi], [0.1, 0.4]], (PHI, D))
    drawn = conditions.draw(8000, np.random.default_rng(4))
    inside = (drawn - [-math.pi, 0.1]) / [math.pi, 0.1]
    cells = conditions.cells(drawn)
    for cell in np.flatnonzero(p.ravel()):
        for fractions in (inside[cells == cell] % 1).T:
            assert stats.kstest(fractions, stats.uniform(0, 1).cdf).pvalue > 1e-4


def test_a_grid_from_weights_is_the_marginal() -> None:
    rng = np.random.default_rng(3)
    cvs = rng.uniform(0, 1, (50_000, 1))
    cvs[0] = 3.0  # outside, left out
    conditions = GridConditions.from_weights(
        cvs, 2 * np.log(cvs[:, 0]) - 900, [[0, 1]], (D,), bins=10, uniform_share=0.0, spread=0.0
    )
    edges = np.linspace(0, 1, 11)
    error = np.sqrt(9 / 5 * np.diff(edges**5) / 50_000)  # of sums of the weights 3 x^2
    assert (np.abs(conditions.probabilities - np.diff(edges**3)) < 4 * error).all()


def test_a_share_of_each_cell_goes_to_the_next_ones() -> None:
    """Round a period, and back from an end, which nothing leaves."""
    cvs, log_weights = np.array([[3.0, 0.05], [0.1, 0.35]]), np.log([4.0, 1.0])
    conditions = GridConditions.from_weights(
        cvs, log_weights, [[-math.pi, math.pi], [0, 0.5]], (PHI, D), bins=5, uniform_share=0.0,
        spread=0.2,
    )  # fmt: skip
    phi_ends, phi_middle = [0.1, 0, 0, 0.1, 0.8], [0, 0.1, 0.8, 0.1, 0]
    d_end, d_middle = [0.9, 0.1, 0, 0, 0], [0, 0, 0.1, 0.8, 0.1]
    expected = 0.8 * np.outer(phi_ends, d_end) + 0.2 * np.outer(phi_middle, d_middle)
    np.testing.assert_allclose(conditions.probabilities, expected, atol=1e-12)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([[0.0, 7.0]], (PHI,)), "longer than its period"),
        (([[1.0, 1.0]], (D,)), "finite lowest and highest"),
        (([[0.0, 1.0]], (D, D)), r"shape \(2, 2\)"),
        (([[0.0, np.nan]], (D,)), "finite lowest and highest"),
    ],
)
def test_ranges_that_make_no_sense_are_refused(arguments, message) -> None:
    with pytest.raises(ValueError, match=message):
        UniformConditions(*arguments)


@pytest.mark.parametrize(
    ("p", "share", "message"),
    [
        ([[1.0]], 0.1, "one axis for each"),
        ([-1.0, 2.0], 0.1, "no negative"),
        ([0.0, 0.0], 0.1, "positive sum"),
        ([1.0, 1.0], 1.5, "share from 0 to 1"),
    ],
)
def test_grids_that_make_no_sense_are_refused(p, share, message) -> None:
    with pytest.raises(ValueError, match=message):
        GridConditions(p, [[0.0, 1.0]], (D,), share)


def test_weights_without_a_finite_one_are_refused() -> None:
    for logs in ([-np.inf, -np.inf], [0.0, np.inf]):
        with pytest.raises(ValueError, match="expected finite numbers"):
            GridConditions.from_weights(np.zeros((2, 1)), np.array(logs), [[0, 1]], (D,))
