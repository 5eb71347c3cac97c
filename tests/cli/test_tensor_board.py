"""Rows of a training reach TensorBoard as they come; without it there is one clear error."""

import logging
import sys
from types import ModuleType

import numpy as np
import pytest
from click.testing import CliRunner

from openmm_cgan.cgan import ConditionalGAN, TrainingSettings
from openmm_cgan.cli import main
from openmm_cgan.cli.tensor_board import TOLD_BY, tensor_board
from openmm_cgan.collective_variable import CollectiveVariable
from openmm_cgan.frames import Frames
from openmm_cgan.testsystems import Chain


class Writer:
    """What torch.utils.tensorboard.SummaryWriter is asked for."""

    def __init__(self, folder):
        self.folder, self.scalars, self.closed = folder, [], False
        writers.append(self)

    def add_scalar(self, name, value, step):
        self.scalars.append((name, value, step))

    def flush(self):
        pass

    def close(self):
        self.closed = True


writers: list[Writer] = []


@pytest.fixture
def installed(monkeypatch):
    module = ModuleType("torch.utils.tensorboard")
    module.SummaryWriter = Writer
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", module)
    writers.clear()


def test_each_row_of_the_history_is_written(installed, tmp_path):
    x = Chain().sample(60, 300.0, seed=1)
    theta = CollectiveVariable("theta", "rad")
    frames = Frames.of_arrays(x.reshape(60, -1), np.linspace(1.7, 2.1, 60), [theta])
    settings = TrainingSettings(steps=4, batch=8, width=4, report_every=2)
    with tensor_board(tmp_path / "board"):
        gan = ConditionalGAN.fit(frames, settings=settings)
    [writer] = writers
    expected = [
        (f"training/{name}", value, row["step"])
        for row in gan.history
        for name, value in row.items()
        if name not in ("step", "seconds")
    ]
    assert len(gan.history) == 2
    assert writer.scalars == expected
    assert writer.closed
    assert writer.folder == str(tmp_path / "board")
    assert logging.getLogger(TOLD_BY).handlers == []
    with tensor_board(None):
        pass
    assert len(writers) == 1


def test_without_tensorboard_nothing_is_trained(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    (tmp_path / "frames").mkdir()
    (tmp_path / "topology.pdb").write_text("END\n")
    words = [tmp_path / "frames", "--topology", tmp_path / "topology.pdb"]
    words += ["--out", tmp_path / "model.npz", "--tensorboard", tmp_path / "board"]
    result = CliRunner().invoke(main, ["train", *map(str, words)])
    assert result.exit_code == 1
    assert "pip install 'openmm_cgan[tensorboard]'" in result.output
    assert not (tmp_path / "model.npz").exists()
