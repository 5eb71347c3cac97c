"""The example runs as it stands, only shorter."""

import csv
import runpy
from pathlib import Path

import pytest

from openmm_cgan.cgan import TrainingSettings
from openmm_cgan.frames import read_frames
from tests.cases import ROOT

SHORT = TrainingSettings(steps=5)


def rows_of(table: str) -> int:
    with open(table, newline="") as file:
        return len(list(csv.DictReader(file)))


@pytest.fixture(autouse=True)
def in_a_folder_with_the_inputs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "plumed_inputs").symlink_to(ROOT / "plumed_inputs")


def test_the_example_runs() -> None:
    example = runpy.run_path(str(ROOT / "examples" / "alanine_dipeptide.py"))
    example["main"](steps=2000, training=SHORT)
    assert len(read_frames("frames", settling=True)) == 40
    assert Path("model.npz").exists()
    assert rows_of("proposals.csv") == 2
