"""Bonds that are as long as in a right structure, within a fraction."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from openmm_cgan import GAS_CONSTANT
from openmm_cgan.proposals.clashes import squared_distances
from openmm_cgan.radii import longest_bonds, odd_unit

LONGEST_BOND = 0.4  # nm
MOST = 0.9  # of configurations, whose common bond the reference contradicts
WIDTHS = 5.0  # standard deviations of a bond at temperature, beyond which it is no longer that bond


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
    soft : ndarray, shape (2, n_bonds), optional
        Shortest and longest [nm] that bonds are at temperature, where that is more: `soft_bonds`.
    """

    def __init__(
        self,
        bonds: NDArray[np.int64],
        reference: NDArray[np.float64],
        elements: tuple[int, ...],
        tolerance: float,
        soft: NDArray[np.float64] | None = None,
    ) -> None:
        factors = np.maximum(1 + tolerance * np.array([[-1.0], [1.0]]), 0.0)
        self.bonds, self._elements, self._tolerance = bonds, np.array(elements), tolerance
        self._reference = reference
        self._own = np.sqrt(squared_distances(reference[None], bonds)[:, 0])
        shortest, longest = factors * self._own
        self._right = np.zeros(len(bonds), dtype=bool)  # as the System has it
        if soft is not None:
            self._right = (soft[0] <= self._own) & (self._own <= soft[1])
            shortest, longest = np.fmin(shortest, soft[0]), np.fmax(longest, soft[1])
        self._limits2 = np.stack([shortest, longest]) ** 2

    def __call__(self, x: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Which of the configurations (n, n_atoms, 3) [nm] have another bond, shape (n,)."""
        lengths2 = squared_distances(x, self.bonds)
        limits2 = self._limits2[:, :, None]
        return ~((lengths2 >= limits2[0]) & (lengths2 <= limits2[1])).all(axis=0)

    def require_whole(self) -> None:
        """Raise ValueError where the reference is cut, or in another unit."""
        atoms = self.bonds[(self._elements[self.bonds] > 0).all(axis=1)]
        if odd := odd_unit(atoms, self._reference):
            raise ValueError(f"of the reference {odd}: give positions in nm")
        longest = longest_bonds(self._elements, self.bonds, self._own, LONGEST_BOND)
        broken = self._own > longest
        if broken.any():
            raise ValueError(
                f"the reference has bonds longer than {longest[broken][0]:.3g} nm, first between "
                f"the atoms {self.bonds[broken][0].tolist()}: make its molecules whole across the "
                "box"
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
        odd = (
            ~self._right & ((usual < limits[0]) | (usual > limits[1])) & (alike.mean(axis=1) > MOST)
        )
        if not odd.any():
            return ""
        first, others = np.flatnonzero(odd)[0], int(odd.sum()) - 1
        i, j = self.bonds[first].tolist()
        more = f"; {others} more are as odd" if others else ""
        return (
            f"that of atoms {i} and {j} is {self._own[first]:.3g} nm in the structure that the "
            f"screen goes by, and {usual[first]:.3g} nm in nearly all that is proposed{more}"
        )


def soft_bonds(
    given: Any, bonds: NDArray[np.int64], atoms: Sequence[int] | None, temperature: float | None
) -> NDArray[np.float64]:
    """How short and how long harmonic bonds are at temperature, as a System states them.

    Bonds of atoms are some 3 % of their length wide; those of beads may be 10 % and more.

    Parameters
    ----------
    given : object
        What a topology was given as; a Molecule, a Simulation and others have its System.
    bonds : ndarray of int, shape (n_bonds, 2)
    atoms : sequence of int, optional
        The atoms of the System that bonds count; all by default.
    temperature : float or None
        [K]; 300 if it is not known.

    Returns
    -------
    ndarray, shape (2, n_bonds)
        [nm]; NaN where no System states a force constant.
    """
    limits, system = np.full((2, len(bonds)), np.nan), getattr(given, "system", None)
    if system is None or not hasattr(system, "getForces"):
        return limits
    n_atoms = given.topology.getNumAtoms()
    if system.getNumParticles() != n_atoms:
        return limits
    from openmm_cgan.constraints import harmonic_bonds  # where there is a System OpenMM is loaded

    stated = harmonic_bonds(system)
    places = range(n_atoms) if atoms is None else atoms
    for column, (i, j) in enumerate(bonds.tolist()):
        pair = min(places[i], places[j]), max(places[i], places[j])
        if pair in stated:
            length, stiffness = stated[pair]
            reach = WIDTHS * math.sqrt(GAS_CONSTANT * (temperature or 300.0) / stiffness)
            limits[:, column] = max(length - reach, 0.0), length + reach
    return limits
