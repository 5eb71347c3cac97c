"""The train and refine commands: frames of several temperatures, and what was stopped."""

import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import openmm
import pytest
from click.testing import CliRunner
from openmm import app, unit

from openmm_cgan.cgan import ConditionalGAN, TrainingSettings
from openmm_cgan.cgan.refining import _Refining
from openmm_cgan.cli import main
from openmm_cgan.cli.run_records import write_start
from openmm_cgan.cli.stopping import checkpoint_for
from openmm_cgan.frames import read_frames, topology_hash
from openmm_cgan.frames.segments import Row, SegmentHeader, SegmentWriter
from openmm_cgan.plumed.bias import PlumedBias
from openmm_cgan.testsystems import Chain, alanine_dipeptide
from tests.cases.other_processes import PATIENCE, next_line

CHAIN = Chain()
INPUT = "phi: TORSION ATOMS=1,2,3,4\nPRINT ARG=phi\n"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Frames of a run whose temperature was changed once, and its topology."""
    monkeypatch.chdir(tmp_path)
    bias = PlumedBias(INPUT, CHAIN.topology())
    known = topology_hash(CHAIN.topology())
    header = SegmentHeader(bias.variables, tuple(range(4)), known, temperature=300.0)
    writer = SegmentWriter(tmp_path / "frames", header)
    for k, temperature in enumerate((300.0, 350.0)):
        x = CHAIN.sample(40, temperature, seed=k)
        writer.at_temperature(temperature)
        for i, (frame, cvs) in enumerate(zip(x, bias.cv_values(x), strict=True), start=100 * k):
            writer.append(Row(i, 1e-3 * i, frame, None, cvs))
    writer.close()
    Path("system.xml").write_text(openmm.XmlSerializer.serialize(CHAIN.system()))
    Path("plumed.dat").write_text(INPUT)
    with Path("topology.pdb").open("w") as file:
        app.PDBFile.writeFile(CHAIN.topology(), x[0] * unit.nanometer, file)
    return tmp_path


HOLDS = "import sys; from pathlib import Path; from openmm_cgan.cli.stopping import alone\n"
HOLDS += "with alone(Path(sys.argv[1])):\n    print('held', flush=True)\n    input()"


@pytest.mark.skipif(sys.platform == "win32", reason="no locks")
@pytest.mark.parametrize("command", ["train", "refine", "demo", "explore"])
def test_what_another_process_is_making_is_not_made_beside_it(folder, monkeypatch, command):
    """Both wrote one checkpoint, and the last to end had its model there."""
    monkeypatch.setattr("openmm_cgan.claims.PATIENCE", 0.0)
    Path("model.npz").write_text("")
    asked = {
        "train": ["train", "frames", "--topology", "topology.pdb", "--out", "made.npz"],
        "refine": ["refine", "model.npz", ".", "--out", "made.npz"],
        "demo": ["demo", "--quick", "--overwrite", "--out", "demo"],
        "explore": [
            "explore",
            "topology.pdb",
            "--system",
            "system.xml",
            "--cvs",
            "diffusion-map",
            "--out",
            "explored",
        ],
    }[command]
    Path("demo").mkdir()
    Path("explored").mkdir()
    Path("demo", "summary.json").write_text("theirs")
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    child = subprocess.Popen([sys.executable, "-c", HOLDS, asked[-1]], text=True, **pipes)
    assert next_line(child) == "held\n"
    found = CliRunner().invoke(main, asked)
    assert found.exit_code == 1
    assert "another process is" in found.output
    assert Path("demo", "summary.json").read_text() == "theirs"
    assert not list(Path("explored").iterdir())
    child.communicate("", timeout=PATIENCE)
    assert not list(folder.glob(".*.lock"))


def test_training_takes_the_frames_of_one_temperature(folder):
    line = ["train", "frames", "--topology", "topology.pdb", "--steps", "1", "--out", "model.npz"]
    found = CliRunner().invoke(main, line)
    assert found.exit_code == 1
    assert "--temperature 300 of train, free-energy and windows" in found.output
    found = CliRunner().invoke(main, [*line, "--temperature", "350"])
    assert found.exit_code == 0, found.output
    gan = ConditionalGAN.load("model.npz", CHAIN.topology())
    assert gan.temperature == 350.0
    own = read_frames("frames", temperature=350.0).cvs[:, 0]
    np.testing.assert_array_equal(gan.cv_range[0], [own.min(), own.max()])


def test_runs_of_several_temperatures_are_weighed_and_continued_at_one(folder, caplog):
    Path("run.json").write_text('{"timestep": 0.001}')
    Path("HILLS").write_text(
        "#! FIELDS time phi sigma_phi height biasf\n#! SET min_phi -pi\n#! SET max_phi pi\n"
        "0.01 0.1 0.3 0.5 10\n0.02 0.2 0.3 0.5 10\n"
    )
    Path("plumed.dat").write_text(
        "phi: TORSION ATOMS=1,2,3,4\nMETAD ARG=phi SIGMA=0.3 HEIGHT=0.4 PACE=10 BIASFACTOR=10\n"
    )
    line = ["free-energy", ".", "--cv", "phi", "--bins", "6"]
    assert "--temperature 300 of train" in CliRunner().invoke(main, line).output
    for kelvins, other in ((300, 350), (350, 300)):
        frames = read_frames("frames", temperature=kelvins)
        assert frames.other_temperatures == (other,)
        assert frames.select([0]).other_temperatures == (other,)
        found = CliRunner().invoke(main, [*line, "--temperature", str(kelvins)])
        assert "32 frames of 1 run under METAD" in found.output
        assert f"METAD grew at {other} K as well" in caplog.text
    line = ["windows", ".", "--cv", "phi", "--number", "3", "--steps", "10", "--dry-run"]
    assert "--temperature 300 of train" in CliRunner().invoke(main, line).output
    assert "windows along phi" in CliRunner().invoke(main, [*line, "--temperature", "300"]).output
    Path("window.json").write_text('{"status": "finished", "temperature": 300}')
    line = ["free-energy", ".", "--cv", "phi", "--temperature", "300"]
    assert "windows and models are of one" in CliRunner().invoke(main, line).output


def trained_at(temperature):
    """A flow of the hot frames, which says that they are of some temperature."""
    settings = TrainingSettings(steps=1, batch=8, width=4, generator="FlowGenerator")
    frames = replace(read_frames("frames", temperature=350.0), temperature=temperature)
    return ConditionalGAN.fit(frames, CHAIN.topology(), settings)


def test_a_model_is_refined_and_judged_by_the_frames_of_its_temperature(folder):
    trained_at(350.0).save("hot.npz")
    trained_at(400.0).save("odd.npz")
    for line, said in (
        ("refine hot.npz . --steps 1 --batch 8", "mean of u + log q"),
        ("refine odd.npz . --steps 1 --batch 8", "no frames are at 400 K"),
        ("judge hot.npz . -n 100 --seeds 0", "Kish/n"),
        ("judge odd.npz . -n 100 --seeds 0", "no frames are at 400 K"),
    ):
        found = CliRunner().invoke(main, line.split())
        assert said in found.output, found.output


# ---- stopped


def test_the_checkpoint_stands_beside_what_is_to_be_written(tmp_path):
    out, named = tmp_path / "model.npz", tmp_path / "other.chk"
    kept = checkpoint_for(out, None, False)
    assert kept == tmp_path / "model.chk"
    for name in (None, named):
        with pytest.raises(FileNotFoundError, match="nothing to go on with"):
            checkpoint_for(out, name, True)
    kept.touch()
    named.touch()
    with pytest.raises(FileExistsError, match="--resume"):
        checkpoint_for(out, None, False)
    assert checkpoint_for(out, None, True) == kept
    assert checkpoint_for(out, named, False) == named  # which is then gone on from
    assert checkpoint_for(out, named, True) == named


def test_a_refining_that_was_stopped_is_resumed(folder, monkeypatch):
    trained_at(350.0).save("flow.npz")
    line = ["refine", "flow.npz", ".", "--steps", "3", "--batch", "8", "--out"]
    whole = CliRunner().invoke(main, [*line, "whole.npz"])
    assert whole.exit_code == 0, whole.output
    made = _Refining.go_on

    def told_to_stop(refining):
        made(refining)
        signal.raise_signal(signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(_Refining, "go_on", told_to_stop)
        stopped = CliRunner().invoke(main, [*line, "again.npz"])
    assert stopped.exit_code == 128 + signal.SIGTERM
    assert "again.chk: the same command with --resume goes on" in stopped.output
    assert CliRunner().invoke(main, [*line, "again.npz"]).exit_code == 1
    again = CliRunner().invoke(main, [*line, "again.npz", "--resume"])
    assert again.output.partition(":")[2] == whole.output.partition(":")[2]
    assert not list(Path().glob("*.chk"))
    one, other = (ConditionalGAN.load(name).sample([0.3], 3) for name in ("whole.npz", "again.npz"))
    assert (one == other).all()


def test_bonds_that_no_pdb_file_tells_are_those_of_the_run(tmp_path):
    """A ring of residues, a metal: OpenMM reads their bonds from no PDB file."""
    topology = alanine_dipeptide().topology
    atoms = list(topology.atoms())
    for residue in topology.residues():
        residue.name = "ALA"  # of others all bonds are written
    topology.addBond(atoms[5], atoms[17])  # between residues that do not follow each other
    x = alanine_dipeptide().positions
    moved = x + np.random.default_rng(0).normal(scale=1e-3, size=(60, 22, 3))
    text = "phi: TORSION ATOMS=5,7,9,15\nPRINT ARG=phi\n"
    bias = PlumedBias(text, topology, directory=tmp_path)
    write_start(tmp_path, topology, x * unit.nanometer, bias)
    header = SegmentHeader(bias.variables, tuple(range(22)), topology_hash(topology), 300.0)
    writer = SegmentWriter(tmp_path / "frames", header)
    for step, (one, cvs) in enumerate(zip(moved, bias.cv_values(moved), strict=True), start=1):
        writer.append(Row(step, 0.1 * step, one, None, cvs, 0.0))
    writer.close()
    words = ["train", tmp_path / "frames", "--topology", tmp_path / "topology.pdb", "--steps", 1,
             "--out", tmp_path / "model.npz"]  # fmt: skip
    result = CliRunner().invoke(main, [str(word) for word in words])
    assert result.exit_code == 0, result.output
    assert topology_hash(app.PDBFile(str(tmp_path / "topology.pdb"))) != topology_hash(topology)
    ConditionalGAN.load(tmp_path / "model.npz", topology)
