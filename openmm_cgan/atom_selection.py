"""Which atoms: the one word for it, an MDAnalysis selection, in words or made, or indices.

What is water, an ion or a virtual site is told by elements and bonds, not by the names that each
force field gives them.
"""

from __future__ import annotations

import logging
import warnings
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from openmm_cgan.topologies import (
    is_hydrogen,
    is_of_mdanalysis,
    openmm_topology,
    universe_of,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

Atoms = str | Sequence[int] | Any  # the last: an AtomGroup of MDAnalysis

log = logging.getLogger("openmm_cgan")

WATER = ["H", "H", "O"]
LONGEST = 60  # characters of what was given, in a message
MANY = 8  # molecules of a kind that are worth a word
NOBLE_GASES = {"He", "Ne", "Ar", "Kr", "Xe", "Rn"}  # single atoms, but no ions


def check_selection(atoms: Atoms | None) -> None:
    """Find what is wrong with a choice of atoms before there is a topology.

    Parameters
    ----------
    atoms : str, or sequence of int, or AtomGroup, or None

    Raises
    ------
    ValueError
        If it is no selection of MDAnalysis, or these are no indices.
    """
    if isinstance(atoms, str):
        import MDAnalysis

        _select(_named(MDAnalysis.Universe.empty(1, atom_resindex=[0])).atoms, atoms)
    elif atoms is not None:
        _checked_indices(atoms)


def words_or_indices(atoms: Atoms | None) -> str | list[int] | None:
    """A choice of atoms as it can be written down: words, or indices in increasing order.

    Raises
    ------
    ValueError
        As `check_selection`.
    """
    check_selection(atoms)
    return atoms if atoms is None or isinstance(atoms, str) else _checked_indices(atoms).tolist()


def selected_atoms(topology: Any, atoms: Atoms) -> NDArray[np.int64]:
    """The atoms that are meant.

    Parameters
    ----------
    topology : openmm.app.Topology
        Or what `openmm_topology` finds one in. Of a Universe its own names are asked.
    atoms : str, or sequence of int, or AtomGroup
        A selection of MDAnalysis, such as "protein", "resname LIG", "index 0:21", "all"; its atoms,
        ``universe.select_atoms(...)``, of a Universe of this topology; or zero-based indices in
        increasing order.

    Returns
    -------
    ndarray of int64, shape (n_chosen,)
        Zero-based indices in increasing order.

    Raises
    ------
    ValueError
        If MDAnalysis does not understand the selection, it finds no atom, or needs what a topology
        does not have, such as positions; if indices are none of this topology.
    """
    if not isinstance(atoms, str):
        chosen = _checked_indices(atoms)
        n_atoms = sum(1 for _ in openmm_topology(topology).atoms())
        if (group := _group_of(atoms)) is not None and len(group.universe.atoms) != n_atoms:
            raise ValueError(
                f"atoms is of a Universe of {len(group.universe.atoms)} atoms, and the topology "
                f"has {n_atoms}: select from one of the same atoms"
            )
        if chosen[-1] >= n_atoms:
            raise ValueError(
                f"atoms names atom {chosen[-1]} but the topology has {n_atoms} atoms, counted from "
                "0"
            )
        return chosen
    group = universe_of(topology)
    found = np.isin(group.indices, _select(group, atoms).indices)
    if not found.any():
        names = sorted({str(name) for name in group.residues.resnames})
        listed = ", ".join(names[:12]) + (" ..." if names[12:] else "")
        raise ValueError(
            f"atoms={atoms!r} finds none of the {len(group)} atoms; the residues are {listed}"
        )
    return np.flatnonzero(found)


def solute_atoms(topology: Any) -> NDArray[np.int64]:
    """Atoms that are no water, ion or virtual site.

    A water is a molecule of two hydrogens and an oxygen, an ion one of a single atom that is no
    noble gas (the oxygen of a crystal water as well), a virtual site (or Drude particle) what has
    no element where others do. A molecule is what residues and bonds hold together, so that a
    ligand whose bonds a file does not tell is none of these.

    Parameters
    ----------
    topology : openmm.app.Topology
        Or what `openmm_topology` finds one in.

    Returns
    -------
    ndarray of int64, shape (n_solute,)
        Zero-based indices in increasing order; those of all atoms where no other are left.
    """
    return _solute(topology)[0]


def _solute(topology: Any, or_ions: bool = False) -> tuple[NDArray[np.int64], str]:
    """The atoms of `solute_atoms`, or ions where there is nothing else; and in words which."""
    topology = openmm_topology(topology)
    atoms = list(topology.atoms())
    symbols = [_symbol(atom.element) for atom in atoms]
    has_elements = any(symbols)
    solute: list[int] = []
    ions: list[int] = []
    for molecule in molecules_of(topology):
        real = [i for i in molecule if symbols[i] or not has_elements]
        if not real or _is_water([symbols[i] for i in real]):
            continue
        kind = ions if len(real) == 1 and _is_ion(symbols[real[0]]) else solute
        kind += real
    if solute:
        return np.array(sorted(solute), dtype=np.int64), "all but water, ions and virtual sites"
    if ions and or_ions:
        return np.array(sorted(ions), dtype=np.int64), "the ions, for all else is water"
    return np.arange(len(atoms), dtype=np.int64), "all, for there is no solute"


def atoms_to_take(
    topology: Any, atoms: Atoms | None, periodic: bool, purpose: str, or_ions: bool = False
) -> NDArray[np.int64]:
    """The atoms that are meant, by default the solute of a periodic system, and of another all.

    One line in the log says which.

    Parameters
    ----------
    topology, atoms
        As for `selected_atoms`.
    periodic : bool
        Whether the system is.
    purpose : str
        What they are taken for, for the log.
    or_ions : bool
        Whether ions alone are the solute of a system that has nothing else in its water.

    Returns
    -------
    ndarray of int64, shape (n_chosen,)

    Raises
    ------
    ValueError
        As `selected_atoms`.
    """
    topology = openmm_topology(topology) if atoms is None else topology
    if atoms is not None:
        chosen = selected_atoms(topology, atoms)
        what = repr(atoms) if isinstance(atoms, str) else "as listed"
    elif periodic:
        chosen, what = _solute(topology, or_ions)
        _tell_of_copies(topology, chosen, purpose)
    else:
        return np.arange(sum(1 for _ in topology.atoms()), dtype=np.int64)
    log.info("%s: %d atoms (%s)", purpose, len(chosen), what)
    return chosen


def _tell_of_copies(topology: Any, chosen: NDArray[np.int64], purpose: str) -> None:
    """Warn where what is taken by default holds many molecules of a kind: lipids, a solvent.

    No name tells a lipid from what is studied, and a solvent may be any molecule.
    """
    atoms, kept = list(topology.atoms()), set(chosen.tolist())
    found = [molecule for molecule in molecules_of(topology) if not kept.isdisjoint(molecule)]
    names = [atoms[molecule[0]].residue.name for molecule in found]
    symbols = [tuple(_symbol(atoms[i].element) for i in molecule) for molecule in found]
    kinds = Counter(zip(symbols, names, strict=True))
    several = [
        (kind, count)
        for kind, count in kinds.items()
        if count >= MANY and len(kind[0]) > 1 and not _is_water([s for s in kind[0] if s])
    ]
    if several and len(kinds) > 1:
        told = ", ".join(f"{count} of {len(own)} atoms ({name})" for (own, name), count in several)
        log.warning(
            "%s: by default all that is no water, ion or virtual site, so many molecules of a kind "
            "as well: %s. If these are lipids or a solvent, choose the others: atoms='protein', "
            "--atoms 'not resname %s'", purpose, told, " ".join(name for (_, name), _ in several),
        )  # fmt: skip


def real_atoms(topology: Any) -> NDArray[np.int64]:
    """Atoms with an element, shape (n_real,): no virtual site or Drude particle; or all beads."""
    elements = [atom.element is not None for atom in openmm_topology(topology).atoms()]
    if not any(elements):
        return np.arange(len(elements), dtype=np.int64)
    return np.flatnonzero(elements)


def _symbol(element: Any) -> str:
    """Of an element, of any isotope of hydrogen H; empty of none."""
    if element is None:
        return ""
    return "H" if is_hydrogen(element) else str(element.symbol)


def _is_water(symbols: list[str]) -> bool:
    """Whether these elements are those of a water; of the oxygen alone, of a crystal's, too."""
    return sorted(symbols) == WATER or symbols == ["O"]


def _is_ion(symbol: str) -> bool:
    return symbol != "" and symbol not in NOBLE_GASES


def molecules_of(topology: Any) -> list[list[int]]:
    """Atoms that bonds and residues connect, a list for each molecule, in increasing order."""
    root = list(range(sum(1 for _ in topology.atoms())))

    def root_of(atom: int) -> int:
        while root[atom] != atom:
            root[atom] = root[root[atom]]
            atom = root[atom]
        return atom

    pairs = [(bond[0].index, bond[1].index) for bond in topology.bonds()]
    for residue in topology.residues():
        inside = [atom.index for atom in residue.atoms()]
        pairs += [(inside[0], other) for other in inside[1:]]
    for one, two in pairs:
        roots = root_of(one), root_of(two)
        root[max(roots)] = min(roots)
    found: dict[int, list[int]] = {}
    for atom in range(len(root)):
        found.setdefault(root_of(atom), []).append(atom)
    return list(found.values())


def _group_of(atoms: Any) -> Any:
    """The AtomGroup that is meant, also by residues or a Universe; None by what is none."""
    return atoms.atoms if is_of_mdanalysis(atoms) else None


def _checked_indices(atoms: Any) -> NDArray[np.int64]:
    if (group := _group_of(atoms)) is not None:
        if not len(group):
            raise ValueError(
                "atoms is an AtomGroup without atoms: what it was selected by finds none"
            )
        return np.unique(group.ix).astype(np.int64)
    subset = np.asarray(atoms)
    if subset.dtype.kind == "b":
        raise ValueError(
            f"atoms is a mask of {subset.size} values, expected indices: numpy.flatnonzero(mask)"
        )
    if subset.ndim != 1 or subset.size == 0 or subset.dtype.kind not in "iu":
        raise ValueError(
            f"atoms is {_shortly(atoms)}, expected a selection of MDAnalysis such as 'protein', or "
            "a list of zero-based atom indices"
        )
    if subset[0] < 0 or (np.diff(subset.astype(np.int64)) <= 0).any():
        raise ValueError(
            f"atoms is {_shortly(atoms)}, expected indices from 0 in increasing order, each once"
        )
    return subset.astype(np.int64)


def _shortly(value: Any) -> str:
    told = " ".join(repr(value).split())
    return told if len(told) <= LONGEST else f"{told[: LONGEST - 3]}..."


def _select(group: Any, words: str) -> Any:
    """What MDAnalysis finds; its errors, of several kinds, as one."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a selection that is empty
            return group.select_atoms(words)
    except Exception as error:
        told = " ".join(str(error).split()).rstrip(".")
        place = any(word in told for word in ("coordinate", "positions", "dimensions"))
        hint = (
            "; a topology has no positions, and what is near would change in a run: give indices"
            if place
            else ""
        )
        raise ValueError(
            f"atoms={words!r} is no selection that MDAnalysis understands here: {told}{hint}"
        ) from error


def _named(universe: Any) -> Any:
    """A Universe with all names that one of a topology has."""
    for name in ("names", "elements", "types", "chainIDs", "resnames", "icodes", "segids"):
        universe.add_TopologyAttr(name)
    for name in ("ids", "masses", "resids", "resnums"):
        universe.add_TopologyAttr(name)
    universe.add_TopologyAttr("bonds", [])
    return universe
