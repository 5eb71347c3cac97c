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

SOLVENT = 3  # atoms: nothing hangs on molecules of no more, or stands among them


def part_z_matrix(
    topology: Any,
    part: NDArray[np.int64],
    variables: Iterable[CollectiveVariable],
    known: Collection[int],
    reference: NDArray[np.float64],
) -> PartZMatrix:
    """Choose the coordinates of a part, with as many CVs among them as possible.

    A part that is a whole molecule (a ligand) hangs by a line from the atom in its middle to the
    nearest one of another molecule: with that its place and orientation are coordinates, too [1]_.

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
        If the part is attached at several places, or too little is known of the rest.

    References
    ----------
    .. [1] S. Boresch et al., J. Phys. Chem. B 107, 9535 (2003), doi 10.1021/jp0217839.
    """
    topology = openmm_topology(topology)
    ends = attachments(topology, part.tolist())
    line = None if ends else _line(topology, part, known, reference)
    needed = references_of(topology, part.tolist()) if line is None else line[1:]
    names = atom_names(topology)
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
    if line is not None:
        one, other = local[line[0]], local[line[1]]
        molecule.neighbours[one].append(other)
        molecule.neighbours[other].append(one)
    wanted = molecule.wanted(variables)
    rows = molecule.place_on(list(range(n, n + len(held))), wanted)
    molecule.warn_of_linear(rows)
    used = sorted({a for row in rows for a in row if a >= n})
    number = {**{a: a for a in range(n)}, **{a: n + k for k, a in enumerate(used)}}
    rest = [molecule.atoms[a] for a in used]
    renumbered = [tuple(number[a] for a in row) for row in rows]
    return PartZMatrix(renumbered, part, rest, np.asarray(reference)[rest])


def _line(
    topology: Any,
    part: NDArray[np.int64],
    known: Collection[int],
    reference: NDArray[np.float64],
) -> list[int]:
    """The middle of a molecule, the nearest atom of another, and two neighbours of that one."""
    others = sorted(set(known) - set(part.tolist()))
    may = []
    if others:
        around = MoleculeGraph.from_topology(topology, others, None)
        number = around.components()
        large, light = np.bincount(number)[number] > SOLVENT, around.hydrogen
        may = [
            k for k, near in enumerate(around.neighbours)
            if large[k] and not light[k] and sum(not light[j] for j in near) > 1
        ]  # fmt: skip
    if not may:
        raise ValueError(
            f"the part of {len(part)} atoms is a molecule by itself, and the frames hold no other "
            "that it can hang on: write frames of what is around it as well"
        )
    own = MoleculeGraph.from_topology(topology, part.tolist(), None)
    heavy = [k for k, is_light in enumerate(own.hydrogen) if not is_light] or [0]
    x = np.asarray(reference)
    from_middle = np.linalg.norm(x[part[heavy]] - x[part].mean(axis=0), axis=1)
    middle = int(part[heavy[int(from_middle.argmin())]])
    places = x[[around.atoms[k] for k in may]]
    nearest = may[int(np.linalg.norm(places - x[middle], axis=1).argmin())]
    return [middle, *(around.atoms[k] for k in (nearest, *around.neighbours[nearest][:2]))]
