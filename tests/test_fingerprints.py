"""Fingerprints of integrators: another temperature or step is told, a run of steps is not."""

import hashlib
import re

import openmm
import pytest
from openmm import app

from openmm_cgan import restore_run, save_run
from openmm_cgan.fingerprints import has_fingerprint, integrator_fingerprint, system_fingerprint
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
