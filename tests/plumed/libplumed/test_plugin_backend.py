"""The plugin backend: refusals everywhere, and openmm-plumed itself where it is installed."""

from pathlib import Path

import numpy as np
import openmm
import pytest

from openmm_cgan.plumed.files.fields import read_fields
from openmm_cgan.plumed.input.language import PlumedInput, PlumedInputError
from openmm_cgan.plumed.libplumed import plugin
from openmm_cgan.plumed.libplumed.kernel import KernelBackend
from openmm_cgan.plumed.libplumed.plugin import PluginBackend
from openmm_cgan.testsystems import PHI_ATOMS, alanine_dipeptide, torsion

METAD = (
    "phi: TORSION ATOMS=5,7,9,15\npsi: TORSION ATOMS=7,9,15,17\n"
    "RESTRAINT ARG=psi AT=1 KAPPA=20\n"
    "METAD ARG=phi SIGMA=0.3 HEIGHT=1.2 PACE=10 BIASFACTOR=10 FILE=HILLS\nFLUSH STRIDE=1\n"
)

needs_plugin = pytest.mark.skipif(not plugin.available(), reason="openmm-plumed is not installed")


def make(text=METAD, folder=Path(), temperature=300.0):
    given = PlumedInput.read(text, "<input>", folder)
    return PluginBackend(given, temperature=temperature, restart=False, read=("phi",))


def context_with(force, molecule):
    molecule.system.addForce(force)
    force.setForceGroup(7)
    integrator = openmm.LangevinMiddleIntegrator(300, 1, 0.002)
    platform = openmm.Platform.getPlatformByName("Reference")
    context = openmm.Context(molecule.system, integrator, platform)
    context.setPositions(molecule.positions)
    return context


def test_where_it_is_missing_the_error_says_how_to_get_it(monkeypatch):
    monkeypatch.setattr(plugin, "available", lambda: False)
    with pytest.raises(RuntimeError, match="conda install -c conda-forge openmm-plumed"):
        make()


def test_a_folder_that_it_can_not_write_in_is_refused(monkeypatch, tmp_path):
    monkeypatch.setattr(plugin, "available", lambda: True)
    with pytest.raises(ValueError, match="backend='kernel'"):
        make(folder=tmp_path)
    monkeypatch.chdir(tmp_path)
    make(folder=tmp_path)


def test_energy_is_refused_and_not_taken_as_zero(monkeypatch):
    monkeypatch.setattr(plugin, "available", lambda: True)
    with pytest.raises(PlumedInputError, match=r"<input>:2: ENERGY"):
        make("d: DISTANCE ATOMS=1,2\ne: ENERGY\nPRINT ARG=e\n")


@pytest.mark.plugin
@needs_plugin
def test_forces_are_those_of_the_kernel_backend(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    text = METAD.replace("BIASFACTOR=10", "BIASFACTOR=10 TEMP=300")
    given = PlumedInput.read(text, "<input>", tmp_path / "kernel")
    kernel = KernelBackend(given, temperature=None, restart=False, read=("phi",))
    found = []
    for backend in (make(text, temperature=None), kernel):
        molecule = alanine_dipeptide("C7eq")
        [force] = backend.forces(molecule.system)
        state = context_with(force, molecule).getState(energy=True, forces=True, groups={7})
        found.append((state.getPotentialEnergy()._value, state.getForces(asNumpy=True)._value))
    assert found[0][0] == pytest.approx(found[1][0], rel=1e-12)
    np.testing.assert_allclose(found[0][1], found[1][1], atol=1e-9)


@pytest.mark.plugin
@needs_plugin
@pytest.mark.parametrize("finished", [True, False])
def test_the_hill_of_a_step_is_laid_where_the_step_was_finished(finished, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    molecule = alanine_dipeptide("C7eq")
    backend = make()
    [force] = backend.forces(molecule.system)
    context = context_with(force, molecule)
    backend.upload(context)
    context.getIntegrator().step(10)
    here = context.getState(positions=True).getPositions(asNumpy=True)._value
    there = alanine_dipeptide("C7ax").positions
    if finished:
        backend.finish_step()
        backend.finish_step()
    context.setPositions(there)
    context.getState(energy=True)
    [centre] = read_fields(tmp_path / "HILLS").columns["phi"]
    assert centre == pytest.approx(torsion(here if finished else there, PHI_ATOMS), abs=1e-6)


@pytest.mark.plugin
@needs_plugin
def test_values_and_bias_are_those_of_the_running_context(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    molecule = alanine_dipeptide("C7eq")
    backend = make()
    [phi] = backend.describe(("phi",))
    assert (phi.atoms, backend.read, backend.strides) == (PHI_ATOMS, ("phi",), [])
    backend.check(22)
    [force] = backend.forces(molecule.system)
    with pytest.raises(RuntimeError, match="attach"):
        backend.evaluate(molecule.positions, None, 0)
    context = context_with(force, molecule)
    backend.upload(context)
    context.getIntegrator().step(40)
    x = context.getState(positions=True).getPositions(asNumpy=True)._value
    values, before = backend.evaluate(x, None, 40)
    assert values == pytest.approx([torsion(x, PHI_ATOMS)])
    _, after = backend.evaluate(x, None, 40)
    assert after == context.getState(energy=True, groups={7}).getPotentialEnergy()._value
    assert 0.5 < after - before <= 1.2  # the hill of step 40 lies here
    assert len(read_fields(tmp_path / "HILLS")) == 4
    with pytest.raises(ValueError, match="can not move"):
        backend.move(context, np.zeros(1))
    backend.close()
