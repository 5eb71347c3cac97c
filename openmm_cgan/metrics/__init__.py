"""How good a generator is: numbers between generated frames and those of molecular dynamics (MD).

Every distance means little alone. Each is therefore given with its floor, the same distance
between two halves of the MD itself: a generator at the floor cannot be told from more MD.
Coordinates here are plain arrays (n_frames, n_coordinates): torsions, bonds, pair distances.

`coordinates` checks and makes these arrays, `distances` compares two samples, `sampling` says how
much weighted configurations are worth and whether runs have come together.
"""

from openmm_cgan.metrics.consistency import MicroMacroConsistency, micro_macro_consistency
from openmm_cgan.metrics.coordinates import pair_distances
from openmm_cgan.metrics.distances import (
    MarginalDistances,
    Memorisation,
    energy_distance,
    jensen_shannon_distance,
    marginal_distances,
    memorisation,
)
from openmm_cgan.metrics.sampling import RegionSizes, effective_sample_sizes, r_hat
from openmm_cgan.proposals.weights import kish_effective_sample_size

__all__ = [
    "MarginalDistances",
    "Memorisation",
    "MicroMacroConsistency",
    "RegionSizes",
    "effective_sample_sizes",
    "energy_distance",
    "jensen_shannon_distance",
    "kish_effective_sample_size",
    "marginal_distances",
    "memorisation",
    "micro_macro_consistency",
    "pair_distances",
    "r_hat",
]
