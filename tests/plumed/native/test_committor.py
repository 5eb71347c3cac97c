"""COMMITTOR natively, against real PLUMED."""

import numpy as np
import pytest

from benchmarks.eight_atoms import random_frames
from openmm_cgan.plumed.actions.committor import StopRunError
from openmm_cgan.plumed.bias import PlumedBias
from openmm_cgan.plumed.files.fields import read_fields
from openmm_cgan.plumed.input.language import PlumedInputError
from tests.cases.biases_with_state import PHI_PSI, VARIABLES, run_frames, simulated

plumed = pytest.mark.plumed


@plumed
@pytest.mark.parametrize("more", ["NOSTOP FMT=%8.4f", "NOSTOP STRIDE=10"])
def test_basins_entered_are_plumeds(more, tmp_path):
    text = (
        VARIABLES + "COMMITTOR ARG=t,d BASIN_LL1=0,0 BASIN_UL1=3.2,1 BASIN_LL2=-2,0 "
        f"BASIN_UL2=-1,1 STRIDE=5 FILE=COMMIT {more}\nPRINT ARG=t STRIDE=5 FILE=COLVAR\n"
    ).replace("STRIDE=5 FILE=COMMIT NOSTOP STRIDE", "FILE=COMMIT NOSTOP STRIDE")
    frames = random_frames(None, np.random.default_rng(4), 30)
    for backend in ("native", "kernel"):
        bias, _ = run_frames(text, backend, None, tmp_path / backend, frames)
        bias.close()
    for file in ("COMMIT", "COLVAR"):
        ours, plumeds = ((tmp_path / b / file).read_text() for b in ("native", "kernel"))
        assert ours == plumeds


@plumed
def test_basins_are_looked_at_before_a_kernel_and_rows_are_written_after_it(tmp_path):
    """PLUMED calculates a COMMITTOR before it updates an OPES that stands above it."""
    text = VARIABLES + (
        "o: OPES_METAD ARG=t SIGMA=0.3 PACE=5 BARRIER=15 TEMP=300\n"
        "COMMITTOR ARG=o.nker BASIN_LL1=0 BASIN_UL1=5.5 BASIN_LL2=5.5 BASIN_UL2=99 NOSTOP "
        "STRIDE=5 FILE=COMMIT\nPRINT ARG=o.nker STRIDE=5 FILE=COLVAR\n"
    )
    frames = random_frames(None, np.random.default_rng(4), 30)
    for backend in ("native", "kernel"):
        bias, _ = run_frames(text, backend, None, tmp_path / backend, frames)
        bias.close()
    for file in ("COMMIT", "COLVAR"):
        ours, plumeds = ((tmp_path / b / file).read_text() for b in ("native", "kernel"))
        assert ours == plumeds
    entered = read_fields(tmp_path / "native" / "COMMIT")
    assert len(entered) == 2
    rows = read_fields(tmp_path / "native" / "COLVAR").columns
    assert rows["o.nker"][rows["time"] < entered.columns["time"][1]].max() > 5.5


@plumed
@pytest.mark.parametrize("backend", ["native", "kernel"])
def test_a_run_stops_in_a_basin_with_its_rows_written(backend, tmp_path):
    text = (
        PHI_PSI + "COMMITTOR ARG=psi STRIDE=10 BASIN_LL1=-3.2 BASIN_UL1=3.2 FILE=COMMIT\n"
        "COMMITTOR ARG=psi STRIDE=10 BASIN_LL1=0 BASIN_UL1=0\n"
        "PRINT ARG=phi STRIDE=10 FILE=COLVAR\n"
    ).replace("STRIDE=10 BASIN_LL1=-3.2", "STRIDE=30 BASIN_LL1=-3.2")
    bias, simulation = simulated(text, backend, tmp_path)
    with pytest.raises(StopRunError, match="stop"):  # the first step of a run is looked at too
        simulation.step(100)
    bias.close()
    assert simulation.currentStep == 0
    assert len(read_fields(tmp_path / "COLVAR")) == 1
    assert len(read_fields(tmp_path / "COMMIT")) == 1
    text = (tmp_path / "COMMIT").read_text()
    assert text.endswith("#! SET COMMITTED TO BASIN 1 \n\n")
    assert text.startswith("#! FIELDS time psi basin\n#! SET min_psi -pi\n#! SET max_psi pi\n 0.0")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("BASIN_LL1=0", "needs BASIN_LLi= and BASIN_ULi="),
        ("BASIN_LL1=1 BASIN_UL1=0", "must not be below"),
        ("BASIN_LL1=0 BASIN_UL1=1 STRIDE=0", "must be positive"),
    ],
)
def test_a_bad_committor_is_refused(words, message):
    text = f"t: TORSION ATOMS=1-4\nCOMMITTOR ARG=t {words}\nPRINT ARG=t\n"
    with pytest.raises(PlumedInputError, match=message):
        PlumedBias(text, backend="native")
