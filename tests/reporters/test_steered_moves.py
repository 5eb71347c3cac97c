"""Steered moves against densities in closed form; each term of the acceptance left out must show.

One move from exact samples: in detailed balance acceptance times the change of any function is zero
on average.
"""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import openmm
import pytest
from numpy.typing import NDArray
from openmm import app
from scipy import stats

from openmm_cgan.reporters.moves import torsion_targets
from openmm_cgan.reporters.moves.steering import SHARE, Steering
from openmm_cgan.reporters.moves.switching import Steps, Switching
from openmm_cgan.testsystems import Chain
from tests.cases.chain_sampler import internal_of
from tests.cases.chain_targets import HELD, KT, RIGHT, WRONG, Case, T
from tests.cases.steered_chains import Term, Watched, steered_move

STIFF = 80.0
TILTED = Chain(barrier=1.0, tilt=3.0)
CASES = {
    "torsion": Case(TILTED, "phi", grid=True),
    "other CV, biased": Case(TILTED, "theta", bias=f"RESTRAINT ARG=theta AT=1.5 KAPPA={STIFF}\n"),
}


@pytest.fixture(autouse=True)
def few_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torsion_targets, "LISTED", 8)


def samples(case: Case, n: int) -> NDArray:
    """Exact ones (n, 4, 3) of a chain, with its bias by rejection."""
    if not case.bias:
        return case.chain.sample(n, T, seed=5)
    x = case.chain.sample(12 * n, T, seed=5)
    factor = np.exp(-0.5 * STIFF * (internal_of(x)["theta0"] - 1.5) ** 2 / KT)
    return x[np.random.default_rng(6).random(len(x)) < factor][:n]


def functions_of(x: NDArray) -> NDArray:
    """Of configurations (n, 4, 3): (n, 6)."""
    c = internal_of(x)
    turns = [f(m * c["phi"]) for m in (1, 2) for f in (np.cos, np.sin)]
    return np.stack([*turns, c["theta0"], c["theta1"]], axis=1)


def balance(x: NDArray, ends: NDArray, log_ratios: NDArray) -> float:
    """p of detailed balance for moves from exact samples (n, 4, 3) to ends, log ratios (n,)."""
    likely = np.exp(np.minimum(np.where(np.isfinite(log_ratios), log_ratios, -np.inf), 0.0))
    went = likely > 0
    changes = np.zeros((len(x), 6))
    changes[went] = likely[went, None] * (functions_of(ends[went]) - functions_of(x[went]))
    mean, covariance = changes.mean(axis=0), np.cov(changes.T) / len(x)
    return float(stats.chi2(6).sf(mean @ np.linalg.solve(covariance, mean)))


def whole(t: Term) -> float:
    return t.log_q - t.log_q_end - (t.change + t.bias) / KT


LEFT_OUT: dict[str, Callable[[Term], float]] = {
    "q": lambda t: -(t.change + t.bias) / KT,
    "energy": lambda t: t.log_q - t.log_q_end - t.bias / KT,
    "shadow": lambda t: t.log_q - t.log_q_end - (t.work + t.bias) / KT,
    "bias": lambda t: t.log_q - t.log_q_end - t.change / KT,
}


@pytest.mark.parametrize(
    ("name", "left_out"),
    [
        ("torsion", ("q", "energy", "shadow")),
        ("other CV, biased", ("energy", "bias")),
    ],
)
def test_moves_are_balanced_and_not_with_a_term_left_out(
    name: str, left_out: tuple[str, ...], tmp_path: Path
) -> None:
    case = CASES[name]
    x = samples(case, 350)
    move, rng = steered_move(case, tmp_path, switching_steps=20), np.random.default_rng(7)
    watched = Watched(move)
    terms = [term for one in x if (term := watched.tried(one, rng)) is not None]
    assert len(terms) == len(x), "conditions are over the whole circle"
    for term in terms:
        assert term.is_taken == (np.log(term.uniform) < whole(term))
    assert np.mean([term.is_taken for term in terms]) > 0.1
    ends = np.array([term.end for term in terms])
    assert balance(x, ends, np.array([whole(term) for term in terms])) > RIGHT
    for term_name in left_out:
        wrong = np.array([LEFT_OUT[term_name](term) for term in terms])
        assert balance(x, ends, wrong) < WRONG, term_name


def test_moves_of_a_constrained_chain_are_balanced(tmp_path: Path) -> None:
    held = dataclasses.replace(HELD, masses=(30.0, 4.0, 30.0, 30.0), angle_stiffness=40.0)
    move = steered_move(Case(held, "phi"), tmp_path, step=0.012)
    x, rng = held.sample(400, T, seed=5), np.random.default_rng(8)
    made = [move.attempt(one, None, rng).positions for one in x]
    ends = np.array([one if end is None else end for one, end in zip(x, made, strict=True)])
    log_ratios = np.array([-np.inf if end is None else 0.0 for end in made])
    assert (log_ratios == 0).mean() > 0.1
    assert balance(x, ends, log_ratios) > RIGHT
    lengths = np.linalg.norm(np.diff(ends, axis=1), axis=2)
    np.testing.assert_allclose(lengths, held.bond, rtol=1e-5)


# ---- a switch by itself


def with_site(system: openmm.System) -> openmm.System:
    """A virtual site between the first two atoms, held to the last one."""
    site = system.addParticle(0.0)
    system.setVirtualSite(site, openmm.TwoParticleAverageSite(0, 1, 0.5, 0.5))
    bond = openmm.HarmonicBondForce()
    bond.addBond(site, 3, 0.3, 500.0)
    system.addForce(bond)
    return system


def switching_of(
    system: openmm.System, steering: Steering, n_steps: int, step: float
) -> tuple[Switching, NDArray]:
    topology = app.Topology()
    residue = topology.addResidue("X", topology.addChain())
    for k in range(system.getNumParticles()):
        topology.addAtom(f"C{k}", app.Element.getBySymbol("C"), residue)
    integrator = openmm.LangevinMiddleIntegrator(T, 1.0, step)
    platform = openmm.Platform.getPlatformByName("Reference")
    simulation = app.Simulation(topology, system, integrator, platform)
    x = np.zeros((system.getNumParticles(), 3))
    x[:4] = TILTED.sample(1, T, 1)[0]
    simulation.context.setPositions(x)
    simulation.context.applyConstraints(1e-9)
    simulation.context.computeVirtualSites()
    x = simulation.context.getState(positions=True).getPositions(asNumpy=True)._value
    steps = Steps(n_steps, step)
    return Switching(simulation, openmm.XmlSerializer.clone(system), steering, 7, steps), x


@pytest.mark.parametrize(
    ("system", "rows", "way"),
    [
        (TILTED.system(), [(0, 1, 2, 3)], 2.0),
        (HELD.system(), [(0, 1, 2, 3)], -2.0),
        (with_site(TILTED.system()), [(3, 2, 1, 0)], 2.5),
        (TILTED.system(), [(0, 3), (0, 2)], 0.05),
    ],
)
def test_a_switch_leads_back_to_where_it_came_from(
    system: openmm.System, rows: list[tuple[int, ...]], way: float
) -> None:
    steering, rng = Steering(rows, 60.0), np.random.default_rng(1)
    switching, x = switching_of(system, steering, 30, 0.006)
    v = switching.drawn_velocities(x, KT, rng)
    start = steering.places(steering.values(x), KT, rng)
    there = switching.made(x, v, start, start + way)
    assert np.abs(there.positions - x).max() > 0.05
    back = switching.made(there.positions, -there.velocities, start + way, start)
    # to what the tolerance of constraints leaves
    assert back.change == pytest.approx(-there.change, abs=1e-3)
    assert back.energies == pytest.approx(there.energies[::-1], abs=1e-3)
    np.testing.assert_allclose(back.positions, x, atol=1e-6)
    np.testing.assert_allclose(-back.velocities, v, atol=1e-3)


def test_ways_of_torsions_are_the_shorter_ones_round() -> None:
    torsions, distances = Steering([(0, 1, 2, 3)], 60.0), Steering([(0, 1)], 60.0)
    start, end = np.array([3.0]), np.array([-3.0])
    np.testing.assert_allclose(torsions.ways(start, end), 2 * np.pi - 6)
    np.testing.assert_allclose(torsions.ways(end, start), 6 - 2 * np.pi)
    np.testing.assert_allclose(distances.ways(start, end), -6)
    with pytest.raises(ValueError, match=r"shape \(1, 3\); expected \(n, 4\) or \(n, 2\)"):
        Steering([(0, 1, 2)], 60.0)


def test_short_steps_conserve_what_no_force_leads() -> None:
    """The change of H goes with the square of the step, at places that stay."""
    steering = Steering([(0, 1, 2, 3)], 60.0)
    changes = []
    for n_steps in (25, 50, 100):
        switching, x = switching_of(TILTED.system(), steering, n_steps, 0.2 / n_steps)
        v = switching.drawn_velocities(x, KT, np.random.default_rng(2))
        start = steering.values(x) + 0.3
        changes.append(abs(switching.made(x, v, start, start).change))
    assert changes[0] / changes[1] == pytest.approx(4.0, rel=0.2)
    assert changes[1] / changes[2] == pytest.approx(4.0, rel=0.1)


@pytest.mark.parametrize(("rows", "width"), [([(0, 1, 2, 3), (3, 2, 1, 0)], 3.0), ([(0, 3)], 0.1)])
def test_the_force_is_minus_kT_log_of_the_density_of_places(
    rows: list[tuple[int, ...]], width: float
) -> None:
    kappa = KT / width**2  # as wide as the circle: what is cut off shows
    steering, rng = Steering(rows, kappa), np.random.default_rng(3)
    x = TILTED.sample(1, T, 4)[0]
    system = openmm.System()
    for _ in range(4):
        system.addParticle(1.0)
    force = steering.force()
    system.addForce(force)
    platform = openmm.Platform.getPlatformByName("Reference")
    context = openmm.Context(system, openmm.VerletIntegrator(0.001), platform)
    context.setPositions(x)
    values = steering.values(x)
    places = np.array([steering.places(values, KT, rng) for _ in range(2000)])
    away = np.abs(places - values)
    energies = []
    for place in places[:20]:
        if steering.turns:  # the same place
            place = place + 2 * np.pi * rng.integers(-2, 3, len(rows))
        steering.lead(force, context, place - 0.7, place)
        context.setParameter(SHARE, 1.0)
        energies.append(context.getState(energy=True).getPotentialEnergy()._value)
    np.testing.assert_allclose(energies, 0.5 * kappa * (away[:20] ** 2).sum(axis=1), rtol=1e-9)
    assert not steering.turns or 3.0 < away.max() < np.pi
    density = stats.truncnorm(-np.pi / width, np.pi / width, scale=width)
    density = density if steering.turns else stats.norm(scale=width)
    for k in range(len(rows)):
        assert stats.kstest(places[:, k] - values[k], density.cdf).pvalue > RIGHT
