"""Force evaluations for drift and diffusion to 5 %: from generated configurations or from windows.

The generator is perfect here, exact draws of p(x | z) that cost nothing: what it saves bounds what
any generator can. A window is dragged to its z, where the fast coordinates begin at their minimum;
it comes to equilibrium in five times their correlation time, and gives a configuration every
correlation time after that. Read in two ways:

* bursts: increments of z along short unbiased runs (Kramers, Moyal), less the exact drift and
  diffusion where each begins. Their noise is that of the Brownian motion of z, the same whatever
  they began from;
* forces: the local drift and diffusion of each configuration, which needs no run.

How many are needed follows from the variances that are measured; 5 % of the root mean square over
the values of z, at each of them.

    OMP_NUM_THREADS=1 python benchmarks/bursts.py [--bursts 300]
"""

import argparse

import numpy as np
import torch
from provenance import in_words, provenance

from openmm_cgan.collective_variable import CollectiveVariable
from openmm_cgan.free_energy.samples import statistical_inefficiency
from openmm_cgan.testsystems.multiscale import CoupledDoubleWell, HalfMoon, ReversibleDiffusion

SYSTEMS = {HalfMoon: 2.0, CoupledDoubleWell: 10.0}  # stiffest spring [kJ/mol/nm^2]
STEP = 0.05  # of the limit of stability
LENGTHS = (5, 20, 80, 320)  # steps of a burst
N_VALUES, LOW = 12, 3.0  # values of z, where the free energy is below so many kT
WANTED, EQUILIBRATION = 0.05, 5.0


def values_of_z(system: ReversibleDiffusion) -> np.ndarray:
    """Values (m, 1) between the ends of what is low."""
    grid = np.linspace(*system.slow_range, 2001)
    energy = system.free_energy(grid[:, None])
    low = grid[energy - energy.min() < LOW * system.kT]
    return np.linspace(low[0], low[-1], N_VALUES)[:, None]


def run(system, u, n_steps, dt, rng, springs=None):
    """Euler-Maruyama of hidden coordinates (n, d), held by springs (kappa, centres) on z, or free.

    In what is seen, a step would spoil z where it is curved.
    """
    path = [u]
    for _ in range(n_steps):
        mobility, gradient = system.mobility(u), system.hidden_gradient(u)
        if springs is not None:
            kappa, centres = springs
            gradient = gradient + torch.nn.functional.pad(
                kappa * (u[:, :1] - centres), (0, system.n_dims - 1)
            )
        normal = torch.from_numpy(rng.normal(size=u.shape))
        u = u - mobility * gradient * dt + (2 * system.kT * dt * mobility).sqrt() * normal
        path.append(u)
    return torch.stack(path)


def correlation_steps(system, z, dt, rng) -> float:
    """Steps between two independent configurations of a window: of its slowest coordinate."""
    spacing = float(z[1, 0] - z[0, 0])
    centres = torch.from_numpy(z)
    start = torch.from_numpy(system.sample_hidden(z[:, 0], 1, rng)[:, 0])
    path = run(system, start, 2000, dt, rng, (1.5 * system.kT / spacing**2, centres)).numpy()
    variable = (CollectiveVariable("fast"),)
    found = [
        statistical_inefficiency(path[500:, k, c, None], variable)
        for k in range(len(z))
        for c in range(1, system.n_dims)
    ]
    return float(np.mean(found))


def needed(errors: np.ndarray, scale: float) -> float:
    """How many independent errors (m, n) it takes until their mean is `WANTED` of the scale."""
    return float(errors.var(axis=1).mean() / (WANTED * scale) ** 2)


def burst_errors(system, z, length, n, dt, rng) -> tuple[np.ndarray, np.ndarray]:
    """What each burst (m, n) says of drift and diffusion, less the exact ones along it."""
    starts = system.sample_hidden(z[:, 0], n, rng).reshape(-1, system.n_dims)
    slow = run(system, torch.from_numpy(starts), length, dt, rng)[..., 0].numpy()
    steps, here = np.diff(slow, axis=0), slow[:-1].reshape(-1, 1)
    drift = system.effective_drift(here)[:, 0].reshape(steps.shape)
    diffusion = system.effective_diffusion(here)[:, 0, 0].reshape(steps.shape)
    off = (steps / dt - drift).mean(axis=0), (steps**2 / dt - diffusion).mean(axis=0)
    return off[0].reshape(len(z), n), off[1].reshape(len(z), n)


def local_errors(system, z, n, rng) -> tuple[np.ndarray, np.ndarray]:
    """Local drift and diffusion of configurations (m, n) at z, less the exact averages."""
    x = torch.from_numpy(system.sample_conditional(z, n, rng).reshape(-1, system.n_dims))
    x.requires_grad_(True)
    (slope,) = torch.autograd.grad(system.slow(x).sum(), x, create_graph=True)
    noise = system.noise(x)
    spread = noise @ noise.transpose(1, 2)
    bent = torch.zeros(len(x), dtype=x.dtype)
    for c in range(system.n_dims):
        if slope[:, c].requires_grad:
            (row,) = torch.autograd.grad(slope[:, c].sum(), x, retain_graph=True)
            bent = bent + 0.5 * (spread[:, c] * row).sum(1)
    with torch.no_grad():
        drift = (system.drift(x) * slope).sum(1) + bent
        diffusion = (slope[:, None] @ spread @ slope[..., None])[:, 0, 0]
    off = drift.numpy().reshape(len(z), n), diffusion.numpy().reshape(len(z), n)
    return off[0] - system.effective_drift(z), off[1] - system.effective_diffusion(z)[:, 0]


def compare(system: ReversibleDiffusion, stiffest: float, n: int) -> None:
    """Print evaluations at each value of z, and their ratios."""
    rng, z = np.random.default_rng(1), values_of_z(system)
    dt = STEP * 2.0 / (system.slow_mobility / system.eps * stiffest)
    apart = correlation_steps(system, z, dt, rng)
    scales = (
        float(np.sqrt((system.effective_drift(z) ** 2).mean())),
        float(system.effective_diffusion(z).mean()),
    )
    print(f"{type(system).__name__}: a window's configurations are {apart:.0f} steps apart")
    rows = [(f"bursts of {k} steps", k, burst_errors(system, z, k, n, dt, rng)) for k in LENGTHS]
    rows.append(("forces", 1, local_errors(system, z, n, rng)))
    best: dict[str, tuple[float, float]] = {}
    for name, length, errors in rows:
        many = max(1.0, *(needed(e, s) for e, s in zip(errors, scales, strict=True)))
        apart_by = [np.abs(e.mean(axis=1)) for e in errors]
        known_to = [e.std(axis=1) / np.sqrt(n) + 1e-9 for e in errors]
        off = [float((a / k).max()) for a, k in zip(apart_by, known_to, strict=True)]
        made = many * length
        window = EQUILIBRATION * apart + many * (apart + length)
        kind = name.split()[0]
        before = best.get(kind, (np.inf, np.inf))
        best[kind] = min(before[0], made), min(before[1], window)
        print(
            f"  {name:20s} {many:9.0f} needed  evaluations: generated {made:9.0f}, windows "
            f"{window:9.0f}, ratio {made / window:.2f}   (off by {max(off):.1f} errors at most)"
        )
    for kind, (made, window) in best.items():
        print(f"  {kind}, the best of each: {made:.0f} / {window:.0f} = {made / window:.2f}")
    made, window = best["forces"][0], best["bursts"][1]
    print(f"  forces of what is generated over bursts of windows: {made / window:.4f}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bursts", type=int, default=300, help="at each value of z")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    print(in_words(provenance()))
    for kind, stiffest in SYSTEMS.items():
        compare(kind(), stiffest, arguments.bursts)


if __name__ == "__main__":
    main()
