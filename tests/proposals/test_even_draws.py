"""Even draws: each has the density that was asked for, together they fill it."""

import math

import numpy as np
import pytest
import torch
from scipy import stats

from openmm_cgan.collective_variable import CollectiveVariable
from openmm_cgan.free_energy.bootstrap import draws_of_neighbours
from openmm_cgan.proposals import GridConditions, UniformConditions
from openmm_cgan.proposals.even_draws import drawn_evenly
from openmm_cgan.sobol import sobol_numbers

PHI = CollectiveVariable("phi", "rad", (-math.pi, math.pi))
D = CollectiveVariable("d", "nm")
P = np.array([[1.0, 0.0, 3.0, 2.0], [2.0, 2.0, 8.0, 0.0], [0.0, 0.0, 0.0, 1.0]])
GRID = GridConditions(P, [[-math.pi, math.pi], [0.1, 0.5]], (PHI, D), uniform_share=0.0)
UNIFORM = UniformConditions([[-math.pi, math.pi], [0.1, 0.5]], (PHI, D))


@pytest.mark.parametrize("row", [0, 5])
def test_each_by_itself_has_the_density(row) -> None:
    """Over many sequences, whichever place of it is looked at."""
    drawn = [drawn_evenly(GRID, 6, np.random.default_rng(seed))[0][row] for seed in range(500)]
    counts = np.bincount(GRID.cells(np.array(drawn)), minlength=P.size)
    asked = P.ravel() / P.sum()
    assert not counts[asked == 0].any()
    assert stats.chisquare(counts[asked > 0], 500 * asked[asked > 0]).pvalue > 1e-3
    inside = np.array(drawn)[:, 1] / 0.1 % 1
    assert stats.kstest(inside, stats.uniform(0, 1).cdf).pvalue > 1e-3


@pytest.mark.parametrize("n", [64, 300])
def test_shares_of_cells_scatter_far_less_than_those_of_independent_draws(n) -> None:
    sets = [drawn_evenly(GRID, n, np.random.default_rng(seed))[0] for seed in range(60)]
    counts = np.array([np.bincount(GRID.cells(cvs), minlength=P.size) for cvs in sets])
    p = P.ravel()[P.ravel() > 0] / P.sum()
    found = counts[:, P.ravel() > 0].var(axis=0, ddof=1)
    assert (found < 0.3 * n * p * (1 - p)).all(), "independent ones scatter by n p (1 - p)"


@pytest.mark.parametrize(("n", "sizes"), [(1, {1}), (2, {2}), (400, {2}), (401, {2, 3})])
def test_neighbours_are_pairs_that_lie_beside_each_other(n, sizes) -> None:
    cvs, pairs = drawn_evenly(UNIFORM, n, np.random.default_rng(1))
    counts = np.bincount(pairs)
    assert set(counts.tolist()) == sizes
    if n < 3:
        return
    places = (cvs - UNIFORM.cv_range[:, 0]) / np.ptp(UNIFORM.cv_range, axis=1)
    apart = [np.ptp(places[pairs == k], axis=0).max() for k in range(len(counts))]
    assert np.median(apart) < 1.5 * n**-0.5, "of points on a square lattice 1"


def test_no_cv_or_many_are_drawn_as_well() -> None:
    none, pairs = drawn_evenly(UniformConditions(np.zeros((0, 2)), ()), 5, np.random.default_rng(1))
    assert none.shape == (5, 0)
    assert np.bincount(pairs).tolist() == [2, 3]
    many = GridConditions(np.ones((2,) * 7), [[0, 1]] * 7, (D,) * 7)
    cvs, _ = drawn_evenly(many, 128, np.random.default_rng(1))
    assert np.abs(cvs.mean(axis=0) - 0.5).max() < 0.3 / math.sqrt(12 * 128)


def test_replicates_tell_the_variance_among_neighbours() -> None:
    """Of a sum over groups of 2 and 3: m s^2 of each, whatever lies between groups."""
    rng = np.random.default_rng(2)
    neighbours = rng.permutation(np.repeat(np.arange(50), [2] * 48 + [3] * 2))
    values = 100.0 * neighbours + rng.normal(size=len(neighbours))  # far from others
    draws = draws_of_neighbours(neighbours, 4000, seed=1)
    np.testing.assert_allclose(draws.sum(axis=1), len(values), rtol=1e-5)
    groups = [values[neighbours == k] for k in range(50)]
    exact = sum(len(group) * group.var(ddof=1) for group in groups)
    found = (draws @ values).var(ddof=1)
    assert abs(found / exact - 1) < 4 * math.sqrt(2 / 4000)


@pytest.mark.parametrize("groups", [[0, 0, 1], [0, 1, 1], [3, 1, 4, 1, 1], [5, 6, 7, 8], [0, 1]])
def test_what_is_alone_in_its_group_is_drawn_as_often_as_others(groups) -> None:
    """A replicate without it would know nothing of it: each is drawn once in the mean."""
    n = 4000
    draws = draws_of_neighbours(np.array(groups), n, seed=1)
    assert (draws.sum(axis=1) == len(groups)).all()
    error = draws.std(axis=0) / np.sqrt(n)
    assert (error > 0).all(), "it has a share in the error"
    assert (np.abs(draws.mean(axis=0) - 1) < 4 * error).all()


def test_the_first_number_is_no_less_precise_than_the_others() -> None:
    """Whatever kind of number a script has set; of single precision it is a multiple of 2^-24."""
    kinds = []
    for kind in (torch.float32, torch.float64, torch.float16):
        torch.set_default_dtype(kind)
        try:
            kinds.append([sobol_numbers(3, 2, seed) for seed in range(20)])
        finally:
            torch.set_default_dtype(torch.float32)
    assert np.array_equal(kinds[0], kinds[1])
    assert np.array_equal(kinds[0], kinds[2])
    first = np.array(kinds[0])[:, 0]
    assert (first < 1).all()
    assert (first * 2**24 % 1 != 0).any()
