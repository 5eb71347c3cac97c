"""Frames held against the structure that comes with a topology: mirror images are learned as well.

No force field tells them apart, and whatever a generator of the other hand makes is refused where
it is to be used: hours after the training.
"""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING, Any

import numpy as np

from openmm_cgan.proposals.stereo_axes import hands_of_axes
from openmm_cgan.proposals.stereochemistry import BondGraph, signed_volumes, with_hands
from openmm_cgan.quantities import nanometers
from openmm_cgan.topologies import openmm_topology, read_structure

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from openmm_cgan.frames import Frames

FLAT = 1e-4  # nm^3: a real stereocentre spans some 5e-3
LONGEST = 0.4  # nm from a centre: longer where the boundary cuts a molecule
SOME_FRAMES = 100  # that tell what is flat where no structure does
GLANCES = 200_000  # centres of frames that are looked at
GLANCES_AT_AXES = 10  # frames in which axes are looked for
MOST = 0.9  # share of frames from which on all are of the other hand

log = logging.getLogger("openmm_cgan")


def require_same_hands(frames: Frames, given: Any) -> None:
    """Check the stereocentres of frames, and the hands of their allenes and crowded biaryls.

    Parameters
    ----------
    frames : Frames
    given : as for `openmm_topology`, or None
        Of the whole system, that of the frames. If it has positions (a PDBFile, the path of a PDB
        file, a Molecule) these say which hand is right, else most of the frames do.

    Raises
    ------
    ValueError
        If frames have the other hand than the structure; of some of them the log tells.
    """
    if given is None:
        return
    topology = openmm_topology(given)
    structure = _structure_of(given, frames.atoms)
    graph = BondGraph.from_topology(topology, frames.atoms.tolist())
    centres = _that_are_not_flat(graph.stereocentres(), frames, structure)
    centres = np.concatenate([centres, _axes(graph, frames)])
    if not len(centres):
        return
    stride = -(-len(frames) * len(centres) // GLANCES)
    some = frames.positions[::stride][:, centres].astype(float)
    own = hands(some)
    right = _hands_of(structure, centres)
    told = right is not None
    right = np.where(own.sum(axis=0) < 0, -1.0, 1.0) if right is None else right
    other = (own * right < 0).mean(axis=0)
    worst = int(np.argmax(other))
    if not other[worst]:
        return
    atom = list(topology.atoms())[int(frames.atoms[centres[worst, 0]])]
    where = f"at atom {atom.index} ({atom.residue.name} {atom.residue.id} {atom.name})"
    if told and other.max() > MOST:
        raise ValueError(
            f"{where} the frames have the other hand than the structure that is given as topology:"
            " they are of its mirror image, or of a diastereomer. Give the structure of the run "
            "(topology.pdb in its folder), or frames of this one"
        )
    log.warning(
        "%s %.1f %% of the frames have another hand than %s: the molecule was changed in the run, "
        "and both are learned; proposals of the one that a run does not have are refused",
        where, 100 * other.max(), "the structure given" if told else "most",
    )  # fmt: skip


def _axes(graph: BondGraph, frames: Frames) -> NDArray[np.int64]:
    """Axes with a hand (n, 5), of the first of some frames that shows any, and no CV's torsion.

    Force fields have no torsion about an allene: in a run it turns.
    """
    turned = [v.atoms[1:3] for v in frames.variables if v.action == "TORSION"]
    free = [set(bond) for bond in turned]
    for number in range(0, len(frames), -(-len(frames) // GLANCES_AT_AXES)):
        rows, ends = hands_of_axes(graph, frames.positions[number].astype(float))
        if len(rows):
            kept = [set(frames.atoms[bond].tolist()) not in free for bond in ends]
            return rows[np.array(kept, dtype=bool)]
    return np.zeros((0, 5), dtype=np.int64)


def hands(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """1 or -1 of centres with their neighbours, 0 where flat or cut, (..., 5, 3) to (...)."""
    volumes = signed_volumes(x[..., 1:, :])
    farthest = np.linalg.norm(x[..., 1:, :] - x[..., :1, :], axis=-1).max(axis=-1)
    return np.where((np.abs(volumes) > FLAT) & (farthest < LONGEST), np.sign(volumes), 0.0)


def _that_are_not_flat(
    centres: NDArray[np.int64], frames: Frames, structure: NDArray[np.float64] | None
) -> NDArray[np.int64]:
    """Those with a hand: heat bends three neighbours in a plane to either side.

    By the structure; without one by most of some frames.
    """
    if structure is not None:
        return with_hands(centres, structure)
    some = frames.positions[:: -(-len(frames) // SOME_FRAMES)].astype(float)
    found = [np.isin(centres[:, 0], with_hands(centres, x)[:, 0]) for x in some]
    return centres[np.mean(found, axis=0) > 0.5]


def _structure_of(given: Any, atoms: NDArray[np.int64]) -> NDArray[np.float64] | None:
    """Positions of these atoms in what is given (n_atoms, 3) [nm]; None where it has none."""
    if isinstance(given, str | os.PathLike):
        given = read_structure(given)
    positions = getattr(given, "positions", None)
    if positions is None:
        return None
    x = np.asarray(nanometers(positions), dtype=float)
    if x.ndim != 2 or len(x) <= atoms.max() or not np.isfinite(x).all():
        return None
    return x[atoms]


def _hands_of(
    structure: NDArray[np.float64] | None, centres: NDArray[np.int64]
) -> NDArray[np.float64] | None:
    """Those of the structure; None where there is none, or it is flat at a centre."""
    if structure is None:
        return None
    found = hands(structure[centres])
    return found if found.all() else None
