"""MOVINGRESTRAINT natively, against real PLUMED and against formulas."""

import numpy as np
import openmm
import pytest
from openmm import app

from benchmarks.eight_atoms import BOXES, random_frames
from openmm_cgan.plumed.bias import PlumedBias
from openmm_cgan.plumed.files.fields import read_fields
from openmm_cgan.plumed.input.language import PlumedInputError
from tests.cases.biases_with_state import (
    PHI_PSI,
    VARIABLES,
    energy_and_forces,
    run_frames,
    simulated,
)

plumed = pytest.mark.plumed


MOVING = {
    "one": "m: MOVINGRESTRAINT ARG=t STEP0=20 AT0=2.5 KAPPA0=10 STEP1=70 AT1=-2.5 "
    "STEP2=120 KAPPA2=60 STEP3=150 AT3=0 KAPPA3=5",
    "several": "m: MOVINGRESTRAINT ARG=t,d,c STEP0=0 AT0=0,0.2,1 KAPPA0=10,90,2 "
    "STEP1=140 AT1=2,0.4,2 KAPPA1=20,50,4",
}
BELOW = (
    "m: MOVINGRESTRAINT ARG=t,d VERSE=U,L STEP0=0 AT0=0,0.2 KAPPA0=10,90 STEP1=140 "
    "AT1=2,0.4 KAPPA1=20,50"
)


def frames_with_moving(text, folder, box, n=40):
    """Energies, forces and files of both backends along frames, every step of five."""
    text = f"{VARIABLES}{text}\nPRINT ARG=t,m.* STRIDE=5 FILE=COLVAR FMT=%12.7f\n"
    frames = random_frames(box, np.random.default_rng(7), n)
    both = [run_frames(text, b, box, folder / b, []) for b in ("native", "kernel")]
    energies, forces = [], []
    for i, frame in enumerate(frames):
        found = []
        for bias, context in both:
            context.setStepCount(5 * i)
            found.append(energy_and_forces(bias, context, frame))
            shown = bias._engine.evaluate(frame, box, 5 * i)[1]
            assert shown == pytest.approx(found[-1][0], abs=1e-9)
            bias._engine.update(frame, box, 5 * i)
        energies.append([energy for energy, _ in found])
        forces.append([force for _, force in found])
    for bias, _ in both:
        bias.close()
    files = [(folder / b / "COLVAR").read_text() for b in ("native", "kernel")]
    return np.array(energies), np.array(forces), files


@plumed
@pytest.mark.parametrize("box", BOXES.values(), ids=BOXES.keys())
@pytest.mark.parametrize("text", MOVING.values(), ids=MOVING.keys())
def test_a_moving_restraint_is_plumeds(text, box, tmp_path):
    energies, forces, files = frames_with_moving(text, tmp_path, box)
    np.testing.assert_allclose(energies[:, 0], energies[:, 1], rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(forces[:, 0], forces[:, 1], rtol=1e-7, atol=1e-7)
    assert files[0] == files[1]


@plumed
def test_a_restraint_on_one_side_has_plumeds_rows_and_no_force_beyond(tmp_path, caplog):
    energies, forces, files = frames_with_moving(BELOW, tmp_path, None)
    assert files[0] == files[1]
    np.testing.assert_allclose(energies[:, 0], energies[:, 1], rtol=1e-9, atol=1e-9)
    idle = energies[:, 0] == 0
    assert idle.any()
    np.testing.assert_allclose(forces[idle, 0], 0)
    # PLUMED 2.11 goes on with the last force there; where this fails, it is mended: compare forces
    assert np.abs(forces[idle, 1]).max() > 0
    assert "goes on with the last one" in caplog.text


@plumed
def test_runs_with_a_moving_restraint_are_plumeds(tmp_path):
    text = (
        PHI_PSI + "m: MOVINGRESTRAINT ARG=phi,psi STEP0=0 AT0=-1.4,1.2 KAPPA0=50,50 STEP1=300 "
        "AT1=-1,0.8 STEP2=400 KAPPA2=10,90\nPRINT ARG=phi,psi,m.* STRIDE=10 FILE=COLVAR\n"
    )
    found = []
    for backend in ("native", "kernel"):
        bias, simulation = simulated(text, backend, tmp_path / backend)
        simulation.step(500)
        bias.close()
        state = simulation.context.getState(positions=True)
        found.append(state.getPositions(asNumpy=True)._value)
    np.testing.assert_allclose(found[0], found[1], atol=1e-8)
    ours, plumeds = (read_fields(tmp_path / b / "COLVAR") for b in ("native", "kernel"))
    for name, column in plumeds.columns.items():
        np.testing.assert_allclose(ours.columns[name], column, atol=2e-6)
    assert abs(plumeds.columns["m.work"][-1]) > 0.1


@pytest.mark.parametrize("end", ["", "PRINT ARG=m.work STRIDE=100 FILE=COLVAR\n"])
def test_a_moving_restraint_of_cvs_is_the_one_that_acts_now(tmp_path, end):
    """As exact proposals ask for it: of many CV values, at a step at which nothing is printed."""
    moving = "m: MOVINGRESTRAINT ARG=phi,psi STEP0=0 AT0=-1,1 KAPPA0=50,50 STEP1=1000 AT1=1,1\n"
    bias, simulation = simulated(PHI_PSI + moving + end, "native", tmp_path)
    for _ in range(3):
        simulation.step(33)
        groups = bias.force_groups()
        state = simulation.context.getState(positions=True, energy=True, groups=groups)
        here = bias.cv_values(state.getPositions(asNumpy=True)._value)
        found = bias.bias_of_cvs(here + np.array([[0, 0], [2 * np.pi, 2 * np.pi], [0.1, 0]]))
        acting = state.getPotentialEnergy()._value
        np.testing.assert_allclose(found[:2], acting, atol=1e-9)
        assert abs(found[2] - acting) > 0.1


def test_a_moving_restraint_needs_no_reporter_and_its_work_is_the_integral(tmp_path):
    """Dragged slowly on a frozen frame: the work is the change of the energy."""
    text = (
        "d: DISTANCE ATOMS=1,2\nm: MOVINGRESTRAINT ARG=d STEP0=0 AT0=0.1 KAPPA0=100 STEP1=100 "
        "AT1=0.5 KAPPA1=300\nPRINT ARG=m.* STRIDE=100 FILE=COLVAR\n"
    )
    x = np.array([[0.0, 0, 0], [0.3, 0, 0]])
    bias = PlumedBias(text, directory=tmp_path)
    system = openmm.System()
    for _ in x:
        system.addParticle(0.0)  # does not move
    bias.add_to(system)
    topology = app.Topology()
    simulation = app.Simulation(
        topology,
        system,
        openmm.VerletIntegrator(0.001),
        openmm.Platform.getPlatformByName("Reference"),
    )
    simulation.context.setPositions(x)
    bias.attach(simulation)
    energies = {}
    for step in (0, 50, 100, 120):
        simulation.step(step - simulation.currentStep)
        state = simulation.context.getState(energy=True)
        energies[step] = state.getPotentialEnergy()._value
    bias.close()
    assert energies[0] == pytest.approx(50 * 0.2**2)
    assert energies[50] == pytest.approx(0, abs=1e-12)
    assert energies[100] == pytest.approx(150 * 0.2**2)
    work = read_fields(tmp_path / "COLVAR").columns["m.work"][-1]
    assert work == pytest.approx(energies[100] - energies[0], abs=2e-3)  # trapezoids of 1 %


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("AT0=1 KAPPA0=2", "STEP0= is missing"),
        ("STEP0=0 AT0=1", "KAPPA0= is missing"),
        ("STEP0=0 AT0=1 KAPPA0=1 AT1=2", "no STEP1="),
        ("STEP0=9 AT0=1 KAPPA0=1 STEP1=3 AT1=2", "must always increase"),
        ("STEP0=9 AT0=1 KAPPA0=1 VERSE=X", "neither B, U nor L"),
        ("STEP0=9 AT0=1,2 KAPPA0=1", "2 numbers for 1 arguments"),
    ],
)
def test_a_bad_moving_restraint_is_refused(words, message):
    text = f"t: TORSION ATOMS=1-4\nMOVINGRESTRAINT ARG=t {words}\n"
    with pytest.raises(PlumedInputError, match=message):
        PlumedBias(text, backend="native")
