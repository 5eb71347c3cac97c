r"""Paths from a generator's density to the target: annealed importance sampling [1]_.

A generator makes x = T(y) of latent numbers y, normal ones and angles, so that between its density
and the target there is, at a fixed condition, the family

    pi_l(y) = base(y) w(x)^l,    w = target / density of the generator,    0 <= l <= 1.

A candidate begins with y from the base and takes one step of a kernel that leaves pi_l unchanged
at each of K levels l_1 < ... < l_K; with l_0 = 0 and l_(K+1) = 1 its weight is

    W = prod_(k=0..K) w(x_k)^(l_(k+1) - l_k),

that of x_0 alone for K = 0. What is there already gets the weight of the path that could have led
to it: its kernels are reversible, so that path is made backwards, from l_K down to l_1, and has
the weight of its points read in the order of the candidates. To choose among the ends of paths by
W is then importance sampling and resampling over paths, and leaves the target unchanged.

Paths that begin badly need not be gone to their end: one whose first factor is below a threshold
survives with probability s = w(x_0)^(l_1) / threshold and then weighs W / s (rejection control
[2]_); that of what is there has survived, and weighs W / s(x_0) as well.

The kernel is Hamiltonian dynamics with a Metropolis test, new momenta for each: normal numbers go
round as harmonic oscillators do, exactly, and log w kicks them [3]_, so that of a perfect generator
no step would be refused, however long; angles go straight on, and are kicked by their own density
as well.

References
----------
.. [1] R. M. Neal, Stat. Comput. 11, 125 (2001), doi 10.1023/A:1008923215028.
.. [2] J. S. Liu, R. Chen, W. H. Wong, J. Am. Stat. Assoc. 93, 1022 (1998),
   doi 10.1080/01621459.1998.10473764.
.. [3] A. Beskos et al., Stoch. Proc. Appl. 121, 2201 (2011), doi 10.1016/j.spa.2011.06.003.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

LONGEST = 2.0  # times sqrt(n_latent), the typical force of the oscillators
REACH = 0.25  # rad, by which a torsion varies in its well


@dataclass(frozen=True)
class Space:
    """Where paths run.

    Attributes
    ----------
    n_normal : int
        How many of the latent numbers, the first ones, are normal; the others are angles.
    evaluate : callable
        Latent numbers (n, n_latent) and conditions (n, n_cvs) to Points.
    reach : float
        How far an angle goes [rad] where a normal number goes by its deviation.
    """

    n_normal: int
    evaluate: Callable[[NDArray[np.float64], NDArray[np.float64]], Points]
    reach: float = REACH

    def energies(
        self, points: Points, momenta: NDArray[np.float64], levels: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """Kinetic and potential energy (n,), -log pi_l, where there is a weight; else infinite."""
        normal = points.latent[:, : self.n_normal]
        total = 0.5 * ((momenta**2).sum(axis=1) + (normal**2).sum(axis=1)) - points.log_angles
        return total - _times(levels, points.log_ratios)

    def kicks(self, points: Points, levels: NDArray[np.float64]) -> NDArray[np.float64]:
        """Forces (n, n_latent) beside those of the oscillators, shortened where they are long.

        Of two atoms on top of each other they would throw everything out. Any function of where a
        point is serves: the test of Metropolis makes up for it.
        """
        made = levels[:, None] * points.gradients + points.angle_slopes
        made[:, self.n_normal :] *= self.reach
        length = np.sqrt((made**2).sum(axis=1, keepdims=True))
        longest = LONGEST * math.sqrt(made.shape[1])
        return made * np.minimum(1.0, longest / np.maximum(length, longest))

    def drifted(
        self, latent: NDArray[np.float64], momenta: NDArray[np.float64], steps: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Latent numbers and momenta after steps (n,) of the oscillators and of free angles."""
        n, angle = self.n_normal, steps[:, None]
        z, p = latent[:, :n], momenta[:, :n]
        ahead = latent[:, n:] + self.reach * angle * momenta[:, n:]
        c, s = np.cos(angle), np.sin(angle)
        return (
            np.concatenate([c * z + s * p, ahead], axis=1),
            np.concatenate([c * p - s * z, momenta[:, n:]], axis=1),
        )


@dataclass(frozen=True)
class Schedule:
    """How candidates are annealed.

    Attributes
    ----------
    levels : tuple of float
        l_1 < ... < l_K, all between 0 and 1; none for plain importance sampling.
    steps : tuple of float
        Length of a step of the kernel at each level [latent units].
    leaps : int
        Steps, each with one evaluation, between two tests of Metropolis.
    log_threshold : float
        Paths whose first log factor is below it may end there; -inf lets all live.
    """

    levels: tuple[float, ...] = ()
    steps: tuple[float, ...] = ()
    leaps: int = 1
    log_threshold: float = -math.inf

    @property
    def increments(self) -> NDArray[np.float64]:
        """l_(k+1) - l_k, shape (K + 1,)."""
        return np.diff([0.0, *self.levels, 1.0])


@dataclass
class Points:
    """Configurations and what is known of them; row by row.

    Attributes
    ----------
    latent : ndarray, shape (n, n_latent)
    conditions, cvs : ndarray, shape (n, n_cvs)
        CVs are NaN where not measured.
    positions : ndarray, shape (n, n_atoms, 3)
        [nm]
    reasons : ndarray of str, shape (n,)
        Why a weight is zero, or empty.
    energies, bias : ndarray, shape (n,)
        [kJ/mol]
    log_ratios : ndarray, shape (n,)
        log w; -inf where the weight is zero.
    gradients : ndarray, shape (n, n_latent)
        Of log w.
    log_angles : ndarray, shape (n,)
        Log density of the angles among the latent numbers [1/rad], part of the base.
    angle_slopes : ndarray, shape (n, n_latent)
        Its gradient.
    """

    latent: NDArray[np.float64]
    conditions: NDArray[np.float64]
    cvs: NDArray[np.float64]
    positions: NDArray[np.float64]
    reasons: NDArray[Any]
    energies: NDArray[np.float64]
    bias: NDArray[np.float64]
    log_ratios: NDArray[np.float64]
    gradients: NDArray[np.float64]
    log_angles: NDArray[np.float64]
    angle_slopes: NDArray[np.float64]

    def take(self, rows: NDArray) -> Self:
        """A copy of some rows."""
        return type(self)(*(vars(self)[field.name][rows].copy() for field in fields(self)))

    def put(self, rows: NDArray, others: Points) -> None:
        """Take over other points in some rows."""
        for field in fields(self):
            vars(self)[field.name][rows] = vars(others)[field.name]


@dataclass
class Paths:
    """Paths at their ends.

    Attributes
    ----------
    points : Points
        Where they are.
    log_weights : ndarray, shape (n,)
        log W
    """

    points: Points
    log_weights: NDArray[np.float64]


def annealed(
    points: Points,
    backwards: NDArray[np.bool_],
    schedule: Schedule,
    space: Space,
    rng: np.random.Generator,
    watch: Callable[[int, NDArray, NDArray], None] | None = None,
) -> Paths:
    """Go along paths to their ends.

    Parameters
    ----------
    points : Points
        Where paths begin: latent numbers drawn from the base, or, of those made backwards, the
        present configuration.
    backwards : ndarray of bool, shape (n,)
    schedule : Schedule
    space : Space
    rng : numpy Generator
    watch : callable, optional
        Shown at each level, counted from 0, log weights so far (n,) and the probabilities of
        acceptance (n,).

    Returns
    -------
    Paths
    """
    own, increments = points.take(np.arange(len(backwards))), schedule.increments
    levels, steps = np.array(schedule.levels), np.array(schedule.steps)
    n_levels = len(levels)
    logs = _times(np.where(backwards, increments[-1], increments[0]), own.log_ratios)
    logs = _survived(logs, logs, ~backwards, schedule.log_threshold, rng)
    for k in range(n_levels):
        place = np.where(backwards, n_levels - 1 - k, k)
        alive = np.flatnonzero(np.isfinite(logs))
        some = own.take(alive)
        chances = moved(some, levels[place[alive]], steps[place[alive]], schedule.leaps, space, rng)
        own.put(alive, some)
        if watch is not None:
            watch(k, logs[alive], chances)
        after = increments[np.where(backwards, n_levels - 1 - k, k + 1)]
        logs = logs + _times(after, own.log_ratios)
    first = _times(increments[0], own.log_ratios)  # of a path made backwards, its last
    logs = _survived(logs, first, backwards, schedule.log_threshold, None)
    return Paths(own, logs)


def _times(factors: Any, log_ratios: NDArray[np.float64]) -> NDArray[np.float64]:
    """Products of increments and log ratios; -inf stays so, where the increment is zero as well."""
    finite = np.isfinite(log_ratios)
    return np.where(finite, factors * np.where(finite, log_ratios, 0.0), -np.inf)


def _survived(
    logs: NDArray[np.float64],
    first: NDArray[np.float64],
    rows: NDArray[np.bool_],
    threshold: float,
    rng: np.random.Generator | None,
) -> NDArray[np.float64]:
    """Log weights after rejection control of some rows; without rng all have survived it."""
    if not math.isfinite(threshold):
        return logs
    known = np.isfinite(logs) & np.isfinite(first)
    log_chance = np.minimum(np.where(known, first, 0.0) - threshold, 0.0)
    lives = known if rng is None else known & (np.log(rng.random(len(logs))) < log_chance)
    survived = np.where(lives, np.where(lives, logs, 0.0) - log_chance, -np.inf)
    return np.where(rows, survived, logs)


def moved(
    points: Points,
    levels: NDArray[np.float64],
    steps: NDArray[np.float64],
    leaps: int,
    space: Space,
    rng: np.random.Generator,
) -> NDArray[np.float64]:
    """One trajectory and one test of Metropolis for each point, in place.

    Parameters
    ----------
    points : Points
        All with a weight.
    levels, steps : ndarray, shape (n,)
    leaps : int
    space, rng
        As for `annealed`.

    Returns
    -------
    ndarray, shape (n,)
        Probabilities of acceptance.
    """
    n, n_latent = points.latent.shape
    momenta = rng.standard_normal((n, n_latent))
    log_uniform = np.log(rng.random(n))
    before = space.energies(points, momenta, levels)
    new, living = points.take(np.arange(n)), np.arange(n)
    for _ in range(leaps):
        living = living[np.isfinite(new.log_ratios[living])]
        if len(living) == 0:
            break
        level, half = levels[living], 0.5 * steps[living, None]
        p = momenta[living] + half * space.kicks(new.take(living), level)
        latent, p = space.drifted(new.latent[living], p, steps[living])
        there = space.evaluate(latent, new.conditions[living])
        momenta[living] = p + half * space.kicks(there, level)
        new.put(living, there)
    after = space.energies(new, momenta, levels)
    log_chance = np.minimum(np.where(np.isfinite(after), before - after, -np.inf), 0.0)
    taken = np.flatnonzero(log_uniform < log_chance)
    points.put(taken, new.take(taken))
    return np.exp(log_chance)
