"""Functions where they are singular and of biases, against real PLUMED."""

import numpy as np
import pytest

from benchmarks.eight_atoms import BOXES, N_ATOMS, TOLERANCE, deviation, made

pytestmark = pytest.mark.plumed


FUNCTIONS = (
    "delta(x)", "nandelta(x)", "step(x)", "recip(x)", "1/x", "0/x", "0^x", "1^x", "x/x", "x^0.5",
    "x^-1", "sqrt(x)", "log(x)", "cot(x)", "csc(x)", "(x-x)/x", "select(x,2,3)", "atan2(x,x)",
)  # fmt: skip


def test_functions_where_they_are_singular_are_plumeds(tmp_path):
    text = "p: POSITION ATOM=1 NOPBC\n" + "".join(
        f"f{i}: CUSTOM ARG=p.z FUNC={function} PERIODIC=NO\n"
        for i, function in enumerate(FUNCTIONS)
    )
    names = ",".join(f"f{i}" for i in range(len(FUNCTIONS)))
    text += f"PRINT ARG={names} FILE=COLVAR"
    frame = np.zeros((N_ATOMS, 3))
    engines = [made(text, b, None, tmp_path, [])[0]._engine for b in ("native", "kernel")]
    for z in (-1.5, 0.0, 1.5):
        frame[0, 2] = z
        ours, plumeds = (engine.evaluate(frame, None, 5)[0] for engine in engines)
        np.testing.assert_allclose(ours, plumeds, rtol=1e-12)


def test_functions_that_openmm_lacks_have_plumeds_forces(tmp_path):
    text = (
        "d: DISTANCE ATOMS=1,5\nf: CUSTOM ARG=d PERIODIC=NO "
        "FUNC=x^2+delta(x)+nandelta(x)+0^x+x/x+acsch(x)\nRESTRAINT ARG=f AT=0 KAPPA=3"
    )
    found = deviation(text, BOXES["triclinic"], tmp_path)
    assert max(found.values, found.energy, found.forces) < TOLERANCE, found


ON_BIASES = {
    "METAD": "d: DISTANCE ATOMS=1,5\nm: METAD ARG=d SIGMA=0.1 HEIGHT=1.2 PACE=5 BIASFACTOR=5\n"
    "c: COMBINE ARG=m.bias,d COEFFICIENTS=-0.7,0.2 POWERS=2,1 PERIODIC=NO\nBIASVALUE ARG=c",
    "several": "UNITS ENERGY=kcal/mol\nd: DISTANCE ATOMS=1,5\nt: TORSION ATOMS=2,4,5,8\n"
    "r: RESTRAINT ARG=d,t AT=0.2,1 KAPPA=5,6\nw: UPPER_WALLS ARG=r.bias,t AT=0.1,0 KAPPA=0.2,3\n"
    "m: METAD ARG=w.bias,d SIGMA=1,0.1 HEIGHT=1.2 PACE=5\n"
    "n: METAD ARG=m.bias SIGMA=1 HEIGHT=1.2 PACE=5 GRID_MIN=-1 GRID_MAX=90 GRID_BIN=400 FILE=N",
}


@pytest.mark.parametrize("box", BOXES.values(), ids=BOXES.keys())
@pytest.mark.parametrize("text", ON_BIASES.values(), ids=ON_BIASES.keys())
def test_biases_of_biases_are_plumeds(text, box, tmp_path):
    found = deviation(text, box, tmp_path)
    assert max(found.values, found.energy, found.forces) < TOLERANCE, found
