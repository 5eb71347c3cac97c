"""What is tied to a part of a System: its constraints, what goes with it."""

import numpy as np
import openmm
import pytest

from openmm_cgan.constraints import TiedAtoms, half_log_det_constraints, why_not_moved

# a chain 5-2-4-3, a pair 0-1, and atom 6 alone
PAIRS = np.array([[0, 1], [5, 2], [3, 4], [4, 2]])
MASSES = np.array([16.0, 1.0, 12.0, 14.0, 1.5, 3.0, 40.0])


@pytest.mark.parametrize(
    ("part", "tied"), [([3], [2, 3, 4, 5]), ([6, 5], [2, 3, 4, 5, 6]), ([0], [0, 1]), ([6], [6])]
)
def test_what_a_part_changes_of_the_fixman_factor_is_that_of_the_atoms_tied(
    part: list[int], tied: list[int]
) -> None:
    found = TiedAtoms(np.array(part), PAIRS, MASSES)
    assert found.atoms.tolist() == tied
    x = np.random.default_rng(0).normal(0, 0.1, (4, 7, 3))
    x[1:, np.setdiff1d(np.arange(7), tied)] = x[0, np.setdiff1d(np.arange(7), tied)]
    whole = half_log_det_constraints(x, PAIRS, MASSES)
    own = found.half_log_det(x[:, found.atoms])
    np.testing.assert_allclose(whole - whole[0], own - own[0], atol=1e-12)


def test_what_goes_with_a_part_does_not_let_it_move() -> None:
    system = openmm.System()
    for mass in (12.0, 12.0, 12.0, 0.0, 0.0):
        system.addParticle(mass)
    system.setVirtualSite(3, openmm.TwoParticleAverageSite(0, 1, 0.5, 0.5))
    assert "virtual site 3 goes with atoms" in why_not_moved(system, {1, 2})
    assert why_not_moved(system, {2}) == ""
    assert "the atoms [4] of the part" in why_not_moved(system, {2, 4})
    system.addForce(openmm.DrudeForce())
    assert "Drude particles" in why_not_moved(system, {2})
