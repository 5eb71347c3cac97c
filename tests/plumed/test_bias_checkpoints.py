"""Checkpoints with the bias in them: a run in two processes is bitwise the run in one."""

import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from openmm_cgan.checkpoints import SavedRun, SavedState, read_run, write_run
from openmm_cgan.plumed.bias import PlumedBias
from openmm_cgan.plumed.bias_reporters import BiasCheckpointReporter
from openmm_cgan.plumed.files.fields import read_fields
from openmm_cgan.testsystems import alanine_dipeptide
from tests.cases import ROOT
from tests.cases.biased_runs import biased_alanine, phase_point

PHI_PSI = "phi: TORSION ATOMS=5,7,9,15\npsi: TORSION ATOMS=7,9,15,17\n"
GRID = "GRID_MIN=-pi,-pi GRID_MAX=pi,pi GRID_BIN=50,50"
PRINT = "PRINT ARG=phi,psi,{b}.* STRIDE=10 FILE=COLVAR\n"
INPUTS = {
    "METAD": f"b: METAD ARG=phi,psi SIGMA=0.3,0.3 HEIGHT=1.2 PACE=20 BIASFACTOR=10 {GRID}\n",
    "METAD without a grid": "b: METAD ARG=phi,psi SIGMA=0.3,0.3 HEIGHT=1.2 PACE=20 CALC_WORK\n",
    "METAD with sums": f"b: METAD ARG=phi,psi SIGMA=0.3,0.3 HEIGHT=1.2 PACE=20 BIASFACTOR=9 {GRID} "
    "CALC_RCT RCT_USTRIDE=3 CALC_MAX_BIAS GRID_WFILE=GRID GRID_WSTRIDE=500 STORE_GRIDS\n",
    "adaptive METAD": "b: METAD ARG=phi,psi ADAPTIVE=DIFF SIGMA=50 HEIGHT=1.2 PACE=50 ACCELERATION "
    "UPDATE_FROM=0.2\n",
    "METAD along gradients": "b: METAD ARG=phi,psi ADAPTIVE=GEOM SIGMA=0.03 HEIGHT=1.2 PACE=20 "
    f"SIGMA_MIN=0.1,0.1 TTBIASFACTOR=3 TRANSITIONWELL0=-1.4,1.2 TRANSITIONWELL1=1,-1 {GRID}\n",
    "METAD with a list": "b: METAD ARG=phi,psi SIGMA=0.1,0.1 HEIGHT=1.2 PACE=20 NLIST ACCELERATION "
    "FREQUENCY_ADAPTIVE\n",
    "OPES": "b: OPES_METAD ARG=phi,psi SIGMA=0.3,0.3 PACE=20 BARRIER=40 CALC_WORK "
    "STATE_WFILE=STATE STATE_WSTRIDE=100 STORE_STATES\n",
    "OPES with a list": "b: OPES_METAD ARG=phi,psi SIGMA=0.1,0.1 PACE=10 BARRIER=40 "
    "NLIST_PARAMETERS=1.1,0.1\nPRINT ARG=phi,psi STRIDE=7 _ROTATE=3 FILE=TURNS\n",
    "adaptive OPES": "b: OPES_METAD_EXPLORE ARG=phi,psi PACE=20 BARRIER=40 "
    "ADAPTIVE_SIGMA_STRIDE=100\n",
    "MOVINGRESTRAINT": "b: MOVINGRESTRAINT ARG=phi,psi STEP0=0 AT0=-1.4,1.2 KAPPA0=50,50 "
    "STEP1=1500 AT1=-1,0.8\n"
    "COMMITTOR ARG=phi BASIN_LL1=-1.5 BASIN_UL1=-1.3 STRIDE=5 FILE=COMMIT NOSTOP\n",
}
FILES = ("COLVAR", "HILLS", "KERNELS", "STATE", "COMMIT", "GRID", "TURNS")


SECOND = """
import sys
import numpy as np
sys.path.insert(0, {root!r})
from tests.cases import biased_runs as t
bias, simulation = t.biased_alanine(open({text!r}).read(), {folder!r}, checkpoint={checkpoint!r})
simulation.step({steps})
bias.close()
np.save({out!r}, t.phase_point(simulation))
"""


@pytest.mark.parametrize("at", [1000, 1007])  # where rows and hills are due, and where not
@pytest.mark.parametrize("kind", INPUTS)
def test_a_run_in_two_processes_is_bitwise_the_run_in_one(kind, at, tmp_path):
    text = PHI_PSI + INPUTS[kind] + PRINT.format(b="b")
    (tmp_path / "input.dat").write_text(text)
    bias, simulation = biased_alanine(text, tmp_path / "one")
    simulation.step(2000)
    bias.close()
    expected = phase_point(simulation)

    bias, simulation = biased_alanine(text, tmp_path / "two")
    simulation.step(at)
    bias.save_checkpoint(tmp_path / "run.chk")
    simulation.step(333)  # lost, with its rows
    bias.close()
    names = {
        "root": str(ROOT),
        "text": str(tmp_path / "input.dat"),
        "folder": str(tmp_path / "two"),
        "checkpoint": str(tmp_path / "run.chk"),
        "steps": 2000 - at,
        "out": str(tmp_path / "positions.npy"),
    }
    subprocess.run([sys.executable, "-c", SECOND.format(**names)], check=True)
    np.testing.assert_array_equal(np.load(tmp_path / "positions.npy"), expected)
    files = [file for file in FILES if (tmp_path / "one" / file).exists()]
    assert {"COLVAR"} < set(files)
    for file in files:
        ours, whole = ((tmp_path / f / file).read_bytes() for f in ("two", "one"))
        assert ours == whole, file
    assert not list((tmp_path / "two").glob("bck.*"))


def test_hills_of_other_walkers_are_read_on_from_where_they_were(tmp_path):
    metad = INPUTS["METAD"].replace("\n", " WALKERS_N=2 WALKERS_ID=0 WALKERS_RSTRIDE=50\n")
    text = PHI_PSI + metad + PRINT.format(b="b")

    def lay(folder, rows):
        """Hills of walker 1, with the header before the first."""
        path = tmp_path / folder / "HILLS.1"
        path.parent.mkdir(exist_ok=True)
        header = "#! FIELDS time phi psi sigma_phi sigma_psi height biasf clock\n"
        new = "" if path.exists() else header
        for row in rows:
            new += f"{row} {-1.4 + 0.02 * row} 1.2 0.3 0.3 1.1 10 0\n"
        with path.open("a") as file:
            file.write(new)

    def run(folder, cut):
        lay(folder, range(3))
        bias, simulation = biased_alanine(text, tmp_path / folder)
        simulation.step(200)
        if cut:
            bias.save_checkpoint(tmp_path / "run.chk")
            bias.close()
        lay(folder, range(3, 8))
        if cut:
            bias, simulation = biased_alanine(
                text, tmp_path / folder, checkpoint=tmp_path / "run.chk"
            )
        simulation.step(300)
        bias.close()
        return phase_point(simulation)

    np.testing.assert_array_equal(run("cut", True), run("whole", False))
    colvars = [(tmp_path / f / "COLVAR").read_bytes() for f in ("cut", "whole")]
    assert colvars[0] == colvars[1]


def test_the_reporter_saves_again_and_again_and_whole(tmp_path):
    text = PHI_PSI + INPUTS["METAD"]
    bias, simulation = biased_alanine(text, tmp_path)
    simulation.reporters.append(BiasCheckpointReporter(tmp_path / "run.chk", 50, bias))
    simulation.step(120)
    assert read_run(tmp_path / "run.chk").step == 100
    assert [p.name for p in tmp_path.iterdir() if "chk" in p.name] == ["run.chk"]
    bias.close()
    again, resumed = biased_alanine(text, tmp_path, checkpoint=tmp_path / "run.chk")
    assert resumed.currentStep == 100
    assert len(read_fields(tmp_path / "HILLS")) == 5
    again.close()


class EarlyReporter(BiasCheckpointReporter):
    """Reports in the order of the list, with those that ask for positions."""

    def describeNextReport(self, simulation):
        asked = {"periodic": False, "include": ["positions"]}
        return super().describeNextReport(simulation) | asked


def test_a_row_that_was_due_and_not_written_is_written_after(tmp_path):
    """The reporter that saves stands before the one of the bias."""
    text = PHI_PSI + INPUTS["METAD"] + PRINT.format(b="b")
    bias, simulation = biased_alanine(text, tmp_path)
    simulation.reporters.insert(0, EarlyReporter(tmp_path / "run.chk", 100, bias))
    simulation.step(100)
    bias.close()
    assert len(read_fields(tmp_path / "HILLS")) == 5
    again, resumed = biased_alanine(text, tmp_path, checkpoint=tmp_path / "run.chk")
    assert len(read_fields(tmp_path / "HILLS")) == 4
    resumed.step(20)
    again.close()
    assert len(read_fields(tmp_path / "HILLS")) == 6
    times = read_fields(tmp_path / "COLVAR").columns["time"]
    np.testing.assert_allclose(times, 0.01 * np.arange(13), atol=1e-6)


def test_a_checkpoint_of_something_else_is_refused_before_anything_changes(tmp_path):
    text = PHI_PSI + INPUTS["METAD"]
    bias, simulation = biased_alanine(text, tmp_path)
    simulation.step(50)
    bias.save_checkpoint(tmp_path / "run.chk")
    simulation.step(50)
    bias.close()
    before = (tmp_path / "HILLS").read_bytes()
    with pytest.raises(ValueError, match="another input"):
        biased_alanine(text.replace("1.2", "1.3"), tmp_path, checkpoint=tmp_path / "run.chk")
    biased_alanine("# a comment does not count\n" + text, tmp_path / "elsewhere")
    with pytest.raises(ValueError, match="they are gone"):
        biased_alanine(text, tmp_path / "nowhere", checkpoint=tmp_path / "run.chk")
    (tmp_path / "junk").write_bytes(b"PK junk")
    with pytest.raises(ValueError, match="no saved state"):
        biased_alanine(text, tmp_path, checkpoint=tmp_path / "junk")
    with pytest.raises(FileNotFoundError):
        biased_alanine(text, tmp_path, checkpoint=tmp_path / "absent")
    assert (tmp_path / "HILLS").read_bytes() == before
    assert not list(tmp_path.glob("bck.*"))


def test_only_numbers_and_whole_headers_are_read(tmp_path):
    state = SavedState(3, 2, {"HILLS": 7}, {"b/x": np.arange(3.0)}, "abc")
    write_run(tmp_path / "a", SavedRun(3, b"chk", {"bias": state}))
    found = read_run(tmp_path / "a")
    assert (found.step, found.checkpoint, [*found.keepers]) == (3, b"chk", ["bias"])
    again = found.keepers["bias"]
    assert (again.step, again.updated, again.files, again.saved_by) == (3, 2, {"HILLS": 7}, "abc")
    np.testing.assert_array_equal(again.of("b")["x"], [0, 1, 2])
    bad = {
        "objects": {"0/b/x": np.array([{}], dtype=object)},
        "text": {"0/b/x": np.array("text")},
        "version": {"header": np.array(json.dumps({"version": 99}))},
        "header": {"header": np.array("no JSON")},
    }
    for name, arrays in bad.items():
        with np.load(tmp_path / "a") as archive:
            good = {key: archive[key] for key in archive.files}
        np.savez(tmp_path / f"{name}.npz", **good | arrays)
        with pytest.raises(ValueError, match="no saved state"):
            read_run(tmp_path / f"{name}.npz")


@pytest.mark.parametrize("kind", INPUTS)
def test_arrays_of_the_wrong_shape_are_refused(kind, tmp_path):
    text = PHI_PSI + INPUTS[kind]
    bias, simulation = biased_alanine(text, tmp_path)
    simulation.step(40)
    bias.save_checkpoint(tmp_path / "run.chk")
    bias.close()
    run = read_run(tmp_path / "run.chk")
    state = run.keepers["bias"]
    for name, array in state.arrays.items():
        if array.ndim == 0:
            continue
        broken = replace(state, arrays=state.arrays | {name: array[None]})
        write_run(tmp_path / "broken", replace(run, keepers={"bias": broken}))
        with pytest.raises(ValueError, match="shape"):
            biased_alanine(text, tmp_path, checkpoint=tmp_path / "broken")


@pytest.mark.plumed
def test_plumed_keeps_its_own_state(tmp_path):
    molecule = alanine_dipeptide()
    text = PHI_PSI + "RESTRAINT ARG=phi AT=0 KAPPA=1\n"
    bias = PlumedBias(text, backend="kernel", directory=tmp_path)
    bias.add_to(molecule.system)
    with pytest.raises(ValueError, match="restart=True"):
        bias.save_checkpoint(tmp_path / "x")
