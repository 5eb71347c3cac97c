"""What a user is told of an input that is wrong: by the native reader, once, with the remedy."""

import numpy as np
import openmm
import pytest
from openmm import app

from openmm_cgan.plumed.bias import PlumedBias
from openmm_cgan.plumed.driver.driver import run_driver
from openmm_cgan.plumed.driver.settings import DriverSettings
from openmm_cgan.plumed.driver.trajectories import Frame
from openmm_cgan.plumed.files.fields import read_fields
from openmm_cgan.plumed.input.language import PlumedInputError
from openmm_cgan.testsystems import alanine_dipeptide
from tests.cases.driver_runs import compare, driven

PHI = "phi: TORSION ATOMS=5,7,9,15\n"
MISTAKES = {
    "a label that is none": (f"{PHI}RESTRAINT ARG=psi AT=0 KAPPA=1\n", r":2: ARG=psi: no value"),
    "too few widths": (
        f"{PHI}psi: TORSION ATOMS=7,9,15,17\nMETAD ARG=phi,psi SIGMA=0.3 HEIGHT=1 PACE=10\n",
        r":3: SIGMA.*1 .*2",
    ),
    "a negative width": (f"{PHI}METAD ARG=phi SIGMA=-0.1 HEIGHT=1 PACE=10\n", "must be positive"),
    "of OPES": (f"{PHI}OPES_METAD ARG=phi SIGMA=-0.1 BARRIER=9 PACE=10\n", "must be positive"),
    "a centre too much": (f"{PHI}RESTRAINT ARG=phi AT=0,1 KAPPA=1\n", "2 numbers for 1 arguments"),
    "a comma forgotten": (
        "t: TORSION ATOMS=1,2,3 15\nPRINT ARG=t\n",
        r":1: 15: .*four atoms.*comma",
    ),
    "atom zero": ("d: DISTANCE ATOMS=0,1\nPRINT ARG=d\n", r"'0': PLUMED counts atoms from 1$"),
    "a grid short of pi": (
        f"{PHI}METAD ARG=phi SIGMA=0.3 HEIGHT=1 PACE=10 GRID_MIN=-3.14 GRID_MAX=pi\n",
        r":2: GRID_MIN=-3.14: must be -pi",
    ),
    "the other end": (
        f"{PHI}METAD ARG=phi SIGMA=0.3 HEIGHT=1 PACE=10 GRID_MIN=-pi GRID_MAX=3.14\n",
        r":2: GRID_MAX=3.14: must be pi",
    ),
    "an unknown variable": (
        f"{PHI}c: CUSTOM ARG=phi FUNC=y PERIODIC=NO\nPRINT ARG=c\n",
        "'y' is neither",
    ),
    "beside what is not covered": (
        f"{PHI}u: ALPHABETA ATOMS1=5,7,9,15 REFERENCE=1\nRESTRAINT ARG=psi AT=0 KAPPA=1\n",
        r":3: ARG=psi: no value",
    ),
}  # fmt: skip


@pytest.mark.parametrize("backend", ["auto", "native"])
@pytest.mark.parametrize("mistake", MISTAKES)
def test_auto_says_what_native_says_of_a_mistake(mistake, backend, tmp_path):
    text, message = MISTAKES[mistake]
    with pytest.raises(PlumedInputError, match=message) as caught:
        PlumedBias(text, temperature=300, backend=backend, directory=tmp_path)
    assert "PLUMED:" not in str(caught.value)
    if backend == "auto":
        [problem] = caught.value.problems
        assert "backend='kernel'" not in str(problem)


COVERED_BY_PLUMED = {
    "an action": "a: TORSIONS ATOMS1=5,7,9,15 SUM\nPRINT ARG=a.sum\n",
    "all values": "a: ALPHABETA ATOMS1=5,7,9,15 REFERENCE=1\nPRINT ARG=*\n",
    "values of a shortcut": "a: TORSIONS ATOMS1=5,7,9,15 SUM\nPRINT ARG=a.sum,a_sum\n",
    "a keyword in place of a compulsory one": (
        "d: DISTANCE ATOMS1=1,2 ATOMS2=3,4\ns: SUM ARG=d PERIODIC=NO\nPRINT ARG=s\n"
    ),
    "the same atom": "d: DISTANCE ATOMS=1,1\nPRINT ARG=d\n",
    "a function that Python can not read": (
        "d: DISTANCE ATOMS=1,2\nc: CUSTOM ARG=d VAR=in FUNC=2*in PERIODIC=NO\nPRINT ARG=c\n"
    ),
}


@pytest.mark.parametrize("text", COVERED_BY_PLUMED.values(), ids=COVERED_BY_PLUMED)
def test_what_is_not_covered_goes_to_plumed(text, tmp_path):
    name = text.split("ARG=")[-1].split(",")[0].strip()
    cvs = ["a" if name == "*" else name]
    assert PlumedBias(text, directory=tmp_path, cvs=cvs).backend == "kernel"


def test_nothing_is_said_twice_of_an_unknown_action(tmp_path):
    for values in ("*", "a", "a.*", "(a.*)"):
        text = f"a: UNKNOWN ATOMS=1,2\nPRINT ARG={values}\n"
        with pytest.raises(PlumedInputError) as caught:
            PlumedBias(text, backend="native", directory=tmp_path)
        [problem] = caught.value.problems
        assert problem.location.line == 1


# ---- pairs of an atom with itself

PAIRS = [
    "c: COORDINATION GROUPA=1 GROUPB=1 R_0=0.3",
    "c: COORDINATION GROUPA=1 R_0=0.3",
    "c: COORDINATION GROUPA=1,2 GROUPB=1,2 PAIR R_0=0.3",
    "c: CONTACTMAP ATOMS1=1,1 ATOMS2=1,2 SWITCH={RATIONAL R_0=0.3} SUM",
    "c: CONTACTMAP ATOMS1=1,1 SWITCH={RATIONAL R_0=0.3 D_0=0.1} SUM",
    "c: CONTACTMAP ATOMS1=1,1 ATOMS2=3,2 SWITCH={GAUSSIAN R_0=0.3} REFERENCE1=0.5 REFERENCE2=0.1 "
    "CMDIST",
]  # fmt: skip


@pytest.mark.parametrize("line", PAIRS)
def test_an_atom_and_itself_count_as_in_plumed(line, tmp_path):
    frames = np.random.default_rng(3).random((5, 8, 3))
    text = f"{line}\nRESTRAINT ARG=c AT=0.1 KAPPA=10\nPRINT ARG=c FILE=COLVAR FMT=%14.8f\n"
    driven(text, tmp_path, frames)
    compare(tmp_path, "COLVAR", "forces")


# ---- atoms beyond the last, temperatures, files

PDB = (
    "ATOM      1  N   ALA A   3       0.000   0.000   0.000  1.00  1.00\n"
    "ATOM      2  CA  ALA A   3       1.000   0.000   0.000  1.00  1.00\n"
    "ATOM    900  C   ALA A   3       1.000   1.000   0.000  1.00  1.00\n"
    "ATOM    901  O   ALA A   3       1.000   1.000   1.000  1.00  1.00\n"
    "END\n"
)


@pytest.mark.parametrize(
    "line",
    [
        "MOLINFO STRUCTURE=a.pdb\nd: DISTANCE ATOMS=1,@C-3\nPRINT ARG=d",
        "d: DISTANCE ATOMS=1,{@ndx:{i.ndx far}}\nPRINT ARG=d",
        "g: GROUP NDX_FILE=i.ndx NDX_GROUP=far\nd: GYRATION ATOMS=1,g\nPRINT ARG=d",
        "d: RMSD REFERENCE=a.pdb TYPE=OPTIMAL\nPRINT ARG=d",
        "d: DISTANCE ATOMS=1,900\nPRINT ARG=d",
    ],
)
def test_atoms_beyond_the_last_are_named(line, tmp_path):
    (tmp_path / "a.pdb").write_text(PDB)
    (tmp_path / "i.ndx").write_text("[ far ]\n900\n")
    settings = DriverSettings(backend="native", directory=tmp_path)
    with pytest.raises(PlumedInputError, match=r":\d+: .*beyond the last atom 8"):
        run_driver(line + "\n", iter([Frame(np.ones((8, 3)))]), settings)


@pytest.mark.parametrize(
    "line",
    [
        "METAD ARG=d SIGMA=0.1 HEIGHT=1 PACE=1 BIASFACTOR=5",
        "OPES_METAD ARG=d SIGMA=0.1 BARRIER=10 PACE=1",
    ],
)
def test_the_driver_asks_for_kt(line, tmp_path):
    settings = DriverSettings(backend="native", directory=tmp_path)
    with pytest.raises(ValueError, match=r":2: .*needs a temperature: give --kt") as caught:
        run_driver(f"d: DISTANCE ATOMS=1,2\n{line}\n", iter([Frame(np.eye(3))]), settings)
    assert "PlumedBias" not in str(caught.value)


@pytest.mark.parametrize("backend", ["native", "kernel"])
def test_files_are_looked_for_beside_the_input_too(backend, tmp_path):
    inputs, out = tmp_path / "inputs", tmp_path / "run"
    inputs.mkdir()
    (inputs / "a.pdb").write_text(PDB.replace(" 900 ", "   3 ").replace(" 901 ", "   4 "))
    (inputs / "cvs.dat").write_text(
        "MOLINFO STRUCTURE=a.pdb\nd: DISTANCE ATOMS=1,@C-3\nr: RMSD REFERENCE=a.pdb TYPE=OPTIMAL\n"
    )
    (inputs / "p.dat").write_text("INCLUDE FILE=cvs.dat\nPRINT ARG=d,r FILE=COLVAR\n")
    x = np.array([[0, 0, 0], [0.1, 0, 0], [0.1, 0.1, 0], [0.1, 0.1, 0.1]])
    settings = DriverSettings(backend=backend, directory=out)
    run_driver(inputs / "p.dat", iter([Frame(x)]), settings)
    table = read_fields(out / "COLVAR")
    assert table.columns["d"][0] == pytest.approx(np.sqrt(0.02), abs=1e-6)
    assert table.columns["r"][0] == pytest.approx(0.0, abs=1e-6)
    (inputs / "cvs.dat").unlink()
    with pytest.raises(PlumedInputError, match=r"no PLUMED input file of that name in .* nor in"):
        run_driver(inputs / "p.dat", iter([Frame(x)]), settings)


def test_a_comment_in_latin_1_is_taken(tmp_path):
    path = tmp_path / "p.dat"
    path.write_bytes("# Å, größer\n".encode("latin-1") + b"d: DISTANCE ATOMS=1,2\nPRINT ARG=d\n")
    for backend in ("native", "kernel"):
        bias = PlumedBias(path, backend=backend, directory=tmp_path)
        assert [variable.name for variable in bias.variables] == ["d"]
    path.write_bytes("d: DISTANCE ATOMS=1,2\nPRINT ARG=Å\n".encode("latin-1"))
    with pytest.raises(ValueError, match=r"p\.dat:2 is not text in UTF-8"):
        PlumedBias(path, directory=tmp_path)


def test_hills_bias_of_a_mistake_runs_nowhere(tmp_path):
    """With SIGMA=-0.1 PLUMED itself runs: only who asks for it by name gets it."""
    molecule = alanine_dipeptide("C7eq")
    text = MISTAKES["a negative width"][0]
    bias = PlumedBias(text, temperature=300, backend="kernel", directory=tmp_path)
    bias.add_to(molecule.system)
    platform = openmm.Platform.getPlatformByName("Reference")
    simulation = app.Simulation(
        molecule.topology, molecule.system, openmm.VerletIntegrator(0.001), platform
    )
    simulation.context.setPositions(molecule.positions)
    bias.attach(simulation)
    simulation.step(2)


@pytest.mark.parametrize("backend", ["native", "kernel"])
def test_index_files_and_grids_are_looked_for_beside_the_input_too(backend, tmp_path):
    inputs, out = tmp_path / "inputs", tmp_path / "run"
    inputs.mkdir()
    (inputs / "i.ndx").write_text("[ some ]\n1 2\n[ pair ]\n1 3\n")
    nodes = "".join(f"{0.05 * i:.2f} {3.0 * i:.1f} 60.0\n" for i in range(11))  # 60 kJ/mol/nm
    (inputs / "grid").write_text(
        "#! FIELDS d m.bias der_d\n#! SET min_d 0\n#! SET max_d 0.5\n#! SET nbins_d 11\n"
        f"#! SET periodic_d false\n{nodes}"
    )
    (inputs / "p.dat").write_text(
        "d: DISTANCE ATOMS={@ndx:{i.ndx pair}}\ng: DISTANCE ATOMS=@ndx:i.ndx\n"
        "m: EXTERNAL ARG=d FILE=grid\nPRINT ARG=d,g,m.bias FILE=COLVAR\n"
    )
    x = np.array([[0, 0, 0], [0.1, 0, 0], [0, 0.2, 0]])
    run_driver(inputs / "p.dat", iter([Frame(x)]), DriverSettings(backend=backend, directory=out))
    found = read_fields(out / "COLVAR").columns
    assert found["d"][0] == pytest.approx(0.2, abs=1e-6)
    assert found["g"][0] == pytest.approx(0.1, abs=1e-6)
    assert found["m.bias"][0] == pytest.approx(60.0 * 0.2, abs=1e-5)


def test_what_a_bias_begins_with_is_looked_for_beside_the_input_too(tmp_path):
    """A grid, a state and an acceleration that an earlier run has left there."""
    text = (
        "d: DISTANCE ATOMS=1,2\nm: METAD ARG=d SIGMA=0.1 HEIGHT=2 PACE=2 TEMP=300 GRID_MIN=0 "
        "GRID_MAX=2 GRID_BIN=90 ACCELERATION {grid}\n"
        "o: OPES_METAD ARG=d PACE=2 BARRIER=20 SIGMA=0.1 TEMP=300 {state}\n"
        "PRINT ARG=m.bias,m.acc,o.bias FILE=ACC\n"
    )
    wrote = {"grid": "GRID_WFILE=G GRID_WSTRIDE=2", "state": "STATE_WFILE=S STATE_WSTRIDE=2"}
    reads = {"grid": "GRID_RFILE=G ACCELERATION_RFILE=ACC", "state": "STATE_RFILE=S RESTART=YES"}
    frames = [Frame(np.array([[0, 0, 0], [0.5 + 0.1 * i, 0, 0]])) for i in range(5)]
    inputs, settings = tmp_path / "inputs", {"backend": "native", "kt": 2.5}
    run_driver(text.format(**wrote), iter(frames), DriverSettings(directory=inputs, **settings))
    (inputs / "p.dat").write_text(text.format(**reads))
    (inputs / "KERNELS").rename(tmp_path / "KERNELS")
    last = iter(frames[-1:])
    run_driver(inputs / "p.dat", last, DriverSettings(directory=tmp_path, **settings))
    found = read_fields(tmp_path / "ACC").columns
    assert all(found[name][0] > 1 for name in ("m.bias", "o.bias", "m.acc"))


def test_selectors_below_a_molinfo_with_problems_are_not_complained_of(tmp_path):
    pdb = tmp_path / "a.pdb"
    pdb.write_text(PDB.replace(" 900 ", "   3 ").replace(" 901 ", "   4 "))
    text = "MOLINFO STRUCTURE={}\nd: DISTANCE ATOMS=1,@C-3\nPRINT ARG=d\n"
    with pytest.raises(PlumedInputError) as caught:
        PlumedBias(text.format(tmp_path / "none.pdb"), backend="native", directory=tmp_path)
    assert [problem.location.line for problem in caught.value.problems] == [1]
    covered = PlumedBias(text.format(f"{pdb} PYTHON_BIN=python"), directory=tmp_path)
    assert covered.backend == "kernel"  # its MOLINFO is PLUMED's, not a mistake


def test_the_mark_of_some_editors_at_the_begin_of_a_file_is_no_word(tmp_path):
    path = tmp_path / "p.dat"
    path.write_text("# of distances\nd: DISTANCE ATOMS=1,2\nPRINT ARG=d\n", encoding="utf-8-sig")
    for backend in ("native", "kernel"):
        bias = PlumedBias(path, backend=backend, directory=tmp_path)
        assert [variable.name for variable in bias.variables] == ["d"]
