"""What is a topology: OpenMM's objects, files, MDAnalysis and mdtraj are taken alike."""

import json
import warnings
from types import SimpleNamespace

import MDAnalysis
import numpy as np
import pytest
from openmm import app, unit

from openmm_cgan.atom_selection import solute_atoms
from openmm_cgan.frames import molecule_hash, topology_hash
from openmm_cgan.plumed.bias import PlumedBias
from openmm_cgan.proposals import Screen
from openmm_cgan.rotors import find_rotors
from openmm_cgan.testsystems import alanine_dipeptide
from openmm_cgan.topologies import openmm_topology, read_configuration, read_structure
from openmm_cgan.topology_records import told_apart, topology_record
from tests.cases import ROOT
from tests.cases.setups import OPENMMTOOLS


@pytest.fixture(scope="module")
def molecule():
    return alanine_dipeptide()


@pytest.fixture(scope="module")
def pdb(molecule, tmp_path_factory):
    path = tmp_path_factory.mktemp("files") / "alanine.pdb"
    with path.open("w") as file:
        app.PDBFile.writeFile(molecule.topology, 10 * molecule.positions, file)
    return path


def forms(molecule, pdb):
    mdanalysis = pytest.importorskip("MDAnalysis")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        universe = mdanalysis.Universe(str(pdb))
        universe.atoms.guess_bonds()
    cif = pdb.with_suffix(".cif")
    with cif.open("w") as file:
        app.PDBxFile.writeFile(molecule.topology, 10 * molecule.positions, file)
    file = app.PDBFile(str(pdb))
    modeller = app.Modeller(file.topology, file.positions)
    return [molecule, file, modeller, pdb, str(pdb), cif, universe, universe.atoms]


def test_all_forms_have_one_hash(molecule, pdb):
    expected = topology_hash(molecule.topology)
    for form in forms(molecule, pdb):
        assert topology_hash(form) == expected, form
    assert openmm_topology(molecule.topology) is molecule.topology


def test_mdtraj_too(molecule, pdb):
    mdtraj = pytest.importorskip("mdtraj")
    trajectory = mdtraj.load(str(pdb))
    expected = topology_hash(molecule.topology)
    assert topology_hash(trajectory) == topology_hash(trajectory.topology) == expected


def test_every_border_takes_them(molecule, pdb):
    assert find_rotors(pdb) == find_rotors(molecule.topology)
    assert Screen(pdb, molecule.positions).check(molecule.positions[None]).tolist() == [""]
    with pytest.raises(ValueError, match="beyond the last atom 22"):
        PlumedBias("d: DISTANCE ATOMS=1,23\nRESTRAINT ARG=d AT=1 KAPPA=1\n", str(pdb))


def test_what_has_lists_of_atoms_is_no_topology_by_that(molecule, pdb):
    """A parmed.Structure has lists called atoms and bonds, and a topology; residues have atoms."""
    expected = topology_hash(molecule.topology)
    atoms, bonds = list(molecule.topology.atoms()), list(molecule.topology.bonds())
    structure = SimpleNamespace(atoms=atoms, bonds=bonds, topology=molecule.topology)
    assert topology_hash(structure) == expected
    universe = next(f for f in forms(molecule, pdb) if isinstance(f, MDAnalysis.Universe))
    assert topology_hash(universe.residues) == topology_hash(universe.segments) == expected


def test_a_gro_file_that_was_read_is_refused_as_its_path_is():
    gro = app.GromacsGroFile(str(ROOT / "examples" / "data" / "butane_water.gro"))
    with pytest.raises(TypeError, match=r"tells no bonds.* give its .top file"):
        openmm_topology(gro)


def test_a_universe_without_bonds_is_refused(molecule):
    mdanalysis = pytest.importorskip("MDAnalysis")
    bare = mdanalysis.Universe.empty(3, trajectory=True)
    bare.add_TopologyAttr("masses", np.ones(3))
    with pytest.raises(ValueError, match=r"no bonds.*guess_bonds"):
        openmm_topology(bare)


def test_a_universe_with_the_bonds_of_some_residues_is_refused(molecule, pdb):
    """OpenMM's CONECT records are of what is no standard residue: of ACE and NME."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        universe = MDAnalysis.Universe(str(pdb))
    assert len(universe.atoms.bonds)
    for given in (universe, universe.select_atoms("resname ALA"), universe.residues):
        with pytest.raises(ValueError, match=r"bonds of some atoms only: .*ALA 2.*guess_bonds"):
            openmm_topology(given)
    with pytest.raises(ValueError, match="2 have none, first CA of ALA"):
        openmm_topology(universe.select_atoms("not name H*"))
    universe.atoms.guess_bonds()
    assert topology_hash(universe) == topology_hash(molecule.topology)


@pytest.mark.parametrize("wrong", [None, 3, np.zeros(3)])
def test_what_is_none_is_refused(wrong):
    with pytest.raises(TypeError, match=r"is no topology: give an openmm.app.Topology"):
        openmm_topology(wrong)


def test_files_that_are_none_are_refused_in_a_sentence(tmp_path):
    named = {
        "plumed.dat": ("phi: TORSION ATOMS=5,7,9,15\n", ValueError, r"expected one that ends in"),
        "text.pdb": ("phi: TORSION ATOMS=5,7,9,15\n", ValueError, r"text.pdb is not a .pdb file"),
        "empty.pdb": ("", ValueError, r"empty.pdb"),
        "cut.prmtop": ("%VERSION\n", ValueError, r"cut.prmtop"),
    }
    for name, (text, kind, message) in named.items():
        (tmp_path / name).write_text(text)
        with pytest.raises(kind, match=message):
            read_structure(tmp_path / name)
    with pytest.raises(FileNotFoundError, match="no such structure file"):
        openmm_topology(tmp_path / "nowhere.pdb")


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # OpenMM leaves open
def test_files_of_charmm_gromacs_and_amber(tmp_path, monkeypatch):
    data = ROOT / "examples" / "data"
    butane = app.PDBFile(str(data / "butane.pdb")).topology
    known = molecule_hash(butane, range(14))
    assert molecule_hash(data / "butane.psf", range(14)) == known
    assert molecule_hash(data / "butane_water.top", range(14)) == known
    assert solute_atoms(data / "butane_water.top").tolist() == list(range(14))
    with pytest.raises(ValueError, match=r"butane_water.gro tells no bonds.* give its .top file"):
        openmm_topology(data / "butane_water.gro")
    # what a .top includes lies in GMXLIB
    text = (data / "butane_water.top").read_text()
    start = text.index("[ moleculetype ]\nSOL")
    end = text.index("[ system ]")
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "spc.itp").write_text(text[start:end])
    top = tmp_path / "split.top"
    top.write_text(f'{text[:start]}#include "spc.itp"\n{text[end:]}')
    monkeypatch.setenv("GMXLIB", str(tmp_path / "lib"))
    assert molecule_hash(top, range(14)) == known
    monkeypatch.delenv("GMXLIB")
    with pytest.raises(ValueError, match=r"split.top is not a .top file that OpenMM reads.*spc"):
        openmm_topology(top)
    # Amber's files have had that ending too
    amber = tmp_path / "amber.top"
    folders = [OPENMMTOOLS / "data" / f"alanine-dipeptide-{kind}" for kind in ("gbsa", "explicit")]
    amber.write_text((folders[0] / "alanine-dipeptide.prmtop").read_text())
    dipeptide = alanine_dipeptide().topology
    known = molecule_hash(dipeptide, range(22))
    assert molecule_hash(amber, range(22)) == known
    # MDAnalysis reads the same files under other names
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        universes = [MDAnalysis.Universe(str(f / "alanine-dipeptide.prmtop")) for f in folders]
    for universe in universes:
        assert molecule_hash(universe, range(22)) == known
        assert solute_atoms(universe).tolist() == list(range(22))


def with_heavy_hydrogens(path, folder, dalton):
    """A .psf whose hydrogens have a mass, taken from what they are bonded to."""
    psf = app.CharmmPsfFile(str(path))
    masses = [atom.element.mass._value for atom in psf.topology.atoms()]
    for bond in psf.topology.bonds():
        heavy, light = sorted(bond, key=lambda atom: atom.element.symbol == "H")
        if light.element.symbol == "H":
            masses[heavy.index] -= dalton - masses[light.index]
            masses[light.index] = dalton
    lines = path.read_text().splitlines()
    first = next(i for i, line in enumerate(lines) if "!NATOM" in line) + 1
    for i, mass in enumerate(masses, start=first):
        lines[i] = lines[i].replace(lines[i].split()[7], f"{mass:.4f}")
    made = folder / "heavy.psf"
    made.write_text("\n".join(lines) + "\n")
    return made


@pytest.mark.parametrize(
    ("dalton", "taken_for"), [(3.024, "lithium"), (2.0, "beryllium"), (1.5, "boron")]
)
def test_masses_of_heavy_hydrogens_are_not_taken_for_other_elements(dalton, taken_for, tmp_path):
    path = with_heavy_hydrogens(ROOT / "examples" / "data" / "butane.psf", tmp_path, dalton)
    psf = app.CharmmPsfFile(str(path))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        universe = MDAnalysis.Universe(str(path))
    for given in (path, psf, psf.topology, universe):
        with pytest.raises(ValueError, match=rf"atom 0 .*{taken_for}, is bonded.*heavy hydrogens"):
            openmm_topology(given)
    plain = app.CharmmPsfFile(str(ROOT / "examples" / "data" / "butane.psf")).topology
    symbols = [atom.element.symbol for atom in plain.atoms()]
    for atom, symbol in zip(psf.topology.atoms(), symbols, strict=True):
        atom.element = app.Element.getBySymbol(symbol)
    universe.add_TopologyAttr("elements", symbols)
    for given in (psf, universe):
        assert molecule_hash(given, range(14)) == molecule_hash(plain, range(14))


def test_a_pdb_file_tells_atoms_of_one_name_apart(tmp_path):
    """Builders of crystals and of molecules from SMILES give many atoms one name, or none."""
    topology = app.Topology()
    chain = topology.addChain("A")
    for _ in range(2):
        residue = topology.addResidue("MOL", chain, "1")
        for name, symbol in (("S", "S"), ("S", "S"), ("", "Cl"), ("C1000", "C"), ("C1001", "C")):
            topology.addAtom(name, app.Element.getBySymbol(symbol), residue)
    x = np.arange(30.0).reshape(10, 3) / 10
    with open(tmp_path / "made.pdb", "w") as file:
        app.PDBFile.writeFile(told_apart(topology), x * unit.nanometer, file, keepIds=True)
    read = read_configuration(tmp_path / "made.pdb")
    np.testing.assert_allclose(read.getPositions(asNumpy=True)._value, x, atol=1e-6)
    assert [a.element.symbol for a in read.topology.atoms()] == ["S", "S", "Cl", "C", "C"] * 2
    assert read.topology.getNumResidues() == 2
    right = alanine_dipeptide().topology
    assert told_apart(right) is right


def test_the_path_of_a_runs_structure_tells_all_its_bonds(tmp_path):
    """Of a ring of residues, or a ligand without CONECT, the PDB file alone has too few."""
    molecule = alanine_dipeptide()
    topology = molecule.topology
    (tmp_path / "topology.json").write_text(json.dumps(topology_record(topology)))
    with open(tmp_path / "topology.pdb", "w") as file:
        app.PDBFile.writeFile(topology, molecule.positions * unit.nanometer, file)
    lines = (tmp_path / "topology.pdb").read_text().replace("ACE", "XXX").splitlines()
    kept = [line for line in lines if not line.startswith("CONECT")]
    (tmp_path / "topology.pdb").write_text("\n".join(kept))
    assert app.PDBFile(str(tmp_path / "topology.pdb")).topology.getNumBonds() < 21
    for given in (tmp_path / "topology.pdb", str(tmp_path / "topology.pdb")):
        assert topology_hash(given) == topology_hash(topology)
