"""A difference without CVs: metadynamics, its bias held, what is said and what is left."""

import shlex
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from click.testing import CliRunner

from openmm_cgan import GAS_CONSTANT
from openmm_cgan.cli import explored_difference
from openmm_cgan.cli.commands import main
from openmm_cgan.cli.exploration_folder import ExplorationFolder
from openmm_cgan.cli.explored_difference import explore_without_cvs, halves_of
from openmm_cgan.collective_variable import CollectiveVariable
from openmm_cgan.explore import legs
from openmm_cgan.explore.circle import Outcome
from openmm_cgan.explore.coordinate_rounds import RoundSettings
from openmm_cgan.explore.settings import ExploreSettings
from openmm_cgan.explore.torsions import TurningTorsion
from openmm_cgan.frames import read_frames
from openmm_cgan.free_energy import reweighting
from openmm_cgan.free_energy.biased_runs import BiasedRun
from openmm_cgan.free_energy.differences import StateDifference
from openmm_cgan.free_energy.samples import Estimate, WeightedSamples
from openmm_cgan.json_files import read_json, write_json
from openmm_cgan.plumed.bias import PlumedBias
from openmm_cgan.testsystems import alanine_dipeptide

KT = GAS_CONSTANT * 300.0
PHI = "phi: TORSION ATOMS=5,7,9,15\nPRINT ARG=phi FILE=COLVAR STRIDE=100\n"


def test_halves_are_earlier_and_later_frames_and_few_of_them_may_speak() -> None:
    """Their differences are those of their own weights, known here."""
    times = np.array([3, 0, 2, 1])  # whatever the order
    weights = np.array([0.1, 0.3, 0.4, 0.2])
    phi = np.array([1.0, 1.0, -1.0, -1.0])
    drawn = np.log(np.array([[0.2, 0.3, 0.3, 0.2], [0.1, 0.4, 0.4, 0.1]]))
    variable = CollectiveVariable("phi", domain=(-np.pi, np.pi))
    samples = WeightedSamples(
        phi[:, None], np.log(weights), drawn, 300.0, (variable,), np.zeros(4, int), times,
        np.ones(1), np.ones((1, 1)), unknown="worth 4 frames", worth=4.0,
    )  # fmt: skip
    early, late = halves_of(samples)
    for half in (early, late):
        np.testing.assert_allclose(np.exp(half.log_weights).sum(), 1.0)
        np.testing.assert_allclose(np.exp(half.replicates).sum(axis=1), 1.0)
    assert early.effective_samples == pytest.approx(1 / (0.6**2 + 0.4**2)), "by its own weights"
    difference = StateDifference.of("phi:0..2.3")
    assert np.isnan(difference.estimate(samples).value)
    kT = samples.kT
    assert difference.estimate(early).value == pytest.approx(kT * np.log(0.2 / 0.3))
    assert difference.estimate(late).value == pytest.approx(kT * np.log(0.4 / 0.1))
    ratios = np.log([0.2 / 0.3, 0.1 / 0.4])
    assert difference.estimate(early).error == pytest.approx(kT * ratios.std(ddof=1))


ROUNDS = RoundSettings(steps=1000, pace=50, n_landmarks=20, most=2)


def place_of(out: Path, budget: int, difference: str = "phi:0..2.3") -> ExplorationFolder:
    settings = ExploreSettings(difference, biased_steps=1000, budget_steps=budget)
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
    assert told[-1].endswith("nothing is known yet of what is between the states")


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
    assert "because the budget is spent and it went 0 times" in told[-1]
    molecule = alanine_dipeptide("C7eq")
    bias = PlumedBias(out / "cvs.dat", molecule.topology)
    assert [v.name for v in bias.variables][:2] == ["cv.node-0", "cv.node-1"]
    assert np.isfinite(bias.cv_values(molecule.positions)).all()
    # saved anew by another version its model would have other bytes, with which no run goes on
    monkeypatch.setattr("openmm_cgan.learned_variable.__version__", "another")
    again: list[str] = []
    assert repr(explore_without_cvs(place_of(out, 3000), ROUNDS, again.append)) == repr(outcome)


NEAR = "phi:-1.4..1"  # a border within the well, so that both sides are seen


def test_the_number_is_of_frames_under_a_bias_that_does_not_change(
    two_rounds, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Metadynamics only makes the bias; the command that is told gives the same from the frames."""
    shutil.copytree(two_rounds[0].parent, tmp_path / "again")
    out = tmp_path / "again" / "explored"
    monkeypatch.setattr(legs, "CROSSINGS_FOR_ERROR", 0)
    monkeypatch.setattr(legs.Seen, "why_not", lambda *_: "")
    monkeypatch.setattr(reweighting, "why_unknown", lambda *_: "")
    told: list[str] = []
    outcome = explore_without_cvs(place_of(out, 10_000, NEAR), ROUNDS, told.append)
    assert outcome.converged
    run = BiasedRun.of(read_frames(out / "held-1000" / "frames"), out / "held-1000.dat", out)
    assert not run.growing
    frames = run.frames
    x = TurningTorsion("phi", (4, 6, 8, 14)).values(frames.positions)
    weights = np.exp((frames.bias - frames.bias.max()) / KT)
    inside = (x >= -1.4) & (x < 1)
    expected = KT * np.log(weights[~inside].sum() / weights[inside].sum())
    assert outcome.value == pytest.approx(expected, abs=1e-3)
    assert "F(phi in [-1.4, 1)) - F(phi elsewhere) = " in outcome.reason
    monkeypatch.setattr("openmm_cgan.cli.exports.estimate_text", lambda made: f"{made.value:.3f}")
    words = shlex.split(told[-1].partition(": openmm-cgan ")[2])
    again = CliRunner().invoke(main, [*words, "--out", str(tmp_path / "p.csv")])
    assert f"F(phi in [-1.4, 1)) - F(phi elsewhere): {outcome.value:.3f}\n" in again.output
    resumed = explore_without_cvs(place_of(out, 10_000, NEAR), ROUNDS, told.append)
    assert repr(resumed) == repr(outcome)


@pytest.fixture
def only_lengths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder whose runs are but their lengths, and whose held frames are always worth little."""
    out = tmp_path / "explored"
    for k in range(2):
        (out / "coordinates" / f"round-{k:03d}").mkdir(parents=True)
    learned = SimpleNamespace(plumed_lines=lambda *_: "")
    start = SimpleNamespace(positions=np.array([0, 1, 7])[:, None, None] * np.ones((22, 3)))
    nothing = Estimate(np.nan, np.nan)
    seen = legs.Seen(nothing, (nothing, nothing), 20, "worth 8 frames")

    def run(place: ExplorationFolder, name: str, plumed: Path, end: int, **how: object) -> None:
        assert plumed.exists()
        assert np.all(how.get("start", 7) == 7), "from where metadynamics has ended"
        (place.folder / name).mkdir(exist_ok=True)
        write_json(place.folder / name / "run.json", {"end_step": end})

    monkeypatch.setattr(ExplorationFolder, "run", run)
    monkeypatch.setattr(ExplorationFolder, "frames", lambda *_: start)
    for name, value in {
        "find_coordinates": learned,
        "metadynamics_along": "METAD\n",
        "held_along": "EXTERNAL\n",
        "write_held": None,
        "read_fields": None,
        "_with_states": None,
        "_crossings_of": 20,
        "look": seen,
    }.items():
        monkeypatch.setattr(explored_difference, name, lambda *_, value=value: value)
    return out


def test_a_bias_that_leads_nowhere_is_mended_and_held_again(only_lengths: Path) -> None:
    """A larger budget goes on where the smaller one ended, under the bias that was held last."""
    rounds = RoundSettings(steps=1000, pace=50)
    outcome = explore_without_cvs(place_of(only_lengths, 4000), rounds, lambda _: None)
    assert (outcome.converged, outcome.evaluations) == (False, 4000)
    assert outcome.reason == "not converged, because the budget is spent and worth 8 frames"
    told: list[str] = []
    outcome = explore_without_cvs(place_of(only_lengths, 9500), rounds, told.append)
    assert (outcome.converged, outcome.evaluations) == (False, 9000), "what is left is no leg"
    assert [line.partition(":")[0] for line in told[:-1]] == [
        "metadynamics along the coordinates, to step 2,000",
        "the bias held, to step 1,000",
        "the bias held, to step 2,000",
        "metadynamics along the coordinates, to step 3,000",
        "the bias held, to step 1,000",
    ]
    found = {f.name: read_json(f / "run.json")["end_step"] for f in only_lengths.glob("*-[0-9]*")
             if f.is_dir()}  # fmt: skip
    assert found == {"biased-1": 3000, "held-1000": 1000, "held-2000": 2000, "held-3000": 1000}
