"""Torsions that no CV is: which, their wells, and how often they changed them."""

import numpy as np
import pytest
from openmm import app

from openmm_cgan.collective_variable import CollectiveVariable
from openmm_cgan.explore.torsions import (
    hops,
    never_seen,
    turning_hydrogens,
    turning_torsions,
    wells,
)
from openmm_cgan.testsystems import PHI_ATOMS, alanine_dipeptide, alanine_pentapeptide, torsion


def cv(atoms: tuple[int, ...]) -> CollectiveVariable:
    return CollectiveVariable("cv", "rad", (-np.pi, np.pi), "TORSION", atoms)


def test_amides_methyls_and_cvs_are_left_out() -> None:
    molecule = alanine_dipeptide()
    found = turning_torsions(molecule.topology, [])
    assert {frozenset(t.atoms[1:3]) for t in found} == {frozenset((6, 8)), frozenset((8, 14))}
    assert all(t.name.startswith("ALA2:") for t in found)
    left = turning_torsions(molecule.topology, [cv(PHI_ATOMS)])
    assert len(left) == 1
    assert set(left[0].atoms[1:3]) == {8, 14}
    assert len(turning_torsions(alanine_pentapeptide().topology, [])) == 10


def test_a_hydroxyl_turns_where_it_is_asked_for_and_a_methyl_does_not() -> None:
    """CH3-CH2-OH."""
    topology = app.Topology()
    residue = topology.addResidue("EOH", topology.addChain())
    names = ["C1", "C2", "O", "HO", "H1", "H2", "H3", "H4", "H5"]
    elements = [app.element.carbon] * 2 + [app.element.oxygen] + [app.element.hydrogen] * 6
    atoms = [topology.addAtom(n, e, residue) for n, e in zip(names, elements, strict=True)]
    for one, two in ((0, 1), (1, 2), (2, 3), (0, 4), (0, 5), (0, 6), (1, 7), (1, 8)):
        topology.addBond(atoms[one], atoms[two])
    assert turning_torsions(topology, []) == []
    [found] = turning_torsions(topology, [], hydroxyls=True)
    assert found.atoms == (0, 1, 2, 3)
    assert turning_torsions(topology, [cv((3, 2, 1, 0))], hydroxyls=True) == []
    assert len(turning_torsions(alanine_dipeptide().topology, [], hydroxyls=True)) == 2


def test_values_are_those_of_the_torsion() -> None:
    molecule = alanine_pentapeptide()
    for found in turning_torsions(molecule.topology, [])[:3]:
        value = found.values(molecule.positions[None])[0]
        assert value == pytest.approx(torsion(molecule.positions, found.atoms))


def three_wells(n: int, rng: np.random.Generator) -> np.ndarray:
    """In each of three wells a tenth of the time at once, in turn."""
    centres = np.repeat(np.arange(30) % 3, n // 30) * 2 * np.pi / 3 - 2.0
    return np.mod(centres + rng.normal(0, 0.25, len(centres)) + np.pi, 2 * np.pi) - np.pi


def test_three_wells_are_found_and_hops_counted() -> None:
    angles = three_wells(6000, np.random.default_rng(2))
    borders = wells(angles)
    assert len(borders) == 3
    expected = np.sort(np.mod(np.array([-2.0, 0.09, 2.19]) + np.pi / 3 + np.pi, 2 * np.pi) - np.pi)
    assert np.abs(borders - expected).max() < 0.35
    assert hops(angles, borders) == 29


def test_one_well_has_no_borders_even_across_pi() -> None:
    rng = np.random.default_rng(3)
    angles = np.mod(rng.normal(np.pi, 0.4, 3000) + np.pi, 2 * np.pi) - np.pi
    assert len(wells(angles)) == 0
    assert hops(angles, wells(angles)) == 0
    assert len(wells(rng.uniform(-np.pi, np.pi, 3000))) == 0  # noise makes none


def test_a_glimpse_of_a_barrier_is_no_hop() -> None:
    angles = np.concatenate([np.full(500, -2.0), np.full(500, 1.0)])
    angles[::7] += 0.1
    borders = wells(angles)
    assert len(borders) == 2
    looked_over = angles.copy()
    looked_over[100] = borders[np.abs(borders + 0.5).argmin()] + 0.05
    assert hops(looked_over, borders) == hops(angles, borders) == 1


def test_what_was_never_seen_is_60_degrees_away_from_all() -> None:
    visited = np.array([3.0, -3.0, 1.0])
    asked = np.array([np.pi, 2.0, -1.0, -2.2, 0.0])
    assert never_seen(asked, visited).tolist() == [False, False, True, False, False]


def molecule_of(words: str) -> app.Topology:
    """Of heavy atoms in a row with their hydrogens, such as C3 C2 O1; =O0 hangs on the C before."""
    topology = app.Topology()
    residue = topology.addResidue("X", topology.addChain())
    row: list[app.topology.Atom] = []
    for word in words.split():
        element = app.element.get_by_symbol(word[-2])
        atom = topology.addAtom(f"{word[-2]}{len(row) + 1}", element, residue)
        if row:
            topology.addBond(row[-1], atom)
        if word[0] != "=":
            row.append(atom)
        for k in range(int(word[-1])):
            hydrogen = topology.addAtom(f"H{atom.name}{k}", app.element.hydrogen, residue)
            topology.addBond(atom, hydrogen)
    return topology


HYDROGENS = {
    "C3 C2 O1": ["X1:C2-O3"],
    "C3 O1": [],  # three times the same
    "C3 C0 =O0 O1": ["X1:C2-O3"],
    "C3 C2 S1": ["X1:C2-S3"],
    "C3 C2 N2": ["X1:C2-N3"],
    "C3 C2 N3": [],
    "C3 C0 =O0 N2": [],
    "O1 O1": ["X1:O1-O2", "X1:O2-O1"],
    "C3 C3": [],
    "O2": [],
}


@pytest.mark.parametrize("molecule", HYDROGENS)
def test_hydrogens_that_turn_are_named_where_it_makes_a_difference(molecule: str) -> None:
    topology = molecule_of(molecule)
    assert turning_hydrogens(topology) == HYDROGENS[molecule]
    assert turning_torsions(topology, []) == []
