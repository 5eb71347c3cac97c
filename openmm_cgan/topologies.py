"""What a topology may be given as: OpenMM's, what holds one, a file, MDAnalysis or mdtraj."""

from __future__ import annotations

import itertools
import os
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

LIGHT = {"He", "Li", "Be"}  # no organic molecule holds them
HYDROGENS = {"H", "D"}
NEVER_ALONE = HYDROGENS | {"C", "N"}  # without a bond, in a residue of several atoms
UNNUMBERED = 2**31 - 1  # of residues whose number is no number: no selection means them


@runtime_checkable
class OwnTopology(Protocol):
    """openmm.app.Topology, or anything that tells atoms and bonds as it does."""

    def atoms(self) -> Any:
        """Its atoms, in order."""
        ...

    def bonds(self) -> Any:
        """Its bonds, pairs of atoms."""
        ...


@runtime_checkable
class HoldsTopology(Protocol):
    """A PDBFile, AmberPrmtopFile, Modeller, Simulation, mdtraj.Trajectory."""

    @property
    def topology(self) -> Any:
        """The topology."""


@runtime_checkable
class GivesTopology(Protocol):
    """mdtraj.Topology."""

    def to_openmm(self) -> Any:
        """The topology."""
        ...


def is_hydrogen(element: Any) -> bool:
    """Whether an element of OpenMM's, or None, is hydrogen: deuterium is one with a symbol."""
    return element is not None and str(element.symbol) in HYDROGENS


def is_deuterium(element: Any) -> bool:
    """Whether an element of OpenMM's, or None, is the heavier hydrogen."""
    return element is not None and str(element.symbol) == "D"


def bonds_of_atoms(topology: Any, atoms: Iterable[int], most: int = 1000) -> list[tuple[int, int]]:
    """The first bonds among given atoms of an OpenMM Topology, by their places there; no beads'."""
    every = list(topology.atoms())
    place = {every[atom]: k for k, atom in enumerate(atoms) if every[atom].element is not None}
    own = ((place[i], place[j]) for i, j in topology.bonds() if i in place and j in place)
    return list(itertools.islice(own, most))


def openmm_topology(given: Any) -> Any:
    """The Topology in what is given as one: the only place where that is decided.

    Parameters
    ----------
    given : openmm.app.Topology, or object with one, or path, or Universe
        A Topology; what has one as ``topology`` (PDBFile, AmberPrmtopFile, Modeller, Simulation,
        mdtraj.Trajectory, parmed.Structure); a file that `read_structure` reads, of a run with
        all bonds; an MDAnalysis Universe or AtomGroup with bonds; an mdtraj.Topology.

    Returns
    -------
    openmm.app.Topology
        Or what tells atoms and bonds as it does, where that is given.

    Raises
    ------
    TypeError
        If it is none of these.
    FileNotFoundError, ValueError
        If a file can not be read, a Universe has no bonds, or elements were guessed from masses of
        which hydrogens have taken some.
    """
    topology = _topology_in(given)
    _require_own_elements(topology)
    return topology


def _topology_in(given: Any) -> Any:
    if isinstance(given, str | os.PathLike):
        from openmm_cgan.topology_records import topology_beside

        return topology_beside(Path(given)) or read_structure(given).topology
    if is_of_mdanalysis(given):
        return _of_universe(given.atoms)
    if isinstance(given, GivesTopology):
        return given.to_openmm()
    if isinstance(given, OwnTopology) and callable(given.atoms):  # parmed's are lists
        return given
    if isinstance(given, HoldsTopology):
        return _topology_in(given.topology)
    if type(given).__name__ == "GromacsGroFile":
        raise TypeError(
            "a GromacsGroFile tells no bonds, which a topology needs: give its .top file"
        )
    raise TypeError(
        f"a {type(given).__name__} is no topology: give an openmm.app.Topology, what has one "
        "(PDBFile, AmberPrmtopFile, Simulation), the path of a .pdb, .cif, .prmtop, .psf or .top "
        "file, or an MDAnalysis Universe with bonds"
    )


def is_of_mdanalysis(given: Any) -> bool:
    """Whether it is a Universe, an AtomGroup, or a group of residues or segments."""
    mdanalysis = sys.modules.get("MDAnalysis")
    if mdanalysis is None:
        return False
    return isinstance(given, mdanalysis.Universe | mdanalysis.core.groups.GroupBase)


def _require_own_elements(topology: Any) -> None:
    """Refuse helium, lithium, beryllium and boron that are bonded as hydrogen and carbon are.

    A .psf tells masses and no elements. Where it was written with heavy hydrogens OpenMM and
    MDAnalysis take hydrogen (3.024) for helium, or (2) for deuterium, and a methyl's carbon for
    lithium (5.963), beryllium (9) or, with hydrogens of 1.5, boron (10.5).
    """
    odd = LIGHT | {"B"}
    if not any(a.element is not None and a.element.symbol in odd for a in topology.atoms()):
        return
    bonds = list(topology.bonds())
    n_bonds = Counter(atom.index for bond in bonds for atom in bond)
    for bond in bonds:
        if _is_of_guessed(bond, n_bonds):
            one, two = bond
            raise ValueError(
                f"atom {one.index} ({one.name}), {one.element.name}, is bonded to atom {two.index} "
                f"({two.name}), {two.element.name}: elements were guessed from the masses of a "
                "file with heavy hydrogens. Take the file with plain masses, and "
                "createSystem(..., hydrogenMass=3*amu) or --hydrogen-mass; or say what each is: "
                "atom.element = app.Element.getBySymbol('C'), add_TopologyAttr('elements', ...)"
            )


def _is_of_guessed(bond: Any, n_bonds: Counter[int]) -> bool:
    """Whether a bond is none that its elements make; boron has three, or more than four."""
    symbols = {"" if a.element is None else str(a.element.symbol) for a in bond}
    if "He" in symbols:
        return True
    if not symbols & HYDROGENS:
        return False
    four = any(n_bonds[a.index] == 4 for a in bond)
    return bool(symbols & LIGHT) or symbols == {"B", "D"} or (symbols == {"B", "H"} and four)


def read_structure(path: str | os.PathLike[str]) -> Any:
    """OpenMM's reader of a PDB, mmCIF, Amber or CHARMM file, by its ending.

    Parameters
    ----------
    path : path
        .pdb, .ent, .cif, .mmcif, .pdbx, .prmtop, .parm7, .psf or .top. What a GROMACS .top
        includes is looked for beside it, then where the environment's GMXLIB says, as GROMACS does.

    Returns
    -------
    PDBFile, PDBxFile, AmberPrmtopFile, CharmmPsfFile or GromacsTopFile
        With a ``topology`` of one atom at least; the first two with positions.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If the ending is none of these, the file has no bonds (.gro), or OpenMM can not read it.
    """
    path, readers = Path(path), _readers()
    kinds = ", ".join(readers)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: there is no such structure file")
    if path.suffix.lower() == ".gro":
        raise ValueError(f"{path} tells no bonds, which a topology needs: give its .top file")
    if path.suffix.lower() not in readers:
        raise ValueError(f"{path} is no structure file: expected one that ends in {kinds}")
    try:
        found = readers[path.suffix.lower()](str(path))
        n_atoms = found.topology.getNumAtoms()
    except Exception as error:  # of any kind, and seldom in words
        said = f"{type(error).__name__}: {error}"
        raise ValueError(
            f"{path} is not a {path.suffix} file that OpenMM reads ({said})"
        ) from error
    if n_atoms == 0:
        raise ValueError(f"{path} has no atoms: it is not a {path.suffix} file")
    return found


def _readers() -> dict[str, Any]:
    """OpenMM's readers by the endings of files."""
    from openmm import app

    readers: dict[str, Any] = dict.fromkeys((".pdb", ".ent"), app.PDBFile)
    readers |= dict.fromkeys((".cif", ".mmcif", ".pdbx"), app.PDBxFile)
    readers |= dict.fromkeys((".prmtop", ".parm7"), app.AmberPrmtopFile)
    return readers | {".psf": app.CharmmPsfFile, ".top": _read_top}


def _read_top(path: str) -> Any:
    """A GROMACS file, or one of Amber's under an ending that both have."""
    from openmm import app

    with open(path, encoding="utf-8", errors="replace") as file:
        if file.readline().startswith("%VERSION"):
            return app.AmberPrmtopFile(path)
    return app.GromacsTopFile(path, includeDir=os.environ.get("GMXLIB"))


def read_configuration(path: str | os.PathLike[str]) -> Any:
    """OpenMM's reader of a PDB or mmCIF file, which has positions beside the topology.

    Raises
    ------
    FileNotFoundError, ValueError
        As for `read_structure`, and if the file has no positions.
    """
    found = read_structure(path)
    from openmm import app

    if not isinstance(found, app.PDBFile | app.PDBxFile):
        raise ValueError(f"{path} has no positions: give a .pdb or .cif file")
    return found


def part_of(topology: Any, atoms: Any) -> Any:
    """A Topology of some of the atoms, with the bonds among them and the names of all.

    Parameters
    ----------
    topology : as for `openmm_topology`
    atoms : sequence of int
        Zero-based indices in increasing order.

    Returns
    -------
    openmm.app.Topology
    """
    from openmm import app

    whole, kept = openmm_topology(topology), {int(atom) for atom in atoms}
    made, new = app.Topology(), {}
    made.setPeriodicBoxVectors(whole.getPeriodicBoxVectors())
    for chain in whole.chains():
        own = None
        for residue in chain.residues():
            inside = [atom for atom in residue.atoms() if atom.index in kept]
            if not inside:
                continue
            own = own or made.addChain(chain.id)
            place = made.addResidue(residue.name, own, residue.id, residue.insertionCode)
            for atom in inside:
                new[atom.index] = made.addAtom(atom.name, atom.element, place, atom.id)
    for bond in whole.bonds():
        if bond[0].index in new and bond[1].index in new:
            made.addBond(new[bond[0].index], new[bond[1].index], bond.type, bond.order)
    return made


def universe_of(given: Any) -> Any:
    """The atoms of a topology as MDAnalysis selects among them, under the names of its file.

    ``mda.Universe(topology)`` would number residues anew and call chains by numbers, so that
    "resid 5" meant another residue than in the PDB file.

    Parameters
    ----------
    given : as for `openmm_topology`

    Returns
    -------
    MDAnalysis.AtomGroup
        In the order of the topology; of a Universe or AtomGroup its own atoms.
    """
    import MDAnalysis

    if is_of_mdanalysis(given):
        return given.atoms
    topology = openmm_topology(given)
    atoms, residues = list(topology.atoms()), list(topology.residues())
    chains = [str(chain.id) for chain in topology.chains()]
    universe = MDAnalysis.Universe.empty(
        len(atoms),
        len(residues),
        len(chains),
        atom_resindex=[a.residue.index for a in atoms],
        residue_segindex=[r.chain.index for r in residues],
    )
    symbols = ["" if a.element is None else str(a.element.symbol) for a in atoms]
    attributes: dict[str, Any] = {
        "names": [str(a.name) for a in atoms],
        "ids": [_number(a.id, a.index + 1) for a in atoms],
        "elements": symbols,
        "types": symbols,
        "masses": [0.0 if a.element is None else a.element.mass._value for a in atoms],
        "chainIDs": [chains[a.residue.chain.index] for a in atoms],
        "resnames": [str(r.name) for r in residues],
        "resids": [_number(r.id, UNNUMBERED) for r in residues],
        "resnums": [_number(r.id, UNNUMBERED) for r in residues],
        "icodes": [r.insertionCode.strip() for r in residues],
        "segids": chains,
        "bonds": [(bond[0].index, bond[1].index) for bond in topology.bonds()],
    }
    for name, values in attributes.items():
        universe.add_TopologyAttr(name, values)
    return universe.atoms


def _number(text: Any, otherwise: int) -> int:
    """A serial or residue number, which OpenMM keeps as text."""
    try:
        return int(text)
    except (TypeError, ValueError):
        return otherwise


def _of_universe(atoms: Any) -> Any:
    """An OpenMM Topology of the atoms of an MDAnalysis Universe, as its files name them."""
    from openmm import app

    bonds, elements = _bonds_of(atoms), _elements_of(atoms)
    _require_all_bonds(atoms, elements, bonds)
    topology, last = app.Topology(), (None, None)
    chain = residue = None
    for atom, element in zip(atoms, elements, strict=True):
        if chain is None or atom.segment.segid != last[0]:
            chain = topology.addChain(str(atom.segment.segid))
        if residue is None or (atom.segment.segid, atom.residue.ix) != last:
            residue = topology.addResidue(str(atom.resname), chain, str(atom.resid))
        last = atom.segment.segid, atom.residue.ix
        topology.addAtom(str(atom.name), element, residue)
    made = list(topology.atoms())
    place = {int(index): made[i] for i, index in enumerate(atoms.indices)}
    for one, two in bonds:
        if int(one) in place and int(two) in place:
            topology.addBond(place[int(one)], place[int(two)])
    return topology


def _bonds_of(atoms: Any) -> Any:
    import MDAnalysis

    try:
        bonds = atoms.bonds.indices
    except MDAnalysis.exceptions.NoDataError:
        bonds = ()
    if not len(bonds) and len(atoms) > 1:
        raise ValueError(
            "the Universe has no bonds, which a topology needs: load it from a file with bonds, "
            "or call universe.atoms.guess_bonds()"
        )
    return bonds


def _require_all_bonds(atoms: Any, elements: Sequence[Any], bonds: Any) -> None:
    """Refuse bonds of some residues alone: those of CONECT records, which a PDB file has of few."""
    bonded = {int(i) for bond in bonds for i in bond}
    bare = [
        atom
        for atom, element in zip(atoms, elements, strict=True)
        if element is not None
        and element.symbol in NEVER_ALONE
        and int(atom.ix) not in bonded
        and len(atom.residue.atoms) > 1
    ]
    if bare:
        first = f"{bare[0].name} of {bare[0].resname} {bare[0].resid}"
        raise ValueError(
            f"the Universe tells the bonds of some atoms only: {len(bare)} have none, first "
            f"{first}. A PDB file writes those of few residues: give the path of the file, or call "
            "universe.atoms.guess_bonds()"
        )


def _elements_of(atoms: Any) -> list[Any]:
    """Elements by their symbols; by mass where the Universe has none."""
    import MDAnalysis
    from openmm import app, unit

    try:
        symbols = [str(symbol).capitalize() for symbol in atoms.elements]
    except MDAnalysis.exceptions.NoDataError:
        masses = atoms.masses * unit.dalton
        return [app.Element.getByMass(mass) for mass in masses]
    return [app.Element.getBySymbol(symbol) if symbol else None for symbol in symbols]
