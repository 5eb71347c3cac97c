"""Draws in proportion to weights."""

import numpy as np

from openmm_cgan.proposals.selection import NONE, drawn


def test_one_of_each_row_is_drawn_by_weight() -> None:
    """Refused ones never, whatever they weigh; none where all are."""
    n, weights = 4000, np.array([1.0, 3.0, 6.0])
    logs = np.concatenate([[-np.inf], np.log(weights) - 700.0])
    rows = drawn(np.tile(logs, (n, 1)), np.random.default_rng(1))
    share = weights / weights.sum()
    found = np.bincount(rows, minlength=4) / n
    assert found[0] == 0
    assert (np.abs(found[1:] - share) < 4 * np.sqrt(share * (1 - share) / n)).all()
    none = drawn(np.array([[-np.inf, -np.inf], [-np.inf, 0.0]]), np.random.default_rng(1))
    assert none.tolist() == [NONE, 1]
