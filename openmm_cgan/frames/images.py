"""Several molecules of a periodic system, each at the image where it touches the others.

OpenMM puts each molecule into the box by itself: a ligand and its protein, or two solutes side by
side, are a box length apart in some frames and together in others.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from openmm_cgan.atom_selection import molecules_of
from openmm_cgan.frames.frames import Frames
from openmm_cgan.plumed.geometry.lattices import nearest_image
from openmm_cgan.plumed.geometry.vectors import shortest_image
from openmm_cgan.topologies import openmm_topology

if TYPE_CHECKING:
    from numpy.typing import NDArray

log = logging.getLogger("openmm_cgan")

APART = 0.45  # of a box vector: molecules as far from each other have no nearest image


def molecules_together(frames: Frames, topology: Any) -> Frames:
    """Frames whose molecules are next to each other.

    In the first frame each molecule is tied to one that is nearest to it, by their two nearest
    atoms; in all frames these are at their nearest images.

    Parameters
    ----------
    frames : Frames
        With a box; molecules are whole.
    topology : openmm.app.Topology, or what `openmm_topology` finds one in
        Of the whole system.

    Returns
    -------
    Frames
        The same where there is one molecule, or none had to be moved.
    """
    place = {int(atom): i for i, atom in enumerate(frames.atoms)}
    every = [[place[a] for a in m if a in place] for m in molecules_of(openmm_topology(topology))]
    molecules = [np.array(molecule) for molecule in every if molecule]
    if frames.box is None or len(molecules) < 2 or not len(frames):
        return frames
    box, x = frames.box.astype(float), frames.positions
    shifts, farthest = shifts_by(ties_among(x[0].astype(float), box[0], molecules), x, box)
    if farthest > APART * np.linalg.norm(box, axis=2).min():
        log.warning(
            "molecules of the frames come %.3g nm apart, half a box: where they are to each other "
            "depends on the image taken; choose the one to learn by atoms=", farthest,
        )  # fmt: skip
    if not (np.abs(shifts) > 1e-3).any():
        return frames
    return replace(frames, positions=(x + shifts).astype(x.dtype))


def shifts_into_box(
    x: NDArray[np.float64],
    box: NDArray[np.float64],
    molecules: Sequence[Sequence[int]],
    atoms: NDArray[np.int64],
) -> NDArray[np.float64]:
    """Multiples of the box vectors that put molecules by their centres into the box, as OpenMM.

    Parameters
    ----------
    x : ndarray, shape (n, n_atoms, 3)
        Positions [nm].
    box : ndarray, shape (n, 3, 3)
        Box vectors in rows, in OpenMM's reduced form [nm].
    molecules : sequence of sequence of int
        Their atoms; each of ``atoms`` is in one of them.
    atoms : ndarray of int, shape (n_kept,)
        Those that are asked for.

    Returns
    -------
    ndarray, shape (n, n_kept, 3)
        What is to be subtracted from the positions of ``atoms`` [nm].
    """
    lengths = np.array([len(molecule) for molecule in molecules])
    members = np.concatenate([np.asarray(molecule) for molecule in molecules])
    number = np.zeros(x.shape[1], dtype=np.int64)
    number[members] = np.repeat(np.arange(len(molecules)), lengths)
    sums = np.add.reduceat(x[:, members], np.cumsum(lengths) - lengths, axis=1)
    centres = sums / lengths[:, None]
    shifts = np.zeros(centres.shape)
    for i in (2, 1, 0):
        turns = np.floor((centres - shifts)[..., i] / box[:, None, i, i])
        shifts += turns[..., None] * box[:, None, i]
    return shifts[:, number[atoms]]


class Tie(NamedTuple):
    """What brings a molecule next to others.

    Attributes
    ----------
    anchor, atom : int
        An atom that is in its place, and the one of the molecule that is nearest to it.
    molecule : ndarray of int
        All atoms that are moved with it.
    """

    anchor: int
    atom: int
    molecule: NDArray[np.int64]


def shifts_by(
    ties: Sequence[Tie], x: NDArray, box: NDArray[np.float64]
) -> tuple[NDArray[np.float64], float]:
    """Multiples of the box vectors that bring molecules next to each other.

    Parameters
    ----------
    ties : sequence of Tie
        Each to what an earlier one has put in its place.
    x : ndarray, shape (n, n_atoms, 3)
        Positions [nm].
    box : ndarray, shape (n, 3, 3)
        [nm]

    Returns
    -------
    shifts : ndarray, shape (n, n_atoms, 3)
        What is to be added [nm].
    farthest : float
        The longest way between two atoms that are tied [nm].
    """
    shifts, farthest = np.zeros(x.shape), 0.0
    for anchor, atom, molecule in ties:
        way = x[:, atom].astype(float) + shifts[:, atom] - x[:, anchor] - shifts[:, anchor]
        short = np.stack(shortest_image((way[:, 0], way[:, 1], way[:, 2]), box), axis=-1)
        shifts[:, molecule] += (short - way)[:, None]
        farthest = max(farthest, float(np.linalg.norm(short, axis=1).max()))
    return shifts, farthest


def ties_among(
    x: NDArray[np.float64],
    box: NDArray[np.float64],
    molecules: Sequence[NDArray[np.int64]],
    placed: Sequence[NDArray[np.int64]] = (),
) -> list[Tie]:
    """Tie each molecule to one that is nearest to it, by their two nearest atoms.

    Parameters
    ----------
    x : ndarray, shape (n_atoms, 3)
        Positions [nm].
    box : ndarray, shape (3, 3)
        [nm]
    molecules : sequence of ndarray of int
        Their atoms.
    placed : sequence of ndarray of int
        Molecules that are in their place; by default the one of most atoms is.
    """
    if not len(molecules):
        return []
    number, left = np.full(len(x), -1), np.zeros(len(x), dtype=bool)
    for k, molecule in enumerate(molecules):
        number[molecule], left[molecule] = k, True
    square, nearest = np.full(len(x), np.inf), np.zeros(len(x), dtype=np.int64)
    newest = np.concatenate(placed) if len(placed) else max(molecules, key=len)
    ties: list[Tie] = []
    while True:
        left[newest] = False
        if not left.any():
            return ties
        for atom in newest:
            way = nearest_image(tuple((x - x[atom]).T), box)
            found = sum(part * part for part in way)
            nearer = left & (found < square)
            square[nearer], nearest[nearer] = found[nearer], atom
        other = int(np.argmin(np.where(left, square, np.inf)))
        newest = molecules[number[other]]
        ties.append(Tie(int(nearest[other]), other, newest))
