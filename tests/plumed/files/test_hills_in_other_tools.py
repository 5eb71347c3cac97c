"""HILLS and COLVAR of native metadynamics in the hands of the tools that people use on them."""

import subprocess
from pathlib import Path

import numpy as np
import pytest

from openmm_cgan.free_energy.hills import hills_free_energy
from openmm_cgan.plumed.bias import PlumedBias
from openmm_cgan.plumed.files.fields import read_fields
from tests.cases.biased_runs import biased_alanine
from tests.cases.other_processes import PATIENCE
from tests.cases.plumed_command import plumed_command

BIAS_FACTOR = 6.0
TEXT = (
    "phi: TORSION ATOMS=5,7,9,15\npsi: TORSION ATOMS=7,9,15,17\n"
    f"m: METAD ARG=phi,psi SIGMA=0.35,0.3 HEIGHT=1.2 PACE=10 BIASFACTOR={BIAS_FACTOR} "
    "GRID_MIN=-pi,-pi GRID_MAX=pi,pi GRID_BIN=60,60\n"
    "PRINT ARG=phi,psi,m.bias STRIDE=10 FILE=COLVAR\n"
)


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> tuple[Path, PlumedBias]:
    """Two runs, the second going on from the first."""
    folder = tmp_path_factory.mktemp("run")
    for restart in (False, True):
        bias, simulation = biased_alanine(TEXT, folder, restart=restart)
        simulation.step(400)
        bias.close()
    return folder, bias


@pytest.mark.plumed
def test_sum_hills_gives_the_bias(run, tmp_path):
    folder, bias = run
    command = [plumed_command(), "sum_hills", "--hills", str(folder / "HILLS")]
    command += ["--min", "-pi,-pi", "--max", "pi,pi", "--bin", "60,60", "--outfile", "fes.dat"]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, timeout=PATIENCE)
    fes = read_fields(tmp_path / "fes.dat").columns
    bias_there = bias.bias_of_cvs(np.stack([fes["phi"], fes["psi"]], axis=-1))
    expected = -bias_there * BIAS_FACTOR / (BIAS_FACTOR - 1)
    assert expected.min() < -5
    # nodes of the file are those of the grid, but the file has 9 digits of their places
    np.testing.assert_allclose(fes["file.free"], expected, atol=2e-6)


@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")  # it leaves them to Python
def test_pandas_reader_of_plumed(run):
    plumed = pytest.importorskip("plumed")
    pytest.importorskip("pandas")
    folder, _ = run
    for name, rows in (("HILLS", 80), ("COLVAR", 81)):
        frame = plumed.read_as_pandas(str(folder / name))
        ours = read_fields(folder / name)
        assert list(frame.columns) == list(ours.columns)
        assert len(frame) == rows
        for column, values in ours.columns.items():
            np.testing.assert_array_equal(frame[column], values)


def test_metadynminer(run, capsys):
    pytest.importorskip("pyvista")  # without it metadynminer ends the process
    metadynminer = pytest.importorskip("metadynminer")
    folder, _ = run
    hills = metadynminer.Hills(name=str(folder / "HILLS"), periodic=[True, True])
    found = metadynminer.Fes(hills, resolution=32, original=True)
    places = -np.pi + 2 * np.pi * np.arange(32) / 32
    cvs = np.stack(np.meshgrid(places, places, indexing="ij"), axis=-1).reshape(-1, 2)
    expected = hills_free_energy(read_fields(folder / "HILLS"), cvs).reshape(32, 32)
    surface = np.asarray(found.fes)
    closest = min(np.abs(s - expected + expected.min()).max() for s in (surface, surface.T))
    assert closest < 1e-6, capsys.readouterr().out
