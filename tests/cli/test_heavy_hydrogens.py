"""CVs weighed by mass are those of the run's System, whoever measures them."""

import csv
import logging
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import openmm
import pytest
from click.testing import CliRunner
from openmm import app

from openmm_cgan.cgan import ConditionalGAN, TrainingSettings
from openmm_cgan.cli import main
from openmm_cgan.cli.importance import _molecule, weigher_of
from openmm_cgan.molecules import read_molecule
from openmm_cgan.plumed.bias import PlumedBias
from openmm_cgan.proposals import Screen, propose
from openmm_cgan.report.page.found import find
from openmm_cgan.report.page.models import try_beside
from openmm_cgan.run_folders import FRAMES, INPUT, TOPOLOGY
from openmm_cgan.testsystems import alanine_dipeptide
from openmm_cgan.windows import DragSettings, drag
from tests.cases import ROOT

CENTRE = "c: COM ATOMS=1-6\nd: DISTANCE ATOMS=c,19\n"
SPREAD = "g: GYRATION ATOMS=1-22 MASS_WEIGHTED\n"
FEW = TrainingSettings("FlowGenerator", steps=2, batch=16, width=8)


def heavy() -> openmm.System:
    topology = alanine_dipeptide().topology
    return app.ForceField("amber96.xml").createSystem(topology, hydrogenMass=4.0)


def centre_distance(positions: np.ndarray, system: openmm.System) -> np.ndarray:
    masses = [system.getParticleMass(i)._value for i in range(6)]
    centre = np.average(positions[:, :6], axis=1, weights=masses)
    return np.linalg.norm(positions[:, 18] - centre, axis=1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("heavy")
    (folder / "plumed.dat").write_text(CENTRE + "PRINT ARG=d FILE=COLVAR STRIDE=10\n")
    structure = ROOT / "openmm_cgan" / "data" / "alanine_dipeptide.pdb"
    arguments = ["run", structure, "--forcefield", "amber96.xml", "--hydrogen-mass", 4, "--plumed",
                 folder / "plumed.dat", "--steps", 120, "--frames-every", 2, "--platform",
                 "Reference", "--out", folder / "run", "--no-report"]  # fmt: skip
    result = CliRunner().invoke(main, [str(word) for word in arguments])
    assert result.exit_code == 0, result.output
    run = folder / "run"
    ConditionalGAN.fit(run / FRAMES, read_molecule(run).topology, FEW).save(folder / "model.npz")
    return folder


def test_what_a_page_and_a_proposal_measure(folder: Path) -> None:
    run, model = folder / "run", ConditionalGAN.load(folder / "model.npz")
    system = read_molecule(run).system
    light = alanine_dipeptide().system
    trial = try_beside(model, find(run).runs[0]).proposals
    expected = centre_distance(trial.positions, system)
    np.testing.assert_allclose(trial.cvs[:, 0], expected, atol=1e-5)
    assert np.abs(expected - centre_distance(trial.positions, light)).max() > 1e-3
    asked = float(f"{model.cv_range.mean():.6f}")
    command = ["propose", folder / "model.npz", "--topology", run / TOPOLOGY, "--plumed",
               run / INPUT, "--at", f"d={asked}", "-n", 5, "--out", folder / "s.pdb"]  # fmt: skip
    said = CliRunner().invoke(main, [str(word) for word in command])
    with (folder / "s.csv").open() as file:
        measured = [float(row["d"]) for row in csv.DictReader(file)]
    molecule = read_molecule(run)
    bias = PlumedBias(run / INPUT, molecule, cvs=("d",))
    screen = Screen(molecule.topology, molecule.positions, bias)
    made = propose(model, np.full((5, 1), asked), screen, seed=0).positions
    np.testing.assert_allclose(measured, centre_distance(made, system), atol=1e-5)
    assert "masses of the elements" not in said.output


def test_a_model_is_weighed_by_the_system_of_its_run(folder: Path) -> None:
    run, model = folder / "run", folder / "model.npz"
    molecule = _molecule(run / TOPOLOGY, (), "HBonds")
    weigher = weigher_of(model, molecule, run / INPUT)
    np.testing.assert_allclose(
        weigher.bias.cv_values(molecule.positions[None])[:, 0],
        centre_distance(molecule.positions[None], read_molecule(run).system), atol=1e-6,
    )  # fmt: skip
    with pytest.raises(ValueError, match="a run with other masses"):
        _molecule(run / TOPOLOGY, ["amber96.xml"], "HBonds")
    elsewhere = shutil.copy(run / TOPOLOGY, folder / TOPOLOGY)
    with pytest.raises(ValueError, match="needs --forcefield"):
        _molecule(Path(elsewhere), (), "HBonds")


@pytest.mark.parametrize("text", [CENTRE, SPREAD])
def test_masses_that_are_guessed_are_said_once(text: str, caplog: pytest.LogCaptureFixture) -> None:
    molecule = alanine_dipeptide()
    with caplog.at_level(logging.WARNING, "openmm_cgan"):
        bias = PlumedBias(text, molecule.topology, cvs=("d" if text is CENTRE else "g",))
        assert not caplog.records, "nothing was measured yet"
        bias.cv_values(molecule.positions)
        bias.cv_values(molecule.positions)
    assert [r.message.count("masses of the elements") for r in caplog.records] == [1]
    caplog.clear()
    known = PlumedBias(text, molecule, cvs=(bias.variables[0].name,))
    known.cv_values(molecule.positions)
    bias.add_to(molecule.system)
    bias.cv_values(molecule.positions)
    assert not caplog.records


def test_a_restrained_bias_knows_what_the_first_one_does() -> None:
    """`judge` heals seeds under one, and was refused: the masses were not known."""
    molecule, system = alanine_dipeptide(), heavy()
    x = molecule.positions[None]
    whole = PlumedBias(CENTRE, replace(molecule, system=system), cvs=("d",))
    later = PlumedBias(CENTRE, molecule.topology, cvs=("d",))
    later.add_to(system)
    for bias in (whole, later):
        found = bias.restrained([0.5], 0.0).cv_values(x)[:, 0]
        np.testing.assert_allclose(found, centre_distance(x, heavy()), atol=1e-9)


def test_a_drag_begins_where_the_system_stands() -> None:
    """Also along a CV that no restraint may move yet: the way is measured with its masses."""
    molecule, system = alanine_dipeptide(), heavy()
    bias = PlumedBias(CENTRE, molecule.topology, cvs=("d",))
    there = centre_distance(molecule.positions[None], system)
    settings = DragSettings(300.0, 1000.0, steps=1, stages=1, platform="Reference")
    moved: list[np.ndarray] = []
    original = PlumedBias.move_restraint

    def watched(self: PlumedBias, context: openmm.Context, centres: np.ndarray) -> None:
        moved.append(np.asarray(centres))
        original(self, context, centres)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(PlumedBias, "move_restraint", watched)
        drag(bias, system, molecule.positions, there[None] + 0.01, settings)
    assert moved
    np.testing.assert_allclose(moved[-1], there + 0.01, atol=1e-6)
