"""Fingerprints of integrators: another temperature or step is told, a run of steps is not."""

import openmm
import pytest

from openmm_cgan.fingerprints import integrator_fingerprint, system_fingerprint
from openmm_cgan.testsystems import alanine_dipeptide

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
