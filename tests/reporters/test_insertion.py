"""Generated atoms put among others: how they are placed, and what happens to what is around."""

import copy
import dataclasses
import logging
import math
from pathlib import Path

import numpy as np
import openmm
import pytest
from numpy.typing import NDArray
from openmm import app, unit

from openmm_cgan.plumed.bias import PlumedBias
from openmm_cgan.potentials import system_without
from openmm_cgan.reporters import bath
from openmm_cgan.reporters.bath import rescaling
from openmm_cgan.reporters.healing import HealingContext
from openmm_cgan.reporters.insertion import Insertion, why_not_pushed
from openmm_cgan.reporters.parts import part_of
from openmm_cgan.reporters.settings import ProposalSettings
from openmm_cgan.reporters.surroundings import Surroundings, superpose, superpose_most
from openmm_cgan.testsystems import PSI_ATOMS, alanine_dipeptide, alanine_pentapeptide, torsion
from tests.cases.water import N_SOLUTE, dipeptide_in_water

INPUT = "psi: TORSION ATOMS=7,9,15,17\nRESTRAINT ARG=psi AT=0 KAPPA=0.001\n"
REFERENCE = openmm.Platform.getPlatformByName("Reference")
SETTINGS = ProposalSettings(heal_steps=150)


def turned(x: NDArray, psi: float) -> NDArray:
    """The molecule with the end behind CA-C turned until psi has a value."""
    made, angle = x.copy(), psi - torsion(x, PSI_ATOMS)
    axis = x[PSI_ATOMS[2]] - x[PSI_ATOMS[1]]
    axis /= np.linalg.norm(axis)
    arms = x[15:22] - x[PSI_ATOMS[2]]
    along = np.outer(arms @ axis, axis)
    across = math.cos(angle) * (arms - along) + math.sin(angle) * np.cross(axis, arms)
    made[15:22] = x[PSI_ATOMS[2]] + along + across
    return made


# ---- the place


def test_the_ways_of_atoms_are_short_in_sum() -> None:
    x = alanine_dipeptide("C7eq").positions
    rng = np.random.default_rng(3)
    q, _ = np.linalg.qr(rng.standard_normal((3, 3)))
    made = turned(x, 0.3) @ (q * np.linalg.det(q)).T + 0.7
    [placed], [fitted] = superpose_most(made[None], x), superpose(made[None], x)
    ways, others = (np.linalg.norm(y - x, axis=1) for y in (placed, fitted))
    assert ways[:15].mean() < 0.5 * others[:15].mean()
    assert ways.sum() < 0.95 * others.sum()
    assert ways.sum() < np.linalg.norm(turned(x, 0.3) - x, axis=1).sum()
    centre = placed.mean(axis=0)
    for _ in range(500):  # no rigid motion nearby shortens the ways
        step, _ = np.linalg.qr(np.eye(3) + 0.03 * rng.standard_normal((3, 3)))
        step *= np.sign(np.diag(step))
        other = (placed - centre) @ (step * np.linalg.det(step)).T + centre
        other += 0.003 * rng.standard_normal(3)
        assert np.linalg.norm(other - x, axis=1).sum() > ways.sum() - 2e-3


# ---- making room


@dataclasses.dataclass
class Bench:
    simulation: app.Simulation
    surroundings: Surroundings
    positions: NDArray
    velocities: NDArray


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    """Alanine dipeptide in water at 300 K, with the velocities it has there."""
    return made_bench(tmp_path_factory.mktemp("bench"))


def made_bench(folder: Path, *forces: openmm.Force) -> Bench:
    molecule = dipeptide_in_water()
    system = copy.deepcopy(molecule.system)
    for force in forces:
        system.addForce(force)
    bias = PlumedBias(INPUT, directory=folder, temperature=300)
    bias.add_to(system)
    integrator = openmm.LangevinMiddleIntegrator(300, 1.0, 0.002)
    integrator.setRandomNumberSeed(1)
    simulation = app.Simulation(molecule.topology, system, integrator, REFERENCE)
    simulation.context.setPositions(molecule.positions)
    simulation.context.setVelocitiesToTemperature(300, 2)
    simulation.step(100)
    state = simulation.context.getState(positions=True, velocities=True)
    x, v = state.getPositions(asNumpy=True)._value, state.getVelocities(asNumpy=True)._value
    box = np.array(state.getPeriodicBoxVectors()._value)
    surroundings = Surroundings(bias, np.arange(N_SOLUTE), np.array(x), box)
    return Bench(simulation, surroundings, np.array(x), np.array(v))


def towards_water(x: NDArray, box: NDArray) -> NDArray:
    """The way from a heavy atom of the solute to the nearest oxygen of water [nm]."""
    heavy = x[[1, 4, 5, 6, 8, 10, 14, 15, 16, 18]]
    away = (x[N_SOLUTE::3][:, None] - heavy[None]).reshape(-1, 3)
    away -= np.diag(box) * np.round(away / np.diag(box))
    nearest: NDArray = away[np.linalg.norm(away, axis=1).argmin()]
    return nearest


def test_water_makes_room_and_stays_warm(bench: Bench) -> None:
    healing = HealingContext(bench.simulation, bench.surroundings, 300.0, SETTINGS)
    healing.follow(bench.simulation.context, 300.0)
    here, box = bench.surroundings, bench.surroundings.box
    assert box is not None
    whole = here.fill(turned(bench.positions[:N_SOLUTE], -1.0)[None])[0]
    way = towards_water(whole, box)
    whole[:N_SOLUTE] += way * (1 - 0.1 / np.linalg.norm(way))
    before, clash = healing.energies(np.stack([bench.positions, whole]))
    assert clash > before + 1000
    healed = healing.heal(whole, np.array([-1.0]), seed=4)
    assert healed is not None
    assert np.linalg.norm(towards_water(healed.positions, box)) > 0.22
    assert here.bias.cv_values(healed.positions, box) == pytest.approx([-1.0], abs=0.2)
    after = healing.energies(healed.positions[None])[0]
    # 6 kT sqrt(degrees of freedom / 2) of both energies, quadratic ones
    assert abs(after - before) < 6 * healing.kT * math.sqrt(300)
    masses = np.array([bench.simulation.system.getParticleMass(i)._value for i in range(322)])
    kinetic = 0.5 * (masses[22:, None] * healed.velocities[22:] ** 2).sum()
    expected = 0.5 * 600 * healing.kT
    assert abs(kinetic - expected) < 5 * healing.kT * math.sqrt(300)  # its standard deviation
    again, other = (healing.heal(whole, np.array([-1.0]), seed=seed) for seed in (4, 5))
    assert again is not None
    assert other is not None
    np.testing.assert_array_equal(again.positions, healed.positions)
    np.testing.assert_array_equal(again.velocities, healed.velocities)
    assert not np.array_equal(other.positions, healed.positions)


def test_what_is_far_goes_on_as_it_was_going(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing near, nothing moved, no bath: Verlet's steps around a solute held in place."""
    monkeypatch.setattr(bath, "COUPLING", 1e15)
    monkeypatch.setattr(Surroundings, "near", lambda self, x, reach: np.zeros(len(x), dtype=bool))
    system = system_without(bench.simulation.system, bench.surroundings.bias.force_groups())
    insertion = Insertion(bench.simulation, system, bench.surroundings)
    insertion.follow(bench.simulation.context)
    rng = np.random.default_rng(1)
    moment, warmed = insertion.move(bench.positions, 60, 300.0, rng)
    assert warmed.tolist() == [True] * N_SOLUTE + [False] * 300
    held = system_without(system, set())
    for k in reversed(range(held.getNumConstraints())):
        if held.getConstraintParameters(k)[0] < N_SOLUTE:
            held.removeConstraint(k)
    for atom in range(N_SOLUTE):
        held.setParticleMass(atom, 0.0)
    integrator = openmm.VerletIntegrator(0.002)
    context = openmm.Context(held, integrator, REFERENCE)
    context.setPeriodicBoxVectors(*bench.surroundings.box)
    context.setPositions(bench.positions)
    context.setVelocities(bench.velocities)
    context.applyVelocityConstraints(1e-5)
    integrator.step(60)
    state = context.getState(positions=True, velocities=True)
    x, v = state.getPositions(asNumpy=True)._value, state.getVelocities(asNumpy=True)._value
    assert np.abs(x - bench.positions)[N_SOLUTE:].max() > 0.05
    np.testing.assert_allclose(moment.positions, x, atol=1e-4)
    np.testing.assert_allclose(moment.velocities[N_SOLUTE:], v[N_SOLUTE:], atol=0.01)


def test_kinetic_energies_that_are_rescaled_have_their_distribution() -> None:
    """Half of chi-squared: mean n/2 and variance n/2 in units of kT, for n degrees of freedom."""
    freedom, kept, n = 12.0, 0.6, 20_000
    rng = np.random.default_rng(8)
    ratios = np.empty(n)
    ratio = 9.0
    for k in range(n):
        ratio *= rescaling(ratio, freedom, kept, rng) ** 2
        ratios[k] = ratio
    seen = ratios[50:] * freedom / 2
    independent = len(seen) * (1 - kept) / (1 + kept)  # correlations fall as kept^k
    assert abs(seen.mean() - 6) < 4 * np.sqrt(6 / independent)
    # the variance of a variance: (kurtosis - 1) of a gamma distribution of shape 6
    assert abs(seen.var() - 6) < 4 * 6 * np.sqrt((2 + 6 / 6) / independent)
    assert rescaling(1.0, 0.0, kept, rng) == rescaling(0.0, 9.0, kept, rng) == 1.0


def test_atoms_arrive_where_they_are_to_be(bench: Bench) -> None:
    system = system_without(bench.simulation.system, bench.surroundings.bias.force_groups())
    insertion = Insertion(bench.simulation, system, bench.surroundings)
    there = bench.positions.copy()
    there[:N_SOLUTE] += 0.2
    before = bench.positions.copy()
    moment, _ = insertion.move(there, 70, 300.0, np.random.default_rng(0))
    np.testing.assert_array_equal(moment.positions[:N_SOLUTE], there[:N_SOLUTE])
    np.testing.assert_array_equal(bench.surroundings.positions, before)
    assert np.isfinite(moment.positions).all()


def test_what_cannot_be_put_into_water_is_none(bench: Bench) -> None:
    healing = HealingContext(bench.simulation, bench.surroundings, 300.0, SETTINGS)
    broken = bench.positions.copy()
    broken[3] = np.nan
    assert healing.heal(broken, np.array([0.0]), seed=1) is None


def test_only_what_is_strained_is_minimised(bench: Bench) -> None:
    system = system_without(bench.simulation.system, bench.surroundings.bias.force_groups())
    insertion = Insertion(bench.simulation, system, bench.surroundings)
    x = bench.positions
    assert insertion.unstrained(x, 100.0, 50) is x
    strained = x.copy()
    strained[:N_SOLUTE] += 0.02 * np.random.default_rng(5).standard_normal((N_SOLUTE, 3))
    better = insertion.unstrained(strained, 100.0, 50)
    energies = insertion.own_energies(np.stack([x, strained, better]))
    assert energies[1] > energies[0] + 500
    assert energies[2] < energies[0] + 100
    np.testing.assert_array_equal(better[N_SOLUTE:], x[N_SOLUTE:])


def test_molecules_that_polarise_each_other_are_minimised_instead(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    system = openmm.System()
    for _ in range(4):
        system.addParticle(1.0)
    system.addConstraint(1, 2, 0.1)
    assert why_not_pushed(system, np.array([1, 2])) == ""
    assert "atoms 1 and 2 are held" in why_not_pushed(system, np.array([0, 1]))
    system.addForce(openmm.AmoebaMultipoleForce())
    assert "polarise" in why_not_pushed(system, np.array([0]))
    # the same in a System that works: a distance from the solute to a water is held
    made = dipeptide_in_water()
    bench = made_bench(tmp_path)
    bench.simulation.system.addConstraint(1, N_SOLUTE, 1.0)
    with caplog.at_level(logging.WARNING, "openmm_cgan"):
        healing = HealingContext(bench.simulation, bench.surroundings, 300.0, SETTINGS)
    assert "minimised and heated, not pushed aside" in caplog.text
    assert healing._insertion is None
    assert made.system.getNumConstraints() < bench.simulation.system.getNumConstraints()


# ---- the solute alone


def energy(system: openmm.System, positions: NDArray) -> float:
    context = openmm.Context(system, openmm.VerletIntegrator(0.001), REFERENCE)
    context.setPositions(positions)
    return float(context.getState(energy=True).getPotentialEnergy()._value)


def with_pairs(system: openmm.System) -> openmm.System:
    """The same, with a pair potential of another kind beside, as CHARMM's force fields have it."""
    charges = next(f for f in system.getForces() if isinstance(f, openmm.NonbondedForce))
    pairs = openmm.CustomNonbondedForce("a1*a2*table(r)")
    pairs.addPerParticleParameter("a")
    pairs.addTabulatedFunction("table", openmm.Continuous1DFunction([3.0, 1.0, 0.2, 0.0], 0, 1))
    for i in range(system.getNumParticles()):
        pairs.addParticle([0.1 + i % 7])
    for k in range(charges.getNumExceptions()):
        pairs.addExclusion(*charges.getExceptionParameters(k)[:2])
    pairs.setNonbondedMethod(
        pairs.CutoffPeriodic if system.usesPeriodicBoundaryConditions() else pairs.CutoffNonPeriodic
    )
    pairs.setCutoffDistance(charges.getCutoffDistance())
    system.addForce(pairs)
    return system


def test_a_part_has_the_energy_of_the_molecule_alone() -> None:
    """As OpenMM's ForceField makes it, correction maps included."""
    molecule = alanine_pentapeptide()
    field = app.ForceField("amber19/protein.ff19SB.xml", "amber19/tip3p.xml")
    alone = field.createSystem(
        molecule.topology, nonbondedMethod=app.CutoffNonPeriodic, constraints=app.HBonds
    )
    modeller = app.Modeller(molecule.topology, molecule.positions * unit.nanometer)
    modeller.addSolvent(field, numAdded=30)
    system = field.createSystem(
        modeller.topology,
        nonbondedMethod=app.PME,
        nonbondedCutoff=0.6,
        switchDistance=0.5,
        constraints=app.HBonds,
    )
    assert any(isinstance(force, openmm.CMAPTorsionForce) for force in system.getForces())
    part = part_of(with_pairs(system), np.arange(62))
    expected = energy(with_pairs(alone), molecule.positions)
    assert energy(part, molecule.positions) == pytest.approx(expected)
    assert part.getNumConstraints() == alone.getNumConstraints()
    backwards = part_of(system, np.arange(62)[::-1])
    assert energy(backwards, molecule.positions[::-1]) == pytest.approx(expected)
