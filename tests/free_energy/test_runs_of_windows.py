"""Windows that were run several times: one state, its error by how far the runs are apart."""

import numpy as np
import pytest
from scipy.stats import norm

from openmm_cgan import GAS_CONSTANT
from openmm_cgan.collective_variable import CollectiveVariable
from openmm_cgan.free_energy import basin_difference
from openmm_cgan.free_energy.bootstrap import blocks_of, draws_of, draws_of_windows
from openmm_cgan.free_energy.reweighting import reweight_windows
from openmm_cgan.free_energy.samples import BiasedFrames

TEMPERATURE = 300.0
KT = GAS_CONSTANT * TEMPERATURE
X = (CollectiveVariable("x", "nm"),)
# A hidden state y = 0 or 1 of probability SHARES; x given y is normal.
SHARES, MEANS, VARIANCE = np.array([0.7, 0.3]), np.array([-0.3, 0.4]), 0.25
CENTRES, STIFFNESS = np.linspace(-1.5, 1.5, 11), 15.0
EXACT = -KT * np.log(1 / (SHARES @ norm.cdf(0.0, MEANS, np.sqrt(VARIANCE))) - 1)


def a_run(rng: np.random.Generator, centre: float, n: int) -> BiasedFrames:
    """Exact frames of x in a window, y drawn by its weight there and kept, as what is slow is."""
    soft = KT / STIFFNESS
    weights = SHARES * norm.pdf(centre, MEANS, np.sqrt(VARIANCE + soft))
    mean = MEANS[rng.choice(2, p=weights / weights.sum())]
    narrow = 1 / (1 / VARIANCE + 1 / soft)
    x = rng.normal(narrow * (mean / VARIANCE + centre / soft), np.sqrt(narrow), (n, 1))
    bias = lambda cvs: 0.5 * STIFFNESS * (cvs[:, 0] - centre) ** 2  # noqa: E731
    return BiasedFrames(x, bias, TEMPERATURE, X, f"window at {centre:.1f}")


def errors_in_sigmas(each: int, n_frames: int, times: int) -> np.ndarray:
    """How far F(x > 0) - F(x < 0) is from the exact one, in its own error bars."""
    rng, found = np.random.default_rng(7), []
    for k in range(times):
        runs = [a_run(rng, c, n_frames // each) for c in CENTRES for _ in range(each)]
        samples = reweight_windows(runs, n_bootstrap=60, seed=k)
        assert samples.overlap.shape == (len(CENTRES), len(CENTRES)), "runs are no states"
        difference = basin_difference(samples, lambda cvs: cvs[:, 0] > 0)
        found.append((difference.value - EXACT) / difference.error)
    return np.array(found)


def test_the_scatter_of_runs_is_in_the_error_and_one_run_a_window_knows_nothing_of_it() -> None:
    """The same frames in all: errors of five starts cover the truth, those of one do not."""
    one, five = (np.sqrt((errors_in_sigmas(k, 200, 40) ** 2).mean()) for k in (1, 5))
    # the root mean square of 40 normal numbers is known to 1 / sqrt(80) = 0.11
    assert one > 1 + 6 * 0.11
    # error bars of 11 x 4 spare runs, which do not count alike, add some 0.15 to it
    assert 1 - 4 * 0.11 < five < 1 + 0.15 + 3 * 0.11


def test_runs_drawn_whole_give_the_variance_of_their_mean() -> None:
    """K - 1 of K with replacement: the sum of squares over K (K - 1), exactly in the mean."""
    rng = np.random.default_rng(3)
    values = [rng.normal(size=3)[:, None] + np.zeros((3, 8)), rng.normal(size=(4, 5))]
    sizes = np.array([8, 8, 8, 5, 5, 5, 5, 40])
    states = np.array([0, 0, 0, 1, 1, 1, 1, 2])
    number = 20_000
    drawn = draws_of_windows(sizes, np.ones(8), states, number, seed=1)
    assert drawn.shape == (number, sizes.sum())
    for columns, of_runs in zip((slice(0, 24), slice(24, 44)), values, strict=True):
        counts = drawn[:, columns]
        assert (counts.sum(axis=1) == counts[0].sum()).all(), "runs of one length, drawn whole"
        means = counts @ of_runs.ravel() / counts.sum(axis=1)
        expected = of_runs.mean(axis=1).var(ddof=1) / len(of_runs)
        assert means.var() == pytest.approx(expected, rel=5 * np.sqrt(2 / number))
    alone = drawn[:, 44:].reshape(number, 8, 5)  # eight blocks of a run that is alone
    assert (alone == alone[:, :, :1]).all()
    assert set(alone[:, :, 0].sum(axis=1)) == {7}


def test_runs_may_stand_in_any_order() -> None:
    sizes, states = np.array([4, 6] * 5), np.array([0, 1] * 5)
    for draw in draws_of_windows(sizes, np.ones(10), states, 50, seed=2):
        times = [set(part) for part in np.split(draw, np.cumsum(sizes)[:-1])]
        assert all(len(once) == 1 for once in times)
        for state in (0, 1):
            assert sum(sum(once) for once in times[state::2]) == 4


def test_of_two_runs_alone_blocks_tell_more() -> None:
    """A variance of one square is nothing to go by."""
    sizes, inefficiencies = np.array([60, 80]), np.array([1.5, 3.0])
    blocks = draws_of(blocks_of(sizes, inefficiencies), inefficiencies, 20, seed=4)
    both = draws_of_windows(sizes, inefficiencies, np.array([0, 0]), 20, seed=4)
    np.testing.assert_array_equal(both, blocks)


def test_windows_run_once_are_drawn_as_they_were() -> None:
    sizes, inefficiencies = np.array([60, 80, 33]), np.array([1.5, 3.0, 1.0])
    blocks = draws_of(blocks_of(sizes, inefficiencies), inefficiencies, 20, seed=4)
    windows = draws_of_windows(sizes, inefficiencies, np.arange(3), 20, seed=4)
    np.testing.assert_array_equal(windows, blocks)


def test_short_runs_of_one_window_are_long_enough_together(
    caplog: pytest.LogCaptureFixture,
) -> None:
    rng = np.random.default_rng(5)
    short = [a_run(rng, c, 6) for c in CENTRES for _ in range(5)]
    reweight_windows(short, n_bootstrap=0)
    assert "independent frames" not in caplog.text
    reweight_windows(short[::5], n_bootstrap=0)
    assert "11 of 11 windows" in caplog.text
    assert "fewer than 10 independent frames" in caplog.text
