"""Integrals over one slow variable: mean first-passage times, and draws from a density."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def mean_passage_time(
    grid: NDArray[np.float64],
    reduced: NDArray[np.float64],
    sigma2: NDArray[np.float64],
    start: float,
    absorbing: tuple[bool, bool],
) -> float:
    r"""Mean time until dz = b dt + sigma dW, reversible with density exp(-a), leaves the grid.

    T solves (sigma^2 exp(-a) T'/2)' = -exp(-a), with T = 0 at absorbing ends and T' = 0 at
    reflecting ones (C. W. Gardiner, Handbook of Stochastic Methods, 5.2.7):

    .. math:: T'(z) = \frac{2 e^{a(z)}}{\sigma^2(z)} \Bigl(c - \int_{z_0}^z e^{-a}\Bigr)

    Parameters
    ----------
    grid : ndarray, shape (n,)
        Equidistant values of the slow variable between the two ends.
    reduced : ndarray, shape (n,)
        a = A/kT on the grid.
    sigma2 : ndarray, shape (n,)
        sigma^2 on the grid [1/ps].
    start : float
        Where it starts, inside the grid.
    absorbing : (bool, bool)
        Which of the two ends it may leave by; the other reflects.

    Returns
    -------
    float
        [ps]

    Raises
    ------
    ValueError
        If neither end is absorbing, or ``start`` lies outside the grid.
    """
    if not any(absorbing) or not grid[0] <= start <= grid[-1]:
        raise ValueError(
            f"from {start} between {grid[0]} and {grid[-1]}, absorbing {absorbing}: expected a"
            " start inside and at least one absorbing end"
        )
    shifted = reduced - reduced.min()
    below = _cumulative(np.exp(-shifted), grid)
    steep = 2 * np.exp(shifted) / sigma2
    if absorbing == (True, True):
        missing = _cumulative(below * steep, grid)[-1] / _cumulative(steep, grid)[-1]
    else:
        missing = below[-1] if absorbing[0] else 0.0
    times = _cumulative(steep * (missing - below), grid)
    times -= times[0] if absorbing[0] else times[-1]
    return float(np.interp(start, grid, times))


def draw(
    grid: NDArray[np.float64],
    density: NDArray[np.float64],
    n: int,
    rng: np.random.Generator,
) -> NDArray[np.float64]:
    """Draws (m, n) from densities (m, len(grid)) on a grid, by inversion."""
    cumulative = _cumulative(density, grid)
    uniform = rng.random((len(density), n))
    rows = zip(uniform, cumulative, strict=True)
    return np.stack([np.interp(u, c / c[-1], grid) for u, c in rows])


def _cumulative(values: NDArray[np.float64], grid: NDArray[np.float64]) -> NDArray[np.float64]:
    """Integrals from the first point on, by the trapezoidal rule, along the last axis."""
    pieces = 0.5 * (values[..., 1:] + values[..., :-1]) * np.diff(grid)
    return np.concatenate([np.zeros_like(pieces[..., :1]), np.cumsum(pieces, axis=-1)], axis=-1)
