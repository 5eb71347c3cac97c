"""Reduced dynamics from a closure: free energy from mean force or drift, and finer cells."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import RegularGridInterpolator
from scipy.ndimage import distance_transform_edt

from openmm_cgan.closures.drift_and_diffusion import Closure
from openmm_cgan.closures.grid import Grid
from openmm_cgan.closures.mean_force import (
    fitted_potentials,
    require_on,
    warn_of_coarse_cells,
)
from openmm_cgan.closures.reduced_dynamics import ReducedDynamics
from openmm_cgan.free_energy.samples import Estimate, spread


def reduced_dynamics_of(
    grid: Grid, closure: Closure, by: str = "mean_force", refine: int = 4
) -> ReducedDynamics:
    """Reduced dynamics of a closure at the centres of a grid.

    Parameters
    ----------
    grid : Grid
        The closure is one at ``grid.points``.
    closure : Closure
    by : {"mean_force", "drift"}
        What gives the free energy besides the diffusion; by the identity of `closure` they agree.
    refine : int
        Cells along each CV for each of the grid's, by cubic interpolation.

    Returns
    -------
    ReducedDynamics

    Raises
    ------
    ValueError
        If the closure is one at other values, or a diffusion is not positive.
    """
    source = closure.mean_force if by == "mean_force" else closure.drift
    if source.at.shape == grid.points.shape:
        rows = source.value[None]
        change = fitted_potentials(grid, rows)[0] - fitted_potentials(grid, rows, points=4)[0]
        scale = (
            1.0 if by == "mean_force" else 2.0 * closure.kT / np.nanmean(closure.diffusion.value)
        )
        warn_of_coarse_cells(change[0] * scale, closure.kT)
    return next(_of_replicates(grid, closure, by, refine))


def with_error(
    grid: Grid,
    closure: Closure,
    quantity: Callable[[ReducedDynamics], float],
    by: str = "mean_force",
    refine: int = 4,
) -> Estimate:
    """A quantity of the reduced dynamics with the error that those of the closure give it.

    Parameters
    ----------
    grid, closure, by, refine
        As of `reduced_dynamics_of`.
    quantity : callable
        `ReducedDynamics` to a number, such as a rate or a first-passage time.

    Returns
    -------
    Estimate
        The error is the spread over the closure's replicates.
    """
    value, *others = (quantity(d) for d in _of_replicates(grid, closure, by, refine))
    return Estimate(float(value), spread(np.array(others)))


def _of_replicates(grid: Grid, closure: Closure, by: str, refine: int) -> Iterator[ReducedDynamics]:
    """The dynamics of the closure, then that of each of its replicates."""
    for average in (closure.drift, closure.diffusion, closure.mean_force):
        require_on(grid, average)
    if by not in ("mean_force", "drift"):
        raise ValueError(f"by is {by!r}; expected 'mean_force' or 'drift'")
    source = closure.mean_force if by == "mean_force" else closure.drift
    diffusions, fields = (
        np.concatenate([average.value[None], average.replicates])
        for average in (closure.diffusion, source)
    )
    # What is unknown is so in all replicates, and a cell unknown in one is not refined into.
    known = np.isfinite(diffusions[0]).all((-1, -2)) & np.isfinite(fields[0]).all(-1)
    fine = grid.refined(refine)
    for diffusion, field in zip(diffusions, fields, strict=True):
        own = known & np.isfinite(diffusion).all((-1, -2)) & np.isfinite(field).all(-1)
        masked = np.where(own[:, None], field, np.nan)
        shaped = np.where(own[:, None, None], diffusion, np.nan).reshape(
            *grid.shape, *diffusion.shape[1:]
        )
        energy = _energy(grid, masked, shaped, closure.kT, by)
        yield ReducedDynamics(
            fine, _refined(grid, fine, energy), _refined(grid, fine, shaped), closure.kT
        )


def _energy(grid: Grid, field: NDArray, diffusion: NDArray, kT: float, by: str) -> NDArray:
    """Free energy, shape ``grid.shape``, from a mean force or a drift (m, k)."""
    if by == "mean_force":
        return fitted_potentials(grid, field[None])[0][0].reshape(grid.shape)
    flat = diffusion.reshape(len(field), *diffusion.shape[-2:])
    # A' = kT sigma^-2 (div sigma^2 - 2 b); kT ln |sigma^2| takes the steepest part of it exactly.
    gradient = -2.0 * kT * _solved_rows(flat, field)
    shape = diffusion.shape[-1]
    logs = kT * np.log(np.linalg.det(np.where(np.isfinite(flat), flat, np.eye(shape)[None])))
    if shape > 1:
        bare = ReducedDynamics(
            grid, np.where(np.isfinite(diffusion[..., 0, 0]), 0.0, np.nan), diffusion, kT
        )
        gradient = gradient + kT * _solved_rows(flat, bare.drift().reshape(-1, shape) * 2.0)
        logs = np.zeros_like(logs)
    return (fitted_potentials(grid, gradient[None])[0][0] + logs).reshape(grid.shape)


def _solved_rows(matrices: NDArray, rows: NDArray) -> NDArray[np.float64]:
    known = np.isfinite(matrices).all((1, 2)) & np.isfinite(rows).all(1)
    found = np.full(rows.shape, np.nan)
    found[known] = np.linalg.solve(matrices[known], rows[known][..., None])[..., 0]
    return found


def _refined(grid: Grid, fine: Grid, field: NDArray) -> NDArray[np.float64]:
    """A field on finer cells by cubic interpolation, NaN in the parts of unknown cells."""
    if fine.shape == grid.shape:
        return field
    known = np.isfinite(field.reshape(*grid.shape, -1)).all(-1)
    nearest = distance_transform_edt(~known, return_distances=False, return_indices=True)
    filled = field[tuple(nearest)]
    axes = []
    for axis, (own, h) in enumerate(zip(grid.axes, grid.widths, strict=True)):
        n, margin = len(own), min(4, len(own))
        mode = "wrap" if grid.periodic[axis] else "edge"
        if mode == "wrap":
            pad = [(0, 0)] * filled.ndim
            pad[axis] = (margin, margin)
            filled = np.pad(filled, pad, mode="wrap")
            own = own[0] + h * np.arange(-margin, n + margin)
        axes.append(own)
    found = np.asarray(
        RegularGridInterpolator(axes, filled, method="cubic", bounds_error=False, fill_value=None)(
            fine.points
        )
    ).reshape(*fine.shape, *field.shape[len(grid.shape) :])
    for axis, times in enumerate(np.array(fine.shape) // np.array(grid.shape)):
        known = np.repeat(known, times, axis)
    found[~known] = np.nan
    return found
