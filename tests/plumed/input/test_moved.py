"""Inputs that are written for other folders: their files are found from there."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from openmm.app import PDBFile

from openmm_cgan import PlumedBias
from openmm_cgan.cli.run_records import write_start
from openmm_cgan.explore.added_bias import with_metadynamics
from openmm_cgan.plumed.input.moved import text_elsewhere
from openmm_cgan.testsystems import alanine_dipeptide
from openmm_cgan.windows.placement import window_template

INPUT = """MOLINFO STRUCTURE=ala.pdb   # ala.pdb: the molecule
phi: TORSION ATOMS=@phi-2
r: RMSD REFERENCE={ala.pdb} TYPE=OPTIMAL
PRINT ARG=phi,r FILE=ala.pdb.txt
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An input and the file that it names."""
    molecule = alanine_dipeptide()
    (tmp_path / "cvs.dat").write_text(INPUT)
    with (tmp_path / "ala.pdb").open("w") as file:
        PDBFile.writeFile(molecule.topology, molecule.positions * 10, file)
    return tmp_path


def _values(text: str, elsewhere: Path) -> np.ndarray:
    molecule = alanine_dipeptide()
    elsewhere.mkdir(exist_ok=True)
    (elsewhere / "plumed.dat").write_text(text)
    bias = PlumedBias(elsewhere / "plumed.dat", molecule.topology, temperature=300)
    return bias.cv_values(molecule.positions)


def test_files_have_their_full_names(folder):
    text = text_elsewhere(INPUT, str(folder / "cvs.dat"), Path("/nowhere"))
    assert f"STRUCTURE={folder}/ala.pdb   # ala.pdb" in text
    assert f"REFERENCE={folder}/ala.pdb TYPE" in text
    assert "FILE=ala.pdb.txt" in text


def test_what_lies_where_the_text_is_to_stand_keeps_its_name(folder):
    assert text_elsewhere(INPUT, str(folder / "cvs.dat"), folder, home=folder) == INPUT


def test_names_of_no_file_stay(tmp_path):
    assert text_elsewhere(INPUT, str(tmp_path / "cvs.dat"), tmp_path) == INPUT


@pytest.mark.parametrize("where", ["beside the input", "in the working folder"])
def test_windows_and_runs_of_an_input_find_its_files(folder, monkeypatch, where):
    """All windows of such a run failed, and an exploration ended at its first run."""
    molecule = alanine_dipeptide()
    if where == "in the working folder":
        monkeypatch.chdir(folder)
        (folder / "inputs").mkdir()
        source = (folder / "cvs.dat").rename(folder / "inputs" / "cvs.dat")
    else:
        source = folder / "cvs.dat"
    bias = PlumedBias(source, molecule.topology, temperature=300)
    expected = bias.cv_values(molecule.positions)
    biased, _ = with_metadynamics(source, bias.variables, np.array([0.3, 0.1]), 300.0, 40.0)
    window = window_template(bias, {"phi": 50.0}).replace("${phi}", "1.0")
    run = folder / "run"
    run.mkdir()
    write_start(run, molecule.topology, molecule.positions, bias)
    monkeypatch.chdir("/")
    for text in (biased, window, (run / "plumed.dat").read_text()):
        found = _values(text, folder / "elsewhere")
        np.testing.assert_allclose(found, expected, atol=1e-9)


def test_a_text_finds_the_files_of_the_current_folder(folder, monkeypatch):
    """A script writes its files elsewhere by `directory`, and reads beside itself."""
    molecule = alanine_dipeptide()
    monkeypatch.chdir(folder)
    bias = PlumedBias(INPUT, molecule.topology, temperature=300, directory=folder / "made")
    assert np.isfinite(bias.cv_values(molecule.positions)).all()
    text = text_elsewhere(bias.text, bias.source, bias.directory)
    assert f"STRUCTURE={folder}/ala.pdb" in text
