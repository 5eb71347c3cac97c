"""Several molecules of a periodic system, each at the image where it touches the others.

OpenMM puts each molecule into the box by itself: a ligand and its protein, or two solutes side by
side, are a box length apart in some frames and together in others.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TYPE_CHECKING, Any

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
    shifts, farthest = np.zeros((len(frames), len(frames.atoms), 3)), 0.0
    for one, other, molecule in _ties(x[0].astype(float), box[0], molecules):
        way = x[:, other].astype(float) + shifts[:, other] - x[:, one] - shifts[:, one]
        short = np.stack(shortest_image((way[:, 0], way[:, 1], way[:, 2]), box), axis=-1)
        shifts[:, molecule] += (short - way)[:, None]
        farthest = max(farthest, float(np.linalg.norm(short, axis=1).max()))
    if farthest > APART * np.linalg.norm(box, axis=2).min():
        log.warning(
            "molecules of the frames come %.3g nm apart, half a box: where they are to each other "
            "depends on the image taken; choose the one to learn by atoms=", farthest,
        )  # fmt: skip
    if not (np.abs(shifts) > 1e-3).any():
        return frames
    return replace(frames, positions=(x + shifts).astype(x.dtype))


def _ties(
    x: NDArray[np.float64], box: NDArray[np.float64], molecules: list[NDArray[np.int64]]
) -> list[tuple[int, int, NDArray[np.int64]]]:
    """An atom that is placed, the nearest one of a molecule that is not, and that molecule."""
    number = np.empty(len(x), dtype=np.int64)
    for k, molecule in enumerate(molecules):
        number[molecule] = k
    square, nearest = np.full(len(x), np.inf), np.zeros(len(x), dtype=np.int64)
    newest = max(molecules, key=len)
    ties: list[tuple[int, int, NDArray[np.int64]]] = []
    left = np.ones(len(x), dtype=bool)
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
        ties.append((int(nearest[other]), other, newest))
