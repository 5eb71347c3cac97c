"""Chains with their densities in closed form, and tests of samples against them."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from openmm_cgan import GAS_CONSTANT
from openmm_cgan.proposals import Screen, ScreenSettings
from openmm_cgan.testsystems import Chain
from tests.cases.chain_sampler import internal_of

T = 300.0
KT = GAS_CONSTANT * T
FLEXIBLE = Chain(barrier=3.0)
# a light atom among heavy ones, where Fixman's factor is largest; angles that roam
HELD = Chain(
    masses=(30.0, 1.0, 30.0, 30.0),
    bond_stiffness=None,
    angle=2.2,
    angle_stiffness=15.0,
    barrier=3.0,
)
RESTRAINT = "RESTRAINT ARG=theta AT=1.6 KAPPA=40\n"
RIGHT, WRONG = 1e-3, 1e-9  # levels: p of the right formula is above, of a wrong one below


@dataclasses.dataclass(frozen=True)
class Case:
    """A chain, the CV of its generator, and where conditions come from."""

    chain: Chain
    cv: str
    bias: str = ""
    grid: bool = False
    near: bool = False  # the marginal density, as a pilot finds it


CASES = {
    "flexible": Case(FLEXIBLE, "theta"),
    "constrained": Case(HELD, "phi"),
    "grid": Case(FLEXIBLE, "theta", grid=True),
    "auxiliary": Case(FLEXIBLE, "d"),
    "biased": Case(FLEXIBLE, "theta", bias=RESTRAINT),
    "marginal": Case(FLEXIBLE, "theta", bias=RESTRAINT, near=True),
}


class Flat:
    """Conditions that do not say how they are drawn."""

    def __init__(self, drawn: Any) -> None:
        self.draw = drawn.draw
        self.log_density = lambda cvs: np.where(np.isfinite(drawn.log_density(cvs)), 0.0, -np.inf)


def screen_of(chain: Chain) -> Screen:
    loose = ScreenSettings(clash_fraction=0.0, bond_tolerance=np.inf)
    return Screen(chain.topology(), chain.sample(1, T, 0)[0], None, loose)


def density_of(case: Case, name: str) -> tuple[NDArray, NDArray]:
    """Grid and density (up to a factor) of one internal coordinate."""
    chain = case.chain
    if name.startswith("r"):
        grid = np.linspace(chain.bond - 0.1, chain.bond + 0.1, 4001)
        return grid, chain.bond_density(grid, T)
    if name == "phi":
        grid = np.linspace(-math.pi, math.pi, 4001)
        return grid, chain.torsion_density(grid, T)
    grid = np.linspace(0.0, math.pi, 1001)
    density = chain.angle_density(grid, T)
    if chain.bond_stiffness is None:  # the other angle integrated out
        both = np.stack(np.meshgrid(grid, grid, indexing="ij"), axis=-1)
        joint = chain.fixman(both.reshape(-1, 2)).reshape(len(grid), -1)
        joint *= density * density[:, None]
        density = joint.sum(axis=int(name == "theta0"))
    if case.bias and name == "theta0":
        density = density * np.exp(-0.5 * 40 * (grid - 1.6) ** 2 / KT)
    return grid, density


def cumulative_of(case: Case, name: str) -> Callable[[NDArray], NDArray]:
    grid, density = density_of(case, name)
    total = np.concatenate([[0.0], np.cumsum(0.5 * (density[1:] + density[:-1]))])
    return lambda x: np.interp(x, grid, total / total[-1])


def varied(case: Case, x: NDArray) -> dict[str, NDArray]:
    """Internal coordinates that are not constrained."""
    held = case.chain.bond_stiffness is None
    return {k: v for k, v in internal_of(x).items() if not (held and k.startswith("r"))}


def weighted_p_value(case: Case, x: NDArray, log_weights: NDArray) -> float:
    """p of weighted configurations: the smallest of the coordinates' times their number.

    That is Bonferroni's correction.
    """
    w = np.exp(log_weights - log_weights.max())
    w /= w.sum()
    found = []
    for name, values in varied(case, x).items():
        found.append(chi_square_p_value(w, cumulative_of(case, name)(values)))
    return min(1.0, len(found) * min(found))


def chi_square_p_value(w: NDArray, fractions: NDArray) -> float:
    """p of weights (n,) that add up to 1 and cumulative probabilities (n,): 20 equal bins.

    The covariance of the self-normalised estimates is that of the delta method.
    """
    members = np.eye(20)[np.minimum((20 * fractions).astype(int), 19)][:, :19]
    difference = w @ members - 0.05
    errors = w[:, None] * (members - 0.05)
    chi2 = difference @ np.linalg.solve(errors.T @ errors, difference)
    return float(stats.chi2(19).sf(chi2))


def sampled_p_value(case: Case, x: NDArray) -> float:
    """p of independent configurations: Kolmogorov and Smirnov, smallest times their number."""
    found = [stats.kstest(v, cumulative_of(case, k)).pvalue for k, v in varied(case, x).items()]
    return min(1.0, len(found) * min(found))
