"""The contract of moves: which one a mode means, and that a reporter knows no more than it says."""

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import openmm
import pytest
from openmm import app

from openmm_cgan.cgan import TrainingSettings
from openmm_cgan.plumed.bias.reporters import BiasCheckpointReporter
from openmm_cgan.reporters import FrameReporter, Learner, ProposalReporter
from openmm_cgan.reporters.attempts import Attempt
from openmm_cgan.reporters.contexts import asks_for_positions, present_of
from openmm_cgan.reporters.moves import (
    MOVES,
    Asked,
    ExactMove,
    Refusal,
    SeedMove,
    possible_moves,
    settled_moves,
)
from openmm_cgan.reporters.moves.annealed import AnnealedMove
from openmm_cgan.reporters.moves.annealing import Schedule
from openmm_cgan.reporters.moves.marginal import Marginal, found_marginal
from openmm_cgan.reporters.moves.move import Start
from openmm_cgan.reporters.moves.pilot import Plan
from openmm_cgan.reporters.settings import ProposalSettings
from tests.cases.chain_flow import chain_flow
from tests.cases.exact_runs import CHAIN, Run, T, make_run


def asked_of(run: Run, targets: Any = "uniform") -> Asked:
    return Asked(run.sampler, run.bias, targets, ProposalSettings(), 20)


FLOW = TrainingSettings(generator="FlowGenerator")


# ---- which move a mode means


def test_auto_prefers_what_is_exact(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    run = make_run(tmp_path)
    wanted = possible_moves("auto", asked_of(run))
    assert wanted == [ExactMove, SeedMove]
    assert settled_moves(wanted, asked_of(run), run.simulation) == [ExactMove, SeedMove]
    with caplog.at_level(logging.INFO, "openmm_cgan"):
        assert possible_moves("auto", asked_of(run, "least_visited")) == [SeedMove]
        run.sampler.has_density = False
        assert possible_moves("auto", asked_of(run)) == [SeedMove]
    assert [record.message for record in caplog.records] == [
        "mode='auto' takes 'seed': targets are given",
        "mode='auto' takes 'seed': the generator of ChainSampler has no density",
    ]


PLANNED = "openmm_cgan.reporters.moves.annealed.best_plan"
PLAIN = Plan(Schedule(), 0.02, 1.0)  # 20 effective candidates in 1,000 energies


@pytest.mark.parametrize(
    ("best", "mode", "words"),
    [
        (Plan(Schedule((0.5,), (0.3,)), 0.2, 2.0), "annealed", "takes 'annealed': of candidates"),
        (Plan(Schedule((0.5,), (0.3,)), 0.05, 2.0), "exact", "takes 'exact': of candidates"),
        (Plan(Schedule(), 0.0, 1.0), "seed", "takes 'seed': no configuration of the pilot had"),
    ],
)
def test_auto_takes_what_a_pilot_finds_and_says_why(
    best: Plan, mode: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    run = make_run(tmp_path)
    flow = chain_flow(CHAIN, run.bias.variables)
    monkeypatch.setattr(PLANNED, lambda *given: (best, PLAIN))
    with caplog.at_level(logging.INFO, "openmm_cgan"):
        made = ProposalReporter(tmp_path / "p.csv", 20, flow, run.bias)
    assert made.mode == mode
    told = [record for record in caplog.records if words in record.message]
    assert len(told) == 1
    assert (told[0].levelno == logging.WARNING) == (mode == "seed"), "no biased mode silently"


def test_one_pilot_serves_both_moves_between_which_auto_chooses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, name = list[Marginal](), "openmm_cgan.reporters.moves.exact.found_marginal"
    monkeypatch.setattr(name, lambda *given: made.append(found_marginal(*given)) or made[-1])
    for best, mode in ((Plan(Schedule((0.5,), (0.3,)), 0.2, 2.0), "annealed"), (PLAIN, "exact")):
        run = make_run(tmp_path / mode)
        flow = chain_flow(CHAIN, run.bias.variables)
        with monkeypatch.context() as patch:
            patch.setattr(PLANNED, lambda *given, best=best: (best, PLAIN))
            reporter = ProposalReporter(tmp_path / mode / "p.csv", 20, flow, run.bias)
        assert reporter.mode == mode
        found, move = made.pop(), reporter._move
        assert not made
        for own, pilots in zip(move._marginal[1:], found[1:], strict=True):
            np.testing.assert_array_equal(own, pilots)
        assert move.conditions.log_density(found.cvs).std() > 0, "not uniform"


def test_an_annealed_move_that_goes_on_where_nothing_has_any_weight_is_refused(
    tmp_path: Path,
) -> None:
    run = make_run(tmp_path)
    flow = chain_flow(CHAIN, run.bias.variables)
    asked = Asked(flow, run.bias, "uniform", ProposalSettings(annealing_steps=2), 20)
    x, box = present_of(run.simulation)
    start = Start(run.simulation, np.arange(4), x, box, T)
    saved = AnnealedMove.prepare(asked, start).saved()
    again = AnnealedMove.prepare(asked, replace(start, is_restored=True))
    again.potential.energies_and_gradients = lambda x: (np.full(len(x), np.inf), np.zeros_like(x))
    again.potential.energies = lambda x: np.full(len(x), np.inf)
    with pytest.raises(ValueError, match="no configuration of the pilot had any weight"):
        again.restore_saved(saved)


def test_annealed_moves_need_latent_numbers(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    with pytest.raises(ValueError, match="ChainSampler has none: it needs latent_map"):
        possible_moves("annealed", asked_of(run))
    with pytest.raises(ValueError, match="targets are for seeds; mode='annealed'"):
        possible_moves("annealed", asked_of(run, "least_visited"))


def test_a_mode_asked_for_is_made_or_refused_in_words(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    assert possible_moves("exact", asked_of(run)) == [ExactMove]
    assert possible_moves("seed", asked_of(run, np.array([[1.9]]))) == [SeedMove]
    run.sampler.constant_others = ["angle 1-2-3"]
    with pytest.raises(ValueError, match=r"mode='exact' is not possible: .* angle 1-2-3; use mode"):
        settled_moves([ExactMove], asked_of(run), run.simulation)
    assert settled_moves([ExactMove, SeedMove], asked_of(run), run.simulation) == [SeedMove]
    with pytest.raises(ValueError, match=r"expected .auto., .*, .local. or .steered."):
        possible_moves("precise", asked_of(run))


# ---- a move that the reporter has never heard of


class Shift:
    """Moves everything by 0.1 nm at every second attempt: no chemistry, all of the contract."""

    mode: ClassVar[str] = "shift"
    log_level: ClassVar[int] = logging.INFO
    settle_steps = 7
    watch = None

    def __init__(self) -> None:
        self.followed = self.attempts = 0
        self.sampler: Any = None

    @classmethod
    def refusal(cls, asked: Asked) -> Refusal | None:
        return None

    @classmethod
    def refusal_in(cls, asked: Asked, simulation: Any) -> Refusal | None:
        return None

    @classmethod
    def prepare(cls, asked: Asked, start: Any) -> "Shift":
        assert start.positions.shape == (4, 3)
        assert start.box is None
        assert start.temperature == 300.0
        assert start.atoms.tolist() == [0, 1, 2, 3]
        return cls()

    @classmethod
    def why_not_replaced(cls, new: Any, now: Any) -> str:
        return ""

    def replace_sampler(self, sampler: Any) -> None:
        self.sampler = sampler

    def follow(self, context: openmm.Context, temperature: float) -> None:
        assert temperature == 300.0
        self.followed += 1

    def saved(self) -> dict[str, Any]:
        return {}

    def restore_saved(self, arrays: dict[str, Any]) -> None:
        pass

    def attempt(self, positions: Any, box: Any, rng: np.random.Generator) -> Attempt:
        self.attempts += 1
        here = np.array([0.5])
        if self.attempts % 2:
            return Attempt(here, here, here, reason="not now")
        return Attempt(here, here, here, positions=positions + 0.1)

    def summary(self) -> str:
        return f"{self.attempts} shifts tried"

    def weighed_candidates(self) -> tuple[Any, Any]:
        return np.zeros((0, 1)), np.zeros(0)


def test_a_reporter_takes_any_move_of_the_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(MOVES, "shift", Shift)
    run = make_run(tmp_path)
    asked = []

    class Recording(FrameReporter):
        def start_segment(self, origin: dict, settle_steps: int = 0) -> int:
            asked.append((origin["mode"], settle_steps))
            return super().start_segment(origin, settle_steps)

    frames = Recording(tmp_path / "frames", 5, run.bias)
    reporter = ProposalReporter(tmp_path / "p.csv", 10, run.sampler, run.bias, mode="shift")
    run.simulation.reporters += [frames, reporter]
    run.simulation.step(19)
    before = run.simulation.context.getState(positions=True).getPositions(asNumpy=True)._value
    run.simulation.step(1)
    after = run.simulation.context.getState(positions=True).getPositions(asNumpy=True)._value
    np.testing.assert_allclose((after - before).mean(0), 0.1, atol=0.02)
    run.simulation.step(20)
    assert reporter.counts() == {"accepted": 2, "not now": 2}
    assert reporter._move.followed == 4
    assert asked == [("shift", 7)] * 2
    assert "(mode shift), 4 shifts tried; refused: not now 2" in reporter.summary()
    other = type(run.sampler)(run.sampler.chain, run.bias.variables)
    reporter.sampler = other
    run.simulation.step(10)
    assert reporter._move.sampler is other


# ---- who may come after a ProposalReporter


def test_reporters_say_themselves_whether_they_read_positions(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    simulation = run.simulation

    class Legacy:
        """As reporters were before OpenMM 8.1: steps, positions, velocities, forces, energy."""

        def __init__(self, positions: bool) -> None:
            self.positions = positions

        def describeNextReport(
            self, simulation: app.Simulation
        ) -> tuple[int, bool, bool, bool, bool]:
            return 10, self.positions, False, False, True

    proposals = ProposalReporter(tmp_path / "p.csv", 10, run.sampler, run.bias)
    reads_none = [
        app.StateDataReporter(str(tmp_path / "log"), 10, potentialEnergy=True, temperature=True),
        app.CheckpointReporter(str(tmp_path / "chk"), 10),
        BiasCheckpointReporter(tmp_path / "run.chk", 10, run.bias),
        Learner(tmp_path / "made", 10, proposals, tmp_path / "frames", FLOW, 100),
        Legacy(False),
    ]
    reads = [
        app.DCDReporter(str(tmp_path / "x.dcd"), 10),
        app.PDBReporter(str(tmp_path / "x.pdb"), 10),
        FrameReporter(tmp_path / "frames", 10, run.bias),
        proposals,
        Legacy(True),
    ]
    assert not any(asks_for_positions(reporter, simulation) for reporter in reads_none)
    assert all(asks_for_positions(reporter, simulation) for reporter in reads)


def test_a_checkpoint_after_a_proposal_is_of_where_the_run_goes_on(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    run.simulation.reporters.append(
        ProposalReporter(tmp_path / "p.csv", 10, run.sampler, run.bias, mode="exact")
    )
    run.simulation.reporters.append(app.CheckpointReporter(str(tmp_path / "chk"), 10))
    run.simulation.step(10)
    here = run.simulation.context.getState(positions=True).getPositions(asNumpy=True)._value
    run.simulation.loadCheckpoint(str(tmp_path / "chk"))
    again = run.simulation.context.getState(positions=True).getPositions(asNumpy=True)._value
    np.testing.assert_array_equal(again, here)
