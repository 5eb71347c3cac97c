"""The command line as a user meets it: help, errors of one line, and each command on small data."""

import csv
import io
import json
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from openmm_cgan import __version__
from openmm_cgan.cgan import ConditionalGenerator
from openmm_cgan.cli import main, simulations
from openmm_cgan.frames import read_frames
from openmm_cgan.free_energy import reweighting
from openmm_cgan.plumed.actions import actions_help
from openmm_cgan.plumed.bias import PlumedBias
from openmm_cgan.reporters.moves.switching import Switched, Switching
from openmm_cgan.windows import read_window_frames
from tests.cases import ROOT
from tests.cases.other_processes import PATIENCE

INPUTS = ROOT / "plumed_inputs"
STRUCTURE = ROOT / "openmm_cgan" / "data" / "alanine_dipeptide.pdb"
COMMANDS = [
    "demo", "run", "train", "propose", "refine", "windows", "free-energy", "driver", "report",
]  # fmt: skip


def call(*words: object) -> Result:
    return CliRunner().invoke(main, [str(word) for word in words])


def call_well(*words: object) -> str:
    result = call(*words)
    assert result.exit_code == 0, result.output
    return result.output


def run_options(folder: Path, steps: int = 600) -> list[object]:
    return [
        "run", STRUCTURE, "--forcefield", "amber96.xml", "--steps", steps,
        "--platform", "Reference", "--plumed", INPUTS / "alanine_phi_psi_metad.dat",
        "--out", folder, "--frames-every", 100,
    ]  # fmt: skip


def test_help_names_every_command_and_shows_the_whole_job() -> None:
    text = call_well("--help")
    for command in COMMANDS:
        assert f"  {command}" in text
    assert "openmm-cgan train" in text
    assert __version__ in call_well("--version")


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_explains_itself(command: str) -> None:
    text = call_well(command, "--help")
    assert "--out" in text
    if command != "demo":
        assert f"openmm-cgan {command}" in text


def test_run_keeps_frames_and_restarts(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    text = call_well(*run_options(folder))
    assert "native backend, CVs phi, psi" in text
    assert {p.name for p in folder.iterdir()} >= {
        "frames", "COLVAR", "topology.pdb", "plumed.dat", "run.json", "state.xml", "system.xml",
    }  # fmt: skip
    assert "native" in (folder / "report.html").read_text()
    (folder / "report.html").unlink()
    call_well(*run_options(folder), "--restart", "--no-report")
    assert not (folder / "report.html").exists()
    assert call(*run_options(folder)).exit_code == 1  # refused, and not written down
    [first, again] = (folder / "commands.txt").read_text().splitlines()
    assert shlex.split(again) == [*shlex.split(first), "--restart", "--no-report"]
    assert shlex.split(first)[:3] == ["openmm-cgan", "run", str(STRUCTURE)]
    steps = read_frames(folder / "frames").step
    np.testing.assert_array_equal(steps, np.arange(100, 1201, 100))
    assert json.loads((folder / "run.json").read_text())["temperature"] == 300.0


def test_atoms_are_chosen_by_a_selection(tmp_path: Path) -> None:
    call_well(*run_options(tmp_path / "run", steps=100), "--atoms", "resname ALA")
    assert read_frames(tmp_path / "run" / "frames").atoms.tolist() == list(range(6, 16))
    wrong = call(*run_options(tmp_path / "other"), "--atoms", "resname LIG")
    assert wrong.exit_code == 1
    assert "finds none of the 22 atoms" in wrong.output
    assert not (tmp_path / "other").exists()
    result = call(
        "train", tmp_path / "run" / "frames", "--topology", STRUCTURE, "--atoms", "protein",
        "--out", tmp_path / "model.npz",
    )  # fmt: skip
    assert result.exit_code == 1
    assert "12 of the 22 atoms asked for are not in the frames" in result.output


def test_run_refuses_a_folder_that_holds_a_run(tmp_path: Path) -> None:
    call_well(*run_options(tmp_path / "run", steps=100))
    result = call(*run_options(tmp_path / "run", steps=100))
    assert result.exit_code == 1
    assert "holds a run already" in result.output
    assert len(read_frames(tmp_path / "run" / "frames")) == 1


@pytest.mark.parametrize("name", ["window-000/window.json", "explore.json"])
def test_run_refuses_a_folder_of_something_else(tmp_path: Path, name: str) -> None:
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text("{}")
    (tmp_path / "system.xml").write_text("theirs")
    result = call(*run_options(tmp_path, steps=100))
    assert result.exit_code == 1
    assert "take another folder for a run" in result.output
    assert (tmp_path / "system.xml").read_text() == "theirs"


def test_restart_without_a_run_is_refused(tmp_path: Path) -> None:
    result = call(*run_options(tmp_path / "run"), "--restart")
    assert result.exit_code == 1
    assert "nothing to restart from" in result.output
    assert not (tmp_path / "run").exists()


def test_a_wrong_plumed_input_is_one_error_with_its_line(tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.dat"
    wrong.write_text("phi: TORSION ATOMS=5,7,9,15\nRESTRAINT ARG=phi AT=0 KAPPPA=2\n")
    result = call("run", STRUCTURE, "--forcefield", "amber96.xml", "--steps", 1, "--plumed", wrong,
                  "--backend", "native", "--out", tmp_path / "run")  # fmt: skip
    assert result.exit_code == 1
    assert "wrong.dat:2" in result.output
    assert "KAPPPA" in result.output
    assert "Traceback" not in result.output
    assert not (tmp_path / "run").exists()


def test_debug_shows_the_traceback(tmp_path: Path) -> None:
    result = call("--debug", *run_options(tmp_path / "run"), "--restart")
    assert isinstance(result.exception, FileNotFoundError)


def test_driver_prints_what_numpy_computes(tmp_path: Path) -> None:
    trajectory = tmp_path / "t.xyz"
    trajectory.write_text("2\n0 0 0\nX 0 0 0\nX 0.3 0.4 0\n2\n0 0 0\nX 0 0 0\nX 0 0 2\n")
    plumed = tmp_path / "plumed.dat"
    plumed.write_text("d: DISTANCE ATOMS=1,2\nPRINT ARG=d FILE=COLVAR\n")
    text = call_well("driver", "--plumed", plumed, "--ixyz", trajectory, "--timestep", 0.5,
                     "--trajectory-stride", 10, "--out", tmp_path)  # fmt: skip
    assert text.startswith("2 frames")
    rows = np.loadtxt(tmp_path / "COLVAR", comments="#!")
    np.testing.assert_allclose(rows, [[0.0, 0.5], [5.0, 2.0]], atol=1e-6)


def test_driver_wants_one_trajectory(tmp_path: Path) -> None:
    plumed = tmp_path / "plumed.dat"
    plumed.write_text("d: DISTANCE ATOMS=1,2\n")
    result = call("driver", "--plumed", plumed)
    assert result.exit_code == 2
    assert "give one of --ixyz" in result.output


def test_driver_lists_the_actions() -> None:
    result = CliRunner().invoke(main, ["driver", "--actions"])
    assert result.exit_code == 0
    assert result.output.strip() == actions_help().strip()


def test_missing_files_are_named() -> None:
    result = call("train", "nowhere", "--topology", STRUCTURE)
    assert result.exit_code == 2
    assert "nowhere" in result.output


@pytest.fixture(scope="module")
def restrained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A window with its folder's files, and a flow trained on it in a moment."""
    folder = tmp_path_factory.mktemp("restrained")
    text = "".join(f"{cv}: TORSION ATOMS={atoms}\n" for cv, atoms in (
        ("phi", "5,7,9,15"), ("psi", "7,9,15,17"),
    ))  # fmt: skip
    (folder / "in.dat").write_text(text + "RESTRAINT ARG=phi,psi AT=-1.5,1.5 KAPPA=10,10\n")
    words = run_options(folder / "run", steps=4000)
    words[words.index("--plumed") + 1] = folder / "in.dat"
    words[words.index("--frames-every") + 1] = 10
    call_well(*words)
    (folder / "run" / "window.json").write_text('{"status": "done", "temperature": 300.0}')
    call_well(
        "train", folder / "run" / "frames", "--topology", folder / "run" / "topology.pdb",
        "--generator", "FlowGenerator", "--steps", 10, "--out", folder / "model.npz",
    )  # fmt: skip
    return folder


def model_options(folder: Path) -> list[object]:
    return [
        "--model", folder / "model.npz", "--structure", folder / "run" / "topology.pdb",
        "--plumed", folder / "in.dat", "--forcefield", "amber96.xml", "-n", 500,
        "--cv", "phi", "--bins", 12, "--out", folder / "profile.csv",
    ]  # fmt: skip


def test_free_energy_of_a_model_alone_and_with_windows(restrained: Path) -> None:
    """Trained for a moment, the model alone tells nothing; beside a window it does no harm."""
    alone = call("free-energy", *model_options(restrained))
    assert alone.exit_code == 1
    assert "no free energy from 500 generated configurations (worth" in alone.output
    assert "Pareto k" in alone.output
    assert "Train longer or refine" in alone.output
    assert not (restrained / "profile.csv").exists()
    joined = call_well("free-energy", restrained / "run", *model_options(restrained))
    assert "1 windows and 500 generated configurations" in joined
    header, *rows = (restrained / "profile.csv").read_text().splitlines()
    assert header.startswith("phi,free_energy,error,effective_samples")
    assert len(rows) == 12
    assert min(float(row.split(",")[1]) for row in rows if "nan" not in row) == 0.0


def test_free_energy_needs_windows_or_a_whole_model(restrained: Path) -> None:
    result = call("free-energy", "--cv", "phi")
    assert result.exit_code == 1
    assert "give folders of umbrella windows, or --model" in result.output
    options = model_options(restrained)
    del options[2:4]
    result = call("free-energy", *options)
    assert result.exit_code == 1
    assert "--model needs --structure" in result.output
    options = model_options(restrained)
    unconstrained = [*options, "--constraints", "None"]
    result = call("free-energy", *unconstrained)
    assert result.exit_code == 1
    assert "gives no free energy: the System constrains 0 distances" in result.output


def test_free_energy_of_a_metadynamics_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Too short for numbers, which it says; beside the frames stands what the hills add up to."""
    text = "phi: TORSION ATOMS=5,7,9,15\npsi: TORSION ATOMS=7,9,15,17\n"
    text += "METAD ARG=phi,psi SIGMA=0.4,0.4 HEIGHT=2 PACE=50 BIASFACTOR=8 FILE=H\n"
    (tmp_path / "in.dat").write_text(text)
    words = run_options(tmp_path / "run", steps=4000)
    words[words.index("--plumed") + 1] = tmp_path / "in.dat"
    words[words.index("--frames-every") + 1] = 5
    call_well(*words)
    out, plot = tmp_path / "p.csv", tmp_path / "p.png"
    options = ["free-energy", tmp_path / "run", "--out", out, "--cv"]
    assert "no free energy from 640 frames of 1 run under METAD" in call(*options, "phi,psi").output
    assert not out.exists()
    told = call_well(*options, "phi", "--difference", "phi:-2..-1")
    assert "the column by_bias is what the bias alone adds up to" in told
    assert "F(phi in [-2, -1)) - F(phi elsewhere): not known" in told
    rows = np.genfromtxt(out, delimiter=",", names=True)
    assert np.isnan(rows["free_energy"]).all()
    assert rows["by_bias"].min() == 0.0
    monkeypatch.setattr(reweighting, "why_unknown", lambda *_: "")
    assert "first 20% left out" in call_well(*options, "phi", "--bins", 12)
    header, *rows = out.read_text().splitlines()
    assert header == "phi,free_energy,error,effective_samples,by_bias"
    assert min(float(row.split(",")[-1]) for row in rows) == 0.0
    around = (call_well(*options, "phi", f"--basin={b}") for b in ("-2,-1", "4.283185,5.283185"))
    assert len({told.rpartition(": ")[2] for told in around}) == 1  # the same interval
    one = call_well(*options, "phi", "--difference", "phi:-2..-1", "--basin=-2,-1").splitlines()
    assert one[-1].partition(": ")[0] == "F(phi in [-2, -1)) - F(phi elsewhere)"
    assert one[-1].partition(": ")[2] == one[-2].partition(": ")[2]
    asked = ("--difference", "psi:-1..1|1..2")  # of the second CV, before anything is written
    assert "F(psi in [1, 2)) - F(psi in [-1, 1)): " in call_well(*options, "phi,psi", *asked)
    assert "--cv names phi: name it there" in call(*options, "phi", *asked).output
    out.unlink()
    assert "its two states overlap" in call(*options, "psi", asked[0], "psi:-1..1|0..2").output
    nobody = call(*options, "phi", asked[0], "phi:-2..-1|0.5..0.6").output
    assert "no sample lies in the second state" in nobody
    assert not out.exists()
    call_well(*options, "phi,psi", "--bins", 9, "--plot", plot)
    assert len(out.read_text().splitlines()) == 82
    assert plot.exists()
    wrong = call("free-energy", tmp_path / "run", "--cv", "phi,psi", "--basin", "0,1")
    assert "--basin is an interval of one CV" in wrong.output


def test_python_m_is_the_command() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "openmm_cgan", "--version"],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert done.returncode == 0
    assert done.stdout.startswith("openmm-cgan, version ")


def test_windows_of_a_run(restrained: Path, tmp_path: Path) -> None:
    """Placed by what the run saw, started from a model or from frames, joined by MBAR."""
    run, out = shutil.copytree(restrained / "run", tmp_path / "run"), tmp_path / "windows"
    record = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps(record | {"timestep": 0.001}))
    options = ["windows", run, "--cv", "phi", "--number", 12, "--steps", 200, "--out", out]
    dry = call_well(*options, "--dry-run")
    assert " windows along phi, KAPPA=" in dry
    assert not out.exists()
    said = call_well(*options, "--model", restrained / "model.npz", "--frames-every", 10,
                     "--workers", 0, "--platform", "Reference", "--kappa", 150)  # fmt: skip
    number = int(said.split()[0])
    assert f"{number} windows along phi, KAPPA=150" in said
    assert f"{number} of {number} windows finished" in said
    folders = sorted(out.glob("window-*"))
    assert len(folders) == number
    assert json.loads((folders[0] / "window.json").read_text())["timestep"] == 0.001
    assert "KAPPA=150.0,0.0" in (folders[0] / "plumed.dat").read_text()
    samples = read_window_frames(folders)
    assert [v.name for v in samples[0].variables] == ["phi", "psi"]
    again = call_well(*options, "--model", restrained / "model.npz", "--frames-every", 10,
                      "--workers", 0, "--platform", "Reference", "--kappa", 150)  # fmt: skip
    assert f"{number} of {number} windows finished" in again


def test_windows_of_several_runs(restrained: Path, tmp_path: Path) -> None:
    """From a model; each run finished alone, all of a window one state of MBAR."""
    out = tmp_path / "windows"
    options = ["windows", restrained / "run", "--cv", "phi", "--number", 12, "--steps", 100,
               "--below", 2, "--kappa", 150, "--frames-every", 10, "--workers", 0, "--platform",
               "Reference", "--out", out]  # fmt: skip
    model = ["--model", restrained / "model.npz", "--seeds-per-window", 3]
    dry = call_well(*options, *model, "--dry-run")
    number = int(dry.split()[0])
    assert f"{number} windows along phi of 3 runs each, KAPPA=150" in dry
    said = call_well(*options, *model)
    assert f"{3 * number} of {3 * number} runs of {number} windows finished" in said
    folders = sorted(out.glob("window-*"))
    assert [f.name for f in folders[:4]] == [*(f"window-000-{k}" for k in range(3)), "window-001-0"]
    records = [json.loads((folder / "window.json").read_text()) for folder in folders]
    assert {record["settle_steps"] for record in records} == {30}, "a tenth of 3 x 100"
    assert len({record["start_sha256"] for record in records}) == len(folders)
    bias = PlumedBias(folders[0] / "plumed.dat")
    begun = np.array([bias.cv_values(np.load(folder / "start.npy")) for folder in folders[:3]])
    assert (np.ptp(begun, axis=0) > 1e-3).all(), "drawn in the window, not made at its centre"
    assert f"{number} windows" in (out / "report.html").read_text()
    whole = call_well("free-energy", out, "--cv", "phi", "--out", tmp_path / "profile.csv")
    assert f"from {3 * number} runs of {number} windows" in whole
    assert f"{3 * number} of {3 * number} runs" in call_well(*options, *model), "all done before"
    for seeds in ([], ["--seeds-per-window", 2]):
        other = call(*options, "--model", restrained / "model.npz", *seeds)
        assert other.exit_code == 1
        assert "was it begun with another --number, --below or --seeds-per-window?" in other.output
    assert sorted(out.glob("window-*")) == folders
    frames = call_well(*options[:-1], tmp_path / "frames", "--seeds-per-window", 2)
    assert "0 start from the model, " in frames
    assert f"{2 * number} of {2 * number} runs of {number} windows finished" in frames


def test_windows_are_submitted_and_collected(
    restrained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a Slurm whose nodes are processes here; a file says where, the command line what."""
    commands = ROOT / "tests" / "cases" / "fake_slurm"
    monkeypatch.setenv("PATH", f"{commands}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("FAKE_SLURM", str(tmp_path))
    monkeypatch.setattr("openmm_cgan.windows.slurm_array.POLL", 0.1)
    config = tmp_path / "run.toml"
    config.write_text('[cluster]\nexecutor = "slurm-array"\npartition = "short"\ncpus = 3\n')
    out = tmp_path / "windows"
    options = ["windows", restrained / "run", "--config", config, "--cv", "phi", "--number", 12,
               "--steps", 200, "--kappa", 150, "--below", 1, "--platform", "Reference",
               "--out", out]  # fmt: skip
    dry = call_well(*options, "--dry-run", "--partition", "long")
    number = int(dry.split()[0])
    assert "#SBATCH --partition=long\n" in dry
    assert f"#SBATCH --array=0-{number - 1}%10\n#SBATCH --time=1:00:00\n" in dry
    assert not out.exists()
    assert f"{number} windows submitted; with --collect" in call_well(*options)
    collect = ["windows", "--collect", "--config", config, "--platform", "Reference", "--out", out]
    assert f"{number} of {number} windows finished" in call_well(*collect)
    assert "0 windows submitted" in call_well(*options)
    assert f"{number} finished" in call_well(*collect, "--dry-run")
    here = ["windows", "--collect", "--workers", 0, "--platform", "Reference", "--out", out]
    assert f"{number} of {number} windows finished" in call_well(*here)
    [script] = (out / "slurm").glob("*.sh")
    assert "#SBATCH --partition=short\n" in script.read_text()
    assert "give RUN, --cv and --steps, or --collect" in call("windows", "--out", out).output


def test_windows_say_what_is_wrong_before_they_run(restrained: Path, tmp_path: Path) -> None:
    run, out = restrained / "run", tmp_path / "windows"
    options = ["windows", run, "--steps", 200, "--out", out]
    assert "no CV 'chi'" in call(*options, "--cv", "chi").output
    assert "--kappa '1,2': expected one" in call(*options, "--cv", "phi", "--kappa", "1,2").output
    unknown = call(*options, "--cv", "phi", "--atoms", "resnam ALA").output
    assert "no selection that MDAnalysis understands" in unknown
    nowhere = call("windows", tmp_path, "--steps", 9, "--cv", "phi", "--out", out)
    assert "give the folder of a run" in nowhere.output
    assert not out.exists()


def test_the_doctor_says_what_is_here_and_how_quick_it_is(tmp_path: Path) -> None:
    text = call_well("doctor", STRUCTURE, "--forcefield", "amber96.xml")
    assert f"openmm_cgan {__version__}" in text
    assert "22 atoms" in text
    rates = [
        float(line.split()[1].replace(",", "")) for line in text.splitlines() if "steps/s" in line
    ]
    assert len(rates) >= 2
    assert rates == sorted(rates, reverse=True)


def test_a_run_stays_on_the_platform_that_was_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = run_options(tmp_path / "run", steps=100)
    at = words.index("--platform")
    del words[at : at + 2]
    monkeypatch.setattr(simulations, "fastest_platform", lambda *_: "Reference")
    call_well(*words)
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert record["platform"] == "Reference"
    monkeypatch.setattr(simulations, "fastest_platform", lambda *_: "CPU")
    call_well(*words, "--restart")
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert record["platform"] == "Reference"


def test_a_refined_model_makes_exact_moves_in_a_run_that_goes_on(
    restrained: Path, tmp_path: Path
) -> None:
    """The files of a run in two stretches are those of the whole."""
    said = call_well("refine", restrained / "model.npz", restrained / "run", "--steps", 2,
                     "--batch", 8, "--out", tmp_path / "refined.npz")  # fmt: skip
    assert "mean of u + log q" in said
    for folder, stretches in (("whole", [400]), ("halves", [200, 200])):
        for i, steps in enumerate(stretches):
            words = run_options(tmp_path / folder, steps=steps)
            words[words.index("--plumed") + 1] = restrained / "in.dat"
            more = ["--model", tmp_path / "refined.npz", "--mode", "exact"]
            call_well(*words, *more, "--proposals-every", 100, *(["--restart"] if i else []))
    rows = [(tmp_path / folder / "proposals.csv").read_text() for folder in ("whole", "halves")]
    assert rows[0] == rows[1]
    assert len(rows[0].splitlines()) == 5
    assert ",exact," in rows[0]
    frames = [read_frames(tmp_path / folder / "frames") for folder in ("whole", "halves")]
    np.testing.assert_array_equal(frames[0].positions, frames[1].positions)


def test_steered_moves_go_on_where_a_run_broke_off_in_a_switch(
    restrained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the move of step 750, after the frames of that step: from the checkpoint of step 600."""
    words = run_options(tmp_path / "whole", steps=1200)
    words[words.index("--plumed") + 1] = restrained / "in.dat"
    words += ["--model", restrained / "model.npz", "--mode", "steered"]
    words += ["--proposals-every", 150, "--checkpoint-every", 300, "--no-report"]
    call_well(*words)
    words[words.index("--out") + 1] = tmp_path / "broken"
    made, calls = Switching.made, []

    def breaks(*given: Any) -> Switched:
        calls.append(given)
        if len(calls) == 5:
            raise RuntimeError("the machine goes down")
        return made(*given)

    with monkeypatch.context() as patched:
        patched.setattr(Switching, "made", breaks)
        assert "goes down" in call(*words).output
    assert not (tmp_path / "broken" / "state.xml").exists()  # of step 750, which is half done
    at = words.index("--steps")
    del words[at : at + 2]
    call_well(*words, "--resume")
    whole, broken = (
        (tmp_path / name / "proposals.csv").read_text() for name in ("whole", "broken")
    )
    assert broken == whole
    rows = list(csv.DictReader(io.StringIO(whole)))
    assert [int(row["step"]) for row in rows] == list(range(150, 1201, 150))
    assert {(row["mode"], row["energies"]) for row in rows} == {("steered", "152")}
    frames = [read_frames(tmp_path / name / "frames") for name in ("whole", "broken")]
    np.testing.assert_array_equal(frames[0].positions, frames[1].positions)


def test_a_part_is_refined_among_the_rest_of_frames(restrained: Path, tmp_path: Path) -> None:
    run, made = restrained / "run", tmp_path / "refined.npz"
    call_well(
        "train", run / "frames", "--topology", run / "topology.pdb", "--local",
        "--atoms", "name HB1 HB2 HB3", "--steps", 2, "--out", tmp_path / "part.npz",
    )  # fmt: skip
    words = ["refine", tmp_path / "part.npz", run, "--steps", 1, "--batch", 8, "--out", made]
    assert "mean of u + log q" in call_well(*words)
    before, after = (ConditionalGenerator.load(path) for path in (tmp_path / "part.npz", made))
    assert after.atoms.tolist() == before.atoms.tolist() == [11, 12, 13]
    assert after.rest.tolist() == before.rest.tolist()


def test_a_model_without_density_is_not_refined(restrained: Path, tmp_path: Path) -> None:
    gan = tmp_path / "gan.npz"
    call_well("train", restrained / "run" / "frames", "--topology",
              restrained / "run" / "topology.pdb", "--steps", 1, "--out", gan)  # fmt: skip
    result = call("refine", gan, restrained / "run", "--out", tmp_path / "refined.npz")
    assert result.exit_code == 1
    assert "density" in result.output
    assert not (tmp_path / "refined.npz").exists()
