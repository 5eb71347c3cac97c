"""Collective variables by name, and grids over them."""

import math

import numpy as np
import pytest

from openmm_cgan.collective_variable import CollectiveVariable, first_of_each_cell

PHI = CollectiveVariable("phi", "rad", (-math.pi, math.pi))
D = CollectiveVariable("d", "nm")


@pytest.mark.parametrize(
    ("variables", "bins"), [((PHI,), 12), ((PHI, D), 12), ((PHI, D, PHI), 5), ((D,) * 4, 3)]
)
def test_the_first_of_each_cell_is_what_looking_at_one_after_another_finds(
    variables: tuple[CollectiveVariable, ...], bins: int
) -> None:
    rng = np.random.default_rng(1)
    cvs = rng.uniform(-math.pi, math.pi, (300, len(variables)))
    sides = [v.domain or (min(cvs[:, k]), max(cvs[:, k])) for k, v in enumerate(variables)]
    seen: dict[tuple[int, ...], int] = {}
    for row, values in enumerate(cvs):
        cell = tuple(
            min(bins - 1, int(bins * (x - low) / (high - low)))
            for x, (low, high) in zip(values, sides, strict=True)
        )
        seen.setdefault(cell, row)
    assert sorted(first_of_each_cell(cvs, variables, 12, 3)) == sorted(seen.values())
