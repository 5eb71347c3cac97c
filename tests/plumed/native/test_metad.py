"""METAD on the native backend against real PLUMED: keyword by keyword, and file by file."""

import re

import numpy as np
import openmm
import pytest

from benchmarks.eight_atoms import deviation, made, make_system, random_frames
from openmm_cgan.plumed.actions import read_actions
from openmm_cgan.plumed.actions.metad import metad
from openmm_cgan.plumed.bias import PlumedBias
from openmm_cgan.plumed.files.fields import read_fields
from openmm_cgan.plumed.input.language import PlumedInputError, read_statements
from tests.cases.biased_runs import biased_alanine, phase_point
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
HILL_T = "ARG=t SIGMA=0.35 PACE=5"
HILL_TU = "ARG=t,u SIGMA=0.35,0.3 PACE=5"
HILL_D = "ARG=d SIGMA=0.07 PACE=5 HEIGHT=1.2"
NO_GRID = {
    "without grid": f"{HILL_TU} HEIGHT=1.2 BIASFACTOR=6 CALC_WORK",
    "without grid, of a torsion and a distance": "ARG=t,d SIGMA=0.35,0.1 HEIGHT=1.2 PACE=5",
    "without grid, INTERVAL": f"{HILL_D} INTERVAL=0.2,0.4",
    "without grid, of functions": "ARG=c,x SIGMA=0.5,0.2 HEIGHT=1 PACE=5",
    "without grid, 4-D": "ARG=t,u,d,a SIGMA=0.35,0.3,0.2,0.3 HEIGHT=1 PACE=5 BIASFACTOR=4",
}

METADS = {
    "c(t)": f"{HILL_TU} HEIGHT=1.2 BIASFACTOR=6 {GRID_TU} CALC_RCT",
    "c(t) every third hill": f"{HILL_TU} HEIGHT=1 BIASFACTOR=6 {GRID_TU} CALC_RCT RCT_USTRIDE=3",
    "c(t), largest bias and work of plain metadynamics": f"{HILL_T} HEIGHT=1.2 {GRID_T} "
    "CALC_RCT CALC_MAX_BIAS CALC_WORK TEMP=310",
    "BIASFACTOR=1": f"{HILL_T} HEIGHT=1.2 BIASFACTOR=1 {GRID_T} CALC_RCT CALC_WORK",
    "TAU with BIASFACTOR=1": f"{HILL_T} TAU=1.2 BIASFACTOR=1 {GRID_T}",
    "DAMPFACTOR": f"{HILL_T} HEIGHT=1.2 DAMPFACTOR=3 {GRID_T}",
    "TAU with DAMPFACTOR": f"{HILL_T} TAU=1.2 DAMPFACTOR=3 {GRID_T}",
    "TAU, BIASFACTOR and DAMPFACTOR": f"{HILL_T} TAU=2 DAMPFACTOR=3 BIASFACTOR=5 {GRID_T}",
    "INTERVAL": f"{HILL_D} INTERVAL=0.2,0.4 {GRID_D} FMT=%14.9f",
    "hills that go more than once round": f"ARG=t,u SIGMA=1.3,0.9 HEIGHT=1 PACE=5 {GRID_TU}",
    "GRID_SPARSE": f"{HILL_T} HEIGHT=1.2 {GRID_T} GRID_SPARSE",
    "GRID_NOSPLINE": "ARG=t,d SIGMA=0.35,0.2 HEIGHT=1.2 PACE=5 BIASFACTOR=6 GRID_MIN=-pi,0 "
    "GRID_MAX=pi,3 GRID_BIN=60,50 GRID_NOSPLINE",
    "GRID_WFILE": f"{HILL_T} HEIGHT=1.2 {GRID_T} GRID_WFILE=GRID GRID_WSTRIDE=50",
    "STORE_GRIDS": "ARG=t,d SIGMA=0.35,0.1 HEIGHT=1.2 PACE=5 GRID_MIN=-pi,0 GRID_MAX=pi,2 "
    "GRID_BIN=20,15 GRID_WFILE=GRID GRID_WSTRIDE=50 STORE_GRIDS",
    "3-D": f"ARG=t,d,u SIGMA=0.35,0.2,0.4 HEIGHT=1.2 PACE=5 BIASFACTOR=6 {GRID_TDU} "
    "GRID_WFILE=GRID GRID_WSTRIDE=150",
    **NO_GRID,
}


@pytest.mark.parametrize("metad", METADS.values(), ids=METADS.keys())
def test_files_of_each_keyword_are_plumeds(metad, tmp_path):
    text = f"{VALUES}m: METAD {metad}\nPRINT ARG=t,u,d,m.* STRIDE=5 FILE=COLVAR FMT=%16.10f\n"
    run_both(text, tmp_path)
    assert_same_file(tmp_path, "COLVAR", 2e-10)  # one unit of the last digit printed
    assert_same_file(tmp_path, "HILLS")
    if "GRID_WFILE" in metad:
        names = ["GRID"] if "STORE" in metad else ["GRID", "bck.last.GRID"]
        for name in names:
            assert_same_file(tmp_path, name, 2e-9)


FORCES = {name: METADS[name] for name in ("BIASFACTOR=1", "INTERVAL", "3-D", "GRID_NOSPLINE")}
FORCES |= NO_GRID
FORCES["hills that go more than once round"] = METADS["hills that go more than once round"]


@pytest.mark.parametrize("metad", FORCES.values(), ids=FORCES.keys())
def test_energies_and_forces_are_plumeds(metad, tmp_path):
    found = deviation(f"{VALUES}m: METAD {metad}", None, tmp_path)
    assert max(found.values, found.energy, found.forces) < 1e-7, found


def test_a_value_is_on_the_grid_up_to_one_step_beyond_its_end_as_in_plumed(tmp_path):
    text = "d: DISTANCE ATOMS=1,2\nm: METAD ARG=d SIGMA=0.05 HEIGHT=1 PACE=1 GRID_MIN=0 "
    text += "GRID_MAX=0.5 GRID_BIN=10\nPRINT ARG=d,m.bias FILE=COLVAR FMT=%15.10f\n"
    frames = np.zeros((6, 8, 3))
    frames[:, 1, 0] = (0.47, 0.5, 0.51, 0.53, 0.549, 0.2)
    for backend in ("native", "kernel"):
        bias, _ = made(text, backend, None, tmp_path, frames)
        bias.close()
    assert_same_file(tmp_path, "COLVAR")
    outside = frames[:1].copy()
    outside[:, 1, 0] = 0.56
    with pytest.raises(RuntimeError, match="widen GRID_MIN and GRID_MAX"):
        made(text, "native", None, tmp_path, outside)


def test_hills_wider_than_a_grid_with_ends(tmp_path):
    """PLUMED itself would walk over all the nodes that it does not have."""
    text = f"{VALUES}m: METAD ARG=d SIGMA=1e9 HEIGHT=1.2 PACE=5 {GRID_D}\n"
    frames = random_frames(None, np.random.default_rng(4), 3)
    bias, _ = made(text, "native", None, tmp_path, frames)
    bias.close()
    np.testing.assert_allclose(bias.bias_of_cvs([[0.1], [2.9]]), [2.4, 2.4])


def continued(backend, folder, text, frames, first_step, restart):
    """A run over given frames, every fifth step."""
    bias = PlumedBias(
        text, temperature=300.0, backend=backend, directory=folder / backend, restart=restart
    )
    system = make_system(None)
    bias.add_to(system)
    engine = bias._engine
    platform = openmm.Platform.getPlatformByName("Reference")
    context = openmm.Context(system, openmm.VerletIntegrator(0.001), platform)
    engine.start(0.002)
    engine.upload(context)
    seen = []
    for i, frame in enumerate(frames):
        engine.update(frame, None, first_step + 5 * i)
        engine.upload(context)
        context.setPositions(frame)
        state = context.getState(energy=True, groups=bias.force_groups())
        seen.append(state.getPotentialEnergy()._value)
    bias.close()
    return np.array(seen)


@pytest.mark.parametrize(
    "extra",
    [
        f"{HILL_TU} HEIGHT=1 BIASFACTOR=6 {GRID_TU} CALC_RCT",
        f"{HILL_TU} HEIGHT=1 BIASFACTOR=6 {GRID_TU} GRID_WFILE=GRID GRID_WSTRIDE=50",
    ],
    ids=["from HILLS", "from GRID_RFILE"],
)
def test_a_restart_goes_on_as_plumed_does(extra, tmp_path):
    text = f"{VALUES}m: METAD {extra}\nPRINT ARG=m.* STRIDE=5 FILE=COLVAR FMT=%16.10f\n"
    frames = random_frames(None, np.random.default_rng(6), 31)
    energies = []
    for backend in ("native", "kernel"):
        continued(backend, tmp_path, text, frames[:21], 0, restart=False)
        again = text
        if "GRID_WFILE" in extra:
            (tmp_path / backend / "GRID").rename(tmp_path / backend / "GRID.before")
            again = text.replace("GRID_WFILE", "GRID_RFILE=GRID.before GRID_WFILE")
        energies.append(continued(backend, tmp_path, again, frames[20:], 100, restart=True))
    np.testing.assert_allclose(energies[0], energies[1], rtol=1e-7, atol=1e-7)
    assert energies[0].max() > 1
    for name in ("HILLS", "COLVAR"):
        ours, plumeds = (read_fields(tmp_path / b / name) for b in ("native", "kernel"))
        for column, values in plumeds.columns.items():
            # the first step of a run is not printed again natively
            mine = ours.columns[column]
            values = np.delete(values, 21) if name == "COLVAR" else values
            if name == "COLVAR":
                mine = np.delete(mine, 21)
            np.testing.assert_allclose(mine, values, rtol=1e-7, atol=1e-7)


def test_restart_of_one_action_alone(tmp_path):
    frames = random_frames(None, np.random.default_rng(6), 11)
    text = f"{VALUES}m: METAD {HILL_T} HEIGHT=1 {GRID_T}\n"
    continued("native", tmp_path, text, frames, 0, restart=False)
    yes = text.replace("METAD", "METAD RESTART=YES")
    bias = PlumedBias(yes, temperature=300.0, directory=tmp_path / "native")
    bias._engine.start(0.002)
    bias.close()
    assert len(read_fields(tmp_path / "native" / "HILLS")) == 10
    assert bias.bias_of_cvs([[0.5]]) != 0
    no = text.replace("METAD", "METAD RESTART=NO")
    bias = PlumedBias(no, temperature=300.0, directory=tmp_path / "native", restart=True)
    bias._engine.start(0.002)
    bias.close()
    assert bias.bias_of_cvs([[0.5]]) == 0
    assert (tmp_path / "native" / "bck.0.HILLS").exists()


def walker_text(walker):
    return (
        f"{VALUES}m: METAD {HILL_T} HEIGHT=1 BIASFACTOR=6 {GRID_T} WALKERS_N=2 "
        f"WALKERS_ID={walker} WALKERS_DIR=shared WALKERS_RSTRIDE=5\n"
        f"PRINT ARG=m.bias STRIDE=5 FILE=COLVAR.{walker} FMT=%16.10f\n"
    )


def run_walkers(backends, folder):
    """Two walkers in turns, each on a backend, in one folder."""
    (folder / "shared").mkdir(parents=True)
    frames = random_frames(None, np.random.default_rng(8), 42)
    engines = []
    for walker, backend in enumerate(backends):
        bias = PlumedBias(walker_text(walker), temperature=300.0, backend=backend, directory=folder)
        bias.add_to(make_system(None))
        bias._engine.start(0.002)
        engines.append(bias)
    for i in range(21):
        for walker, bias in enumerate(engines):
            bias._engine.update(frames[2 * i + walker], None, 5 * i)
    for bias in engines:
        bias.close()
    return [read_fields(folder / f"COLVAR.{walker}").columns["m.bias"] for walker in (0, 1)]


def test_walkers_share_their_hills_with_each_other_and_with_plumed(tmp_path):
    truth = run_walkers(("kernel", "kernel"), tmp_path / "kernel")
    alone = run_walkers(("native", "native"), tmp_path / "native")
    mixed = run_walkers(("native", "kernel"), tmp_path / "mixed")
    for found in (alone, mixed):
        np.testing.assert_allclose(found, truth, atol=2e-9)
    hills = [read_fields(tmp_path / b / "shared" / "HILLS.1") for b in ("native", "kernel")]
    assert list(hills[0].columns) == list(hills[1].columns)
    np.testing.assert_allclose(hills[0].columns["height"], hills[1].columns["height"], rtol=1e-9)


def test_a_half_written_hill_of_another_walker_is_read_when_it_is_whole(tmp_path):
    (tmp_path / "shared").mkdir()
    run_walkers(("native", "native"), tmp_path / "before")
    whole = (tmp_path / "before" / "shared" / "HILLS.1").read_text()
    path = tmp_path / "shared" / "HILLS.1"
    path.write_text(whole[:-30])
    bias = PlumedBias(walker_text(0), temperature=300.0, directory=tmp_path, backend="native")
    bias._engine.start(0.002)
    [metad] = [run for run in bias._engine._runs if run.action.name == "METAD"]
    reader = metad._readers[1]
    reader.read_on()
    path.write_text(whole)
    assert reader.read() == 1
    bias.close()
    n_hills = len(read_fields(path))
    assert n_hills == 20


def test_files_that_do_not_belong_are_refused(tmp_path):
    text = f"{VALUES}m: METAD {HILL_T} HEIGHT=1 {GRID_T}\n"
    wrong = {
        "#! FIELDS time u sigma_u height biasf\n": "no column",
        "#! FIELDS time t sigma_t height biasf\n#! SET min_t 0\n": "min_t is 0",
        "#! FIELDS time t sigma_t height biasf\n#! SET multivariate true\n": "ADAPTIVE",
        "#! FIELDS time t sigma_t height biasf\n1 2 3\n": "3 values in a row, expected 5",
    }
    for content, message in wrong.items():
        (tmp_path / "HILLS").write_text(content)
        bias = PlumedBias(text, directory=tmp_path, restart=True)
        with pytest.raises(ValueError, match=message):
            bias._engine.start(0.002)
    (tmp_path / "HILLS").unlink()
    with pytest.raises(FileNotFoundError, match="restart"):
        PlumedBias(text, directory=tmp_path, restart=True)._engine.start(0.002)


REFUSED = {
    "ADAPTIVE=GEOM": "SIGMA_MIN",
    "FLYING_GAUSSIAN": "FLYING_GAUSSIAN",
    "WALKERS_MPI": "WALKERS_MPI",
    "GRID_SPARSE CALC_RCT": "GRID_SPARSE",
    "WALKERS_N=2 WALKERS_ID=2": "WALKERS_ID",
    "WALKERS_N=0": "WALKERS_N",
    "INTERVAL=0,1": "INTERVAL",
    "GRID_WFILE=GRID": "GRID_WSTRIDE",
    "BIASFACTOR=0.5": "BIASFACTOR",
    "RESTART=MAYBE": "RESTART",
    "DAMPFACTOR=-1": "DAMPFACTOR",
    "TAU=3": "HEIGHT",
}


@pytest.mark.parametrize("extra", REFUSED)
def test_what_is_not_covered_is_refused_with_the_word(extra):
    text = f"{VALUES}m: METAD {HILL_T} HEIGHT=1 {GRID_T} {extra}\n"
    with pytest.raises(PlumedInputError, match=re.escape(REFUSED[extra])):
        PlumedBias(text, backend="native")


RUNS = {
    "2-D": "ARG=phi,psi SIGMA=0.3,0.3 BIASFACTOR=10 GRID_MIN=-pi,-pi GRID_MAX=pi,pi "
    "GRID_BIN=90,90 CALC_RCT",
    "3-D": "ARG=phi,psi,d SIGMA=0.3,0.3,0.02 GRID_MIN=-pi,-pi,0 GRID_MAX=pi,pi,1 GRID_BIN=40,40,50",
    "1-D with INTERVAL": "ARG=d SIGMA=0.02 INTERVAL=0.3,0.7 GRID_MIN=0 GRID_MAX=2 GRID_BIN=400",
    "ADAPTIVE=DIFF": "ARG=phi,psi ADAPTIVE=DIFF SIGMA=40 SIGMA_MIN=0.1,0.1 SIGMA_MAX=0.5,0.5 "
    "UPDATE_FROM=0.1",
    "ADAPTIVE=GEOM": "ARG=phi,psi,d ADAPTIVE=GEOM SIGMA=0.03",
}


@pytest.mark.parametrize("metad", RUNS.values(), ids=RUNS.keys())
def test_runs_of_a_thousand_steps_are_plumeds(metad, tmp_path):
    text = (
        "phi: TORSION ATOMS=5,7,9,15\npsi: TORSION ATOMS=7,9,15,17\nd: DISTANCE ATOMS=2,17\n"
        f"m: METAD PACE=50 HEIGHT=1.2 {metad}\nPRINT ARG=phi,psi,d,m.* STRIDE=10 FILE=COLVAR\n"
    )
    ends = []
    for backend in ("native", "kernel"):
        bias, simulation = biased_alanine(text, tmp_path / backend, backend)
        simulation.step(1000)
        bias.close()
        ends.append(phase_point(simulation)[0])
    np.testing.assert_allclose(ends[0], ends[1], atol=1e-5)
    for name in ("COLVAR", "HILLS"):
        assert_same_file(tmp_path, name, 2e-5)


def test_many_hills_without_a_grid_are_told_once(caplog, monkeypatch):
    monkeypatch.setattr(metad, "MANY_HILLS", 3)
    text = "t: TORSION ATOMS=1,2,3,4\nu: TORSION ATOMS=2,3,4,5\n{}\n"
    free, gridded, listed = (
        f"m: METAD ARG=t,u SIGMA=0.3,0.3 HEIGHT=1 PACE=5 {extra}"
        for extra in ("", "GRID_MIN=-pi,-pi GRID_MAX=pi,pi", "NLIST")
    )
    for line, told in ((free, 1), (gridded, 0), (listed, 0)):
        caplog.clear()
        *_, action = read_actions(read_statements(text.format(line), "<input>"))
        action.start(2.5, 0.002)
        for i in range(6):
            action.deposit([0.1 * i, 0.2], 0.0)
        assert caplog.text.count("METAD m has") == caplog.text.count("GRID_MIN") == told


@pytest.mark.parametrize(
    "second", ["METAD ARG=psi SIGMA=0.3 HEIGHT=1 PACE=5", "PRINT ARG=psi FILE=HILLS"]
)
def test_two_actions_with_one_file_are_refused(second, tmp_path):
    """Their rows would be mixed, as PLUMED mixes them, or be in files of other names."""
    text = (
        "phi: TORSION ATOMS=5,7,9,15\npsi: TORSION ATOMS=7,9,15,17\n"
        f"one: METAD ARG=phi SIGMA=0.3 HEIGHT=1 PACE=5\ntwo: {second}\n"
    )
    with pytest.raises(ValueError, match="HILLS: one and two both write to it"):
        biased_alanine(text, tmp_path)[1].step(1)
