"""The skeleton of a molecule: where its atoms stand once torsions and CVs are known.

Bonds, angles and narrow torsions are as they are on average; torsions that turn and CVs that are
coordinates of the Z-matrix make the rest.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from openmm_cgan.features.condition_encoding import ConditionEncoding
from openmm_cgan.features.featurization import Featurization
from openmm_cgan.features.scaling import placed_coordinates
from openmm_cgan.features.z_matrix_features import ZMatrixFeatures
from openmm_cgan.internal_coordinates import PartZMatrix


class Skeleton(NamedTuple):
    """What makes positions of torsions and conditions.

    Attributes
    ----------
    rows : list of [int, int, int, int]
        Of a ZMatrix.
    turning : list of int
        Columns, among all internal coordinates, of the torsions that turn, in the order of pairs.
    placed : list of [int, int, int]
        Of each CV that is an internal coordinate: its column, and the two of a condition that tell
        it, as `Told` has them.
    at_rest : Tensor, shape (3 n_atoms - 6,)
        Means of the coordinates [nm, rad].
    lines : Tensor, shape (n_placed, 2)
        Slope and offset by which what a condition tells becomes a coordinate [nm, rad].
    """

    rows: list[list[int]]
    turning: list[int]
    placed: list[list[int]]
    at_rest: Tensor
    lines: Tensor


def skeleton_of(features: Featurization, conditions: ConditionEncoding) -> Skeleton | None:
    """The skeleton of a whole molecule; None of a part, and where there is no Z-matrix."""
    if not isinstance(features, ZMatrixFeatures) or isinstance(features.z_matrix, PartZMatrix):
        return None
    placed, lines = [], []
    for cv, column, scale in placed_coordinates(features.z_matrix, features.variables):
        told = conditions.told(cv)
        placed.append([column, *told.columns])
        lines.append([told.slope / scale, told.offset / scale])
    return Skeleton(
        rows=features.z_matrix.rows.tolist(),
        turning=features.wide.tolist(),
        placed=placed,
        at_rest=features.stopped(features.centre),
        lines=torch.tensor(lines, dtype=torch.float64).reshape(-1, 2),
    )
