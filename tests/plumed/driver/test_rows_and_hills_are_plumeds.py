"""Rows, hills, forces and virial of inputs over frames, native against real PLUMED.

`benchmarks/plumed_differential.py` found these by inputs made at random.
"""

import math
import re
from pathlib import Path

import numpy as np
import pytest

from benchmarks.eight_atoms import BOXES, N_ATOMS, random_frames
from openmm_cgan.plumed.driver.driver import run_driver
from openmm_cgan.plumed.driver.settings import DriverSettings
from openmm_cgan.plumed.driver.trajectories import Frame

ANGLE = (
    "c: COM ATOMS=1-3\na: ANGLE ATOMS=c,4,6,7\nb: ANGLE ATOMS=5,8,2,c\n"
    "m: METAD ARG=a,b SIGMA=0.2,0.3 HEIGHT=1.2 PACE=1\n"
    "o: OPES_METAD ARG=b PACE=1 BARRIER=20 SIGMA=0.2\n"
    "PRINT ARG=a,b,m.bias,o.bias FMT=%.10g FILE=COLVAR\n"
)
TRACE = (
    "UNITS LENGTH=A MASS=2\ng: GYRATION ATOMS=1-5 TYPE=TRACE MASS_WEIGHTED\n"
    "h: GYRATION ATOMS=1-5 MASS_WEIGHTED\nr: RESTRAINT ARG=g,h AT=3,1 KAPPA=0.01,2\n"
    "PRINT ARG=g,h,r.bias FMT=%.10g FILE=COLVAR\n"
)


def written(text, backend, box, folder, frames=None):
    """The words of all files that an input leaves, by the name of the file."""
    frames = random_frames(box, np.random.default_rng(3), 6) if frames is None else frames
    settings = DriverSettings(
        backend=backend, directory=folder / backend, kt=2.5, forces=Path("FORCES"),
        full_virial=True, forces_format="%.10g", masses=np.arange(1.0, N_ATOMS + 1),
    )  # fmt: skip
    run_driver(text, (Frame(x, box) for x in frames), settings)
    texts = {path.name: path.read_text() for path in (folder / backend).iterdir()}
    return {name: [line.split() for line in text.splitlines()] for name, text in texts.items()}


@pytest.mark.plumed
@pytest.mark.parametrize("box", BOXES.values(), ids=BOXES)
@pytest.mark.parametrize("text", [ANGLE, TRACE], ids=["ANGLE", "TRACE"])
def test_files_are_plumeds(text, box, tmp_path):
    ours, plumeds = (written(text, backend, box, tmp_path) for backend in ("native", "kernel"))
    assert ours.keys() == plumeds.keys() >= {"COLVAR", "FORCES"}
    for name, lines in ours.items():
        for mine, theirs in zip(lines, plumeds[name], strict=True):
            if mine[0] == "#!":
                assert mine == theirs
                continue
            numbers = [float(x) for x in mine if x != "X"], [float(x) for x in theirs if x != "X"]
            np.testing.assert_allclose(*numbers, rtol=1e-6, atol=1e-6, err_msg=name)


@pytest.mark.plumed
def test_a_torn_entity_where_the_energy_is_nearly_that_of_its_other_image(tmp_path):
    """Out of INTERVAL the bias is that at its end, and there is no force."""
    text = (
        "WHOLEMOLECULES ENTITY0=1,2\nd: DISTANCE ATOMS=1,2 COMPONENTS NOPBC\n"
        "METAD ARG=d.x SIGMA=0.05 HEIGHT=1 PACE=1 INTERVAL=0.1,0.5\n"
    )
    frames = np.zeros((3, N_ATOMS, 3))
    frames[:, 1, 0] = 0.15, 0.15, 0.1 + 1e-7 - 2.4
    forces = []
    for backend in ("native", "kernel"):
        files = written(text, backend, BOXES["orthorhombic"], tmp_path, frames)
        forces.append([float(row[1]) for row in files["FORCES"][-N_ATOMS:]])
    assert abs(forces[1][0]) > 1
    np.testing.assert_allclose(*forces, rtol=1e-6)


GRID = (
    "#! FIELDS d e.bias der_d\n#! SET min_d 0\n#! SET max_d 4\n#! SET nbins_d {}\n"
    "#! SET periodic_d false\n"
)


def test_a_grid_whose_rows_are_between_its_nodes_is_said(tmp_path, caplog):
    """PLUMED takes them at the nearest nodes, and so does native."""
    rows = "".join(f"{0.5 * i} {math.sin(i)} {2 * math.cos(i)}\n" for i in range(9))
    text = "d: DISTANCE ATOMS=1,2\ne: EXTERNAL ARG=d FILE=grid\nPRINT ARG=e.bias FILE=COLVAR\n"
    (tmp_path / "native").mkdir()
    (tmp_path / "native" / "grid").write_text(GRID.format(9) + rows)
    written(text, "native", None, tmp_path)
    assert not caplog.records
    (tmp_path / "native" / "grid").write_text(GRID.format(8) + rows)
    assert len(written(text, "native", None, tmp_path)["COLVAR"]) == 7
    assert re.search(r"grid: d = .* between two nodes.*nbins_d counts nodes", caplog.text)


def test_a_smooth_minimum_of_what_is_zero_is_zero(tmp_path):
    text = (
        "k: COORDINATIONNUMBER SPECIESA=1,8 SPECIESB=2-7 SWITCH={RATIONAL R_0=0.05 D_MAX=0.06} "
        "MIN={BETA=30}\nBIASVALUE ARG=k.min\nPRINT ARG=k.min FILE=COLVAR\n"
    )
    files = written(text, "native", None, tmp_path)
    assert [float(row[1]) for row in files["COLVAR"][1:]] == [0.0] * 6
    assert all(float(x) == 0 for row in files["FORCES"] if row[0] == "X" for x in row[1:])


@pytest.mark.parametrize("action", ["OPES_METAD PACE=1 BARRIER=20", "METAD PACE=1 HEIGHT=1"])
def test_widths_may_have_blanks_between_them(action, tmp_path):
    rows = []
    for i, widths in enumerate(("0.2,0.3", "{0.2 0.3}", "{0.2, 0.3}")):
        text = "d: DISTANCE ATOMS=1,2\ne: ANGLE ATOMS=3,4,5\nPRINT ARG=m.bias FILE=COLVAR\n"
        text = text.replace("PRINT", f"{action} LABEL=m ARG=d,e SIGMA={widths}\nPRINT")
        rows.append(written(text, "native", None, tmp_path / str(i))["COLVAR"])
    assert rows[0] == rows[1] == rows[2]
