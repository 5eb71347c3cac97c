"""Reduced dynamics from a closure: free energy from mean force or drift, and finer cells."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import make_interp_spline
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

logger = logging.getLogger("openmm_cgan")

CUBIC = 4  # values along a CV that a cubic interpolation needs


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
    for average in (closure.drift, closure.diffusion, closure.mean_force):
        require_on(grid, average)
    if by not in ("mean_force", "drift"):
        raise ValueError(f"by is {by!r}; expected 'mean_force' or 'drift'")
    field, diffusion = _fields(grid, closure, by)
    change = [_energy(grid, field, diffusion, closure.kT, by, points) for points in (6, 4)]
    warn_of_coarse_cells(change[0] - change[1], closure.kT)
    found = _dynamics(grid, closure, by, refine)
    if apart := int((np.isfinite(found.free_energy) & ~found.cells).sum()):
        logger.warning(
            "%d of %d known cells lie apart from the others, beyond cells where nothing is known: "
            "they take no part in the reduced dynamics",
            *(apart, apart + int(found.cells.sum())),
        )
    return found


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
        `ReducedDynamics` to a number, such as a rate or a first-passage time. It is asked of finer
        cells too: take it at values of the CVs (``dynamics.grid.axes``), not at numbers of cells.

    Returns
    -------
    Estimate
        The error is the spread over the closure's replicates (NaN where a tenth or more of them
        give nothing), and what the width of the cells leaves: the change to cells of half the
        width, and to a free energy that is integrated to a lower order.

    Raises
    ------
    ValueError
        As of `reduced_dynamics_of`.
    """
    value = quantity(reduced_dynamics_of(grid, closure, by, refine))
    finer = quantity(_dynamics(grid, closure, by, 2 * refine))
    lower = quantity(_dynamics(grid, closure, by, refine, points=4))
    others = np.full(len(closure.diffusion.replicates), np.nan)
    for i in range(len(others)):
        # A replicate may lack a cell that the quantity needs, or have a negative diffusion.
        with contextlib.suppress(ValueError):
            others[i] = quantity(_dynamics(grid, closure, by, refine, i))
    error = np.hypot(spread(others), np.hypot(finer - value, lower - value))
    return Estimate(float(value), float(error))


def _dynamics(
    grid: Grid,
    closure: Closure,
    by: str,
    refine: int,
    replicate: int | None = None,
    points: int = 6,
) -> ReducedDynamics:
    """The dynamics of the closure, or of one of its replicates, on finer cells."""
    field, diffusion = _fields(grid, closure, by, replicate)
    energy = _energy(grid, field, diffusion, closure.kT, by, points)
    fine = grid.refined(refine)
    return ReducedDynamics(
        fine, _refined(grid, fine, energy), _refined(grid, fine, diffusion), closure.kT
    )


def _fields(
    grid: Grid, closure: Closure, by: str, replicate: int | None = None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean force or drift (m, k), and diffusion (*grid.shape, k, k), NaN where one is unknown.

    What is unknown is so in all replicates, and a cell unknown in one is not refined into.
    """
    source = closure.mean_force if by == "mean_force" else closure.drift
    known = np.ones(len(grid.points), dtype=bool)
    fields = source.value, closure.diffusion.value
    pairs = [fields]
    if replicate is not None:
        fields = source.replicates[replicate], closure.diffusion.replicates[replicate]
        pairs.append(fields)
    for field, diffusion in pairs:
        known &= np.isfinite(field).all(-1) & np.isfinite(diffusion).all((-1, -2))
    field, diffusion = fields
    return (
        np.where(known[:, None], field, np.nan),
        np.where(known[:, None, None], diffusion, np.nan).reshape(
            *grid.shape, *diffusion.shape[1:]
        ),
    )


def _energy(
    grid: Grid, field: NDArray, diffusion: NDArray, kT: float, by: str, points: int
) -> NDArray[np.float64]:
    """Free energy, shape ``grid.shape``, from a mean force or a drift (m, k)."""
    if by == "mean_force":
        return fitted_potentials(grid, field[None], points)[0][0].reshape(grid.shape)
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
    return (fitted_potentials(grid, gradient[None], points)[0][0] + logs).reshape(grid.shape)


def _solved_rows(matrices: NDArray, rows: NDArray) -> NDArray[np.float64]:
    known = np.isfinite(matrices).all((1, 2)) & np.isfinite(rows).all(1)
    found = np.full(rows.shape, np.nan)
    found[known] = np.linalg.solve(matrices[known], rows[known][..., None])[..., 0]
    return found


def _refined(grid: Grid, fine: Grid, field: NDArray) -> NDArray[np.float64]:
    """A field on finer cells by cubic interpolation, NaN in the parts of unknown cells."""
    if fine.shape == grid.shape:
        return field
    for variable, n, periodic in zip(grid.variables, grid.shape, grid.periodic, strict=True):
        if n < CUBIC and not periodic:
            raise ValueError(
                f"{n} cells along {variable.name} are too few to refine; take {CUBIC}, or refine=1"
            )
    known = np.isfinite(field.reshape(*grid.shape, -1)).all(-1)
    nearest = distance_transform_edt(~known, return_distances=False, return_indices=True)
    filled = field[tuple(nearest)]
    # One axis after the other: a spline over all at once is solved to an absolute tolerance.
    for axis, (own, h) in enumerate(zip(grid.axes, grid.widths, strict=True)):
        if grid.periodic[axis]:
            n, margin = len(own), min(4, len(own))
            pad = [(0, 0)] * filled.ndim
            pad[axis] = (margin, margin)
            filled = np.pad(filled, pad, mode="wrap")
            own = own[0] + h * np.arange(-margin, n + margin)
        filled = make_interp_spline(own, filled, k=3, axis=axis)(fine.axes[axis])
    found = np.asarray(filled)
    for axis, times in enumerate(np.array(fine.shape) // np.array(grid.shape)):
        known = np.repeat(known, times, axis)
    found[~known] = np.nan
    return found
