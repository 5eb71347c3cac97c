"""Local moves against densities in closed form; each factor of the weights left out must show."""

import dataclasses
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import openmm
import pytest
from numpy.typing import NDArray
from openmm import app
from scipy import stats

from openmm_cgan import GAS_CONSTANT
from openmm_cgan.plumed.bias import PlumedBias
from openmm_cgan.proposals import GridConditions, hangs_on_rest
from openmm_cgan.proposals.weights import log_condition_noise
from openmm_cgan.reporters.moves import Asked, LocalMove, Start, Weighed
from openmm_cgan.reporters.settings import ProposalSettings
from openmm_cgan.testsystems import Chain
from tests.cases.chain_end import INPUTS, RANGES, ChainEnd
from tests.cases.chain_sampler import internal_of

T = 300.0
KT = GAS_CONSTANT * T
FLEXIBLE = Chain(barrier=3.0)
# a light atom between heavy ones, where Fixman's factor is largest; angles that roam
HELD = Chain(
    masses=(30.0, 30.0, 1.0, 30.0),
    bond_stiffness=None,
    angle=2.2,
    angle_stiffness=15.0,
    barrier=3.0,
)
RIGHT, WRONG = 1e-3, 1e-9  # levels: p of the right formula is above, of a wrong one below


@dataclasses.dataclass(frozen=True)
class Case:
    """A chain whose last atom is moved, the CVs of its generator, and a bias on them."""

    chain: Chain
    cvs: tuple[str, ...]
    bias: str = ""
    grid: bool = False


CASES = {
    "flexible": Case(FLEXIBLE, ("theta",)),
    "constrained": Case(HELD, ("theta", "phi")),
    "grid": Case(FLEXIBLE, ("phi",), grid=True),
    "auxiliary": Case(FLEXIBLE, ("d",)),
    "biased": Case(FLEXIBLE, ("d", "end"), bias="RESTRAINT ARG=d AT=0.3 KAPPA=2000\n"),
}


def bias_of(case: Case, folder: Path) -> PlumedBias:
    names = ",".join(case.cvs)
    text = "".join(INPUTS[name] for name in case.cvs)
    text += case.bias + f"PRINT ARG={names} FILE=C STRIDE=100\n"
    return PlumedBias(text, case.chain.topology(), temperature=T, directory=folder, cvs=case.cvs)


def move_of(case: Case, folder: Path, x: NDArray, n_candidates: int = 20) -> LocalMove:
    """A move in a Simulation of the chain at x."""
    bias, system = bias_of(case, folder), case.chain.system()
    bias.add_to(system)
    integrator = openmm.LangevinMiddleIntegrator(T, 5.0, 0.001)
    platform = openmm.Platform.getPlatformByName("Reference")
    simulation = app.Simulation(case.chain.topology(), system, integrator, platform)
    simulation.context.setPositions(x)
    bias.attach(simulation)
    conditions: Any = "uniform"
    if case.grid:
        weights = np.linspace(1.0, 12.0, 10)
        conditions = GridConditions(weights, [RANGES["phi"]], bias.variables)
    settings = ProposalSettings(candidates=n_candidates, conditions=conditions)
    sampler = ChainEnd(case.chain, bias.variables)
    assert hangs_on_rest(sampler)
    asked = Asked(sampler, bias, "uniform", settings, 10)
    assert LocalMove.refusal(asked) is None
    assert LocalMove.refusal_in(asked, simulation) is None
    return LocalMove.prepare(asked, Start(simulation, sampler.atoms, x, None, T))


# ---- what is left out of the formula


class Flat:
    """Conditions that do not say how they are drawn."""

    def __init__(self, drawn: Any) -> None:
        self.draw = drawn.draw
        self.log_density = lambda cvs: np.where(np.isfinite(drawn.log_density(cvs)), 0.0, -np.inf)


def no_jacobian(move: LocalMove) -> None:
    move.sampler.left_out = "jacobian"


def no_q(move: LocalMove) -> None:
    move.sampler.left_out = "q"


def no_fixman(move: LocalMove) -> None:
    move.potential.half_log_det = lambda x: np.zeros(len(x))


def no_bond_to_the_rest(move: LocalMove) -> None:
    """Fixman's factor as if only constraints of the part counted: here of one bond, a constant."""
    whole = move.potential.half_log_det
    move.potential.half_log_det = lambda x: 0 * whole(x)


def no_g(move: LocalMove) -> None:
    move.conditions = Flat(move.conditions)


def no_bias(move: LocalMove) -> None:
    move.bias.bias_of_cvs = lambda cvs: np.zeros(len(cvs))


def no_rest(move: LocalMove) -> None:
    """As if the rest stood where it stood at the start."""
    start, potential = move.potential.current.copy(), move.potential
    right = potential.whole

    def elsewhere(x: NDArray) -> NDArray:
        found = right(x)
        found[:, move.sampler.rest] = start[move.sampler.rest]
        return found

    potential.whole = elsewhere


def no_k(move: LocalMove) -> None:
    """As if the distance that was asked for had been met."""
    weigh = move.weigh

    def without(x: NDArray, conditions: NDArray, log_prob: NDArray, box: Any = None) -> Weighed:
        made = weigh(x, conditions, log_prob, box)
        k = log_condition_noise(conditions, made.cvs, move.noise, move.variables)
        return dataclasses.replace(made, log_weights=made.log_weights - np.nan_to_num(k))

    move.weigh = without


# ---- weights of many candidates about one rest: the density of the part given that rest


def density_of(case: Case, name: str, rest: NDArray) -> tuple[NDArray, NDArray]:
    """Grid and density (up to a factor) of a coordinate of the end, where no bias couples them."""
    chain = case.chain
    if name == "r":
        grid = np.linspace(chain.bond - 0.1, chain.bond + 0.1, 4001)
        return grid, chain.bond_density(grid, T)
    if name == "phi":
        grid = np.linspace(-math.pi, math.pi, 4001)
        return grid, chain.torsion_density(grid, T)
    grid = np.linspace(0.0, math.pi, 4001)
    density = chain.angle_density(grid, T)
    if chain.bond_stiffness is None:
        theta = np.full_like(grid, internal_of(rest[None])["theta0"][0])
        density = density * chain.fixman(np.stack([theta, grid], axis=1))
    return grid, density


def weighted_p_value(case: Case, x: NDArray, log_weights: NDArray, rest: NDArray) -> float:
    """p of weighted configurations: chi-square over 20 bins, each of the same probability.

    The covariance of the self-normalised estimates is that of the delta method; the smallest of
    the coordinates' p times their number (Bonferroni).
    """
    w = np.exp(log_weights - log_weights.max())
    w /= w.sum()
    found, internal = [], internal_of(x)
    named = {"r": internal["r2"], "angle": internal["theta1"], "phi": internal["phi"]}
    if case.chain.bond_stiffness is None:
        named.pop("r")
    for name, values in named.items():
        grid, density = density_of(case, name, rest)
        total = np.concatenate([[0.0], np.cumsum(0.5 * (density[1:] + density[:-1]))])
        cumulative = np.interp(values, grid, total / total[-1])
        members = np.eye(20)[np.minimum((20 * cumulative).astype(int), 19)][:, :19]
        difference = w @ members - 0.05
        errors = w[:, None] * (members - 0.05)
        chi2 = difference @ np.linalg.solve(errors.T @ errors, difference)
        found.append(stats.chi2(19).sf(chi2))
    return min(1.0, len(found) * min(found))


def weighed(move: LocalMove, rest: NDArray, n: int) -> tuple[NDArray, NDArray]:
    """Whole chains with the last atom generated about a rest, and their log weights."""
    move.potential.current = rest
    cvs = np.repeat(move.bias.cv_values(rest)[None], n, axis=0)
    cvs[:, move.is_moved] = move.conditions.draw(n, np.random.default_rng(3))
    x, log_prob = move.sampler.among(rest[:3]).sample_with_log_prob(cvs, seed=3)
    return move.potential.whole(x), move.weigh(x, cvs, log_prob).log_weights


LEFT_OUT = [
    ("flexible", no_jacobian),
    ("flexible", no_q),
    ("constrained", no_jacobian),
    ("constrained", no_fixman),
    ("grid", no_g),
]


@pytest.mark.parametrize("name", ["flexible", "constrained", "grid", "auxiliary"])
def test_weighted_histograms_are_the_analytic_ones(name: str, tmp_path: Path) -> None:
    case = CASES[name]
    start, rest = case.chain.sample(2, T, seed=1)
    x, log_weights = weighed(move_of(case, tmp_path, start), rest, 20_000)
    assert weighted_p_value(case, x, log_weights, rest) > RIGHT


@pytest.mark.parametrize(("name", "leave_out"), LEFT_OUT)
def test_a_factor_left_out_fails_the_same_test(
    name: str, leave_out: Callable[[LocalMove], None], tmp_path: Path
) -> None:
    case = CASES[name]
    start, rest = case.chain.sample(2, T, seed=1)
    move = move_of(case, tmp_path, start)
    leave_out(move)
    x, log_weights = weighed(move, rest, 20_000)
    assert weighted_p_value(case, x, log_weights, rest) < WRONG
