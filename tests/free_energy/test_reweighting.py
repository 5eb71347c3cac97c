import logging
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from pymbar import MBAR
from pymbar.testsystems import HarmonicOscillatorsTestCase
from scipy.signal import lfilter
from scipy.stats import binomtest, norm

from openmm_cgan import GAS_CONSTANT
from openmm_cgan.collective_variable import CollectiveVariable
from openmm_cgan.free_energy import (
    GeneratedFrames,
    basin_difference,
    free_energy_profile,
    reweight_generated,
)
from openmm_cgan.free_energy.differences import StateDifference
from openmm_cgan.free_energy.mbar import resampled_log_weights, solve_mbar
from openmm_cgan.free_energy.overlap import weakest_link
from openmm_cgan.free_energy.reweighting import reweight, reweight_windows
from openmm_cgan.free_energy.samples import (
    BiasedFrames,
    WeightedSamples,
    statistical_inefficiency,
    unbiased,
)
from openmm_cgan.free_energy.worth import worth_in_time
from tests.cases.other_processes import PATIENCE

TEMPERATURE = 300.0
KT = GAS_CONSTANT * TEMPERATURE
X = CollectiveVariable("x", "nm")
STIFFNESS = 2.0  # of the unbiased oscillator, kJ/mol/nm^2
WINDOW_STIFFNESS = 10.0


def autoregressive(
    rng: np.random.Generator, n: int, rho: float, mean: float = 0.0, sd: float = 1.0
) -> np.ndarray:
    """Gaussian series whose statistical inefficiency is (1 + rho) / (1 - rho)."""
    noise = rng.normal(size=n) * np.sqrt(1.0 - rho**2)
    noise[0] = rng.normal()
    for i in range(1, n):
        noise[i] += rho * noise[i - 1]
    return mean + sd * noise


def oscillator_windows(
    rng: np.random.Generator, centres: np.ndarray, n: int, rho: float = 0.0
) -> list[BiasedFrames]:
    """Umbrella windows on U = STIFFNESS x^2 / 2, drawn from their exact Gaussians."""
    total = STIFFNESS + WINDOW_STIFFNESS
    return [
        BiasedFrames(
            autoregressive(rng, n, rho, WINDOW_STIFFNESS * c / total, np.sqrt(KT / total))[:, None],
            lambda cvs, c=c: 0.5 * WINDOW_STIFFNESS * (cvs[:, 0] - c) ** 2,
            TEMPERATURE,
            (X,),
            f"window at {c:.2f}",
        )
        for c in centres
    ]


CENTRES = np.linspace(-3.0, 3.0, 7)


def test_mbar_gives_the_free_energies_of_pymbars_harmonic_oscillators() -> None:
    case = HarmonicOscillatorsTestCase(O_k=[0.0, 1.0, 2.0, 3.0], K_k=[1.0, 2.0, 4.0, 8.0])
    _, u_kn, n_k, states = case.sample(N_k=[2000] * 4, seed=3)
    weights_nk, _ = solve_mbar(lambda rows: u_kn[:, rows], states.astype(int))
    exact = case.analytical_free_energies()
    # f_k from the weights: ln W_nk = f_k - u_kn - ln(denominator)
    f_k = np.log(weights_nk.toarray()[0]) + u_kn[:, 0]
    errors = MBAR(u_kn, n_k, solver_protocol="robust").compute_free_energy_differences()[
        "dDelta_f"
    ][0]
    assert (np.abs((f_k - f_k[0]) - (exact - exact[0]))[1:] < 3.5 * errors[1:]).all()


def test_resampled_mbar_equals_pymbar_on_the_repeated_samples() -> None:
    case = HarmonicOscillatorsTestCase(O_k=[0.0, 1.0, 2.0], K_k=[1.0, 2.0, 4.0])
    _, u_kn, _, states = case.sample(N_k=[300, 200, 250], seed=5)
    states = states.astype(int)
    weights_nk, log_weights = solve_mbar(lambda rows: u_kn[:, rows], states)
    rng = np.random.default_rng(0)
    drawn = rng.integers(0, 3, size=(3, len(states))).astype(float)
    drawn[0] = 1.0
    changes = resampled_log_weights(weights_nk, states, drawn)
    assert np.ptp(changes[0]) < 1e-5
    for counts, change in zip(drawn[1:], changes[1:], strict=True):
        repeated = np.repeat(np.arange(len(counts)), counts.astype(int))
        u_repeated = u_kn[:, repeated]
        _, expected = solve_mbar(lambda rows, u=u_repeated: u[:, rows], states[repeated])
        got = (log_weights + change)[repeated] - np.log(counts[repeated])
        np.testing.assert_allclose(got - got[0], expected - expected[0], atol=1e-4)


def test_the_unbiased_oscillator_comes_back_from_its_windows() -> None:
    samples = reweight_windows(oscillator_windows(np.random.default_rng(1), CENTRES, 500))
    x = samples.cvs[:, 0]
    variance = samples.average(x**2)
    assert abs(variance.value - KT / STIFFNESS) < 3.5 * variance.error
    assert variance.error < 0.1 * variance.value
    assert np.exp(samples.log_weights).sum() == pytest.approx(1.0)
    np.testing.assert_allclose(np.exp(samples.replicates).sum(axis=1), 1.0)


@pytest.mark.parametrize("rho", [0.0, 0.8], ids=["independent", "correlated"])
def test_error_bars_cover_the_truth_in_two_of_three_runs(rho: float) -> None:
    truth = 1.0 - norm.cdf(1.0, scale=np.sqrt(KT / STIFFNESS))
    covered, runs = 0, 100
    for seed in range(runs):
        windows = oscillator_windows(np.random.default_rng(seed), CENTRES, 500, rho)
        samples = reweight_windows(windows, n_bootstrap=30, seed=seed)
        estimate = samples.average(samples.cvs[:, 0] > 1.0)
        covered += abs(estimate.value - truth) < estimate.error
    assert binomtest(covered, runs, 0.68).pvalue > 0.01, covered / runs


def test_windows_with_the_same_bias_are_one_state() -> None:
    rng = np.random.default_rng(2)
    twice = oscillator_windows(rng, np.repeat(CENTRES, 2), 200)
    same = [BiasedFrames(w.cvs, v.bias, w.temperature, w.variables) for w, v in
            zip(twice, np.repeat(twice[::2], 2), strict=True)]  # fmt: skip
    samples = reweight_windows(same, n_bootstrap=10)
    assert samples.overlap.shape == (7, 7)
    np.testing.assert_allclose(samples.overlap.sum(axis=1), 1.0, atol=1e-4)
    assert samples.inefficiencies.shape == (14,)


def test_frames_that_stand_twice_are_refused() -> None:
    first, *others = oscillator_windows(np.random.default_rng(2), CENTRES, 200)
    for twice in ([first, *others, first], [first, replace(first, name="copy")]):
        with pytest.raises(ValueError, match="are the same 200 frames, which would count twice"):
            reweight_windows(twice)
        with pytest.raises(ValueError, match="are the same 200 frames, which would count twice"):
            reweight(twice)


def test_the_result_does_not_depend_on_the_order_of_the_windows() -> None:
    windows = oscillator_windows(np.random.default_rng(4), CENTRES, 200)
    forth, back = (reweight_windows(w, n_bootstrap=0) for w in (windows, windows[::-1]))
    values = [s.average(s.cvs[:, 0] ** 2).value for s in (forth, back)]
    assert values[0] == pytest.approx(values[1], rel=1e-5)


def test_thinning_keeps_to_the_number_of_samples_asked_for() -> None:
    windows = oscillator_windows(np.random.default_rng(6), CENTRES, 1000)
    samples = reweight_windows(windows, n_bootstrap=2, max_samples=700)
    assert 500 <= len(samples.cvs) <= 800
    first = samples.window == 0
    np.testing.assert_array_equal(samples.cvs[first], windows[0].cvs[samples.frame[first]])


def test_the_effective_number_of_samples_counts_correlated_frames_once() -> None:
    rng = np.random.default_rng(7)
    run = BiasedFrames(autoregressive(rng, 20_000, 0.9)[:, None], unbiased, TEMPERATURE, (X,))
    samples = reweight([run], n_bootstrap=2)
    assert samples.effective_samples == pytest.approx(20_000 / 19.0, rel=0.25)


def test_statistical_inefficiency_of_an_autoregressive_series() -> None:
    rng = np.random.default_rng(8)
    series = np.stack([rng.normal(size=20_000), autoregressive(rng, 20_000, 0.8)], axis=1)
    assert statistical_inefficiency(series, (X, X)) == pytest.approx(9.0, rel=0.2)
    assert statistical_inefficiency(np.ones((100, 1)), (X,)) == 1.0


def test_a_series_across_the_border_of_the_period_is_not_slow() -> None:
    angle = CollectiveVariable("phi", "rad", (-np.pi, np.pi))
    rng = np.random.default_rng(9)
    series = autoregressive(rng, 5000, 0.5, mean=np.pi, sd=0.2)
    wrapped = np.mod(series + np.pi, 2 * np.pi) - np.pi
    assert statistical_inefficiency(wrapped[:, None], (angle,)) == pytest.approx(3.0, rel=0.25)


def walks_on_a_ring(seeds: range, n: int) -> tuple[list[WeightedSamples], Callable]:
    """Random walks on a circle weighed to exp(-u), and true means under it.

    As a finished metadynamics: sampled evenly, most of it where nothing weighs.
    """

    def u(x):
        return 4.0 * (1.0 - np.cos(2.0 * x)) + 2.0 * (1.0 - np.cos(x))

    grid = np.linspace(-np.pi, np.pi, 2000, endpoint=False)
    p = np.exp(-u(grid)) / np.exp(-u(grid)).sum()
    angle = CollectiveVariable("phi", "rad", (-np.pi, np.pi))
    made = []
    for seed in seeds:
        rng = np.random.default_rng(seed)
        x = np.mod(np.cumsum(rng.normal(0, 0.3, n)) + rng.uniform(0, 6), 2 * np.pi) - np.pi
        run = BiasedFrames(x[:, None], unbiased, TEMPERATURE, (angle,))
        made.append(reweight([run], [-u(x)]))
    return made, lambda f: float(p @ f(grid))


def test_frames_are_worth_what_the_scatter_of_their_mean_says() -> None:
    walks, truth = walks_on_a_ring(range(40), 6000)
    scattered = []
    for f in (np.cos, np.sin):
        mean = truth(f)
        means = [walk.average(f(walk.cvs[:, 0])) for walk in walks]
        off = np.array([found.value - mean for found in means])
        scattered.append(truth(lambda x, f=f, m=mean: (f(x) - m) ** 2) / np.mean(off**2))
        # mean square of z: 1, with a standard error of sqrt(2 / 40) and that of the errors
        z = off / [found.error for found in means]
        assert np.mean(z**2) == pytest.approx(1.0, abs=3 * 0.22 + 0.3)
    told = np.median([walk.effective_samples for walk in walks])
    assert abs(np.log(told / min(scattered))) < 3 * 0.22  # of the worse, known to sqrt(2 / 40)


def test_weights_that_wander_off_are_worth_little_and_slow_runs_nothing(caplog) -> None:
    [walk], _ = walks_on_a_ring(range(1), 600)
    assert walk.unknown
    assert np.isnan(walk.average(walk.cvs[:, 0]).value)
    rng = np.random.default_rng(1)
    quick, slow = rng.normal(size=3000), np.repeat(rng.normal(size=10), 300)
    both = (X, replace(X, name="y"))
    run = BiasedFrames(np.stack([quick, slow], axis=1), unbiased, TEMPERATURE, both)
    # what is slow weighs next to nothing but in one part, where the other is known well
    samples = reweight([run], [np.where(np.arange(3000) < 300, 0.0, -20.0)])
    assert samples.effective_samples == pytest.approx(300, rel=0.2)
    assert "times only in all that time" in samples.unknown


def test_worth_of_equal_weights_and_of_independent_frames() -> None:
    rng = np.random.default_rng(4)
    x = autoregressive(rng, 5000, 0.8)[:, None]
    even = np.full(5000, -np.log(5000))
    g = statistical_inefficiency(x, (X,))
    assert worth_in_time([x], even, (X,)) == pytest.approx(5000 / g, rel=1e-9)
    halves = [x[:2500], x[2500:]]
    apart = sum(statistical_inefficiency(half, (X,)) for half in halves) / 2
    assert worth_in_time(halves, even, (X,)) == pytest.approx(5000 / apart, rel=0.05)
    assert worth_in_time([np.ones((50, 1))], np.full(50, -np.log(50)), (X,)) == pytest.approx(50)


def test_what_one_run_forgets_is_not_asked_across_runs() -> None:
    """Two runs that stay each where they are: in one series that would be a single jump."""
    runs = [np.zeros((50, 1)), np.ones((50, 1))]
    assert worth_in_time(runs, np.full(100, -np.log(100)), (X,)) == pytest.approx(100)


def slow_series(rng: np.random.Generator, n: int, rho: float = 0.98) -> np.ndarray:
    return lfilter([np.sqrt(1 - rho**2)], [1, -rho], rng.normal(size=n + 500))[500:]


def test_an_average_knows_that_its_quantity_forgets_more_slowly_than_the_cvs() -> None:
    scores = []
    for seed in range(30):
        rng = np.random.default_rng(seed)
        x = rng.normal(size=(3000, 1))
        samples = reweight([BiasedFrames(x, unbiased, 300.0, (X,))], seed=seed)
        found = samples.average(slow_series(rng, 3000))
        scores.append(found.value / found.error)
    # 20 to 100 where errors are those of the CV's blocks; relative error of a variance
    assert np.mean(np.square(scores)) == pytest.approx(1.2, abs=3 * np.sqrt(2 / 30))


def test_the_difference_of_a_state_left_seldom_knows_how_seldom() -> None:
    """A narrow state of 30 frames a visit beside a wide one whose value changes at once."""
    errors, own = [], []
    for seed in range(12):
        rng = np.random.default_rng(seed)
        stays = rng.geometric([[1 / 30, 1 / 270]] * 30).ravel()
        bound = np.repeat(np.arange(60) % 2 == 0, stays)
        x = np.where(bound, 0.3, 0.3 + rng.uniform(1, 8, len(bound)))[:, None]
        samples = reweight([BiasedFrames(x, unbiased, 300.0, (X,))], seed=seed)
        found = basin_difference(samples, lambda cvs: cvs[:, 0] < 1)
        asked = StateDifference.of("x:1..9|0..1").estimate(samples)
        assert asked == pytest.approx(found, rel=1e-9)
        errors.append(found.error / samples.kT)
        own.append(samples.inefficiencies[0])
    # of 30 visits, stays within and without are exponential: the variance of their log ratio
    assert np.median(errors) == pytest.approx(np.sqrt(2 / 30), rel=0.35)
    assert np.median(own) < 30  # of the CV, where the state's is 55


def test_errors_along_another_cv_know_that_it_is_slower() -> None:
    """One that was worked out after the weights, whose replicates know nothing of it."""
    values, errors, sides = [], [], StateDifference.of("y:-9..0|0..9")
    for seed in range(20):
        rng = np.random.default_rng(seed)
        x, y = rng.normal(size=(3000, 1)), np.clip(slow_series(rng, 3000), -8.9, 8.9)
        y[:2] = -8.9, 8.9  # ends of the two bins
        samples = reweight([BiasedFrames(x, unbiased, 300.0, (X,))], seed=seed)
        samples = replace(
            samples, cvs=np.column_stack([x, y]), variables=(X, CollectiveVariable("y", "nm"))
        )
        found = sides.estimate(samples)
        values.append(found.value)
        errors.append([found.error, free_energy_profile(samples, "y", 2).error.max()])
    # 0.15 to 0.25 of the scatter where errors are those of independent values; that of a scatter
    # of 20 is 0.16 of it. A bin has half of what the difference of two has
    relative = np.median(errors, axis=0) / np.std(values) / [1.0, 0.5]
    assert (np.abs(relative - 1) < 3 * 0.16).all(), relative


def test_samples_without_an_order_in_time_have_no_memory() -> None:
    """Generated values in the order of their size: the error is that of independent ones."""
    x = np.sort(np.random.default_rng(0).normal(size=1000))[:, None]
    samples = reweight_generated(GeneratedFrames(x, np.zeros(1000), 300.0, (X,)))
    found = samples.average(x[:, 0])
    assert found.error == pytest.approx(1000**-0.5, rel=0.25)


def test_importance_weights_are_undone() -> None:
    rng = np.random.default_rng(10)
    x = rng.normal(scale=2.0, size=(5000, 1))
    run = BiasedFrames(x, unbiased, TEMPERATURE, (X,))
    log_weights = norm.logpdf(x[:, 0], scale=1.0) - norm.logpdf(x[:, 0], scale=2.0) + 123.0
    variance = reweight([run], [log_weights]).average(x[:, 0] ** 2)
    assert abs(variance.value - 1.0) < 3.5 * variance.error
    assert variance.error < 0.05


def test_runs_count_by_their_length_whatever_the_constant_of_their_weights() -> None:
    runs = [BiasedFrames(np.full((n, 1), v), unbiased, 300.0, (X,)) for n, v in ((10, 0), (30, 1))]
    samples = reweight(runs, [np.full(10, 5.0), np.full(30, -5.0)], n_bootstrap=0)
    assert samples.average(samples.cvs[:, 0]).value == pytest.approx(0.75)


def test_the_weakest_link_of_a_grid_goes_round_a_gap() -> None:
    square = np.array(
        [[0.6, 0.2, 0.2, 0], [0.2, 0.7, 0, 0.1], [0.2, 0, 0.7, 0.1], [0, 0.1, 0.1, 0.8]]
    )
    assert weakest_link(square) == (0.1, [3])
    assert weakest_link(np.eye(1))[0] == 1.0
    assert weakest_link(np.eye(3))[0] == 0.0


def test_windows_that_do_not_overlap_are_named(caplog: pytest.LogCaptureFixture) -> None:
    windows = oscillator_windows(np.random.default_rng(11), np.array([-3.0, -2.5, 4.0]), 200)
    with caplog.at_level(logging.WARNING, "openmm_cgan"):
        reweight_windows(windows, n_bootstrap=0)
    assert "1 of 3 windows (window at 4.00) overlap" in caplog.text


def test_a_window_that_hops_between_two_places_is_named(
    caplog: pytest.LogCaptureFixture,
) -> None:
    windows = oscillator_windows(np.random.default_rng(14), CENTRES, 200)
    hopping = windows[3].cvs + np.where(np.arange(200) < 120, -0.8, 0.8)[:, None]
    windows[3] = BiasedFrames(hopping, windows[3].bias, TEMPERATURE, (X,), "the hopping one")
    with caplog.at_level(logging.WARNING, "openmm_cgan"):
        reweight_windows(windows, n_bootstrap=0)
    assert "1 of 7 windows (the hopping one) hold fewer than 10 independent frames" in caplog.text


def test_overlapping_windows_pass_in_silence(caplog: pytest.LogCaptureFixture) -> None:
    reweight_windows(oscillator_windows(np.random.default_rng(12), CENTRES, 200), n_bootstrap=0)
    assert not caplog.records


def test_one_window_is_reweighted_by_its_own_bias() -> None:
    [window] = oscillator_windows(np.random.default_rng(13), np.array([0.0]), 4000)
    samples = reweight_windows([window])
    variance = samples.average(samples.cvs[:, 0] ** 2)
    assert abs(variance.value - KT / STIFFNESS) < 3.5 * variance.error


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"temperature": 310.0}, "join windows of one temperature"),
        ({"variables": (CollectiveVariable("y"),)}, "the first one \\['x'\\]"),
        ({"variables": (CollectiveVariable("x", "A"),)}, r"\(A, not periodic\) than .* \(nm, not"),
        ({"variables": (CollectiveVariable("x", "nm", (0.0, 2.0)),)}, r"\(nm, period 2\) than"),
        ({"cvs": np.zeros((0, 1))}, "at least one frame"),
        ({"cvs": np.full((5, 1), np.nan)}, "not finite"),
        ({"bias": lambda cvs: np.full(len(cvs), np.inf)}, "finite energies"),
    ],
)
def test_windows_that_can_not_be_joined_are_refused(change: dict, message: str) -> None:
    nm = CollectiveVariable("x", "nm")
    good = BiasedFrames(np.zeros((5, 1)), unbiased, 300.0, (nm,), "good")
    bad = BiasedFrames(**{**good.__dict__, "name": "bad", **change})
    with pytest.raises(ValueError, match=message) as error:
        reweight_windows([good, bad])
    assert "bad" in str(error.value)
    with pytest.raises(ValueError, match="no window"):
        reweight_windows([])


def test_weights_that_do_not_fit_the_frames_are_refused() -> None:
    run = BiasedFrames(np.zeros((5, 1)), unbiased, 300.0, (X,))
    with pytest.raises(ValueError, match="one number for each frame"):
        reweight([run], [np.zeros(4)])
    with pytest.raises(ValueError, match="not a number"):
        reweight([run], [np.full(5, np.nan)])


def test_pymbar_prints_nothing_on_the_users_terminal() -> None:
    code = (
        "from openmm_cgan.free_energy.mbar import pymbar_quietly as p; import logging; p(); "
        "logging.getLogger('pymbar.mbar_solvers').warning('real trouble')"
    )
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=PATIENCE
    )
    assert run.stdout + run.stderr == "real trouble\n"
