"""PBMETAD natively: values, forces, virials and files are PLUMED's; runs, restarts, walkers."""

import numpy as np
import openmm
import pytest
from openmm import app

from benchmarks.eight_atoms import BOXES
from openmm_cgan.plumed.actions.metad.grid_texts import symbols_written_out
from openmm_cgan.plumed.bias import PlumedBias
from openmm_cgan.plumed.driver.driver import run_driver
from openmm_cgan.plumed.driver.settings import DriverSettings
from openmm_cgan.plumed.driver.trajectories import Frame
from openmm_cgan.plumed.input.language import PlumedInputError
from openmm_cgan.testsystems import alanine_dipeptide
from tests.cases.driver_runs import KT, compare, driven, walk

pytestmark = pytest.mark.plumed

HEAD = (
    "UNITS LENGTH=A ENERGY=kcal/mol\nd: DISTANCE ATOMS=1,5\ne: DISTANCE ATOMS=2,6\n"
    "t: TORSION ATOMS=1,2,3,4\n"
)
GRIDS = "GRID_MIN=0,-pi GRID_MAX=40,pi"
# fmt: off
# ruff: noqa: E501  one line of input each
CASES = {
    "grids": f"ARG=d,t SIGMA=1,0.3 HEIGHT=1 BIASFACTOR=6 {GRIDS}",
    "grids of given cells": f"ARG=d,t SIGMA=1,0.3 HEIGHT=1 {GRIDS} GRID_BIN=200,70 GRID_SPACING=9,0.05",
    "without spline": f"ARG=d,t SIGMA=1,0.3 TAU=0.05 BIASFACTOR=6 {GRIDS} GRID_NOSPLINE",
    "a selector": f"ARG=d,t SIGMA=1,0.3 HEIGHT=1 SELECTOR=a {GRIDS}",
    "sums": "ARG=d,e,t SIGMA=1,0.6,0.3 HEIGHT=1 BIASFACTOR=6 FMT=%12.6f TEMP=350",
    "families on grids": f"ARG=d,t,e PF0=d,e PF1=t SIGMA=1,0.3 HEIGHT=1 {GRIDS}",  # without them PLUMED reads what it has not
    "intervals": "ARG=d,e SIGMA=1,0.6 HEIGHT=1 INTERVAL_MIN=2,3 INTERVAL_MAX=6,5",
    "intervals on grids": "ARG=d,e SIGMA=1,0.6 HEIGHT=1 INTERVAL_MIN=2,3 INTERVAL_MAX=6,5 GRID_MIN=0,0 GRID_MAX=50,50",
    "adaptive": "ARG=d,t SIGMA=5 ADAPTIVE=DIFF HEIGHT=1 BIASFACTOR=6 SIGMA_MIN=0.1,0.1 SIGMA_MAX=2,1",
    "adaptive by gradients": f"ARG=d,t SIGMA=0.5 ADAPTIVE=GEOM HEIGHT=1 SIGMA_MIN=0.3,0.1 SIGMA_MAX=3,0.6 {GRIDS}",
    "in a window": "ARG=d,t SIGMA=1,0.3 HEIGHT=1 UPDATE_FROM=0.01 UPDATE_UNTIL=0.03",
}
# fmt: on


def text_of(keywords, more=""):
    files = f"FILE={','.join(names_of(keywords))}{more}"
    printed = "PRINT ARG=d,e,t,b.bias FILE=COLVAR FMT=%12.6f\n"
    return f"{HEAD}b: PBMETAD PACE=2 {keywords} {files}\n{printed}"


def names_of(keywords):
    n = 2 if "PF1" in keywords else len(keywords.partition(" ")[0].split(","))
    return [f"H{k}" for k in range(n)]


@pytest.mark.parametrize("box", [None, BOXES["triclinic"]], ids=["no box", "triclinic"])
@pytest.mark.parametrize("keywords", CASES.values(), ids=CASES.keys())
def test_forces_virials_and_hills_are_plumeds(keywords, box, tmp_path):
    driven(text_of(keywords), tmp_path, walk(25, step=0.02), box, full_virial=True)
    compare(tmp_path, "COLVAR", "forces", *names_of(keywords), tolerance=3e-6)


@pytest.mark.parametrize("keywords", ["grids", "sums", "families on grids", "adaptive"])
def test_a_restarted_run_is_plumeds(keywords, tmp_path):
    frames, keywords = walk(20, step=0.02), CASES[keywords]
    driven(text_of(keywords), tmp_path, frames[:10])
    driven("RESTART\n" + text_of(keywords), tmp_path, frames[10:], initial_step=10)
    compare(tmp_path, "COLVAR", "forces", *names_of(keywords), tolerance=3e-6)


def test_grids_are_written_and_read_as_plumed_has_them(tmp_path):
    frames, keywords = walk(20, step=0.02), CASES["grids"]
    driven(text_of(keywords, " GRID_WSTRIDE=4 GRID_WFILES=G0,G1"), tmp_path, frames)
    compare(tmp_path, "COLVAR", "G0", "G1", tolerance=2e-6)
    driven(text_of(keywords, " GRID_RFILES=G0,G1"), tmp_path, frames)
    compare(tmp_path, "COLVAR", "forces", "H0", "H1", tolerance=3e-6)


def test_walkers_share_their_hills_by_files(tmp_path):
    """One after the other: the second reads what the first has laid, as PLUMED's does."""
    frames, shared = walk(20, step=0.02), " WALKERS_N=2 WALKERS_DIR=. WALKERS_RSTRIDE=3 WALKERS_ID="
    for backend in ("native", "kernel"):
        for walker in (0, 1):
            text = text_of(CASES["sums"], f"{shared}{walker}")
            settings = DriverSettings(
                backend=backend, directory=tmp_path / backend, kt=KT, timestep=0.002
            )
            run_driver(text, iter([Frame(x + walker * 0.01) for x in frames]), settings)
    compare(tmp_path, "COLVAR", tolerance=2e-6)
    rows = [
        [line.split()[:-1] for line in (tmp_path / b / "H1.1").read_text().splitlines()]
        for b in ("native", "kernel")
    ]
    assert rows[0] == rows[1]
    alone = tmp_path / "alone"
    text = text_of(CASES["sums"])
    settings = DriverSettings(backend="native", directory=alone, kt=KT, timestep=0.002)
    run_driver(text, iter([Frame(x + 0.01) for x in frames]), settings)
    assert (alone / "COLVAR").read_text() != (tmp_path / "native" / "COLVAR").read_text()


def _simulation(bias):
    molecule = alanine_dipeptide("C7eq")
    bias.add_to(molecule.system)
    integrator = openmm.VerletIntegrator(0.002)
    platform = openmm.Platform.getPlatformByName("Reference")
    simulation = app.Simulation(molecule.topology, molecule.system, integrator, platform)
    simulation.context.setPositions(molecule.positions)
    return simulation


RUN = (
    "phi: TORSION ATOMS=5,7,9,15\npsi: TORSION ATOMS=7,9,15,17\nd: DISTANCE ATOMS=1,19\n"
    "b: PBMETAD ARG=phi,psi,d SIGMA=0.3,0.3,0.05 HEIGHT=3 PACE=5 BIASFACTOR=8 {grid}\n"
    "PRINT ARG=phi,psi,d,b.bias STRIDE=5 FILE=COLVAR FMT=%.9f\n"
)
GRID = "GRID_MIN=-pi,-pi,0 GRID_MAX=pi,pi,2"


@pytest.mark.parametrize("grid", ["", GRID], ids=["sums", "grids"])
def test_a_run_and_its_checkpoint_are_plumeds_trajectory(grid, tmp_path):
    ends, text = {}, RUN.format(grid=grid)
    for backend in ("native", "kernel"):
        folder = tmp_path / backend
        bias = PlumedBias(text, temperature=300, directory=folder, backend=backend)
        simulation = _simulation(bias)
        bias.attach(simulation)
        simulation.step(40)
        if backend == "native":
            bias.save_checkpoint(folder / "state")
            simulation.step(7)
            bias.close()
            bias = PlumedBias(text, temperature=300, directory=folder, backend=backend)
            simulation = _simulation(bias)
            bias.attach(simulation, checkpoint=folder / "state")
        simulation.step(40)
        bias.close()
        state = simulation.context.getState(positions=True)
        ends[backend] = state.getPositions(asNumpy=True)._value
    np.testing.assert_allclose(ends["native"], ends["kernel"], atol=1e-8)
    compare(tmp_path, "COLVAR", "HILLS.phi", "HILLS.d", tolerance=1e-6)


@pytest.mark.parametrize(
    ("keywords", "words"),
    [
        ("ARG=d,t SIGMA=1 HEIGHT=1 PACE=1", "1 numbers for 2"),
        ("ARG=d,t SIGMA=1,1 PACE=1", "HEIGHT"),
        ("ARG=d,t PF0=d SIGMA=1 HEIGHT=1 PACE=1", "t must be in ARG"),
        ("ARG=d,t SIGMA=1,1 HEIGHT=1 PACE=1 FILE=one", "1 given for 2"),
        ("ARG=d,t SIGMA=1,1 HEIGHT=1 PACE=1 GRID_MIN=0,0 GRID_MAX=9,9", "fit its period"),
        ("ARG=d,t SIGMA=1,1 HEIGHT=1 PACE=1 SELECTOR=a SELECTOR_ID=1", "never act"),
    ],
)
def test_what_is_wrong_is_said(keywords, words):
    with pytest.raises(PlumedInputError, match=words):
        PlumedBias(f"{HEAD}PBMETAD {keywords}\n", backend="native", temperature=300)


def test_a_temperature_is_needed():
    bias = PlumedBias(f"{HEAD}PBMETAD {CASES['sums'].replace('TEMP=350', '')} PACE=2\n")
    simulation = _simulation(bias)
    with pytest.raises(ValueError, match="temperature"):
        bias.attach(simulation)


# ---- grids in OpenMM's forces

TORSIONS = "phi: TORSION ATOMS=5,7,9,15\npsi: TORSION ATOMS=7,9,15,17\n"
COLD = (
    TORSIONS + "b: PBMETAD ARG=phi,psi SIGMA=0.6,0.6 HEIGHT={height} PACE=1 TEMP=0.1 FILE=P,Q "
    "GRID_MIN=-pi,-pi GRID_MAX=pi,pi\nPRINT ARG=b.bias STRIDE=1 FILE=COLVAR\n"
)


def cold_run(text, folder):
    molecule = alanine_dipeptide()
    bias = PlumedBias(text, molecule.topology, directory=folder, backend="native", temperature=0.1)
    system = openmm.XmlSerializer.clone(molecule.system)
    bias.add_to(system)
    simulation = app.Simulation(
        molecule.topology, system, openmm.VerletIntegrator(0.0001),
        openmm.Platform.getPlatformByName("Reference"),
    )  # fmt: skip
    simulation.context.setPositions(molecule.positions)
    bias.attach(simulation)
    return bias, simulation


def test_hills_of_hundreds_of_kt_are_within_what_the_exponentials_hold(tmp_path):
    """kT is 0.0008 kJ/mol."""
    bias, simulation = cold_run(COLD.format(height=0.1), tmp_path)
    for _ in range(9):
        simulation.step(1)
        state = simulation.context.getState(
            energy=True, forces=True, positions=True, groups=bias.force_groups()
        )
        expected = bias.bias_of_cvs(bias.cv_values(state.getPositions(asNumpy=True)._value)[None])
        assert state.getPotentialEnergy()._value == pytest.approx(expected[0], rel=1e-9, abs=1e-12)
        assert np.isfinite(state.getForces(asNumpy=True)._value).all()
    assert expected[0] > 500 * KT * 0.1 / 300
    bias.close()


def test_beyond_that_the_run_stops_in_words(tmp_path):
    bias, simulation = cold_run(COLD.format(height=1.0), tmp_path)
    with pytest.raises(ValueError, match=r"PBMETAD b: all of its biases have come to .* 1300 kT"):
        simulation.step(9)
    bias.close()


def test_an_expression_of_many_grids_is_no_longer_than_they_are(tmp_path):
    """OpenMM takes its slope along each: of eight that took 8 s where each named all others."""
    sizes = []
    for n in (4, 12):
        names, many = ",".join(f"t{k}" for k in range(n)), lambda x, n=n: ",".join([x] * n)
        text = "".join(f"t{k}: TORSION ATOMS={k + 1},{k + 2},{k + 3},{k + 4}\n" for k in range(n))
        text += (
            f"PBMETAD ARG={names} SIGMA={many('0.3')} HEIGHT=1 PACE=2 TEMP=300 "
            f"FILE={','.join(f'H{k}' for k in range(n))} GRID_MIN={many('-pi')} "
            f"GRID_MAX={many('pi')}\n"
        )
        system = openmm.XmlSerializer.clone(alanine_dipeptide().system)
        [force] = PlumedBias(text, directory=tmp_path, temperature=300).add_to(system)
        assert isinstance(force, openmm.CustomCVForce)
        sizes.append(symbols_written_out(force.getEnergyFunction()))
    assert sizes[1] < 3.1 * sizes[0]
