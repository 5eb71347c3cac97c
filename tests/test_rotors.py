"""Rotors: found by bonds, exchanged in a circle."""

import numpy as np
import pytest
from openmm import app, unit

from openmm_cgan.atom_selection import solute_atoms
from openmm_cgan.rotors import exchange_hydrogens, find_rotors, turns_heavy_atoms
from openmm_cgan.testsystems import alanine_dipeptide
from openmm_cgan.topology_records import topology_of, topology_record


@pytest.fixture(scope="module")
def molecule():
    return alanine_dipeptide("C7eq")


def names(topology, rotor):
    atoms = list(topology.atoms())
    return sorted(f"{atoms[a].residue.name}-{atoms[a].name}" for a in rotor)


def test_the_three_methyl_groups_are_found(molecule):
    rotors = find_rotors(molecule.topology)
    found = [names(molecule.topology, rotor) for rotor in rotors]
    atoms = list(molecule.topology.atoms())
    assert len(found) == 3
    for rotor in rotors:  # all on one carbon
        bonds = [b for b in molecule.topology.bonds() if {b[0].index, b[1].index} & set(rotor)]
        centres = {a.index for b in bonds for a in b} - set(rotor)
        assert len(centres) == 1
        assert atoms[centres.pop()].element.symbol == "C"


def test_hydrogens_that_a_cv_names_are_told_apart(molecule):
    rotors = find_rotors(molecule.topology)
    assert find_rotors(molecule.topology, fixed=[rotors[1][0]]) == [rotors[0], rotors[2]]


def test_numbers_are_those_among_the_atoms_chosen(molecule):
    every = find_rotors(molecule.topology)
    chosen = list(range(1, 22))  # without the first hydrogen of the first methyl group
    assert find_rotors(molecule.topology, chosen) == [
        tuple(a - 1 for a in rotor) for rotor in every if 0 not in rotor
    ]


def test_methane_and_water_are_no_rotors():
    topology = app.Topology()
    residue = topology.addResidue("X", topology.addChain())
    for n_hydrogens, symbol in ((4, "C"), (2, "O"), (3, "N")):
        centre = topology.addAtom(symbol, app.Element.getBySymbol(symbol), residue)
        for k in range(n_hydrogens):
            hydrogen = topology.addAtom(f"H{k}", app.Element.getBySymbol("H"), residue)
            topology.addBond(centre, hydrogen)
    assert find_rotors(topology) == []


def with_hydrogens(molecule, symbol, chosen=None):
    """The topology with another isotope of the chosen hydrogens, or of all."""
    made = topology_of(topology_record(molecule.topology))
    for atom in made.atoms():
        if atom.element.symbol == "H" and (chosen is None or atom.index in chosen):
            atom.element = app.Element.getBySymbol(symbol)
    return made


def test_deuterium_is_hydrogen(molecule):
    rotors, rows = find_rotors(molecule.topology), np.array([[0, 1, 4, 6], [4, 6, 8, 10]])
    heavy = with_hydrogens(molecule, "D")
    assert find_rotors(heavy) == rotors
    turns = turns_heavy_atoms(molecule.topology, rows)
    assert turns.tolist() == [False, True]
    assert turns_heavy_atoms(heavy, rows).tolist() == turns.tolist()
    mixed = with_hydrogens(molecule, "D", {rotors[1][0]})
    assert find_rotors(mixed) == [rotors[0], rotors[2]], "hydrogens of CH2D are not alike"


def test_heavy_water_is_water():
    topology = app.Topology()
    chain = topology.addChain()
    for name, symbols in (("LIG", "CO"), ("HOH", "OHD"), ("DOD", "ODD")):
        residue = topology.addResidue(name, chain)
        first, *others = (topology.addAtom(s, app.Element.getBySymbol(s), residue) for s in symbols)
        for other in others:
            topology.addBond(first, other)
    assert solute_atoms(topology).tolist() == [0, 1]


def test_exchanging_keeps_energy_and_handedness(molecule):
    import openmm

    context = openmm.Context(
        molecule.system, openmm.VerletIntegrator(0.001), openmm.Platform.getPlatform("Reference")
    )
    rng = np.random.default_rng(0)
    x = molecule.positions + 0.005 * rng.standard_normal((30, 22, 3))
    rotors = find_rotors(molecule.topology)
    exchanged = exchange_hydrogens(x, rotors, rng)
    changed = (exchanged != x).any(axis=2)
    assert set(np.flatnonzero(changed.any(axis=0))) == {a for rotor in rotors for a in rotor}
    turns = changed[:, rotors[0]].sum(axis=1)
    assert set(turns) == {0, 3}  # all three or none: never two alone

    def energy(positions):
        context.setPositions(positions)
        return (
            context.getState(energy=True)
            .getPotentialEnergy()
            .value_in_unit(unit.kilojoule_per_mole)
        )

    for before, after in zip(x, exchanged, strict=True):
        assert energy(after) == pytest.approx(energy(before), abs=1e-6)


def test_all_thirds_are_equally_likely():
    n = 3000
    x = np.broadcast_to(np.arange(3.0)[None, :, None], (n, 3, 3))
    turned = exchange_hydrogens(x, [(0, 1, 2)], np.random.default_rng(1))[:, 0, 0]
    counts = np.array([(turned == k).sum() for k in range(3)])
    assert (np.abs(counts - n / 3) < 4 * np.sqrt(n * 2 / 9)).all()
