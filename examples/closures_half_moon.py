"""GANs and closures on the half-moon: the paper's experiment in one picture, in two minutes.

A slow double well hides behind a bent fast coordinate: x = u + v^2, y = v, and only x and y are
seen. Walkers on springs along the slow variable z = x - y^2 train a conditional GAN; bursts of
unbiased dynamics from what it makes, and from as many frames, give drift and diffusion of z; both
close the reduced dynamics, whose first-passage time is known exactly.

    python examples/closures_half_moon.py [TRAINING STEPS]
"""

import sys

import numpy as np
import torch

from openmm_cgan import ConditionalGAN
from openmm_cgan.cgan import TrainingSettings
from openmm_cgan.closures import (
    Closure,
    Grid,
    ReducedDynamics,
    Trajectories,
    kramers_moyal,
    reduced_dynamics_of,
    with_error,
)
from openmm_cgan.collective_variable import CollectiveVariable
from openmm_cgan.frames import Frames
from openmm_cgan.testsystems.multiscale import HalfMoon

SYSTEM = HalfMoon(eps=0.01)
Z = CollectiveVariable("z")
LOW, HIGH = -1.6, 1.6
STEP = 0.004  # ps: the fast coordinate relaxes in eps = 0.01
HEAL, BURST = 15, 60  # steps; the first let the fast coordinate come to equilibrium
FROM, TO = -1.0, 1.0  # the two wells


def frames_on_springs() -> Frames:
    """Frames of 400 walkers, each held by a spring somewhere along z."""
    centres = torch.linspace(LOW, HIGH, 400, dtype=torch.float64)
    start = SYSTEM.observed(torch.stack([centres, 0 * centres], 1))
    x = SYSTEM.simulate(
        start, 1500, STEP, 30, seed=1, bias=lambda z: 20.0 * (z[:, 0] - centres) ** 2
    )[5:].reshape(-1, 2)
    return Frames.of_arrays(x, SYSTEM.slow(torch.from_numpy(x)).numpy(), [Z])


def bursts_from(x: np.ndarray, seed: int) -> Trajectories:
    """The slow variable in bursts of unbiased dynamics from configurations (n, 2)."""
    path = SYSTEM.simulate(x, HEAL + BURST, STEP, 1, seed)
    z = SYSTEM.slow(torch.from_numpy(path.reshape(-1, 2))).numpy().reshape(*path.shape[:2], 1)
    return Trajectories(tuple(z.transpose(1, 0, 2)), STEP, (Z,)).after(HEAL * STEP)


def closure_of(trajectories: Trajectories, grid: Grid) -> Closure:
    """Drift and diffusion from bursts, at the lag where the plateau begins."""
    found = kramers_moyal(trajectories, grid.points, [1, 2, 3, 4])
    drift, diffusion = (a[found.chosen] for a in (found.drift, found.diffusion))
    return Closure((Z,), SYSTEM.kT, grid.points, drift, diffusion, drift)


def passage(dynamics: ReducedDynamics) -> float:
    """Mean time from the left well to the right one [ps]."""
    z = dynamics.grid.axes[0]
    return float(np.interp(FROM, z, dynamics.mean_first_passage_time(z > TO)))


def main(steps: int = 1000, n_bursts: int = 6000) -> dict[str, float]:
    """Simulate, learn, close, compare; the times found and the exact one."""
    frames = frames_on_springs()
    gan = ConditionalGAN.fit(frames, settings=TrainingSettings(steps=steps))
    grid = Grid.over((Z,), 20, [(LOW + 0.2, HIGH - 0.2)])
    rng = np.random.default_rng(3)
    asked = rng.uniform(LOW, HIGH, (n_bursts, 1))
    made = SYSTEM.coordinates(gan.sample(asked, seed=4))
    taken = SYSTEM.coordinates(
        frames.positions[rng.choice(len(frames), n_bursts, replace=False)].astype(float)
    )
    closures = {
        "from the GAN": closure_of(bursts_from(made, 5), grid),
        "from frames": closure_of(bursts_from(taken, 6), grid),
    }
    times = {"exact": SYSTEM.mean_first_passage_time(FROM, TO)}
    print(f"first passage from {FROM} to {TO}, exact: {times['exact']:.2f} ps")
    for name, found in closures.items():
        estimate = with_error(grid, found, passage, by="drift")
        times[name] = estimate.value
        print(f"    bursts {name:13s} {estimate.value:.2f} +- {estimate.error:.2f} ps")
        off = found.drift.value - SYSTEM.effective_drift(grid.points)
        print(f"        drift off by {np.sqrt(np.nanmean(off**2)):.2f} nm/ps root mean square")
    plot(frames, made, grid, closures)
    return times


def plot(frames: Frames, made: np.ndarray, grid: Grid, closures: dict[str, Closure]) -> None:
    """What was seen and made, drift and diffusion, and the reduced dynamics' density."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 4, figsize=(15, 3.6), layout="constrained")
    seen = SYSTEM.coordinates(frames.positions[::10])
    axes[0].scatter(*seen.T, s=1, label="frames on springs")
    axes[0].scatter(*made[::5].T, s=1, label="made by the GAN")
    axes[0].set(xlabel="x [nm]", ylabel="y [nm]")
    axes[0].legend(markerscale=5)
    z = grid.axes[0]
    exact = SYSTEM.effective_drift(grid.points), SYSTEM.effective_diffusion(grid.points)[:, 0]
    for ax, truth in zip(axes[1:3], exact, strict=True):
        ax.plot(z, truth, "k--", label="exact")
    for shift, (name, found) in enumerate(closures.items()):
        for ax, average in zip(axes[1:3], (found.drift, found.diffusion), strict=True):
            value, error = average.value.reshape(-1), average.error.reshape(-1)
            ax.errorbar(z + 0.02 * shift, value, error, fmt=".", label=f"bursts {name}")
        dynamics = reduced_dynamics_of(grid, found, by="drift")
        axes[3].plot(dynamics.grid.axes[0], dynamics.density, label=f"bursts {name}")
    density = np.exp(-SYSTEM.free_energy(grid.points) / SYSTEM.kT)
    axes[3].plot(z, density / (density.sum() * grid.widths[0]), "k--", label="exact")
    for ax, name in zip(
        axes[1:], ("drift [nm/ps]", "sigma$^2$ [nm$^2$/ps]", "density [1/nm]"), strict=True
    ):
        ax.set(xlabel="slow variable z [nm]", ylabel=name)
        ax.legend()
    figure.savefig("closures_half_moon.png", dpi=110)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
