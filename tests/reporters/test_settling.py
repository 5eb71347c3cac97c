"""The rule by which a settle window is measured, and the looks that it is measured by."""

import logging

import numpy as np
import pytest
from numpy.typing import NDArray

from openmm_cgan.reporters.settling import AGAIN, INJECTIONS, LOOKS, SettleWatch, settled_after


def noise(rng: np.random.Generator, memory: float, n: int = INJECTIONS) -> NDArray:
    """Stationary noise that is forgotten in so many looks: (n injections, looks, 4 observables)."""
    x = rng.standard_normal((n, LOOKS, 4))
    kept = np.exp(-1 / memory)
    for k in range(1, LOOKS):
        x[:, k] = kept * x[:, k - 1] + np.sqrt(1 - kept**2) * x[:, k]
    return x


@pytest.mark.parametrize("memory", [0.1, 3.0, 30.0])
@pytest.mark.parametrize("n", [INJECTIONS, AGAIN[-1]])
def test_a_run_that_nothing_disturbed_is_settled_at_once(memory: float, n: int) -> None:
    rng = np.random.default_rng(1)
    found = [
        settled_after(noise(rng, memory, n), noise(rng, memory).mean(axis=1)[:, :3])
        for _ in range(100)
    ]
    assert sum(looks == 0 for looks in found) >= 65
    assert sum(looks is None for looks in found) <= 5


def test_half_a_deviation_is_seen_in_160_injections_if_not_in_20() -> None:
    """As the energy of a box into which a molecule was put: at first 0.5 off, then less."""
    rng = np.random.default_rng(11)
    off = np.zeros((LOOKS, 4))
    off[:, 0] = 0.5 * np.exp(-np.arange(LOOKS) / 8)
    few, many = (
        np.array([settled_after(noise(rng, 3.0, n) + off) for _ in range(30)], dtype=float)
        for n in (INJECTIONS, AGAIN[-1])
    )
    assert (few == 0).sum() >= 10, "20 are too few: else this test shows nothing"
    assert not (many == 0).any(), "4 standard errors"
    # where it is 3 standard errors of a look it is not over, nor far beyond where it is one
    three, one = (8 * np.log(0.5 / (k / np.sqrt(AGAIN[-1]))) for k in (3, 1))
    assert np.floor(three) <= np.median(many) <= one


def test_energies_are_held_against_the_undisturbed_run_where_the_window_ends() -> None:
    """A first look 2.8 standard errors off the later ones, but more than 4 off the run before."""
    rng = np.random.default_rng(12)
    own = rng.standard_normal((INJECTIONS, 1, 3))  # of each injection, for ever
    own = (own - own.mean(axis=0)) / own.std(axis=0, ddof=1)
    fast = 0.3 * noise(rng, 0.1)[:, :, :3]
    seen = own + fast - fast.mean(axis=0)
    alone = own[:, 0] - 1.2  # off by 3.8
    off = 2.8 * (seen[:, 0] - seen[:, LOOKS // 2 :].mean(axis=1)).std(axis=0) / INJECTIONS**0.5
    seen[:, 0] += off
    assert settled_after(seen) == 0
    assert settled_after(seen, alone) == 1


@pytest.mark.parametrize("size", [3.0, 10.0, -10.0])
@pytest.mark.parametrize("decay", [1.0, 3.0])
def test_what_decays_is_left_out_until_it_is_lost_in_the_noise(size: float, decay: float) -> None:
    """Where size exp(-t/decay) is 4 standard errors, or the noise can hide it."""
    rng = np.random.default_rng(2)
    transient = size * np.exp(-np.arange(LOOKS) / decay)
    errors = np.sqrt(1 / INJECTIONS)
    seen_until = decay * np.log(abs(size) / (4 * errors))
    found = []
    for _ in range(50):
        x = noise(rng, 1.0)
        x[:, :, 1] += transient[:, None].T
        found.append(settled_after(x))
    looks = np.array([LOOKS if n is None else n for n in found])
    assert np.median(looks) >= np.floor(seen_until)
    assert np.median(looks) <= seen_until + 2 * decay + 2


def test_what_no_single_look_shows_is_seen_in_many() -> None:
    """Two standard errors of a look are six of nine of them."""
    rng = np.random.default_rng(7)
    weak = 2 / np.sqrt(INJECTIONS) * (np.arange(LOOKS) < 16)
    found = [settled_after(noise(rng, 0.1) + weak[None, :, None]) for _ in range(30)]
    assert np.median([LOOKS if n is None else n for n in found]) >= 6


def test_what_does_not_settle_is_not_said_to_have() -> None:
    rng = np.random.default_rng(3)
    on_its_way = np.linspace(5, 0, LOOKS)[None, :, None]
    assert settled_after(noise(rng, 1.0) + on_its_way) is None
    late = 5.0 * (np.arange(LOOKS) < LOOKS // 2)[None, :, None]
    assert settled_after(noise(rng, 1.0) + late) is None


def test_a_run_that_is_not_what_it_was_before_has_not_settled() -> None:
    """Whose excess decays more slowly than it is watched, so that its halves agree."""
    rng = np.random.default_rng(9)
    seen = noise(rng, 3.0)
    deviation = seen[:, LOOKS // 2 :].mean(axis=1).std(axis=0).max()
    for n_alone, excess in ((1, 6.0), (20, 2.0)):
        alone = noise(rng, 3.0)[:n_alone].mean(axis=1)[:, :3]
        assert settled_after(seen, alone) is not None
        assert settled_after(seen + excess * deviation, alone) is None
        only_a_cv = seen + np.array([0, 0, 0, 50.0])
        assert settled_after(only_a_cv, alone) is not None, "seeds go where the run was not"


def test_the_undisturbed_run_is_looked_at_until_the_first_injection() -> None:
    rng = np.random.default_rng(10)
    seen = noise(rng, 0.1)
    found = []
    for excess in (0.0, 9.0):
        watch = SettleWatch(400, 100)
        watch.left_alone(1000)
        steps = []
        for now in range(1000, 3001):
            if watch.next_look(now) == 0:
                watch.look(noise(rng, 0.1)[0, 0] + excess)
                steps.append(now)
        assert steps == list(range(1010, 3001, 10))
        saved, watch = watch.saved(), SettleWatch(400, 100)
        watch.restore_saved(saved)
        watch, _ = watched(watch, seen, 400)
        found.append(watch.steps)
    assert found[0] <= 200, "half of the time that is watched, at most"
    assert found[1] == 400


def test_what_never_changes_is_settled_whatever_its_value() -> None:
    constant = np.full((INJECTIONS, LOOKS, 3), 0.1) * [1.0, 3.3e5, 1e-9]
    assert settled_after(constant) == 0


def watched(
    watch: SettleWatch, seen: NDArray, interval: int, save_at: int = -1
) -> tuple[SettleWatch, list[int]]:
    """A run with an injection at each interval, looked at as the watch asks for; once saved."""
    steps = []
    step = 0
    for rows in seen:
        watch.injected(step, np.zeros(1))
        taken = 0
        for now in range(step, step + interval + 1):
            if now == save_at:
                saved, watch = watch.saved(), SettleWatch(interval, 100)
                watch.restore_saved(saved)
            if watch.next_look(now) == 0:
                watch.look(rows[taken])
                steps.append(now)
                taken += 1
        step += interval
    return watch, steps


def test_the_window_is_measured_in_steps(caplog: pytest.LogCaptureFixture) -> None:
    rng = np.random.default_rng(4)
    seen = noise(rng, 0.1)
    seen[:, :6] += 20.0
    watch = SettleWatch(400, 100, cautious=True)
    assert (watch.steps, watch.how) == (400, "assumed")
    with caplog.at_level(logging.INFO, "openmm_cgan"):
        watch, steps = watched(watch, seen, 400)
    assert steps == list(range(10, 400 * INJECTIONS + 1, 10))
    assert (watch.steps, watch.how) == (100, "measured")
    assert "settle window 60 steps, measured on the first 20 injections; 100 are taken, as" in (
        caplog.text
    )
    assert watch.next_look(10**6) is None
    watch.injected(10**6, np.zeros(1))
    assert watch.next_look(10**6) == 10, "it is measured again"


def test_the_window_is_measured_again_until_160_are_seen(caplog: pytest.LogCaptureFixture) -> None:
    rng = np.random.default_rng(4)
    seen = noise(rng, 0.1, AGAIN[-1])
    seen[:, :6] += 20.0
    with caplog.at_level(logging.INFO, "openmm_cgan"):
        watch, steps = watched(SettleWatch(400, 100), seen, 400)
    assert steps == list(range(10, 400 * AGAIN[-1] + 1, 10))
    assert watch.steps == 60
    assert [int(r.message.split(" injections")[0].split()[-1]) for r in caplog.records] == [
        INJECTIONS, *AGAIN
    ]  # fmt: skip
    watch.injected(10**6, np.zeros(1))
    assert watch.next_look(10**6) is None, "and no more"


@pytest.mark.parametrize("save_at", [0, 5, 10, 399, 400, 4003])
def test_a_saved_watch_goes_on_as_if_nothing_had_been(save_at: int) -> None:
    seen = noise(np.random.default_rng(5), 0.1)
    seen[:, :4] -= 20.0
    whole, steps = watched(SettleWatch(400, 100), seen, 400)
    again, others = watched(SettleWatch(400, 100), seen, 400, save_at)
    assert (again.steps, again.how, others) == (whole.steps, whole.how, steps)
    assert (whole.steps, whole.how) == (100, "measured")


def test_a_watch_of_another_interval_is_refused() -> None:
    watch = SettleWatch(400, 100)
    watch.injected(0, np.zeros(1))
    for _ in range(39):
        watch.look(np.zeros(2))
    with pytest.raises(ValueError, match="the interval was another one"):
        SettleWatch(13, 100).restore_saved(watch.saved())


def test_what_has_not_settled_takes_all_the_time(caplog: pytest.LogCaptureFixture) -> None:
    seen = noise(np.random.default_rng(6), 0.1) + np.linspace(9, 0, LOOKS)[None, :, None]
    watch, _ = watched(SettleWatch(400, 100), seen, 400)
    assert (watch.steps, watch.how) == (400, "measured")
    assert "had not settled 400 steps after its first 20 injections" in caplog.text


def test_an_interval_shorter_than_the_looks_is_looked_at_step_by_step() -> None:
    watch, steps = watched(SettleWatch(13, 100), np.zeros((AGAIN[-1], 13, 1)), 13)
    assert steps == list(range(1, 13 * AGAIN[-1] + 1))
    assert (watch.steps, watch.how) == (0, "measured")


def test_a_look_that_was_missed_leaves_the_injection_out() -> None:
    watch = SettleWatch(400, 100)
    watch.injected(0, np.zeros(1))
    assert watch.next_look(3) == 7
    assert watch.next_look(11) is None
    assert watch.next_look(12) is None
    watch.injected(400, np.zeros(1))
    assert watch.next_look(400) == 10
