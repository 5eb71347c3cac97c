"""Local moves against densities in closed form; each factor of the weights left out must show."""

import dataclasses
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import openmm
import pytest
import torch
from numpy.typing import NDArray
from openmm import app
from scipy import stats

from openmm_cgan.constraints import half_log_det_constraints
from openmm_cgan.plumed.bias import PlumedBias
from openmm_cgan.potentials import Potential
from openmm_cgan.proposals import GridConditions, hangs_on_rest
from openmm_cgan.proposals.selection import choose
from openmm_cgan.proposals.weights import log_condition_noise, noisy_conditions
from openmm_cgan.reporters.moves import Asked, LocalMove, Start, Weighed
from openmm_cgan.reporters.settings import ProposalSettings
from openmm_cgan.testsystems import Chain
from tests.cases.chain_end import INPUTS, RANGES, ChainEnd
from tests.cases.chain_sampler import internal_of
from tests.cases.chain_targets import FLEXIBLE, KT, RIGHT, WRONG, Flat, T, chi_square_p_value

# a light atom between heavy ones, where Fixman's factor is largest; angles that roam
HELD = Chain(
    masses=(30.0, 30.0, 1.0, 30.0),
    bond_stiffness=None,
    angle=2.2,
    angle_stiffness=15.0,
    barrier=3.0,
)


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


def no_jacobian(move: LocalMove) -> None:
    move.sampler.left_out = "jacobian"


def no_q(move: LocalMove) -> None:
    move.sampler.left_out = "q"


def no_fixman(move: LocalMove) -> None:
    move.potential.half_log_det = lambda x: np.zeros(len(x))


def no_g(move: LocalMove) -> None:
    move.conditions = Flat(move.conditions)


def no_bias(move: LocalMove) -> None:
    move.bias.bias_of_cvs = lambda cvs: np.zeros(len(cvs))


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
    """p of weighted configurations: the smallest of the coordinates' times their number."""
    w = np.exp(log_weights - log_weights.max())
    w /= w.sum()
    found, internal = [], internal_of(x)
    named = {"r": internal["r2"], "angle": internal["theta1"], "phi": internal["phi"]}
    if case.chain.bond_stiffness is None:
        named.pop("r")
    for name, values in named.items():
        grid, density = density_of(case, name, rest)
        total = np.concatenate([[0.0], np.cumsum(0.5 * (density[1:] + density[:-1]))])
        found.append(chi_square_p_value(w, np.interp(values, grid, total / total[-1])))
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
    x, log_weights = weighed(move_of(case, tmp_path, start), rest, 10_000)
    assert weighted_p_value(case, x, log_weights, rest) > RIGHT


@pytest.mark.parametrize(("name", "leave_out"), LEFT_OUT)
def test_a_factor_left_out_fails_the_same_test(
    name: str, leave_out: Callable[[LocalMove], None], tmp_path: Path
) -> None:
    case = CASES[name]
    start, rest = case.chain.sample(2, T, seed=1)
    move = move_of(case, tmp_path, start)
    leave_out(move)
    x, log_weights = weighed(move, rest, 10_000)
    assert weighted_p_value(case, x, log_weights, rest) < WRONG


# ---- moves from exact samples, each among its own rest, leave them exact samples


def exact_samples(case: Case, n: int, seed: int, bias: PlumedBias) -> NDArray:
    """Independent chains (n, 4, 3), by rejection where there is a bias."""
    rng, found = np.random.default_rng(seed), np.zeros((0, 4, 3))
    while len(found) < n:
        x = case.chain.sample(4 * n, T, seed=rng)
        factor = np.exp(-bias.bias_of_cvs(bias.cv_values(x)) / KT)
        found = np.concatenate([found, x[rng.random(len(x)) < factor]])
    return found[:n]


def moved(move: LocalMove, x: NDArray, n_moves: int, seed: int) -> NDArray:
    """Each chain after some moves; the context of the run is put to each."""
    rng, context, after = np.random.default_rng(seed), move._running, x.copy()
    for k in range(len(x)):
        for _ in range(n_moves):
            context.setPositions(after[k])
            move.follow(context, T)
            attempt = move.attempt(after[k], None, rng)
            after[k] = after[k] if attempt.positions is None else attempt.positions
    return after


def sampled_p_value(x: NDArray, expected: NDArray) -> float:
    """p of independent chains against others (Kolmogorov and Smirnov), smallest times number."""
    found = []
    for name, values in internal_of(x).items():
        if np.ptp(values) > 1e-6:
            found.append(stats.ks_2samp(values, internal_of(expected)[name]).pvalue)
    distance = np.linalg.norm(x[:, 3] - x[:, 0], axis=1)
    expected_distance = np.linalg.norm(expected[:, 3] - expected[:, 0], axis=1)
    found.append(stats.ks_2samp(distance, expected_distance).pvalue)
    return min(1.0, len(found) * min(found))


def ends_about(move: LocalMove, case: Case, rest: NDArray, n: int, seed: int) -> NDArray:
    """Independent ends (n, 1, 3) given one rest, the bias by rejection."""
    rng, found = np.random.default_rng(seed), np.zeros((0, 1, 3))
    held, theta = move.potential, internal_of(rest[None])["theta0"][0]
    held.current = rest
    while len(found) < n:
        others = case.chain.sample(4 * n, T, seed=rng)
        if case.chain.bond_stiffness is None:  # Fixman's factor, which couples the angles
            angles = internal_of(others)
            both = np.stack([angles["theta0"], angles["theta1"]], axis=1)
            here = np.stack([np.full(len(both), theta), angles["theta1"]], axis=1)
            ratio = case.chain.fixman(here) / case.chain.fixman(both)
            # the other angle integrated out by weights of its own samples
            kept = rng.random(len(ratio)) < ratio / ratio.max()
            others = others[kept]
        internal = move.sampler.z.to_internal(torch.from_numpy(others[:, [3, 0, 1, 2]]))
        x = move.sampler.z.among(rest[:3]).to_cartesian(internal).numpy()
        factor = np.exp(-move.bias.bias_of_cvs(move.bias.cv_values(held.whole(x))) / KT)
        found = np.concatenate([found, x[rng.random(len(x)) < factor]])
    return found[:n]


def moved_about_one_rest(
    move: LocalMove, x: NDArray, n_moves: int, n_fresh: int, seed: int
) -> NDArray:
    """Ends (n, 1, 3) of many chains about one rest, all moved at once in the way of an attempt."""
    rng, held, n = np.random.default_rng(seed), move.potential, len(x)
    sampler = move.sampler.among(held.current[:3])
    for _ in range(n_moves):
        cvs = move.bias.cv_values(held.whole(x))
        here = noisy_conditions(cvs, move.noise, move.variables, rng)
        drawn = np.repeat(here, n_fresh, axis=0)
        drawn[:, move.is_moved] = move.conditions.draw(n * n_fresh, rng)
        made, log_prob = sampler.sample_with_log_prob(drawn, seed=int(rng.integers(2**31)))
        current = move.weigh(x, here, sampler.log_prob(x, here)).log_weights
        fresh = move.weigh(made, drawn, log_prob).log_weights.reshape(n, n_fresh)
        chosen = choose(current, fresh, rng)
        candidates = made.reshape(n, n_fresh, 1, 3)[np.arange(n), chosen]
        x = np.where((chosen >= 0)[:, None, None], candidates, x)
    return x


ABOUT_ONE_REST = [  # candidates of each, and moves
    ("constrained", None, 10, 3),
    ("biased", None, 10, 3),
    ("biased", no_bias, 10, 3),
    ("auxiliary", None, 1, 42),
    ("auxiliary", no_k, 1, 42),
]


@pytest.mark.parametrize(("name", "leave_out", "n_fresh", "n_moves"), ABOUT_ONE_REST)
def test_exact_samples_about_a_rest_stay_exact_if_nothing_is_left_out(
    name: str,
    leave_out: Callable[[LocalMove], None] | None,
    n_fresh: int,
    n_moves: int,
    tmp_path: Path,
) -> None:
    case = CASES[name]
    start, rest = case.chain.sample(2, T, seed=4)
    move = move_of(case, tmp_path, start)
    x, others = (ends_about(move, case, rest, n, seed=n) for n in (1500, 20_000))
    if leave_out is not None:
        leave_out(move)
    after = moved_about_one_rest(move, x, n_moves, n_fresh, seed=7)
    assert (after != x).any(axis=(1, 2)).mean() > 0.3, "many have moved"
    p_value = sampled_p_value(*(move.potential.whole(c) for c in (after, others)))
    assert p_value > RIGHT if leave_out is None else p_value < 1e-4


def test_chains_each_with_its_rest_stay_exact(tmp_path: Path) -> None:
    """The attempt as a run makes it."""
    case = CASES["biased"]
    bias = bias_of(case, tmp_path)
    x = exact_samples(case, 200, 5, bias)
    after = moved(move_of(case, tmp_path, x[0], 20), x, 1, seed=7)
    assert (after[:, 3] != x[:, 3]).any(axis=1).mean() > 0.2, "many have moved"
    assert (after[:, :3] == x[:, :3]).all(), "the rest stays, to the last bit"
    assert sampled_p_value(after, exact_samples(case, 20_000, 6, bias)) > RIGHT


def test_moves_go_as_often_as_they_come(tmp_path: Path) -> None:
    """From exact samples, between thirds of the circle of the torsion."""
    case = CASES["biased"]
    start, rest = case.chain.sample(2, T, seed=4)
    move = move_of(case, tmp_path, start)
    x = ends_about(move, case, rest, 4000, seed=8)
    after = moved_about_one_rest(move, x, 1, 5, seed=9)
    before, now = (
        np.floor(
            (internal_of(move.potential.whole(c))["phi"] + math.pi) / (2 * math.pi / 3)
        ).astype(int)
        for c in (x, after)
    )
    flux = np.zeros((3, 3))
    np.add.at(flux, (before, now), 1)
    assert (flux + flux.T)[np.triu_indices(3, 1)].max() > 200
    for i, j in ((0, 1), (0, 2), (1, 2)):
        assert abs(flux[i, j] - flux[j, i]) < 3.5 * math.sqrt(flux[i, j] + flux[j, i] + 1)


# ---- constraints and masses


def test_the_rest_of_fixmans_factor_does_not_change(tmp_path: Path) -> None:
    """A molecule of two chains, one of which is held: its constraints are a constant."""
    case = CASES["constrained"]
    x = case.chain.sample(40, T, seed=2)
    other = np.broadcast_to(case.chain.sample(1, T, seed=3) + 2.0, x.shape)
    pairs = np.array([(i, i + 1) for i in range(3)])
    masses = np.tile(case.chain.masses, 2)
    both = half_log_det_constraints(
        np.concatenate([x, other], axis=1), np.concatenate([pairs, pairs + 4]), masses
    )
    alone = half_log_det_constraints(x, pairs, case.chain.masses)
    np.testing.assert_allclose(both - alone, (both - alone)[0], atol=1e-12)
    assert np.ptp(alone) > 0.1
    move = move_of(case, tmp_path, x[0])
    assert move.potential.tied.atoms.tolist() == [0, 1, 2, 3], (
        "constraints connect all of the chain"
    )
    np.testing.assert_allclose(move.potential.half_log_det(x), alone, atol=1e-12)


def test_cvs_of_the_rest_are_told_from_those_that_the_part_moves(tmp_path: Path) -> None:
    case = Case(FLEXIBLE, ("theta", "end", "d"))
    move = move_of(case, tmp_path, FLEXIBLE.sample(1, T, seed=2)[0])
    assert move.is_moved.tolist() == [False, True, True]
    assert move.noise.tolist() == [0.0, 0.0, 0.02]


# ---- candidates weighed by a quick energy, and the choice corrected by the whole one


def with_a_wrong_energy(move: LocalMove) -> LocalMove:
    """As if the torsion were free and the bonds softer."""
    other = dataclasses.replace(FLEXIBLE, barrier=0.0, tilt=6.0, bond_stiffness=12_000.0)
    move.potential.quick = Potential(other.system(), n_contexts=1)
    return move


@pytest.mark.parametrize("is_corrected", [True, False])
def test_a_quick_energy_is_corrected(
    is_corrected: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = CASES["biased"]
    bias = bias_of(case, tmp_path)
    x = exact_samples(case, 160, 5, bias)
    move = with_a_wrong_energy(move_of(case, tmp_path, x[0]))
    if not is_corrected:
        monkeypatch.setattr(move, "_corrected", lambda x, weighed, chosen, rng: (weighed, chosen))
    after = moved(move, x, 3, seed=7)
    assert (after[:, 3] != x[:, 3]).any(axis=1).mean() > 0.2, "many have moved"
    p_value = sampled_p_value(after, exact_samples(case, 20_000, 6, bias))
    assert p_value > RIGHT if is_corrected else p_value < 1e-5


def test_a_quick_energy_costs_two_whole_ones_where_a_candidate_is_chosen(tmp_path: Path) -> None:
    case = CASES["flexible"]
    x = case.chain.sample(1, T, seed=3)[0]
    move = with_a_wrong_energy(move_of(case, tmp_path, x))
    move.follow(move._running, T)
    rng, right = np.random.default_rng(3), Potential(case.chain.system(), n_contexts=1)
    found = [move.attempt(x, None, rng) for _ in range(20)]
    accepted = [attempt for attempt in found if attempt.positions is not None]
    assert 2 < len(accepted) < 20
    for attempt in accepted:
        assert attempt.candidates.energies == 2
        assert attempt.energy_after == pytest.approx(right.energies(attempt.positions[None])[0])
    assert {attempt.candidates.energies for attempt in found} <= {0, 2}
