"""Exploring without CVs: what is learned from, what is said of a run, what files are left."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from openmm import app

from openmm_cgan.cli.commands import main
from openmm_cgan.cli.exploration_folder import ExplorationFolder
from openmm_cgan.cli.explored_coordinates import (
    Seen,
    explore_without_cvs,
    halves_of,
    rounds_of,
    torsion_inputs,
)
from openmm_cgan.collective_variable import CollectiveVariable
from openmm_cgan.explore.circle import Outcome
from openmm_cgan.explore.coordinate_rounds import RoundSettings
from openmm_cgan.explore.settings import ExploreSettings
from openmm_cgan.free_energy.differences import StateDifference
from openmm_cgan.free_energy.samples import Estimate, WeightedSamples
from openmm_cgan.plumed.bias import PlumedBias
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


@pytest.mark.parametrize(
    ("whole", "halves", "n", "words"),
    [
        ((11.9, 0.3), ((11.8, 0.4), (12.1, 0.4)), 20, ""),
        ((11.9, 0.3), ((11.8, 0.4), (12.1, 0.4)), 9, "9 times between the states"),
        ((11.9, 0.8), ((11.8, 0.4), (12.1, 0.4)), 20, "error is 0.80 kJ/mol, 0.5 wanted"),
        ((11.9, 0.3), ((10.8, 0.3), (12.1, 0.4)), 20, "halves differ by 2.6 standard errors"),
        ((NAN, NAN), ((NAN, NAN), (NAN, NAN)), 20, "error is nan"),
        ((11.9, NAN), ((11.8, 0.4), (12.1, 0.4)), 20, "error is nan"),
        ((11.9, 0.3), ((11.8, NAN), (12.1, 0.4)), 20, "halves differ by nan"),
    ],
)
def test_a_number_is_claimed_only_where_all_speaks_for_it(
    whole: tuple[float, float], halves: tuple[tuple[float, float], ...], n: int, words: str
) -> None:
    first, second = halves
    seen = Seen(Estimate(*whole), (Estimate(*first), Estimate(*second)), n)
    assert words in seen.why_not(0.5)
    assert bool(seen.why_not(0.5)) == bool(words)


def test_why_weights_tell_nothing_is_passed_on() -> None:
    nothing = Estimate(NAN, NAN)
    seen = Seen(nothing, (nothing, nothing), 20, "worth 8 frames")
    assert seen.why_not(0.5) == "worth 8 frames"


def test_halves_are_earlier_and_later_frames_and_few_of_them_may_speak() -> None:
    """Their differences are those of their own weights, known here."""
    times = np.array([3, 0, 2, 1])  # whatever the order
    weights = np.array([0.1, 0.3, 0.4, 0.2])
    phi = np.array([1.0, 1.0, -1.0, -1.0])
    drawn = np.log(np.array([[0.2, 0.3, 0.3, 0.2], [0.1, 0.4, 0.4, 0.1]]))
    variable = CollectiveVariable("phi", domain=(-np.pi, np.pi))
    samples = WeightedSamples(
        phi[:, None], np.log(weights), drawn, 300.0, (variable,), np.zeros(4, int), times,
        np.ones(1), np.ones((1, 1)), unknown="worth 4 frames",
    )  # fmt: skip
    early, late = halves_of(samples)
    for half in (early, late):
        np.testing.assert_allclose(np.exp(half.log_weights).sum(), 1.0)
        np.testing.assert_allclose(np.exp(half.replicates).sum(axis=1), 1.0)
    difference = StateDifference.of("phi:0..2.3")
    assert np.isnan(difference.estimate(samples).value)
    kT = samples.kT
    assert difference.estimate(early).value == pytest.approx(kT * np.log(0.2 / 0.3))
    assert difference.estimate(late).value == pytest.approx(kT * np.log(0.4 / 0.1))
    ratios = np.log([0.2 / 0.3, 0.1 / 0.4])
    assert difference.estimate(early).error == pytest.approx(kT * ratios.std(ddof=1))


ROUNDS = RoundSettings(steps=1000, pace=50, n_landmarks=20, most=2)


def place_of(out: Path, budget: int) -> ExplorationFolder:
    settings = ExploreSettings("phi:0..2.3", biased_steps=1000, budget_steps=budget)
    molecule = alanine_dipeptide("C7eq")
    return ExplorationFolder(molecule, out.parent / "phi.dat", out, settings, "Reference")


@pytest.fixture(scope="module")
def two_rounds(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Outcome, list[str]]:
    """A folder whose two rounds took the whole budget, what was found, and what was told."""
    out = tmp_path_factory.mktemp("rounds") / "explored"
    out.mkdir()
    (out.parent / "phi.dat").write_text(PHI)
    told: list[str] = []
    return out, explore_without_cvs(place_of(out, 2500), ROUNDS, told.append), told


def test_rounds_that_take_the_whole_budget_leave_no_number(two_rounds) -> None:
    _, outcome, told = two_rounds
    assert (outcome.converged, outcome.evaluations) == (False, 2000)
    assert np.isnan(outcome.value)
    assert told[-1].endswith("nothing is left for a run along the coordinates")


def test_too_short_it_says_why_and_leaves_a_cv_that_inputs_name(
    two_rounds, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It goes on with the two rounds, of a larger budget."""
    shutil.copytree(two_rounds[0].parent, tmp_path / "again")
    out = tmp_path / "again" / "explored"
    told: list[str] = []
    outcome = explore_without_cvs(place_of(out, 3000), ROUNDS, told.append)
    assert not outcome.converged
    assert outcome.evaluations == 3000, "two rounds, and all that was left"
    assert "because the budget is spent and the run went 0 times" in told[-1]
    molecule = alanine_dipeptide("C7eq")
    bias = PlumedBias(out / "cvs.dat", molecule.topology)
    assert [v.name for v in bias.variables][:2] == ["cv.node-0", "cv.node-1"]
    assert np.isfinite(bias.cv_values(molecule.positions)).all()
    # saved anew by another version its model would have other bytes, with which no run goes on
    monkeypatch.setattr("openmm_cgan.learned_variable.__version__", "another")
    again: list[str] = []
    assert repr(explore_without_cvs(place_of(out, 3000), ROUNDS, again.append)) == repr(outcome)


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
