"""Targets: uniform and inverse-histogram draws against their exact distributions."""

import math

import numpy as np
import pytest

from openmm_cgan.collective_variable import CollectiveVariable
from openmm_cgan.proposals.targets import least_visited_targets, target_strategy, uniform_targets

PHI = CollectiveVariable("phi", "rad", (-math.pi, math.pi))
DISTANCE = CollectiveVariable("d", "nm")
RANGE = np.array([[-math.pi, math.pi], [0.2, 0.6]])


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(8)


def test_uniform_targets_are_uniform(rng: np.random.Generator) -> None:
    n = 40_000
    targets = uniform_targets(RANGE, n, rng)
    width = RANGE[:, 1] - RANGE[:, 0]
    unit = (targets - RANGE[:, 0]) / width
    assert ((unit >= 0) & (unit < 1)).all()
    # mean and variance of the uniform distribution; their standard errors
    assert np.abs(unit.mean(axis=0) - 0.5).max() < 4 * math.sqrt(1 / 12 / n)
    assert np.abs(unit.var(axis=0) - 1 / 12).max() < 4 * math.sqrt(1 / 180 / n)
    assert abs(np.corrcoef(unit.T)[0, 1]) < 4 / math.sqrt(n)


def test_least_visited_targets_follow_the_inverse_of_the_visits(rng: np.random.Generator) -> None:
    # four cells with 0, 1, 4 and 9 visits: probabilities proportional to 1, 1/2, 1/5, 1/10
    visited = np.repeat([0.3, 0.5, 0.7, 0.9], [0, 1, 4, 9])[:, None]
    n = 20_000
    targets = least_visited_targets(np.array([[0.2, 1.0]]), visited, n, rng, n_bins=4)
    counts, _ = np.histogram(targets, bins=4, range=(0.2, 1.0))
    expected = n * np.array([1, 1 / 2, 1 / 5, 1 / 10]) / 1.8
    assert ((counts - expected) ** 2 / expected).sum() < 16.3  # chi-squared, 3 d.o.f., p = 0.001


def test_least_visited_works_with_many_variables_and_no_visits(rng: np.random.Generator) -> None:
    cv_range = np.tile([0.0, 1.0], (8, 1))
    targets = least_visited_targets(cv_range, np.zeros((0, 8)), 50, rng)
    assert targets.shape == (50, 8)
    assert ((targets >= 0) & (targets <= 1)).all()


def test_a_list_is_gone_through_in_order(rng: np.random.Generator) -> None:
    rows = np.array([[0.0, 0.3], [math.pi, 0.4], [-math.pi, 0.5]])
    strategy = target_strategy(rows, RANGE, [PHI, DISTANCE])
    chosen = [strategy(np.zeros((attempt, 2)), rng) for attempt in (1, 2, 3, 4)]
    np.testing.assert_array_equal(chosen, rows[[0, 1, 2, 0]])


@pytest.mark.parametrize(
    ("targets", "message"),
    [
        ("everywhere", "expected 'uniform'"),
        (np.array([[0.0, 0.1]]), r"d outside the range \[0.2, 0.6\] nm"),
        (np.array([[0.0, 0.3], [0.0, np.nan]]), "outside the range"),
        (np.zeros((3, 5)), r"expected \(m, 2\).*phi, d"),
        (np.zeros((0, 2)), "shape"),
    ],
)
def test_bad_targets_are_refused(targets: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        target_strategy(targets, RANGE, [PHI, DISTANCE])


def test_a_listed_periodic_target_is_measured_round_the_circle() -> None:
    cv_range = np.array([[-2.0, 2.0]])
    target_strategy(np.array([[1.9 - 2 * math.pi]]), cv_range, [PHI])
    with pytest.raises(ValueError, match="phi outside"):
        target_strategy(np.array([[math.pi]]), cv_range, [PHI])


def test_a_function_is_taken_as_it_is(rng: np.random.Generator) -> None:
    strategy = target_strategy(lambda visited, rng: visited[-1] + 1, RANGE, [PHI, DISTANCE])
    np.testing.assert_array_equal(strategy(np.zeros((1, 2)), rng), [1, 1])


def test_degrees_of_a_torsion_are_no_targets() -> None:
    near = np.array([[3.5, 0.3]])  # a turn away from -2.78: said so by who measures from 0 to 2 pi
    target_strategy(near, RANGE, [PHI, DISTANCE])
    with pytest.raises(ValueError, match=r"targets: phi = 60 rad; expected -6.28.* not in degrees"):
        target_strategy(np.array([[60.0, 0.3]]), RANGE, [PHI, DISTANCE])
