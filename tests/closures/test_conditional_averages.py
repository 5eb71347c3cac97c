"""Averages at values of the CVs, against polynomials and exact densities."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.signal import lfilter

from openmm_cgan.closures import choose_bandwidth, conditional_average
from openmm_cgan.collective_variable import CollectiveVariable
from openmm_cgan.free_energy import BiasedFrames, reweight
from openmm_cgan.free_energy.samples import unbiased

Z = CollectiveVariable("z")
Z2 = CollectiveVariable("z2")
ANGLE = CollectiveVariable("phi", "rad", (-np.pi, np.pi))


def samples_of(z, variables=(Z,), seed=0):
    z = np.asarray(z, float).reshape(len(z), -1)
    return reweight([BiasedFrames(z, unbiased, 300.0, variables, "run")], seed=seed)


def test_a_parabola_is_exact_whatever_the_density():
    z = np.random.default_rng(0).exponential(1.0, 3000)  # steep: a bin's average would be off
    found = conditional_average(samples_of(z), 1 - 2 * z + 3 * z**2, np.linspace(0.3, 2, 6), 0.3)
    at = found.at[:, 0]
    np.testing.assert_allclose(found.value, 1 - 2 * at + 3 * at**2, rtol=1e-9)
    assert (found.error < 1e-9).all()


def test_two_cvs_one_of_them_periodic():
    rng = np.random.default_rng(1)
    z = np.stack([rng.uniform(-np.pi, np.pi, 20000), rng.uniform(0, 1, 20000)], 1)
    values = np.cos(z[:, 0]) * z[:, 1]
    at = np.array([[np.pi - 0.05, 0.5], [-np.pi + 0.05, 0.5], [0.3, 0.8]])
    found = conditional_average(samples_of(z, (ANGLE, Z)), values, at, [0.2, 0.15])
    np.testing.assert_allclose(found.value, np.cos(at[:, 0]) * at[:, 1], atol=2e-4)


def test_how_steep_weights_are_along_the_cvs_does_not_matter():
    """Frames of a flattened run, whose weights follow the free energy: all of them tell."""
    rng = np.random.default_rng(1)
    z = rng.uniform(-1, 1, (3000, 2))
    values = z[:, 0] ** 2 - z[:, 1] + rng.normal(size=3000)
    steep = BiasedFrames(z, lambda z: -6.0 * z[:, 0] + 2.0 * z[:, 1], 300.0, (Z, Z2), "flattened")
    at = [[0.0, 0.0], [0.5, -0.5]]
    found, even = (
        conditional_average(samples, values, at, 0.3)
        for samples in (reweight([steep]), samples_of(z, (Z, Z2)))
    )
    np.testing.assert_allclose(found.value, even.value, rtol=1e-6)
    np.testing.assert_allclose(found.error, even.error, rtol=0.3)
    np.testing.assert_allclose(found.effective_samples, even.effective_samples, rtol=1e-6)


def test_nothing_is_extrapolated(caplog):
    z = np.random.default_rng(2).uniform(0, 1, 2000)
    found = conditional_average(samples_of(z), z, [-0.02, 0.5, 1.05, 3.0], 0.1)
    assert np.isnan(found.value[[0, 2, 3]]).all()
    assert np.isfinite(found.value[1])
    assert found.unknown == 3
    assert "3 of 4 values" in caplog.text


def test_a_frame_or_two_beyond_a_value_do_not_make_it_known():
    z = np.append(np.random.default_rng(2).uniform(0, 1, 2000), [1.12, 1.15])
    found = conditional_average(samples_of(z), z**3, [0.9, 1.1], 0.2)
    assert np.isfinite(found.value[0])
    assert np.isnan(found.value[1])
    across = np.random.default_rng(3).uniform(0, 1, (len(z), 1))
    both = samples_of(np.append(across, z[:, None], axis=1), (CollectiveVariable("y"), Z))
    found = conditional_average(both, z**3, [[0.5, 0.8], [0.5, 1.1]], 0.3)
    assert np.isfinite(found.value).tolist() == [True, False]


def test_errors_do_not_hang_on_the_unit_of_a_cv():
    """What smearing leaves is drawn by a root of a matrix, which must have no choice of signs."""
    turn = np.random.default_rng(5).uniform(-0.5, 0.5, 4000)
    at = (np.arange(36) + 0.5) / 36 - 0.5  # round the circle, where modes come in pairs
    found = []
    for period in (2 * np.pi, 360.0):
        angle = CollectiveVariable("phi", "", (-period / 2, period / 2))
        samples = samples_of(turn * period, (angle,))
        values = np.cos(4 * np.pi * turn)
        found.append(conditional_average(samples, values, at * period, 0.05 * period).replicates)
    np.testing.assert_allclose(*found, rtol=0, atol=1e-6)


def test_few_frames_say_nothing():
    z = np.random.default_rng(2).uniform(0, 1, 60)
    found = conditional_average(samples_of(z), z, [0.5], 0.05)
    assert np.isnan(found.value).all()
    assert 0 < found.effective_samples[0] < 15


def test_errors_are_those_of_repeated_runs():
    """Noisy values of a curved function, the bandwidth chosen each time: z-scores over seeds."""
    at = np.linspace(-0.8, 0.8, 9)
    scores = []
    for seed in range(20):
        rng = np.random.default_rng(seed)
        z = rng.normal(0.0, 0.6, 2000)
        values = np.sin(5 * z) + rng.normal(0.0, 1.0, len(z)) * (1 + z**2)
        found = conditional_average(samples_of(z, seed=seed), values, at)
        scores.append((found.value - np.sin(5 * at)) / found.error)
    variance = np.mean(np.square(scores))
    # 20 seeds of some 5 independent values: a relative error of sqrt(2 / 100)
    assert 1 - 3 * 0.14 < variance < 1 + 3 * 0.14


def test_errors_know_that_the_quantity_forgets_more_slowly_than_the_cvs():
    """Independent CV values beside an autoregressive quantity: z-scores of its mean, which is 0."""
    at, scores = np.linspace(-0.8, 0.8, 5), []
    for seed in range(12):
        rng = np.random.default_rng(seed)
        slow = lfilter([np.sqrt(1 - 0.98**2)], [1, -0.98], rng.normal(size=6500))[500:]
        samples = samples_of(rng.normal(size=6000), seed=seed)
        found = conditional_average(samples, slow, at, 0.8, degree=0)
        scores.append((found.value / found.error).mean())  # the values are hardly independent
        replicates = found.replicates.std(axis=0, ddof=1)
        assert replicates == pytest.approx(found.error, rel=1e-6)
    # 3 where errors are those of the CV's blocks; relative error of a variance sqrt(2 / 12)
    assert np.mean(np.square(scores)) < 1 + 3 * np.sqrt(2 / 12)


def test_smearing_is_measured_where_there_is_no_noise():
    """A wide kernel on a curve without noise: the error is that of smearing, and covers it."""
    z = np.random.default_rng(0).permutation(np.linspace(-1, 1, 4001))
    at = np.linspace(-0.5, 0.5, 5)
    found = conditional_average(samples_of(z), np.cos(6 * z), at, 0.3)
    off = np.abs(found.value - np.cos(6 * at))
    assert off.max() > 0.005
    assert (off < 3 * found.error).all()
    assert (found.smearing > 0.5 * np.sqrt((off**2).mean())).all()


def test_errors_of_smearing_do_not_add_up():
    """A kernel flattens a wave and keeps its mean round the circle, and so do the errors."""
    turn = np.random.default_rng(0).permutation(np.linspace(-np.pi, np.pi, 4000, endpoint=False))
    at = (np.arange(72) + 0.5) * np.pi / 36 - np.pi
    found = conditional_average(samples_of(turn, (ANGLE,)), np.cos(10 * turn), at, 0.25)
    off = found.value - np.cos(10 * at)
    assert (np.abs(off) < 3 * found.error).all()
    assert abs(off.mean()) < 1e-2 * np.abs(off).max()
    assert found.replicates.mean(axis=1).std() < 0.1 * found.error.mean()


def test_errors_of_smearing_keep_their_size_in_two_cvs():
    z = np.random.default_rng(1).uniform(-1, 1, (6000, 2))
    at = np.stack(np.meshgrid(*[np.linspace(-0.5, 0.5, 5)] * 2), -1).reshape(-1, 2)
    found = conditional_average(samples_of(z, (Z, CollectiveVariable("y"))), np.cos(6 * z[:, 0]),
                                at, 0.4)  # fmt: skip
    told = found.replicates.std(axis=0)
    assert (told > 0.7 * found.smearing).all()


def test_the_bandwidth_follows_the_curve():
    z = np.random.default_rng(3).uniform(-1, 1, 5000)
    noise = np.random.default_rng(4).normal(0.0, 0.3, len(z))
    at = np.linspace(-0.8, 0.8, 17)
    straight = choose_bandwidth(samples_of(z), z + noise, at)
    curved = choose_bandwidth(samples_of(z), np.sin(20 * z) + noise, at)
    assert curved < 0.6 * straight


def test_windows_that_do_not_overlap_are_not_mixed():
    """Two runs of unknown weights to each other: nothing is said where both are near."""
    z = np.random.default_rng(5).uniform(0, 1, 4000)
    own = samples_of(z)
    parts = replace(
        own,
        window=(z > 0.5).astype(int),
        inefficiencies=np.ones(2),
        parts=np.array([0, 1]),
    )
    at = [0.3, 0.48, 0.7]
    assert np.isfinite(conditional_average(own, z, at, 0.1).value).all()
    known = np.isfinite(conditional_average(parts, z, at, 0.1).value)
    assert known.tolist() == [True, False, True]


def test_quantities_have_their_own_errors_of_smearing():
    """A wide kernel on a curve without noise: errors of one size, of another sign by the seed."""
    z = np.random.default_rng(0).permutation(np.linspace(-1, 1, 2001))
    rows = [conditional_average(samples_of(z), np.cos(6 * z), [0.0, 0.1], 0.4, seed=seed)
            for seed in (0, 1)]  # fmt: skip
    a, b = (r.replicates[:, 0] - r.value[0] for r in rows)
    assert abs(np.corrcoef(a, b)[0, 1]) < 4 / np.sqrt(len(a))
    assert rows[0].error == pytest.approx(rows[1].error, rel=4 / np.sqrt(len(a)))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"at": np.zeros((2, 3))}, "expected \\(m, 1\\)"),
        ({"values": np.zeros(7)}, "one for each of 100 samples"),
        ({"values": np.where(np.arange(100) == 7, np.nan, 0)}, "first in sample 7: frame 7 of"),
        ({"values": 1.0}, "shape \\(\\); expected \\(n, ...\\)"),
        ({"values": np.zeros((100, 0))}, "expected \\(n, ...\\)"),
        ({"at": [0.5, np.nan]}, "value 1 of the CVs is \\[nan\\]"),
        ({"bandwidth": 0.0}, "positive"),
        ({"bandwidth": [0.1, 0.2]}, "expected 1 positive"),
        ({"degree": -1}, "degree is -1"),
        ({"at": [50.0]}, "no bandwidth"),
    ],
)
def test_refusals(change, words):
    z = np.random.default_rng(0).uniform(size=100)
    given = {"values": z, "at": [0.5]} | change
    with pytest.raises(ValueError, match=words):
        conditional_average(samples_of(z), **given)


def test_values_close_together_do_not_make_the_kernel_too_narrow():
    z = np.random.default_rng(0).normal(size=(4000, 3))
    three = tuple(CollectiveVariable(name) for name in "abc")
    near = [[0.0, 0.0, 0.0], [0.1, 0.1, 0.1]]
    found = conditional_average(samples_of(z, three), z[:, 0], near)
    assert np.isfinite(found.value).all()
    assert (np.abs(found.value - [0.0, 0.1]) < 4 * found.error).all()
