"""openmm-cgan explore on a chain whose answer is known; its folder, its words, its signals."""

import json
import math
import os
import re
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import openmm
import pytest
from click.testing import CliRunner

from openmm_cgan import GAS_CONSTANT
from openmm_cgan.cli import main
from openmm_cgan.cli.exploration import Workshop
from openmm_cgan.cli.exploration_folder import ExplorationFolder
from openmm_cgan.cli.explore import NOT_CONVERGED
from openmm_cgan.cli.explored_numbers import claim_of_windows
from openmm_cgan.cli.explored_windows import run_explored_windows
from openmm_cgan.explore import decisions
from openmm_cgan.explore.circle import Outcome, Step, explore
from openmm_cgan.explore.decisions import BIAS, CHAINS, LOOK, REFINE, TRAIN, WEIGH, Decision
from openmm_cgan.explore.evidence import Evidence, Generator
from openmm_cgan.explore.settings import ExploreSettings
from openmm_cgan.free_energy.differences import StateDifference
from openmm_cgan.json_files import write_json
from openmm_cgan.potentials import Potential
from openmm_cgan.run_folders import recorded_commands
from openmm_cgan.testsystems import Chain, Molecule
from tests.cases import ROOT
from tests.cases.other_processes import PATIENCE, wait_until

CHAIN = Chain(barrier=15.0, tilt=2.0)
CVS = "phi: TORSION ATOMS=1,2,3,4\nPRINT ARG=phi STRIDE=100\n"
SHORT = ExploreSettings(
    "phi:-pi..0|0..pi", tolerance=0.4, timestep=0.001, barrier=20.0, look_steps=2000,
    biased_steps=20_000, training_steps=60, refining_steps=10, generated=2500, chain_steps=10_000,
)  # fmt: skip


def explored(folder: Path, settings: ExploreSettings = SHORT) -> Outcome:
    folder.mkdir(exist_ok=True)
    (folder / "cvs.dat").write_text(CVS)
    molecule = Molecule(CHAIN.topology(), CHAIN.system(), CHAIN.sample(1, 300.0, seed=1)[0])
    place = ExplorationFolder(
        molecule, folder / "cvs.dat", folder / "explored", settings, "Reference", workers=0
    )
    place.check()
    place.folder.mkdir(exist_ok=True)
    return explore(Workshop(place), settings, place.folder)


def counted_of_each(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int, int]]:
    """What actions say that they cost, beside the steps and energies that OpenMM was asked for."""
    asked, found = Counter[str](), []

    def counting(cls: type, name: str, number: Callable[[Any], int]) -> None:
        original = getattr(cls, name)

        def counted(self: Any, given: Any, *more: Any) -> Any:
            asked["all"] += number(given)
            return original(self, given, *more)

        monkeypatch.setattr(cls, name, counted)

    counting(Potential, "energies", len)
    counting(Potential, "energies_and_gradients", len)
    counting(openmm.LangevinMiddleIntegrator, "step", int)
    carry_out = Workshop.carry_out

    def watched(self: Workshop, step: Step) -> Mapping[str, Any]:
        before = asked["all"]
        measured = carry_out(self, step)
        found.append((step.decision.action, measured["cost"], asked["all"] - before))
        return measured

    monkeypatch.setattr(Workshop, "carry_out", watched)
    return found


@pytest.mark.parametrize("as_trained", [True, False], ids=["as trained", "refined"])
def test_a_chain_without_a_bias_ends_in_a_claim_that_is_true(
    as_trained: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ended by a small budget and gone on with: what was done is not done again."""
    if not as_trained:
        monkeypatch.setattr(decisions, "GOOD_SHARE", math.inf)
    spent = counted_of_each(monkeypatch)
    first = explored(tmp_path, replace(SHORT, budget_steps=30_000))
    assert not first.converged
    assert "30,000 force evaluations" in first.reason
    record = tmp_path / "explored" / "biased-1" / "run.json"
    written = record.stat().st_mtime_ns
    outcome = explored(tmp_path)
    assert record.stat().st_mtime_ns == written
    assert outcome.converged, outcome.reason
    share = CHAIN.share_positive(300.0)
    exact = -GAS_CONSTANT * 300.0 * math.log(share / (1 - share))
    assert abs(outcome.value - exact) < 3.5 * outcome.error
    assert outcome.error <= SHORT.tolerance
    assert "METAD ARG=phi" in (tmp_path / "explored" / "plumed.dat").read_text()
    assert (tmp_path / "explored" / "generated" / "profile.csv").exists()
    done = {action for action, *_ in spent}
    assert {LOOK, BIAS, TRAIN, WEIGH, CHAINS} <= done
    assert (REFINE in done) == (not as_trained)
    for action, told, asked in spent:  # each of two runs looks at its move by two energies
        assert told == asked - (4 if action == CHAINS else 0), action
    assert outcome.evaluations == sum(told for _, told, _ in spent)


def test_windows_from_two_starts_agree_and_are_longer_where_the_error_is(tmp_path: Path) -> None:
    """What is done where no generator gives weights."""
    low = Chain(barrier=6.0, tilt=1.0)
    settings = replace(SHORT, barrier=10.0, windows=6, window_steps=3000)
    molecule = Molecule(low.topology(), low.system(), low.sample(1, 300.0, seed=1)[0])
    (tmp_path / "cvs.dat").write_text(CVS)
    place = ExplorationFolder(molecule, tmp_path / "cvs.dat", tmp_path, settings, "Reference", 0)
    hills = "METAD ARG=phi SIGMA=0.3 HEIGHT=1 PACE=50 BIASFACTOR=5 GRID_MIN=-pi GRID_MAX=pi\n"
    place.run("biased-1", CVS.replace("PRINT ARG=phi STRIDE=100\n", hills), 20_000)
    folder, difference = tmp_path / "windows", StateDifference.of(settings.difference)
    for steps in (3000, 6000):
        pairs, total = run_explored_windows(
            tmp_path / "biased-1", folder, None, [], steps, settings, ("Reference", 0)
        )
        assert total <= 12 * steps
    lengths = [json.loads((p / "window.json").read_text())["step"] for pair in pairs for p in pair]
    assert sum(lengths) == total
    assert min(lengths) >= 1500
    assert max(lengths) > 1.3 * min(lengths)
    claim = claim_of_windows(pairs, difference, 1, tmp_path)
    share = low.share_positive(300.0)
    exact = -GAS_CONSTANT * 300.0 * math.log(share / (1 - share))
    assert claim.error < 1.5
    assert abs(claim.value - exact) < 3.5 * claim.error
    assert 0 < claim.disagreement < 5  # two runs, though one frame begins both
    assert claim.overlap > 0.03


def test_pairs_of_windows_of_one_seed_are_refused_with_a_way_on(tmp_path: Path) -> None:
    """Earlier versions gave both windows of a pair one seed."""
    folder = tmp_path / "windows-1"
    for part in "ab":
        (folder / part / "window-000").mkdir(parents=True)
        record = {"seed": 7, "status": "finished", "temperature": 300.0}
        write_json(folder / part / "window-000" / "window.json", record)
    with pytest.raises(ValueError, match=r"have one seed, .*Remove .*windows-1, and the same comm"):
        run_explored_windows(tmp_path, folder, None, [], 100, SHORT, (None, 0))


def test_what_does_not_belong_together_is_refused_before_any_work(tmp_path: Path) -> None:
    pdb = ROOT / "openmm_cgan" / "data" / "alanine_dipeptide.pdb"
    (tmp_path / "cvs.dat").write_text("phi: TORSION ATOMS=5,7,9,15\nPRINT ARG=phi\n")
    out = tmp_path / "out"
    asked = ["explore", str(pdb), "--forcefield", "amber96.xml", "--out", str(out)]
    asked += ["--plumed", str(tmp_path / "cvs.dat")]
    wrong = {
        "psi:0..1": "no CV 'psi'", "phi:0": "expected such as",
        "phi:0..2|1.5..3": "its two states overlap", "phi:-pi..pi": "leaves no rest",
        "phi:-120..-30|0..90": "longer than its period of 6.283 rad: give both ends in its unit",
    }  # fmt: skip
    for difference, words in wrong.items():
        result = CliRunner().invoke(main, [*asked, "--difference", difference])
        assert result.exit_code == 1
        assert words in result.output
        assert not out.exists()
    result = CliRunner().invoke(main, [*asked, "--difference", "phi:0..1", "--platform", "cudda"])
    assert "platform 'cudda'" in result.output
    assert not out.exists()
    out.mkdir()
    (out / "notes.txt").write_text("mine")
    result = CliRunner().invoke(main, [*asked, "--difference", "phi:0..1"])
    assert "holds something already" in result.output
    result = CliRunner().invoke(main, [*asked, "--difference", "phi:0..1", "--resume"])
    assert "no exploration to go on with" in result.output


def test_what_was_typed_is_written_down(tmp_path: Path) -> None:
    (tmp_path / "cvs.dat").write_text("phi: TORSION ATOMS=5,7,9,15\nPRINT ARG=phi\n")
    out = tmp_path / "out"
    asked = ["explore", str(ROOT / "openmm_cgan" / "data" / "alanine_dipeptide.pdb")]
    asked += ["--forcefield", "amber96.xml", "--plumed", str(tmp_path / "cvs.dat")]
    asked += ["--difference", "phi:0..2.3", "--out", str(out), "--budget-steps"]
    assert CliRunner().invoke(main, [*asked, "10"]).exit_code == NOT_CONVERGED
    assert CliRunner().invoke(main, [*asked, "20", "--resume"]).exit_code == NOT_CONVERGED
    first, second = recorded_commands(out)
    assert first.startswith("openmm-cgan explore")
    assert second.endswith("--budget-steps 20 --resume")
    wrong = CliRunner().invoke(main, [*asked, "20", "--resume", "--seed", "2"])
    assert "has other seed" in wrong.output
    assert len(recorded_commands(out)) == 2


@pytest.mark.skipif(sys.platform == "win32", reason="no such signals")
def test_sigint_saves_and_says_how_to_go_on(tmp_path: Path) -> None:
    (tmp_path / "cvs.dat").write_text("phi: TORSION ATOMS=5,7,9,15\nPRINT ARG=phi\n")
    out = tmp_path / "out"
    asked = ["explore", str(ROOT / "openmm_cgan" / "data" / "alanine_dipeptide.pdb")]
    asked += ["--forcefield", "amber96.xml", "--plumed", str(tmp_path / "cvs.dat")]
    asked += ["--difference", "phi:0..2.3", "--out", str(out), "--platform", "Reference"]
    process = subprocess.Popen(
        [sys.executable, "-c", "from openmm_cgan.cli import main; main()", *asked],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
    )
    wait_until((out / "look" / "run.chk").exists, process, "a checkpoint")
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=PATIENCE)
    assert process.returncode == 128 + signal.SIGINT
    last = told.strip().splitlines()[-1]
    assert re.fullmatch(r"stopped by SIGINT; all is saved in .*--resume goes on", last)


def test_no_steps_of_refining_leave_the_generator_as_it_is(tmp_path):
    """Where the budget leaves none; `refined` says that it is not asked for again."""
    made = Generator("", share=0.4, heavy=0.1, missed=0.01, passed=0.99)
    known = replace(Evidence(needs_bias=False, spent=0), generator=made, trainings=1)
    molecule = Molecule(CHAIN.topology(), CHAIN.system(), CHAIN.sample(1, 300.0, seed=1)[0])
    place = ExplorationFolder(molecule, tmp_path / "cvs.dat", tmp_path, SHORT, "Reference")
    found = Workshop(place).carry_out(Step(7, Decision(REFINE, ""), known))
    assert found == {"generator": {**vars(made), "refined": True}, "cost": 0}
