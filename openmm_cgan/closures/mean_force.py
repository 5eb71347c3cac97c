"""Free energies from the mean force: its integral along one CV, the Poisson fit over two.

The free energy whose differences between neighbouring cells fit the mean force best, least squares
over all faces, solves a discrete Poisson equation; along one CV that is its integral. Cells where
the mean force is not known belong to no equation: what they part has no known difference.
"""

from __future__ import annotations

import logging

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_matrix, csc_matrix
from scipy.sparse.csgraph import connected_components
from scipy.sparse.linalg import splu
from scipy.special import logsumexp

from openmm_cgan.closures.conditional_averages import ConditionalAverage
from openmm_cgan.closures.grid import Grid
from openmm_cgan.free_energy.profiles import FreeEnergy
from openmm_cgan.free_energy.samples import spread
from openmm_cgan.quantities import positive

logger = logging.getLogger("openmm_cgan")

# Mean slope between centres 0 and 1 from the slopes at some centres: the first of these, weights,
# and from which order on it serves; the later ones are better, where all they need is known.
STENCILS = (
    (0, np.array([1.0, 1.0]) / 2.0, 2),
    (0, np.array([9.0, 19.0, -5.0, 1.0]) / 24.0, 6),  # at ends
    (-2, np.array([1.0, -5.0, 19.0, 9.0]) / 24.0, 6),
    (-1, np.array([-1.0, 13.0, 13.0, -1.0]) / 24.0, 4),
    (-2, np.array([11.0, -93.0, 802.0, 802.0, -93.0, 11.0]) / 1440.0, 6),
)
COARSE = 0.5  # kT by which a free energy may depend on the order before it is said


def integrate_mean_force(grid: Grid, mean_force: ConditionalAverage, kT: float) -> FreeEnergy:
    """Free energy on a grid from the mean force at its centres.

    Parameters
    ----------
    grid : Grid
    mean_force : ConditionalAverage, of shape (m, k)
        At ``grid.points`` [kJ/mol/CV unit].
    kT : float
        Thermal energy [kJ/mol].

    Returns
    -------
    FreeEnergy
        NaN where the mean force is not known; infinite errors beyond such a gap. Errors are those
        of the mean force, and how much changes between fourth and sixth order in the cells' width.

    Raises
    ------
    ValueError
        If the mean force is that of other values, or kT is no positive energy.
    """
    require_on(grid, mean_force)
    kT = positive(kT, "kJ/mol", "kT")
    rows = np.concatenate([mean_force.value[None], mean_force.replicates])
    potentials, part = fitted_potentials(grid, rows)
    lower, _ = fitted_potentials(grid, rows[:1], points=4)
    inside = part == np.bincount(part[part >= 0]).argmax()  # the zero lies in the largest part
    every = np.concatenate([potentials, lower])
    log_sums = logsumexp(-every[:, inside] / kT, axis=1) + np.log(grid.widths.prod())
    normalised = every + kT * log_sums[:, None]
    coarse = normalised[-1] - normalised[0]
    warn_of_coarse_cells(coarse[inside], kT)
    error = np.hypot([spread(column) for column in normalised[1:-1].T], coarse)
    error[(part >= 0) & ~inside] = np.inf
    value = potentials[0] - np.nanmin(potentials[0][inside])
    return FreeEnergy(
        grid.variables,
        grid.axes,
        value.reshape(grid.shape),
        error.reshape(grid.shape),
        mean_force.effective_samples.reshape(grid.shape),
        part.reshape(grid.shape),
    )


def warn_of_coarse_cells(change: NDArray[np.float64], kT: float) -> None:
    """Say where the cells of a grid are too wide for what changes between them.

    Parameters
    ----------
    change : ndarray, shape (m,)
        Of a free energy between two orders of integration [kJ/mol].
    kT : float
        [kJ/mol]
    """
    largest = np.nanmax(np.abs(change))
    if largest > COARSE * kT:
        logger.warning(
            "the cells of the grid are too wide for the mean force: their width alone leaves the "
            "free energy uncertain by %.2g kT; take more cells", largest / kT
        )  # fmt: skip


def fitted_potentials(
    grid: Grid, gradients: NDArray[np.float64], points: int = 6
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """The potentials that fit some fields of gradients best, each of mean zero.

    Parameters
    ----------
    grid : Grid
    gradients : ndarray, shape (r, m, k)
        At ``grid.points`` [energy/CV unit]; NaN where they are not known.
    points : {2, 4, 6}
        How many give the slope between two, where as many are known.

    Returns
    -------
    potentials : ndarray, shape (r, m)
        NaN where the first field is not known; each part has mean zero.
    part : ndarray of int, shape (m,)
        Number of the connected part of each point, -1 where nothing is known.

    Raises
    ------
    ValueError
        If the first field is known nowhere.
    """
    known = np.isfinite(gradients[0]).all(-1)
    if not known.any():
        raise ValueError("the mean force is known nowhere on the grid")
    filled = np.where(known[:, None], gradients, 0.0)
    heads, tails, rises = [], [], []
    for axis, width in enumerate(grid.widths):
        left, right = grid.edges(axis)
        both = known[left] & known[right]
        rise = _rises(grid, filled[..., axis], known, axis, points) * width
        heads.append(left[both])
        tails.append(right[both])
        rises.append(rise[:, both])
    left, right = np.concatenate(heads), np.concatenate(tails)
    n, m = len(left), len(known)
    rows = np.concatenate([np.arange(n), np.arange(n)])
    signs = np.concatenate([-np.ones(n), np.ones(n)])
    incidence = csc_matrix(coo_matrix((signs, (rows, np.concatenate([left, right]))), (n, m)))
    _, labels = connected_components(incidence.T @ incidence, directed=False)
    part = np.where(known, labels, -1)
    # One point of each part is held at zero, then each part is measured from its mean.
    first = np.zeros(m, dtype=bool)
    first[np.unique(labels, return_index=True)[1]] = True
    free = ~first
    potentials = np.zeros((len(gradients), m))
    if free.any():
        reduced = incidence[:, np.flatnonzero(free)]
        normal = csc_matrix(reduced.T @ reduced)
        potentials[:, free] = splu(normal).solve(reduced.T @ np.concatenate(rises, 1).T).T
    for label in np.unique(labels):
        own = labels == label
        potentials[:, own] -= potentials[:, own].mean(1, keepdims=True)
    potentials[:, ~known] = np.nan
    return potentials, np.unique(part, return_inverse=True)[1] - int((part < 0).any())


def require_on(grid: Grid, average: ConditionalAverage) -> None:
    """Refuse an average that is not one at the centres of a grid.

    Raises
    ------
    ValueError
    """
    points = grid.points
    if average.at.shape != points.shape or not np.allclose(average.at, points):
        raise ValueError(
            f"the average is at {len(average.at)} values of its own, the grid has "
            f"{len(points)}; take it at grid.points"
        )


def _rises(
    grid: Grid, slopes: NDArray[np.float64], known: NDArray[np.bool_], axis: int, points: int
) -> NDArray[np.float64]:
    """Mean slope between neighbouring centres (r, n_faces), from as many as are known."""
    field = slopes.reshape(-1, *grid.shape)
    mask = known.reshape(grid.shape)
    n = grid.shape[axis]
    found = np.zeros_like(field)
    for first, weights, order in STENCILS:
        if order > points:
            continue
        own, all_known = np.zeros_like(field), np.ones_like(mask)
        for shift, weight in enumerate(weights, first):
            own += weight * np.roll(field, -shift, axis + 1)
            all_known &= np.roll(mask, -shift, axis)
        if not grid.periodic[axis]:
            index = np.arange(n)
            inner = (index + first >= 0) & (index + first + len(weights) <= n)
            all_known &= np.expand_dims(inner, tuple(a for a in range(mask.ndim) if a != axis))
        found = np.where(all_known | (order == 2), own, found)
    if not grid.periodic[axis]:
        found = np.delete(found, -1, axis + 1)
    return found.reshape(len(field), -1)
