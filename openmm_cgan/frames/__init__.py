"""Frames on disk: what a run has sampled, with its CVs, bias energy and segments.

`journal` writes so that a killed run loses nothing; `h5md` is the layout of a file; `segments`
writes the files of a run, where what is later was `set_aside`; of the `chosen_files` `frames` reads
them back, `parts` takes some atoms.
"""

from openmm_cgan.frames.frames import Frames, read_frames, read_segments
from openmm_cgan.frames.joining import tell_of_systems
from openmm_cgan.frames.parts import (
    are_of,
    frames_of_atoms,
    frames_to_learn,
    hashes_of,
    molecule_hash,
    require_molecule,
    topology_hash,
)

__all__ = [
    "Frames",
    "are_of",
    "frames_of_atoms",
    "frames_to_learn",
    "hashes_of",
    "molecule_hash",
    "read_frames",
    "read_segments",
    "require_molecule",
    "tell_of_systems",
    "topology_hash",
]
