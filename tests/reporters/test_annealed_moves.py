"""Annealed moves of chains with a flow: weights against densities in closed form, and live runs."""

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from openmm_cgan.plumed.bias import PlumedBias
from openmm_cgan.proposals import GridConditions
from openmm_cgan.proposals.selection import choose
from openmm_cgan.proposals.weights import noisy_conditions
from openmm_cgan.reporters.moves import AnnealedMove, Schedule, pilot
from openmm_cgan.reporters.moves.annealing import annealed
from openmm_cgan.reporters.settings import ProposalSettings
from tests.cases.chain_flow import ChainPotential, chain_flow
from tests.cases.chain_sampler import INPUTS, RANGES, internal_of
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
from tests.cases.exact_runs import HELD, make_run, propose

PATHS = Schedule(levels=(0.5,), steps=(0.7,))
N = 6000


def move_of(case: Case, folder: Path, schedule: Schedule = PATHS) -> AnnealedMove:
    text = INPUTS[case.cv] + (case.bias or f"PRINT ARG={case.cv} FILE=C\n")
    bias = PlumedBias(text, case.chain.topology(), temperature=T, directory=folder)
    conditions: Any = "uniform"
    if case.grid:
        weights = np.geomspace(1.0, 40.0, 10)  # far from flat: to be missed where left out
        conditions = GridConditions(weights, [RANGES[case.cv]], bias.variables)
    return AnnealedMove(
        chain_flow(case.chain, bias.variables, noise=0.015), bias, ChainPotential(case.chain),
        screen_of(case.chain), KT, 1, conditions, schedule,
    )  # fmt: skip


def weighted_ends(case: Case, move: AnnealedMove) -> float:
    """p of the ends of paths, each with its weight."""
    rng = np.random.default_rng(3)
    begun = move.evaluate(*move.drawn(N, rng))
    paths = annealed(begun, np.zeros(N, dtype=bool), move.schedule, move.space, rng)
    return weighted_p_value(case, paths.points.positions, paths.log_weights)


# ---- what is left out


Leave = Callable[[AnnealedMove, pytest.MonkeyPatch], None]


def jacobian(move: AnnealedMove, patch: pytest.MonkeyPatch) -> None:
    features = move._map._features
    decode = features.decode_with_log_det
    patch.setattr(
        features, "decode_with_log_det", lambda f, c: (decode(f, c)[0], torch.zeros(len(f)))
    )


def q(move: AnnealedMove, patch: pytest.MonkeyPatch) -> None:
    generator = move._map._generator
    made = generator.from_latent

    def without(latent: torch.Tensor, condition: torch.Tensor) -> tuple[torch.Tensor, ...]:
        features, log_prob, log_angles = made(latent, condition)
        return features, 0.0 * log_prob, log_angles

    patch.setattr(generator, "from_latent", without)


def g(move: AnnealedMove, patch: pytest.MonkeyPatch) -> None:
    move.conditions = Flat(move.conditions)


def fixman(move: AnnealedMove, patch: pytest.MonkeyPatch) -> None:
    move.potential.constraints = np.zeros((0, 2), dtype=int)


def bias(move: AnnealedMove, patch: pytest.MonkeyPatch) -> None:
    move.bias.bias_of_cvs = lambda cvs: np.zeros(len(cvs))


def work(move: AnnealedMove, patch: pytest.MonkeyPatch) -> None:
    increments = Schedule.increments.fget
    patch.setattr(Schedule, "increments", property(lambda own: increments(own) * [1, 0]))


@pytest.mark.parametrize("name", CASES)
def test_weighted_ends_of_paths_are_the_analytic_ones(name: str, tmp_path: Path) -> None:
    assert weighted_ends(CASES[name], move_of(CASES[name], tmp_path)) > RIGHT


LEFT_OUT: list[tuple[str, Leave]] = [
    ("constrained", jacobian),
    ("constrained", fixman),
    ("flexible", q),
    ("grid", g),
    ("biased", bias),
    ("flexible", work),
]


@pytest.mark.parametrize(("name", "leave_out"), LEFT_OUT)
def test_a_factor_left_out_fails_the_same_test(
    name: str, leave_out: Leave, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    move = move_of(CASES[name], tmp_path)
    leave_out(move, monkeypatch)
    assert weighted_ends(CASES[name], move) < WRONG


# ---- moves


def test_a_flow_maps_back_to_where_it_came_from(tmp_path: Path) -> None:
    """And slopes by its latent numbers are those of differences."""
    move = move_of(CASES["auxiliary"], tmp_path)
    latent, conditions = move.drawn(50, np.random.default_rng(1))
    points = move.evaluate(latent, conditions)
    alive = np.isfinite(points.log_ratios)
    assert alive.sum() > 30
    back = move._map.latent(points.positions, conditions)
    np.testing.assert_allclose(back[alive], latent[alive], atol=1e-8)
    step = 1e-6 * np.random.default_rng(2).standard_normal(latent.shape)
    ahead, behind = (move.evaluate(latent + s * step, conditions) for s in (1, -1))
    rows = alive & np.isfinite(ahead.log_ratios) & np.isfinite(behind.log_ratios)
    rise = (ahead.log_ratios[rows] - behind.log_ratios[rows]) / 2e-6
    np.testing.assert_allclose(
        rise, (points.gradients * step).sum(axis=1)[rows] / 1e-6, rtol=1e-4, atol=1e-3
    )
    rise = (ahead.log_angles[rows] - behind.log_angles[rows]) / 2e-6
    np.testing.assert_allclose(
        rise, (points.angle_slopes * step).sum(axis=1)[rows] / 1e-6, rtol=1e-4, atol=1e-3
    )


def test_populations_of_two_wells_are_the_analytic_ones_in_a_run(tmp_path: Path) -> None:
    chain = HELD
    run = make_run(tmp_path, INPUTS["phi"] + "PRINT ARG=phi FILE=C STRIDE=100\n", chain)
    settings = ProposalSettings(candidates=8, annealing_steps=1)
    flow = chain_flow(chain, run.bias.variables)
    reporter = propose(
        run, tmp_path / "p.csv", 20, mode="annealed", sampler=flow, settings=settings
    )
    positive = []
    for _ in range(300):
        run.simulation.step(20)
        x = run.simulation.context.getState(positions=True).getPositions(asNumpy=True)._value
        positive.append(internal_of(x[None])["phi"][0] > 0)
    moved = reporter.counts()["accepted"] / 300
    expected = chain.share_positive(T)
    # a frame is another one's copy, as to its well, unless a move came between
    error = np.sqrt(expected * (1 - expected) * (2 - moved) / moved / 300)
    assert abs(np.mean(positive) - expected) < 3.5 * error
    assert error < 0.15
    with (tmp_path / "p.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {row["mode"] for row in rows} == {"annealed"}
    energies = [int(row["energies"]) for row in rows]
    assert max(energies) <= 2 * 9, (
        "each candidate and the current one, and once more unless dropped"
    )
    assert np.mean(energies) > 9


def moved(move: AnnealedMove, x: NDArray, n_moves: int) -> NDArray:
    """Many chains at once, each moved in the way of AnnealedMove.attempt."""
    rng, n = np.random.default_rng(7), len(x)
    for _ in range(n_moves):
        cvs = move.bias.cv_values(x)
        here = noisy_conditions(cvs, move.noise, move.sampler.variables, rng)
        paths = move.ends(move.begun(x, here, rng), n, rng)
        fresh = paths.log_weights[n:, None]
        chosen = choose(paths.log_weights[:n], fresh, rng)
        x = np.where((chosen >= 0)[:, None, None], paths.points.positions[n:], x)
    return x


@pytest.mark.parametrize("with_noise", [True, False])
def test_exact_samples_stay_so_if_the_noise_of_conditions_is_weighed(
    with_noise: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not with_noise:  # as if the distance that was asked for had been met
        name = "openmm_cgan.reporters.moves.weighing.log_condition_noise"
        monkeypatch.setattr(name, lambda conditions, cvs, *more: np.zeros(len(cvs)))
    case = CASES["auxiliary"]
    x = case.chain.sample(3000, T, seed=5)
    after = moved(move_of(case, tmp_path), x, 15)
    assert (after != x).any(axis=(1, 2)).mean() > 0.2
    assert (sampled_p_value(case, after) > RIGHT) == with_noise
    assert (sampled_p_value(case, after) < 0.01 * RIGHT) != with_noise


# ---- the pilot


def test_a_pilot_finds_the_same_again_and_takes_what_gives_most(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pilot, "PATHS", 128)
    monkeypatch.setattr(pilot, "ROUNDS", 2)
    move = move_of(CASES["biased"], tmp_path)
    found = [
        pilot.best_plan(lambda n, rng: move.evaluate(*move.drawn(n, rng)), move.space, (0, 1, 2))
        for _ in range(2)
    ]
    assert found[0] == found[1]
    best, plain = found[0]
    assert plain.schedule == Schedule()
    assert best.efficiency >= plain.efficiency > 0
    assert best.candidates(500) * best.cost <= 500
    assert pilot.Plan(Schedule(), 0.001, 1.0).candidates(500) == 500
    assert pilot.Plan(Schedule(), 0.5, 1.0).candidates(500) == 8


def test_a_threshold_lets_as_many_live_as_are_to() -> None:
    first = np.random.default_rng(0).normal(size=100)
    for survivors in (5.0, 50.0, 95.0):
        threshold = pilot._threshold(first, survivors)
        assert np.exp(np.minimum(first - threshold, 0)).sum() == pytest.approx(survivors)
    assert pilot._threshold(first, 100.0) == -np.inf
