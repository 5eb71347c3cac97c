"""GROMACS index files."""

from pathlib import Path

import pytest

from openmm_cgan.plumed.bias import PlumedBias
from openmm_cgan.plumed.input.index_files import read_index_file
from openmm_cgan.plumed.input.language import PlumedInputError

TEXT = "[ first one ]\n1 2 3 ; remark\n  10\n[ second ]\n7\n7 5\n"


@pytest.fixture
def index(tmp_path: Path) -> Path:
    (tmp_path / "a.ndx").write_text(TEXT)
    return tmp_path / "a.ndx"


def test_groups_by_name_and_the_first_by_default(index: Path) -> None:
    assert read_index_file(index) == read_index_file(index, "first one") == [0, 1, 2, 9]
    assert read_index_file(index, "second") == [6, 6, 4]


@pytest.mark.parametrize(
    ("content", "message"),
    [("", "has no group"), ("[ a ]\n1 x\n", "something else"), ("[ a ]\n0\n", "something else")],
)
def test_damaged_files_are_named(content: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "a.ndx").write_text(content)
    with pytest.raises(ValueError, match=message):
        read_index_file(tmp_path / "a.ndx")
    with pytest.raises(ValueError, match="can not be read"):
        read_index_file(tmp_path / "b.ndx")


def test_group_takes_from_it_and_removes_and_sorts(index: Path) -> None:
    text = (
        "g: GROUP NDX_FILE=a.ndx NDX_GROUP=second UNIQUE\n"
        "h: GROUP ATOMS={9,g,@ndx:{a.ndx second}} REMOVE=7,3 SORT\n"
        "c: COORDINATION GROUPA=g GROUPB=h R_0=0.3\n"
    )
    actions = PlumedBias(text, cvs=("c",), directory=index.parent, backend="native")._engine.actions
    assert actions[0].atoms == (4, 6)
    assert actions[1].atoms == (4, 4, 6, 6, 8)


@pytest.mark.parametrize("words", ["ATOMS=1 NDX_FILE=a.ndx", "ATOMS=1 NDX_GROUP=b", "SORT"])
def test_contradictions_are_refused(words: str, index: Path) -> None:
    text = f"g: GROUP {words}\nd: DISTANCE ATOMS=1,2\n"
    with pytest.raises(PlumedInputError, match="NDX"):
        PlumedBias(text, cvs=("d",), directory=index.parent, backend="native")
