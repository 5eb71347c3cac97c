"""A saved run on another platform than its own, and with velocities drawn anew."""

import logging
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import openmm
import pytest
from openmm import app

from openmm_cgan import restore_run, save_run
from openmm_cgan.checkpoints import read_run, write_run
from openmm_cgan.plumed.bias import PlumedBias
from openmm_cgan.plumed.files.fields import read_fields
from openmm_cgan.testsystems import alanine_dipeptide
from tests.cases.biased_runs import biased_alanine, phase_point

TEXT = """phi: TORSION ATOMS=5,7,9,15
METAD ARG=phi SIGMA=0.3 HEIGHT=1.2 PACE=20 GRID_MIN=-pi GRID_MAX=pi
PRINT ARG=phi STRIDE=10 FILE=COLVAR
"""


def on_platform(folder: Path, name: str) -> tuple[PlumedBias, app.Simulation]:
    molecule = alanine_dipeptide("C7eq")
    field = openmm.CustomExternalForce("field*x")  # a user's parameter, of which the bias knows not
    field.addGlobalParameter("field", 0.5)
    field.addParticle(0, [])
    molecule.system.addForce(field)
    bias = PlumedBias(TEXT, temperature=300.0, backend="native", directory=folder)
    bias.add_to(molecule.system)
    integrator = openmm.LangevinMiddleIntegrator(300, 1, 0.001)
    platform = openmm.Platform.getPlatformByName(name)
    simulation = app.Simulation(molecule.topology, molecule.system, integrator, platform)
    simulation.context.setPositions(molecule.positions)
    return bias, simulation


def test_a_run_goes_on_on_another_platform_and_the_log_says_how(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    bias, simulation = on_platform(tmp_path, "Reference")
    bias.attach(simulation)
    simulation.context.setParameter("field", 2.5)
    simulation.step(65)
    save_run(tmp_path / "run.chk", simulation, {"bias": bias})
    saved, energy = phase_point(simulation), bias.bias_of_cvs([[-1.4]])
    simulation.step(50)
    bias.close()

    bias, simulation = on_platform(tmp_path, "CPU")
    with caplog.at_level(logging.WARNING, "openmm_cgan"):
        restore_run(tmp_path / "run.chk", simulation, {"bias": bias})
    [told] = [r.message for r in caplog.records if "portable State" in r.message]
    assert "different Platform" in told
    assert "exact in distribution" in told
    assert simulation.currentStep == 65
    assert simulation.context.getTime()._value == pytest.approx(0.065)
    assert simulation.context.getParameter("field") == 2.5
    # the CPU platform keeps positions in single precision
    np.testing.assert_allclose(phase_point(simulation), saved, atol=1e-6)
    np.testing.assert_array_equal(bias.bias_of_cvs([[-1.4]]), energy)
    simulation.step(35)
    bias.close()
    times = read_fields(tmp_path / "COLVAR").columns["time"]
    np.testing.assert_allclose(times, np.arange(0, 0.101, 0.01), atol=1e-9)
    np.testing.assert_allclose(
        read_fields(tmp_path / "HILLS").columns["time"], np.arange(1, 6) * 0.02
    )


def test_a_file_without_a_portable_state_says_what_is_missing(tmp_path: Path) -> None:
    bias, simulation = biased_alanine(TEXT, tmp_path)
    simulation.step(1)
    bias.save_checkpoint(tmp_path / "run.chk")
    bias.close()
    run = read_run(tmp_path / "run.chk")
    write_run(tmp_path / "run.chk", replace(run, portable="", checkpoint=zlib.compress(b"other")))
    before = (tmp_path / "COLVAR").read_bytes()
    with pytest.raises(ValueError, match="no portable State"):
        biased_alanine(TEXT, tmp_path, checkpoint=tmp_path / "run.chk")
    assert (tmp_path / "COLVAR").read_bytes() == before


def test_new_velocities_are_those_of_their_seed_and_of_the_temperature(tmp_path: Path) -> None:
    bias, simulation = on_platform(tmp_path, "Reference")
    bias.attach(simulation)
    simulation.step(20)
    save_run(tmp_path / "run.chk", simulation, {"bias": bias})
    (positions, _), step = phase_point(simulation), simulation.currentStep
    bias.close()
    drawn = []
    for seed in (1, 1, 2):
        bias, simulation = on_platform(tmp_path, "Reference")
        restore_run(tmp_path / "run.chk", simulation, {"bias": bias}, new_velocities=seed)
        assert simulation.currentStep == step
        found = phase_point(simulation)
        np.testing.assert_array_equal(found[0], positions)
        drawn.append(found[1])
        bias.close()
    np.testing.assert_array_equal(drawn[0], drawn[1])
    assert np.abs(drawn[0] - drawn[2]).max() > 0.1
