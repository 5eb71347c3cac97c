"""Drift and diffusion from trajectories: Kramers and Moyal beside regression over lagged pairs.

Equilibrium walkers of slow-fast systems, whose drift, diffusion and first-passage time are known in
the limit of infinite scale separation. At each lag: the mean error of the diffusion (its bias), the
root mean square error of the drift, both in parts of the exact one, and the mean squared error in
the error bars' own units. Regression is between half the lag and the lag.

    OMP_NUM_THREADS=1 python benchmarks/lagged_pairs.py [--seeds 8] [--only half-moon]
"""

import argparse
import json
import logging
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from provenance import in_words, provenance

sys.path.insert(0, str(Path(__file__).parents[1]))

from openmm_cgan.closures import (
    Grid,
    ReducedDynamics,
    Trajectories,
    kramers_moyal,
    lagged_regression,
    reduced_dynamics_of,
)
from openmm_cgan.testsystems.multiscale import (
    AngleRadius,
    CoupledDoubleWell,
    HalfMoon,
    LinearPair,
)
from tests.cases.exact_windows import slow_variable

# Each with its stiffest fast spring [kJ/mol/nm^2] and the softest, whose time is the interval.
SYSTEMS = {
    "slow-fast linear": (LinearPair(), 1.0, 1.0),
    "half-moon": (HalfMoon(), 2.0, 2.0),
    "coupled double well": (CoupledDoubleWell(), 10.0, 2.0),
    "angle and radius": (AngleRadius(barrier=1.5), 100.0, 100.0),
}
LAGS = (1, 2, 4, 8, 16)  # in intervals
STEP = 0.2  # of the limit of stability
REACH = 2.5  # kT above the minimum to which values are asked
CELLS = 16


def walkers(system, stiffest: float, softest: float, n: int, frames: int, seed: int):
    """Trajectories of the slow variable, a frame in the slowest fast time."""
    limit = 2.0 * system.eps / (system.slow_mobility * stiffest)
    every = max(1, round(system.eps / (system.slow_mobility * softest) / (STEP * limit)))
    x = system.simulate(system.sample(n, seed), frames * every, STEP * limit, every, seed)
    z = system.slow(torch.from_numpy(x.reshape(-1, system.n_dims))).numpy()
    runs = z.reshape(frames, n, 1).swapaxes(0, 1)
    return Trajectories(tuple(runs), STEP * limit * every, (slow_variable(system),))


def grid_of(system) -> Grid:
    """Cells where the free energy is low, or all round."""
    z = np.linspace(*system.slow_range, 2001)
    energy = system.free_energy(z[:, None])
    low = z[energy - energy.min() < REACH * system.kT]
    bounds = [None if system.period else (low[0], low[-1])]
    return Grid.over((slow_variable(system),), CELLS, bounds)


def passage(system, grid: Grid, dynamics) -> float:
    """First-passage time of a dynamics over the middle half, over that of exact b and sigma^2."""
    start, end = np.quantile(grid.axes[0], [0.25, 0.75])
    fine = grid.refined(4)
    z = fine.points
    exact = ReducedDynamics(fine, system.free_energy(z), system.effective_diffusion(z), system.kT)
    times = [
        np.interp(start, d.grid.axes[0], d.mean_first_passage_time(d.grid.axes[0] > end))
        for d in (dynamics, exact)
    ]
    return float(times[0] / times[1])


def one(system, stiffest: float, softest: float, n: int, frames: int, seed: int) -> dict:
    """Errors (lags, 2, cells), with their standard errors, and first-passage ratios."""
    runs, grid = walkers(system, stiffest, softest, n, frames, seed), grid_of(system)
    z = grid.points
    truths = (system.effective_drift(z)[:, 0], system.effective_diffusion(z)[:, 0, 0])

    def errors(drifts, diffusions) -> np.ndarray:
        return np.array(
            [
                [
                    (b.value[:, 0] - truths[0], b.error[:, 0]),
                    (s.value[:, 0, 0] - truths[1], s.error[:, 0, 0]),
                ]
                for b, s in zip(drifts, diffusions, strict=True)
            ]
        )

    found = {}
    other = kramers_moyal(runs, z, LAGS, seed=seed)
    found["Kramers-Moyal"] = errors(other.drift, other.diffusion), np.nan, other.chosen
    for by in ("moments", "score"):
        own = lagged_regression(runs, z, [0, *LAGS], kT=system.kT, by=by, seed=seed)
        try:
            ratio = passage(system, grid, reduced_dynamics_of(grid, own.closure))
        except ValueError:
            ratio = np.nan
        found[by] = (
            errors([c.drift for c in own.closures], [c.diffusion for c in own.closures]),
            ratio,
            own.chosen,
        )
    scales = np.array([np.sqrt((truth**2).mean()) for truth in truths])
    return {name: (e, scales, ratio, chosen) for name, (e, ratio, chosen) in found.items()}


def summary(runs: list[dict], method: str) -> dict[str, list[float]]:
    """Over seeds and cells, at each lag."""
    errors = np.array([run[method][0] for run in runs])  # seeds, lags, 2, (off, error), cells
    scales = runs[0][method][1]
    off = errors[:, :, :, 0] / scales[:, None]
    squared = (errors[:, :, :, 0] / errors[:, :, :, 1]) ** 2
    ratios = np.array([run[method][2] for run in runs])
    known = np.isfinite(ratios)
    return {
        "sigma^2 bias": np.nanmean(off[:, :, 1], (0, 2)).tolist(),
        "sigma^2 rms": np.sqrt(np.nanmean(off[:, :, 1] ** 2, (0, 2))).tolist(),
        "b rms": np.sqrt(np.nanmean(off[:, :, 0] ** 2, (0, 2))).tolist(),
        "b z^2": np.nanmean(squared[:, :, 0], (0, 2)).tolist(),
        "sigma^2 z^2": np.nanmean(squared[:, :, 1], (0, 2)).tolist(),
        "chosen": [int(run[method][3]) for run in runs],
        "first passage": [] if not known.any() else [ratios[known].mean(), ratios[known].std()],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=8)
    parser.add_argument("--walkers", type=int, default=60)
    parser.add_argument("--frames", type=int, default=1000)
    parser.add_argument("--separation", type=float, default=100.0)
    parser.add_argument("--only", choices=SYSTEMS, nargs="+", default=[*SYSTEMS])
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    logging.getLogger("openmm_cgan").setLevel(logging.ERROR)
    made = provenance()
    print(f"{in_words(made)}; {arguments.seeds} seeds; lags {LAGS} times of the fast coordinate")
    kept = {}
    for name in arguments.only:
        system, *springs = SYSTEMS[name]
        system = replace(system, eps=1.0 / arguments.separation)
        runs = [
            one(system, *springs, arguments.walkers, arguments.frames, seed)
            for seed in range(arguments.seeds)
        ]
        for method in runs[0]:
            kept[f"{name}, {method}"] = rows = summary(runs, method)
            print(f"{name}, {method}: chosen lags {[LAGS[i] for i in rows['chosen']]}")
            for what in ("sigma^2 bias", "sigma^2 rms", "b rms", "sigma^2 z^2", "b z^2"):
                print(f"    {what:13s}", "".join(f"{value:9.3f}" for value in rows[what]))
            if rows["first passage"]:
                print(
                    "    first passage over exact: {:.3f} +- {:.3f}".format(*rows["first passage"])
                )
    if arguments.json:
        arguments.json.write_text(json.dumps(made | {"rows": kept}, indent=1))


if __name__ == "__main__":
    main()
