"""Actions of real inputs, driven over frames: forces, virials and files are PLUMED's."""

import numpy as np
import pytest

from benchmarks.eight_atoms import BOXES, random_frames
from tests.cases.driver_runs import compare, driven

pytestmark = pytest.mark.plumed

PRINTED = "PRINT ARG=* FILE=COLVAR FMT=%12.6f\n"
RUNS = {
    "CONTACTMAP with one REFERENCE and WEIGHT": "c: CONTACTMAP ATOMS1=1,5 ATOMS2=2,7 "
    "SWITCH={RATIONAL R_0=0.3} REFERENCE=0.1 WEIGHT=0.5 CMDIST\nRESTRAINT ARG=c AT=0 KAPPA=2\n",
    "DEBUG and RANDOM_EXCHANGES": "DEBUG LOGACTIVITY STRIDE=5\nRANDOM_EXCHANGES SEED=3\n"
    "d: DISTANCE ATOMS=1,5\nRESTRAINT ARG=d AT=0 KAPPA=2\n",
    "PRINT with times": "d: DISTANCE ATOMS=1,5\n"
    "PRINT ARG=d FILE=MORE UPDATE_FROM=0.006 UPDATE_UNTIL=0.014 STRIDE=2 RESTART=YES\n",
    "UNITS NATURAL": "UNITS NATURAL LENGTH=A ENERGY=kcal/mol\nd: DISTANCE ATOMS=1,5 NOPBC\n"
    "m: METAD ARG=d SIGMA=9 HEIGHT=1 PACE=2 BIASFACTOR=5 TEMP=1.5\n"
    "n: METAD ARG=d SIGMA=9 HEIGHT=1 PACE=2 BIASFACTOR=5 FILE=MORE\n",
}


def frames_in(box, n=8, seed=2):
    """Whole molecules in any image, so that what OpenMM takes as it is, is."""
    rng = np.random.default_rng(seed)
    frames = random_frames(box, rng, n, torn=False)
    return frames if box is None else frames + rng.integers(-1, 2, size=(n, 1, 3)) @ box


@pytest.mark.parametrize("box", BOXES.values(), ids=BOXES.keys())
@pytest.mark.parametrize("text", RUNS.values(), ids=RUNS.keys())
def test_forces_virials_and_files_are_plumeds(text, box, tmp_path):
    driven(text + PRINTED, tmp_path, frames_in(box), box, full_virial=True, masses=np.arange(8) + 1)
    more = ["MORE"] if "FILE=MORE" in text else []
    compare(tmp_path, "COLVAR", "forces", *more, tolerance=2e-6)
