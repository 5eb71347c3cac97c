"""The order in which WHOLEMOLECULES takes atoms below MOLINFO WHOLE: along a spanning tree.

The tree is the shortest that connects the atoms where the PDB file has them, so that each atom is
brought next to one that it is near to; Prim, doi 10.1002/j.1538-7305.1957.tb01515.x.
"""

from __future__ import annotations

import numpy as np

from openmm_cgan.plumed.geometry.molecules import Entity
from openmm_cgan.plumed.input.pdb import MolInfo


def spanning_tree(atoms: tuple[int, ...], reference: MolInfo) -> Entity:
    """The atoms in the order in which they join the tree of the first.

    Those that the reference does not have come last, each behind the one before it in the list.

    Parameters
    ----------
    atoms : tuple of int
        Zero-based.
    reference : MolInfo

    Returns
    -------
    Entity
        With the roots in the tree.

    Raises
    ------
    ValueError
        If the reference lacks the first atom, or has the first two at one place.
    """
    where = {atom.serial - 1: atom.position for atom in reference.atoms}
    if atoms[0] not in where:
        raise ValueError(f"the first atom, {atoms[0] + 1}, is not in {reference.path}")
    known = [i for i, atom in enumerate(atoms) if atom in where]
    points = np.array([where[atoms[i]] for i in known])
    order, parents = _grow(points)
    places = {known[k]: n for n, k in enumerate(order)}  # of a list entry, in the tree
    entries = [known[k] for k in order]
    roots = [places[known[parent]] for parent in parents]
    for i in range(len(atoms)):
        if i not in places:
            places[i] = len(entries)
            entries.append(i)
            roots.append(places[i - 1])
    return Entity(tuple(atoms[i] for i in entries), tuple(roots))


def _grow(points: np.ndarray) -> tuple[list[int], list[int]]:
    """Points in the order of joining, and for all but the first the nearest that was there."""
    shortest = np.full(len(points), np.inf)  # from each that is outside to the tree
    inside = np.zeros(len(points), dtype=bool)
    order: list[int] = []
    parents: list[int] = []
    newest = 0
    while True:
        away = ((points - points[newest]) ** 2).sum(-1)
        if order:
            near = np.where(inside & (away > 0), away, np.inf)  # as PLUMED, none at the same place
            if not np.isfinite(near.min()):
                raise ValueError("two atoms are at one place in the file of MOLINFO")
            parents.append(int(np.argmin(near)))
        order.append(newest)
        inside[newest] = True
        if len(order) == len(points):
            return order, parents
        shortest = np.where(inside, np.inf, np.minimum(shortest, away))
        newest = int(np.argmin(shortest))
