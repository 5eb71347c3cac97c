"""Steered moves of a part: what it does not move is a condition, and changes during the move."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from openmm_cgan.testsystems import Chain
from tests.cases.chain_sampler import internal_of
from tests.cases.chain_targets import KT, RIGHT, WRONG, Case, T
from tests.cases.steered_chains import Term, Watched, steered_move
from tests.cases.steered_end import TurningEnd

TILTED = Chain(barrier=1.0, tilt=3.0)


def functions_of(x: NDArray) -> NDArray:
    """Of the torsion that is led and the angle that is not: (n, 6) of configurations (n, 4, 3)."""
    c = internal_of(x)
    phi, theta = c["phi"], c["theta0"] - TILTED.angle
    turns = [f(phi) for f in (np.cos, np.sin)]
    return np.stack([*turns, theta, *(theta * f for f in turns), c["theta1"]], axis=1)


def balance(x: NDArray, terms: list[Term], log_ratio: Callable[[Term], float]) -> float:
    """p of detailed balance for moves from exact samples (n, 4, 3)."""
    likely = np.exp([min(0.0, log_ratio(term)) for term in terms])
    ends = np.array([term.end for term in terms])
    changes = likely[:, None] * (functions_of(ends) - functions_of(x))
    mean, covariance = changes.mean(axis=0), np.cov(changes.T) / len(x)
    return float(stats.chi2(6).sf(mean @ np.linalg.solve(covariance, mean)))


def whole(t: Term) -> float:
    return t.log_q - t.log_q_end - t.change / KT


LEFT_OUT: dict[str, Callable[[Term], float]] = {
    "q": lambda t: -t.change / KT,
    "energy": lambda t: t.log_q - t.log_q_end,
    "the condition at the end": lambda t: t.log_q_before - t.log_q_end - t.change / KT,
}


def test_moves_of_a_part_are_balanced_and_not_with_a_term_left_out(tmp_path: Path) -> None:
    x = TILTED.sample(600, T, seed=5)
    move = steered_move(Case(TILTED, "theta"), tmp_path, 0.008, TurningEnd, switching_steps=12)
    watched, rng = Watched(move), np.random.default_rng(7)
    terms = [term for one in x if (term := watched.tried(one, rng)) is not None]
    assert len(terms) == len(x)
    for term in terms:
        assert term.is_taken == (np.log(term.uniform) < whole(term))
    assert np.mean([term.is_taken for term in terms]) > 0.1
    assert balance(x, terms, whole) > RIGHT
    for name, wrong in LEFT_OUT.items():
        assert balance(x, terms, wrong) < WRONG, name


def test_from_where_nothing_was_trained_nothing_is_moved(tmp_path: Path) -> None:
    move = steered_move(Case(TILTED, "theta"), tmp_path, 0.008, TurningEnd, switching_steps=12)
    x, rng = TILTED.sample(50, T, seed=5), np.random.default_rng(7)
    theta = internal_of(x)["theta0"]
    inside, outside = (x[np.argsort(theta)[k]] for k in (0, -1))
    move.targets._trained.cv_range[:] = [0.0, np.median(theta)]
    move.targets._trained._widths[:] = np.median(theta)
    assert move.attempt(outside, None, rng).reason == "kept current: not among the conditions"
    reasons = {move.attempt(inside, None, rng).reason for _ in range(20)}
    assert "kept current: not among the conditions" in reasons, "it is met no more than left"
