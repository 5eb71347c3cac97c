"""Whether PDB files of an input count atoms as the topology does.

PLUMED takes an atom's serial for its place. OpenMM's PDBFile gives each TER a serial of its own, so
that of the second chain on all serials are one too high: selectors and references then mean other
atoms, and nothing fails.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from openmm_cgan.plumed.input.pdb import PdbAtom, read_models
from openmm_cgan.plumed.input.words import NotNativeError, unbrace
from openmm_cgan.plumed.native.forces.system_box import KnownAtoms, known_atoms
from openmm_cgan.topologies import openmm_topology

if TYPE_CHECKING:
    from openmm_cgan.plumed.input.language import Statement

logger = logging.getLogger("openmm_cgan")

PDB_KEYWORDS = frozenset({"STRUCTURE", "REFERENCE", "TEMPLATE"})


def atoms_beside(statements: Iterable[Statement], folder: Path, given: Any) -> KnownAtoms | None:
    """The atoms of what is given beside an input, after a look at the input's PDB files.

    A warning says which have serials under which the topology has atoms of other elements.

    Parameters
    ----------
    statements : iterable of Statement
        Of the input, names of files as they are opened.
    folder : Path
        Where those names begin.
    given : openmm.app.Topology, or what `openmm_topology` finds one in, or None

    Returns
    -------
    KnownAtoms or None
    """
    if given is None:
        return None
    topology = openmm_topology(given)
    atoms = list(topology.atoms())
    for statement in statements:
        for word in statement.words:
            key, equals, value = word.partition("=")
            if equals and key.upper() in PDB_KEYWORDS:
                _warn_of_file(statement, folder / unbrace(value), atoms)
    return known_atoms(topology, given)


def _warn_of_file(statement: Statement, path: Path, atoms: Sequence[Any]) -> None:
    try:
        models = read_models(path)
    except (ValueError, NotNativeError):  # no PDB file: said where it is used
        return
    others = [atom for atom in models[0] if _is_other(atom, atoms)]
    if others:
        first = others[0]
        there = atoms[first.serial - 1] if first.serial <= len(atoms) else None
        logger.warning(
            "%s: %d of %d atoms of %s are others in the topology: serial %d is %s of %s %d in the "
            "file, %s there. PLUMED takes serials for places: count them from 1 without gaps (TER "
            "lines take none)",
            statement.location, len(others), len(models[0]), path, first.serial, first.name,
            first.residue, first.number,
            f"{there.name} of {there.residue.name} {there.residue.id}" if there else "none",
        )  # fmt: skip


def _is_other(atom: PdbAtom, atoms: Sequence[Any]) -> bool:
    """Whether the topology has an atom of another element, or none, in the place of an atom."""
    if not 1 <= atom.serial <= len(atoms):
        return True
    element, letters = atoms[atom.serial - 1].element, atom.name.lstrip("0123456789")
    return element is not None and letters[:1].upper() != element.symbol[0]
