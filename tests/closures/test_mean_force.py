"""Integrals of mean forces, against the potentials that they are the slopes of."""

import numpy as np
import pytest
from openmm import unit

from openmm_cgan.closures import ConditionalAverage, Grid, integrate_mean_force
from openmm_cgan.collective_variable import CollectiveVariable

ANGLE = CollectiveVariable("phi", "rad", (-np.pi, np.pi))
PSI = CollectiveVariable("psi", "rad", (-np.pi, np.pi))
LENGTH = CollectiveVariable("d", "nm")
KT = 2.5


def average(grid, slopes, noise=0.0, n=50):
    rng = np.random.default_rng(0)
    slopes = np.asarray(slopes, float).reshape(len(grid.points), -1)
    rows = slopes + noise * rng.normal(size=(n, *slopes.shape))
    error = np.full_like(slopes, noise)
    effective = np.ones(len(slopes))
    width = np.ones(slopes.shape[1])
    return ConditionalAverage(grid.points, rows[0], error, 0 * error, rows, effective, width)


def test_a_line_and_a_circle():
    for variable, bounds in ((ANGLE, [None]), (LENGTH, [(0.0, 2.0)])):
        grid = Grid.over((variable,), 60, bounds)
        z = grid.points[:, 0]
        found = integrate_mean_force(grid, average(grid, -10 * np.sin(z)), KT)
        expected = 10 * np.cos(z)
        np.testing.assert_allclose(found.free_energy, expected - expected.min(), atol=1e-4)


def test_a_cubic_mean_force_is_integrated_exactly_up_to_the_ends():
    grid = Grid.over((LENGTH,), 12, [(0.0, 2.0)])
    z = grid.points[:, 0]
    found = integrate_mean_force(grid, average(grid, 4 * (z - 1) ** 3 + z), KT)
    expected = (z - 1) ** 4 + 0.5 * z**2
    np.testing.assert_allclose(found.free_energy, expected - expected.min(), atol=1e-12)


def test_kt_may_have_another_unit():
    grid = Grid.over((LENGTH,), 12, [(0.0, 2.0)])
    slopes = average(grid, grid.points, noise=0.5)
    plain, kcal = (
        integrate_mean_force(grid, slopes, kT)
        for kT in (KT, KT / 4.184 * unit.kilocalorie_per_mole)
    )
    np.testing.assert_allclose(kcal.error, plain.error)


def test_a_surface():
    grid = Grid.over((ANGLE, PSI), (40, 30))
    phi, psi = grid.points.T
    potential = 5 * np.cos(phi) + 3 * np.sin(2 * psi) * np.cos(phi)
    slopes = np.stack(
        [
            -5 * np.sin(phi) - 3 * np.sin(2 * psi) * np.sin(phi),
            6 * np.cos(2 * psi) * np.cos(phi),
        ],
        1,
    )
    found = integrate_mean_force(grid, average(grid, slopes), KT)
    expected = (potential - potential.min()).reshape(grid.shape)
    np.testing.assert_allclose(found.free_energy, expected, atol=0.02)


def test_a_gap_has_no_known_difference():
    grid = Grid.over((LENGTH,), 20, [(0.0, 1.0)])
    slopes = np.ones(20)
    slopes[8] = np.nan
    found = integrate_mean_force(grid, average(grid, slopes, 0.1), KT)
    assert np.isnan(found.free_energy[8])
    assert np.isinf(found.error[:8]).all()
    assert np.isfinite(found.error[9:]).all()  # the larger part has the zero
    assert set(found.part) == {-1, found.part[0], found.part[-1]}
    assert found.part[0] != found.part[-1]
    assert found.part[8] == -1


def test_errors_grow_along_a_line():
    """Independent errors of the slope add up: a random walk from one end to the other."""
    grid = Grid.over((LENGTH,), 100, [(0.0, 1.0)])
    mean_force = average(grid, np.zeros(100), 3.0, 400)
    rows = np.cumsum(mean_force.replicates[..., 0], axis=1) * 0.01
    found = integrate_mean_force(grid, mean_force, 1e6)  # so hot that the zero is the mean
    rows -= rows.mean(1, keepdims=True)
    np.testing.assert_allclose(found.error, rows.std(0, ddof=1), rtol=0.1, atol=0.005)


def test_an_average_elsewhere_is_refused():
    grid = Grid.over((LENGTH,), 20, [(0.0, 1.0)])
    other = Grid.over((LENGTH,), 21, [(0.0, 1.0)])
    with pytest.raises(ValueError, match=r"grid\.points"):
        integrate_mean_force(grid, average(other, np.ones(21)), KT)


@pytest.mark.parametrize(
    ("variable", "cells", "bounds", "words"),
    [
        (LENGTH, 10, None, "give its bounds"),
        (LENGTH, 2, (0, 1), ">= 3"),
        (LENGTH, 10, (1, 1), "expected a range"),
        (ANGLE, 10, (0, 1), "leave its bounds out"),
    ],
)
def test_grids_that_are_none(variable, cells, bounds, words):
    with pytest.raises(ValueError, match=words):
        Grid.over((variable,), cells, [bounds])
