"""Bonds that are as long as in a right structure, within a fraction."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from openmm_cgan.proposals.clashes import squared_distances
from openmm_cgan.radii import longest_bonds

LONGEST_BOND = 0.4  # nm
MOST = 0.9  # of configurations, whose common bond the reference contradicts


class BondCheck:
    """Tells which configurations have bonds of other lengths than the reference.

    Parameters
    ----------
    bonds : ndarray of int, shape (n_bonds, 2)
        Those that are looked at.
    reference : ndarray, shape (n_atoms, 3)
        A right structure [nm].
    elements : sequence of int
        Atomic numbers; 0 for a site that is no atom.
    tolerance : float
        Largest relative deviation.
    """

    def __init__(
        self,
        bonds: NDArray[np.int64],
        reference: NDArray[np.float64],
        elements: tuple[int, ...],
        tolerance: float,
    ) -> None:
        factors = np.maximum(1 + tolerance * np.array([[-1.0], [1.0]]), 0.0)
        self.bonds, self._elements, self._tolerance = bonds, np.array(elements), tolerance
        lengths2 = squared_distances(reference[None], bonds)[:, 0]
        self._own, self._limits2 = np.sqrt(lengths2), factors**2 * lengths2

    def __call__(self, x: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Which of the configurations (n, n_atoms, 3) [nm] have another bond, shape (n,)."""
        lengths2 = squared_distances(x, self.bonds)
        limits2 = self._limits2[:, :, None]
        return ~((lengths2 >= limits2[0]) & (lengths2 <= limits2[1])).all(axis=0)

    def require_whole(self) -> None:
        """Raise ValueError where the reference is cut, or in other units."""
        longest = longest_bonds(self._elements, self.bonds, self._own, LONGEST_BOND)
        broken = self._own > longest
        if broken.any():
            raise ValueError(
                f"the reference has bonds longer than {longest[broken][0]:.3g} nm, first between "
                f"the atoms {self.bonds[broken][0].tolist()}; make its molecules whole across the "
                "box, and give positions in nm"
            )

    def odd(self, x: NDArray[np.float64]) -> str:
        """Which bond nearly all configurations have at one length, and the reference at another.

        A start that was built and not minimised has such bonds: what is right is refused by it.

        Parameters
        ----------
        x : ndarray, shape (n, n_atoms, 3)
            Configurations [nm], finite.

        Returns
        -------
        str
            In words; empty if there is none.
        """
        lengths = np.sqrt(squared_distances(x, self.bonds))
        usual, limits = np.median(lengths, axis=1), np.sqrt(self._limits2)
        alike = np.abs(lengths - usual[:, None]) < self._tolerance * usual[:, None]
        odd = ((usual < limits[0]) | (usual > limits[1])) & (alike.mean(axis=1) > MOST)
        if not odd.any():
            return ""
        first, others = np.flatnonzero(odd)[0], int(odd.sum()) - 1
        i, j = self.bonds[first].tolist()
        more = f"; {others} more are as odd" if others else ""
        return (
            f"that of atoms {i} and {j} is {self._own[first]:.3g} nm in the structure that the "
            f"screen goes by, and {usual[first]:.3g} nm in nearly all that is proposed{more}"
        )
