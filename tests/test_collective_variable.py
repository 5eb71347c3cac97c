"""Collective variables by name, and grids over them."""

import math
from pathlib import Path

import numpy as np
import pytest

from openmm_cgan.collective_variable import (
    CollectiveVariable,
    first_of_each_cell,
    why_other_cvs,
)
from openmm_cgan.frames import Frames
from openmm_cgan.frames.h5md import SegmentHeader
from openmm_cgan.free_energy import BiasedFrames, reweight_windows
from openmm_cgan.proposals import require_same_variables

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


def test_cvs_of_one_name_and_other_atoms_are_told_apart() -> None:
    def of(action: str, *atoms: int) -> CollectiveVariable:
        return CollectiveVariable("phi", "rad", None, action, atoms)

    phi, backwards, next_one = (
        of("TORSION", *atoms) for atoms in ((4, 6, 8, 14), (14, 8, 6, 4), (14, 16, 18, 24))
    )
    assert why_other_cvs([phi], [backwards]) == why_other_cvs([phi], [of("CUSTOM")]) == ""
    told = "phi is TORSION ATOMS=5,7,9,15 in one and TORSION ATOMS=15,17,19,25 in the other"
    assert why_other_cvs([phi], [next_one]) == told
    assert "ANGLE ATOMS=5,7,9 in" in why_other_cvs([of("ANGLE", 4, 6, 8)], [phi])
    assert why_other_cvs([phi], [D]) == "phi in one, d in the other"
    x = np.zeros((3, 1))
    windows = [BiasedFrames(x, lambda cvs: 0 * cvs[:, 0], 300, [v]) for v in (phi, next_one)]
    first, second = (SegmentHeader((v,), (0,)) for v in (next_one, phi))
    for refuses in (
        lambda: require_same_variables([phi], [next_one]),
        lambda: reweight_windows(windows),
        lambda: first.require_same(second, Path("segment")),
    ):
        with pytest.raises(ValueError, match="TORSION ATOMS=15,17,19,25 in the other"):
            refuses()


def test_two_cvs_of_one_name_are_refused() -> None:
    one, two = np.zeros((4, 3)), np.zeros((4, 2))
    for make in (
        lambda: Frames.of_arrays(one, two, ["d", "d"]),
        lambda: BiasedFrames(two, lambda cvs: cvs[:, 0], 300, [D, D]),
    ):
        with pytest.raises(ValueError, match="two CVs are called d: give each its own name"):
            make()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (((-math.pi, math.pi),), "expected a text"),
        (("rad", (math.pi, -math.pi)), "lower and upper end"),
        (("rad", (0.0, math.inf)), "lower and upper end"),
        (("rad", (0.0,)), "lower and upper end"),
    ],
)
def test_a_domain_is_a_range_behind_the_unit(given: tuple[object, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CollectiveVariable("phi", *given)
