"""Whether weights of metadynamics that still lays hills are right: particles on a ring, exact.

Many Langevin particles, each with a metadynamics of its own, on three potentials of one angle; the
free energy of an interval over the rest by the weights of the package, and by c(t) from the bias
alone (Tiwary and Parrinello, doi 10.1021/jp504920s). Printed: how far the mean over particles is
from the exact value, with its error, their scatter, the root mean square of the errors that each
one has, and how many would give a number.

    python benchmarks/metad_growth.py [--particles 48] [--picoseconds 1000]
"""

from __future__ import annotations

import argparse
import logging
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from provenance import in_words, provenance
from scipy.special import logsumexp

from openmm_cgan import GAS_CONSTANT
from openmm_cgan.collective_variable import CollectiveVariable
from openmm_cgan.free_energy.differences import StateDifference
from openmm_cgan.free_energy.growth import metad_log_weights
from openmm_cgan.free_energy.hills import each_hill, hills_bias
from openmm_cgan.free_energy.reweighting import reweight
from openmm_cgan.free_energy.samples import BiasedFrames, unbiased
from openmm_cgan.plumed.actions.units import UnitSystem
from openmm_cgan.plumed.files.tables import FieldTable

TEMPERATURE = 300.0  # K
KT = GAS_CONSTANT * TEMPERATURE
NODES = 120
ANGLE = 2 * np.pi * np.arange(NODES) / NODES - np.pi
SIGMA, TIME_STEP, FRICTION, MASS = 0.35, 0.005, 1.0, 0.15  # rad, ps, 1/ps, Da nm^2
PACE, FRAMES_EVERY = 100, 25  # steps
SKIPPED = 0.2
DIFFERENCE = StateDifference.of("s:0..2.1")
VARIABLE = CollectiveVariable("s", "rad", (-np.pi, np.pi))
POTENTIALS = {  # kJ/mol
    "butane's": 3.6 * np.cos(ANGLE) + 1.0 * np.cos(2 * ANGLE) + 7.1 * np.cos(3 * ANGLE),
    "two wells": 8.0 * np.cos(2 * ANGLE) + 3.0 * np.cos(ANGLE),
    "skew": 6 * np.cos(2 * ANGLE) + 4 * np.cos(ANGLE + 0.4) + 4 * np.cos(3 * ANGLE + 1),
}
HILLS = {"tempered, kT / 2": (KT / 2, 12.0), "untempered, kT / 2": (KT / 2, -1.0)}


def hills_of(centres: NDArray, heights: NDArray, factor: float) -> FieldTable:
    """HILLS of one particle, heights as they act."""
    printed = heights * (factor / (factor - 1) if factor > 1 else 1.0)
    n = len(centres)
    columns = {
        "time": TIME_STEP * PACE * np.arange(1.0, n + 1),
        "s": centres,
        "sigma_s": np.full(n, SIGMA),
        "height": printed,
        "biasf": np.full(n, factor),
    }
    return FieldTable(columns, {"min_s": "-pi", "max_s": "pi"})


def at(nodes: NDArray, angles: NDArray) -> NDArray:
    """Values at an angle of each (n,), on the straight line between nodes (n, NODES)."""
    place = (angles + np.pi) % (2 * np.pi) * NODES / (2 * np.pi)
    i = place.astype(int) % NODES
    who, share = np.arange(len(angles)), place - np.floor(place)
    return (1 - share) * nodes[who, i] + share * nodes[who, (i + 1) % NODES]


def slopes(nodes: NDArray) -> NDArray:
    """Of values at nodes, by central differences."""
    return (np.roll(nodes, -1, -1) - np.roll(nodes, 1, -1)) * NODES / (4 * np.pi)


def metadynamics(
    energy: NDArray, height: float, factor: float, n: int, steps: int, seed: int
) -> tuple[NDArray, NDArray, NDArray, NDArray]:
    """Angles and biases of frames, centres and heights of hills; (n, n_frames) and (n, n_hills)."""
    rng = np.random.default_rng(seed)
    x, v = np.full(n, ANGLE[energy.argmin()]), rng.normal(0, np.sqrt(KT / MASS), n)
    bias, frames, hills = np.zeros((n, NODES)), [], []
    slope, one = np.tile(slopes(energy), (n, 1)), hills_of(np.zeros(1), np.ones(1), -1.0)
    keep = np.exp(-FRICTION * TIME_STEP)
    for step in range(1, steps + 1):
        v -= TIME_STEP * at(slope, x) / MASS
        x += TIME_STEP * v / 2
        v = keep * v + rng.normal(0, np.sqrt((1 - keep**2) * KT / MASS), n)
        x += TIME_STEP * v / 2
        if step % FRAMES_EVERY == 0:
            frames.append(((x + np.pi) % (2 * np.pi) - np.pi, at(bias, x)))
        if step % PACE == 0:
            tempered = np.exp(-at(bias, x) / (KT * (factor - 1))) if factor > 1 else np.ones(n)
            hills.append(((x + np.pi) % (2 * np.pi) - np.pi, height * tempered))
            away = (ANGLE - x[:, None] + np.pi) % (2 * np.pi) - np.pi
            shape = hills_bias(one, away.reshape(-1, 1), UnitSystem()).reshape(n, NODES)
            bias += hills[-1][1][:, None] * shape
            slope = slopes(energy + bias)
    (angles, biases), (centres, heights) = (np.moveaxis(np.array(f), 0, 2) for f in (frames, hills))
    return angles, biases, centres, heights


def by_the_bias(bias: NDArray, laid: NDArray, hills: FieldTable) -> NDArray:
    """Log weights with c(t) of the bias alone, as the package had them."""
    factor = hills.columns["biasf"][0]
    surfaces = np.cumsum([0 * ANGLE, *each_hill(hills, ANGLE[:, None])], axis=0) / KT
    lower = surfaces / (factor - 1) if factor > 1 else 0 * surfaces
    growth = logsumexp(surfaces + lower, axis=1) - logsumexp(lower, axis=1)
    return bias / KT - growth[laid]


def one_particle(angles: NDArray, biases: NDArray, hills: FieldTable) -> list[tuple[float, ...]]:
    """The difference, its error and whether it would be told: of the package, by the bias alone."""
    times = TIME_STEP * FRAMES_EVERY * np.arange(1.0, len(angles) + 1)
    late = slice(round(SKIPPED * len(angles)), None)
    laid = np.searchsorted(hills.columns["time"], times[late] - 1e-6)
    cvs = angles[late, None]
    run = BiasedFrames(cvs, unbiased, TEMPERATURE, (VARIABLE,))
    ours = metad_log_weights(times[late], biases[late], cvs, hills, TEMPERATURE, UnitSystem())
    both = (ours, by_the_bias(biases[late], laid, hills))
    found = [reweight([run], [logs]) for logs in both]
    return [(*DIFFERENCE.estimate(replace(one, unknown="")), not one.unknown) for one in found]


def exact(energy: NDArray) -> float:
    """The difference, by the sum over a finer ring."""
    fine = np.linspace(-np.pi, np.pi, 100 * NODES, endpoint=False)
    logs = -np.interp(fine, ANGLE, energy, period=2 * np.pi) / KT
    inside = DIFFERENCE.sides(fine[:, None], (VARIABLE,)) == 1
    return float(KT * (logsumexp(logs[~inside]) - logsumexp(logs[inside])))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--particles", type=int, default=48)
    parser.add_argument("--picoseconds", type=float, default=1000.0)
    arguments = parser.parse_args()
    logging.disable()  # of each particle it would be said what is doubtful
    steps, n = round(arguments.picoseconds / TIME_STEP), arguments.particles
    print(f"{n} particles, {arguments.picoseconds:g} ps each; {in_words(provenance())}")
    for name, energy in POTENTIALS.items():
        truth = exact(energy)
        print(f"{name}: F(0 < s < 2.1) - F(elsewhere) = {truth:.2f} kJ/mol")
        for kind, (height, factor) in HILLS.items():
            rows = zip(*metadynamics(energy, height, factor, n, steps, 1), strict=True)
            found = np.array(
                [one_particle(x, b, hills_of(c, h, factor)) for x, b, c, h in rows]
            )  # (particles, both, 3)
            for which, (values, errors, told) in zip(
                ("by the frames", "by the bias"), np.moveaxis(found, 0, 2), strict=True
            ):
                spread = values.std(ddof=1)
                print(
                    f"  {kind}, c(t) {which}: off by {values.mean() - truth:+.3f} +- "
                    f"{spread / np.sqrt(n):.3f}, scatter {spread:.2f}, error told "
                    f"{np.sqrt(np.nanmean(errors**2)):.2f}, {told.sum():.0f} of {n} give a number"
                )


if __name__ == "__main__":
    main()
