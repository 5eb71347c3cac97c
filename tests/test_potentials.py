"""Energies of many configurations against single ones; Fixman's factor against closed forms."""

import numpy as np
import openmm
import pytest
import torch
from openmm import app

from openmm_cgan.constraints import half_log_det_constraints
from openmm_cgan.potentials import Potential, global_parameters, potential_beside, system_without
from openmm_cgan.reporters.contexts import degrees_of_freedom
from openmm_cgan.testsystems import Chain, Molecule, alanine_dipeptide
from openmm_cgan.virtual_sites import require_copied


@pytest.fixture(scope="module")
def molecule() -> Molecule:
    return alanine_dipeptide("C7eq")


@pytest.fixture(scope="module")
def configurations(molecule: Molecule) -> np.ndarray:
    rng = np.random.default_rng(1)
    return molecule.positions + 0.002 * rng.standard_normal((40, 22, 3))


def energies_one_by_one(system: openmm.System, positions: np.ndarray) -> list[float]:
    platform = openmm.Platform.getPlatformByName("Reference")
    context = openmm.Context(system, openmm.VerletIntegrator(0.001), platform)
    found = []
    for x in positions:
        context.setPositions(x)
        found.append(context.getState(energy=True).getPotentialEnergy()._value)
    return found


@pytest.mark.parametrize("n_contexts", [None, 1, 3])
def test_energies_are_those_of_one_context(molecule, configurations, n_contexts) -> None:
    potential = Potential(molecule.system, n_contexts=n_contexts)
    expected = energies_one_by_one(molecule.system, configurations)
    np.testing.assert_array_equal(potential.energies(configurations), expected)
    energies, gradients = potential.energies_and_gradients(configurations)
    np.testing.assert_array_equal(energies, expected)
    x, h = configurations[:1].repeat(4, axis=0), 1e-5
    x[np.arange(4), 3, 1] += np.array([-2, -1, 1, 2]) * h
    slope = potential.energies(x) @ [1, -8, 8, -1] / (12 * h)
    assert gradients[0, 3, 1] == pytest.approx(slope, rel=1e-6)


def test_what_cannot_be_evaluated_is_infinite_and_harms_nothing(molecule, configurations) -> None:
    potential = Potential(molecule.system, n_contexts=2)
    bad = configurations[:4].copy()
    bad[0, 0, 0] = np.nan
    bad[1, 2] = np.inf
    bad[2, 1] = bad[2, 0]  # two atoms in one place
    energies, gradients = potential.energies_and_gradients(bad)
    assert np.isinf(energies[:2]).all()
    assert not gradients[:2].any()
    assert (energies[2] > 1e6) or np.isinf(energies[2])
    assert np.isfinite(gradients).all()
    np.testing.assert_array_equal(energies[3:], potential.energies(configurations[3:4]))
    with pytest.raises(ValueError, match=r"shape \(3, 22\); expected \(n, 22, 3\)"):
        potential.energies(np.zeros((3, 22)))
    with pytest.raises(ValueError, match="n_contexts is 0"):
        Potential(molecule.system, n_contexts=0)


def test_groups_are_left_out_and_parameters_followed(molecule) -> None:
    system = system_without(molecule.system, set())
    spring = openmm.CustomBondForce("strength*r")
    spring.addGlobalParameter("strength", 2.0)
    spring.addBond(0, 5)
    spring.setForceGroup(3)
    system.addForce(spring)
    x = molecule.positions[None]
    integrator = openmm.VerletIntegrator(0.001)
    platform = openmm.Platform.getPlatformByName("Reference")
    simulation = app.Simulation(molecule.topology, system, integrator, platform)
    potential = potential_beside(simulation, n_contexts=2)
    bare = Potential(system, leave_out={3}).energies(x)[0]
    distance = np.linalg.norm(x[0, 0] - x[0, 5])
    assert potential.energies(x)[0] - bare == pytest.approx(2 * distance, abs=1e-9)
    simulation.context.setParameter("strength", 5.0)
    potential.follow(simulation.context)
    energies = potential.energies(x.repeat(4, axis=0))
    np.testing.assert_allclose(energies - bare, 5 * distance, atol=1e-9)


def test_the_noise_of_a_running_simulation_is_left_alone(molecule, configurations) -> None:
    def run(disturb: bool) -> np.ndarray:
        integrator = openmm.LangevinMiddleIntegrator(300, 1, 0.002)
        integrator.setRandomNumberSeed(4)
        platform = openmm.Platform.getPlatformByName("Reference")
        simulation = app.Simulation(molecule.topology, molecule.system, integrator, platform)
        simulation.context.setPositions(molecule.positions)
        simulation.step(5)
        if disturb:
            potential_beside(simulation, n_contexts=2).energies_and_gradients(configurations)
        simulation.step(5)
        return simulation.context.getState(positions=True).getPositions(asNumpy=True)._value

    np.testing.assert_array_equal(run(disturb=True), run(disturb=False))


# ---- Fixman's factor


def test_fixman_of_a_chain_is_the_closed_form() -> None:
    chain = Chain(masses=(15.0, 2.0, 31.0, 7.0), bond_stiffness=None, angle_stiffness=5.0)
    x = chain.sample(50, 300, seed=1)
    arms = x[:, [0, 2]] - x[:, 1:2], x[:, [1, 3]] - x[:, 2:3]
    cosines = [a[:, 0] @ a[:, 1].T for a in arms]  # of all pairs; its diagonal is used
    angles = np.stack([np.arccos(np.diag(c) / chain.bond**2) for c in cosines], axis=1)
    potential = Potential(chain.system())
    np.testing.assert_allclose(potential.half_log_det(x), np.log(chain.fixman(angles)), atol=1e-12)
    # of three atoms: M. Fixman 1974, |H| proportional to 1 - m1 m3 cos^2 / ((m1 + m2)(m2 + m3))
    three = Chain(masses=(15.0, 2.0, 31.0), bond_stiffness=None)
    factor = 1 - 15 * 31 / (17 * 33) * np.cos([1.0, 2.0]) ** 2
    found = three.fixman([[1.0], [2.0]]) ** 2
    assert found[0] / found[1] == pytest.approx(factor[0] / factor[1])


def test_fixman_of_a_ring_is_that_of_the_gradients() -> None:
    """Water: three constraints that share three atoms; H from the definition."""
    masses, pairs = np.array([16.0, 1.0, 1.0]), [(0, 1), (0, 2), (1, 2)]
    x = np.random.default_rng(2).standard_normal((5, 3, 3))
    for row, found in zip(x, half_log_det_constraints(x, pairs, masses), strict=True):
        gradients = np.zeros((3, 3, 3))
        for k, (i, j) in enumerate(pairs):
            gradients[k, i] = (row[i] - row[j]) / np.linalg.norm(row[i] - row[j])
            gradients[k, j] = -gradients[k, i]
        h = np.einsum("iax,jax,a->ij", gradients, gradients, 1 / masses)
        assert found == pytest.approx(0.5 * np.log(np.linalg.det(h)))


def test_fixman_of_tensors_is_differentiable(molecule) -> None:
    potential = Potential(molecule.system)
    x = torch.from_numpy(molecule.positions[None]).requires_grad_()
    value = potential.half_log_det(x)
    np.testing.assert_allclose(value.detach(), potential.half_log_det(molecule.positions[None]))
    assert torch.autograd.gradcheck(potential.half_log_det, (x,))
    free = half_log_det_constraints(x, [], potential.masses)
    assert free.shape == (1,)
    assert not free.any()


# ---- copies of Systems


def sites() -> openmm.System:
    """Three atoms and one virtual site of each kind, all held by springs to the origin."""
    system = openmm.System()
    springs = openmm.CustomExternalForce("k*(x^2 + 2*y^2 + 3*z^2)")
    springs.addGlobalParameter("k", 2.0)
    system.addForce(springs)
    for mass in (12.0, 14.0, 16.0, 0.0, 0.0, 0.0, 0.0):
        springs.addParticle(system.addParticle(mass))
    system.setDefaultPeriodicBoxVectors((3, 0, 0), (0.4, 4, 0), (0.5, 0.6, 5))
    system.setVirtualSite(3, openmm.TwoParticleAverageSite(0, 1, 0.3, 0.7))
    system.setVirtualSite(4, openmm.ThreeParticleAverageSite(0, 1, 2, 0.2, 0.3, 0.5))
    system.setVirtualSite(5, openmm.OutOfPlaneSite(0, 1, 2, 0.2, 0.3, 0.4))
    local = openmm.LocalCoordinatesSite(
        [0, 1, 2], [0.5, 0.25, 0.25], [-1, 1, 0], [-1, 0, 1], openmm.Vec3(0.1, 0.2, 0.3)
    )
    system.setVirtualSite(6, local)
    system.addConstraint(0, 1, 0.1)
    return system


def with_mirrored_sites(system: openmm.System) -> openmm.System:
    """Two more sites, at atoms turned about z: in Cartesian and in fractional coordinates."""
    turn = openmm.Vec3(0, -1, 0), openmm.Vec3(1, 0, 0), openmm.Vec3(0, 0, 1)
    for atom, in_box in ((0, False), (2, True)):
        site = system.addParticle(0.0)
        offset = openmm.Vec3(0.5, 0.0, 0.25)
        system.setVirtualSite(site, openmm.SymmetrySite(atom, *turn, offset, in_box))
        system.getForce(0).addParticle(site)
    return system


def positions_and_energy(system: openmm.System) -> tuple[np.ndarray, float]:
    platform = openmm.Platform.getPlatformByName("Reference")
    context = openmm.Context(system, openmm.VerletIntegrator(0.001), platform)
    context.setPositions(np.random.default_rng(3).normal(size=(system.getNumParticles(), 3)))
    context.computeVirtualSites()
    state = context.getState(positions=True, energy=True)
    return state.getPositions(asNumpy=True)._value, state.getPotentialEnergy()._value


@pytest.mark.parametrize("system", [sites(), with_mirrored_sites(sites())], ids=["told", "all"])
def test_a_copy_has_the_same_sites_constraints_and_energy(system: openmm.System) -> None:
    made = system_without(system, set())
    (x, energy), (y, same) = positions_and_energy(system), positions_and_energy(made)
    np.testing.assert_array_equal(x, y)
    assert energy == same
    assert made.getNumForces() == 1
    assert made.getConstraintParameters(0) == system.getConstraintParameters(0)
    assert made.getNumConstraints() == 1
    assert degrees_of_freedom(made, range(made.getNumParticles())) == 3 * 3 - 1
    assert global_parameters(made) == {"k"}


def test_mirrored_sites_are_where_their_transformation_puts_them() -> None:
    system = with_mirrored_sites(sites())
    x, _ = positions_and_energy(system_without(system, {0}))
    turn, offset = np.array([[0, -1, 0], [1, 0, 0], [0, 0, 1]]), np.array([0.5, 0.0, 0.25])
    np.testing.assert_allclose(x[7], turn @ x[0] + offset, atol=1e-12)
    box = np.array([[3, 0, 0], [0.4, 4, 0], [0.5, 0.6, 5]])
    turned = turn @ np.linalg.solve(box.T, x[2]) + offset
    np.testing.assert_allclose(x[8], box.T @ turned, atol=1e-12)


def test_mirrored_sites_beside_a_force_that_can_not_be_copied_are_refused() -> None:
    system = with_mirrored_sites(sites())
    require_copied(system)
    system.addForce(openmm.PythonForce(lambda state: (0.0, np.zeros((9, 3)))))
    for copied in (require_copied, lambda system: system_without(system, {0})):
        with pytest.raises(ValueError, match=r"site 7 \(a SymmetrySite, .* be pickled. Leave out"):
            copied(system)
    plain = sites()
    plain.addForce(openmm.PythonForce(lambda state: (0.0, np.zeros((7, 3)))))
    require_copied(plain)


def test_a_copy_leaves_out_groups_barostats_and_thermostats() -> None:
    system = alanine_dipeptide().system
    bias = openmm.PythonForce(lambda state: (0.0, np.zeros((22, 3))))  # cannot be pickled
    bias.setForceGroup(7)
    system.addForce(bias)
    system.addForce(openmm.MonteCarloBarostat(1.0, 300))
    system.addForce(openmm.AndersenThermostat(300, 1.0))
    made = system_without(system, {7})
    left = {type(force).__name__ for force in made.getForces()}
    assert left == {
        "HarmonicBondForce",
        "HarmonicAngleForce",
        "PeriodicTorsionForce",
        "NonbondedForce",
    }
