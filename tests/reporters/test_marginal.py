"""Conditions near the marginal density against densities in closed form."""

import numpy as np
import pytest
from numpy.typing import NDArray

from openmm_cgan.collective_variable import CollectiveVariable
from openmm_cgan.proposals import UniformConditions
from openmm_cgan.reporters.moves.marginal import EACH, ROUNDS, Marginal, found_marginal

KT = 2.5
PHI = CollectiveVariable("phi", "rad", (-np.pi, np.pi))
DISTANCE = CollectiveVariable("d", "nm")
EVERYWHERE = UniformConditions([[-np.pi, np.pi], [0.2, 1.2]], [PHI, DISTANCE])
CENTRES = np.linspace(-np.pi, np.pi, 73)[:-1] + np.pi / 72, np.linspace(0.2, 1.2, 72)
GRID = np.stack(np.meshgrid(*CENTRES, indexing="ij"), axis=-1).reshape(-1, 2)


def energy(cvs: NDArray) -> NDArray:
    """[kJ/mol]: a narrow well across the ends of phi, a broad one beside, walls of 60 kJ/mol."""
    phi, d = cvs.T
    narrow = 30 * (1 + np.cos(phi)) + 300 * (d - 0.4) ** 2
    broad = 4 + 12 * (1 - np.cos(phi - 0.5)) + 150 * (d - 0.9) ** 2
    return np.minimum(narrow, broad)


def well(cvs: NDArray) -> NDArray:
    """A bias [kJ/mol] that holds a place."""
    return 40 * (cvs[:, 1] - 0.9) ** 2 + 10 * (1 - np.cos(cvs[:, 0] - 1.0))


class Made:
    """A generator whose configurations weigh more or less by chance."""

    def __init__(self, biased: bool = False) -> None:
        self.biased, self.asked = biased, np.zeros((0, 2))

    def bias(self, cvs: NDArray) -> NDArray:
        return well(cvs) if self.biased else np.zeros(len(cvs))

    def __call__(self, cvs: NDArray, rng: np.random.Generator) -> NDArray:
        self.asked = np.concatenate([self.asked, cvs])
        logs = 0.8 * rng.normal(size=len(cvs)) - (energy(cvs) + self.bias(cvs)) / KT
        logs[rng.random(len(cvs)) < 0.1] = -np.inf  # refused
        return logs


def found_by(made: Made) -> Marginal:
    return found_marginal(made, made.bias, EVERYWHERE, KT)


def effective(log_g: NDArray, log_p: NDArray) -> float:
    """Kish's share of what is drawn from a density for another, both on the grid."""
    p = np.exp(log_p - np.logaddexp.reduce(log_p))
    g = np.exp(log_g - np.logaddexp.reduce(log_g))
    return 1 / float((p**2 / g).sum())


@pytest.mark.parametrize("biased", [False, True])
def test_it_is_near_the_density_of_the_run(biased: bool) -> None:
    made = Made(biased=biased)
    found = found_by(made)
    assert len(made.asked) == ROUNDS * EACH
    conditions = found.conditions(made.bias(found.cvs), KT)
    log_p = -(energy(GRID) + made.bias(GRID)) / KT
    assert effective(np.zeros(len(GRID)), log_p) < 0.15
    assert effective(conditions.log_density(GRID), log_p) > 0.4


def test_nothing_that_counts_is_hardly_ever_asked_for() -> None:
    """A run that comes where conditions are not drawn stays there."""
    found = found_by(Made())
    log_g = found.conditions(np.zeros(len(found.cvs)), KT).log_density(GRID)
    log_p = -energy(GRID) / KT
    area = np.log(2 * np.pi / len(GRID))
    over = log_p - np.logaddexp.reduce(log_p) - area - log_g  # log of density over that drawn from
    often = np.exp(log_p - np.logaddexp.reduce(log_p))
    assert often[over > 1.5].sum() < 0.01


@pytest.mark.parametrize(("strength", "kT"), [(1.0, KT), (-0.4, KT), (0.0, 0.4 * KT)])
def test_it_follows_the_bias_and_the_temperature(strength: float, kT: float) -> None:
    found = found_by(Made())
    log_p = -(energy(GRID) + strength * well(GRID)) / kT
    before = found.conditions(np.zeros(len(found.cvs)), KT)
    after = found.conditions(strength * well(found.cvs), kT)
    shares = [effective(g.log_density(GRID), log_p) for g in (before, after)]
    assert shares[1] > 1.2 * shares[0]
    assert shares[1] > 0.35


def narrow_over_broad(log_p: NDArray) -> float:
    """Logarithm of what the narrow well holds over what the broad one does, on the grid."""
    away = np.abs(np.abs(GRID[:, 0]) - np.pi), np.abs(GRID[:, 1] - 0.4)
    narrow = (away[0] < 0.6) & (away[1] < 0.25)
    broad = (np.abs(GRID[:, 0] - 0.5) < 1) & (np.abs(GRID[:, 1] - 0.9) < 0.25)
    return float(np.logaddexp.reduce(log_p[narrow]) - np.logaddexp.reduce(log_p[broad]))


def test_the_bias_of_the_pilot_is_taken_out() -> None:
    """It holds one well of two; of the other come some ten configurations, within exp(0.8) each."""
    found = found_by(Made(biased=True))
    log_g = found.conditions(np.zeros(len(found.cvs)), KT).log_density(GRID)
    exact = narrow_over_broad(-energy(GRID) / KT)
    biased = narrow_over_broad(-(energy(GRID) + well(GRID)) / KT)
    error = 4 * (np.sqrt(np.expm1(0.8**2)) / np.sqrt(10))
    assert biased < exact - 4 * error
    assert abs(narrow_over_broad(log_g) - exact) < error


def test_one_that_outweighs_all_does_not_draw_all_to_itself() -> None:
    class WithOne(Made):
        def __call__(self, cvs: NDArray, rng: np.random.Generator) -> NDArray:
            logs = super().__call__(cvs, rng)
            logs[0] = 60.0 if len(self.asked) == EACH else logs[0]
            return logs

    found = found_by(WithOne())
    conditions = found.conditions(np.zeros(len(found.cvs)), KT)
    assert conditions.probabilities.max() < 0.5
    assert effective(conditions.log_density(GRID), -energy(GRID) / KT) > 0.15


def test_where_nothing_counts_they_stay_uniform() -> None:
    found = found_marginal(
        lambda cvs, rng: np.full(len(cvs), -np.inf), lambda cvs: np.zeros(len(cvs)), EVERYWHERE, KT
    )
    assert found.conditions(np.zeros(0), KT) is EVERYWHERE


def test_without_cvs_there_is_nothing_to_find() -> None:
    nowhere, nothing = UniformConditions(np.zeros((0, 2)), []), np.zeros
    found = found_marginal(
        lambda cvs, rng: nothing(len(cvs)), lambda cvs: nothing(len(cvs)), nowhere, KT
    )
    assert found.conditions(np.zeros(len(found.cvs)), KT) is nowhere


def test_a_narrow_well_within_a_cell_is_found_and_kept() -> None:
    """A restraint far narrower than cells: what is in one is not told by one place in it."""

    class Held(Made):
        def bias(self, cvs: NDArray) -> NDArray:
            return 2000 * (cvs[:, 1] - 0.913) ** 2 + 200 * (1 - np.cos(cvs[:, 0] - 0.8))

    made = Held()
    found = found_by(made)
    conditions = found.conditions(made.bias(found.cvs), KT)
    log_p = -(energy(GRID) + made.bias(GRID)) / KT
    uniform = effective(np.zeros(len(GRID)), log_p)
    assert effective(conditions.log_density(GRID), log_p) > 8 * uniform


def test_what_is_saved_is_what_comes_back() -> None:
    found = found_by(Made(biased=True))
    again = Marginal.restored(found.saved(), found.everywhere)
    assert again.everywhere is found.everywhere
    for own, other in zip(found[1:], again[1:], strict=True):
        assert np.array_equal(own, other)
    of_one = UniformConditions([[-np.pi, np.pi]], [PHI])
    with pytest.raises(ValueError, match="pilot"):
        Marginal.restored(found.saved(), of_one)
