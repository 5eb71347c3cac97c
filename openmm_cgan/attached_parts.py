"""What a part of a system hangs on: found from the bonds, refused where it is held at both ends."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from openmm_cgan.topologies import openmm_topology

REFERENCES = 3  # bonds from a part: the atoms of the rest that bonds, angles, torsions refer to


def attachments(topology: Any, part: Iterable[int]) -> list[tuple[int, int]]:
    """Bonds from a part to the rest, one for each piece of the part that bonds hold together.

    None where the part is one whole molecule.

    Parameters
    ----------
    topology : openmm.app.Topology
    part : iterable of int

    Returns
    -------
    list of (int, int)
        Atom of the part, atom of the rest.

    Raises
    ------
    ValueError
        If a piece is attached at several places, or at none where there are others.
    """
    neighbours, names = neighbours_of(topology), atom_names(topology)
    own, seen = set(part), set[int]()
    found: list[tuple[int, int]] = []
    for start in sorted(own):
        if start in seen:
            continue
        piece = _reached(neighbours, start, own)
        seen |= piece
        ends = sorted((a, b) for a in piece for b in neighbours.get(a, ()) if b not in own)
        if not ends and len(piece) == len(own):
            return []
        if len(ends) != 1:
            listed = ", ".join(f"{names[a]}-{names[b]}" for a, b in ends) or "none"
            raise ValueError(
                f"{len(piece)} atoms of the part, first {names[min(piece)]}, are bonded to the rest"
                f" at {len(ends)} places ({listed}); expected one: what is held at both ends (a"
                " loop, a ring, a disulphide) or stands by itself is proposed as seeds, with"
                " featurize=AlignedFeatures.of_part(...) and mode='seed', or choose atoms on one"
                " side of one bond"
            )
        found += ends
    return found


def references_of(topology: Any, part: Iterable[int]) -> list[int]:
    """Atoms of the rest up to `REFERENCES` bonds from a part, the nearest first."""
    neighbours = neighbours_of(topology)
    found = set(part)
    edge, order = set(found), list[int]()
    for _ in range(REFERENCES):
        edge = {b for a in edge for b in neighbours.get(a, ())} - found
        found |= edge
        order += sorted(edge)
    return order


def molecule_around(topology: Any, part: Iterable[int]) -> list[int]:
    """All atoms of the molecules that a part belongs to, the part left out, in order."""
    own, neighbours = set(part), neighbours_of(topology)
    reached = set[int]()
    for start in own:
        if start not in reached:
            reached |= _reached(neighbours, start, None)
    return sorted(reached - own)


def atom_names(topology: Any) -> dict[int, str]:
    """Number, residue and name of each atom, as messages call it."""
    every = openmm_topology(topology).atoms()
    return {a.index: f"{a.index} ({a.residue.name} {a.name})" for a in every}


def neighbours_of(topology: Any) -> dict[int, set[int]]:
    """Atoms bonded to each that has bonds."""
    neighbours: dict[int, set[int]] = {}
    for one, two in ((b[0].index, b[1].index) for b in openmm_topology(topology).bonds()):
        neighbours.setdefault(one, set()).add(two)
        neighbours.setdefault(two, set()).add(one)
    return neighbours


def _reached(neighbours: dict[int, set[int]], start: int, within: set[int] | None) -> set[int]:
    """Atoms, of a set or of all, that bonds connect with one of them."""
    found, edge = {start}, {start}
    while edge:
        near = {b for a in edge for b in neighbours.get(a, ())} - found
        edge = near if within is None else near & within
        found |= edge
    return found
