"""Free energies, with errors.

`hills` sums HILLS files, `opes` the kernels of OPES, `mbar` solves for the weights of windows,
`reweighting` weighs frames, `profiles` averages over them.
"""

from openmm_cgan.free_energy.profiles import (
    FreeEnergy,
    basin_difference,
    convergence,
    free_energy_profile,
    free_energy_surface,
    read_windows,
    start_disagreement,
)
from openmm_cgan.free_energy.reweighting import (
    BiasedFrames,
    Estimate,
    WeightedSamples,
    reweight,
    reweight_windows,
)

__all__ = [
    "BiasedFrames",
    "Estimate",
    "FreeEnergy",
    "WeightedSamples",
    "basin_difference",
    "convergence",
    "free_energy_profile",
    "free_energy_surface",
    "read_windows",
    "reweight",
    "reweight_windows",
    "start_disagreement",
]
