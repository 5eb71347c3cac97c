"""Fingerprints of integrators: another temperature or step is told, a run of steps is not."""

import hashlib
import re

import numpy as np
import openmm
import pytest
from openmm import app

from openmm_cgan import restore_run, save_run
from openmm_cgan.fingerprints import (
    ANY_ORDER,
    VERSION,
    _hash,
    has_fingerprint,
    integrator_fingerprint,
    system_fingerprint,
)
from openmm_cgan.testsystems import Chain, alanine_dipeptide

GROUPS = [(0, 2)]
KINDS = {
    "Langevin": lambda t, s: openmm.LangevinMiddleIntegrator(t, 1, s),
    "NoseHoover": lambda t, s: openmm.NoseHooverIntegrator(t, 1, s),
    "Brownian": lambda t, s: openmm.BrownianIntegrator(t, 100, s),
    "MTS": lambda t, s: openmm.MTSLangevinIntegrator(t, 1, s, GROUPS),
    "variable": lambda t, s: openmm.VariableLangevinIntegrator(t, 1, s),
}


@pytest.mark.parametrize("make", KINDS.values(), ids=KINDS)
def test_only_what_is_set_makes_another_integrator(make):
    molecule = alanine_dipeptide()
    integrator = make(300, 0.0005)
    before = integrator_fingerprint(integrator)
    assert integrator_fingerprint(make(310, 0.0005)) != before
    assert integrator_fingerprint(make(300, 0.001)) != before
    again = make(300, 0.0005)
    if not isinstance(again, openmm.NoseHooverIntegrator):  # which draws nothing
        again.setRandomNumberSeed(5)
    assert integrator_fingerprint(again) == before
    platform = openmm.Platform.getPlatformByName("Reference")
    context = openmm.Context(molecule.system, integrator, platform)
    context.setPositions(molecule.positions)
    integrator.step(20)
    assert integrator_fingerprint(integrator) == before


def test_a_changed_force_makes_another_system():
    system = alanine_dipeptide().system
    before = system_fingerprint(system)
    assert system_fingerprint(alanine_dipeptide().system) == before
    [bond] = [f for f in system.getForces() if isinstance(f, openmm.HarmonicBondForce)]
    i, j, length, k = bond.getBondParameters(0)
    bond.setBondParameters(0, i, j, length, 1.01 * k)
    assert system_fingerprint(system) != before


def with_forces(system, forces):
    """The same particles and constraints under forces in the order given."""
    other = openmm.System()
    for i in range(system.getNumParticles()):
        other.addParticle(system.getParticleMass(i))
    for i in range(system.getNumConstraints()):
        other.addConstraint(*system.getConstraintParameters(i))
    for force in forces:
        other.addForce(openmm.XmlSerializer.clone(force))
    return other


def test_the_order_in_which_forces_were_added_makes_no_other_system():
    """As a barostat before or behind the rest; seeds do not decide where a force is sorted."""
    system = alanine_dipeptide().system
    forces = [*system.getForces(), *(openmm.AndersenThermostat(t, 1.0) for t in (300, 310))]
    for seed, force in zip((7, 2), forces[-2:], strict=True):
        force.setRandomNumberSeed(seed)
    one = system_fingerprint(with_forces(system, forces))
    for seed, force in zip((2, 7), forces[-2:], strict=True):
        force.setRandomNumberSeed(seed)
    other = with_forces(system, forces[::-1])
    assert system_fingerprint(other) == one
    assert one.startswith("any order:")  # by which it is told from earlier ones
    assert has_fingerprint(other, one)
    assert system_fingerprint(with_forces(system, forces[1:])) != one
    assert not has_fingerprint(with_forces(system, forces[1:]), one)


def hashed_in_order(system, version=""):
    """As 0.1 did, with OpenMM's version, or without it as later ones of 0.1."""
    bare = openmm.XmlSerializer.serialize(with_forces(system, []))
    forces = [openmm.XmlSerializer.serialize(force) for force in system.getForces()]
    first = bare if version else re.sub(r' openmmVersion="[^"]*"', "", bare)
    text = re.sub(r' randomSeed="-?\d+"', "", "\n".join([first, *forces]))
    return hashlib.sha256(text.encode()).hexdigest()


def test_hashes_of_earlier_versions_are_still_known():
    """In the order of the forces, as 0.1 wrote them: with OpenMM's version, then without."""
    system = alanine_dipeptide().system
    kinds = [hashed_in_order(system, version) for version in ("8.1", "")]
    assert len(set(kinds)) == 2
    for known in kinds:
        assert known != system_fingerprint(system)
        assert has_fingerprint(system, known)
        system.getForce(0).setForceGroup(3)
        assert not has_fingerprint(system, known)
        system.getForce(0).setForceGroup(0)


def test_a_checkpoint_that_an_earlier_version_wrote_is_gone_on_from(tmp_path, monkeypatch):
    """It names the System as that version did."""

    def simulation(chain):
        integrator = openmm.VerletIntegrator(0.001)
        reference = openmm.Platform.getPlatformByName("Reference")
        made = app.Simulation(chain.topology(), chain.system(), integrator, reference)
        made.context.setPositions(chain.sample(1, 300.0, seed=1)[0])
        return made

    with monkeypatch.context() as earlier:
        earlier.setattr("openmm_cgan.checkpoints.running.system_fingerprint", hashed_in_order)
        begun = simulation(Chain())
        begun.step(3)
        save_run(tmp_path / "run.chk", begun, {})
    again = simulation(Chain())
    restore_run(tmp_path / "run.chk", again, {})
    assert again.currentStep == 3
    with pytest.raises(ValueError, match="saved with another System"):
        restore_run(tmp_path / "run.chk", simulation(Chain(tilt=1.5)), {})


def average(w):
    return openmm.TwoParticleAverageSite(0, 1, w, 1 - w)


def out_of_plane(w):
    return openmm.OutOfPlaneSite(0, 1, 2, 0.3, 0.3, w)


def local(w):
    return openmm.LocalCoordinatesSite([0, 1, 2], [1, 0, 0], [-1, 1, 0], [-1, 0, 1], (w, 0, 0))


def symmetric(w):
    return openmm.SymmetrySite(0, *np.eye(3), openmm.Vec3(0, 0, w), False)


def three(w):
    return openmm.ThreeParticleAverageSite(0, 1, 2, w, 0.4, 0.6 - w)


SITES = [average, three, out_of_plane, local, symmetric]


def with_site(site, force=None):
    system = openmm.System()
    for mass in (1.0, 1.0, 1.0, 0.0):
        system.addParticle(mass)
    system.setVirtualSite(3, site)
    if force is not None:
        system.addForce(force)
    return system


@pytest.mark.parametrize("make", SITES, ids=lambda make: make.__name__)
def test_another_number_of_a_virtual_site_is_another_system(make):
    """Charges sit where these say: TIP4P and TIP4P-Ew differ in nothing else but parameters."""
    system = with_site(make(0.2))
    before = system_fingerprint(system)
    assert has_fingerprint(with_site(make(0.2)), before)
    assert not has_fingerprint(with_site(make(0.25)), before)
    system.setDefaultPeriodicBoxVectors([3, 0, 0], [0, 3, 0], [0, 0, 3])
    assert has_fingerprint(system, before), "a barostat changes the box"


def test_runs_saved_before_are_compared_by_the_kinds_of_their_virtual_sites():
    system = with_site(average(0.2))
    before = ANY_ORDER + _hash([VERSION.sub("", bare_xml(system)), "3 TwoParticleAverageSite"])
    assert has_fingerprint(with_site(average(0.3)), before)
    assert not has_fingerprint(with_site(out_of_plane(0.3)), before)


def bare_xml(system):
    return openmm.XmlSerializer.serialize(with_forces(system, []))


def test_of_sites_and_forces_that_can_not_be_written_the_kinds_are_compared():
    def zero(state):
        return 0.0, np.zeros((4, 3))

    systems = [with_site(symmetric(w), openmm.PythonForce(zero)) for w in (0.2, 0.3)]
    assert has_fingerprint(systems[1], system_fingerprint(systems[0]))
