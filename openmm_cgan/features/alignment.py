"""Frames on one another: aligned, whole, their equivalent hydrogens called alike."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from openmm_cgan.internal_coordinates.local_geometry import TOUCHING
from openmm_cgan.internal_coordinates.molecule import MoleculeGraph
from openmm_cgan.internal_coordinates.neighbours import near_pairs
from openmm_cgan.internal_coordinates.part_rows import SOLVENT
from openmm_cgan.internal_coordinates.superposition import superposed
from openmm_cgan.radii import longest_bonds
from openmm_cgan.topologies import openmm_topology

if TYPE_CHECKING:
    from openmm_cgan.frames import Frames

ROUNDS = 4  # of moving frames onto their mean
AROUND, GLANCES = 0.6, 20  # nm from a part, in any of so many frames: what it stands among
BROKEN = 0.6  # nm: a longer bond means a molecule cut by the periodic boundary


def renamed(x: Tensor, reference: Tensor, rotors: Tensor) -> Tensor:
    """Exchange the hydrogens of rotors in a circle, so that they are nearest to a reference.

    Parameters
    ----------
    x : Tensor, shape (n, n_atoms, 3)
    reference : Tensor, shape (n_atoms, 3)
    rotors : Tensor of int, shape (n_rotors, 3)

    Returns
    -------
    Tensor, shape (n, n_atoms, 3)
    """
    if not len(rotors):
        return x
    turned = torch.stack([x[:, rotors.roll(turn, 1)] for turn in range(3)])
    off = ((turned - reference[rotors]) ** 2).sum(dim=(3, 4))
    nearest = off.argmin(dim=0)[None, :, :, None, None].expand(1, -1, -1, 3, 3)
    chosen = turned.gather(0, nearest)[0]
    return x.index_copy(1, rotors.flatten(), chosen.flatten(1, 2))


def aligned(x: Tensor, fitted: Tensor, rotors: Tensor) -> tuple[Tensor, Tensor]:
    """Configurations (n, n_atoms, 3) moved onto their mean, and the mean (n_atoms, 3)."""
    mean = x[0]
    for _ in range(ROUNDS):
        x = renamed(superposed(x, mean[fitted], fitted), mean, rotors)
        mean = x.mean(0)
    return x, mean


def some_positions(frames: Frames, n: int, atoms: NDArray[np.int64]) -> NDArray[np.float64]:
    """Positions (at most n, n_atoms, 3) of atoms in evenly spaced frames."""
    rows = np.unique(np.linspace(0, len(frames) - 1, n).astype(np.int64))
    place = {atom: i for i, atom in enumerate(frames.atoms.tolist())}
    return frames.positions[rows][:, [place[a] for a in atoms.tolist()]].astype(np.float64)


def around(frames: Frames, topology: Any, part: NDArray[np.int64]) -> NDArray[np.int64]:
    """Atoms of the residues around a part, and of those that CVs are measured to.

    Of molecules larger than solvent's, and metals that these hold: single atoms that one of their
    heavy atoms touches in each of the frames looked at.
    """
    others = np.setdiff1d(frames.atoms, part)
    every = np.concatenate([part, others])
    molecule = MoleculeGraph.from_topology(topology, every.tolist(), None)
    number = molecule.components()
    large = np.bincount(number)[number] > SOLVENT
    residues = np.array([a.residue.index for a in openmm_topology(topology).atoms()])[every]
    own = np.arange(len(every)) < len(part)
    x = some_positions(frames, GLANCES, every)
    large |= _held(x, (number, np.array(molecule.elements)), large)
    pairs = near_pairs(x, AROUND, own, np.zeros(0, dtype=np.int64))
    near = np.unique(pairs.numpy() % len(every))
    measured = {a for variable in frames.variables for a in variable.atoms}
    near = np.union1d(near, np.flatnonzero(np.isin(every, list(measured))))
    near = near[~own[near] & large[near]]
    rest = every[~own & large & np.isin(residues, residues[near])]
    if (np.array(molecule.elements)[np.isin(every, rest)] > 1).sum() < 3:
        raise ValueError(
            f"less than three heavy atoms of the frames are within {AROUND} nm of the part: it"
            " is made among the rest, which frames must hold, with whole molecules near each other"
        )
    return rest


def _held(
    x: NDArray[np.float64],
    kinds: tuple[NDArray[np.int64], NDArray[np.int64]],
    large: NDArray[np.bool_],
) -> NDArray[np.bool_]:
    """Which are single atoms, (n_atoms,), that large molecules hold in all of (n, n_atoms, 3)."""
    number, elements = kinds
    alone = np.flatnonzero((np.bincount(number)[number] == 1) & (elements > 1) & ~large)
    holders = x[:, large & (elements > 1)]
    found = np.zeros(len(number), dtype=bool)
    for atom in alone if holders.size else []:
        nearest = np.linalg.norm(holders - x[:, [atom]], axis=-1).min(axis=1)
        found[atom] = nearest.max() < TOUCHING
    return found


def require_whole(molecule: MoleculeGraph, x: NDArray[np.float64]) -> None:
    pairs = [(a, b) for a, near in enumerate(molecule.neighbours) for b in near if a < b]
    bonds = np.array(pairs, dtype=np.int64).reshape(-1, 2)
    lengths = np.linalg.norm(x[:, bonds[:, 0]] - x[:, bonds[:, 1]], axis=-1)
    broken = lengths > longest_bonds(np.array(molecule.elements), bonds, lengths, BROKEN)
    if broken.any():
        raise ValueError(
            f"a bond is {lengths[broken].max():.3g} nm long: the molecule is cut by the periodic "
            "boundary. Write frames with whole molecules; of one that is bonded to its own image (a"
            " polymer, a sheet, a crystal) choose a part by atoms="
        )
