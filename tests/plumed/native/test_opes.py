"""OPES natively, against real PLUMED and against formulas."""

import copy
import math

import numpy as np
import openmm
import pytest
import torch

from benchmarks.eight_atoms import BOXES, random_frames
from openmm_cgan.plumed.actions import read_actions
from openmm_cgan.plumed.actions.opes.kernels import Kernels
from openmm_cgan.plumed.actions.values import Value
from openmm_cgan.plumed.bias import PlumedBias
from openmm_cgan.plumed.files.fields import read_fields, read_tables
from openmm_cgan.plumed.input.language import PlumedInputError, read_statements
from tests.cases.biases_with_state import (
    PHI_PSI,
    VARIABLES,
    energy_and_forces,
    run_frames,
    simulated,
)

plumed = pytest.mark.plumed
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
    [opes] = [a for a in bias._engine.actions if a.name.startswith("OPES")]
    assert n == opes.counter


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
