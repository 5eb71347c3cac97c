"""Annealed moves against densities in closed form; each factor left out must show."""

import dataclasses
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
from openmm_cgan.reporters.moves import AnnealedMove, Schedule, annealing
from tests.cases.chain_flow import ChainPotential, chain_flow
from tests.cases.chain_sampler import INPUTS, RANGES
from tests.cases.chain_targets import CASES, KT, RIGHT, Case, T, sampled_p_value, screen_of

PATHS = Schedule(levels=(0.3, 0.7), steps=(1.2, 1.0))
CONTROLLED = dataclasses.replace(PATHS, log_threshold=0.0)  # half of them end early, or so

LOST = 1e-6  # p of a wrong formula is below


def move_of(case: Case, folder: Path, schedule: Schedule = PATHS, n: int = 1) -> AnnealedMove:
    text = INPUTS[case.cv] + (case.bias or f"PRINT ARG={case.cv} FILE=C\n")
    bias = PlumedBias(text, case.chain.topology(), temperature=T, directory=folder)
    conditions: Any = "uniform"
    if case.grid:
        weights = np.linspace(1.0, 12.0, 10)
        conditions = GridConditions(weights, [RANGES[case.cv]], bias.variables)
    potential = ChainPotential(case.chain)
    move = AnnealedMove(
        chain_flow(case.chain, bias.variables), bias, potential, screen_of(case.chain), KT, n,
        conditions, schedule,
    )  # fmt: skip
    if np.isfinite(schedule.log_threshold):
        begun = move.evaluate(*move.drawn(200, np.random.default_rng(0)))
        median = np.median(schedule.increments[0] * begun.log_ratios)
        move.schedule = dataclasses.replace(schedule, log_threshold=float(median))
    return move


# ---- what is left out


Leave = Callable[[AnnealedMove, pytest.MonkeyPatch], None]


def nothing(move: AnnealedMove, patch: pytest.MonkeyPatch) -> None:
    """All is there."""


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


def noise(move: AnnealedMove, patch: pytest.MonkeyPatch) -> None:
    """As if the distance that was asked for had been met."""
    name = "openmm_cgan.reporters.moves.exact.log_condition_noise"
    patch.setattr(name, lambda conditions, cvs, *more: np.zeros(len(cvs)))


def work_of_a_stage(move: AnnealedMove, patch: pytest.MonkeyPatch) -> None:
    increments = Schedule.increments.fget
    patch.setattr(Schedule, "increments", property(lambda own: increments(own) * [1, 0, 1]))


def path_of_the_current_one(move: AnnealedMove, patch: pytest.MonkeyPatch) -> None:
    """The weight of where it is, as if it had been proposed so."""
    ends = move.ends

    def without(begun: annealing.Points, n: int, rng: np.random.Generator) -> annealing.Paths:
        paths = ends(begun, n, rng)
        paths.log_weights[:n] = begun.log_ratios[:n]
        return paths

    patch.setattr(move, "ends", without)


def order_of_the_current_path(move: AnnealedMove, patch: pytest.MonkeyPatch) -> None:
    """Gone forwards, as those of candidates."""
    patch.setattr(move, "ends", lambda begun, n, rng: AnnealedMove.ends(move, begun, 0, rng))


def metropolis(move: AnnealedMove, patch: pytest.MonkeyPatch) -> None:
    patch.setattr(
        annealing.Space,
        "energies",
        lambda own, points, *more: np.where(np.isfinite(points.log_ratios), 0.0, np.inf),
    )


def survival_of_the_current_one(move: AnnealedMove, patch: pytest.MonkeyPatch) -> None:
    survived = annealing._survived
    patch.setattr(
        annealing,
        "_survived",
        lambda logs, *more: logs if more[-1] is None else survived(logs, *more),
    )


def survival(move: AnnealedMove, patch: pytest.MonkeyPatch) -> None:
    """Survivors, and the current one, weigh as if none could have ended."""
    survived = annealing._survived
    patch.setattr(
        annealing,
        "_survived",
        lambda logs, *more: np.where(np.isneginf(survived(logs, *more)), -np.inf, logs),
    )


# ---- exact samples stay exact


def moved(move: AnnealedMove, x: NDArray, n_moves: int, seed: int) -> NDArray:
    """Many chains at once, each moved in the way of AnnealedMove.attempt."""
    rng, n = np.random.default_rng(seed), len(x)
    for _ in range(n_moves):
        cvs = move.bias.cv_values(x)
        here = noisy_conditions(cvs, move.noise, move.sampler.variables, rng)
        paths = move.ends(move.begun(x, here, rng), n, rng)
        fresh = paths.log_weights[n:].reshape(n, -1)
        chosen = choose(paths.log_weights[:n], fresh, rng)
        made = paths.points.positions[n:].reshape(n, -1, *x.shape[1:])
        x = np.where((chosen >= 0)[:, None, None], made[np.arange(n), chosen], x)
    return x


def exact_samples(case: Case, n: int) -> NDArray:
    if not case.bias:
        return case.chain.sample(n, T, seed=5)
    from tests.cases.chain_sampler import internal_of

    x = case.chain.sample(4 * n, T, seed=5)  # rejection by the restraint
    factor = np.exp(-0.5 * 40 * (internal_of(x)["theta0"] - 1.6) ** 2 / KT)
    return x[np.random.default_rng(6).random(len(x)) < factor]


@pytest.mark.parametrize("name", ["constrained", "auxiliary", "biased"])
@pytest.mark.parametrize("schedule", [Schedule(), PATHS, CONTROLLED], ids=["K=0", "K=2", "dropped"])
def test_exact_samples_stay_exact(name: str, schedule: Schedule, tmp_path: Path) -> None:
    case = CASES[name]
    x = exact_samples(case, 800)
    after = moved(move_of(case, tmp_path, schedule), x, 4, seed=7)
    assert (after != x).any(axis=(1, 2)).mean() > 0.3, "many have moved"
    assert sampled_p_value(case, after) > RIGHT


LEFT_OUT: list[tuple[str, Schedule, Leave]] = [
    ("constrained", PATHS, jacobian),
    ("constrained", PATHS, fixman),
    ("constrained", PATHS, q),
    ("grid", PATHS, g),
    ("biased", PATHS, bias),
    ("auxiliary", PATHS, noise),
    ("constrained", PATHS, work_of_a_stage),
    ("constrained", PATHS, path_of_the_current_one),
    ("constrained", PATHS, order_of_the_current_path),
    ("constrained", PATHS, metropolis),
    ("constrained", CONTROLLED, survival),
    ("constrained", CONTROLLED, survival_of_the_current_one),
]


@pytest.mark.parametrize(("name", "schedule", "leave_out"), LEFT_OUT)
def test_exact_samples_are_lost_with_a_factor_left_out(
    name: str, schedule: Schedule, leave_out: Leave, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = CASES[name]
    move = move_of(case, tmp_path, schedule)
    leave_out(move, monkeypatch)
    x = exact_samples(case, 800)
    assert sampled_p_value(case, moved(move, x, 6, seed=7)) < LOST
