"""Free energies of generated configurations against a double well in which all is known."""

import logging
from dataclasses import dataclass

import numpy as np
import pytest
from scipy.stats import chi2, norm

from openmm_cgan.collective_variable import CollectiveVariable
from openmm_cgan.free_energy import (
    BiasedFrames,
    GeneratedFrames,
    basin_difference,
    free_energy_at_points,
    free_energy_profile,
    generate_frames,
    log_weights_of_frames,
    reweight_generated,
    reweight_windows,
    reweight_with_generated,
)
from openmm_cgan.free_energy.hills import GAS_CONSTANT
from openmm_cgan.free_energy.samples import unbiased
from openmm_cgan.plumed.bias import PlumedBias
from openmm_cgan.potentials import Potential
from openmm_cgan.proposals import Screen, ScreenSettings
from openmm_cgan.reporters.moves import ExactMove
from openmm_cgan.testsystems import Chain, DoubleWell2D
from tests.cases.chain_sampler import INPUTS, ChainSampler

TEMPERATURE = 300.0
KT = GAS_CONSTANT * TEMPERATURE
X = CollectiveVariable("x", "nm")
WELL = DoubleWell2D(barrier=12.0, tilt=1.5)
EXACT = WELL.well_difference(TEMPERATURE)
CENTRES = (-0.2, 0.3)
WIDTHS = (0.15, 0.2)
SHARES = np.array([0.7, 0.3])
STIFFNESS = 200.0  # of windows, kJ/mol/nm^2


def right(cvs):
    return cvs[:, 0] > 0


@dataclass(frozen=True)
class Generator:
    """Two Gaussians for the condition; y and z normal given x, wrong in width and centre.

    With noise the condition is only near x, which is then normal about it.
    """

    noise: float = 0.0
    g_known: bool = True  # left out of the weights: wrong
    jacobian: float = 1.0

    def log_density(self, c):
        logs = [norm.logpdf(c, m, w) for m, w in zip(CENTRES, WIDTHS, strict=True)]
        return np.logaddexp(*(np.log(s) + log for s, log in zip(SHARES, logs, strict=True)))

    def make(self, n, rng):
        which = rng.choice(2, size=n, p=SHARES)
        c = rng.normal(np.array(CENTRES)[which], np.array(WIDTHS)[which])
        x = rng.normal(c, 1.5 * self.noise) if self.noise else c
        mean, deviation = WELL.conditional(x, TEMPERATURE)
        y = rng.normal(mean + 0.3 * deviation, 1.2 * deviation)
        z = rng.normal(0.0, 1.1 * deviation, size=n)
        return np.stack([x, y, z], axis=1), c

    def log_weights(self, r, c):
        x, y, z = r.T
        mean, deviation = WELL.conditional(x, TEMPERATURE)
        log_q = norm.logpdf(y, mean + 0.3 * deviation, 1.2 * deviation)
        log_q = log_q + norm.logpdf(z, 0.0, 1.1 * deviation)
        logs = -WELL.potential(x, y, z) / KT - log_q
        if self.noise:
            logs = logs + norm.logpdf(c, x, self.noise) - norm.logpdf(x, c, 1.5 * self.noise)
        return logs - (self.log_density(c) if self.g_known else 0.0)

    def frames(self, n, rng):
        r, c = self.make(n, rng)
        return GeneratedFrames(r[:, :1], self.log_weights(r, c), TEMPERATURE, (X,))

    def as_candidates(self, r, rng):
        """Log weights of configurations made by others."""
        c = rng.normal(r[:, 0], self.noise) if self.noise else r[:, 0]
        return self.log_weights(r, c)


def window_samples(centre, n, rng):
    """Exact samples under a harmonic bias on x, by rejection."""
    found = np.zeros((0, 3))
    while len(found) < n:
        r = WELL.sample(4 * n, TEMPERATURE, rng)
        bias = 0.5 * STIFFNESS * (r[:, 0] - centre) ** 2
        found = np.concatenate([found, r[rng.random(len(r)) < np.exp(-bias / KT)]])
    return found[:n]


def harmonic(centre):
    return lambda cvs: 0.5 * STIFFNESS * (cvs[:, 0] - centre) ** 2


def windows_and_weights(centres, n, rng, generator):
    samples = [window_samples(c, n, rng) for c in centres]
    windows = [
        BiasedFrames(r[:, :1], harmonic(c), TEMPERATURE, (X,), f"window at {c}")
        for r, c in zip(samples, centres, strict=True)
    ]
    return windows, [generator.as_candidates(r, rng) for r in samples]


@pytest.mark.parametrize("noise", [0.0, 0.1])
def test_the_wells_differ_as_they_should(noise):
    samples = reweight_generated(Generator(noise).frames(20_000, np.random.default_rng(1)))
    found = basin_difference(samples, right)
    assert found.error < 0.1
    assert abs(found.value - EXACT) < 3 * found.error


def test_without_the_density_of_the_conditions_they_do_not():
    wrong = Generator(g_known=False).frames(20_000, np.random.default_rng(1))
    found = basin_difference(reweight_generated(wrong), right)
    assert abs(found.value - EXACT) > 10 * found.error


def test_bootstrap_errors_are_those_of_repeated_runs():
    rng = np.random.default_rng(2)
    found = [
        basin_difference(reweight_generated(Generator().frames(1000, rng), seed=k), right)
        for k in range(150)
    ]
    deviations = np.array([(f.value - EXACT) / f.error for f in found])
    # of 150 standard normal numbers: the mean within 3.3 of its errors, the variance within 99.9 %
    assert abs(deviations.mean()) < 3.3 / np.sqrt(150)
    assert chi2.ppf(0.0005, 149) < 149 * deviations.var(ddof=1) < chi2.ppf(0.9995, 149)


def test_a_profile_is_that_of_the_well():
    edges = np.linspace(-0.4, 0.4, 21)
    samples = reweight_generated(Generator().frames(40_000, np.random.default_rng(3)))
    profile = free_energy_profile(samples, "x", edges)
    fine = np.linspace(-0.4, 0.4, 20 * 50 + 1)
    density = np.exp(-WELL.free_energy(fine) / KT)
    exact = -KT * np.log([np.trapezoid(density[50 * k : 50 * k + 51]) for k in range(20)])
    weight = 1 / profile.error**2
    difference = profile.free_energy - exact
    difference -= (weight * difference).sum() / weight.sum()
    # bins are nearly independent; the errors know nothing of the common zero
    assert ((difference / profile.error) ** 2).sum() < chi2.ppf(0.999, 19)
    assert (np.abs(difference) < 4 * profile.error).all()
    # for independent samples the error of a bin is that of its effective number, nearly
    assert profile.effective_samples.sum() > samples.effective_samples
    expected = KT / np.sqrt(profile.effective_samples)
    assert np.allclose(profile.error, expected, rtol=0.45)


def test_effective_samples_of_a_bin_are_kishs():
    made = GeneratedFrames(
        np.array([[0.1], [0.2], [0.7], [0.8]]), np.log([1.0, 3.0, 2.0, 2.0]), TEMPERATURE, (X,)
    )
    profile = free_energy_profile(reweight_generated(made), "x", [0.0, 0.5, 1.0, 1.5])
    assert profile.effective_samples == pytest.approx([16 / 10, 2.0, 0.0])
    assert np.isnan(profile.free_energy[2])


def test_failed_configurations_count_for_nothing_but_the_error():
    made = Generator().frames(20_000, np.random.default_rng(4))
    cvs, logs = made.cvs.copy(), made.log_weights.copy()
    failed = np.random.default_rng(5).random(len(logs)) < 0.3
    cvs[failed], logs[failed] = np.nan, -np.inf
    samples = reweight_generated(GeneratedFrames(cvs, logs, TEMPERATURE, (X,)))
    assert np.array_equal(samples.frame, np.flatnonzero(~failed))
    kept = GeneratedFrames(cvs[~failed], logs[~failed], TEMPERATURE, (X,))
    assert np.array_equal(samples.log_weights, reweight_generated(kept).log_weights)
    found = basin_difference(samples, right)
    assert abs(found.value - EXACT) < 3 * found.error


@pytest.mark.parametrize("noise", [0.0, 0.1])
def test_together_with_windows_the_error_is_smaller_than_of_either(noise):
    rng = np.random.default_rng(6)
    generator, errors, deviations = Generator(noise), [], []
    for k in range(12):
        windows, logs = windows_and_weights((-0.3, -0.1, 0.1, 0.3), 400, rng, generator)
        made = generator.frames(1000, rng)
        joined = reweight_with_generated(windows, logs, made, seed=k)
        routes = [joined, reweight_windows(windows, seed=k), reweight_generated(made, seed=k)]
        found = [basin_difference(samples, right) for samples in routes]
        errors.append([f.error for f in found])
        deviations.append([f.value - EXACT for f in found])
    together, *alone = np.mean(errors, axis=0)
    assert together < 0.9 * min(alone)
    spread = np.std(deviations, axis=0)
    assert spread[0] < min(spread[1:])
    scaled = np.array(deviations)[:, 0] / np.array(errors)[:, 0]
    assert chi2.ppf(0.0005, 12) < (scaled**2).sum() < chi2.ppf(0.9995, 12)


def test_together_a_wrong_weight_shows():
    rng = np.random.default_rng(7)
    generator = Generator(g_known=False)
    windows, logs = windows_and_weights((-0.3, 0.3), 400, rng, generator)
    joined = reweight_with_generated(windows, logs, generator.frames(4000, rng))
    found = basin_difference(joined, right)
    assert abs(found.value - EXACT) > 6 * found.error


def test_a_generator_joins_windows_that_do_not_overlap():
    # stiff: nothing of either window is near the other; the generator is right between them
    rng, generator = np.random.default_rng(8), Generator()
    wells = WELL.sample(40_000, TEMPERATURE, rng)
    parts = [wells[wells[:, 0] < -0.1][:800], wells[wells[:, 0] > 0.1][:800]]

    def wall(sign):
        return lambda cvs: 5000.0 * np.maximum(0.1 - sign * cvs[:, 0], 0.0)

    windows = [
        BiasedFrames(r[:, :1], wall(s), TEMPERATURE, (X,), f"side {s}")
        for r, s in zip(parts, (-1, 1), strict=True)
    ]
    logs = [generator.as_candidates(r, rng) for r in parts]
    joined = reweight_with_generated(windows, logs, generator.frames(3000, rng))
    found = basin_difference(joined, right)
    assert abs(found.value - EXACT) < 3 * found.error


def test_frames_that_the_generator_cannot_make_come_from_the_windows_alone():
    rng, generator = np.random.default_rng(9), Generator()
    windows, logs = windows_and_weights((-0.3, -0.1, 0.1, 0.3), 600, rng, generator)
    made = generator.frames(3000, rng)
    inside = made.cvs[:, 0] < 0.1  # now it is a generator of x < 0.1 only
    made = GeneratedFrames(made.cvs[inside], made.log_weights[inside], TEMPERATURE, (X,))
    logs = [np.where(w.cvs[:, 0] < 0.1, log, -np.inf) for w, log in zip(windows, logs, strict=True)]
    found = basin_difference(reweight_with_generated(windows, logs, made), right)
    assert abs(found.value - EXACT) < 3 * found.error


def test_plain_md_and_a_generator_join():
    rng, generator = np.random.default_rng(10), Generator()
    r = WELL.sample(500, TEMPERATURE, rng)
    run = BiasedFrames(r[:, :1], unbiased, TEMPERATURE, (X,), "plain MD")
    joined = reweight_with_generated(
        [run], [generator.as_candidates(r, rng)], generator.frames(500, rng)
    )
    found = basin_difference(joined, right)
    assert abs(found.value - EXACT) < 3 * found.error
    # a state is one that makes samples: what MBAR says of the unbiased ensemble adds up to 1
    assert np.exp(joined.log_weights).sum() == pytest.approx(1.0)
    assert joined.overlap.sum(axis=1) == pytest.approx([1.0, 1.0], abs=1e-5)


def test_free_energy_at_points_needs_no_bins():
    rng, generator = np.random.default_rng(11), Generator()
    points = np.linspace(-0.35, 0.35, 8)
    mean, deviation = WELL.conditional(points[:, None], TEMPERATURE)
    y = rng.normal(mean + 0.3 * deviation, 1.2 * deviation, size=(8, 2000))
    z = rng.normal(0.0, 1.1 * deviation, size=y.shape)
    r = np.stack(np.broadcast_arrays(points[:, None], y, z), axis=-1)
    logs = generator.log_weights(r.reshape(-1, 3), r.reshape(-1, 3)[:, 0]).reshape(8, 2000)
    logs += generator.log_density(points)[:, None]  # at given points there is none
    logs[0, :100] = -np.inf
    found = free_energy_at_points(logs, KT)
    exact = WELL.free_energy(points)
    exact[0] -= KT * np.log(0.95)  # a twentieth of the first point was taken away
    difference = found.free_energy - exact
    difference -= np.average(difference, weights=found.error**-2)
    assert (((difference / found.error) ** 2).sum()) < chi2.ppf(0.999, 7)
    assert found.error == pytest.approx(
        KT * np.sqrt(1 / found.effective_samples - 1 / 2000), rel=0.3
    )


def test_a_point_without_configurations_is_not_a_number():
    logs = np.array([[0.0, 0.0, 0.0], [-np.inf, -np.inf, -np.inf]])
    found = free_energy_at_points(logs, KT)
    assert found.free_energy[0] == 0.0
    assert np.isnan(found.free_energy[1])
    assert found.effective_samples[1] == 0.0


def test_a_warning_where_few_have_all_the_weight(caplog):
    made = Generator().frames(2000, np.random.default_rng(12))
    with caplog.at_level(logging.WARNING, "openmm_cgan"):
        reweight_generated(made)
        assert not caplog.records
        made.log_weights[7] += 15.0
        reweight_generated(made)
    assert "dominated by a few" in caplog.text


def test_nonsense_is_refused():
    cvs, logs = np.zeros((3, 1)), np.zeros(3)
    for bad, message in (
        (np.zeros(2), "one for each"),
        (np.array([0.0, np.nan, 0.0]), "NaN"),
        (np.array([0.0, np.inf, 0.0]), "NaN or"),
        (np.full(3, -np.inf), "none of the 3"),
    ):
        with pytest.raises(ValueError, match=message):
            reweight_generated(GeneratedFrames(cvs, bad, TEMPERATURE, (X,)))
    made = GeneratedFrames(cvs, logs, TEMPERATURE, (X,))
    run = BiasedFrames(cvs, unbiased, TEMPERATURE, (X,), "run")
    with pytest.raises(ValueError, match="one number for each frame"):
        reweight_with_generated([run], [np.zeros(2)], made)
    with pytest.raises(ValueError, match="NaN"):
        reweight_with_generated([run], [np.full(3, np.nan)], made)
    with pytest.raises(ValueError, match=r"at 300.0 K, the first at 310"):
        reweight_with_generated(
            [BiasedFrames(cvs, unbiased, 310.0, (X,), "hot")], [np.zeros(3)], made
        )
    with pytest.raises(ValueError, match=r"\(m, n\)"):
        free_energy_at_points(np.zeros(3), KT)


# ---- molecules: a chain whose angles and torsion are known, weighed by what weighs exact moves

CHAIN = Chain(barrier=3.0)
HELD = Chain(masses=(30.0, 1.0, 30.0, 30.0), bond_stiffness=None, angle=2.2, angle_stiffness=15.0)
RESTRAINT = "RESTRAINT ARG=theta AT=1.6 KAPPA=40\n"


def weigher_of(chain, cv, folder, bias=""):
    text = INPUTS[cv] + (bias or f"PRINT ARG={cv} FILE=C\n")
    plumed = PlumedBias(text, chain.topology(), temperature=TEMPERATURE, directory=folder)
    loose = ScreenSettings(clash_fraction=0.0, bond_tolerance=np.inf)
    screen = Screen(chain.topology(), chain.sample(1, TEMPERATURE, 0)[0], None, loose)
    sampler = ChainSampler(chain, plumed.variables)
    return ExactMove(sampler, plumed, Potential(chain.system(), n_contexts=1), screen, KT)


def mean_angle(chain):
    """Mean of an angle by quadrature; with constraints that of the first of two, in common."""
    grid = np.linspace(0.0, np.pi, 601)
    density = chain.angle_density(grid, TEMPERATURE)
    joint = density[:, None] * density[None]
    if chain.bond_stiffness is None:
        both = np.stack(np.meshgrid(grid, grid, indexing="ij"), axis=-1).reshape(-1, 2)
        joint = joint * chain.fixman(both).reshape(joint.shape)
    return float((joint.sum(axis=1) @ grid) / joint.sum())


def test_who_waits_for_configurations_sees_how_many_are_made(tmp_path, monkeypatch):
    made = []
    monkeypatch.setattr(
        "openmm_cgan.free_energy.generated.tqdm", lambda chunks, **_: made.append(chunks) or chunks
    )
    generate_frames(weigher_of(CHAIN, "theta", tmp_path, ""), 2500, seed=1)
    assert made == [range(0, 2500, 1000)]


@pytest.mark.parametrize(
    ("chain", "bias"), [(CHAIN, ""), (CHAIN, RESTRAINT), (HELD, "")], ids=["free", "biased", "held"]
)
def test_generated_chains_have_the_angles_they_should(chain, bias, tmp_path):
    weigher = weigher_of(chain, "theta", tmp_path, bias)
    samples = reweight_generated(generate_frames(weigher, 6000, seed=1))
    found = samples.average(samples.cvs[:, 0])
    assert abs(found.value - mean_angle(chain)) < 3 * found.error
    # MD frames (here exact ones) under the same generator, and both together
    r = chain.sample(3000, TEMPERATURE, 2)
    thetas = weigher.bias.cv_values(r)
    run = BiasedFrames(thetas, unbiased, TEMPERATURE, samples.variables, "MD")
    logs = log_weights_of_frames(weigher, r, thetas)
    potential = weigher.potential
    expected = -potential.energies(r) / KT + potential.half_log_det(r)
    expected -= weigher.sampler.log_prob(r, thetas) + weigher.conditions.log_density(thetas)
    inside = np.isfinite(logs)
    assert inside.mean() > 0.9
    assert logs[inside] == pytest.approx(expected[inside], abs=1e-9)
    joined = reweight_with_generated([run], [logs], generate_frames(weigher, 6000, seed=1))
    together = joined.average(joined.cvs[:, 0])
    assert abs(together.value - mean_angle(chain)) < 3 * together.error
    assert together.error < found.error


def test_a_cv_that_is_no_coordinate_of_the_generator(tmp_path):
    weigher = weigher_of(CHAIN, "d", tmp_path)
    exact = CHAIN.sample(20_000, TEMPERATURE, 3)
    distances = np.linalg.norm(exact[:, 3] - exact[:, 0], axis=1)
    samples = reweight_generated(generate_frames(weigher, 10_000, seed=4))
    found = samples.average(samples.cvs[:, 0])
    error = np.hypot(found.error, distances.std() / np.sqrt(len(distances)))
    assert abs(found.value - distances.mean()) < 3 * error
    run = BiasedFrames(distances[:2000, None], unbiased, TEMPERATURE, samples.variables, "MD")
    logs = log_weights_of_frames(weigher, exact[:2000], distances[:2000, None], seed=5)
    joined = reweight_with_generated([run], [logs], generate_frames(weigher, 4000, seed=6))
    together = joined.average(joined.cvs[:, 0])
    error = np.hypot(together.error, distances.std() / np.sqrt(len(distances)))
    assert abs(together.value - distances.mean()) < 3 * error


@pytest.mark.parametrize("others", [0, 500])
def test_one_configuration_with_a_weight_tells_nothing(others: int) -> None:
    """However many others were screened out; its replicates would all be alike."""
    logs = np.full(1 + others, -np.inf)
    logs[0] = 0.0
    made = GeneratedFrames(np.zeros((1 + others, 1)), logs, 300.0, (X,))
    assert "worth 1" in reweight_generated(made).unknown


@pytest.mark.parametrize(("tail", "told"), [(0.3, False), (0.6, True)])
def test_weights_without_a_variance_are_said(tail, told, caplog) -> None:
    """u^-k, of which there are 1/k moments; errors are by variance."""
    logs = -tail * np.log(np.random.default_rng(2).uniform(size=20_000))
    made = GeneratedFrames(np.zeros((20_000, 1)), logs, 300.0, (X,))
    samples = reweight_generated(made, n_bootstrap=2)
    assert abs(samples.k_hat - tail) < 0.1
    assert not samples.unknown
    assert ("errors may be told too small" in caplog.text) == told
