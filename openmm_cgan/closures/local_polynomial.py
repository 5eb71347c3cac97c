"""Local polynomial regression: averages at a value of the CVs from frames around it.

A bin's average is that of its frames, which lie mostly on one side wherever the density is steep:
an error of first order in the width, and what an umbrella window smears is of the same kind. A
polynomial fitted by weighted least squares around the value has none; of degree 2, what remains is
of the third order in the width, of the fourth where the density is even (J. Fan and I. Gijbels,
"Local Polynomial Modelling and Its Applications" (1996), chapter 3).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations_with_replacement

import numpy as np
from numpy.typing import NDArray

from openmm_cgan.collective_variable import CollectiveVariable

LEAST_EFFECTIVE = 5.0  # effective frames for each coefficient; fewer, and nothing is said
LEAST_WEIGHT = 1e-300
ILL_CONDITIONED = 1e-10  # least over largest eigenvalue of the normal equations


@dataclass(frozen=True)
class Neighbourhood:
    """The frames about one value of the CVs.

    Attributes
    ----------
    rows : ndarray of int, shape (n_near,)
        Their numbers.
    offsets : ndarray, shape (n_near, k)
        Their CVs from the value, in bandwidths.
    kernel : ndarray, shape (n_near,)
        Epanechnikov's kernel of the offsets, a product over the CVs.
    """

    rows: NDArray[np.int64]
    offsets: NDArray[np.float64]
    kernel: NDArray[np.float64]

    @property
    def surrounds(self) -> bool:
        """Whether there are frames on both sides along each CV: nothing is extrapolated."""
        if len(self.rows) == 0:
            return False
        return bool(((self.offsets.min(0) < 0) & (self.offsets.max(0) > 0)).all())

    @property
    def sides(self) -> list[NDArray[np.bool_]]:
        """Which frames, shape (n_near,), lie on either side along each CV."""
        return [side for own in self.offsets.T for side in (own < 0.0, own > 0.0)]


def neighbourhood(
    cvs: NDArray[np.float64],
    variables: Sequence[CollectiveVariable],
    at: NDArray[np.float64],
    bandwidth: NDArray[np.float64],
) -> Neighbourhood:
    """The frames within one bandwidth of a value of the CVs.

    Parameters
    ----------
    cvs : ndarray, shape (n, k)
        [CV unit]
    variables : sequence of CollectiveVariable
        Say which are periodic.
    at, bandwidth : ndarray, shape (k,)
        [CV unit]
    """
    rows = np.arange(len(cvs))
    offsets = np.empty((len(cvs), 0))
    for column, (variable, z, width) in enumerate(zip(variables, at, bandwidth, strict=True)):
        own = variable.difference(z, cvs[rows, column]) / width
        near = np.abs(own) < 1.0
        rows, offsets = rows[near], np.column_stack([offsets[near], own[near]])
    return Neighbourhood(rows, offsets, np.prod(0.75 * (1.0 - offsets**2), axis=1))


def levelled(near: Neighbourhood, weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Weights without their slope along the CVs, which an average at one value does not depend on.

    p(x | z) is the same for frames of any density of z: where the free energy is steep, weights
    that follow it would leave few frames on its upper side to tell anything.

    Parameters
    ----------
    near : Neighbourhood
    weights : ndarray, shape (r, n_near)
        Of its frames, in each of some replicates; the first row decides.

    Returns
    -------
    ndarray, shape (r, n_near)
    """
    some = np.flatnonzero(weights[0] > 0)
    if len(some) < 2 * (near.offsets.shape[1] + 1):
        return weights
    design = _monomials(near.offsets[some], 1)
    root = np.sqrt(near.kernel[some])
    logs = np.log(weights[0, some])
    found = np.linalg.lstsq(design * root[:, None], logs * root, rcond=None)[0]
    slope = near.offsets @ found[1:]
    return np.asarray(weights * np.exp(slope.min(initial=0.0) - slope))


def fitted_at(
    near: Neighbourhood, values: NDArray[np.float64], weights: NDArray[np.float64], degree: int
) -> NDArray[np.float64]:
    """Values at the middle of a neighbourhood of the polynomials fitted to its frames.

    Parameters
    ----------
    near : Neighbourhood
    values : ndarray, shape (n_near, m)
        Of some quantities at its frames.
    weights : ndarray, shape (r, n_near)
        Of its frames, in each of some replicates, up to a factor for each.
    degree : int
        Of the polynomial in all CVs together.

    Returns
    -------
    ndarray, shape (r, m)
        NaN in a replicate whose frames do not determine the polynomial.
    """
    monomials = _monomials(near.offsets, degree)
    p = monomials.shape[1]
    weighted = monomials * near.kernel[:, None]
    first, second = np.triu_indices(p)
    normal = np.empty((len(weights), p, p))
    normal[:, first, second] = weights @ (weighted[:, first] * monomials[:, second])
    normal[:, second, first] = normal[:, first, second]
    right = weights @ (weighted[:, :, None] * values[:, None]).reshape(len(values), -1)
    right = right.reshape(len(weights), p, values.shape[1])
    found = np.full((len(weights), values.shape[1]), np.nan)
    total = normal[:, 0, 0]
    sound = np.isfinite(normal).all((1, 2)) & (total > LEAST_WEIGHT)
    eigenvalues = np.linalg.eigvalsh(normal[sound] / total[sound, None, None])
    sound[sound] = eigenvalues[:, 0] > ILL_CONDITIONED * eigenvalues[:, -1]
    found[sound] = np.linalg.solve(normal[sound], right[sound])[:, 0]
    return found


def n_coefficients(n_cvs: int, degree: int) -> int:
    """Number of coefficients of a polynomial in some CVs."""
    return _monomials(np.zeros((1, n_cvs)), degree).shape[1]


def _monomials(offsets: NDArray[np.float64], degree: int) -> NDArray[np.float64]:
    """All products of up to `degree` columns, shape (n, n_coefficients), the constant first."""
    n, k = offsets.shape
    columns = [np.ones(n)]
    for order in range(1, degree + 1):
        columns += [
            offsets[:, list(which)].prod(1)
            for which in combinations_with_replacement(range(k), order)
        ]
    return np.column_stack(columns)
