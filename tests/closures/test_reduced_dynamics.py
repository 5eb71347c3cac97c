"""The reduced dynamics on a grid, against quadrature and processes with known times."""

from dataclasses import replace

import numpy as np
import pytest

from openmm_cgan.closures import (
    Closure,
    ConditionalAverage,
    Grid,
    ReducedDynamics,
    reduced_dynamics_of,
    with_error,
)
from openmm_cgan.collective_variable import CollectiveVariable
from openmm_cgan.testsystems.multiscale import CoupledDoubleWell, HalfMoon

KT = 1.0
Z = CollectiveVariable("z")
Y = CollectiveVariable("y")
ANGLE = CollectiveVariable("phi", "rad", (-np.pi, np.pi))


def average(grid, values, noise=0.0, n=40):
    rng = np.random.default_rng(0)
    values = np.asarray(values, float)
    rows = values * (1 + noise * rng.normal(size=(n, *[1] * values.ndim)))
    zero = np.zeros_like(values)
    ones = np.ones(len(values))
    return ConditionalAverage(grid.points, values, zero, zero, rows, ones, np.ones(len(grid.shape)))


def closure_of(grid, free_energy, diffusion, noise=0.0, h=1e-5):
    """Of a free energy and a diffusion along one CV, by the identity."""
    z = grid.points[:, 0]
    slope = (free_energy(z + h) - free_energy(z - h)) / (2 * h)
    widening = (diffusion(z + h) - diffusion(z - h)) / (2 * h)
    drift = -0.5 * diffusion(z) * slope / KT + 0.5 * widening
    return Closure(
        grid.variables,
        KT,
        grid.points,
        average(grid, drift[:, None], noise),
        average(grid, diffusion(z)[:, None, None], noise),
        average(grid, slope[:, None]),
    )


def well(z):
    return 3.0 * (z**2 - 1) ** 2


def spreading(z):
    return 1.0 + 0.5 * np.sin(2 * z)


@pytest.mark.parametrize("by", ["mean_force", "drift"])
def test_times_are_the_same_in_any_unit_of_the_cv(by):
    """Of a distance that spreads by 1e-10 nm^2/ps, and of one in units of its own."""
    times = []
    for unit in (1.0, 1e-5):
        grid = Grid.over((Z,), 20, [(-2.0 * unit, 2.0 * unit)])
        plain = closure_of(Grid.over((Z,), 20, [(-2.0, 2.0)]), well, spreading)
        scaled = replace(
            plain,
            at=grid.points,
            drift=average(grid, plain.drift.value * unit),
            diffusion=average(grid, plain.diffusion.value * unit**2),
            mean_force=average(grid, plain.mean_force.value / unit),
        )
        dynamics = reduced_dynamics_of(grid, scaled, by)
        times.append(dynamics.mean_first_passage_time(dynamics.grid.points[:, 0] > unit))
    np.testing.assert_allclose(times[1], times[0], rtol=1e-9)


@pytest.mark.parametrize("by", ["mean_force", "drift"])
def test_density_and_first_passage_are_those_of_quadrature(by):
    grid = Grid.over((Z,), 40, [(-2.0, 2.0)])
    found = reduced_dynamics_of(grid, closure_of(grid, well, spreading), by=by)
    z = found.grid.axes[0]
    density = np.exp(-well(z) / KT)
    density /= density.sum() * found.grid.widths[0]
    np.testing.assert_allclose(found.density, density, rtol=2e-2, atol=1e-3)
    # tau(z) = int_z^end 2 exp(A/kT) / sigma^2 int_-2^z' exp(-A/kT)
    fine = np.linspace(-2, 0.8, 20001)
    inner = np.concatenate([[0], np.cumsum(np.exp(-well(0.5 * (fine[1:] + fine[:-1]))))])
    rise = 2 * np.exp(well(fine)) / spreading(fine) * inner * (fine[1] - fine[0])
    expected = rise[fine >= -1].sum() * (fine[1] - fine[0])
    times = found.mean_first_passage_time(z > 0.8)
    assert np.interp(-1.0, z, times) == pytest.approx(expected, rel=0.01)
    assert (times[z > 0.8] == 0).all()


@pytest.mark.parametrize("system", [HalfMoon(), CoupledDoubleWell()], ids=["moon", "coupled"])
def test_first_passage_of_systems_with_exact_answers(system):
    grid = Grid.over((Z,), 400, [system.slow_range])
    z = grid.points
    found = ReducedDynamics(grid, system.free_energy(z), system.effective_diffusion(z), system.kT)
    start, end = -1.0, 1.0
    times = found.mean_first_passage_time(z[:, 0] > end)
    expected = system.mean_first_passage_time(start, end)
    assert np.interp(start, z[:, 0], times) == pytest.approx(expected, rel=0.01)
    inside = np.abs(z[:, 0]) < 1.3
    scale = np.abs(system.effective_drift(z)[inside]).max()
    np.testing.assert_allclose(
        found.drift()[inside], system.effective_drift(z)[inside], atol=0.01 * scale
    )


def test_detailed_balance_and_conservation_with_mixed_diffusion():
    grid = Grid.over((ANGLE, Z), (20, 15), [None, (0.0, 4.0)])
    phi, z = grid.points.T
    energy = (np.cos(phi) + 0.5 * (z - 2) ** 2).reshape(grid.shape)
    diffusion = np.empty((*grid.shape, 2, 2))
    diffusion[:] = [[1.0, 0.3], [0.3, 0.8]]
    found = ReducedDynamics(grid, energy, diffusion, KT)
    rates = found.rates.toarray()
    flow = found.density.ravel()[:, None] * rates
    np.testing.assert_allclose(flow, flow.T, atol=1e-12 * np.abs(flow).max())
    np.testing.assert_allclose(rates.sum(1), 0.0, atol=1e-12 * np.abs(rates).max())
    assert (rates - np.diag(np.diag(rates)) >= 0).all()


def test_mixed_diffusion_of_a_free_wave():
    """cos(k phi + l psi) decays at (sigma^2 : (k, l)(k, l)) / 2 without any free energy."""
    grid = Grid.over((ANGLE, CollectiveVariable("psi", "", (-np.pi, np.pi))), 80)
    matrix = np.array([[1.0, -0.4], [-0.4, 0.7]])
    found = ReducedDynamics(
        grid, np.zeros(grid.shape), np.broadcast_to(matrix, (*grid.shape, 2, 2)), KT
    )
    wave = np.cos(grid.points @ [1, 2])
    expected = -0.5 * np.array([1, 2]) @ matrix @ [1, 2]
    np.testing.assert_allclose(found.rates @ wave, expected * wave, atol=0.01)


def test_committor_and_rate_of_a_flat_line():
    """q is linear; the rate of 0 -> 1 is that of the flow, D / L over the mass behind 1 - q."""
    grid = Grid.over((Z,), 400, [(0.0, 1.0)])
    found = ReducedDynamics(grid, np.zeros(400), np.full((400, 1, 1), 2.0), KT)
    z = grid.axes[0]
    q = found.committor(z < 0.2, z > 0.8)
    between = (z > 0.2) & (z < 0.8)
    np.testing.assert_allclose(q[between], (z[between] - 0.2) / 0.6, atol=0.003)
    assert found.rate(z < 0.2, z > 0.8) == pytest.approx(1.0 / 0.6 / 0.5, rel=0.01)


def test_rates_are_those_of_first_passage_over_a_barrier():
    grid = Grid.over((Z,), 400, [(-2.0, 2.0)])
    z = grid.axes[0]
    found = ReducedDynamics(grid, 2 * well(z), np.full((400, 1, 1), 1.0), KT)
    time = np.interp(-1.0, z, found.mean_first_passage_time(z > 0.9))
    assert found.rate(z < -0.9, z > 0.9) == pytest.approx(1 / time, rel=0.02)


def test_trajectories_have_the_density_and_the_time():
    grid = Grid.over((ANGLE,), 90)
    energy = np.cos(grid.axes[0])
    found = ReducedDynamics(grid, energy, np.full((90, 1, 1), 2.0), KT)
    path = found.simulate(np.zeros((400, 1)), 3000, 2e-3, seed=1, every=100)
    late = path[:, 10:, 0]
    assert late.min() >= -np.pi and late.max() < np.pi  # noqa: PT018
    mean = np.cos(late).mean(1)
    error = mean.std(ddof=1) / np.sqrt(len(mean))
    exact = -np.i0(0) * 0.4463899658965345  # -I1(1)/I0(1)
    assert abs(mean.mean() - exact) < 4 * error + 0.002  # and what a step of 0.002 leaves
    again = found.simulate(np.zeros((400, 1)), 3000, 2e-3, seed=1, every=100)
    np.testing.assert_array_equal(path, again)


def test_trajectories_are_reflected():
    grid = Grid.over((Z,), 20, [(0.0, 1.0)])
    found = ReducedDynamics(grid, np.zeros(20), np.full((20, 1, 1), 1.0), KT)
    path = found.simulate(np.full((2000, 1), 0.1), 400, 1e-3, seed=0, every=400)
    assert (path >= 0).all()
    assert (path <= 1).all()
    # cos(pi z) decays at pi^2 / 2
    expected = np.cos(0.1 * np.pi) * np.exp(-0.5 * np.pi**2 * 0.4)
    error = np.cos(np.pi * path[:, -1]).std() / np.sqrt(2000)
    assert abs(np.cos(np.pi * path[:, -1]).mean() - expected) < 4 * error + 0.01


def passage_time(dynamics, start=-1.0, end=1.0):
    z = dynamics.grid.axes[0]
    return float(np.interp(start, z, dynamics.mean_first_passage_time(z > end)))


def exact_passage_time(start=-1.0, end=1.0):
    """int_start^end 2 exp(A/kT) / sigma^2 int_-2^z exp(-A/kT), by the trapezoidal rule."""
    fine = np.linspace(-2, end, 20001)
    h = fine[1] - fine[0]
    density = np.exp(-well(fine) / KT)
    inner = np.concatenate([[0], np.cumsum(0.5 * h * (density[1:] + density[:-1]))])
    rise = 2 * np.exp(well(fine) / KT) / spreading(fine) * inner
    return float(rise[fine >= start].sum() * h)


@pytest.mark.parametrize("by", ["mean_force", "drift"])
@pytest.mark.parametrize(("cells", "refine"), [(16, 1), (16, 4), (28, 1), (28, 4)])
def test_errors_know_of_the_width_of_the_cells(by, cells, refine):
    """Nothing is noise here: what is off is what the cells leave."""
    grid = Grid.over((Z,), cells, [(-2.0, 2.0)])
    found = with_error(grid, closure_of(grid, well, spreading), passage_time, by=by, refine=refine)
    off = abs(found.value - exact_passage_time())
    assert off < 2 * found.error
    assert found.error < 0.3 * found.value


def test_replicates_that_give_nothing_are_counted():
    grid = Grid.over((Z,), 20, [(-2.0, 2.0)])
    closure = closure_of(grid, well, spreading, noise=0.05)
    assert np.isfinite(with_error(grid, closure, passage_time).error)
    for n, known in ((3, True), (10, False)):
        rows = closure.diffusion.replicates.copy()
        rows[:n] *= -1
        changed = replace(closure, diffusion=replace(closure.diffusion, replicates=rows))
        assert np.isfinite(with_error(grid, changed, passage_time).error) == known


def test_errors_of_a_time_are_those_of_the_closure():
    """A factor on drift and diffusion alike is one on all times."""
    grid = Grid.over((Z,), 40, [(-2.0, 2.0)])
    found = with_error(
        grid,
        closure_of(grid, well, lambda z: 0 * z + 1.0, noise=0.1),
        passage_time,
    )
    factors = 1 + 0.1 * np.random.default_rng(0).normal(size=40)
    assert found.error / found.value == pytest.approx((1 / factors).std(ddof=1), rel=0.02)


def test_unknown_cells_are_walls():
    grid = Grid.over((Z,), 20, [(0.0, 1.0)])
    energy = np.zeros(20)
    energy[15] = np.nan
    found = ReducedDynamics(grid, energy, np.full((20, 1, 1), 1.0), KT)
    assert found.cells.sum() == 15
    assert found.density[15:].sum() == 0
    times = found.mean_first_passage_time(grid.axes[0] < 0.1)
    assert np.isnan(times[15:]).all()
    # from z to 0.1 with a wall at 0.75: ((0.75-0.1)^2 - (0.75-z)^2) / sigma^2
    z = grid.axes[0][5]
    assert times[5] == pytest.approx(0.65**2 - (0.75 - z) ** 2, rel=0.06)
    with pytest.raises(ValueError, match="no cell where"):
        found.mean_first_passage_time(grid.axes[0] == energy)
    with pytest.raises(ValueError, match="beyond cells where nothing is known, apart from the 15"):
        found.mean_first_passage_time(grid.axes[0] > 0.9)
    with pytest.raises(ValueError, match="5 cells"):
        found.simulate([[0.1]], 1, 1e-3, seed=0)


def test_cells_apart_from_the_others_are_told(caplog):
    grid = Grid.over((Z,), 20, [(-1.5, 1.5)])
    whole = closure_of(grid, well, spreading)
    reduced_dynamics_of(grid, whole)
    assert "apart" not in caplog.text
    gap = whole.mean_force.value.copy()
    gap[15] = np.nan
    found = reduced_dynamics_of(
        grid, replace(whole, mean_force=replace(whole.mean_force, value=gap)), refine=2
    )
    assert "8 of 38 known cells lie apart from the others" in caplog.text
    assert found.cells.sum() == 30


def test_unknown_cells_of_two_cvs_are_walls():
    """A strip without free energy: from z to the target, 0.65^2 - (0.75 - z)^2 over sigma^2 = 1."""
    grid = Grid.over((Z, ANGLE), (20, 6), [(0.0, 1.0), None])
    energy = np.zeros(grid.shape)
    diffusion = np.broadcast_to(np.eye(2), (*grid.shape, 2, 2)).copy()
    energy[15:17], diffusion[17:] = np.inf, np.nan
    found = ReducedDynamics(grid, energy, diffusion, KT)
    assert found.cells.sum() == 15 * 6
    z = grid.points[:, 0].reshape(grid.shape)
    times = found.mean_first_passage_time(z < 0.1)
    np.testing.assert_allclose(times[5], 0.65**2 - (0.75 - z[5]) ** 2, rtol=0.06)


def test_refusals():
    grid = Grid.over((Z,), 20, [(0.0, 1.0)])
    ones = np.ones((20, 1, 1))
    with pytest.raises(ValueError, match="not positive"):
        ReducedDynamics(grid, np.zeros(20), -ones, KT)
    found = ReducedDynamics(grid, np.zeros(20), ones, KT)
    for shape in ((20,), (20, 2, 2)):
        with pytest.raises(ValueError, match="have shapes"):
            ReducedDynamics(grid, np.zeros(20), np.ones(shape), KT)
    with pytest.raises(ValueError, match="kT is 0"):
        ReducedDynamics(grid, np.zeros(20), ones, 0.0)
    with pytest.raises(ValueError, match="known in no cell"):
        ReducedDynamics(grid, np.full(20, np.nan), ones, KT)
    with pytest.raises(ValueError, match=r"start of z is 1\.5"):
        found.simulate([[0.5], [1.5]], 1, 1e-3, seed=0)
    with pytest.raises(ValueError, match="every is 0"):
        found.simulate([[0.5]], 1, 1e-3, seed=0, every=0)
    for cells, bounds in (
        ((5, 5), [(0, 1)]),
        (5, [(0, 1), (0, 1)]),
        (2, [(0, 1)]),
        (5.5, [(0, 1)]),
    ):
        with pytest.raises(ValueError, match="cells"):
            Grid.over((Z,), cells, bounds)
    with pytest.raises(ValueError, match="starts have shape"):
        found.simulate([0.5, 0.6], 1, 1e-3, seed=0)
    few = Grid.over((Z,), 3, [(0.0, 1.0)])
    with pytest.raises(ValueError, match="too few to refine"):
        reduced_dynamics_of(few, closure_of(few, well, spreading))
    with pytest.raises(ValueError, match="overlap"):
        found.committor(np.ones(20), np.ones(20))
    with pytest.raises(ValueError, match="expected \\(20,\\)"):
        found.mean_first_passage_time(np.ones(3))
    wide = Grid.over((Z, Y), (4, 40), [(0.0, 1.0), (0.0, 1.0)])
    mixed = np.broadcast_to(np.array([[1.0, 0.8], [0.8, 1.0]]), (4, 40, 2, 2))
    with pytest.raises(ValueError, match="too oblong"):
        _ = ReducedDynamics(wide, np.zeros((4, 40)), mixed, KT).rates
    with pytest.raises(ValueError, match="by is 'forces'"):
        reduced_dynamics_of(grid, closure_of(grid, well, spreading), by="forces")
