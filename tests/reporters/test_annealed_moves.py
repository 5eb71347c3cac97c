"""Annealed moves of chains with a flow: weights against densities in closed form, and live runs."""

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
from openmm_cgan.reporters.moves import AnnealedMove, Schedule
from openmm_cgan.reporters.moves.annealing import annealed
from tests.cases.chain_flow import ChainPotential, chain_flow
from tests.cases.chain_sampler import INPUTS, RANGES
from tests.cases.chain_targets import (
    CASES,
    KT,
    RIGHT,
    WRONG,
    Case,
    T,
    sampled_p_value,
    screen_of,
    weighted_p_value,
)

PATHS = Schedule(levels=(0.5,), steps=(0.7,))
N = 6000


def move_of(case: Case, folder: Path, schedule: Schedule = PATHS) -> AnnealedMove:
    text = INPUTS[case.cv] + (case.bias or f"PRINT ARG={case.cv} FILE=C\n")
    bias = PlumedBias(text, case.chain.topology(), temperature=T, directory=folder)
    conditions: Any = "uniform"
    if case.grid:
        weights = np.linspace(1.0, 12.0, 10)
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


class Flat:
    """Conditions that do not say how they are drawn."""

    def __init__(self, drawn: Any) -> None:
        self.draw = drawn.draw
        self.log_density = lambda cvs: np.where(np.isfinite(drawn.log_density(cvs)), 0.0, -np.inf)


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
        name = "openmm_cgan.reporters.moves.exact.log_condition_noise"
        monkeypatch.setattr(name, lambda conditions, cvs, *more: np.zeros(len(cvs)))
    case = CASES["auxiliary"]
    x = case.chain.sample(3000, T, seed=5)
    after = moved(move_of(case, tmp_path), x, 15)
    assert (after != x).any(axis=(1, 2)).mean() > 0.2
    assert (sampled_p_value(case, after) > RIGHT) == with_noise
    assert (sampled_p_value(case, after) < WRONG) != with_noise
