"""How high the pass between two states is, on profiles whose passes are known."""

import numpy as np
import pytest

from openmm_cgan.collective_variable import CollectiveVariable
from openmm_cgan.explore.passes import height_of_pass
from openmm_cgan.free_energy import FreeEnergy
from openmm_cgan.free_energy.differences import StateDifference

PHI = CollectiveVariable("phi", "rad", (-np.pi, np.pi))
D = CollectiveVariable("d", "nm")


def profile(values: np.ndarray, variable: CollectiveVariable) -> FreeEnergy:
    low, high = variable.domain or (0.0, 1.0)
    n = len(values)
    centres = low + (high - low) * (np.arange(n) + 0.5) / n
    return FreeEnergy((variable,), (centres,), values, np.zeros(n))


def test_of_two_ways_round_the_lower_one_counts() -> None:
    """Wells of 2 phi; the barrier at 0 is 30, that at pi 50."""
    phi = profile(np.zeros(72), PHI).centres[0]
    values = np.where(np.abs(phi) < np.pi / 2, 30.0, 50.0) * np.cos(phi) ** 2
    between = StateDifference.of("phi:-pi..0|0..pi")
    assert height_of_pass(profile(values, PHI), between) == pytest.approx(30, rel=0.01)
    blocked = np.where(np.abs(phi) < 0.2, np.nan, values)
    assert height_of_pass(profile(blocked, PHI), between) == pytest.approx(50, rel=0.01)
    both = np.where(np.abs(phi) > 3.0, np.nan, blocked)
    assert height_of_pass(profile(both, PHI), between) == np.inf
    assert height_of_pass(profile(values, D), StateDifference.of("d:0..0.5|0.5..1")) == (
        pytest.approx(30, rel=0.01)
    )


def test_a_state_that_nobody_has_seen_has_no_way_to_it() -> None:
    values = np.array([0.0, 1.0, 2.0, np.nan, np.nan])
    assert height_of_pass(profile(values, D), StateDifference.of("d:0..0.3|0.7..1")) == np.inf
