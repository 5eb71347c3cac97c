"""Frames of a part of a system, and what tells a molecule from another."""

from dataclasses import replace

import numpy as np
import pytest
from openmm import app

from openmm_cgan.frames import (
    Frames,
    are_of,
    frames_of_atoms,
    frames_to_learn,
    molecule_hash,
    require_molecule,
    topology_hash,
)
from openmm_cgan.testsystems import alanine_dipeptide


def made(*molecules: tuple[str, str, list[tuple[int, int]]]) -> app.Topology:
    """A topology of molecules: residue name, elements, pairs that are bonded."""
    topology = app.Topology()
    chain = topology.addChain()
    for name, elements, bonds in molecules:
        residue = topology.addResidue(name, chain)
        atoms = [
            topology.addAtom(f"{e}{i}", app.Element.getBySymbol(e), residue)
            for i, e in enumerate(elements)
        ]
        for one, two in bonds:
            topology.addBond(atoms[one], atoms[two])
    return topology


WATER = ("HOH", "OHH", [(0, 1), (0, 2)])
PEROXIDE = ("H2O2", "HOOH", [(0, 1), (1, 2), (2, 3)])
SOLVATED = made(WATER, PEROXIDE, WATER)


def frames_of(topology: app.Topology, box: bool) -> Frames:
    n = topology.getNumAtoms()
    x = np.arange(2 * n * 3, dtype=np.float32).reshape(2, n, 3)
    frames = Frames.of_arrays(x, np.zeros(2))
    return replace(frames, box=np.float32([1000 * np.eye(3)] * 2) if box else None)


def test_some_atoms_of_frames() -> None:
    frames = frames_of(SOLVATED, False)
    part = frames_of_atoms(frames, [3, 5])
    np.testing.assert_array_equal(part.positions, frames.positions[:, [3, 5]])
    assert part.atoms.tolist() == [3, 5]
    np.testing.assert_array_equal(part.cvs, frames.cvs)
    again = frames_of_atoms(part, [5])
    np.testing.assert_array_equal(again.positions, frames.positions[:, [5]])
    with pytest.raises(ValueError, match=r"1 of the 2 .* hold 2; the first is atom 4"):
        frames_of_atoms(part, [3, 4])


@pytest.mark.parametrize(
    ("box", "atoms", "expected"),
    [
        (True, None, [3, 4, 5, 6]),
        (False, None, list(range(10))),
        (True, "all", list(range(10))),
        (False, "resname H2O2", [3, 4, 5, 6]),
        (False, [4, 5], [4, 5]),
    ],
)
def test_what_is_learned(box: bool, atoms: object, expected: list[int]) -> None:
    frames = frames_of(SOLVATED, box)
    assert frames_to_learn(frames, SOLVATED, atoms).atoms.tolist() == expected


def test_what_is_learned_of_frames_that_were_written_of_a_part() -> None:
    frames = frames_of_atoms(frames_of(SOLVATED, True), [4, 5, 6, 7])
    assert frames_to_learn(frames, SOLVATED, None).atoms.tolist() == [4, 5, 6]
    ion_alone = frames_of_atoms(frames, [7])
    assert frames_to_learn(ion_alone, SOLVATED, None) is ion_alone
    with pytest.raises(ValueError, match="are not in the frames"):
        frames_to_learn(frames, SOLVATED, "resname H2O2")
    with pytest.raises(ValueError, match="give the topology to select from"):
        frames_to_learn(frames, None, "resname H2O2")
    assert frames_to_learn(frames, None, [5]).atoms.tolist() == [5]


def test_a_molecule_is_the_same_whatever_surrounds_and_names_it() -> None:
    alone, atoms = made(PEROXIDE), [3, 4, 5, 6]
    renamed = made(("LIG", "HOOH", PEROXIDE[2]))
    hashes = {
        molecule_hash(topology, chosen)
        for topology, chosen in ((alone, range(4)), (renamed, range(4)), (SOLVATED, atoms))
    }
    assert len(hashes) == 1
    assert topology_hash(alone) != topology_hash(renamed)


@pytest.mark.parametrize(
    "other",
    [
        ("H2O2", "HOSH", PEROXIDE[2]),  # another element
        ("H2O2", "HOOH", [(0, 1), (1, 2), (1, 3)]),  # another constitution
        ("H2O2", "OHHO", [(1, 0), (0, 3), (3, 2)]),  # another order
    ],
)
def test_another_molecule_is_told(other: tuple[str, str, list[tuple[int, int]]]) -> None:
    known = molecule_hash(made(PEROXIDE), range(4))
    assert molecule_hash(made(other), range(4)) != known
    with pytest.raises(ValueError, match="a model was trained on another molecule"):
        require_molecule(made(other), range(4), known, "", "a model")


def test_atoms_of_the_same_molecule_are_found_only_at_their_numbers() -> None:
    known = molecule_hash(SOLVATED, [3, 4, 5, 6])
    require_molecule(SOLVATED, [3, 4, 5, 6], known, "of another system", "a model")
    with pytest.raises(ValueError, match=r"another molecule.* in which the molecule has these"):
        require_molecule(made(PEROXIDE, WATER, WATER), [3, 4, 5, 6], known, "", "a model")
    with pytest.raises(ValueError, match=r"up to number 6, .* this one has 4"):
        require_molecule(made(PEROXIDE), [3, 4, 5, 6], known, "", "a model")


def test_of_earlier_files_the_whole_topology_counts() -> None:
    molecule = alanine_dipeptide()
    whole = topology_hash(molecule.topology)
    require_molecule(molecule.topology, range(22), "", whole, "a model")
    with pytest.raises(ValueError, match="another topology"):
        require_molecule(SOLVATED, range(10), "", whole, "a model")
    require_molecule(SOLVATED, range(10), "", "", "a model")  # nothing is known


def test_frames_are_known_by_their_molecule_where_a_program_names_it_otherwise() -> None:
    written = made(WATER, PEROXIDE, WATER)
    named = made(("WAT", *WATER[1:]), ("LIG", *PEROXIDE[1:]), ("WAT", *WATER[1:]))
    other = made(WATER, ("H2O2", "HOSH", PEROXIDE[2]), WATER)
    atoms = [3, 4, 5, 6]
    frames = replace(
        frames_of_atoms(frames_of(written, True), atoms),
        topology_hash=topology_hash(written),
        molecule_hash=molecule_hash(written, atoms),
    )
    assert are_of(frames, written)
    assert are_of(frames, named)
    assert not are_of(frames, other)
    assert not are_of(frames, made(PEROXIDE))  # other numbers
    assert not are_of(replace(frames, molecule_hash=""), named)  # of earlier files
    part = frames_to_learn(frames, named, [4, 5])
    assert are_of(part, named)
    assert not are_of(frames_to_learn(frames, other, [4, 5]), named)


def test_a_virtual_site_in_vacuum_is_not_learned(caplog: pytest.LogCaptureFixture) -> None:
    """It follows its atoms, and was taken for a molecule of its own."""
    topology = made(PEROXIDE)
    topology.addAtom("EP", None, next(topology.residues()))
    frames = replace(frames_of(topology, False), topology_hash=topology_hash(topology))
    caplog.set_level("INFO", "openmm_cgan")
    found = frames_to_learn(frames, topology, None)
    assert found.atoms.tolist() == [0, 1, 2, 3]
    assert found.molecule_hash == molecule_hash(topology, range(4))
    assert "4 atoms (all but 1 virtual sites)" in caplog.text
    assert frames_to_learn(frames, topology, [0, 4]).atoms.tolist() == [0, 4]  # as asked for
    beads = app.Topology()
    residue = beads.addResidue("B", beads.addChain())
    for k in range(3):
        beads.addAtom(f"B{k}", None, residue)
    assert len(frames_to_learn(frames_of(beads, False), beads, None).atoms) == 3
