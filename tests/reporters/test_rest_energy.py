"""The energy of what is around generated atoms, against Systems that lack them."""

import copy
from collections.abc import Callable

import numpy as np
import openmm
import pytest
from numpy.typing import NDArray
from openmm import app, unit
from openmm.app.internal.customgbforces import GBSAOBC2Force

from openmm_cgan.reporters.contexts import degrees_of_freedom
from openmm_cgan.reporters.rest_energy import RestEnergy
from openmm_cgan.testsystems import alanine_dipeptide

REFERENCE = openmm.Platform.getPlatformByName("Reference")


@pytest.fixture(scope="module")
def in_water() -> tuple[app.Simulation, openmm.System, np.ndarray]:
    """Alanine dipeptide among 60 rigid waters, the System of the waters alone, positions [nm]."""
    molecule = alanine_dipeptide("C7eq")
    field = app.ForceField("amber96.xml", "tip3p.xml")
    modeller = app.Modeller(molecule.topology, molecule.positions * unit.nanometer)
    modeller.addSolvent(field, model="tip3p", numAdded=60)
    options = {"nonbondedMethod": app.PME, "nonbondedCutoff": 0.5, "constraints": app.HBonds}
    systems = [field.createSystem(modeller.topology, **options)]
    positions = np.array(modeller.positions.value_in_unit(unit.nanometer))
    topology = modeller.topology
    modeller.delete(list(modeller.topology.atoms())[:22])
    systems.append(field.createSystem(modeller.topology, **options))
    for system in systems:
        for force in system.getForces():
            if isinstance(force, openmm.NonbondedForce):
                force.setUseDispersionCorrection(False)  # it averages over all particles
    integrator = openmm.VerletIntegrator(0.001)
    return app.Simulation(topology, systems[0], integrator, REFERENCE), systems[1], positions


def test_the_rest_energy_is_that_of_the_waters_alone(in_water) -> None:
    simulation, waters, positions = in_water
    rest = RestEnergy(simulation, simulation.system, np.arange(22))
    assert rest.is_any
    alone = openmm.Context(waters, openmm.VerletIntegrator(0.001), REFERENCE)
    box = simulation.system.getDefaultPeriodicBoxVectors()
    alone.setPeriodicBoxVectors(*box)
    alone.setPositions(positions[22:])
    expected = alone.getState(energy=True).getPotentialEnergy()._value
    vectors = np.array(box.value_in_unit(unit.nanometer) if unit.is_quantity(box)
                       else [v.value_in_unit(unit.nanometer) for v in box])  # fmt: skip
    assert rest(positions, vectors) == pytest.approx(expected, abs=1e-4)
    moved = positions.copy()
    moved[:22] += 0.1
    assert rest(moved, vectors) == pytest.approx(expected, abs=1e-4)
    assert degrees_of_freedom(simulation.system, range(22)) == 3 * 22 - 12
    whole = RestEnergy(simulation, simulation.system, np.arange(22 + 180))
    assert not whole.is_any
    assert whole(positions, vectors) == 0.0


def test_the_rest_energy_of_a_molecule_has_its_bonded_terms() -> None:
    """Of a part of a molecule the rest has bonds, angles and torsions, which vary by themselves."""
    molecule, own = alanine_dipeptide(), set(range(6))
    simulation = app.Simulation(
        molecule.topology,
        molecule.system,
        openmm.VerletIntegrator(0.001),
        REFERENCE,
    )
    rest = RestEnergy(simulation, molecule.system, np.array(sorted(own)))
    quiet = copy.deepcopy(molecule.system)
    for force in quiet.getForces():
        if isinstance(force, openmm.HarmonicBondForce):
            for k in range(force.getNumBonds()):
                a, b, length, _ = force.getBondParameters(k)
                if own & {a, b}:
                    force.setBondParameters(k, a, b, length, 0.0)
        elif isinstance(force, openmm.HarmonicAngleForce):
            for k in range(force.getNumAngles()):
                a, b, c, angle, _ = force.getAngleParameters(k)
                if own & {a, b, c}:
                    force.setAngleParameters(k, a, b, c, angle, 0.0)
        elif isinstance(force, openmm.PeriodicTorsionForce):
            for k in range(force.getNumTorsions()):
                *four, period, phase, _ = force.getTorsionParameters(k)
                if own & set(four):
                    force.setTorsionParameters(k, *four, period, phase, 0.0)
        elif isinstance(force, openmm.NonbondedForce):
            for atom in own:
                force.setParticleParameters(atom, 0.0, 0.1, 0.0)
            for k in range(force.getNumExceptions()):
                a, b, *_ = force.getExceptionParameters(k)
                if own & {a, b}:
                    force.setExceptionParameters(k, a, b, 0.0, 0.1, 0.0)
    alone = openmm.Context(quiet, openmm.VerletIntegrator(0.001), REFERENCE)
    shaken = molecule.positions + np.random.default_rng(3).normal(0, 0.01, (22, 3))
    for positions in (molecule.positions, shaken):
        alone.setPositions(positions)
        expected = alone.getState(energy=True).getPotentialEnergy()._value
        assert rest(positions, None) == pytest.approx(expected, abs=1e-6)
    assert abs(rest(shaken, None) - rest(molecule.positions, None)) > 100


def energy_of(system: openmm.System, positions: NDArray) -> float:
    context = openmm.Context(system, openmm.VerletIntegrator(0.001), REFERENCE)
    context.setPositions(positions)
    return context.getState(energy=True).getPotentialEnergy()._value


def with_nbfix(topology: app.Topology) -> openmm.System:
    """Lennard-Jones energies from tables, as CHARMM's readers make them, one pair changed."""
    system = app.ForceField("amber14/protein.ff14SB.xml").createSystem(topology)
    [charges] = [f for f in system.getForces() if isinstance(f, openmm.NonbondedForce)]
    rows = [charges.getParticleParameters(i) for i in range(topology.getNumAtoms())]
    kinds = sorted({(row[1]._value, row[2]._value) for row in rows})
    sigma, epsilon = np.array(kinds).T
    powers = ((sigma[:, None] + sigma) / 2) ** 6
    depths = 4 * np.sqrt(epsilon[:, None] * epsilon)
    depths[0, -1] = depths[-1, 0] = 3.0
    tabulated = openmm.CustomNonbondedForce("acoef(type1, type2)/r^12 - b/r^6;b=bcoef(type1,type2)")
    for name, values in (("acoef", depths * powers**2), ("bcoef", depths * powers)):
        n = len(kinds)
        tabulated.addTabulatedFunction(name, openmm.Discrete2DFunction(n, n, values.ravel()))
    tabulated.addPerParticleParameter("type")
    for i, (charge, *kind) in enumerate(rows):
        tabulated.addParticle([kinds.index(tuple(k._value for k in kind))])
        charges.setParticleParameters(i, charge, 0.1, 0.0)
    for k in range(charges.getNumExceptions()):
        tabulated.addExclusion(*charges.getExceptionParameters(k)[:2])
    system.addForce(tabulated)
    return system


def with_obc(topology: app.Topology) -> openmm.System:
    """OBC2 by GBSAOBCForce, without surfaces; and each atom held where it is."""
    system = app.ForceField("amber14/protein.ff14SB.xml").createSystem(topology)
    [charges] = [f for f in system.getForces() if isinstance(f, openmm.NonbondedForce)]
    solvent = openmm.GBSAOBCForce()
    solvent.setSurfaceAreaEnergy(0.0)
    for i, (radius, scale) in enumerate(GBSAOBC2Force.getStandardParameters(topology)):
        solvent.addParticle(charges.getParticleParameters(i)[0], radius, scale)
    held = openmm.CustomExternalForce("k*(y-at)^2")
    held.addPerParticleParameter("k")
    held.addPerParticleParameter("at")
    for i in range(topology.getNumAtoms()):
        held.addParticle(i, [10.0, 0.1 * (i % 22)])
    system.addForce(solvent)
    system.addForce(held)
    return system


def with_custom_obc(topology: app.Topology) -> openmm.System:
    """The same solvent as OpenMM's prmtop and psf readers make it."""
    system = app.ForceField("amber14/protein.ff14SB.xml").createSystem(topology)
    [charges] = [f for f in system.getForces() if isinstance(f, openmm.NonbondedForce)]
    solvent = GBSAOBC2Force(SA=None)
    for i, (radius, scale) in enumerate(GBSAOBC2Force.getStandardParameters(topology)):
        solvent.addParticle([charges.getParticleParameters(i)[0], radius, scale])
    solvent.finalize()
    system.addForce(solvent)
    return system


@pytest.mark.parametrize(
    "make",
    [
        with_nbfix,
        with_obc,
        with_custom_obc,
    ],
    ids=[
        "CHARMM, Lennard-Jones by tables",
        "GBSAOBCForce and CustomExternalForce",
        "CustomGBForce",
    ],
)
def test_the_rest_energy_is_what_is_left_without_the_generated_molecule(
    make: Callable[[app.Topology], openmm.System],
) -> None:
    """The energy of two molecules far from each other less that of one."""
    molecule = alanine_dipeptide("C7eq")
    modeller = app.Modeller(molecule.topology, molecule.positions * unit.nanometer)
    modeller.add(molecule.topology, molecule.positions * unit.nanometer)
    system, alone = make(modeller.topology), make(molecule.topology)
    simulation = app.Simulation(
        modeller.topology, system, openmm.VerletIntegrator(0.001), REFERENCE
    )
    rest = RestEnergy(simulation, system, np.arange(22))
    shaken = molecule.positions + np.random.default_rng(4).normal(0, 0.005, (22, 3))
    x = molecule.positions
    away, beside = (x + np.array([d, 0, 0]) for d in (500.0, 0.7))
    far, near = (np.concatenate([y, shaken]) for y in (away, beside))
    expected = energy_of(system, far) - energy_of(alone, away)
    assert expected == pytest.approx(energy_of(alone, shaken), abs=1e-4)
    for positions in (far, near):
        assert rest(positions, None) == pytest.approx(expected, abs=1e-4)
    both = energy_of(system, near) - expected - energy_of(alone, beside)
    assert abs(both) > 1, "they touch: else this shows nothing"


def test_what_the_rest_energy_lacks_is_said(caplog: pytest.LogCaptureFixture) -> None:
    molecule = alanine_dipeptide()
    molecule.system.addForce(openmm.CustomManyParticleForce(3, "0"))
    molecule.system.addForce(openmm.CMMotionRemover())
    for _ in range(22):
        molecule.system.getForce(molecule.system.getNumForces() - 2).addParticle([])
    simulation = app.Simulation(
        molecule.topology, molecule.system, openmm.VerletIntegrator(0.001), REFERENCE
    )
    assert RestEnergy(simulation, molecule.system, np.arange(6)).is_any
    [record] = caplog.records
    assert "holds what CustomManyParticleForce changes around them" in record.message
