import numpy as np
import openmm
import pytest
from openmm import app

from openmm_cgan import GAS_CONSTANT
from openmm_cgan.proposals.stereochemistry import BondGraph
from openmm_cgan.testsystems import (
    MIDDLE_ATOMS,
    PHI_ATOMS,
    PSI_ATOMS,
    DoubleWell2D,
    add_obc2,
    alanine_dipeptide,
    alanine_pentapeptide,
    torsion,
)

OMEGAS = ((1, 4, 6, 8), (8, 14, 16, 18))


@pytest.fixture
def rng():
    return np.random.default_rng(20221109)


def energies(system, frames):
    platform = openmm.Platform.getPlatformByName("Reference")
    context = openmm.Context(system, openmm.VerletIntegrator(0.001), platform)
    values = []
    for positions in frames:
        context.setPositions(positions)
        values.append(context.getState(energy=True).getPotentialEnergy()._value)
    return np.array(values)


def signed_volume(positions):
    """(N - CA) x (C - CA) . (CB - CA): positive for L-amino acids."""
    n, ca, c, cb = positions[[6, 8, 14, 10]]
    return float(np.cross(n - ca, c - ca) @ (cb - ca))


@pytest.fixture(scope="module")
def published():
    return pytest.importorskip("openmmtools.testsystems").AlanineDipeptideVacuum()


def test_alanine_energy_is_that_of_openmmtools(published, rng):
    ours = alanine_dipeptide()
    shipped = published.positions._value
    frames = [ours.positions, shipped]
    frames += [alanine_dipeptide(basin).positions for basin in ("C7eq", "C7ax")]
    frames += [frames[2] + rng.normal(0, 0.003, (22, 3)) for _ in range(5)]
    difference = energies(ours.system, frames) - energies(published.system, frames)
    assert np.abs(difference).max() < 1e-3
    # the value printed for openmmtools' system, to the digits that its coordinates give
    assert energies(ours.system, [shipped])[0] == pytest.approx(-88.0886, abs=1e-3)


def test_alanine_atoms_masses_and_constraints_are_those_of_openmmtools(published):
    ours = alanine_dipeptide()
    names = [[atom.name for atom in t.atoms()] for t in (ours.topology, published.topology)]
    assert names[0] == names[1]
    for i in range(22):
        ours_mass, theirs = ours.system.getParticleMass(i), published.system.getParticleMass(i)
        assert ours_mass._value == pytest.approx(theirs._value, rel=1e-2)
    pairs = [
        {tuple(sorted(s.getConstraintParameters(k)[:2])) for k in range(s.getNumConstraints())}
        for s in (ours.system, published.system)
    ]
    assert pairs[0] == pairs[1]
    assert len(pairs[0]) == 12


@pytest.mark.parametrize(("basin", "sign"), [("C7eq", -1), ("C7ax", 1)])
def test_starts_lie_in_their_basin_and_stay_trans_l_alanine(basin, sign):
    positions = alanine_dipeptide(basin).positions
    phi, psi = torsion(positions, PHI_ATOMS), torsion(positions, PSI_ATOMS)
    assert 0.8 < sign * phi < 1.6
    assert 0.8 < -sign * psi < 1.6
    assert signed_volume(positions) > 1e-3
    assert all(abs(torsion(positions, atoms)) > 2.8 for atoms in OMEGAS)


def test_basin_starts_are_minima_within_the_constraints():
    molecule = alanine_dipeptide("C7ax")
    system = molecule.system
    for k in range(system.getNumConstraints()):
        i, j, length = system.getConstraintParameters(k)
        found = np.linalg.norm(molecule.positions[i] - molecule.positions[j])
        assert found == pytest.approx(length._value, rel=1e-4)
    extended = alanine_dipeptide().positions
    low, high = energies(system, [molecule.positions, extended])
    assert low < high - 15


def test_torsion_agrees_with_openmm(rng):
    system = openmm.System()
    for _ in range(4):
        system.addParticle(1.0)
    force = openmm.CustomTorsionForce("theta")
    force.addTorsion(0, 1, 2, 3, [])
    system.addForce(force)
    frames = rng.normal(size=(20, 4, 3))
    ours = [torsion(x, (0, 1, 2, 3)) for x in frames]
    np.testing.assert_allclose(ours, energies(system, frames), atol=1e-10)


def test_unknown_basin_is_refused():
    with pytest.raises(ValueError, match=r"'alpha'.*C7eq, C7ax"):
        alanine_dipeptide("alpha")


def test_system_without_constraints():
    assert alanine_dipeptide(constraints=None).system.getNumConstraints() == 0


def test_double_well_energy_is_that_of_its_system(rng):
    well = DoubleWell2D(tilt=2.0, slope=-0.7)
    frames = rng.normal(0, 0.3, (20, 1, 3))
    x, y, z = frames[:, 0].T
    np.testing.assert_allclose(energies(well.system(), frames), well.potential(x, y, z), rtol=1e-12)
    anchored = np.concatenate([frames, np.zeros((20, 1, 3))], axis=1)
    np.testing.assert_allclose(
        energies(well.system(anchor=True), anchored), well.potential(x, y, z), rtol=1e-12
    )


def test_double_well_free_energy_is_the_integral_over_y():
    well = DoubleWell2D(tilt=1.0)
    kT = GAS_CONSTANT * 300
    x = np.linspace(-0.4, 0.4, 9)
    y = np.linspace(-1, 1, 20001)
    weights = np.exp(-well.potential(x[:, None], y) / kT)
    profile = -kT * np.log(np.trapezoid(weights, y, axis=1))
    expected = well.free_energy(x)
    np.testing.assert_allclose(profile - profile[0], expected - expected[0], atol=1e-9)


def test_double_well_samples_have_the_exact_moments():
    well = DoubleWell2D(tilt=1.0)
    n, kT = 40_000, GAS_CONSTANT * 300
    x, y, z = well.sample(n, 300.0, seed=1).T
    mean, deviation = well.conditional(x, 300.0)
    np.testing.assert_allclose(mean, 0.5 * x)
    assert deviation == pytest.approx(np.sqrt(kT / 1000.0))  # <(y - mean)^2> = kT / k
    residual = (y - mean) / deviation
    # five standard errors of a mean, a variance and a proportion
    assert abs(residual.mean()) < 5 / np.sqrt(n)
    assert abs(residual.var() - 1) < 5 * np.sqrt(2 / n)
    assert abs(z.var() / deviation**2 - 1) < 5 * np.sqrt(2 / n)
    assert abs(np.corrcoef(x, residual)[0, 1]) < 5 / np.sqrt(n)
    right = 1 / (1 + np.exp(well.well_difference(300.0) / kT))
    assert abs((x > 0).mean() - right) < 5 * np.sqrt(right * (1 - right) / n)


def test_well_difference_follows_the_tilt():
    assert DoubleWell2D().well_difference(300.0) == pytest.approx(0.0, abs=1e-9)
    # at low temperature only the bottoms count: V(a) - V(-a) = 2 t to first order
    cold = DoubleWell2D(tilt=0.1, barrier=50.0).well_difference(20.0)
    assert cold == pytest.approx(0.2, abs=2e-3)


def test_double_well_topology_matches_its_system():
    well = DoubleWell2D()
    for anchor in (False, True):
        topology = well.topology(anchor)
        assert isinstance(topology, app.Topology)
        assert topology.getNumAtoms() == well.system(anchor).getNumParticles()


def test_samples_repeat_with_their_seed():
    well = DoubleWell2D()
    np.testing.assert_array_equal(well.sample(5, 300, seed=3), well.sample(5, 300, seed=3))
    assert not np.array_equal(well.sample(5, 300, seed=3), well.sample(5, 300, seed=4))


def test_pentapeptide_has_the_energy_of_openmms_implicit_solvent(rng):
    ours = alanine_pentapeptide(hydrogen_mass=1.008)
    forcefield = app.ForceField("amber14/protein.ff14SB.xml", "implicit/obc2.xml")
    theirs = forcefield.createSystem(
        ours.topology, nonbondedMethod=app.NoCutoff, constraints=app.HBonds
    )
    frames = [ours.positions, *(ours.positions + rng.normal(0, 0.003, (4, 62, 3)))]
    assert np.abs(energies(ours.system, frames) - energies(theirs, frames)).max() < 1e-3
    assert ours.system.getNumConstraints() == theirs.getNumConstraints() == 32


def test_the_implicit_solvent_needs_charges() -> None:
    with pytest.raises(ValueError, match="no NonbondedForce"):
        add_obc2(openmm.System(), alanine_pentapeptide().topology)


def test_pentapeptide_is_of_l_alanines_with_trans_amides_and_heavy_hydrogens():
    molecule = alanine_pentapeptide()
    graph = BondGraph.from_topology(molecule.topology)
    names = [atom.name for atom in molecule.topology.atoms()]
    for centre, *around in graph.stereocentres():
        n, c, cb = (next(j for j in around if names[j] == name) for name in ("N", "C", "CB"))
        legs = molecule.positions[[n, c, cb]] - molecule.positions[centre]
        assert np.cross(legs[0], legs[1]) @ legs[2] > 1e-3
    assert len(graph.stereocentres()) == 5
    assert len(graph.amides()) == 6
    for amide in graph.amides():  # O, C, N, C: trans amides have the oxygen on the same side
        assert abs(torsion(molecule.positions, tuple(amide))) < 0.3
    phi, psi = MIDDLE_ATOMS
    assert [names[i] for i in (*phi, psi[-1])] == ["C", "N", "CA", "C", "N"]
    masses = [molecule.system.getParticleMass(i)._value for i in range(62)]
    assert sum(masses) == pytest.approx(
        sum(atom.element.mass._value for atom in molecule.topology.atoms()), rel=1e-4
    )
    assert min(masses) == 2.0
