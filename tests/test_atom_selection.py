"""Which atoms are meant: MDAnalysis' selections, indices, and the solute by default."""

import json
import logging
import warnings
from importlib.resources import files

import MDAnalysis
import numpy as np
import pytest
from openmm import app

from openmm_cgan.atom_selection import (
    atoms_to_take,
    check_selection,
    selected_atoms,
    solute_atoms,
    words_or_indices,
)
from openmm_cgan.testsystems import alanine_dipeptide
from openmm_cgan.topologies import part_of
from openmm_cgan.windows import WindowSettings

ALANINE = np.arange(22)
SELECTIONS = [
    "protein",
    "backbone and not name O",
    "name CA CB",
    "element H and resname ALA",
    "resid 30:31",
    "segid B",
    "chainID B",
    "same fragment as index 3",
    "bonded name CA",
    "byres name CB",
    "not (protein or resname HOH)",
    "index 0:2 5",
    "mass 10 to 13",
    "all",
]


@pytest.fixture(scope="module")
def pdb(tmp_path_factory):
    """Alanine dipeptide with residue numbers of its own, 3 waters and an ion in chain B."""
    molecule = alanine_dipeptide()
    modeller = app.Modeller(molecule.topology, 10 * molecule.positions)
    path = tmp_path_factory.mktemp("selection") / "solvated.pdb"
    with path.open("w") as file:
        app.PDBFile.writeFile(modeller.topology, modeller.positions, file)
    lines = [line for line in path.read_text().splitlines() if line.startswith(("ATOM", "HETATM"))]
    lines = [f"{line[:22]}{29 + int(line[22:26]):4d}{line[26:]}" for line in lines]
    for number in range(4):
        for name in ("O", "H1", "H2") if number < 3 else ("NA",):
            residue = "HOH" if number < 3 else "NA "
            element = name[0] if number < 3 else "Na"
            serial = len(lines) + 1
            lines.append(
                f"HETATM{serial:5d} {name:>3s}  {residue} B{number + 7:4d}    "
                f"{serial:8.3f}{len(name) * 0.9:8.3f}{0.0:8.3f}  1.00  0.00          {element:>2s}"
            )
    path.write_text("\n".join([*lines, "END", ""]))
    return path


@pytest.fixture(scope="module")
def topology(pdb):
    return app.PDBFile(str(pdb)).topology


@pytest.mark.parametrize("words", SELECTIONS)
def test_selections_are_those_of_mdanalysis(pdb, topology, words):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        universe = MDAnalysis.Universe(str(pdb), guess_bonds=False)
    universe.add_TopologyAttr("bonds", [(b[0].index, b[1].index) for b in topology.bonds()])
    expected = universe.select_atoms(words).indices
    assert len(expected)
    for given in (topology, str(pdb), universe):
        np.testing.assert_array_equal(selected_atoms(given, words), expected)


def test_indices_are_taken_as_they_are(topology):
    assert selected_atoms(topology, [0, 4, 5]).tolist() == [0, 4, 5]
    assert selected_atoms(topology, np.arange(3)).tolist() == [0, 1, 2]


def test_atoms_that_mdanalysis_has_selected_are_taken(pdb, topology):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        universe = MDAnalysis.Universe(str(pdb))
    solute = universe.select_atoms("protein and not name H*")
    expected = selected_atoms(topology, "protein and not name H*").tolist()
    for given in (solute, solute[::-1], solute + solute):
        check_selection(given)
        assert selected_atoms(topology, given).tolist() == expected
        assert words_or_indices(given) == expected
    assert selected_atoms(topology, universe).tolist() == list(range(32))
    alanine = universe.select_atoms("resname ALA").residues
    assert selected_atoms(topology, alanine).tolist() == list(range(6, 16))
    with pytest.raises(ValueError, match="without atoms"):
        check_selection(universe.select_atoms("resname LIG"))
    part = part_of(topology, range(22))
    with pytest.raises(ValueError, match="Universe of 32 atoms, and the topology has 22"):
        selected_atoms(part, solute)


def test_a_choice_can_be_written_down():
    assert words_or_indices(None) is None
    assert words_or_indices("protein") == "protein"
    assert words_or_indices(np.arange(3)) == [0, 1, 2]
    settings = WindowSettings(300.0, 20, 10, atoms=np.arange(3))
    assert json.dumps(settings.atoms) == "[0, 1, 2]"


@pytest.mark.parametrize(
    ("atoms", "message"),
    [
        ("resname LIG", r"finds none of the 32 atoms; the residues are ACE, ALA, HOH, NA, NME"),
        ("resnam ALA", "no selection that MDAnalysis understands here: Unknown selection token"),
        ("protein and", "no selection that MDAnalysis"),
        ("around 3 protein", "topology has no positions"),
        ("prop x > 3", "topology has no positions"),
        ("", "finds none"),
        ([0, 32], "names atom 32 but the topology has 32 atoms"),
        ([2, 1], "increasing order"),
        ([-1], "increasing order"),
        ([0.5], "list of zero-based"),
        (3, "list of zero-based"),
        ([], "list of zero-based"),
        (np.arange(32) < 3, r"a mask of 32 values.*flatnonzero"),
        (np.linspace(0, 1, 999), r"^atoms is array\(.{,60}\.\.\., expected"),
    ],
)
def test_what_is_meant_by_none_is_refused(topology, atoms, message):
    with pytest.raises(ValueError, match=message):
        selected_atoms(topology, atoms)


def test_a_mistake_is_found_before_there_is_a_topology():
    for right in (None, "protein and name CA", "resid 5:7 and segid A", [0, 1]):
        check_selection(right)
    for wrong in ("resnam ALA", "protein and", [1, 0]):
        with pytest.raises(ValueError, match="atoms"):
            check_selection(wrong)


def test_the_solute_is_what_is_no_water_ion_or_virtual_site(topology):
    np.testing.assert_array_equal(solute_atoms(topology), ALANINE)


@pytest.mark.parametrize("model", ["tip3p", "tip4pew", "tip5p", "swm4ndp"])
def test_the_solute_in_every_water_model(model):
    molecule = alanine_dipeptide()
    modeller = app.Modeller(molecule.topology, 10 * molecule.positions)
    water = app.PDBFile(str(files(app) / "data" / f"{model}.pdb"))
    modeller.add(water.topology, water.positions)
    np.testing.assert_array_equal(solute_atoms(modeller.topology), ALANINE)


def made(*residues):
    """A topology of residues, each a name, its elements, and pairs that are bonded."""
    topology = app.Topology()
    chain = topology.addChain()
    for name, elements, bonds in residues:
        residue = topology.addResidue(name, chain)
        atoms = [
            topology.addAtom(f"{e or 'X'}{i}", e and app.Element.getBySymbol(e), residue)
            for i, e in enumerate(elements)
        ]
        for one, two in bonds:
            topology.addBond(atoms[one], atoms[two])
    return topology


def test_what_a_thing_is_counts_and_not_its_name():
    charmm_water = ("TIP3", ["O", "H", "H"], [(0, 1), (0, 2), (1, 2)])
    ligand = ("WAT", ["C", "O", "H", "H"], [(0, 1), (0, 2), (0, 3)])  # formaldehyde, misnamed
    crystal_water, zinc, xenon = ("HOH", ["O"], []), ("LIG", ["Zn"], []), ("NA", ["Xe"], [])
    no_bonds, site = ("LIG", ["C", "N", "H"], []), ("HOH", ["O", "H", "H", None], [])
    topology = made(charmm_water, ligand, crystal_water, zinc, xenon, no_bonds, site)
    # 0-2 water, 3-6 ligand, 7 water, 8 zinc, 9 xenon, 10-12 ligand without bonds, 13-16 water
    assert solute_atoms(topology).tolist() == [3, 4, 5, 6, 9, 10, 11, 12]


def test_where_there_is_no_solute_all_atoms_are_and_ions_are_learned(caplog):
    water, crystal_water = ("HOH", ["O", "H", "H"], [(0, 1), (0, 2)]), ("HOH", ["O"], [])
    assert solute_atoms(made(water, water)).tolist() == list(range(6))
    salt = made(water, ("NA", ["Na"], []), crystal_water, ("CL", ["Cl"], []), water)
    assert solute_atoms(salt).tolist() == list(range(9))  # windows start from frames of all
    with caplog.at_level(logging.INFO, "openmm_cgan"):
        atoms_to_take(salt, None, True, "frames")
        found = atoms_to_take(salt, None, True, "training", or_ions=True)
        atoms_to_take(made(water), None, True, "training", or_ions=True)
    assert found.tolist() == [3, 5]
    assert caplog.messages == [
        "frames: 9 atoms (all, for there is no solute)",
        "training: 2 atoms (the ions, for all else is water)",
        "training: 3 atoms (all, for there is no solute)",
    ]
    beads = ("BEA", [None, None], [(0, 1)])  # of a coarse-grained model
    assert solute_atoms(made(beads, beads)).tolist() == list(range(4))


def test_the_log_says_what_was_taken(topology, caplog):
    with caplog.at_level(logging.INFO, "openmm_cgan"):
        assert len(atoms_to_take(topology, None, True, "frames")) == 22
        assert len(atoms_to_take(topology, None, False, "frames")) == 32
        assert len(atoms_to_take(topology, "protein", False, "training")) == 22
    assert caplog.messages == [
        "frames: 22 atoms (all but water, ions and virtual sites)",
        "training: 22 atoms ('protein')",
    ]


def test_a_part_keeps_names_numbers_and_bonds(topology):
    part = part_of(topology, selected_atoms(topology, "resid 31 or resname NA"))
    named = [(a.name, a.residue.name, a.residue.id, a.residue.chain.id) for a in part.atoms()]
    expected = [
        (a.name, a.residue.name, a.residue.id, a.residue.chain.id)
        for a in topology.atoms()
        if a.residue.id == "31" or a.residue.name == "NA"
    ]
    assert named == expected
    assert part.getNumBonds() == 9  # those of alanine's ten atoms


def test_many_molecules_of_a_kind_are_told(caplog):
    """Lipids, or a solvent that is no water, are taken with what they surround."""
    solute, lipid = ("LIG", ["C", "C", "N"], []), ("POPC", ["P", "O", "C", "C"], [])
    water = ("HOH", ["O", "H", "H"], [])
    membrane = made(solute, *[lipid] * 8, *[water] * 9)
    chosen = atoms_to_take(membrane, None, True, "frames")
    assert len(chosen) == 3 + 8 * 4
    assert "8 of 4 atoms (POPC). If these are lipids or a solvent, choose" in caplog.text
    caplog.clear()
    assert len(atoms_to_take(membrane, "not resname POPC HOH", True, "frames")) == 3
    atoms_to_take(made(*[lipid] * 8), None, True, "frames")  # a liquid, of nothing else
    atoms_to_take(made(solute, lipid), None, True, "frames")
    atoms_to_take(made(("NA", ["Na"], []), *[water] * 9), None, True, "frames")
    assert not caplog.records
