"""Features: what generator networks see of positions and CVs, and the way back.

`featurization` is the contract of whatever turns positions into features, with log|J|;
`condition_encoding` is what the networks are told of CVs, whatever the featurization;
`z_matrix_features` is the featurization of a molecule, or of a part that hangs on the rest, over
bonds, angles and torsions: `part_of_frames` finds what, `scaling` centres and widths, and
`skeleton` where atoms stand once torsions and CVs are known;
`aligned_features` that of large ones, over principal `modes` of aligned Cartesian coordinates;
`plain_features` that of particles without bonds, or of any table. All is fitted to frames once and
kept with the trained artefact. A further featurization is a file here and a row in
`FEATURIZATIONS`.
"""

from openmm_cgan.features.aligned_features import AlignedFeatures
from openmm_cgan.features.condition_encoding import ConditionEncoding
from openmm_cgan.features.featurization import Featurization, Featurize
from openmm_cgan.features.plain_features import PlainFeatures
from openmm_cgan.features.skeleton import Skeleton, skeleton_of
from openmm_cgan.features.z_matrix_features import ZMatrixFeatures

__all__ = [
    "FEATURIZATIONS",
    "AlignedFeatures",
    "ConditionEncoding",
    "Featurization",
    "Featurize",
    "PlainFeatures",
    "Skeleton",
    "ZMatrixFeatures",
    "skeleton_of",
]

# Kinds that a saved artefact may name.
FEATURIZATIONS: dict[str, type[Featurization]] = {
    "ZMatrixFeatures": ZMatrixFeatures,
    "AlignedFeatures": AlignedFeatures,
    "PlainFeatures": PlainFeatures,
}
