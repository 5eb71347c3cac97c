"""Internal coordinates: Cartesian positions <-> bonds, angles and torsions of a Z-matrix.

`rows` says what a row of a Z-matrix means, `molecule` chooses the rows from the bonds of a
molecule, `z_matrix` goes to and fro by them. `part_z_matrix` is that of a part that hangs on a rest
which is held, `part_rows` chooses its rows. Exact geometry: nothing is fitted to frames. What is
too large for that is `superposition`'s and `local_geometry`'s: Cartesian coordinates, moved onto a
reference, and mended until their chemistry is that of frames (`neighbours` finds who touches).
"""

from openmm_cgan.internal_coordinates.part_rows import part_z_matrix
from openmm_cgan.internal_coordinates.part_z_matrix import PartZMatrix
from openmm_cgan.internal_coordinates.rows import Coordinate
from openmm_cgan.internal_coordinates.z_matrix import NM, Internal, ZMatrix

__all__ = [
    "NM",
    "Coordinate",
    "Internal",
    "PartZMatrix",
    "ZMatrix",
    "part_z_matrix",
]
