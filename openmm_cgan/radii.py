"""How near atoms come that no bonds hold together, and how far those that bonds hold."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

# Radii [nm] by atomic number: M. Mantina et al., J. Phys. Chem. A 113, 5806 (2009), doi
# 10.1021/jp8111556 (Bondi's values where he gave one, hydrogen of Rowland and Taylor).
VAN_DER_WAALS = {
    1: 0.110, 2: 0.140, 5: 0.192, 6: 0.170, 7: 0.155, 8: 0.152, 9: 0.147, 14: 0.210, 15: 0.180,
    16: 0.180, 17: 0.175, 34: 0.190, 35: 0.183, 53: 0.198,
}  # fmt: skip
# Ionic radii [nm], six neighbours: R. D. Shannon, Acta Cryst. A 32, 751 (1976), doi
# 10.1107/S0567739476001551. Of metals, which nothing but ions are in solution.
IONIC = {
    3: 0.076, 11: 0.102, 12: 0.072, 13: 0.054, 19: 0.138, 20: 0.100, 25: 0.083, 26: 0.078,
    27: 0.075, 28: 0.069, 29: 0.073, 30: 0.074, 37: 0.152, 38: 0.118, 48: 0.095, 55: 0.167,
    56: 0.135, 80: 0.102,
}  # fmt: skip
IONIC_OXYGEN = 0.138
# Uncharged atoms that do not bond are kept apart by 0.55 of their radii; ions by 0.8 of the sum of
# theirs, a fifth nearer than where they stay at an oxygen.
IONS_NEARER = 0.8 / 0.55
OTHER_RADIUS = 0.2
LEAST_USUAL, MOST_USUAL = 0.02, 0.8  # nm: bonds of atoms have 0.07 to 0.3, a tenth, or ten times
STRETCHED = 3.0  # times the median bond of beads: a molecule cut by the box has one of its length


def van_der_waals_radii(elements: Iterable[int]) -> NDArray[np.float64]:
    """Radii (n_atoms,) [nm] of atomic numbers."""
    return np.array([_radius(z) for z in elements])


def _radius(element: int) -> float:
    """Of an ion what makes of it and an oxygen's the distance that is meant."""
    if element in IONIC:
        return IONS_NEARER * (IONIC[element] + IONIC_OXYGEN) - VAN_DER_WAALS[8]
    return VAN_DER_WAALS.get(element, OTHER_RADIUS)


def longest_bonds(
    elements: NDArray[np.int64],
    bonds: NDArray[np.int64],
    lengths: NDArray[np.float64],
    of_atoms: float,
) -> NDArray[np.float64]:
    """How long bonds may be in a molecule that is whole.

    Parameters
    ----------
    elements : ndarray, shape (n_atoms,)
        Atomic numbers; 0 for a site that is no atom.
    bonds : ndarray of int, shape (n_bonds, 2)
    lengths : ndarray, shape (n_bonds,) or (n, n_bonds)
        [nm]; of beads, two sites that are no atoms, they tell the usual one, which is another in
        each coarse model.
    of_atoms : float
        Longest bond of an atom [nm].

    Returns
    -------
    ndarray, shape (n_bonds,)
        [nm]
    """
    limits = np.full(len(bonds), of_atoms)
    beads = (elements[bonds] == 0).all(axis=1)
    if beads.any():
        limits[beads] = STRETCHED * np.median(lengths[..., beads])
    return limits


def odd_unit(bonds: NDArray[np.int64], positions: NDArray[np.floating]) -> str:
    """Which unit positions seem to be in, by bonds of atoms.

    Parameters
    ----------
    bonds : ndarray of int, shape (n_bonds, 2)
        Of atoms, none of beads: `topologies.bonds_of_atoms`.
    positions : ndarray, shape (..., n_atoms, 3)
        [nm], if all is right.

    Returns
    -------
    str
        In words; empty where bonds are as long as bonds are, or there is none.
    """
    if not len(bonds):
        return ""
    steps = positions[..., bonds[:, 0], :] - positions[..., bonds[:, 1], :]
    usual = float(np.median(np.linalg.norm(steps, axis=-1)))
    if LEAST_USUAL <= usual <= MOST_USUAL or not np.isfinite(usual):
        return ""
    if usual > MOST_USUAL:
        return f"half of the bonds are {usual:.2g} nm and longer, as if positions were in angstrom"
    return f"half of the bonds are {usual:.2g} nm and shorter, as if lengths were divided by ten"
