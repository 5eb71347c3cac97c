"""CV values that a trained generator is asked for: how far they may be from those trained on."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from openmm_cgan.collective_variable import CollectiveVariable
from openmm_cgan.quantities import nanometers, numbers_of

CHUNK = 2048  # configurations made at a time: enough for speed, few enough for the caches
MARGIN = 0.25  # conditions may lie outside the range trained on by this part of its width


def checked_targets(
    cvs: Any,
    n: int | None,
    variables: Sequence[CollectiveVariable],
    cv_range: NDArray[np.float64],
    placeable: Sequence[tuple[float, float]],
) -> NDArray[np.float64]:
    """CV values, one row for each configuration asked for.

    Parameters
    ----------
    cvs : array_like, shape (n_cvs,) or (m, n_cvs)
        One row for all, or one for each configuration [CV units].
    n : int or None
        Number of configurations at a single row, 1 if None.
    variables : sequence of CollectiveVariable
    cv_range : ndarray, shape (n_cvs, 2)
        Lowest and highest values trained on [CV units].
    placeable : sequence of (float, float)
        Lowest and highest value of each CV that can be made at all [CV units].

    Returns
    -------
    ndarray, shape (n or m, n_cvs)

    Raises
    ------
    ValueError
        If shapes do not fit, or a value is not finite, or far outside its domain or the range.
    """
    values = numbers_of(cvs, "cvs")
    names = ", ".join(v.name for v in variables)
    n_cvs = len(variables)
    if values.shape == (n_cvs,):
        values = np.repeat(values[None], 1 if n is None else n, axis=0)
    if values.ndim != 2 or values.shape[1] != n_cvs or n not in (None, len(values)):
        raise ValueError(
            f"cvs has shape {np.shape(cvs)} with n={n}, but the generator was trained on"
            f" {n_cvs} CVs ({names}): give ({n_cvs},) with n, or (m, {n_cvs}) without"
        )
    each = zip(variables, cv_range.tolist(), placeable, strict=True)
    limits = np.array([_limits(*one) for one in each])
    good = np.isfinite(values) & (values >= limits[:, 0]) & (values <= limits[:, 1])
    for k in np.flatnonzero(~good.all(axis=0)).tolist():
        variable, wrong = variables[k], values[~good[:, k], k]
        raise ValueError(
            f"{variable.name} = {wrong[0]:g} {variable.unit} is asked for ({len(wrong)} of"
            f" {len(values)} rows), expected a number from {limits[k, 0]:.4g} to"
            f" {limits[k, 1]:.4g}: training saw {cv_range[k, 0]:.4g} to {cv_range[k, 1]:.4g}"
        )
    return values


def _limits(
    variable: CollectiveVariable, trained: Sequence[float], placeable: tuple[float, float]
) -> tuple[float, float]:
    """Lowest and highest value of a CV that may be asked for."""
    low, high = trained
    if variable.domain is not None:  # a turn too many is no mistake, but degrees are
        half = 0.5 * (variable.domain[1] - variable.domain[0])
        return variable.domain[0] - half, variable.domain[1] + half
    margin = MARGIN * (high - low)
    least, most = placeable
    return max(low - margin, least), min(high + margin, most)


def checked_pairs(
    positions: Any, cvs: Any, n_atoms: int, n_cvs: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Positions (m, n_atoms, 3) [nm] and their CVs (m, n_cvs); ValueError if there are others."""
    x, values = nanometers(positions), numbers_of(cvs, "cvs")
    if x.ndim != 3 or values.shape != (len(x), n_cvs):
        raise ValueError(
            f"positions have shape {x.shape} and cvs {values.shape}, expected"
            f" (m, {n_atoms}, 3) and (m, {n_cvs})"
        )
    return x, values


def portions(n: int) -> Iterator[slice]:
    """Rows of n configurations, as many as are made at a time."""
    return (slice(start, start + CHUNK) for start in range(0, n, CHUNK))
