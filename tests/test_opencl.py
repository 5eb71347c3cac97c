"""The main ways on OpenCL, in the precisions that GPUs are run in; skipped where it is not.

Single precision keeps some seven digits: of forces of 100 kJ/mol/nm some 1e-3 at worst, of an
energy some 1e-3 kJ/mol. What a run does must not hang on more.
"""

import csv
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import openmm
import pytest
from openmm import app

from openmm_cgan import FrameReporter, restore_run, save_run
from openmm_cgan.frames import read_frames
from openmm_cgan.platforms import platform_and_properties, properties_of
from openmm_cgan.plumed.bias import PlumedBias
from openmm_cgan.plumed.files.fields import read_fields
from openmm_cgan.potentials import potential_beside
from openmm_cgan.reporters.settings import ProposalSettings
from openmm_cgan.testsystems import alanine_dipeptide
from openmm_cgan.windows import WindowSettings, run_windows, umbrella_windows
from tests.cases.chain_end import ChainEnd
from tests.cases.chain_flow import chain_flow
from tests.cases.exact_runs import CHAIN, T, make_run, propose
from tests.cases.water import dipeptide_in_water


def has_opencl() -> bool:
    system = openmm.System()
    system.addParticle(1.0)
    try:
        platform = openmm.Platform.getPlatformByName("OpenCL")
        openmm.Context(system, openmm.VerletIntegrator(0.001), platform)
    except openmm.OpenMMException:  # no library, or no device
        return False
    return True


pytestmark = pytest.mark.skipif(not has_opencl(), reason="OpenMM has no OpenCL device here")
SINGLE, MIXED = "OpenCL:Precision=single", "opencl:precision=mixed"
PRECISIONS = pytest.mark.parametrize("how", [SINGLE, MIXED])

INPUT = """phi: TORSION ATOMS=5,7,9,15
psi: TORSION ATOMS=7,9,15,17
c: COM ATOMS=1-6
d: DISTANCE ATOMS=c,19
q: COORDINATION GROUPA=6,16 GROUPB=8-14 R_0=0.3 NN=8 MM=12
g: GYRATION ATOMS=1-22
METAD ARG=phi,psi SIGMA=0.35,0.35 HEIGHT=1.2 PACE=20 BIASFACTOR=6 """ + (
    """GRID_MIN=-pi,-pi GRID_MAX=pi,pi GRID_BIN=60,60
METAD ARG=g SIGMA=0.02 HEIGHT=0.3 PACE=20 FILE=HILLS_G
o: OPES_METAD ARG=d PACE=20 BARRIER=10 SIGMA=0.05
UPPER_WALLS ARG=d AT=0.4 KAPPA=100
RESTRAINT ARG=q AT=3 KAPPA=2
MOVINGRESTRAINT ARG=phi STEP0=0 AT0=-1.4 KAPPA0=10 STEP1=400 AT1=-1.0
PRINT ARG=phi,psi,d,q,g FILE=COLVAR STRIDE=10
"""
)


def biased_run(folder: Path, how: str, molecule: Any = None, text: str = INPUT) -> Any:
    molecule = molecule or alanine_dipeptide("C7eq")
    system = openmm.XmlSerializer.clone(molecule.system)
    bias = PlumedBias(text, molecule.topology, temperature=T, directory=folder)
    assert bias.backend == "native"
    bias.add_to(system)
    integrator = openmm.LangevinMiddleIntegrator(T, 1.0, 0.002)
    integrator.setRandomNumberSeed(1)
    simulation = app.Simulation(
        molecule.topology, system, integrator, *platform_and_properties(how)
    )
    simulation.context.setPositions(molecule.positions)
    simulation.context.setVelocitiesToTemperature(T, 2)
    return bias, simulation


@PRECISIONS
def test_biases_act_as_they_say_and_go_on_from_a_checkpoint(how: str, tmp_path: Path) -> None:
    bias, simulation = biased_run(tmp_path, how)
    bias.attach(simulation)
    frames = FrameReporter(tmp_path / "frames", 10, bias)
    simulation.reporters.append(frames)
    simulation.step(50)
    keepers = {"bias": bias, "frames": frames}
    save_run(tmp_path / "run.chk", simulation, keepers)
    simulation.step(30)
    bias.close()
    frames.close()

    bias, simulation = biased_run(tmp_path, how)
    frames = FrameReporter(tmp_path / "frames", 10, bias, append=True)
    restore_run(tmp_path / "run.chk", simulation, {"bias": bias, "frames": frames})
    simulation.step(45)
    state = simulation.context.getState(energy=True, groups=bias.force_groups(), positions=True)
    assert state.getPotentialEnergy()._value == pytest.approx(
        bias.values(simulation, state)[1], abs=2e-3
    )
    bias.close()
    frames.close()
    np.testing.assert_array_equal(read_frames(tmp_path / "frames").step, np.arange(10, 100, 10))
    for name, pace in (("COLVAR", 10), ("HILLS", 20), ("HILLS_G", 20), ("KERNELS", 20)):
        times = read_fields(tmp_path / name).columns["time"]
        first = 0 if name == "COLVAR" else pace
        np.testing.assert_allclose(times, 0.002 * np.arange(first, 96, pace), atol=1e-9)


def test_a_run_goes_on_in_another_precision(tmp_path: Path) -> None:
    bias, simulation = biased_run(tmp_path, SINGLE)
    bias.attach(simulation)
    simulation.step(20)
    save_run(tmp_path / "run.chk", simulation, {"bias": bias})
    saved = simulation.context.getState(positions=True).getPositions(asNumpy=True)._value
    bias.close()
    bias, simulation = biased_run(tmp_path, MIXED)
    restore_run(tmp_path / "run.chk", simulation, {"bias": bias})
    found = simulation.context.getState(positions=True).getPositions(asNumpy=True)._value
    np.testing.assert_allclose(found, saved, atol=1e-6)
    simulation.step(5)
    bias.close()


@pytest.mark.parametrize(
    ("how", "mode"),
    [
        (SINGLE, "exact"),
        (MIXED, "exact"),
        (MIXED, "local"),
        (SINGLE, "annealed"),
        (SINGLE, "steered"),
    ],
)
def test_moves_are_accepted(how: str, mode: str, tmp_path: Path) -> None:
    """Each looks whether its copy has the energy of the run."""
    run = make_run(tmp_path, chain=CHAIN, platform=how)
    made = run.sampler if mode == "exact" else chain_flow(CHAIN, run.bias.variables)
    sampler: Any = ChainEnd(CHAIN, run.bias.variables) if mode == "local" else made
    settings = ProposalSettings(candidates=20, switching_steps=10)
    propose(run, tmp_path / "p.csv", 10, mode=mode, sampler=sampler, settings=settings)
    run.simulation.step(200)
    run.bias.close()
    with (tmp_path / "p.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 20
    assert any(row["accepted"] == "1" for row in rows)
    assert {row["mode"] for row in rows} == {mode}


def test_energies_beside_a_run_are_its_own_once_atoms_are_reordered(tmp_path: Path) -> None:
    molecule = dipeptide_in_water()
    text = "phi: TORSION ATOMS=5,7,9,15\nRESTRAINT ARG=phi AT=-1.4 KAPPA=100\n"
    bias, simulation = biased_run(tmp_path, SINGLE, molecule, text)
    simulation.system.addForce(openmm.MonteCarloBarostat(1.0, T, 25))
    simulation.context.reinitialize(preserveState=True)
    bias.attach(simulation)
    frames = FrameReporter(tmp_path / "frames", 50, bias, atoms="all")
    simulation.reporters.append(frames)
    simulation.step(300)
    groups = set(range(32)) - bias.force_groups()
    state = simulation.context.getState(energy=True, positions=True, groups=groups)
    beside = potential_beside(simulation, bias.force_groups())
    positions = state.getPositions(asNumpy=True)._value
    energy = state.getPotentialEnergy()._value
    assert beside.energies(positions[None])[0] == pytest.approx(energy, abs=0.05)
    assert properties_of(beside._contexts[0]) == properties_of(simulation.context)
    frames.close()
    bias.close()
    x = read_frames(tmp_path / "frames").positions
    bonds = np.array([(one.index, other.index) for one, other in molecule.topology.bonds()])
    assert np.linalg.norm(x[:, bonds[:, 0]] - x[:, bonds[:, 1]], axis=-1).max() < 0.2


def test_windows_run_on_it(tmp_path: Path) -> None:
    molecule = alanine_dipeptide("C7eq")
    text = "phi: TORSION ATOMS=5,7,9,15\nRESTRAINT ARG=phi AT=${phi} KAPPA=100\n"
    settings = WindowSettings(T, steps=200, settle_steps=50, report_interval=50, seed=5)
    starts = molecule.positions[None]
    [window] = umbrella_windows(text, np.array([[-1.4]]), starts, settings, tmp_path, "given")
    windows = [replace(window, heal=False)]  # OpenMM's minimiser crashes in one OpenCL
    [result] = run_windows(windows, molecule.system, molecule.topology, platform=MIXED)
    assert result.status == "finished"
