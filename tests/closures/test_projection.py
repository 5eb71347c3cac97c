"""Drift, diffusion and mean force of single configurations, against mathematics."""

import numpy as np
import pytest
import torch

from openmm_cgan.closures import (
    local_dynamics,
    local_dynamics_of_frames,
    local_dynamics_of_sde,
    md_mobility,
)
from openmm_cgan.plumed.bias import PlumedBias
from openmm_cgan.potentials import Potential
from openmm_cgan.testsystems import alanine_dipeptide
from openmm_cgan.testsystems.multiscale import HalfMoon

KT = 2.0


def dihedral(x):
    """Of the first four atoms, by the textbook; a CV with all its curvature."""
    b1, b2, b3 = (x[:, i + 1] - x[:, i] for i in range(3))
    n1, n2 = torch.linalg.cross(b1, b2), torch.linalg.cross(b2, b3)
    y = (torch.linalg.cross(n1, n2) * b2 / b2.norm(dim=-1, keepdim=True)).sum(-1)
    return torch.atan2(y, (n1 * n2).sum(-1))[:, None]


def by_differences(cv, x, gradients, mobility, h=1e-4):
    """L xi and 2 kT |grad xi|^2 by central differences in each coordinate."""
    value = cv(torch.as_tensor(x)).numpy()
    drift, diffusion = np.zeros_like(value), np.zeros_like(value)
    for i in np.ndindex(x.shape[1:]):
        step = np.zeros(x.shape[1:])
        step[i] = h
        up, down = (cv(torch.as_tensor(x + s * step)).numpy() for s in (1, -1))
        slope = (up - down) / (2 * h)
        own = np.broadcast_to(mobility, x.shape[1:])[i]
        drift += own * (KT * (up - 2 * value + down) / h**2 - gradients[:, *i, None] * slope)
        diffusion += 2 * KT * own * slope**2
    return drift, diffusion


@pytest.fixture
def chain():
    rng = np.random.default_rng(3)
    x = np.cumsum(rng.normal(0.0, 0.1, (5, 5, 3)), axis=1)
    return x, rng.normal(0.0, 50.0, x.shape), md_mobility(rng.uniform(1.0, 16.0, 5), 2.0)


def test_a_torsion_against_finite_differences(chain):
    x, gradients, mobility = chain
    found = local_dynamics(dihedral, x, gradients, KT, mobility=mobility)
    drift, diffusion = by_differences(dihedral, x, gradients, mobility)
    np.testing.assert_allclose(found.diffusion[:, 0], diffusion, rtol=1e-5)
    np.testing.assert_allclose(found.drift, drift, rtol=1e-4, atol=1e-4 * np.abs(drift).max())
    assert (found.laplacian_error == 0).all()


def test_the_mean_force_is_that_of_darve_and_pohorille(chain):
    """grad V . w - kT div w, w = G^-1 grad xi, with the divergence by central differences."""
    x, gradients, mobility = chain
    found = local_dynamics(dihedral, x, gradients, KT, mobility=mobility)
    scale = np.broadcast_to(mobility, x.shape[1:])

    def field(at):
        y = torch.as_tensor(at).requires_grad_()
        [slope] = torch.autograd.grad(dihedral(y).sum(), y)
        slope = slope.numpy()
        return scale * slope / (scale * slope**2).sum((1, 2), keepdims=True)

    expected = (gradients * field(x)).sum((1, 2))
    for i in np.ndindex(x.shape[1:]):
        step = np.zeros(x.shape[1:])
        step[i] = 1e-5
        expected -= KT * (field(x + step) - field(x - step))[:, *i] / 2e-5
    np.testing.assert_allclose(found.mean_force[:, 0], expected, rtol=1e-5)


def test_a_rod_moves_on_a_sphere():
    """Two atoms at a distance r: the cosine c of the polar angle has L c = -2 kT mu c / r^2."""
    rng = np.random.default_rng(0)
    r, masses, friction = 0.3, np.array([3.0, 12.0]), 5.0
    axis = rng.normal(size=(20, 3))
    axis *= r / np.linalg.norm(axis, axis=1, keepdims=True)
    x = np.stack([np.zeros((20, 3)), axis], 1) + rng.normal(size=(20, 1, 3))
    found = local_dynamics(
        lambda y: (y[:, 1, 2] - y[:, 0, 2])[:, None] / r,
        x,
        np.zeros_like(x),
        KT,
        mobility=md_mobility(masses, friction),
        constraints=[(0, 1)],
    )
    mu = (1 / masses).sum() / friction
    c = axis[:, 2:] / r
    np.testing.assert_allclose(found.drift, -2 * KT * mu * c / r**2, rtol=1e-9)
    np.testing.assert_allclose(found.diffusion[:, 0], 2 * KT * mu * (1 - c**2) / r**2, rtol=1e-9)
    # All cosines are as likely: no mean force.
    np.testing.assert_allclose(found.mean_force, 0.0, atol=1e-9 * KT)


def test_bonds_that_share_atoms_against_finite_differences(chain):
    """tr(P D(P grad xi)) of a torsion whose bonds are held, P from a QR decomposition."""
    x, gradients, mobility = chain
    pairs = [(0, 1), (1, 2), (2, 3), (1, 3), (3, 4)]
    found = local_dynamics(dihedral, x, gradients, KT, mobility=mobility, constraints=pairs)
    scale = np.sqrt(np.broadcast_to(mobility, x.shape[1:])).ravel()

    def projector(at):
        rows = np.zeros((len(pairs), *at.shape))
        for row, (i, j) in zip(rows, pairs, strict=True):
            row[i], row[j] = at[i] - at[j], at[j] - at[i]
        q, _ = np.linalg.qr((rows.reshape(len(pairs), -1) * scale).T)
        return np.eye(len(scale)) - q @ q.T

    def field(at):
        y = torch.as_tensor(at)[None].requires_grad_()
        [slope] = torch.autograd.grad(dihedral(y).sum(), y)
        return projector(at) @ (slope.numpy().ravel() * scale)

    for n, at in enumerate(x):
        own, h = projector(at), 1e-5
        steps = (h * np.diag(scale)).reshape(-1, *at.shape)
        jacobian = np.stack([(field(at + s) - field(at - s)) / (2 * h) for s in steps], 1)
        drift = KT * np.trace(own @ jacobian) - field(at) @ (scale * gradients[n].ravel())
        np.testing.assert_allclose(found.drift[n, 0], drift, rtol=1e-6)
        np.testing.assert_allclose(found.diffusion[n, 0, 0], 2 * KT * field(at) @ field(at))


def test_the_angle_of_rigid_bonds_feels_fixmans_force():
    """p(theta) ~ sin(theta) |H|^(1/2) exp(-V/kT), H of the bonds: no average is needed."""
    theta = np.linspace(0.4, 2.7, 8)
    masses, lengths, stiffness = np.array([1.0, 12.0, 16.0]), (0.1, 0.15), 40.0
    x = np.zeros((8, 3, 3))
    x[:, 0, 0] = lengths[0]
    x[:, 2] = lengths[1] * np.stack([np.cos(theta), np.sin(theta), 0 * theta], 1)

    def angle(y):
        a, b = y[:, 0] - y[:, 1], y[:, 2] - y[:, 1]
        return torch.atan2(torch.linalg.cross(a, b).norm(dim=-1), (a * b).sum(-1))[:, None]

    y = torch.as_tensor(x).requires_grad_()
    [gradients] = torch.autograd.grad(0.5 * stiffness * (angle(y) ** 2).sum(), y)
    found = local_dynamics(
        angle, x, gradients, KT, mobility=md_mobility(masses, 2.0), constraints=[(0, 1), (1, 2)]
    )

    def free_energy(t):
        ends = (1 / masses[0] + 1 / masses[1]) * (1 / masses[1] + 1 / masses[2])
        factor = 0.5 * np.log(ends - (np.cos(t) / masses[1]) ** 2)
        return 0.5 * stiffness * t**2 - KT * (np.log(np.sin(t)) + factor)

    slope = (free_energy(theta + 1e-5) - free_energy(theta - 1e-5)) / 2e-5
    np.testing.assert_allclose(found.mean_force[:, 0], slope, rtol=1e-6, atol=1e-6)


def test_an_atom_drags_what_is_constrained_to_it():
    """The middle of a rod moves by the mass of the whole, whatever its CV names."""
    x = np.array([[[0.0, 0, 0], [0.1, 0, 0]]])
    found = local_dynamics(
        lambda y: y[:, 0, :1],
        x,
        np.zeros_like(x),
        KT,
        mobility=md_mobility([12.0, 1.0], 1.0),
        constraints=[(0, 1)],
    )
    np.testing.assert_allclose(found.diffusion, 2 * KT / 13.0)


def test_a_slope_may_vanish_where_a_curvature_does_not():
    """Two atoms along x: sideways their distance has no slope, but L r = 4 kT mu / r in all."""
    x = np.array([[[0.0, 0, 0], [0.3, 0, 0]]])

    def distance(y):
        return (y[:, 1] - y[:, 0]).norm(dim=-1)[:, None]

    found = local_dynamics(distance, x, 0 * x, KT, mobility=0.5)
    np.testing.assert_allclose(found.drift, 4 * KT * 0.5 / 0.3)
    np.testing.assert_allclose(found.mean_force, -2 * KT / 0.3)  # of -2 kT ln r


def test_hutchinson_is_right_within_its_error(chain):
    x, gradients, mobility = (np.repeat(a, 40, 0) if np.ndim(a) == 3 else a for a in chain)
    exact = local_dynamics(dihedral, x, gradients, KT, mobility=mobility, constraints=[(3, 4)])
    found = local_dynamics(
        dihedral, x, gradients, KT, mobility=mobility, constraints=[(3, 4)], probes=30
    )
    z = (found.drift - exact.drift) / found.laplacian_error
    assert (found.laplacian_error > 0).all()
    assert 0.7 < z.std() < 1.4  # 200 of them: 1 +- 0.05, t with 29 degrees of freedom
    assert np.abs(z.mean()) < 4 / np.sqrt(len(z))


def test_two_cvs_at_once_and_a_cv_of_few_atoms():
    rng = np.random.default_rng(1)
    x, gradients = rng.normal(size=(2, 7, 3, 3))

    def cvs(y):
        return torch.stack([y[:, 0, 0] + 2 * y[:, 1, 1], y[:, 1, 1] ** 2], 1)

    found = local_dynamics(cvs, x, gradients, KT, mobility=0.5)
    y = x[:, 1, 1]
    expected = np.stack([[np.full(7, 5.0), 4 * y], [4 * y, 4 * y**2]]).transpose(2, 0, 1)
    np.testing.assert_allclose(found.diffusion, KT * expected)
    pulls = -0.5 * gradients[:, 0, 0] - gradients[:, 1, 1], -y * gradients[:, 1, 1] + KT
    np.testing.assert_allclose(found.drift, np.stack(pulls, 1))


def test_a_diffusion_in_bent_coordinates_is_that_in_straight_ones():
    """The half-moon's slow variable is the hidden u: its drift and diffusion are functions of u."""
    system = HalfMoon(eps=0.1)
    x = system.sample_conditional(np.linspace(-1.5, 1.5, 9)[:, None], 20, 1).reshape(-1, 2)
    z = system.slow(torch.as_tensor(x)).numpy()
    found = local_dynamics_of_sde(system.slow, system.drift, system.noise, x, system.kT)
    np.testing.assert_allclose(found.drift, system.effective_drift(z), atol=1e-9)
    np.testing.assert_allclose(found.diffusion, system.effective_diffusion(z), rtol=1e-9)
    step = 1e-5
    slope = (system.free_energy(z + step) - system.free_energy(z - step)) / (2 * step)
    np.testing.assert_allclose(found.mean_force[:, 0], slope, atol=1e-6)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"gradients": np.zeros((2, 2, 3))}, "expected one shape"),
        ({"probes": 1}, "2 or more"),
        ({"mobility": 0.0}, "positive"),
        ({"cvs": lambda y: y.sum((1, 2))}, "expected \\(3, n_cvs\\)"),
        ({"cvs": lambda y: y[:, 0, :1] * 0 + y[:, 0, :1].sqrt()}, "frame 0"),
        ({"cvs": lambda y: (1 + y[:, 0, :1]) ** 2}, "frame 0 and 2 others.*stands still"),
        ({"cvs": lambda y: y[:, 0, :1] * 0 + 1}, "stands still"),
        ({"cvs": lambda y: torch.stack([y[:, 0, 0], y[:, 0, 0] ** 3], 1)}, "move as one"),
        ({"constraints": [(0, 2)]}, "atoms from 0"),
        ({"mobility": [1.0, 2.0]}, "one for each coordinate"),
        ({"kT": 0.0}, "kT is 0"),
        ({"positions": np.zeros((0, 2, 3)), "gradients": np.zeros((0, 2, 3))}, "or more"),
    ],
)
def test_refusals(change, words):
    x = np.full((3, 2, 3), -1.0)
    given = {"cvs": lambda y: y[:, 0, :1], "positions": x, "gradients": x, "kT": KT} | change
    with pytest.raises(ValueError, match=words):
        local_dynamics(**given)


def test_constraints_that_leave_nothing_or_say_it_twice(chain):
    def end_to_end(y):
        return (y[:, 1] - y[:, 0]).norm(dim=-1)[:, None]

    for cv, pairs, words in (
        (end_to_end, [(0, 1)], "constraints hold it"),
        (dihedral, [(0, 1), (1, 0)], "frame 0: the constraints"),
    ):
        with pytest.raises(ValueError, match=words):
            local_dynamics(cv, *chain[:2], KT, constraints=pairs)


def test_masses_and_friction_are_looked_at():
    with pytest.raises(ValueError, match="positive"):
        md_mobility([1.0, 0.0], 1.0)
    with pytest.raises(ValueError, match="positive"):
        md_mobility([1.0], 0.0)


def test_forces_of_a_bias_are_told(caplog):
    """A Potential of the System of the run pushes as the bias does, and drift and A' with it."""
    molecule = alanine_dipeptide("C7eq")
    text = "phi: TORSION ATOMS=5,7,9,15\nRESTRAINT ARG=phi AT=0 KAPPA=100\n"
    bias = PlumedBias(text, molecule.topology, temperature=300, cvs=["phi"], backend="native")
    bias.add_to(molecule.system)
    x = molecule.positions[None]
    plain, biased = (
        local_dynamics_of_frames(
            bias.differentiable_cvs, x, Potential(molecule.system, leave_out=out), 300, 10.0
        )
        for out in (bias.force_groups(), ())
    )
    assert caplog.text.count("the Potential has the forces of a bias (PLUMED") == 1
    phi = bias.cv_values(molecule.positions, None)[0]
    assert biased.mean_force[0, 0] - plain.mean_force[0, 0] == pytest.approx(100 * phi, rel=1e-6)
