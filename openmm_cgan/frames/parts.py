"""Parts of a system: frames with some of their atoms, and what tells a molecule from another."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from openmm_cgan.atom_selection import Atoms, atoms_to_take, real_atoms, words_or_indices
from openmm_cgan.frames.frames import Frames, read_frames
from openmm_cgan.frames.images import molecules_together
from openmm_cgan.large_arrays import some_columns
from openmm_cgan.topologies import openmm_topology

log = logging.getLogger("openmm_cgan")

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray


def frames_to_learn(
    frames: Frames | str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    topology: Any,
    atoms: Atoms | None,
) -> Frames:
    """The frames of the atoms that a generator is to make, its molecules next to each other.

    Parameters
    ----------
    frames : Frames, or path or paths for `read_frames`
    topology : openmm.app.Topology, or what `openmm_topology` finds one in, or None
        Of the whole system.
    atoms : str, sequence of int, AtomGroup, or None
        As for `selected_atoms`; by default what the frames hold of the solute (of ions where all
        else is water), where they have a box and there is a topology, and else all that they hold.

    Raises
    ------
    ValueError
        If ``atoms`` finds none, or one that the frames do not hold, or there is no topology to
        select from.
    """
    plain = words_or_indices(atoms)
    if not isinstance(frames, Frames):
        frames = read_frames(frames)  # type: ignore[arg-type]
    if topology is None:
        if isinstance(plain, str):
            raise ValueError(f"atoms={atoms!r} is a selection: give the topology to select from")
        return frames if plain is None else frames_of_atoms(frames, plain)
    periodic = frames.box is not None
    if atoms is None and not periodic:
        return _without_sites(frames, topology)
    chosen = atoms_to_take(topology, atoms, periodic, "training on the frames", or_ions=True)
    if atoms is None:
        chosen = np.intersect1d(chosen, frames.atoms)
        if not len(chosen):  # frames of ions, or of water, as they were asked for
            return frames
    part = frames_of_atoms(frames, chosen)
    if not are_of(frames, topology):
        return part  # the training refuses those
    if part is not frames:
        part = replace(part, molecule_hash=molecule_hash(topology, chosen))
    return molecules_together(part, topology)


def _without_sites(frames: Frames, topology: Any) -> Frames:
    """Frames of a system without a box, less virtual sites and Drude particles."""
    kept = np.intersect1d(real_atoms(topology), frames.atoms)
    if not 0 < len(kept) < len(frames.atoms) or not are_of(frames, topology):
        return frames
    left = len(frames.atoms) - len(kept)
    log.info("training on the frames: %d atoms (all but %d virtual sites)", len(kept), left)
    hashed = molecule_hash(topology, kept)
    return replace(frames_of_atoms(frames, kept), molecule_hash=hashed)


def frames_of_atoms(frames: Frames, atoms: ArrayLike) -> Frames:
    """Frames with some of their atoms.

    Parameters
    ----------
    frames : Frames
    atoms : array_like of int, shape (n_chosen,)
        Indices in the whole topology.

    Raises
    ------
    ValueError
        If frames were written without some of them.
    """
    wanted: NDArray[np.int64] = np.asarray(atoms, dtype=np.int64)
    if np.array_equal(wanted, frames.atoms):
        return frames
    missing = np.setdiff1d(wanted, frames.atoms)
    if len(missing):
        raise ValueError(
            f"{len(missing)} of the {len(wanted)} atoms asked for are not in the frames, which "
            f"hold {len(frames.atoms)}; the first is atom {missing[0]}, counted from 0. Write "
            "frames with them: FrameReporter(..., atoms=...)"
        )
    order = np.argsort(frames.atoms, kind="stable")
    places = order[np.searchsorted(frames.atoms, wanted, sorter=order)]
    own = some_columns(frames.positions, places)
    return replace(frames, positions=own, atoms=wanted, molecule_hash="")


def are_of(frames: Frames, topology: Any) -> bool:
    """Whether frames may be of a topology: of the same whole one, or of the same molecule.

    Programs name the residues and atoms of one file differently: the molecule decides then.
    """
    topology = openmm_topology(topology)
    if frames.topology_hash in ("", topology_hash(topology)):
        return True
    known = bool(frames.molecule_hash) and frames.atoms.max() < sum(1 for _ in topology.atoms())
    return known and molecule_hash(topology, frames.atoms) == frames.molecule_hash


def hashes_of(frames: Frames, topology: Any, atoms: ArrayLike) -> tuple[str, str, str]:
    """Hashes of the whole topology of frames, of some of its atoms, and of their System.

    Empty where they are not known; ``topology`` may be None.
    """
    if topology is None:
        return frames.topology_hash, "", frames.system_hash
    return topology_hash(topology), molecule_hash(topology, atoms), frames.system_hash


def topology_hash(topology: Any) -> str:
    """Fingerprint of a topology: atom names, elements, residues and bonds.

    Parameters
    ----------
    topology : openmm.app.Topology
        Or what `openmm_topology` finds one in.

    Returns
    -------
    str
        SHA-256 in hexadecimal. The same for the same molecule read from another file format.
    """
    topology = openmm_topology(topology)
    atoms = list(topology.atoms())
    rows = [
        (a.name, a.element.symbol if a.element is not None else "", a.residue.name, a.residue.index)
        for a in atoms
    ]
    index = {atom: i for i, atom in enumerate(atoms)}
    bonds = sorted(sorted((index[bond[0]], index[bond[1]])) for bond in topology.bonds())
    return hashlib.sha256(json.dumps([rows, bonds]).encode()).hexdigest()


def molecule_hash(topology: Any, atoms: ArrayLike) -> str:
    """Fingerprint of a part of a topology: its elements and the bonds among its atoms, in order.

    It is the same in whatever the part is solvated, wherever it stands in the topology, and however
    a force field or file calls its atoms and residues. Atoms without an element count by name.

    Parameters
    ----------
    topology : openmm.app.Topology
        Or what `openmm_topology` finds one in.
    atoms : array_like of int, shape (n_atoms,)
        Zero-based indices; their order counts.

    Returns
    -------
    str
        SHA-256 in hexadecimal.
    """
    topology = openmm_topology(topology)
    every, chosen = list(topology.atoms()), [int(a) for a in np.asarray(atoms)]
    place = {atom: i for i, atom in enumerate(chosen)}
    kinds = [
        every[a].element.symbol if every[a].element is not None else f"no element {every[a].name}"
        for a in chosen
    ]
    pairs = ((bond[0].index, bond[1].index) for bond in topology.bonds())
    bonds = sorted({
        tuple(sorted((place[one], place[two]))) for one, two in pairs if {one, two} <= place.keys()
    })  # fmt: skip
    return hashlib.sha256(json.dumps([kinds, bonds]).encode()).hexdigest()


def require_molecule(topology: Any, atoms: ArrayLike, molecule: str, whole: str, what: str) -> None:
    """Check that atoms of a topology are the molecule that something was trained on.

    Parameters
    ----------
    topology : openmm.app.Topology
        Or what `openmm_topology` finds one in.
    atoms : array_like of int, shape (n_atoms,)
    molecule : str
        `molecule_hash` of it; empty where it is not known, as of earlier model files.
    whole : str
        `topology_hash` of the system it was trained in, looked at where the other is not known.
    what : str
        That was trained, for messages.

    Raises
    ------
    ValueError
        If they are not, or there are no such atoms.
    """
    topology = openmm_topology(topology)
    chosen, n_atoms = np.asarray(atoms), sum(1 for _ in topology.atoms())
    if chosen.min(initial=0) < 0 or chosen.max(initial=-1) >= n_atoms:
        raise ValueError(
            f"{what} makes atoms up to number {chosen.max()}, counted from 0, of another topology: "
            f"this one has {n_atoms}"
        )
    if molecule and molecule_hash(topology, chosen) != molecule:
        raise ValueError(
            f"{what} was trained on another molecule: the elements or bonds of the {len(chosen)} "
            f"atoms that it makes, {chosen[0]} to {chosen[-1]}, are others in this topology; train "
            "on frames of this one, or give the topology in which the molecule has these numbers"
        )
    if not molecule and whole and topology_hash(topology) != whole:
        raise ValueError(
            f"{what} was trained on another topology: its hash is {whole[:12]}..., that of the one "
            f"given is {topology_hash(topology)[:12]}...; give the one it was trained with, or "
            "train again"
        )
