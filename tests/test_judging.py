"""The judge, on chains whose densities are known, and what it says in words."""

import numpy as np
import pytest
from numpy.typing import NDArray

from openmm_cgan import GAS_CONSTANT
from openmm_cgan.metrics.judging import (
    Judgement,
    SeedsWorth,
    WeightsWorth,
    advice,
    missed_share,
    seeds_worth,
    weights_worth,
)
from openmm_cgan.plumed.bias import PlumedBias
from openmm_cgan.potentials import Potential
from openmm_cgan.proposals import Screen, ScreenSettings
from openmm_cgan.reporters.attempts import Attempt
from openmm_cgan.reporters.moves import ExactMove
from openmm_cgan.testsystems import Chain
from tests.cases.chain_sampler import INPUTS, ChainSampler, von_mises

T = 300.0
CHAIN = Chain(barrier=12.0, tilt=0.5)


class OneSided(ChainSampler):
    """Never makes a torsion in the lower half: its density there is as good as zero."""

    def _torsions(self, cvs: NDArray, rng: np.random.Generator) -> NDArray:
        return rng.vonmises(1.57, 6.0, (len(cvs), 1))

    def log_prob(self, positions: NDArray, cvs: NDArray) -> NDArray:
        found = super().log_prob(positions, cvs)
        _, _, torsions = (c.numpy() for c in self.z.to_internal(_tensor(positions)))
        both = sum(0.45 * von_mises(torsions[:, 0] - s * 1.4) for s in (1, -1)) + 0.1 / (2 * np.pi)
        return found - np.log(both) + np.log(von_mises(torsions[:, 0] - 1.57))


def _tensor(positions: NDArray):  # type: ignore[no-untyped-def]
    import torch

    return torch.from_numpy(np.ascontiguousarray(positions))


def move_of(kind: type[ChainSampler]) -> ExactMove:
    text = INPUTS["theta"] + "RESTRAINT ARG=theta AT=0 KAPPA=0\n"
    bias = PlumedBias(text, CHAIN.topology(), temperature=T)
    loose = ScreenSettings(clash_fraction=0.0, bond_tolerance=np.inf)
    screen = Screen(CHAIN.topology(), CHAIN.sample(1, T, seed=1)[0], settings=loose)
    sampler = kind(CHAIN, bias.variables)
    return ExactMove(sampler, bias, Potential(CHAIN.system()), screen, GAS_CONSTANT * T)


def frames_of(move: ExactMove, n: int) -> tuple[NDArray, NDArray]:
    positions = CHAIN.sample(n, T, seed=7)
    return positions, move.bias.cv_values(positions)


def test_a_good_generator_misses_nothing_and_a_one_sided_one_half() -> None:
    """Its own weights do not tell: Kish over n is the better of the two."""
    worths = []
    for kind in (ChainSampler, OneSided):
        move = move_of(kind)
        worths.append(weights_worth(move, *frames_of(move, 400), n=2000, seed=2))
    good, one_sided = worths
    assert good.missed == 0.0
    assert good.n == pytest.approx(2000, rel=0.1)
    assert one_sided.median > good.median > 0.1
    below = 1 - CHAIN.share_positive(T)
    error = np.sqrt(0.25 / 100)
    assert one_sided.missed == pytest.approx(below, abs=3.5 * error)
    move = move_of(OneSided)
    positions, cvs = frames_of(move, 200)
    assert missed_share(move, positions, cvs) == pytest.approx(below, abs=3.5 * np.sqrt(0.25 / 200))


def test_free_energies_at_the_points_are_those_of_the_angle() -> None:
    move = move_of(ChainSampler)
    worth = weights_worth(move, *frames_of(move, 400), n=8000, seed=3)
    density = CHAIN.angle_density(worth.at[:, 0], T)
    exact = -move.kT * np.log(density / density.max())
    each = worth.n / 2 / len(worth.at)
    error = move.kT / np.sqrt(worth.share * each)
    off = worth.free_energy - exact
    assert len(off) >= 4
    assert np.abs(off - off.mean()).max() < 4 * error.max()


def test_too_few_configurations_are_refused() -> None:
    move = move_of(ChainSampler)
    with pytest.raises(ValueError, match="50 or more"):
        weights_worth(move, *frames_of(move, 20), n=30)


def attempts(number: int) -> Attempt:
    """Every other one passes; healing takes it off by 0.1."""
    healed = np.array([1.1]) if number % 2 else np.array([np.nan])
    positions = np.zeros((4, 3)) if number % 2 else None
    return Attempt(np.array([1.0]), np.array([1.0]), healed, positions=positions, reason="clash")


def test_seeds_are_counted_with_what_they_cost() -> None:
    worth = seeds_worth(attempts, 10, 350, move_of(ChainSampler).sampler.variables)
    assert (worth.attempts, worth.accepted, worth.reasons) == (10, 5, {"clash": 5})
    assert worth.steps == 350
    assert worth.drift == pytest.approx((0.1,))


def judged(share: float, missed: float = 0.0, k_hat: float = 0.3) -> Judgement:
    n = 20
    weights = WeightsWorth(
        np.zeros((n, 1)), np.zeros(n), np.full(n, share), np.full(n, k_hat), missed, {}, 4000
    )
    return Judgement("", weights, SeedsWorth(20, 18, {"clash": 2}, 390.0, (0.05,)))


ADVICE = {
    "Use mode=exact and free-energy --model: Kish/n 0.40": judged(0.4),
    "with more candidates or windows": judged(0.02),
    "dominated by a few": judged(0.001),
    "Pareto k above 0.7 in 100%": judged(0.4, k_hat=0.9),
    "It misses 30.0% of the frames": judged(0.4, missed=0.3),
    "No exact weights: the System has a box": Judgement("the System has a box", None, None),
}


@pytest.mark.parametrize("words", ADVICE)
def test_advice_follows_from_what_was_measured(words: str) -> None:
    said = advice(ADVICE[words])
    assert words in said[0] or words in " ".join(said)
    exact = "Use mode=exact" in " ".join(said)
    assert exact == (words.startswith("Use mode=exact") or "more candidates" in words)
