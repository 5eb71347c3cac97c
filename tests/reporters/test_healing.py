"""Superposition, and the second Context against the forces of the first."""

import dataclasses
from pathlib import Path

import numpy as np
import openmm
import pytest
from numpy.typing import NDArray
from openmm import app

from openmm_cgan import GAS_CONSTANT
from openmm_cgan.collective_variable import CollectiveVariable
from openmm_cgan.constraints import masses_of
from openmm_cgan.plumed.bias import PlumedBias
from openmm_cgan.proposals import ScreenSettings
from openmm_cgan.reporters.attempts import Attempt, AttemptTable
from openmm_cgan.reporters.healing import HealingContext
from openmm_cgan.reporters.settings import ProposalSettings
from openmm_cgan.reporters.surroundings import Surroundings, superpose
from openmm_cgan.testsystems import Molecule, alanine_dipeptide
from tests.cases.full_disks import full_at

INPUT = """phi: TORSION ATOMS=5,7,9,15
RESTRAINT ARG=phi AT=0.0 KAPPA=500
"""


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(14)


def rotation(rng: np.random.Generator) -> NDArray:
    q, _ = np.linalg.qr(rng.standard_normal((3, 3)))
    return q * np.linalg.det(q)


def test_superpose_undoes_a_rigid_motion(rng: np.random.Generator) -> None:
    x = rng.standard_normal((9, 3))
    moved = np.stack([x @ rotation(rng).T + rng.standard_normal(3) for _ in range(5)])
    np.testing.assert_allclose(superpose(moved, x), np.broadcast_to(x, moved.shape), atol=1e-12)


def test_superpose_never_reflects(rng: np.random.Generator) -> None:
    x = rng.standard_normal((9, 3))
    made = superpose((x * [1, 1, -1])[None], x)[0]
    volume, mirrored = (np.linalg.det(y[1:4] - y[0]) for y in (x, made))
    assert mirrored == pytest.approx(-volume)


def test_superpose_is_the_nearest_placing(rng: np.random.Generator) -> None:
    x, y = rng.standard_normal((2, 9, 3))
    best = ((superpose(y[None], x)[0] - x) ** 2).sum()
    centred = y - y.mean(axis=0)
    for _ in range(2000):
        other = centred @ rotation(rng).T + x.mean(axis=0)
        assert ((other - x) ** 2).sum() >= best - 1e-12


@dataclasses.dataclass
class Bench:
    molecule: Molecule
    simulation: app.Simulation
    healing: HealingContext


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    molecule = alanine_dipeptide("C7eq")
    scaled = openmm.CustomExternalForce("lambda*x")
    scaled.addGlobalParameter("lambda", 0.0)
    scaled.addParticle(0)
    molecule.system.addForce(scaled)
    bias = PlumedBias(INPUT, directory=tmp_path_factory.mktemp("bench"), temperature=300)
    bias.add_to(molecule.system)
    simulation = app.Simulation(
        molecule.topology,
        molecule.system,
        openmm.LangevinMiddleIntegrator(300, 1.0, 0.002),
        openmm.Platform.getPlatformByName("Reference"),
    )
    surroundings = Surroundings(bias, np.arange(22), molecule.positions, None)
    healing = HealingContext(simulation, surroundings, 300.0, ProposalSettings())
    return Bench(molecule, simulation, healing)


def test_energies_are_those_of_the_force_field_without_the_bias(bench: Bench) -> None:
    context = bench.simulation.context
    context.setPositions(bench.molecule.positions)
    context.applyConstraints(1e-5)
    groups = set(range(32)) - bench.healing.surroundings.bias.force_groups()
    expected = context.getState(energy=True, groups=groups).getPotentialEnergy()._value
    with_bias = context.getState(energy=True).getPotentialEnergy()._value
    assert with_bias > expected + 100  # the restraint is far away
    found = bench.healing.energies(bench.molecule.positions[None])
    assert found == pytest.approx(expected, abs=1e-6)


def test_energies_that_cannot_be_evaluated_are_infinite(bench: Bench) -> None:
    x = np.stack([bench.molecule.positions, np.full((22, 3), np.nan), np.zeros((22, 3))])
    energies = bench.healing.energies(x)
    assert np.isfinite(energies[0])
    assert np.isinf(energies[1])
    assert not energies[2] < 1e9


def test_the_second_context_follows_the_parameters_of_the_first(bench: Bench) -> None:
    x = bench.molecule.positions[None]
    before = bench.healing.energies(x)[0]
    bench.simulation.context.setParameter("lambda", 10.0)
    bench.healing.follow(bench.simulation.context, 300.0)
    # constraints move the atom by less than 1e-3 nm
    assert bench.healing.energies(x)[0] - before == pytest.approx(10 * x[0, 0, 0], abs=1e-2)
    bench.simulation.context.setParameter("lambda", 0.0)
    bench.healing.follow(bench.simulation.context, 300.0)


def test_default_restraint_has_two_deviations_in_the_tolerance(bench: Bench) -> None:
    deviation = np.sqrt(GAS_CONSTANT * 300 / bench.healing.kappa)
    np.testing.assert_allclose(2 * deviation, 2 * np.pi / 60)


def test_the_mass_of_a_distance_is_the_reduced_one(bench: Bench) -> None:
    """1 / m = 1 / m_1 + 1 / m_19, whatever the structure."""
    bias = PlumedBias("d: DISTANCE ATOMS=2,19\nRESTRAINT ARG=d AT=0.5 KAPPA=1\n")
    surroundings = Surroundings(bias, np.arange(22), bench.molecule.positions, None)
    masses = masses_of(bench.molecule.system)
    [found] = surroundings.cv_masses(masses)
    assert found == pytest.approx(1 / (1 / masses[1] + 1 / masses[18]), rel=1e-6)
    part = Surroundings(bias, np.arange(10), bench.molecule.positions, None)
    assert part.cv_masses(masses)[0] == pytest.approx(masses[1], rel=1e-6)


def test_a_narrow_tolerance_makes_no_restraint_that_a_step_cannot_follow(bench: Bench) -> None:
    settings = ProposalSettings(screen=ScreenSettings(cv_tolerance=1e-4))
    surroundings = bench.healing.surroundings
    healing = HealingContext(bench.simulation, surroundings, 300.0, settings)
    mass = surroundings.cv_masses(masses_of(bench.molecule.system))
    assert np.sqrt(healing.kappa / mass) * 0.002 == pytest.approx(0.5)
    healed = healing.heal(bench.molecule.positions, np.array([-1.8]), seed=1)
    assert healed is not None
    assert (
        abs(surroundings.cv_values(healed.positions[None])[0, 0] + 1.8) < 2.5 * healing.tolerance[0]
    )


def test_healing_repairs_at_the_target_and_repeats(bench: Bench, rng: np.random.Generator) -> None:
    bad = bench.molecule.positions + 0.02 * rng.standard_normal((22, 3))
    target = np.array([-1.8])
    healed = bench.healing.heal(bad, target, seed=5)
    assert healed is not None
    before, after = bench.healing.energies(np.stack([bad, healed.positions]))
    assert after < before - 100
    assert abs(bench.healing.surroundings.cv_values(healed.positions[None])[0, 0] + 1.8) < 0.2
    again, other = (bench.healing.heal(bad, target, seed=seed) for seed in (5, 6))
    assert again is not None
    assert other is not None
    np.testing.assert_array_equal(again.positions, healed.positions)
    assert not np.array_equal(other.positions, healed.positions)


def test_what_cannot_be_healed_is_none(bench: Bench) -> None:
    assert bench.healing.heal(np.full((22, 3), np.nan), np.array([0.0]), seed=1) is None


def test_attempts_are_read_back_to_the_last_digit(tmp_path: Path) -> None:
    variables = [CollectiveVariable("phi", "rad"), CollectiveVariable("d.x", "nm")]
    numbers = np.random.default_rng(0).standard_normal(8)
    attempt = Attempt(numbers[:2], numbers[2:4], numbers[4:6], numbers[6], numbers[7], "a, b")
    table = AttemptTable(tmp_path / "a.csv", variables)
    table.write(7, 0.1 + 0.2, attempt, 4_000_000_000, "seed", 2)
    read = np.genfromtxt(
        tmp_path / "a.csv", delimiter=",", usecols=range(10), skip_header=1, dtype=float
    )
    np.testing.assert_array_equal(read, [7, 0.1 + 0.2, *numbers])
    header, row = (tmp_path / "a.csv").read_text().splitlines()
    assert header.startswith("step,time,phi_target,d.x_target,phi_generated,d.x_generated")
    assert row.endswith(',0,"a, b",4000000000,seed,2,0,,0,nan,nan')


def test_a_row_of_attempts_that_a_full_disk_refuses_leaves_no_half_behind(tmp_path: Path) -> None:
    path, numbers = tmp_path / "a.csv", np.arange(8) / 7
    attempt = Attempt(numbers[:1], numbers[1:2], numbers[2:3], numbers[6], numbers[7], "")
    table = AttemptTable(path, [CollectiveVariable("phi", "rad")])
    table.write(1, 0.1, attempt, 5, "exact", 1)
    whole = path.read_text()
    with full_at(len(whole) + 20), pytest.raises(OSError, match=r"a\.csv"):
        table.write(2, 0.2, attempt, 5, "exact", 1)
    assert path.read_text() == whole
    table.write(3, 0.3, attempt, 5, "exact", 1)
    steps = [row.split(",")[0] for row in path.read_text().splitlines()]
    assert steps == ["step", "1", "3"]
    table.close()
