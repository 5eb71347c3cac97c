"""Rounds of generated configurations, each drawn where those before it found the weight."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from openmm_cgan import GAS_CONSTANT
from openmm_cgan.free_energy import reweight_generated
from openmm_cgan.free_energy.differences import StateDifference
from openmm_cgan.free_energy.generated import weighed_at
from openmm_cgan.free_energy.rounds import generate_in_rounds
from openmm_cgan.plumed.bias import PlumedBias
from openmm_cgan.potentials import Potential
from openmm_cgan.proposals import GridConditions, Screen, ScreenSettings
from openmm_cgan.reporters.moves import ExactMove
from openmm_cgan.testsystems import Chain
from tests.cases.chain_sampler import INPUTS, RANGES, ChainSampler

T = 300.0
KT = GAS_CONSTANT * T
CHAIN = Chain(barrier=12.0, tilt=4.0)
SIDES = StateDifference.of("phi:-3.1..0|0..3.1")


def exact_difference(chain: Chain) -> float:
    phi = np.linspace(-3.1, 3.1, 20001)
    density = chain.torsion_density(phi, T)
    return float(-KT * np.log(density[phi >= 0].sum() / density[phi < 0].sum()))


def chain_move(chain: Chain = CHAIN) -> ExactMove:
    text = INPUTS["phi"] + "RESTRAINT ARG=phi AT=0 KAPPA=0\n"
    bias = PlumedBias(text, chain.topology(), temperature=T)
    loose = ScreenSettings(clash_fraction=0.0, bond_tolerance=np.inf)
    positions = chain.sample(1, T, seed=1)[0]
    screen = Screen(chain.topology(), positions, settings=loose)
    sampler = ChainSampler(chain, bias.variables)
    return ExactMove(sampler, bias, Potential(chain.system()), screen, KT)


def test_all_rounds_together_give_the_exact_difference() -> None:
    """The torsion of a chain, by quadrature; the first round alone has the larger error."""
    move = chain_move()
    made = generate_in_rounds(move, [2000, 2000, 2000], move.sampler.cv_range, seed=3)
    assert len(made.cvs) == 6000
    exact = exact_difference(CHAIN)
    found = SIDES.estimate(reweight_generated(made, seed=1))
    assert abs(found.value - exact) < 3.5 * found.error
    assert found.error < 0.15


def test_the_density_that_a_weigher_draws_from_is_no_part_of_what_rounds_weigh() -> None:
    uniform, uneven = chain_move(), chain_move()
    uneven.conditions = GridConditions([1.0, 3.0], [RANGES["phi"]], uniform.sampler.variables)
    asked = uniform.conditions.draw(50, np.random.default_rng(1))
    logs = [weighed_at(move, asked, seed=2)[1] for move in (uniform, uneven)]
    assert logs[0] == pytest.approx(logs[1])


def test_a_rare_state_is_drawn_as_often_as_the_other_and_weighed_as_little() -> None:
    move, rare = chain_move(tilted := Chain(barrier=12.0, tilt=8.0)), []
    for states in (None, lambda cvs: SIDES.sides(cvs, move.sampler.variables)):
        made = generate_in_rounds(move, [1500, 3000], move.sampler.cv_range, 5, states)
        rare.append((made.cvs[1500:, 0] > 0).mean())
        found = SIDES.estimate(reweight_generated(made, seed=1))
        assert abs(found.value - exact_difference(tilted)) < 3.5 * found.error
    assert 0.4 < rare[1] < 0.6, "not half: roots of two densities of unlike widths"
    assert rare[0] < 0.2


def test_later_rounds_are_drawn_where_the_weight_is() -> None:
    move = chain_move()
    made = generate_in_rounds(move, [1500, 1500], move.sampler.cv_range, seed=5)
    uniform, later = made.cvs[:1500, 0], made.cvs[1500:, 0]
    wells = [np.abs(np.abs(phi) - np.pi / 2) < 0.5 for phi in (uniform, later)]
    share = 2 / np.ptp(RANGES["phi"])
    assert wells[0].mean() == pytest.approx(share, abs=4 * np.sqrt(share * (1 - share) / 1500))
    assert wells[1].mean() > 1.4 * wells[0].mean()


def test_errors_are_those_of_even_draws() -> None:
    """Over seeds estimates scatter by the errors told, about the exact one; they are small."""
    move, exact = chain_move(), exact_difference(CHAIN)
    found, uneven = [], []
    for seed in range(30):
        made = generate_in_rounds(move, [512, 1024], move.sampler.cv_range, seed)
        found.append(SIDES.estimate(reweight_generated(made, seed=seed)))
        independent = replace(made, neighbours=None)
        uneven.append(SIDES.estimate(reweight_generated(independent, seed=seed)).error)
    z = np.array([(f.value - exact) / f.error for f in found])
    low, high = stats.chi2(len(z)).ppf([5e-4, 1 - 5e-4])
    assert 0.6 * low < (z**2).sum() < high, "errors are a little too large, if anything"
    assert np.mean([f.error for f in found]) < 0.85 * np.mean(uneven)


@pytest.mark.parametrize("n", [0, 1, -2, 2.5, [], [1], [40, 0], [40, -1], [3.5, 4], None])
def test_what_is_no_number_of_configurations_is_refused_before_any_is_made(n) -> None:
    move = chain_move()
    with pytest.raises(ValueError, match=r"n.* is .*expected"):
        generate_in_rounds(move, n, move.sampler.cv_range)


@pytest.mark.parametrize(("n", "count"), [(2, 2), (9, 9), (np.int64(40), 40), ([30, 1], 31)])
def test_few_are_made_all_the_same(n, count) -> None:
    move = chain_move()
    assert len(generate_in_rounds(move, n, move.sampler.cv_range).cvs) == count
