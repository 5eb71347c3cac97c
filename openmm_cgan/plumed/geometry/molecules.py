"""Making molecules whole: atoms brought next to each other, along a chain or a tree."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from openmm_cgan.plumed.geometry.vectors import shortest_image
from openmm_cgan.plumed.input.expressions import namespace


@dataclass(frozen=True)
class Entity:
    """Atoms that WHOLEMOLECULES makes whole.

    Attributes
    ----------
    atoms : tuple of int
        Zero-based.
    roots : tuple of int, length ``len(atoms) - 1``, or None
        Place in `atoms` of the atom that each but the first is brought next to, always before it;
        None: the one before it.
    """

    atoms: tuple[Any, ...]
    roots: tuple[int, ...] | None = None

    @property
    def groups(self) -> list[tuple[int, ...]]:
        """Groups of atoms to be in one periodic image: all of a chain, pairs of a tree."""
        if self.roots is None:
            return [self.atoms]
        pairs = zip(self.roots, self.atoms[1:], strict=True)
        return [(self.atoms[root], atom) for root, atom in pairs]


def entities_made_whole(entities: tuple[Entity, ...], positions: Any, box: Any) -> Any:
    """Positions of all atoms after each entity was made whole, one after the other.

    Parameters
    ----------
    entities : tuple of Entity
    positions : ndarray or tensor, shape (..., n_atoms, 3)
        [nm]
    box : ndarray or tensor, shape (..., 3, 3)
        [nm]

    Returns
    -------
    ndarray or tensor, shape (..., n_atoms, 3)
        A copy [nm].
    """
    positions = positions.copy() if isinstance(positions, np.ndarray) else positions.clone()
    for entity in entities:
        atoms = list(entity.atoms)
        positions[..., atoms, :] = whole(entity.atoms, positions, box, entity.roots)
    return positions


def wrapped_around(groups: np.ndarray, around: Any, pair: bool, positions: Any, box: Any) -> Any:
    """Positions with the first of each group at its image nearest to another point.

    The rest of the group follows it.

    Parameters
    ----------
    groups : ndarray, shape (n_groups, n_together)
        Atoms.
    around : ndarray or tensor, shape (..., n_around, 3)
        Points that stay [nm]; each group goes to the one that is nearest to its first atom.
    pair : bool
        Whether each group goes to one of its own instead.
    positions : ndarray or tensor, shape (..., n_atoms, 3)
        [nm]
    box : ndarray or tensor, shape (..., 3, 3)
        [nm]

    Returns
    -------
    ndarray or tensor, shape (..., n_atoms, 3)
        A copy [nm].
    """
    xp = namespace(positions)
    moved = positions.copy() if isinstance(positions, np.ndarray) else positions.clone()
    fixed, first = around, positions[..., groups[:, 0], :]
    if pair:
        steps = _nearest_steps(first - fixed, box)
    else:
        every = first[..., :, None, :] - fixed[..., None, :, :]
        every = _nearest_steps(every, box[..., None, :, :])
        best = (every * every).sum(-1).argmin(-1)
        index = xp.broadcast_to(best[..., None, None], (*best.shape, 1, 3))
        take = np.take_along_axis if xp is np else xp.take_along_dim
        steps = take(every, index, -2)[..., 0, :]
        wide = xp.broadcast_to(fixed[..., None, :, :], every.shape)
        fixed = take(wide, index, -2)[..., 0, :]
    anchor = fixed + steps
    moved[..., groups[:, 0], :] = anchor
    for column in groups[:, 1:].T:
        moved[..., column, :] = anchor + _nearest_steps(positions[..., column, :] - anchor, box)
    return moved


def _nearest_steps(steps: Any, box: Any) -> Any:
    """The shortest images of vectors, shape (..., n, 3)."""
    edges = box[..., None, :, :]
    nearest = shortest_image((steps[..., 0], steps[..., 1], steps[..., 2]), edges)
    return namespace(steps).stack(list(nearest), -1)


def whole(
    atoms: tuple[int, ...], positions: Any, box: Any, roots: tuple[int, ...] | None = None
) -> Any:
    """Positions of a group, each atom at the image nearest to the one before it, or to its root.

    Parameters
    ----------
    atoms : tuple of int
    positions : ndarray or tensor, shape (..., n_atoms, 3)
        [nm]
    box : ndarray or tensor, shape (..., 3, 3), or None
        [nm]; None leaves the positions as they are.
    roots : tuple of int, optional
        As of `Entity`.

    Returns
    -------
    ndarray or tensor, shape (..., len(atoms), 3)
        [nm]
    """
    points = positions[..., list(atoms), :]
    if box is None:
        return points
    xp = namespace(points)
    before = slice(None, -1) if roots is None else list(roots)
    steps = points[..., 1:, :] - points[..., before, :]
    nearest = shortest_image((steps[..., 0], steps[..., 1], steps[..., 2]), box[..., None, :, :])
    steps = xp.stack(list(nearest), -1)
    if roots is None:
        first = points[..., :1, :]
        return xp.concatenate([first, first + steps.cumsum(-2)], -2)
    placed = [points[..., 0, :]]
    for i, root in enumerate(roots):
        placed.append(placed[root] + steps[..., i, :])
    return xp.stack(placed, -2)
