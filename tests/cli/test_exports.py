"""Truth: what MDAnalysis and numpy read back."""

import MDAnalysis
import numpy as np
import pytest

from openmm_cgan.cli.exports import proposal_columns, write_structures, write_table
from openmm_cgan.proposals import Proposals
from openmm_cgan.testsystems import alanine_dipeptide


def test_table_keeps_every_digit_and_the_header(tmp_path) -> None:
    columns = {"phi": np.array([0.1, 1 / 3]), "reason": ["", "cv error, large"], "n": [1, 2]}
    write_table(tmp_path / "t.csv", columns)
    assert (tmp_path / "t.csv").read_text() == (
        'phi,reason,n\n0.1,,1\n0.3333333333333333,"cv error, large",2\n'
    )
    with pytest.raises(ValueError, match="shorter"):
        write_table(tmp_path / "t.csv", {"a": [1], "b": []})
    assert (tmp_path / "t.csv").read_text().startswith("phi")
    assert [path.name for path in tmp_path.iterdir()] == ["t.csv"]


@pytest.mark.parametrize("ending", [".pdb", ".dcd", ".xtc"])
def test_structures_are_read_back_by_mdanalysis(ending: str, tmp_path) -> None:
    molecule = alanine_dipeptide()
    positions = molecule.positions + np.arange(3)[:, None, None] * 0.01
    write_structures(tmp_path / "top.pdb", molecule.topology, positions[:1])
    write_structures(tmp_path / f"all{ending}", molecule.topology, positions)
    universe = MDAnalysis.Universe(tmp_path / "top.pdb", tmp_path / f"all{ending}")
    read = [universe.atoms.positions / 10 for _ in universe.trajectory]
    np.testing.assert_allclose(read, positions, atol=6e-4)


def test_other_endings_and_empty_sets_are_refused(tmp_path) -> None:
    molecule = alanine_dipeptide()
    with pytest.raises(ValueError, match=r"expected one of \.pdb, \.dcd, \.xtc"):
        write_structures(tmp_path / "a.gro", molecule.topology, molecule.positions[None])
    with pytest.raises(ValueError, match="no configuration"):
        write_structures(tmp_path / "a.pdb", molecule.topology, molecule.positions[None][:0])


def test_proposals_are_listed_with_reasons() -> None:
    proposals = Proposals(
        positions=np.zeros((2, 1, 3)),
        targets=np.array([[1.0], [2.0]]),
        cvs=np.array([[1.01], [np.nan]]),
        reasons=np.array(["", "not finite"]),
        seed=0,
    )
    columns = proposal_columns(proposals, ["phi"])
    assert list(columns) == ["proposal", "phi_asked", "phi", "result"]
    assert columns["result"] == ["accepted", "not finite"]


def test_no_name_of_a_column_is_a_formula(tmp_path):
    names = ["=1+1", "+a", "-a", "@0.bias", "phi"]
    write_table(tmp_path / "t.csv", {name: [1.0] for name in names})
    header = (tmp_path / "t.csv").read_text().splitlines()[0]
    assert header == "'=1+1,'+a,'-a,'@0.bias,phi"
