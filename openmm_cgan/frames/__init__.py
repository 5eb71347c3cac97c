"""Frames on disk: what a run has sampled, with its CVs, bias energy and segments.

`journal` writes so that a killed run loses nothing; `h5md` is the layout of a file; `segments`
writes and finds the files of a run; `frames` reads them back.
"""

from openmm_cgan.frames.frames import Frames, read_frames, read_segments, topology_hash

__all__ = [
    "Frames",
    "read_frames",
    "read_segments",
    "topology_hash",
]
