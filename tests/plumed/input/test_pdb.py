"""PDB files of an input: serials, and atoms by their names in MOLINFO."""

import pytest

from benchmarks.eight_atoms import TOLERANCE, deviation
from openmm_cgan.plumed.actions import read_actions
from openmm_cgan.plumed.input.language import PlumedInputError, read_statements
from openmm_cgan.plumed.input.pdb import read_pdb

MOLECULE = """\
ATOM      1  C   ACE A   1       1.000   2.000   3.000  1.00  0.00
ATOM      2  N   ALA A   2       1.000   2.000   3.000  1.00  0.00
ATOM      3  H   ALA A   2       1.000   2.000   3.000  1.00  0.00
ATOM      4  CA  ALA A   2       1.000   2.000   3.000  1.00  0.00
ATOM      5  CB  ALA A   2       1.000   2.000   3.000  1.00  0.00
ATOM      6  C   ALA A   2       1.000   2.000   3.000  1.00  0.00
ATOM      7  N   NME A   3       1.000   2.000   3.000  1.00  0.00
END
"""


@pytest.mark.parametrize(
    ("selector", "atoms"),
    [
        ("@phi-2", (0, 1, 3, 5)),
        ("@psi-A2", (1, 3, 5, 6)),
        ("@CB-A_2,@C-1,@N-2,@H-2", (4, 0, 1, 2)),
        ("{@mda:{name CB or name H} @mda:{resid 1} 2}", (2, 4, 0, 1)),
        ("{@mdt:{resname ALA and not name C} @mda:{resname ACE}}", (1, 2, 3, 4, 0)),
    ],
)
def test_selectors_of_molinfo(tmp_path, selector, atoms):
    if "@mdt" in selector:
        pytest.importorskip("mdtraj")
    (tmp_path / "ala.pdb").write_text(MOLECULE)
    text = f"MOLINFO STRUCTURE=ala.pdb\nt: GROUP ATOMS={selector}\n"
    actions = read_actions(read_statements(text), folder=tmp_path)
    assert actions[-1].atoms == atoms


@pytest.mark.parametrize(
    "selector", ["@phi-1", "@phi-9", "@XX-2", "@phi-B2", "@nothing", "@mda:{x}", "@mda:{resid 7}"]
)
def test_selectors_that_select_nothing_are_errors(tmp_path, selector):
    (tmp_path / "ala.pdb").write_text(MOLECULE)
    text = f"MOLINFO STRUCTURE=ala.pdb\nt: TORSION ATOMS={selector}\n"
    with pytest.raises(PlumedInputError, match=r":2: ATOMS"):
        read_actions(read_statements(text), folder=tmp_path)
    with pytest.raises(PlumedInputError, match="MOLINFO"):
        read_actions(read_statements("t: TORSION ATOMS=@phi-2"))


@pytest.mark.plumed
def test_selectors_of_nucleic_acids_are_plumeds(tmp_path):
    names = ("C3'", "O3'", "P", "O5'", "O4'", "C1'", "N9", "C4")
    lines = [
        f"ATOM  {i + 1:5d} {name:4s} {('RU5', 'RG3')[i > 1]:>3s} B{1 + (i > 1):4d}    "
        + "   0.000   0.000   0.000  1.00  1.00\n"
        for i, name in enumerate(names)
    ]
    (tmp_path / "rna.pdb").write_text("".join(lines))
    text = (
        f"MOLINFO STRUCTURE={tmp_path}/rna.pdb MOLTYPE=rna\nz: TORSION ATOMS=@zeta-1\n"
        "c: TORSION ATOMS=@chi-B_2\na: COM ATOMS=@nucleic\nd: DISTANCE ATOMS=a,@P-B2\n"
        "RESTRAINT ARG=z,c,d AT=1,1,0.2 KAPPA=3,4,90"
    )
    found = deviation(text, None, tmp_path)
    assert max(found.values, found.energy, found.forces) < TOLERANCE, found


@pytest.mark.parametrize(
    ("serial", "number"), [("A0000", 100000), ("ZZZZZ", 43770015), ("a0000", 43770016)]
)
def test_serials_in_hybrid_36(tmp_path, serial, number):
    row = f"ATOM  {serial}  C   MOL A   1       1.000   2.000   3.000  1.00  1.00\n"
    (tmp_path / "large.pdb").write_text(row)
    [atom] = read_pdb(tmp_path / "large.pdb")
    assert atom.serial == number  # of the definition of hybrid-36 (cci.lbl.gov/hybrid_36)
