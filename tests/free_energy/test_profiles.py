from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import binomtest

from openmm_cgan import GAS_CONSTANT
from openmm_cgan.collective_variable import CollectiveVariable
from openmm_cgan.free_energy import (
    BiasedFrames,
    basin_difference,
    convergence,
    free_energy_profile,
    free_energy_surface,
    reweight,
    reweight_windows,
    start_disagreement,
)
from openmm_cgan.free_energy.samples import unbiased

TEMPERATURE = 300.0
KT = GAS_CONSTANT * TEMPERATURE
PHI = CollectiveVariable("phi", "rad", (-np.pi, np.pi))
PSI = CollectiveVariable("psi", "rad", (-np.pi, np.pi))
X = CollectiveVariable("x", "nm")


def two_basins(phi: np.ndarray) -> np.ndarray:
    """Periodic double well: minima near 0 and pi, the one at pi 4 kJ/mol higher [kJ/mol]."""
    return 8.0 * (1.0 - np.cos(2.0 * phi)) + 2.0 * (1.0 - np.cos(phi))


FINE = (np.arange(3600) + 0.5) * 2.0 * np.pi / 3600 - np.pi
DENSITY = np.exp(-two_basins(FINE) / KT)
TRUE_DIFFERENCE = -KT * np.log(
    DENSITY[np.abs(FINE) > np.pi / 2].sum() / DENSITY[np.abs(FINE) < np.pi / 2].sum()
)


def far(cvs: np.ndarray) -> np.ndarray:
    """The basin at pi."""
    return np.abs(cvs[:, 0]) > np.pi / 2


def phi_windows(seed: int, n: int = 200, count: int = 16) -> list[BiasedFrames]:
    """Umbrella windows on the double well, drawn from their exact densities."""
    rng = np.random.default_rng(seed)
    windows = []
    for i, centre in enumerate(np.arange(count) * 2.0 * np.pi / count - np.pi):

        def bias(cvs: np.ndarray, centre: float = centre) -> np.ndarray:
            return 20.0 * PHI.difference(centre, cvs[:, 0]) ** 2

        p = np.exp(-(two_basins(FINE) + bias(FINE[:, None])) / KT)
        cvs = rng.choice(FINE, n, p=p / p.sum())[:, None]
        windows.append(BiasedFrames(cvs, bias, TEMPERATURE, (PHI,), f"window {i}"))
    return windows


def true_profile(bins: int) -> np.ndarray:
    free_energy = -KT * np.log(DENSITY.reshape(bins, -1).sum(axis=1))
    return free_energy - free_energy.min()


def test_the_profile_of_a_double_well_is_its_own() -> None:
    profile = free_energy_profile(reweight_windows(phi_windows(0)), "phi", bins=36)
    assert profile.variables == (PHI,)
    assert profile.centres[0][0] == pytest.approx(-np.pi + np.pi / 36)
    assert np.nanmin(profile.free_energy) == 0.0
    # the profile's zero is one noisy bin: compare up to the best common constant
    deviation = profile.free_energy - true_profile(36)
    deviation -= np.average(deviation, weights=profile.error**-2.0)
    assert (np.abs(deviation) < 4.0 * profile.error).all()
    assert profile.error.max() < 1.0


def test_the_difference_between_basins_and_its_error() -> None:
    covered, runs, errors = 0, 60, []
    for seed in range(runs):
        samples = reweight_windows(phi_windows(seed, n=60), n_bootstrap=30, seed=seed)
        estimate = basin_difference(samples, far)
        covered += abs(estimate.value - TRUE_DIFFERENCE) < estimate.error
        errors.append(estimate.error)
    assert binomtest(covered, runs, 0.68).pvalue > 0.01, covered / runs
    assert np.mean(errors) < 1.0


def test_the_basin_may_be_a_mask() -> None:
    samples = reweight_windows(phi_windows(1), n_bootstrap=5)
    assert basin_difference(samples, far(samples.cvs)) == basin_difference(samples, far)


def test_a_surface_of_independent_variables_is_the_sum_of_its_profiles() -> None:
    rng = np.random.default_rng(2)
    p = DENSITY / DENSITY.sum()
    cvs = np.stack([rng.choice(FINE, 40_000, p=p), rng.choice(FINE, 40_000, p=p)], axis=1)
    samples = reweight([BiasedFrames(cvs, unbiased, TEMPERATURE, (PHI, PSI))], n_bootstrap=30)
    surface = free_energy_surface(samples, ("phi", "psi"), bins=12)
    assert surface.free_energy.shape == surface.error.shape == (12, 12)
    expected = true_profile(12)[:, None] + true_profile(12)
    well = expected < 2.0 * KT
    deviation = (surface.free_energy - expected)[well]
    deviation -= np.average(deviation, weights=surface.error[well] ** -2.0)
    assert (np.abs(deviation) < 4.0 * surface.error[well]).all()
    assert np.isnan(surface.free_energy[expected > 14.0 * KT]).all()


def test_bins_of_a_variable_without_period_cover_the_frames() -> None:
    rng = np.random.default_rng(3)
    run = BiasedFrames(rng.normal(size=(5000, 1)), unbiased, TEMPERATURE, (X,))
    samples = reweight([run], n_bootstrap=20)
    counted = free_energy_profile(samples, 0, bins=20)
    kept = np.exp(-counted.free_energy / KT)
    expected, _ = np.histogram(run.cvs, 20)
    np.testing.assert_allclose(np.nan_to_num(kept) * expected.max(), expected)
    given = free_energy_profile(samples, 0, bins=[-1.0, 0.0, 1.0])
    assert given.centres[0].tolist() == [-0.5, 0.5]
    assert given.free_energy.max() < 4.0 * given.error.max()


def test_bins_of_unequal_width_tell_the_density() -> None:
    rng = np.random.default_rng(4)
    flat = BiasedFrames(rng.random((5000, 2)), unbiased, TEMPERATURE, (X, CollectiveVariable("y")))
    samples = reweight([flat], n_bootstrap=20)
    for found in (
        free_energy_profile(samples, 0, bins=[0.0, 0.1, 0.5, 1.0]),
        free_energy_surface(samples, (0, 1), bins=[0.0, 0.2, 1.0]),
    ):
        deviation = found.free_energy - np.average(found.free_energy, weights=found.error**-2.0)
        assert (np.abs(deviation) < 4.0 * found.error).all()


def test_a_value_on_the_border_of_the_period_falls_in_a_bin() -> None:
    cvs = np.array([[np.pi], [-np.pi], [3 * np.pi], [0.1]])
    samples = reweight([BiasedFrames(cvs, unbiased, TEMPERATURE, (PHI,))], n_bootstrap=0)
    profile = free_energy_profile(samples, 0, bins=4)
    expected = [0.0, np.nan, KT * np.log(3.0), np.nan]
    np.testing.assert_allclose(profile.free_energy, expected)


def test_the_halves_of_exact_windows_agree_and_the_whole_is_the_result() -> None:
    windows = phi_windows(4, n=400)

    def observable(samples: object) -> float:
        return basin_difference(samples, far).value  # type: ignore[arg-type]

    checked = convergence(windows, observable, fractions=(0.5, 1.0))
    error = basin_difference(reweight_windows(windows), far).error
    assert abs(checked.forward[0] - checked.backward[0]) < 3.5 * 2.0 * error
    assert (
        checked.forward[1] == checked.backward[1] == pytest.approx(TRUE_DIFFERENCE, abs=4 * error)
    )


def test_windows_that_still_relax_are_seen_by_halves() -> None:
    drifting, settled = [], phi_windows(5, n=400)
    for window in settled:
        cvs = window.cvs + np.linspace(0.3, 0.0, 400)[:, None]
        drifting.append(BiasedFrames(cvs, window.bias, TEMPERATURE, (PHI,)))
    shift = convergence(drifting, lambda s: s.average(np.sin(s.cvs[:, 0])).value, (0.5,))
    whole = reweight_windows(settled)
    error = whole.average(np.sin(whole.cvs[:, 0])).error
    assert shift.forward[0] - shift.backward[0] > 3.0 * error


def test_windows_that_remember_their_start_are_told_from_the_others() -> None:
    one, other = phi_windows(7), phi_windows(8)
    stuck = BiasedFrames(other[5].cvs + 0.3, other[5].bias, TEMPERATURE, (PHI,))
    apart = start_disagreement(one, [*other[:5], stuck, *other[6:]])
    assert apart[5] > 5.0
    assert np.delete(apart, 5).max() < 4.5


def test_what_can_not_be_asked_for_is_refused() -> None:
    samples = reweight_windows(phi_windows(6, n=20), n_bootstrap=2)
    with pytest.raises(ValueError, match="no CV 'psi' among \\['phi'\\]"):
        free_energy_profile(samples, "psi")
    with pytest.raises(ValueError, match="CV number 1 of 1"):
        free_energy_profile(samples, 1)
    with pytest.raises(ValueError, match="needs 2 CVs, got 1"):
        free_energy_surface(samples, ("phi",))
    with pytest.raises(ValueError, match="one side of the basin"):
        basin_difference(samples, lambda cvs: cvs[:, 0] > 4.0)
    with pytest.raises(ValueError, match="in_basin has shape"):
        basin_difference(samples, np.ones(3, dtype=bool))
    with pytest.raises(ValueError, match="must increase"):
        free_energy_profile(samples, 0, bins=[1.0, 0.0])
    with pytest.raises(ValueError, match="180 are more than the period of phi, 6"):
        free_energy_profile(samples, 0, bins=np.linspace(-180, 180, 73))
    with pytest.raises(ValueError, match="bins is 0, expected a number of bins, 1 or more"):
        free_energy_profile(samples, 0, bins=0)
    with pytest.raises(ValueError, match="no frame lies within the bins of d"):
        free_energy_profile(replace(samples, variables=(CollectiveVariable("d"),)), 0, [50, 60])
    assert free_energy_profile(samples, 0, np.int64(9)).free_energy.shape == (9,)
