"""Rounds of generated configurations, each drawn where those before it found the weight."""

import numpy as np
import pytest

from openmm_cgan import GAS_CONSTANT
from openmm_cgan.free_energy import reweight_generated
from openmm_cgan.free_energy.differences import StateDifference
from openmm_cgan.free_energy.rounds import generate_in_rounds
from openmm_cgan.plumed.bias import PlumedBias
from openmm_cgan.potentials import Potential
from openmm_cgan.proposals import Screen, ScreenSettings
from openmm_cgan.reporters.moves import ExactMove
from openmm_cgan.testsystems import Chain
from tests.cases.chain_sampler import INPUTS, ChainSampler

T = 300.0
KT = GAS_CONSTANT * T
CHAIN = Chain(barrier=12.0, tilt=4.0)
SIDES = StateDifference.of("phi:-3.1..0|0..3.1")


def chain_move() -> ExactMove:
    text = INPUTS["phi"] + "RESTRAINT ARG=phi AT=0 KAPPA=0\n"
    bias = PlumedBias(text, CHAIN.topology(), temperature=T)
    loose = ScreenSettings(clash_fraction=0.0, bond_tolerance=np.inf)
    positions = CHAIN.sample(1, T, seed=1)[0]
    screen = Screen(CHAIN.topology(), positions, settings=loose)
    sampler = ChainSampler(CHAIN, bias.variables)
    return ExactMove(sampler, bias, Potential(CHAIN.system()), screen, KT)


def test_all_rounds_together_give_the_exact_difference() -> None:
    """The torsion of a chain, by quadrature; the first round alone has the larger error."""
    move = chain_move()
    made, rounds = generate_in_rounds(move, [2000, 2000, 2000], move.sampler.cv_range, seed=3)
    assert np.bincount(rounds).tolist() == [2000, 2000, 2000]
    phi = np.linspace(-3.1, 3.1, 20001)
    density = CHAIN.torsion_density(phi, T)
    exact = -KT * np.log(density[phi >= 0].sum() / density[phi < 0].sum())
    found = SIDES.estimate(reweight_generated(made, seed=1))
    assert abs(found.value - exact) < 3.5 * found.error
    assert found.error < 0.15


def test_later_rounds_are_drawn_where_the_weight_is() -> None:
    move = chain_move()
    made, rounds = generate_in_rounds(move, [1500, 1500], move.sampler.cv_range, seed=5)
    uniform, later = (made.cvs[rounds == k, 0] for k in (0, 1))
    wells = [np.abs(np.abs(phi) - np.pi / 2) < 0.5 for phi in (uniform, later)]
    assert wells[0].mean() == pytest.approx(2 / 6.2, abs=0.05)
    assert wells[1].mean() > 1.4 * wells[0].mean()
