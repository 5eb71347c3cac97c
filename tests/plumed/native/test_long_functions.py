"""Hills on a grid along functions of functions, whose slopes OpenMM would take minutes for."""

import openmm
import pytest

from benchmarks.eight_atoms import TOLERANCE, deviation, make_system
from openmm_cgan.plumed.bias import PlumedBias

pytestmark = pytest.mark.plumed

SHORT = "d: DISTANCE ATOMS=1,2\ne: DISTANCE ATOMS=3,4\nf: CUSTOM ARG=d,e FUNC=x*y PERIODIC=-1,2\n"
LONG = SHORT + (
    "h: DISTANCE ATOMS=5,6\no: SORT ARG=d,e,h\n"
    "p: COMBINE ARG=o.1,h POWERS=2,1 PERIODIC=-1,2\nq: CUSTOM ARG=p,d FUNC=x*y PERIODIC=-1,2\n"
    "k: CUSTOM ARG=q,p FUNC=x+y*x PERIODIC=-1,2\n"
)
HILLS = "SIGMA=0.2,0.2 HEIGHT=1.2 PACE=5 GRID_MIN=-1,-1 GRID_MAX=2,2 GRID_BIN=90,90"


@pytest.mark.parametrize("action", ["PBMETAD", "METAD"])
def test_they_are_worked_out_in_python_and_are_plumeds(action, tmp_path):
    for text, kind in ((SHORT + "g: CUSTOM ARG=e FUNC=x PERIODIC=-1,2\n", openmm.CustomCVForce),
                       (LONG, openmm.PythonForce)):  # fmt: skip
        names = "f,g" if kind is openmm.CustomCVForce else "k,q"
        text += f"{action} ARG={names} {HILLS}"
        bias = PlumedBias(text, temperature=300, backend="native", directory=tmp_path)
        assert [type(force) for force in bias.add_to(make_system(None))] == [kind]
        bias.close(used=False)
        found = deviation(text, None, tmp_path / names, n=6)
        assert max(found.values, found.energy, found.forces) < TOLERANCE
