"""Vectors: elements of DISTANCES and COORDINATIONNUMBER, printed, biased, and in functions."""

import re
import subprocess

import numpy as np
import pytest

from benchmarks.eight_atoms import BOXES, TOLERANCE, deviation, random_frames, reference_pdbs
from openmm_cgan.plumed.actions import read_actions
from openmm_cgan.plumed.input.language import PlumedInputError, read_statements
from tests.cases.driver_runs import compare, driven
from tests.cases.other_processes import PATIENCE
from tests.cases.plumed_command import plumed_command

pytestmark = pytest.mark.plumed

DISTANCES = "d: DISTANCES ATOMS1=1,2 ATOMS2=3,4 ATOMS3=5,8\n"
NUMBERS = "c: COORDINATIONNUMBER SPECIES=1-4 R_0=0.3\n"
MEAN_AND_ONE = "e: DISTANCES GROUPA=1 GROUPB=2-4 MEAN\no: DISTANCES ATOMS1=1,2\n"
# ruff: noqa: E501  one line of input each
RUNS = {
    "printed": DISTANCES + NUMBERS + MEAN_AND_ONE + "x: XDISTANCES GROUP=1-3\n"
    "PRINT ARG=d,c,e_mean,o,x.x FILE=COLVAR\nPRINT ARG=o.*,e.* FILE=MORE\n",
    "walls": DISTANCES + NUMBERS + "up: UPPER_WALLS ARG=d AT=0.2 KAPPA=20 OFFSET=0.1 EPS=2\n"
    "lo: LOWER_WALLS ARG=d,c AT=0.9,0.5 KAPPA=2,3 EXP=4,2\nDUMPFORCES ARG=d,c FILE=ff\n"
    "PRINT ARG=up.bias,up.force2,lo_bias,lo.*,d FILE=COLVAR\nUPPER_WALLS ARG=c AT=0.1 KAPPA=2\n",
    "restraints": "UNITS LENGTH=A ENERGY=kcal/mol\n" + DISTANCES + MEAN_AND_ONE +
    "r: RESTRAINT ARG=d,e AT=3,2 KAPPA=0.1,0.2 SLOPE=0.4,0\nq: RESTRAINT ARG=o AT=1 KAPPA=2\n"
    "PRINT ARG=r.bias,q.bias FILE=COLVAR\nDUMPFORCES ARG=d,e,o FILE=ff\n",
    "functions": DISTANCES + NUMBERS + "s: DISTANCE ATOMS=1,7\nf: CUSTOM ARG=d,s FUNC=x^2*y PERIODIC=NO\n"
    "g: COMBINE ARG=d,f,s COEFFICIENTS=1,2,3 POWERS=1,2,1 PARAMETERS=0.1,0.2,0 NORMALIZE PERIODIC=NO\n"
    "h: CUSTOM ARG=g VAR=u FUNC=sin(u) PERIODIC=NO\nRESTRAINT ARG=h AT=0.2 KAPPA=30\n"
    "w: LOWER_WALLS ARG=f AT=2 KAPPA=3\nPRINT ARG=f,g,h FILE=COLVAR\nDUMPFORCES ARG=s,d,g FILE=ff\n",
    "groups": DISTANCES + NUMBERS + "e: DISTANCES GROUP=d MEAN\nm: CENTER ATOMS=c\n"
    "a: DISTANCE ATOMS=m,d_vatom2\nRESTRAINT ARG=e.mean,a AT=0,0 KAPPA=3,4\n"
    "DUMPATOMS ATOMS=@allatoms FILE=all.xyz\nPRINT ARG=e.mean,a FILE=COLVAR\n",
    "displacements": "UNITS LENGTH=A\nf: FIXEDATOM AT=3,4,5\nWRAPAROUND ATOMS=1-8 AROUND=f,f\n"
    "r: RMSD REFERENCE={weighted} TYPE=OPTIMAL DISPLACEMENT NOPBC\nd: DISTANCE ATOMS=2,7 NOPBC\n"
    "s: RMSD REFERENCE={weighted} TYPE=SIMPLE DISPLACEMENT SQUARED\ne: DISTANCE ATOMS=2,8 NOPBC\n"
    "RESTRAINT ARG=r.dist,s.dist AT=0,0 KAPPA=0.3,0.004\nPRINT ARG=r.*,d,e FILE=COLVAR\n"
    "PRINT ARG=s.disp,s.dist FILE=MORE\nDISTANCE ATOMS=1,2\nPRINT ARG=@28 FILE=LAST\n",
    "moved": "WRAPAROUND ATOMS=5-8 AROUND=1\nd: DISTANCES GROUPA=1 GROUPB=5-8 NOPBC\n"
    "RESTRAINT ARG=d AT=0.3 KAPPA=3\nPRINT ARG=d FILE=COLVAR\n",
}  # fmt: skip


@pytest.mark.parametrize("box", BOXES.values(), ids=BOXES.keys())
@pytest.mark.parametrize("text", RUNS.values(), ids=RUNS.keys())
def test_forces_virials_and_files_are_plumeds(text, box, tmp_path):
    frames = random_frames(box, np.random.default_rng(3), 6)
    if "{" in text and "SWITCH" not in text:
        text = text.format(**reference_pdbs(tmp_path))
    driven(text, tmp_path, frames, box)
    written = sorted(path.name for path in (tmp_path / "kernel").iterdir())
    assert "COLVAR" in written
    # PLUMED's rotation is the best one to 1e-6: sum of w u x y is 3e-9 nm^2 there, 1e-13 here;
    # lengths are some 10 Angstrom
    tolerance = 3e-5 if "DISPLACEMENT" in text else 1e-6
    compare(tmp_path, *written, tolerance=tolerance)


BIASED = {
    "DISTANCES": DISTANCES + "RESTRAINT ARG=d AT=0.4 KAPPA=30\n",
    "of centres": "m: CENTER ATOMS=1-3\nd: DISTANCES GROUPA=m GROUPB=5-7\nUPPER_WALLS ARG=d AT=0.1 KAPPA=7\n",
    "COORDINATIONNUMBER": NUMBERS + "RESTRAINT ARG=c AT=0.4 KAPPA=30\n",
    "YDISTANCES": "d: YDISTANCES GROUP=1-3\nLOWER_WALLS ARG=d.y AT=0.4 KAPPA=30\n",
    "functions": DISTANCES + "f: CUSTOM ARG=d FUNC=x^3 PERIODIC=NO\nRESTRAINT ARG=f AT=0.4 KAPPA=5\n",
}  # fmt: skip


@pytest.mark.parametrize("box", BOXES.values(), ids=BOXES.keys())
@pytest.mark.parametrize("text", BIASED.values(), ids=BIASED.keys())
def test_forces_of_openmm_are_plumeds(text, box, tmp_path):
    text += "s: DISTANCE ATOMS=1,7\nPRINT ARG=s\n"  # what is compared: vectors are no variables
    found = deviation(text, box, tmp_path)
    assert max(found.values, found.energy, found.forces) < TOLERANCE, found


NOT_NATIVE = {
    "PRINT ARG=*": "names values inside d",
    "PRINT ARG=(d.*)": "names values inside d",
    "PRINT ARG=d_lt.1": "'d_lt.1' is a part of what PLUMED makes of d",
    "METAD ARG=d SIGMA=1 HEIGHT=1 PACE=1": "d: METAD takes no vectors natively",
    "r: RESTRAINT ARG=d AT=1 KAPPA=1\nPRINT ARG=r.*": "names values inside r",
    "r: RESTRAINT ARG=d AT=1 KAPPA=1\nPRINT ARG=*.bias": "names values inside r",
    "r: RESTRAINT ARG=d AT=1 KAPPA=1 STRIDE=2": "STRIDE",
    "x: XDISTANCES GROUP=1-3\nPRINT ARG=x.*": "names values inside x",
}
MISTAKES = {
    "s: DISTANCE ATOMS=1,2\nRESTRAINT ARG=d,s AT=1,2 KAPPA=1,2": "vectors and numbers together",
    "RESTRAINT ARG=d AT=1,2 KAPPA=1": "2 numbers for 1 arguments",
    "c: DISTANCES ATOMS1=1,2 ATOMS2=3,4\nf: CUSTOM ARG=c,d FUNC=x+y PERIODIC=NO": "lengths",
}


@pytest.mark.parametrize("line", [*NOT_NATIVE, *MISTAKES])
def test_what_is_not_known_of_vectors_is_said(line):
    text = f"d: DISTANCES GROUP=1-3 MEAN LESS_THAN={{RATIONAL R_0=1}}\n{line}\n"
    with pytest.raises(PlumedInputError, match=(NOT_NATIVE | MISTAKES)[line]) as refused:
        read_actions(read_statements(text, "<input>"))
    assert all(problem.is_mistake == (line in MISTAKES) for problem in refused.value.problems)


COUNTED = "\n".join(
    (
        DISTANCES + NUMBERS + MEAN_AND_ONE,
        "ENERGY LABEL=en\nk: DISTANCES GROUP=1-3 MIN={BETA=1} LOWEST SUM MORE_THAN={RATIONAL R_0=1}",
        "l: COORDINATIONNUMBER SPECIES=1-3 R_0=1 MOMENTS=2,3 HIGHEST MAX={BETA=1}",
        "b: ALPHABETA ATOMS1=1,2,3,4 REFERENCE=1",
        "u: UPPER_WALLS ARG=d,c AT=1,1 KAPPA=1,1\nr: RESTRAINT ARG=d,e AT=1,1 KAPPA=1,1 SLOPE=1,0",
        "s: RESTRAINT ARG=d AT=1 SLOPE=1\nf: CUSTOM ARG=d FUNC=x PERIODIC=NO\nx: XDISTANCES GROUP=1-3",
        "FLUSH STRIDE=7",
    )
)


def test_labels_of_what_has_none_are_plumeds(tmp_path):
    (tmp_path / "p.dat").write_text(COUNTED)
    (tmp_path / "t.xyz").write_text("8\n0 0 0\n" + 8 * "X 0 0 0\n")
    command = [plumed_command(), "driver", "--plumed", "p.dat", "--ixyz", "t.xyz"]
    done = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=PATIENCE
    )
    [number] = re.findall(r"Action FLUSH\s+PLUMED:\s+with label (@\d+)", done.stdout)
    assert read_actions(read_statements(COUNTED, "<input>"))[-1].label == number
