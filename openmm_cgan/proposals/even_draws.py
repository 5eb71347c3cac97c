"""CV values drawn evenly: fewer configurations tell as much about a free energy.

A share of n independent draws scatters by n^(-1/2), however good the generator is: of 2,400
configurations 20 are in a basin that holds one in a hundred, give or take 4. Draws that fill the
density of the CVs evenly leave what the generator itself scatters by. They are made of Sobol's
numbers, scrambled as Owen has it [1]_: each by itself has the density that was asked for, and they
avoid each other. Their neighbours tell how large the error is that is left.

Never for the candidates of a move, which must be independent.

References
----------
.. [1] A. B. Owen, J. Complexity 14, 466 (1998), doi 10.1006/jcom.1998.0487.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from openmm_cgan.proposals.conditions import GridConditions, UniformConditions
from openmm_cgan.sobol import sobol_numbers

TOLD_APART = 2**16  # parts of an axis


def drawn_evenly(
    conditions: UniformConditions | GridConditions, n: int, rng: np.random.Generator
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Draw CV values that fill a density evenly.

    Parameters
    ----------
    conditions : UniformConditions or GridConditions
    n : int
    rng : numpy.random.Generator

    Returns
    -------
    cvs : ndarray, shape (n, n_cvs)
        In the order of the sequence: the first of them fill the density as well [CV units].
    neighbours : ndarray of int, shape (n,)
        The pair that each is in, numbered along the space; a last one of three where n is odd.
    """
    numbers = sobol_numbers(n, len(conditions.variables), int(rng.integers(2**31)))
    return conditions.from_unit_cube(numbers), _neighbours(numbers)


def _neighbours(numbers: NDArray[np.float64]) -> NDArray[np.int64]:
    """Numbers (n,) of pairs of neighbours along Morton's curve through points (n, n_axes)."""
    n, n_axes = numbers.shape
    bits = min(TOLD_APART.bit_length() - 1, 62 // max(1, n_axes))
    cells = np.minimum((numbers * 2**bits).astype(np.int64), 2**bits - 1)
    along = np.zeros(n, dtype=np.int64)
    for bit in reversed(range(bits)):
        for axis in range(n_axes):
            along = 2 * along + ((cells[:, axis] >> bit) & 1)
    pairs = np.empty(n, dtype=np.int64)
    pairs[np.argsort(along, kind="stable")] = np.minimum(np.arange(n) // 2, max(0, n // 2 - 1))
    return pairs
