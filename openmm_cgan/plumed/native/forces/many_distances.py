"""Many distances of one frame at once: what is dear one by one, as the inputs of a model are."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from openmm_cgan.plumed.geometry.vectors import minimum_image

MIN_DISTANCES = 6  # below which plain floats are quicker
_ONES = np.ones(3)
_TINY = 1e-100  # nm


class ManyDistances:
    """Distances between atoms, with their gradients.

    Parameters
    ----------
    pairs : sequence of tuple of int
        The rows of the two atoms of each.
    scales : sequence of float
        Of each [unit of the input / nm].
    periodic : bool
        Whether nearest images are taken where there is a box.
    n_atoms : int
    """

    def __init__(
        self,
        pairs: Sequence[tuple[int, int]],
        scales: Sequence[float],
        periodic: bool,
        n_atoms: int,
    ) -> None:
        self._starts, self._ends = np.array(pairs, dtype=int).T
        self._scales, self._periodic = np.array(scales), periodic
        each = np.arange(len(pairs))
        self._spread = np.zeros((n_atoms, len(pairs)))  # from bonds to the atoms at their ends
        self._spread[self._ends, each] = 1.0
        self._spread[self._starts, each] = -1.0

    def __call__(
        self, positions: NDArray[np.float64], box: NDArray[np.float64] | None
    ) -> tuple[list[float], NDArray[np.float64]]:
        """Values, and the gradient of each on its second atom, shape (n_distances, 3).

        Parameters
        ----------
        positions : ndarray, shape (n_atoms, 3)
            [nm]
        box : ndarray, shape (3, 3), or None
            [nm]
        """
        bonds = positions.take(self._ends, axis=0) - positions.take(self._starts, axis=0)
        if box is not None and self._periodic:
            bonds = np.stack(minimum_image(tuple(bonds.T), box), -1)
        lengths = np.sqrt((bonds * bonds).dot(_ONES))  # reductions along an axis are slower
        over = self._scales / np.maximum(lengths, _TINY)  # no gradient where two atoms meet
        return (lengths * self._scales).tolist(), bonds * over[:, None]

    def forces(
        self, slopes: NDArray[np.float64], gradients: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """Forces on the atoms, shape (n_atoms, 3), of an energy with these slopes along each."""
        return self._spread.dot(gradients * -slopes[:, None])

    def jacobian(self, gradients: NDArray[np.float64]) -> NDArray[np.float64]:
        """Gradients on all atoms, shape (n_distances, n_atoms, 3)."""
        return self._spread.T[..., None] * gradients[:, None]
