"""Does the conditional GAN keep the width of p(x | c)? Two toys whose widths are known.

ring      an angle given c, on the circle: normal about 2 c with deviation 0.3
parabola  y given c: normal about c^2 with deviation 0.2 + 0.1 c

For each seed the GAN is trained once with the critic alone (``energy_score=0``) and once with the
energy score beside it (the default), and the variance of DRAWS configurations at each of 8
conditions is divided by the exact one. Printed are the median and the ninth tenth of |ln ratio|
over seeds and conditions, and for tests of one seed the mean, deviation and largest of its mean.

    OMP_NUM_THREADS=1 python benchmarks/gan_toys.py --seeds 10
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from openmm_cgan.cgan.critic import Critic
from openmm_cgan.cgan.training import TrainingData, TrainingSettings, train
from openmm_cgan.generators import MLPGenerator

DRAWS = 2000  # at each condition: the error of ln(variance) is 0.03
ROWS = 20_000

Toy = Callable[[int, int], tuple[Tensor, Tensor]]


def parabola(n: int, seed: int) -> tuple[Tensor, Tensor]:
    """Rows y (n, 1) and conditions c (n, 1), uniform on (0, 2)."""
    rng = torch.Generator().manual_seed(seed)
    c = 2 * torch.rand(n, 1, generator=rng)
    return c**2 + (0.2 + 0.1 * c) * torch.randn(n, 1, generator=rng), c


def ring(n: int, seed: int) -> tuple[Tensor, Tensor]:
    """Cosine and sine of the angle (n, 2), and of the condition (n, 2)."""
    rng = torch.Generator().manual_seed(seed)
    c = 2 * math.pi * torch.rand(n, 1, generator=rng)
    angle = 2 * c + 0.3 * torch.randn(n, 1, generator=rng)
    return torch.cat([angle.cos(), angle.sin()], 1), torch.cat([c.cos(), c.sin()], 1)


def trained(toy: Toy, sizes: tuple[int, int, int], settings: TrainingSettings) -> MLPGenerator:
    """A generator trained on a toy."""
    features, condition = toy(ROWS, settings.seed)
    data = TrainingData.split(features, condition, torch.ones(ROWS), settings.seed)
    torch.manual_seed(settings.seed)
    generator = MLPGenerator(*sizes, settings.width, settings.depth)
    critic = Critic(*sizes, settings.width, settings.depth)
    generator.start_from(data.features, data.condition)
    train(generator, critic, data, settings)
    return generator


@torch.no_grad()
def ring_ratios(generator: MLPGenerator) -> list[float]:
    """Variance over exact variance at 8 conditions."""
    ratios = []
    for c in (2 * math.pi * k / 8 for k in range(8)):
        at = torch.tensor([[math.cos(c), math.sin(c)]]).expand(DRAWS, 2)
        x = generator.sample(at, torch.Generator().manual_seed(9))
        off = torch.atan2(x[:, 1], x[:, 0]).double() - 2 * c
        off = torch.remainder(off + math.pi, 2 * math.pi) - math.pi
        ratios.append(float(off.var()) / 0.09)
    return ratios


@torch.no_grad()
def parabola_ratios(generator: MLPGenerator) -> list[float]:
    """Variance over exact variance at 8 conditions."""
    ratios = []
    for c in (0.125 + 0.25 * k for k in range(8)):
        y = generator.sample(torch.full((DRAWS, 1), c), torch.Generator().manual_seed(9))
        ratios.append(float(y.double().var()) / (0.2 + 0.1 * c) ** 2)
    return ratios


TOYS = {"ring": (ring, (0, 1, 2), ring_ratios), "parabola": (parabola, (1, 0, 1), parabola_ratios)}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--energy-scores", type=float, nargs="+", default=[0.0, 1.0])
    args = parser.parse_args()
    print(
        f"{'energy score':>12}  {'toy':8}  {'median':>7}  {'90 %':>6}  seeds: mean +- sd     s/run"
    )
    for weight in args.energy_scores:
        joined = []
        for name, (toy, sizes, ratios) in TOYS.items():
            found, started = [], time.perf_counter()
            for seed in tqdm(range(args.first, args.first + args.seeds), desc=name, disable=None):
                settings = TrainingSettings(
                    steps=args.steps,
                    batch=128,
                    width=24,
                    learning_rate=1e-2,
                    penalty=2.0,
                    energy_score=weight,
                    seed=seed,
                )
                found.append(np.abs(np.log(ratios(trained(toy, sizes, settings)))))
            seconds = (time.perf_counter() - started) / args.seeds
            joined.append(found)
            print_row(weight, name, np.array(found), seconds)
        print_row(weight, "both", np.concatenate(joined), math.nan)


def print_row(weight: float, name: str, errors: np.ndarray, seconds: float) -> None:
    """Print one line of the table; errors are |ln ratio|, shape (n_seeds, 8)."""
    means = errors.mean(axis=1)
    print(
        f"{weight:12g}  {name:8}  {np.median(errors):7.3f}  {np.quantile(errors, 0.9):6.3f}"
        f"  {means.mean():.3f} +- {means.std(ddof=1):.3f}, {means.max():.3f}  {seconds:.1f}",
        flush=True,
    )


if __name__ == "__main__":
    main()
