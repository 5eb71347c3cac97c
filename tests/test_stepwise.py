"""OPES, MOVINGRESTRAINT and COMMITTOR natively, against real PLUMED and against formulas."""

import copy
import math

import numpy as np
import openmm
import pytest
import torch
from openmm import app

from openmm_cgan.plumed.actions import read_actions
from openmm_cgan.plumed.actions.action import Value
from openmm_cgan.plumed.actions.committor import StopRunError
from openmm_cgan.plumed.actions.opes.kernels import Kernels
from openmm_cgan.plumed.bias import PlumedBias
from openmm_cgan.plumed.files.fields import read_fields, read_tables
from openmm_cgan.plumed.input.language import PlumedInputError, read_statements
from openmm_cgan.testsystems import alanine_dipeptide
from tests.test_backends import BOXES, make_system, random_frames

plumed = pytest.mark.plumed

PHI_PSI = "phi: TORSION ATOMS=5,7,9,15\npsi: TORSION ATOMS=7,9,15,17\n"
VARIABLES = (
    "t: TORSION ATOMS=1,3,4,6\na: ANGLE ATOMS=2,4,7\nd: DISTANCE ATOMS=5,8\n"
    "c: COMBINE ARG=t,d COEFFICIENTS=1.5,-2 PERIODIC=NO\n"
    "k: COORDINATION GROUPA=1-3 GROUPB=5-7 R_0=0.3\n"
)
PRINT_OPES = "PRINT ARG=o.bias,o.rct,o.zed,o.neff,o.nker STRIDE=5 FILE=COLVAR\n"
FMT = " FMT=%14.6f"

OPES = {
    "two": "o: OPES_METAD ARG=t,d SIGMA=0.3,0.05 PACE=5 BARRIER=40 STATE_WFILE=STATE "
    "STATE_WSTRIDE=50 FILE=KERNELS",
    "coupled": "o: OPES_METAD_EXPLORE ARG=c,k SIGMA=0.3,0.5 PACE=5 BARRIER=25 TEMP=310 "
    "SIGMA_MIN=0.1,0.2 COMPRESSION_THRESHOLD=1.5",
    "uniform": "o: OPES_METAD ARG=t,a SIGMA=0.4,0.2 PACE=5 BARRIER=6 BIASFACTOR=inf NO_ZED "
    "FIXED_SIGMA",
    "given": "o: OPES_METAD ARG=d SIGMA=0.04 PACE=5 BARRIER=36 BIASFACTOR=8 EPSILON=0.001 "
    "KERNEL_CUTOFF=3 RECURSIVE_MERGE_OFF",
    "listed": "o: OPES_METAD ARG=t SIGMA=0.4 PACE=5 BARRIER=36 NLIST COMPRESSION_THRESHOLD=0.7",
    "excluded": "x: CUSTOM ARG=t FUNC=step(x-0.5) PERIODIC=NO\n"
    "o: OPES_METAD ARG=t SIGMA=0.4 PACE=5 BARRIER=30 EXCLUDED_REGION=x",
    "weighed": "r: RESTRAINT ARG=t AT=0 KAPPA=2\ny: CUSTOM ARG=t FUNC=sin(x) PERIODIC=NO\n"
    "o: OPES_METAD ARG=t SIGMA=0.4 PACE=5 BARRIER=30 EXTRA_BIAS=r.bias,y",
    "adaptive": "o: OPES_METAD ARG=t,d ADAPTIVE_SIGMA_STRIDE=20 PACE=10 BIASFACTOR=10 BARRIER=40 "
    "STATE_WFILE=STATE STATE_WSTRIDE=70 STORE_STATES",
    "adaptive explore": "o: OPES_METAD_EXPLORE ARG=d,t ADAPTIVE_SIGMA_STRIDE=15 PACE=5 BARRIER=36 "
    "SIGMA_MIN=0.01,0.1",
}


def run_frames(text, backend, box, folder, frames, restart=False, first=0):
    """A bias in a Context, updated at each of the frames, every five steps."""
    bias = PlumedBias(text, temperature=300.0, backend=backend, directory=folder, restart=restart)
    system = make_system(box)
    bias.add_to(system)
    platform = openmm.Platform.getPlatformByName("Reference")
    context = openmm.Context(system, openmm.VerletIntegrator(0.001), platform)
    bias._engine.start(0.002)
    for i, frame in enumerate(frames, start=first):
        bias._engine.update(frame, box, 5 * i)
        bias._engine.upload(context)
    return bias, context


def energy_and_forces(bias, context, frame):
    context.setPositions(frame)
    state = context.getState(energy=True, forces=True, groups=bias.force_groups())
    return state.getPotentialEnergy()._value, state.getForces(asNumpy=True)._value


# ---- OPES


@plumed
@pytest.mark.parametrize("box", BOXES.values(), ids=BOXES.keys())
@pytest.mark.parametrize("text", OPES.values(), ids=OPES.keys())
def test_opes_is_plumeds(text, box, tmp_path):
    text = VARIABLES + text + FMT + "\n" + PRINT_OPES
    rng = np.random.default_rng(0)
    laid, frames = random_frames(box, rng, 40), random_frames(box, rng, 30)
    both = [run_frames(text, b, box, tmp_path / b, laid) for b in ("native", "kernel")]
    for frame in frames:
        found = []
        for bias, context in both:
            energy, forces = energy_and_forces(bias, context, frame)
            assert bias._engine.evaluate(frame, box, 0)[1] == pytest.approx(energy, abs=1e-9)
            found.append((energy, forces))
        assert found[0][0] == pytest.approx(found[1][0], rel=1e-8, abs=1e-8)
        np.testing.assert_allclose(found[0][1], found[1][1], rtol=1e-7, atol=1e-7)
    for bias, _ in both:
        bias.close()
    files = {p.name for p in (tmp_path / "kernel").iterdir()} - {"plumed.log"}
    assert {"COLVAR", "KERNELS"} <= files
    for file in files:
        ours, plumeds = ((tmp_path / b / file).read_text() for b in ("native", "kernel"))
        assert ours == plumeds, file


@plumed
@pytest.mark.parametrize("source", ["KERNELS", "STATE"])
@pytest.mark.parametrize("kind", ["two", "adaptive", "adaptive explore"])
def test_opes_goes_on_from_plumeds_files(kind, source, tmp_path):
    text = VARIABLES + OPES[kind].replace(" STORE_STATES", "").partition(" STATE_W")[0]
    text += " STATE_WFILE=STATE STATE_WSTRIDE=20\n"
    frames = random_frames(None, np.random.default_rng(2), 41)
    for backend in ("native", "kernel"):
        bias, _ = run_frames(text, "kernel", None, tmp_path / backend, frames)
        bias.close()
    if source == "STATE":
        for backend in ("native", "kernel"):
            (tmp_path / backend / "STATE").rename(tmp_path / backend / "BEFORE")
        text = text.replace("STATE_WFILE", "STATE_RFILE=BEFORE STATE_WFILE")
    more = random_frames(None, np.random.default_rng(3), 20)
    for backend in ("native", "kernel"):
        bias, _ = run_frames(text, backend, None, tmp_path / backend, more, True, 41)
        bias.close()
    for file in ("KERNELS", "STATE"):
        ours, plumeds = (read_tables(tmp_path / b / file) for b in ("native", "kernel"))
        assert [t.constants.keys() for t in ours] == [t.constants.keys() for t in plumeds]
        for one, other in zip(ours, plumeds, strict=True):
            for name, column in other.columns.items():
                np.testing.assert_allclose(one.columns[name], column, rtol=1e-9, atol=1e-9)
            for name, number in other.constants.items():
                if name.startswith(("zed", "sum", "counter", "sigma0", "av_")):
                    assert float(one.constants[name]) == pytest.approx(float(number), rel=1e-9)


RUN = (
    PHI_PSI + "o: OPES_METAD{kind} ARG=phi,psi {sigma} PACE=20 BARRIER=40 "
    "STATE_WFILE=STATE STATE_WSTRIDE=200 FMT=%10.4f\n"
    "PRINT ARG=phi,psi,o.* STRIDE=10 FILE=COLVAR FMT=%9.5f\n"
)


@plumed
@pytest.mark.parametrize("sigma", ["SIGMA=0.3,0.3", "SIGMA=ADAPTIVE ADAPTIVE_SIGMA_STRIDE=100"])
@pytest.mark.parametrize("kind", ["", "_EXPLORE"])
def test_runs_of_opes_and_their_files_are_plumeds(kind, sigma, tmp_path):
    text = RUN.format(kind=kind, sigma=sigma)
    for backend in ("native", "kernel"):
        bias, simulation = simulated(text, backend, tmp_path / backend)
        simulation.step(1000)
        bias.close()
    for file in ("COLVAR", "KERNELS", "STATE"):
        ours, plumeds = (read_fields(tmp_path / b / file) for b in ("native", "kernel"))
        assert len(ours) == len(plumeds) > 0
        for name, column in plumeds.columns.items():  # one unit of the last printed digit
            np.testing.assert_allclose(ours.columns[name], column, atol=1.5e-4, rtol=1e-4)


def simulated(text, backend, folder, integrator=None, restart=False):
    molecule = alanine_dipeptide("C7eq")
    bias = PlumedBias(text, temperature=300.0, backend=backend, directory=folder, restart=restart)
    bias.add_to(molecule.system)
    simulation = app.Simulation(
        molecule.topology,
        molecule.system,
        integrator or openmm.VerletIntegrator(0.001),
        openmm.Platform.getPlatformByName("Reference"),
    )
    simulation.context.setPositions(molecule.positions)
    simulation.context.setVelocitiesToTemperature(300, 5)
    bias.attach(simulation)
    return bias, simulation


def test_the_bias_of_opes_is_its_formula(tmp_path):
    """One kernel, laid where the bias is -BARRIER."""
    text = VARIABLES + "o: OPES_METAD ARG=t SIGMA=0.3 PACE=5 BARRIER=30 TEMP=300\n"
    [frame] = random_frames(None, np.random.default_rng(1), 1)
    bias, _ = run_frames(text, "native", None, tmp_path, [frame])
    assert bias._engine.evaluate(frame, None, 0)[1] == pytest.approx(-30)
    bias._engine.update(frame, None, 5)
    kt = 0.0083144621 * 300
    p = 1 - kt / 30
    epsilon = math.exp(-30 / p / kt)
    n, s = 2, epsilon**p + math.exp(-30 / kt)
    neff = (1 + s) ** 2 / (1 + 2 * epsilon ** (2 * p))
    sigma = 0.3 * (neff * 3 / 4) ** -0.2
    height = math.exp(-30 / kt) * 0.3 / sigma
    shift = math.exp(-30 / p / kt)
    x = np.linspace(-3, 3, 41)
    centre = bias.cv_values(frame)[0]
    delta = (x - centre + np.pi) % (2 * np.pi) - np.pi
    kernel = height * np.maximum(np.exp(-0.5 * (delta / sigma) ** 2) - shift, 0)
    zed = height * (1 - shift) / s
    expected = kt * p * np.log(kernel / s / zed + epsilon)
    np.testing.assert_allclose(bias.bias_of_cvs(x[:, None]), expected, rtol=1e-9)
    assert n == bias._engine._stepwise.opes[0].action.counter


def test_opes_in_torch_is_differentiable():
    [_, _, action] = read_actions(
        read_statements(
            "t: TORSION ATOMS=1-4\nd: DISTANCE ATOMS=1,2\n"
            "o: OPES_METAD ARG=t,d SIGMA=0.3,0.1 PACE=5 BARRIER=30\n"
        )
    )
    action.start(2.494)
    rng = np.random.default_rng(5)
    points = np.stack([rng.uniform(-3, 3, 30), rng.uniform(0, 0.5, 30)], axis=-1)
    for t, d in points:
        action.deposit([t, d], action.energy_and_slopes([t, d])[0])
    for t, d in points + 0.05:
        x = [torch.tensor(v, dtype=torch.float64, requires_grad=True) for v in (t, d)]
        energy = action.energy(x)
        slopes = [float(slope) for slope in torch.autograd.grad(energy, x)]
        ours, plumeds = action.energy_and_slopes([t, d])
        assert float(energy.detach()) == pytest.approx(ours, rel=1e-10)
        h = 1e-6
        ends = [action.energy_and_slopes([t + s, d])[0] for s in (h, -h)]
        assert slopes[0] == pytest.approx((ends[0] - ends[1]) / (2 * h), abs=1e-5)
        # PLUMED's slope lacks that of the shift, which matters where the kernels end
        np.testing.assert_allclose(slopes, plumeds, rtol=0.02)


def test_merged_kernels_keep_weight_mean_and_variance():
    kernels = Kernels((Value("s", domain=(-math.pi, math.pi)), Value("d")), 36.0, 1.0, True)
    first, second = np.array([3.1, 0.5]), np.array([-3.1, 0.55])
    kernels.add(2.0, first, np.array([0.3, 0.1]))
    kernels.add(1.0, second, np.array([0.2, 0.1]))
    assert len(kernels) == 1
    apart = 2 * math.pi - 6.2
    assert kernels.heights[0] == 3.0
    assert math.remainder(kernels.centres[0, 0] - (3.1 + apart / 3), 2 * math.pi) == pytest.approx(
        0
    )
    assert kernels.centres[0, 1] == pytest.approx((2 * 0.5 + 0.55) / 3)
    variance = (2 * 0.3**2 + 0.2**2) / 3 + 2 / 9 * apart**2
    assert kernels.sigmas[0, 0] == pytest.approx(math.sqrt(variance))


def test_the_incremental_norm_is_the_whole_one():
    rng = np.random.default_rng(0)
    kernels = Kernels((Value("s", domain=(-math.pi, math.pi)),), 30.0, 0.25, True)
    for _ in range(100):
        before = kernels.sum_over_centres()
        kernels.changes.clear()
        kernels.add(rng.random(), rng.uniform(-3, 3, 1), rng.uniform(0.05, 0.3, 1))
        after = before + kernels.sum_of_changes()
        assert after == pytest.approx(kernels.sum_over_centres(), rel=1e-9)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("SIGMA=0.3 BARRIER=1", "BIASFACTOR"),
        ("SIGMA=0.3,1 BARRIER=40", "2 numbers for 1 arguments"),
        ("SIGMA=0.3 BARRIER=40 SIGMA_MIN=0.5", "SIGMA_MIN"),
        ("BARRIER=40 BIASFACTOR=inf", "adaptive"),
        ("SIGMA=0.3 BARRIER=40 STATE_WSTRIDE=100", "STATE_WFILE"),
        ("SIGMA=0.3 BARRIER=40 WALKERS_MPI", "not understood natively"),
        ("SIGMA=0.3 BARRIER=40 EXCLUDED_REGION=t,t", "2 values"),
        ("SIGMA=0.3 BARRIER=40 RESTART=MAYBE", "YES, NO or AUTO"),
        ("SIGMA=0.3 BARRIER=40 ADAPTIVE_SIGMA_STRIDE=100", "only with SIGMA=ADAPTIVE"),
        ("SIGMA=0.3 BARRIER=40 COMPRESSION_THRESHOLD=9", "below KERNEL_CUTOFF"),
        ("SIGMA=0.3 BARRIER=40 PACE=0", "twice"),
    ],
)
def test_what_opes_can_not_do_is_refused(words, message):
    text = f"t: TORSION ATOMS=1-4\nOPES_METAD ARG=t PACE=50 {words}\n"
    with pytest.raises(PlumedInputError, match=message):
        PlumedBias(text, temperature=300.0, backend="native")


def test_opes_needs_a_temperature(tmp_path):
    text = PHI_PSI + "o: OPES_METAD ARG=phi,psi SIGMA=0.3,0.3 PACE=20 BARRIER=40 NLIST\n"
    bias = PlumedBias(text, directory=tmp_path)
    with pytest.raises(ValueError, match="needs a temperature"):
        bias.bias_of_cvs([[0.0, 0.0]])


def test_a_copy_of_the_system_has_the_same_bias(tmp_path):
    text = PHI_PSI + "o: OPES_METAD ARG=phi,psi SIGMA=0.3,0.3 PACE=20 BARRIER=40\n"
    bias, simulation = simulated(text, "native", tmp_path)
    simulation.step(100)
    system = copy.deepcopy(simulation.system)
    platform = openmm.Platform.getPlatformByName("Reference")
    context = openmm.Context(system, openmm.VerletIntegrator(0.001), platform)
    state = simulation.context.getState(positions=True, energy=True)
    context.setPositions(state.getPositions())
    energy = context.getState(energy=True).getPotentialEnergy()
    assert energy._value == pytest.approx(state.getPotentialEnergy()._value, rel=1e-9)
    bias.close()


# ---- MOVINGRESTRAINT

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


# ---- COMMITTOR


@plumed
@pytest.mark.parametrize("more", ["NOSTOP FMT=%8.4f", "NOSTOP STRIDE=10"])
def test_basins_entered_are_plumeds(more, tmp_path):
    text = (
        VARIABLES + "COMMITTOR ARG=t,d BASIN_LL1=0,0 BASIN_UL1=3.2,1 BASIN_LL2=-2,0 "
        f"BASIN_UL2=-1,1 STRIDE=5 FILE=COMMIT {more}\nPRINT ARG=t STRIDE=5 FILE=COLVAR\n"
    ).replace("STRIDE=5 FILE=COMMIT NOSTOP STRIDE", "FILE=COMMIT NOSTOP STRIDE")
    frames = random_frames(None, np.random.default_rng(4), 30)
    for backend in ("native", "kernel"):
        bias, _ = run_frames(text, backend, None, tmp_path / backend, frames)
        bias.close()
    for file in ("COMMIT", "COLVAR"):
        ours, plumeds = ((tmp_path / b / file).read_text() for b in ("native", "kernel"))
        assert ours == plumeds


@plumed
@pytest.mark.parametrize("backend", ["native", "kernel"])
def test_a_run_stops_in_a_basin_with_its_rows_written(backend, tmp_path):
    text = (
        PHI_PSI + "COMMITTOR ARG=psi STRIDE=10 BASIN_LL1=-3.2 BASIN_UL1=3.2 FILE=COMMIT\n"
        "COMMITTOR ARG=psi STRIDE=10 BASIN_LL1=0 BASIN_UL1=0\n"
        "PRINT ARG=phi STRIDE=10 FILE=COLVAR\n"
    ).replace("STRIDE=10 BASIN_LL1=-3.2", "STRIDE=30 BASIN_LL1=-3.2")
    bias, simulation = simulated(text, backend, tmp_path)
    with pytest.raises(StopRunError, match="stop"):  # the first step of a run is looked at too
        simulation.step(100)
    bias.close()
    assert simulation.currentStep == 0
    assert len(read_fields(tmp_path / "COLVAR")) == 1
    assert len(read_fields(tmp_path / "COMMIT")) == 1
    text = (tmp_path / "COMMIT").read_text()
    assert text.endswith("#! SET COMMITTED TO BASIN 1 \n\n")
    assert text.startswith("#! FIELDS time psi basin\n#! SET min_psi -pi\n#! SET max_psi pi\n 0.0")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("BASIN_LL1=0", "needs BASIN_LLi= and BASIN_ULi="),
        ("BASIN_LL1=1 BASIN_UL1=0", "must not be below"),
        ("BASIN_LL1=0 BASIN_UL1=1 STRIDE=0", "must be positive"),
    ],
)
def test_a_bad_committor_is_refused(words, message):
    text = f"t: TORSION ATOMS=1-4\nCOMMITTOR ARG=t {words}\nPRINT ARG=t\n"
    with pytest.raises(PlumedInputError, match=message):
        PlumedBias(text, backend="native")
