"""Mean first-passage times of the reduced dynamics against full simulation of slow-fast systems.

Umbrella windows drawn exactly give the closure (1 and 2), the full dynamics is simulated by many
walkers. The reduced dynamics is that of infinite scale separation: how near it comes at 100 and at
1000 is the question.

    OMP_NUM_THREADS=1 python benchmarks/first_passage.py [--system HalfMoon] [--separation 1000]
"""

import argparse
import logging
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
from provenance import in_words, provenance

sys.path.insert(0, str(Path(__file__).parents[1]))

from openmm_cgan.closures import closure, with_error
from openmm_cgan.testsystems.multiscale import (
    CoupledDoubleWell,
    HalfMoon,
    LinearPair,
    ReversibleDiffusion,
)
from tests.cases.exact_windows import exact_samples

SYSTEMS = {LinearPair: 1.0, HalfMoon: 2.0, CoupledDoubleWell: 10.0}  # stiffest spring [kJ/mol/nm^2]
SEPARATIONS = (100, 1000)
STEP = 0.2  # of the limit of stability


def ends(system: ReversibleDiffusion) -> tuple[float, float]:
    """The first and the last slow variable less than 1 kT above the minimum."""
    grid = np.linspace(*system.slow_range, 2001)
    energy = system.free_energy(grid[:, None])
    low = grid[energy - energy.min() < system.kT]
    return float(low[0]), float(low[-1])


def reduced(system: ReversibleDiffusion, start: float, end: float, frames: int, seed: int):
    """The time by the closure of windows: an Estimate."""
    samples, local, grid = exact_samples(system, 16, frames, 32, seed)
    found = closure(samples, local, grid.points)

    def passage(dynamics) -> float:
        z = dynamics.grid.axes[0]
        return float(np.interp(start, z, dynamics.mean_first_passage_time(z > end)))

    return with_error(grid, found, passage)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--walkers", type=int, default=1000)
    parser.add_argument("--system", choices=[k.__name__ for k in SYSTEMS], help="only this one")
    parser.add_argument("--separation", type=int, choices=SEPARATIONS, help="only this one")
    parser.add_argument("--step", type=float, default=STEP, help="of the limit of stability")
    parser.add_argument("--frames", type=int, default=1000, help="of each of 16 windows")
    arguments = parser.parse_args()
    logging.getLogger("openmm_cgan").setLevel(logging.ERROR)
    print(f"{in_words(provenance())}; {arguments.walkers} walkers, times in ps")
    for kind, stiffest in SYSTEMS.items():
        if arguments.system not in (None, kind.__name__):
            continue
        for separation in SEPARATIONS:
            if arguments.separation not in (None, separation):
                continue
            system = replace(kind(), eps=1.0 / separation)
            low, high = ends(system)
            limit = 2.0 / (system.slow_mobility * separation * stiffest)
            times = system.simulate_first_passage(
                low, high, arguments.walkers, arguments.step * limit, 1
            )
            full, error = times.mean(), times.std(ddof=1) / np.sqrt(len(times))
            found = reduced(system, low, high, arguments.frames, 1)
            both = np.hypot(error / full, found.error / found.value)
            exact = system.mean_first_passage_time(low, high)
            print(
                f"{kind.__name__:18s} {separation:5d}  full {full:.4g} +- {error:.2g}  closure "
                f"{found.value:.4g} +- {found.error:.2g}  quadrature {exact:.4g}  "
                f"closure/full {found.value / full:.3f} +- {both:.3f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
