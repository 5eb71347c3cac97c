"""Numbers that do not claim too much: hard sets of states, gaps, single frames, heavy weights."""

import logging

import numpy as np
import pytest
from pymbar import MBAR
from scipy.special import logsumexp
from scipy.stats import norm

from openmm_cgan import GAS_CONSTANT
from openmm_cgan.collective_variable import CollectiveVariable
from openmm_cgan.free_energy import (
    BiasedFrames,
    GeneratedFrames,
    basin_difference,
    free_energy_at_points,
    free_energy_profile,
    reweight,
    reweight_generated,
    reweight_windows,
)
from openmm_cgan.free_energy import mbar as mbar_module
from openmm_cgan.free_energy.doubts import why_unknown
from openmm_cgan.free_energy.mbar import solve_mbar
from openmm_cgan.free_energy.newton import Change
from openmm_cgan.free_energy.overlap import connected_parts
from openmm_cgan.free_energy.pareto import pareto_k, pareto_smoothed
from openmm_cgan.free_energy.samples import unbiased

TEMPERATURE = 300.0
KT = GAS_CONSTANT * TEMPERATURE
X = CollectiveVariable("x", "nm")
STIFFNESS = 4.0  # of the unbiased oscillator, kJ/mol/nm^2


def window(rng, stiffness, centre, n):
    """Exact samples of a harmonic window on the oscillator; none where the stiffness is 0."""
    total = STIFFNESS + stiffness
    x = rng.normal(stiffness * centre / total, np.sqrt(KT / total), (n, 1))
    return BiasedFrames(
        x, lambda cvs: 0.5 * stiffness * (cvs[:, 0] - centre) ** 2, TEMPERATURE, (X,),
        f"window at {centre:g}",
    )  # fmt: skip


def reduced(windows):
    cvs = np.concatenate([w.cvs for w in windows])
    return np.stack([w.bias(cvs) for w in windows]) / KT, [len(w.cvs) for w in windows]


def column_sums(log_weights, u_kn, n_k):
    """Sums of the weights of each state by the dense formula, from the unbiased log weights."""
    f_k = -logsumexp(log_weights - u_kn, axis=1)
    logs = f_k[:, None] - u_kn
    return f_k, np.exp(logs - logsumexp(logs, axis=0, b=np.array(n_k)[:, None])).sum(axis=1)


# ---- MBAR


@pytest.mark.parametrize("stiffness", [10.0, 100.0, 1000.0, 1e4])
def test_a_broad_state_beside_a_stiff_one_is_solved_as_pymbar_does(stiffness):
    for seed in range(8):
        rng = np.random.default_rng(seed)
        u_kn, n_k = reduced([window(rng, 0.0, 0.0, 500), window(rng, stiffness, 1.0, 500)])
        states = np.repeat([0, 1], n_k)
        weights_nk, log_weights = solve_mbar(lambda rows, u=u_kn: u[:, rows], states)
        assert np.abs(weights_nk.sum(axis=0) - 1.0).max() < 1e-9
        f_k, sums = column_sums(log_weights, u_kn, n_k)
        assert np.abs(sums - 1.0).max() < 1e-9
        theirs = MBAR(u_kn, n_k, solver_protocol="robust").f_k
        assert f_k[1] - f_k[0] == pytest.approx(theirs[1] - theirs[0], abs=1e-6)


def test_weights_too_small_to_keep_at_the_start_are_looked_at_again(monkeypatch):
    rng = np.random.default_rng(3)
    u_kn, n_k = reduced([window(rng, 0.0, 0.0, 5000), window(rng, 2000.0, 1.5, 5000)])
    states = np.repeat([0, 1], n_k)
    for name in ("_start", "_pymbar_free_energies"):  # both far off
        monkeypatch.setattr(mbar_module, name, lambda *_: np.array([0.0, 60.0]))
    _, log_weights = solve_mbar(lambda rows: u_kn[:, rows], states)
    f_k, sums = column_sums(log_weights, u_kn, n_k)
    assert np.abs(sums - 1.0).max() < 1e-9
    theirs = MBAR(u_kn, n_k, solver_protocol="robust").f_k
    assert f_k[1] - f_k[0] == pytest.approx(theirs[1] - theirs[0], abs=1e-6)


def test_pymbar_is_asked_before_anything_gives_up(monkeypatch):
    rng = np.random.default_rng(4)
    u_kn, n_k = reduced([window(rng, 10.0, c, 300) for c in (-1.0, 0.0, 1.0)])
    states = np.repeat([0, 1, 2], n_k)
    real, calls = mbar_module._pymbar_free_energies, []

    def asked(*args):
        calls.append(len(args[0]))
        return real(*args)

    def fails(objective, *_):
        return Change(np.zeros(len(objective.n_k)), 1.0)

    monkeypatch.setattr(mbar_module, "minimise", fails)
    monkeypatch.setattr(mbar_module, "_pymbar_free_energies", asked)
    _, log_weights = solve_mbar(lambda rows: u_kn[:, rows], states)
    assert calls == [3]
    assert np.abs(column_sums(log_weights, u_kn, n_k)[1] - 1.0).max() < 1e-9
    monkeypatch.setattr(mbar_module, "_pymbar_free_energies", lambda u, _: np.zeros(len(u)))
    with pytest.raises(RuntimeError, match="neither here nor with pymbar: the weights of state"):
        solve_mbar(lambda rows: u_kn[:, rows], states)


# ---- gaps


def test_a_gap_has_an_infinite_error_and_each_side_keeps_its_numbers(caplog):
    rng = np.random.default_rng(5)
    near = [window(rng, 40.0, c, 400) for c in (-0.5, 0.0, 0.5)]
    far = [window(rng, 2000.0, c, 400) for c in (4.0, 4.04)]
    with caplog.at_level(logging.WARNING, "openmm_cgan"):
        samples = reweight_windows([*near, *far])
    assert "nothing joins 2 parts of the windows" in caplog.text
    assert "window at 4, window at 4.04" in caplog.text
    assert samples.parts.tolist() == [0, 0, 0, 1, 1]
    difference = basin_difference(samples, lambda cvs: cvs[:, 0] > 2.0)
    assert np.isposinf(difference.error)
    assert np.isposinf(samples.average(samples.cvs[:, 0]).error)
    edges = np.array([-0.6, -0.3, 0.0, 0.3, 0.6, 3.0, 3.98, 4.02, 4.06])
    profile = free_energy_profile(samples, "x", edges)
    zero = profile.part[np.nanargmin(profile.free_energy)]
    assert np.isposinf(profile.error[profile.part != zero]).all()
    assert np.isfinite(profile.error[profile.part == zero]).all()
    # numbers inside a part: those of the Gaussian, with the errors of that part alone
    mass = -np.diff(norm.sf(edges, scale=np.sqrt(KT / STIFFNESS)))
    log_density = np.log(mass / np.diff(edges))
    for part, (windows, bins) in enumerate([(near, slice(0, 5)), (far, slice(6, 8))]):
        assert (profile.part[bins] == part).all()
        error = free_energy_profile(reweight_windows(windows), "x", edges).error[bins]
        assert (error < 1.0).all()
        off = (profile.free_energy + KT * log_density)[bins]
        assert (np.abs(off - np.average(off, weights=error**-2)) < 4 * error).all()


def test_windows_without_any_overlap():
    rng = np.random.default_rng(6)
    samples = reweight_windows([window(rng, 2000.0, c, 300) for c in (-3.0, 0.0, 3.0)])
    assert samples.parts.tolist() == [0, 1, 2]
    profile = free_energy_profile(samples, "x", [-3.2, -2.8, -0.2, 0.2, 2.8, 3.2])
    assert np.isfinite(profile.error).sum() == 1
    assert np.isposinf(profile.error[[0, 2, 4]]).sum() == 2


def test_two_parts_join_by_all_that_their_states_share():
    # each pair of states shares 0.75 frames: too few alone, enough in all
    shares = np.zeros((16, 4))
    for row, pair in enumerate([(0, 2), (0, 3), (1, 2), (1, 3)] * 3):
        shares[row, list(pair)] = 0.5
    shares = np.concatenate([shares[:12], np.tile([0.5, 0.5, 0, 0], (16, 1)),
                             np.tile([0, 0, 0.5, 0.5], (16, 1))])  # fmt: skip
    states = np.arange(44) % 4
    weights = mbar_module.sparse.csr_array(shares / np.bincount(states))
    assert connected_parts(weights, states, np.ones(44)).tolist() == [0, 0, 0, 0]
    assert connected_parts(weights, states, np.full(44, 3.5)).tolist() == [0, 0, 1, 1]


# ---- single frames


def test_a_window_of_one_frame_does_no_harm_to_a_run_that_covers_it():
    rng = np.random.default_rng(14)
    samples = reweight_windows([window(rng, 0.0, 0.0, 500), window(rng, 1000.0, 1.0, 1)])
    assert samples.parts.tolist() == [0, 0]
    found = basin_difference(samples, lambda cvs: cvs[:, 0] > 0.5)
    inside = norm.sf(0.5, scale=np.sqrt(KT / STIFFNESS))
    assert abs(found.value + KT * np.log(inside / (1.0 - inside))) < 3 * found.error


def test_one_frame_in_each_window_has_no_error(caplog):
    rng = np.random.default_rng(7)
    windows = [window(rng, 4.0, c, 1) for c in (-1.0, 0.0, 1.0)]
    with caplog.at_level(logging.WARNING, "openmm_cgan"):
        samples = reweight_windows(windows)
    assert "3 of 3 windows (window at -1, window at 0, window at 1) hold one frame" in caplog.text
    found = basin_difference(samples, lambda cvs: cvs[:, 0] > np.median(samples.cvs))
    assert not np.isfinite(found.error)
    one = reweight([BiasedFrames(np.zeros((1, 1)), unbiased, TEMPERATURE, (X,), "one")])
    assert np.isnan(one.average(one.cvs[:, 0]).error)


def test_one_frame_with_all_the_weight_is_named(caplog):
    rng = np.random.default_rng(8)
    run = BiasedFrames(rng.normal(size=(500, 1)), unbiased, TEMPERATURE, (X,), "run 7")
    logs = np.zeros(500)
    logs[123] = 2000.0
    with caplog.at_level(logging.WARNING, "openmm_cgan"):
        samples = reweight([run], [logs])
    assert "frame 123 (from 0) of run 7 carries 100 % of all weight" in caplog.text
    assert "dominated by a few" in caplog.text
    assert np.isnan(samples.average(samples.cvs[:, 0])).all()
    assert samples.k_hat == np.inf
    caplog.clear()
    windows = [window(rng, 10.0, c, 300) for c in (0.0, 0.5)]
    lure = windows[0].cvs[17, 0]  # where both biases have a hole 2,000 kT deep
    deep = [
        BiasedFrames(
            w.cvs, lambda cvs, w=w: w.bias(cvs) + 2000 * KT * (cvs[:, 0] == lure), TEMPERATURE,
            (X,), w.name,
        )
        for w in windows
    ]  # fmt: skip
    with caplog.at_level(logging.WARNING, "openmm_cgan"):
        samples = reweight_windows(deep)
    assert "frame 17 (from 0) of window at 0 carries 100 %" in caplog.text
    profile = free_energy_profile(samples, "x", bins=6)
    assert np.isfinite(profile.free_energy).sum() >= 5  # 2,000 kT up, but there
    assert np.nanmax(profile.free_energy) > 1900 * KT


def test_a_bin_of_one_sample_has_no_error():
    cvs = np.concatenate([np.full(300, 0.1), [0.6], np.full(200, 1.1)])[:, None]
    cvs = np.random.default_rng(13).permutation(cvs)
    samples = reweight([BiasedFrames(cvs, unbiased, TEMPERATURE, (X,))], n_bootstrap=400)
    profile = free_energy_profile(samples, "x", [0.0, 0.5, 1.0, 1.5])
    assert np.isnan(profile.error[1])
    assert np.isfinite(profile.free_energy[1])
    # a run of one frame, which all replicates draw
    parts = cvs[cvs != 0.6][:, None], cvs[cvs == 0.6][:, None]
    runs = [BiasedFrames(part, unbiased, TEMPERATURE, (X,)) for part in parts]
    again = free_energy_profile(reweight(runs), "x", [0.0, 0.5, 1.0, 1.5])
    assert np.isnan(again.error).tolist() == [False, True, False]
    assert np.isfinite(profile.error[[0, 2]]).all()


# ---- importance weights


@pytest.mark.parametrize("k", [0.2, 0.5, 0.9])
def test_pareto_k_of_pareto_weights(k):
    # the fit's asymptotic standard error is (1 + k) / sqrt(tail)
    n = 100_000
    weights = np.random.default_rng(9).pareto(1.0 / k, n) + 1.0
    error = (1.0 + k) / np.sqrt(3.0 * np.sqrt(n))
    assert pareto_k(np.log(weights) + 77.0) == pytest.approx(k, abs=3 * error)


@pytest.mark.parametrize("scale", [0.55, 0.8])
def test_pareto_k_of_a_gaussian_drawn_too_narrow(scale):
    # w = exp((1 / scale^2 - 1) x^2 / 2) under N(0, scale^2): P(w > t) falls as t^-1/k with
    # k = 1 - scale^2, and a root of a logarithm that fades slowly
    n = 200_000
    x = np.random.default_rng(10).normal(scale=scale, size=n)
    k = 1.0 - scale**2
    error = (1.0 + k) / np.sqrt(3.0 * np.sqrt(n))
    found = pareto_k(norm.logpdf(x) - norm.logpdf(x, scale=scale))
    assert k - 3 * error - 0.5 / np.log(n) ** 0.5 < found < k + 3 * error


def test_smooth_weights_keep_the_mean_and_lose_the_noise():
    scale, errors = 0.75, []
    for seed in range(200):
        x = np.random.default_rng(seed).normal(scale=scale, size=1000)
        logs = norm.logpdf(x) - norm.logpdf(x, scale=scale)
        raw = np.exp(logs - logsumexp(logs)) @ x**2 - 1.0
        smooth = np.exp(pareto_smoothed(logs)[0]) @ x**2 - 1.0
        errors.append((raw, smooth))
    raw, smooth = np.sqrt(np.mean(np.square(errors), axis=0))
    assert smooth < raw


def gaussian_frames(scale, n, seed=11):
    x = np.random.default_rng(seed).normal(scale=scale, size=n)
    logs = norm.logpdf(x) - norm.logpdf(x, scale=scale)
    return GeneratedFrames(x[:, None], logs, TEMPERATURE, (X,))


def test_weights_with_a_heavy_tail_tell_no_number(caplog):
    with caplog.at_level(logging.WARNING, "openmm_cgan"):
        samples = reweight_generated(gaussian_frames(0.3, 3000))
    assert "Pareto k" in caplog.text
    assert "Train longer" in caplog.text
    assert samples.k_hat > 0.7
    assert samples.unknown
    assert np.isnan(basin_difference(samples, lambda cvs: cvs[:, 0] > 0.0)).all()
    profile = free_energy_profile(samples, "x", bins=10)
    assert np.isnan(profile.free_energy).all()
    assert np.isnan(profile.error).all()


def test_few_effective_samples_tell_no_number():
    samples = reweight_generated(gaussian_frames(3.0, 150))
    assert samples.effective_samples < 100
    assert np.isnan(basin_difference(samples, lambda cvs: cvs[:, 0] > 0.0).value)


@pytest.mark.parametrize("smooth", [False, True])
def test_good_weights_tell_theirs(smooth):
    samples = reweight_generated(gaussian_frames(1.3, 4000), smooth=smooth)
    assert samples.k_hat < 0.7
    assert not samples.unknown
    found = samples.average(samples.cvs[:, 0] ** 2)
    assert abs(found.value - 1.0) < 3 * found.error


def test_points_whose_weights_are_a_few_are_left_unknown(caplog):
    rng = np.random.default_rng(12)
    logs = np.stack([rng.normal(scale=0.5, size=2000), rng.normal(scale=6.0, size=2000)])
    with caplog.at_level(logging.WARNING, "openmm_cgan"):
        found = free_energy_at_points(logs, KT)
    assert np.isfinite(found.free_energy[0])
    assert np.isnan(found.free_energy[1])
    assert found.k_hat[0] < 0.7 < found.k_hat[1]
    assert "1 of 2 points (point 1)" in caplog.text


@pytest.mark.parametrize(
    ("k_hat", "effective", "independent", "words"),
    [
        (0.5, 100.0, 25.0, ""),
        (0.5, 100.0, 24.9, "forgotten 25 times only"),
        (0.5, 99.9, 1000.0, "dominated by a few"),
        (0.71, 1000.0, 1000.0, "dominated by a few"),
        (-np.inf, 1.0, 1.0, ""),  # weights that do not differ
    ],
)
def test_why_weights_tell_no_number(
    k_hat: float, effective: float, independent: float, words: str
) -> None:
    found = why_unknown(k_hat, effective, "10 frames", independent)
    assert words in found
    assert bool(found) == bool(words)
