"""What the bias asks of its backend, whichever it is, and what it is told where one has it not."""

import pytest
import torch

from openmm_cgan.plumed.bias import PlumedBias
from openmm_cgan.plumed.input import language
from openmm_cgan.plumed.input.language import PlumedInputError
from openmm_cgan.plumed.libplumed import plugin
from openmm_cgan.testsystems import alanine_dipeptide
from tests.cases.biased_runs import langevin

TEXT = (
    "phi: TORSION ATOMS=5,7,9,15\nINCLUDE FILE=psi.dat\nMETAD ARG=phi SIGMA=0.3 HEIGHT=1 PACE=10 "
    "TEMP=300\nPRINT ARG=psi\n"
)
BACKENDS = ("native", pytest.param("kernel", marks=pytest.mark.plumed), "plugin")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The current one, where openmm-plumed is said to be installed: only its forces need it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(plugin, "available", lambda: True)
    (tmp_path / "psi.dat").write_text("psi: TORSION ATOMS=7,9,15,17\n")
    return tmp_path


def make(backend, **options):
    return PlumedBias(TEXT, backend=backend, **options)


@pytest.mark.parametrize("backend", BACKENDS)
def test_an_input_is_read_once(backend, folder, monkeypatch):
    read, whole = [], language.read_statements

    def counted(text, file="plumed.dat"):
        read.append(text)
        return whole(text, file)

    monkeypatch.setattr(language, "read_statements", counted)
    bias = make(backend)
    assert read == [TEXT, (folder / "psi.dat").read_text()]
    assert (bias.backend, [v.name for v in bias.variables]) == (backend, ["phi"])


@pytest.mark.parametrize("backend", BACKENDS[1:])
def test_what_plumed_does_not_give_is_refused(backend, folder):
    bias = make(backend, cvs=("phi", "psi"))
    positions = alanine_dipeptide("C7eq").positions
    values = bias.cv_values(positions)
    with pytest.raises(ValueError, match=f"those of the {backend} backend, which has no deriv"):
        bias.differentiable_cvs(torch.tensor(positions[None]))
    with pytest.raises(ValueError, match=r"cvs have shape \(2,\); expected \(n, 2\): phi, psi"):
        bias.bias_of_cvs(values)
    with pytest.raises(ValueError, match=f"not known to backend='{backend}'"):
        bias.bias_of_cvs(values[None])
    with pytest.raises(ValueError, match=f"backend='{backend}': PLUMED keeps its state"):
        bias.save_checkpoint(folder / "run.chk")
    assert not bias.static
    assert not bias.remembers


@pytest.mark.plumed
def test_plumed_goes_on_from_no_checkpoint_whether_it_is_there_or_not(folder):
    molecule = alanine_dipeptide("C7eq")
    bias = make("kernel")
    bias.add_to(molecule.system)
    simulation = langevin(molecule.topology, molecule.system, 1)
    with pytest.raises(ValueError, match="restart=True"):
        bias.attach(simulation, checkpoint=folder / "absent.chk")


@pytest.mark.parametrize("backend", BACKENDS)
def test_an_input_without_variables_is_refused(backend, folder):
    with pytest.raises(ValueError, match="<input> names no collective variables"):
        PlumedBias("phi: TORSION ATOMS=5,7,9,15\n", backend=backend)


def test_forces_that_know_no_context_are_marked():
    """A PythonForce, and one that is called back beside a force that does know."""
    text = "phi: TORSION ATOMS=5,7,9,15\nOPES_METAD ARG=phi SIGMA=0.1 PACE=9 BARRIER=9 TEMP=300\n"
    for more, n_marks in (("", 1), ("RESTRAINT ARG=phi AT=0 KAPPA=1\n", 0)):
        molecule = alanine_dipeptide("C7eq")
        before = molecule.system.getNumForces()
        bias = PlumedBias(text + more, backend="native")
        early = langevin(molecule.topology, molecule.system, 1)
        forces = bias.add_to(molecule.system)
        assert molecule.system.getNumForces() - before == len(forces) + n_marks
        with pytest.raises(RuntimeError, match="does not contain the bias"):
            bias.attach(early)


@pytest.mark.plumed
def test_an_unknown_action_is_said_where_no_variable_is_named():
    with pytest.raises(PlumedInputError, match=r'<input>:1: UNKNOWN.*"UNKNOWN" is not known'):
        PlumedBias("a: UNKNOWN ATOMS=1\nPRINT ARG=* FILE=COLVAR")


@pytest.mark.plumed
def test_the_log_says_of_each_statement_whether_it_is_native(caplog):
    text = (
        "phi: TORSION ATOMS=5,7,9,15\nq: DIPOLE GROUP=1-5\n"
        "m: OPES_METAD ARG=phi SIGMA=0.3 TEMP=300 PACE=5 BARRIER=20 UPDATE_FROM=1\n"
        "PRINT ARG=phi FILE=COLVAR\n"
    )
    with caplog.at_level("INFO", logger="openmm_cgan"):
        assert PlumedBias(text).backend == "kernel"
    [told] = [r.getMessage() for r in caplog.records if "not all of it is native" in r.getMessage()]
    lines = told.splitlines()[1:]
    assert [line.split(": ")[1:3] for line in lines] == [
        ["TORSION phi", "native"],
        ["DIPOLE q", "not native"],
        ["OPES_METAD m", "not native"],
        ["PRINT", "native"],
    ]
    assert "UPDATE_FROM" in lines[2]


@pytest.mark.parametrize("cvs", ["phi", ("phi", "psi", "phi")])
def test_cvs_are_names_each_once(folder, cvs):
    """Two columns of one name were written; a word was taken for its letters."""
    with pytest.raises(ValueError, match="expected names, each once"):
        make("native", cvs=cvs)
