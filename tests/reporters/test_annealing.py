"""Paths of annealing in two dimensions, where all is known: each factor left out must show."""

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from openmm_cgan.proposals.selection import choose
from openmm_cgan.reporters.moves import annealing, pilot
from openmm_cgan.reporters.moves.annealing import Points, Schedule, Space, annealed

PATHS = Schedule(levels=(0.2, 0.4), steps=(1.0, 0.8), leaps=2)
# short steps: where paths end depends on where they begin, and so on which of them live
CONTROLLED = Schedule(levels=(0.5, 0.8), steps=(0.3, 0.3), log_threshold=2.5)
CENTRE, SHARP, SHIFT, BASE = 1.0, 4.0, 0.8, 1.5  # of the two densities of the angle
RIGHT, WRONG = 1e-3, 1e-9

# a normal number with a double well, tilted: latent z against exp(-u(z))
GRID = np.linspace(-3, 3, 6001)


def u(z: NDArray) -> NDArray:
    return 3.0 * (z * z - 1) ** 2 + 0.4 * z


def evaluate(latent: NDArray, conditions: NDArray) -> Points:
    """The target over the base: a double well over a normal density, one hill over another."""
    z, angle = latent.T
    log_angles = BASE * np.cos(angle - CENTRE - SHIFT)
    log_ratios = 0.5 * z * z - u(z) + SHARP * np.cos(angle - CENTRE) - log_angles
    log_ratios[np.abs(z) > 1.8] = -np.inf  # forbidden, as mirror images are
    slopes = -BASE * np.sin(angle - CENTRE - SHIFT)
    gradients = np.stack(
        [z - 12.0 * z * (z * z - 1) - 0.4, -SHARP * np.sin(angle - CENTRE) - slopes], axis=1
    )
    n = len(z)
    nan, no = np.full((n, 1), np.nan), np.zeros(n)
    return Points(
        latent, conditions, nan, np.zeros((n, 1, 3)), np.full(n, ""), no, no, log_ratios,
        np.where(np.isfinite(log_ratios)[:, None], gradients, 0.0), log_angles,
        np.stack([no, slopes], axis=1),
    )  # fmt: skip


SPACE = Space(1, evaluate, reach=0.5)


def drawn(n: int, rng: np.random.Generator) -> NDArray:
    """Latent numbers of the base."""
    return np.stack([rng.standard_normal(n), rng.vonmises(CENTRE + SHIFT, BASE, n)], axis=1)


def cumulative(z: NDArray) -> NDArray:
    density = np.where(np.abs(GRID) <= 1.8, np.exp(-u(GRID)), 0.0)
    total = np.concatenate([[0.0], np.cumsum(0.5 * (density[1:] + density[:-1]))])
    return np.interp(z, GRID, total / total[-1])


def exact_samples(n: int, rng: np.random.Generator) -> NDArray:
    z = np.interp(rng.random(n), cumulative(GRID), GRID)
    return np.stack([z, rng.vonmises(CENTRE, SHARP, n)], axis=1)


def p_value(latent: NDArray) -> float:
    angle = np.mod(latent[:, 1] - CENTRE + np.pi, 2 * np.pi) - np.pi
    found = (
        stats.kstest(latent[:, 0], cumulative).pvalue,
        stats.kstest(angle, stats.vonmises(SHARP).cdf).pvalue,
    )
    return min(1.0, 2 * min(found))


# ---- what is left out


def nothing(patch: pytest.MonkeyPatch) -> None:
    """All is there."""


def work_of_a_stage(patch: pytest.MonkeyPatch) -> None:
    increments = Schedule.increments.fget
    patch.setattr(Schedule, "increments", property(lambda own: increments(own) * [1, 1, 0]))


def order_of_the_current_path(patch: pytest.MonkeyPatch) -> None:
    """Gone forwards, as those of candidates."""
    patch.setattr(
        annealing,
        "annealed",
        lambda points, backwards, *more: annealed(points, np.zeros_like(backwards), *more),
    )


def path_of_the_current_one(patch: pytest.MonkeyPatch) -> None:
    """Its weight is that of where it is, as if it had been proposed so."""

    def without(points: Points, backwards: NDArray, *more: object) -> annealing.Paths:
        paths = annealed(points, backwards, *more)
        paths.log_weights[backwards] = points.log_ratios[backwards]
        return paths

    patch.setattr(annealing, "annealed", without)


def metropolis(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(
        Space, "energies", lambda own, at, *more: np.where(np.isfinite(at.log_ratios), 0.0, np.inf)
    )


def base_of_the_angles(patch: pytest.MonkeyPatch) -> None:
    energies = Space.energies
    patch.setattr(
        Space, "energies", lambda own, at, *more: energies(own, at, *more) + at.log_angles
    )


def survival(patch: pytest.MonkeyPatch) -> None:
    """Survivors, and the current one, weigh as if none could have ended."""
    survived = annealing._survived
    patch.setattr(
        annealing,
        "_survived",
        lambda logs, *more: np.where(np.isneginf(survived(logs, *more)), -np.inf, logs),
    )


def survival_of_the_current_one(patch: pytest.MonkeyPatch) -> None:
    survived = annealing._survived
    patch.setattr(
        annealing,
        "_survived",
        lambda logs, *more: logs if more[-1] is None else survived(logs, *more),
    )


def moved(schedule: Schedule, n: int, n_candidates: int, n_moves: int) -> NDArray:
    """Many walkers from exact samples, each moved in the way of AnnealedMove.attempt."""
    rng = np.random.default_rng(3)
    y, none = exact_samples(n, rng), np.zeros((n * (1 + n_candidates), 0))
    backwards = np.arange(len(none)) < n
    for _ in range(n_moves):
        begun = evaluate(np.concatenate([y, drawn(n * n_candidates, rng)]), none)
        paths = annealing.annealed(begun, backwards, schedule, SPACE, rng)
        fresh = paths.log_weights[n:].reshape(n, -1)
        chosen = choose(paths.log_weights[:n], fresh, rng)
        ends = paths.points.latent[n:].reshape(n, -1, 2)
        y = np.where((chosen >= 0)[:, None], ends[np.arange(n), chosen], y)
    return y


@pytest.mark.parametrize("n_candidates", [1, 4])
@pytest.mark.parametrize("schedule", [Schedule(), PATHS, CONTROLLED], ids=["K=0", "K=2", "dropped"])
def test_exact_samples_stay_exact(schedule: Schedule, n_candidates: int) -> None:
    assert p_value(moved(schedule, 8000, n_candidates, 6)) > RIGHT


LEFT_OUT: list[tuple[Schedule, Callable[[pytest.MonkeyPatch], None]]] = [
    (PATHS, work_of_a_stage),
    (PATHS, path_of_the_current_one),
    (PATHS, order_of_the_current_path),
    (PATHS, metropolis),
    (PATHS, base_of_the_angles),
    (CONTROLLED, survival),
    (CONTROLLED, survival_of_the_current_one),
]


@pytest.mark.parametrize(("schedule", "leave_out"), LEFT_OUT)
def test_exact_samples_are_lost_with_a_factor_left_out(
    schedule: Schedule,
    leave_out: Callable[[pytest.MonkeyPatch], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    leave_out(monkeypatch)
    n_candidates = 1 if schedule is PATHS else 4
    assert p_value(moved(schedule, 8000, n_candidates, 8)) < WRONG


def test_a_pilot_anneals_where_the_error_is_spread_over_many_stiff_coordinates() -> None:
    """60 normal numbers, each 0.7 as wide in the target: of fresh candidates 0.01 % count."""
    width, n_normal = 0.7, 60

    def narrower(latent: NDArray, conditions: NDArray) -> Points:
        n, slope = len(latent), 1 / width**2 - 1
        none, empty = np.zeros(n), np.full(n, "")
        ratios = -0.5 * slope * (latent**2).sum(axis=1) - n_normal * np.log(width)
        return Points(
            latent, conditions, np.zeros((n, 1)), np.zeros((n, 1, 3)), empty, none, none, ratios,
            -slope * latent, none, np.zeros((n, n_normal)),
        )  # fmt: skip

    best, plain = pilot.best_plan(
        lambda n, rng: narrower(rng.standard_normal((n, n_normal)), np.zeros((n, 0))),
        Space(n_normal, narrower),
    )
    exact = (width * np.sqrt(2 - width**2)) ** n_normal
    assert exact < 2e-4, "of fresh candidates; the pilot cannot see how bad that is"
    assert len(best.schedule.levels) >= 4
    assert best.efficiency > plain.efficiency
    n, rng = 20_000, np.random.default_rng(9)
    begun = narrower(rng.standard_normal((n, n_normal)), np.zeros((n, 0)))
    paths = annealed(begun, np.zeros(n, bool), best.schedule, Space(n_normal, narrower), rng)
    weights = np.exp(paths.log_weights)
    assert abs(weights.mean() - 1) < 5 * weights.std() / np.sqrt(n)
    found = weights.sum() ** 2 / (weights**2).sum() / n
    assert found / best.cost > 5 * exact
