"""Weights of frames under metadynamics, against distributions and averages known exactly."""

import logging

import numpy as np
import pytest
from scipy.integrate import quad

from openmm_cgan import GAS_CONSTANT
from openmm_cgan.collective_variable import CollectiveVariable
from openmm_cgan.free_energy import growth
from openmm_cgan.free_energy.growth import metad_log_weights
from openmm_cgan.free_energy.hills import hills_bias
from openmm_cgan.free_energy.reweighting import reweight
from openmm_cgan.free_energy.samples import BiasedFrames, unbiased
from openmm_cgan.plumed.actions.units import UnitSystem
from openmm_cgan.plumed.files.tables import FieldTable

TEMPERATURE = 300.0
KT = GAS_CONSTANT * TEMPERATURE
PERIODIC = (CollectiveVariable("s", "rad", (-np.pi, np.pi)),)
GRID = np.linspace(-np.pi, np.pi, 181)[:-1] + np.pi / 180
PLUMED_UNITS = UnitSystem()


def hills_of(centres: np.ndarray, heights: np.ndarray, factor: float = 8.0) -> FieldTable:
    """Hills on a torsion, one each picosecond; heights as they act, factor -1: not tempered."""
    n = len(centres)
    columns = {
        "time": np.arange(1.0, n + 1.0),
        "s": centres,
        "sigma_s": np.full(n, 0.3),
        "height": heights * (factor / (factor - 1.0) if factor > 1 else 1.0),
        "biasf": np.full(n, factor),
    }
    return FieldTable(columns, {"min_s": "-pi", "max_s": "pi"})


def weights_of(times, bias, s, hills, temperature=TEMPERATURE):
    return metad_log_weights(times, bias, s[:, None], hills, temperature, PLUMED_UNITS)


def hill_at(points):
    """A hill of height 1 at each of some points, at all of them, (n, n)."""
    away = (points[:, None] - points + np.pi) % (2 * np.pi) - np.pi
    one = hills_of(np.zeros(1), np.ones(1))
    return hills_bias(one, away.reshape(-1, 1), PLUMED_UNITS).reshape(away.shape)


def metadynamics(n_hills, seed, temperatures=(TEMPERATURE,), factor=8.0):
    """Metadynamics on F(s) = 6 cos(2 s) + cos(s), fully relaxed between hills.

    Temperatures take turns, each hill at the next. Returns the hills and of 20 frames drawn before
    each the CV, the bias, the time and the temperature.
    """
    rng = np.random.default_rng(seed)
    energy, bias, hill = 6.0 * np.cos(2 * GRID) + np.cos(GRID), np.zeros(180), hill_at(GRID)
    centres, heights, values, biases = np.empty(n_hills), np.empty(n_hills), [], []
    for i in range(n_hills):
        kT = GAS_CONSTANT * temperatures[i % len(temperatures)]
        p = np.exp(-(energy + bias) / kT)
        drawn = rng.choice(180, 21, p=p / p.sum())
        values.append(GRID[drawn[:-1]])
        biases.append(bias[drawn[:-1]])
        centres[i] = GRID[drawn[-1]]
        heights[i] = np.exp(-bias[drawn[-1]] / (KT * (factor - 1.0)))
        bias += heights[i] * hill[drawn[-1]]
    times = np.repeat(np.arange(n_hills) + 0.5, 20)
    at = np.repeat(np.resize(temperatures, n_hills), 20)
    return hills_of(centres, heights), np.concatenate(values), np.concatenate(biases), times, at


def true_average(temperature=TEMPERATURE):
    """Of cos(2 s)."""
    p = np.exp(-(6.0 * np.cos(2 * GRID) + np.cos(GRID)) / (GAS_CONSTANT * temperature))
    return float(p @ np.cos(2 * GRID) / p.sum())


def test_hills_whose_time_goes_back_weigh_no_frames():
    hills = hills_of(np.zeros(3), np.ones(3))
    hills.columns["time"][2] = 1.0
    with pytest.raises(ValueError, match="row 3 of the hills: the time goes back from 2 to 1"):
        weights_of([0.5, 1.5], [0.0, 0.0], np.zeros(2), hills)


def test_frames_without_the_cvs_of_the_hills_are_refused():
    hills = hills_of(np.zeros(3), np.ones(3))
    with pytest.raises(ValueError, match=r"\(2,\), \(2,\) and \(2, 2\), expected .* \(2, 1\)"):
        metad_log_weights([0, 1], [0, 0], np.zeros((2, 2)), hills, TEMPERATURE, PLUMED_UNITS)


def test_no_frames_have_no_weights():
    assert weights_of([], [], np.zeros(0), hills_of(np.zeros(3), np.ones(3))).shape == (0,)


def test_the_growth_by_one_hill_is_its_integral():
    """Frames all round without a bias, which are alike, say what the hill after them adds."""
    hills = hills_of(np.array([0.3]), np.array([1.1 * KT]))
    s = np.linspace(-np.pi, np.pi, 6001)
    times = np.r_[np.full(6000, 0.5), 1.5]
    logs = weights_of(times, np.zeros(6001), s, hills)

    def boltzmann(at: float) -> float:
        return float(np.exp(-hills_bias(hills, np.array([[at]]), PLUMED_UNITS)[0] / KT))

    mean = quad(boltzmann, -np.pi, np.pi, points=[0.3], limit=200)[0] / (2 * np.pi)
    np.testing.assert_allclose(logs[:-1], 0.0, atol=1e-12)
    assert -logs[-1] == pytest.approx(-np.log(mean), rel=3e-3)


def test_three_cvs_are_weighed_by_the_same_formula():
    rng = np.random.default_rng(3)
    names, frames = ("a", "b", "c"), rng.normal(size=(4000, 3))
    columns = {"time": np.array([1.0]), **{name: np.zeros(1) for name in names}}
    columns |= {f"sigma_{name}": np.ones(1) for name in names}
    hills = FieldTable(columns | {"height": np.array([4.0]), "biasf": np.array([-1.0])}, {})
    times = np.r_[np.full(3999, 0.5), 1.5]
    logs = metad_log_weights(times, np.zeros(4000), frames, hills, TEMPERATURE, PLUMED_UNITS)
    mean = np.exp(-hills_bias(hills, frames, PLUMED_UNITS) / KT).mean()
    assert -logs[-1] == pytest.approx(-np.log(mean), rel=0.01)


def test_weights_of_a_growing_bias_give_the_true_average():
    hills, s, bias, times, _ = metadynamics(200, seed=1)
    late = slice(len(s) // 4, None)
    run = BiasedFrames(s[late, None], unbiased, TEMPERATURE, PERIODIC)
    samples = reweight([run], [weights_of(times[late], bias[late], s[late], hills)])
    got = samples.average(np.cos(2 * samples.cvs[:, 0]))
    assert abs(got.value - true_average()) < 3.5 * got.error
    assert got.error < 0.02


@pytest.mark.parametrize("temperature", [300.0, 420.0])
def test_frames_of_each_temperature_of_a_tempered_run_are_weighed_at_theirs(temperature):
    """The bias grew by hills laid at both; of frames it matters only how they lie under it."""
    hills, s, bias, times, at = metadynamics(300, 2, temperatures=(300.0, 420.0))
    late = np.flatnonzero(at == temperature)[600:]
    run = BiasedFrames(s[late, None], unbiased, temperature, PERIODIC)
    logs = weights_of(times[late], bias[late], s[late], hills, temperature)
    samples = reweight([run], [logs])
    got = samples.average(np.cos(2 * samples.cvs[:, 0]))
    assert abs(got.value - true_average(temperature)) < 3.5 * got.error
    assert abs(true_average(300.0) - true_average(420.0)) > 7 * got.error


N_CELLS, WALKERS, HILLS, MOVES = 24, 16, 2000, 16


def random_walks(seed):
    """Metadynamics by random walks on a ring: three wells, hills quicker than the walks turn round.

    Returns the energy of each cell, and of each walker the cells of its hills and of its frames,
    with the bias of each frame, (WALKERS, HILLS): the frame is that before the hill.
    """
    rng = np.random.default_rng(seed)
    ring = np.arange(N_CELLS)
    centre = 2 * np.pi * ring / N_CELLS - np.pi
    energy = 0.5 * KT * (1 + np.cos(3 * centre)) + 2.5 * KT * (1 + np.cos(centre))
    hill, who, at = KT * hill_at(centre), np.arange(WALKERS), np.zeros(WALKERS, dtype=int)
    bias, seen, biases = np.zeros((WALKERS, N_CELLS)), [], []
    for _ in range(HILLS):
        for step in 2 * rng.integers(0, 2, (MOVES, WALKERS)) - 1:
            to = (at + step) % N_CELLS
            rise = energy[to] - energy[at] + bias[who, to] - bias[who, at]
            at = np.where(rng.random(WALKERS) < np.exp(-np.maximum(rise, 0) / KT), to, at)
        seen.append(at)
        biases.append(bias[who, at])
        bias += hill[at]
    return centre, energy, np.array(seen).T, np.array(biases).T


def test_a_bias_that_is_ahead_of_the_walk_weighs_no_state_too_much():
    """With c(t) of the bias itself these walks say 0.3 kT too little, eight errors."""
    centre, energy, seen, biases = random_walks(seed=4)
    gauche = (centre > 0) & (centre < 2.1)
    p = np.exp(-energy / KT)
    exact = -np.log(p[gauche].sum() / p[~gauche].sum())
    late, times, found = slice(HILLS // 5, None), np.arange(1.0, HILLS + 1), []
    for cells, bias in zip(seen, biases, strict=True):
        hills = hills_of(centre[cells], np.full(HILLS, KT), -1.0)
        logs = weights_of(times[late], bias[late], centre[cells[late]], hills)
        weights, inside = np.exp(logs - logs.max()), gauche[cells[late]]
        found.append(-np.log(weights[inside].sum() / weights[~inside].sum()))
    error = np.std(found, ddof=1) / np.sqrt(WALKERS)
    assert abs(np.mean(found) - exact) < 3.5 * error
    assert error < 0.1


def test_a_straight_line_between_looks_is_near_enough(monkeypatch):
    hills, s, bias, times, _ = metadynamics(300, seed=5)
    late = slice(len(s) // 5, None)
    all_looks = weights_of(times[late], bias[late], s[late], hills)
    monkeypatch.setattr(growth, "MOST_TIMES", 30)
    few = weights_of(times[late], bias[late], s[late], hills)
    one_hill = 1.0 * 0.3 / np.sqrt(2 * np.pi) / KT  # what it adds everywhere, at most
    assert 0 < abs(few - all_looks).max() < one_hill


def test_growth_that_is_not_found_is_told(monkeypatch, caplog):
    hills, s, bias, times, _ = metadynamics(50, seed=6)
    monkeypatch.setattr(growth, "MOST_ROUNDS", 2)
    with caplog.at_level(logging.WARNING, "openmm_cgan"):
        weights_of(times, bias, s, hills)
    assert "kT only: the bias of this run hardly ever led back" in caplog.text
