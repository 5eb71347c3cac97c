"""What is done next and why, from measurements alone."""

from dataclasses import replace

import pytest

from openmm_cgan.explore.decisions import (
    BIAS,
    CHAINS,
    EXTEND,
    HELD_AGAINST,
    HOLDING,
    JUDGED,
    JUDGING,
    LOOK,
    MOVES,
    OPPOSITE,
    PILOT,
    REFINE,
    STOP,
    TRAIN,
    TRAININGS,
    WEIGH,
    WINDOWS,
    claimed_error,
    decide,
)
from openmm_cgan.explore.evidence import Chains, Claim, Coverage, Evidence, Generator
from openmm_cgan.explore.settings import ExploreSettings
from openmm_cgan.metrics.judging import FEW, REPEATS

NAN = float("nan")
SETTINGS = ExploreSettings("phi:0..2.3", budget_steps=3_000_000)
NOTHING = Evidence(needs_bias=True, spent=0)
LOOKED = replace(NOTHING, widths=True)
WELL = Coverage(frames=6000, crossings=12, new_share=0.02, hops={"chi1": 20})
COVERED = replace(LOOKED, coverage=WELL, biased_steps=150_000)
FLOW = Generator("", share=0.4, heavy=0.1, missed=0.01, passed=0.99)
TRAINED = replace(COVERED, generator=FLOW, trainings=1)
REFINED = replace(TRAINED, generator=replace(FLOW, refined=True))
GOOD = Claim("generated", 11.9, 0.1, [[11.8, 0.15], [12.0, 0.15]], 0.4, 900.0)
WEIGHED = replace(REFINED, claim=GOOD, generated=20_000)
TOGETHER = Chains(50_000, 0.7, 0.01, {"phi": 1.02, "chi1": 1.03})
TRIED = replace(WEIGHED, chains=TOGETHER)
WINDOWED = replace(
    TRIED, chains=None, n_windows=48, window_steps=10_000,
    claim=Claim("windows", 11.9, 0.2, [[11.8, 0.3], [12.0, 0.3]], NAN, 900.0, "", 2.0, 0.2),
)  # fmt: skip


def test_all_goes_well() -> None:
    trained = [replace(k, generator=FLOW) for k in (WEIGHED, TRIED)]
    known = (NOTHING, LOOKED, COVERED, TRAINED, *trained)
    made = [decide(k, SETTINGS) for k in known]
    assert [d.action for d in made] == [LOOK, BIAS, TRAIN, WEIGH, CHAINS, STOP]
    assert made[-1].converged
    assert not any(d.converged for d in made[:-1])
    assert "11.90 +- 0.10" in made[-1].reason
    assert "no bias" in made[0].reason


COVERAGES = {
    "the second state has not been visited": replace(WELL, crossings=0, missing=["second"]),
    "2 times, 4 are wanted": replace(WELL, crossings=2),
    "15% of the cells": replace(WELL, new_share=0.15),
    "chi1 has changed wells 3 times": replace(WELL, hops={"chi1": 3, "chi2": 9}),
}


@pytest.mark.parametrize("reason", COVERAGES)
def test_too_few_data_are_made_more(reason: str) -> None:
    made = decide(replace(COVERED, coverage=COVERAGES[reason]), SETTINGS)
    assert made.action == EXTEND
    assert reason in made.reason


def test_hidden_torsions_are_waited_for_so_long_only_but_states_until_the_budget_ends() -> None:
    long = replace(COVERED, biased_steps=600_000)
    hidden, states = (COVERAGES[k] for k in ("chi1 has changed wells 3 times",
                                             "2 times, 4 are wanted"))  # fmt: skip
    assert decide(replace(long, coverage=hidden), SETTINGS).action == TRAIN
    assert decide(replace(long, coverage=states), SETTINGS).action == EXTEND
    spent = decide(replace(long, coverage=states, spent=2_900_000), SETTINGS)
    assert spent.action == STOP
    assert not spent.converged
    assert "2 times, 4 are wanted" in spent.reason
    assert "100,000 of 3,000,000" in spent.reason


def test_a_well_seen_hot_only_is_begun_from_once() -> None:
    known = replace(COVERED, unseen=["chi1", "chi2"])
    assert decide(known, SETTINGS).action == OPPOSITE
    assert "chi1" in decide(known, SETTINGS).reason
    assert "chi2" in decide(replace(known, opposite=1), SETTINGS).reason
    assert decide(replace(known, opposite=2), SETTINGS).action == TRAIN


def test_where_there_are_no_weights_windows_are_run() -> None:
    periodic = replace(FLOW, why_not_exact="the System has a periodic box", refined=False)
    made = decide(replace(TRAINED, generator=periodic), SETTINGS)
    assert made.action == WINDOWS
    assert "periodic box" in made.reason
    assert made.cost == 48 * 10_000


@pytest.mark.parametrize(("poor", "then"), [({"share": 0.004}, WINDOWS), ({"missed": 0.3}, MOVES)])
def test_a_poor_generator_gets_more_data_once_and_then_moves_or_windows(
    poor: dict[str, float], then: str
) -> None:
    """Moves are exact whatever the generator misses, but not where none is accepted."""
    made = replace(FLOW, refined=True, **poor)
    assert decide(replace(REFINED, generator=made), SETTINGS).action == EXTEND
    assert decide(replace(REFINED, generator=made, trainings=2), SETTINGS).action == then


@pytest.mark.parametrize(
    ("poor", "reason"), [({"share": 0.03}, "Kish/n 0.03"), ({"missed": 0.2}, "misses 20.0%")]
)
def test_a_poor_generator_is_refined_before_it_is_weighed(
    poor: dict[str, float], reason: str
) -> None:
    made = decide(replace(TRAINED, generator=replace(FLOW, **poor)), SETTINGS)
    assert (made.action, reason in made.reason) == (REFINE, True)
    refined = replace(FLOW, refined=True, share=0.03)
    assert decide(replace(REFINED, generator=refined), SETTINGS).action == WEIGH


def test_a_good_one_is_refined_where_its_weights_are_heavy_or_too_many_would_be_wanted() -> None:
    """Else it costs more than the number."""
    weighed = replace(WEIGHED, generator=FLOW)
    heavy, dominated = (CLAIMS[k] for k in ("Pareto k is 0.80", "dominated by a few"))
    without_variance, costly = replace(GOOD, k_hat=0.6), replace(GOOD, error=2.0)
    claims = ((heavy, 20_000), (dominated, 20_000), (without_variance, 20_000), (costly, 40_000))
    for claim, n in claims:
        made = decide(replace(weighed, claim=claim, generated=n), SETTINGS)
        assert made.action == REFINE
    refined = replace(WEIGHED, claim=without_variance)
    assert decide(refined, SETTINGS).action == CHAINS, "its errors are nearly right up to 0.7"
    few = decide(replace(weighed, claim=CLAIMS["error is 0.80"]), SETTINGS)
    assert (few.action, few.steps < 100_000) == (WEIGH, True)
    spent = replace(weighed, claim=heavy, spent=SETTINGS.budget_steps - 200_000)
    assert decide(spent, SETTINGS).steps == 0
    after = replace(spent, generator=replace(FLOW, refined=True))
    assert decide(after, SETTINGS).action == WEIGH, "it stays, and more of it is weighed"


CLAIMS = {
    "error is 0.80": replace(GOOD, error=0.8),
    "halves disagree": replace(GOOD, halves=[[11.0, 0.1], [13.0, 0.1]]),
    "Pareto k is 0.80": replace(GOOD, k_hat=0.8),
    "dominated by a few": replace(GOOD, unknown="dominated by a few", value=float("nan")),
}


@pytest.mark.parametrize("reason", CLAIMS)
def test_a_claim_in_doubt_is_not_made(reason: str) -> None:
    known = replace(TRIED, claim=CLAIMS[reason])
    made = decide(known, SETTINGS)
    assert (made.action, reason in made.reason) == (WEIGH, True)
    assert made.steps >= 2 * known.generated
    spent = decide(replace(known, spent=2_999_000), SETTINGS)
    assert (spent.action, spent.converged) == (STOP, False)
    assert spent.reason.startswith("not converged, because")
    assert reason in spent.reason


def test_a_heavy_tail_that_stays_leads_to_other_generators_and_then_to_moves() -> None:
    heavy = replace(WEIGHED, claim=CLAIMS["Pareto k is 0.80"], generated=80_000)
    assert decide(heavy, SETTINGS).action == EXTEND
    last = replace(heavy, trainings=TRAININGS)
    assert decide(last, SETTINGS).action == MOVES
    refused = replace(TOGETHER, accepted=0.01)
    assert decide(replace(last, chains=refused), SETTINGS).action == WINDOWS


MOVED = replace(
    TRIED, trainings=TRAININGS, moves_steps=150_000,
    claim=Claim("moves", 11.9, 0.3, [[11.8, 0.4], [12.0, 0.4]], NAN, 500.0, "", 0.7),
)  # fmt: skip


def test_runs_with_moves_are_made_longer_until_they_agree() -> None:
    assert decide(MOVED, SETTINGS).converged
    assert "runs from opposite starts" in decide(MOVED, SETTINGS).reason
    for changes in ({"error": 0.9}, {"disagreement": 4.0}):
        claim = replace(MOVED.claim, **changes)  # type: ignore[type-var]
        made = decide(replace(MOVED, claim=claim), SETTINGS)
        assert (made.action, made.steps) == (MOVES, 150_000)
    apart = replace(TOGETHER, r_hat={"phi": 1.0, "chi1": 1.6})
    made = decide(replace(MOVED, chains=apart), SETTINGS)
    assert made.action == MOVES
    assert "chi1 (R-hat 1.60" in made.reason
    spent = decide(replace(MOVED, chains=apart, spent=2_900_000), SETTINGS)
    assert spent.reason.startswith("not converged, because chains from opposite starts")


def test_chains_that_do_not_come_together_forbid_the_claim() -> None:
    """Longer first, then more data, then the words."""
    apart = Chains(50_000, 0.3, 0.01, {"phi": 1.02, "chi1": 1.4})
    known = replace(WEIGHED, chains=apart)
    assert decide(known, SETTINGS).action == CHAINS
    longer = replace(known, chains=replace(apart, steps=200_000))
    assert decide(longer, SETTINGS).action == EXTEND
    last = decide(replace(longer, trainings=TRAININGS), SETTINGS)
    assert (last.action, last.converged) == (STOP, False)
    assert "chi1 (R-hat 1.40" in last.reason
    missing = replace(known, chains=replace(TOGETHER, missed=0.3), trainings=TRAININGS)
    assert "misses 30.0%" in decide(missing, SETTINGS).reason


WINDOW_CLAIMS = {
    "remember their starts": {"disagreement": 9.0},
    "overlap by 0.01": {"overlap": 0.01},
    "error is 0.90": {"error": 0.9},
}


@pytest.mark.parametrize("reason", WINDOW_CLAIMS)
def test_windows_in_doubt_are_run_longer(reason: str) -> None:
    assert decide(WINDOWED, SETTINGS).converged
    claim = replace(WINDOWED.claim, **WINDOW_CLAIMS[reason])  # type: ignore[type-var]
    made = decide(replace(WINDOWED, claim=claim), SETTINGS)
    assert (made.action, made.steps, made.cost) == (WINDOWS, 10_000, 480_000)
    assert reason in made.reason
    spent = decide(replace(WINDOWED, claim=claim, spent=2_900_000), SETTINGS)
    assert (spent.action, spent.converged) == (STOP, False)
    assert reason in spent.reason


@pytest.mark.parametrize("unknown", ["error", "disagreement", "overlap"])
def test_what_is_not_known_speaks_against_a_number(unknown: str) -> None:
    claim = replace(WINDOWED.claim, **{unknown: float("nan")})  # type: ignore[type-var]
    assert not decide(replace(WINDOWED, claim=claim), SETTINGS).converged


def test_windows_that_do_not_join_when_longer_end_in_words() -> None:
    claim = replace(WINDOWED.claim, overlap=0.01)  # type: ignore[type-var]
    made = decide(replace(WINDOWED, claim=claim, window_steps=20_000), SETTINGS)
    assert (made.action, made.converged) == (STOP, False)
    assert made.reason.startswith("not converged, because windows overlap by 0.01")


def test_windows_are_shortened_to_what_is_left_down_to_half() -> None:
    claim = replace(WINDOWED.claim, error=0.9)  # type: ignore[type-var]
    left = replace(WINDOWED, claim=claim, spent=2_700_000)
    assert decide(left, SETTINGS).steps == 6250
    assert decide(left, SETTINGS).cost == 300_000


@pytest.mark.parametrize(
    ("known", "of_its_own"),
    [(COVERED, 0), (WEIGHED, 2 * 50_000 + 2 * 50_000 * 103 // 250)],
    ids=["train", "chains"],
)
def test_judging_is_foreseen(known: Evidence, of_its_own: int) -> None:
    """What a generator is judged by is evaluated too, and may be more than what is left."""
    made = decide(known, SETTINGS)
    assert made.cost > of_its_own
    short = decide(replace(known, spent=SETTINGS.budget_steps - made.cost + 1), SETTINGS)
    assert (short.action, short.converged) == (STOP, False)
    assert f"{made.cost:,} needed" in short.reason
    assert decide(replace(known, spent=SETTINGS.budget_steps - made.cost), SETTINGS) == made


@pytest.mark.parametrize(
    ("left", "share"), [(1_000_000, 1.0), (300_000, 0.5), (200_000, 0.0), (50_000, 0.0)]
)
def test_refining_leaves_enough_for_the_number(left: int, share: float) -> None:
    """It took all of a small budget, or ended the exploration before anything was weighed."""
    poor = replace(FLOW, share=0.03)
    made = decide(replace(TRAINED, generator=poor, spent=SETTINGS.budget_steps - left), SETTINGS)
    refined = replace(REFINED, spent=SETTINGS.budget_steps - left + made.cost)
    weigh = decide(refined, SETTINGS)
    chains = decide(replace(WEIGHED, spent=refined.spent + weigh.cost), SETTINGS)
    assert (made.action, weigh.action) == (REFINE, WEIGH)
    assert made.steps == pytest.approx(share * SETTINGS.refining_steps, rel=0.4)
    assert chains.action == (CHAINS if left >= 200_000 else STOP)
    assert bool(made.cost) == bool(made.steps)
    assert made.steps or f"{left:,} force evaluations are left" in made.reason


def test_what_is_foreseen_of_judging_is_what_it_takes() -> None:
    at_frames = JUDGED // (2 * FEW) + JUDGED // (2 * REPEATS)  # of each that is looked at one more
    assert JUDGED + at_frames <= JUDGING <= 1.1 * JUDGED
    assert HOLDING == 2 * HELD_AGAINST * (REPEATS + 1)


def test_hours_end_it_too() -> None:
    late = replace(REFINED, seconds=7200.0)
    made = decide(late, replace(SETTINGS, hours=1.0))
    assert (made.action, made.converged) == (STOP, False)
    assert "2.00 hours are spent of 1.00" in made.reason


def test_the_claimed_error_knows_of_the_halves() -> None:
    assert claimed_error(replace(GOOD, halves=[[11.5, 0.4], [12.3, 0.4]])) == pytest.approx(0.4)
    assert claimed_error(GOOD) == pytest.approx(0.1)


def test_the_pilot_of_exact_moves_is_counted() -> None:
    from openmm_cgan.reporters.moves.marginal import EACH, ROUNDS

    assert PILOT == ROUNDS * EACH
