"""Free energies, with errors.

`hills` sums HILLS files, `growth` weighs the frames that were made as they grew, `opes` sums the
kernels of OPES, `mbar` solves for the weights of windows, `samples` are the records, `reweighting`
weighs frames, `generated` holds what a generator made, `importance` weighs that, and `profiles`
averages over all of them.
"""

from openmm_cgan.free_energy.generated import (
    GeneratedFrames,
    generate_frames,
    log_weights_of_frames,
)
from openmm_cgan.free_energy.importance import (
    FreeEnergyAtPoints,
    free_energy_at_points,
    reweight_generated,
    reweight_with_generated,
)
from openmm_cgan.free_energy.profiles import (
    FreeEnergy,
    basin_difference,
    convergence,
    free_energy_profile,
    free_energy_surface,
    start_disagreement,
)
from openmm_cgan.free_energy.reweighting import reweight, reweight_windows
from openmm_cgan.free_energy.samples import BiasedFrames, Estimate, WeightedSamples

__all__ = [
    "BiasedFrames",
    "Estimate",
    "FreeEnergy",
    "FreeEnergyAtPoints",
    "GeneratedFrames",
    "WeightedSamples",
    "basin_difference",
    "convergence",
    "free_energy_at_points",
    "free_energy_profile",
    "free_energy_surface",
    "generate_frames",
    "log_weights_of_frames",
    "reweight",
    "reweight_generated",
    "reweight_windows",
    "reweight_with_generated",
    "start_disagreement",
]
