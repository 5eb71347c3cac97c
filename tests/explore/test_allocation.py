"""Which windows are run longer, against what is best by search and by formula."""

import numpy as np
import pytest

from openmm_cgan.collective_variable import CollectiveVariable
from openmm_cgan.explore.allocation import between, error_of_windows, longer_windows
from openmm_cgan.free_energy import BiasedFrames
from openmm_cgan.free_energy.samples import unbiased

D = CollectiveVariable("d", "nm")


def added(lengths: np.ndarray, variances: np.ndarray, longer: np.ndarray) -> float:
    return float((variances * lengths / longer).sum())


def test_no_other_lengths_make_the_error_smaller() -> None:
    rng = np.random.default_rng(1)
    lengths = np.array([1000, 2000, 1500, 4000])
    variances = np.array([0.5, 0.1, 0.9, 0.02])
    best = longer_windows(lengths, variances, 3000)
    assert (best >= lengths).all()
    assert best.sum() == pytest.approx(11_500, abs=4)
    least = added(lengths, variances, best)
    for shares in rng.dirichlet(np.ones(4), 5000):
        assert added(lengths, variances, lengths + 3000 * shares) > 0.9999 * least


def test_equal_windows_are_made_longer_alike_and_windows_without_errors_too() -> None:
    assert longer_windows(np.full(3, 100), np.ones(3), 300).tolist() == [200, 200, 200]
    assert longer_windows(np.full(3, 100), np.zeros(3), 300).tolist() == [200, 200, 200]


def test_the_variance_is_that_of_the_mean_of_correlated_frames() -> None:
    """Of an autoregressive series: s^2 (1 + a) / (1 - a) / n."""
    rng = np.random.default_rng(2)
    n, a, sum_of_60 = 20_000, 0.9, 2 * (2 * 60 + 1)
    noise = rng.normal(0, np.sqrt(1 - a**2), n)
    x = np.zeros(n)
    for i in range(1, n):
        x[i] = a * x[i - 1] + noise[i]
    windows = [BiasedFrames(v[:, None], unbiased, 300.0, (D,)) for v in (x, rng.normal(0, 1, n), x)]
    found = error_of_windows(windows, 0, np.array([True, True, False]))
    assert found[0] == pytest.approx((1 + a) / (1 - a) / n, rel=3 * np.sqrt(sum_of_60 / n))
    assert found[1] == pytest.approx(1 / n, rel=0.15)
    assert found[2] == 0


def test_of_two_ways_the_one_without_a_gap_is_taken() -> None:
    centres = np.linspace(-np.pi, np.pi, 24, endpoint=False)
    through = centres[(centres < 0.5) | (centres > 2.0)]  # a gap at 0.5 to 2
    way = between(through, (-1.0, 2.5), 2 * np.pi)
    assert set(through[way].round(3)) == set(through[(through <= -1) | (through >= 2.5)].round(3))
    assert (
        between(centres, (-1.0, 1.0), 2 * np.pi).sum() == ((centres >= -1) & (centres <= 1)).sum()
    )
    assert between(np.array([0.1, 0.5, 0.9]), (0.2, 0.6), None).tolist() == [False, True, False]
