"""Drift, diffusion and the reduced dynamics in phi of alanine dipeptide, against full dynamics.

Umbrella windows along phi (alanine dipeptide in vacuum, overdamped by friction) are joined by MBAR;
forces of the molecule without its bias give drift, diffusion and mean force at each phi. Three
estimates of one closure must agree, and the reduced dynamics must cross the barrier between C5 and
C7eq as often as the molecule does.

    python examples/alanine_closure.py [STEPS OF A WINDOW]
"""

import sys
from pathlib import Path

import numpy as np
from openmm import LangevinMiddleIntegrator, Platform
from openmm.app import Simulation

from openmm_cgan import PlumedBias
from openmm_cgan.closures import (
    Grid,
    closure,
    identity,
    integrate_mean_force,
    local_dynamics_of_frames,
    of_samples,
    reduced_dynamics_of,
    with_error,
)
from openmm_cgan.free_energy import free_energy_profile, reweight_windows
from openmm_cgan.potentials import Potential
from openmm_cgan.testsystems import alanine_dipeptide
from openmm_cgan.windows import (
    DragSettings,
    LocalWorkers,
    WindowSettings,
    drag,
    read_window_frames,
    read_windows,
    run_windows,
    umbrella_windows,
)

TEMPERATURE, FRICTION, TIMESTEP = 300.0, 50.0, 0.002  # K, 1/ps (about that of water), ps
WINDOWS = 36
TEMPLATE = """phi: TORSION ATOMS=5,7,9,15
RESTRAINT ARG=phi AT=${phi} KAPPA=200.0
"""
C5, C7EQ = np.deg2rad([-150.0, -75.0])  # the two basins on the left of the Ramachandran map


def run_umbrella_windows(steps: int, workers: int, every: int) -> list[Path]:
    """Windows around the circle of phi, each from where dragging left it; their folders."""
    molecule = alanine_dipeptide("C7eq")
    centres = np.linspace(-np.pi, np.pi, WINDOWS, endpoint=False)
    order = np.roll(centres, -int(np.abs(centres - C7EQ).argmin()))  # from C7eq around the circle
    bias = PlumedBias(TEMPLATE.replace("${phi}", "0"), molecule.topology, temperature=TEMPERATURE)
    settings = DragSettings(TEMPERATURE, kappa=400.0, steps=2000, platform="Reference")
    starts = drag(bias, molecule.system, molecule.positions, order[:, None], settings)
    windows = umbrella_windows(
        TEMPLATE,
        order[:, None],
        starts,
        WindowSettings(TEMPERATURE, steps, steps // 10, every, friction=FRICTION),
        "windows",
        "dragged",
    )
    with LocalWorkers(workers) as pool:
        run_windows(windows, molecule.system, molecule.topology, pool, platform="Reference")
    return [window.folder for window in windows]


def passage_time_of_the_molecule(steps: int, seed: int = 1) -> tuple[float, float]:
    """Mean time from C5 to C7eq in unbiased dynamics [ps], and its standard error."""
    molecule = alanine_dipeptide("C7eq")
    integrator = LangevinMiddleIntegrator(TEMPERATURE, FRICTION, TIMESTEP)
    integrator.setRandomNumberSeed(seed)
    simulation = Simulation(
        molecule.topology, molecule.system, integrator, Platform.getPlatform("Reference")
    )
    simulation.context.setPositions(molecule.positions)
    simulation.context.setVelocitiesToTemperature(TEMPERATURE, seed)
    bias = PlumedBias("phi: TORSION ATOMS=5,7,9,15\n", molecule.topology, cvs=["phi"])
    times, left = [], None
    for step in range(0, steps, 10):
        simulation.step(10)
        state = simulation.context.getState(positions=True)
        phi = bias.cv_values(state.getPositions(asNumpy=True))[0]
        if left is None and phi < C5:
            left = step
        elif left is not None and C7EQ < phi < 0:
            times.append((step - left) * TIMESTEP)
            left = None
    if len(times) < 5:
        return float("nan"), float("nan")
    return float(np.mean(times)), float(np.std(times, ddof=1) / len(times) ** 0.5)


def main(steps: int = 100_000, workers: int = 2, every: int = 50) -> dict[str, float]:
    """Run the windows, close the dynamics, and say how far its estimates agree."""
    folders = run_umbrella_windows(steps, workers, every)
    windows, frames = read_windows(folders), read_window_frames(folders)
    samples = reweight_windows(windows)

    molecule = alanine_dipeptide("C7eq")
    bias = PlumedBias(TEMPLATE.replace("${phi}", "0"), molecule.topology, temperature=TEMPERATURE)
    positions = of_samples(samples, [own.positions for own in frames])
    local = local_dynamics_of_frames(
        bias.differentiable_cvs, positions, Potential(molecule.system), TEMPERATURE, FRICTION
    )
    grid = Grid.over(samples.variables, 72)
    found = closure(samples, local, grid.points)
    print(identity(samples, local, grid.points))

    by_force = integrate_mean_force(grid, found.mean_force, samples.kT)
    by_density = free_energy_profile(samples, 0, bins=72)
    low = by_density.free_energy < 30.0
    apart = (by_force.free_energy - by_density.free_energy)[low]
    apart -= np.nanmean(apart)
    print(f"free energy, mean force against density: {np.nanstd(apart):.2f} kJ/mol below 30")

    def passage(dynamics):
        phi = dynamics.grid.axes[0]
        times = dynamics.mean_first_passage_time((phi > C7EQ) & (phi < 0))
        return float(np.interp(C5, phi, times))

    reduced = reduced_dynamics_of(grid, found)
    estimate = with_error(grid, found, passage)
    print(f"C5 -> C7eq by the reduced dynamics: {estimate.value:.2f} +- {estimate.error:.2f} ps")
    time, error = passage_time_of_the_molecule(10 * steps)
    print(f"C5 -> C7eq by the molecule:         {time:.2f} +- {error:.2f} ps")
    plot(grid, found, reduced)
    return {"closure": estimate.value, "molecule": time}


def plot(grid, found, reduced) -> None:
    """Drift, diffusion and free energy in one picture."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 3, figsize=(12, 3.5), layout="constrained")
    phi = np.rad2deg(grid.axes[0])
    for ax, average, name in zip(
        axes[:2],
        (found.drift, found.diffusion),
        ("drift [rad/ps]", "sigma$^2$ [rad$^2$/ps]"),
        strict=True,
    ):
        value, error = (a.reshape(len(phi), -1)[:, 0] for a in (average.value, average.error))
        ax.fill_between(phi, value - 2 * error, value + 2 * error, alpha=0.4)
        ax.plot(phi, value)
        ax.set(xlabel="phi [deg]", ylabel=name)
    axes[2].plot(np.rad2deg(reduced.grid.axes[0]), reduced.free_energy - reduced.free_energy.min())
    axes[2].set(xlabel="phi [deg]", ylabel="free energy [kJ/mol]")
    figure.savefig("alanine_closure.png", dpi=120)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
