"""Drift and diffusion by regression over lagged pairs: exact processes, other code, no bias."""

import numpy as np
import pytest
import torch
from scipy.interpolate import BSpline

from openmm_cgan.closures import (
    Grid,
    ReducedDynamics,
    Trajectories,
    kramers_moyal,
    lagged_regression,
    with_error,
)
from openmm_cgan.closures.lagged_fits import fit_of_moments
from openmm_cgan.closures.lagged_moments import lagged_moments, lagged_pairs_between
from openmm_cgan.closures.spline_basis import SplineBasis
from openmm_cgan.collective_variable import CollectiveVariable
from openmm_cgan.testsystems.multiscale import AngleRadius
from tests.cases.ornstein_uhlenbeck import RATE, SIGMA2, Z, expected_at, ornstein, trajectories

PHI = CollectiveVariable("phi", "rad", (-np.pi, np.pi))
AT = np.linspace(-1.0, 1.0, 5)


def off(average, truth):
    """Deviations in standard errors."""
    return (average.value.reshape(len(AT), -1)[:, 0] - truth) / average.error.reshape(len(AT), -1)[
        :, 0
    ]


def test_splines_are_those_of_scipy():
    basis = SplineBasis((Z,), np.array([-1.0]), np.array([0.5]), (6,))
    z = np.random.default_rng(0).uniform(-1.0, 2.0, 50)
    knots = -1.0 + 0.5 * np.arange(-3, 10)
    design = BSpline.design_matrix(z, knots, 3).toarray()
    np.testing.assert_allclose(basis.values(z[:, None]).toarray(), design, atol=1e-12)
    slopes = BSpline(knots, np.eye(9), 3).derivative()(z)
    np.testing.assert_allclose(basis.values(z[:, None], 0).toarray(), slopes, atol=1e-12)


def test_splines_of_two_variables_go_round_and_add_up():
    cvs = np.random.default_rng(1).uniform(-2.0, 2.0, (40, 2))
    basis = SplineBasis.over((PHI, Z), cvs, 5)
    assert basis.shape == (5, 8)
    values = basis.values(cvs).toarray()
    np.testing.assert_allclose(values.sum(1), 1.0)
    np.testing.assert_allclose(
        basis.values(cvs + np.array([2 * np.pi, 0.0])).toarray(), values, atol=1e-12
    )
    step = np.array([0.0, 1e-6])
    slope = (basis.values(cvs + step) - basis.values(cvs - step)).toarray() / 2e-6
    np.testing.assert_allclose(basis.values(cvs, 1).toarray(), slope, atol=1e-7)
    form = basis.roughness()
    np.testing.assert_allclose(form @ np.ones(basis.size), 0.0, atol=1e-12)
    assert np.linalg.matrix_rank(form) == basis.size - 2  # a constant, and a slope along z


def test_moments_are_means_over_pairs():
    runs = trajectories(ornstein(np.zeros(3), 40, 0.1, 3), 0.1)
    pairs = lagged_pairs_between(runs, 2, 6, 10, 0)
    basis = SplineBasis.over((Z,), pairs.starts, 4)
    found = lagged_moments(pairs, basis).drawn(np.ones((1, pairs.blocks.counts.shape[1])))
    starts, second, sixth = (
        np.concatenate([run[lag : len(run) - 6 + lag] for run in runs.cvs]) for lag in (0, 2, 6)
    )
    f = basis.values(starts).toarray()
    np.testing.assert_allclose(found.moved[0, 0], f.T @ (sixth - second)[:, 0])
    squares = (sixth - starts) ** 2 - (second - starts) ** 2
    np.testing.assert_allclose(found.squares[0, 0, 0], f.T @ squares[:, 0])
    # All functions together are one: the integral of y dt, by Boole's rule.
    moves = [
        np.concatenate([run[lag : len(run) - 6 + lag] - run[: len(run) - 6] for run in runs.cvs])
        for lag in range(2, 7)
    ]
    boole = 0.4 / 90 * (np.array([7, 32, 12, 32, 7]) @ np.array(moves)[:, :, 0])
    np.testing.assert_allclose(found.moved_lagged[0, 0].sum(1), f.T @ boole, atol=1e-10)
    np.testing.assert_allclose(found.lagged[0].sum(1), f.sum(0) * 0.4)


@pytest.mark.parametrize("by", ["moments", "score"])
def test_a_finite_lag_leaves_no_bias(by):
    """Lags that are a third of the time of relaxation: Kramers and Moyal's are far off."""
    runs = trajectories(ornstein(np.zeros(1), 20_000, 0.05, 11), 0.05)
    found = lagged_regression(runs, AT, [0, 2, 4], kT=SIGMA2 / 2, by=by)
    for own in found.closures:
        assert (np.abs(off(own.drift, -RATE * AT)) < 4).all()
        assert (np.abs(off(own.diffusion, SIGMA2)) < 4).all()
        assert (np.abs(off(own.mean_force, RATE * AT)) < 4).all()
    other = kramers_moyal(runs, AT, [4], bandwidth=0.4)
    assert (np.abs(off(other.diffusion[0], expected_at(0.2, AT)[1])) < 4).all()
    assert (off(other.diffusion[0], SIGMA2) < -4).all()
    assert (found.closures[0].diffusion.error < 0.06 * SIGMA2).all()


def test_errors_are_those_of_repeated_runs():
    scores = []
    for seed in range(16):
        runs = trajectories(ornstein(np.zeros(1), 3000, 0.1, seed), 0.1)
        own = lagged_regression(
            runs, AT, [0, 1], kT=1.0, by="score", n_bootstrap=40, intervals=8
        ).closure
        scores += [off(own.drift, -RATE * AT), off(own.diffusion, SIGMA2)]
    # As if the values of a run told one number of the drift, and one of the diffusion.
    assert np.mean(np.square(scores)) == pytest.approx(1.0, abs=3 * np.sqrt(2 / 32))


class Same:
    """Random numbers that are all the same."""

    def __init__(self, number):
        self.number = number

    def normal(self, size):
        return np.full(size, self.number)


def test_replicates_are_moved_by_what_smoothing_took_away():
    runs = trajectories(ornstein(np.zeros(1), 2000, 0.1, 4), 0.1)
    pairs = lagged_pairs_between(runs, 0, 2, 10, 0)
    basis = SplineBasis.over((Z,), pairs.starts, 8)
    once = np.ones((1, pairs.blocks.counts.shape[1]))
    moments = lagged_moments(pairs, basis).drawn(np.concatenate([once, pairs.blocks.counts, once]))
    still, moved = (fit_of_moments(moments, basis, Same(x)).drift for x in (0.0, 2.0))
    left = still[-1] - still[0]
    assert (np.abs(left) > 1e-6).any()
    np.testing.assert_allclose(moved[1:-1] - still[1:-1], np.tile(2 * left, (10, 1, 1)), atol=1e-9)
    np.testing.assert_array_equal(moved[[0, -1]], still[[0, -1]])


def test_what_forgets_before_the_first_lag_leaves_no_trace():
    """Noise on every frame: Kramers and Moyal see its displacement divided by the lag."""
    rng = np.random.default_rng(5)
    slow = ornstein(rng.normal(size=60) / np.sqrt(1.5), 1000, 0.01, 6)
    runs = trajectories(slow + 0.1 * rng.normal(size=slow.shape), 0.01)
    found = lagged_regression(runs, AT, [1, 5], kT=SIGMA2 / 2).closure
    assert (np.abs(off(found.diffusion, SIGMA2)) < 4).all()
    assert (found.diffusion.error < 0.1 * SIGMA2).all()
    [seen] = kramers_moyal(runs, AT, [5], bandwidth=0.4, n_bootstrap=20).diffusion
    noise = 2 * 0.1**2 / 0.05
    assert (seen.value[:, 0, 0] - expected_at(0.05, AT)[1] > 0.7 * noise).all()


def test_the_identity_of_the_conditional_score():
    """d/dt <f g> = -1/2 <g s . sigma^2 f'>, s known, and what integration by parts makes of it."""
    lag, rng = 0.3, np.random.default_rng(7)
    decay, var = np.exp(-RATE * lag), SIGMA2 / (2 * RATE)
    z = np.sqrt(var) * rng.normal(size=200_000)
    later = ornstein(z, 1, lag, 8)[:, 1]
    score = decay * (later - decay * z) / (var * (1 - decay**2))
    g = later**3 - later
    right = -0.5 * g * score * SIGMA2 * (3 * z**2)  # f = z^3
    parts = 0.5 * g * SIGMA2 * (6 * z - 3 * z**2 * z / var)
    # <z^3 z_t> = 3 var^2 d and <z^3 z_t^3> = var^3 (9 d + 6 d^3), d = decay.
    exact = -RATE * (var**3 * (9 * decay + 18 * decay**3) - 3 * var**2 * decay)
    for terms in (right, parts):
        assert abs(terms.mean() - exact) < 4 * terms.std() / np.sqrt(len(z))


def test_two_variables_whose_diffusion_mixes_them():
    """dz = -K z dt + S dW with exact steps: drift, diffusion and the slope of its free energy."""
    diffusion = np.array([[1.0, 0.4], [0.4, 0.8]])
    stiffness = np.array([[1.5, 0.3], [0.3, 1.0]])  # of A, kT = 1: reversible
    rates = 0.5 * diffusion @ stiffness
    values, vectors = np.linalg.eig(rates)
    decay = (vectors * np.exp(-values * 0.1)) @ np.linalg.inv(vectors)
    start = np.linalg.inv(stiffness)
    kick = np.linalg.cholesky(start - decay @ start @ decay.T)
    rng = np.random.default_rng(9)
    path = [np.linalg.cholesky(start) @ rng.normal(size=(2, 60))]
    for _ in range(500):
        path.append(decay @ path[-1] + kick @ rng.normal(size=(2, 60)))
    runs = Trajectories(tuple(np.moveaxis(path, 2, 0)), 0.1, (Z, CollectiveVariable("w")))
    at = np.array([[0.0, 0.0], [0.6, -0.3], [-0.5, 0.5], [9.0, 0.0]])
    for by in ("moments", "score"):
        own = lagged_regression(
            runs, at, [0, 2], kT=1.0, by=by, n_bootstrap=40, intervals=4
        ).closure
        assert np.isnan(own.drift.value[3]).all()
        for average, truth in (
            (own.drift, -at @ rates.T),
            (own.diffusion, np.broadcast_to(diffusion, (4, 2, 2))),
            (own.mean_force, at @ stiffness),
        ):
            z = (average.value - truth)[:3] / average.error[:3]
            assert (np.abs(z) < 4).all()
        np.testing.assert_array_equal(own.diffusion.value[0], own.diffusion.value[0].T)
        assert (own.diffusion.error[:3] < 0.15).all()


@pytest.mark.parametrize("by", ["moments", "score"])
def test_an_angle_that_goes_round(by):
    """Two wells round the circle; steps of Euler that are a tenth of the frames' interval."""
    system, rng, dt = AngleRadius(barrier=1.0, tilt=0.3), np.random.default_rng(4), 2e-3
    z = system.slow(torch.from_numpy(system.sample(80, 0))).numpy()[:, 0]
    path = [z]
    kicks = np.sqrt(system.effective_diffusion(np.zeros((1, 1)))[0, 0, 0] * dt)
    for _ in range(6000):
        path.append(path[-1] + system.effective_drift(path[-1][:, None])[:, 0] * dt)
        path[-1] += kicks * rng.normal(size=80)
    turned = np.mod(np.array(path[::10]).T[:, :, None] + np.pi, 2 * np.pi) - np.pi
    at = np.array([-np.pi, -2.0, -0.5, 0.5, 2.0])
    found = lagged_regression(
        Trajectories(tuple(turned), 0.02, (PHI,)), at, [0, 8], kT=system.kT, by=by
    ).closure
    step = 1e-5
    slope = (system.free_energy(at[:, None] + step) - system.free_energy(at[:, None] - step)) / 2e-5
    assert (np.abs(off(found.drift, system.effective_drift(at[:, None])[:, 0])) < 4).all()
    assert (np.abs(off(found.diffusion, system.effective_diffusion(at[:, None]).ravel())) < 4).all()
    assert (np.abs(off(found.mean_force, slope)) < 4).all()
    assert (found.drift.error < 0.5).all()


def test_a_bias_is_taken_off():
    """Of a run whose well is half a bias, what is left is half the well."""
    kT, own = 1.0, RATE * 2 * 1.0 / SIGMA2
    runs = trajectories(ornstein([0.0], 20_000, 0.05, 2), 0.05)
    for by in ("moments", "score"):
        found = lagged_regression(
            runs, AT, [0, 2], kT=kT, by=by, bias_slope=lambda z: 0.5 * own * z
        ).closure
        assert (np.abs(off(found.drift, -0.5 * RATE * AT)) < 4).all()
        assert (np.abs(off(found.mean_force, 0.5 * own * AT)) < 4).all()
        assert (np.abs(off(found.diffusion, SIGMA2)) < 4).all()


def test_it_makes_reduced_dynamics():
    runs = trajectories(ornstein(np.zeros(1), 20_000, 0.05, 11), 0.05)
    grid = Grid.over((Z,), 16, [(-1.6, 1.6)])
    found = lagged_regression(
        runs, grid.points, [0, 2], kT=SIGMA2 / 2, by="score", n_bootstrap=20
    ).closure

    def passage(dynamics):
        z = dynamics.grid.axes[0]
        return float(np.interp(-0.8, z, dynamics.mean_first_passage_time(z > 0.8)))

    fine = grid.refined(4)
    energy = 0.5 * RATE * fine.axes[0] ** 2  # kT is SIGMA2 / 2
    exact = passage(ReducedDynamics(fine, energy, np.full((64, 1, 1), SIGMA2), SIGMA2 / 2))
    for by in ("mean_force", "drift"):
        time = with_error(grid, found, passage, by)
        assert abs(time.value - exact) < 4 * time.error
        assert time.error < 0.15 * exact


def test_nothing_is_said_where_hardly_any_pair_starts_beyond():
    starts = np.append(np.random.default_rng(3).uniform(-1, 1, 1000), 1.4)
    runs = trajectories(ornstein(starts, 5, 5e-5, 0), 5e-5)
    found = lagged_regression(runs, [0.0, 1.3], [0, 1, 2, 3], kT=1.0, intervals=6)
    assert np.isfinite(found.closure.diffusion.value).ravel().tolist() == [True, False]


def test_refusals(caplog):
    runs = trajectories(ornstein(np.zeros(3), 5, 0.1, 0), 0.1)
    for lags in ([1], [2, 1], [-1, 2], [0, 1.5]):
        with pytest.raises(ValueError, match="from 0 on that increase"):
            lagged_regression(runs, [0.0], lags, kT=1.0)
    with pytest.raises(ValueError, match="longest run has 6"):
        lagged_regression(runs, [0.0], [0, 6], kT=1.0)
    with pytest.raises(ValueError, match="by is 'density'"):
        lagged_regression(runs, [0.0], [0, 1], kT=1.0, by="density")
    with pytest.raises(ValueError, match="from 4 on"):
        lagged_regression(runs, [0.0], [0, 1], kT=1.0, intervals=3)
    with pytest.raises(ValueError, match="kT"):
        lagged_regression(runs, [0.0], [0, 1], kT=-1.0)
    with pytest.raises(ValueError, match=r"expected numbers \(m, 1\)"):
        lagged_regression(runs, [[0.0, 1.0]], [0, 1], kT=1.0)
    with pytest.raises(ValueError, match="z is 0 in all frames"):
        lagged_regression(trajectories(np.zeros((3, 6)), 0.1), [0.0], [0, 1], kT=1.0)
    assert np.isnan(lagged_regression(runs, [0.0], [0, 1], kT=1.0).closure.drift.value).all()
    assert "nothing is said at 1 of 1 values" in caplog.text
    assert "1 lags: a plateau takes 3" in caplog.text
