"""The lexical rules of PLUMED input."""

import contextlib
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from openmm_cgan.plumed.actions import ACTIONS, read_actions
from openmm_cgan.plumed.input.language import (
    PlumedInputError,
    include_files,
    read_statements,
    read_text,
)
from openmm_cgan.plumed.input.words import read_integer, read_real, read_serials, split_vector


def test_labels_comments_and_case():
    text = "phi: torsion ATOMS=1,2,3,4 # the backbone\n\n  # nothing\nTORSION LABEL=psi ATOMS=2-5\n"
    phi, psi = read_statements(text)
    assert (phi.action, phi.label, phi.words) == ("TORSION", "phi", ("ATOMS=1,2,3,4",))
    assert (psi.label, psi.words, psi.location.line) == ("psi", ("ATOMS=2-5",), 4)


def test_continuation_lines_close_with_dots_and_the_first_word():
    [metad] = read_statements("METAD ...\n ARG=phi\n LABEL=m SIGMA=0.1\n... METAD\n")
    assert metad.label == "m"
    assert metad.words == ("ARG=phi", "SIGMA=0.1")
    [labelled] = read_statements("g: ...\n GROUP ATOMS=1\n... g:\n")
    assert (labelled.action, labelled.label) == ("GROUP", "g")


def test_braces_protect_blanks_and_may_span_lines_of_a_block():
    [statement] = read_statements("COORDINATION ...\n SWITCH={RATIONAL\n R_0=1} PAIR\n...\n")
    assert statement.words == ("SWITCH={RATIONAL R_0=1}", "PAIR")


def test_endplumed_ends_the_input():
    assert read_statements("ENDPLUMED\nthis is } not read\n") == []


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("\nA B={1\n", 2),
        ("A B=1}\n", 1),
        ("A ...\n B=1\n... C\n", 3),
        ("x: A LABEL=y\n", 1),
        ("\n\nx:\n", 3),
    ],
)
def test_what_does_not_close_is_refused_with_its_line(text, line):
    with pytest.raises(PlumedInputError, match=rf"^in\.dat:{line}: "):
        read_statements(text, "in.dat")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1", 1.0),
        (".5", 0.5),
        ("1e-3", 1e-3),
        ("pi", math.pi),
        ("-pi", -math.pi),
        ("0.5pi", math.pi / 2),
        ("2*pi", 2 * math.pi),
        ("-pi/2", -math.pi / 2),
        ("sqrt(2)*0.1", math.sqrt(2) * 0.1),
        ("2^3^2", 512.0),
        ("-2^2", -4.0),
    ],
)
def test_real_numbers(text, value):
    assert read_real(text) == pytest.approx(value, rel=1e-15)


@pytest.mark.parametrize(
    "text", ["", "1d-3", "inf", "1_0", "2**3", "__import__('os')", "x", "9^9^9"]
)
def test_what_is_no_number_is_refused(text):
    with pytest.raises(ValueError, match="number"):
        read_real(text)


def test_integers_and_vectors():
    assert read_integer("5*100") == 500
    with pytest.raises(ValueError, match="integer"):
        read_integer("0.5")
    assert split_vector("{a b,c}") == ["a", "b", "c"]


@pytest.mark.parametrize("text", ["0", "3-1", "1-5:-1", "a", "1:2", "1-9999999999", "-1", "1.5"])
def test_atom_lists_that_are_wrong(text):
    with pytest.raises(ValueError, match=r"."):
        read_serials(text)


def test_all_problems_of_an_input_are_reported_at_once_and_none_that_follows_from_another():
    text = (
        "phi: TORSION ATOMS=1,2,3\n"
        "x: SOMETHING\n"
        "RESTRAINT ARG=phi AT=0 KAPPA=1\n"
        "d: DISTANCE ATOMS=1,99 NOSUCH\n"
        "RESTRAINT ARG=nothing AT=0\n"
    )
    with pytest.raises(PlumedInputError) as caught:
        read_actions(read_statements(text, "in.dat"), n_atoms=22)
    problems = caught.value.problems
    assert [problem.location.line for problem in problems] == [1, 2, 4, 4, 5]
    assert "use backend='kernel'" in str(caught.value)
    assert "beyond the last atom 22" in str(caught.value)


def test_a_missing_file_is_named():
    with pytest.raises(FileNotFoundError, match="nowhere"):
        read_text("nowhere.dat")


WORDS = [
    "{",
    "}",
    "...",
    "ATOMS=1,2",
    "ARG=d",
    "ARG=*",
    "AT=1",
    "KAPPA=pi",
    "LABEL=a",
    "d:",
    "PACE=0",
]


@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.lists(st.sampled_from(WORDS + list(ACTIONS)) | st.text(max_size=6), max_size=6),
        max_size=6,
    )
)
def test_any_text_either_compiles_or_is_a_plumed_input_error(lines):
    text = "\n".join(" ".join(line) for line in lines)
    with contextlib.suppress(PlumedInputError):
        read_actions(read_statements(text), n_atoms=5)


def test_included_files_stand_where_they_are_included(tmp_path):
    (tmp_path / "cvs.dat").write_text("t: TORSION ATOMS=1-4\nENDPLUMED\nnot read\n")
    statements = read_statements("INCLUDE FILE=cvs.dat\nRESTRAINT ARG=t AT=0 KAPPA=1\n", "in.dat")
    assert [s.action for s in include_files(statements, tmp_path)] == ["TORSION", "RESTRAINT"]
    (tmp_path / "cvs.dat").write_text("INCLUDE FILE=cvs.dat\n")
    with pytest.raises(PlumedInputError, match="deep"):
        include_files(statements, tmp_path)
    with pytest.raises(PlumedInputError, match=r"in\.dat:1: .*no PLUMED input file"):
        include_files(statements, tmp_path / "elsewhere")


def test_numbered_keywords_have_no_gap():
    text = "CONTACTMAP ATOMS1=1,2 ATOMS3=2,3 SWITCH={EXP R_0=1} SUM\n"
    with pytest.raises(PlumedInputError, match="numbers are missing"):
        read_actions(read_statements(text))


NO_LINE_ENDS = "\v\f\x1c\x1d\x1e\x85\u2028\u2029"  # Python's splitlines takes them as ends


@pytest.mark.parametrize("character", NO_LINE_ENDS, ids=[f"{ord(c):x}" for c in NO_LINE_ENDS])
def test_only_newlines_end_a_comment(character, tmp_path):
    text = f"d: DISTANCE ATOMS=1,2\n# off:{character}RESTRAINT ARG=d AT=1 KAPPA=500\n"
    assert [s.action for s in read_statements(text)] == ["DISTANCE"]
    path = tmp_path / "plumed.dat"
    path.write_bytes(text.encode())
    assert read_text(path)[0] == text
    in_word = read_statements(f"d: DISTANCE ATOMS=1,2{character}NOPBC\n")
    assert len(in_word[0].words) == 1  # nor do they part words


def test_lines_end_as_plumed_has_it(tmp_path):
    path = tmp_path / "plumed.dat"
    path.write_bytes(b"d: DISTANCE ATOMS=1,2\r\n# off\r\nPRINT ARG=d\r\n")
    assert [s.location.line for s in read_statements(*read_text(path))] == [1, 3]
    path.write_bytes(b"# off:\rRESTRAINT ARG=d\nPRINT ARG=d\n")
    with pytest.raises(PlumedInputError, match=r"plumed.dat:1.*not by"):
        read_statements(*read_text(path))
