"""Closures: averages over p(x | xi = z), and the reduced dynamics that they close.

`conditional_average` takes the average of anything (`observables`) over frames or generated
configurations at values of the CVs; `local_dynamics` gives what the dynamics does to the CVs at
each configuration, `closure` its averages: drift, diffusion and mean force, which `identity` tests
against the density of the same samples. `integrate_mean_force` gives the free energy,
`reduced_dynamics_of` first-passage times and rates. `run_bursts`, `kramers_moyal` and
`lagged_regression` (free of the bias of a finite lag) read drift and diffusion from short or long
runs instead, `window_diffusion` the diffusion from umbrella windows.
"""

from openmm_cgan.closures.bursts import Trajectories, run_bursts
from openmm_cgan.closures.conditional_averages import (
    ConditionalAverage,
    choose_bandwidth,
    conditional_average,
)
from openmm_cgan.closures.drift_and_diffusion import Closure, Identity, closure, identity
from openmm_cgan.closures.from_closure import reduced_dynamics_of, with_error
from openmm_cgan.closures.grid import Grid
from openmm_cgan.closures.kramers_moyal_coefficients import KramersMoyal, kramers_moyal
from openmm_cgan.closures.lagged_regression import LaggedRegression, lagged_regression
from openmm_cgan.closures.local_quantities import LocalDynamics
from openmm_cgan.closures.mean_force import integrate_mean_force
from openmm_cgan.closures.observables import of_atoms, of_positions, of_samples
from openmm_cgan.closures.projection import (
    local_dynamics,
    local_dynamics_of_frames,
    local_dynamics_of_sde,
    md_mobility,
)
from openmm_cgan.closures.reduced_dynamics import ReducedDynamics
from openmm_cgan.closures.restrained import WindowDiffusion, window_diffusion

__all__ = [
    "Closure",
    "ConditionalAverage",
    "Grid",
    "Identity",
    "KramersMoyal",
    "LaggedRegression",
    "LocalDynamics",
    "ReducedDynamics",
    "Trajectories",
    "WindowDiffusion",
    "choose_bandwidth",
    "closure",
    "conditional_average",
    "identity",
    "integrate_mean_force",
    "kramers_moyal",
    "lagged_regression",
    "local_dynamics",
    "local_dynamics_of_frames",
    "local_dynamics_of_sde",
    "md_mobility",
    "of_atoms",
    "of_positions",
    "of_samples",
    "reduced_dynamics_of",
    "run_bursts",
    "window_diffusion",
    "with_error",
]
