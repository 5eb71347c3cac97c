"""Runs that each should have reached everywhere, and did not."""

import numpy as np
import pytest

from openmm_cgan import GAS_CONSTANT
from openmm_cgan.collective_variable import CollectiveVariable
from openmm_cgan.free_energy import BiasedFrames, reweight
from openmm_cgan.free_energy.differences import StateDifference
from openmm_cgan.free_energy.samples import unbiased

D = CollectiveVariable("d", "nm")
KT = GAS_CONSTANT * 300
SIDES = StateDifference.of("d:0..0.5|0.5..1")
N = 400


def well(centre, rng):
    """Independent frames of one well."""
    return rng.normal(centre, 0.03, (N, 1))


def weighed(rows):
    runs = [BiasedFrames(r, unbiased, 300.0, (D,), f"run-{i}") for i, r in enumerate(rows)]
    return reweight(runs)


@pytest.mark.parametrize("of_each", [(1, 1), (3, 1)])
def test_of_walkers_that_never_crossed_no_error_is_told(of_each, caplog):
    rng = np.random.default_rng(0)
    centres = [0.2] * of_each[0] + [0.8] * of_each[1]
    estimate = SIDES.estimate(weighed([well(centre, rng) for centre in centres]))
    assert np.isnan(estimate.error)
    assert "not every one has reached" in caplog.text


def test_the_error_of_many_walkers_that_never_crossed_is_that_of_whole_runs(caplog):
    rng = np.random.default_rng(0)
    n = 40
    error = SIDES.estimate(weighed([well((0.2, 0.8)[i % 2], rng) for i in range(n)])).error
    right = KT * 2 / np.sqrt(n - 1)  # of ln(p / (1 - p)) at p = 1/2 among n
    # of the spread of 100 replicates, and what the logarithm's curvature adds at this n (3 %)
    assert error == pytest.approx(right, rel=4 / np.sqrt(200) + 0.03)


def test_runs_that_mix_keep_the_errors_of_their_blocks(caplog):
    rng = np.random.default_rng(0)
    rows = [np.where(rng.random((N, 1)) < 0.5, well(0.2, rng), well(0.8, rng)) for _ in range(2)]
    error = SIDES.estimate(weighed(rows)).error
    assert error == pytest.approx(KT * 2 / np.sqrt(2 * N), rel=4 / np.sqrt(200))
    assert "not every one" not in caplog.text


def test_a_run_without_an_error_or_of_few_frames_accuses_nobody(caplog):
    rng = np.random.default_rng(0)
    weighed([well(0.2, rng), np.full((5, 1), 0.8)])
    weighed([well(0.2, rng), well(0.8, rng)[:2]])
    assert "not every one" not in caplog.text
