"""OPES_EXPANDED natively: values, forces and files are PLUMED's, restarts and checkpoints too."""

import numpy as np
import openmm
import pytest
from openmm import app

from benchmarks.eight_atoms import BOXES
from openmm_cgan.plumed.bias import PlumedBias
from openmm_cgan.plumed.input.language import PlumedInputError
from openmm_cgan.testsystems import alanine_dipeptide
from tests.cases.driver_runs import compare, driven, walk

pytestmark = pytest.mark.plumed

HEAD = (
    "UNITS ENERGY=kcal/mol\nd: DISTANCE ATOMS=1,5\nt: TORSION ATOMS=1,2,3,4\n"
    "e: CUSTOM ARG=d,t FUNC=200*x+3*sin(y) PERIODIC=NO\n"
)
TAIL = "PRINT ARG=d,t,e,o.* FILE=COLVAR FMT=%12.6f\n"
# fmt: off
# ruff: noqa: E501  one line of input each
CASES = {
    "temperatures": "x: ECV_MULTITHERMAL ARG=e TEMP=300 TEMP_MIN=250 TEMP_MAX=900\no: OPES_EXPANDED ARG=x.* PACE=2 OBSERVATION_STEPS=5 PRINT_STRIDE=2 CALC_WORK",
    "all temperatures": "x: ECV_MULTITHERMAL ARG=e TEMP_SET_ALL=300,400,600\no: OPES_EXPANDED ARG=x.e PACE=1 OBSERVATION_STEPS=1 PRINT_STRIDE=3",
    "even temperatures": "x: ECV_MULTITHERMAL ARG=e TEMP_MAX=600 TEMP_STEPS=4 NO_GEOM_SPACING\no: OPES_EXPANDED ARG=x.e PACE=1 OBSERVATION_STEPS=3 FMT=%12.6f",
    "multiples": "x: ECV_LINEAR ARG=e LAMBDA=0.3 LAMBDA_MAX=2\no: OPES_EXPANDED ARG=x.e PACE=2 OBSERVATION_STEPS=6 PRINT_STRIDE=2",
    "plain multiples": "x: ECV_LINEAR ARG=d DIMENSIONLESS LAMBDA=0.1 LAMBDA_MIN=0.1 LAMBDA_MAX=2 LAMBDA_STEPS=4 GEOM_SPACING\no: OPES_EXPANDED ARG=x.d PACE=2 OBSERVATION_STEPS=6 PRINT_STRIDE=2",
    "windows": "x: ECV_UMBRELLAS_LINE ARG=d,t CV_MIN=0.1,-3 CV_MAX=0.9,2 SIGMA=0.5 SPACING=1.5 BARRIER=2 ADD_P0\no: OPES_EXPANDED ARG=x.* PACE=2 OBSERVATION_STEPS=3 PRINT_STRIDE=1",
    "windows all round": "x: ECV_UMBRELLAS_LINE ARG=t CV_MIN=-pi CV_MAX=pi SIGMA=0.4 LOWER_HALF_ONLY\no: OPES_EXPANDED ARG=x.t PACE=2 OBSERVATION_STEPS=3 PRINT_STRIDE=1",
    "each with each": "x: ECV_MULTITHERMAL ARG=e TEMP_MAX=500 TEMP_STEPS=3\ny: ECV_UMBRELLAS_LINE ARG=t CV_MIN=-1 CV_MAX=2 SIGMA=0.6\no: OPES_EXPANDED ARG=x.*,y.* PACE=2 OBSERVATION_STEPS=4 PRINT_STRIDE=2 CALC_WORK",
    "windows of a file": "x: ECV_UMBRELLAS_FILE ARG=d,t FILE={windows} BARRIER=3\no: OPES_EXPANDED ARG=x.* PACE=2 OBSERVATION_STEPS=3 PRINT_STRIDE=1",
    "lower halves of a file": "x: ECV_UMBRELLAS_FILE ARG=d,t FILE={windows} ADD_P0 LOWER_HALF_ONLY\no: OPES_EXPANDED ARG=x.* PACE=1 OBSERVATION_STEPS=3 PRINT_STRIDE=1",
    "energies": "f: CUSTOM ARG=t FUNC=4*cos(x) PERIODIC=NO\nx: ECV_CUSTOM ARG=e,f,d BARRIER=9 ADD_P0\no: OPES_EXPANDED ARG=x.* PACE=2 OBSERVATION_STEPS=3 PRINT_STRIDE=1",
    "plain energies": "f: CUSTOM ARG=t FUNC=4*cos(x) PERIODIC=NO\nx: ECV_CUSTOM ARG=f,d,e DIMENSIONLESS\no: OPES_EXPANDED ARG=x.* PACE=2 OBSERVATION_STEPS=3 PRINT_STRIDE=1",
    "pressures": "f: CUSTOM ARG=t FUNC=20+x PERIODIC=NO\nx: ECV_MULTITHERMAL_MULTIBARIC ARG=e,f TEMP=300 TEMP_MIN=250 TEMP_MAX=900 PRESSURE=0.1 PRESSURE_MAX=3\no: OPES_EXPANDED ARG=x.* PACE=2 OBSERVATION_STEPS=5 PRINT_STRIDE=2",
    "pressures without a corner": "f: CUSTOM ARG=t FUNC=20+x PERIODIC=NO\nx: ECV_MULTITHERMAL_MULTIBARIC ARG=e,f TEMP=300 TEMP_SET_ALL=280,300,350,500 PRESSURE=1 PRESSURE_MIN=0.2 PRESSURE_MAX=3 PRESSURE_STEPS=5 CUT_CORNER=300,0.3,500,2\no: OPES_EXPANDED ARG=x.* PACE=1 OBSERVATION_STEPS=5 PRINT_STRIDE=2 CALC_WORK",
    "points": "f: CUSTOM ARG=t FUNC=20+x PERIODIC=NO\nx: ECV_MULTITHERMAL_MULTIBARIC ARG=e,f TEMP=300 PRESSURE=1 SET_ALL_TEMP_PRESSURE=280_1,300_2.5,400_1,500_3\no: OPES_EXPANDED ARG=x.* PACE=1 OBSERVATION_STEPS=5 PRINT_STRIDE=2",
}
# fmt: on
WINDOWS = "#! FIELDS time d t sigma_d sigma_t height\n0 0.3 1 0.1 0.5 1\n1 0.6 -2 0.2 0.6 2\n2 0.9 3 0.3 0.7 1\n"


@pytest.mark.parametrize("box", [None, BOXES["triclinic"]], ids=["no box", "triclinic"])
@pytest.mark.parametrize("text", CASES.values(), ids=CASES.keys())
def test_forces_virials_and_free_energies_are_plumeds(text, box, tmp_path):
    frames = walk(30, step=0.02)
    (tmp_path / "windows").write_text(WINDOWS)
    text = text.format(windows=tmp_path / "windows")
    driven(f"{HEAD}{text}\n{TAIL}", tmp_path, frames, box, full_virial=True)
    compare(tmp_path, "COLVAR", "forces", "DELTAFS", tolerance=3e-6)


@pytest.mark.parametrize(
    "case", ["temperatures", "windows", "each with each", "pressures", "energies"]
)
@pytest.mark.parametrize("state", [False, True], ids=["free energies", "state"])
def test_a_restarted_run_is_plumeds(case, state, tmp_path):
    frames = walk(40, step=0.02)
    written = " STATE_WFILE=STATE STATE_WSTRIDE=10" if state else ""
    driven(f"{HEAD}{CASES[case]}{written}\n{TAIL}", tmp_path, frames[:21])
    files = ["STATE"] if state else []
    for file in files:
        texts = [(tmp_path / b / file).read_text().split() for b in ("native", "kernel")]
        assert [word[:10] for word in texts[0]] == [word[:10] for word in texts[1]]
    read = " STATE_RFILE=STATE" if state else ""
    text = f"RESTART\n{HEAD}{CASES[case]}{read}\n{TAIL}"
    driven(text, tmp_path, frames[21:], initial_step=21)
    compare(tmp_path, "COLVAR", "forces", "DELTAFS", tolerance=3e-6)


def test_a_run_goes_on_from_a_checkpoint_as_if_it_had_not_stopped(tmp_path):
    """Of temperatures, by the potential energy, stopped before and after there is a bias."""
    text = (
        "e: ENERGY\nphi: TORSION ATOMS=5,7,9,15\n"
        "x: ECV_MULTITHERMAL ARG=e TEMP_MAX=600\n"
        "y: ECV_UMBRELLAS_LINE ARG=phi CV_MIN=-2 CV_MAX=1 SIGMA=0.6\n"
        "o: OPES_EXPANDED ARG=x.*,y.* PACE=2 OBSERVATION_STEPS=8 PRINT_STRIDE=2 CALC_WORK\n"
        "PRINT ARG=e,phi,o.* FILE=COLVAR STRIDE=2\n"
    )

    def begun(folder, checkpoint=None):
        bias = PlumedBias(text, temperature=300, directory=folder)
        molecule = alanine_dipeptide("C7eq")
        bias.add_to(molecule.system)
        platform = openmm.Platform.getPlatformByName("Reference")
        integrator = openmm.VerletIntegrator(0.001)
        simulation = app.Simulation(molecule.topology, molecule.system, integrator, platform)
        simulation.context.setPositions(molecule.positions)
        simulation.context.setVelocitiesToTemperature(300, 1)
        bias.attach(simulation, checkpoint)
        return bias, simulation

    bias, simulation = begun(tmp_path / "whole")
    simulation.step(50)
    bias.close()
    for steps in (7, 31):
        folder = tmp_path / str(steps)
        bias, simulation = begun(folder)
        simulation.step(steps)
        bias.save_checkpoint(folder / "state")
        simulation.step(6)
        bias.close()
        bias, simulation = begun(folder, folder / "state")
        simulation.step(50 - steps)
        bias.close()
        for file in ("COLVAR", "DELTAFS"):
            assert (folder / file).read_text() == (tmp_path / "whole" / file).read_text()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("o: OPES_EXPANDED ARG=e PACE=2", "e is no value of an ECV_"),
        ("x: ECV_MULTITHERMAL ARG=e", "TEMP_MIN, TEMP_MAX or both"),
        ("x: ECV_MULTITHERMAL ARG=e,d TEMP_MAX=400", "expected one value"),
        ("x: ECV_MULTITHERMAL ARG=e TEMP_SET_ALL=400,300", "ascending"),
        (
            "x: ECV_UMBRELLAS_LINE ARG=d,t CV_MIN=0,0 CV_MAX=1,1 SIGMA=1\n"
            "o: OPES_EXPANDED ARG=x.t,x.d PACE=2",
            "in order, once",
        ),
        ("x: ECV_UMBRELLAS_LINE ARG=t CV_MIN=0 CV_MAX=4 SIGMA=1", "leaves the domain of t"),
        ("x: ECV_UMBRELLAS_LINE ARG=d CV_MIN=0 CV_MAX=4 SIGMA=1e-9", "windows"),
    ],
)
def test_what_is_wrong_is_said(text, words):
    with pytest.raises(PlumedInputError, match=words):
        PlumedBias(f"{HEAD}{text}\nPRINT ARG=d\n", backend="native", temperature=300)


def test_a_file_of_other_states_is_refused(tmp_path):
    bias = "o: OPES_EXPANDED ARG=x.e PACE=1 OBSERVATION_STEPS=2 PRINT_STRIDE=1"
    text = "x: ECV_MULTITHERMAL ARG=e TEMP_MAX={} TEMP_STEPS=3\n" + bias
    frames = walk(10)
    driven(f"{HEAD}{text.format(500)}\n{TAIL}", tmp_path, frames)
    with pytest.raises(ValueError, match="other states than"):
        driven(f"RESTART\n{HEAD}{text.format(600)}\n{TAIL}", tmp_path, frames)
    assert np.isfinite(frames).all()
