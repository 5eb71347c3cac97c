"""Molecules made whole and points placed by a box, against real PLUMED."""

import numpy as np
import pytest

from benchmarks.eight_atoms import BOXES, TOLERANCE, deviation, reference_pdbs
from openmm_cgan import PlumedBias
from openmm_cgan.plumed.driver.driver import run_driver
from openmm_cgan.plumed.driver.settings import DriverSettings
from openmm_cgan.plumed.driver.trajectories import Frame
from openmm_cgan.plumed.files.fields import read_fields
from openmm_cgan.plumed.input.language import PlumedInputError

pytestmark = pytest.mark.plumed

WHOLE = {
    "entities that share atoms": "WHOLEMOLECULES ENTITY0=1-5 ENTITY1=5,8,7 ENTITY2=8,6\n"
    "e: DISTANCE ATOMS=1,8 NOPBC\nd: DISTANCE ATOMS=3,6 NOPBC\n"
    "RESTRAINT ARG=e,d AT=0.1,0.2 KAPPA=50,60",
    "a spanning tree": "MOLINFO STRUCTURE={pdb} WHOLE\nWHOLEMOLECULES ENTITY0=7,2-6,1,8 EMST\n"
    "e: DISTANCE ATOMS=2,8 NOPBC\nd: DISTANCE ATOMS=3,6\nt: TORSION ATOMS=1,2,5,8\n"
    "g: GYRATION ATOMS=1-3,8\nr: RMSD REFERENCE={weighted} TYPE=OPTIMAL\n"
    "c: CENTER ATOMS=1,2,7\nn: COORDINATION GROUPA=c GROUPB=4,5 R_0=0.3\n"
    "RESTRAINT ARG=e,d,t,g,r,n AT=0.1,0.2,1,0.1,0,1 KAPPA=50,60,7,80,9,10",
    "NOPBC after WHOLEMOLECULES": "WHOLEMOLECULES ENTITY0=4-8,1-3\ne: DISTANCE ATOMS=1,8 NOPBC\n"
    "c: COM ATOMS=1,2,7 NOPBC\nd: DISTANCE ATOMS=c,4\nt: TORSION ATOMS=1,2,5,8 NOPBC\n"
    "g: GYRATION ATOMS=1-3,8 NOPBC\nx: DISTANCE ATOMS=1,8 COMPONENTS NOPBC\n"
    "n: COORDINATION GROUPA=1,2 GROUPB=7,8 R_0=0.3 NOPBC\n"
    "RESTRAINT ARG=e,d,t,g,x.x,n AT=0.1,0.2,1,0.1,0,1 KAPPA=50,60,7,80,9,10",
}

PLACED = {
    "CENTER PHASES": "c: CENTER ATOMS=1-3 PHASES\ne: CENTER ATOMS=2,5,5,8 WEIGHTS=2,1,1,3 PHASES\n"
    "m: COM ATOMS=3,6,7 PHASES\nd: DISTANCE ATOMS=c,8\nt: TORSION ATOMS=1,e,c,m\n"
    "x: DISTANCE ATOMS=e,4 COMPONENTS\ns: DISTANCE ATOMS=m,5 SCALED_COMPONENTS\n"
    "p: POSITION ATOM=m\n"
    "n: COORDINATION GROUPA=c,1 GROUPB=e,8 R_0=0.3\n"
    "RESTRAINT ARG=d,t,x.y,s.b,p.x,n AT=0.3,1,0.1,0.2,0,1 KAPPA=50,6,70,8,9,10",
    "FIXEDATOM SCALED_COMPONENTS": "f: FIXEDATOM AT=0.1,-0.3,0.45 SCALED_COMPONENTS\n"
    "d: DISTANCE ATOMS=f,2\ns: DISTANCE ATOMS=f,3 SCALED_COMPONENTS NOPBC\n"
    "a: ANGLE ATOMS=1,f,4\nn: COORDINATION GROUPA=f,1 GROUPB=7,8 R_0=0.3\n"
    "x: DISTANCE ATOMS=f,7 COMPONENTS\n"
    "RESTRAINT ARG=d,s.a,s.c,a,n,x.z AT=0.3,0.1,0.2,1,1,0 KAPPA=50,6,7,8,9,10",
}


@pytest.mark.parametrize("box", BOXES.values(), ids=BOXES.keys())
@pytest.mark.parametrize("text", PLACED.values(), ids=PLACED.keys())
def test_points_placed_by_the_box_are_plumeds(text, box, tmp_path):
    if "PHASES" in text and box is BOXES["triclinic"]:  # PLUMED's forces are no gradient there
        with pytest.raises(PlumedInputError, match="slope"):
            deviation(text, box, tmp_path)
        text = text.replace("RESTRAINT", "PRINT").partition(" AT=")[0] + " FILE=COLVAR"
    found = deviation(text, box, tmp_path)
    assert max(found.values, found.energy, found.forces) < TOLERANCE, found


@pytest.mark.parametrize("box", BOXES.values(), ids=BOXES.keys())
@pytest.mark.parametrize("text", WHOLE.values(), ids=WHOLE.keys())
def test_molecules_made_whole_are_plumeds(text, box, tmp_path):
    text = text.format(**reference_pdbs(tmp_path))
    found = deviation(text, box, tmp_path, bonded=True)
    assert max(found.values, found.energy, found.forces) < TOLERANCE, found
    printed = text.replace("RESTRAINT", "PRINT").partition(" AT=")[0] + " FILE=COLVAR"
    found = deviation(printed, box, tmp_path / "torn")  # no forces: the frames need not be whole
    assert found.values < TOLERANCE, found


REFUSED = {
    "virtual atoms": "c: COM ATOMS=1,2\nWHOLEMOLECULES ENTITY0=1-8\nd: DISTANCE ATOMS=c,8 NOPBC",
    "from above": "c: COM ATOMS=1,2 NOPBC\nWHOLEMOLECULES ENTITY0=1-8\nd: DISTANCE ATOMS=c,8",
    "STRIDE": "WHOLEMOLECULES ENTITY0=1-8 STRIDE=2\nd: DISTANCE ATOMS=1,8 NOPBC",
    "needs a MOLINFO": "WHOLEMOLECULES ENTITY0=1-8 EMST\nd: DISTANCE ATOMS=1,8 NOPBC",
    "MOLINFO WHOLE": "MOLINFO STRUCTURE={pdb} WHOLE\nd: DISTANCE ATOMS=2,8",
    "first atom, 1, is not": "MOLINFO STRUCTURE={pdb} WHOLE\nWHOLEMOLECULES ENTITY0=1-8\n"
    "d: DISTANCE ATOMS=2,8",
    "at one place": "MOLINFO STRUCTURE={pdb} WHOLE\nWHOLEMOLECULES ENTITY0=2,3,2\n"
    "d: DISTANCE ATOMS=2,3",
}


@pytest.mark.parametrize(("reason", "text"), REFUSED.items(), ids=REFUSED.keys())
def test_where_it_is_not_known_what_is_whole_is_refused(reason, text, tmp_path):
    text = text.format(**reference_pdbs(tmp_path))
    with pytest.raises(PlumedInputError, match=reason):
        PlumedBias(text + "\nPRINT ARG=d\n", backend="native")


def test_a_molecule_wider_than_the_box_is_made_whole_along_its_tree(tmp_path):
    """The atoms are listed in no order: only the PDB file tells which are neighbours."""
    rng = np.random.default_rng(2)
    whole = np.cumsum([[0.1, 0.04 * (-1) ** i, 0.02] for i in range(12)], axis=0)
    line = "ATOM  {:5d}  C   MOL A   1    {:8.3f}{:8.3f}{:8.3f}  1.00  1.00\n"
    left_out = 5  # comes last, behind the one before it in the list
    lines = [line.format(i + 1, *(10 * x)) for i, x in enumerate(whole) if i != left_out]
    (tmp_path / "ref.pdb").write_text("".join([*lines, "END\n"]))
    box = np.array([[0.5, 0, 0], [0.1, 0.6, 0], [-0.1, 0.2, 0.7]])
    torn = [whole + rng.integers(-2, 3, size=(12, 3)) @ box for _ in range(5)]
    order = [4, 6, *(int(i) + 1 for i in rng.permutation(12) if i not in (3, left_out))]
    text = f"MOLINFO STRUCTURE={tmp_path}/ref.pdb WHOLE\nWHOLEMOLECULES "
    text += f"ENTITY0={','.join(map(str, order))}\n"
    pairs = [(i, j) for i in range(1, 13) for j in range(1, i)]
    text += "".join(f"d{i}-{j}: DISTANCE ATOMS={i},{j} NOPBC\n" for i, j in pairs)
    text += "PRINT ARG=(d.*) FILE=COLVAR\n"
    tables = {}
    for name, changed in (("tree", text), ("list", text.replace(" WHOLE\n", "\n"))):
        for backend in ("native", "kernel"):
            folder = tmp_path / name / backend
            frames = iter([Frame(x, box) for x in torn])
            run_driver(changed, frames, DriverSettings(backend=backend, directory=folder))
            tables[name, backend] = (folder / "COLVAR").read_text()
        assert tables[name, "native"] == tables[name, "kernel"]
    assert tables["tree", "native"] != tables["list", "native"]
    found = read_fields(tmp_path / "tree" / "native" / "COLVAR").columns
    for i, j in pairs:
        expected = np.linalg.norm(whole[i - 1] - whole[j - 1])
        assert left_out + 1 in (i, j) or found[f"d{i}-{j}"] == pytest.approx(expected, abs=1e-5)
