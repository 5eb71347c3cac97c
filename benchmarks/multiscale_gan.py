"""The experiment of "GANs and Closures" on systems with exact answers: conditionals p(x | z).

For each system and scale separation 1/eps, umbrella windows along the slow variable z are simulated
(WINDOWS walkers, each on its own spring), and a GAN and a flow are trained on their frames. At
TARGETS values of z that no window stands at, DRAWS configurations of each are compared with as many
exact ones by the Wasserstein-1 distance, in units of the deviation of each coordinate. Beside it:

floor    as many other exact configurations, the mean over FLOORS sets: that of one set is off by a
         tenth, and what a generator makes is drawn as often (--draws) for its mean
windows  as many frames of one walker at that z on a spring STIFF times stiffer, for the force
         evaluations that the training frames cost, shared by the targets
evenly   what a generator makes of numbers that avoid each other (`sample_evenly`)
on z     what was generated, moved onto the level set of z (`sample_on_level_sets`), where z is no
         linear function of the coordinates and so not placed by itself

The distance in all dimensions is exact, by optimal assignment. In ten dimensions its floor is high,
so that the distances of the single hidden coordinates, which are the independent ones, stand
beside it ("coordinates": their mean over their floor).

    OMP_NUM_THREADS=1 python benchmarks/multiscale_gan.py [--systems HalfMoon ...] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from provenance import provenance
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist
from tqdm import tqdm

from openmm_cgan.cgan import (
    ConditionalGenerator,
    TrainingSettings,
    sample_evenly,
    sample_on_level_sets,
)
from openmm_cgan.collective_variable import CollectiveVariable
from openmm_cgan.frames import Frames
from openmm_cgan.testsystems.multiscale import (
    AngleRadius,
    CoupledDoubleWell,
    HalfMoon,
    LinearPair,
    ReversibleDiffusion,
    RotatedMuellerBrown,
)

WINDOWS, FRAMES = 500, 40  # walkers, and frames of each
TARGETS, DRAWS = 9, 1000
FLOORS = 6
STIFF = 16.0
STEEPEST = {  # kJ/mol/nm^2, of the fast coordinates: what the step must be short against
    "LinearPair": 1.0,
    "HalfMoon": 2.0,
    "AngleRadius": 100.0,
    "RotatedMuellerBrown": 500.0,
    "CoupledDoubleWell": 10.0,
}
SYSTEMS: dict[str, Callable[[float], ReversibleDiffusion]] = {
    "LinearPair": lambda eps: LinearPair(eps=eps),
    "HalfMoon": lambda eps: HalfMoon(eps=eps),
    "AngleRadius": lambda eps: AngleRadius(eps=eps),
    "RotatedMuellerBrown": lambda eps: RotatedMuellerBrown(eps=eps),
    "CoupledDoubleWell": lambda eps: CoupledDoubleWell(eps=eps),
}
Array = NDArray[np.float64]


def visited_range(system: ReversibleDiffusion) -> tuple[float, float]:
    """Where the free energy is within 8 kT of its minimum."""
    grid = np.linspace(*system.slow_range, 1001)
    free = system.free_energy(grid[:, None])
    inside = grid[free < free.min() + 8 * system.kT]
    return float(inside[0]), float(inside[-1])


def on_springs(
    system: ReversibleDiffusion, centres: Array, stiffness: float, n_frames: int, stride: int
) -> tuple[Array, int]:
    """Frames (n_frames, n, d) of walkers on springs at centres (n,), and their cost in forces.

    All start from one configuration, moved along the slow variable alone, and settle for 20 times
    the time of the fast coordinates.
    """
    name = type(system).__name__
    dt = 0.2 / (system.slow_mobility * max(STEEPEST[name] / system.eps, stiffness))
    settle = math.ceil(20 * system.eps / (system.slow_mobility * dt * slowest_fast(system)))
    period = system.period

    def springs(z: torch.Tensor) -> torch.Tensor:
        off = z[:, 0] - torch.from_numpy(centres)
        if period is not None:
            off = off - period * torch.round(off / period)
        return 0.5 * stiffness * off**2

    one = system.hidden(torch.from_numpy(system.sample(1, seed=5)))
    u = one.repeat(len(centres), 1)
    u[:, 0] = torch.from_numpy(centres)
    x0 = system.simulate(system.observed(u), settle, dt, settle, seed=1, bias=springs)[-1]
    x = system.simulate(x0, n_frames * stride, dt, stride, seed=2, bias=springs)
    return x, len(centres) * (settle + n_frames * stride)


def slowest_fast(system: ReversibleDiffusion) -> float:
    """Stiffness [kJ/mol/nm^2] of the slowest fast coordinate, roughly."""
    return {"RotatedMuellerBrown": 5.0, "CoupledDoubleWell": 0.5}.get(
        type(system).__name__, STEEPEST[type(system).__name__]
    )


def training_frames(system: ReversibleDiffusion) -> tuple[Frames, int]:
    """Frames of umbrella windows, and their cost in forces."""
    low, high = visited_range(system)
    centres = np.linspace(low, high, WINDOWS)
    stiffness = 16 * system.kT / ((high - low) / 10) ** 2
    x, cost = on_springs(system, centres, stiffness, FRAMES, stride=20)
    flat = x.reshape(-1, system.n_dims)
    z = system.slow(torch.from_numpy(flat)).numpy()
    domain = None if system.period is None else (-system.period / 2, system.period / 2)
    return Frames.of_arrays(flat, z, [CollectiveVariable("z", "", domain)]), cost


def wasserstein(first: Array, second: Array) -> float:
    """Wasserstein-1 distance of two samples (n, d), by optimal assignment."""
    distances = cdist(first, second)
    return float(distances[linear_sum_assignment(distances)].mean())


def marginal(first: Array, second: Array) -> float:
    """Mean over columns of the Wasserstein-1 distance of two samples (n, d)."""
    return float(np.abs(np.sort(first, axis=0) - np.sort(second, axis=0)).mean())


class Judge:
    """Exact configurations at the targets, and the distance of others to them."""

    def __init__(self, system: ReversibleDiffusion) -> None:
        low, high = visited_range(system)
        margin = 0.04 * (high - low)
        self.system = system
        self.targets = np.linspace(low + margin, high - margin, TARGETS)[:, None]
        self.exact = system.sample_conditional(self.targets, DRAWS, seed=100)
        self.scale = self.exact.reshape(-1, system.n_dims).std(axis=0)
        self.hidden_scale = self._fast(self.exact).reshape(-1, system.n_dims - 1).std(axis=0)
        others = (system.sample_conditional(self.targets, DRAWS, 101 + i) for i in range(FLOORS))
        self.floor = np.mean([self.distances(x) for x in others], axis=0)

    def _fast(self, x: Array) -> Array:
        """Fast hidden coordinates (..., d - 1) of configurations (..., d)."""
        u = self.system.hidden(torch.from_numpy(x.reshape(-1, self.system.n_dims)))
        return u[:, 1:].numpy().reshape(*x.shape[:-1], -1)

    def distances(self, x: Array) -> Array:
        """In all dimensions and of single fast coordinates, at each target (TARGETS, 2)."""
        pairs = zip(x / self.scale, self.exact / self.scale, strict=True)
        whole = [wasserstein(a, b) for a, b in pairs]
        ours, exact = self._fast(x) / self.hidden_scale, self._fast(self.exact) / self.hidden_scale
        single = [marginal(a, b) for a, b in zip(ours, exact, strict=True)]
        return np.stack([whole, single], axis=1)

    def off_target(self, x: Array) -> float:
        """Root mean square of z of x - z asked for, in the range of z."""
        flat = torch.from_numpy(x.reshape(-1, self.system.n_dims))
        off = self.system.slow(flat).numpy().reshape(TARGETS, -1) - self.targets
        if self.system.period is not None:
            off -= self.system.period * np.round(off / self.system.period)
        low, high = visited_range(self.system)
        return float(np.sqrt(np.mean(off**2)) / (high - low))


def generated(generator: ConditionalGenerator, judge: Judge, seed: int = 7) -> dict[str, Array]:
    """DRAWS configurations at each target (TARGETS, DRAWS, d), by the ways to make them."""
    system = judge.system
    asked = np.repeat(judge.targets, DRAWS, axis=0)

    def slow(positions: torch.Tensor) -> torch.Tensor:
        return system.slow(positions.flatten(1)[:, : system.n_dims])

    made = {
        "": generator.sample(asked, seed=seed),
        ", evenly": sample_evenly(generator, asked, seed=seed),
    }
    if not generator.features.placed_variables:
        for way in ("", ", evenly"):
            made[f"{way} on z"] = sample_on_level_sets(
                generator, asked, slow, seed=seed, evenly=bool(way)
            )
    return {way: system.coordinates(x).reshape(TARGETS, DRAWS, -1) for way, x in made.items()}


def windows_of_equal_cost(judge: Judge, cost: int) -> Array:
    """DRAWS frames of one walker at each target, for the cost of the training frames."""
    system = judge.system
    low, high = visited_range(system)
    stiffness = STIFF * 16 * system.kT / ((high - low) / 10) ** 2
    stride = max(1, cost // (TARGETS * DRAWS))
    x, _ = on_springs(system, judge.targets[:, 0], stiffness, DRAWS, stride)
    return x.transpose(1, 0, 2)


def rows_of(
    system: ReversibleDiffusion, settings: list[tuple[str, TrainingSettings]], draws: int = 1
) -> Iterator[dict[str, object]]:
    """A row for each way to make configurations of one system."""
    judge = Judge(system)
    frames, cost = training_frames(system)
    common = {
        "system": type(system).__name__,
        "separation": round(1 / system.eps),
        "forces": cost,
        "floor": round(float(judge.floor[:, 0].mean()), 4),
    }
    made = [("windows", [windows_of_equal_cost(judge, cost)], 0.0)]
    for name, one in settings:
        started = time.perf_counter()
        generator = ConditionalGenerator.fit(frames, settings=one)
        seconds = time.perf_counter() - started
        sets = [generated(generator, judge, 7 + i) for i in range(draws)]
        made += [(name + way, [x[way] for x in sets], seconds) for way in sets[0]]
    for name, drawn, seconds in made:
        found = np.mean([judge.distances(x) for x in drawn], axis=0)
        ratio = found.mean(axis=0) / judge.floor.mean(axis=0)
        yield common | {
            "from": name,
            "ratio": round(float(ratio[0]), 3),
            "coordinates": round(float(ratio[1]), 3),
            "off z": float(f"{judge.off_target(drawn[0]):.2g}"),
            "training, s": round(seconds),
        }


def write(path: Path, rows: list[dict[str, object]]) -> None:
    """Write rows, beside those of other systems and separations that the file holds."""

    def what(row: dict[str, object]) -> tuple[object, ...]:
        return row["system"], row["separation"], row["from"]

    kept = json.loads(path.read_text()) if path.exists() else []
    new = {what(row) for row in rows}
    lines = [json.dumps(row) for row in [r for r in kept if what(r) not in new] + rows]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("[\n" + ",\n".join(lines) + "\n]\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--systems", nargs="+", choices=SYSTEMS, default=list(SYSTEMS))
    parser.add_argument("--separations", nargs="+", type=float, default=[10, 100, 1000])
    parser.add_argument("--generators", nargs="+", choices=["gan", "flow"], default=["gan", "flow"])
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--draws", type=int, default=1, help="sets of DRAWS configurations")
    parser.add_argument("--energy-score", type=float, help="of GANs, in place of the default")
    parser.add_argument("--condition-noise", type=float, default=0.1, help="of flows")
    parser.add_argument("--json", type=Path, help="write rows here, beside those of other systems")
    arguments = parser.parse_args()
    kinds = {"gan": "MLPGenerator", "flow": "FlowGenerator"}
    noise = arguments.condition_noise
    base = TrainingSettings(steps=arguments.steps, report_every=500, condition_noise=noise)
    if arguments.energy_score is not None:
        base = replace(base, energy_score=arguments.energy_score)
    settings = []
    for seed in arguments.seeds:
        for name in arguments.generators:
            blur = f", blur {noise}" if name == "flow" and noise != 0.1 else ""
            which = f", seed {seed}" if seed else ""
            settings.append((name + blur + which, replace(base, generator=kinds[name], seed=seed)))
    torch.set_num_threads(1)
    rows, source = [], {"steps": arguments.steps} | provenance()
    for name in tqdm(arguments.systems, desc="systems", disable=None):
        for separation in arguments.separations:
            for row in rows_of(SYSTEMS[name](1 / separation), settings, arguments.draws):
                if not rows:
                    print("  ".join(f"{key:>10}" for key in row), flush=True)
                print("  ".join(f"{value!s:>10}" for value in row.values()), flush=True)
                rows.append(row | source)
            if arguments.json:
                write(arguments.json, rows)


if __name__ == "__main__":
    main()
