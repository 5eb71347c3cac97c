"""Closures of systems with exact answers: errors, z-scores, the identity, first-passage times.

Umbrella windows of each multiscale system are drawn exactly and joined by MBAR; drift, diffusion
and mean force are averaged on a grid and compared with quadrature. Over many seeds the z-scores say
whether the error bars are true.

    python benchmarks/closures.py --seeds 20 [--frames 2000]
"""

import argparse
import json
import logging
import sys
from pathlib import Path

import numpy as np
from provenance import in_words, provenance

sys.path.insert(0, str(Path(__file__).parents[1]))

from openmm_cgan.closures import (
    Grid,
    closure,
    identity,
    integrate_mean_force,
    with_error,
)
from openmm_cgan.testsystems.multiscale import (
    AngleRadius,
    CoupledDoubleWell,
    HalfMoon,
    LinearPair,
    RotatedMuellerBrown,
)
from tests.cases.exact_windows import exact_samples

# Each with its numbers of windows, of frames in each, and of cells: ruggedness needs more of all.
SYSTEMS = {
    "slow-fast linear": (LinearPair(), 16, 500, 24),
    "half-moon": (HalfMoon(), 16, 500, 24),
    "angle and radius": (AngleRadius(), 16, 500, 48),
    "rotated Mueller-Brown": (RotatedMuellerBrown(), 60, 500, 160),
    "coupled double well": (CoupledDoubleWell(), 16, 500, 24),
}


def one(system, n_windows: int, n_frames: int, cells: int, seed: int) -> dict[str, np.ndarray]:
    """Deviations and errors of everything from one set of windows."""
    samples, local, grid = exact_samples(system, n_windows, n_frames, cells, seed)
    found = closure(samples, local, grid.points)
    z, step = grid.points, 1e-5 * np.ptp(system.slow_range)
    slope = (system.free_energy(z + step) - system.free_energy(z - step)) / (2 * step)
    energy = integrate_mean_force(grid, found.mean_force, system.kT)
    exact = system.free_energy(z)
    known = np.isfinite(energy.error)
    weights = np.where(known, np.exp(-(exact - exact.min()) / system.kT), 0)
    normalised = exact - exact.min() + system.kT * np.log(weights.sum())
    own = energy.free_energy + system.kT * np.log(
        np.where(known, np.exp(-np.nan_to_num(energy.free_energy) / system.kT), 0).sum()
    )
    truths = {
        "b": (found.drift.value, found.drift.error, system.effective_drift(z)),
        "sigma^2": (
            found.diffusion.value[:, 0],
            found.diffusion.error[:, 0],
            system.effective_diffusion(z)[:, 0],
        ),
        "A'": (found.mean_force.value, found.mean_force.error, slope[:, None]),
        "A": (own[:, None], energy.error[:, None], normalised[:, None]),
    }
    result = {}
    for name, (value, error, truth) in truths.items():
        scale = np.ptp(truth) if np.ptp(truth) > 1e-9 else np.abs(truth).max()
        off = value - truth
        exact_there = np.abs(off) < 1e-6 * np.abs(truth).max()  # functions of the CV alone
        result[name] = np.stack([np.where(exact_there, 0.0, off / error), off / scale], -1)[:, 0]
    tested = identity(samples, local, z)
    result["identity"] = tested.residual[:, 0] / tested.error[:, 0]
    result["time"] = passage(system, grid, found)
    return result


def passage(system, grid: Grid, found) -> np.ndarray:
    """First-passage time between the two ends of the middle half: value, error, exact."""
    if system.period is not None:
        return np.full(3, np.nan)
    ends = np.quantile(grid.axes[0], [0.25, 0.75])

    def time_of(dynamics) -> float:
        z = dynamics.grid.axes[0]
        return float(np.interp(ends[0], z, dynamics.mean_first_passage_time(z > ends[1])))

    try:
        return np.array([*with_error(grid, found, time_of), system.mean_first_passage_time(*ends)])
    except ValueError:
        return np.full(3, np.nan)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--frames", type=int, help="of each window, in place of those of SYSTEMS")
    parser.add_argument("--only", choices=SYSTEMS, nargs="+", default=[*SYSTEMS])
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    logging.getLogger("openmm_cgan").setLevel(logging.ERROR)
    made = provenance()
    print(f"{in_words(made)}; {arguments.seeds} seeds")
    print(f"{'system':24s} {'':9s} within 3 se  variance of z  "
          "error/range (median, worst)  below 5 %")  # fmt: skip
    kept = {}
    for name in arguments.only:
        system, n_windows, n_frames, cells = SYSTEMS[name]
        sizes = n_windows, arguments.frames or n_frames, cells
        runs = [one(system, *sizes, seed) for seed in range(arguments.seeds)]
        for what in ("b", "sigma^2", "A'", "A"):
            z, off = np.moveaxis(np.array([run[what] for run in runs]), -1, 0)
            known = np.isfinite(z)
            line = (
                float((np.abs(z[known]) <= 3).mean()),
                float((z[known] ** 2).mean()),
                float(np.nanmedian(np.abs(off))),
                float(np.nanmax(np.abs(off))),
                float((np.abs(off[np.isfinite(off)]) < 0.05).mean()),
            )
            kept[f"{name}, {what}"] = line
            print(
                f"{name:24s} {what:9s} {line[0]:11.3f} {line[1]:13.2f} {line[2]:18.4f} "
                f"{line[3]:.4f}  {line[4]:.4f}   known {known.mean():.0%}"
            )
        z = np.array([run["identity"] for run in runs])
        known = np.isfinite(z)
        print(
            f"{name:24s} identity  within 2 se {(np.abs(z[known]) <= 2).mean():.3f}, "
            f"variance {(z[known] ** 2).mean():.2f}"
        )
        times = np.array([run["time"] for run in runs])
        ratio = times[:, 0] / times[:, 2]
        score = (times[:, 0] - times[:, 2]) / times[:, 1]
        if not np.isfinite(score).any():
            continue
        print(
            f"{name:24s} first passage / exact {np.nanmean(ratio):.3f} +- {np.nanstd(ratio):.3f}, "
            f"variance of z {np.nanmean(score**2):.2f}"
        )
    if arguments.json:
        arguments.json.write_text(json.dumps(made | {"rows": kept}, indent=1))


if __name__ == "__main__":
    main()
