"""Checkpoints with the bias in them: a run in two processes is bitwise the run in one."""

import logging
import os
import shutil
from dataclasses import replace

import numpy as np
import pytest

from openmm_cgan.checkpoints import (
    SavedState,
    read_run,
    require_files,
    restore_run,
    save_run,
    saved_array,
    write_run,
)
from openmm_cgan.plumed.bias import PlumedBias
from openmm_cgan.plumed.bias.reporters import BiasCheckpointReporter
from openmm_cgan.plumed.files.fields import read_fields
from openmm_cgan.testsystems import alanine_dipeptide
from tests.cases.biased_runs import biased_alanine, gone_on, langevin, phase_point
from tests.cases.checkpoints import write_version_1
from tests.cases.other_processes import in_another_process

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


PLACES = (1000, 1007)  # where rows and hills are due, and where not
END = 1600  # the widths, the table of grids and the moved restraint have all changed since


@pytest.mark.parametrize("kind", INPUTS)
def test_a_run_in_two_processes_is_bitwise_the_run_in_one(kind, tmp_path):
    text = PHI_PSI + INPUTS[kind] + PRINT.format(b="b")
    bias, simulation = biased_alanine(text, tmp_path / "one")
    simulation.step(END)
    bias.close()
    expected = phase_point(simulation)

    bias, simulation = biased_alanine(text, tmp_path / "begun")
    for at in PLACES:
        simulation.step(at - simulation.currentStep)
        bias.save_checkpoint(tmp_path / f"{at}.chk")
    simulation.step(333)  # lost, with its rows
    bias.close()
    files = [file for file in FILES if (tmp_path / "one" / file).exists()]
    assert {"COLVAR"} < set(files)
    for at in PLACES:
        two, checkpoint = tmp_path / f"two-{at}", tmp_path / f"{at}.chk"
        shutil.copytree(tmp_path / "begun", two)
        in_another_process(gone_on, text, two, checkpoint, END, tmp_path / "end.npy")
        np.testing.assert_array_equal(np.load(tmp_path / "end.npy"), expected)
        for file in files:
            assert (two / file).read_bytes() == (tmp_path / "one" / file).read_bytes(), (at, file)
        assert not list(two.glob("bck.*"))


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
    assert {p.name for p in tmp_path.iterdir() if "chk" in p.name} == {"run.chk", "run.chk.old"}
    assert read_run(tmp_path / "run.chk.old").step == 50
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


def rows_and_phase_point(bias, simulation, folder):
    bias.close()
    files = [(folder / file).read_bytes() for file in ("HILLS", "COLVAR")]
    return files, phase_point(simulation)


def test_a_checkpoint_of_version_1_is_gone_on_from(tmp_path):
    text = PHI_PSI + INPUTS["METAD"] + PRINT.format(b="b")
    found = []
    for folder in (tmp_path / "new", tmp_path / "old"):
        bias, simulation = biased_alanine(text, folder)
        simulation.step(70)
        bias.save_checkpoint(folder / "run.chk")
        simulation.step(30)
        bias.close()
        if folder.name == "old":
            write_version_1(folder / "run.chk", read_run(folder / "run.chk"))
        again, resumed = biased_alanine(text, folder, checkpoint=folder / "run.chk")
        resumed.step(100)
        found.append(rows_and_phase_point(again, resumed, folder))
    assert found[0][0] == found[1][0]
    np.testing.assert_array_equal(found[0][1], found[1][1])


class RandomRows:
    """A reporter with state of its own: it draws a number for each row of its file."""

    def __init__(self, path):
        self._path = path
        self._rng = np.random.default_rng(5)
        self._last = -1

    def describeNextReport(self, simulation):
        return {"steps": 7 - simulation.currentStep % 7, "periodic": None, "include": []}

    def report(self, simulation, state):
        self._last = simulation.currentStep
        with self._path.open("a") as file:
            file.write(f"{self._last} {self._rng.random()!r}\n")

    def saved(self):
        drawn = np.array(len(self._path.read_text().splitlines()))
        size = self._path.stat().st_size
        return SavedState(
            self._last, self._last, {self._path.name: size}, {"rng/drawn": drawn}, "rows"
        )

    def check_saved(self, state, simulation, path):
        if state.saved_by != "rows":
            raise ValueError(f"{path} is not of rows")
        require_files(self._path.parent, state.files)

    def restore_saved(self, state, simulation):
        self._rng.random(int(saved_array(state.of("rng"), "drawn", ())))
        self._last = state.updated
        os.truncate(self._path, state.files[self._path.name])
        simulation.reporters.append(self)


def run_with_rows(text, folder):
    bias, simulation = biased_alanine(text, folder)
    rows = RandomRows(folder / "rows")
    simulation.reporters.append(rows)
    return bias, simulation, rows


def begin_again(text, folder):
    """Bias and Simulation, not attached, and the rows."""
    molecule = alanine_dipeptide("C7eq")
    bias = PlumedBias(text, temperature=300.0, directory=folder)
    bias.add_to(molecule.system)
    return bias, langevin(molecule.topology, molecule.system, 11), RandomRows(folder / "rows")


def test_other_keepers_go_on_beside_the_bias(tmp_path):
    text = PHI_PSI + INPUTS["METAD"] + PRINT.format(b="b")
    bias, simulation, _ = run_with_rows(text, tmp_path / "one")
    simulation.step(300)
    whole = rows_and_phase_point(bias, simulation, tmp_path / "one")

    folder = tmp_path / "two"
    bias, simulation, rows = run_with_rows(text, folder)
    simulation.step(140)
    save_run(tmp_path / "run.chk", simulation, {"bias": bias, "rows": rows})
    simulation.step(50)  # lost
    bias.close()

    bias, simulation, rows = begin_again(text, folder)
    restore_run(tmp_path / "run.chk", simulation, {"bias": bias, "rows": rows})
    simulation.step(160)
    cut = rows_and_phase_point(bias, simulation, folder)
    assert cut[0] == whole[0]
    np.testing.assert_array_equal(cut[1], whole[1])
    assert (folder / "rows").read_bytes() == (tmp_path / "one" / "rows").read_bytes()


def test_nothing_is_changed_where_one_keeper_can_not_go_on(tmp_path):
    text = PHI_PSI + INPUTS["METAD"]
    bias, simulation, rows = run_with_rows(text, tmp_path)
    simulation.step(70)
    save_run(tmp_path / "run.chk", simulation, {"bias": bias, "rows": rows})
    simulation.step(50)
    bias.close()
    hills = (tmp_path / "HILLS").read_bytes()
    (tmp_path / "rows").write_text("")
    bias, simulation, rows = begin_again(text, tmp_path)
    with pytest.raises(ValueError, match="they are gone"):
        restore_run(tmp_path / "run.chk", simulation, {"bias": bias, "rows": rows})
    with pytest.raises(ValueError, match="nothing of 'walls'; it has 'bias', 'rows'"):
        restore_run(tmp_path / "run.chk", simulation, {"walls": bias})
    assert (tmp_path / "HILLS").read_bytes() == hills
    assert (simulation.currentStep, simulation.reporters) == (0, [])


def test_a_restored_run_counts_with_the_temperature_of_its_simulation(tmp_path):
    """As one that is attached: nothing else says one."""
    text = PHI_PSI + INPUTS["METAD"]

    def begun():
        molecule = alanine_dipeptide("C7eq")
        bias = PlumedBias(text, directory=tmp_path)
        bias.add_to(molecule.system)
        simulation = langevin(molecule.topology, molecule.system, 11)
        simulation.context.setPositions(molecule.positions)
        return bias, simulation

    bias, simulation = begun()
    bias.attach(simulation)
    simulation.step(70)
    save_run(tmp_path / "run.chk", simulation, {"bias": bias})
    simulation.step(50)
    expected = phase_point(simulation)
    bias.close()
    bias, simulation = begun()
    restore_run(tmp_path / "run.chk", simulation, {"bias": bias})
    assert bias.temperature == 300
    simulation.step(50)
    bias.close()
    np.testing.assert_array_equal(phase_point(simulation), expected)


def test_what_is_left_in_a_checkpoint_is_told(tmp_path, caplog):
    text = PHI_PSI + INPUTS["METAD"]
    bias, simulation, rows = run_with_rows(text, tmp_path)
    simulation.step(70)
    save_run(tmp_path / "run.chk", simulation, {"bias": bias, "rows": rows})
    bias.close()
    with caplog.at_level(logging.WARNING, logger="openmm_cgan"):
        biased_alanine(text, tmp_path, checkpoint=tmp_path / "run.chk")[0].close()
    assert "'rows' is not restored" in caplog.text


def test_several_biases_of_one_run_are_told_apart(tmp_path):
    texts = {
        "hills": PHI_PSI + INPUTS["METAD"],
        "rows": PHI_PSI + "b: RESTRAINT ARG=phi AT=-1 KAPPA=20\n" + PRINT.format(b="b"),
    }

    def run_of_two():
        molecule = alanine_dipeptide("C7eq")
        biases = {n: PlumedBias(t, temperature=300.0, directory=tmp_path) for n, t in texts.items()}
        for bias in biases.values():
            bias.add_to(molecule.system)
        simulation = langevin(molecule.topology, molecule.system, 11)
        simulation.context.setPositions(molecule.positions)
        return biases, simulation

    biases, simulation = run_of_two()
    for bias in biases.values():
        bias.attach(simulation)
    simulation.step(70)
    save_run(tmp_path / "run.chk", simulation, biases)
    simulation.step(50)
    expected = phase_point(simulation)
    files = {}
    for name, bias in zip(("HILLS", "COLVAR"), biases.values(), strict=True):
        bias.close()
        files[name] = (tmp_path / name).read_bytes()
    biases, simulation = run_of_two()
    swapped = dict(zip(biases, reversed(biases.values()), strict=True))
    with pytest.raises(ValueError, match="another input"):
        restore_run(tmp_path / "run.chk", simulation, swapped)
    restore_run(tmp_path / "run.chk", simulation, biases)
    assert simulation.currentStep == 70
    simulation.step(50)
    for bias in biases.values():
        bias.close()
    np.testing.assert_array_equal(phase_point(simulation), expected)
    assert {name: (tmp_path / name).read_bytes() for name in files} == files


@pytest.mark.parametrize("kind", INPUTS)
def test_arrays_of_the_wrong_shape_are_refused(kind, tmp_path):
    text = PHI_PSI + INPUTS[kind]
    bias, simulation = biased_alanine(text, tmp_path)
    simulation.step(40)
    bias.save_checkpoint(tmp_path / "run.chk")
    bias.close()
    run = read_run(tmp_path / "run.chk")
    state = run.keepers["bias"]
    molecule = alanine_dipeptide("C7eq")
    bias = PlumedBias(text, temperature=300.0, directory=tmp_path)
    bias.add_to(molecule.system)
    simulation = langevin(molecule.topology, molecule.system, 11)
    for name, array in state.arrays.items():
        if array.ndim == 0:
            continue
        broken = replace(state, arrays=state.arrays | {name: array[None]})
        write_run(tmp_path / "broken", replace(run, keepers={"bias": broken}))
        with pytest.raises(ValueError, match="shape"):
            bias.attach(simulation, checkpoint=tmp_path / "broken")
    bias.attach(simulation, checkpoint=tmp_path / "run.chk")  # no refusal has changed anything
    assert simulation.currentStep == 40
    simulation.step(1)
    bias.close()


@pytest.mark.plumed
def test_plumed_keeps_its_own_state(tmp_path):
    molecule = alanine_dipeptide()
    text = PHI_PSI + "RESTRAINT ARG=phi AT=0 KAPPA=1\n"
    bias = PlumedBias(text, backend="kernel", directory=tmp_path)
    bias.add_to(molecule.system)
    with pytest.raises(ValueError, match="restart=True"):
        bias.save_checkpoint(tmp_path / "x")
    with pytest.raises(ValueError, match="restart=True"):
        bias.saved()


@pytest.mark.parametrize("name", ["METAD", "OPES"])
def test_a_run_that_blows_up_writes_no_row_and_spoils_no_checkpoint(name, tmp_path):
    bias, simulation = biased_alanine(PHI_PSI + INPUTS[name], tmp_path)
    simulation.reporters.append(BiasCheckpointReporter(tmp_path / "run.chk", 50, bias))
    simulation.step(100)
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir() if "chk" in p.name}
    positions = phase_point(simulation)[0].copy()
    positions[3] = np.nan
    simulation.context.setPositions(positions)
    with pytest.raises(ValueError, match="not finite"):
        simulation.step(100)
    bias.close()
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir() if "chk" in p.name} == before
    rows = "".join(p.read_text() for p in tmp_path.iterdir() if "chk" not in p.name)
    assert "nan" not in rows.replace("-nan", "nan")
    again, resumed = biased_alanine(
        PHI_PSI + INPUTS[name], tmp_path, checkpoint=tmp_path / "run.chk"
    )
    assert resumed.currentStep == 100
    again.close()


def test_a_file_that_lacks_part_of_its_last_row_is_mended_and_said(tmp_path, caplog):
    """As a loss of power leaves it."""
    text = PHI_PSI + INPUTS["METAD"] + PRINT.format(b="b")
    bias, simulation = biased_alanine(text, tmp_path)
    simulation.step(100)
    bias.save_checkpoint(tmp_path / "run.chk")
    bias.close()
    whole = (tmp_path / "COLVAR").read_bytes()
    row = len(whole.splitlines(keepends=True)[-1])
    for lost, left, told in (
        (1, whole, "lacked the end of its last line"),
        (9, whole[:-row], "its last row is lost"),
    ):
        (tmp_path / "COLVAR").write_bytes(whole[:-lost])
        caplog.clear()
        bias, simulation = biased_alanine(text, tmp_path, checkpoint=tmp_path / "run.chk")
        bias.saved()
        assert (tmp_path / "COLVAR").read_bytes() == left
        assert told in caplog.text
        simulation.step(10)
        bias.close()
        assert (tmp_path / "COLVAR").read_bytes().startswith(left)
    (tmp_path / "COLVAR").write_bytes(whole[: -3 * row])
    with pytest.raises(ValueError, match=r"they are gone.*\.old"):
        biased_alanine(text, tmp_path, checkpoint=tmp_path / "run.chk")


def test_rows_can_be_read_as_soon_as_the_steps_are_made(tmp_path):
    text = PHI_PSI + INPUTS["METAD"] + PRINT.format(b="b")
    bias, simulation = biased_alanine(text, tmp_path)
    simulation.step(100)
    assert len(read_fields(tmp_path / "HILLS")) == 5
    assert len(read_fields(tmp_path / "COLVAR")) == 11
    bias.close()


@pytest.mark.parametrize(("last", "restart"), [("RESTART NO", True), ("RESTART", False)])
def test_restart_in_the_input_has_the_last_word(last, restart, tmp_path):
    text = PHI_PSI + INPUTS["METAD"] + PRINT.format(b="b")
    bias, simulation = biased_alanine(text, tmp_path)
    simulation.step(100)
    bias.close()
    bias, simulation = biased_alanine(f"RESTART\n{last}\n{text}", tmp_path, restart=restart)
    simulation.step(1)
    bias.close()
    for name in ("COLVAR", "HILLS"):
        assert (tmp_path / f"bck.0.{name}").exists() is restart, name
