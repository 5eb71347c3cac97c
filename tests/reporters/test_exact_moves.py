"""Exact moves against densities in closed form; each term of the weights left out must show."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import openmm
import pytest
from numpy.typing import NDArray

from openmm_cgan.plumed.bias import PlumedBias
from openmm_cgan.potentials import Potential
from openmm_cgan.proposals import GridConditions
from openmm_cgan.proposals.selection import choose
from openmm_cgan.proposals.weights import log_condition_noise, noisy_conditions
from openmm_cgan.reporters.moves import ExactMove, Weighed
from tests.cases.chain_sampler import INPUTS, RANGES, ChainSampler, internal_of
from tests.cases.chain_targets import (
    CASES,
    KT,
    RIGHT,
    WRONG,
    Case,
    Flat,
    T,
    sampled_p_value,
    screen_of,
    weighted_p_value,
)


def move_of(case: Case, folder: Path, n_candidates: int = 100) -> ExactMove:
    text = INPUTS[case.cv] + (case.bias or f"PRINT ARG={case.cv} FILE=C\n")
    bias = PlumedBias(text, case.chain.topology(), temperature=T, directory=folder)
    sampler = ChainSampler(case.chain, bias.variables)
    conditions: Any = "marginal" if case.near else "uniform"
    if case.grid:
        weights = np.linspace(1.0, 12.0, 10)
        conditions = GridConditions(weights, [RANGES[case.cv]], bias.variables)
    potential = Potential(case.chain.system(), n_contexts=1)
    return ExactMove(sampler, bias, potential, screen_of(case.chain), KT, n_candidates, conditions)


# ---- what is left out of the formula


def no_jacobian(move: ExactMove) -> None:
    move.sampler.jacobian = False


def no_fixman(move: ExactMove) -> None:
    move.potential.constraints = np.zeros((0, 2), dtype=int)


def no_g(move: ExactMove) -> None:
    move.conditions = Flat(move.conditions)


def no_bias(move: ExactMove) -> None:
    move.bias.bias_of_cvs = lambda cvs: np.zeros(len(cvs))


def no_k(move: ExactMove) -> None:
    """As if the distance that was asked for had been met."""
    weigh = move.weigh

    def without(x: NDArray, conditions: NDArray, log_prob: NDArray) -> Weighed:
        made = weigh(x, conditions, log_prob)
        k = log_condition_noise(conditions, made.cvs, move.noise, move.sampler.variables)
        return dataclasses.replace(made, log_weights=made.log_weights - np.nan_to_num(k))

    move.weigh = without


def weighed(move: ExactMove, n: int, seed: int) -> tuple[NDArray, NDArray]:
    """Candidates and their log weights."""
    drawn = move.conditions.draw(n, np.random.default_rng(seed))
    x, log_prob = move.sampler.sample_with_log_prob(drawn, seed=seed)
    return x, move.weigh(x, drawn, log_prob).log_weights


LEFT_OUT = [
    ("flexible", no_jacobian),
    ("constrained", no_jacobian),
    ("constrained", no_fixman),
    ("grid", no_g),
    ("biased", no_bias),
    ("marginal", no_g),
]


@pytest.mark.parametrize("name", CASES)
def test_weighted_histograms_are_the_analytic_ones(name: str, tmp_path: Path) -> None:
    case = CASES[name]
    x, log_weights = weighed(move_of(case, tmp_path), 20_000, seed=3)
    assert weighted_p_value(case, x, log_weights) > RIGHT


@pytest.mark.parametrize(("name", "leave_out"), LEFT_OUT)
def test_a_term_left_out_fails_the_same_test(
    name: str, leave_out: Callable[[ExactMove], None], tmp_path: Path
) -> None:
    move = move_of(CASES[name], tmp_path)
    leave_out(move)
    x, log_weights = weighed(move, 20_000, seed=3)
    assert weighted_p_value(CASES[name], x, log_weights) < WRONG


# ---- moves from exact samples leave them exact samples


def moved(move: ExactMove, x: NDArray, n_moves: int, seed: int) -> NDArray:
    """Many chains at once, each moved in the way of ExactMove.attempt."""
    rng = np.random.default_rng(seed)
    n, n_fresh = len(x), move.n_candidates
    for _ in range(n_moves):
        here = noisy_conditions(move.bias.cv_values(x), move.noise, move.sampler.variables, rng)
        drawn = move.conditions.draw(n * n_fresh, rng)
        made, log_prob = move.sampler.sample_with_log_prob(drawn, seed=int(rng.integers(2**31)))
        current = move.weigh(x, here, move.sampler.log_prob(x, here)).log_weights
        fresh = move.weigh(made, drawn, log_prob).log_weights.reshape(n, n_fresh)
        chosen = choose(current, fresh, rng)
        candidates = made.reshape(n, n_fresh, *x.shape[1:])[np.arange(n), chosen]
        x = np.where((chosen >= 0)[:, None, None], candidates, x)
    return x


# of few candidates and of many, each with a term below whose absence shows
@pytest.mark.parametrize(
    ("name", "n_candidates"),
    [
        ("constrained", 1), ("constrained", 20), ("auxiliary", 1), ("biased", 20),
        ("marginal", 20),
    ],
)  # fmt: skip
def test_exact_samples_stay_exact(name: str, n_candidates: int, tmp_path: Path) -> None:
    case = CASES[name]
    x = case.chain.sample(1500, T, seed=5)
    if case.bias:  # rejection by the restraint
        x = case.chain.sample(6000, T, seed=5)
        factor = np.exp(-0.5 * 40 * (internal_of(x)["theta0"] - 1.6) ** 2 / KT)
        x = x[np.random.default_rng(6).random(len(x)) < factor]
    move = move_of(case, tmp_path, n_candidates)
    after = moved(move, x, 40 // n_candidates + 2, seed=7)
    assert (after != x).any(axis=(1, 2)).mean() > 0.5, "most have moved"
    assert sampled_p_value(case, after) > RIGHT


@pytest.mark.parametrize(
    ("name", "leave_out", "n_candidates"),
    [
        ("constrained", no_fixman, 20), ("auxiliary", no_k, 1), ("biased", no_bias, 20),
        ("marginal", no_g, 1),
    ],
)  # fmt: skip
def test_exact_samples_are_lost_with_a_term_left_out(
    name: str, leave_out: Callable[[ExactMove], None], n_candidates: int, tmp_path: Path
) -> None:
    case = CASES[name]
    move = move_of(case, tmp_path, n_candidates)
    leave_out(move)
    x = case.chain.sample(4000 if case.near else 1500, T, seed=5)  # g is not far from flat there
    assert sampled_p_value(case, moved(move, x, 40 // n_candidates + 2, seed=7)) < WRONG


def test_an_attempt_tells_the_weights_that_it_chose_by(tmp_path: Path) -> None:
    case = CASES["biased"]
    move = move_of(case, tmp_path)
    weigh, seen = move.weigh, []

    def recorded(x: NDArray, conditions: NDArray, log_prob: NDArray) -> Weighed:
        made = weigh(x, conditions, log_prob)
        seen.append((x, np.exp(made.log_weights[1:] - made.log_weights.max())))
        return made

    move.weigh = recorded
    rng, start = np.random.default_rng(1), case.chain.sample(1, T, seed=2)[0]
    for _ in range(5):
        attempt = move.attempt(start, None, rng)
        x, w = seen[-1]
        made = attempt.candidates
        assert made.effective_sample_size == pytest.approx(w.sum() ** 2 / (w**2).sum())
        assert made.largest_weight == pytest.approx(w.max() / w.sum())
        assert (made.generated, made.energies) == (100, 101)
        if attempt.positions is not None:  # one of the candidates, moved onto the start
            shapes = internal_of(np.concatenate([x[1:], attempt.positions[None]]))
            together = np.stack(list(shapes.values()), axis=1)
            assert np.abs(together[:-1] - together[-1]).max(axis=1).min() < 1e-9
            assert np.linalg.norm(attempt.positions.mean(0) - start.mean(0)) < 1e-12


def test_conditions_that_are_given_need_no_range_of_training(tmp_path: Path) -> None:
    move = move_of(CASES["grid"], tmp_path, 5)
    sampler = ChainSampler(CASES["grid"].chain, move.bias.variables)
    sampler.cv_range = None
    move.replace_sampler(sampler)
    start = CASES["grid"].chain.sample(1, T, seed=2)[0]
    assert move.attempt(start, None, np.random.default_rng(1)).candidates.generated == 5


def test_conditions_follow_a_bias_that_changes(tmp_path: Path) -> None:
    case = CASES["marginal"]
    move, x = move_of(case, tmp_path), case.chain.sample(1, T, seed=2)[0]
    context = openmm.Context(case.chain.system(), openmm.VerletIntegrator(0.001))
    context.setPositions(x)
    low, high = np.array([[1.6]]), np.array([[2.0]])

    def more_at_high() -> float:
        move.follow(context, T)
        return float(move.conditions.log_density(high)[0] - move.conditions.log_density(low)[0])

    before = more_at_high()
    bias_of_cvs = move.bias.bias_of_cvs
    move.bias.bias_of_cvs = lambda cvs: bias_of_cvs(cvs) + 15 * (np.asarray(cvs)[:, 0] < 1.8)
    assert more_at_high() > before + 1.0


def test_what_a_pilot_found_is_saved_and_comes_back(tmp_path: Path) -> None:
    move = move_of(CASES["marginal"], tmp_path)
    saved = move.saved()
    probabilities = move.conditions.probabilities
    move._marginal = move._marginal._replace(free_energies=0 * move._marginal.free_energies)
    move._draw_near_marginal()
    assert not np.array_equal(move.conditions.probabilities, probabilities)
    move.restore_saved(saved)
    move._draw_near_marginal()
    assert np.array_equal(move.conditions.probabilities, probabilities)
