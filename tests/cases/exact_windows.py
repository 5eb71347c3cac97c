"""Umbrella windows of the multiscale systems, drawn exactly: what biased runs would give."""

import numpy as np

from openmm_cgan.closures import Grid, local_dynamics_of_sde
from openmm_cgan.collective_variable import CollectiveVariable
from openmm_cgan.free_energy import reweight_windows
from openmm_cgan.free_energy.samples import BiasedFrames


def slow_variable(system):
    half = None if system.period is None else system.period / 2
    return CollectiveVariable("z", "", None if half is None else (-half, half))


def wells(system, n_windows, reach=None):
    """Centres over the slow variable's range below `reach` kT, and a stiffness that overlaps."""
    grid = np.linspace(*system.slow_range, 501)
    energy = system.free_energy(grid[:, None])
    low = grid[energy - energy.min() < (reach or 12.0) * system.kT]
    centres = np.linspace(low[0], low[-1], n_windows)
    if system.period is not None:
        centres = np.arange(n_windows) * system.period / n_windows - system.period / 2
    return centres, 1.5 * system.kT / (centres[1] - centres[0]) ** 2


def exact_windows(system, n_windows, n_frames, seed):
    """Windows, the configurations of their frames (n_windows * n_frames, d), and the centres."""
    rng = np.random.default_rng(seed)
    variable = slow_variable(system)
    centres, kappa = wells(system, n_windows)
    grid = np.linspace(*system.slow_range, 4001)
    energy = system.free_energy(grid[:, None])
    windows, configurations = [], []
    for centre in centres:

        def bias(z, centre=centre):
            return 0.5 * kappa * variable.difference(centre, z[:, 0]) ** 2

        logs = -(energy + bias(grid[:, None])) / system.kT
        density = np.exp(logs - logs.max())  # whose cells lie between the values of the grid
        cumulative = np.append(0.0, np.cumsum(0.5 * (density[1:] + density[:-1])))
        z = np.interp(rng.random(n_frames), cumulative / cumulative[-1], grid)
        configurations.append(system.sample_conditional(z[:, None], 1, rng)[:, 0])
        windows.append(
            BiasedFrames(z[:, None], bias, system.temperature, (variable,), f"{centre:.3g}")
        )
    return windows, np.concatenate(configurations), centres


def exact_samples(system, n_windows, n_frames, cells, seed):
    """Samples of such windows by MBAR, their local dynamics, and a grid over the windows."""
    windows, x, centres = exact_windows(system, n_windows, n_frames, seed)
    samples = reweight_windows(windows, seed=seed)
    rows = samples.window * n_frames + samples.frame
    local = local_dynamics_of_sde(system.slow, system.drift, system.noise, x[rows], system.kT)
    bounds = [None if system.period else (centres[0], centres[-1])]
    return samples, local, Grid.over((slow_variable(system),), cells, bounds)
