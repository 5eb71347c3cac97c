"""The multiscale systems: all that they call exact, against quadrature, autograd and themselves."""

import math
from dataclasses import replace

import numpy as np
import openmm
import pytest
import torch
from openmm import app
from scipy.linalg import solve_banded

from openmm_cgan.plumed.bias import PlumedBias
from openmm_cgan.testsystems.multiscale import (
    AngleRadius,
    CoupledDoubleWell,
    HalfMoon,
    LinearPair,
    QuarticWell,
    RotatedMuellerBrown,
)
from openmm_cgan.testsystems.multiscale.quadrature import mean_passage_time
from openmm_cgan.thermostats import thermal_energy

SYSTEMS = [
    LinearPair(eps=0.05, stiffness=1.3, fast_stiffness=2.2, slope=0.7, kT=0.8),
    HalfMoon(eps=0.05, well=QuarticWell(tilt=0.4), bend=0.8, kT=1.2),
    AngleRadius(eps=0.05, tilt=0.3, kT=1.1),
    RotatedMuellerBrown(eps=0.05, n_dims=5, kT=1.1),
    CoupledDoubleWell(eps=0.05, well=QuarticWell(tilt=-0.3), n_fast=4, kT=0.9),
]
PLANAR = [*SYSTEMS[:3], replace(SYSTEMS[3], n_dims=2), replace(SYSTEMS[4], n_fast=1)]
N = 4000


def name(system):
    return type(system).__name__


def values(system):
    """Seven values of the slow variable where the density is not small."""
    grid = np.linspace(*system.slow_range, 501)
    free = system.free_energy(grid[:, None])
    return grid[free < free.min() + 6 * system.kT][:: 501 // 20][:7, None]


def derivatives_of_slow(system, x):
    """Gradient (n, d) and Hessian (n, d, d) of the slow variable by autograd."""

    def one(point):
        return system.slow(point[None])[0, 0]

    hessian = torch.func.jacrev(torch.func.grad(one))
    return torch.func.vmap(torch.func.grad(one))(x), torch.func.vmap(hessian)(x)


@pytest.mark.parametrize("system", SYSTEMS, ids=name)
def test_drift_and_noise_leave_the_boltzmann_density_of_the_potential(system):
    """drift = -D grad V + kT div D with D = noise noise^T / 2 kT, all by autograd."""
    x = torch.from_numpy(system.sample(8, seed=1))

    def mobility(point):
        noise = system.noise(point[None])[0]
        return noise @ noise.T / (2 * system.kT)

    gradient = torch.func.vmap(torch.func.grad(lambda p: system.potential(p[None])[0]))(x)
    tensor = torch.func.vmap(mobility)(x)
    divergence = torch.func.vmap(torch.func.jacrev(mobility))(x).diagonal(dim1=2, dim2=3).sum(2)
    expected = -(tensor @ gradient[:, :, None])[:, :, 0] + system.kT * divergence
    torch.testing.assert_close(system.drift(x), expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("system", SYSTEMS, ids=name)
def test_closures_are_the_conditional_averages_of_the_generator(system):
    """b = E[L slow | z] and sigma^2 = E[|noise^T grad slow|^2 | z], by Ito's formula."""
    z = values(system)
    x = torch.from_numpy(system.sample_conditional(z, N, seed=2).reshape(-1, system.n_dims))
    assert np.abs(system.slow(x).numpy().reshape(len(z), N) - z).max() < 1e-12
    gradient, hessian = derivatives_of_slow(system, x)
    noise = system.noise(x)
    moved = (gradient[:, None] @ noise)[:, 0].square().sum(1).numpy().reshape(len(z), N)
    bent = (noise * (hessian @ noise)).sum((1, 2))
    along = ((gradient * system.drift(x)).sum(1) + 0.5 * bent).numpy().reshape(len(z), N)
    exact = system.effective_drift(z)[:, 0], system.effective_diffusion(z)[:, 0, 0]
    for found, expected in zip((along, moved), exact, strict=True):
        error = found.std(axis=1) / math.sqrt(N) + 1e-9
        assert np.all(np.abs(found.mean(axis=1) - expected) < 5 * error)


@pytest.mark.parametrize("system", SYSTEMS, ids=name)
def test_the_identity_of_drift_diffusion_and_free_energy_holds(system):
    """b = -sigma^2 A'/(2 kT) + (sigma^2)'/2."""
    z, h = values(system), 1e-4
    slope = (system.free_energy(z + h) - system.free_energy(z - h)) / (2 * h)
    sigma2 = [system.effective_diffusion(z + step)[:, 0, 0] for step in (-h, 0, h)]
    expected = -sigma2[1] * slope / (2 * system.kT) + (sigma2[2] - sigma2[0]) / (4 * h)
    # central differences are wrong by h^2/6 of the third derivative, at most that of the rugged
    # landscape: 0.45 (2 pi 5)^3 / 2, times M
    np.testing.assert_allclose(system.effective_drift(z)[:, 0], expected, atol=1e-4, rtol=1e-6)


@pytest.mark.parametrize("system", PLANAR, ids=name)
def test_free_energy_and_conditional_density_are_those_of_the_potential(system):
    """Integrals of exp(-V/kT) over the fast coordinate, with the volume of the curved lines."""
    z = values(system)
    fast = torch.linspace(0.2, 1.8, 6001) if name(system) == "AngleRadius" else None
    fast = (torch.linspace(-6, 6, 6001) if fast is None else fast).double()
    free, mean = [], []
    for value in z[:, 0]:
        u = torch.stack([torch.full_like(fast, value), fast], dim=1)
        volume = torch.linalg.det(torch.func.vmap(torch.func.jacrev(
            lambda p: system.observed(p[None])[0]))(u)).abs()  # fmt: skip
        x = system.observed(u)
        density = torch.exp(-system.potential(x) / system.kT) * volume
        free.append(-system.kT * math.log(float(torch.trapezoid(density, fast))))
        mean.append(((x * x * density[:, None]).sum(0) / density.sum()).numpy())
    free = np.array(free)
    found = system.free_energy(z)
    np.testing.assert_allclose(found - found.mean(), free - free.mean(), atol=1e-6)
    squares = system.sample_conditional(z, N, seed=3) ** 2
    error = squares.std(axis=1) / math.sqrt(N)
    assert np.all(np.abs(squares.mean(axis=1) - mean) < 5 * error + 1e-6)


def test_passage_times_of_free_diffusion():
    """T = (x - a)(b - x) / sigma^2 between two absorbing ends."""
    grid = np.linspace(-1.0, 2.0, 2001)
    flat, sigma2 = np.zeros_like(grid), np.full_like(grid, 0.7)
    both = mean_passage_time(grid, flat, sigma2, 0.5, (True, True))
    assert both == pytest.approx(1.5 * 1.5 / 0.7, rel=1e-5)
    # from a reflecting end: ((b - a)^2 - (x - a)^2) / sigma^2
    right = mean_passage_time(grid, flat, sigma2, 0.5, (False, True))
    assert right == pytest.approx((9 - 2.25) / 0.7, rel=1e-5)
    left = mean_passage_time(grid, flat, sigma2, 0.5, (True, False))
    assert left == pytest.approx((9 - 2.25) / 0.7, rel=1e-5)
    with pytest.raises(ValueError, match="at least one absorbing end"):
        mean_passage_time(grid, flat, sigma2, 0.5, (False, False))


@pytest.mark.parametrize("system", SYSTEMS, ids=name)
def test_passage_times_are_those_of_a_jump_process_on_a_grid(system):
    """A finite-volume generator with detailed balance, solved as a linear system."""
    low, high = system.slow_range
    z = np.linspace(low, high, 1501)
    free = system.free_energy(z[:, None])
    start, end = z[free < free.min() + 3 * system.kT][[0, -1]]
    if system.period is not None:
        start, end = -1.5, 1.5
        z = end - system.period + system.period * np.linspace(0, 1, 1501)
    # rates between neighbours: sigma^2 in the middle, and the free energy of both
    h = z[1] - z[0]
    middle = 0.5 * (z[1:] + z[:-1])[:, None]
    sigma2 = system.effective_diffusion(middle)[:, 0, 0]
    reduced = system.free_energy(z[:, None]) / system.kT
    between = system.free_energy(middle) / system.kT
    up = sigma2 / (2 * h * h) * np.exp(reduced[:-1] - between)
    down = sigma2 / (2 * h * h) * np.exp(reduced[1:] - between)
    inside = np.arange(1, 1500) if system.period is not None else np.flatnonzero(z < end)
    # stay where no walker ever is: leave out what is 60 kT high
    inside = inside[(reduced - reduced.min())[inside] < 60]
    generator = np.zeros((3, len(inside)))
    for row, i in enumerate(inside):
        leave_up = up[i] if i < 1500 else 0.0
        leave_down = down[i - 1] if i > 0 and (i - 1 in inside[:1] or row > 0) else 0.0
        if system.period is not None:
            leave_down = down[i - 1]
        generator[1, row] = -(leave_up + leave_down)
        if row + 1 < len(inside):
            generator[0, row + 1] = leave_up
        if row > 0:
            generator[2, row - 1] = leave_down
    times = solve_banded((1, 1), generator, -np.ones(len(inside)))
    expected = float(np.interp(start, z[inside], times))
    assert system.mean_first_passage_time(start, end) == pytest.approx(expected, rel=5e-3)


def test_first_passages_of_walkers_are_those_of_the_reduced_dynamics():
    system = HalfMoon(eps=0.1, well=QuarticWell(barrier=1.0, half_width=0.8))
    times = system.simulate_first_passage(-0.8, 0.8, 400, dt=4e-3, seed=4)
    exact = system.mean_first_passage_time(-0.8, 0.8)
    assert abs(times.mean() - exact) < 4 * times.std() / math.sqrt(400)
    with pytest.raises(RuntimeError, match="raise max_steps"):
        system.simulate_first_passage(-0.8, 0.8, 3, dt=2e-3, seed=4, max_steps=2)


def test_the_slow_mode_of_the_linear_pair_nears_its_limit():
    slow, fast = LinearPair(eps=1e-3, stiffness=1.5).relaxation_rates()
    assert slow == pytest.approx(1.5, rel=2e-3)
    assert fast == pytest.approx(1e3, rel=1e-2)
    # the autocorrelation of x in equilibrium knows the same rates
    system = LinearPair(eps=0.2)
    x0 = system.sample(4000, seed=5)
    x = system.simulate(x0, 40, 0.02, 40, seed=6)[-1]
    rates = system.relaxation_rates()
    matrix = torch.linalg.matrix_exp(-0.8 * _relaxation(system)).numpy()
    product = x0[:, 0] * x[:, 0]
    covariance = _covariance(system)
    expected = (matrix @ covariance)[0, 0]
    assert np.allclose(sorted(np.linalg.eigvals(_relaxation(system).numpy()).real), rates)
    assert abs(product.mean() - expected) < 5 * product.std() / math.sqrt(4000) + 0.01


def _relaxation(system):
    """dX = -R X dt + ...: R (2, 2)."""
    return -system.drift(torch.eye(2, dtype=torch.float64)).T


def _covariance(system):
    """Of the equilibrium of a LinearPair (2, 2)."""
    x = system.kT / system.stiffness
    s = system.slope
    return np.array([[x, s * x], [s * x, s * s * x + system.kT / system.fast_stiffness]])


@pytest.mark.parametrize("system", SYSTEMS, ids=name)
def test_equilibrium_stays_as_it_is(system):
    """Second moments of what is seen, after as many steps as the fast coordinates forget in."""
    n = 1000
    x0 = system.sample(n, seed=7)
    stiffest = {"AngleRadius": 100.0, "RotatedMuellerBrown": 500.0}.get(name(system), 3.0)
    dt = 0.1 * system.eps / (system.slow_mobility * stiffest)
    x = system.simulate(x0, 60, dt, 20, seed=8)
    assert x.shape == (3, n, system.n_dims)
    for moment in (1, 2):
        before, after = system.sample(n, seed=9) ** moment, x[-1] ** moment
        error = np.sqrt((before.var(axis=0) + after.var(axis=0)) / n)
        assert np.all(np.abs(before.mean(axis=0) - after.mean(axis=0)) < 5 * error)


def test_a_bias_acts_on_the_slow_variable():
    """A spring on the slow variable of a LinearPair: another Gaussian."""
    system = LinearPair(eps=0.1)

    def spring(z):
        return 2.0 * (z[:, 0] - 1.0) ** 2  # kappa = 4 at 1

    x0 = system.sample_conditional(np.array([[0.8]]), 2000, seed=10)[0]
    x = system.simulate(x0, 150, 0.02, 150, seed=11, bias=spring)[-1]
    mean, variance = 4.0 / 5.0, system.kT / 5.0
    assert abs(x[:, 0].mean() - mean) < 5 * math.sqrt(variance / 2000)
    # a second-order step: the variance is wrong by less than (M k dt)^2 = 0.01
    assert abs(x[:, 0].var() - variance) < variance * (5 * math.sqrt(2 / 2000) + 0.01)
    # round the circle the bias sees one period only
    turned = AngleRadius(eps=0.1)
    seen = []
    turned.simulate(turned.sample(50, 12), 200, 1e-4, 200, 13, lambda z: seen.append(z) or z[:, 0])
    assert max(float(z.detach().abs().max()) for z in seen) <= math.pi + 1e-9


def context_of(system, integrator, x):
    platform = openmm.Platform.getPlatformByName("Reference")
    context = openmm.Context(system.system(), integrator, platform)
    context.setPositions(system.positions(x))
    return context


@pytest.mark.parametrize("system", SYSTEMS, ids=name)
def test_openmm_has_the_same_energies_and_forces(system):
    x = system.sample(5, seed=14)
    context = context_of(system, openmm.VerletIntegrator(0.001), x[0])
    points = torch.from_numpy(x).requires_grad_()
    energies = system.potential(points)
    (gradient,) = torch.autograd.grad(energies.sum(), points)
    for k in range(5):
        context.setPositions(system.positions(x[k]))
        state = context.getState(energy=True, forces=True)
        assert state.getPotentialEnergy()._value == pytest.approx(float(energies[k].detach()))
        forces = system.coordinates(state.getForces(asNumpy=True)._value)
        np.testing.assert_allclose(forces, -gradient[k].numpy(), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("system", SYSTEMS, ids=name)
def test_steps_of_the_integrator_are_those_of_the_dynamics(system):
    """Each step replayed in hidden coordinates, from the noise that OpenMM drew."""
    dt, n = 1e-5, 300
    integrator = system.integrator(dt)
    integrator.setRandomNumberSeed(15)
    assert thermal_energy(integrator) == system.kT
    x = system.sample(1, seed=16)
    context = context_of(system, integrator, x[0])
    drawn = []
    for _ in range(n):
        u = system.hidden(torch.from_numpy(x))
        integrator.step(1)
        noise = _noise(system, integrator, "before") + _noise(system, integrator, "noise")
        mobility = system.mobility(u)
        moved = u - dt * mobility * system.hidden_gradient(u) + torch.from_numpy(noise)
        positions = context.getState(positions=True).getPositions(asNumpy=True)._value
        x = system.coordinates(positions)[None]
        np.testing.assert_allclose(system.observed(moved).numpy(), x, atol=1e-10)
        width = (0.5 * system.kT * dt * mobility[0]).sqrt().numpy()
        drawn.append(_noise(system, integrator, "noise")[0] / width)
        assert not positions.reshape(-1)[system.n_dims :].any()  # what fills up the particle
    squares = np.square(drawn)
    assert np.all(np.abs(squares.mean(axis=0) - 1) < 5 * math.sqrt(2 / n))


def _noise(system, integrator, which):
    """Noise (1, d) that an integrator drew, in hidden coordinates."""
    vectors = np.array([[*v] for v in integrator.getPerDofVariableByName(which)])
    noise = system.coordinates(vectors)[None]
    if isinstance(system, RotatedMuellerBrown):  # the only one whose noise is drawn in x
        return noise @ system.rotation
    return noise


def test_a_plumed_bias_acts_on_such_a_system():
    """The half-moon's slow variable written in PLUMED's words, held by a spring."""
    system = HalfMoon(eps=0.1)
    text = (
        "p: POSITION ATOM=1\n"
        "slow: CUSTOM ARG=p.x,p.y FUNC=x-y^2 PERIODIC=NO\n"
        "RESTRAINT ARG=slow AT=0.5 KAPPA=20\n"
    )
    bias = PlumedBias(text, system.topology(), temperature=system.temperature)
    with_bias = system.system()
    bias.add_to(with_bias)
    platform = openmm.Platform.getPlatformByName("Reference")
    integrator = system.integrator(0.01)
    integrator.setRandomNumberSeed(17)
    simulation = app.Simulation(system.topology(), with_bias, integrator, platform)
    bias.attach(simulation)
    simulation.context.setPositions(system.positions(np.array([0.5, 0.0])))
    found = []
    for _ in range(800):
        simulation.step(5)
        positions = simulation.context.getState(positions=True).getPositions(asNumpy=True)._value
        x = torch.from_numpy(system.coordinates(positions)[None])
        found.append(float(system.slow(x)))
    grid = np.linspace(-1, 2, 3001)
    energy = system.free_energy(grid[:, None]) + 10 * (grid - 0.5) ** 2
    density = np.exp(-energy / system.kT)
    mean = (grid * density).sum() / density.sum()
    deviation = math.sqrt(((grid - mean) ** 2 * density).sum() / density.sum())
    # the slow variable forgets in 1/(m kappa) = 0.1 ps, two frames: 400 that count
    assert abs(np.mean(found) - mean) < 5 * deviation / math.sqrt(400)


def test_parameters_without_meaning_are_refused():
    with pytest.raises(ValueError, match="raise fast_stiffness"):
        AngleRadius(fast_stiffness=10.0)
    with pytest.raises(ValueError, match="n_dims is 1, expected 2 or more"):
        RotatedMuellerBrown(n_dims=1)
    with pytest.raises(ValueError, match="raise scale, or lower kT"):
        RotatedMuellerBrown(kT=1000.0)
    for system in (LinearPair, HalfMoon, AngleRadius, CoupledDoubleWell, RotatedMuellerBrown):
        with pytest.raises(ValueError, match=r"eps=0.*expected a positive number"):
            system(eps=0.0)
        with pytest.raises(ValueError, match=r"kT=-1.*expected a positive number"):
            system(kT=-1.0)
    with pytest.raises(ValueError, match=r"z has shape \(3,\), expected \(m, 1\)"):
        HalfMoon().sample_conditional(np.zeros(3), 2, 0)
