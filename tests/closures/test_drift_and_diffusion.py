"""Closures of systems with exact answers, from umbrella windows joined by MBAR."""

import logging
from dataclasses import replace

import numpy as np
import pytest

from openmm_cgan.closures import LocalDynamics, closure, identity, local_dynamics_of_sde
from openmm_cgan.free_energy import GeneratedFrames, reweight_generated
from openmm_cgan.testsystems.multiscale import (
    AngleRadius,
    CoupledDoubleWell,
    HalfMoon,
    LinearPair,
    RotatedMuellerBrown,
)
from tests.cases.exact_windows import exact_samples, slow_variable

SYSTEMS = {
    "linear": LinearPair(),
    "half-moon": HalfMoon(),
    "angle and radius": AngleRadius(),
    # Its waves are longer than the frames are apart: shorter ones need more frames.
    "mueller-brown": RotatedMuellerBrown(wave_number=1.0, n_dims=3),
    "coupled well": CoupledDoubleWell(),
}
N = 300


def closed(system, seed, n_windows=10):
    return exact_samples(system, n_windows, N, 20, seed)


@pytest.mark.parametrize("system", SYSTEMS.values(), ids=SYSTEMS)
def test_drift_diffusion_and_mean_force_are_exact_within_their_errors(system):
    samples, local, grid = closed(system, 1)
    z = grid.points
    step = 1e-5 * np.ptp(system.slow_range)
    slope = (system.free_energy(z + step) - system.free_energy(z - step)) / (2 * step)
    found = closure(samples, local, z)
    truths = system.effective_drift(z), system.effective_diffusion(z), slope[:, None]
    for average, truth in zip(
        (found.drift, found.diffusion, found.mean_force), truths, strict=True
    ):
        known = np.isfinite(average.value)
        assert known.mean() >= 0.8
        off = np.abs(average.value - truth)[known]
        # Exact where the local quantity is a function of the CV alone: rounding then.
        reach = 3 * average.error[known] + 1e-6 * np.abs(truth).max()
        assert (off <= reach).mean() >= 0.9
        assert np.median(off) < 0.05 * max(np.ptp(truth), np.abs(truth).max())


@pytest.mark.parametrize("system", SYSTEMS.values(), ids=SYSTEMS)
def test_the_identity_holds(system):
    samples, local, grid = closed(system, 2)
    found = identity(samples, local, grid.points)
    assert len(found.z_scores) >= 10
    assert found.holds(3.0, 0.9), found
    assert "within 2 standard errors" in str(found)


@pytest.mark.parametrize("what", ["weights", "drift", "diffusion"])
def test_the_identity_fails_where_something_is_wrong(what):
    system = CoupledDoubleWell()
    samples, local, grid = closed(system, 3)
    if what == "weights":  # as biased: a density that is not that of the forces
        uniform = np.full_like(samples.log_weights, -np.log(len(samples.log_weights)))
        changes = samples.replicates - samples.log_weights
        samples = replace(samples, log_weights=uniform, replicates=uniform + changes)
    else:
        local = replace(local, **{what: 1.3 * getattr(local, what)})
    assert not identity(samples, local, grid.points).holds(2.0, 0.9)


def test_other_samples_are_refused():
    samples, local, grid = closed(LinearPair(), 0, 4)
    shifted = replace(local, cvs=np.roll(local.cvs, 1, axis=0))
    with pytest.raises(ValueError, match="same samples in the same order"):
        closure(samples, shifted, grid.points)
    parts = {n: a[1:] for n, a in vars(local).items() if isinstance(a, np.ndarray)}
    with pytest.raises(ValueError, match="expected those of the same samples"):
        identity(samples, LocalDynamics(**parts), grid.points)


def test_another_temperature_is_refused():
    """Forces at 310 K averaged over samples of 300 K: 3 % off, and nobody would see it."""
    samples, local, grid = closed(LinearPair(), 0, 4)
    warmer = replace(local, kT=local.kT * 310 / 300)
    for made_of in (closure, identity):
        with pytest.raises(ValueError, match=r"is at 124.3 K, .* for 120.3 K"):
            made_of(samples, warmer, grid.points)


def test_the_identity_ends_where_the_data_do():
    """Generated between hard ends: a kernel cut off there would be off by many errors."""
    system = LinearPair()
    at, scores = np.linspace(-0.95, 0.95, 20), []
    for seed in range(8):
        rng = np.random.default_rng(seed)
        z = rng.uniform(-1, 1, (2000, 1))
        x = system.sample_conditional(z, 1, rng)[:, 0]
        made = GeneratedFrames(
            z, -system.free_energy(z) / system.kT, system.temperature, (slow_variable(system),)
        )
        samples = reweight_generated(made, seed=seed)
        local = local_dynamics_of_sde(
            system.slow, system.drift, system.noise, x[samples.frame], system.kT
        )
        found = identity(samples, local, at, 0.2)
        assert np.isnan(found.residual[[0, -1]]).all()
        scores.append(found.z_scores)
    scores = np.concatenate(scores)
    assert len(scores) > 8 * 12
    # 8 seeds of some 8 independent values: a relative error of sqrt(2 / 64)
    assert 1 - 3 * 0.18 < np.mean(scores**2) < 1 + 3 * 0.18


def test_the_identity_at_one_value_and_what_it_refuses():
    samples, local, _ = closed(LinearPair(), 0, 4)
    assert np.isfinite(identity(samples, local, [0.0]).residual).all()
    for change, words in (
        ({"at": np.zeros((2, 3))}, "expected \\(m, 1\\)"),
        ({"bandwidth": -0.1}, "positive widths"),
        ({"samples": replace(samples, unknown="k is 1.2")}, "k is 1.2"),
    ):
        given = {"samples": samples, "local": local, "at": [0.0]} | change
        with pytest.raises(ValueError, match=words):
            identity(**given)


def test_what_has_no_drift_is_measured_by_the_other_term():
    samples, local, _ = closed(LinearPair(), 0, 4)
    without = replace(local, drift=np.zeros_like(local.drift))
    tested = identity(samples, without, np.linspace(-1.0, 1.0, 9))
    assert np.sqrt(np.mean(tested.residual**2)) == pytest.approx(tested.scale, rel=1e-9)


@pytest.fixture(autouse=True)
def quiet():
    logging.getLogger("openmm_cgan").setLevel(logging.ERROR)
    yield
    logging.getLogger("openmm_cgan").setLevel(logging.NOTSET)
