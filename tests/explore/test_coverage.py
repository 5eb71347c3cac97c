"""Where runs have been."""

import numpy as np
import pytest

from openmm_cgan.explore.coverage import crossings


@pytest.mark.parametrize(
    ("sides", "expected"),
    [
        ([0] * 6 + [1, 0, 1, 0, 1, 0] + [0] * 5, 0),  # on the border, and back
        ([0] * 6 + [-1, 1, 0] + [1] * 5 + [-1] * 9 + [1] * 5, 1),
        ([0] * 5 + [1] * 5 + [0] * 5, 2),
        ([0] * 5 + [1] * 4 + [0] * 5, 0),  # it did not stay
        ([0, 1, 0], 0),
        ([-1] * 20, 0),
    ],
)
def test_a_crossing_is_an_arrival_in_the_other_state(sides: list[int], expected: int) -> None:
    assert crossings(np.array(sides)) == expected
