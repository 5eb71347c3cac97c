"""Bursts: many short unbiased runs from configurations at chosen values of the CVs.

Lift, heal, run, restrict: a generator makes configurations at xi = z, a short run lets what is fast
relax, and the motion of the CVs that follows is read as drift and diffusion (`kramers_moyal`).
Y. G. Kevrekidis and G. Samaey, Annu. Rev. Phys. Chem. 60, 321 (2009), doi
10.1146/annurev.physchem.59.032607.093610.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import openmm
from numpy.typing import ArrayLike, NDArray
from openmm import app, unit
from tqdm.auto import tqdm

from openmm_cgan.collective_variable import CollectiveVariable
from openmm_cgan.quantities import nanometers, number_of_steps, numbers_of, picoseconds, positive
from openmm_cgan.short_reprs import short_repr
from openmm_cgan.states import positions_and_box

if TYPE_CHECKING:
    from openmm_cgan.frames import Frames

logger = logging.getLogger("openmm_cgan")

ROUNDING = 9  # digits of an interval [ps] that are no rounding of times
IRREGULAR = 1e-3  # part of the interval

Restriction = Callable[[NDArray, NDArray | None], NDArray]  # positions (N, 3), box to CVs (k,)


@dataclass(frozen=True)
class Trajectories:
    """CVs of runs that are independent of each other, at equal intervals.

    Attributes
    ----------
    cvs : tuple of ndarray, shape (n_times, k)
        One for each run, of any length [CV unit].
    interval : float
        Between two values [ps].
    variables : tuple of CollectiveVariable
        The k CVs.
    """

    cvs: tuple[NDArray[np.float64], ...]
    interval: float
    variables: tuple[CollectiveVariable, ...]

    __repr__ = short_repr

    def __post_init__(self) -> None:
        object.__setattr__(self, "interval", positive(self.interval, "ps", "interval"))
        runs = tuple(numbers_of(run, f"run {i}") for i, run in enumerate(self.cvs))
        object.__setattr__(self, "cvs", runs)
        if not runs:
            raise ValueError("there are no runs")
        for number, run in enumerate(runs):
            if run.ndim != 2 or run.shape[1] != len(self.variables):
                raise ValueError(
                    f"run {number} has CVs of shape {run.shape}; expected "
                    f"(n_times, {len(self.variables)})"
                )
            if not np.isfinite(run).all():
                raise ValueError(f"run {number} has CVs that are not finite")

    @classmethod
    def of_frames(cls, frames: Frames) -> Trajectories:
        """The stretches of a run that hang together, none across an injection or a gap.

        Parameters
        ----------
        frames : Frames
            In the order of the run. A stretch ends where a segment does, before frames that settle,
            and where the next frame does not follow in the interval that most follow in (frames
            missing, another run, frames written more or less often: a warning counts these).

        Returns
        -------
        Trajectories
            Stretches of two frames or more.

        Raises
        ------
        ValueError
            If no two frames follow each other, or they are of arrays, which have no times.
        """
        if frames.timestep is None and np.array_equal(frames.time, frames.step):
            raise ValueError(
                "frames of arrays have no times: give their CVs, one array for each run, and the "
                "interval to Trajectories itself"
            )
        apart = np.diff(frames.plumed_time)
        settled = ~frames.settling
        follows = (np.diff(frames.segment) == 0) & settled[1:] & settled[:-1] & (apart > 0)
        if not follows.any():
            raise ValueError("no frame follows another in time, segment and without settling")
        times, counts = np.unique(apart[follows].round(ROUNDING), return_counts=True)
        interval = float(times[counts.argmax()])
        regular = follows & (np.abs(apart - interval) < IRREGULAR * interval)
        if gaps := int((follows & ~regular).sum()):
            logger.warning(
                "%d of %d frames do not follow the frame before them in %g ps: a run ends there",
                *(gaps, len(apart), interval),
            )
        runs = np.split(frames.cvs, np.flatnonzero(~regular) + 1)
        return cls(tuple(run for run in runs if len(run) > 1), interval, frames.variables)

    def after(self, time: float | unit.Quantity) -> Trajectories:
        """The runs without their beginning, in which they heal.

        Parameters
        ----------
        time : float or Quantity
            [ps]

        Raises
        ------
        ValueError
            If no run is longer.
        """
        healed = picoseconds(time, "time")
        if not healed >= 0:
            raise ValueError(f"time is {time}; expected 0 ps or more")
        first = round(healed / self.interval)
        kept = tuple(run[first:] for run in self.cvs if len(run) > first + 1)
        if not kept:
            raise ValueError(f"no run is longer than {time} ps")
        return Trajectories(kept, self.interval, self.variables)


def run_bursts(
    simulation: app.Simulation,
    positions: ArrayLike,
    restriction: Restriction,
    variables: Sequence[CollectiveVariable],
    *,
    temperature: float,
    n_steps: int,
    every: int,
    seed: int,
    minimise_iterations: int = 0,
) -> Trajectories:
    """Run bursts from configurations, one after another.

    Parameters
    ----------
    simulation : openmm.app.Simulation
        Of the System without a bias; it is left at the end of the last burst, its reporters unused.
    positions : array_like, shape (n, n_atoms, 3)
        One burst starts from each, constraints applied [nm].
    restriction : callable
        Positions (n_atoms, 3) and box (3, 3) or None to CVs (k,), such as `PlumedBias.cv_values`.
    variables : sequence of CollectiveVariable
        The CVs, such as ``bias.variables``.
    temperature : float
        Of the velocities that each begins with [K].
    n_steps, every : int
        Steps of a burst, and between two values of the CVs.
    seed : int
        Of the velocities; the integrator's noise has its own.
    minimise_iterations : int
        Steps of minimisation before a burst: 0 for what is in equilibrium, some tens for what a
        generator made. They move the CVs a little, which the burst starts from.

    Returns
    -------
    Trajectories
        Bursts that end in a value that is not finite are left out, and counted in a warning.

    Raises
    ------
    ValueError
        If shapes do not fit, or every burst failed.
    """
    starts = nanometers(positions)
    if starts.ndim != 3 or starts.shape[1:] != (simulation.system.getNumParticles(), 3):
        raise ValueError(
            f"configurations have shape {starts.shape}; expected "
            f"(n, {simulation.system.getNumParticles()}, 3)"
        )
    temperature = positive(temperature, "K", "temperature")
    n_steps, every = number_of_steps(n_steps, "n_steps"), number_of_steps(every, "every")
    if every > n_steps:
        raise ValueError(f"every is {every} of {n_steps} steps; expected 1 to {n_steps}")
    seeds = np.random.default_rng(seed).integers(1, 2**31 - 1, len(starts))
    bursts, failed, why = [], 0, None
    for start, own in zip(tqdm(starts, desc="bursts", disable=None), seeds, strict=True):
        try:
            _place(simulation, start, temperature, int(own), minimise_iterations)
            burst = [_restricted(simulation, restriction)]
            for _ in range(n_steps // every):
                simulation.integrator.step(every)
                burst.append(_restricted(simulation, restriction))
        except openmm.OpenMMException as error:
            why = error
            burst = [np.full(len(variables), np.nan)]
        if np.shape(burst[0]) != (len(variables),):
            raise ValueError(
                f"the restriction gives CVs of shape {np.shape(burst[0])}; expected one for each "
                f"of {[v.name for v in variables]}"
            )
        if np.isfinite(burst).all():
            bursts.append(np.array(burst))
        else:
            failed += 1
    if failed:
        logger.warning("%d of %d bursts ended in values that are not finite", failed, len(starts))
    if not bursts:
        raise ValueError(
            f"every burst failed ({why or 'CVs that are not finite'}): minimise or heal the "
            "configurations first"
        ) from why
    interval = every * simulation.integrator.getStepSize()._value
    return Trajectories(tuple(bursts), interval, tuple(variables))


def _place(
    simulation: app.Simulation, start: NDArray, temperature: float, seed: int, iterations: int
) -> None:
    context = simulation.context
    context.setPositions(start)
    context.applyConstraints(simulation.integrator.getConstraintTolerance())
    if iterations:
        openmm.LocalEnergyMinimizer.minimize(context, maxIterations=iterations)
    context.setVelocitiesToTemperature(temperature, seed)


def _restricted(simulation: app.Simulation, restriction: Restriction) -> NDArray[np.float64]:
    state = simulation.context.getState(positions=True)
    periodic = simulation.system.usesPeriodicBoundaryConditions()
    positions, box = positions_and_box(state, periodic)
    return np.asarray(restriction(positions, box), dtype=float).reshape(-1)
