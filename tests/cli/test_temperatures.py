"""Frames of several temperatures: a command is told of which, or takes those of its model."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import openmm
import pytest
from click.testing import CliRunner
from openmm import app, unit

from openmm_cgan.cgan import ConditionalGAN, TrainingSettings
from openmm_cgan.cli import main
from openmm_cgan.frames import read_frames, topology_hash
from openmm_cgan.frames.segments import Row, SegmentHeader, SegmentWriter
from openmm_cgan.plumed.bias import PlumedBias
from openmm_cgan.testsystems import Chain

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


def test_training_takes_the_frames_of_one_temperature(folder):
    line = ["train", "frames", "--topology", "topology.pdb", "--steps", "1", "--out", "model.npz"]
    found = CliRunner().invoke(main, line)
    assert found.exit_code == 1
    assert "train --temperature 300" in found.output
    found = CliRunner().invoke(main, [*line, "--temperature", "350"])
    assert found.exit_code == 0, found.output
    gan = ConditionalGAN.load("model.npz", CHAIN.topology())
    assert gan.temperature == 350.0
    own = read_frames("frames", temperature=350.0).cvs[:, 0]
    np.testing.assert_array_equal(gan.cv_range[0], [own.min(), own.max()])


def test_a_model_is_refined_and_judged_by_the_frames_of_its_temperature(folder):
    settings = TrainingSettings(steps=1, batch=8, width=4, generator="FlowGenerator")
    hot = read_frames("frames", temperature=350.0)
    ConditionalGAN.fit(hot, CHAIN.topology(), settings).save("hot.npz")
    ConditionalGAN.fit(replace(hot, temperature=400.0), CHAIN.topology(), settings).save("odd.npz")
    for line, said in (
        ("refine hot.npz . --steps 1 --batch 8", "mean of u + log q"),
        ("refine odd.npz . --steps 1 --batch 8", "no frames are at 400 K"),
        ("judge hot.npz . -n 100 --seeds 0", "Kish/n"),
        ("judge odd.npz . -n 100 --seeds 0", "no frames are at 400 K"),
    ):
        found = CliRunner().invoke(main, line.split())
        assert said in found.output, found.output
