"""METAD's rarer keywords against real PLUMED: widths that adapt, temperings, sums at every step."""

import re

import numpy as np
import pytest

from benchmarks.eight_atoms import BOXES, deviation, random_frames
from openmm_cgan import GAS_CONSTANT
from openmm_cgan.plumed.actions.metad.adaptive import from_columns, to_columns
from openmm_cgan.plumed.actions.metad.axis import Axis
from openmm_cgan.plumed.actions.metad.hill_grid import HillGrid
from openmm_cgan.plumed.actions.metad.tempering import highest_pass
from openmm_cgan.plumed.actions.values import Value
from openmm_cgan.plumed.bias import PlumedBias
from openmm_cgan.plumed.driver.driver import run_driver
from openmm_cgan.plumed.driver.settings import DriverSettings
from openmm_cgan.plumed.driver.trajectories import Frame
from openmm_cgan.plumed.files.fields import read_fields
from openmm_cgan.plumed.input.language import PlumedInputError
from tests.cases.biased_runs import biased_alanine
from tests.cases.metad_runs import (
    GRID_D,
    GRID_T,
    GRID_TDU,
    GRID_TU,
    VALUES,
    assert_same_file,
    run_both,
)

pytestmark = pytest.mark.plumed

DIFF = "ADAPTIVE=DIFF SIGMA=6 HEIGHT=1.2"
GEOM = "ADAPTIVE=GEOM SIGMA=0.05 HEIGHT=1.2 PACE=10"
HILL_T = "ARG=t SIGMA=0.35 HEIGHT=1.2 PACE=5"
HILL_TU = "ARG=t,u SIGMA=0.35,0.3 HEIGHT=1.2 PACE=5"
LIMITS_TDU = "SIGMA_MIN=0.3,0.2,0.3 SIGMA_MAX=0.6,0.3,0.5"
TWO_WELLS = "TRANSITIONWELL0=-1.2 TRANSITIONWELL1=1.1"

METADS = {
    "DIFF": f"ARG=t,d {DIFF} PACE=20",
    "DIFF of one value": f"ARG=t {DIFF} PACE=10 BIASFACTOR=6",
    "DIFF, 3-D": f"ARG=t,d,a {DIFF} PACE=30",
    "DIFF on a grid": f"ARG=t {DIFF} PACE=15 SIGMA_MIN=0.2 SIGMA_MAX=0.6 {GRID_T} CALC_WORK",
    "DIFF on a 2-D grid": f"ARG=t,u {DIFF} PACE=20 SIGMA_MIN=0.2,0.3 SIGMA_MAX=1,0.6 {GRID_TU}",
    "DIFF on a 3-D grid": f"ARG=t,d,u {DIFF} PACE=30 {LIMITS_TDU} {GRID_TDU}",
    "DIFF on a grid of no given spacing": f"ARG=t {DIFF} PACE=15 SIGMA_MIN=0.3 SIGMA_MAX=0.6 "
    "GRID_MIN=-pi GRID_MAX=pi",
    "GEOM": f"ARG=t,d {GEOM}",
    "GEOM of functions": f"ARG=c,x {GEOM} BIASFACTOR=8 CALC_WORK",
    "GEOM on a grid": f"ARG=t,u {GEOM} SIGMA_MIN=0.3,0.2 SIGMA_MAX=0.7,0.9 {GRID_TU}",
    "GEOM with one limit": f"ARG=t,u {GEOM} SIGMA_MIN=-1,0.2 SIGMA_MAX=0.7,-1",
    "between times": f"{HILL_T} {GRID_T} UPDATE_FROM=0.1 UPDATE_UNTIL=0.3",
    "until a time": f"{HILL_T} {GRID_T} UPDATE_UNTIL=0.3 GRID_WFILE=GRID GRID_WSTRIDE=50",
    "DIFF and ACCELERATION between times": f"ARG=t {DIFF} PACE=10 UPDATE_FROM=0.1 ACCELERATION",
    "ACCELERATION": f"{HILL_T} {GRID_T} ACCELERATION TEMP=310",
    "FREQUENCY_ADAPTIVE": f"{HILL_T} {GRID_T} ACCELERATION FREQUENCY_ADAPTIVE "
    "FA_MIN_ACCELERATION=1.2 FA_MAX_PACE=18 FA_UPDATE_FREQUENCY=10 UPDATE_FROM=0.03",
    "ACCELERATION without grid": f"{HILL_TU} BIASFACTOR=5 ACCELERATION CALC_WORK",
    "NLIST": f"{HILL_TU} NLIST",
    "NLIST with parameters": f"{HILL_TU} NLIST NLIST_PARAMETERS=3,0.3 BIASFACTOR=5",
    "NLIST and INTERVAL": "ARG=d SIGMA=0.02 HEIGHT=1 PACE=5 INTERVAL=0.2,0.4 NLIST ACCELERATION",
    "transbias of one well": f"{HILL_T} {GRID_T} CALC_TRANSITION_BIAS TRANSITIONWELL0=0.6",
    "TTBIASFACTOR": f"{HILL_T} {GRID_T} TTBIASFACTOR=1.6 {TWO_WELLS} TEMP=310 CALC_MAX_BIAS",
    "TTBIASFACTOR from the left": f"{HILL_T} {GRID_T} TTBIASFACTOR=1.6 TRANSITIONWELL0=1.3 "
    "TRANSITIONWELL1=-2.9",
    "TTBIASFACTOR to the last node": f"{HILL_T} {GRID_T} TTBIASFACTOR=1.6 TRANSITIONWELL0=3.12 "
    "TRANSITIONWELL1=1.4",
    "TTBIASFACTOR, not periodic": f"ARG=d SIGMA=0.2 HEIGHT=1.2 PACE=5 {GRID_D} TTBIASFACTOR=3 "
    "TRANSITIONWELL0=0.2 TRANSITIONWELL1=0.5",
    "TTBIASTHRESHOLD and TTALPHA": f"ARG=t,u SIGMA=1.2,0.9 HEIGHT=1.2 PACE=5 {GRID_TU} "
    "TTBIASFACTOR=2 TTBIASTHRESHOLD=0.4 TTALPHA=0.6 TRANSITIONWELL0=-1.2,0 TRANSITIONWELL1=1.1,1 "
    "TRANSITIONWELL2=0,-2 BIASFACTOR=9 CALC_RCT",
    "TTBIASFACTOR, 3-D": f"ARG=t,d,u SIGMA=1.1,0.7,1.0 HEIGHT=1.2 PACE=5 {GRID_TDU} "
    "TTBIASFACTOR=3 TRANSITIONWELL0=0,0.4,0 TRANSITIONWELL1=2,0.3,-2",
}


@pytest.mark.parametrize("metad", METADS.values(), ids=METADS.keys())
def test_files_of_each_keyword_are_plumeds(metad, tmp_path):
    text = f"{VALUES}m: METAD {metad}\nPRINT ARG=t,u,d,m.* STRIDE=5 FILE=COLVAR FMT=%16.10f\n"
    run_both(text, tmp_path, n_frames=80)
    assert_same_file(tmp_path, "COLVAR", 1e-8)
    assert_same_file(tmp_path, "HILLS", 1e-9)
    assert len(read_fields(tmp_path / "native" / "HILLS")) >= 10
    if "FREQUENCY_ADAPTIVE" in metad:
        assert set(read_fields(tmp_path / "native" / "COLVAR").columns["m.pace"]) >= {5, 10, 18}
    if "TTBIASFACTOR" in metad:
        assert read_fields(tmp_path / "native" / "COLVAR").columns["m.transbias"][-1] > 0.3


FORCES = [name for name in METADS if name.startswith(("DIFF", "GEOM", "NLIST"))]


@pytest.mark.parametrize("name", FORCES)
def test_energies_and_forces_are_plumeds(name, tmp_path):
    found = deviation(f"{VALUES}m: METAD {METADS[name]}", None, tmp_path)
    assert max(found.values, found.energy, found.forces) < 1e-7, found


def test_gradients_in_boxes_and_units_are_plumeds(tmp_path):
    text = "UNITS LENGTH=A ENERGY=kcal/mol\nd: DISTANCE ATOMS=5,8\nc: CENTER ATOMS=1-3\n"
    text += f"e: DISTANCE ATOMS=c,7\nm: METAD ARG=d,e {GEOM.replace('0.05', '0.5')}"
    for i, box in enumerate(BOXES.values()):
        found = deviation(text, box, tmp_path / str(i))
        assert max(found.values, found.energy, found.forces) < 1e-6, found


def grid_file(path, axes, label, column="target", values=None):
    """A free energy on a grid as PLUMED has it in files."""
    places = np.stack(np.meshgrid(*axes.values(), indexing="ij"), axis=-1)
    if values is None:
        values = 3 * np.cos(places).sum(axis=-1)
    lines = [f"#! FIELDS {' '.join(axes)} {label}.{column} " + " ".join(f"der_{n}" for n in axes)]
    for name, nodes in axes.items():
        periodic = name in "tu"
        top = "pi" if periodic else f"{nodes[-1]:g}"
        lines += [f"#! SET min_{name} {'-pi' if periodic else f'{nodes[0]:g}'}"]
        lines += [f"#! SET max_{name} {top}", f"#! SET nbins_{name} {len(nodes)}"]
        lines += [f"#! SET periodic_{name} {str(periodic).lower()}"]
    for place, value in zip(places.reshape(-1, len(axes)), values.ravel(), strict=True):
        lines.append(" ".join(f"{x:.9f}" for x in (*place, value, *(0.0 for _ in axes))))
    path.write_text("\n".join([*lines, ""]))


CIRCLE = np.linspace(-np.pi, np.pi, 60, endpoint=False)
TARGETS = {
    "1-D": (f"{HILL_T} {GRID_T}", {"t": CIRCLE}),
    "2-D, well-tempered, no grid of the bias": (
        "ARG=t,d SIGMA=0.3,0.1 HEIGHT=1 PACE=5 BIASFACTOR=7",
        {"t": CIRCLE, "d": np.linspace(0, 3, 16)},
    ),
    "DIFF": (f"ARG=t {DIFF} PACE=10 TEMP=320", {"t": CIRCLE}),
}


@pytest.mark.parametrize(("metad", "axes"), TARGETS.values(), ids=TARGETS.keys())
def test_targets_are_plumeds(metad, axes, tmp_path):
    grid_file(tmp_path / "aim", axes, "m")
    for backend in ("native", "kernel"):
        (tmp_path / backend).mkdir()
        (tmp_path / backend / "aim").write_text((tmp_path / "aim").read_text())
    text = f"{VALUES}m: METAD {metad} TARGET=aim\nPRINT ARG=t,d,m.* FILE=COLVAR FMT=%16.10f\n"
    run_both(text, tmp_path)
    assert_same_file(tmp_path, "COLVAR", 1e-9)
    assert_same_file(tmp_path, "HILLS", 1e-9)
    heights = read_fields(tmp_path / "native" / "HILLS").columns["height"]
    assert heights.max() > 3 * heights.min()


def drive(text, folder, frames, backend, first_step):
    settings = DriverSettings(
        timestep=0.002,
        trajectory_stride=5,
        initial_step=first_step,
        kt=2.5,
        backend=backend,
        directory=folder / backend,
        masses=np.ones(8),
        forces=f"forces.{first_step}",
    )
    run_driver(text, iter([Frame(frame) for frame in frames]), settings)


def test_passes_over_any_grid_are_plumeds(tmp_path):
    """Also from the left to the right of a circle, where PLUMED leaves out the right end."""
    rng = np.random.default_rng(5)
    circle, line = np.linspace(-np.pi, np.pi, 12, endpoint=False), np.linspace(0, 3, 9)
    text = f"RESTART\n{VALUES}"
    for i in range(24):
        axes = ({"t": circle}, {"d": line}, {"t": circle, "d": line})[i % 3]
        # from x[1] on: PLUMED reads beyond the beginning of its grid on the way down to node 0
        wells = [[rng.uniform(x[1], x[-1]) for x in axes.values()] for _ in range(2 + i % 2)]
        values = rng.uniform(0.1, 1, size=[len(x) for x in axes.values()])
        if i > 18:
            values[values < 0.3] = 0.0
        for backend in ("native", "kernel"):
            (tmp_path / backend).mkdir(exist_ok=True)
            grid_file(tmp_path / backend / f"grid{i}", axes, f"m{i}", "bias", values)
        limits = [("-pi", "pi", "12") if name == "t" else ("0", "3", "8") for name in axes]
        options = zip(("GRID_MIN", "GRID_MAX", "GRID_BIN"), zip(*limits, strict=True), strict=True)
        sigma = ",".join("0.5" for _ in axes)
        text += f"m{i}: METAD ARG={','.join(axes)} SIGMA={sigma} HEIGHT=0 PACE=5 "
        text += " ".join(f"{key}={','.join(words)}" for key, words in options)
        text += f" GRID_RFILE=grid{i} FILE=H{i} CALC_TRANSITION_BIAS"
        for k, well in enumerate(wells):
            text += f" TRANSITIONWELL{k}={','.join(f'{x:.6f}' for x in well)}"
        text += "\n"
    text += "PRINT ARG=(m.*transbias) FILE=COLVAR\n"
    frames = random_frames(None, np.random.default_rng(6), 2)
    for backend in ("native", "kernel"):
        drive(text, tmp_path, frames, backend, 0)
    assert_same_file(tmp_path, "COLVAR", 2e-6)
    assert read_fields(tmp_path / "native" / "COLVAR").columns["m3.transbias"][0] > 0


def test_a_list_without_near_hills_is_plumeds(tmp_path):
    rng = np.random.default_rng(13)
    frames = random_frames(None, rng, 2).repeat((15, 50), axis=0)
    frames += np.cumsum(rng.normal(scale=0.002, size=frames.shape), axis=0)
    text = f"{VALUES}m: METAD {HILL_TU} NLIST UPDATE_UNTIL=0.1\nPRINT ARG=m.* FILE=COLVAR\n"
    for backend in ("native", "kernel"):
        (tmp_path / backend).mkdir()
        drive(text, tmp_path, frames, backend, 0)
    assert_same_file(tmp_path, "COLVAR", 2e-6)
    counts = read_fields(tmp_path / "native" / "COLVAR").columns
    assert len(set(counts["m.nlsteps"][counts["m.nlker"] == 0])) > 4


RESTARTS = {
    "DIFF": f"ARG=t,d {DIFF} PACE=20 BIASFACTOR=8",
    "GEOM on a grid": f"ARG=t,u {GEOM} SIGMA_MIN=0.3,0.2 SIGMA_MAX=0.7,0.9 {GRID_TU}",
    "NLIST": f"{HILL_TU} NLIST",
    "ACCELERATION": f"{HILL_T} {GRID_T} ACCELERATION",
    "FREQUENCY_ADAPTIVE": "ARG=t SIGMA=1 HEIGHT=0.4 PACE=5 ACCELERATION FREQUENCY_ADAPTIVE "
    "FA_MIN_ACCELERATION=0.3 FA_UPDATE_FREQUENCY=60",
    "TTBIASFACTOR": f"{HILL_T} {GRID_T} TTBIASFACTOR=1.6 {TWO_WELLS}",
    "UPDATE_FROM": f"{HILL_T} {GRID_T} UPDATE_FROM=0.1",
}


@pytest.mark.parametrize("metad", RESTARTS.values(), ids=RESTARTS.keys())
def test_a_restart_goes_on_as_plumed_does(metad, tmp_path):
    text = f"{VALUES}m: METAD {metad}\nPRINT ARG=t,u,d,m.* FILE=COLVAR FMT=%16.10f\n"
    frames = random_frames(None, np.random.default_rng(6), 60)
    for backend in ("native", "kernel"):
        (tmp_path / backend).mkdir()
        drive(text, tmp_path, frames[:40], backend, 0)
        again = f"RESTART\n{text}"
        if "ACCELERATION" in metad:
            (tmp_path / backend / "COLVAR").rename(tmp_path / backend / "before")
            again = again.replace("ACCELERATION", "ACCELERATION ACCELERATION_RFILE=before", 1)
        drive(again, tmp_path, frames[38:], backend, 190)
    for name, digits in (
        ("COLVAR", 1e-8),
        ("HILLS", 1e-9),
        ("forces.0", 2e-6),
        ("forces.190", 2e-6),
    ):
        assert_same_file(tmp_path, name, digits)
    colvar = read_fields(tmp_path / "native" / "COLVAR")
    assert len(colvar) >= 22
    assert "m.pace" not in colvar.columns or colvar.columns["m.pace"][-1] > 5


REFUSED = {
    "ARG=t,u SIGMA=0.3": "1 numbers for 2 arguments",
    "ARG=t SIGMA=0.3 SIGMA_MIN=0.1": "SIGMA_MIN: needs ADAPTIVE",
    "ARG=t SIGMA=2.5 ADAPTIVE=DIFF": "number of steps",
    "ARG=t,u SIGMA=2,2 ADAPTIVE=DIFF": "one number",
    "ARG=t SIGMA=2 ADAPTIVE=YES": "DIFF or GEOM",
    f"ARG=t SIGMA=2 ADAPTIVE=DIFF {GRID_T}": "SIGMA_MIN",
    "ARG=d SIGMA=2 ADAPTIVE=DIFF INTERVAL=0.2,0.4": "INTERVAL",
    "ARG=t SIGMA=0.3 ACCELERATION_RFILE=COLVAR": "needs ACCELERATION",
    "ARG=t SIGMA=0.3 FREQUENCY_ADAPTIVE": "needs ACCELERATION",
    "ARG=t SIGMA=0.3 ACCELERATION FA_MAX_PACE=9": "needs FREQUENCY_ADAPTIVE",
    "ARG=t SIGMA=0.3 ACCELERATION FREQUENCY_ADAPTIVE FA_MAX_PACE=-9": "must be positive",
    f"ARG=t SIGMA=0.3 {GRID_T} NLIST": "NLIST",
    "ARG=t SIGMA=0.3 NLIST NLIST_PARAMETERS=2,3": "at most",
    "ARG=t SIGMA=0.3 NLIST CALC_WORK": "NLIST",
    "ARG=t SIGMA=0.3 CALC_TRANSITION_BIAS TRANSITIONWELL0=1": "needs a grid",
    f"ARG=t SIGMA=0.3 {GRID_T} CALC_TRANSITION_BIAS": "TRANSITIONWELL0",
    f"ARG=t SIGMA=0.3 {GRID_T} CALC_TRANSITION_BIAS TRANSITIONWELL0=4": "off the grid",
    f"ARG=t SIGMA=0.3 {GRID_T} TRANSITIONWELL0=4": "needs TTBIASFACTOR",
    f"ARG=t SIGMA=0.3 {GRID_T} TTALPHA=0.5": "needs TTBIASFACTOR",
    f"ARG=t SIGMA=0.3 {GRID_T} TTBIASFACTOR=0.5 TRANSITIONWELL0=1": "would grow",
    f"ARG=t SIGMA=0.3 {GRID_T} TTBIASFACTOR=2 TTALPHA=2 TRANSITIONWELL0=1": "TTALPHA",
    f"ARG=t SIGMA=0.3 {GRID_T} TARGET=nowhere": "nowhere",
}


@pytest.mark.parametrize("metad", REFUSED)
def test_what_makes_no_sense_is_refused_with_the_word(metad):
    text = f"{VALUES}m: METAD {metad} HEIGHT=1 PACE=5\n"
    with pytest.raises(PlumedInputError, match=re.escape(REFUSED[metad])):
        PlumedBias(text, backend="native", temperature=300.0)


def run(text, backend, folder, n_steps):
    """Alanine dipeptide under an input; its COLVAR."""
    bias, simulation = biased_alanine(text, folder / backend, backend)
    simulation.step(n_steps)
    bias.close()
    return read_fields(folder / backend / "COLVAR").columns


PHI_PSI = "phi: TORSION ATOMS=5,7,9,15\npsi: TORSION ATOMS=7,9,15,17\n"


@pytest.mark.parametrize("grid", [GRID_T, ""], ids=["grid", "no grid"])
def test_the_acceleration_of_a_run_is_the_mean_over_all_its_steps(grid, tmp_path):
    """PLUMED is called twice at a step where the kernel backend prints, and counts it twice."""
    text = f"{PHI_PSI}m: METAD ARG=phi SIGMA=0.3 HEIGHT=1 PACE=20 {grid} ACCELERATION\n"
    text += "c: CUSTOM ARG=m.acc FUNC=2*x PERIODIC=NO\n"
    every = run(f"{text}PRINT ARG=m.*,c FILE=COLVAR FMT=%.12g\n", "native", tmp_path / "every", 200)
    tenth = f"{text}PRINT ARG=m.*,c FILE=COLVAR FMT=%.12g STRIDE=10\n"
    rare = run(tenth, "native", tmp_path / "rare", 200)
    boosts = np.exp(every["m.bias"][1:] / (GAS_CONSTANT * 300))
    expected = np.cumsum(boosts) / np.arange(1, 201)
    np.testing.assert_allclose(every["m.acc"][1:], expected, rtol=1e-9)
    assert every["m.acc"][0] == 1
    np.testing.assert_allclose(rare["m.acc"], every["m.acc"][::10], rtol=1e-9)
    np.testing.assert_allclose(rare["c"], 2 * rare["m.acc"], rtol=1e-9)
    assert expected[-1] > 1.5


def test_a_run_with_a_list_is_plumeds(tmp_path):
    text = f"{PHI_PSI}m: METAD ARG=phi,psi SIGMA=0.05,0.05 HEIGHT=1 PACE=10 BIASFACTOR=5 NLIST\n"
    text += "PRINT ARG=phi,psi,m.{what} FILE=COLVAR STRIDE=5\n"
    ours, plumeds = (
        run(text.format(what=what), backend, tmp_path, 600)
        for backend, what in (("native", "*"), ("kernel", "bias"))
    )
    for name, column in plumeds.items():
        np.testing.assert_allclose(ours[name], column, atol=2e-5)
    assert 0 < ours["m.nlker"][-1] < 59
    assert 1 < ours["m.nlsteps"].max() <= 10


def test_hills_of_the_other_kind_are_refused(tmp_path):
    (tmp_path / "HILLS").write_text(
        "#! FIELDS time t sigma_t_t height biasf\n#! SET multivariate false\n"
    )
    text = f"{VALUES}m: METAD ARG=t {DIFF} PACE=10\n"
    bias = PlumedBias(text, directory=tmp_path, restart=True)
    with pytest.raises(ValueError, match="has ADAPTIVE"):
        bias._engine.start(0.002)


def test_a_hill_without_width_stops_the_run(tmp_path):
    text = f"{VALUES}m: METAD ARG=t,d ADAPTIVE=DIFF SIGMA=5 HEIGHT=1 PACE=5\n"
    frames = np.repeat(random_frames(None, np.random.default_rng(2), 1), 3, axis=0)
    with pytest.raises(RuntimeError, match="METAD m: the hill has no width"):
        drive(text, tmp_path / "x", frames, "native", 0)


def test_columns_of_a_file_hold_a_covariance():
    rng = np.random.default_rng(1)
    for n in (1, 2, 4):
        root = rng.normal(size=(n, n))
        inverse = root @ root.T + np.eye(n)
        np.testing.assert_allclose(from_columns(to_columns(inverse), n), inverse, rtol=1e-10)


def test_the_highest_pass_is_that_of_all_levels():
    """Against the highest level at which the two nodes are still joined."""
    rng = np.random.default_rng(3)
    axes = [Axis(Value("t", domain=(0.0, 1.0)), 0.0, 1.0, 6), Axis(Value("d"), 0.0, 1.0, 5)]
    for _ in range(20):
        grid = HillGrid(axes)
        grid.nodes[0] = rng.uniform(0.1, 1, size=(6, 6))
        source, sink = (tuple(rng.integers(0, 6, 2).tolist()) for _ in range(2))
        levels = [v for v in grid.nodes[0].ravel() if joined(grid.nodes[0] >= v, source, sink)]
        assert highest_pass(grid, source, sink) == max(levels)


def joined(allowed, source, sink):
    """Whether a way leads from node to node; the first axis goes round."""
    reached = np.zeros_like(allowed)
    reached[source] = allowed[source]
    for _ in range(allowed.size):
        wider = reached | np.roll(reached, 1, 0) | np.roll(reached, -1, 0)
        wider[:, 1:] |= reached[:, :-1]
        wider[:, :-1] |= reached[:, 1:]
        reached = wider & allowed
    return reached[sink]
