"""Exploring without CVs: what is learned from, what is said of a run, what files are left."""

from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from openmm import app

from openmm_cgan.cli import explored_coordinates
from openmm_cgan.cli.commands import main
from openmm_cgan.cli.exploration_folder import ExplorationFolder
from openmm_cgan.cli.explored_coordinates import find_coordinates, rounds_of, torsion_inputs
from openmm_cgan.explore.coordinate_rounds import RoundSettings
from openmm_cgan.explore.settings import ExploreSettings
from openmm_cgan.testsystems import Molecule, alanine_dipeptide

NAN = float("nan")
PHI = "phi: TORSION ATOMS=5,7,9,15\nPRINT ARG=phi FILE=COLVAR STRIDE=100\n"


def test_torsions_of_alanine_dipeptide_are_phi_and_psi() -> None:
    """Amides are kept as they are, methyl groups are told apart by nobody."""
    inputs = torsion_inputs(alanine_dipeptide())
    assert inputs.names == ("t1", "t2")
    middle = [
        set(line.split("=")[1].split()[0].split(",")[1:3]) for line in inputs.lines.splitlines()
    ]
    assert sorted(map(sorted, middle)) == [["15", "9"], ["7", "9"]]


def test_what_does_not_turn_is_refused() -> None:
    topology = app.Topology()
    residue = topology.addResidue("AR", topology.addChain())
    topology.addAtom("AR", app.element.argon, residue)
    with pytest.raises(ValueError, match="no bond of the molecule turns"):
        torsion_inputs(Molecule(topology, alanine_dipeptide().system, np.zeros((1, 3))))


def test_what_is_not_seen_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def begin(*_: object, **__: object) -> None:
        raise InterruptedError

    said: list[str] = []
    monkeypatch.setattr(explored_coordinates, "learn_in_rounds", begin)
    for found in ([], ["SER2:CB-OG"]):
        monkeypatch.setattr(explored_coordinates, "turning_hydrogens", lambda *_, f=found: f)
        with pytest.raises(InterruptedError):
            find_coordinates(alanine_dipeptide(), tmp_path, RoundSettings(), said.append)
    assert ["how SER2:CB-OG turn they do not see" in line for line in said] == [False] * 2 + [True]


def test_rounds_are_not_more_than_the_budget_pays(tmp_path: Path) -> None:
    (tmp_path / "phi.dat").write_text(PHI)
    molecule, steps = alanine_dipeptide("C7eq"), RoundSettings.steps
    for budget, most in ((3 * steps + 1, 3), (10**9, RoundSettings.most)):
        settings = ExploreSettings("phi:0..2.3", budget_steps=budget)
        place = ExplorationFolder(molecule, tmp_path / "phi.dat", tmp_path, settings, "Reference")
        assert rounds_of(place).most == most
    settings = ExploreSettings("phi:0..2.3", budget_steps=steps - 1)
    place = ExplorationFolder(molecule, tmp_path / "phi.dat", tmp_path, settings, "Reference")
    with pytest.raises(ValueError, match="less than one round"):
        rounds_of(place)


@pytest.mark.parametrize("words", [["--hours", "1"], ["--workers", "2"], ["--device", "cpu"]])
def test_options_that_nothing_heeds_are_refused(words: list[str], tmp_path: Path) -> None:
    pdb = "openmm_cgan/data/alanine_dipeptide.pdb"
    asked = ["explore", pdb, "--cvs", "diffusion-map", "--out", str(tmp_path / "out"), *words]
    told = CliRunner().invoke(main, asked)
    assert told.exit_code == 2
    assert f"{words[0]}: for windows, generators and decisions" in told.output
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "words",
    [[], ["--plumed", "phi.dat"], ["--cvs", "diffusion-map", "--difference", "phi:0..2.3"]],
)
def test_what_belongs_together_is_asked_for_together(words: list[str], tmp_path: Path) -> None:
    (tmp_path / "phi.dat").write_text(PHI)
    words = [str(tmp_path / w) if w.endswith(".dat") else w for w in words]
    pdb = "openmm_cgan/data/alanine_dipeptide.pdb"
    told = CliRunner().invoke(main, ["explore", pdb, *words, "--out", str(tmp_path / "out")])
    assert told.exit_code == 2
    assert "give --plumed and --difference, or --cvs diffusion-map alone" in told.output
    assert not (tmp_path / "out").exists()
