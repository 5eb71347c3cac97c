"""COLVAR and HILLS as the usual tools read them: PLUMED's own, pandas, mlcolvar."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from openmm_cgan.plumed.driver.driver import run_driver
from openmm_cgan.plumed.driver.settings import DriverSettings
from openmm_cgan.plumed.driver.trajectories import Frame
from openmm_cgan.plumed.files.fields import read_fields
from tests.cases.other_processes import PATIENCE

TEXT = (
    "phi: TORSION ATOMS=1,2,3,4\nd: DISTANCE ATOMS=1,4\n"
    "m: METAD ARG=phi,d SIGMA=0.3,0.05 HEIGHT=1 PACE=2 BIASFACTOR=5 TEMP=300 "
    "GRID_MIN=-pi,0 GRID_MAX=pi,3 GRID_BIN=60,60 FILE=HILLS\n"
    "PRINT ARG=phi,d,m.bias FILE=COLVAR STRIDE=2\n"
)


@pytest.fixture(params=["once", "restarted"])
def files(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A folder with COLVAR and HILLS of one run, or of two in the same files."""
    frames = np.random.default_rng(2).normal(scale=0.3, size=(60, 4, 3))
    for restart in (False, True)[: 1 + (request.param == "restarted")]:
        settings = DriverSettings(
            timestep=0.5, directory=tmp_path, backend="native", restart=restart,
            initial_step=60 * restart,
        )  # fmt: skip
        run_driver(TEXT, map(Frame, frames), settings)
    return tmp_path


@pytest.mark.plumed
@pytest.mark.filterwarnings("ignore:unclosed file")  # PLUMED's reader
@pytest.mark.parametrize("name", ["COLVAR", "HILLS"])
def test_plumed_reads_them_as_pandas(name: str, files: Path) -> None:
    plumed = pytest.importorskip("plumed")
    ours, theirs = read_fields(files / name), plumed.read_as_pandas(str(files / name))
    assert list(theirs.columns) == list(ours.columns)
    assert len(theirs) == len(ours) >= 29
    for column in theirs.columns:
        np.testing.assert_array_equal(theirs[column].astype(float), ours.columns[column])
    if len(ours) < 40:  # constants are only told of files with one header
        found = {constant[0]: str(constant[-1]) for constant in theirs.plumed_constants}
        assert found == ours.constants


@pytest.mark.plumed
def test_plumed_sums_the_hills(files: Path) -> None:
    command = Path(sys.executable).with_name("plumed")
    words = ["--no-mpi", "sum_hills", "--hills", "HILLS", "--bin", "40,40", "--min", "-pi,0",
             "--max", "pi,3", "--outfile", "fes.dat"]  # fmt: skip
    subprocess.run(
        [str(command), *words], cwd=files, check=True, capture_output=True, timeout=PATIENCE
    )
    surface = np.loadtxt(files / "fes.dat", comments="#!")
    assert surface[:, 2].min() < -1


@pytest.mark.filterwarnings("ignore")  # of mlcolvar and what it loads
def test_mlcolvar_reads_them(files: Path) -> None:
    io = pytest.importorskip("mlcolvar.utils.io")
    table = io.load_dataframe(str(files / "COLVAR"))
    columns = read_fields(files / "COLVAR").columns
    for name, column in columns.items():
        np.testing.assert_array_equal(table[name].astype(float), column)
