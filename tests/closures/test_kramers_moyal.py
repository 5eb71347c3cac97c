"""Drift and diffusion from trajectories, against Ornstein and Uhlenbeck's process."""

from dataclasses import replace

import numpy as np
import pytest

from openmm_cgan.closures import Trajectories, kramers_moyal, run_bursts, window_diffusion
from openmm_cgan.closures.lag_plateau import plateau
from openmm_cgan.collective_variable import CollectiveVariable
from openmm_cgan.frames import Frames
from openmm_cgan.free_energy import BiasedFrames
from openmm_cgan.testsystems.multiscale import HalfMoon
from tests.cases.ornstein_uhlenbeck import RATE, SIGMA2, Z, expected_at, ornstein, trajectories


def test_bursts_give_drift_and_diffusion():
    starts = np.random.default_rng(0).uniform(-1.5, 1.5, 3000)
    runs = trajectories(ornstein(starts, 8, 0.01, 1), 0.01)
    at = np.linspace(-1, 1, 5)
    found = kramers_moyal(runs, at, [1, 2, 4, 8], bandwidth=0.4)
    assert found.flat
    for lag, drift, diffusion in zip(found.lags, found.drift, found.diffusion, strict=True):
        b, s = expected_at(lag, at)
        assert (np.abs(drift.value[:, 0] - b) < 4 * drift.error[:, 0]).all()
        assert (np.abs(diffusion.value[:, 0, 0] - s) < 4 * diffusion.error[:, 0, 0]).all()


def test_a_plateau_does_not_depend_on_the_units_of_the_cvs():
    """The first CV forgets within the lags, the second does not: no unit may hide that."""
    path = ornstein(np.zeros(60), 50, 0.3, 5), ornstein(np.zeros(60), 50, 0.01, 6)
    found = []
    for unit in (1.0, 1e3):
        runs = tuple(np.stack([a * unit, b], 1) for a, b in zip(*path, strict=True))
        cvs = (Z, CollectiveVariable("y"))
        own = Trajectories(runs, 0.3, cvs)
        at = np.array([[-0.2, 0.0], [0.2, 0.1]]) * [unit, 1]
        found.append(kramers_moyal(own, at, [1, 2, 4], bandwidth=[unit, 1.0], n_bootstrap=20))
    assert (found[0].changes > 0).all()  # the second CV's being flat is not enough
    np.testing.assert_allclose(found[1].changes, found[0].changes, rtol=1e-6)


def test_a_long_biased_run_gives_the_drift_without_its_bias():
    """A spring of 3 in a run whose dynamics is RATE's with it: what is left is RATE less."""
    kT = 1.0
    path = ornstein([0.0], 30000, 0.01, 2)
    at = np.linspace(-0.6, 0.6, 4)
    own = RATE * 2 * kT / SIGMA2  # stiffness of the well in the run
    found = kramers_moyal(
        trajectories(path, 0.01), at, [2], bandwidth=0.4, bias_slope=lambda z: 0.5 * own * z, kT=kT
    )
    drift = found.drift[0]
    expected = expected_at(0.02, at)[0] + 0.5 * RATE * at
    assert (np.abs(drift.value[:, 0] - expected) < 4 * drift.error[:, 0]).all()
    assert drift.error.max() < 0.7


def test_errors_are_those_of_repeated_runs():
    at = np.array([-0.5, 0.5])
    scores = []
    for seed in range(30):
        runs = trajectories(ornstein(np.zeros(1), 3000, 0.1, seed), 0.1)
        found = kramers_moyal(runs, at, [2], bandwidth=0.4)
        truth = expected_at(0.2, at)
        scores.append((found.drift[0].value[:, 0] - truth[0]) / found.drift[0].error[:, 0])
    variance = np.mean(np.square(scores))
    assert 1 - 3 * 0.18 < variance < 1 + 3 * 0.18  # sqrt(2 / 60)


def test_the_plateau_begins_where_fast_motion_has_ended(caplog):
    """A fast process of the same size on top: short lags see it, long ones do not."""
    rng = np.random.default_rng(5)
    slow = ornstein(rng.uniform(-1.5, 1.5, 600), 200, 0.002, 6)
    fast = 0.02 * rng.normal(size=slow.shape)
    runs = trajectories(slow + fast, 0.002)
    at, lags = [-0.5, 0.0, 0.5], [1, 2, 4, 8, 16, 32]
    found = kramers_moyal(runs, at, lags, bandwidth=1.0, n_bootstrap=40)
    short = found.diffusion[0].value[1, 0, 0]
    assert short == pytest.approx(SIGMA2 + 2 * 0.02**2 / 0.002, rel=0.05)
    assert found.lags[found.chosen] >= 0.008
    few = kramers_moyal(runs, [0.0], [1, 2], bandwidth=1.0, n_bootstrap=20)
    assert not few.flat
    assert "2 lags: a plateau takes 3" in caplog.text
    start, end = found.lags[[found.chosen, found.chosen + 2]]
    assert f" from {start:g} to {end:g} ps: drift within" in str(found)
    chosen, flat, changes = plateau([(found.diffusion[i],) for i in (0, 2, 4)])
    assert (chosen, flat) == (0, False)
    assert changes[0, 0] > 5


def test_bursts_in_openmm_follow_the_reduced_dynamics():
    """The half-moon from exact configurations: its slow variable drifts by -m A'."""
    from openmm import Platform, app

    system = HalfMoon(eps=0.1)
    x = system.sample_conditional(np.array([[-0.5], [0.5]]), 150, 0).reshape(-1, 2)
    integrator = system.integrator(2e-4)
    integrator.setRandomNumberSeed(7)
    simulation = app.Simulation(
        system.topology(), system.system(), integrator, Platform.getPlatform("Reference")
    )
    runs = run_bursts(
        simulation,
        system.positions(x),
        lambda p, box: p[0, 0] - system.bend * p[0, 1] ** 2,
        (Z,),
        temperature=system.temperature,
        n_steps=250,
        every=50,
        seed=1,
    )
    assert len(runs.cvs) == 300
    assert runs.interval == pytest.approx(0.01)
    ends = np.array([run[-1, 0] - run[0, 0] for run in runs.cvs]).reshape(2, 150) / 0.05
    truth = system.effective_drift(np.array([[-0.5], [0.5]]))[:, 0]
    error = ends.std(1, ddof=1) / np.sqrt(150)
    assert (np.abs(ends.mean(1) - truth) < 4 * error).all()


def test_windows_forget_by_their_diffusion(caplog):
    variable = CollectiveVariable("z")
    windows = []
    for seed in range(6):
        z = ornstein([0.0], 20000, 0.04, seed)[0]
        windows.append(BiasedFrames(z[:, None], lambda c: 0 * c[:, 0], 300.0, (variable,)))
    found = window_diffusion(windows, 0.04)
    assert (np.abs(found.diffusion - SIGMA2) < 4 * found.error).all()
    assert (found.error < 0.3 * SIGMA2).all()
    short = [BiasedFrames(w.cvs[:300], w.bias, 300.0, (variable,)) for w in windows]
    assert np.isnan(window_diffusion(short, 0.04).diffusion).all()
    rare = [BiasedFrames(w.cvs[::20], w.bias, 300.0, (variable,)) for w in windows]
    assert np.isnan(window_diffusion(rare, 0.8).diffusion).all()  # more than it takes
    assert "6 of 6 windows tell no diffusion" in caplog.text


def test_the_mean_of_a_window_at_the_end_of_a_period_is_within_it():
    angle = CollectiveVariable("phi", "rad", (-np.pi, np.pi))
    path = np.pi + 0.1 + 0.2 * ornstein([1.0], 50, 0.04, 3)[0]
    wrapped = [np.mod(path + np.pi, 2 * np.pi) - np.pi, path - 2 * np.pi, path]
    windows = [BiasedFrames(z[:, None], lambda c: 0 * c[:, 0], 300.0, (angle,)) for z in wrapped]
    expected = path.mean() - 2 * np.pi
    np.testing.assert_allclose(window_diffusion(windows, 0.04).at, expected)


def test_runs_of_frames_end_where_frames_do_not_follow(caplog):
    """An injection with its settle window, frames missing, another interval, another run."""
    n = 40
    step = 10 * np.arange(1, n + 1)
    step[20:] += 30
    step[30:] -= 5 * np.arange(10)  # written twice as often from there on
    step[35:] -= 300  # another run
    segment = np.repeat([1, 2], [10, 30])
    settling = np.zeros(n, dtype=bool)
    settling[10:13] = True
    frames = replace(
        Frames.of_arrays(np.zeros((n, 3)), np.arange(n), [Z]),
        step=step, time=0.002 * step, timestep=0.002, segment=segment, settling=settling,
    )  # fmt: skip
    runs = Trajectories.of_frames(frames)
    assert runs.interval == pytest.approx(0.02)
    assert [run[[0, -1], 0].tolist() for run in runs.cvs] == [[0, 9], [13, 19], [20, 30]]
    assert runs.variables == (Z,)
    assert "9 of 39 frames do not follow" in caplog.text
    with pytest.raises(ValueError, match="no frame follows another"):
        Trajectories.of_frames(frames.select([0, 12, 39]))
    with pytest.raises(ValueError, match="frames of arrays have no times"):
        Trajectories.of_frames(Frames.of_arrays(np.zeros((9, 3)), np.zeros(9), [Z]))


def test_refusals():
    runs = trajectories(ornstein(np.zeros(3), 5, 0.1, 0), 0.1)
    with pytest.raises(ValueError, match="longest run has 6"):
        kramers_moyal(runs, [0.0], [6])
    with pytest.raises(ValueError, match="increase"):
        kramers_moyal(runs, [0.0], [2, 2])
    with pytest.raises(ValueError, match="kT, which a bias needs, is nan"):
        kramers_moyal(runs, [0.0], [1], bias_slope=lambda z: z)
    with pytest.raises(ValueError, match="no run is longer"):
        runs.after(1.0)
    with pytest.raises(ValueError, match="not finite"):
        trajectories(np.full((1, 3), np.nan), 0.1)
    with pytest.raises(ValueError, match="interval is 0"):
        trajectories(np.zeros((1, 3)), 0.0)
    with pytest.raises(ValueError, match="no runs"):
        Trajectories((), 0.1, (Z,))
    with pytest.raises(ValueError, match="whole numbers"):
        kramers_moyal(runs, [0.0], [1.5])
    with pytest.raises(ValueError, match="CV number 3 of 1"):
        window_diffusion([BiasedFrames(runs.cvs[0], len, 300.0, (Z,))], 0.1, 3)
    with pytest.raises(ValueError, match="no window"):
        window_diffusion([], 0.1)
    assert len(runs.after(0.2).cvs[0]) == 4
