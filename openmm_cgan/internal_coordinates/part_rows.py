"""Which coordinates a part of a system gets: chosen from what it hangs on."""

from collections.abc import Collection, Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from openmm_cgan.attached_parts import atom_names, attachments, references_of
from openmm_cgan.collective_variable import CollectiveVariable
from openmm_cgan.internal_coordinates.molecule import MoleculeGraph
from openmm_cgan.internal_coordinates.part_z_matrix import PartZMatrix
from openmm_cgan.topologies import openmm_topology


def part_z_matrix(
    topology: Any,
    part: NDArray[np.int64],
    variables: Iterable[CollectiveVariable],
    known: Collection[int],
    reference: NDArray[np.float64],
) -> PartZMatrix:
    """Choose the coordinates of a part, with as many CVs among them as possible.

    Parameters
    ----------
    topology : openmm.app.Topology
        Of the whole system.
    part : ndarray of int, shape (n_part,)
    variables : iterable of CollectiveVariable
    known : collection of int
        Atoms that there are positions of.
    reference : ndarray, shape (n_topology_atoms, 3)
        Positions [nm] of those.

    Raises
    ------
    ValueError
        If the part is attached at several places or at none, or too little is known of the rest.
    """
    topology = openmm_topology(topology)
    ends = attachments(topology, part.tolist())
    needed, names = references_of(topology, part.tolist()), atom_names(topology)
    there = set(known)
    missing, held = sorted({b for _, b in ends} - there), [a for a in needed if a in there]
    if missing or len(held) < 3:
        raise ValueError(
            f"of the rest that the part hangs on {len(held)} atoms are known"
            f"{', not ' + names[missing[0]] if missing else ''}; expected three at least. Write"
            f" frames with the atoms {needed} as well: FrameReporter(..., atoms=...), or choose a"
            " smaller part"
        )
    molecule = MoleculeGraph.from_topology(topology, [*part.tolist(), *held], reference)
    n, local = len(part), molecule.local
    wanted = [
        tuple(local[a] for a in v.atoms)
        for v in variables
        if v.action in ("TORSION", "ANGLE", "DISTANCE")
        and len(set(v.atoms)) == len(v.atoms)
        and all(a in local for a in v.atoms)
    ]
    rows = molecule.place_on(list(range(n, n + len(held))), wanted)
    molecule.warn_of_linear(rows)
    used = sorted({a for row in rows for a in row if a >= n})
    number = {**{a: a for a in range(n)}, **{a: n + k for k, a in enumerate(used)}}
    rest = [molecule.atoms[a] for a in used]
    renumbered = [tuple(number[a] for a in row) for row in rows]
    return PartZMatrix(renumbered, part, rest, np.asarray(reference)[rest])
