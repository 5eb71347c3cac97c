"""Does the conditional GAN keep the width of p(x | c)? Two toys whose widths are known.

ring      an angle given c, on the circle: normal about 2 c with deviation 0.3
parabola  y given c: normal about c^2 with deviation 0.2 + 0.1 c

For each seed the GAN is trained once with the critic alone (``energy_score=0``) and once with the
energy score beside it (the default), and the variance of DRAWS configurations at each of 8
conditions is divided by the exact one. Printed are the median and the ninth tenth of |ln ratio|
over seeds and conditions; and how the mean over the conditions of one seed spreads over seeds, a
shift of the mean counted as width, which a test of one seed must allow for.

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
from openmm_cgan.cgan.settings import TrainingSettings
from openmm_cgan.cgan.training import train
from openmm_cgan.cgan.training_data import TrainingData
from openmm_cgan.generators import MLPGenerator

DRAWS = 2000  # at each condition: the error of ln(variance) is 0.03
ROWS = 20_000

Toy = Callable[[int, int], tuple[Tensor, Tensor]]


def parabola(n: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Rows y (n, 1) and conditions c (n, 1), uniform on (0, 2)."""
    rng = torch.Generator().manual_seed(seed)
    c = 2 * torch.rand(n, 1, generator=rng)
    return c**2 + (0.2 + 0.1 * c) * torch.randn(n, 1, generator=rng), c


def ring(n: int, seed: int = 0) -> tuple[Tensor, Tensor]:
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
def deviations(generator: MLPGenerator, toy: Toy) -> tuple[Tensor, Tensor]:
    """What is generated at 8 conditions, less the exact mean there; and the exact variances.

    Returns
    -------
    deviations : Tensor, shape (8, DRAWS)
    variances : Tensor, shape (8,)
    """
    c = torch.arange(8, dtype=torch.float64)[:, None]
    c = 2 * math.pi * c / 8 if toy is ring else 0.125 + 0.25 * c
    conditions = (torch.cat([c.cos(), c.sin()], 1) if toy is ring else c).float()
    made = [
        generator.sample(at.expand(DRAWS, -1), torch.Generator().manual_seed(9))
        for at in conditions
    ]
    x = torch.stack(made).double()
    if toy is parabola:
        return x[:, :, 0] - c**2, ((0.2 + 0.1 * c) ** 2)[:, 0]
    off = torch.atan2(x[:, :, 1], x[:, :, 0]) - 2 * c
    return torch.remainder(off + math.pi, 2 * math.pi) - math.pi, torch.full((8,), 0.09)


def errors_of_widths(generator: MLPGenerator, toy: Toy) -> tuple[np.ndarray, float]:
    """|ln(variance / exact)| at 8 conditions; and the mean over them with a shift counted as width.

    The second is that of the mean squares about the exact means, which tests/cgan bounds.
    """
    off, exact = deviations(generator, toy)
    about_exact = (off.square().mean(1) / exact).log().abs().mean()
    return (off.var(1) / exact).log().abs().numpy(), float(about_exact)


TOYS: dict[str, tuple[Toy, tuple[int, int, int]]] = {
    "ring": (ring, (0, 1, 2)),
    "parabola": (parabola, (1, 0, 1)),
}


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
        joined: list[np.ndarray] = []
        for name, (toy, sizes) in TOYS.items():
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
                found.append(errors_of_widths(trained(toy, sizes, settings), toy))
            seconds = (time.perf_counter() - started) / args.seeds
            errors, means = (np.array(column) for column in zip(*found, strict=True))
            joined.append(errors)
            print(
                f"{row(weight, name, errors)}  {means.mean():.3f} +- {means.std(ddof=1):.3f}, "
                f"{means.min():.3f} to {means.max():.3f}  {seconds:.1f}",
                flush=True,
            )
        print(row(weight, "both", np.concatenate(joined)), flush=True)


def row(weight: float, name: str, errors: np.ndarray) -> str:
    """Median and ninth tenth of errors of any shape."""
    median, most = np.quantile(errors, [0.5, 0.9])
    return f"{weight:12g}  {name:8}  {median:7.3f}  {most:6.3f}"


if __name__ == "__main__":
    main()
