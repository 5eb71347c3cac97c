"""Internal coordinates: Cartesian positions <-> bonds, angles and torsions of a Z-matrix.

`rows` says what a row of a Z-matrix means, `molecule` chooses the rows from the bonds of a
molecule, `z_matrix` goes to and fro by them. Exact geometry: nothing is fitted to frames.
"""

from openmm_cgan.internal_coordinates.rows import Coordinate
from openmm_cgan.internal_coordinates.z_matrix import NM, Internal, ZMatrix

__all__ = ["NM", "Coordinate", "Internal", "ZMatrix"]
